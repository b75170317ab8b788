/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c - a lane's thread, which owns its device: batch in, logits out, probes when idle, and
 * opening it again when it was lost.  Layer: engine (L5). */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

/* ---- one forward --------------------------------------------------------------------------- */

/* Packs the units back to back into the lane's arrays. */
static void pack(struct rr_lane *lane, uint32_t first, uint32_t n, struct rr_sequences *seqs)
{
    uint32_t i, at = 0;

    lane->cu_seqlens[0] = 0;
    for (i = 0; i < n; i++) {
        const struct rr_unit *u = lane->batch[first + i];

        memcpy(lane->ids + at, u->data, u->n_tokens * sizeof(int32_t));
        memcpy(lane->types + at, u->data + u->n_tokens, u->n_tokens * sizeof(int32_t));
        at += u->n_tokens;
        lane->cu_seqlens[i + 1] = at;
    }
    *seqs = (struct rr_sequences){
        .n_tokens = at,
        .n_sequences = n,
        .ids = lane->ids,
        .types = lane->types,
        .cu_seqlens = lane->cu_seqlens,
    };
}

int rr_forward(struct rr_lane *lane, enum rr_pass pass, uint32_t first, uint32_t n,
               struct rr_error *err)
{
    struct rr_sequences seqs;
    uint32_t i;
    int rc;

    pack(lane, first, n, &seqs);
    /* A backend that writes fewer logits than it should must not leave old ones in their place. */
    for (i = 0; i < n; i++) lane->logits[i] = NAN;
    atomic_store_explicit(&lane->run_since, rr_now_ns(), memory_order_release);
    rc = rr_net_forward(&lane->nets[pass], &seqs, lane->logits, err);
    atomic_store_explicit(&lane->run_since, 0, memory_order_relaxed);
    for (i = 0; i < n && !rc; i++)
        lane->outcomes[first + i] = (struct rr_outcome){
            .logit = lane->logits[i],
            .code = isfinite(lane->logits[i]) ? RR_OK : RR_ENONFINITE,
        };
    return rc;
}

/* ---- after a batch ------------------------------------------------------------------------- */

/* Scores for the caches.  Lock not held: taken units are ours. */
static void remember(struct rr_lane *lane, uint32_t n)
{
    enum { AT_ONCE = 64 };
    struct rr_tiers *cache = &lane->engine->cache;
    struct rr_key keys[AT_ONCE];
    struct rr_cached values[AT_ONCE];
    size_t m = 0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        const struct rr_unit *u = lane->batch[i];
        const struct rr_outcome *o = &lane->outcomes[i];

        if (!u->cacheable || o->code) continue;
        keys[m] = u->key;
        values[m++] = (struct rr_cached){ .logit = o->logit,
                                          .tokens = u->n_tokens & INT32_MAX,
                                          .truncated = u->full_tokens > u->n_tokens,
                                          .full_tokens = u->full_tokens };
        if (m < AT_ONCE) continue;
        rr_tiers_put(cache, keys, values, m);
        m = 0;
    }
    rr_tiers_put(cache, keys, values, m);
}

/* Everyone who waits for the unit gets its outcome.  Their jobs are put into *touched, held. */
static void deliver(struct rr_unit *u, const struct rr_outcome *o, const char *why,
                    rr_job **touched)
{
    while (u->wants) {
        struct rr_want *want = u->wants;
        rr_job *job = want->job;

        u->wants = want->next;
        want->unit = NULL;
        if (o->code) {
            rr_job_fail(job, o->code, why);
        } else {
            want->logit = o->logit;
            want->done = true;
            job->n_done++;
        }
        job->tokens_left -= want->tokens;
        if (job->touched) continue;
        job->touched = true;
        job->holds++;
        job->touched_next = *touched;
        *touched = job;
    }
}

/* Hands the outcomes out, frees the units, and lets the jobs go on.  Units that were lost with the
 * device wait again.  Lock held, released meanwhile. */
static void scatter(struct rr_lane *lane, uint32_t n, const struct rr_error *err)
{
    struct rr_engine *e = lane->engine;
    rr_job *touched = NULL, *next;
    uint32_t i, n_lost = 0;

    for (i = 0; i < n; i++) {
        struct rr_unit *u = lane->batch[i];
        const struct rr_outcome *o = &lane->outcomes[i];
        bool nan = o->code == RR_ENONFINITE;

        if (o->lost) {
            lane->batch[n_lost++] = u;
            continue;
        }
        e->stats.nonfinite += nan;
        deliver(u, o, nan ? "the model gave a score that is not a number" : err->msg, &touched);
        rr_units_remove(e, u);
        rr_free(u);
    }
    rr_units_give_back(e, lane->batch, n_lost);
    lane->in_hand = 0;
    for (; touched; touched = next) {
        next = touched->touched_next;
        touched->touched = false;
        rr_lanes_charge(touched);
        if (touched->err.code) rr_batcher_remove(touched);
        rr_job_release(e, touched);
    }
}

static void measure(struct rr_lane *lane, uint64_t start, uint64_t end, uint32_t n_tokens)
{
    uint64_t ns = end - start;
    double per_token = (double)ns / n_tokens;

    if (n_tokens >= lane->limits.max_tokens / 2) {
        if (!lane->n_large++ || per_token < lane->least_ns_per_token)
            lane->least_ns_per_token = per_token;
        lane->large_ns = end;
    }
    lane->mean_ns += ((double)ns - lane->mean_ns) / 8;
    lane->mean_tokens += (n_tokens - lane->mean_tokens) / 8;
    rr_speed_learn(&lane->speed, n_tokens, ns);
}

static bool all_failed(const struct rr_lane *lane, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n && lane->outcomes[i].code && lane->outcomes[i].code != RR_ENONFINITE; i++) {
    }
    return i == n;
}

static void mark_start(struct rr_lane *lane, uint32_t n, uint64_t now)
{
    const struct rr_want *want;
    uint32_t i;

    for (i = 0; i < n; i++)
        for (want = lane->batch[i]->wants; want; want = want->next)
            if (!want->job->first_batch_ns) want->job->first_batch_ns = now;
}

/* Lets the timer know how long the coming runs may take.  Lock held. */
static void watch(struct rr_lane *lane, uint64_t now, uint64_t budget)
{
    atomic_store_explicit(&lane->run_budget, budget, memory_order_relaxed);
    if (lane->engine->timer_next > now + budget) pthread_cond_signal(&lane->engine->timer_wake);
}

/* What failed, or was lost with the device, is not done.  Lock held. */
static void count(struct rr_lane *lane, uint32_t n, uint64_t start, uint64_t end)
{
    struct rr_stats *s = &lane->engine->stats;
    uint32_t i, done = 0, tokens = 0;

    for (i = 0; i < n; i++) {
        if (lane->outcomes[i].code && lane->outcomes[i].code != RR_ENONFINITE) continue;
        done++;
        tokens += lane->batch[i]->n_tokens;
    }
    s->batches_done += done > 0;
    s->pairs_done += done;
    s->tokens_done += tokens;
    s->compute_ns += end - start;
    s->last_batch_ns = lane->engine->progress_ns = end;
    lane->batches += done > 0;
    lane->pairs += done;
    lane->tokens_done += tokens;
    lane->compute_ns += end - start;
}

/* A run that counted as hung is over, and the device answers.  Lock held, released meanwhile. */
static void come_back(struct rr_lane *lane)
{
    rr_log(RR_WARN, "device %s: a batch that took very long is over", lane->name);
    rr_lane_up(lane);
    rr_jobs_rescue(lane->engine);
}

/* Computes one batch.  Lock held on entry and exit. */
static void run_batch(struct rr_lane *lane, enum rr_pass pass, uint32_t n, uint32_t n_tokens)
{
    struct rr_engine *e = lane->engine;
    struct rr_error err = { 0 };
    uint64_t start = rr_now_ns(), end;
    bool alive;

    lane->in_hand = n;
    lane->tokens = n_tokens;
    lane->taken_ns = start;
    mark_start(lane, n, start);
    watch(lane, start, rr_run_budget(lane, n_tokens));
    pthread_mutex_unlock(&e->lock);
    alive = rr_compute(lane, pass, n, &err);
    end = rr_now_ns();
    pthread_mutex_lock(&e->lock);
    if (lane->in_hand) { /* else others have it: it was given up as hung */
        pthread_mutex_unlock(&e->lock);
        remember(lane, n);
        pthread_mutex_lock(&e->lock);
        count(lane, n, start, end);
        if (!err.code) measure(lane, start, end, n_tokens);
        if (!all_failed(lane, n)) {
            lane->good_ns = end;
            lane->asked_ns = 0;
        }
        scatter(lane, n, &err);
    }
    if (lane->state == RR_LANE_HUNG) come_back(lane);
    if (!alive) {
        rr_lanes_wake(e, lane->kind); /* what it has given back */
        rr_jobs_rescue(e);
    }
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* A batch of the pass that was not served last, if it has work, else of the other. */
static uint32_t take(struct rr_lane *lane, const struct rr_grant *grant, enum rr_pass *pass,
                     uint32_t *n_tokens)
{
    struct rr_engine *e = lane->engine;
    struct rr_pace pace = { .max_tokens = lane->limits.max_tokens,
                            .max_pairs = lane->limits.max_sequences,
                            .now = rr_now_ns(),
                            .grant = grant };
    uint32_t n = 0, i;

    if (rr_lane_hold(lane, pace.now, &pace.part_tokens)) return 0;
    rr_lane_pace(lane, &pace);
    for (i = 1; i <= RR_PASSES && !n; i++) {
        *pass = (enum rr_pass)((lane->last_pass + i) % RR_PASSES);
        n = rr_batcher_take(&lane->kind->batchers[*pass], &pace, lane->batch, n_tokens);
    }
    if (!n) return 0;
    lane->last_pass = *pass;
    lane->kind->waiting -= *n_tokens;
    lane->kind->waiting_pairs -= n;
    for (i = 0; i < e->n_lanes; i++) /* those that have left it to this one may think again */
        if (e->lanes[i].holding) pthread_cond_signal(&e->lanes[i].wake);
    return n;
}

/* Somebody asked how we are and nothing was computed lately.  Lock held on entry and exit. */
static void probe(struct rr_lane *lane)
{
    struct rr_engine *e = lane->engine;
    bool ok;

    watch(lane, rr_now_ns(), e->stall_ns);
    pthread_mutex_unlock(&e->lock);
    ok = rr_check_lane(lane);
    pthread_mutex_lock(&e->lock);
    lane->asked_ns = 0;
    if (ok) lane->good_ns = rr_now_ns();
    if (lane->state == RR_LANE_HUNG) come_back(lane);
    if (!ok) rr_jobs_rescue(e);
}

/* Waits for the lane's turn in its team.  Lock held, released meanwhile.  false: it ends. */
static bool await_turn(struct rr_lane *lane, const struct rr_claim *claim,
                       const struct rr_grant **grant)
{
    struct rr_engine *e = lane->engine;
    bool ours;

    if (!e->team) return true;
    rr_team_ask(lane->member, claim); /* which changes nothing if it was asked for already */
    lane->asking_ns = rr_now_ns();
    pthread_mutex_unlock(&e->lock);
    ours = rr_team_wait(lane->member, grant);
    pthread_mutex_lock(&e->lock);
    lane->asking_ns = 0;
    return ours;
}

/* One batch, or a probe.  Lock held, released meanwhile. */
static void work(struct rr_lane *lane, const struct rr_grant *grant)
{
    enum rr_pass pass = RR_PASS_MAIN;
    uint32_t tokens, n = take(lane, grant, &pass, &tokens);

    if (n)
        run_batch(lane, pass, n, tokens);
    else if (lane->asked_ns)
        probe(lane);
}

/* What the lane wants now.  false: nothing; *until says when to look again. */
static bool wants(struct rr_lane *lane, struct rr_claim *claim, uint64_t *until)
{
    uint64_t now, hold;
    uint32_t part;

    *until = UINT64_MAX;
    if (lane->state != RR_LANE_UP || !rr_lane_claim(lane, claim)) return false;
    if (lane->kind->n_up < 2 || lane->asked_ns) return true;
    now = rr_now_ns();
    hold = rr_lane_hold(lane, now, &part);
    *until = now + hold;
    return hold == 0;
}

/* Out of service, or in reserve.  Lock held, released meanwhile. */
static void rest(struct rr_lane *lane)
{
    struct rr_engine *e = lane->engine;

    if (lane->reserve && !rr_reserve_wanted(e))
        pthread_cond_wait(&lane->wake, &e->lock);
    else if (rr_now_ns() < lane->reopen_ns)
        rr_wait_until(&lane->wake, &e->lock, lane->reopen_ns);
    else
        rr_lane_mend(lane);
}

/* In service.  *claimed: the next turn was asked for as the last one ended. */
static void serve(struct rr_lane *lane, bool *claimed)
{
    struct rr_engine *e = lane->engine;
    const struct rr_grant *grant = NULL;
    struct rr_claim claim;
    uint64_t until;

    if (!wants(lane, &claim, &until) && !*claimed) {
        lane->holding = until != UINT64_MAX;
        rr_wait_until(&lane->wake, &e->lock, until);
        lane->holding = false;
        return;
    }
    *claimed = false;
    if (!await_turn(lane, &claim, &grant)) return;
    work(lane, grant);
    if (!e->team) return;
    /* Asked for as this one ends: whoever has more to do keeps its place. */
    *claimed = wants(lane, &claim, &until);
    rr_team_done(lane->member, *claimed ? &claim : NULL);
}

void *rr_runner_main(void *arg)
{
    struct rr_lane *lane = arg;
    struct rr_engine *e = lane->engine;
    bool claimed = false;

    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        if (lane->state == RR_LANE_UP)
            serve(lane, &claimed);
        else
            rest(lane);
    }
    rr_team_retire(lane->member); /* others need not wait until all of the engine's have ended */
    lane->done = true;
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
