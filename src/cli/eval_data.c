/* SPDX-License-Identifier: Apache-2.0 */
/* eval_data.c - labelled queries for "rerankd eval" from files: judgements (qrels), a first-stage
 * run, and the texts' files.  Layer: cli (L6).  Threads: one. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/eval.h"
#include "cli/ids.h"
#include "cli/score.h"
#include "cli/trec.h"

/* ---- growing arrays ------------------------------------------------------------------------- */

/* list: the address of a pointer to elements of any type, which is why it is copied. */
static void *one_more(void *list, size_t *n, size_t *cap, size_t size)
{
    size_t want = *cap ? 2 * *cap : 256;
    void *p;

    memcpy(&p, list, sizeof(p));
    if (*n == *cap) {
        p = rr_realloc(RR_MEM_MISC, p, want, size);
        if (!p) return NULL;
        memcpy(list, &p, sizeof(p));
        *cap = want;
    }
    return memset((char *)p + size * (*n)++, 0, size);
}

struct rr_eval_query *rr_eval_add_query(struct rr_eval_data *d)
{
    return one_more(&d->queries, &d->n_queries, &d->cap_queries, sizeof(*d->queries));
}

struct rr_eval_candidate *rr_eval_add_candidate(struct rr_eval_data *d)
{
    return one_more(&d->candidates, &d->n_candidates, &d->cap_candidates, sizeof(*d->candidates));
}

struct rr_named_text *rr_eval_add_doc(struct rr_eval_data *d)
{
    return one_more(&d->docs, &d->n_docs, &d->cap_docs, sizeof(*d->docs));
}

int32_t *rr_eval_add_gain(struct rr_eval_data *d)
{
    return one_more(&d->gains, &d->n_gains, &d->cap_gains, sizeof(*d->gains));
}

static int greatest_first(const void *pa, const void *pb)
{
    int32_t a = *(const int32_t *)pa, b = *(const int32_t *)pb;

    return a > b ? -1 : a < b;
}

void rr_eval_end_gains(struct rr_eval_data *d, struct rr_eval_query *q, size_t from)
{
    q->gains = from;
    q->n_gains = d->n_gains - from;
    if (q->n_gains) qsort(d->gains + from, q->n_gains, sizeof(*d->gains), greatest_first);
}

void rr_eval_data_init(struct rr_eval_data *d)
{
    memset(d, 0, sizeof(*d));
    rr_arena_init(&d->arena, RR_MEM_MISC, SIZE_MAX / 2);
}

void rr_eval_data_free(struct rr_eval_data *d)
{
    rr_free(d->queries);
    rr_free(d->candidates);
    rr_free(d->gains);
    rr_free(d->docs);
    rr_texts_close(d->corpus);
    rr_arena_reset(&d->arena);
    rr_eval_data_init(d);
}

/* ---- judgements and runs -------------------------------------------------------------------- */

struct pair { /* of a query and a document, with what a file says about them */
    uint32_t query, doc;
    int32_t label;
    float score;
};

struct pairs {
    struct pair *list;
    size_t n, cap;
};

struct reader {
    struct rr_eval_data *d;
    const struct rr_eval_sources *sources;
    struct rr_ids queries, docs;
    struct pairs judged, run;
    struct rr_texts *texts; /* of queries */
};

static int by_query_doc(const void *pa, const void *pb)
{
    const struct pair *a = pa, *b = pb;

    if (a->query != b->query) return a->query < b->query ? -1 : 1;
    return a->doc < b->doc ? -1 : a->doc > b->doc;
}

/* Reads one line of either file into *p, its ids interned. */
static int read_pair(struct reader *r, struct rr_text line, const struct rr_source *s, bool run,
                     struct pair *p, bool *got, struct rr_error *err)
{
    struct rr_run_line row;
    struct rr_judgement judgement;
    struct rr_text query, doc;
    int rc;

    memset(p, 0, sizeof(*p));
    if (run)
        rc = rr_trec_run_line(&row, line, s->name, s->lines, got, err);
    else
        rc = rr_trec_judgement(&judgement, line, s->name, s->lines, got, err);
    if (rc || !*got) return rc;
    query = run ? row.query : judgement.query;
    doc = run ? row.document : judgement.document;
    if (run)
        p->score = row.score;
    else
        p->label = judgement.relevance;
    rc = rr_ids_add(&r->queries, &r->d->arena, query, &p->query, err);
    if (!rc) rc = rr_ids_add(&r->docs, &r->d->arena, doc, &p->doc, err);
    return rc;
}

/* A pair that occurs twice would count twice. */
static int sort_pairs(const struct reader *r, struct pairs *pairs, const char *path,
                      struct rr_error *err)
{
    size_t i;

    if (pairs->n == 0) return rr_fail(err, RR_EFORMAT, "%s: no lines in it", path);
    qsort(pairs->list, pairs->n, sizeof(*pairs->list), by_query_doc);
    for (i = 1; i < pairs->n; i++) {
        if (by_query_doc(&pairs->list[i - 1], &pairs->list[i]) != 0) continue;
        return rr_fail(err, RR_EFORMAT, "%s: query %.80s has document %.80s twice", path,
                       r->queries.list[pairs->list[i].query].data,
                       r->docs.list[pairs->list[i].doc].data);
    }
    return RR_OK;
}

static int read_pairs(struct reader *r, struct pairs *pairs, const char *path, bool run,
                      struct rr_error *err)
{
    struct rr_source s;
    struct rr_text line;
    struct pair pair, *p;
    bool got = true, used;
    int rc = rr_source_open(&s, path, RR_FORMAT_LINES, err);

    while (!rc) {
        rc = rr_source_line(&s, &line, &got, err);
        if (rc || !got) break;
        rc = read_pair(r, line, &s, run, &pair, &used, err);
        if (rc || !used) continue;
        p = one_more(&pairs->list, &pairs->n, &pairs->cap, sizeof(*pairs->list));
        if (p)
            *p = pair;
        else
            rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    }
    rr_source_close(&s);
    return rc ? rc : sort_pairs(r, pairs, path, err);
}

/* The pairs of a query: [*from, returned end). */
static size_t range(const struct pairs *pairs, uint32_t query, size_t *from)
{
    size_t low = 0, high = pairs->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (pairs->list[middle].query < query)
            low = middle + 1;
        else
            high = middle;
    }
    for (*from = low; low < pairs->n && pairs->list[low].query == query; low++) {
    }
    return low;
}

/* ---- candidates ----------------------------------------------------------------------------- */

/* Before anything is scored: one that is missing would end hours of work with nothing. */
static int check_texts(const struct rr_eval_data *d, const struct rr_eval_query *q,
                       struct rr_error *err)
{
    size_t i;
    int rc = RR_OK;

    for (i = 0; i < q->n && !rc; i++)
        rc = rr_texts_check(d->corpus, d->docs[d->candidates[q->first + i].doc].id, err);
    if (rc) rr_fail_prefix(err, "query %.*s", (int)RR_MIN(q->id.len, 80), q->id.data);
    return rc;
}

static int add_candidate(struct reader *r, uint32_t query, uint32_t doc, float first,
                         struct rr_error *err)
{
    struct rr_eval_candidate *c = rr_eval_add_candidate(r->d);
    struct pair key = { .query = query, .doc = doc };
    const struct pair *judged;

    if (!c) return rr_fail(err, RR_ENOMEM, "out of memory for the candidates");
    judged = bsearch(&key, r->judged.list, r->judged.n, sizeof(*r->judged.list), by_query_doc);
    *c = (struct rr_eval_candidate){ doc, judged ? judged->label : 0, first };
    return RR_OK;
}

static int add_candidates(struct reader *r, uint32_t query, struct rr_error *err)
{
    const struct pairs *from = r->sources->pool == RR_POOL_RUN ? &r->run : &r->judged;
    size_t i, end;
    int rc = RR_OK;

    if (r->sources->pool == RR_POOL_ALL) { /* those of the corpus: they were interned first */
        for (i = 0; i < rr_texts_count(r->d->corpus) && !rc; i++)
            rc = add_candidate(r, query, (uint32_t)i, 0, err);
        return rc;
    }
    end = range(from, query, &i);
    for (; i < end && !rc; i++)
        rc = add_candidate(r, query, from->list[i].doc, from->list[i].score, err);
    return rc;
}

/* Keeps the depth best of the first stage. */
static int cut(struct rr_eval_data *d, struct rr_eval_query *q, uint32_t depth,
               struct rr_error *err)
{
    struct rr_eval_candidate *kept;
    uint32_t *order;
    float *scores;
    size_t i;
    int rc = RR_OK;

    if (depth == 0 || q->n <= depth) return RR_OK;
    scores = rr_alloc(RR_MEM_MISC, q->first + q->n, sizeof(*scores));
    order = rr_alloc(RR_MEM_MISC, q->n, sizeof(*order));
    kept = rr_alloc(RR_MEM_MISC, depth, sizeof(*kept));
    if (!scores || !order || !kept) {
        rc = rr_fail(err, RR_ENOMEM, "out of memory for the candidates");
    } else {
        for (i = 0; i < q->n; i++) scores[q->first + i] = d->candidates[q->first + i].first;
        rc = rr_eval_order(order, d, q, scores, err);
        for (i = 0; i < depth && !rc; i++) kept[i] = d->candidates[q->first + order[i]];
        if (!rc) memcpy(d->candidates + q->first, kept, depth * sizeof(*kept));
        q->n = depth;
        d->n_candidates = q->first + depth;
    }
    rr_free(scores);
    rr_free(order);
    rr_free(kept);
    return rc;
}

static int add_gains(struct reader *r, struct rr_eval_query *q, uint32_t query,
                     struct rr_error *err)
{
    size_t from = r->d->n_gains, i, end = range(&r->judged, query, &i);

    for (; i < end; i++) {
        int32_t *gain;

        if (r->judged.list[i].label <= 0) continue;
        gain = rr_eval_add_gain(r->d);
        if (!gain) return rr_fail(err, RR_ENOMEM, "out of memory for the labels");
        *gain = r->judged.list[i].label;
    }
    rr_eval_end_gains(r->d, q, from);
    return RR_OK;
}

/* Each judged query that has candidates; others are left out, as trec_eval does. */
static int add_queries(struct reader *r, struct rr_error *err)
{
    struct rr_eval_data *d = r->d;
    size_t number;
    int rc = RR_OK;

    for (number = 0; number < r->queries.n && !rc; number++) {
        struct rr_eval_query q = { .id = r->queries.list[number], .first = d->n_candidates };
        struct rr_eval_query *added;
        size_t from;

        if (r->sources->limit && d->n_queries == r->sources->limit) break;
        if (range(&r->judged, (uint32_t)number, &from) == from) continue;
        rc = add_candidates(r, (uint32_t)number, err);
        q.n = d->n_candidates - q.first;
        d->n_left_out += q.n == 0;
        if (rc || q.n == 0) continue;
        rc = cut(d, &q, r->sources->depth, err);
        if (!rc && d->corpus && r->sources->pool != RR_POOL_ALL) rc = check_texts(d, &q, err);
        if (!rc) rc = add_gains(r, &q, (uint32_t)number, err);
        if (!rc && r->texts) rc = rr_texts_find(r->texts, q.id, false, &d->arena, &q.text, err);
        added = rc ? NULL : rr_eval_add_query(d);
        if (added)
            *added = q;
        else if (!rc)
            rc = rr_fail(err, RR_ENOMEM, "out of memory for the queries");
    }
    if (!rc && d->n_queries == 0)
        rc = rr_fail(err, RR_EFORMAT, "%s: no query of it has candidates", r->sources->qrels);
    return rc;
}

static int add_docs(struct reader *r, struct rr_error *err)
{
    size_t i;

    for (i = 0; i < r->docs.n; i++) {
        struct rr_named_text *doc = rr_eval_add_doc(r->d);

        if (!doc) return rr_fail(err, RR_ENOMEM, "out of memory for the documents");
        doc->id = r->docs.list[i];
    }
    return RR_OK;
}

static int intern_corpus(struct reader *r, struct rr_error *err)
{
    size_t cursor = 0;
    bool got = true;
    int rc = RR_OK;

    while (!rc && got) {
        struct rr_text id;
        uint32_t number;

        rc = rr_texts_next_id(r->d->corpus, &cursor, &r->d->arena, &id, &got, err);
        if (!rc && got) rc = rr_ids_add(&r->docs, &r->d->arena, id, &number, err);
    }
    return rc;
}

static int read_all(struct reader *r, struct rr_error *err)
{
    const struct rr_eval_sources *s = r->sources;
    int rc = RR_OK;

    if (s->corpus) rc = rr_texts_open(&r->d->corpus, s->corpus, err);
    if (!rc && s->corpus) rc = rr_texts_open(&r->texts, s->queries, err);
    if (!rc && s->pool == RR_POOL_ALL) rc = intern_corpus(r, err);
    if (!rc) rc = read_pairs(r, &r->judged, s->qrels, false, err);
    if (!rc && s->pool == RR_POOL_RUN) rc = read_pairs(r, &r->run, s->run, true, err);
    if (!rc) rc = add_docs(r, err); /* before the candidates are put in order, by their ids */
    return rc ? rc : add_queries(r, err);
}

int rr_eval_read_files(struct rr_eval_data *d, const struct rr_eval_sources *s,
                       struct rr_error *err)
{
    struct reader r = { .d = d, .sources = s };
    int rc;

    d->with_title = s->with_title;
    d->has_first = s->pool == RR_POOL_RUN;
    rc = read_all(&r, err);
    rr_ids_free(&r.queries);
    rr_ids_free(&r.docs);
    rr_free(r.judged.list);
    rr_free(r.run.list);
    rr_texts_close(r.texts);
    return rc;
}
