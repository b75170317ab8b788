/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - the life of the server: port, model, readiness, signals, drain.  Layer: server (L6).
 * Threads: the main one; one more while the model loads.
 *
 * The port is bound before the model is loaded: a second server fails at once, and balancers get an
 * honest 503 meanwhile.  At the end the HTTP threads stop before the engine goes, since any of them
 * may be asking it for numbers. */
#include "server/serve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/job.h"
#include "server/server.h"

#define TICK_MS 10
#define GRACE_NS (250 * RR_MILLISECOND) /* for what is on the way when the last request is done */
#define GIVE_UP_NS (5 * RR_SECOND)      /* for the engine to hand back what was cancelled */

struct loader {
    struct rr_options options;
    struct rr_engine *engine;
    struct rr_error err;
    int rc;
    uint64_t took_ns;
    int finished; /* eventfd */
    pthread_t thread;
    bool running;
};

struct life { /* what rr_serve owns */
    struct rr_server *server;
    struct rr_settings settings; /* a copy, so that it may outlive the caller's */
    struct rr_options options;
    struct loader loader;
    int signals; /* signalfd */
    uint64_t begun_ns;
};

/* ---- set-up ------------------------------------------------------------------------------- */

static int level_of(const char *name)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    size_t i;

    for (i = 0; i < RR_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return (int)i;
    return RR_INFO;
}

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

static int set_up(struct rr_server *s, const struct rr_settings *settings, struct rr_error *err)
{
    const char *echo = settings->return_documents;

    s->settings = settings;
    s->console.json = strcmp(settings->log_format, "json") == 0;
    s->console.french = rr_settings_french(settings);
    s->console.level = level_of(settings->log_level);
    s->parse.echo = strcmp(echo, "yes") == 0  ? RR_ECHO_YES
                    : strcmp(echo, "no") == 0 ? RR_ECHO_NO
                                              : RR_ECHO_AUTO;
    s->parse.max_documents = settings->max_documents;
    s->parse.max_document_bytes = settings->max_document_bytes;
    s->parse.max_query_bytes = settings->max_query_bytes;
    s->started = rr_unix_time();
    if (rr_meters_open(&s->metrics, err)) return err->code;
    s->console.metrics = s->metrics;
    rr_metrics_set(s->metrics, RR_M_START, 0, (int64_t)(s->started * 1e3));
    rr_metrics_set(s->metrics, RR_M_QUEUE_LIMIT, 0, (int64_t)settings->queue_tokens);
    rr_console_open(&s->console);
    return set_dialect(s, err);
}

/* Many systems start programs with 1,024 descriptors and allow more on request. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_http(struct rr_server *s, struct rr_error *err)
{
    const struct rr_settings *o = s->settings;
    struct rr_http_config config = {
        o->host,    o->port, o->http_threads, o->max_connections, (unsigned)o->idle_timeout,
        o->max_body
    };
    struct rr_http_app app;
    int rc;

    raise_descriptor_limit();
    rr_server_app(s, &app);
    rc = rr_watch_open(&s->watch, o->half_close, rr_job_gone, NULL, err);
    if (!rc) rc = rr_http_open(&s->http, &config, &app, err);
    if (!rc) rc = rr_http_start(s->http, err);
    return rc;
}

static void url_of(const struct rr_server *s, char *out, size_t cap, bool local)
{
    const char *host = s->settings->host;
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;

    if (local && any) host = "localhost";
    snprintf(out, cap, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u", host,
             rr_http_port(s->http));
}

/* ---- the model ---------------------------------------------------------------------------- */

static void *load(void *arg)
{
    struct loader *l = arg;
    uint64_t one = 1, start = rr_now_ns();

    l->rc = rr_open(&l->engine, &l->options, &l->err);
    l->took_ns = rr_now_ns() - start;
    if (write(l->finished, &one, sizeof(one)) < 0) l->rc = RR_EINTERNAL; /* cannot happen */
    return NULL;
}

static int start_loader(struct life *life, struct rr_error *err)
{
    struct loader *l = &life->loader;

    l->options = life->options;
    l->finished = eventfd(0, EFD_CLOEXEC);
    if (l->finished < 0) return rr_fail(err, RR_EIO, "eventfd: %s", strerror(errno));
    if (pthread_create(&l->thread, NULL, load, l))
        return rr_fail(err, RR_EIO, "cannot start a thread");
    l->running = true;
    return RR_OK;
}

static const char *mib(uint64_t bytes)
{
    return rr_num1((double)bytes / (1 << 20));
}

static void say_plan(const struct rr_server *s, const struct rr_info *i)
{
    const struct rr_console *c = &s->console;

    RR_SAY(c, RR_INFO, MODEL, i->model, i->architecture, rr_num(i->layers),
           rr_num1((double)i->parameters * 1e-6), i->weights_dtype, i->dtype,
           rr_num(i->max_length));
    RR_SAY(c, RR_INFO, DEVICE, i->device, i->device_name, i->isa, rr_num(i->threads),
           rr_num(i->prep_threads));
    RR_SAY(c, RR_INFO, MEMORY, mib(i->weights_bytes), mib(i->mapped_bytes), mib(i->workspace_bytes),
           mib(s->settings->max_body));
}

/* One line to try the server with. */
static void say_example(const struct rr_server *s, const char *url)
{
    char line[1024];

    if (!rr_log_on(RR_INFO) && !isatty(STDERR_FILENO)) return;
    snprintf(line, sizeof(line),
             "curl -s %s/rerank -H \"Content-Type: application/json\" -d '{\"query\": "
             "\"Quelle est la capitale de la France ?\", \"documents\": [{\"content\": "
             "\"Le pain se fait avec de la farine.\"}, {\"content\": \"Paris est la capitale de la "
             "France.\"}, {\"content\": \"Lyon est une grande ville.\"}], \"top_k\": 2}'",
             url);
    rr_console_plain(&s->console, line);
}

static void become_ready(struct life *life)
{
    struct rr_server *s = life->server;
    const struct rr_info *info = rr_engine_info(life->loader.engine);
    char url[160];

    rr_metrics_set(s->metrics, RR_M_LOAD, 0, (int64_t)life->loader.took_ns);
    rr_metrics_set(s->metrics, RR_M_FALLBACK, 0, info->fallback_active);
    say_plan(s, info);
    atomic_store(&s->engine, life->loader.engine);
    atomic_store(&s->phase, RR_PHASE_READY);
    url_of(s, url, sizeof(url), true);
    RR_SAY(&s->console, RR_INFO, READY, rr_num1((double)(rr_now_ns() - life->begun_ns) * 1e-9),
           rr_num(rr_meters_resident() >> 20), url);
    say_example(s, url);
}

/* ---- signals ------------------------------------------------------------------------------ */

static void stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

/* Blocked in all threads, read from a descriptor by this one. */
static int catch_signals(struct life *life, struct rr_error *err)
{
    sigset_t set;

    stop_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    life->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (life->signals < 0) return rr_fail(err, RR_EIO, "signalfd: %s", strerror(errno));
    return RR_OK;
}

/* From here on the next signal does what it does to any program: it ends it at once. */
static void release_signals(void)
{
    sigset_t set;

    stop_signals(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static const char *read_signal(struct life *life)
{
    struct signalfd_siginfo info;

    if (read(life->signals, &info, sizeof(info)) != (ssize_t)sizeof(info)) return "?";
    return info.ssi_signo == SIGINT ? "INT" : "TERM";
}

/* ---- the end ------------------------------------------------------------------------------ */

static void tick(void)
{
    (void)poll(NULL, 0, TICK_MS);
}

/* Refuses new work and waits for what was accepted.  False: the engine does not give it back. */
static bool drain(struct rr_server *s, const char *signal_name)
{
    uint64_t begun, timeout = (uint64_t)(s->settings->drain_timeout * 1e9);

    /* The count of requests rises before they look at the phase, so none slips through. */
    atomic_store(&s->phase, RR_PHASE_DRAINING);
    begun = rr_now_ns();
    RR_SAY(&s->console, RR_INFO, DRAINING, signal_name, rr_num(atomic_load(&s->in_flight)),
           rr_num1(s->settings->drain_timeout));
    while (atomic_load(&s->in_flight) && rr_now_ns() - begun < timeout) tick();
    if (atomic_load(&s->in_flight)) {
        RR_SAY(&s->console, RR_WARN, DRAIN_TIMEOUT, rr_num(atomic_load(&s->in_flight)));
        rr_watch_all_gone(s->watch);
        begun = rr_now_ns();
        while (rr_http_asleep(s->http) && rr_now_ns() - begun < GIVE_UP_NS) tick();
        if (rr_http_asleep(s->http)) {
            RR_SAY(&s->console, RR_ERROR, STUCK, rr_num(rr_http_asleep(s->http)));
            return false;
        }
    }
    rr_http_quiesce(s->http);
    begun = rr_now_ns();
    while (rr_http_connections(s->http) && rr_now_ns() - begun < GRACE_NS) tick();
    return true;
}

static void close_all(struct life *life)
{
    struct rr_server *s = life->server;
    struct loader *l = &life->loader;

    if (s) {
        rr_http_close(s->http);
        rr_watch_close(s->watch);
    }
    if (l->running) pthread_join(l->thread, NULL);
    rr_close(l->engine);
    if (l->finished >= 0) close(l->finished);
    if (life->signals >= 0) close(life->signals);
    if (s) {
        rr_console_close();
        rr_metrics_close(s->metrics);
        rr_free(s);
    }
    rr_free(life);
}

/* ---- the middle --------------------------------------------------------------------------- */

static int exit_code_of(const struct rr_server *s, int rc)
{
    /* A port that cannot be had is a condition of the machine, not of the configuration. */
    return rc == RR_EIO && s && !s->http ? RR_EXIT_UNAVAILABLE : rr_exit_code(rc);
}

static int start(struct life *life, const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_server *s;
    char url[160];
    int rc;

    life->settings = *settings;
    life->signals = life->loader.finished = -1;
    life->begun_ns = rr_now_ns();
    life->server = s = rr_calloc(RR_MEM_SERVER, 1, sizeof(*s));
    if (!s) return rr_fail(err, RR_ENOMEM, "out of memory");
    rr_settings_engine(&life->settings, &life->options);
    set_name(s, life->options.model);
    rc = catch_signals(life, err);
    if (!rc) rc = set_up(s, &life->settings, err);
    if (!rc) rc = open_http(s, err);
    if (rc) return rc;
    url_of(s, url, sizeof(url), false);
    RR_SAY(&s->console, RR_INFO, LISTENING, url);
    RR_SAY(&s->console, RR_INFO, LOADING, life->options.model);
    return start_loader(life, err);
}

/* Until a signal comes (RR_OK) or the model cannot be loaded. */
static int run(struct life *life, const char **signal_name, struct rr_error *err)
{
    struct pollfd fds[2] = { { life->signals, POLLIN, 0 }, { life->loader.finished, POLLIN, 0 } };

    for (;;) {
        if (poll(fds, RR_COUNT(fds), -1) < 0) {
            if (errno == EINTR) continue;
            return rr_fail(err, RR_EIO, "poll: %s", strerror(errno));
        }
        if (fds[0].revents) {
            *signal_name = read_signal(life);
            return RR_OK;
        }
        if (fds[1].revents) {
            fds[1].fd = -1; /* once */
            pthread_join(life->loader.thread, NULL);
            life->loader.running = false;
            if (life->loader.rc) {
                *err = life->loader.err;
                return life->loader.rc;
            }
            become_ready(life);
        }
    }
}

int rr_serve(const struct rr_settings *settings)
{
    struct life *life = rr_calloc(RR_MEM_SERVER, 1, sizeof(*life));
    struct rr_error err = { 0 };
    const char *signal_name = "?";
    int rc, code = RR_EXIT_OK;

    if (!life) return RR_EXIT_OSERR;
    rc = start(life, settings, &err);
    if (!rc) rc = run(life, &signal_name, &err);
    release_signals();
    if (rc) {
        rr_log(RR_ERROR, "%s", err.msg);
        code = exit_code_of(life->server, rc);
    } else if (!drain(life->server, signal_name)) {
        return RR_EXIT_SOFTWARE; /* threads still use all of it, so nothing is freed */
    } else {
        RR_SAY(&life->server->console, RR_INFO, STOPPED,
               rr_num(atomic_load(&life->server->answered)));
    }
    close_all(life);
    return code;
}
