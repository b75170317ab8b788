/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c - the one thread that owns the devices: batch in, logits out, probes when idle.
 * Layer: engine (L5). */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"

/* ---- one forward --------------------------------------------------------------------------- */

/* Packs the units back to back into the runner's arrays. */
static void pack(struct rr_engine *e, uint32_t first, uint32_t n, struct rr_sequences *seqs)
{
    uint32_t i, at = 0;

    e->cu_seqlens[0] = 0;
    for (i = 0; i < n; i++) {
        const struct rr_unit *u = e->batch[first + i];

        memcpy(e->ids + at, u->data, u->n_tokens * sizeof(int32_t));
        memcpy(e->types + at, u->data + u->n_tokens, u->n_tokens * sizeof(int32_t));
        at += u->n_tokens;
        e->cu_seqlens[i + 1] = at;
    }
    *seqs = (struct rr_sequences){
        .n_tokens = at,
        .n_sequences = n,
        .ids = e->ids,
        .types = e->types,
        .cu_seqlens = e->cu_seqlens,
    };
}

int rr_forward(struct rr_engine *e, struct rr_net *net, uint32_t first, uint32_t n,
               struct rr_error *err)
{
    struct rr_sequences seqs;
    uint32_t i;
    int rc;

    pack(e, first, n, &seqs);
    /* A backend that writes fewer logits than it should must not leave old ones in their place. */
    for (i = 0; i < n; i++) e->logits[i] = NAN;
    atomic_store_explicit(&e->run_since, rr_now_ns(), memory_order_relaxed);
    rc = rr_net_forward(net, &seqs, e->logits, err);
    atomic_store_explicit(&e->run_since, 0, memory_order_relaxed);
    for (i = 0; i < n && !rc; i++)
        e->outcomes[first + i] = (struct rr_outcome){
            .logit = e->logits[i],
            .code = isfinite(e->logits[i]) ? RR_OK : RR_ENONFINITE,
            .fingerprint = net->fingerprint ^ e->tok_fingerprint,
        };
    return rc;
}

/* ---- after a batch ------------------------------------------------------------------------- */

/* Scores for the caches.  Lock not held: taken units are ours. */
static void remember(struct rr_engine *e, uint32_t n)
{
    enum { AT_ONCE = 64 };
    struct rr_key keys[AT_ONCE];
    struct rr_cached values[AT_ONCE];
    size_t m = 0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        const struct rr_unit *u = e->batch[i];
        const struct rr_outcome *o = &e->outcomes[i];

        /* A unit whose key names another network's score was computed on a spare. */
        if (!u->cacheable || o->code || o->fingerprint != u->fingerprint) continue;
        keys[m] = u->key;
        values[m++] = (struct rr_cached){ .logit = o->logit,
                                          .tokens = u->n_tokens & INT32_MAX,
                                          .truncated = u->full_tokens > u->n_tokens,
                                          .full_tokens = u->full_tokens };
        if (m < AT_ONCE) continue;
        rr_tiers_put(&e->cache, keys, values, m);
        m = 0;
    }
    rr_tiers_put(&e->cache, keys, values, m);
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

/* Hands the outcomes out, frees the units, and lets the jobs go on.  Lock held, released
 * meanwhile. */
static void scatter(struct rr_engine *e, uint32_t n, const struct rr_error *err)
{
    rr_job *touched = NULL, *next;
    uint32_t i;

    for (i = 0; i < n; i++) {
        struct rr_unit *u = e->batch[i];
        const struct rr_outcome *o = &e->outcomes[i];
        bool nan = o->code == RR_ENONFINITE;

        e->stats.nonfinite += nan;
        deliver(u, o, nan ? "the model gave a score that is not a number" : err->msg, &touched);
        rr_units_remove(e, u);
        rr_free(u);
    }
    for (; touched; touched = next) {
        next = touched->touched_next;
        touched->touched = false;
        if (touched->err.code) rr_batcher_remove(touched);
        rr_job_release(e, touched);
    }
}

static void measure(struct rr_lane *lane, uint64_t ns, uint32_t n_tokens)
{
    double per_token = (double)ns / n_tokens;

    if (!lane->least_ns_per_token || per_token < lane->least_ns_per_token)
        lane->least_ns_per_token = per_token;
    if (!lane->mean_ns_per_token) lane->mean_ns_per_token = per_token;
    lane->mean_ns_per_token += (per_token - lane->mean_ns_per_token) / 8; /* of the last few */
}

static bool all_failed(const struct rr_engine *e, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n && e->outcomes[i].code && e->outcomes[i].code != RR_ENONFINITE; i++) {
    }
    return i == n;
}

static void mark_start(struct rr_engine *e, uint32_t n, uint64_t now)
{
    const struct rr_want *want;
    uint32_t i;

    for (i = 0; i < n; i++)
        for (want = e->batch[i]->wants; want; want = want->next)
            if (!want->job->first_batch_ns) want->job->first_batch_ns = now;
}

/* Lets the timer know how long the coming runs may take.  Lock held. */
static void watch(struct rr_engine *e, uint64_t now, uint64_t budget)
{
    atomic_store_explicit(&e->run_budget, budget, memory_order_relaxed);
    if (e->timer_next > now + budget) pthread_cond_signal(&e->timer_wake);
}

/* Computes one batch.  Lock held on entry and exit. */
static void run_batch(struct rr_engine *e, enum rr_lane_id id, uint32_t n, uint32_t n_tokens)
{
    struct rr_lane *lane = &e->lanes[id];
    struct rr_error err = { 0 };
    uint64_t start = rr_now_ns(), end;

    mark_start(e, n, start);
    watch(e, start, rr_run_budget(e, id, n_tokens));
    pthread_mutex_unlock(&e->lock);
    rr_compute(e, id, n, &err);
    end = rr_now_ns();
    remember(e, n);
    pthread_mutex_lock(&e->lock);
    if (e->stalled)
        rr_log(RR_WARN, "device %s: a batch that took very long is over", e->info.device);
    e->stalled = false;
    e->stats.batches_done++;
    e->stats.pairs_done += n;
    e->stats.tokens_done += n_tokens;
    e->stats.compute_ns += end - start;
    e->stats.last_batch_ns = e->progress_ns = end;
    if (!err.code) measure(lane, end - start, n_tokens);
    if (!all_failed(e, n)) {
        e->good_ns = end;
        e->asked_ns = 0;
    }
    scatter(e, n, &err);
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* A batch of the lane that was not served last, if it has work, else of the other. */
static uint32_t take(struct rr_engine *e, const struct rr_grant *grant, enum rr_lane_id *id,
                     uint32_t *n_tokens)
{
    uint64_t now = rr_now_ns();
    uint32_t n = 0;
    int i;

    for (i = 1; i <= RR_LANES && !n; i++) {
        struct rr_lane *lane = &e->lanes[(e->last_lane + i) % RR_LANES];
        struct rr_pace pace = { now, lane->least_ns_per_token, grant };

        if (!lane->exists) continue;
        *id = (enum rr_lane_id)(lane - e->lanes);
        n = rr_batcher_take(&lane->batcher, &pace, e->batch, n_tokens);
    }
    if (n) e->last_lane = *id;
    return n;
}

/* Somebody asked how we are and nothing was computed lately.  Lock held on entry and exit. */
static void probe(struct rr_engine *e)
{
    bool ok = true;
    int i;

    watch(e, rr_now_ns(), e->stall_ns);
    pthread_mutex_unlock(&e->lock);
    for (i = 0; i < RR_LANES; i++)
        if (e->lanes[i].exists) ok = rr_check_lane(e, (enum rr_lane_id)i) && ok;
    pthread_mutex_lock(&e->lock);
    e->stalled = false;
    if (ok) e->good_ns = rr_now_ns();
    e->asked_ns = 0;
}

/* What waits for the device; false: nothing does.  Lock held. */
static bool claim_of(const struct rr_engine *e, struct rr_claim *claim)
{
    bool any = false;
    int i;

    memset(claim, 0, sizeof(*claim));
    claim->probe = e->asked_ns != 0;
    for (i = 0; i < RR_LANES; i++) {
        const struct rr_flows *flows = &e->lanes[i].batcher.flows;

        if (!e->lanes[i].exists || rr_flows_empty(flows)) continue;
        rr_flows_count(flows, claim->tenants);
        any = true;
    }
    return any || claim->probe;
}

void rr_runner_wake(struct rr_engine *e)
{
    struct rr_claim claim;

    if (e->asking && claim_of(e, &claim)) rr_team_ask(e->member, &claim);
    pthread_cond_signal(&e->run_wake);
}

/* Waits for the engine's turn in its team.  Lock held, released meanwhile.  false: it ends. */
static bool await_turn(struct rr_engine *e, const struct rr_claim *claim,
                       const struct rr_grant **grant)
{
    bool ours;

    if (!e->team) return true;
    rr_team_ask(e->member, claim); /* which changes nothing if it was asked for already */
    e->asking = true;
    pthread_mutex_unlock(&e->lock);
    ours = rr_team_wait(e->member, grant);
    pthread_mutex_lock(&e->lock);
    e->asking = false;
    return ours;
}

/* One batch, or a probe.  Lock held, released meanwhile. */
static void work(struct rr_engine *e, const struct rr_grant *grant)
{
    enum rr_lane_id id = RR_LANE_MAIN;
    uint32_t tokens, n = take(e, grant, &id, &tokens);

    if (n)
        run_batch(e, id, n, tokens);
    else if (e->asked_ns)
        probe(e);
}

void *rr_runner_main(void *arg)
{
    struct rr_engine *e = arg;
    const struct rr_grant *grant = NULL;
    struct rr_claim claim;

    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        if (!claim_of(e, &claim)) {
            pthread_cond_wait(&e->run_wake, &e->lock);
        } else if (await_turn(e, &claim, &grant)) {
            work(e, grant);
            /* Asked for as this one ends: whoever has more to do keeps its place. */
            if (e->team) rr_team_done(e->member, claim_of(e, &claim) ? &claim : NULL);
        }
    }
    e->runner_done = true;
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
