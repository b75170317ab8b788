/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - the engine's life and the way of a request through it: open, submit, finish, close.
 * Layer: engine (L5). */
#include "engine/engine.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

/* ---- results ------------------------------------------------------------------------------- */

/* One block: the struct, the scores, the order. */
static struct rr_result *result_new(size_t n)
{
    struct rr_result *r;
    size_t bytes;

    if (!rr_mul(n, sizeof(struct rr_score) + sizeof(uint32_t), &bytes) ||
        !rr_add(bytes, sizeof(*r), &bytes))
        return NULL;
    r = rr_calloc(RR_MEM_REQUEST, 1, bytes);
    if (!r) return NULL;
    r->n_documents = n;
    r->scores = (struct rr_score *)(r + 1);
    r->order = (uint32_t *)(r->scores + n);
    return r;
}

void rr_result_free(struct rr_result *result)
{
    rr_free(result);
}

static double sigmoid(double x)
{
    double e = exp(-fabs(x));

    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

static int best_first(const void *pa, const void *pb, void *scores)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    float x = ((const struct rr_score *)scores)[a].logit;
    float y = ((const struct rr_score *)scores)[b].logit;

    if (x != y) return x > y ? -1 : 1;
    return a < b ? -1 : a > b;
}

static void fill_result(rr_job *job, uint64_t now)
{
    struct rr_result *r = job->result;
    size_t i;

    for (i = 0; i < r->n_documents; i++) {
        struct rr_score *s = &r->scores[i];

        if (job->same_as[i] != i) *s = r->scores[job->same_as[i]]; /* earlier, so complete */
        s->score = sigmoid(s->logit);
        r->tokens += s->tokens;
        r->order[i] = (uint32_t)i;
    }
    qsort_r(r->order, r->n_documents, sizeof(*r->order), best_first, r->scores);
    r->timings = (struct rr_timings){
        .tokenize_ns = job->tokenize_ns,
        .queue_ns = job->n_ready ? job->first_batch_ns - job->ready_ns : 0,
        .compute_ns = job->n_ready ? now - job->first_batch_ns : 0,
        .total_ns = now - job->submit_ns,
    };
}

/* ---- jobs ---------------------------------------------------------------------------------- */

static void job_free(rr_job *job)
{
    if (!job) return;
    while (job->blocks) {
        struct rr_token_block *next = job->blocks->next;

        rr_free(job->blocks);
        job->blocks = next;
    }
    rr_free(job->pairs);
    rr_free(job->same_as);
    rr_free(job->seen);
    rr_result_free(job->result);
    rr_free(job);
}

static rr_job *job_new(const struct rr_engine *e, const struct rr_request *req, rr_done_fn *on_done,
                       void *user)
{
    rr_job *job = rr_calloc(RR_MEM_REQUEST, 1, sizeof(*job));

    if (!job) return NULL;
    job->req = *req;
    job->on_done = on_done;
    job->user = user;
    job->max_length = req->max_length ? req->max_length : e->info.max_length;
    job->submit_ns = rr_now_ns();
    job->deadline_ns = UINT64_MAX;
    if (req->timeout_ns && req->timeout_ns < UINT64_MAX - job->submit_ns)
        job->deadline_ns = job->submit_ns + req->timeout_ns;
    job->result = result_new(req->n_documents);
    if (!job->result || !rr_prep_job_init(job)) {
        job_free(job);
        return NULL;
    }
    return job;
}

void rr_job_fail(rr_job *job, int code, const char *msg)
{
    if (!job->err.code) rr_fail(&job->err, code, "%s", msg);
}

static void unlink_job(struct rr_engine *e, rr_job *job)
{
    if (job->all_prev)
        job->all_prev->all_next = job->all_next;
    else
        e->all = job->all_next;
    if (job->all_next) job->all_next->all_prev = job->all_prev;
}

void rr_job_finish(struct rr_engine *e, rr_job *job)
{
    struct rr_result *result = NULL;
    size_t i;

    unlink_job(e, job);
    pthread_mutex_unlock(&e->lock);
    if (!job->err.code) {
        fill_result(job, rr_now_ns());
        result = job->result;
        job->result = NULL;
    }
    pthread_mutex_lock(&e->lock);
    /* Counted before the callback, so that whoever has seen its answer sees it counted. */
    e->stats.queue_requests--;
    e->stats.queue_pairs -= job->req.n_documents;
    e->stats.queue_tokens -= job->estimate;
    if (job->err.code == RR_ECANCELED)
        e->stats.requests_canceled++;
    else if (job->err.code)
        e->stats.requests_failed++;
    else
        e->stats.requests_done++;
    for (i = 0; result && i < result->n_documents; i++)
        e->stats.truncated_pairs += result->scores[i].truncated;
    if (result) e->stats.duplicate_pairs += result->n_duplicates;
    pthread_mutex_unlock(&e->lock);

    job->on_done(job->user, result, &job->err);
    job_free(job);

    pthread_mutex_lock(&e->lock);
    e->unfinished--;
    if (!e->unfinished) pthread_cond_broadcast(&e->idle);
}

/* ---- submit -------------------------------------------------------------------------------- */

/* Tokens that a request is charged for before it is tokenized: about 3 bytes a token in the
 * languages served, never more than the window. */
static size_t estimate_tokens(const struct rr_request *req, uint32_t max_length)
{
    size_t sum = 0, i;

    for (i = 0; i < req->n_documents; i++) {
        size_t n = (req->query.len + req->documents[i].len) / 3 + 8;

        sum += RR_MIN(n, max_length);
    }
    return sum;
}

static int check_request(const struct rr_engine *e, const struct rr_request *req,
                         struct rr_error *err)
{
    uint32_t min = rr_tok_pair_specials(e->tok) + 1;

    if (!req->documents || !req->n_documents)
        return rr_fail(err, RR_EINVAL, "a request needs at least one document");
    if (req->n_documents > UINT32_MAX)
        return rr_fail(err, RR_ETOOBIG, "%zu documents in one request, at most %" PRIu32,
                       req->n_documents, UINT32_MAX);
    if (req->max_length && (req->max_length > e->info.max_length || req->max_length < min))
        return rr_fail(err, RR_EINVAL, "max_length is %" PRIu32 ", allowed are %" PRIu32
                       " to %" PRIu32, req->max_length, min, e->info.max_length);
    return RR_OK;
}

/* Lock held.  A request larger than the whole queue is taken when the queue is empty: refusing it
 * for ever would help nobody. */
static int admit(struct rr_engine *e, rr_job *job, struct rr_error *err)
{
    if (e->closing) return rr_fail(err, RR_ECLOSED, "the engine is shutting down");
    if (e->stats.queue_requests >= e->queue_requests)
        return rr_fail(err, RR_EBUSY, "%zu requests are waiting, the limit is %zu",
                       e->stats.queue_requests, e->queue_requests);
    if (e->stats.queue_requests && e->stats.queue_tokens + job->estimate > e->queue_tokens)
        return rr_fail(err, RR_EBUSY,
                       "about %zu tokens are waiting and this request has %zu, the limit is %zu",
                       e->stats.queue_tokens, job->estimate, e->queue_tokens);
    e->stats.queue_requests++;
    e->stats.queue_pairs += job->req.n_documents;
    e->stats.queue_tokens += job->estimate;
    e->unfinished++;
    job->all_next = e->all;
    if (e->all) e->all->all_prev = job;
    e->all = job;
    job->in_prep = true;
    rr_prep_push(e, job);
    pthread_cond_signal(&e->prep_wake);
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
    job->estimate = estimate_tokens(req, job->max_length);
    pthread_mutex_lock(&e->lock);
    rc = admit(e, job, err);
    /* Under the lock: on_done may run the moment it is released, and the caller's ticket must be
     * in place by then. */
    if (!rc && ticket) *ticket = job;
    pthread_mutex_unlock(&e->lock);
    if (rc) job_free(job);
    return rc;
}

void rr_cancel(struct rr_engine *e, struct rr_ticket *ticket)
{
    pthread_mutex_lock(&e->lock);
    ticket->canceled = true;
    pthread_cond_signal(&e->run_wake);
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

/* ---- open and close ------------------------------------------------------------------------ */

static int alloc_runner(struct rr_engine *e, struct rr_error *err)
{
    uint32_t tokens = e->info.batch_tokens;

    e->items = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*e->items));
    e->ids = rr_calloc(RR_MEM_WORKSPACE, tokens, sizeof(*e->ids));
    e->types = rr_calloc(RR_MEM_WORKSPACE, tokens, sizeof(*e->types));
    e->cu_seqlens = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS + 1, sizeof(*e->cu_seqlens));
    e->logits = rr_calloc(RR_MEM_WORKSPACE, RR_MAX_BATCH_PAIRS, sizeof(*e->logits));
    if (!e->items || !e->ids || !e->types || !e->cu_seqlens || !e->logits)
        return rr_fail(err, RR_ENOMEM, "out of memory for batches of %" PRIu32 " tokens", tokens);
    return RR_OK;
}

static int start_threads(struct rr_engine *e, struct rr_error *err)
{
    int rc = pthread_create(&e->runner, NULL, rr_runner_main, e);

    if (rc) return rr_fail(err, RR_EIO, "cannot start the compute thread: %s", strerror(rc));
    e->runner_started = true;
    while (e->n_prep < e->info.prep_threads) {
        rc = pthread_create(&e->prep[e->n_prep], NULL, rr_prep_main, e);
        if (rc) return rr_fail(err, RR_EIO, "cannot start a prep thread: %s", strerror(rc));
        e->n_prep++;
    }
    return RR_OK;
}

/* The first forward touches every page and every table; users should not wait for that. */
static int warm_up(struct rr_engine *e, struct rr_error *err)
{
    struct rr_text doc = { "Paris", 5 };
    struct rr_request req = { .query = { "Paris ?", 7 }, .documents = &doc, .n_documents = 1,
                              .no_cache = true };
    struct rr_result *result;
    int rc = rr_score(e, &req, &result, err);

    if (rc) return rr_fail_prefix(err, "warm-up");
    rr_result_free(result);
    pthread_mutex_lock(&e->lock);
    memset(&e->stats, 0, sizeof(e->stats)); /* no job is in flight */
    pthread_mutex_unlock(&e->lock);
    return RR_OK;
}

/* The same model gives other bits at another precision or instruction set. */
static uint64_t score_fingerprint(const struct rr_info *info)
{
    struct rr_key_context c = { info->fingerprint, 0, 0 };
    struct rr_key isa = rr_key_prefix(&c, rr_text(info->isa));

    return rr_key_pair(isa, rr_text(info->dtype)).lo;
}

static void adopt(struct rr_engine *e, struct rr_setup *s, const struct rr_options *opt)
{
    e->info = s->info;
    e->model = s->model;
    e->tok = s->tok;
    e->backend = s->backend;
    e->device = s->device;
    e->tok_flags = opt->literal_specials ? RR_TOK_LITERAL_SPECIALS : 0;
    e->score_fingerprint = score_fingerprint(&s->info);
    e->queue_tokens = opt->queue_tokens;
    e->queue_requests = opt->queue_requests;
    rr_batcher_init(&e->batcher, s->limits.max_tokens, s->limits.max_sequences);
}

int rr_open(struct rr_engine **out, const struct rr_options *opt, struct rr_error *err)
{
    struct rr_setup setup;
    struct rr_engine *e;
    int rc;

    *out = NULL;
    rc = rr_setup_open(&setup, opt, err);
    if (rc) return rc;
    e = rr_calloc(RR_MEM_MISC, 1, sizeof(*e));
    if (!e) {
        rr_setup_close(&setup);
        return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    }
    adopt(e, &setup, opt);
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->tokenize_lock, NULL);
    pthread_cond_init(&e->prep_wake, NULL);
    pthread_cond_init(&e->run_wake, NULL);
    pthread_cond_init(&e->idle, NULL);
    rc = opt->cache_bytes ? rr_lru_open(&e->cache, opt->cache_bytes, err) : RR_OK;
    if (!rc) rc = rr_model_load(e->model, e->backend, e->device, &setup.limits, err);
    if (!rc) rc = alloc_runner(e, err);
    if (!rc) rc = rr_tok_scratch_open(&e->tokenize_scratch, e->tok, err);
    if (!rc) rc = start_threads(e, err);
    if (!rc) rc = warm_up(e, err);
    if (rc) {
        rr_close(e);
        return rc;
    }
    *out = e;
    return RR_OK;
}

static void stop_threads(struct rr_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    while (e->unfinished) pthread_cond_wait(&e->idle, &e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->prep_wake);
    pthread_cond_broadcast(&e->run_wake);
    pthread_mutex_unlock(&e->lock);
    if (e->runner_started) pthread_join(e->runner, NULL);
    while (e->n_prep) pthread_join(e->prep[--e->n_prep], NULL);
}

void rr_close(struct rr_engine *e)
{
    if (!e) return;
    stop_threads(e);
    rr_model_close(e->model);
    if (e->backend) e->backend->close(e->device);
    rr_tok_scratch_close(e->tokenize_scratch);
    rr_tok_close(e->tok);
    rr_lru_close(e->cache);
    rr_free(e->items);
    rr_free(e->ids);
    rr_free(e->types);
    rr_free(e->cu_seqlens);
    rr_free(e->logits);
    pthread_cond_destroy(&e->prep_wake);
    pthread_cond_destroy(&e->run_wake);
    pthread_cond_destroy(&e->idle);
    pthread_mutex_destroy(&e->tokenize_lock);
    pthread_mutex_destroy(&e->lock);
    rr_free(e);
}

/* ---- information --------------------------------------------------------------------------- */

const struct rr_info *rr_engine_info(const struct rr_engine *e)
{
    return &e->info;
}

void rr_engine_stats(struct rr_engine *e, struct rr_stats *out)
{
    struct rr_lru_stats cache;

    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->lock);
    if (!e->cache) return;
    rr_lru_stats(e->cache, &cache);
    out->cache_hits = cache.hits;
    out->cache_misses = cache.misses;
    out->cache_evictions = cache.evictions;
    out->cache_entries = cache.entries;
    out->cache_bytes = cache.bytes;
}

void rr_engine_health(struct rr_engine *e, struct rr_health *out)
{
    uint64_t now = rr_now_ns();

    pthread_mutex_lock(&e->lock);
    *out = (struct rr_health){ .ok = true, .device_ok = true };
    out->probe_age_ns = out->progress_age_ns = now - e->stats.last_batch_ns;
    pthread_mutex_unlock(&e->lock);
}

uint64_t rr_engine_wait_ns(struct rr_engine *e, size_t tokens)
{
    uint64_t ns = 0;

    pthread_mutex_lock(&e->lock);
    if (e->stats.tokens_done)
        ns = (uint64_t)((double)(e->stats.queue_tokens + tokens) * (double)e->stats.compute_ns /
                        (double)e->stats.tokens_done);
    pthread_mutex_unlock(&e->lock);
    return ns;
}
