/* SPDX-License-Identifier: Apache-2.0 */
/* health.c - what the engine says of itself: counters, waiting time, health.
 * Layer: engine (L5). */
#include <inttypes.h>
#include <stdio.h>

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

    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    out->queue_bytes = e->queue_text;
    out->drift = e->drift;
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

/* A probe, unless one is wanted already or something was computed lately.  Lock held. */
static void ask(struct rr_engine *e, uint64_t now)
{
    if (e->asked_ns || now - e->good_ns < PROBE_AFTER) return;
    e->asked_ns = now;
    rr_runner_wake(e);
}

/* The first lane that is not well; NULL: all are.  Lock held. */
static const struct rr_lane *sick_lane(const struct rr_engine *e)
{
    const struct rr_lane *sick = NULL;
    int i;

    for (i = 0; i < RR_LANES; i++) {
        const struct rr_lane *lane = &e->lanes[i];

        if (!lane->exists || lane->state == RR_LANE_OK) continue;
        if (!sick || lane->state == RR_LANE_DOWN) sick = lane; /* nobody serves: the worst */
    }
    return sick;
}

void rr_engine_health(struct rr_engine *e, struct rr_health *out)
{
    uint64_t now = rr_now_ns();
    const struct rr_lane *sick;

    *out = (struct rr_health){ .ok = true, .device_ok = true };
    pthread_mutex_lock(&e->lock);
    ask(e, now);
    out->probe_age_ns = now - RR_MIN(e->good_ns, now);
    if (e->unfinished) out->progress_age_ns = now - RR_MIN(e->progress_ns, now);
    sick = sick_lane(e);
    if (sick) {
        out->device_ok = false;
        out->ok = sick->state != RR_LANE_DOWN;
        snprintf(out->why, sizeof(out->why), "%s: %s%s", sick->device, sick->why,
                 out->ok ? "; the CPU serves" : "");
    }
    if (e->stalled) {
        out->ok = out->device_ok = false;
        out->stalled = true;
        snprintf(out->why, sizeof(out->why), "%s: the batch in work does not end", e->info.device);
    } else if (out->ok && e->asked_ns && now - e->asked_ns > PROBE_OVERDUE && !e->unfinished) {
        out->ok = false;
        snprintf(out->why, sizeof(out->why), "no sign of life for %" PRIu64 " s",
                 out->probe_age_ns / RR_SECOND);
    }
    pthread_mutex_unlock(&e->lock);
}

uint64_t rr_engine_wait_ns(struct rr_engine *e, size_t tokens)
{
    double ns;

    pthread_mutex_lock(&e->lock); /* others' work comes between ours, by our share */
    ns = (double)(e->stats.queue_tokens + tokens) * e->lanes[RR_LANE_MAIN].mean_ns_per_token;
    pthread_mutex_unlock(&e->lock);
    if (e->member) ns /= rr_team_share(e->member);
    return (uint64_t)ns;
}
