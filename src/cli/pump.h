/* SPDX-License-Identifier: Apache-2.0 */
/* pump.h - keeps an engine busy with requests and gives their results back in order, in bounded
 * memory.  Layer: cli (L6).  Threads: one; on_done is called from the engine's. */
#ifndef RR_CLI_PUMP_H
#define RR_CLI_PUMP_H

#include "base/arena.h"
#include "rerank.h"

struct rr_pump;

/* Takes the limits of the engine's queue away, before it is opened: they are a server's, may come
 * from its environment or file, and would refuse what a pump or a block holds. */
void rr_pump_limits(struct rr_options *opt);

struct rr_pump_job {
    struct rr_arena arena;     /* the caller's, for texts and anything of this request */
    struct rr_request request; /* the caller fills it between next and submit */
    struct rr_result *result;  /* given to take; the pump frees it */
    void *user;                /* the caller's, e.g. in arena */
    /* Private. */
    struct rr_pump *pump;
    struct rr_error err;
    bool done; /* pump's lock */
};

/* Called for each job in the order of submission, from next, submit or finish.  An error ends the
 * pump: no further call. */
typedef int rr_pump_take_fn(void *user, struct rr_pump_job *job, struct rr_error *err);

RR_NODISCARD int rr_pump_open(struct rr_pump **out, struct rr_engine *engine, rr_pump_take_fn *take,
                              void *user, struct rr_error *err);
void rr_pump_close(struct rr_pump *p); /* waits for what is in the engine; NULL is allowed */

/* An empty job; waits for older ones when too many texts are in flight. */
RR_NODISCARD int rr_pump_next(struct rr_pump *p, struct rr_pump_job **out, struct rr_error *err);
RR_NODISCARD int rr_pump_submit(struct rr_pump *p, struct rr_error *err); /* the job of next */
RR_NODISCARD int rr_pump_finish(struct rr_pump *p, struct rr_error *err);

#endif
