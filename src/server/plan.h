/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - what memory of the machine the server can come to need, against what it may have.  What
 * lies on GPUs does not count; blocks of theirs on this side, for batches, are below a MiB.
 * Layer: server (L6).  Threads: one, before the first request is served. */
#ifndef RR_SERVER_PLAN_H
#define RR_SERVER_PLAN_H

#include "server/server.h"

struct rr_plan { /* bytes */
    uint64_t weights, mapped, workspace, cache;
    uint64_t bodies;      /* --max-inflight-bytes, as sent and as parsed */
    uint64_t connections; /* if all of --max-connections are in use */
    uint64_t need;        /* what cannot be given back: all but mapped files and connections */
    uint64_t models;      /* all models may take, as rr_models_bytes counts; 0: not limited */
    uint64_t limit;       /* of the control group, else of the machine; 0: not known */
};

/* host: what the machine has.  max_inflight: set to what --max-inflight-bytes 0 means here.
 * RR_ENOMEM with the numbers when the plan cannot work. */
RR_NODISCARD int rr_plan_make(struct rr_plan *p, const struct rr_settings *settings,
                              const struct rr_info *info, const struct rr_host *host,
                              size_t *max_inflight, struct rr_error *err);

/* The lines about it in the log, and about the engine's devices that have memory of their own. */
void rr_plan_say(const struct rr_console *c, const struct rr_plan *p, struct rr_engine *engine);

#endif
