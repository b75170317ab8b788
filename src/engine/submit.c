/* SPDX-License-Identifier: Apache-2.0 */
/* submit.c - a request on its way in: checked, charged to the queue, handed to prep; cancelled.
 * Layer: engine (L5). */
#include <inttypes.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"

/* ---- results ------------------------------------------------------------------------------- */

/* One block: the struct, the scores, the order. */
static struct rr_result *result_new(size_t n)
{
    struct rr_result *r;
    size_t bytes, i;

    if (!rr_mul(n, sizeof(struct rr_score) + sizeof(uint32_t), &bytes) ||
        !rr_add(bytes, sizeof(*r), &bytes))
        return NULL;
    r = rr_calloc(RR_MEM_REQUEST, 1, bytes);
    if (!r) return NULL;
    r->n_documents = n;
    r->scores = (struct rr_score *)(r + 1);
    r->order = (uint32_t *)(r->scores + n);
    for (i = 0; i < n; i++) r->scores[i].missing = true; /* until there is a score */
    return r;
}

void rr_result_free(struct rr_result *result)
{
    rr_free(result);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

static enum rr_class class_of(enum rr_priority priority)
{
    if (priority == RR_PRIORITY_HIGH) return RR_CLASS_HIGH;
    return priority == RR_PRIORITY_LOW ? RR_CLASS_LOW : RR_CLASS_NORMAL;
}

static bool wants_rescoring(const struct rr_engine *e, const struct rr_request *req)
{
    return req->exact_top_k > 0 && e->rescoring;
}

static bool alloc_job(const struct rr_engine *e, rr_job *job)
{
    size_t n = job->req.n_documents;

    job->result = result_new(n);
    if (!job->result || !rr_prep_job_init(job)) return false;
    if (!wants_rescoring(e, &job->req)) return true;
    job->candidates = rr_calloc(RR_MEM_REQUEST, n, sizeof(*job->candidates));
    job->picks = rr_alloc(RR_MEM_REQUEST, n, sizeof(*job->picks));
    return job->candidates && job->picks;
}

static rr_job *job_new(const struct rr_engine *e, const struct rr_request *req, rr_done_fn *on_done,
                       void *user)
{
    rr_job *job = rr_calloc(RR_MEM_REQUEST, 1, sizeof(*job));

    if (!job) return NULL;
    job->req = *req;
    job->on_done = on_done;
    job->user = user;
    job->class = class_of(req->priority);
    job->keep_end =
        req->truncate_side == RR_TRUNCATE_LEFT ||
        (req->truncate_side == RR_TRUNCATE_MODEL && rr_pairing_flags(&e->pairing, e->tok));
    job->max_length = req->max_length ? req->max_length : e->info.max_length;
    job->n_todo = req->n_documents;
    job->blocks_end = &job->blocks;
    job->submit_ns = rr_now_ns();
    job->deadline_ns = UINT64_MAX;
    if (req->timeout_ns && req->timeout_ns < UINT64_MAX - job->submit_ns)
        job->deadline_ns = job->submit_ns + req->timeout_ns;
    if (!alloc_job(e, job)) {
        rr_job_drop(job);
        return NULL;
    }
    return job;
}

/* ---- submit -------------------------------------------------------------------------------- */

/* Tokens that a document is charged for before it is tokenized: about 3 bytes a token in the
 * languages served, never more than the window, or so many windows. */
static size_t estimate_document(const struct rr_request *req, size_t bytes, uint32_t max_length)
{
    size_t query = req->query.len / 3 + 8, n = query + bytes / 3, stride;

    if (n <= max_length || !req->window.size) return RR_MIN(n, max_length);
    if (req->window.pooling == RR_POOL_FIRST) return max_length;
    stride = RR_MIN(req->window.stride ? req->window.stride : req->window.size, max_length);
    return (n / stride + 1) * RR_MIN(query + req->window.size, (size_t)max_length);
}

static void estimate(rr_job *job)
{
    const struct rr_request *req = &job->req;
    size_t i;

    job->bytes = req->query.len;
    for (i = 0; i < req->n_documents; i++) {
        job->estimate += estimate_document(req, req->documents[i].len, job->max_length);
        job->bytes += req->documents[i].len;
    }
}

/* Values of no enumerator would be taken for the default one. */
static int check_choices(const struct rr_request *req, struct rr_error *err)
{
    if (req->priority != RR_PRIORITY_LOW && req->priority != RR_PRIORITY_NORMAL &&
        req->priority != RR_PRIORITY_HIGH)
        return rr_fail(err, RR_EINVAL, "priority is %d, known are -1 (low), 0 (normal), 1 (high)",
                       (int)req->priority);
    if (req->truncate_side > RR_TRUNCATE_RIGHT)
        return rr_fail(err, RR_EINVAL,
                       "truncate_side is %d, known are 0 (as the model says), 1 (left), 2 (right)",
                       req->truncate_side);
    if ((unsigned)req->window.pooling > RR_POOL_FIRST)
        return rr_fail(err, RR_EINVAL,
                       "window.pooling is %d, known are 0 (largest score), 1 (mean), 2 (first "
                       "window)",
                       (int)req->window.pooling);
    return RR_OK;
}

static int check_request(const struct rr_engine *e, const struct rr_request *req,
                         struct rr_error *err)
{
    uint32_t min = e->pairing.fixed + 1;

    if (!req->documents || !req->n_documents)
        return rr_fail(err, RR_EINVAL, "a request needs at least one document");
    if (req->n_documents > UINT32_MAX)
        return rr_fail(err, RR_ETOOBIG, "%zu documents in one request, at most %" PRIu32,
                       req->n_documents, UINT32_MAX);
    if (req->max_length && (req->max_length > e->info.max_length || req->max_length < min))
        return rr_fail(err, RR_EINVAL,
                       "max_length is %" PRIu32 ", allowed are %" PRIu32 " to %" PRIu32,
                       req->max_length, min, e->info.max_length);
    if (req->truncate_side == RR_TRUNCATE_LEFT && e->pairing.prompt)
        return rr_fail(err, RR_EINVAL,
                       "texts cannot be cut from the left with this model: its prompt is cut at "
                       "the end of the document");
    if (req->window.size && req->window.stride > req->window.size)
        return rr_fail(err, RR_EINVAL,
                       "window.stride is %" PRIu32 ", expected at most the size, "
                       "%" PRIu32,
                       req->window.stride, req->window.size);
    if (req->exact_top_k && !e->can_be_exact)
        return rr_fail(err, RR_EINVAL,
                       "an exact top k needs a second precision: the engine computes in %s and "
                       "was opened without rescore_dtype",
                       e->info.dtype);
    return check_choices(req, err);
}

/* A request larger than the whole queue is taken when the queue is empty: refusing it for ever
 * would help nobody, and the caller has its own limits for what is too large.  More of a
 * request that was taken is taken, too.  Lock held. */
static int check_queue(const struct rr_engine *e, const rr_job *job, struct rr_error *err)
{
    const struct rr_stats *s = &e->stats;

    if (job->req.goes_on) return RR_OK;
    if (s->queue_requests >= e->queue_requests)
        return rr_fail(err, RR_EBUSY, "%zu requests are waiting, the limit is %zu",
                       s->queue_requests, e->queue_requests);
    if (s->queue_requests == 0) return RR_OK;
    if (s->queue_tokens + job->estimate > e->queue_tokens)
        return rr_fail(err, RR_EBUSY,
                       "about %zu tokens are waiting and this request has %zu, the limit is %zu",
                       s->queue_tokens, job->estimate, e->queue_tokens);
    if (e->queue_text + job->bytes > e->queue_bytes)
        return rr_fail(err, RR_EBUSY,
                       "%zu bytes of text are waiting and this request has %zu, the limit is %zu",
                       e->queue_text, job->bytes, e->queue_bytes);
    return RR_OK;
}

/* Lock held. */
static int admit(struct rr_engine *e, rr_job *job, struct rr_error *err)
{
    int rc;

    if (e->closing) return rr_fail(err, RR_ECLOSED, "the engine is shutting down");
    if (rr_lanes_stalled(e))
        return rr_fail(err, RR_EDEVICE, "the device %s does not answer", e->info.device);
    rc = check_queue(e, job, err);
    if (rc) return rc;
    if (!e->stats.queue_requests) e->progress_ns = job->submit_ns;
    e->stats.queue_requests++;
    e->stats.queue_pairs += job->req.n_documents;
    e->stats.queue_tokens += job->estimate;
    e->queue_text += job->bytes;
    e->unfinished++;
    job->all_next = e->all;
    if (e->all) e->all->all_prev = job;
    e->all = job;
    rr_prep_push(e, job);
    if (job->deadline_ns < e->timer_next) pthread_cond_signal(&e->timer_wake);
    return RR_OK;
}

int rr_submit(struct rr_engine *e, const struct rr_request *req, rr_done_fn *on_done, void *user,
              struct rr_ticket **ticket, struct rr_error *err)
{
    rr_job *job;
    int rc;

    if (ticket) *ticket = NULL;
    rc = check_request(e, req, err);
    if (rc) return rc;
    job = job_new(e, req, on_done, user);
    if (!job) return rr_fail(err, RR_ENOMEM, "out of memory for %zu documents", req->n_documents);
    estimate(job);
    pthread_mutex_lock(&e->lock);
    rc = admit(e, job, err);
    /* Under the lock: on_done may run the moment it is released, and the caller's ticket must be
     * in place by then. */
    if (!rc && ticket) *ticket = job;
    pthread_mutex_unlock(&e->lock);
    if (rc) rr_job_drop(job);
    return rc;
}

void rr_cancel(struct rr_engine *e, struct rr_ticket *ticket)
{
    pthread_mutex_lock(&e->lock);
    ticket->canceled = true;
    e->cancels = true;
    pthread_cond_signal(&e->timer_wake);
    pthread_mutex_unlock(&e->lock);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done;
    struct rr_result *result;
    struct rr_error err;
};

static void wake(void *user, struct rr_result *result, const struct rr_error *err)
{
    struct waiter *w = user;

    pthread_mutex_lock(&w->lock);
    w->result = result;
    w->err = *err;
    w->is_done = true;
    pthread_cond_signal(&w->done);
    pthread_mutex_unlock(&w->lock);
}

int rr_score(struct rr_engine *e, const struct rr_request *req, struct rr_result **out,
             struct rr_error *err)
{
    struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER };
    int rc;

    *out = NULL;
    rc = rr_submit(e, req, wake, &w, NULL, err);
    if (rc) return rc;
    pthread_mutex_lock(&w.lock);
    while (!w.is_done) pthread_cond_wait(&w.done, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.done);
    pthread_mutex_destroy(&w.lock);
    *out = w.result;
    if (w.err.code && err) *err = w.err;
    return w.err.code;
}
