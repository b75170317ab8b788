/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - the engine's life: open, warm up, close.  Layer: engine (L5). */
#include "engine/engine.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

/* ---- open ---------------------------------------------------------------------------------- */

static int alloc_runner(struct rr_engine *e, struct rr_error *err)
{
    uint32_t tokens = e->info.batch_tokens;

    e->batch = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*e->batch));
    e->outcomes = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*e->outcomes));
    e->ids = rr_calloc(RR_MEM_WORKSPACE, tokens, sizeof(*e->ids));
    e->types = rr_calloc(RR_MEM_WORKSPACE, tokens, sizeof(*e->types));
    e->cu_seqlens = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS + 1, sizeof(*e->cu_seqlens));
    e->logits = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*e->logits));
    if (!e->batch || !e->outcomes || !e->ids || !e->types || !e->cu_seqlens || !e->logits)
        return rr_fail(err, RR_ENOMEM, "out of memory for batches of %" PRIu32 " tokens", tokens);
    return RR_OK;
}

static int copy_options(struct rr_engine *e, const struct rr_options *opt, struct rr_error *err)
{
    e->tok_flags = opt->literal_specials ? RR_TOK_LITERAL_SPECIALS : 0;
    e->queue_tokens = opt->queue_tokens;
    e->queue_requests = opt->queue_requests;
    e->queue_bytes = opt->queue_bytes;
    e->stall_ns = opt->stall_ns ? opt->stall_ns : RR_STALL_NS;
    e->option_threads = opt->threads;
    e->fallback = opt->fallback;
    e->folder = rr_strdup(RR_MEM_MISC, opt->model ? opt->model : "");
    e->dtype = rr_strdup(RR_MEM_MISC, opt->dtype ? opt->dtype : "auto");
    e->isa = rr_strdup(RR_MEM_MISC, opt->isa ? opt->isa : "auto");
    if (!e->folder || !e->dtype || !e->isa)
        return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    return RR_OK;
}

/* Takes over what setup made. */
static void adopt(struct rr_engine *e, const struct rr_setup *s)
{
    int i;

    e->team = s->team;
    e->info = s->info;
    e->tok = s->tok;
    e->pairing = s->pairing;
    e->tok_fingerprint = rr_tok_fingerprint(s->tok);
    e->limits = s->limits;
    e->rescoring = s->rescoring;
    e->exact = strcmp(s->info.dtype, "f32") == 0;
    for (i = 0; i < RR_LANES; i++) {
        struct rr_lane *lane = &e->lanes[i];

        lane->exists = i == RR_LANE_MAIN || s->rescoring;
        lane->net = s->nets[i];
        lane->fingerprint = lane->net.fingerprint ^ e->tok_fingerprint;
        memcpy(lane->device, lane->net.name, sizeof(lane->device));
        memcpy(lane->dtype, lane->net.info.dtype, sizeof(lane->dtype));
        rr_batcher_init(&lane->batcher, s->limits.max_tokens, s->limits.max_sequences);
    }
}

static void init_locks(struct rr_engine *e)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->tokenize_lock, NULL);
    pthread_mutex_init(&e->device_lock, NULL);
    pthread_cond_init(&e->prep_wake, NULL);
    pthread_cond_init(&e->run_wake, NULL);
    pthread_cond_init(&e->timer_wake, &monotonic);
    pthread_cond_init(&e->medic_wake, &monotonic);
    pthread_cond_init(&e->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static int start_threads(struct rr_engine *e, struct rr_error *err)
{
    int rc = pthread_create(&e->runner, NULL, rr_runner_main, e);

    if (rc) return rr_fail(err, RR_EIO, "cannot start the compute thread: %s", strerror(rc));
    e->runner_started = true;
    rc = pthread_create(&e->timer, NULL, rr_timer_main, e);
    if (rc) return rr_fail(err, RR_EIO, "cannot start the timer thread: %s", strerror(rc));
    e->timer_started = true;
    while (e->n_prep < e->info.prep_threads) {
        rc = pthread_create(&e->prep[e->n_prep], NULL, rr_prep_main, e);
        if (rc) return rr_fail(err, RR_EIO, "cannot start a prep thread: %s", strerror(rc));
        e->n_prep++;
    }
    return RR_OK;
}

/* ---- warm-up ------------------------------------------------------------------------------- */

static const struct rr_text probe_texts[2] = { { "Paris ?", 7 }, { "Paris", 5 } };

/* The probe's tokens: a pair as a request would make it, cut to the shortest window. */
static int make_probe(struct rr_engine *e, struct rr_error *err)
{
    uint32_t max = e->limits.max_length, dropped;
    int32_t *ids = rr_calloc(RR_MEM_MISC, max, 3 * sizeof(*ids));
    int rc;

    if (!ids) return rr_fail(err, RR_ENOMEM, "out of memory for the probe");
    e->probe_ids = ids;
    rc = rr_pairing_ids(&e->pairing, e->tok, e->tokenize_scratch, probe_texts, max, ids + 2 * max,
                        ids, ids + max, &e->probe_cu[1], &dropped, err);
    e->probe = (struct rr_sequences){ .n_tokens = e->probe_cu[1],
                                      .n_sequences = 1,
                                      .ids = ids,
                                      .types = ids + max,
                                      .cu_seqlens = e->probe_cu };
    return rc;
}

/* The first forward touches every page and every table; users should not wait for that.  Its bits
 * are what later probes are compared with. */
static int load(struct rr_engine *e, struct rr_error *err)
{
    int i, rc = RR_OK;

    for (i = 0; i < RR_LANES && !rc; i++) {
        struct rr_lane *lane = &e->lanes[i];

        if (!lane->exists) continue;
        rc = rr_net_load(&lane->net, &e->limits, err);
        if (rc) return rc;
        rc = rr_net_probe(&lane->net, &e->probe, err);
        if (rc) return rr_fail_prefix(err, "warm-up");
        lane->probe = lane->net.probe;
    }
    e->good_ns = e->progress_ns = rr_now_ns();
    return rc;
}

/* ---- together ------------------------------------------------------------------------------ */

static int build(struct rr_engine *e, const struct rr_options *opt, struct rr_error *err)
{
    int rc = copy_options(e, opt, err);

    if (!rc && opt->cache_bytes) rc = rr_lru_open(&e->cache.memory, opt->cache_bytes, err);
    if (!rc && opt->shared_cache) rc = rr_shared_open(&e->cache.shared, opt->shared_cache, err);
    if (!rc) rc = alloc_runner(e, err);
    if (!rc) rc = rr_tok_scratch_open(&e->tokenize_scratch, e->tok, err);
    if (!rc) rc = make_probe(e, err);
    if (!rc) rc = load(e, err);
    if (!rc && e->rescoring) rc = rr_drift_open(e, opt, err);
    if (!rc && e->team)
        rc = rr_team_join(&e->member, e->team, e->info.device, e->info.prep_threads, err);
    if (!rc) rc = start_threads(e, err);
    return rc;
}

int rr_open(struct rr_engine **out, const struct rr_options *opt, struct rr_error *err)
{
    return rr_open_in(out, NULL, opt, err);
}

int rr_open_in(struct rr_engine **out, struct rr_team *team, const struct rr_options *opt,
               struct rr_error *err)
{
    struct rr_setup setup;
    struct rr_engine *e;
    int rc;

    *out = NULL;
    rc = rr_setup_open(&setup, opt, team, err);
    if (rc) return rc;
    e = rr_calloc(RR_MEM_MISC, 1, sizeof(*e));
    if (!e) {
        rr_setup_close(&setup);
        return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    }
    init_locks(e);
    adopt(e, &setup);
    rc = build(e, opt, err);
    if (rc) {
        rr_close(e);
        return rc;
    }
    *out = e;
    return RR_OK;
}

/* ---- close --------------------------------------------------------------------------------- */

/* Waits for the runner, but not for ever for a device that hangs.  Lock held. */
static bool wait_for_runner(struct rr_engine *e)
{
    uint64_t until = rr_now_ns() + e->stall_ns;

    if (!e->runner_started) return true;
    while (!e->runner_done && rr_now_ns() < until) rr_wait_until(&e->idle, &e->lock, until);
    return e->runner_done;
}

/* False: the runner is caught in a device that does not answer, and uses what would be freed. */
static bool stop_threads(struct rr_engine *e)
{
    bool done;

    pthread_mutex_lock(&e->lock);
    e->closing = true;
    while (e->unfinished) pthread_cond_wait(&e->idle, &e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->prep_wake);
    pthread_cond_broadcast(&e->run_wake);
    pthread_cond_broadcast(&e->timer_wake);
    pthread_cond_broadcast(&e->medic_wake);
    if (e->member) rr_team_quit(e->member);
    done = wait_for_runner(e);
    pthread_mutex_unlock(&e->lock);
    if (e->timer_started) pthread_join(e->timer, NULL);
    if (e->medic_started) pthread_join(e->medic, NULL);
    while (e->n_prep) pthread_join(e->prep[--e->n_prep], NULL);
    if (!e->runner_started) return true;
    if (done)
        pthread_join(e->runner, NULL);
    else
        pthread_detach(e->runner);
    return done;
}

void rr_close(struct rr_engine *e)
{
    int i;

    if (!e) return;
    if (!stop_threads(e)) {
        rr_log(RR_ERROR, "device %s hangs: its thread and memory are left behind", e->info.device);
        rr_team_abandon(e->member);
        return;
    }
    rr_team_leave(e->member);
    for (i = 0; i < RR_LANES; i++) {
        rr_net_close(&e->lanes[i].net);
        rr_net_close(&e->lanes[i].spare);
    }
    rr_tok_scratch_close(e->tokenize_scratch);
    rr_pairing_close(&e->pairing);
    rr_tok_close(e->tok);
    rr_shared_close(e->cache.shared);
    rr_lru_close(e->cache.memory);
    rr_free(e->probe_ids);
    rr_free(e->batch);
    rr_free(e->outcomes);
    rr_free(e->ids);
    rr_free(e->types);
    rr_free(e->cu_seqlens);
    rr_free(e->logits);
    rr_free(e->folder);
    rr_free(e->dtype);
    rr_free(e->isa);
    pthread_cond_destroy(&e->prep_wake);
    pthread_cond_destroy(&e->run_wake);
    pthread_cond_destroy(&e->timer_wake);
    pthread_cond_destroy(&e->medic_wake);
    pthread_cond_destroy(&e->idle);
    pthread_mutex_destroy(&e->device_lock);
    pthread_mutex_destroy(&e->tokenize_lock);
    pthread_mutex_destroy(&e->lock);
    rr_free(e);
}
