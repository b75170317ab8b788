/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c - the one thread that owns the device: batch in, logits out, jobs finished.
 * Layer: engine (L5). */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "engine/engine.h"

/* Nobody holds the job, and there is nothing left to compute or no reason to. */
static bool job_over(const rr_job *job)
{
    return !job->in_prep && (job->err.code || job->n_done == job->n_ready);
}

/* Ends jobs that failed, were cancelled or are late, and those that the cache answered.  Lock held;
 * released during on_done, so the walk starts over after each. */
static void sweep(struct rr_engine *e)
{
    uint64_t now = rr_now_ns();
    rr_job *job = e->all;

    while (job) {
        rr_job *next = job->all_next;

        if (job->canceled) rr_job_fail(job, RR_ECANCELED, "the request was cancelled");
        if (now >= job->deadline_ns)
            rr_job_fail(job, RR_ETIMEDOUT, "the request's deadline passed before it was done");
        if (job->err.code) {
            rr_batcher_remove(&e->batcher, job);
        }
        if (job_over(job)) {
            rr_job_finish(e, job);
            next = e->all;
        }
        job = next;
    }
}

/* Packs the pairs back to back into the runner's arrays. */
static void pack(struct rr_engine *e, uint32_t n, struct rr_sequences *seqs)
{
    uint32_t i, at = 0;

    e->cu_seqlens[0] = 0;
    for (i = 0; i < n; i++) {
        const struct rr_pair *p = &e->items[i].job->pairs[e->items[i].pair];

        memcpy(e->ids + at, p->ids, p->n_tokens * sizeof(int32_t));
        memcpy(e->types + at, p->types, p->n_tokens * sizeof(int32_t));
        at += p->n_tokens;
        e->cu_seqlens[i + 1] = at;
    }
    *seqs = (struct rr_sequences){
        .n_tokens = at,
        .n_sequences = n,
        .ids = e->ids,
        .types = e->types,
        .cu_seqlens = e->cu_seqlens,
    };
}

/* Gives each pair its logit, or its job the batch's error, and ends jobs that are complete.
 * Lock held. */
static void scatter(struct rr_engine *e, uint32_t n, int rc, const struct rr_error *err)
{
    uint32_t i, n_jobs = 0;

    for (i = 0; i < n; i++) {
        rr_job *job = e->items[i].job;
        uint32_t doc = job->pairs[e->items[i].pair].doc;
        float logit = e->logits[i];

        if (rc) {
            rr_job_fail(job, rc, err->msg);
        } else if (!isfinite(logit)) {
            e->stats.nonfinite++;
            rr_job_fail(job, RR_ENONFINITE, "the model gave a score that is not a number");
        } else {
            job->result->scores[doc].logit = logit;
        }
        job->n_done++;
        if (job->mark == e->stats.batches_done) continue;
        job->mark = e->stats.batches_done;
        e->items[n_jobs++].job = job; /* n_jobs <= i: the item there has been read */
    }
    for (i = 0; i < n_jobs; i++) {
        rr_job *job = e->items[i].job;

        if (job->err.code) rr_batcher_remove(&e->batcher, job);
        if (job_over(job)) rr_job_finish(e, job);
    }
}

static void remember(struct rr_engine *e, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++) {
        const rr_job *job = e->items[i].job;
        const struct rr_pair *p = &job->pairs[e->items[i].pair];

        if (job->req.no_cache || !isfinite(e->logits[i])) continue;
        rr_lru_put(e->cache, p->key,
                   (struct rr_cached){ .logit = e->logits[i],
                                       .tokens = p->n_tokens & INT32_MAX,
                                       .truncated = job->result->scores[p->doc].truncated });
    }
}

/* Computes one batch.  Lock held on entry and exit. */
static void run_batch(struct rr_engine *e, uint32_t n, uint32_t n_tokens)
{
    struct rr_sequences seqs;
    struct rr_error err = { 0 };
    uint64_t start, end;
    uint32_t i;
    int rc;

    start = rr_now_ns();
    for (i = 0; i < n; i++)
        if (!e->items[i].job->first_batch_ns) e->items[i].job->first_batch_ns = start;
    pthread_mutex_unlock(&e->lock);
    pack(e, n, &seqs);
    rc = rr_model_forward(e->model, &seqs, e->logits, &err);
    end = rr_now_ns();
    if (rc)
        rr_log(RR_ERROR, "device %s: %s", e->info.device, err.msg);
    else if (e->cache)
        remember(e, n);
    pthread_mutex_lock(&e->lock);
    e->stats.batches_done++;
    e->stats.pairs_done += n;
    e->stats.tokens_done += n_tokens;
    e->stats.compute_ns += end - start;
    e->stats.last_batch_ns = end;
    scatter(e, n, rc, &err);
}

void *rr_runner_main(void *arg)
{
    struct rr_engine *e = arg;

    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        uint32_t tokens, n;

        sweep(e);
        n = rr_batcher_take(&e->batcher, e->items, &tokens);
        if (n)
            run_batch(e, n, tokens);
        else if (!e->stop)
            pthread_cond_wait(&e->run_wake, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
