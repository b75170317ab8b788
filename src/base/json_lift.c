/* SPDX-License-Identifier: Apache-2.0 */
/* json_lift.c - see json_lift.h.
 *
 * A mark is a string of MARK_LEN bytes: 0x7F, then the string's number in hexadecimal digits.
 * Nothing is lifted from a text with a string that begins with 0x7F itself, in either spelling, so
 * that every such string in the tree is a mark. */
#include "base/json_lift.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

#define MARK 0x7F
#define MARK_LEN 9
#define LONG 64 /* bytes; below, a string costs jansson less than this does */

/* ---- escapes ------------------------------------------------------------------------------ */

int rr_json_code_unit(const char *p, size_t n)
{
    int unit = 0, i;

    if (n < 6 || p[0] != '\\' || p[1] != 'u') return -1;
    for (i = 2; i < 6; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* Decodes the escape at p, n bytes left, into out: its length, or 0 when it is none.  *put: bytes
 * written. */
static size_t decode_escape(const char *p, size_t n, char out[4], unsigned *put)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name;
    int high, low;

    if (n < 2) return 0;
    if (p[1] != 'u') {
        name = p[1] ? strchr(names, p[1]) : NULL;
        if (!name) return 0;
        *out = values[name - names];
        *put = 1;
        return 2;
    }
    high = rr_json_code_unit(p, n);
    if (high < 0 || (high & 0xFC00) == 0xDC00) return 0;
    if ((high & 0xFC00) != 0xD800) {
        *put = rr_utf8_put(out, (uint32_t)high);
        return 6;
    }
    low = rr_json_code_unit(p + 6, n - 6);
    if (low < 0 || (low & 0xFC00) != 0xDC00) return 0;
    *put = rr_utf8_put(out, 0x10000 + ((uint32_t)(high & 0x3FF) << 10) + (uint32_t)(low & 0x3FF));
    return 12;
}

/* Decodes s into out, which has room for s.len bytes: the length, or SIZE_MAX when an escape is bad
 * or a character does not belong into a string. */
static size_t decode(struct rr_text s, char *out)
{
    size_t len = 0;
    unsigned put = 0;

    for (;;) {
        size_t n = rr_text_plain(s.data, s.len);

        memcpy(out + len, s.data, n);
        len += n;
        s.data += n;
        s.len -= n;
        if (!s.len) return len;
        n = s.data[0] == '\\' ? decode_escape(s.data, s.len, out + len, &put) : 0;
        if (!n) return SIZE_MAX;
        len += put;
        s.data += n;
        s.len -= n;
    }
}

/* ---- finding ------------------------------------------------------------------------------ */

static bool is_key(struct rr_text text, size_t after)
{
    while (after < text.len && strchr(" \t\n\r", text.data[after]) && text.data[after]) after++;
    return after < text.len && text.data[after] == ':';
}

static bool like_mark(const char *s, size_t len)
{
    return len && (s[0] == MARK || (len >= 6 && memcmp(s, "\\u007", 5) == 0));
}

static void add(struct rr_json_lift *lift, size_t at, size_t len)
{
    if (lift->n == lift->cap) {
        size_t cap = lift->cap ? lift->cap * 2 : 32;
        void *grown = rr_realloc(RR_MEM_JSON, lift->strings, cap, sizeof(*lift->strings));

        if (!grown) {
            lift->unsafe = true;
            return;
        }
        lift->strings = grown;
        lift->cap = cap;
    }
    lift->strings[lift->n++] = (struct rr_text){ lift->text.data + at, len };
    lift->bytes += len;
}

size_t rr_lift_string(struct rr_json_lift *lift, size_t from)
{
    const char *s = lift->text.data + from;
    size_t len = rr_text_string_end(s, lift->text.len - from), end = from + len;

    if (like_mark(s, len)) lift->unsafe = true;
    if (len >= LONG && end < lift->text.len && !is_key(lift->text, end + 1)) add(lift, from, len);
    return end;
}

/* ---- taking out, putting back ------------------------------------------------------------- */

bool rr_lift_worth(const struct rr_json_lift *lift)
{
    return !lift->unsafe && lift->n <= UINT32_MAX && lift->bytes > lift->text.len / 2;
}

void rr_lift_hollow(const struct rr_json_lift *lift, struct rr_buf *out)
{
    const char *at = lift->text.data;
    size_t i;

    rr_buf_init(out, RR_MEM_JSON, SIZE_MAX / 2);
    rr_buf_reserve(out, lift->text.len - lift->bytes + lift->n * MARK_LEN);
    for (i = 0; i < lift->n; i++) {
        const struct rr_text *s = &lift->strings[i];
        char mark[MARK_LEN + 1];

        rr_buf_put(out, at, (size_t)(s->data - at));
        snprintf(mark, sizeof(mark), "%c%08x", MARK, (unsigned)i);
        rr_buf_put(out, mark, MARK_LEN);
        at = s->data + s->len;
    }
    rr_buf_put(out, at, (size_t)(lift->text.data + lift->text.len - at));
}

static int fill_string(const struct rr_json_lift *lift, struct rr_buf *scratch, json_t *v)
{
    const char *mark = json_string_value(v);
    struct rr_text s;
    size_t i = 0, k;
    char *out;

    if (mark[0] != MARK) return 0;
    for (k = 1; k < MARK_LEN; k++)
        i = i * 16 + (size_t)(mark[k] <= '9' ? mark[k] - '0' : mark[k] - 'a' + 10);
    s = lift->strings[i];
    if (rr_utf8_invalid(s) != SIZE_MAX) return -1;
    if (rr_text_plain(s.data, s.len) == s.len) return json_string_setn_nocheck(v, s.data, s.len);
    rr_buf_clear(scratch);
    out = rr_buf_reserve(scratch, s.len);
    if (!out) return -1;
    s = (struct rr_text){ out, decode(s, out) };
    return s.len == SIZE_MAX ? -1 : json_string_setn_nocheck(v, s.data, s.len);
}

static int fill(const struct rr_json_lift *lift, struct rr_buf *scratch, json_t *v)
{
    size_t i;
    json_t *item;
    const char *key;

    if (json_is_string(v)) return fill_string(lift, scratch, v);
    json_array_foreach(v, i, item) if (fill(lift, scratch, item)) return -1;
    json_object_foreach(v, key, item) if (fill(lift, scratch, item)) return -1;
    return 0;
}

int rr_lift_fill(const struct rr_json_lift *lift, json_t *tree)
{
    struct rr_buf scratch;
    int rc;

    rr_buf_init(&scratch, RR_MEM_JSON, SIZE_MAX / 2);
    rc = fill(lift, &scratch, tree);
    rr_buf_free(&scratch);
    return rc;
}

void rr_lift_free(struct rr_json_lift *lift)
{
    rr_free(lift->strings);
    *lift = (struct rr_json_lift){ 0 };
}
