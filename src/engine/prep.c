/* SPDX-License-Identifier: Apache-2.0 */
/* prep.c - prep threads: equal documents, cached scores, text to token ids; a slice of a job at a
 * time.  Layer: engine (L5).  Threads: n_prep of them, each with its own tokenizer scratch. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"

/* Documents tokenized before the job goes to the back of the queue: a large request delays a small
 * one behind it by the time of one slice, about 10 ms. */
enum { SLICE = 32 };

struct worker {
    struct rr_engine *e;
    struct rr_tok_scratch *query_scratch, *doc_scratch;
    int32_t *ids, *types; /* [max_length] one pair */
};

static void worker_close(struct worker *w)
{
    rr_tok_scratch_close(w->query_scratch);
    rr_tok_scratch_close(w->doc_scratch);
    rr_free(w->ids);
    rr_free(w->types);
}

static int worker_open(struct worker *w, struct rr_engine *e, struct rr_error *err)
{
    int rc;

    memset(w, 0, sizeof(*w));
    w->e = e;
    rc = rr_tok_scratch_open(&w->query_scratch, e->tok, err);
    if (!rc) rc = rr_tok_scratch_open(&w->doc_scratch, e->tok, err);
    if (rc) return rc;
    w->ids = rr_alloc(RR_MEM_TOKENIZER, e->info.max_length, sizeof(int32_t));
    w->types = rr_alloc(RR_MEM_TOKENIZER, e->info.max_length, sizeof(int32_t));
    if (!w->ids || !w->types) return rr_fail(err, RR_ENOMEM, "out of memory for a prep thread");
    return RR_OK;
}

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

bool rr_prep_job_init(rr_job *job)
{
    size_t n = job->req.n_documents;

    job->pairs = rr_calloc(RR_MEM_REQUEST, n, sizeof(*job->pairs));
    job->same_as = rr_alloc(RR_MEM_REQUEST, n, sizeof(*job->same_as));
    job->seen = rr_calloc(RR_MEM_REQUEST, seen_size(n), sizeof(*job->seen));
    return job->pairs && job->same_as && job->seen;
}

/* Index of the first document with this key; doc itself if there was none. */
static uint32_t first_seen(rr_job *job, struct rr_key key, uint32_t doc)
{
    size_t mask = seen_size(job->req.n_documents) - 1, at = key.lo & mask;

    while (job->seen[at].doc) {
        if (rr_key_eq(job->seen[at].key, key)) return job->seen[at].doc - 1;
        at = (at + 1) & mask;
    }
    job->seen[at] = (struct rr_seen){ key, doc + 1 };
    return doc;
}

/* ---- one slice ----------------------------------------------------------------------------- */

struct slice {
    struct worker *w;
    rr_job *job;
    unsigned flags;
    struct rr_tok_ids query;
    struct rr_key prefix;
    struct rr_token_block *block;
    size_t used;  /* tokens in block, ids and types counted */
    size_t pairs; /* made so far, beyond job->n_ready */
    uint32_t cached, duplicates;
};

static unsigned tok_flags(const struct rr_engine *e, const rr_job *job)
{
    return e->tok_flags | (job->req.truncate_left ? RR_TOK_KEEP_END : 0);
}

/* Encodes one pair into w->ids and w->types; score gets its length and whether it was cut. */
static int encode_pair(struct slice *s, uint32_t doc, struct rr_score *score, struct rr_error *err)
{
    struct worker *w = s->w;
    rr_job *job = s->job;
    struct rr_tok_ids ids;
    uint32_t dropped = 0;
    int rc;

    /* Longest-first truncation asks which side is longer and what fits the window, no more. */
    rc = rr_tok_encode(w->e->tok, w->doc_scratch, job->req.documents[doc],
                       RR_MAX(s->query.n, job->max_length) + 1, s->flags, &ids, err);
    if (!rc)
        rc = rr_tok_pair(w->e->tok, &s->query, &ids, job->max_length, s->flags, w->ids, w->types,
                         &score->tokens, &dropped, err);
    if (!rc) score->truncated = dropped > 0 || ids.cut;
    return rc;
}

/* Copies the pair in w behind the block's others. */
static void store_pair(struct slice *s, uint32_t doc, struct rr_key key, uint32_t n)
{
    rr_job *job = s->job;
    int32_t *ids = s->block->data + s->used, *types = ids + n;

    memcpy(ids, s->w->ids, n * sizeof(*ids));
    memcpy(types, s->w->types, n * sizeof(*types));
    s->used += 2 * (size_t)n;
    job->pairs[job->n_ready + s->pairs++] =
        (struct rr_pair){ .ids = ids, .types = types, .n_tokens = n, .doc = doc, .key = key };
}

/* One document: an equal one before it, the cache, or a pair to compute. */
static int prepare(struct slice *s, uint32_t doc, struct rr_error *err)
{
    struct rr_engine *e = s->w->e;
    rr_job *job = s->job;
    struct rr_score *score = &job->result->scores[doc];
    struct rr_key key = rr_key_pair(s->prefix, job->req.documents[doc]);
    struct rr_cached hit;
    bool found = false;
    int rc = RR_OK;

    job->same_as[doc] = first_seen(job, key, doc);
    if (job->same_as[doc] != doc) {
        s->duplicates++;
        return RR_OK;
    }
    if (e->cache && !job->req.no_cache) found = rr_lru_get(e->cache, key, &hit);
    if (found) {
        s->cached++;
        score->logit = hit.logit;
        score->tokens = hit.tokens;
        score->truncated = hit.truncated;
    } else {
        rc = encode_pair(s, doc, score, err);
    }
    if (!rc && score->truncated && job->req.no_truncate)
        rc = rr_fail(err, RR_ETOOBIG,
                     "documents[%" PRIu32 "]: the pair is longer than %" PRIu32
                     " tokens and truncation was not allowed",
                     doc, job->max_length);
    if (!rc && !found) store_pair(s, doc, key, score->tokens);
    return rc;
}

/* The block was sized for the worst case; gives back what was not needed. */
static void shrink_block(struct slice *s)
{
    struct rr_token_block *shrunk =
        rr_realloc(RR_MEM_REQUEST, s->block, 1, sizeof(*s->block) + s->used * sizeof(int32_t));
    size_t i, at = 0;

    if (!shrunk) return;
    s->block = shrunk;
    for (i = 0; i < s->pairs; i++) { /* it may have moved */
        struct rr_pair *pair = &s->job->pairs[s->job->n_ready + i];

        pair->ids = shrunk->data + at;
        pair->types = pair->ids + pair->n_tokens;
        at += 2 * (size_t)pair->n_tokens;
    }
}

/* Prepares documents [n_prepared, end).  Writes to the job only what nobody else reads before the
 * counters change under the lock. */
static int run_slice(struct slice *s, size_t end, struct rr_error *err)
{
    rr_job *job = s->job;
    struct rr_engine *e = s->w->e;
    struct rr_key_context context = { e->score_fingerprint, job->max_length, tok_flags(e, job) };
    size_t doc, most = (end - job->n_prepared) * job->max_length * 2 * sizeof(int32_t);
    int rc;

    s->flags = context.flags;
    s->prefix = rr_key_prefix(&context, job->req.query);
    rc = rr_tok_encode(e->tok, s->w->query_scratch, job->req.query, 0, s->flags, &s->query, err);
    if (rc) return rc;
    s->block = rr_alloc(RR_MEM_REQUEST, 1, sizeof(*s->block) + most);
    if (!s->block) return rr_fail(err, RR_ENOMEM, "out of memory for the tokens of a request");
    for (doc = job->n_prepared; doc < end && !rc; doc++) rc = prepare(s, (uint32_t)doc, err);
    shrink_block(s);
    s->block->next = job->blocks;
    job->blocks = s->block;
    return rc;
}

/* ---- queue --------------------------------------------------------------------------------- */

static rr_job *pop(struct rr_engine *e)
{
    rr_job *job = e->prep_head;

    e->prep_head = job->prep_next;
    if (!e->prep_head) e->prep_tail = NULL;
    job->prep_next = NULL;
    return job;
}

void rr_prep_push(struct rr_engine *e, rr_job *job)
{
    if (e->prep_tail)
        e->prep_tail->prep_next = job;
    else
        e->prep_head = job;
    e->prep_tail = job;
}

/* Takes the outcome of a slice over into the job.  Lock held. */
static void publish(struct rr_engine *e, const struct slice *s, size_t end, uint64_t now)
{
    rr_job *job = s->job;

    job->n_prepared = end;
    job->n_ready += s->pairs;
    job->result->n_cached += s->cached;
    job->result->n_duplicates += s->duplicates;
    if (s->pairs && !job->ready_ns) job->ready_ns = now;
    if (!job->err.code) rr_batcher_add(&e->batcher, job);
}

/* Prep is done with the job.  One that the runner has not seen and need not see ends here, so that
 * a cached answer does not wait for the batch in work.  Lock held; may be released meanwhile. */
static void leave(struct rr_engine *e, rr_job *job)
{
    job->in_prep = false;
    if (job->n_taken == 0 && (job->err.code || job->n_ready == 0)) {
        rr_batcher_remove(&e->batcher, job);
        rr_job_finish(e, job);
    } else {
        pthread_cond_signal(&e->run_wake);
    }
}

/* One slice of one job.  Lock held on entry and exit, released while tokenizing. */
static void serve(struct worker *w, rr_job *job)
{
    struct rr_engine *e = w->e;
    struct rr_error err = { 0 };
    struct slice s = { .w = w, .job = job };
    size_t end = RR_MIN(job->n_prepared + SLICE, job->req.n_documents);
    uint64_t start = rr_now_ns(), now;
    int rc;

    if (job->err.code || job->canceled || start >= job->deadline_ns) {
        job->in_prep = false; /* the runner will sweep it */
        pthread_cond_signal(&e->run_wake);
        return;
    }
    pthread_mutex_unlock(&e->lock);
    rc = run_slice(&s, end, &err);
    now = rr_now_ns();
    pthread_mutex_lock(&e->lock);
    job->tokenize_ns += now - start;
    if (rc)
        rr_job_fail(job, rc, err.msg);
    else
        publish(e, &s, end, now);
    if (!job->err.code && end < job->req.n_documents) {
        rr_prep_push(e, job);
        pthread_cond_signal(&e->run_wake);
    } else {
        leave(e, job);
    }
}

void *rr_prep_main(void *arg)
{
    struct rr_engine *e = arg;
    struct worker w;
    struct rr_error err = { 0 };
    int rc = worker_open(&w, e, &err);

    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        rr_job *job;

        if (!e->prep_head) {
            pthread_cond_wait(&e->prep_wake, &e->lock);
            continue;
        }
        job = pop(e);
        if (rc) { /* no scratch: this thread can only say so */
            rr_job_fail(job, rc, err.msg);
            leave(e, job);
            continue;
        }
        serve(&w, job);
    }
    pthread_mutex_unlock(&e->lock);
    worker_close(&w);
    return NULL;
}
