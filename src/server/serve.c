/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - the life of the server: port, model, readiness, supervision, end.
 * Layer: server (L6).  Threads: the main one.
 *
 * The port is bound before the model is loaded: a second server fails at once, and balancers get an
 * honest 503 meanwhile.  At the end the HTTP threads stop before the engine goes, since any of them
 * may be asking it for numbers. */
#include "server/serve.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/drain.h"
#include "server/gate.h"
#include "server/lanes.h"
#include "server/loader.h"
#include "server/models.h"
#include "server/otlp.h"
#include "server/parking.h"
#include "server/plan.h"
#include "server/reload.h"
#include "server/server.h"
#include "server/supervise.h"

#define ROUND_MS 500 /* how often the supervisor looks */
#define INFLIGHT_WHILE_LOADING ((size_t)64 << 20)

struct life { /* what rr_serve owns */
    struct rr_server *server;
    struct rr_settings settings; /* a copy, so that it may outlive the caller's */
    struct rr_reload *reload;
    struct rr_notify notify;
    struct rr_supervisor supervisor;
    int signals; /* signalfd */
};

/* ---- set-up ------------------------------------------------------------------------------- */

static int set_dialect(struct rr_server *s, struct rr_error *err)
{
    const char *name = s->settings->dialect;

    if (strcmp(name, "auto") == 0) return RR_OK;
    s->pinned = rr_dialect_find(name, strlen(name));
    if (s->pinned) return RR_OK;
    return rr_fail(err, RR_EFORMAT,
                   "dialect: found \"%.40s\", expected auto or a name as in "
                   "docs/API.md, for example ragfab, tei, cohere, jina",
                   name);
}

/* The last part of the model's folder: the name until the engine knows better. */
static void set_name(struct rr_server *s, const char *model)
{
    size_t end = strlen(model), start;

    while (end && model[end - 1] == '/') end--;
    for (start = end; start && model[start - 1] != '/'; start--) continue;
    snprintf(s->model, sizeof(s->model), "%.*s", (int)(end - start), model + start);
}

static int set_up(struct life *life, struct rr_error *err)
{
    struct rr_server *s = life->server;
    const struct rr_settings *o = &life->settings;
    int rc;

    s->started = rr_unix_time();
    s->started_ns = rr_now_ns();
    atomic_store(&s->max_inflight, RR_MAX(o->max_body, INFLIGHT_WHILE_LOADING));
    rc = rr_meters_open(&s->metrics, err);
    if (rc) return rc;
    s->console.metrics = s->metrics;
    s->console.french = rr_settings_french(o);
    rr_console_open(&s->console, o->log_format, o->log_level, o->log_rate);
    rr_metrics_set(s->metrics, RR_M_START, 0, (int64_t)(s->started * 1e3));
    rr_metrics_set(s->metrics, RR_M_QUEUE_LIMIT, 0, (int64_t)o->queue_tokens);
    rr_metrics_set(s->metrics, RR_M_CACHE_LIMIT, 0, (int64_t)o->cache_size);
    rr_metrics_set(s->metrics, RR_M_RELOAD_OK, 0, 1);
    rr_metrics_set(s->metrics, RR_M_RELOAD_TIME, 0, (int64_t)(s->started * 1e3));
    rc = rr_reload_open(&life->reload, s, o, err);
    if (!rc) rc = set_dialect(s, err);
    if (!rc) rc = rr_team_open(&s->team, o->threads, err);
    if (!rc) rc = rr_models_open(&s->models, o, err);
    if (!rc) rc = rr_parking_new(&s->parking, err);
    if (!rc) rc = rr_loader_open(&s->loader, s, err);
    if (!rc && o->otlp_endpoint[0]) rc = rr_otlp_open(&s->otlp, o->otlp_endpoint, s->metrics, err);
    return rc;
}

static void url_of(const struct rr_server *s, char *out, size_t cap, bool local)
{
    const char *list = s->settings->host;
    struct rr_text host;

    (void)rr_text_word(&list, &host); /* the first of several */
    if (local && (rr_text_is(host, "0.0.0.0") || rr_text_is(host, "::")))
        host = rr_text("localhost");
    snprintf(out, cap, memchr(host.data, ':', host.len) ? "%s://[%.*s]:%u" : "%s://%.*s:%u",
             *s->settings->tls_cert ? "https" : "http", (int)host.len, host.data,
             rr_http_port(s->http, RR_DOOR_MAIN));
}

/* ---- the model ---------------------------------------------------------------------------- */

static void say_model(struct rr_server *s, const struct rr_info *i, const struct rr_host *host)
{
    struct rr_console *c = &s->console;

    RR_SAY(c, RR_INFO, MODEL, i->model, i->architecture, rr_num(i->layers),
           rr_num1((double)i->parameters * 1e-6), i->weights_dtype, i->dtype,
           rr_num(i->max_length));
    RR_SAY(c, RR_INFO, DEVICE, i->device, i->device_name, i->isa, rr_num(i->threads),
           rr_num(i->prep_threads));
    if (s->settings->threads > host->cpus_allowed && host->cpus_allowed)
        RR_SAY(c, RR_WARN, MANY_THREADS, rr_num(s->settings->threads), rr_num(host->cpus_allowed));
}

/* One line to try the server with, whatever --dialect says.  The key is never in it. */
static void say_example(struct rr_server *s, const char *url)
{
    const char *key = "", *form = strcmp(s->settings->dialect, "auto") ? "/ragfab" : "";
    char line[1024];

    if (!rr_log_on(RR_INFO) && !isatty(STDERR_FILENO)) return;
    if (rr_gate_asks_keys(s)) key = " -H \"Authorization: Bearer $RERANKD_API_KEY\"";
    snprintf(line, sizeof(line),
             "curl -s %s%s/rerank%s -H \"Content-Type: application/json\" -d '{\"query\": "
             "\"Quelle est la capitale de la France ?\", \"documents\": [{\"content\": "
             "\"Le pain se fait avec de la farine.\"}, {\"content\": \"Paris est la capitale de la "
             "France.\"}, {\"content\": \"Lyon est une grande ville.\"}], \"top_k\": 2}'",
             url, form, key);
    rr_console_plain(&s->console, line);
}

static int become_ready(struct life *life, struct rr_error *err)
{
    struct rr_server *s = life->server;
    struct rr_engine *engine;
    struct rr_plan plan;
    struct rr_host host;
    size_t max_inflight;
    uint64_t took_ns;
    char url[160];
    int rc = rr_loader_first(s->loader, &took_ns, err);

    if (rc) return rc;
    engine = rr_models_take(s->models, 0);
    rr_host_info(&host);
    rc = rr_plan_make(&plan, s->settings, rr_engine_info(engine), &host, &max_inflight, err);
    if (!rc) {
        say_model(s, rr_engine_info(engine), &host);
        rr_lanes_say(&s->console, engine);
        rr_plan_say(&s->console, &plan, engine);
    }
    rr_models_give(s->models, engine);
    if (rc) return rc;
    rr_models_budget(s->models, plan.models);
    atomic_store(&s->max_inflight, max_inflight);
    atomic_store(&s->phase, RR_PHASE_READY);
    (void)rr_http_hold(s->http, false);
    rr_gate_warn(s);
    url_of(s, url, sizeof(url), true);
    rr_notify_send(&life->notify, "READY=1\nSTATUS=serving at %s", url);
    RR_SAY(&s->console, RR_INFO, READY, rr_num1((double)(rr_now_ns() - s->started_ns) * 1e-9),
           rr_num(rr_meters_resident() >> 20), url);
    say_example(s, url);
    return RR_OK;
}

/* ---- the middle --------------------------------------------------------------------------- */

static int start(struct life *life, const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_options options;
    struct rr_server *s;
    char url[160];
    int rc;

    life->settings = *settings;
    life->signals = -1;
    rr_notify_open(&life->notify);
    life->server = s = rr_calloc(RR_MEM_SERVER, 1, sizeof(*s));
    if (!s) return rr_fail(err, RR_ENOMEM, "out of memory");
    rr_settings_engine(&life->settings, &options);
    set_name(s, options.model);
    rc = rr_signals_open(&life->signals, err);
    if (!rc) rc = set_up(life, err);
    if (!rc) rc = rr_gate_open(s, err);
    if (rc) return rc;
    rr_supervisor_init(&life->supervisor, s, &life->notify);
    url_of(s, url, sizeof(url), false);
    RR_SAY(&s->console, RR_INFO, LISTENING, url);
    if (*s->settings->listen_unix)
        RR_SAY(&s->console, RR_INFO, LISTENING, s->settings->listen_unix);
    if (*s->settings->admin_listen)
        RR_SAY(&s->console, RR_INFO, LISTENING_ADMIN, rr_num(rr_http_port(s->http, RR_DOOR_ADMIN)));
    RR_SAY(&s->console, RR_INFO, LOADING, options.model);
    return rr_loader_start(s->loader, err);
}

static void reload(struct life *life)
{
    rr_notify_send(&life->notify, "RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)(rr_now_ns() / 1000));
    rr_reload_run(life->reload);
    rr_notify_send(&life->notify, "READY=1");
}

/* Until SIGTERM or SIGINT comes (RR_OK, *signal), the model cannot be loaded, or the engine has
 * been unable to answer for too long (RR_EDEVICE, RR_EINTERNAL, *hopeless). */
static int run(struct life *life, int *signal, bool *hopeless, struct rr_error *err)
{
    struct rr_server *s = life->server;
    struct pollfd fds[2] = { { life->signals, POLLIN, 0 },
                             { rr_loader_finished(s->loader), POLLIN, 0 } };
    int rc;

    while ((rc = rr_supervise(&life->supervisor, err)) == RR_OK) {
        if (poll(fds, RR_COUNT(fds), ROUND_MS) < 0 && errno != EINTR)
            return rr_fail(err, RR_EIO, "poll: %s", strerror(errno));
        if (fds[0].revents & POLLIN) *signal = rr_signals_read(life->signals);
        if (*signal == SIGTERM || *signal == SIGINT) return RR_OK;
        if (*signal == SIGHUP) reload(life);
        *signal = 0;
        if (fds[1].revents & POLLIN) {
            fds[1].fd = -1; /* once */
            fds[1].revents = 0;
            rc = become_ready(life, err);
            if (rc) return rc;
        }
    }
    *hopeless = true;
    return rc;
}

/* ---- the end ------------------------------------------------------------------------------ */

static void close_all(struct life *life)
{
    struct rr_server *s = life->server;

    if (s) {
        if (s->models) rr_models_stop(s->models);
        rr_loader_close(s->loader);
        rr_http_close(s->http);
        rr_watch_close(s->watch);
        rr_gate_close(s);
        rr_models_close(s->models);
        rr_team_close(s->team);
        rr_parking_free(s->parking);
        rr_otlp_close(s->otlp);
        rr_reload_close(life->reload);
        if (s->console.metrics) rr_console_close(&s->console);
        rr_metrics_close(s->metrics);
        rr_free(s);
    }
    if (life->signals >= 0) close(life->signals);
    rr_notify_close(&life->notify);
    rr_free(life);
}

static int exit_code_of(const struct rr_server *s, int rc, bool hopeless)
{
    if (hopeless) return rc == RR_EDEVICE ? RR_EXIT_IOERR : RR_EXIT_SOFTWARE;
    /* A port that cannot be had is a condition of the machine, not of the configuration. */
    return rc == RR_EIO && s && !s->http ? RR_EXIT_UNAVAILABLE : rr_exit_code(rc);
}

int rr_serve(const struct rr_settings *settings)
{
    struct life *life = rr_calloc(RR_MEM_SERVER, 1, sizeof(*life));
    struct rr_error err = { 0 };
    int rc, code = RR_EXIT_OK, signal = 0;
    bool hopeless = false;

    if (!life) return RR_EXIT_OSERR;
    rc = start(life, settings, &err);
    if (!rc) rc = run(life, &signal, &hopeless, &err);
    if (rc) {
        rr_signals_release();
        rr_log(RR_ERROR, "%s", err.msg);
        rr_notify_send(&life->notify, "STOPPING=1\nSTATUS=%.400s", err.msg);
        code = exit_code_of(life->server, rc, hopeless);
        if (hopeless) return code; /* threads may be stuck in all of it, so nothing is freed */
    } else if (!rr_drain(life->server, &life->notify, life->signals, signal)) {
        return RR_EXIT_SOFTWARE; /* the same */
    } else {
        rr_signals_release();
        RR_SAY(&life->server->console, RR_INFO, STOPPED,
               rr_num(atomic_load(&life->server->answered)));
    }
    close_all(life);
    return code;
}

/* Each model alone must fit beside the default. */
static int check_models(const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_options options;
    struct rr_info info;
    struct rr_host host;
    struct rr_plan plan;
    uint64_t first = 0, bytes;
    size_t max_inflight, i;
    int rc = RR_OK;

    rr_host_info(&host);
    for (i = 0; i < settings->n_models && !rc; i++) {
        rr_settings_model(settings, i, &options);
        rc = rr_inspect(&options, &info, err);
        if (!rc && i == 0) rc = rr_plan_make(&plan, settings, &info, &host, &max_inflight, err);
        bytes = rr_models_bytes(settings, &info);
        if (!rc && i && plan.models && first + bytes > plan.models)
            rc = rr_fail(err, RR_ENOMEM,
                         "memory: it needs %llu MiB beside the default's %llu MiB, and models may "
                         "have %llu MiB (--model-memory)",
                         (unsigned long long)bytes >> 20, (unsigned long long)first >> 20,
                         (unsigned long long)plan.models >> 20);
        if (rc && settings->models[i].name[0])
            rr_fail_prefix(err, "model %s", settings->models[i].name);
        if (i == 0) first = bytes;
    }
    return rc;
}

/* What does not need the models. */
static int check_settings(const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_server s = { .settings = settings };
    int rc = set_dialect(&s, err);

    if (!rc) rc = rr_gate_try(settings, err);
    if (!rc && settings->otlp_endpoint[0]) rc = rr_otlp_check(settings->otlp_endpoint, err);
    return rc;
}

int rr_serve_check(const struct rr_settings *settings)
{
    struct rr_error err = { 0 };
    int rc = check_settings(settings, &err);
    int code = rc == RR_EIO ? RR_EXIT_UNAVAILABLE : rr_exit_code(rc); /* as exit_code_of */

    if (!rc) {
        rc = check_models(settings, &err);
        code = rr_exit_code(rc);
    }
    if (rc) rr_log(RR_ERROR, "%s", err.msg);
    return code;
}

void rr_serve_metrics_page(struct rr_buf *out)
{
    rr_meters_markdown(out);
}
