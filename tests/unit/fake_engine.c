/* SPDX-License-Identifier: Apache-2.0 */
/* fake_engine.c - see fake_engine.h. */
#include "fake_engine.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "rerank.h"

struct rr_ticket {
    const struct rr_request *request;
    rr_done_fn *on_done;
    void *user;
    uint64_t begun;
    bool canceled;
    struct rr_ticket *next;
};

struct rr_engine {
    pthread_t thread;
    bool stop;
    struct rr_ticket *first, **last;
    struct rr_stats stats;
    struct rr_info info;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool held, open_held;
static int refuse_code, fail_code;
static struct rr_health health = { .ok = true, .device_ok = true };
static size_t extra_tokens, open_count;
static bool shared_configured, shared_up, fallback;
static size_t waiting, canceled, refuse_left; /* refuse_left: taken before refuse_code counts */

void fake_engine_hold(bool hold)
{
    pthread_mutex_lock(&lock);
    held = hold;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void fake_engine_hold_open(bool hold)
{
    pthread_mutex_lock(&lock);
    open_held = hold;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void fake_engine_health(const struct rr_health *h)
{
    pthread_mutex_lock(&lock);
    health = h ? *h : (struct rr_health){ .ok = true, .device_ok = true };
    pthread_mutex_unlock(&lock);
}

void fake_engine_queue(size_t tokens)
{
    pthread_mutex_lock(&lock);
    extra_tokens = tokens;
    pthread_mutex_unlock(&lock);
}

void fake_engine_shared(bool configured, bool up)
{
    pthread_mutex_lock(&lock);
    shared_configured = configured;
    shared_up = up;
    pthread_mutex_unlock(&lock);
}

void fake_engine_fallback(bool active)
{
    pthread_mutex_lock(&lock);
    fallback = active;
    pthread_mutex_unlock(&lock);
}

size_t fake_engine_open_count(void)
{
    size_t n;

    pthread_mutex_lock(&lock);
    n = open_count;
    pthread_mutex_unlock(&lock);
    return n;
}

void fake_engine_refuse(int code)
{
    fake_engine_refuse_after(0, code);
}

void fake_engine_refuse_after(size_t n, int code)
{
    pthread_mutex_lock(&lock);
    refuse_left = n;
    refuse_code = code;
    pthread_mutex_unlock(&lock);
}

void fake_engine_fail(int code)
{
    pthread_mutex_lock(&lock);
    fail_code = code;
    pthread_mutex_unlock(&lock);
}

bool fake_engine_await(size_t n)
{
    struct timespec until;
    int rc = 0;
    bool reached;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&lock);
    while (waiting < n && rc == 0) rc = pthread_cond_timedwait(&changed, &lock, &until);
    reached = waiting >= n;
    pthread_mutex_unlock(&lock);
    return reached;
}

size_t fake_engine_canceled(void)
{
    size_t n;

    pthread_mutex_lock(&lock);
    n = canceled;
    pthread_mutex_unlock(&lock);
    return n;
}

/* ---- scores ------------------------------------------------------------------------------- */

double fake_engine_share(const char *query, size_t query_len, const char *doc, size_t doc_len)
{
    size_t words = 0, hits = 0, at = 0;

    while (at < query_len) {
        size_t start = at;

        while (at < query_len && query[at] != ' ') at++;
        if (at > start) {
            words++;
            if (memmem(doc, doc_len, query + start, at - start)) hits++;
        }
        at++;
    }
    return words ? (double)hits / (double)words : 0;
}

static void sort(struct rr_result *r)
{
    size_t i, k;

    for (i = 0; i < r->n_documents; i++) {
        for (k = i; k > 0 && r->scores[r->order[k - 1]].logit < r->scores[i].logit; k--)
            r->order[k] = r->order[k - 1];
        r->order[k] = (uint32_t)i;
    }
}

static struct rr_result *compute(const struct rr_ticket *t)
{
    const struct rr_request *q = t->request;
    struct rr_result *r = rr_calloc(RR_MEM_REQUEST, 1, sizeof(*r));
    size_t i;

    if (!r) return NULL;
    r->n_documents = q->n_documents;
    r->scores = rr_calloc(RR_MEM_REQUEST, q->n_documents, sizeof(*r->scores));
    r->order = rr_calloc(RR_MEM_REQUEST, q->n_documents, sizeof(*r->order));
    if (!r->scores || !r->order) {
        rr_result_free(r);
        return NULL;
    }
    for (i = 0; i < q->n_documents; i++) {
        struct rr_score *s = &r->scores[i];

        s->logit = (float)(8 * fake_engine_share(q->query.data, q->query.len, q->documents[i].data,
                                                 q->documents[i].len) - 4);
        s->score = 1 / (1 + exp(-(double)s->logit));
        s->tokens = (uint32_t)(4 + q->query.len / 4 + q->documents[i].len / 4);
        r->tokens += s->tokens;
    }
    sort(r);
    r->timings.total_ns = rr_now_ns() - t->begun;
    return r;
}

static void finish(struct rr_engine *e, struct rr_ticket *t, int code)
{
    struct rr_error err = { 0 };
    struct rr_result *r = NULL;

    if (code == RR_OK) {
        r = compute(t);
        if (!r) code = RR_ENOMEM;
    }
    if (code != RR_OK) rr_fail(&err, code, "the fake engine was told to fail");
    pthread_mutex_lock(&lock);
    e->stats.requests_done++;
    e->stats.pairs_done += t->request->n_documents;
    e->stats.tokens_done += r ? r->tokens : 0;
    e->stats.compute_ns++;
    e->stats.queue_requests--;
    if (code == RR_ECANCELED) canceled++;
    pthread_mutex_unlock(&lock);
    t->on_done(t->user, r, &err);
    rr_free(t);
}

/* The next ticket that may go; lock is held. */
static struct rr_ticket *take(struct rr_engine *e)
{
    struct rr_ticket **at = &e->first, *t;

    while (*at && held && !e->stop && !(*at)->canceled) at = &(*at)->next;
    t = *at;
    if (!t) return NULL;
    *at = t->next;
    if (e->last == &t->next) e->last = at;
    waiting--;
    return t;
}

static void *run(void *arg)
{
    struct rr_engine *e = arg;
    struct rr_ticket *t;
    int code;

    pthread_mutex_lock(&lock);
    for (;;) {
        t = take(e);
        if (!t && e->stop) break;
        if (!t) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        code = t->canceled ? RR_ECANCELED : fail_code;
        pthread_mutex_unlock(&lock);
        finish(e, t, code);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ---- rerank.h ----------------------------------------------------------------------------- */

void rr_options_init_sized(struct rr_options *opt, size_t size)
{
    *opt = (struct rr_options){ .struct_size = size, .device = "auto", .dtype = "auto",
                                .fallback = true, .queue_tokens = 262144,
                                .queue_requests = 4096 };
}

struct rr_team {
    int nothing;
};

int rr_team_open(struct rr_team **out, uint32_t threads, struct rr_error *err)
{
    static struct rr_team team;

    (void)threads;
    (void)err;
    *out = &team;
    return RR_OK;
}

void rr_team_close(struct rr_team *team)
{
    (void)team;
}

int rr_open_in(struct rr_engine **out, struct rr_team *team, const struct rr_options *opt,
               struct rr_error *err)
{
    (void)team;
    return rr_open(out, opt, err);
}

/* "NAME:MIB": so large. */
static uint64_t size_of(const char *model)
{
    const char *colon = strchr(model, ':');

    return colon ? strtoull(colon + 1, NULL, 10) << 20 : 0;
}

int rr_open(struct rr_engine **out, const struct rr_options *opt, struct rr_error *err)
{
    struct rr_engine *e;

    *out = NULL;
    pthread_mutex_lock(&lock);
    while (open_held) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    if (!opt->model || strstr(opt->model, "missing"))
        return rr_fail(err, RR_ENOENT, "%s: no such folder", opt->model ? opt->model : "");
    e = rr_calloc(RR_MEM_MODEL, 1, sizeof(*e));
    if (!e) return rr_fail(err, RR_ENOMEM, "out of memory");
    e->last = &e->first;
    e->info = (struct rr_info){ .model = "fake", .architecture = "FakeForSequenceClassification",
                                .device = "cpu", .device_name = "none", .isa = "c",
                                .dtype = "f32", .weights_dtype = "f32", .threads = 1,
                                .prep_threads = 1, .layers = 1, .max_length = 512,
                                .max_positions = 512, .batch_tokens = 4096 };
    if (pthread_create(&e->thread, NULL, run, e)) {
        rr_free(e);
        return rr_fail(err, RR_EIO, "cannot start a thread");
    }
    pthread_mutex_lock(&lock);
    e->info.fallback_active = fallback;
    e->info.weights_bytes = e->info.host_weights_bytes = size_of(opt->model);
    snprintf(e->info.path, sizeof(e->info.path), "%s", opt->model);
    open_count++;
    pthread_mutex_unlock(&lock);
    *out = e;
    return RR_OK;
}

void rr_close(struct rr_engine *e)
{
    if (!e) return;
    pthread_mutex_lock(&lock);
    e->stop = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(e->thread, NULL);
    pthread_mutex_lock(&lock);
    open_count--;
    pthread_mutex_unlock(&lock);
    rr_free(e);
}

int rr_submit(struct rr_engine *e, const struct rr_request *req, rr_done_fn *on_done, void *user,
              struct rr_ticket **ticket, struct rr_error *err)
{
    struct rr_ticket *t;
    int code;

    if (!req->n_documents || req->max_length > e->info.max_length)
        return rr_fail(err, RR_EINVAL, "malformed request");
    t = rr_calloc(RR_MEM_REQUEST, 1, sizeof(*t));
    if (!t) return rr_fail(err, RR_ENOMEM, "out of memory");
    *t = (struct rr_ticket){ req, on_done, user, rr_now_ns(), false, NULL };
    pthread_mutex_lock(&lock);
    code = refuse_left || (req->goes_on && refuse_code == RR_EBUSY) ? RR_OK : refuse_code;
    if (refuse_left) refuse_left--;
    if (code == RR_OK) {
        if (ticket) *ticket = t;
        *e->last = t;
        e->last = &t->next;
        e->stats.queue_requests++;
        waiting++;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    if (code == RR_OK) return RR_OK;
    rr_free(t);
    return rr_fail(err, code, "the fake engine was told to refuse");
}

void rr_cancel(struct rr_engine *e, struct rr_ticket *ticket)
{
    (void)e;
    pthread_mutex_lock(&lock);
    ticket->canceled = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int rr_score(struct rr_engine *e, const struct rr_request *req, struct rr_result **out,
             struct rr_error *err)
{
    struct rr_ticket t = { .request = req, .begun = rr_now_ns() };

    (void)e;
    *out = compute(&t);
    return *out ? RR_OK : rr_fail(err, RR_ENOMEM, "out of memory");
}

void rr_result_free(struct rr_result *r)
{
    if (!r) return;
    rr_free(r->scores);
    rr_free(r->order);
    rr_free(r);
}

int rr_tokenize(struct rr_engine *e, struct rr_text text, bool add_special, struct rr_tokens **out,
                struct rr_error *err)
{
    (void)e;
    (void)text;
    (void)add_special;
    *out = NULL;
    return rr_fail(err, RR_ENOTSUP, "the fake engine has no tokenizer");
}

void rr_tokens_free(struct rr_tokens *tokens)
{
    rr_free(tokens);
}

struct rr_text rr_token_piece(const struct rr_engine *e, int32_t id)
{
    (void)e;
    (void)id;
    return (struct rr_text){ "", 0 };
}

int rr_decode(struct rr_engine *e, const int32_t *ids, size_t n, bool skip_special,
              struct rr_text *out, struct rr_error *err)
{
    (void)e;
    (void)ids;
    (void)n;
    (void)skip_special;
    *out = (struct rr_text){ NULL, 0 };
    return rr_fail(err, RR_ENOTSUP, "the fake engine has no tokenizer");
}

void rr_text_free(struct rr_text text)
{
    rr_free((char *)(uintptr_t)text.data);
}

const struct rr_info *rr_engine_info(const struct rr_engine *e)
{
    return &e->info;
}

int rr_inspect(const struct rr_options *opt, struct rr_info *info, struct rr_error *err)
{
    *info = (struct rr_info){ .model = "fake",
                              .weights_bytes = size_of(opt->model),
                              .host_weights_bytes = size_of(opt->model) };
    (void)err;
    return RR_OK;
}

bool rr_engine_gpu(struct rr_engine *e, struct rr_gpu *out)
{
    (void)e;
    memset(out, 0, sizeof(*out));
    return false;
}

bool rr_device_gpu(struct rr_engine *e, uint32_t index, struct rr_gpu *out)
{
    (void)index;
    return rr_engine_gpu(e, out);
}

bool rr_engine_device(struct rr_engine *e, uint32_t index, struct rr_device_state *out)
{
    (void)e;
    memset(out, 0, sizeof(*out));
    snprintf(out->name, sizeof(out->name), "fake");
    out->up = true;
    return index == 0;
}

void rr_engine_stats(struct rr_engine *e, struct rr_stats *out)
{
    pthread_mutex_lock(&lock);
    *out = e->stats;
    out->queue_tokens += extra_tokens;
    out->shared_configured = shared_configured;
    out->shared_up = shared_up;
    pthread_mutex_unlock(&lock);
}

void rr_host_info(struct rr_host *out)
{
    *out = (struct rr_host){ .cpu = "none", .cpus_online = 1, .cpus_allowed = 1, .threads = 1 };
}

static rr_log_fn *log_fn;

static void to_user(void *user, int level, const char *line)
{
    log_fn(user, (enum rr_log_level)level, line);
}

void rr_set_log(rr_log_fn *fn, void *user, enum rr_log_level max_level)
{
    log_fn = fn;
    rr_log_set(fn ? to_user : NULL, user, (int)max_level);
}

void rr_engine_health(struct rr_engine *e, struct rr_health *out)
{
    (void)e;
    pthread_mutex_lock(&lock);
    *out = health;
    pthread_mutex_unlock(&lock);
}

uint64_t rr_engine_wait_ns(struct rr_engine *e, size_t tokens)
{
    (void)e;
    (void)tokens;
    return 0;
}
