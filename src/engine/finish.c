/* SPDX-License-Identifier: Apache-2.0 */
/* finish.c - from wants to scores, from one phase to the next, and the end of a job.
 * Layer: engine (L5). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"

/* ---- scores -------------------------------------------------------------------------------- */

static double sigmoid(double x)
{
    double e = exp(-fabs(x));

    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

/* One document's logit from its wants [n], which are all done. */
static float pool(const struct rr_want *wants, size_t n, enum rr_pooling pooling, size_t *best)
{
    double sum = 0;
    size_t i;

    *best = 0;
    for (i = 0; i < n; i++) { /* in order: the same bits whichever was computed first */
        sum += wants[i].logit;
        if (wants[i].logit > wants[*best].logit) *best = i;
    }
    return pooling == RR_POOL_MEAN ? (float)(sum / (double)n) : wants[*best].logit;
}

static void score_document(rr_job *job, const struct rr_want *wants, size_t n)
{
    uint32_t doc = wants->doc;
    struct rr_score *s = &job->result->scores[doc];
    size_t best, i;
    float logit = pool(wants, n, job->req.window.pooling, &best);

    s->logit = logit;
    s->missing = false;
    s->rescored = job->pass == RR_PASS_RESCORE;
    s->tokens = 0;
    for (i = 0; i < n; i++) s->tokens += wants[i].tokens;
    s->full_tokens = wants->full_tokens;
    s->truncated = wants->cut;
    s->n_windows = wants->window ? (uint32_t)n : 0;
    s->window_start = wants[best].start;
    s->window_end = wants[best].end;
    if (!job->candidates) return;
    if (s->rescored) {
        job->candidates[doc].exact = logit;
        job->candidates[doc].rescored = true;
    } else {
        job->candidates[doc].cheap = logit;
    }
}

static void free_blocks(rr_job *job)
{
    while (job->blocks) {
        struct rr_want_block *next = job->blocks->next;

        rr_free(job->blocks);
        job->blocks = next;
    }
    job->blocks_end = &job->blocks;
}

/* The phase's wants become scores of the documents that have all of theirs.  A part of a document's
 * windows makes no score: it would depend on the time. */
static void settle(rr_job *job)
{
    struct rr_want_block *b;
    size_t begin, end;
    bool done;

    for (b = job->blocks; b; b = b->next) {
        for (begin = 0; begin < b->n; begin = end) {
            done = true;
            for (end = begin; end < b->n && b->wants[end].doc == b->wants[begin].doc; end++)
                done = done && b->wants[end].done;
            if (done) score_document(job, &b->wants[begin], end - begin);
        }
    }
    free_blocks(job);
}

/* ---- phases -------------------------------------------------------------------------------- */

static bool phase_over(const rr_job *job)
{
    return job->n_prepared == job->n_todo && job->n_done == job->n_wants;
}

/* The two precisions were further apart than we believed: believe more from now on. */
static void widen(struct rr_kind *kind, float seen)
{
    const float margin = 1.25f;

    if (seen > kind->drift) kind->drift = seen * margin;
}

static void ignore_duplicates(rr_job *job)
{
    size_t i;

    for (i = 0; i < job->req.n_documents; i++) job->candidates[i].ignored = job->same_as[i] != i;
}

/* Nothing of todo[n] is prepared yet; NULL: all documents, in order. */
static void begin_pass(rr_job *job, enum rr_pass pass, const uint32_t *todo, size_t n)
{
    job->pass = pass;
    job->todo = todo;
    job->n_todo = n;
    job->n_prepared = job->n_wants = job->n_done = 0;
    job->at = NULL;
    job->at_want = 0;
    job->tokens_left = 0;
}

/* Settles the phase of a job with candidates and prepares the next one.  Lock held; released
 * meanwhile, the job is held. */
static void next_phase(struct rr_engine *e, rr_job *job)
{
    size_t n = job->req.n_documents, picked;
    float drift;

    job->holds++;
    pthread_mutex_unlock(&e->lock);
    if (job->pass == RR_PASS_MAIN) ignore_duplicates(job);
    settle(job);
    drift = rr_cascade_drift(job->candidates, n);
    pthread_mutex_lock(&e->lock);
    widen(job->kind, drift);
    drift = job->kind->drift;
    pthread_mutex_unlock(&e->lock);
    picked =
        rr_cascade_pick(job->candidates, n, RR_MIN(job->req.exact_top_k, n), drift, job->picks);
    pthread_mutex_lock(&e->lock);
    job->holds--;
    job->closed = picked == 0;
    begin_pass(job, RR_PASS_RESCORE, job->picks, picked);
}

/* ---- the end ------------------------------------------------------------------------------- */

static int best_first(const void *pa, const void *pb, void *scores)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    const struct rr_score *x = &((const struct rr_score *)scores)[a];
    const struct rr_score *y = &((const struct rr_score *)scores)[b];

    if (x->missing != y->missing) return x->missing ? 1 : -1;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* How many documents prep has seen: same_as is defined for these. */
static size_t n_seen(const rr_job *job)
{
    return job->pass == RR_PASS_MAIN ? job->n_prepared : job->req.n_documents;
}

static void fill_result(const struct rr_engine *e, rr_job *job, uint64_t now)
{
    struct rr_result *r = job->result;
    bool identity = e->info.activation[0] == 'i';
    size_t i, seen = n_seen(job);

    settle(job);
    for (i = 0; i < r->n_documents; i++) {
        struct rr_score *s = &r->scores[i];

        if (i < seen && job->same_as[i] != i) *s = r->scores[job->same_as[i]];
        if (!s->missing) s->score = identity ? (double)s->logit : sigmoid(s->logit);
        r->n_missing += s->missing;
        r->tokens += s->tokens;
        r->order[i] = (uint32_t)i;
    }
    qsort_r(r->order, r->n_documents, sizeof(*r->order), best_first, r->scores);
    r->exact = r->n_missing == 0 && ((job->kind && job->kind->exact) || job->closed);
    r->timings =
        (struct rr_timings){ .tokenize_ns = job->tokenize_ns, .total_ns = now - job->submit_ns };
    if (!job->ready_ns) return;
    if (!job->first_batch_ns) job->first_batch_ns = now; /* others computed what it waited for */
    r->timings.queue_ns = job->first_batch_ns - RR_MIN(job->ready_ns, job->first_batch_ns);
    r->timings.compute_ns = now - job->first_batch_ns;
}

void rr_job_drop(rr_job *job)
{
    if (!job) return;
    free_blocks(job);
    rr_free(job->same_as);
    rr_free(job->seen);
    rr_free(job->candidates);
    rr_free(job->picks);
    rr_result_free(job->result);
    rr_free(job);
}

void rr_job_fail(rr_job *job, int code, const char *msg)
{
    if (!job->err.code) rr_fail(&job->err, code, "%s", msg);
}

static void leave_units(struct rr_engine *e, rr_job *job)
{
    struct rr_want_block *b;
    size_t i;

    for (b = job->blocks; b; b = b->next)
        for (i = 0; i < b->n; i++) rr_units_leave(e, &b->wants[i]);
}

/* Nobody will find the job any more, but for its ticket's owner. */
static void unlink_job(struct rr_engine *e, rr_job *job)
{
    if (job->all_prev)
        job->all_prev->all_next = job->all_next;
    else
        e->all = job->all_next;
    if (job->all_next) job->all_next->all_prev = job->all_prev;
    rr_flows_remove(&job->prep);
    rr_batcher_remove(job);
    rr_lanes_discharge(job);
    leave_units(e, job);
}

static void count(struct rr_engine *e, const rr_job *job, const struct rr_result *result)
{
    struct rr_stats *s = &e->stats;
    size_t i;

    s->queue_requests--;
    s->queue_pairs -= job->req.n_documents;
    s->queue_tokens -= job->estimate;
    e->queue_text -= job->bytes;
    if (job->err.code == RR_ECANCELED)
        s->requests_canceled++;
    else if (job->err.code)
        s->requests_failed++;
    else
        s->requests_done++;
    if (!result) return;
    for (i = 0; i < result->n_documents; i++) s->truncated_pairs += result->scores[i].truncated;
    s->duplicate_pairs += result->n_duplicates;
    s->coalesced_pairs += result->n_coalesced;
    s->rescored_pairs += result->n_rescored;
    s->partial_requests += result->n_missing > 0;
}

/* Ends a job that nobody holds: fills the result or takes its error, counts, calls on_done, frees.
 * Lock held, released meanwhile. */
static void finish(struct rr_engine *e, rr_job *job)
{
    struct rr_result *result = NULL;

    unlink_job(e, job);
    pthread_mutex_unlock(&e->lock);
    if (!job->err.code) {
        fill_result(e, job, rr_now_ns());
        result = job->result;
        job->result = NULL;
    }
    pthread_mutex_lock(&e->lock);
    count(e, job, result); /* before the callback: whoever has its answer sees it counted */
    pthread_mutex_unlock(&e->lock);

    job->on_done(job->user, result, &job->err);
    rr_job_drop(job);

    pthread_mutex_lock(&e->lock);
    e->unfinished--;
    if (!e->unfinished) pthread_cond_broadcast(&e->idle);
}

/* ---- another kind of lanes ------------------------------------------------------------------ */

/* It waits for lanes none of which is in service. */
static bool is_stranded(const rr_job *job)
{
    return job->kind && !job->kind->n_up && job->n_done < job->n_wants && !job->err.code &&
           !job->partial;
}

static void forget_scores(rr_job *job)
{
    struct rr_result *r = job->result;
    size_t i, n = job->req.n_documents;

    memset(r->scores, 0, n * sizeof(*r->scores));
    for (i = 0; i < n; i++) r->scores[i].missing = true;
    r->n_cached = r->n_duplicates = r->n_coalesced = r->n_rescored = 0;
    if (job->candidates) memset(job->candidates, 0, n * sizeof(*job->candidates));
}

/* As if it had just come: what the lost kind has computed is of another arithmetic. */
static void start_anew(struct rr_engine *e, rr_job *job)
{
    rr_flows_remove(&job->prep);
    rr_batcher_remove(job);
    rr_lanes_discharge(job);
    leave_units(e, job);
    free_blocks(job);
    forget_scores(job);
    rr_prep_job_forget(job);
    job->kind = NULL;
    begin_pass(job, RR_PASS_MAIN, NULL, job->req.n_documents);
    job->closed = job->hopeless = job->left_out = false;
    rr_prep_push(e, job);
}

/* true: the job is where it should be. */
static bool settle_stranded(struct rr_engine *e, rr_job *job)
{
    char why[sizeof(job->err.msg) / 2];

    if (rr_lanes_any(e)) {
        start_anew(e, job);
        return true;
    }
    if (rr_reserve_comes(e)) return true;
    rr_lanes_why(e, why, sizeof(why));
    rr_job_fail(job, RR_EDEVICE, why);
    return false;
}

/* ---- on and on ------------------------------------------------------------------------------ */

/* Lets a job that nobody holds go on or end. */
static void consider(struct rr_engine *e, rr_job *job)
{
    if (job->holds) return;
    if (is_stranded(job) && settle_stranded(e, job)) return;
    if (!job->err.code && !job->partial && phase_over(job) && job->candidates && !job->closed &&
        job->kind->rescoring) {
        next_phase(e, job);
        if (!job->err.code && !job->partial && !job->closed) {
            rr_prep_push(e, job);
            return;
        }
    }
    if (job->err.code || job->partial || phase_over(job)) finish(e, job);
}

void rr_job_release(struct rr_engine *e, rr_job *job)
{
    job->holds--;
    consider(e, job);
}

void rr_job_end(struct rr_engine *e, rr_job *job)
{
    atomic_store_explicit(&job->quit, true, memory_order_relaxed);
    rr_flows_remove(&job->prep);
    rr_batcher_remove(job);
    consider(e, job);
}

void rr_jobs_rescue(struct rr_engine *e)
{
    rr_job *job, *list = NULL, *next;

    for (job = e->all; job; job = job->all_next) {
        bool failed = job->err.code && !atomic_load_explicit(&job->quit, memory_order_relaxed);

        if (job->stranded || !(failed || is_stranded(job))) continue;
        job->stranded = true;
        job->holds++; /* the lock is released while others end */
        job->stranded_next = list;
        list = job;
    }
    for (job = list; job; job = next) {
        next = job->stranded_next;
        job->stranded = false;
        job->holds--;
        if (job->err.code)
            rr_job_end(e, job);
        else
            consider(e, job);
    }
}
