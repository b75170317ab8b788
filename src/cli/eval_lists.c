/* SPDX-License-Identifier: Apache-2.0 */
/* eval_lists.c - labelled lists in JSONL for "rerankd eval".  Layer: cli (L6).  Threads: one. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/eval.h"
#include "cli/score.h"

struct lists {
    struct rr_eval_data *d;
    struct rr_source source;
};

static int bad_line(const struct lists *l, const char *what, struct rr_error *err)
{
    return rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 ": %s", l->source.name, l->source.lines,
                   what);
}

static int no_memory(const struct lists *l, struct rr_error *err)
{
    return rr_fail(err, RR_ENOMEM, "%s: line %" PRIu64 ": out of memory", l->source.name,
                   l->source.lines);
}

static int keep(struct lists *l, const json_t *v, struct rr_text *out, struct rr_error *err)
{
    out->len = json_string_length(v);
    out->data = rr_arena_strndup(&l->d->arena, json_string_value(v), out->len);
    return out->data ? RR_OK : no_memory(l, err);
}

static int add_documents(struct lists *l, const json_t *docs, struct rr_error *err)
{
    size_t i, n = json_array_size(docs);
    int rc = n ? RR_OK : bad_line(l, "expected \"documents\", an array of strings", err);

    for (i = 0; i < n && !rc; i++) {
        const json_t *text = json_array_get(docs, i);
        struct rr_eval_candidate *c;
        struct rr_named_text *doc;

        if (json_is_object(text)) text = json_object_get(text, "text");
        if (!json_is_string(text))
            return bad_line(l, "a document is no string and no object with a \"text\"", err);
        doc = rr_eval_add_doc(l->d);
        c = doc ? rr_eval_add_candidate(l->d) : NULL;
        if (!c) return no_memory(l, err);
        c->doc = (uint32_t)(l->d->n_docs - 1);
        rc = keep(l, text, &doc->text, err);
    }
    return rc;
}

/* "labels", a number for each document; else "positive", an index or several. */
static int add_labels(struct lists *l, const json_t *list, const struct rr_eval_query *q,
                      struct rr_error *err)
{
    const json_t *labels = json_object_get(list, "labels");
    const json_t *positive = json_object_get(list, "positive");
    struct rr_eval_candidate *c = l->d->candidates + q->first;
    size_t i, n = json_is_array(positive) ? json_array_size(positive) : 1;

    if (json_is_null(labels)) labels = NULL;
    if (labels && json_array_size(labels) != q->n)
        return bad_line(l, "expected in \"labels\" a number for each document", err);
    for (i = 0; labels && i < q->n; i++) {
        double x = json_number_value(json_array_get(labels, i));

        if (!json_is_number(json_array_get(labels, i)) || x != floor(x) || fabs(x) > 1000)
            return bad_line(l, "\"labels\" holds something else than integers up to 1000", err);
        c[i].label = (int32_t)x;
    }
    for (i = 0; !labels && i < n; i++) {
        const json_t *v = json_is_array(positive) ? json_array_get(positive, i) : positive;

        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            (size_t)json_integer_value(v) >= q->n)
            return bad_line(l,
                            "expected \"labels\", a number for each document, or \"positive\", "
                            "the index of the relevant one or an array of them",
                            err);
        c[json_integer_value(v)].label = 1;
    }
    return RR_OK;
}

static int add_list(struct lists *l, const json_t *list, struct rr_error *err)
{
    struct rr_eval_query *q = rr_eval_add_query(l->d);
    const json_t *query = json_object_get(list, "query"), *id = json_object_get(list, "id");
    size_t from = l->d->n_gains, i;
    char number[32];
    int rc;

    if (!q) return no_memory(l, err);
    if (!json_is_string(query)) return bad_line(l, "expected an object with \"query\"", err);
    q->first = l->d->n_candidates;
    rc = keep(l, query, &q->text, err);
    if (!rc && json_is_string(id)) {
        rc = keep(l, id, &q->id, err);
    } else if (!rc) {
        if (json_is_integer(id))
            snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(id));
        else
            snprintf(number, sizeof(number), "%" PRIu64, l->source.lines);
        q->id.len = strlen(number);
        q->id.data = rr_arena_strndup(&l->d->arena, number, q->id.len);
        if (!q->id.data) rc = no_memory(l, err);
    }
    if (!rc) rc = add_documents(l, json_object_get(list, "documents"), err);
    q->n = l->d->n_candidates - q->first;
    if (!rc) rc = add_labels(l, list, q, err);
    for (i = 0; i < q->n && !rc; i++) {
        int32_t label = l->d->candidates[q->first + i].label;
        int32_t *gain = label > 0 ? rr_eval_add_gain(l->d) : NULL;

        if (label > 0 && !gain) rc = no_memory(l, err);
        if (gain) *gain = label;
    }
    rr_eval_end_gains(l->d, q, from);
    return rc;
}

static int read_line(struct lists *l, struct rr_text line, struct rr_error *err)
{
    json_t *list;
    int rc;

    if (rr_utf8_invalid(line) == SIZE_MAX && rr_text_blank(line)) return RR_OK;
    rc = rr_json_parse(&list, line, 0, RR_JSON_DUP_LAST, err);
    if (rc) {
        rr_fail_prefix(err, "%s: line %" PRIu64, l->source.name, l->source.lines);
        return RR_EFORMAT;
    }
    rc = add_list(l, list, err);
    json_decref(list);
    return rc;
}

int rr_eval_read_lists(struct rr_eval_data *d, const char *path, uint32_t limit,
                       struct rr_error *err)
{
    struct lists l = { .d = d };
    struct rr_text line;
    bool got = true;
    int rc = rr_source_open(&l.source, path, RR_FORMAT_JSONL, err);

    l.source.max_line = RR_SOURCE_LIST;
    while (!rc && got && !(limit && d->n_queries == limit)) {
        rc = rr_source_line(&l.source, &line, &got, err);
        if (!rc && got) rc = read_line(&l, line, err);
    }
    if (!rc && d->n_queries == 0) rc = rr_fail(err, RR_EFORMAT, "%s: no lists in it", path);
    rr_source_close(&l.source);
    return rc;
}
