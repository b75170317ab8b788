/* SPDX-License-Identifier: Apache-2.0 */
/* shared.h - scores shared between servers through Redis or Valkey.
 * Layer: cache (L1).  Threads: any.
 *
 * It can only help: a look-up takes at most its deadline, a store is queued and the oldest are
 * dropped when the queue is full, and whatever the other side does (down, slow, full, wrong types,
 * other versions) looks like a miss.  A value is used only if it is whole, of this very key and its
 * logit finite. */
#ifndef RR_CACHE_SHARED_H
#define RR_CACHE_SHARED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "cache/key.h"
#include "cache/lru.h"
#include "rerank_types.h"

struct rr_shared;

/* Counts of keys; hits + misses + errors is what was asked for. */
struct rr_shared_stats {
    uint64_t hits, misses;
    uint64_t errors;  /* not answered (in time), or with a value that was not usable */
    uint64_t invalid; /* those of errors whose value was not usable */
    uint64_t stored;  /* stores that the server took */
    uint64_t dropped; /* stores given up */
    bool up;          /* the circuit is closed: look-ups are sent */
};

/* A malformed URL, or files that cannot be read, are errors; a server that cannot be reached is
 * none.  The strings of config may go afterwards. */
RR_NODISCARD int rr_shared_open(struct rr_shared **out, const struct rr_shared_cache *config,
                                struct rr_error *err);
/* The same errors, and nothing is opened. */
RR_NODISCARD int rr_shared_check(const struct rr_shared_cache *config, struct rr_error *err);
/* Sends what is queued first, for a moment.  No other call may be running.  NULL is allowed. */
void rr_shared_close(struct rr_shared *s);

/* Looks all keys up in one round trip.  hit[i]: out[i] was filled; returns how many were. */
size_t rr_shared_get(struct rr_shared *s, const struct rr_key *keys, size_t n,
                     struct rr_cached *out, bool *hit);
/* Never waits.  Logits that are not finite are left out. */
void rr_shared_put(struct rr_shared *s, const struct rr_key *keys, const struct rr_cached *values,
                   size_t n);
void rr_shared_stats(struct rr_shared *s, struct rr_shared_stats *out);

#endif
