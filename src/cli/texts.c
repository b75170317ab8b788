/* SPDX-License-Identifier: Apache-2.0 */
/* texts.c - see texts.h.  Layer: cli (L6). */
#include "cli/texts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/ids.h"

#define FIRST_SLOTS 1024
#define SHOWN_ID 80 /* bytes of an id in a message */

struct slot {
    uint64_t hash;
    uint64_t at; /* 1 + offset of the line; 0: free */
};

struct rr_texts {
    struct rr_file file;
    struct slot *slots; /* [n_slots], a power of two */
    size_t n_slots, n;
    size_t start; /* of the first line: behind a byte order mark */
    bool json;
    char name[256];
};

static struct rr_text line_at(const struct rr_texts *t, size_t at)
{
    const char *data = t->file.data + at;
    const char *end = memchr(data, '\n', t->file.len - at);
    size_t len = end ? (size_t)(end - data) : t->file.len - at;

    if (len && data[len - 1] == '\r') len--;
    return (struct rr_text){ data, len };
}

/* For messages only: counts from the start. */
static uint64_t line_number(const struct rr_texts *t, size_t at)
{
    uint64_t n = 1;
    size_t i;

    for (i = 0; i < at; i++) n += t->file.data[i] == '\n';
    return n;
}

static int bad_line(const struct rr_texts *t, size_t at, const char *what, struct rr_error *err)
{
    return rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 ": %s", t->name, line_number(t, at), what);
}

/* ---- one record ----------------------------------------------------------------------------- */

/* The usual {"_id": "plain", ...} without a parse: most of the time of opening a large corpus. */
static bool quick_id(struct rr_text line, struct rr_text *id)
{
    static const char lead[] = "{\"_id\": \"";
    size_t n = sizeof(lead) - 1, i;

    if (line.len <= n || memcmp(line.data, lead, n) != 0) return false;
    for (i = n; i < line.len && line.data[i] != '"'; i++) {
        if (line.data[i] == '\\' || (unsigned char)line.data[i] < 0x20) return false;
    }
    *id = (struct rr_text){ line.data + n, i - n };
    return i < line.len && i > n;
}

static const json_t *first_of(const json_t *v, const char *const *keys, size_t n)
{
    const json_t *found = NULL;
    size_t i;

    for (i = 0; !found && i < n; i++) found = json_object_get(v, keys[i]);
    return found;
}

static int json_id(const struct rr_texts *t, size_t at, const json_t *v, struct rr_arena *arena,
                   struct rr_text *id, struct rr_error *err)
{
    static const char *const keys[] = { "_id", "id", "docid" };
    const json_t *found = first_of(v, keys, RR_COUNT(keys));
    char number[32];

    *id = (struct rr_text){ json_string_value(found), json_string_length(found) };
    if (json_is_integer(found)) {
        id->len = (size_t)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
                                   json_integer_value(found));
        id->data = number;
    }
    if (id->len == 0)
        return bad_line(t, at, "found no id, expected an object with \"_id\", \"id\" or \"docid\"",
                        err);
    id->data = rr_arena_strndup(arena, id->data, id->len);
    return id->data ? RR_OK : rr_fail(err, RR_ENOMEM, "%s: out of memory", t->name);
}

/* title + " " + text, without white space around it: what BEIR gives its models. */
static int join(struct rr_text title, struct rr_text text, struct rr_arena *arena,
                struct rr_text *out, struct rr_error *err)
{
    size_t len = title.len + 1 + text.len;
    char *joined = rr_arena_alloc(arena, len + 1, 1);

    if (!joined) return rr_fail(err, RR_ENOMEM, "out of memory for the texts");
    if (title.len) memcpy(joined, title.data, title.len);
    joined[title.len] = ' ';
    if (text.len) memcpy(joined + title.len + 1, text.data, text.len);
    while (len && (joined[len - 1] == ' ' || joined[len - 1] == '\n')) len--;
    *out = (struct rr_text){ joined, len };
    while (out->len && (*out->data == ' ' || *out->data == '\n')) {
        out->data++;
        out->len--;
    }
    return RR_OK;
}

static int json_text(const struct rr_texts *t, size_t at, const json_t *v, bool with_title,
                     struct rr_arena *arena, struct rr_text *out, struct rr_error *err)
{
    static const char *const keys[] = { "text", "contents", "document", "query" };
    const json_t *text = first_of(v, keys, RR_COUNT(keys)), *title = json_object_get(v, "title");
    struct rr_text body = { json_string_value(text), json_string_length(text) };
    struct rr_text head = { json_string_value(title), json_string_length(title) };

    if (!json_is_string(text))
        return bad_line(t, at, "found no text, expected a string \"text\" or \"contents\"", err);
    if (with_title && head.len) return join(head, body, arena, out, err);
    out->len = body.len;
    out->data = rr_arena_strndup(arena, body.data, body.len);
    return out->data ? RR_OK : rr_fail(err, RR_ENOMEM, "out of memory for the texts");
}

/* Parses the record at the offset; text NULL: the id alone is wanted. */
static int read_record(const struct rr_texts *t, size_t at, bool with_title, struct rr_arena *arena,
                       struct rr_text *id, struct rr_text *text, struct rr_error *err)
{
    struct rr_text line = line_at(t, at);
    const char *tab;
    json_t *v;
    int rc;

    if (t->json) {
        if (!text && quick_id(line, id)) return RR_OK;
        rc = rr_json_parse(&v, line, 0, RR_JSON_DUP_LAST, err);
        if (rc) {
            rr_fail_prefix(err, "%s: line %" PRIu64, t->name, line_number(t, at));
            return RR_EFORMAT;
        }
        rc = json_id(t, at, v, arena, id, err);
        if (!rc && text) rc = json_text(t, at, v, with_title, arena, text, err);
        json_decref(v);
        return rc;
    }
    tab = memchr(line.data, '\t', line.len);
    if (!tab || tab == line.data) return bad_line(t, at, "expected an id, a tab and a text", err);
    *id = (struct rr_text){ line.data, (size_t)(tab - line.data) };
    if (!text) return RR_OK;
    *text = (struct rr_text){ tab + 1, line.len - id->len - 1 };
    if (rr_utf8_invalid(*text) != SIZE_MAX) return bad_line(t, at, "the text is not UTF-8", err);
    return RR_OK;
}

/* ---- the index ------------------------------------------------------------------------------ */

static int grow(struct rr_texts *t, struct rr_error *err)
{
    size_t n = t->n_slots ? 2 * t->n_slots : FIRST_SLOTS, i, at;
    struct slot *slots = rr_calloc(RR_MEM_MISC, n, sizeof(*slots));

    if (!slots) return rr_fail(err, RR_ENOMEM, "%s: out of memory for %zu texts", t->name, t->n);
    for (i = 0; i < t->n_slots; i++) {
        if (!t->slots[i].at) continue;
        at = (size_t)t->slots[i].hash & (n - 1);
        while (slots[at].at) at = (at + 1) & (n - 1);
        slots[at] = t->slots[i];
    }
    rr_free(t->slots);
    t->slots = slots;
    t->n_slots = n;
    return RR_OK;
}

/* The slot of id: taken by it, or free. */
static int find_slot(const struct rr_texts *t, struct rr_text id, struct slot **slot,
                     struct rr_error *err)
{
    uint64_t hash = rr_id_hash(id);
    size_t i = (size_t)hash & (t->n_slots - 1);

    for (; t->slots[i].at; i = (i + 1) & (t->n_slots - 1)) {
        struct rr_arena arena;
        struct rr_text other;
        bool same;
        int rc;

        if (t->slots[i].hash != hash) continue;
        rr_arena_init(&arena, RR_MEM_MISC, SIZE_MAX);
        rc = read_record(t, (size_t)t->slots[i].at - 1, false, &arena, &other, NULL, err);
        same = !rc && rr_text_eq(other, id);
        rr_arena_reset(&arena);
        if (rc) return rc;
        if (same) break;
    }
    *slot = &t->slots[i];
    return RR_OK;
}

static int add(struct rr_texts *t, size_t at, struct rr_text id, struct rr_error *err)
{
    struct slot *slot;
    int rc = t->n >= t->n_slots / 4 * 3 ? grow(t, err) : RR_OK;

    if (!rc) rc = find_slot(t, id, &slot, err);
    if (rc) return rc;
    if (slot->at) return bad_line(t, at, "this id was there before", err);
    *slot = (struct slot){ rr_id_hash(id), at + 1 };
    t->n++;
    return RR_OK;
}

static bool blank(struct rr_text line)
{
    size_t i;

    for (i = 0; i < line.len; i++) {
        if (line.data[i] != ' ' && line.data[i] != '\t') return false;
    }
    return true;
}

/* The offset of the next line that is not blank; moves the cursor behind it. */
static bool next_line(const struct rr_texts *t, size_t *cursor, size_t *at)
{
    const char *end;

    for (*at = RR_MAX(*cursor, t->start); *at < t->file.len; *at = *cursor) {
        end = memchr(t->file.data + *at, '\n', t->file.len - *at);
        *cursor = end ? (size_t)(end - t->file.data) + 1 : t->file.len;
        if (!blank(line_at(t, *at))) return true;
    }
    return false;
}

int rr_texts_next_id(const struct rr_texts *t, size_t *cursor, struct rr_arena *arena,
                     struct rr_text *id, bool *got, struct rr_error *err)
{
    size_t at;

    *got = next_line(t, cursor, &at);
    return *got ? read_record(t, at, false, arena, id, NULL, err) : RR_OK;
}

static int build_index(struct rr_texts *t, struct rr_error *err)
{
    struct rr_arena arena;
    size_t cursor = 0, at;
    int rc = grow(t, err);

    rr_arena_init(&arena, RR_MEM_MISC, SIZE_MAX);
    while (!rc && next_line(t, &cursor, &at)) {
        struct rr_text id;

        rc = read_record(t, at, false, &arena, &id, NULL, err);
        if (!rc) rc = add(t, at, id, err);
        rr_arena_reset(&arena);
    }
    return rc;
}

int rr_texts_open(struct rr_texts **out, const char *path, struct rr_error *err)
{
    struct rr_texts *t = rr_calloc(RR_MEM_MISC, 1, sizeof(*t));
    size_t i;
    int rc;

    *out = NULL;
    if (!t) return rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    snprintf(t->name, sizeof(t->name), "%.250s", path);
    rc = rr_file_map(&t->file, path, err);
    if (rc) goto fail;
    t->start = t->file.len - rr_text_unmarked((struct rr_text){ t->file.data, t->file.len }).len;
    for (i = t->start; i < t->file.len && memchr(" \t\r\n", t->file.data[i], 4); i++) {
    }
    t->json = i < t->file.len && t->file.data[i] == '{';
    rc = build_index(t, err);
    if (rc) goto fail;
    *out = t;
    return RR_OK;
fail:
    rr_texts_close(t);
    return rc;
}

void rr_texts_close(struct rr_texts *t)
{
    if (!t) return;
    rr_file_unmap(&t->file);
    rr_free(t->slots);
    rr_free(t);
}

size_t rr_texts_count(const struct rr_texts *t)
{
    return t->n;
}

/* The slot of id, which is taken. */
static int find_taken(const struct rr_texts *t, struct rr_text id, struct slot **slot,
                      struct rr_error *err)
{
    int rc = find_slot(t, id, slot, err);

    if (rc || (*slot)->at) return rc;
    return rr_fail(err, RR_ENOENT, "%s: has no text with the id \"%.*s\"", t->name,
                   (int)RR_MIN(id.len, SHOWN_ID), id.data);
}

int rr_texts_check(const struct rr_texts *t, struct rr_text id, struct rr_error *err)
{
    struct slot *slot;

    return find_taken(t, id, &slot, err);
}

int rr_texts_find(const struct rr_texts *t, struct rr_text id, bool with_title,
                  struct rr_arena *arena, struct rr_text *text, struct rr_error *err)
{
    struct rr_text again;
    struct slot *slot;
    int rc = find_taken(t, id, &slot, err);

    if (rc) return rc;
    return read_record(t, (size_t)slot->at - 1, with_title, arena, &again, text, err);
}
