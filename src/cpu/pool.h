/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - a fixed team of workers.  Layer: cpu (L1).
 * Threads: whoever calls rr_pool_run is worker 0 of that run; several may share a pool. */
#ifndef RR_CPU_POOL_H
#define RR_CPU_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_pool;

#define RR_POOL_MAX 1024 /* threads */

/* n_threads >= 1 counts the owner.  Workers spin a little between jobs, then sleep.
 * When the team has one thread for each processor of the affinity mask, the workers are pinned,
 * one to each but the first; the owner, a thread of the caller's, is left alone and finds the free
 * one.  A smaller team is never pinned: any choice of processors would be worse than the
 * scheduler's, which knows who else runs and which of them share a core.  On a machine of several
 * memory nodes its workers are kept on the processors of their nodes, though.
 *
 * A team that is larger than what may run at once (affinity, quota) never spins, and neither does
 * one whose threads turn out to wait for processors: then whoever is waited for needs ours.  Such a
 * team is not pinned either.  This is looked at every second, and said once in the log. */
RR_NODISCARD int rr_pool_open(struct rr_pool **out, uint32_t n_threads, struct rr_error *err);
void rr_pool_close(struct rr_pool *p); /* NULL is allowed */
uint32_t rr_pool_size(const struct rr_pool *p);
uint32_t rr_pool_spin_ns(const struct rr_pool *p); /* how long a wait spins now */

/* Memory nodes that the workers are spread over, at least 1; the node of a worker, below that,
 * which for worker 0 is where the owner ran when the run began; the system's number of a node. */
uint32_t rr_pool_nodes(const struct rr_pool *p);
uint32_t rr_pool_node(const struct rr_pool *p, uint32_t worker);
uint32_t rr_pool_node_id(const struct rr_pool *p, uint32_t node);

/* Calls fn(user, worker) once on every worker (0 .. size-1) and returns when all are done.  Callers
 * that share the pool get it one after the other, as they came. */
typedef void rr_pool_fn(void *user, uint32_t worker);
void rr_pool_run(struct rr_pool *p, rr_pool_fn *fn, void *user);

/* For work that is cut into pieces which any worker takes, without a barrier: the same, unless
 * somebody else has the workers now.  Then the caller alone does it, as worker 0, and neither waits
 * for the other. */
void rr_pool_run_or_alone(struct rr_pool *p, rr_pool_fn *fn, void *user);

/* Within a run: waits until every worker of the pool has come here.  What was written before it is
 * visible to all after it. */
void rr_pool_barrier(struct rr_pool *p);

#endif
