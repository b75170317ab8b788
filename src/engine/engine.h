/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the engine's inside, shared by the files of this folder only.
 * Layer: engine (L5).
 *
 * Flow:  rr_submit -> prep queue -> prep threads (tokenize a slice, requeue) -> batcher ring ->
 *        runner (one thread, owns device and model) -> on_done.
 * One lock guards the queues and every job's counters; nobody tokenizes, computes or calls back
 * while holding it. */
#ifndef RR_ENGINE_ENGINE_H
#define RR_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdbool.h>

#include "cache/lru.h"
#include "engine/batcher.h"
#include "engine/job.h"
#include "model/model.h"
#include "rerank.h"
#include "rerank_backend.h"
#include "tok/tok.h"

enum { RR_MAX_PREP_THREADS = 256, RR_MAX_BATCH_PAIRS = 1024 };

struct rr_engine {
    /* constant after rr_open */
    struct rr_info info;
    struct rr_model *model;
    struct rr_tok *tok;
    const struct rr_backend *backend;
    struct rr_device *device;
    unsigned tok_flags;
    struct rr_lru *cache;       /* NULL: none */
    uint64_t score_fingerprint; /* of all that scores depend on besides a request */
    size_t queue_tokens, queue_requests;
    pthread_t runner;
    pthread_t prep[RR_MAX_PREP_THREADS];
    uint32_t n_prep;
    bool runner_started;

    pthread_mutex_t lock;
    pthread_cond_t prep_wake; /* the prep queue got a job, or stop */
    pthread_cond_t run_wake;  /* something is ready, cancelled or late, or stop */
    pthread_cond_t idle;      /* unfinished became 0 */

    /* under the lock */
    rr_job *prep_head, *prep_tail;
    rr_job *all;       /* every job in flight */
    size_t unfinished; /* jobs whose on_done has not returned */
    struct rr_batcher batcher;
    struct rr_stats stats;
    bool closing; /* no new jobs */
    bool stop;    /* threads end; only when no job is left */

    /* the runner's alone: what one batch needs, allocated in rr_open */
    struct rr_batch_item *items; /* [RR_MAX_BATCH_PAIRS] */
    int32_t *ids, *types;        /* [batch_tokens] */
    uint32_t *cu_seqlens;        /* [RR_MAX_BATCH_PAIRS + 1] */
    float *logits;               /* [RR_MAX_BATCH_PAIRS] */

    /* rr_tokenize is rare: its scratch is shared */
    pthread_mutex_t tokenize_lock;
    struct rr_tok_scratch *tokenize_scratch;
};

/* open.c: everything that rr_open and rr_inspect decide before threads start. */
struct rr_setup {
    struct rr_model *model;
    struct rr_tok *tok;
    const struct rr_backend *backend;
    struct rr_device *device;
    struct rr_limits limits;
    struct rr_info info;
};
RR_NODISCARD int rr_setup_open(struct rr_setup *s, const struct rr_options *opt,
                               struct rr_error *err);
void rr_setup_close(struct rr_setup *s);

/* Memory that prep keeps with a job; false when it is short. */
RR_NODISCARD bool rr_prep_job_init(rr_job *job);

/* Puts the job at the end of the prep queue; wakes nobody.  Lock held. */
void rr_prep_push(struct rr_engine *e, rr_job *job);

void *rr_prep_main(void *engine);
void *rr_runner_main(void *engine);

/* Ends a job whose work is over and that no thread holds: fills the result or takes its error,
 * counts, calls on_done, frees.  Called with the lock held, which is released during the call. */
void rr_job_finish(struct rr_engine *e, rr_job *job);

/* Records the first error of a job.  Lock held. */
void rr_job_fail(rr_job *job, int code, const char *msg);

#endif
