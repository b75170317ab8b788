/* SPDX-License-Identifier: Apache-2.0 */
/* batcher.c - see batcher.h. */
#include "engine/batcher.h"

#include "base/attr.h"

/* Small against a batch, so that many jobs share one; large against a pair, so that visits are
 * few. */
enum { QUANTUM = 256 };

struct batch { /* being filled */
    struct rr_batcher *b;
    const struct rr_pace *pace;
    struct rr_unit **units;
    uint32_t n, tokens;
    uint32_t enough_tokens; /* a smaller one would waste the device */
    bool full;
};

/* The job's next unit that nobody has taken yet; NULL: none.  Moves its place forward. */
static struct rr_unit *next_unit(rr_job *job)
{
    while (job->at) {
        for (; job->at_want < job->at->n; job->at_want++) {
            struct rr_unit *u = job->at->wants[job->at_want].unit;

            if (u && !u->taken) return u;
        }
        if (!job->at->next) return NULL; /* stays at the end of the last: more may be added */
        job->at = job->at->next;
        job->at_want = 0;
    }
    return NULL;
}

void rr_batcher_add(struct rr_batcher *b, rr_job *job)
{
    if (!job->hopeless && next_unit(job))
        rr_flows_add(&b->flows, &job->batch, job, job->class, job->req.tenant);
}

void rr_batcher_remove(rr_job *job)
{
    rr_flows_remove(&job->batch);
}

static bool too_late(const struct batch *t, const rr_job *job, double ns)
{
    return job->deadline_ns != UINT64_MAX && (double)t->pace->now + ns > (double)job->deadline_ns;
}

/* Even if the fastest lane did nothing else from now on, the pair would end too late. */
static bool pair_too_late(const struct batch *t, const rr_job *job, uint32_t n_tokens)
{
    return too_late(t, job, n_tokens * t->pace->least_ns_per_token);
}

/* A job that wants all or nothing is given up as a whole, when all lanes together would end what is
 * left, or the fastest one the next pair, too late; one that takes parts, when not even a token
 * could be done. */
static bool hopeless(const struct batch *t, const rr_job *job, const struct rr_unit *u)
{
    const struct rr_pace *pace = t->pace;
    uint64_t left = job->tokens_left - RR_MIN(job->tokens_left, pace->others_tokens);

    if (job->req.allow_partial) return pair_too_late(t, job, 1);
    return pair_too_late(t, job, u->n_tokens) ||
           too_late(t, job, (double)left * pace->all_ns_per_token);
}

/* next_unit() of those that can be done in time: behind one that is too long there may be shorter
 * ones.  NULL: none, or the job is hopeless. */
static struct rr_unit *next_in_time(const struct batch *t, rr_job *job)
{
    struct rr_unit *u = next_unit(job);

    job->hopeless = u && hopeless(t, job, u);
    if (job->hopeless) return NULL;
    for (; u && pair_too_late(t, job, u->n_tokens); u = next_unit(job)) {
        job->left_out = true;
        job->at_want++;
    }
    return u;
}

/* One visit to a job: takes what its deficit and its tenant's allow.  false: go on with the
 * tenant's next job, if there is one; true: the batch is full or the tenant has had its share. */
static bool visit_job(struct batch *t, struct rr_flow *flow)
{
    struct rr_node *node = flow->first;
    rr_job *job = node->job;
    struct rr_unit *u;

    if (!node->visited) node->deficit += QUANTUM;
    node->visited = true;
    while ((u = next_in_time(t, job))) {
        if (u->n_tokens > node->deficit) {
            rr_flows_rotate_job(flow);
            return false;
        }
        if (u->n_tokens > flow->deficit) return true;
        if (t->full || t->n == t->pace->max_pairs ||
            t->tokens + u->n_tokens > t->pace->max_tokens) {
            t->full = true; /* it keeps its place and what it saved: next in the coming batch */
            return true;
        }
        flow->deficit -= u->n_tokens;
        node->deficit -= u->n_tokens;
        u->taken = true;
        t->tokens += u->n_tokens;
        t->units[t->n++] = u;
        t->full = t->tokens >= t->pace->part_tokens;
    }
    rr_flows_remove(node);
    /* Its last pair is in: others' work would only delay it. */
    if (!job->hopeless && !job->left_out && t->tokens >= t->enough_tokens) t->full = true;
    return t->full;
}

/* A tenant that waits at several models gets part of its share at each. */
static uint32_t quantum(const struct batch *t, enum rr_class class, const struct rr_flow *flow)
{
    const struct rr_grant *grant = t->pace->grant;
    uint32_t models = grant ? grant->models[class][rr_flows_home(flow->tenant)] : 1;

    return RR_MAX(QUANTUM / RR_MAX(models, 1u), 1u);
}

/* Serves a class until the batch is full or the class has nothing left. */
static void fill(struct batch *t, enum rr_class class)
{
    struct rr_flow *const *ring = &t->b->flows.rings[class];

    while (*ring && !t->full) {
        struct rr_flow *flow = *ring;

        if (!flow->visited) flow->deficit += quantum(t, class, flow);
        flow->visited = true;
        while (flow->first && !visit_job(t, flow)) {
        }
        if (flow->first && !t->full) rr_flows_rotate(flow);
    }
}

uint32_t rr_batcher_take(struct rr_batcher *b, const struct rr_pace *pace, struct rr_unit **units,
                         uint32_t *tokens)
{
    struct batch t = { .b = b,
                       .pace = pace,
                       .units = units,
                       .enough_tokens = RR_MIN(pace->max_tokens, pace->part_tokens) / 2 };
    enum rr_class order[RR_CLASSES];
    int c;

    *tokens = 0;
    if (rr_flows_empty(&b->flows)) return 0;
    rr_flows_order(pace->grant ? pace->grant->lead : rr_flows_lead(++b->flows.turn), order);
    for (c = 0; c < RR_CLASSES && !t.full; c++) fill(&t, order[c]);
    *tokens = t.tokens;
    return t.n;
}
