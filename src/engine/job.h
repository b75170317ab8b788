/* SPDX-License-Identifier: Apache-2.0 */
/* job.h - what walks through the engine: a job for each request, a want for each score it needs, a
 * unit for each pair that has to be computed.  Layer: engine (L5).
 *
 * A unit knows everything that computing it takes, so it outlives the jobs that want it: a job may
 * end (late, cancelled, failed) while one of its units is in a batch, and several jobs may want the
 * same unit.  docs/internals/engine.md has the table of lifetimes.
 *
 * Everything here is guarded by the engine's lock, with two exceptions: a thread that *holds* a job
 * (holds > 0) may work on what the comments say is the holder's, and a taken unit's ids are the
 * runner's. */
#ifndef RR_ENGINE_JOB_H
#define RR_ENGINE_JOB_H

#include <stdatomic.h>
#include <stdbool.h>

#include "cache/key.h"
#include "engine/cascade.h"
#include "engine/flows.h"
#include "rerank.h"

/* A precision of the model: the engine's own, and the one that re-scores for an exact top k.  A
 * batch is of one. */
enum rr_pass { RR_PASS_MAIN, RR_PASS_RESCORE, RR_PASSES };

/* A pair to compute, for everyone who wants it.  Freed when it is not taken and nobody wants it,
 * or by the runner when its batch is over. */
struct rr_unit {
    struct rr_key key;
    struct rr_kind *kind;    /* lanes that may compute it: the key names their score */
    struct rr_want *wants;   /* who waits for it */
    struct rr_unit *sibling; /* next in the table of units in flight */
    uint32_t n_tokens, full_tokens;
    enum rr_pass pass;
    bool cacheable; /* the request has not forbidden it */
    bool shared;    /* in the table: others may want it, too */
    bool taken;     /* in a batch */
    int32_t data[]; /* ids [n_tokens], then types [n_tokens] */
};

/* One score that a job needs: of a document, or of one window of it. */
struct rr_want {
    struct rr_ticket *job;
    struct rr_unit *unit;         /* while it is being waited for */
    struct rr_want *next, **link; /* among those of the unit */
    uint32_t doc;
    uint32_t tokens, full_tokens; /* of the pair; of the document uncut, beside the query */
    uint32_t start, end;          /* bytes of the document: the window */
    float logit;
    bool done;   /* logit is known */
    bool window; /* one of several, or the only one that counts */
    bool cut;    /* part of the texts was left out */
};

/* Wants of one slice, those of a document next to each other, in order. */
struct rr_want_block {
    struct rr_want_block *next;
    size_t n;
    struct rr_want wants[];
};

/* The public ticket is the job. */
struct rr_ticket {
    /* rr_submit; constant afterwards */
    struct rr_request req; /* texts belong to the caller */
    rr_done_fn *on_done;
    void *user;
    uint32_t max_length;
    bool keep_end; /* of texts that are cut */
    uint64_t submit_ns;
    uint64_t deadline_ns;   /* monotonic; UINT64_MAX: none */
    size_t estimate, bytes; /* charged to the queue at admission */
    enum rr_class class;

    /* the way to the end */
    unsigned holds;      /* threads that work on the job unlocked: it must not end meanwhile */
    bool canceled;       /* by rr_cancel */
    bool partial;        /* its time is over, what is scored is the result */
    bool hopeless;       /* what is left cannot be done in time: nothing more is started */
    bool left_out;       /* ... a pair cannot: it will not be complete */
    bool touched;        /* in the runner's list */
    bool closed;         /* the first exact_top_k are proven */
    atomic_bool quit;    /* it will end: the holder should stop.  Relaxed: only a hint */
    struct rr_error err; /* the first error.  A job with one computes nothing more */

    /* Lanes of one kind compute all of it, so that no order is decided by two arithmetics; if the
     * kind loses its last lane, the job starts anew at another.  NULL: not chosen yet */
    struct rr_kind *kind;
    uint64_t charged;   /* tokens that the kind still has to compute for it, as far as known */
    uint32_t losses;    /* devices that were lost with a batch of it */
    uint32_t last_loss; /* number of the last one */

    /* the phase: first all documents in the main pass, then some again in the rescore pass.
     * Written by its holder between phases */
    enum rr_pass pass;
    const uint32_t *todo; /* [n_todo] documents of the phase; NULL: all, in order */
    size_t n_todo;
    size_t n_prepared; /* of todo: prep is done with them */

    /* documents; the holder's */
    struct rr_result *result;
    struct rr_seen *seen; /* documents by key, see slice.c */
    uint32_t *same_as;    /* [n_documents] index of the first equal document */
    struct rr_candidate
        *candidates; /* [n_documents] what the cascade knows; NULL: no exact top k */
    uint32_t *picks; /* [n_documents] what the cascade wants next */
    uint64_t tokenize_ns;

    /* wants of the phase */
    struct rr_want_block *blocks, **blocks_end;
    struct rr_want_block *at; /* the batcher's place: all before it are taken or left out */
    size_t at_want;
    size_t n_wants, n_done;
    uint64_t tokens_left; /* of the wants that are not done */
    uint64_t ready_ns, first_batch_ns;

    struct rr_node prep, batch;            /* in the prep queue, in the kind's batcher */
    struct rr_ticket *touched_next;        /* runner: jobs that a batch changed */
    struct rr_ticket *ending_next;         /* timer: jobs that it ends */
    struct rr_ticket *stranded_next;       /* whoever settles what a lost lane left behind */
    bool stranded;                         /* in such a list */
    struct rr_ticket *all_prev, *all_next; /* every job in flight */
};

typedef struct rr_ticket rr_job;

#endif
