/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the engine's inside, shared by the files of this folder only.
 * Layer: engine (L5).
 *
 * Flow:  rr_submit -> prep queue -> prep threads (tokenize a slice, requeue) -> batcher ->
 *        runner (one thread; owns the devices, in a team for its turn) -> the job's next phase,
 *        or on_done.
 *        The timer ends jobs that are late or cancelled, the medic reopens lost devices.
 * One lock guards the queues, the units in flight and every job; nobody tokenizes, computes or
 * calls back while holding it. */
#ifndef RR_ENGINE_ENGINE_H
#define RR_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cache/tiers.h"
#include "engine/batcher.h"
#include "engine/job.h"
#include "engine/net.h"
#include "rerank.h"
#include "tok/tok.h"

#define RR_STALL_NS (30 * RR_SECOND) /* where the options do not say */

enum { RR_MAX_PREP_THREADS = 256, RR_MAX_BATCH_PAIRS = 1024 };

/* ---- lanes ----------------------------------------------------------------------------------- */

enum rr_lane_state {
    RR_LANE_OK,    /* net serves */
    RR_LANE_SPARE, /* net was lost, the CPU serves */
    RR_LANE_DOWN   /* net was lost, nobody serves */
};

/* A precision.  net is the runner's while state is RR_LANE_OK and the medic's otherwise; spare is
 * the runner's. */
struct rr_lane {
    /* constant after rr_open */
    bool exists;
    char device[32], dtype[16]; /* of net, to open it again */
    float probe;                /* what net must answer then */

    struct rr_net net, spare;

    /* under the lock */
    enum rr_lane_state state;
    uint64_t fingerprint; /* of who serves, tokenizer included */
    char why[128];        /* what happened to net, when not OK */
    uint64_t reopen_ns, backoff_ns;
    struct rr_batcher batcher;
    double least_ns_per_token, mean_ns_per_token; /* 0: not measured */
};

/* ---- units in flight ------------------------------------------------------------------------- */

enum { RR_UNIT_BUCKETS = 8192, RR_POISON = 64 };

/* A pair that broke its batch, not to be tried again for a while. */
struct rr_poison {
    struct rr_key key;
    uint64_t until_ns;
    int code;
};

struct rr_units {
    struct rr_unit *buckets[RR_UNIT_BUCKETS];
    struct rr_poison poison[RR_POISON]; /* a ring */
    uint32_t n_poison;
};

/* ---- engine ---------------------------------------------------------------------------------- */

struct rr_engine {
    /* constant after rr_open */
    struct rr_info info;
    struct rr_tok *tok;
    uint64_t tok_fingerprint;
    struct rr_pairing pairing;
    unsigned tok_flags;
    struct rr_tiers cache;
    struct rr_limits limits;
    char *folder, *dtype, *isa; /* of the options, to open a device again */
    uint32_t option_threads;
    bool fallback;
    size_t queue_tokens, queue_requests, queue_bytes;
    uint64_t stall_ns;
    bool rescoring;     /* the rescore lane exists */
    bool exact;         /* the main lane computes in f32: every top k is exact */
    int32_t *probe_ids; /* [probe.n_tokens], then types */
    uint32_t probe_cu[2];
    struct rr_sequences probe;
    struct rr_team *team;     /* NULL: it shares nothing */
    struct rr_member *member; /* its place there */

    pthread_t runner, timer, medic;
    pthread_t prep[RR_MAX_PREP_THREADS];
    uint32_t n_prep;
    bool runner_started, timer_started, medic_started;

    pthread_mutex_t lock;
    pthread_cond_t prep_wake;  /* the prep queue got a job, or stop */
    pthread_cond_t run_wake;   /* something is ready, a probe is wanted, or stop */
    pthread_cond_t timer_wake; /* a cancel, an earlier deadline, a run began, or stop */
    pthread_cond_t medic_wake; /* a lane was lost, or stop */
    pthread_cond_t idle;       /* unfinished became 0, or the runner ended */

    /* under the lock */
    struct rr_lane lanes[RR_LANES];
    enum rr_lane_id last_lane; /* that a batch was taken from */
    struct rr_flows prep_queue;
    struct rr_units units;
    rr_job *all;         /* every job in flight */
    size_t unfinished;   /* jobs whose on_done has not returned */
    size_t queue_text;   /* bytes of texts of jobs in flight */
    uint64_t timer_next; /* when the timer wakes by itself */
    bool cancels;        /* a job was cancelled since the timer looked */
    struct rr_stats stats;
    float drift;          /* bound between the lanes; only grows */
    uint64_t good_ns;     /* end of the last forward that was well */
    uint64_t progress_ns; /* end of the last batch, or when the first job of an idle engine came */
    uint64_t asked_ns;    /* since when a probe is wanted; 0: none is */
    bool stalled;         /* the run in progress takes too long */
    bool asking;          /* the runner waits for its turn in the team */
    bool closing;         /* no new jobs */
    bool stop;            /* threads end; only when no job is left */
    bool runner_done;

    /* Written by the runner, read by the timer.  Relaxed: only the age of a run matters. */
    _Atomic uint64_t run_since;  /* 0: nothing runs */
    _Atomic uint64_t run_budget; /* nanoseconds after which it counts as hung */

    /* the runner's alone: what one batch needs, allocated in rr_open */
    struct rr_unit **batch;      /* [RR_MAX_BATCH_PAIRS] */
    struct rr_outcome *outcomes; /* [RR_MAX_BATCH_PAIRS] */
    int32_t *ids, *types;        /* [batch_tokens] */
    uint32_t *cu_seqlens;        /* [RR_MAX_BATCH_PAIRS + 1] */
    float *logits;               /* [RR_MAX_BATCH_PAIRS] */

    /* held while a device is asked for figures, or closed by the medic; taken before lock */
    pthread_mutex_t device_lock;

    /* rr_tokenize is rare: its scratch is shared */
    pthread_mutex_t tokenize_lock;
    struct rr_tok_scratch *tokenize_scratch;
};

/* ---- setup.c: everything that rr_open and rr_inspect decide before threads start ------------- */

struct rr_setup {
    struct rr_team *team;
    struct rr_net nets[RR_LANES];
    struct rr_tok *tok;
    struct rr_pairing pairing;
    struct rr_limits limits;
    struct rr_info info;
    bool rescoring;
};
/* team: whose compute threads it uses; NULL: threads of its own. */
RR_NODISCARD int rr_setup_open(struct rr_setup *s, const struct rr_options *opt,
                               struct rr_team *team, struct rr_error *err);
void rr_setup_close(struct rr_setup *s);

/* ---- submit.c: a request on its way in ------------------------------------------------------- */

void rr_job_drop(rr_job *job); /* NULL is allowed */

/* ---- finish.c: and on its way out.  All with the lock held ----------------------------------- */

/* Records the first error of a job. */
void rr_job_fail(rr_job *job, int code, const char *msg);

/* A thread that has held the job lets go: the job goes on to its next phase or ends, if it can.
 * Releases the lock meanwhile.  The caller must not touch the job afterwards. */
void rr_job_release(struct rr_engine *e, rr_job *job);

/* The job should end now, with its error or with what it has.  If somebody holds it, that happens
 * when it is released.  Releases the lock meanwhile. */
void rr_job_end(struct rr_engine *e, rr_job *job);

/* ---- units.c: with the lock held ------------------------------------------------------------- */

/* Makes want wait for its unit, which is new and the caller's, or for an equal one in flight.
 * Takes the unit over.  false: an equal one was there. */
bool rr_units_join(struct rr_engine *e, struct rr_want *want);
/* The want gives up waiting; a unit that nobody waits for or computes is freed. */
void rr_units_leave(struct rr_engine *e, struct rr_want *want);
/* The unit can no longer be found: it is done. */
void rr_units_remove(struct rr_engine *e, struct rr_unit *unit);

/* RR_OK, or the code that the pair failed with a short time ago. */
int rr_poison_find(const struct rr_engine *e, struct rr_key key, uint64_t now);
void rr_poison_add(struct rr_engine *e, struct rr_key key, int code, uint64_t now);

/* ---- prep.c, slice.c ------------------------------------------------------------------------- */

/* Memory that prep keeps with a job; false when it is short. */
RR_NODISCARD bool rr_prep_job_init(rr_job *job);
/* Puts the job at the end of the prep queue and wakes a thread.  Lock held. */
void rr_prep_push(struct rr_engine *e, rr_job *job);
void *rr_prep_main(void *engine);

struct rr_worker { /* a prep thread's own */
    struct rr_engine *e;
    struct rr_tok_scratch *query_scratch, *doc_scratch;
    int32_t *ids, *types;  /* [max_length] one pair */
    struct rr_want *wants; /* [cap] of the slice in work */
    size_t n_wants, cap;
};

/* Documents tokenized before the job goes to the back of the queue: a large request delays a small
 * one behind it by the time of one slice, about 10 ms. */
enum { RR_SLICE = 32 };

/* A slice of a job's phase: documents todo[begin, end). */
struct rr_slice {
    struct rr_worker *w;
    rr_job *job;
    size_t begin, end;
    uint64_t fingerprint; /* of the lane */
    uint32_t n_cached, n_duplicates;
    struct rr_want_block *block; /* the outcome */
};

/* Prepares the slice.  The job is held, the lock is not.  On failure nothing is left. */
RR_NODISCARD int rr_slice_run(struct rr_slice *s, struct rr_error *err);

/* ---- runner.c, care.c, timer.c --------------------------------------------------------------- */

struct rr_outcome { /* of a unit in the runner's batch */
    float logit;
    int code;             /* RR_OK: logit is finite */
    uint64_t fingerprint; /* of the network that computed it */
};

/* There is work for the runner, or more than there was.  Lock held. */
void rr_runner_wake(struct rr_engine *e);
void *rr_runner_main(void *engine);
void *rr_timer_main(void *engine);
void *rr_medic_main(void *engine);

/* drift.c: the bound of the difference between the lanes, from the options, the model folder or a
 * measurement.  Before the threads start. */
RR_NODISCARD int rr_drift_open(struct rr_engine *e, const struct rr_options *opt,
                               struct rr_error *err);

/* One forward of e->batch[first, first + n) on net; fills their outcomes if it ends well.  Runner
 * only, lock not held. */
RR_NODISCARD int rr_forward(struct rr_engine *e, struct rr_net *net, uint32_t first, uint32_t n,
                            struct rr_error *err);

/* Computes the batch, come what may: parts, other devices, errors for single units.  Fills the
 * outcomes; err has the message of the last failure.  Runner only, lock not held. */
void rr_compute(struct rr_engine *e, enum rr_lane_id lane, uint32_t n, struct rr_error *err);

/* Asks the network that serves the lane for proof of life and acts on a failure.  Runner only, lock
 * not held. */
bool rr_check_lane(struct rr_engine *e, enum rr_lane_id lane);

/* Time in which a batch of so many tokens must end.  Lock held. */
uint64_t rr_run_budget(const struct rr_engine *e, enum rr_lane_id lane, uint32_t n_tokens);

/* pthread_cond_wait until when_ns of the monotonic clock, which cond must use; UINT64_MAX: for
 * ever. */
void rr_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t when_ns);

#endif
