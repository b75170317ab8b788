/* SPDX-License-Identifier: Apache-2.0 */
/* body.c - see body.h. */
#include "server/body.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/text.h"

/* A tree takes up to 150 bytes for two bytes of text ("[]"), so what a body may hold is limited
 * besides its size: a container counts as four values. */
#define MAX_VALUES 1000000

/* ---- headers ------------------------------------------------------------------------------ */

static struct rr_text trim(const char *s, size_t len)
{
    while (len && (s[0] == ' ' || s[0] == '\t' || s[0] == '"')) s++, len--;
    while (len && (s[len - 1] == ' ' || s[len - 1] == '\t' || s[len - 1] == '"')) len--;
    return (struct rr_text){ s, len };
}

static bool is_word(struct rr_text t, const char *word)
{
    return t.len == strlen(word) && strncasecmp(t.data, word, t.len) == 0;
}

static bool ends_with(struct rr_text t, const char *end)
{
    size_t n = strlen(end);

    return t.len > n && strncasecmp(t.data + t.len - n, end, n) == 0;
}

/* The value of the parameter charset, empty when there is none. */
static struct rr_text charset_of(const char *type)
{
    const char *p = type;

    while ((p = strchr(p, ';'))) {
        struct rr_text item;

        p++;
        item = trim(p, strcspn(p, ";"));
        if (item.len > 8 && strncasecmp(item.data, "charset=", 8) == 0)
            return trim(item.data + 8, item.len - 8);
    }
    return (struct rr_text){ "", 0 };
}

int rr_body_media(const char *type, const char *encoding, struct rr_problem *p)
{
    static const char *const known[] = { "",           "application/json",
                                         "text/json",  "application/x-www-form-urlencoded",
                                         "text/plain", "application/octet-stream",
                                         "*/*" };
    struct rr_text word, charset;
    bool ok;
    size_t i;

    word = trim(encoding ? encoding : "", encoding ? strlen(encoding) : 0);
    if (word.len && !is_word(word, "identity"))
        return rr_problem_set(p, 415, "the body has a Content-Encoding, expected none");
    if (!type) return 0;
    word = trim(type, strcspn(type, ";"));
    ok = ends_with(word, "+json");
    for (i = 0; i < RR_COUNT(known) && !ok; i++) ok = is_word(word, known[i]);
    if (!ok) return rr_problem_set(p, 415, "Content-Type must be application/json");
    charset = charset_of(type);
    if (charset.len && !is_word(charset, "utf-8") && !is_word(charset, "utf8") &&
        !is_word(charset, "us-ascii") && !is_word(charset, "ascii"))
        return rr_problem_set(p, 415, "the charset of Content-Type must be utf-8");
    return 0;
}

/* ---- Unicode ------------------------------------------------------------------------------ */

/* Bytes at p (n > 0, not well-formed) that become one U+FFFD: as many as could begin a
 * character. */
static size_t bad_length(const unsigned char *p, size_t n)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4, i;

    if (p[0] < 0xC2 || p[0] > 0xF4) return 1;
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    if (n < 2 || p[1] < low || p[1] > high) return 1;
    for (i = 2; i < len && i < n && (p[i] & 0xC0) == 0x80; i++) continue;
    return i;
}

static int repair_bytes(struct rr_buf *body, size_t *replaced)
{
    struct rr_text rest = { body->data, body->len };
    struct rr_buf out;
    size_t good = rr_utf8_invalid(rest);

    if (good == SIZE_MAX) return 0;
    rr_buf_init(&out, body->tag, body->len > SIZE_MAX / 3 ? SIZE_MAX : body->len * 3);
    for (; good != SIZE_MAX; good = rr_utf8_invalid(rest)) {
        size_t bad = bad_length((const unsigned char *)rest.data + good, rest.len - good);

        rr_buf_put(&out, rest.data, good);
        rr_buf_puts(&out, "\xEF\xBF\xBD");
        rest.data += good + bad;
        rest.len -= good + bad;
        ++*replaced;
    }
    rr_buf_put(&out, rest.data, rest.len);
    if (out.failed) {
        rr_buf_free(&out);
        return -1;
    }
    rr_buf_free(body);
    *body = out;
    return 0;
}

/* Half of a surrogate pair, written as an escape, becomes U+FFFD's escape: the same length. */
static size_t repair_escapes(struct rr_buf *body)
{
    char *p = body->data, *end = body->data + body->len;
    size_t n = 0;

    while (p < end && (p = memchr(p, '\\', (size_t)(end - p)))) {
        size_t left = (size_t)(end - p);
        int unit = rr_json_code_unit(p, left);

        if (unit < 0) {
            p += RR_MIN(left, 2);
            continue;
        }
        if (unit >= 0xD800 && unit < 0xE000) {
            int next = unit < 0xDC00 && left >= 12 ? rr_json_code_unit(p + 6, left - 6) : -1;

            if (next >= 0xDC00 && next < 0xE000) {
                p += 12;
                continue;
            }
            memcpy(p + 2, "fffd", 4);
            n++;
        }
        p += 6;
    }
    return n;
}

/* Before this JSON in UTF-16 or UTF-32 would be a riddle of bad characters. */
static bool is_wide(const struct rr_buf *b)
{
    const unsigned char *p = (const unsigned char *)b->data;

    if (b->len < 2) return false;
    if ((p[0] == 0xFF && p[1] == 0xFE) || (p[0] == 0xFE && p[1] == 0xFF)) return true;
    return p[0] == 0 || p[1] == 0;
}

static int repair(struct rr_buf *body, size_t *replaced)
{
    if (body->len >= 3 && memcmp(body->data, "\xEF\xBB\xBF", 3) == 0) /* a byte order mark */
        memset(body->data, ' ', 3);
    if (repair_bytes(body, replaced)) return -1;
    *replaced += repair_escapes(body);
    return 0;
}

/* ---- amounts ------------------------------------------------------------------------------ */

struct scan {
    const char *key; /* the last string that ended: the name of the array that begins next */
    size_t key_len;
    unsigned depth;
    size_t values;
    unsigned list_depth; /* of the list of documents that is open; 0: none */
    size_t elements;     /* commas in it so far, plus one */
};

/* Does the array that begins here hold the documents?  At the top level, or one object below. */
static bool begins_list(const struct scan *s)
{
    static const char *const names[] = { "documents", "texts",     "passages", "inputs",
                                         "input",     "instances", "queries",  "items",
                                         "text_1",    "text_2",    "data_1",   "data_2" };
    size_t i;

    if (s->list_depth || s->depth > 2 || !s->key) return false;
    for (i = 0; i < RR_COUNT(names); i++)
        if (strlen(names[i]) == s->key_len && memcmp(names[i], s->key, s->key_len) == 0)
            return true;
    return false;
}

static int end_list(struct scan *s, size_t max, struct rr_problem *p)
{
    char path[16];

    s->list_depth = 0;
    if (s->elements <= max) return 0;
    snprintf(path, sizeof(path), "%.*s", (int)s->key_len, s->key);
    return rr_problem_field(p, path, "too_long",
                            "found %zu, at most %zu are allowed (--max-documents)", s->elements,
                            max);
}

/* Counts without making anything: what is too much costs a walk over its bytes and no more. */
static int count(struct rr_text text, size_t max_documents, struct rr_problem *problem)
{
    const char *p, *end = text.data + text.len;
    struct scan s = { 0 };

    for (p = text.data; p < end; p++) {
        switch (*p) {
        case '"':
            if (!s.list_depth) s.key = p + 1;
            p += 1 + rr_text_string_end(p + 1, (size_t)(end - p - 1));
            if (!s.list_depth) s.key_len = (size_t)(p - s.key);
            break;
        case ',':
            s.values++;
            s.elements += s.depth == s.list_depth;
            break;
        case '[':
        case '{':
            if (*p == '[' && begins_list(&s)) {
                s.list_depth = s.depth + 1;
                s.elements = 1;
            }
            s.depth++;
            s.values += 4;
            break;
        case ']':
        case '}':
            if (s.list_depth && s.depth == s.list_depth && end_list(&s, max_documents, problem))
                return -1;
            s.depth -= s.depth > 0;
            break;
        default: break;
        }
    }
    if (s.values > MAX_VALUES)
        return rr_problem_set(problem, 400, "the body holds more than %d JSON values", MAX_VALUES);
    return 0;
}

/* ---- interface ---------------------------------------------------------------------------- */

int rr_body_read(struct rr_buf *body, const struct rr_body_rules *rules, json_t **root,
                 size_t *replaced, struct rr_problem *p)
{
    struct rr_error err = { 0 };
    struct rr_text text;
    int rc;

    *root = NULL;
    *replaced = 0;
    if (body->len == 0) return rr_problem_set(p, 400, "the body is empty, expected a JSON object");
    if (is_wide(body))
        return rr_problem_set(p, 400, "the body looks like UTF-16 or UTF-32, expected UTF-8");
    if (rules->replace && repair(body, replaced))
        return rr_problem_set(p, 503, "out of memory for this request");
    text = (struct rr_text){ body->data, body->len };
    if (count(text, rules->max_documents, p)) return -1;
    rc = rr_json_parse(root, text, rules->max_depth, RR_JSON_DUP_REJECT, &err);
    rr_buf_free(body); /* the tree has copies */
    if (rc) return rr_problem_set(p, rc == RR_ENOMEM ? 503 : 400, "%s", err.msg);
    if (json_is_object(*root)) return 0;
    rr_problem_set(p, 400, "the body is %s, expected a JSON object", rr_json_type_name(*root));
    json_decref(*root);
    *root = NULL;
    return -1;
}
