/* SPDX-License-Identifier: Apache-2.0 */
/* parking.c - see parking.h.
 * Order of locks: the parking's, then a job's.  Nothing else is called with the parking's held. */
#include "server/parking.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "server/loader.h"
#include "server/models.h"

static const char cannot[] = "cannot be loaded now; the server's log says why";

#define LONGEST (60 * RR_SECOND) /* that a request waits for its model */

struct rr_parking {
    pthread_mutex_t lock;
    struct rr_job *first; /* lock */
    size_t n;             /* lock */
};

int rr_parking_new(struct rr_parking **out, struct rr_error *err)
{
    *out = rr_calloc(RR_MEM_SERVER, 1, sizeof(**out));
    if (!*out) return rr_fail(err, RR_ENOMEM, "out of memory");
    pthread_mutex_init(&(*out)->lock, NULL);
    return RR_OK;
}

void rr_parking_free(struct rr_parking *p)
{
    if (!p) return;
    pthread_mutex_destroy(&p->lock);
    rr_free(p);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* false: there is no room. */
static bool park(struct rr_parking *p, struct rr_job *job, size_t most)
{
    bool room;

    pthread_mutex_lock(&p->lock);
    room = p->n < most;
    if (room) {
        job->parked_next = p->first;
        p->first = job;
        p->n++;
    }
    pthread_mutex_unlock(&p->lock);
    return room;
}

/* false: somebody else has taken it out, and it is theirs. */
static bool take_out(struct rr_parking *p, struct rr_job *job)
{
    struct rr_job **at;
    bool ours;

    pthread_mutex_lock(&p->lock);
    for (at = &p->first; *at && *at != job; at = &(*at)->parked_next) continue;
    ours = *at != NULL;
    if (ours) {
        *at = job->parked_next;
        p->n--;
    }
    pthread_mutex_unlock(&p->lock);
    return ours;
}

/* why: for clients, which are not told of folders here. */
static void refuse(struct rr_job *job, uint64_t again_ns, const char *why)
{
    rr_problem_set(&job->problem, 503, "the model %s %s",
                   rr_models_name(job->server->models, job->x->model), why);
    job->problem.retry_after = 1 + (unsigned)(again_ns / RR_SECOND);
}

enum rr_http_next rr_parking_enter(struct rr_job *job)
{
    struct rr_server *s = job->server;
    struct rr_exchange *x = job->x;
    uint64_t timeout = job->ask.extras.timeout_ns, again_ns;
    struct rr_error err = { 0 };
    size_t model = x->model;

    job->parked_ns = rr_now_ns();
    job->parked_until_ns = job->parked_ns + (timeout ? RR_MIN(timeout, LONGEST) : LONGEST);
    job->watching = true;
    rr_watch_add(s->watch, &job->watched, rr_http_socket(x));
    if (!park(s->parking, job, s->settings->queue_requests)) {
        rr_fail(&job->err, RR_EBUSY, "too many requests wait for a model");
    } else if (rr_loader_want(s->loader, model, &again_ns, &err)) {
        if (!take_out(s->parking, job)) return RR_HTTP_WAIT;
        refuse(job, again_ns, cannot);
    } else {
        return RR_HTTP_WAIT; /* the job may be gone already */
    }
    rr_watch_remove(s->watch, &job->watched);
    return RR_HTTP_REPLY;
}

/* ---- out ------------------------------------------------------------------------------------- */

/* The job is out and ends. */
static void end(struct rr_job *job)
{
    rr_watch_remove(job->server->watch, &job->watched);
    rr_http_wake(job->x);
}

static void go_on(struct rr_job *job)
{
    struct rr_server *s = job->server;
    uint64_t waited = rr_now_ns() - job->parked_ns, *timeout = &job->ask.extras.timeout_ns;
    struct rr_model_view view;

    job->engine = job->x->engine = rr_models_serve(s->models, job->x->model);
    if (*timeout) *timeout = *timeout > waited ? *timeout - waited : 1;
    if (job->engine) {
        if (rr_job_submit(job) == RR_HTTP_WAIT) return;
    } else {
        rr_models_view(s->models, job->x->model, &view);
        refuse(job, view.retry_ns > rr_now_ns() ? view.retry_ns - rr_now_ns() : 0,
               view.state == RR_MODEL_FAILED ? cannot : "was unloaded for another one");
    }
    end(job);
}

/* Takes out those that wanted says, as a list. */
static struct rr_job *take_those(struct rr_parking *p, size_t model, uint64_t now,
                                 bool (*wanted)(struct rr_job *job, size_t model, uint64_t now))
{
    struct rr_job **at, *list = NULL, *job;

    pthread_mutex_lock(&p->lock);
    for (at = &p->first; (job = *at);) {
        if (!wanted(job, model, now)) {
            at = &job->parked_next;
            continue;
        }
        *at = job->parked_next;
        p->n--;
        job->parked_next = list;
        list = job; /* the list is last come, first: this puts them in order again */
    }
    pthread_mutex_unlock(&p->lock);
    return list;
}

static bool is_for(struct rr_job *job, size_t model, uint64_t now)
{
    (void)now;
    return job->x->model == model;
}

void rr_parking_open(struct rr_server *s, size_t i)
{
    struct rr_job *job = take_those(s->parking, i, 0, is_for), *next;

    for (; job; job = next) {
        next = job->parked_next;
        go_on(job);
    }
}

static bool is_gone(struct rr_job *job)
{
    bool gone;

    pthread_mutex_lock(&job->lock);
    gone = job->gone >= 0;
    pthread_mutex_unlock(&job->lock);
    return gone;
}

static bool is_over(struct rr_job *job, size_t model, uint64_t now)
{
    (void)model;
    return now >= job->parked_until_ns || is_gone(job);
}

void rr_parking_look(struct rr_server *s)
{
    uint64_t now = rr_now_ns(), waited;
    struct rr_job *job = take_those(s->parking, 0, now, is_over), *next;

    for (; job; job = next) {
        next = job->parked_next;
        waited = now - job->parked_ns;
        if (is_gone(job)) {
            rr_fail(&job->err, RR_ECANCELED, "the request was cancelled");
        } else if (job->ask.extras.timeout_ns && waited >= job->ask.extras.timeout_ns) {
            rr_fail(&job->err, RR_ETIMEDOUT,
                    "the request's deadline passed while "
                    "its model was being loaded");
        } else {
            refuse(job, 0, "was not loaded in time");
        }
        end(job);
    }
}
