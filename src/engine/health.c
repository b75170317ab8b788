/* SPDX-License-Identifier: Apache-2.0 */
/* health.c - what the engine says of itself: counters, waiting time, health.
 * Layer: engine (L5). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"

#define PROBE_AFTER (4 * RR_SECOND)    /* without a good forward */
#define PROBE_OVERDUE (10 * RR_SECOND) /* a probe that is wanted for so long is a bad sign */

const struct rr_info *rr_engine_info(const struct rr_engine *e)
{
    return &e->info;
}

static void shared_stats(struct rr_engine *e, struct rr_stats *out)
{
    struct rr_shared_stats shared;

    if (!e->cache.shared) return;
    rr_shared_stats(e->cache.shared, &shared);
    out->shared_configured = true;
    out->shared_up = shared.up;
    out->shared_hits = shared.hits;
    out->shared_misses = shared.misses;
    out->shared_errors = shared.errors;
    out->shared_dropped = shared.dropped;
}

void rr_engine_stats(struct rr_engine *e, struct rr_stats *out)
{
    struct rr_lru_stats cache;
    uint32_t i;

    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    out->queue_bytes = e->queue_text;
    for (i = 0; i < e->n_kinds; i++) out->drift = RR_MAX(out->drift, e->kinds[i]->drift);
    pthread_mutex_unlock(&e->lock);
    shared_stats(e, out);
    if (!e->cache.memory) return;
    rr_lru_stats(e->cache.memory, &cache);
    out->cache_hits = cache.hits;
    out->cache_misses = cache.misses;
    out->cache_evictions = cache.evictions;
    out->cache_entries = cache.entries;
    out->cache_bytes = cache.bytes;
}

/* A probe of each lane that has computed nothing lately, unless one is wanted already.  Lock
 * held. */
static void ask(struct rr_engine *e, uint64_t now)
{
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        struct rr_lane *lane = &e->lanes[i];

        if (lane->state != RR_LANE_UP || lane->asked_ns) continue;
        if (now < lane->good_ns + PROBE_AFTER) continue;
        lane->asked_ns = now;
        rr_lane_wake(lane);
    }
}

/* When some lane last computed well.  Lock held. */
static uint64_t last_good(const struct rr_engine *e)
{
    uint64_t last = 0;
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) last = RR_MAX(last, e->lanes[i].good_ns);
    return last;
}

/* No lane in service has answered the last probe in time.  Lock held. */
static bool silent(const struct rr_engine *e, uint64_t now)
{
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        const struct rr_lane *lane = &e->lanes[i];

        if (lane->state != RR_LANE_UP) continue;
        if (!lane->asked_ns || now <= lane->asked_ns + PROBE_OVERDUE) return false;
    }
    return true;
}

void rr_engine_health(struct rr_engine *e, struct rr_health *out)
{
    uint64_t now = rr_now_ns();

    *out = (struct rr_health){ 0 };
    pthread_mutex_lock(&e->lock);
    ask(e, now);
    out->probe_age_ns = now - RR_MIN(last_good(e), now);
    if (e->unfinished) out->progress_age_ns = now - RR_MIN(e->progress_ns, now);
    rr_lanes_why(e, out->why, sizeof(out->why));
    out->device_ok = out->why[0] == 0;
    out->stalled = rr_lanes_stalled(e);
    out->ok = rr_lanes_any(e) || rr_reserve_comes(e);
    if (out->ok && rr_lanes_any(e) && silent(e, now) && !e->unfinished) {
        out->ok = false;
        snprintf(out->why, sizeof(out->why), "no sign of life for %" PRIu64 " s",
                 out->probe_age_ns / RR_SECOND);
    }
    pthread_mutex_unlock(&e->lock);
}

/* Tokens a nanosecond of the lanes in service, as far as measured; others' work comes between ours,
 * by our share.  Lock held. */
static double total_rate(const struct rr_engine *e)
{
    double sum = 0;
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        const struct rr_lane *lane = &e->lanes[i];

        if (lane->state != RR_LANE_UP || lane->mean_ns <= 0) continue;
        if (lane->reserve && !rr_reserve_wanted(e)) continue;
        sum += (lane->member ? rr_team_share(lane->member) : 1) / rr_lane_ns_per_token(lane);
    }
    return sum;
}

uint64_t rr_engine_wait_ns(struct rr_engine *e, size_t tokens)
{
    double rate, waiting;

    pthread_mutex_lock(&e->lock);
    waiting = (double)e->stats.queue_tokens + (double)tokens;
    rate = total_rate(e);
    pthread_mutex_unlock(&e->lock);
    if (rate <= 0) return 0;
    return waiting / rate < (double)RR_ENDLESS ? (uint64_t)(waiting / rate) : RR_ENDLESS;
}

/* ---- devices -------------------------------------------------------------------------------- */

static void describe_lane(const struct rr_lane *lane, struct rr_device_state *out)
{
    snprintf(out->name, sizeof(out->name), "%s", lane->name);
    snprintf(out->hardware, sizeof(out->hardware), "%s", lane->hardware);
    snprintf(out->isa, sizeof(out->isa), "%s", lane->isa);
    snprintf(out->dtype, sizeof(out->dtype), "%s", lane->dtype[RR_PASS_MAIN]);
    snprintf(out->why, sizeof(out->why), "%s", lane->why);
    out->reserve = lane->reserve;
    out->up = lane->state == RR_LANE_UP;
    out->threads = lane->threads;
    out->batch_tokens = lane->limits.max_tokens;
    out->memory_bytes = lane->memory_total;
    out->weights_bytes = lane->memory.weights;
    out->workspace_bytes = lane->memory.workspace;
    out->batches_done = lane->batches;
    out->pairs_done = lane->pairs;
    out->tokens_done = lane->tokens_done;
    out->errors = lane->errors;
    out->compute_ns = lane->compute_ns;
    out->in_hand_tokens = lane->in_hand ? lane->tokens : 0;
    out->queue_tokens = lane->kind ? lane->kind->waiting : 0;
    out->ns_per_token = rr_lane_ns_per_token(lane);
}

bool rr_engine_device(struct rr_engine *e, uint32_t index, struct rr_device_state *out)
{
    memset(out, 0, sizeof(*out));
    if (index >= e->n_lanes) return false;
    pthread_mutex_lock(&e->lock);
    describe_lane(&e->lanes[index], out);
    pthread_mutex_unlock(&e->lock);
    return true;
}
