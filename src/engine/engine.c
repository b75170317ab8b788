/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - the engine's life: open, warm up, close.  Layer: engine (L5). */
#include "engine/engine.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

/* ---- open ---------------------------------------------------------------------------------- */

static int copy_options(struct rr_engine *e, const struct rr_options *opt, struct rr_error *err)
{
    e->tok_flags = opt->literal_specials ? RR_TOK_LITERAL_SPECIALS : 0;
    e->queue_tokens = opt->queue_tokens;
    e->queue_requests = opt->queue_requests;
    e->queue_bytes = opt->queue_bytes;
    e->option_threads = opt->threads;
    e->option_batch_tokens = opt->batch_tokens;
    e->option_drift = opt->drift;
    e->folder = rr_strdup(RR_MEM_MISC, opt->model ? opt->model : "");
    e->dtype = rr_strdup(RR_MEM_MISC, opt->dtype ? opt->dtype : "auto");
    e->isa = rr_strdup(RR_MEM_MISC, opt->isa ? opt->isa : "auto");
    if (!e->folder || !e->dtype || !e->isa)
        return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    return RR_OK;
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
    pthread_cond_init(&e->timer_wake, &monotonic);
    pthread_cond_init(&e->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* The condition that its runner waits for. */
static void init_wake(struct rr_lane *lane)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lane->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* A lane as setup left it: its networks are open, not loaded. */
static void adopt_lane(struct rr_engine *e, uint32_t i, const struct rr_setup_lane *from)
{
    struct rr_lane *lane = &e->lanes[i];
    const struct rr_net *main = &from->nets[RR_PASS_MAIN];
    int p;

    memcpy(lane->device, from->device, sizeof(lane->device));
    memcpy(lane->name, main->name, sizeof(lane->name));
    lane->limits = from->limits;
    lane->memory = from->memory;
    lane->state = RR_LANE_DOWN;
    for (p = 0; p < RR_PASSES; p++) {
        lane->nets[p] = from->nets[p];
        memcpy(lane->dtype[p], from->nets[p].info.dtype, sizeof(lane->dtype[p]));
    }
    rr_lane_describe(lane);
}

/* GPUs, unless they must not be replaced, have the CPU in reserve. */
static bool has_reserve(const struct rr_setup *s, const struct rr_options *opt)
{
    uint32_t i;

    for (i = 0; i < s->n_lanes; i++)
        if (rr_net_is_cpu(&s->lanes[i].nets[RR_PASS_MAIN])) return false;
    return opt->fallback && s->lanes[0].nets[RR_PASS_MAIN].model;
}

/* Takes over what setup made, of which nothing is left. */
static int adopt(struct rr_engine *e, struct rr_setup *s, const struct rr_options *opt,
                 struct rr_error *err)
{
    uint32_t i;

    e->lanes = rr_calloc(RR_MEM_MISC, s->n_lanes + 1, sizeof(*e->lanes));
    if (!e->lanes) {
        rr_setup_close(s);
        return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    }
    e->team = s->team;
    e->info = s->info;
    e->tok = s->tok;
    e->pairing = s->pairing;
    e->tok_fingerprint = rr_tok_fingerprint(s->tok);
    if (s->lanes[0].nets[RR_PASS_MAIN].model)
        e->model_fingerprint = rr_model_info(s->lanes[0].nets[RR_PASS_MAIN].model)->fingerprint;
    e->can_be_exact = true;
    e->n_devices = s->n_lanes;
    e->n_lanes = e->n_devices + has_reserve(s, opt);
    for (i = 0; i < e->n_lanes; i++) {
        struct rr_lane *lane = &e->lanes[i];

        lane->engine = e;
        atomic_store_explicit(&lane->run_budget, e->stall_ns, memory_order_relaxed);
        init_wake(lane);
        if (i < e->n_devices) {
            adopt_lane(e, i, &s->lanes[i]);
            e->rescoring |= s->lanes[i].rescoring;
            e->can_be_exact &= s->lanes[i].rescoring || strcmp(lane->dtype[0], "f32") == 0;
        } else {
            lane->reserve = true;
            lane->state = RR_LANE_ASLEEP;
            memcpy(lane->device, "cpu", 4);
            memcpy(lane->name, "cpu", 4);
        }
    }
    rr_free(s->lanes);
    return RR_OK;
}

static int start_threads(struct rr_engine *e, struct rr_error *err)
{
    uint32_t i;
    int rc;

    for (i = 0; i < e->n_lanes; i++) {
        struct rr_lane *lane = &e->lanes[i];

        rc = pthread_create(&lane->runner, NULL, rr_runner_main, lane);
        if (rc)
            return rr_fail(err, RR_EIO, "cannot start the thread of %s: %s", lane->name,
                           strerror(rc));
        lane->runner_started = true;
    }
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
    uint32_t max = e->info.max_length, dropped;
    int32_t *ids = rr_calloc(RR_MEM_MISC, max, 3 * sizeof(*ids));
    int rc;

    if (!ids) return rr_fail(err, RR_ENOMEM, "out of memory for the probe");
    e->probe_ids = ids;
    rc = rr_pairing_ids(&e->pairing, e->tok, e->tokenize_scratch, probe_texts, 0, max,
                        ids + 2 * max, ids, ids + max, &e->probe_cu[1], &dropped, err);
    e->probe = (struct rr_sequences){ .n_tokens = e->probe_cu[1],
                                      .n_sequences = 1,
                                      .ids = ids,
                                      .types = ids + max,
                                      .cu_seqlens = e->probe_cu };
    return rc;
}

static int load(struct rr_engine *e, struct rr_error *err)
{
    uint32_t i;
    int rc = RR_OK;

    for (i = 0; i < e->n_devices && !rc; i++) {
        struct rr_lane *lane = &e->lanes[i];

        rc = rr_lane_alloc(lane, err);
        if (!rc) rc = rr_lane_load(lane, err);
        if (!rc) rc = rr_lane_join(lane, err);
        if (rc) return e->n_devices > 1 ? rr_fail_prefix(err, "%s", lane->name) : rc;
        rr_lane_up(lane);
    }
    e->progress_ns = rr_now_ns();
    return rc;
}

static int join_team(struct rr_engine *e, struct rr_error *err)
{
    uint32_t i;
    int rc = RR_OK;

    for (i = 0; i < e->n_lanes && e->team && !rc; i++)
        rc =
            rr_team_join(&e->lanes[i].member, e->team, e->lanes[i].name, e->info.prep_threads, err);
    return rc;
}

/* ---- together ------------------------------------------------------------------------------ */

static int build(struct rr_engine *e, const struct rr_options *opt, struct rr_error *err)
{
    int rc = copy_options(e, opt, err);

    if (!rc && opt->cache_bytes) rc = rr_lru_open(&e->cache.memory, opt->cache_bytes, err);
    if (!rc && opt->shared_cache) rc = rr_shared_open(&e->cache.shared, opt->shared_cache, err);
    if (!rc) rc = rr_tok_scratch_open(&e->tokenize_scratch, e->tok, err);
    if (!rc) rc = make_probe(e, err);
    if (!rc) rc = load(e, err);
    if (!rc && e->rescoring) rc = rr_drift_open(e, err);
    if (!rc) rc = join_team(e, err);
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
    if (opt->struct_size == sizeof(*opt) && opt->cache_dir) rr_folder_make(opt->cache_dir);
    rc = rr_setup_open(&setup, opt, team, err);
    if (rc) return rc;
    e = rr_calloc(RR_MEM_MISC, 1, sizeof(*e));
    if (!e) {
        rr_setup_close(&setup);
        return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    }
    init_locks(e);
    e->stall_ns = rr_setup_stall(opt);
    rc = adopt(e, &setup, opt, err);
    if (!rc) rc = build(e, opt, err);
    if (rc) {
        rr_close(e);
        return rc;
    }
    *out = e;
    return RR_OK;
}

/* ---- close --------------------------------------------------------------------------------- */

static bool runners_ended(const struct rr_engine *e)
{
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++)
        if (e->lanes[i].runner_started && !e->lanes[i].done) return false;
    return true;
}

/* No earlier than least, and when the last run in progress would count as hung. */
static uint64_t last_run_end(const struct rr_engine *e, uint64_t least)
{
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        uint64_t end = rr_run_end(&e->lanes[i]);

        if (end != UINT64_MAX) least = RR_MAX(least, end);
    }
    return least;
}

/* Waits for the runners, but not for ever for a device that hangs.  One that has nothing to do
 * still has to wake up.  Lock held. */
static void wait_for_runners(struct rr_engine *e)
{
    uint64_t least = rr_now_ns() + RR_MAX(e->stall_ns, RR_SECOND), until;

    while (!runners_ended(e)) {
        until = last_run_end(e, least);
        if (rr_now_ns() >= until) break;
        rr_wait_until(&e->idle, &e->lock, until);
    }
}

/* The runner's; false: it is caught in a device that does not answer. */
static bool join_runner(struct rr_lane *lane, bool done)
{
    if (!lane->runner_started) return true;
    if (done)
        pthread_join(lane->runner, NULL);
    else
        pthread_detach(lane->runner);
    return done;
}

/* False: a runner is caught in a device that does not answer, and uses what would be freed. */
static bool stop_threads(struct rr_engine *e)
{
    bool done[RR_MAX_LANES], all = true;
    uint32_t i;

    pthread_mutex_lock(&e->lock);
    e->closing = true;
    while (e->unfinished) pthread_cond_wait(&e->idle, &e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->prep_wake);
    pthread_cond_broadcast(&e->timer_wake);
    for (i = 0; i < e->n_lanes; i++) {
        pthread_cond_broadcast(&e->lanes[i].wake);
        if (e->lanes[i].member) rr_team_quit(e->lanes[i].member);
    }
    wait_for_runners(e);
    for (i = 0; i < e->n_lanes; i++) done[i] = e->lanes[i].done;
    pthread_mutex_unlock(&e->lock);
    if (e->timer_started) pthread_join(e->timer, NULL);
    while (e->n_prep) pthread_join(e->prep[--e->n_prep], NULL);
    for (i = 0; i < e->n_lanes; i++) all = join_runner(&e->lanes[i], done[i]) && all;
    return all;
}

static void abandon(struct rr_engine *e)
{
    uint32_t i;

    rr_log(RR_ERROR, "device %s hangs: its thread and memory are left behind", e->info.device);
    for (i = 0; i < e->n_lanes; i++) rr_team_abandon(e->lanes[i].member);
}

static void close_lanes(struct rr_engine *e)
{
    uint32_t i;
    int p;

    for (i = 0; i < e->n_lanes; i++) {
        struct rr_lane *lane = &e->lanes[i];

        rr_team_leave(lane->member);
        for (p = 0; p < RR_PASSES; p++) rr_net_close(&lane->nets[p]);
        rr_lane_free(lane);
        pthread_cond_destroy(&lane->wake);
    }
    for (i = 0; i < e->n_kinds; i++) rr_free(e->kinds[i]);
    rr_free(e->lanes);
}

void rr_close(struct rr_engine *e)
{
    if (!e) return;
    if (!stop_threads(e)) {
        abandon(e);
        return;
    }
    close_lanes(e);
    rr_tok_scratch_close(e->tokenize_scratch);
    rr_pairing_close(&e->pairing);
    rr_tok_close(e->tok);
    rr_shared_close(e->cache.shared);
    rr_lru_close(e->cache.memory);
    rr_free(e->probe_ids);
    rr_free(e->folder);
    rr_free(e->dtype);
    rr_free(e->isa);
    pthread_cond_destroy(&e->prep_wake);
    pthread_cond_destroy(&e->timer_wake);
    pthread_cond_destroy(&e->idle);
    pthread_mutex_destroy(&e->device_lock);
    pthread_mutex_destroy(&e->tokenize_lock);
    pthread_mutex_destroy(&e->lock);
    rr_free(e);
}
