/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c - see stats.h. */
#include "server/stats.h"

#include "base/attr.h"

void rr_stats_add_counters(struct rr_stats *a, const struct rr_stats *b)
{
    a->requests_done += b->requests_done;
    a->requests_failed += b->requests_failed;
    a->requests_canceled += b->requests_canceled;
    a->pairs_done += b->pairs_done;
    a->tokens_done += b->tokens_done;
    a->batches_done += b->batches_done;
    a->nonfinite += b->nonfinite;
    a->truncated_pairs += b->truncated_pairs;
    a->duplicate_pairs += b->duplicate_pairs;
    a->coalesced_pairs += b->coalesced_pairs;
    a->rescored_pairs += b->rescored_pairs;
    a->partial_requests += b->partial_requests;
    a->cache_hits += b->cache_hits;
    a->cache_misses += b->cache_misses;
    a->cache_evictions += b->cache_evictions;
    a->shared_hits += b->shared_hits;
    a->shared_misses += b->shared_misses;
    a->shared_errors += b->shared_errors;
    a->shared_dropped += b->shared_dropped;
    a->device_errors += b->device_errors;
    a->device_retries += b->device_retries;
    a->compute_ns += b->compute_ns;
    a->last_batch_ns = RR_MAX(a->last_batch_ns, b->last_batch_ns);
}

void rr_stats_add_state(struct rr_stats *a, const struct rr_stats *b)
{
    a->cache_entries += b->cache_entries;
    a->cache_bytes += b->cache_bytes;
    a->queue_requests += b->queue_requests;
    a->queue_pairs += b->queue_pairs;
    a->queue_tokens += b->queue_tokens;
}
