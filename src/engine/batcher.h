/* SPDX-License-Identifier: Apache-2.0 */
/* batcher.h - which pairs are computed next: pure policy, no threads, no clock.
 * Layer: engine (L5).  Threads: the caller holds the engine's lock.
 *
 * Jobs with ready pairs stand in a ring.  A batch is filled by deficit round robin (Shreedhar and
 * Varghese, 1995): each visit gives a job a quantum of tokens, so a job of 1,000 documents and one
 * of 20 get the same share of every batch and the small one leaves early. */
#ifndef RR_ENGINE_BATCHER_H
#define RR_ENGINE_BATCHER_H

#include "engine/job.h"

struct rr_batcher {
    rr_job *tail; /* ring; tail->ring_next is the next to be served; NULL: empty */
    uint32_t max_tokens, max_pairs; /* of one batch */
    uint32_t quantum;               /* tokens given at each visit */
};

struct rr_batch_item {
    rr_job *job;
    size_t pair; /* index in job->pairs */
};

/* max_tokens must be at least the longest pair. */
void rr_batcher_init(struct rr_batcher *b, uint32_t max_tokens, uint32_t max_pairs);

/* Puts a job with untaken ready pairs into the ring; no effect if it is there. */
void rr_batcher_add(struct rr_batcher *b, rr_job *job);

/* Takes a job out, for example because it was cancelled; no effect if it is not there. */
void rr_batcher_remove(struct rr_batcher *b, rr_job *job);

/* Fills items (room for max_pairs) and returns how many; *tokens is their sum.  Raises n_taken of
 * the jobs; jobs without further ready pairs leave the ring.  0: nothing is ready. */
uint32_t rr_batcher_take(struct rr_batcher *b, struct rr_batch_item *items, uint32_t *tokens);

#endif
