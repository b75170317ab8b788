/* SPDX-License-Identifier: Apache-2.0 */
/* http_mhd.c - http.h on top of libmicrohttpd; the one file that knows it.
 * Layer: server (L6).  Threads: the library's I/O threads, and rr_http_wake from any.
 *
 * What the library leaves to us is checked here before anything else sees a request: Content-Length
 * beside Transfer-Encoding, repeated or odd framing headers, repeated Host, size of the body. */
#include <microhttpd.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/http.h"
#include "server/linger.h"

#define HEADER_MEMORY (32 * 1024) /* per connection: request line, headers, read buffer */
#define MAX_REPLY (256u << 20)
#define SMALL_BODY (64 * 1024) /* refused bodies up to this are read, to keep the connection */
#define BACKLOG 1024

struct rr_http {
    struct rr_http_config config;
    struct rr_http_app app;
    struct MHD_Daemon *daemon;
    struct rr_linger *linger;
    int listener;
    uint32_t port;
    uint64_t id_seed;
    _Atomic uint64_t id_next;
    _Atomic unsigned asleep;
    _Atomic unsigned wakers; /* threads inside rr_http_wake, which use the daemon */
};

enum park { AWAKE, ASLEEP, WOKEN };

struct connection_exchange {
    struct rr_exchange x; /* first: rr_http_wake gets its address */
    struct rr_http *http;
    struct MHD_Connection *connection;
    _Atomic int park; /* who comes second, the sleeper or the waker, resumes the connection */
    bool waiting;     /* app->request said so; finish is to come */
    bool discard;     /* the reply is filled in; what comes of the body is dropped */
    bool raw_sent;    /* refused in the middle of a chunked body */
};

/* ---- request headers ---------------------------------------------------------------------- */

struct framing {
    const char *length, *transfer, *expect, *request_id;
    unsigned lengths, transfers, hosts, expects;
    bool bad_name;
};

/* The characters of a token by RFC 9110 section 5.6.2; the library lets blanks before the colon
 * through, which proxies read differently. */
static bool is_token(const char *s)
{
    static const char extra[] = "!#$%&'*+-.^_`|~";

    if (!*s) return false;
    for (; *s; s++) {
        bool alnum =
            (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');

        if (!alnum && !strchr(extra, *s)) return false;
    }
    return true;
}

static enum MHD_Result see_header(void *user, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct framing *f = user;

    (void)kind;
    if (!value) value = "";
    if (!is_token(name)) f->bad_name = true;
    if (strcasecmp(name, "Content-Length") == 0) {
        f->lengths++;
        f->length = value;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->transfers++;
        f->transfer = value;
    } else if (strcasecmp(name, "Host") == 0) {
        f->hosts++;
    } else if (strcasecmp(name, "Expect") == 0) {
        f->expects++;
        f->expect = value;
    } else if (strcasecmp(name, "X-Request-Id") == 0) {
        f->request_id = value;
    }
    return MHD_YES;
}

/* NULL, or why two readers of the same bytes could see different requests in them. */
static const char *framing_problem(const struct framing *f)
{
    if (f->bad_name) return "a header name holds characters that are not allowed";
    if (f->hosts > 1) return "more than one Host header";
    if (f->transfers && f->lengths) return "Content-Length together with Transfer-Encoding";
    if (f->lengths > 1) return "more than one Content-Length header";
    if (f->transfers > 1) return "more than one Transfer-Encoding header";
    if (f->transfers && strcasecmp(f->transfer, "chunked") != 0)
        return "only the transfer encoding chunked is known";
    return NULL;
}

static bool valid_id(const char *id)
{
    size_t len = id ? strlen(id) : 0, i;

    if (len == 0 || len > RR_REQUEST_ID_MAX) return false;
    for (i = 0; i < len; i++) {
        char c = id[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}

/* Splitmix64: a bijection, so ids of one process never repeat. */
static uint64_t mix(uint64_t z)
{
    z += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void set_id(struct rr_http *h, struct rr_exchange *x, const char *given)
{
    uint64_t n;

    if (valid_id(given)) {
        memcpy(x->request_id, given, strlen(given) + 1);
        return;
    }
    n = atomic_fetch_add_explicit(&h->id_next, 1, memory_order_relaxed);
    snprintf(x->request_id, sizeof(x->request_id), "%016llx",
             (unsigned long long)mix(h->id_seed + n));
}

static void set_path(struct rr_exchange *x, const char *url)
{
    size_t n = 0;

    for (; *url; url++) {
        if (*url == '/' && n && x->path[n - 1] == '/') continue;
        if (n + 1 >= sizeof(x->path)) {
            x->path_too_long = true;
            break;
        }
        x->path[n++] = *url;
    }
    while (n > 1 && x->path[n - 1] == '/') n--;
    x->path[n] = 0;
}

static enum rr_method method_of(const char *name)
{
    static const struct {
        const char *name;
        enum rr_method method;
    } known[] = {
        { "GET", RR_GET }, { "HEAD", RR_HEAD }, { "POST", RR_POST }, { "OPTIONS", RR_OPTIONS }
    };
    size_t i;

    for (i = 0; i < RR_COUNT(known); i++)
        if (strcmp(name, known[i].name) == 0) return known[i].method;
    return RR_OTHER_METHOD;
}

/* ---- replies ------------------------------------------------------------------------------ */

static struct MHD_Response *make_response(struct rr_exchange *x)
{
    struct MHD_Response *r;
    size_t len = 0;
    char *body = NULL;
    unsigned i;

    if (x->reply.len) body = rr_buf_take(&x->reply, &len);
    r = body ? MHD_create_response_from_buffer_with_free_callback(len, body, rr_free)
             : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!r) {
        rr_free(body);
        return NULL;
    }
    MHD_add_response_header(r, "Content-Type",
                            x->content_type ? x->content_type : "application/json");
    MHD_add_response_header(r, "X-Request-Id", x->request_id);
    for (i = 0; i < x->n_headers; i++)
        MHD_add_response_header(r, x->headers[i].name, x->headers[i].value);
    if (x->close) MHD_add_response_header(r, "Connection", "close");
    return r;
}

static enum MHD_Result send_reply(struct connection_exchange *c)
{
    struct MHD_Response *r = make_response(&c->x);
    enum MHD_Result ok;

    if (!r) return MHD_NO;
    ok = MHD_queue_response(c->connection, c->x.status, r);
    MHD_destroy_response(r);
    return ok;
}

/* The library cannot answer in the middle of a body, so this one reply is written by hand; the
 * socket's buffer is empty at this point and takes it whole.  The connection is closed next. */
static enum MHD_Result send_raw(struct connection_exchange *c)
{
    struct rr_exchange *x = &c->x;
    struct rr_buf out;
    int fd = rr_http_socket(x);

    rr_buf_init(&out, RR_MEM_REQUEST, 64 * 1024);
    rr_buf_printf(&out,
                  "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                  "X-Request-Id: %s\r\nConnection: close\r\n\r\n",
                  x->status, MHD_get_reason_phrase_for(x->status), x->reply.len, x->request_id);
    rr_buf_put(&out, x->reply.data, x->reply.len);
    if (!out.failed && fd >= 0) {
        c->raw_sent = send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.len;
        rr_linger_add(c->http->linger, fd);
    }
    rr_buf_free(&out);
    return MHD_NO;
}

static enum MHD_Result refuse_now(struct connection_exchange *c)
{
    int fd = rr_http_socket(&c->x);

    c->x.close = true;
    if (fd >= 0) rr_linger_add(c->http->linger, fd);
    return send_reply(c);
}

/* ---- the library's callback --------------------------------------------------------------- */

static struct connection_exchange *new_exchange(struct rr_http *h,
                                                struct MHD_Connection *connection, const char *url,
                                                const char *method)
{
    struct connection_exchange *c = rr_calloc(RR_MEM_SERVER, 1, sizeof(*c));

    if (!c) return NULL;
    c->http = h;
    c->connection = connection;
    c->x.begun_ns = rr_now_ns();
    c->x.method = method_of(method);
    rr_buf_init(&c->x.body, RR_MEM_REQUEST, h->config.max_body);
    rr_buf_init(&c->x.reply, RR_MEM_REQUEST, MAX_REPLY);
    set_path(&c->x, url);
    return c;
}

/* The headers are in.  Decides whether the body will be read at all. */
static enum MHD_Result on_headers(struct connection_exchange *c)
{
    struct rr_http *h = c->http;
    struct framing f = { 0 };
    const char *why;
    uint64_t length = 0;
    bool body, waits;

    MHD_get_connection_values(c->connection, MHD_HEADER_KIND, see_header, &f);
    set_id(h, &c->x, f.request_id);
    why = framing_problem(&f);
    if (why) {
        h->app.refuse(h->app.user, &c->x, 400, why);
        return refuse_now(c);
    }
    waits = f.expects > 0;
    if (waits && strcasecmp(f.expect, "100-continue") != 0) {
        h->app.refuse(h->app.user, &c->x, 417, "the only expectation known is 100-continue");
        return refuse_now(c);
    }
    for (why = f.length ? f.length : ""; *why >= '0' && *why <= '9'; why++)
        length = length > UINT64_MAX / 16 ? UINT64_MAX / 16 : length * 10 + (uint64_t)(*why - '0');
    body = f.transfers || length;
    c->discard = h->app.begin(h->app.user, &c->x) != 0;
    if (length > h->config.max_body) {
        c->x.body_bytes = (size_t)length;
        if (!c->discard) h->app.refuse(h->app.user, &c->x, 413, NULL);
        return refuse_now(c);
    }
    if (c->discard && body && (waits || f.transfers || length > SMALL_BODY)) return refuse_now(c);
    return MHD_YES;
}

static enum MHD_Result on_body(struct connection_exchange *c, const char *data, size_t *len)
{
    struct rr_http *h = c->http;
    size_t n = *len;

    *len = 0;
    c->x.body_bytes += n;
    if (c->x.body_bytes > h->config.max_body) { /* only a chunked body can get here */
        if (!c->discard) h->app.refuse(h->app.user, &c->x, 413, NULL);
        c->discard = true;
        rr_buf_free(&c->x.body);
        return send_raw(c);
    }
    if (c->discard) return MHD_YES;
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
    struct rr_http *h = user;
    struct connection_exchange *c = *slot;

    (void)version;
    if (!c) {
        c = *slot = new_exchange(h, connection, url, method);
        return c ? on_headers(c) : MHD_NO;
    }
    return *len ? on_body(c, data, len) : on_complete(c);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode why)
{
    struct rr_http *h = user;
    struct connection_exchange *c = *slot;

    (void)connection;
    if (!c) return;
    *slot = NULL;
    /* Woken, but the library saw the client gone before it called us: there was no finish. */
    if (c->waiting) atomic_fetch_sub(&h->asleep, 1);
    h->app.end(h->app.user, &c->x, c->raw_sent || why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    rr_buf_free(&c->x.body);
    rr_buf_free(&c->x.reply);
    rr_free(c);
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

/* ---- sockets ------------------------------------------------------------------------------ */

static int listen_at(struct rr_http *h, const struct addrinfo *a, struct rr_error *err)
{
    int on = 1, off = 0, fd;

    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return rr_fail(err, RR_EIO, "socket: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6) /* "::" then serves IPv4 clients as well */
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, BACKLOG)) {
        int reason = errno;

        close(fd);
        return rr_fail(err, RR_EIO, "cannot listen on %s port %u: %s%s", h->config.host,
                       h->config.port, strerror(reason),
                       reason == EADDRINUSE ? "; another program uses it (try --port 0)" : "");
    }
    h->listener = fd;
    return RR_OK;
}

static int open_listener(struct rr_http *h, struct rr_error *err)
{
    struct addrinfo hints = { 0 }, *list = NULL, *a;
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    char port[16];
    int rc;

    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    snprintf(port, sizeof(port), "%u", h->config.port);
    rc = getaddrinfo(h->config.host, port, &hints, &list);
    if (rc)
        return rr_fail(err, RR_EIO, "cannot listen on %s: %s", h->config.host, gai_strerror(rc));
    rc = RR_EIO;
    for (a = list; a && rc; a = a->ai_next) rc = listen_at(h, a, err);
    freeaddrinfo(list);
    if (rc) return rc;
    if (getsockname(h->listener, (struct sockaddr *)&bound, &len))
        return rr_fail(err, RR_EIO, "getsockname: %s", strerror(errno));
    h->port = bound.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&bound)->sin6_port)
                                          : ntohs(((struct sockaddr_in *)&bound)->sin_port);
    return RR_OK;
}

/* ---- interface ---------------------------------------------------------------------------- */

int rr_http_open(struct rr_http **out, const struct rr_http_config *config,
                 const struct rr_http_app *app, struct rr_error *err)
{
    struct rr_http *h = rr_calloc(RR_MEM_SERVER, 1, sizeof(*h));
    int rc;

    *out = NULL;
    if (!h) return rr_fail(err, RR_ENOMEM, "http: out of memory");
    h->config = *config;
    h->app = *app;
    h->listener = -1;
    if (getrandom(&h->id_seed, sizeof(h->id_seed), GRND_NONBLOCK) != sizeof(h->id_seed))
        h->id_seed = rr_now_ns();
    rc = open_listener(h, err);
    if (!rc) rc = rr_linger_open(&h->linger, err);
    if (rc) {
        rr_http_close(h);
        return rc;
    }
    *out = h;
    return RR_OK;
}

int rr_http_start(struct rr_http *h, struct rr_error *err)
{
    struct MHD_OptionItem pool[] = { { MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)h->config.threads,
                                       NULL },
                                     { MHD_OPTION_END, 0, NULL } };

    if (h->config.threads < 2) pool[0].option = MHD_OPTION_END;
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
        (uint16_t)h->port, NULL, NULL, on_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, h->listener, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->config.max_connections,
        MHD_OPTION_CONNECTION_TIMEOUT, h->config.idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADER_MEMORY, MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)(16 * 1024),
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, pool, MHD_OPTION_END);
    if (!h->daemon) return rr_fail(err, RR_EIO, "cannot start the HTTP threads");
    return RR_OK;
}

uint32_t rr_http_port(const struct rr_http *h)
{
    return h->port;
}

unsigned rr_http_connections(const struct rr_http *h)
{
    const union MHD_DaemonInfo *info =
        h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS) : NULL;

    return info ? info->num_connections : 0;
}

unsigned rr_http_asleep(const struct rr_http *h)
{
    return atomic_load(&h->asleep);
}

void rr_http_quiesce(struct rr_http *h)
{
    if (!h->daemon || h->listener < 0) return;
    if (MHD_quiesce_daemon(h->daemon) < 0) return;
    close(h->listener);
    h->listener = -1;
}

void rr_http_close(struct rr_http *h)
{
    if (!h) return;
    while (atomic_load(&h->wakers)) sched_yield(); /* a few instructions long */
    if (h->daemon) {
        MHD_stop_daemon(h->daemon); /* closes the listener unless quiesced */
        h->listener = -1;
    }
    if (h->listener >= 0) close(h->listener);
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
    const struct connection_exchange *c = (const struct connection_exchange *)x;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info ? info->connect_fd : -1;
}

struct search {
    const char *name, *value;
    unsigned skip;
};

static enum MHD_Result match_header(void *user, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    struct search *s = user;

    (void)kind;
    if (strcasecmp(name, s->name) != 0 || s->skip-- > 0) return MHD_YES;
    s->value = value ? value : "";
    return MHD_NO;
}

const char *rr_http_given(const struct rr_exchange *x, const char *name, unsigned nth)
{
    const struct connection_exchange *c = (const struct connection_exchange *)x;
    struct search s = { name, NULL, nth };

    MHD_get_connection_values(c->connection, MHD_HEADER_KIND, match_header, &s);
    return s.value;
}

void rr_http_header(struct rr_exchange *x, const char *name, const char *fmt, ...)
{
    va_list args;

    if (x->n_headers >= RR_HTTP_MAX_HEADERS) return;
    x->headers[x->n_headers].name = name;
    va_start(args, fmt);
    vsnprintf(x->headers[x->n_headers].value, sizeof(x->headers[0].value), fmt, args);
    va_end(args);
    x->n_headers++;
}
