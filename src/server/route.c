/* SPDX-License-Identifier: Apache-2.0 */
/* route.c - see route.h. */
#include "server/route.h"

#include <string.h>

#include "server/about.h"
#include "server/admin.h"
#include "server/catalog.h"
#include "server/control.h"
#include "server/health.h"
#include "server/tokens.h"

#define LOOK (RR_GET | RR_HEAD)
#define RERANK(path, dialect, flags) \
    { \
        path, RR_POST, RR_HANDLER_RERANK, NULL, dialect, flags \
    }

static const struct rr_route routes[] = {
    { "/", LOOK, RR_HANDLER_ROOT, rr_admin_root, NULL, 0 },
    { "/health", LOOK, RR_HANDLER_HEALTH, rr_admin_health, NULL, 0 },
    { "/v1/health", LOOK, RR_HANDLER_HEALTH, rr_admin_health, NULL, 0 },
    { "/info", LOOK, RR_HANDLER_INFO, rr_admin_info, NULL, 0 },
    { "/live", LOOK, RR_HANDLER_LIVE, rr_admin_live, NULL, 0 },
    { "/ping", LOOK, RR_HANDLER_HEALTH, rr_admin_health, NULL, 0 },
    { "/ready", LOOK, RR_HANDLER_READY, rr_admin_ready, NULL, 0 },
    { "/metrics", LOOK, RR_HANDLER_METRICS, rr_admin_metrics, NULL, 0 },
    { "/v1/models", LOOK, RR_HANDLER_MODELS, rr_catalog_models, NULL, 0 },
    { "/v1/models/", LOOK, RR_HANDLER_MODELS, rr_catalog_model, NULL, 0 },
    { "/models", LOOK, RR_HANDLER_MODELS, rr_catalog_models, NULL, 0 },
    { "/admin/reload", RR_POST, RR_HANDLER_ADMIN, rr_control_reload, NULL, 0 },
    { "/debug/state", LOOK, RR_HANDLER_ADMIN, rr_control_state, NULL, 0 },
    { "/version", LOOK, RR_HANDLER_ABOUT, rr_about_version, NULL, 0 },
    { "/props", LOOK, RR_HANDLER_ABOUT, rr_about_props, NULL, 0 },
    { "/meta", LOOK, RR_HANDLER_ABOUT, rr_about_meta, NULL, 0 },
    { "/v1/cluster/auth", LOOK, RR_HANDLER_ABOUT, rr_about_keys, NULL, RR_ROUTE_OPEN },
    { "/.well-known/live", LOOK, RR_HANDLER_LIVE, rr_about_live, NULL, 0 },
    { "/.well-known/ready", LOOK, RR_HANDLER_READY, rr_about_ready, NULL, 0 },
    { "/openapi.json", LOOK, RR_HANDLER_ABOUT, rr_about_openapi, NULL, 0 },
    { "/api-doc/openapi.json", LOOK, RR_HANDLER_ABOUT, rr_about_openapi, NULL, 0 },
    { "/docs", LOOK, RR_HANDLER_ABOUT, rr_about_docs, NULL, 0 },
    { "/redoc", LOOK, RR_HANDLER_ABOUT, rr_about_docs, NULL, 0 },
    { "/ui", LOOK, RR_HANDLER_UI, rr_about_playground, NULL, RR_ROUTE_OPEN },
    { "/ui/status", LOOK, RR_HANDLER_UI, rr_about_status, NULL, RR_ROUTE_OPEN },
    { "/tokenize", RR_POST, RR_HANDLER_TOKENS, rr_tokens_tokenize, NULL, 0 },
    { "/decode", RR_POST, RR_HANDLER_TOKENS, rr_tokens_decode, NULL, 0 },
    { "/detokenize", RR_POST, RR_HANDLER_TOKENS, rr_tokens_detokenize, NULL, 0 },
    RERANK("/", NULL, 0),
    RERANK("/rerank", NULL, 0),
    RERANK("/v1/rerank", NULL, 0),
    RERANK("/v2/rerank", &rr_dialect_union, RR_ROUTE_V2),
    RERANK("/reranking", NULL, 0),
    RERANK("/v1/reranking", NULL, 0),
    RERANK("/invocations", NULL, 0),
    RERANK("/predict", &rr_dialect_predict, 0),
    RERANK("/score", &rr_dialect_score, 0),
    RERANK("/v1/score", &rr_dialect_score, 0),
    RERANK("/v1/rerankings", &rr_dialect_isaacus, 0),
    RERANK("/v1/ranking", &rr_dialect_nim, 0),
    RERANK("/v3/rerank", &rr_dialect_union, 0),
    RERANK("/v1/reranks", &rr_dialect_union, 0),
    RERANK("/compatible-api/v1/reranks", &rr_dialect_union, 0),
    RERANK("/api/rerank", &rr_dialect_ollama, 0),
    RERANK("/api/v1/services/rerank/text-rerank/text-rerank", &rr_dialect_dashscope, 0),
};

static const struct rr_route options_route = { "",   RR_OPTIONS, RR_HANDLER_NONE, rr_admin_options,
                                               NULL, 0 };

/* The path without a dialect's name in front of it. */
static const char *strip_pin(struct rr_exchange *x)
{
    size_t len = strcspn(x->path + 1, "/");

    x->pinned = len ? rr_dialect_find(x->path + 1, len) : NULL;
    if (!x->pinned) return x->path;
    return x->path[1 + len] ? x->path + 1 + len : "/";
}

static void set_allow(struct rr_exchange *x, unsigned methods)
{
    rr_http_header(x, "Allow", "%s%sOPTIONS", methods & RR_GET ? "GET, HEAD, " : "",
                   methods & RR_POST ? "POST, " : "");
}

int rr_route_none(struct rr_problem *problem)
{
    return rr_problem_set(problem, 404,
                          "there is nothing at this path; POST /rerank ranks, GET /docs lists "
                          "the rest");
}

/* A route that ends in a slash is that of whatever is below. */
static bool fits(const char *route, const char *path)
{
    size_t len = strlen(route);

    return strcmp(route, path) == 0 ||
           (len > 1 && route[len - 1] == '/' && strncmp(route, path, len) == 0);
}

/* Is it the operator's?  Proxies close it by its path, so it is there under one spelling only. */
static bool is_guarded(const struct rr_route *route)
{
    return route->handler == RR_HANDLER_METRICS || route->handler == RR_HANDLER_ADMIN;
}

int rr_route_find(struct rr_exchange *x, struct rr_problem *problem)
{
    const char *path;
    unsigned methods = 0;
    size_t i;

    if (x->path_too_long && !x->preflight)
        return rr_problem_set(problem, 414, "the path is too long");
    path = x->path[0] == '/' ? strip_pin(x) : x->path;
    for (i = 0; i < RR_COUNT(routes); i++) {
        if (!fits(routes[i].path, path)) continue;
        if (is_guarded(&routes[i]) && (!x->plain || x->pinned)) continue;
        methods |= routes[i].methods;
        if (routes[i].methods & x->method) x->route = &routes[i];
    }
    if (x->route) return 0;
    if (methods) set_allow(x, methods);
    /* A refused question would hide from its page why the request proper is refused. */
    if (x->preflight || (methods && x->method == RR_OPTIONS)) {
        x->route = &options_route;
        return 0;
    }
    if (!methods) return rr_route_none(problem);
    return rr_problem_set(problem, 405, "this path takes %s%s%s",
                          methods & RR_POST ? "POST, with a JSON body" : "GET",
                          methods & RR_GET && methods & RR_POST ? ", and GET" : "",
                          methods & RR_POST ? "; GET /docs has examples" : "");
}
