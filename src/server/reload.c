/* SPDX-License-Identifier: Apache-2.0 */
/* reload.c - see reload.h. */
#include "server/reload.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "server/gate.h"

/* What may change without a restart: all that is looked up anew for each request. */
static const char *const live_options[] = {
    "drain-delay",          "drain-timeout",   "log-bodies",       "log-level",
    "log-rate",             "max-documents",   "max-document-bytes", "max-json-depth",
    "max-query-bytes",      "model-alias",     "otlp-sample",      "overload-status",
    "ready-when-saturated", "request-timeout", "return-documents", "stall-exit",
    "strict-model",         "ui",
};

static int reload_log(struct rr_server *s, const struct rr_settings *settings, struct rr_error *err)
{
    (void)err;
    rr_console_level(&s->console, settings->log_level, settings->log_rate);
    return RR_OK;
}

static int reload_gate(struct rr_server *s, const struct rr_settings *settings,
                       struct rr_error *err)
{
    (void)settings;
    return rr_gate_reload(s, err);
}

/* In this order: what can fail comes before what cannot. */
static const struct rr_reloadable reloadables[] = {
    { "keys and certificates", reload_gate },
    { "log", reload_log },
};

struct generation {
    struct rr_settings settings;
    struct rr_parse_config parse;
    struct generation *older;
    bool borrowed; /* settings.storage is the caller's */
};

struct rr_reload {
    struct rr_server *server;
    struct generation *current;
};

static void free_generation(struct generation *g)
{
    if (!g->borrowed) rr_settings_free(&g->settings);
    rr_free(g);
}

static void fill_parse(struct generation *g)
{
    const struct rr_settings *o = &g->settings;
    const char *echo = o->return_documents;

    g->parse.echo = strcmp(echo, "yes") == 0  ? RR_ECHO_YES
                    : strcmp(echo, "no") == 0 ? RR_ECHO_NO
                                              : RR_ECHO_AUTO;
    g->parse.max_documents = o->max_documents;
    g->parse.max_document_bytes = o->max_document_bytes;
    g->parse.max_query_bytes = o->max_query_bytes;
}

/* From here on requests see g.  Release is what the atomic store does: its content comes first. */
static void publish(struct rr_reload *r, struct generation *g)
{
    g->older = r->current;
    r->current = g;
    fill_parse(g);
    atomic_store(&r->server->parse, &g->parse);
    atomic_store(&r->server->settings, &g->settings);
}

int rr_reload_open(struct rr_reload **out, struct rr_server *s, const struct rr_settings *first,
                   struct rr_error *err)
{
    struct rr_reload *r = rr_calloc(RR_MEM_SERVER, 1, sizeof(*r));
    struct generation *g = rr_calloc(RR_MEM_SERVER, 1, sizeof(*g));

    *out = NULL;
    if (!r || !g) {
        rr_free(r);
        rr_free(g);
        return rr_fail(err, RR_ENOMEM, "out of memory");
    }
    r->server = s;
    g->settings = *first;
    g->borrowed = true;
    publish(r, g);
    *out = r;
    return RR_OK;
}

void rr_reload_close(struct rr_reload *r)
{
    if (!r) return;
    while (r->current) {
        struct generation *older = r->current->older;

        free_generation(r->current);
        r->current = older;
    }
    rr_free(r);
}

static void needs_restart(void *user, const char *name)
{
    struct rr_server *s = user;

    RR_SAY(&s->console, RR_WARN, NEEDS_RESTART, name);
}

/* The file read again, in force unless nothing changed, or a part failed. */
static int reload_settings(struct rr_reload *r, struct rr_error *err)
{
    struct generation *g = rr_calloc(RR_MEM_SERVER, 1, sizeof(*g));
    const struct rr_settings *now;
    bool changed;
    size_t i;
    int rc;

    if (!g) return rr_fail(err, RR_ENOMEM, "out of memory");
    rc = rr_settings_again(&r->current->settings, &g->settings, err);
    if (rc) {
        free_generation(g);
        return rc;
    }
    changed = rr_settings_keep(&g->settings, &r->current->settings, live_options,
                               RR_COUNT(live_options), needs_restart, r->server);
    now = changed ? &g->settings : &r->current->settings;
    for (i = 0; i < RR_COUNT(reloadables) && !rc; i++) {
        rc = reloadables[i].reload(r->server, now, err);
        if (rc) rr_fail_prefix(err, "%s", reloadables[i].name);
    }
    if (changed && !rc)
        publish(r, g);
    else
        free_generation(g);
    return rc;
}

void rr_reload_run(struct rr_reload *r)
{
    struct rr_server *s = r->server;
    struct rr_error err = { 0 };
    int rc = reload_settings(r, &err);

    rr_metrics_set(s->metrics, RR_M_RELOAD_OK, 0, rc == RR_OK);
    if (rc) {
        RR_SAY(&s->console, RR_ERROR, CONFIG_KEPT, err.msg);
        return;
    }
    rr_metrics_set(s->metrics, RR_M_RELOAD_TIME, 0, (int64_t)(rr_unix_time() * 1e3));
    RR_SAY(&s->console, RR_INFO, CONFIG_RELOADED, rr_num(RR_COUNT(reloadables)));
}
