/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h - sums of what engines count.  Layer: server (L6).  Threads: pure. */
#ifndef RR_SERVER_STATS_H
#define RR_SERVER_STATS_H

#include "rerank.h"

/* The counters of b are added to a; what is a state and not a count is left alone. */
void rr_stats_add_counters(struct rr_stats *a, const struct rr_stats *b);
/* The states of b are added to a: what is queued and what is cached. */
void rr_stats_add_state(struct rr_stats *a, const struct rr_stats *b);

#endif
