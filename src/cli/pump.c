/* SPDX-License-Identifier: Apache-2.0 */
/* pump.c - see pump.h: a ring of jobs; the oldest is taken first.  Layer: cli (L6). */
#include "cli/pump.h"

#include <pthread.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define JOBS 64
#define MAX_DOCUMENTS 4096           /* in flight, unless one request has more */
#define MAX_BYTES ((size_t)64 << 20) /* of texts in flight, the same */

struct rr_pump {
    struct rr_engine *engine;
    rr_pump_take_fn *take;
    void *user;
    struct rr_pump_job jobs[JOBS];
    size_t first, n;         /* in flight: jobs[first] to jobs[first + n - 1], modulo JOBS */
    size_t documents, bytes; /* of them */
    pthread_mutex_t lock;
    pthread_cond_t done;
};

void rr_pump_limits(struct rr_options *opt)
{
    opt->queue_requests = opt->queue_tokens = opt->queue_bytes = SIZE_MAX / 2;
}

int rr_pump_open(struct rr_pump **out, struct rr_engine *engine, rr_pump_take_fn *take, void *user,
                 struct rr_error *err)
{
    struct rr_pump *p = rr_calloc(RR_MEM_MISC, 1, sizeof(*p));
    size_t i;

    *out = p;
    if (!p) return rr_fail(err, RR_ENOMEM, "out of memory");
    p->engine = engine;
    p->take = take;
    p->user = user;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->done, NULL);
    for (i = 0; i < JOBS; i++) rr_arena_init(&p->jobs[i].arena, RR_MEM_MISC, SIZE_MAX / 2);
    return RR_OK;
}

static void on_done(void *user, struct rr_result *result, const struct rr_error *err)
{
    struct rr_pump_job *job = user;
    struct rr_pump *p = job->pump;

    pthread_mutex_lock(&p->lock);
    job->result = result;
    job->err = *err;
    job->done = true;
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

/* Waits for the oldest job and empties its place; take NULL: nobody wants it. */
static int take_oldest(struct rr_pump *p, rr_pump_take_fn *take, struct rr_error *err)
{
    struct rr_pump_job *job = &p->jobs[p->first];
    int rc = RR_OK;

    pthread_mutex_lock(&p->lock);
    while (!job->done) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
    p->documents -= job->request.n_documents;
    p->bytes -= job->arena.used;
    if (take && !job->result)
        rc = rr_fail(err, job->err.code ? job->err.code : RR_EINTERNAL, "%s",
                     job->err.msg[0] ? job->err.msg : rr_status_name(job->err.code));
    else if (take)
        rc = take(p->user, job, err);
    rr_result_free(job->result);
    job->result = NULL;
    rr_arena_reset(&job->arena);
    p->first = (p->first + 1) % JOBS;
    p->n--;
    return rc;
}

int rr_pump_next(struct rr_pump *p, struct rr_pump_job **out, struct rr_error *err)
{
    struct rr_pump_job *job;
    int rc;

    while (p->n == JOBS || (p->n && (p->documents > MAX_DOCUMENTS || p->bytes > MAX_BYTES))) {
        rc = take_oldest(p, p->take, err);
        if (rc) return rc;
    }
    job = &p->jobs[(p->first + p->n) % JOBS];
    rr_arena_reset(&job->arena); /* of a job that was never submitted */
    memset(&job->request, 0, sizeof(job->request));
    job->pump = p;
    job->user = NULL;
    job->done = false;
    *out = job;
    return RR_OK;
}

int rr_pump_submit(struct rr_pump *p, struct rr_error *err)
{
    struct rr_pump_job *job = &p->jobs[(p->first + p->n) % JOBS];
    int rc = rr_submit(p->engine, &job->request, on_done, job, NULL, err);

    if (rc) return rc;
    p->n++;
    p->documents += job->request.n_documents;
    p->bytes += job->arena.used;
    return RR_OK;
}

int rr_pump_finish(struct rr_pump *p, struct rr_error *err)
{
    int rc = RR_OK;

    while (!rc && p->n) rc = take_oldest(p, p->take, err);
    return rc;
}

void rr_pump_close(struct rr_pump *p)
{
    size_t i;

    if (!p) return;
    while (p->n) (void)take_oldest(p, NULL, NULL);
    for (i = 0; i < JOBS; i++) rr_arena_reset(&p->jobs[i].arena);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    rr_free(p);
}
