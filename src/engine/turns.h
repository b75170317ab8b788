/* SPDX-License-Identifier: Apache-2.0 */
/* turns.h - which of several models computes next on a device that they share: pure policy, no
 * threads, no clock.  Layer: engine (L5).  Threads: the caller holds the team's lock.
 *
 * A batch is of one model, so models take turns.  Between them, weighted fair queueing by the time
 * that they used (start-time fair queueing: Goyal, Vin and Cheng, 1996): a model weighs as much as
 * the tenants that wait at it, and a tenant that waits at n models counts 1/n at each.  So tenants
 * share the device first, whichever models they ask, then a tenant's models, then requests; and a
 * model with one waiting tenant always has its share, however many requests wait at others. */
#ifndef RR_ENGINE_TURNS_H
#define RR_ENGINE_TURNS_H

#include "engine/flows.h"

/* What waits at a model: tenants of each class by rr_flows_home, once for each lane.  Two with the
 * same home count together, which costs a little fairness and no more. */
struct rr_claim {
    uint16_t tenants[RR_CLASSES][RR_FLOWS];
    bool probe; /* a proof of life is wanted: in the HIGH class, like one tenant */
};

/* The turn as the model's batcher must use it. */
struct rr_grant {
    enum rr_class lead;                    /* the class that it was given for */
    uint16_t models[RR_CLASSES][RR_FLOWS]; /* at which tenants of a home wait; 0: at none */
};

struct rr_stake { /* a model's; zero: claims nothing */
    struct rr_claim claim;
    struct rr_stake *next, **link;
    bool waiting;           /* for a turn */
    double tag[RR_CLASSES]; /* nanoseconds for each weight that it had; counts while it claims */
    enum rr_class lead;     /* of its last turn */
    double weight;          /* ... and its weight then */
};

struct rr_turns {           /* of one device; zero: nobody waits */
    struct rr_stake *first; /* those that claim something */
    uint16_t models[RR_CLASSES][RR_FLOWS];
    double now[RR_CLASSES]; /* tag of the last turn: who comes anew begins there */
    uint32_t turn;
};

/* Makes claim that of the stake; NULL: nothing waits there any more. */
void rr_turns_claim(struct rr_turns *t, struct rr_stake *stake, const struct rr_claim *claim);

/* The waiting stake whose turn it is, which then waits no longer, with *grant filled; NULL: none
 * waits. */
struct rr_stake *rr_turns_next(struct rr_turns *t, struct rr_grant *grant);

/* The turn took so long. */
void rr_turns_charge(struct rr_stake *stake, uint64_t ns);

/* The part of the device that the stake has now, or would have with a tenant of its own: above 0,
 * at most 1. */
double rr_turns_share(const struct rr_turns *t, const struct rr_stake *stake);

#endif
