/* SPDX-License-Identifier: Apache-2.0 */
/* lists.c - see lists.h. */
#include "cli/lists.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)
#define MAX_DOCUMENTS 10000

void rr_lists_free(struct rr_lists *l)
{
    for (size_t i = 0; i < l->n; i++) {
        rr_free((void *)(uintptr_t)l->lists[i].documents);
        json_decref(l->lines[i].tree);
    }
    rr_free(l->lists);
    rr_free(l->lines);
    memset(l, 0, sizeof(*l));
}

static bool make_room(struct rr_lists *l)
{
    size_t cap = 2 * l->cap + 16;
    void *lists, *lines;

    if (l->n < l->cap) return true;
    lists = rr_realloc(RR_MEM_MISC, l->lists, cap, sizeof(*l->lists));
    if (lists) l->lists = lists;
    lines = rr_realloc(RR_MEM_MISC, l->lines, cap, sizeof(*l->lines));
    if (lines) l->lines = lines;
    if (lists && lines) l->cap = cap;
    return lists && lines;
}

static struct rr_text text_of(const json_t *v)
{
    return (struct rr_text){ json_string_value(v), json_string_length(v) };
}

/* *why: what is wrong with the line. */
static bool read_list(struct rr_list *out, const json_t *root, const char **why)
{
    const json_t *query = json_object_get(root, "query"),
                 *docs = json_object_get(root, "documents");
    size_t n = json_array_size(docs);
    struct rr_text *texts;

    *why = "expected an object with \"query\", a string, and \"documents\", an array of 1 to 10000 "
           "strings";
    if (!json_is_string(query) || n == 0 || n > MAX_DOCUMENTS) return false;
    *why = "a document is not a string";
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(docs, i))) return false;
    *why = "out of memory";
    texts = rr_alloc(RR_MEM_MISC, n, sizeof(*texts));
    if (!texts) return false;
    for (size_t i = 0; i < n; i++) texts[i] = text_of(json_array_get(docs, i));
    *out = (struct rr_list){ text_of(query), texts, n };
    return true;
}

static int read_lines(struct rr_lists *l, const char *path, struct rr_text all, size_t limit,
                      struct rr_error *err)
{
    const char *data = all.data, *end = data + all.len, *why;
    uint64_t number = 0;

    while (data < end && (limit == 0 || l->n < limit)) {
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        struct rr_text line = { data, (size_t)((newline ? newline : end) - data) };
        json_t *root = NULL;
        int rc;

        number++;
        data = newline ? newline + 1 : end;
        if (rr_text_blank(line)) continue;
        if (!make_room(l)) return rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
        rc = rr_json_parse(&root, line, 0, RR_JSON_DUP_LAST, err);
        if (rc) return rr_fail_prefix(err, "%s: line %" PRIu64, path, number), rc;
        if (!read_list(&l->lists[l->n], root, &why)) {
            json_decref(root);
            return rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 ": %s", path, number, why);
        }
        l->lines[l->n++] = (struct rr_list_line){ root, number };
    }
    if (l->n == 0) return rr_fail(err, RR_EFORMAT, "%s: no lists in it", path);
    return RR_OK;
}

int rr_lists_read(struct rr_lists *out, const char *path, size_t limit, struct rr_error *err)
{
    char *data;
    size_t len;
    int rc = rr_file_read(&data, &len, path, MAX_FILE_BYTES, RR_MEM_MISC, err);

    memset(out, 0, sizeof(*out));
    if (rc) return rc;
    rc = read_lines(out, path, rr_text_unmarked((struct rr_text){ data, len }), limit, err);
    rr_free(data);
    if (rc) rr_lists_free(out);
    return rc;
}
