/* SPDX-License-Identifier: Apache-2.0 */
/* care.c - when computing fails: single out the pair that breaks its batch, take a dead device out,
 * let the CPU serve, and reopen the device later.  Layer: engine (L5). */
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "engine/engine.h"

#define FIRST_BACKOFF RR_SECOND
#define LAST_BACKOFF (60 * RR_SECOND)

/* The network that serves the lane now; NULL: none does. */
static struct rr_net *serving(struct rr_engine *e, enum rr_lane_id id)
{
    struct rr_lane *lane = &e->lanes[id];
    struct rr_net *net = NULL;

    pthread_mutex_lock(&e->lock);
    if (lane->state == RR_LANE_OK) net = &lane->net;
    if (lane->state == RR_LANE_SPARE) net = &lane->spare;
    pthread_mutex_unlock(&e->lock);
    return net;
}

/* ---- a device is lost ------------------------------------------------------------------------ */

static int open_spare(struct rr_engine *e, struct rr_lane *lane, struct rr_error *err)
{
    struct rr_net_config config = {
        .folder = e->folder,
        .device = "cpu",
        .dtype = e->dtype,
        .isa = e->isa,
        .threads = e->option_threads,
        .team = e->team,
        .pairing = &e->pairing,
    };
    int rc;

    if (lane->spare.model) return RR_OK; /* from the last time */
    if (lane == &e->lanes[RR_LANE_RESCORE]) config.dtype = lane->dtype;
    rc = rr_net_open(&lane->spare, &config, err);
    if (rc == RR_ENOTSUP) { /* a precision of GPUs only: the CPU's own is better than none */
        config.dtype = "auto";
        rc = rr_net_open(&lane->spare, &config, err);
    }
    if (!rc) rc = rr_net_load(&lane->spare, &e->limits, err);
    if (!rc) rc = rr_net_probe(&lane->spare, &e->probe, err);
    if (rc) rr_net_close(&lane->spare);
    return rc;
}

/* Tells the medic.  Lock held. */
static void call_medic(struct rr_engine *e, struct rr_lane *lane)
{
    lane->backoff_ns = FIRST_BACKOFF;
    lane->reopen_ns = rr_now_ns() + lane->backoff_ns;
    if (!e->medic_started)
        e->medic_started = pthread_create(&e->medic, NULL, rr_medic_main, e) == 0;
    pthread_cond_signal(&e->medic_wake);
}

/* Takes the network that failed out of service.  True: the spare serves in its place. */
static bool take_out(struct rr_engine *e, enum rr_lane_id id, const struct rr_net *failed,
                     const char *why)
{
    struct rr_lane *lane = &e->lanes[id];
    struct rr_error err = { 0 };
    bool spare = failed == &lane->net && e->fallback && !rr_net_is_cpu(failed) && failed->model;

    if (spare && open_spare(e, lane, &err)) {
        rr_log(RR_ERROR, "the CPU cannot stand in: %s", err.msg);
        spare = false;
    }
    pthread_mutex_lock(&e->lock);
    snprintf(lane->why, sizeof(lane->why), "%.100s", why);
    lane->state = spare ? RR_LANE_SPARE : RR_LANE_DOWN;
    if (spare) lane->fingerprint = lane->spare.fingerprint ^ e->tok_fingerprint;
    lane->least_ns_per_token = lane->mean_ns_per_token = 0; /* of another device */
    if (failed == &lane->net) call_medic(e, lane);
    pthread_mutex_unlock(&e->lock);
    rr_log(RR_ERROR, "device %s is out of service (%s)%s", failed->name, why,
           spare ? ": the CPU serves" : "");
    return spare;
}

/* Proof of life of the serving network; what fails is taken out.  True: it, or a spare, serves. */
bool rr_check_lane(struct rr_engine *e, enum rr_lane_id id)
{
    struct rr_net *net = serving(e, id);
    struct rr_error err = { 0 };
    int rc;

    if (!net) return false;
    atomic_store_explicit(&e->run_since, rr_now_ns(), memory_order_relaxed);
    rc = rr_net_probe(net, &e->probe, &err);
    atomic_store_explicit(&e->run_since, 0, memory_order_relaxed);
    return !rc || take_out(e, id, net, err.msg);
}

/* ---- a batch fails --------------------------------------------------------------------------- */

static void fail_part(struct rr_engine *e, uint32_t first, uint32_t n, int code)
{
    uint32_t i;

    for (i = first; i < first + n; i++) e->outcomes[i] = (struct rr_outcome){ .code = code };
}

static void count_error(struct rr_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->stats.device_errors++;
    pthread_mutex_unlock(&e->lock);
}

static void count_retry(struct rr_engine *e, uint32_t n)
{
    pthread_mutex_lock(&e->lock);
    e->stats.device_retries += n;
    pthread_mutex_unlock(&e->lock);
}

static void condemn(struct rr_engine *e, uint32_t i, int code)
{
    fail_part(e, i, 1, code);
    pthread_mutex_lock(&e->lock);
    rr_poison_add(e, e->batch[i]->key, code, rr_now_ns());
    pthread_mutex_unlock(&e->lock);
}

/* Depth: log2 of the pairs in a batch, plus one for a change of device. */
static void compute_part(struct rr_engine *e, enum rr_lane_id id, uint32_t first, uint32_t n,
                         struct rr_error *err)
{
    struct rr_net *net = serving(e, id);
    uint32_t half = n / 2;
    int rc;

    if (!net) {
        fail_part(e, first, n,
                  rr_fail(err, RR_EDEVICE, "the device %s is out of service", e->info.device));
        return;
    }
    rc = rr_forward(e, net, first, n, err);
    if (!rc) return;
    count_error(e);
    rr_log(RR_ERROR, "device %s: a batch of %u pairs failed: %s", net->name, n, err->msg);
    if (!rr_check_lane(e, id)) {
        fail_part(e, first, n, RR_EDEVICE);
    } else if (serving(e, id) != net) { /* the device is dead, a spare has taken over */
        count_retry(e, n);
        compute_part(e, id, first, n, err);
    } else if (n == 1) { /* the device is well: it is this pair */
        condemn(e, first, rc);
    } else {
        count_retry(e, n);
        compute_part(e, id, first, half, err);
        compute_part(e, id, first + half, n - half, err);
    }
}

void rr_compute(struct rr_engine *e, enum rr_lane_id id, uint32_t n, struct rr_error *err)
{
    compute_part(e, id, 0, n, err);
}

/* ---- medic ----------------------------------------------------------------------------------- */

/* The device as it was at start, or an error.  The lane is out of service, so net is ours. */
static int reopen(struct rr_engine *e, struct rr_lane *lane, struct rr_error *err)
{
    struct rr_net fresh;
    struct rr_net_config config = {
        .folder = e->folder,
        .device = lane->device,
        .dtype = lane->dtype,
        .isa = e->isa,
        .threads = e->option_threads,
        .stall_ns = e->stall_ns,
        .team = e->team,
        .pairing = &e->pairing,
    };
    int rc;

    pthread_mutex_lock(&e->device_lock);
    rr_net_close(&lane->net); /* first, to have its memory back */
    pthread_mutex_unlock(&e->device_lock);
    rc = rr_net_open(&fresh, &config, err);
    if (rc) return rc;
    fresh.probe = lane->probe; /* other bits than at start would be another model */
    fresh.probed = true;
    rc = rr_net_load(&fresh, &e->limits, err);
    if (!rc) rc = rr_net_probe(&fresh, &e->probe, err);
    if (rc)
        rr_net_close(&fresh);
    else
        lane->net = fresh;
    return rc;
}

/* Lock held, released meanwhile. */
static void treat(struct rr_engine *e, struct rr_lane *lane)
{
    struct rr_error err = { 0 };
    int rc;

    pthread_mutex_unlock(&e->lock);
    rc = reopen(e, lane, &err);
    rr_log(rc ? RR_WARN : RR_INFO,
           rc ? "device %s cannot be reopened: %s" : "device %s is back in service%s", lane->device,
           err.msg);
    pthread_mutex_lock(&e->lock);
    if (rc) {
        lane->backoff_ns = RR_MIN(2 * lane->backoff_ns, LAST_BACKOFF);
        lane->reopen_ns = rr_now_ns() + lane->backoff_ns;
        return;
    }
    lane->state = RR_LANE_OK;
    lane->fingerprint = lane->net.fingerprint ^ e->tok_fingerprint;
    lane->least_ns_per_token = lane->mean_ns_per_token = 0;
    e->good_ns = rr_now_ns();
}

/* The lane to be treated first; NULL: all are well. */
static struct rr_lane *patient(struct rr_engine *e)
{
    struct rr_lane *first = NULL;
    int i;

    for (i = 0; i < RR_LANES; i++) {
        struct rr_lane *lane = &e->lanes[i];

        if (!lane->exists || lane->state == RR_LANE_OK) continue;
        if (!first || lane->reopen_ns < first->reopen_ns) first = lane;
    }
    return first;
}

void *rr_medic_main(void *arg)
{
    struct rr_engine *e = arg;

    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        struct rr_lane *lane = patient(e);

        if (!lane)
            pthread_cond_wait(&e->medic_wake, &e->lock);
        else if (rr_now_ns() < lane->reopen_ns)
            rr_wait_until(&e->medic_wake, &e->lock, lane->reopen_ns);
        else
            treat(e, lane);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
