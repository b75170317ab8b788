/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.c - which lane computes what, and what becomes of work when a lane leaves service.
 * Layer: engine (L5).  Threads: the caller holds the engine's lock. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "engine/engine.h"

#define FIRST_BACKOFF RR_SECOND
#define LEAST_HOLD RR_MILLISECOND
#define LONGEST_HOLD (50 * RR_MILLISECOND)
#define MEASURED_FOR (10 * RR_SECOND)

/* A request with whose batches so many devices were lost is not given to another one. */
enum { MOST_LOSSES = 3 };

/* So many large batches show how fast a device can be. */
enum { ENOUGH_BATCHES = 4 };

/* ---- kinds ---------------------------------------------------------------------------------- */

static bool same_bits(const struct rr_kind *k, const struct rr_lane *lane, const uint64_t *prints)
{
    return memcmp(k->fingerprint, prints, sizeof(k->fingerprint)) == 0 &&
           memcmp(k->probe, lane->probe, sizeof(k->probe)) == 0;
}

/* The fingerprints of the lane's networks.  Devices that should give the same bits and do not must
 * not share scores: the second one's are named after it. */
static void name_bits(const struct rr_lane *lane, uint64_t prints[RR_PASSES])
{
    const struct rr_engine *e = lane->engine;
    uint32_t i;
    int p;

    for (p = 0; p < RR_PASSES; p++)
        prints[p] = lane->nets[p].fingerprint ? lane->nets[p].fingerprint ^ e->tok_fingerprint : 0;
    for (i = 0; i < e->n_kinds; i++) {
        if (memcmp(e->kinds[i]->fingerprint, prints, RR_PASSES * sizeof(*prints)) != 0 ||
            same_bits(e->kinds[i], lane, prints))
            continue;
        rr_log(RR_WARN, "device %s gives other bits than one that should be its like", lane->name);
        for (p = 0; p < RR_PASSES; p++)
            prints[p] ^= rr_key_prefix(&(struct rr_key_context){ 0 }, rr_text(lane->name)).lo;
    }
}

int rr_lane_join(struct rr_lane *lane, struct rr_error *err)
{
    struct rr_engine *e = lane->engine;
    uint64_t prints[RR_PASSES];
    struct rr_kind *kind;
    uint32_t i;

    if (lane->kind) return RR_OK; /* opened again: it has proven to give the same bits */
    name_bits(lane, prints);
    for (i = 0; i < e->n_kinds && !lane->kind; i++)
        if (same_bits(e->kinds[i], lane, prints)) lane->kind = e->kinds[i];
    if (lane->kind) return RR_OK;
    kind = rr_calloc(RR_MEM_MISC, 1, sizeof(*kind));
    if (!kind) return rr_fail(err, RR_ENOMEM, "out of memory for the queue of %s", lane->name);
    memcpy(kind->fingerprint, prints, sizeof(prints));
    memcpy(kind->probe, lane->probe, sizeof(kind->probe));
    kind->rescoring = lane->dtype[RR_PASS_RESCORE][0] != 0;
    kind->exact = strcmp(lane->dtype[RR_PASS_MAIN], "f32") == 0;
    kind->reserve = lane->reserve;
    lane->kind = e->kinds[e->n_kinds++] = kind;
    return RR_OK;
}

void rr_kind_waits(const struct rr_unit *u, int sign)
{
    if (sign > 0) {
        u->kind->waiting += u->n_tokens;
        u->kind->waiting_pairs++;
    } else {
        u->kind->waiting -= u->n_tokens;
        u->kind->waiting_pairs--;
    }
}

/* ---- who is there --------------------------------------------------------------------------- */

static bool devices_up(const struct rr_engine *e)
{
    uint32_t i;

    for (i = 0; i < e->n_devices; i++)
        if (e->lanes[i].state == RR_LANE_UP) return true;
    return false;
}

bool rr_lanes_any(const struct rr_engine *e)
{
    return devices_up(e) ||
           (e->n_lanes > e->n_devices && e->lanes[e->n_devices].state == RR_LANE_UP);
}

bool rr_reserve_wanted(const struct rr_engine *e)
{
    return !devices_up(e);
}

bool rr_reserve_comes(const struct rr_engine *e)
{
    return e->n_lanes > e->n_devices && e->lanes[e->n_devices].state == RR_LANE_ASLEEP;
}

bool rr_lanes_stalled(const struct rr_engine *e)
{
    bool hung = false;
    uint32_t i;

    if (rr_lanes_any(e) || rr_reserve_comes(e)) return false;
    for (i = 0; i < e->n_lanes; i++) hung = hung || e->lanes[i].state == RR_LANE_HUNG;
    return hung;
}

void rr_lanes_why(const struct rr_engine *e, char *out, size_t cap)
{
    uint32_t i, n_up = 0;
    size_t at = 0;

    out[0] = 0;
    for (i = 0; i < e->n_devices; i++) {
        const struct rr_lane *lane = &e->lanes[i];

        n_up += lane->state == RR_LANE_UP;
        if (lane->state == RR_LANE_UP || at >= cap) continue;
        at +=
            (size_t)snprintf(out + at, cap - at, "%s%s: %s", at ? "; " : "", lane->name, lane->why);
    }
    if (n_up == e->n_devices || at >= cap) return;
    if (n_up)
        snprintf(out + at, cap - at, "; %u of %u devices serve", n_up, e->n_devices);
    else if (rr_lanes_any(e))
        snprintf(out + at, cap - at, "; the CPU serves");
}

/* ---- who computes what ---------------------------------------------------------------------- */

static struct rr_hand hand_of(const struct rr_lane *lane, uint64_t now)
{
    struct rr_hand h = { &lane->speed, lane->limits.max_tokens, 0, 1 };

    if (lane->asking_ns) { /* another model has the device; it may keep it as long again */
        h.busy_ns = (double)(now - RR_MIN(lane->asking_ns, now));
    } else if (lane->in_hand) { /* one that is late may be late as long again */
        h.busy_ns =
            fabs((double)lane->taken_ns + rr_speed_ns(&lane->speed, lane->tokens) - (double)now);
        h.busy_ns = RR_MAX(h.busy_ns, 1.0);
    }
    if (lane->member) h.share = rr_team_share(lane->member);
    return h;
}

/* Those of the kind that are in service, without one of them. */
static size_t hands_of(const struct rr_engine *e, const struct rr_kind *kind,
                       const struct rr_lane *without, uint64_t now, struct rr_hand *out)
{
    size_t n = 0;
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        const struct rr_lane *lane = &e->lanes[i];

        if (lane->kind == kind && lane->state == RR_LANE_UP && lane != without)
            out[n++] = hand_of(lane, now);
    }
    return n;
}

void rr_lanes_choose(struct rr_engine *e, rr_job *job)
{
    struct rr_kind *best = e->kinds[0];
    double least = HUGE_VAL;
    uint32_t i;

    for (i = 0; e->n_kinds > 1 && i < e->n_kinds; i++) {
        struct rr_kind *kind = e->kinds[i];
        struct rr_hand hands[RR_MAX_LANES];
        double ns;
        size_t n, h;

        if (!kind->n_up || (kind->reserve && devices_up(e))) continue;
        n = hands_of(e, kind, NULL, 0, hands);
        for (h = 0; h < n; h++) hands[h].busy_ns = 0; /* charged has what is in hand */
        ns = rr_finish_ns(hands, n, (double)kind->charged, (double)job->estimate);
        if (ns >= least) continue;
        least = ns;
        best = kind;
    }
    job->kind = best;
    job->charged = job->estimate;
    best->charged += job->charged;
}

void rr_lanes_charge(rr_job *job)
{
    double unknown = (double)(job->n_todo - job->n_prepared) / (double)job->req.n_documents;
    uint64_t left = job->tokens_left + (uint64_t)((double)job->estimate * unknown);

    job->kind->charged += left - job->charged;
    job->charged = left;
}

void rr_lanes_discharge(rr_job *job)
{
    if (job->kind) job->kind->charged -= job->charged;
    job->charged = 0;
}

bool rr_lane_claim(const struct rr_lane *lane, struct rr_claim *claim)
{
    bool any = false;
    int p;

    memset(claim, 0, sizeof(*claim));
    claim->probe = lane->asked_ns != 0;
    for (p = 0; p < RR_PASSES; p++) {
        const struct rr_flows *flows = &lane->kind->batchers[p].flows;

        if (rr_flows_empty(flows)) continue;
        rr_flows_count(flows, claim->tenants);
        any = true;
    }
    return any || claim->probe;
}

void rr_lane_wake(struct rr_lane *lane)
{
    struct rr_claim claim;

    if (lane->asking_ns && rr_lane_claim(lane, &claim)) rr_team_ask(lane->member, &claim);
    pthread_cond_signal(&lane->wake);
}

void rr_lanes_wake(struct rr_engine *e, const struct rr_kind *kind)
{
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++)
        if (e->lanes[i].kind == kind && e->lanes[i].state == RR_LANE_UP) rr_lane_wake(&e->lanes[i]);
}

uint64_t rr_lane_hold(const struct rr_lane *lane, uint64_t now, uint32_t *part)
{
    struct rr_hand others[RR_MAX_LANES], me;
    double waiting = (double)lane->kind->waiting, pair, hold;
    size_t n;

    *part = lane->limits.max_tokens;
    if (lane->kind->n_up < 2) return 0;
    n = hands_of(lane->engine, lane->kind, lane, now, others);
    me = hand_of(lane, now);
    me.busy_ns = 0;
    pair = waiting / RR_MAX(lane->kind->waiting_pairs, 1u);
    *part = (uint32_t)RR_MAX(rr_lane_part(&me, others, n, waiting, pair), 1.0);
    if (rr_lane_takes(&me, others, n, waiting, pair)) return 0;
    hold = rr_speed_ns(me.speed, *part) / 8; /* the others' estimates move meanwhile */
    return RR_MIN(RR_MAX((uint64_t)hold, LEAST_HOLD), LONGEST_HOLD);
}

double rr_lane_ns_per_token(const struct rr_lane *lane)
{
    return lane->mean_tokens > 0 ? lane->mean_ns / lane->mean_tokens : 0;
}

/* How fast the lane can be is known: one slow batch does not tell, nor do those of long ago.  As
 * long as it is not, all work is tried, so that a slow moment locks nothing out for good. */
static bool is_measured(const struct rr_lane *lane, uint64_t now)
{
    return lane->n_large >= ENOUGH_BATCHES && now - RR_MIN(lane->large_ns, now) < MEASURED_FOR;
}

void rr_lane_pace(const struct rr_lane *lane, struct rr_pace *pace)
{
    const struct rr_engine *e = lane->engine;
    double fastest = HUGE_VAL, rate = 0;
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        const struct rr_lane *l = &e->lanes[i];

        if (l->kind != lane->kind || l->state != RR_LANE_UP) continue;
        if (l != lane && l->in_hand) pace->others_tokens += l->tokens;
        if (!is_measured(l, pace->now)) return; /* any speed is possible */
        fastest = RR_MIN(fastest, l->least_ns_per_token);
        rate += 1 / l->least_ns_per_token;
    }
    pace->least_ns_per_token = fastest;
    pace->all_ns_per_token = 1 / rate;
}

/* ---- lanes come and go ---------------------------------------------------------------------- */

void rr_lane_up(struct rr_lane *lane)
{
    if (lane->state == RR_LANE_UP) return;
    lane->state = RR_LANE_UP;
    lane->why[0] = 0;
    lane->backoff_ns = 0;
    lane->good_ns = rr_now_ns();
    lane->asked_ns = 0;
    lane->kind->n_up++;
}

void rr_lane_lost(struct rr_lane *lane, enum rr_lane_state state, const char *why)
{
    struct rr_engine *e = lane->engine;

    if (lane->state == RR_LANE_UP) lane->kind->n_up--;
    lane->state = state;
    snprintf(lane->why, sizeof(lane->why), "%.120s", why);
    if (state == RR_LANE_DOWN) {
        lane->backoff_ns = lane->backoff_ns ? lane->backoff_ns : FIRST_BACKOFF;
        lane->reopen_ns = rr_now_ns() + lane->backoff_ns;
        lane->mean_ns = lane->mean_tokens = 0;
        lane->n_large = 0;
    }
    if (e->n_lanes > e->n_devices && rr_reserve_wanted(e))
        pthread_cond_signal(&e->lanes[e->n_devices].wake);
}

/* The unit's job waits for a lane again, unless it has seen too many of them go. */
static void requeue(struct rr_engine *e, struct rr_unit *u, rr_job *job)
{
    job->at = job->blocks;
    job->at_want = 0;
    if (job->last_loss != e->losses) {
        job->last_loss = e->losses;
        job->losses++;
    }
    if (job->losses >= MOST_LOSSES)
        rr_job_fail(job, RR_EDEVICE, "several devices failed while they computed the request");
    if (!job->err.code && !job->canceled) rr_batcher_add(&u->kind->batchers[u->pass], job);
}

void rr_units_give_back(struct rr_engine *e, struct rr_unit *const *units, uint32_t n)
{
    const struct rr_want *want;
    uint32_t i;

    if (!n) return;
    e->losses++;
    e->stats.device_retries += n;
    for (i = 0; i < n; i++) {
        struct rr_unit *u = units[i];

        u->taken = false;
        if (!u->wants) {
            rr_units_remove(e, u);
            rr_free(u);
            continue;
        }
        rr_kind_waits(u, 1);
        for (want = u->wants; want; want = want->next) requeue(e, u, want->job);
    }
}
