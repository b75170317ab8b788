/* SPDX-License-Identifier: Apache-2.0 */
/* handle.c - rerank requests: body to struct rr_ask, on to the engine, results to a reply.
 * Layer: server (L6).  Threads: I/O threads. */
#include "server/handle.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "server/access.h"
#include "server/body.h"
#include "server/extras.h"
#include "server/fields.h"
#include "server/job.h"
#include "server/models.h"
#include "server/parking.h"

void rr_reply_problem(struct rr_exchange *x, const struct rr_dialect *dialect,
                      const struct rr_problem *problem)
{
    struct rr_problem p = *problem;

    p.status = x->status = rr_dialect_status(dialect, problem->status);
    rr_buf_clear(&x->reply);
    dialect->render_error(&p, &x->reply);
    if (x->reply.failed) {
        rr_buf_clear(&x->reply);
        rr_buf_puts(&x->reply, "{\"error\":\"out of memory\"}");
    }
    if (problem->retry_after)
        rr_http_header(x, "Retry-After", "%u", problem->retry_after);
    else if (problem->status == 503) /* out of memory, wherever it was */
        rr_http_header(x, "Retry-After", "1");
}

/* ---- from body to question ---------------------------------------------------------------- */

int rr_request_json(struct rr_server *s, struct rr_exchange *x, json_t **root, size_t *replaced,
                    struct rr_problem *problem)
{
    struct rr_body_rules rules = { .max_depth = s->settings->max_json_depth,
                                   .max_documents = s->settings->max_documents,
                                   .replace =
                                       strcmp(s->settings->invalid_unicode, "replace") == 0 };

    *root = NULL;
    *replaced = 0;
    if (rr_body_media(rr_http_given(x, "Content-Type", 0), rr_http_given(x, "Content-Encoding", 0),
                      problem))
        return -1;
    if (rr_body_read(&x->body, &rules, root, replaced, problem)) return -1;
    if (!*replaced) return 0;
    rr_metrics_add(s->metrics, RR_M_REPLACED, 0, *replaced);
    rr_http_header(x, "x-rerank-replaced", "%zu", *replaced);
    return 0;
}

int rr_request_model(struct rr_server *s, struct rr_exchange *x, const json_t *root,
                     struct rr_problem *problem)
{
    const json_t *name = json_object_get(root, "model");
    const char *text = json_string_value(name); /* other types, too, are sent and mean nothing */
    size_t len = text ? json_string_length(name) : 0;
    const struct rr_settings *settings = s->settings;

    if (!rr_models_find(s->models, settings, text, len, settings->strict_model, &x->model)) {
        rr_problem_set(problem, 404, "model: there is no model of this name; GET /v1/models lists "
                                     "those that there are");
        snprintf(problem->path, sizeof(problem->path), "model");
        return -1;
    }
    rr_models_give(s->models, x->engine);
    x->engine = rr_models_serve(s->models, x->model);
    return 0;
}

static int no_dialect(struct rr_job *job)
{
    const char *key = json_object_get(job->root, "query") ? "documents" : "query";

    return rr_problem_field(&job->problem, key, "missing",
                            "Field required (no request shape with these keys is known)");
}

/* The stricter of the body's, the header's and the server's own limit holds. */
static int read_timeout(struct rr_job *job)
{
    const char *header = rr_http_given(job->x, "X-Request-Timeout", 0);
    uint64_t *ns = &job->ask.extras.timeout_ns, limit;

    if (header) {
        if (!rr_timeout_parse(header, &limit))
            return rr_problem_field(&job->problem, "X-Request-Timeout", "value_error",
                                    "must be seconds above 0, or have a unit: 2, 1.5s, 500ms");
        *ns = *ns ? RR_MIN(*ns, limit) : limit;
    }
    limit = (uint64_t)(job->server->settings->request_timeout * 1e9);
    if (limit) *ns = *ns ? RR_MIN(*ns, limit) : limit;
    return 0;
}

/* Pinecone's clients say so in a header; nothing in their bodies does. */
static const struct rr_dialect *detect(struct rr_job *job)
{
    const struct rr_dialect *found = rr_detect(job->root);

    if (found == &rr_dialect_union && rr_http_given(job->x, "X-Pinecone-API-Version", 0))
        return &rr_dialect_pinecone;
    return found;
}

static int read_question(struct rr_job *job, const struct rr_dialect *pinned, bool v2)
{
    struct rr_parse_config config = *atomic_load(&job->server->parse);
    const struct rr_engine *engine;
    struct rr_fields f = { &config, &job->arena, NULL, &job->ask, &job->problem };

    if (pinned) job->dialect = pinned;
    if (rr_request_json(job->server, job->x, &job->root, &job->replaced, &job->problem)) return -1;
    if (!pinned) pinned = detect(job);
    if (!pinned) return no_dialect(job);
    job->ask.dialect = job->dialect = pinned;
    if (rr_request_model(job->server, job->x, job->root, &job->problem)) return -1;
    engine = job->x->engine;
    config.v2 = v2;
    config.max_length = engine ? rr_engine_info(engine)->max_length : 0;
    f.root = job->root;
    if (pinned->parse(&f)) return -1;
    return read_timeout(job);
}

/* Are requests served at all?  After parsing, so that the refusal has the form of the dialect. */
static int check_phase(struct rr_job *job)
{
    struct rr_server *s = job->server;
    int phase = atomic_load(&s->phase);

    if (rr_phase_serves(phase)) {
        job->engine = job->x->engine; /* NULL: it is to be loaded */
        return 0;
    }
    if (phase == RR_PHASE_DRAINING) {
        job->x->close = true;
        rr_problem_set(&job->problem, 503, "the server is shutting down");
    } else {
        rr_problem_set(&job->problem, 503, "%s",
                       job->dialect->not_loaded ? job->dialect->not_loaded
                                                : "the model is still loading");
    }
    job->problem.retry_after = 1;
    return -1;
}

/* ---- from result to reply ----------------------------------------------------------------- */

static void count_rejection(struct rr_job *job)
{
    struct rr_server *s = job->server;
    enum rr_meter_reason reason = RR_REJECT_ERROR;

    if (job->problem.status == 499) return;
    if (job->err.code == RR_EBUSY)
        reason = RR_REJECT_QUEUE_FULL;
    else if (job->problem.status == 504)
        reason = RR_REJECT_DEADLINE;
    else if (job->problem.status == 413)
        reason = RR_REJECT_TOO_LARGE;
    else if (job->problem.status < 500)
        reason = RR_REJECT_INVALID;
    else if (job->problem.status == 503 && !job->err.code)
        reason =
            atomic_load(&s->phase) == RR_PHASE_DRAINING ? RR_REJECT_DRAINING : RR_REJECT_NOT_READY;
    rr_metrics_add(s->metrics, RR_M_REJECTED, reason, 1);
}

/* The engine knows one list, documents; a request may have several, and other names for them. */
static void name_document(struct rr_job *job)
{
    struct rr_problem *p = &job->problem;
    char path[RR_FIELD_PATH];
    const char *rest;
    size_t i;

    rest = rr_problem_document(job->err.msg, &i);
    if (!rest || job->err_group >= job->ask.n_groups) return;
    rr_fields_doc_path(path, &job->ask.groups[job->err_group], i);
    snprintf(p->path, sizeof(p->path), "%s", path);
    snprintf(p->msg, sizeof(p->msg), "%s: %s", path, rest);
}

static void engine_problem(struct rr_job *job)
{
    struct rr_server *s = job->server;
    struct rr_problem *p = &job->problem;

    rr_problem_engine(p, &job->err, s->settings->overload_status);
    name_document(job);
    if (p->status == 500) p->status = job->dialect->backend_status;
    if (job->err.code == RR_ECANCELED && job->gone == RR_GONE_DRAIN)
        rr_problem_set(p, 503, "the server is shutting down");
    if (p->status == 429 || p->status == 503) p->retry_after = rr_server_retry_after(s, job->x);
}

#define USUAL_REPLY (64 * 1024) /* most bytes that are reserved at once for a reply */

static unsigned long long ms(uint64_t ns)
{
    return ns / RR_MILLISECOND;
}

/* The headers of text-embeddings-inference; times in whole milliseconds. */
static void set_compute_headers(struct rr_job *job, const struct rr_access *a, uint64_t total_ns)
{
    const struct rr_timings *t = &a->timings;
    const struct rr_info *info = rr_engine_info(job->engine);
    struct rr_exchange *x = job->x;
    size_t characters = 0, i, k;

    for (i = 0; i < job->ask.n_groups; i++) {
        const struct rr_group *g = &job->ask.groups[i];

        characters += rr_utf8_count(g->query) * g->n_docs;
        for (k = 0; k < g->n_docs; k++) characters += rr_utf8_count(g->docs[k]);
    }
    rr_http_header(x, "x-compute-type", "%s", info->device);
    rr_http_header(x, "x-compute-time", "%llu", ms(t->total_ns));
    rr_http_header(x, "x-compute-characters", "%zu", characters);
    rr_http_header(x, "x-compute-tokens", "%llu", (unsigned long long)a->tokens);
    rr_http_header(x, "x-total-time", "%llu", ms(total_ns));
    rr_http_header(x, "x-tokenization-time", "%llu", ms(t->tokenize_ns));
    rr_http_header(x, "x-queue-time", "%llu", ms(t->queue_ns));
    rr_http_header(x, "x-inference-time", "%llu", ms(t->compute_ns));
}

/* What the body of a reply says when it is an object; a list has no place for it. */
static void set_extra_headers(struct rr_job *job, const struct rr_reply *reply)
{
    const struct rr_extras *e = &job->ask.extras;
    bool exact = job->parts[0].request.exact_top_k > 0;
    struct rr_totals t;

    if (!e->allow_partial && !exact && !e->explain) return;
    rr_extras_totals(reply, &t);
    if (e->allow_partial) rr_http_header(job->x, "x-rerank-missing", "%zu", t.missing);
    if (exact) rr_http_header(job->x, "x-rerank-exact", "%s", t.exact ? "true" : "false");
    if (exact || e->explain) rr_http_header(job->x, "x-rerank-rescored", "%zu", t.rescored);
    if (e->explain) rr_http_header(job->x, "x-rerank-cached", "%zu", t.cached);
}

static void observe(struct rr_job *job, const struct rr_timings *t, uint64_t serialize_ns)
{
    struct rr_metrics *m = job->server->metrics;

    rr_metrics_observe(m, RR_M_STAGE, RR_STAGE_PARSE, job->parsed_ns - job->x->read_ns);
    rr_metrics_observe(m, RR_M_STAGE, RR_STAGE_TOKENIZE, t->tokenize_ns);
    rr_metrics_observe(m, RR_M_STAGE, RR_STAGE_QUEUE, t->queue_ns);
    rr_metrics_observe(m, RR_M_STAGE, RR_STAGE_INFERENCE, t->compute_ns);
    rr_metrics_observe(m, RR_M_STAGE, RR_STAGE_SERIALIZE, serialize_ns);
    rr_metrics_observe(m, RR_M_DOCUMENTS_PER_REQUEST, 0, job->ask.n_pairs);
    rr_metrics_observe(m, RR_M_RESPONSE_BYTES, 0, job->x->reply.len);
}

static void reply_results(struct rr_job *job, struct rr_access *log)
{
    struct rr_server *s = job->server;
    struct rr_exchange *x = job->x;
    uint64_t now = rr_now_ns();
    struct rr_reply reply = {
        .ask = &job->ask,
        .results = job->results,
        .model = rr_server_model(s, x),
        .request_id = x->request_id,
        .created = rr_unix_time(),
        .seconds = (double)(now - x->read_ns) * 1e-9,
        .parse_ns = job->parsed_ns - x->read_ns,
        .replaced = job->replaced,
    };
    size_t i;

    rr_access_results(log, job);
    reply.timings = log->timings;
    x->status = 200;
    rr_buf_reserve(&x->reply, RR_MIN(x->body_bytes + 64 * job->ask.n_pairs, USUAL_REPLY));
    job->ask.dialect->render(&reply, &x->reply);
    if (x->reply.failed) { /* the engine gives finite scores only: what else but memory */
        rr_problem_set(&job->problem, 503, "out of memory for the reply");
        return;
    }
    x->tokens = log->tokens;
    for (i = 0; i < job->ask.n_groups; i++) log->results += rr_reply_count(&reply, i);
    observe(job, &log->timings, rr_now_ns() - now);
    set_compute_headers(job, log, rr_now_ns() - x->read_ns);
    set_extra_headers(job, &reply);
}

/* What is counted and logged of every request, however it ended. */
static void record(struct rr_job *job, enum rr_meter_outcome outcome, struct rr_access *log)
{
    struct rr_server *s = job->server;

    job->finished = true;
    log->status = job->x->status;
    log->model = rr_server_model(s, job->x);
    log->total_ns = rr_now_ns() - job->x->read_ns;
    rr_metrics_observe(s->metrics, RR_M_DURATION, outcome, log->total_ns);
    rr_metrics_observe(s->metrics, RR_M_REQUEST_BYTES, 0, job->x->body_bytes);
    rr_meters_dialect(s->metrics, job->dialect->name);
    if (outcome == RR_OUTCOME_CANCELLED)
        rr_metrics_add(s->metrics, RR_M_CANCELLED, RR_LEFT_WAITING, 1);
    rr_access_log(s, job->x, log);
}

void rr_rerank_finish(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_job *job = x->job;
    struct rr_access log = { .dialect = job->dialect->name };
    enum rr_meter_outcome outcome = RR_OUTCOME_OK;

    (void)s; /* the job knows it */
    if (job->err.code) engine_problem(job);
    if (!job->problem.status) reply_results(job, &log);
    if (job->problem.status) {
        outcome = job->problem.status == 499 ? RR_OUTCOME_CANCELLED : RR_OUTCOME_ERROR;
        count_rejection(job);
        rr_reply_problem(x, job->dialect, &job->problem);
        log.problem = job->problem.msg;
    }
    record(job, outcome, &log);
}

/* ---- interface ---------------------------------------------------------------------------- */

/* Counts the job in before the phase is read, so that a drain that starts now waits for it. */
static void accept_job(struct rr_job *job)
{
    job->accepted = true;
    rr_metrics_add(job->server->metrics, RR_M_IN_FLIGHT, 0, 1);
    atomic_fetch_add(&job->server->in_flight, 1);
}

enum rr_http_next rr_rerank_request(struct rr_server *s, struct rr_exchange *x,
                                    const struct rr_dialect *pinned, bool v2)
{
    struct rr_job *job = rr_job_new(s, x);
    struct rr_problem problem = { 0 };
    enum rr_http_next next;

    if (!job) {
        rr_problem_set(&problem, 503, "out of memory");
        problem.retry_after = 1;
        rr_reply_problem(x, &rr_dialect_union, &problem);
        return RR_HTTP_REPLY;
    }
    x->job = job;
    accept_job(job);
    if (!pinned) pinned = s->pinned;
    if (read_question(job, pinned, v2) == 0 && check_phase(job) == 0 &&
        rr_ask_check(&job->ask, s->parse, &job->problem) == 0) {
        job->parsed_ns = rr_now_ns();
        next = job->engine ? rr_job_submit(job) : rr_parking_enter(job);
        if (next == RR_HTTP_WAIT) return next;
    }
    rr_rerank_finish(s, x);
    return RR_HTTP_REPLY;
}

void rr_rerank_end(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_job *job = x->job;

    if (!job) return;
    x->job = NULL;
    if (!job->finished) {
        struct rr_access log = { .dialect = job->dialect->name, .problem = "client left" };

        x->status = 499;
        record(job, RR_OUTCOME_CANCELLED, &log);
    }
    if (job->accepted) {
        rr_metrics_add(s->metrics, RR_M_IN_FLIGHT, 0, (uint64_t)-1);
        atomic_fetch_sub(&s->in_flight, 1);
        atomic_fetch_add(&s->answered, 1);
    }
    rr_job_free(job);
}
