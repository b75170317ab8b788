/* SPDX-License-Identifier: Apache-2.0 */
/* job.h - one rerank request from its body to its reply.  Layer: server (L6).
 *
 *   owner            from                     until
 *   I/O thread       rr_job_new               rr_submit of the first part
 *   engine           that                     the last on_done (parts under lock)
 *   I/O thread       rr_http_wake             rr_job_free, when the reply is sent
 *
 * The texts that the engine reads are in root and arena, so both stay as they are until then.
 * While the engine owns the job, the watch may ask it to cancel: under lock. */
#ifndef RR_SERVER_JOB_H
#define RR_SERVER_JOB_H

#include <pthread.h>

#include "base/arena.h"
#include "server/server.h"

struct rr_job;

struct rr_part { /* one group of the request = one request of the engine */
    struct rr_job *job;
    struct rr_request request;
    struct rr_ticket *ticket; /* lock; NULL before rr_submit has returned and once done */
    bool done;                /* lock */
};

struct rr_job {
    struct rr_server *server;
    struct rr_exchange *x;
    struct rr_engine *engine;
    struct rr_arena arena;
    json_t *root;
    size_t replaced; /* characters of the body that were not Unicode */
    struct rr_ask ask;
    struct rr_problem problem;
    const struct rr_dialect *dialect; /* of the reply, also of one that is an error */
    struct rr_part *parts;            /* [ask.n_groups] in the arena */
    struct rr_result **results;       /* [ask.n_groups] in the arena; each is ours */
    uint64_t parsed_ns, submitted_ns;
    bool accepted; /* counted in in_flight */
    bool watching; /* it is with the watch already: it was parked */
    bool finished; /* there is a reply */

    /* while its model is being loaded, see parking.h */
    struct rr_job *parked_next;
    uint64_t parked_ns, parked_until_ns;

    struct rr_watched watched;
    pthread_mutex_t lock;
    size_t pending;      /* lock; parts not done, and one for the submitting thread */
    size_t next;         /* the first part that is not handed over; whoever hands them over */
    size_t done;         /* lock; parts */
    size_t go_on_at;     /* lock; so many done: the rest is handed over; 0: nobody waits for that */
    struct rr_error err; /* lock; the first error of any part */
    size_t err_group;    /* lock; ... and which */
    int gone;            /* lock; why it was cancelled: -1 not, else enum rr_gone */
};

/* NULL when memory is short. */
struct rr_job *rr_job_new(struct rr_server *server, struct rr_exchange *x);
void rr_job_free(struct rr_job *job); /* NULL is allowed; the engine must be through with it */

/* Hands all groups to the engine.  RR_HTTP_WAIT: the job is the engine's, rr_http_wake will come.
 * RR_HTTP_REPLY: it is all done, or job->err says why not. */
enum rr_http_next rr_job_submit(struct rr_job *job);

/* For rr_watch_open: cancels what the engine still has of the job. */
void rr_job_gone(void *user, struct rr_watched *entry, enum rr_gone why);

#endif
