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
#define RERANK(path, dialect, v2) \
    { \
        path, RR_POST, RR_HANDLER_RERANK, NULL, dialect, v2 \
    }

static const struct rr_route routes[] = {
    { "/", LOOK, RR_HANDLER_ROOT, rr_admin_root, NULL, false },
    { "/health", LOOK, RR_HANDLER_HEALTH, rr_admin_health, NULL, false },
    { "/v1/health", LOOK, RR_HANDLER_HEALTH, rr_admin_health, NULL, false },
    { "/info", LOOK, RR_HANDLER_INFO, rr_admin_info, NULL, false },
    { "/live", LOOK, RR_HANDLER_LIVE, rr_admin_live, NULL, false },
    { "/ping", LOOK, RR_HANDLER_HEALTH, rr_admin_health, NULL, false },
    { "/ready", LOOK, RR_HANDLER_READY, rr_admin_ready, NULL, false },
    { "/metrics", LOOK, RR_HANDLER_METRICS, rr_admin_metrics, NULL, false },
    { "/v1/models", LOOK, RR_HANDLER_MODELS, rr_catalog_models, NULL, false },
    { "/v1/models/", LOOK, RR_HANDLER_MODELS, rr_catalog_model, NULL, false },
    { "/models", LOOK, RR_HANDLER_MODELS, rr_catalog_models, NULL, false },
    { "/admin/reload", RR_POST, RR_HANDLER_ADMIN, rr_control_reload, NULL, false },
    { "/debug/state", LOOK, RR_HANDLER_ADMIN, rr_control_state, NULL, false },
    { "/version", LOOK, RR_HANDLER_ABOUT, rr_about_version, NULL, false },
    { "/props", LOOK, RR_HANDLER_ABOUT, rr_about_props, NULL, false },
    { "/meta", LOOK, RR_HANDLER_ABOUT, rr_about_meta, NULL, false },
    { "/v1/cluster/auth", LOOK, RR_HANDLER_ABOUT, rr_about_keys, NULL, false },
    { "/.well-known/live", LOOK, RR_HANDLER_LIVE, rr_about_live, NULL, false },
    { "/.well-known/ready", LOOK, RR_HANDLER_READY, rr_about_ready, NULL, false },
    { "/openapi.json", LOOK, RR_HANDLER_ABOUT, rr_about_openapi, NULL, false },
    { "/api-doc/openapi.json", LOOK, RR_HANDLER_ABOUT, rr_about_openapi, NULL, false },
    { "/docs", LOOK, RR_HANDLER_ABOUT, rr_about_docs, NULL, false },
    { "/redoc", LOOK, RR_HANDLER_ABOUT, rr_about_docs, NULL, false },
    { "/ui", LOOK, RR_HANDLER_UI, rr_about_playground, NULL, false },
    { "/ui/status", LOOK, RR_HANDLER_UI, rr_about_status, NULL, false },
    { "/tokenize", RR_POST, RR_HANDLER_TOKENS, rr_tokens_tokenize, NULL, false },
    { "/decode", RR_POST, RR_HANDLER_TOKENS, rr_tokens_decode, NULL, false },
    { "/detokenize", RR_POST, RR_HANDLER_TOKENS, rr_tokens_detokenize, NULL, false },
    RERANK("/", NULL, false),
    RERANK("/rerank", NULL, false),
    RERANK("/v1/rerank", NULL, false),
    RERANK("/v2/rerank", &rr_dialect_union, true),
    RERANK("/reranking", NULL, false),
    RERANK("/v1/reranking", NULL, false),
    RERANK("/invocations", NULL, false),
    RERANK("/predict", &rr_dialect_predict, false),
    RERANK("/score", &rr_dialect_score, false),
    RERANK("/v1/score", &rr_dialect_score, false),
    RERANK("/v1/rerankings", &rr_dialect_isaacus, false),
    RERANK("/v1/ranking", &rr_dialect_nim, false),
    RERANK("/v3/rerank", &rr_dialect_union, false),
    RERANK("/api/rerank", &rr_dialect_ollama, false),
    RERANK("/api/v1/services/rerank/text-rerank/text-rerank", &rr_dialect_dashscope, false),
};

static const struct rr_route options_route = { "",   RR_OPTIONS, RR_HANDLER_NONE, rr_admin_options,
                                               NULL, false };

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

int rr_route_find(struct rr_exchange *x, struct rr_problem *problem)
{
    const char *path;
    unsigned methods = 0;
    size_t i;

    if (x->path_too_long) return rr_problem_set(problem, 414, "the path is too long");
    path = x->path[0] == '/' ? strip_pin(x) : x->path;
    for (i = 0; i < RR_COUNT(routes); i++) {
        if (!fits(routes[i].path, path)) continue;
        methods |= routes[i].methods;
        if (routes[i].methods & x->method) x->route = &routes[i];
    }
    if (x->route) return 0;
    if (!methods) return rr_route_none(problem);
    set_allow(x, methods);
    if (x->method == RR_OPTIONS) {
        x->route = &options_route;
        return 0;
    }
    return rr_problem_set(problem, 405, "this path takes %s%s%s",
                          methods & RR_POST ? "POST, with a JSON body" : "GET",
                          methods & RR_GET && methods & RR_POST ? ", and GET" : "",
                          methods & RR_POST ? "; GET /docs has examples" : "");
}
