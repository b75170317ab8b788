/* SPDX-License-Identifier: Apache-2.0 */
/* models.h - the engine in service, and the change to another one while requests go on.
 * Layer: server (L6).  Threads: any, unless a comment says otherwise.
 *
 * A request takes a lease on the engine in service and keeps it to its end, so that all of its
 * scores are of one model.  An engine that was replaced is closed after its last lease. */
#ifndef RR_SERVER_MODELS_H
#define RR_SERVER_MODELS_H

#include "base/attr.h"
#include "rerank.h"

struct rr_models;

RR_NODISCARD int rr_models_open(struct rr_models **out, struct rr_error *err);
/* Closes the engine.  No lease may be out.  NULL is allowed. */
void rr_models_close(struct rr_models *m);

/* The engine in service, NULL while there is none; it stays open until rr_models_give. */
struct rr_engine *rr_models_take(struct rr_models *m);
void rr_models_give(struct rr_models *m, struct rr_engine *engine); /* NULL is allowed */

/* Puts engine in service; on RR_OK it is m's.  The one before gets no further leases. */
RR_NODISCARD int rr_models_switch(struct rr_models *m, struct rr_engine *engine,
                                  struct rr_error *err);

/* Closes the engines that were replaced, each after its last lease.  One thread at a time. */
void rr_models_settle(struct rr_models *m);
/* Makes rr_models_settle return, now and later: what is left is closed by rr_models_close. */
void rr_models_stop(struct rr_models *m);

/* Counters summed over all engines there ever were, so that they never fall; queues and caches of
 * those that are open.  False: there has been none. */
bool rr_models_stats(struct rr_models *m, struct rr_stats *out);

#endif
