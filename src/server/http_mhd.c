/* SPDX-License-Identifier: Apache-2.0 */
/* http_mhd.c - http.h on top of libmicrohttpd; the one file that knows it.
 * Layer: server (L6).  Threads: the library's I/O threads, and rr_http_wake from any.
 *
 * Connections come from doors.h, are counted and timed by conns.h, and heads are checked by frame.h
 * before anything else sees a request. */
#include <microhttpd.h>

#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/conns.h"
#include "server/doors.h"
#include "server/frame.h"
#include "server/http.h"
#include "server/linger.h"
#include "server/tls.h"

#define HEADER_MEMORY (32 * 1024) /* per connection: request line, headers, read buffer */
#define MAX_REPLY (256u << 20)
#define SMALL_BODY (64 * 1024) /* refused bodies up to this are read, to keep the connection */

struct rr_http {
    struct rr_http_config config;
    struct rr_http_app app;
    struct MHD_Daemon *daemons[2]; /* by TLS or not; NULL: no door needs it */
    struct rr_doors *doors;
    struct rr_conns *conns;
    struct rr_linger *linger;
    bool known_layout;
    _Atomic unsigned asleep;
    _Atomic unsigned wakers; /* threads inside rr_http_wake, which use the daemon */
};

enum park { AWAKE, ASLEEP, WOKEN };

struct connection_exchange {
    struct rr_exchange x; /* first: rr_http_wake gets its address */
    struct rr_http *http;
    struct MHD_Connection *connection;
    struct rr_conn *conn;
    const char *target_end; /* one past the 0 of the target as it came; only to compare */
    const char *bad_target; /* what is wrong with it; NULL: nothing */
    unsigned bad_status;
    bool begun;       /* the headers have been seen */
    _Atomic int park; /* who comes second, the sleeper or the waker, resumes the connection */
    bool waiting;     /* app->request said so; finish is to come */
    bool discard;     /* the reply is filled in; what comes of the body is dropped */
    bool raw_sent;    /* refused in the middle of a chunked body */
};

/* ---- request heads ------------------------------------------------------------------------ */

static enum MHD_Result see_header(void *user, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    (void)kind;
    rr_frame_header(user, name, value);
    return MHD_YES;
}

/* The layout of a parsed head in memory is the library's own affair: rr_frame_lines reads it only
 * where it is known. */
static bool known_layout(void)
{
    const char *v = MHD_get_version();

    return strncmp(v, "0.9.7", 5) == 0 && v[5] >= '5' && v[5] <= '7' && !v[6];
}

/* NULL, or what is wrong with the bytes of the head. */
static const char *head_problem(const struct connection_exchange *c, const char *method,
                                const char *version, unsigned *status)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t size = info ? info->header_size : 0;

    *status = 431;
    if (size > RR_HEAD_MAX) return "request line and headers are longer than 16384 bytes";
    *status = 400;
    if (!rr_frame_token(method)) return "the method has characters that no method has";
    if (!c->http->known_layout) return NULL;
    if (version <= method || version >= method + size)
        return "the request line is not \"METHOD TARGET HTTP/1.1\"";
    if (method[strlen(method) + 1] == ' ' || version != c->target_end)
        return "the request line is not of three words with one blank between them";
    return rr_frame_lines(version, method + size);
}

static void set_id(struct rr_exchange *x, const char *given)
{
    if (rr_frame_id(given))
        memcpy(x->request_id, given, strlen(given) + 1);
    else
        rr_trace_new_id(x->request_id);
}

/* ---- replies ------------------------------------------------------------------------------ */

/* False when there is no memory for it: a reply without one of its headers must not be sent.  The
 * library takes no empty values. */
static bool add_header(struct MHD_Response *r, const char *name, const char *value)
{
    return !value[0] || MHD_add_response_header(r, name, value) == MHD_YES;
}

static struct MHD_Response *make_response(struct rr_exchange *x)
{
    struct MHD_Response *r;
    size_t len = 0;
    char *body = NULL;
    unsigned i;
    bool ok;

    if (x->reply.len) body = rr_buf_take(&x->reply, &len);
    r = body ? MHD_create_response_from_buffer_with_free_callback(len, body, rr_free)
             : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!r) {
        rr_free(body);
        return NULL;
    }
    ok = add_header(r, "Content-Type", x->content_type ? x->content_type : "application/json") &&
         add_header(r, "X-Request-Id", x->request_id);
    for (i = 0; ok && i < x->n_headers; i++)
        ok = add_header(r, x->headers[i].name, x->headers[i].value);
    if (ok && (!x->close || add_header(r, "Connection", "close"))) return r;
    MHD_destroy_response(r);
    return NULL;
}

static enum MHD_Result send_reply(struct connection_exchange *c)
{
    struct MHD_Response *r;
    enum MHD_Result ok;

    if (!rr_conns_move(c->http->conns, c->conn, RR_CONN_WRITE)) return MHD_NO;
    r = make_response(&c->x);
    if (!r) return MHD_NO;
    ok = MHD_queue_response(c->connection, c->x.status, r);
    MHD_destroy_response(r);
    return ok;
}

/* The library cannot answer in the middle of a body, so this one reply is written by hand; the
 * socket's buffer is empty at this point and takes it whole.  The connection is closed next.  Under
 * TLS, where that cannot be, the body is read on and dropped, but not without end: then the
 * connection is closed without a word. */
static enum MHD_Result send_raw(struct connection_exchange *c)
{
    struct rr_exchange *x = &c->x;
    struct rr_buf out;
    int fd = rr_http_socket(x);
    unsigned i;

    rr_buf_init(&out, RR_MEM_REQUEST, 64 * 1024);
    rr_buf_printf(&out,
                  "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                  "X-Request-Id: %s\r\nConnection: close\r\n",
                  x->status, MHD_get_reason_phrase_for(x->status), x->reply.len, x->request_id);
    for (i = 0; i < x->n_headers; i++)
        rr_buf_printf(&out, "%s: %s\r\n", x->headers[i].name, x->headers[i].value);
    rr_buf_puts(&out, "\r\n");
    rr_buf_put(&out, x->reply.data, x->reply.len);
    if (!out.failed && !c->conn->tls && rr_conns_move(c->http->conns, c->conn, RR_CONN_WRITE)) {
        c->raw_sent = send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.len;
        rr_linger_add(c->http->linger, fd);
    }
    rr_buf_free(&out);
    return MHD_NO;
}

static enum MHD_Result refuse_now(struct connection_exchange *c)
{
    c->x.close = true;
    rr_linger_add(c->http->linger, c->conn->fd);
    return send_reply(c);
}

/* ---- the library's callback --------------------------------------------------------------- */

/* The request line is in: the first that is heard of a request.  target is not decoded yet. */
static void *on_target(void *user, const char *target, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct rr_conn *conn = info ? info->socket_context : NULL;
    struct connection_exchange *c = conn ? rr_calloc(RR_MEM_SERVER, 1, sizeof(*c)) : NULL;
    struct rr_http *h = user;

    if (!c) return NULL;
    c->http = h;
    c->connection = connection;
    c->conn = conn;
    c->target_end = target ? target + strlen(target) + 1 : NULL;
    c->bad_target = rr_frame_target(target ? target : "", &c->bad_status);
    c->x.plain = target && rr_frame_plain(target);
    c->x.door = conn->door;
    c->x.client = conn->peer;
    rr_buf_init(&c->x.body, RR_MEM_REQUEST, h->config.max_body);
    rr_buf_init(&c->x.reply, RR_MEM_REQUEST, MAX_REPLY);
    return c;
}

/* NULL: the head is as it must be. */
static const char *check_head(struct connection_exchange *c, struct rr_frame *f, const char *method,
                              const char *version, unsigned *status)
{
    const char *why = head_problem(c, method, version, status);

    MHD_get_connection_values(c->connection, MHD_HEADER_KIND, see_header, f);
    set_id(&c->x, f->request_id);
    if (!why) why = rr_frame_problem(f, version, status);
    if (!why && c->bad_target) {
        *status = c->bad_status;
        why = c->bad_target;
    }
    if (!why && f->expects && strcasecmp(f->expect, "100-continue") != 0) {
        *status = 417;
        why = "the only expectation known is 100-continue";
    }
    return why;
}

static uint64_t length_of(const char *digits)
{
    uint64_t length = 0;

    for (; digits && *digits >= '0' && *digits <= '9'; digits++)
        length =
            length > UINT64_MAX / 16 ? UINT64_MAX / 16 : length * 10 + (uint64_t)(*digits - '0');
    return length;
}

/* The headers are in.  Decides whether the body will be read at all. */
static enum MHD_Result on_headers(struct connection_exchange *c, const char *url,
                                  const char *method, const char *version)
{
    struct rr_http *h = c->http;
    struct rr_frame f = { 0 };
    uint64_t length;
    unsigned status;
    const char *why;

    c->begun = true;
    c->x.begun_ns = rr_now_ns();
    c->x.method = rr_frame_method(method);
    c->x.path_too_long = !rr_frame_path(c->x.path, url, c->x.method);
    if (!rr_conns_move(h->conns, c->conn, RR_CONN_BODY)) return MHD_NO;
    if (++c->conn->requests >= h->config.max_requests && h->config.max_requests) c->x.close = true;
    why = check_head(c, &f, method, version, &status);
    if (why) {
        h->app.refuse(h->app.user, &c->x, status, why);
        return refuse_now(c);
    }
    length = length_of(f.length);
    c->x.length = f.transfers ? SIZE_MAX : (size_t)length;
    c->discard = h->app.begin(h->app.user, &c->x) != 0;
    if (length > h->config.max_body) {
        c->x.body_bytes = (size_t)length;
        if (!c->discard) h->app.refuse(h->app.user, &c->x, 413, NULL);
        return refuse_now(c);
    }
    if (c->discard && (f.transfers || (length && (f.expects || length > SMALL_BODY))))
        return refuse_now(c);
    /* Only announced so far: a large body gets its memory as it comes. */
    if (length && !c->discard && c->x.method == RR_POST)
        rr_buf_reserve(&c->x.body, RR_MIN((size_t)length, SMALL_BODY));
    return MHD_YES;
}

static enum MHD_Result on_body(struct connection_exchange *c, const char *data, size_t *len)
{
    struct rr_http *h = c->http;
    size_t n = *len;

    *len = 0;
    c->x.body_bytes += n;
    atomic_fetch_add_explicit(&c->conn->received, n, memory_order_relaxed);
    if (c->x.body_bytes > h->config.max_body) { /* only a chunked body can get here */
        if (!c->discard) h->app.refuse(h->app.user, &c->x, 413, NULL);
        c->discard = true;
        rr_buf_free(&c->x.body);
        c->x.close = true;
        if (c->conn->tls && c->x.body_bytes / 2 <= h->config.max_body) return MHD_YES;
        return send_raw(c);
    }
    if (c->discard || c->x.method != RR_POST) return MHD_YES;
    rr_buf_put(&c->x.body, data, n);
    if (c->x.body.failed) {
        rr_buf_free(&c->x.body);
        c->discard = true;
        h->app.refuse(h->app.user, &c->x, 503, "out of memory");
    }
    return MHD_YES;
}

/* The body is complete, or the connection has been woken. */
static enum MHD_Result on_complete(struct connection_exchange *c)
{
    struct rr_http *h = c->http;

    if (c->waiting) {
        c->waiting = false;
        atomic_fetch_sub(&h->asleep, 1);
        h->app.finish(h->app.user, &c->x);
        return send_reply(c);
    }
    c->x.read_ns = rr_now_ns();
    if (c->discard) return send_reply(c);
    if (!rr_conns_move(h->conns, c->conn, RR_CONN_WAIT)) return MHD_NO;
    if (h->app.request(h->app.user, &c->x) == RR_HTTP_REPLY) return send_reply(c);
    c->waiting = true;
    atomic_fetch_add(&h->asleep, 1);
    MHD_suspend_connection(c->connection);
    /* Acquire and release: what the waker wrote before rr_http_wake is seen by finish. */
    if (atomic_exchange(&c->park, ASLEEP) == WOKEN) MHD_resume_connection(c->connection);
    return MHD_YES;
}

static enum MHD_Result on_access(void *user, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *len, void **slot)
{
    struct connection_exchange *c = *slot;

    (void)user;
    (void)connection;
    if (!c) return MHD_NO; /* no memory */
    if (!c->begun) return on_headers(c, url, method, version);
    return *len ? on_body(c, data, len) : on_complete(c);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode why)
{
    struct rr_http *h = user;
    struct connection_exchange *c = *slot;
    enum rr_conn_end end;

    (void)connection;
    if (!c) return;
    *slot = NULL;
    /* Woken, but the library saw the client gone before it called us: there was no finish. */
    if (c->waiting) atomic_fetch_sub(&h->asleep, 1);
    end = rr_conns_end(h->conns, c->conn);
    if (!c->x.status && (end == RR_END_SLOW_BODY || end == RR_END_SLOW_HEADER)) c->x.status = 408;
    h->app.end(h->app.user, &c->x, c->raw_sent || why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    (void)rr_conns_move(h->conns, c->conn, RR_CONN_IDLE);
    rr_buf_free(&c->x.body);
    rr_buf_free(&c->x.reply);
    rr_free(c);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode what)
{
    struct rr_http *h = user;
    const union MHD_ConnectionInfo *info;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *slot = info ? rr_conns_find(h->conns, info->connect_fd) : NULL;
    } else if (*slot) {
        rr_conns_remove(h->conns, *slot);
        *slot = NULL;
    }
}

/* Mostly about what clients do wrong, hence debug. */
__attribute__((format(printf, 2, 0))) static void on_log(void *user, const char *fmt, va_list args)
{
    char line[512];
    size_t len;

    (void)user;
    if (!rr_log_on(RR_DEBUG)) return;
    vsnprintf(line, sizeof(line), fmt, args);
    len = strlen(line);
    while (len && line[len - 1] == '\n') line[--len] = 0;
    rr_log(RR_DEBUG, "http: %s", line);
}

/* ---- connections -------------------------------------------------------------------------- */

static bool welcome(const struct rr_http *h, const struct rr_addr *peer)
{
    const struct rr_nets *allow = h->config.allow;

    if (peer->kind == RR_ADDR_UNIX) return true; /* the file's permissions decide */
    if (!allow->n && !allow->unix_clients) return true;
    return rr_nets_has(allow, peer) || rr_nets_has(h->config.trusted, peer);
}

static void take(void *user, int fd, const struct sockaddr *from, socklen_t len, enum rr_door door)
{
    struct rr_http *h = user;
    bool tls = h->config.tls && door == RR_DOOR_MAIN;
    struct rr_addr peer;

    rr_addr_of(&peer, from);
    if (!welcome(h, &peer)) {
        h->app.ended(h->app.user, RR_END_NETWORK);
        close(fd);
    } else if (!rr_conns_add(h->conns, fd, &peer, door, tls)) {
        close(fd);
    } else {
        (void)MHD_add_connection(h->daemons[tls], fd, from, len); /* closes fd when it fails */
    }
}

static void relieve(void *user)
{
    struct rr_http *h = user;

    rr_conns_relieve(h->conns);
}

/* ---- interface ---------------------------------------------------------------------------- */

int rr_http_open(struct rr_http **out, const struct rr_http_config *config,
                 const struct rr_http_app *app, struct rr_error *err)
{
    struct rr_http *h = rr_calloc(RR_MEM_SERVER, 1, sizeof(*h));
    struct rr_doors_config doors = {
        .host = config->host,
        .port = config->port,
        .listener = config->listener,
        .n_listeners = config->n_listeners,
        .unix_path = config->unix_path,
        .unix_mode = config->unix_mode,
        .admin = config->admin,
        .user = h,
        .take = take,
        .relieve = relieve,
    };
    int rc;

    *out = NULL;
    if (!h) return rr_fail(err, RR_ENOMEM, "http: out of memory");
    h->config = *config;
    h->app = *app;
    h->known_layout = known_layout();
    rc = rr_doors_open(&h->doors, &doors, err);
    if (rc)
        rr_http_close(h);
    else
        *out = h;
    return rc;
}

/* Connections are counted before the library gets them, so its own limit must never be met. */
static int start_daemon(struct rr_http *h, bool tls, struct rr_error *err)
{
    struct MHD_OptionItem more[4] = { { MHD_OPTION_END, 0, NULL } };
    unsigned n = 0;

    if (h->config.threads > 1)
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_THREAD_POOL_SIZE,
                                             (intptr_t)h->config.threads, NULL };
    if (tls) {
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_CERT_CALLBACK2, 0,
                                             (void *)(uintptr_t)rr_tls_callback };
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
                                             (void *)(uintptr_t)rr_tls_priorities };
    }
    more[n] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    h->daemons[tls] = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
            MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC | (tls ? MHD_USE_TLS : 0),
        0, NULL, NULL, on_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        h, MHD_OPTION_URI_LOG_CALLBACK, on_target, h, MHD_OPTION_CONNECTION_LIMIT,
        (h->config.max_connections + 1024) * RR_MAX(1, h->config.threads),
        MHD_OPTION_CONNECTION_TIMEOUT, h->config.idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADER_MEMORY, MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)(16 * 1024),
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (!h->daemons[tls]) return rr_fail(err, RR_EIO, "cannot start the HTTP threads");
    return RR_OK;
}

int rr_http_start(struct rr_http *h, struct rr_error *err)
{
    const struct rr_http_config *o = &h->config;
    struct rr_conns_config conns = { o->max_connections, o->max_per_ip, o->header_ns,
                                     o->write_ns,        o->min_rate,   o->trusted,
                                     h->app.user,        h->app.ended,  h->app.tick };
    int rc;

    if (!h->known_layout)
        rr_log(RR_WARN, "libmicrohttpd %s: line ends of headers are not checked",
               MHD_get_version());
    rc = rr_linger_open(&h->linger, err);
    if (!rc) rc = rr_conns_open(&h->conns, &conns, err);
    if (!rc && o->tls) rc = start_daemon(h, true, err);
    if (!rc && (!o->tls || *o->unix_path || *o->admin)) rc = start_daemon(h, false, err);
    if (!rc) rc = rr_doors_start(h->doors, err);
    return rc;
}

uint32_t rr_http_port(const struct rr_http *h, enum rr_door door)
{
    return rr_doors_port(h->doors, door);
}

bool rr_http_open_to_others(const struct rr_http *h)
{
    return rr_doors_open_to_others(h->doors);
}

unsigned rr_http_connections(const struct rr_http *h)
{
    return h->conns ? rr_conns_count(h->conns) : 0;
}

unsigned rr_http_asleep(const struct rr_http *h)
{
    return atomic_load(&h->asleep);
}

bool rr_http_hold(struct rr_http *h, bool hold)
{
    rr_doors_hold(h->doors, hold);
    return h->config.n_listeners > 0;
}

void rr_http_quiesce(struct rr_http *h)
{
    rr_doors_shut(h->doors);
}

void rr_http_close(struct rr_http *h)
{
    size_t i;

    if (!h) return;
    while (atomic_load(&h->wakers)) sched_yield(); /* a few instructions long */
    rr_doors_close(h->doors);
    for (i = 0; i < RR_COUNT(h->daemons); i++)
        if (h->daemons[i]) MHD_stop_daemon(h->daemons[i]);
    rr_conns_close(h->conns);
    rr_linger_close(h->linger);
    rr_free(h);
}

void rr_http_wake(struct rr_exchange *x)
{
    struct connection_exchange *c = (struct connection_exchange *)x;
    struct MHD_Connection *connection = c->connection;
    struct rr_http *h = c->http;

    atomic_fetch_add(&h->wakers, 1);
    /* Not asleep yet: the I/O thread will see WOKEN and go on by itself; then c may be gone. */
    if (atomic_exchange(&c->park, WOKEN) == ASLEEP) MHD_resume_connection(connection);
    atomic_fetch_sub(&h->wakers, 1);
}

int rr_http_socket(const struct rr_exchange *x)
{
    return ((const struct connection_exchange *)x)->conn->fd;
}

struct search {
    const char *name, *value;
    unsigned left;
};

static enum MHD_Result find_header(void *user, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    struct search *s = user;

    (void)kind;
    if (strcasecmp(name, s->name) != 0) return MHD_YES;
    if (s->left--) return MHD_YES;
    s->value = value ? value : "";
    return MHD_NO;
}

const char *rr_http_given(const struct rr_exchange *x, const char *name, unsigned nth)
{
    struct search s = { name, NULL, nth };

    MHD_get_connection_values(((const struct connection_exchange *)x)->connection, MHD_HEADER_KIND,
                              find_header, &s);
    return s.value;
}
