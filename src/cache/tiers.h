/* SPDX-License-Identifier: Apache-2.0 */
/* tiers.h - the cache in memory and the shared one as one.  Layer: cache (L1).  Threads: any. */
#ifndef RR_CACHE_TIERS_H
#define RR_CACHE_TIERS_H

#include "cache/lru.h"
#include "cache/shared.h"

struct rr_tiers { /* either may be NULL */
    struct rr_lru *memory;
    struct rr_shared *shared;
};

/* Looks up n keys: memory first, then what is missing there in the shared cache, in one round trip;
 * what that knows is kept in memory, too.  hit[i]: out[i] was filled. */
void rr_tiers_get(const struct rr_tiers *t, const struct rr_key *keys, size_t n,
                  struct rr_cached *out, bool *hit);

void rr_tiers_put(const struct rr_tiers *t, const struct rr_key *keys,
                  const struct rr_cached *values, size_t n);

#endif
