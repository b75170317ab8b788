/* SPDX-License-Identifier: Apache-2.0 */
/* batcher.c - see batcher.h. */
#include "engine/batcher.h"

#include "base/attr.h"

/* Small against a batch, so that many jobs share one; large against a pair, so that visits are
 * few. */
enum { QUANTUM = 256 };

void rr_batcher_init(struct rr_batcher *b, uint32_t max_tokens, uint32_t max_pairs)
{
    b->tail = NULL;
    b->max_tokens = max_tokens;
    b->max_pairs = max_pairs;
    b->quantum = QUANTUM;
}

void rr_batcher_add(struct rr_batcher *b, rr_job *job)
{
    if (job->in_ring || job->n_taken == job->n_ready) return;
    if (b->tail) {
        job->ring_next = b->tail->ring_next;
        b->tail->ring_next = job;
    } else {
        job->ring_next = job;
    }
    b->tail = job;
    job->in_ring = true;
    job->deficit = 0;
}

/* Unlinks the job after prev. */
static void unlink_next(struct rr_batcher *b, rr_job *prev)
{
    rr_job *job = prev->ring_next;

    prev->ring_next = job->ring_next;
    if (job == b->tail) b->tail = job == prev ? NULL : prev;
    job->ring_next = NULL;
    job->in_ring = false;
}

void rr_batcher_remove(struct rr_batcher *b, rr_job *job)
{
    rr_job *prev = b->tail;

    if (!job->in_ring) return;
    while (prev->ring_next != job) prev = prev->ring_next;
    unlink_next(b, prev);
}

uint32_t rr_batcher_take(struct rr_batcher *b, struct rr_batch_item *items, uint32_t *tokens)
{
    uint32_t n = 0, sum = 0;

    while (b->tail && n < b->max_pairs) {
        rr_job *job = b->tail->ring_next;
        bool full = false;

        job->deficit += b->quantum;
        while (job->n_taken < job->n_ready && n < b->max_pairs) {
            uint32_t len = job->pairs[job->n_taken].n_tokens;

            if (sum + len > b->max_tokens) {
                full = true;
                break;
            }
            if (len > job->deficit) break;
            job->deficit -= len;
            sum += len;
            items[n++] = (struct rr_batch_item){ job, job->n_taken++ };
        }
        if (job->n_taken == job->n_ready) {
            unlink_next(b, b->tail);
        } else if (full) {
            /* It keeps its place and what it saved: next in the coming batch. */
            break;
        } else {
            b->tail = job; /* to the end of the ring */
        }
    }
    *tokens = sum;
    return n;
}
