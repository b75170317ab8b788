/* SPDX-License-Identifier: Apache-2.0 */
/* job.c - see job.h.
 * Order of locks: the watch's, then the job's, then what rr_cancel takes.  on_done takes them one
 * after the other, never nested. */
#include "server/job.h"

#include <stddef.h>

#include "base/clock.h"
#include "base/mem.h"

struct rr_job *rr_job_new(struct rr_server *server, struct rr_exchange *x)
{
    struct rr_job *job = rr_calloc(RR_MEM_REQUEST, 1, sizeof(*job));
    const struct rr_settings *s = server->settings;

    if (!job) return NULL;
    job->server = server;
    job->x = x;
    job->gone = -1;
    job->dialect = &rr_dialect_union;
    pthread_mutex_init(&job->lock, NULL);
    /* Joined rank fields can need as much as the body; the rest is bookkeeping per document. */
    rr_arena_init(&job->arena, RR_MEM_REQUEST,
                  s->max_body + (size_t)s->max_documents * 512 + 65536);
    return job;
}

void rr_job_free(struct rr_job *job)
{
    size_t i;

    if (!job) return;
    for (i = 0; job->results && i < job->ask.n_groups; i++) rr_result_free(job->results[i]);
    json_decref(job->root);
    rr_arena_reset(&job->arena);
    pthread_mutex_destroy(&job->lock);
    rr_free(job);
}

/* One less to wait for.  True for whoever takes the last one: the job is through. */
static bool release(struct rr_job *job)
{
    bool last;

    pthread_mutex_lock(&job->lock);
    last = --job->pending == 0;
    pthread_mutex_unlock(&job->lock);
    if (last) rr_watch_remove(job->server->watch, &job->watched);
    return last;
}

static void keep_error(struct rr_job *job, size_t group, const struct rr_error *err)
{
    if (err->code == RR_OK || job->err.code != RR_OK) return;
    job->err = *err;
    job->err_group = group;
}

/* job->lock is held: no on_done of a part with a ticket can have returned. */
static void cancel_parts(struct rr_job *job)
{
    size_t i;

    for (i = 0; job->parts && i < job->ask.n_groups; i++)
        if (job->parts[i].ticket) rr_cancel(job->engine, job->parts[i].ticket);
}

void rr_job_gone(void *user, struct rr_watched *entry, enum rr_gone why)
{
    struct rr_job *job = (struct rr_job *)((char *)entry - offsetof(struct rr_job, watched));

    (void)user;
    pthread_mutex_lock(&job->lock);
    if (job->gone < 0) job->gone = (int)why;
    cancel_parts(job);
    pthread_mutex_unlock(&job->lock);
}

/* The server's own where the request does not say, has an order at all and a model that can. */
static size_t exact_top_k(const struct rr_job *job)
{
    const struct rr_ask *ask = &job->ask;
    size_t k = job->server->settings->exact_top_k;

    if (ask->extras.has_exact) return ask->extras.exact_top_k;
    if (ask->n_groups == ask->n_pairs || !*rr_engine_info(job->engine)->rescore_dtype) return 0;
    return ask->has_limit && ask->limit >= 0 ? RR_MIN(k, (size_t)ask->limit) : k;
}

static void fill_request(const struct rr_job *job, const struct rr_group *g, bool goes_on,
                         struct rr_request *r)
{
    const struct rr_extras *e = &job->ask.extras;
    uint64_t waited = rr_now_ns() - job->submitted_ns;

    *r = (struct rr_request){
        .query = g->query,
        .documents = g->docs,
        .n_documents = g->n_docs,
        .max_length = job->ask.max_length,
        .no_truncate = job->ask.cut.never || g->cut.never,
        .truncate_side = g->cut.side ? g->cut.side : job->ask.cut.side,
        .no_cache = e->no_cache,
        .timeout_ns = !e->timeout_ns           ? 0
                      : e->timeout_ns > waited ? e->timeout_ns - waited
                                               : 1,
        .allow_partial = e->allow_partial,
        .goes_on = goes_on,
        .priority = RR_MIN(e->priority, (enum rr_priority)job->x->max_priority),
        .tenant = job->x->tenant,
        .exact_top_k = exact_top_k(job),
        .window = e->window,
    };
}

static void hand_over(struct rr_job *job);

/* An engine thread.  The last part wakes the connection, and then the job is no longer ours. */
static void on_done(void *user, struct rr_result *result, const struct rr_error *err)
{
    struct rr_part *part = user;
    struct rr_job *job = part->job;
    struct rr_exchange *x = job->x;
    bool go_on;

    pthread_mutex_lock(&job->lock);
    part->done = true;
    part->ticket = NULL;
    job->results[part - job->parts] = result;
    keep_error(job, (size_t)(part - job->parts), err);
    job->done++;
    go_on = job->go_on_at && job->done >= job->go_on_at;
    if (go_on) job->go_on_at = 0;
    pthread_mutex_unlock(&job->lock);
    if (go_on) hand_over(job);
    if (release(job)) rr_http_wake(x);
}

static int submit_part(struct rr_job *job, size_t i, bool goes_on, struct rr_error *err)
{
    struct rr_part *part = &job->parts[i];
    struct rr_ticket *ticket = NULL;
    int rc;

    part->job = job;
    fill_request(job, &job->ask.groups[i], goes_on, &part->request);
    pthread_mutex_lock(&job->lock);
    job->pending++;
    pthread_mutex_unlock(&job->lock);
    rc = rr_submit(job->engine, &part->request, on_done, part, &ticket, err);
    pthread_mutex_lock(&job->lock);
    if (rc) {
        job->pending--;
    } else if (!part->done) {
        part->ticket = ticket;
        if (job->gone >= 0) rr_cancel(job->engine, ticket); /* the client left meanwhile */
    }
    pthread_mutex_unlock(&job->lock);
    return rc;
}

/* The engine refused a part, when so many were done.  True: to be tried again at once. */
static bool refused(struct rr_job *job, int rc, size_t done, struct rr_error *err)
{
    bool again;
    size_t in_flight;

    pthread_mutex_lock(&job->lock);
    again = rc == RR_EBUSY && job->done != done;
    in_flight = job->next - job->done;
    if (rc == RR_EBUSY && !again && in_flight) {
        job->go_on_at = job->done + (in_flight + 1) / 2; /* others get in meanwhile */
    } else if (!again) {
        err->code = rc;
        keep_error(job, job->next, err);
        cancel_parts(job);
    }
    pthread_mutex_unlock(&job->lock);
    return again;
}

/* Hands over what is left, in order; the caller has a count of pending.  The first part is admitted
 * or refused for all.  Another one that finds the queue full waits until half of those in it are
 * done: a request of more parts than the queue holds would be refused by an idle engine, too.  When
 * none of them is in it, others have filled it: a part goes in nevertheless. */
static void hand_over(struct rr_job *job)
{
    struct rr_error err = { 0 };
    size_t done;
    bool go_on;
    int rc;

    for (;;) {
        pthread_mutex_lock(&job->lock);
        done = job->done;
        go_on = job->next < job->ask.n_groups && job->err.code == RR_OK;
        pthread_mutex_unlock(&job->lock);
        if (!go_on) return;
        rc = submit_part(job, job->next, done && done == job->next, &err);
        if (rc == RR_OK)
            job->next++;
        else if (!refused(job, rc, done, &err))
            return;
    }
}

enum rr_http_next rr_job_submit(struct rr_job *job)
{
    size_t n = job->ask.n_groups;

    job->results = rr_arena_alloc(&job->arena, n, sizeof(*job->results));
    pthread_mutex_lock(&job->lock); /* the watch may know of a job that was parked */
    job->parts = rr_arena_alloc(&job->arena, n, sizeof(*job->parts));
    pthread_mutex_unlock(&job->lock);
    if (!job->parts || !job->results) {
        job->results = NULL;
        job->err = (struct rr_error){ RR_ENOMEM, "out of memory for this request" };
        return RR_HTTP_REPLY;
    }
    job->pending = 1; /* keeps the job from being through while parts are still being handed over */
    job->submitted_ns = rr_now_ns();
    if (!job->watching) rr_watch_add(job->server->watch, &job->watched, rr_http_socket(job->x));
    hand_over(job);
    return release(job) ? RR_HTTP_REPLY : RR_HTTP_WAIT;
}
