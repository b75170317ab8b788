/* SPDX-License-Identifier: Apache-2.0 */
/* rank_input.c - lists for "rerankd rank", from JSONL or from a TREC run and texts.
 * Layer: cli (L6).  Threads: one. */
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/rank.h"
#include "cli/trec.h"

#define MAX_DOCUMENTS 100000 /* of one list: it must fit in memory */

int rr_rank_input_open(struct rr_rank_input *l, const char *path, const char *queries,
                       const char *corpus, struct rr_error *err)
{
    int rc;

    memset(l, 0, sizeof(*l));
    rr_arena_init(&l->seen_arena, RR_MEM_MISC, SIZE_MAX / 2);
    rc = rr_source_open(&l->source, path, queries ? RR_FORMAT_LINES : RR_FORMAT_JSONL, err);
    if (!queries) l->source.max_line = RR_SOURCE_LIST;
    if (!rc && queries) rc = rr_texts_open(&l->queries, queries, err);
    if (!rc && corpus) rc = rr_texts_open(&l->corpus, corpus, err);
    return rc;
}

void rr_rank_input_close(struct rr_rank_input *l)
{
    rr_source_close(&l->source);
    rr_texts_close(l->queries);
    rr_texts_close(l->corpus);
    rr_free(l->query);
    rr_free(l->document);
    rr_ids_free(&l->seen);
    rr_arena_reset(&l->seen_arena);
    memset(l, 0, sizeof(*l));
    l->source.fd = -1;
}

static int no_memory(struct rr_error *err)
{
    return rr_fail(err, RR_ENOMEM, "out of memory for the texts");
}

static int bad_line(const struct rr_rank_input *l, const char *what, struct rr_error *err)
{
    return rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 ": %s", l->source.name, l->source.lines,
                   what);
}

/* ---- ids that were there -------------------------------------------------------------------- */

/* Of a query that comes again in a run the two halves would be ranked. */
static int check_new(struct rr_rank_input *l, struct rr_text id, uint64_t line, const char *remedy,
                     struct rr_error *err)
{
    size_t before = l->seen.n;
    uint32_t number;
    int rc = rr_ids_add(&l->seen, &l->seen_arena, id, &number, err);

    if (!rc && number < before)
        rc = rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 ": query %.80s was there before%s",
                     l->source.name, line, id.data, remedy);
    return rc;
}

/* ---- JSONL ---------------------------------------------------------------------------------- */

static int keep(struct rr_arena *arena, const json_t *v, struct rr_text *out, struct rr_error *err)
{
    char number[32];

    *out = (struct rr_text){ json_string_value(v), json_string_length(v) };
    if (json_is_integer(v)) {
        out->len = (size_t)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
                                    json_integer_value(v));
        out->data = number;
    }
    out->data = rr_arena_strndup(arena, out->data ? out->data : "", out->len);
    return out->data ? RR_OK : no_memory(err);
}

/* An array of n strings, or objects with a "text"; numbers are taken for ids. */
static int keep_all(const struct rr_rank_input *l, struct rr_arena *arena, const json_t *array,
                    size_t n, bool ids, const struct rr_text **out, struct rr_error *err)
{
    struct rr_text *list = rr_arena_alloc(arena, n, sizeof(*list));
    int rc = list ? RR_OK : no_memory(err);
    size_t i;

    for (i = 0; i < n && !rc; i++) {
        const json_t *v = json_array_get(array, i);

        if (!ids && json_is_object(v)) v = json_object_get(v, "text");
        if (!json_is_string(v) && !(ids && json_is_integer(v)))
            rc = bad_line(l,
                          ids ? "\"ids\" must have a string or an integer for each document"
                              : "a document is no string and no object with a \"text\"",
                          err);
        else
            rc = keep(arena, v, &list[i], err);
    }
    *out = list;
    return rc;
}

static int take_json(const struct rr_rank_input *l, const json_t *v, bool skip,
                     struct rr_arena *arena, struct rr_rank_list *out, struct rr_error *err)
{
    const json_t *id = json_object_get(v, "id"), *ids = json_object_get(v, "ids");
    const json_t *query = json_object_get(v, "query"), *docs = json_object_get(v, "documents");
    char line[32];
    int rc;

    snprintf(line, sizeof(line), "%" PRIu64, l->source.lines);
    if (json_is_string(id) || json_is_integer(id)) {
        rc = keep(arena, id, &out->id, err);
    } else {
        out->id = rr_text(rr_arena_strndup(arena, line, strlen(line)));
        rc = out->id.data ? RR_OK : no_memory(err);
    }
    out->n = json_array_size(docs);
    if (l->depth) out->n = RR_MIN(out->n, (size_t)l->depth);
    if (rc || skip) return rc;
    if (!json_is_string(query) || out->n == 0 || json_array_size(docs) > MAX_DOCUMENTS)
        return bad_line(l,
                        "expected an object with \"query\", a string, and \"documents\", an "
                        "array of 1 to 100000 strings",
                        err);
    if (json_is_null(ids)) ids = NULL;
    if (ids && json_array_size(ids) != json_array_size(docs))
        return bad_line(l, "\"ids\" must have a string or an integer for each document", err);
    rc = keep(arena, query, &out->query, err);
    if (!rc) rc = keep_all(l, arena, docs, out->n, false, &out->texts, err);
    if (!rc && ids) rc = keep_all(l, arena, ids, out->n, true, &out->ids, err);
    return rc;
}

static int next_json(struct rr_rank_input *l, bool skip, struct rr_arena *arena,
                     struct rr_rank_list *out, bool *got, struct rr_error *err)
{
    struct rr_text line;
    json_t *v;
    int rc;

    do {
        rc = rr_source_line(&l->source, &line, got, err);
        if (rc || !*got) return rc;
    } while (rr_utf8_invalid(line) == SIZE_MAX && rr_text_blank(line));
    rc = rr_json_parse(&v, line, 0, RR_JSON_DUP_LAST, err);
    if (rc) {
        rr_fail_prefix(err, "%s: line %" PRIu64, l->source.name, l->source.lines);
        return RR_EFORMAT;
    }
    out->line = l->source.lines;
    rc = take_json(l, v, skip, arena, out, err);
    json_decref(v);
    if (rc || !l->unique) return rc;
    return check_new(l, out->id, out->line,
                     ", and in TREC form the two would be one; --format jsonl keeps them apart",
                     err);
}

/* ---- TREC ----------------------------------------------------------------------------------- */

/* Reads one line ahead into l->query and l->document. */
static int read_ahead(struct rr_rank_input *l, struct rr_error *err)
{
    struct rr_text line;
    struct rr_run_line row;
    bool got, used = false;
    int rc;

    rr_free(l->query);
    rr_free(l->document);
    l->query = l->document = NULL;
    while (!used) {
        rc = rr_source_line(&l->source, &line, &got, err);
        if (rc || !got) return rc;
        rc = rr_trec_run_line(&row, line, l->source.name, l->source.lines, &used, err);
        if (rc) return rc;
    }
    l->ahead_line = l->source.lines;
    l->query = rr_strndup(RR_MEM_MISC, row.query.data, row.query.len);
    l->document = rr_strndup(RR_MEM_MISC, row.document.data, row.document.len);
    return l->query && l->document ? RR_OK : no_memory(err);
}

/* The documents of the query whose first line was read ahead. */
static int read_documents(struct rr_rank_input *l, bool skip, struct rr_arena *arena,
                          struct rr_rank_list *out, struct rr_error *err)
{
    struct rr_text *ids = NULL;
    size_t cap = 0;
    int rc = RR_OK;

    while (!rc && l->query && rr_text_is(out->id, l->query)) {
        bool counts = !(l->depth && out->n == l->depth), wanted = counts && !skip;

        if (wanted && out->n == MAX_DOCUMENTS)
            return rr_fail(err, RR_ETOOBIG,
                           "%s: query %.80s has more than %d documents; --depth "
                           "takes the first ones",
                           l->source.name, out->id.data, MAX_DOCUMENTS);
        if (wanted && out->n == cap) { /* the arena keeps the old ones: at most as much again */
            struct rr_text *bigger = rr_arena_alloc(arena, cap ? 2 * cap : 64, sizeof(*bigger));

            if (!bigger) return no_memory(err);
            if (cap) memcpy(bigger, ids, cap * sizeof(*ids));
            ids = bigger;
            cap = cap ? 2 * cap : 64;
        }
        if (wanted) {
            size_t len = strlen(l->document);

            ids[out->n] = (struct rr_text){ rr_arena_strndup(arena, l->document, len), len };
            if (!ids[out->n].data) return no_memory(err);
        }
        out->n += counts;
        rc = read_ahead(l, err);
    }
    out->ids = ids;
    return rc;
}

static int next_trec(struct rr_rank_input *l, bool skip, struct rr_arena *arena,
                     struct rr_rank_list *out, bool *got, struct rr_error *err)
{
    struct rr_text *texts;
    size_t i;
    int rc = l->query ? RR_OK : read_ahead(l, err);

    *got = !rc && l->query;
    if (!*got) return rc;
    out->line = l->ahead_line;
    out->id = rr_text(rr_arena_strndup(arena, l->query, strlen(l->query)));
    rc = out->id.data
             ? check_new(l, out->id, out->line, " other queries; sort the run by query first", err)
             : no_memory(err);
    if (!rc) rc = read_documents(l, skip, arena, out, err);
    if (rc || skip) return rc;
    rc = rr_texts_find(l->queries, out->id, false, arena, &out->query, err);
    texts = rr_arena_alloc(arena, out->n, sizeof(*texts));
    if (!texts) return no_memory(err);
    for (i = 0; i < out->n && !rc; i++)
        rc = rr_texts_find(l->corpus, out->ids[i], l->with_title, arena, &texts[i], err);
    out->texts = texts;
    if (rc) rr_fail_prefix(err, "query %.80s", out->id.data);
    return rc;
}

int rr_rank_input_next(struct rr_rank_input *l, bool skip, struct rr_arena *arena,
                       struct rr_rank_list *out, bool *got, struct rr_error *err)
{
    memset(out, 0, sizeof(*out));
    return l->queries ? next_trec(l, skip, arena, out, got, err)
                      : next_json(l, skip, arena, out, got, err);
}
