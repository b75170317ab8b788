/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the engine's inside, shared by the files of this folder only.
 * Layer: engine (L5).
 *
 * Flow:  rr_submit -> prep queue -> prep threads (choose a kind of lanes, tokenize a slice,
 *        requeue) -> the kind's batcher -> a lane's runner (one thread for each device, in a team
 *        for its turn) -> the job's next phase, or on_done.
 *        The timer ends jobs that are late or cancelled and notices lanes that hang.
 * One lock guards the queues, the units in flight and every job; nobody tokenizes, computes or
 * calls back while holding it. */
#ifndef RR_ENGINE_ENGINE_H
#define RR_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cache/tiers.h"
#include "engine/batcher.h"
#include "engine/devices.h"
#include "engine/dispatch.h"
#include "engine/job.h"
#include "engine/net.h"
#include "rerank.h"
#include "tok/tok.h"

#define RR_STALL_NS (30 * RR_SECOND) /* where the options do not say */

enum { RR_MAX_PREP_THREADS = 256, RR_MAX_BATCH_PAIRS = 1024 };

/* ---- lanes ----------------------------------------------------------------------------------- */

/* A device that computes, with a thread of its own (its runner).  Beside the devices that were
 * asked for there may be one in reserve: the CPU, opened when none of them is in service. */

enum { RR_MAX_LANES = RR_MAX_DEVICES + 1 };

enum rr_lane_state {
    RR_LANE_ASLEEP, /* in reserve, not opened yet */
    RR_LANE_UP,
    RR_LANE_HUNG, /* the run in progress takes too long; its pairs were given to others */
    RR_LANE_DOWN  /* it failed; its runner opens it again, later */
};

/* Lanes that give the same bits: whichever of them computes a pair.  A job belongs to one kind. */
struct rr_kind {
    /* constant once it has a lane */
    uint64_t fingerprint[RR_PASSES]; /* of the networks, tokenizer included */
    bool rescoring;                  /* there is a second pass */
    bool exact;                      /* the first one computes in f32: every top k is exact */
    bool reserve;                    /* its lane is the one in reserve */
    float probe[RR_PASSES];          /* what its networks answer */

    /* under the lock */
    uint32_t n_up; /* lanes in service */
    struct rr_batcher batchers[RR_PASSES];
    uint64_t waiting;       /* tokens of units that no lane has taken */
    uint32_t waiting_pairs; /* ... and how many these are */
    uint64_t charged;       /* tokens of its jobs that are not computed, as far as known */
    float drift;            /* bound between its passes; only grows */
};

struct rr_lane {
    /* constant after rr_open */
    struct rr_engine *engine;
    bool reserve;
    char device[RR_DEVICE_NAME];  /* as it is opened again */
    char name[32];                /* "cuda:0" */
    char dtype[RR_PASSES][16];    /* of the networks; empty: there is none */
    char hardware[128], isa[32];  /* ... and of the device */
    uint32_t threads;
    uint64_t memory_total;
    struct rr_limits limits;      /* of a batch */
    struct rr_memory memory;      /* that the networks take */
    struct rr_member *member;     /* its place in the team; NULL: there is no team */
    pthread_t runner;
    bool runner_started;

    /* the runner's; who asks for figures of a device has the device lock */
    struct rr_net nets[RR_PASSES];
    float probe[RR_PASSES]; /* what they must answer when they are opened again */
    bool probed;
    float drift; /* of the reserve: the bound between its passes; 0: not known yet */

    /* under the lock */
    pthread_cond_t wake;  /* there is work, or a probe or the reserve is wanted, or stop */
    struct rr_kind *kind; /* NULL: in reserve, not opened yet */
    enum rr_lane_state state;
    char why[128]; /* what happened, when it is not in service */
    uint64_t reopen_ns, backoff_ns;
    double mean_ns, mean_tokens; /* of the last few batches; 0: not measured */
    double least_ns_per_token; /* of large batches: what small ones take is the device's base */
    uint32_t n_large;          /* how many there were */
    uint64_t large_ns;         /* end of the last one */
    struct rr_speed speed;
    enum rr_pass last_pass; /* that a batch was taken from */
    uint64_t good_ns;       /* end of the last forward that was well */
    uint64_t asked_ns;      /* since when a probe is wanted; 0: none is */
    uint64_t asking_ns;     /* since when it waits for its turn in the team; 0: it does not */
    uint64_t taken_ns;      /* when the batch in hand was taken */
    uint32_t in_hand;       /* units of the batch in hand; 0: none, or it was taken from it */
    uint32_t tokens;        /* ... and their tokens */
    bool holding;           /* it leaves what waits to others, for a moment */
    bool done;              /* the runner has ended */
    uint64_t batches, pairs, tokens_done, errors, compute_ns;

    /* Written by the runner, read by the timer. */
    _Atomic uint64_t run_since;  /* 0: nothing runs.  Released when the units have been read: who
                                    sees that a run began may give them to others */
    _Atomic uint64_t run_budget; /* nanoseconds after which it counts as hung.  Relaxed */

    /* What one batch needs: units under the lock, the rest the runner's alone.  Allocated in
     * rr_open */
    struct rr_unit **batch;      /* [RR_MAX_BATCH_PAIRS] */
    struct rr_outcome *outcomes; /* [RR_MAX_BATCH_PAIRS] */
    int32_t *ids, *types;        /* [limits.max_tokens] */
    uint32_t *cu_seqlens;        /* [RR_MAX_BATCH_PAIRS + 1] */
    float *logits;               /* [RR_MAX_BATCH_PAIRS] */
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
    uint64_t model_fingerprint; /* of the files at the start; 0: the null network */
    struct rr_pairing pairing;
    unsigned tok_flags;
    struct rr_tiers cache;
    char *folder, *dtype, *isa; /* of the options, to open a device again */
    uint32_t option_threads, option_batch_tokens;
    size_t queue_tokens, queue_requests, queue_bytes;
    uint64_t stall_ns;
    float option_drift; /* 0: not given */
    bool rescoring;     /* some kind of lanes has a second pass */
    bool can_be_exact;  /* each has one, or needs none */
    int32_t *probe_ids; /* [probe.n_tokens], then types */
    uint32_t probe_cu[2];
    struct rr_sequences probe;
    struct rr_team *team; /* NULL: it shares nothing */
    uint32_t n_devices;   /* lanes that were asked for: the first ones */
    uint32_t n_lanes;     /* ... and the one in reserve */

    pthread_t timer;
    pthread_t prep[RR_MAX_PREP_THREADS];
    uint32_t n_prep;
    bool timer_started;

    pthread_mutex_t lock;
    pthread_cond_t prep_wake;  /* the prep queue got a job, or stop */
    pthread_cond_t timer_wake; /* a cancel, an earlier deadline, a run began, or stop */
    pthread_cond_t idle;       /* unfinished became 0, or a runner ended */

    /* under the lock */
    struct rr_lane *lanes;                 /* [n_lanes] */
    struct rr_kind *kinds[RR_MAX_LANES];   /* in the order of their first lanes */
    uint32_t n_kinds;
    uint32_t losses; /* times that a lane was lost with a batch in hand */
    struct rr_flows prep_queue;
    struct rr_units units;
    rr_job *all;         /* every job in flight */
    size_t unfinished;   /* jobs whose on_done has not returned */
    size_t queue_text;   /* bytes of texts of jobs in flight */
    uint64_t timer_next; /* when the timer wakes by itself */
    bool cancels;        /* a job was cancelled since the timer looked */
    struct rr_stats stats;
    uint64_t progress_ns; /* end of the last batch, or when the first job of an idle engine came */
    bool closing;         /* no new jobs */
    bool stop;            /* threads end; only when no job is left */

    /* held while a device is asked for figures, or closed by its runner; taken before lock */
    pthread_mutex_t device_lock;

    /* rr_tokenize is rare: its scratch is shared */
    pthread_mutex_t tokenize_lock;
    struct rr_tok_scratch *tokenize_scratch;
};

/* ---- setup.c: everything that rr_open and rr_inspect decide before threads start ------------- */

struct rr_setup_lane {
    char device[RR_DEVICE_NAME];
    struct rr_net nets[RR_PASSES];
    struct rr_limits limits;
    struct rr_memory memory;
    bool rescoring;
};

struct rr_setup {
    struct rr_team *team;
    struct rr_setup_lane *lanes; /* [n_lanes] */
    uint32_t n_lanes;
    struct rr_tok *tok;
    struct rr_pairing pairing;
    struct rr_info info;
};
/* team: whose compute threads it uses; NULL: threads of its own. */
RR_NODISCARD int rr_setup_open(struct rr_setup *s, const struct rr_options *opt,
                               struct rr_team *team, struct rr_error *err);
void rr_setup_close(struct rr_setup *s);

/* stall_ns of the options, or its default; may be added to any time. */
uint64_t rr_setup_stall(const struct rr_options *opt);

/* Whether a network in dtype is given a second one: not if it is in that precision already, nor if
 * it is in f32, which there is nothing above.  rescore_dtype: NULL, "" or "none" for none. */
bool rr_setup_rescores(const char *dtype, const char *rescore_dtype);

/* Refuses before the kernel's out-of-memory killer does.  need: bytes on the CPU.  Mapped files are
 * not counted: the kernel can drop their pages.  RR_ENOMEM says what is needed and what there
 * is. */
RR_NODISCARD int rr_setup_room(const char *model, const struct rr_memory *need,
                               struct rr_error *err);

/* What batches on a device may have; the pair of info.max_length always fits. */
struct rr_limits rr_setup_limits(const struct rr_info *info, uint32_t wanted_tokens,
                                 const struct rr_net *net);

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
/* As if no document had been seen. */
void rr_prep_job_forget(rr_job *job);
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
    uint32_t n_cached, n_duplicates;
    struct rr_want_block *block; /* the outcome */
};

/* Prepares the slice.  The job is held, the lock is not.  On failure nothing is left. */
RR_NODISCARD int rr_slice_run(struct rr_slice *s, struct rr_error *err);

/* ---- lanes.c: with the lock held ------------------------------------------------------------- */

/* Which kind computes the job: the one that would end it first.  Without a lane in service, the
 * first kind: scores may be cached. */
void rr_lanes_choose(struct rr_engine *e, rr_job *job);
/* Corrects what the job is charged for at its kind; at its end: 0. */
void rr_lanes_charge(rr_job *job);
void rr_lanes_discharge(rr_job *job);

/* The unit waits for a lane (sign 1), or no longer does (-1). */
void rr_kind_waits(const struct rr_unit *u, int sign);
/* There is work for the kind's lanes, or more than there was; for this lane. */
void rr_lanes_wake(struct rr_engine *e, const struct rr_kind *kind);
void rr_lane_wake(struct rr_lane *lane);
/* What waits for the lane; false: nothing does. */
bool rr_lane_claim(const struct rr_lane *lane, struct rr_claim *claim);
/* Nanoseconds for which a free lane should leave what waits to others; 0: it should take it, about
 * *part tokens at most. */
uint64_t rr_lane_hold(const struct rr_lane *lane, uint64_t now, uint32_t *part);
/* Of the last few batches, large ones counting for more; 0: not measured. */
double rr_lane_ns_per_token(const struct rr_lane *lane);
/* What the pace of a batch of the lane says of its kind. */
void rr_lane_pace(const struct rr_lane *lane, struct rr_pace *pace);

/* Gives the lane the kind that its networks and their probes are of, a new one if need be. */
RR_NODISCARD int rr_lane_join(struct rr_lane *lane, struct rr_error *err);
/* The lane takes up service, or leaves it for that state. */
void rr_lane_up(struct rr_lane *lane);
void rr_lane_lost(struct rr_lane *lane, enum rr_lane_state state, const char *why);
/* Units of a lost lane's batch wait again. */
void rr_units_give_back(struct rr_engine *e, struct rr_unit *const *units, uint32_t n);

/* Is some lane in service that may compute? */
bool rr_lanes_any(const struct rr_engine *e);
/* No device that was asked for is in service. */
bool rr_reserve_wanted(const struct rr_engine *e);
/* The reserve may still come, for the first time. */
bool rr_reserve_comes(const struct rr_engine *e);
/* None is in service, and one hangs. */
bool rr_lanes_stalled(const struct rr_engine *e);
/* What is out of service and who serves; empty: all are in service. */
void rr_lanes_why(const struct rr_engine *e, char *out, size_t cap);

/* After a lane was lost or came back: jobs whose kind has no lane start anew at another one, or
 * fail.  Releases the lock meanwhile. */
void rr_jobs_rescue(struct rr_engine *e);

/* ---- runner.c, care.c, mend.c, timer.c ------------------------------------------------------- */

struct rr_outcome { /* of a unit in a lane's batch */
    float logit;
    int code;  /* RR_OK: logit is finite */
    bool lost; /* not computed: the device was lost */
};

void *rr_runner_main(void *lane);
void *rr_timer_main(void *engine);

/* Memory of a lane for its batches; rr_lane_free undoes it. */
RR_NODISCARD int rr_lane_alloc(struct rr_lane *lane, struct rr_error *err);
void rr_lane_free(struct rr_lane *lane);

/* Takes over what is known of the device. */
void rr_lane_describe(struct rr_lane *lane);

/* Loads the networks, warms them up and takes their probes; the first time, also measures.  The
 * runner's, or before it starts. */
RR_NODISCARD int rr_lane_load(struct rr_lane *lane, struct rr_error *err);
/* drift.c: the bound of the difference between the passes of every kind, from the options, the
 * model folder or a measurement.  Before the threads start. */
RR_NODISCARD int rr_drift_open(struct rr_engine *e, struct rr_error *err);
/* The bound for the lane in reserve, when it is loaded.  Runner only, lock not held. */
RR_NODISCARD int rr_drift_reserve(struct rr_lane *lane, struct rr_error *err);

/* One forward of the lane's batch[first, first + n); fills their outcomes if it ends well.  Runner
 * only, lock not held. */
RR_NODISCARD int rr_forward(struct rr_lane *lane, enum rr_pass pass, uint32_t first, uint32_t n,
                            struct rr_error *err);

/* Computes the batch in hand, in parts if need be.  Fills the outcomes; err has the message of the
 * last failure.  false: the device was lost, some outcomes say so.  Runner only, lock not held. */
bool rr_compute(struct rr_lane *lane, enum rr_pass pass, uint32_t n, struct rr_error *err);

/* Asks the lane's networks for proof of life and takes it out of service if they fail.  Runner
 * only, lock not held. */
bool rr_check_lane(struct rr_lane *lane);

/* One try to bring a lane that is out of service, or in reserve, into it.  Runner only; lock held,
 * released meanwhile. */
void rr_lane_mend(struct rr_lane *lane);

/* Time in which a batch of so many tokens must end.  Lock held. */
uint64_t rr_run_budget(const struct rr_lane *lane, uint32_t n_tokens);
/* When the lane's run in progress counts as hung; UINT64_MAX: nothing runs, or it does already.
 * Lock held. */
uint64_t rr_run_end(const struct rr_lane *lane);

/* pthread_cond_wait until when_ns of the monotonic clock, which cond must use; UINT64_MAX: for
 * ever. */
void rr_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t when_ns);

#endif
