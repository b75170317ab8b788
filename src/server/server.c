/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - joins routes, handlers and http.h.  Layer: server (L6).  Threads: I/O threads. */
#include "server/server.h"

#include <math.h>
#include <stdarg.h>

#include "server/access.h"
#include "server/gate.h"
#include "server/handle.h"
#include "server/models.h"
#include "server/route.h"

#define MAX_RETRY_AFTER 60

const char *rr_server_model(const struct rr_server *s, const struct rr_exchange *x)
{
    if (rr_models_named(s->models, x->model)) return rr_models_name(s->models, x->model);
    return x->engine ? rr_engine_info(x->engine)->model : s->model;
}

unsigned rr_server_retry_after(const struct rr_server *s, const struct rr_exchange *x)
{
    double seconds;

    if (!x->engine) return 1;
    seconds = ceil((double)rr_engine_wait_ns(x->engine, 0) * 1e-9);
    /* Up to a quarter more, by a number that neighbours do not share. */
    seconds += floor(seconds / 4 * (double)(atomic_load(&s->answered) % 16) / 15);
    return (unsigned)fmin(fmax(seconds, 1), MAX_RETRY_AFTER);
}

/* ---- the callbacks ------------------------------------------------------------------------ */

/* The form that the path alone fixes; NULL: --dialect or the body says.  /v2/rerank gives way to a
 * prefix, /predict does not: there the shape is in the path. */
static const struct rr_dialect *form_of_path(const struct rr_exchange *x)
{
    const struct rr_dialect *route = x->route ? x->route->dialect : NULL;

    return x->pinned && (!route || route == &rr_dialect_union) ? x->pinned : route;
}

static void fail(struct rr_server *s, struct rr_exchange *x, const struct rr_problem *problem)
{
    const struct rr_dialect *form = form_of_path(x);

    if (!form && x->route && !x->route->answer) form = s->pinned;
    rr_reply_problem(x, form ? form : &rr_dialect_union, problem);
    if (atomic_load(&s->phase) > RR_PHASE_READY) x->close = true;
    rr_gate_answer(s, x);
}

/* Counts the body in before it is read.  What a chunked one will hold is not known: the most. */
static int reserve(struct rr_server *s, struct rr_exchange *x, struct rr_problem *problem)
{
    size_t limit = atomic_load(&s->max_inflight), max_body = s->settings->max_body;
    size_t need = x->length == SIZE_MAX ? max_body : x->length;

    if (need > max_body) return 0; /* will be refused for that */
    if (atomic_fetch_add(&s->inflight, need) + need <= limit) {
        x->reserved = need;
        return 0;
    }
    atomic_fetch_sub(&s->inflight, need); /* what comes of this body is not kept */
    rr_metrics_add(s->metrics, RR_M_REJECTED, RR_REJECT_MEMORY, 1);
    problem->retry_after = rr_server_retry_after(s, x);
    return rr_problem_set(problem, 503,
                          "too many bytes of requests are in memory, at most %zu "
                          "(--max-inflight-bytes)",
                          limit);
}

static void release(struct rr_server *s, struct rr_exchange *x, size_t keep)
{
    if (x->reserved <= keep) return;
    atomic_fetch_sub(&s->inflight, x->reserved - keep);
    x->reserved = keep;
}

static int begin(void *user, struct rr_exchange *x)
{
    struct rr_server *s = user;
    struct rr_problem problem = { 0 };
    bool two = rr_http_given(x, "traceparent", 1) != NULL;
    int rc;

    atomic_fetch_add(&s->accepted, 1);
    x->accepted = atomic_load(&s->phase) != RR_PHASE_DRAINING;
    if (!x->accepted) atomic_fetch_sub(&s->accepted, 1); /* nobody waits for who comes now */
    atomic_store(&s->last_seen_ns, x->begun_ns);
    rr_trace_begin(&x->trace, two ? NULL : rr_http_given(x, "traceparent", 0));
    rr_gate_client(s, x);
    rr_gate_origin(s, x);
    rc = rr_route_find(x, &problem);
    if (!rc) rc = rr_gate_check(s, x, &problem);
    if (!rc && x->length && x->method == RR_POST) rc = reserve(s, x, &problem);
    if (!rc) return 0;
    fail(s, x, &problem);
    rr_access_refused(s, x, problem.msg);
    return rc;
}

static void refuse(void *user, struct rr_exchange *x, unsigned status, const char *why)
{
    struct rr_server *s = user;
    struct rr_problem problem = { 0 };

    if (!x->route) rr_gate_origin(s, x); /* there was no begin */
    if (status == 413)
        rr_problem_set(&problem, 413, "the body has more than %zu bytes (--max-body)",
                       s->settings->max_body);
    else
        rr_problem_set(&problem, status, "%s", why);
    if (status == 413) rr_metrics_add(s->metrics, RR_M_REJECTED, RR_REJECT_TOO_LARGE, 1);
    if (status == 503) problem.retry_after = 1;
    RR_SAY(&s->console, RR_INFO, REFUSED, rr_num(status), problem.msg, "http", x->request_id);
    fail(s, x, &problem);
}

/* Debugging only: the one place where text of a request gets into the log. */
static void log_body(const struct rr_exchange *x)
{
    rr_log(RR_INFO, "body of %s: %.*s", x->request_id, (int)RR_MIN(x->body.len, (size_t)4096),
           x->body.len ? x->body.data : "");
}

/* What every reply carries. */
static void complete(struct rr_server *s, struct rr_exchange *x)
{
    if (atomic_load(&s->phase) > RR_PHASE_READY) x->close = true;
    rr_gate_answer(s, x);
    if (x->engine && x->status == 200 && x->route->handler == RR_HANDLER_RERANK)
        rr_http_header(x, "X-Rerank-Model-Fingerprint", "%016llx",
                       (unsigned long long)rr_engine_info(x->engine)->fingerprint);
}

static enum rr_http_next request(void *user, struct rr_exchange *x)
{
    struct rr_server *s = user;
    const struct rr_route *route = x->route;
    enum rr_http_next next;

    if (route->answer) x->engine = rr_models_take(s->models, 0);
    release(s, x, x->body.len);
    if (s->settings->log_bodies && x->body.len) log_body(x);
    if (route->answer) {
        route->answer(s, x);
        next = x->waits ? RR_HTTP_WAIT : RR_HTTP_REPLY;
    } else {
        next = rr_rerank_request(s, x, form_of_path(x), route->flags & RR_ROUTE_V2);
    }
    if (next == RR_HTTP_REPLY) complete(s, x);
    return next;
}

static void finish(void *user, struct rr_exchange *x)
{
    struct rr_server *s = user;

    if (!x->waits) rr_rerank_finish(s, x); /* else the reply is there already */
    complete(s, x);
}

static void count_left(struct rr_server *s, const struct rr_exchange *x, bool sent)
{
    if (!x->route || x->route->answer || sent || x->status == 499) return;
    rr_metrics_add(s->metrics, RR_M_CANCELLED, x->status ? RR_LEFT_WRITING : RR_LEFT_READING, 1);
}

static void end(void *user, struct rr_exchange *x, bool sent)
{
    struct rr_server *s = user;

    rr_gate_done(s, x);
    rr_rerank_end(s, x);
    rr_models_give(s->models, x->engine);
    x->engine = NULL;
    release(s, x, 0);
    if (x->accepted) atomic_fetch_sub(&s->accepted, 1);
    count_left(s, x, sent);
    if (x->status) /* else the client left while it was still sending */
        rr_meters_answer(s->metrics, x->route ? x->route->handler : RR_HANDLER_NONE, x->status);
}

void rr_server_app(struct rr_server *s, struct rr_http_app *app)
{
    *app = (struct rr_http_app){ s,      begin, refuse,        request,
                                 finish, end,   rr_gate_ended, rr_gate_tick };
}

void rr_http_header_static(struct rr_exchange *x, const char *name, const char *value)
{
    if (x->n_headers >= RR_HTTP_MAX_HEADERS) return;
    x->headers[x->n_headers].name = name;
    x->headers[x->n_headers++].value = value;
}

void rr_http_header(struct rr_exchange *x, const char *name, const char *fmt, ...)
{
    va_list args;
    char *text;

    if (x->n_headers >= RR_HTTP_MAX_HEADERS) return;
    text = x->headers[x->n_headers].text;
    va_start(args, fmt);
    vsnprintf(text, sizeof(x->headers[0].text), fmt, args);
    va_end(args);
    rr_http_header_static(x, name, text);
}
