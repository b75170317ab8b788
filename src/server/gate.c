/* SPDX-License-Identifier: Apache-2.0 */
/* gate.c - see gate.h. */
#include "server/gate.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/auth.h"
#include "server/conns.h"
#include "server/cors.h"
#include "server/doors.h"
#include "server/job.h"
#include "server/notify.h"
#include "server/route.h"
#include "server/sandbox.h"
#include "server/serve.h"
#include "server/tls.h"

#define SPARE_DESCRIPTORS 64 /* beside connections: listeners, model files, epoll, ... */
#define LEAST_CONNECTIONS 64
#define MAX_KEY 512          /* bytes of a key that a client gives */
#define MAX_HOPS 16          /* X-Forwarded-For headers that are looked at */

struct rr_gate {
    struct rr_auth *auth;
    struct rr_nets allow, trusted;
    bool tls;
};

/* ---- checking ----------------------------------------------------------------------------- */

void rr_gate_client(const struct rr_server *s, struct rr_exchange *x)
{
    const struct rr_gate *g = s->gate;
    const char *values[MAX_HOPS];
    unsigned n = 0;

    rr_addr_text(x->peer, sizeof(x->peer), &x->client);
    if (!rr_nets_has(&g->trusted, &x->client)) return;
    while (n < MAX_HOPS && (values[n] = rr_http_given(x, "X-Forwarded-For", n))) n++;
    if (n == MAX_HOPS) x->client.kind = RR_ADDR_NONE;
    while (n && x->client.kind != RR_ADDR_NONE)
        rr_addr_forwarded(&x->client, &g->trusted, values[--n]);
    rr_addr_text(x->peer, sizeof(x->peer), &x->client);
}

void rr_gate_origin(const struct rr_server *s, struct rr_exchange *x)
{
    x->preflight = rr_cors_answer(s->settings->cors_origins, x);
}

static bool from_allowed_net(const struct rr_gate *g, const struct rr_exchange *x)
{
    if (!g->allow.n && !g->allow.unix_clients) return true;
    return x->client.kind == RR_ADDR_UNIX || rr_nets_has(&g->allow, &x->client);
}

static bool is_admin_route(const struct rr_route *route)
{
    return route->handler == RR_HANDLER_METRICS || route->handler == RR_HANDLER_ADMIN;
}

/* Which key a route needs, by where the client came in. */
static int find_need(const struct rr_server *s, const struct rr_exchange *x,
                     enum rr_auth_need *need, struct rr_problem *problem)
{
    const struct rr_settings *o = s->settings;
    bool admin_route = is_admin_route(x->route);

    *need = RR_NEED_KEY;
    if (x->route->handler == RR_HANDLER_UI && !o->ui) return rr_route_none(problem);
    if (x->door == RR_DOOR_ADMIN) {
        if (x->route->handler == RR_HANDLER_RERANK)
            return rr_problem_set(problem, 404, "requests are answered at the main address only");
        *need = rr_auth_has_admin(s->gate->auth) ? RR_NEED_ADMIN : RR_NEED_NOTHING;
    }
    if (x->method == RR_OPTIONS || (x->route->flags & RR_ROUTE_OPEN) ||
        rr_text_listed(o->open_routes, x->route->path))
        *need = RR_NEED_NOTHING;
    if (x->door == RR_DOOR_ADMIN || !admin_route || *need == RR_NEED_NOTHING) return 0;
    if (*o->admin_listen)
        return rr_problem_set(problem, 404, "this is answered at the admin address only");
    *need = RR_NEED_ADMIN;
    if (x->route->handler == RR_HANDLER_METRICS || rr_auth_has_keys(s->gate->auth) ||
        rr_auth_has_admin(s->gate->auth))
        return 0;
    return rr_problem_set(problem, 403, "closed until --admin-key or --admin-listen is set");
}

/* The key that the request carries: the same in all places where it carries one.  False: two
 * different ones. */
static bool find_key(const struct rr_exchange *x, char key[MAX_KEY], bool *found)
{
    static const char *const names[] = { "x-api-key", "api-key" };
    const char *value = rr_http_given(x, "Authorization", 0);
    unsigned i;

    *found = false;
    key[0] = 0;
    if (value && rr_http_given(x, "Authorization", 1)) return false;
    if (value) {
        *found = true;
        if (!rr_auth_extract(key, MAX_KEY, value)) key[0] = 0; /* a key that nobody has */
    }
    for (i = 0; i < RR_COUNT(names); i++) {
        value = rr_http_given(x, names[i], 0);
        if (!value) continue;
        if (rr_http_given(x, names[i], 1) || (*found && strcmp(value, key) != 0)) return false;
        if (strlen(value) < MAX_KEY) memcpy(key, value, strlen(value) + 1);
        *found = true;
    }
    return true;
}

static int unauthorized(struct rr_server *s, struct rr_exchange *x, struct rr_problem *problem,
                        const char *why)
{
    rr_metrics_add(s->metrics, RR_M_REJECTED, RR_REJECT_UNAUTHORIZED, 1);
    rr_http_header(x, "WWW-Authenticate", "Bearer realm=\"rerankd\"");
    return rr_problem_set(problem, 401, "%s", why);
}

static int check_key(struct rr_server *s, struct rr_exchange *x, enum rr_auth_need need,
                     struct rr_problem *problem)
{
    char key[MAX_KEY];
    struct rr_grant grant;
    enum rr_auth_answer answer;
    bool found, one;

    if (need == RR_NEED_NOTHING) return 0;
    one = find_key(x, key, &found);
    answer = rr_auth_check(s->gate->auth, found && one ? key : NULL, need,
                           x->route->handler == RR_HANDLER_RERANK, &grant);
    explicit_bzero(key, sizeof(key));
    x->tenant = grant.tenant;
    if (grant.name[0]) {
        memcpy(x->key_text, grant.name, sizeof(x->key_text));
        x->key_name = x->key_text;
    }
    x->max_priority = grant.max_priority;
    x->rate = grant.rate;
    switch (answer) {
    case RR_AUTH_YES: x->counted = x->route->handler == RR_HANDLER_RERANK; return 0;
    case RR_AUTH_MISSING:
        return unauthorized(s, x, problem,
                            one ? "a key is needed: Authorization: Bearer KEY"
                                : "the request carries more than one key");
    case RR_AUTH_WRONG:
        return unauthorized(s, x, problem,
                            "the key is not known here: mistyped, or removed from the server");
    case RR_AUTH_NOT_FOR_IT:
        rr_metrics_add(s->metrics, RR_M_REJECTED, RR_REJECT_UNAUTHORIZED, 1);
        return rr_problem_set(problem, 403, "this key may not do that");
    case RR_AUTH_SPENT: break;
    }
    rr_metrics_add(s->metrics, RR_M_REJECTED, RR_REJECT_RATE, 1);
    rr_problem_set(problem, 429, "the limit of this key is reached: %s", grant.limit);
    problem->retry_after = grant.retry_after;
    return -1;
}

int rr_gate_check(struct rr_server *s, struct rr_exchange *x, struct rr_problem *problem)
{
    enum rr_auth_need need;

    x->max_priority = RR_PRIORITY_HIGH;
    if (!from_allowed_net(s->gate, x)) {
        rr_metrics_add(s->metrics, RR_M_REJECTED, RR_REJECT_UNAUTHORIZED, 1);
        return rr_problem_set(problem, 403, "this address is not allowed");
    }
    if (x->preflight) return 0;
    if (find_need(s, x, &need, problem)) return -1;
    return check_key(s, x, need, problem);
}

bool rr_gate_asks_keys(const struct rr_server *s)
{
    return rr_auth_has_keys(s->gate->auth);
}

void rr_gate_done(struct rr_server *s, const struct rr_exchange *x)
{
    rr_auth_charge(s->gate->auth, x->tenant, x->tokens);
}

void rr_gate_answer(struct rr_server *s, struct rr_exchange *x)
{
    if (x->counted && (x->status == 429 || x->status == 503)) {
        rr_auth_forgive(s->gate->auth, x->tenant);
        x->rate.left += x->rate.daily; /* its day has one more */
    }
    x->counted = false;
    if (!x->rate.known) return;
    rr_http_header(x, "X-RateLimit-Limit", "%llu", (unsigned long long)x->rate.limit);
    rr_http_header(x, "X-RateLimit-Remaining", "%llu", (unsigned long long)x->rate.left);
    rr_http_header(x, "X-RateLimit-Reset", "%llu", (unsigned long long)x->rate.reset);
}

/* ---- reloading ---------------------------------------------------------------------------- */

static void say_keys(struct rr_server *s, const struct rr_error *err)
{
    if (err->code == RR_OK)
        RR_SAY(&s->console, RR_INFO, KEYS_RELOADED, "");
    else
        RR_SAY(&s->console, RR_ERROR, KEYS_KEPT, err->msg);
}

static void say_certificates(struct rr_server *s, const struct rr_error *err)
{
    if (err->code == RR_OK)
        RR_SAY(&s->console, RR_INFO, CERTIFICATES_RELOADED, "");
    else
        RR_SAY(&s->console, RR_ERROR, CERTIFICATES_KEPT, err->msg);
}

int rr_gate_reload(struct rr_server *s, struct rr_error *err)
{
    struct rr_error keys = { 0 }, certificates = { 0 };

    keys.code = rr_auth_reload(s->gate->auth, &keys);
    say_keys(s, &keys);
    if (s->gate->tls) {
        certificates.code = rr_tls_reload(&certificates);
        say_certificates(s, &certificates);
    }
    *err = keys.code ? keys : certificates;
    return err->code;
}

void rr_gate_tick(void *user)
{
    struct rr_server *s = user;
    struct rr_error err;

    if (rr_auth_poll(s->gate->auth, &err)) say_keys(s, &err);
    if (s->gate->tls && rr_tls_poll(&err)) say_certificates(s, &err);
}

void rr_gate_ended(void *user, enum rr_conn_end why)
{
    struct rr_server *s = user;

    rr_metrics_add(s->metrics, RR_M_CONNECTIONS_ENDED, (uint32_t)why - 1, 1);
}

/* ---- opening ------------------------------------------------------------------------------ */

uint32_t rr_serve_spare_files(const struct rr_settings *settings)
{
    return SPARE_DESCRIPTORS + (*settings->admin_listen ? RR_CONNS_ADMIN : 0);
}

/* Many systems start programs with 1,024 descriptors and allow more on request.  Returns how many
 * connections there is room for. */
static uint32_t raise_descriptor_limit(struct rr_server *s)
{
    uint32_t wanted = s->settings->max_connections;
    uint32_t spare = rr_serve_spare_files(s->settings);
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit)) return wanted;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) || getrlimit(RLIMIT_NOFILE, &limit)) return wanted;
    }
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= (rlim_t)wanted + spare) return wanted;
    wanted = limit.rlim_cur > spare + LEAST_CONNECTIONS ? (uint32_t)limit.rlim_cur - spare
                                                        : LEAST_CONNECTIONS;
    RR_SAY(&s->console, RR_WARN, FEW_DESCRIPTORS, rr_num(limit.rlim_cur), rr_num(wanted));
    return wanted;
}

static int parse_mode(const char *text, uint32_t *mode, struct rr_error *err)
{
    const char *s = text;

    for (*mode = 0; *s >= '0' && *s <= '7' && s - text < 4; s++)
        *mode = *mode * 8 + (uint32_t)(*s - '0');
    if (!*s && s != text && *mode <= 0777) return RR_OK;
    return rr_fail(err, RR_EFORMAT, "unix-mode: found \"%.20s\", expected permissions such as 660",
                   text);
}

static int open_tls(struct rr_server *s, struct rr_error *err)
{
    const struct rr_settings *o = s->settings;
    struct rr_tls_config config = { o->tls_cert, o->tls_key, o->tls_client_ca };

    if (!*o->tls_cert) {
        if (*o->tls_key || *o->tls_client_ca)
            return rr_fail(err, RR_EFORMAT, "tls-key and tls-client-ca need tls-cert");
        return RR_OK;
    }
    s->gate->tls = true;
    return rr_tls_open(&config, err);
}

static int check_routes(const char *routes, struct rr_error *err)
{
    struct rr_text word;

    while (rr_text_word(&routes, &word)) {
        if (*word.data != '/')
            return rr_fail(err, RR_EFORMAT,
                           "open-routes: found \"%.*s\", expected paths such as /health",
                           (int)RR_MIN(word.len, 60), word.data);
    }
    return RR_OK;
}

static int open_parts(struct rr_server *s, struct rr_error *err)
{
    const struct rr_settings *o = s->settings;
    struct rr_auth_config keys = { o->api_key, o->api_key_file, o->api_keys_file, o->admin_key,
                                   o->admin_key_file };
    struct rr_gate *g = s->gate;
    int rc = rr_nets_parse(&g->allow, o->allow_nets, "allow-nets", err);

    if (!rc) rc = rr_nets_parse(&g->trusted, o->trusted_proxies, "trusted-proxies", err);
    if (!rc) rc = rr_cors_check(o->cors_origins, err);
    if (!rc) rc = check_routes(o->open_routes, err);
    if (!rc) rc = rr_auth_open(&g->auth, &keys, err);
    if (!rc) rc = open_tls(s, err);
    return rc;
}

static int open_http(struct rr_server *s, struct rr_error *err)
{
    const struct rr_settings *o = s->settings;
    struct rr_http_config config = {
        .host = o->host,
        .port = o->port,
        .unix_path = o->listen_unix,
        .admin = o->admin_listen,
        .threads = o->http_threads,
        .max_connections = raise_descriptor_limit(s),
        .max_per_ip = o->max_connections_per_ip,
        .max_requests = o->max_requests_per_connection,
        .idle_seconds = (unsigned)o->idle_timeout,
        .header_ns = (uint64_t)(o->header_timeout * 1e9),
        .write_ns = (uint64_t)(o->write_timeout * 1e9),
        .min_rate = o->min_rate,
        .max_body = o->max_body,
        .allow = &s->gate->allow,
        .trusted = &s->gate->trusted,
        .tls = s->gate->tls,
    };
    struct rr_http_app app;
    int rc = parse_mode(o->unix_mode, &config.unix_mode, err);

    config.n_listeners = rr_notify_listeners(&config.listener);
    rr_server_app(s, &app);
    if (!rc) rc = rr_http_open(&s->http, &config, &app, err);
    return rc;
}

int rr_gate_open(struct rr_server *s, struct rr_error *err)
{
    const struct rr_settings *o = s->settings;
    bool files = false, calls = false;
    int rc;

    s->gate = rr_calloc(RR_MEM_SERVER, 1, sizeof(*s->gate));
    if (!s->gate) return rr_fail(err, RR_ENOMEM, "gate: out of memory");
    rc = open_parts(s, err);
    if (!rc) rc = open_http(s, err);
    if (!rc) rc = rr_sandbox_user(o->user, *o->listen_unix ? o->listen_unix : NULL, err);
    if (!rc) rc = rr_sandbox_files(o, &files, err); /* before there are threads: it is per thread */
    if (!rc) rc = rr_watch_open(&s->watch, o->half_close, rr_job_gone, NULL, err);
    if (!rc) rc = rr_http_start(s->http, err);
    if (!rc) rc = rr_sandbox_calls(o, &calls, err);
    if (!rc && strcmp(o->sandbox, "off") != 0)
        RR_SAY(&s->console, RR_DEBUG, SANDBOX, files ? "on" : "off", calls ? "on" : "off");
    return rc;
}

int rr_gate_try(const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_doors_config doors = { .host = settings->host,
                                     .port = settings->port,
                                     .unix_path = settings->listen_unix,
                                     .admin = settings->admin_listen };
    struct rr_server s = { .settings = settings };
    int rc;

    s.gate = rr_calloc(RR_MEM_SERVER, 1, sizeof(*s.gate));
    if (!s.gate) return rr_fail(err, RR_ENOMEM, "gate: out of memory");
    rc = open_parts(&s, err);
    if (!rc) rc = parse_mode(settings->unix_mode, &doors.unix_mode, err);
    if (!rc) rc = rr_doors_check(&doors, err);
    if (!rc) rc = rr_sandbox_check(settings, err);
    rr_gate_close(&s);
    return rc;
}

void rr_gate_warn(struct rr_server *s)
{
    const struct rr_gate *g = s->gate;

    if (rr_auth_has_keys(g->auth) || g->allow.n || g->allow.unix_clients) return;
    if (*s->settings->tls_client_ca || !rr_http_open_to_others(s->http)) return;
    RR_SAY(&s->console, RR_WARN, OPEN_TO_ALL, rr_num(rr_http_port(s->http, RR_DOOR_MAIN)));
}

void rr_gate_close(struct rr_server *s)
{
    if (!s->gate) return;
    rr_auth_close(s->gate->auth);
    if (s->gate->tls) rr_tls_close();
    rr_free(s->gate);
    s->gate = NULL;
}
