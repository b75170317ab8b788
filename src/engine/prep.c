/* SPDX-License-Identifier: Apache-2.0 */
/* prep.c - prep threads and their queue: a slice of a job at a time, tenants and jobs in turn.
 * Layer: engine (L5).  Threads: n_prep of them, each with its own tokenizer scratch. */
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"

static void worker_close(struct rr_worker *w)
{
    rr_tok_scratch_close(w->query_scratch);
    rr_tok_scratch_close(w->doc_scratch);
    rr_free(w->ids);
    rr_free(w->types);
    rr_free(w->wants);
}

static int worker_open(struct rr_worker *w, struct rr_engine *e, struct rr_error *err)
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

/* ---- queue --------------------------------------------------------------------------------- */

/* The next job of the next tenant leaves the queue. */
static rr_job *pop(struct rr_engine *e)
{
    enum rr_class order[RR_CLASSES];
    struct rr_flow *flow = NULL;
    struct rr_node *node;
    int c;

    rr_flows_order(rr_flows_lead(++e->prep_queue.turn), order);
    for (c = 0; c < RR_CLASSES && !flow; c++) flow = e->prep_queue.rings[order[c]];
    node = flow->first;
    rr_flows_rotate(flow);
    rr_flows_remove(node);
    return node->job;
}

void rr_prep_push(struct rr_engine *e, rr_job *job)
{
    rr_flows_add(&e->prep_queue, &job->prep, job, job->class, job->req.tenant);
    pthread_cond_signal(&e->prep_wake);
}

/* ---- one slice ----------------------------------------------------------------------------- */

/* Joins a want to its unit; pairs that broke a batch lately are not tried again. */
static void join(struct rr_engine *e, rr_job *job, struct rr_want *want, uint64_t now)
{
    int code;

    if (want->done) {
        job->n_done++;
        return;
    }
    code = rr_poison_find(e, want->unit->key, now);
    if (code) rr_job_fail(job, code, "a document made the device fail a short time ago");
    job->tokens_left += want->tokens;
    if (!rr_units_join(e, want)) job->result->n_coalesced++;
}

/* Takes the outcome of a slice over into the job.  Lock held. */
static void publish(struct rr_engine *e, const struct rr_slice *s, uint64_t now)
{
    rr_job *job = s->job;
    struct rr_want_block *b = s->block;
    size_t i, done = job->n_done;

    *job->blocks_end = b;
    job->blocks_end = &b->next;
    if (!job->at) job->at = b;
    for (i = 0; i < b->n; i++) join(e, job, &b->wants[i], now);
    job->n_wants += b->n;
    job->n_prepared = s->end;
    job->result->n_cached += s->n_cached;
    if (job->pass == RR_PASS_RESCORE) job->result->n_rescored += b->n - s->n_cached;
    job->result->n_duplicates += s->n_duplicates;
    if (job->n_done - done < b->n && !job->ready_ns) job->ready_ns = now;
    rr_lanes_charge(job);
    if (job->err.code || job->canceled) return;
    rr_batcher_add(&job->kind->batchers[job->pass], job);
    if (job->batch.flow) rr_lanes_wake(e, job->kind);
}

/* One slice of one job.  Lock held on entry and exit, released while tokenizing. */
static void serve(struct rr_worker *w, rr_job *job)
{
    struct rr_engine *e = w->e;
    struct rr_error err = { 0 };
    uint64_t start = rr_now_ns(), now;
    struct rr_slice s = {
        .w = w,
        .job = job,
        .begin = job->n_prepared,
        .end = RR_MIN(job->n_prepared + RR_SLICE, job->n_todo),
    };
    int rc;

    job->holds++;
    if (!job->kind) rr_lanes_choose(e, job);
    pthread_mutex_unlock(&e->lock);
    if (e->team) rr_team_prep_enter(e->team);
    rc = rr_slice_run(&s, &err);
    if (e->team) rr_team_prep_leave(e->team);
    now = rr_now_ns();
    pthread_mutex_lock(&e->lock);
    job->tokenize_ns += now - start;
    if (rc)
        rr_job_fail(job, rc, err.msg);
    else
        publish(e, &s, now);
    if (!job->err.code && !job->hopeless && job->n_prepared < job->n_todo) rr_prep_push(e, job);
    rr_job_release(e, job);
}

void *rr_prep_main(void *arg)
{
    struct rr_engine *e = arg;
    struct rr_worker w;
    struct rr_error err = { 0 };
    int rc = worker_open(&w, e, &err);

    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        rr_job *job;

        if (rr_flows_empty(&e->prep_queue)) {
            pthread_cond_wait(&e->prep_wake, &e->lock);
            continue;
        }
        job = pop(e);
        if (rc) { /* no scratch: this thread can only say so */
            rr_job_fail(job, rc, err.msg);
            rr_job_end(e, job);
            continue;
        }
        serve(&w, job);
    }
    pthread_mutex_unlock(&e->lock);
    worker_close(&w);
    return NULL;
}
