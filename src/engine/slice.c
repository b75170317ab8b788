/* SPDX-License-Identifier: Apache-2.0 */
/* slice.c - some documents of a job become wants: an equal document before it, a cached score, or a
 * pair of token ids to compute; a long document becomes windows.  Layer: engine (L5).
 * Threads: a prep thread that holds the job, without the engine's lock. */
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"

/* A document of which more windows are asked for is a mistake or an attack. */
enum { MAX_WINDOWS = 1024 };

/* How far beyond its window a text is read, to say how many tokens it has. */
enum { FULL_FACTOR = 4 };

/* ---- equal documents ----------------------------------------------------------------------- */

/* Hybrid retrieval often returns a chunk twice.  Open addressing, at most half full. */
struct rr_seen {
    struct rr_key key;
    uint32_t doc; /* index + 1; 0: free */
};

static size_t seen_size(size_t n_documents)
{
    size_t size = 4;

    while (size < 2 * n_documents) size *= 2;
    return size;
}

void rr_prep_job_forget(rr_job *job)
{
    memset(job->seen, 0, seen_size(job->req.n_documents) * sizeof(*job->seen));
}

bool rr_prep_job_init(rr_job *job)
{
    size_t n = job->req.n_documents;

    job->same_as = rr_alloc(RR_MEM_REQUEST, n, sizeof(*job->same_as));
    job->seen = rr_calloc(RR_MEM_REQUEST, seen_size(n), sizeof(*job->seen));
    return job->same_as && job->seen;
}

/* Index of the first document with this key; doc itself if there was none. */
static uint32_t first_seen(rr_job *job, struct rr_key key, uint32_t doc)
{
    size_t mask = seen_size(job->req.n_documents) - 1, at = rr_key_hash(key) & mask;

    while (job->seen[at].doc) {
        if (rr_key_eq(job->seen[at].key, key)) return job->seen[at].doc - 1;
        at = (at + 1) & mask;
    }
    job->seen[at] = (struct rr_seen){ key, doc + 1 };
    return doc;
}

/* ---- the slice in work --------------------------------------------------------------------- */

struct work {
    struct rr_slice *s;
    rr_job *job;
    struct rr_worker *w;
    unsigned flags;
    struct rr_key prefix;
    struct rr_tok_ids query;
    bool has_query; /* encoded at the first pair that needs it */
    struct rr_error *err;
};

/* What is being added: one want and what its pair reads. */
struct pair {
    struct rr_key key;
    struct rr_tok_ids ids; /* of the document, or of the window; unused with a prompt */
    struct rr_text text;   /* the same as text */
    uint32_t doc, start, end;
    uint32_t full_tokens; /* 0: what the pair has, cut or not, is all that is known */
    bool window, cut;
};

static int out_of_memory(const struct work *k)
{
    return rr_fail(k->err, RR_ENOMEM, "out of memory for the tokens of a request");
}

static struct rr_want *new_want(struct work *k, uint32_t doc)
{
    struct rr_worker *w = k->w;
    struct rr_want *grown;

    if (w->n_wants == w->cap) {
        grown = rr_realloc(RR_MEM_REQUEST, w->wants, 2 * w->cap + 16, sizeof(*w->wants));
        if (!grown) return NULL;
        w->wants = grown;
        w->cap = 2 * w->cap + 16;
    }
    grown = &w->wants[w->n_wants++];
    *grown = (struct rr_want){ .job = k->job, .doc = doc };
    return grown;
}

static int too_long(const struct work *k, uint32_t doc)
{
    return rr_fail(k->err, RR_ETOOBIG,
                   "documents[%" PRIu32 "]: the pair is longer than %" PRIu32
                   " tokens and truncation was not allowed",
                   doc, k->job->max_length);
}

static int need_query(struct work *k)
{
    const struct rr_engine *e = k->w->e;
    int rc;

    if (k->has_query) return RR_OK;
    rc = rr_pairing_query(&e->pairing, e->tok, k->w->query_scratch, k->job->req.query, 0, k->flags,
                          &k->query, k->err);
    if (rc == RR_EINVAL) rr_fail_prefix(k->err, "query");
    k->has_query = !rc;
    return rc;
}

/* ---- caches -------------------------------------------------------------------------------- */

struct answer { /* of the caches, for one pair */
    struct rr_key key;
    bool skip;  /* not to be looked up */
    bool found; /* hit is filled */
    struct rr_cached hit;
};

/* The one place where scores are looked up, for a slice of documents or of windows at once. */
static void look_up(const struct work *k, struct answer *a, size_t n)
{
    struct rr_key keys[RR_SLICE];
    struct rr_cached found[RR_SLICE];
    bool hit[RR_SLICE];
    size_t i, m = 0;

    if (k->job->req.no_cache) return;
    for (i = 0; i < n; i++)
        if (!a[i].skip) keys[m++] = a[i].key;
    if (!m) return;
    rr_tiers_get(&k->w->e->cache, keys, m, found, hit);
    for (i = 0, m = 0; i < n; i++) {
        if (a[i].skip) continue;
        a[i].found = hit[m];
        if (hit[m]) a[i].hit = found[m];
        m++;
    }
}

static int add_cached(struct work *k, const struct pair *p, const struct rr_cached *hit)
{
    struct rr_want *want;

    if (hit->truncated && k->job->req.no_truncate) return too_long(k, p->doc);
    want = new_want(k, p->doc);
    if (!want) return out_of_memory(k);
    want->logit = hit->logit;
    want->done = true;
    want->tokens = hit->tokens;
    want->full_tokens = p->window ? p->full_tokens : RR_MAX(hit->full_tokens, hit->tokens);
    want->cut = p->cut || hit->truncated;
    want->window = p->window;
    want->start = p->start;
    want->end = p->end;
    k->s->n_cached++;
    return RR_OK;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

/* Query and document as the model reads them, in w->ids and w->types.  With a prompt of the query's
 * encoding only its length counts, so its scratch is free. */
static int make_ids(const struct work *k, const struct pair *p, uint32_t *n, uint32_t *dropped)
{
    const struct rr_engine *e = k->w->e;
    struct rr_worker *w = k->w;
    uint32_t full = 0;
    int rc;

    if (!e->pairing.prompt)
        return rr_tok_pair(e->tok, &k->query, &p->ids, k->job->max_length, k->flags, w->ids,
                           w->types, n, dropped, k->err);
    rc = rr_prompt_pair(e->pairing.prompt, w->query_scratch, k->job->req.query, p->text,
                        k->job->max_length, k->flags, w->ids, n, &full, k->err);
    memset(w->types, 0, *n * sizeof(*w->types));
    *dropped = full - *n;
    return rc;
}

/* Adds the want with its unit. */
static int add_pair(struct work *k, const struct pair *p)
{
    struct rr_worker *w = k->w;
    rr_job *job = k->job;
    uint32_t n = 0, dropped = 0;
    struct rr_want *want;
    struct rr_unit *unit;
    int rc = make_ids(k, p, &n, &dropped);

    if (rc) return rc;
    if (dropped && job->req.no_truncate) return too_long(k, p->doc);
    want = new_want(k, p->doc);
    unit = rr_alloc(RR_MEM_REQUEST, 1, sizeof(*unit) + 2 * (size_t)n * sizeof(int32_t));
    if (!want || !unit) {
        if (want) w->n_wants--;
        rr_free(unit);
        return out_of_memory(k);
    }
    *want = (struct rr_want){
        .job = job,
        .unit = unit,
        .doc = p->doc,
        .tokens = n,
        .start = p->start,
        .end = p->end,
        .full_tokens = p->full_tokens ? p->full_tokens : n + dropped,
        .window = p->window,
        .cut = p->cut || dropped,
    };
    *unit = (struct rr_unit){
        .key = p->key,
        .kind = job->kind,
        .n_tokens = n,
        .full_tokens = n + dropped,
        .pass = job->pass,
        .cacheable = !job->req.no_cache,
        .shared = !job->req.no_cache,
    };
    memcpy(unit->data, w->ids, n * sizeof(*w->ids));
    memcpy(unit->data + n, w->types, n * sizeof(*w->types));
    return RR_OK;
}

/* ---- windows --------------------------------------------------------------------------------- */

struct cut { /* how a document is cut; tokens */
    uint32_t size, stride, n;
};

/* The last window ends where the document does and is as long as the others. */
static int plan_windows(const struct work *k, uint32_t doc, uint32_t room, uint32_t n_tokens,
                        struct cut *c)
{
    const struct rr_window *ask = &k->job->req.window;

    c->size = RR_MIN(ask->size, room);
    c->stride = ask->stride ? RR_MIN(ask->stride, c->size) : c->size;
    c->n = n_tokens <= c->size ? 1 : 1 + (n_tokens - c->size + c->stride - 1) / c->stride;
    if (ask->pooling == RR_POOL_FIRST) c->n = 1;
    if (c->n > MAX_WINDOWS)
        return rr_fail(k->err, RR_ETOOBIG,
                       "documents[%" PRIu32 "]: %" PRIu32 " windows, at most %d: use a larger "
                       "stride or a shorter document",
                       doc, c->n, MAX_WINDOWS);
    return RR_OK;
}

static uint32_t window_start(const struct rr_tok_ids *ids, const struct cut *c, uint32_t i)
{
    return RR_MIN(i * c->stride, ids->n - c->size);
}

/* Windows [begin, end), at most a slice of them; p says what they have in common. */
static int add_some_windows(struct work *k, const struct rr_tok_ids *ids, struct rr_key doc_key,
                            const struct cut *c, uint32_t begin, uint32_t end, struct pair *p)
{
    struct answer answers[RR_SLICE] = { 0 };
    uint32_t i;
    int rc = RR_OK;

    for (i = begin; i < end; i++) {
        uint32_t place[2] = { window_start(ids, c, i), c->size };

        answers[i - begin].key =
            rr_key_pair(doc_key, (struct rr_text){ (const char *)place, sizeof(place) });
    }
    look_up(k, answers, end - begin);
    for (i = begin; i < end && !rc; i++) {
        const struct answer *a = &answers[i - begin];
        uint32_t start = window_start(ids, c, i);

        p->key = a->key;
        p->ids = (struct rr_tok_ids){ .ids = ids->ids + start, .n = c->size };
        p->start = ids->starts[start];
        p->end = ids->ends[start + c->size - 1];
        p->text =
            (struct rr_text){ k->job->req.documents[p->doc].data + p->start, p->end - p->start };
        rc = a->found ? add_cached(k, p, &a->hit) : add_pair(k, p);
    }
    return rc;
}

/* A document for a request with windows.  One that fits beside the query is an ordinary pair. */
static int add_windows(struct work *k, uint32_t doc, struct rr_key key)
{
    const struct rr_text text = k->job->req.documents[doc];
    struct rr_tok *tok = k->w->e->tok;
    uint32_t specials = k->w->e->pairing.fixed, room = 0, i;
    struct pair p = { .key = key, .doc = doc, .text = text };
    struct rr_tok_ids ids;
    struct cut c;
    int rc =
        rr_tok_encode(tok, k->w->doc_scratch, text, 0, k->flags | RR_TOK_OFFSETS, &ids, k->err);

    if (rc) return rc;
    if (k->query.n + specials < k->job->max_length)
        room = k->job->max_length - specials - k->query.n;
    if (ids.n <= room) {
        p.ids = ids;
        return add_pair(k, &p);
    }
    if (room == 0)
        return rr_fail(k->err, RR_ETOOBIG,
                       "the query has %" PRIu32 " tokens and leaves no room for a document in "
                       "%" PRIu32,
                       k->query.n, k->job->max_length);
    rc = plan_windows(k, doc, room, ids.n, &c);
    p.window = true;
    p.cut = k->job->req.window.pooling == RR_POOL_FIRST && ids.n > c.size;
    p.full_tokens = k->query.n + specials + ids.n;
    for (i = 0; i < c.n && !rc; i += RR_SLICE)
        rc = add_some_windows(k, &ids, key, &c, i, RR_MIN(i + RR_SLICE, c.n), &p);
    return rc;
}

/* ---- documents ------------------------------------------------------------------------------- */

static uint32_t doc_at(const struct work *k, size_t i)
{
    return k->job->todo ? k->job->todo[i] : (uint32_t)i;
}

/* The key of each document of the slice; those equal to an earlier one need no answer. */
static void name_documents(struct work *k, struct answer *answers)
{
    rr_job *job = k->job;
    size_t i;

    for (i = k->s->begin; i < k->s->end; i++) {
        struct answer *a = &answers[i - k->s->begin];
        uint32_t doc = doc_at(k, i);

        a->key = rr_key_pair(k->prefix, job->req.documents[doc]);
        if (job->todo) continue; /* later phases have distinct documents only */
        job->same_as[doc] = first_seen(job, a->key, doc);
        a->skip = job->same_as[doc] != doc;
    }
}

/* A document for a request without windows. */
static int add_whole(struct work *k, struct pair *p)
{
    int rc;

    if (k->w->e->pairing.prompt) return add_pair(k, p);
    /* Longest-first truncation asks which side is longer and what fits the window, no more. */
    rc = rr_tok_encode(k->w->e->tok, k->w->doc_scratch, p->text,
                       FULL_FACTOR * RR_MAX(k->query.n, k->job->max_length) + 1, k->flags, &p->ids,
                       k->err);
    return rc ? rc : add_pair(k, p);
}

static int add_document(struct work *k, uint32_t doc, const struct answer *a)
{
    rr_job *job = k->job;
    struct pair p = { .key = a->key, .doc = doc, .text = job->req.documents[doc] };
    bool windows = job->req.window.size > 0;
    int rc;

    if (a->skip) {
        k->s->n_duplicates++;
        return RR_OK;
    }
    if (a->found && !(windows && a->hit.truncated)) return add_cached(k, &p, &a->hit);
    rc = need_query(k);
    if (rc) return rc;
    rc = windows ? add_windows(k, doc, a->key) : add_whole(k, &p);
    if (rc == RR_EINVAL) rr_fail_prefix(k->err, "documents[%" PRIu32 "]", doc);
    return rc;
}

/* The wants so far move into a block of their own. */
static int make_block(struct work *k)
{
    struct rr_worker *w = k->w;
    struct rr_want_block *b =
        rr_alloc(RR_MEM_REQUEST, 1, sizeof(*b) + w->n_wants * sizeof(*w->wants));

    if (!b) return out_of_memory(k);
    b->next = NULL;
    b->n = w->n_wants;
    if (b->n) memcpy(b->wants, w->wants, b->n * sizeof(*w->wants));
    w->n_wants = 0;
    k->s->block = b;
    return RR_OK;
}

int rr_slice_run(struct rr_slice *s, struct rr_error *err)
{
    rr_job *job = s->job;
    struct rr_worker *w = s->w;
    unsigned flags = w->e->tok_flags | (job->keep_end ? RR_TOK_KEEP_END : 0);
    struct rr_key_context context = { job->kind->fingerprint[job->pass], job->max_length, flags };
    struct work k = { .s = s, .job = job, .w = w, .flags = flags, .err = err };
    struct answer answers[RR_SLICE] = { 0 };
    size_t i;
    int rc = RR_OK;

    k.prefix = rr_key_prefix(&context, job->req.query);
    w->n_wants = 0;
    name_documents(&k, answers);
    look_up(&k, answers, s->end - s->begin);
    for (i = s->begin; i < s->end && !rc; i++) {
        if (atomic_load_explicit(&job->quit, memory_order_relaxed)) break;
        rc = add_document(&k, doc_at(&k, i), &answers[i - s->begin]);
    }
    s->end = rc ? s->end : i;
    if (!rc) rc = make_block(&k);
    while (rc && w->n_wants > 0) rr_free(w->wants[--w->n_wants].unit);
    return rc;
}
