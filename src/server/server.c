/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - joins routes, handlers and http.h.  Layer: server (L6).  Threads: I/O threads. */
#include "server/server.h"

#include <math.h>

#include "server/handle.h"
#include "server/route.h"

#define MAX_RETRY_AFTER 60

const char *rr_server_model(const struct rr_server *s)
{
    struct rr_engine *engine = atomic_load(&((struct rr_server *)(uintptr_t)s)->engine);

    return engine ? rr_engine_info(engine)->model : s->model;
}

unsigned rr_server_retry_after(const struct rr_server *s)
{
    struct rr_engine *engine = atomic_load(&((struct rr_server *)(uintptr_t)s)->engine);
    struct rr_stats stats;
    double seconds;

    if (!engine) return 1;
    rr_engine_stats(engine, &stats);
    if (!stats.tokens_done || !stats.compute_ns) return 1;
    seconds =
        (double)stats.queue_tokens * ((double)stats.compute_ns * 1e-9) / (double)stats.tokens_done;
    return (unsigned)fmin(fmax(ceil(seconds), 1), MAX_RETRY_AFTER);
}

static void fail(struct rr_exchange *x, const struct rr_problem *problem)
{
    rr_reply_problem(x, x->pinned ? x->pinned : &rr_dialect_union, problem);
}

static int begin(void *user, struct rr_exchange *x)
{
    struct rr_problem problem = { 0 };

    (void)user;
    if (rr_route_find(x, &problem) == 0) return 0;
    fail(x, &problem);
    return -1;
}

static void refuse(void *user, struct rr_exchange *x, unsigned status, const char *why)
{
    struct rr_server *s = user;
    struct rr_problem problem = { 0 };

    if (status == 413)
        rr_problem_set(&problem, 413, "the body has more than %zu bytes (--max-body)",
                       s->settings->max_body);
    else
        rr_problem_set(&problem, status, "%s", why);
    if (status == 413) rr_metrics_add(s->metrics, RR_M_REJECTED, RR_REJECT_TOO_LARGE, 1);
    if (status == 503) problem.retry_after = 1;
    RR_SAY(&s->console, RR_INFO, REFUSED, rr_num(status), problem.msg, "http", x->request_id);
    fail(x, &problem);
}

static enum rr_http_next request(void *user, struct rr_exchange *x)
{
    struct rr_server *s = user;
    const struct rr_route *route = x->route;
    const struct rr_dialect *pinned = route->dialect;

    if (route->answer) {
        route->answer(s, x);
        return RR_HTTP_REPLY;
    }
    /* /v2/rerank gives way to a prefix, /predict does not: there the shape is in the path */
    if (x->pinned && (!route->dialect || route->dialect == &rr_dialect_union)) pinned = x->pinned;
    return rr_rerank_request(s, x, pinned, route->v2);
}

static void finish(void *user, struct rr_exchange *x)
{
    rr_rerank_finish(user, x);
}

static void end(void *user, struct rr_exchange *x, bool sent)
{
    struct rr_server *s = user;

    (void)sent;
    rr_rerank_end(s, x);
    if (x->status) /* else the client left while it was still sending */
        rr_meters_answer(s->metrics, x->route ? x->route->handler : RR_HANDLER_NONE, x->status);
}

void rr_server_app(struct rr_server *s, struct rr_http_app *app)
{
    *app = (struct rr_http_app){ s, begin, refuse, request, finish, end };
}
