/* SPDX-License-Identifier: Apache-2.0 */
/* flows.c - see flows.h. */
#include "engine/flows.h"

#include <stddef.h>

enum { PROBES = 16, NORMAL_EVERY = 4, LOW_EVERY = 16 };

uint32_t rr_flows_home(uint64_t tenant)
{
    return (uint32_t)((tenant * UINT64_C(0x9E3779B97F4A7C15)) >> 32) % RR_FLOWS;
}

/* The tenant's flow, a free one, or one to share. */
static struct rr_flow *find_flow(struct rr_flow *flows, uint64_t tenant)
{
    uint32_t home = rr_flows_home(tenant), i;
    struct rr_flow *spare = NULL;

    for (i = 0; i < PROBES; i++) {
        struct rr_flow *f = &flows[(home + i) % RR_FLOWS];

        if (f->first && f->tenant == tenant) return f;
        if (!f->first && !spare) spare = f;
    }
    return spare ? spare : &flows[home];
}

static void link_flow(struct rr_flow *flow, struct rr_flow **ring)
{
    flow->ring = ring;
    flow->deficit = 0;
    flow->visited = false;
    if (!*ring) {
        *ring = flow->next = flow->prev = flow;
        return;
    }
    flow->next = *ring; /* the last is before the first */
    flow->prev = (*ring)->prev;
    flow->prev->next = flow->next->prev = flow;
}

static void unlink_flow(struct rr_flow *flow)
{
    if (*flow->ring == flow) *flow->ring = flow->next == flow ? NULL : flow->next;
    flow->next->prev = flow->prev;
    flow->prev->next = flow->next;
}

void rr_flows_add(struct rr_flows *f, struct rr_node *node, struct rr_ticket *job,
                  enum rr_class class, uint64_t tenant)
{
    struct rr_flow *flow;

    if (node->flow) return;
    flow = find_flow(f->flows[class], tenant);
    *node = (struct rr_node){ .flow = flow, .job = job };
    if (!flow->first) {
        flow->tenant = tenant;
        flow->first = node->next = node->prev = node;
        link_flow(flow, &f->rings[class]);
        return;
    }
    node->next = flow->first;
    node->prev = flow->first->prev;
    node->prev->next = node->next->prev = node;
}

void rr_flows_remove(struct rr_node *node)
{
    struct rr_flow *flow = node->flow;

    if (!flow) return;
    if (node->next == node) {
        flow->first = NULL;
        unlink_flow(flow);
    } else if (flow->first == node) {
        flow->first = node->next;
    }
    node->next->prev = node->prev;
    node->prev->next = node->next;
    node->flow = NULL;
}

void rr_flows_rotate_job(struct rr_flow *flow)
{
    flow->first->visited = false;
    flow->first = flow->first->next;
}

void rr_flows_rotate(struct rr_flow *flow)
{
    flow->visited = false;
    *flow->ring = flow->next;
}

bool rr_flows_empty(const struct rr_flows *f)
{
    return !f->rings[RR_CLASS_HIGH] && !f->rings[RR_CLASS_NORMAL] && !f->rings[RR_CLASS_LOW];
}

void rr_flows_count(const struct rr_flows *f, uint16_t counts[RR_CLASSES][RR_FLOWS])
{
    int c;

    for (c = 0; c < RR_CLASSES; c++) {
        const struct rr_flow *first = f->rings[c], *flow = first;

        for (; flow; flow = flow->next == first ? NULL : flow->next)
            counts[c][rr_flows_home(flow->tenant)]++;
    }
}

enum rr_class rr_flows_lead(uint32_t turn)
{
    if (turn % LOW_EVERY == 0) return RR_CLASS_LOW;
    return turn % NORMAL_EVERY == 0 ? RR_CLASS_NORMAL : RR_CLASS_HIGH;
}

void rr_flows_order(enum rr_class lead, enum rr_class order[RR_CLASSES])
{
    int n = 0, c;

    order[n++] = lead;
    for (c = RR_CLASS_HIGH; c < RR_CLASSES; c++)
        if (c != (int)lead) order[n++] = (enum rr_class)c;
}
