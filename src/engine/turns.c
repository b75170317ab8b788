/* SPDX-License-Identifier: Apache-2.0 */
/* turns.c - see turns.h. */
#include "engine/turns.h"

#include <string.h>

#include "base/attr.h"

/* The tenants that wait at it, each for the part that waits here and not at other models. */
static double weight(const struct rr_turns *t, const struct rr_stake *stake, int class)
{
    double sum = class == RR_CLASS_HIGH && stake->claim.probe;
    int i;

    for (i = 0; i < RR_FLOWS; i++) {
        uint16_t n = stake->claim.tenants[class][i];

        if (n) sum += (double)n / t->models[class][i];
    }
    return sum;
}

static double total_weight(const struct rr_turns *t, const struct rr_stake *stake)
{
    double sum = 0;
    int c;

    for (c = 0; c < RR_CLASSES; c++) sum += weight(t, stake, c);
    return sum;
}

static bool claims(const struct rr_claim *claim, int class)
{
    static const uint16_t none[RR_FLOWS];

    return (class == RR_CLASS_HIGH && claim->probe) ||
           memcmp(claim->tenants[class], none, sizeof(none)) != 0;
}

/* Replaces the old claim in the sums. */
static void count(struct rr_turns *t, const struct rr_claim *old, const struct rr_claim *new)
{
    int c, i;

    for (c = 0; c < RR_CLASSES; c++)
        for (i = 0; i < RR_FLOWS; i++) {
            if (new->tenants[c][i]) t->models[c][i]++;
            if (old->tenants[c][i]) t->models[c][i]--;
        }
}

void rr_turns_claim(struct rr_turns *t, struct rr_stake *stake, const struct rr_claim *claim)
{
    static const struct rr_claim nothing;
    const struct rr_claim *new = claim ? claim : &nothing;
    int c;

    count(t, &stake->claim, new);
    for (c = 0; c < RR_CLASSES; c++) {
        bool comes = claims(new, c) && !claims(&stake->claim, c);

        /* What it was short of while it wanted nothing is not made up for. */
        if (comes) stake->tag[c] = RR_MAX(stake->tag[c], t->now[c]);
    }
    stake->claim = *new;
    stake->waiting = claim != NULL;
    if (claim && !stake->link) {
        stake->next = t->first;
        stake->link = &t->first;
        if (t->first) t->first->link = &stake->next;
        t->first = stake;
    } else if (!claim && stake->link) {
        *stake->link = stake->next;
        if (stake->next) stake->next->link = stake->link;
        stake->link = NULL;
    }
}

/* Of those that wait with something of the class, the one that is furthest behind. */
static struct rr_stake *furthest(const struct rr_turns *t, int class)
{
    struct rr_stake *s, *best = NULL;

    for (s = t->first; s; s = s->next)
        if (s->waiting && claims(&s->claim, class) && (!best || s->tag[class] < best->tag[class]))
            best = s;
    return best;
}

struct rr_stake *rr_turns_next(struct rr_turns *t, struct rr_grant *grant)
{
    enum rr_class order[RR_CLASSES];
    struct rr_stake *best = NULL;
    int c;

    rr_flows_order(rr_flows_lead(t->turn + 1), order);
    for (c = 0; c < RR_CLASSES && !best; c++) {
        best = furthest(t, order[c]);
        if (best) grant->lead = order[c];
    }
    if (!best) return NULL;
    t->turn++;
    best->waiting = false;
    best->lead = grant->lead;
    best->weight = weight(t, best, (int)best->lead);
    t->now[best->lead] = RR_MAX(t->now[best->lead], best->tag[best->lead]);
    memcpy(grant->models, t->models, sizeof(grant->models));
    return best;
}

void rr_turns_charge(struct rr_stake *stake, uint64_t ns)
{
    stake->tag[stake->lead] += (double)ns / stake->weight;
}

double rr_turns_share(const struct rr_turns *t, const struct rr_stake *stake)
{
    double own = total_weight(t, stake), all = 0;
    const struct rr_stake *s;

    for (s = t->first; s; s = s->next) all += total_weight(t, s);
    if (own == 0) { /* it has left, or has not come yet */
        own = 1;
        all += 1;
    }
    return own / all;
}
