/* SPDX-License-Identifier: Apache-2.0 */
/* lru.h - scores kept in memory: a fixed number of entries in shards, the least recently used goes.
 * Layer: cache (L1).  Threads: any; one lock for each of 16 shards. */
#ifndef RR_CACHE_LRU_H
#define RR_CACHE_LRU_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "cache/key.h"

struct rr_lru;

/* What is known of a pair once it has been computed. */
struct rr_cached {
    float logit;
    uint32_t tokens : 31;
    uint32_t truncated : 1;
    uint32_t full_tokens; /* as in rr_score; 0: not known, then tokens */
};

struct rr_lru_stats {
    uint64_t hits, misses, evictions;
    size_t entries, bytes; /* bytes: what the entries in use occupy */
};

/* bytes is the budget for everything; memory is reserved at once and touched as it fills.  Budgets
 * too small for one entry in each shard are RR_EINVAL. */
RR_NODISCARD int rr_lru_open(struct rr_lru **out, size_t bytes, struct rr_error *err);
void rr_lru_close(struct rr_lru *c); /* NULL is allowed */

bool rr_lru_get(struct rr_lru *c, struct rr_key key, struct rr_cached *out);
void rr_lru_put(struct rr_lru *c, struct rr_key key, struct rr_cached value);
void rr_lru_stats(struct rr_lru *c, struct rr_lru_stats *out);

#endif
