/* SPDX-License-Identifier: Apache-2.0 */
/* care.c - when computing fails: single out the pair that breaks its batch, or take the lane out of
 * service.  Layer: engine (L5).  Threads: the lane's runner. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "engine/engine.h"

static void lock(const struct rr_lane *lane)
{
    pthread_mutex_lock(&lane->engine->lock);
}

static void unlock(const struct rr_lane *lane)
{
    pthread_mutex_unlock(&lane->engine->lock);
}

bool rr_check_lane(struct rr_lane *lane)
{
    struct rr_error err = { 0 };
    uint64_t begin, ns = 0; /* of the main pass */
    int p, rc = RR_OK;

    atomic_store_explicit(&lane->run_since, rr_now_ns(), memory_order_release);
    for (p = 0; p < RR_PASSES && !rc; p++) {
        if (!lane->dtype[p][0]) continue;
        begin = rr_now_ns();
        rc = rr_net_probe(&lane->nets[p], &lane->engine->probe, &err);
        if (p == RR_PASS_MAIN) ns = rr_now_ns() - begin;
    }
    atomic_store_explicit(&lane->run_since, 0, memory_order_relaxed);
    if (!rc) {
        lock(lane);
        rr_speed_hope(&lane->speed, lane->engine->probe.n_tokens, ns);
        unlock(lane);
        return true;
    }
    lock(lane);
    rr_lane_lost(lane, RR_LANE_DOWN, err.msg);
    unlock(lane);
    rr_log(RR_ERROR, "device %s is out of service (%s)", lane->name, err.msg);
    return false;
}

static void mark_lost(struct rr_lane *lane, uint32_t first, uint32_t n)
{
    uint32_t i;

    for (i = first; i < first + n; i++)
        lane->outcomes[i] = (struct rr_outcome){ .code = RR_EDEVICE, .lost = true };
}

/* A batch failed.  false: it was given to others meanwhile, none of it is the lane's any more. */
static bool count_error(struct rr_lane *lane)
{
    bool ours;

    lock(lane);
    lane->engine->stats.device_errors++;
    lane->errors++;
    ours = lane->in_hand != 0;
    unlock(lane);
    return ours;
}

static void count_retry(struct rr_lane *lane, uint32_t n)
{
    lock(lane);
    lane->engine->stats.device_retries += n;
    unlock(lane);
}

static void condemn(struct rr_lane *lane, uint32_t i, int code)
{
    lane->outcomes[i] = (struct rr_outcome){ .code = code };
    lock(lane);
    if (lane->in_hand) rr_poison_add(lane->engine, lane->batch[i]->key, code, rr_now_ns());
    unlock(lane);
}

static bool is_ours(struct rr_lane *lane)
{
    bool ours;

    lock(lane);
    ours = lane->in_hand != 0;
    unlock(lane);
    return ours;
}

/* Depth: log2 of the pairs in a batch. */
static bool compute_part(struct rr_lane *lane, enum rr_pass pass, uint32_t first, uint32_t n,
                         struct rr_error *err)
{
    uint32_t half = n / 2;
    int rc = rr_forward(lane, pass, first, n, err);

    if (!rc) return true;
    rr_log(RR_ERROR, "device %s: a batch of %u pairs failed: %s", lane->name, n, err->msg);
    if (!count_error(lane)) return rr_check_lane(lane);
    if (!rr_check_lane(lane)) {
        mark_lost(lane, first, n);
        return false;
    }
    if (!is_ours(lane)) return true;
    if (n == 1) { /* the device is well: it is this pair */
        condemn(lane, first, rc);
        return true;
    }
    count_retry(lane, n);
    if (!compute_part(lane, pass, first, half, err)) {
        mark_lost(lane, first + half, n - half);
        return false;
    }
    return !is_ours(lane) || compute_part(lane, pass, first + half, n - half, err);
}

bool rr_compute(struct rr_lane *lane, enum rr_pass pass, uint32_t n, struct rr_error *err)
{
    return compute_part(lane, pass, 0, n, err);
}
