/* SPDX-License-Identifier: Apache-2.0 */
/* flows.h - who is next: classes of priority, in each a ring of tenants, in each a ring of jobs.
 * Pure policy.  Layer: engine (L5).  Threads: the caller holds the engine's lock.
 *
 * Adding, removing and finding the next are O(1), and nothing is allocated.  A tenant has a flow of
 * its own while no more than RR_FLOWS tenants of a class are active; beyond that, some share one
 * (McKenney, Stochastic Fairness Queueing, 1990). */
#ifndef RR_ENGINE_FLOWS_H
#define RR_ENGINE_FLOWS_H

#include <stdbool.h>
#include <stdint.h>

enum { RR_FLOWS = 128 };

enum rr_class { RR_CLASS_HIGH, RR_CLASS_NORMAL, RR_CLASS_LOW, RR_CLASSES };

struct rr_node {                 /* a job's place; zero: in no ring */
    struct rr_node *next, *prev; /* ring of its flow */
    struct rr_flow *flow;        /* NULL: in no ring */
    struct rr_ticket *job;
    uint64_t deficit; /* tokens that it may still take in this round; the batcher's */
    bool visited;     /* it has got its quantum for this round; the batcher's */
};

struct rr_flow {                 /* a tenant */
    struct rr_flow *next, *prev; /* ring of its class */
    struct rr_node *first;       /* the next to be served; NULL: the flow is unused */
    struct rr_flow **ring;       /* of the class */
    uint64_t tenant, deficit;
    bool visited;
};

/* Where a tenant's flow is looked for first, below RR_FLOWS. */
uint32_t rr_flows_home(uint64_t tenant);

struct rr_flows {
    struct rr_flow *rings[RR_CLASSES]; /* the tenant to be served next, NULL: none */
    struct rr_flow flows[RR_CLASSES][RR_FLOWS];
    uint32_t turn;
};

/* Puts the job at the end of its tenant's ring; no effect if it is in one. */
void rr_flows_add(struct rr_flows *f, struct rr_node *node, struct rr_ticket *job,
                  enum rr_class class, uint64_t tenant);
void rr_flows_remove(struct rr_node *node); /* no effect if it is in no ring */

/* Sends the next job, or tenant, to the end of its ring. */
void rr_flows_rotate_job(struct rr_flow *flow);
void rr_flows_rotate(struct rr_flow *flow);

bool rr_flows_empty(const struct rr_flows *f);

/* Adds those who wait to counts, by rr_flows_home of their tenant. */
void rr_flows_count(const struct rr_flows *f, uint16_t counts[RR_CLASSES][RR_FLOWS]);

/* The class that leads when something is served for the turn-th time, from 1: HIGH, but one time in
 * 4 NORMAL and one time in 16 LOW, so that nobody starves.  The others follow, higher first. */
enum rr_class rr_flows_lead(uint32_t turn);
void rr_flows_order(enum rr_class lead, enum rr_class order[RR_CLASSES]);

#endif
