/* SPDX-License-Identifier: Apache-2.0 */
/* mend.c - a lane's device: loaded, warmed up and measured; opened again after it was lost; and the
 * CPU in reserve, opened when it is needed.  Layer: engine (L5).
 * Threads: the one that opens the engine, then the lane's runner. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

#define LAST_BACKOFF (60 * RR_SECOND)

/* ---- memory --------------------------------------------------------------------------------- */

int rr_lane_alloc(struct rr_lane *lane, struct rr_error *err)
{
    uint32_t tokens = lane->limits.max_tokens;

    lane->batch = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*lane->batch));
    lane->outcomes = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*lane->outcomes));
    lane->ids = rr_calloc(RR_MEM_WORKSPACE, tokens, sizeof(*lane->ids));
    lane->types = rr_calloc(RR_MEM_WORKSPACE, tokens, sizeof(*lane->types));
    lane->cu_seqlens =
        rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS + 1, sizeof(*lane->cu_seqlens));
    lane->logits = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*lane->logits));
    if (lane->batch && lane->outcomes && lane->ids && lane->types && lane->cu_seqlens &&
        lane->logits)
        return RR_OK;
    rr_lane_free(lane);
    return rr_fail(err, RR_ENOMEM, "out of memory for batches of %" PRIu32 " tokens", tokens);
}

void rr_lane_free(struct rr_lane *lane)
{
    rr_free(lane->batch);
    rr_free(lane->outcomes);
    rr_free(lane->ids);
    rr_free(lane->types);
    rr_free(lane->cu_seqlens);
    rr_free(lane->logits);
    lane->batch = NULL;
    lane->outcomes = NULL;
    lane->ids = lane->types = NULL;
    lane->cu_seqlens = NULL;
    lane->logits = NULL;
}

/* ---- what it is ----------------------------------------------------------------------------- */

void rr_lane_describe(struct rr_lane *lane)
{
    const struct rr_device_info *info = &lane->nets[RR_PASS_MAIN].info;

    memcpy(lane->hardware, info->name, sizeof(lane->hardware));
    memcpy(lane->isa, info->isa, sizeof(lane->isa));
    lane->threads = info->threads;
    lane->memory_total = info->memory_total;
}

/* ---- load ----------------------------------------------------------------------------------- */

static int timed(struct rr_lane *lane, const struct rr_sequences *seqs, uint64_t *ns,
                 struct rr_error *err)
{
    uint64_t start = rr_now_ns();
    int rc = rr_net_forward(&lane->nets[RR_PASS_MAIN], seqs, lane->logits, err);

    *ns = RR_MAX(rr_now_ns() - start, UINT64_C(1));
    return rc;
}

/* A batch of n sequences of so many tokens, which are the probe's over and over. */
static struct rr_sequences repeat(struct rr_lane *lane, uint32_t n, uint32_t length)
{
    const struct rr_sequences *probe = &lane->engine->probe;
    uint32_t i;

    for (i = 0; i < n * length; i++) {
        lane->ids[i] = probe->ids[i % length % probe->n_tokens];
        lane->types[i] = probe->types[i % length % probe->n_tokens];
    }
    for (i = 0; i <= n; i++) lane->cu_seqlens[i] = i * length;
    return (struct rr_sequences){ n * length, n, lane->ids, lane->types, lane->cu_seqlens };
}

/* How long batches take: the probe, and batches of up to a thousand tokens, until one has taken
 * long enough to tell.  The probe twice: later ones are compared with it (rr_speed_hope). */
static int measure(struct rr_lane *lane, struct rr_error *err)
{
    const struct rr_sequences *probe = &lane->engine->probe;
    const uint64_t enough = 100 * RR_MILLISECOND;
    uint32_t length = RR_MIN(lane->limits.max_length, 128u), n;
    uint32_t most = RR_MAX(RR_MIN(lane->limits.max_tokens, 1024u) / length, 1u);
    struct rr_sequences many = { 0 };
    uint64_t small_ns, large_ns = 0, again_ns = UINT64_MAX;
    int rc = timed(lane, probe, &small_ns, err);

    if (!rc) rc = timed(lane, probe, &again_ns, err);
    small_ns = RR_MIN(small_ns, again_ns);
    for (n = 1; n <= most && large_ns < enough && !rc; n *= 2) {
        many = repeat(lane, n, length);
        rc = timed(lane, &many, &large_ns, err);
        if (rc) break;
        /* The first of its size is not the usual; what takes more than in proportion to the probe
         * was held up. */
        if (large_ns >= enough &&
            (double)large_ns * probe->n_tokens <= (double)small_ns * many.n_tokens)
            break;
        rc = timed(lane, &many, &again_ns, err);
        large_ns = RR_MIN(large_ns, again_ns);
    }
    if (!rc) rr_speed_init(&lane->speed, probe->n_tokens, small_ns, many.n_tokens, large_ns);
    return rc;
}

/* The first forward touches every page and every table; users should not wait for that.  Its bits
 * are what later probes are compared with. */
int rr_lane_load(struct rr_lane *lane, struct rr_error *err)
{
    const struct rr_engine *e = lane->engine;
    int p, rc = RR_OK;

    for (p = 0; p < RR_PASSES && !rc; p++) {
        struct rr_net *net = &lane->nets[p];

        if (!lane->dtype[p][0]) continue;
        rc = rr_net_load(net, &lane->limits, err);
        if (rc) return rc;
        if (lane->probed) net->probe = lane->probe[p]; /* other bits would be another model */
        net->probed = lane->probed;
        rc = rr_net_probe(net, &e->probe, err);
        if (!rc) lane->probe[p] = net->probe;
    }
    if (rc) return lane->probed ? rc : rr_fail_prefix(err, "warm-up");
    if (e->n_devices > 1) rc = measure(lane, err);
    lane->probed = !rc;
    return rc;
}

/* ---- open again ----------------------------------------------------------------------------- */

static int open_net(struct rr_lane *lane, enum rr_pass pass, const char *dtype,
                    struct rr_error *err)
{
    const struct rr_engine *e = lane->engine;
    struct rr_net_config config = {
        .folder = e->folder,
        .device = lane->device,
        .dtype = dtype,
        .isa = e->isa,
        .threads = e->option_threads,
        .stall_ns = e->stall_ns,
        .team = e->team,
        .pairing = &e->pairing,
    };
    struct rr_net *net = &lane->nets[pass];
    int rc = rr_net_open(net, &config, err);

    if (rc == RR_ENOTSUP && lane->reserve && pass == RR_PASS_MAIN) {
        config.dtype = "auto"; /* a precision of GPUs only: the CPU's own is better than none */
        rc = rr_net_open(net, &config, err);
    }
    if (!rc && net->model && rr_model_info(net->model)->fingerprint != e->model_fingerprint)
        return rr_fail(err, RR_EFORMAT, "%s: its files are not those of the start", e->folder);
    return rc;
}

/* Whether the host has room for what the lane's networks are about to load. */
static int check_room(struct rr_lane *lane, struct rr_error *err)
{
    struct rr_memory sum;
    int n = lane->dtype[RR_PASS_RESCORE][0] ? RR_PASSES : 1;
    int rc = rr_nets_plan(lane->nets, n, &lane->limits, &sum, err);

    if (!rc) rc = rr_setup_room(lane->engine->info.model, &sum, err);
    if (rc) return rc;
    pthread_mutex_lock(&lane->engine->lock);
    lane->memory = sum;
    pthread_mutex_unlock(&lane->engine->lock);
    return RR_OK;
}

/* The first time that the reserve is opened: what it is, and memory for its batches. */
static int introduce(struct rr_lane *lane, struct rr_error *err)
{
    struct rr_engine *e = lane->engine;
    const char *rescore = e->info.rescore_dtype;
    int rc = open_net(lane, RR_PASS_MAIN, e->dtype, err);

    if (rc) return rc;
    pthread_mutex_lock(&e->lock); /* others look at it */
    lane->limits = rr_setup_limits(&e->info, e->option_batch_tokens, &lane->nets[RR_PASS_MAIN]);
    memcpy(lane->dtype[0], lane->nets[0].info.dtype, sizeof(lane->dtype[0]));
    rr_lane_describe(lane);
    pthread_mutex_unlock(&e->lock);
    if (!lane->batch) rc = rr_lane_alloc(lane, err);
    if (!rc && rr_setup_rescores(lane->dtype[0], rescore)) {
        rc = open_net(lane, RR_PASS_RESCORE, rescore, err);
        if (!rc) memcpy(lane->dtype[1], lane->nets[1].info.dtype, sizeof(lane->dtype[1]));
    }
    return rc ? rc : check_room(lane, err);
}

static void close_nets(struct rr_lane *lane)
{
    int p;

    pthread_mutex_lock(&lane->engine->device_lock);
    for (p = 0; p < RR_PASSES; p++) rr_net_close(&lane->nets[p]);
    pthread_mutex_unlock(&lane->engine->device_lock);
}

/* The device as it was at start, or an error and nothing. */
static int reopen(struct rr_lane *lane, struct rr_error *err)
{
    int p, rc = RR_OK;

    close_nets(lane); /* first, to have its memory back */
    if (lane->reserve && !lane->probed) {
        memset(lane->dtype, 0, sizeof(lane->dtype));
        rc = introduce(lane, err);
    } else {
        for (p = 0; p < RR_PASSES && !rc; p++)
            if (lane->dtype[p][0]) rc = open_net(lane, (enum rr_pass)p, lane->dtype[p], err);
    }
    if (!rc) rc = rr_lane_load(lane, err);
    if (!rc && lane->reserve && lane->dtype[RR_PASS_RESCORE][0] && !lane->drift)
        rc = rr_drift_reserve(lane, err);
    if (rc) close_nets(lane);
    return rc;
}

void rr_lane_mend(struct rr_lane *lane)
{
    struct rr_engine *e = lane->engine;
    struct rr_error err = { 0 };
    int rc;

    pthread_mutex_unlock(&e->lock);
    rc = reopen(lane, &err);
    pthread_mutex_lock(&e->lock);
    if (!rc) rc = rr_lane_join(lane, &err);
    if (!rc) lane->kind->drift = RR_MAX(lane->kind->drift, lane->drift);
    if (rc) {
        bool again = lane->backoff_ns != 0;

        rr_lane_lost(lane, RR_LANE_DOWN, err.msg);
        if (again) lane->backoff_ns = RR_MIN(2 * lane->backoff_ns, LAST_BACKOFF);
        lane->reopen_ns = rr_now_ns() + lane->backoff_ns;
        rr_log(RR_WARN, "device %s cannot be %s: %s", lane->name,
               lane->reserve ? "opened to stand in" : "reopened", err.msg);
    } else {
        rr_lane_up(lane);
        if (lane->reserve)
            rr_log(RR_WARN, "no other device is in service: the CPU serves");
        else
            rr_log(RR_INFO, "device %s is back in service", lane->name);
    }
    rr_jobs_rescue(e);
}
