/* SPDX-License-Identifier: Apache-2.0 */
/* batcher.h - which pairs are computed next: pure policy, no threads, no clock.
 * Layer: engine (L5).  Threads: the caller holds the engine's lock.
 *
 * Jobs with pairs to compute stand in flows.h's rings.  A batch is filled by deficit round robin
 * (Shreedhar and Varghese, 1995), first among tenants, then among a tenant's jobs: each visit gives
 * a quantum of tokens, so a job of 1,000 documents and one of 20 get the same share of every batch
 * and the small one leaves early.  When a batch that is worth its while completes a job, it is not
 * filled up with others' work, which would only make that job wait. */
#ifndef RR_ENGINE_BATCHER_H
#define RR_ENGINE_BATCHER_H

#include "engine/job.h"
#include "engine/turns.h"

struct rr_batcher { /* of one pass of a kind of lanes; zero: empty */
    struct rr_flows flows;
};

struct rr_pace { /* what is known about the lane that asks, about time, and about others */
    uint32_t max_tokens, max_pairs; /* of one batch; the longest pair fits */
    uint32_t part_tokens;           /* with so many it is full: others are there for the rest */
    uint64_t now;
    double least_ns_per_token;    /* no lane of the kind was ever faster; 0: not measured */
    double all_ns_per_token;      /* ... nor were all of them together */
    uint64_t others_tokens;       /* that the others have in hand, perhaps of the same job */
    const struct rr_grant *grant; /* of a device that is shared; NULL: it is ours alone */
};

/* Puts a job with pairs to compute into the ring; no effect if it is there or hopeless. */
void rr_batcher_add(struct rr_batcher *b, rr_job *job);

/* Takes a job out, for example because it was cancelled; no effect if it is not there. */
void rr_batcher_remove(rr_job *job);

/* Fills units (room for pace->max_pairs) and returns how many; *tokens is their sum.  They are
 * marked as taken.  Jobs without further pairs leave the ring, and so do those that cannot be done
 * before their deadline, marked as hopeless.  Of a job that takes parts, a pair that cannot is left
 * out.  0: nothing is ready. */
uint32_t rr_batcher_take(struct rr_batcher *b, const struct rr_pace *pace, struct rr_unit **units,
                         uint32_t *tokens);

#endif
