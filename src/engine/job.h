/* SPDX-License-Identifier: Apache-2.0 */
/* job.h - what walks through the engine: one job for each request, one pair for each document.
 * Layer: engine (L5).
 *
 * Fields are grouped by the stage that writes them.  Hand-over between stages happens under the
 * engine's lock, so a stage reads what earlier stages wrote without further care.  A job lives from
 * rr_submit until its on_done has returned; it is freed by engine.c alone. */
#ifndef RR_ENGINE_JOB_H
#define RR_ENGINE_JOB_H

#include <stdbool.h>

#include "cache/key.h"
#include "rerank.h"

/* One (query, document) pair, ready to be computed. */
struct rr_pair {
    const int32_t *ids;   /* [n_tokens], in one of the job's blocks */
    const int32_t *types; /* [n_tokens] */
    uint32_t n_tokens;
    uint32_t doc; /* index of the document */
    struct rr_key key;
};

struct rr_token_block { /* token ids of some pairs of a job */
    struct rr_token_block *next;
    int32_t data[];
};

/* The public ticket is the job. */
struct rr_ticket {
    /* rr_submit; constant afterwards */
    struct rr_request req; /* texts belong to the caller */
    rr_done_fn *on_done;
    void *user;
    uint32_t max_length;
    uint64_t submit_ns;
    uint64_t deadline_ns; /* monotonic; UINT64_MAX: none */
    size_t estimate;      /* tokens charged to the queue at admission */
    struct rr_result *result;

    /* rr_cancel; under the engine's lock */
    bool canceled;

    /* prep thread that holds the job; read by others under the engine's lock */
    struct rr_pair *pairs;         /* [req.n_documents] room; what neither cache nor an equal
                                      document answers, in the order of the documents */
    struct rr_token_block *blocks; /* owns the token ids */
    struct rr_seen *seen;          /* documents by key; see prep.c */
    uint32_t *same_as;             /* [req.n_documents] index of the first equal document */
    size_t n_prepared;             /* documents that prep is done with */
    size_t n_ready;                /* pairs[0 .. n_ready) can be computed */
    bool in_prep;                  /* queued for or held by a prep thread */
    uint64_t tokenize_ns;
    uint64_t ready_ns; /* when the first pair became ready */

    /* batcher and runner; under the engine's lock */
    size_t n_taken;     /* pairs handed to a batch */
    size_t n_done; /* pairs whose logit is known; the job is complete at n_ready, out of prep */
    uint64_t deficit;   /* tokens this job may still take in the current round */
    bool in_ring;       /* the batcher holds the job */
    uint64_t mark;      /* number of the last batch that held a pair of it */
    uint64_t first_batch_ns;

    /* the first error; under the engine's lock.  A job with an error computes nothing more */
    struct rr_error err;

    struct rr_ticket *prep_next;            /* prep queue */
    struct rr_ticket *ring_next;            /* batcher's ring */
    struct rr_ticket *all_prev, *all_next;  /* every job in flight */
};

typedef struct rr_ticket rr_job;

#endif
