/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - one HTTP exchange as the rest of the server sees it; http_mhd.c alone knows the library.
 * Layer: server (L6).
 *
 * Life of an exchange: the I/O thread makes it when the headers are in, calls app->begin, collects
 * the body and calls app->request.  That either fills in the reply or says RR_HTTP_WAIT: then the
 * connection sleeps, no thread is blocked, and the exchange belongs to the application until it
 * calls rr_http_wake, once, from any thread.  After that an I/O thread calls app->finish, sends the
 * reply and, when it is sent or the client is gone, calls app->end and frees the exchange.  If the
 * client is seen to be gone before, app->finish is left out.
 * All calls for one exchange come from the same I/O thread. */
#ifndef RR_SERVER_HTTP_H
#define RR_SERVER_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "rerank_types.h"
#include "server/auth.h"
#include "server/nets.h"
#include "server/trace.h"

#define RR_HTTP_MAX_HEADERS 24
#define RR_HTTP_VALUE_MAX 160
#define RR_REQUEST_ID_MAX 128
#define RR_PATH_MAX 256

enum rr_method { RR_GET = 1, RR_HEAD = 2, RR_POST = 4, RR_OPTIONS = 8, RR_OTHER_METHOD = 16 };

enum rr_door { RR_DOOR_MAIN, RR_DOOR_UNIX, RR_DOOR_ADMIN, RR_DOORS };

/* Why the server ends or refuses a connection on its own account. */
enum rr_conn_end {
    RR_END_NONE,
    RR_END_FULL,        /* --max-connections, and none of them idle */
    RR_END_PER_IP,      /* --max-connections-per-ip */
    RR_END_NETWORK,     /* not of --allow-nets */
    RR_END_EVICTED,     /* the oldest idle one, for a new one */
    RR_END_SLOW_HEADER, /* --header-timeout */
    RR_END_SLOW_BODY,   /* --min-rate */
    RR_END_SLOW_READER  /* --write-timeout */
};

struct rr_route;
struct rr_dialect;
struct rr_engine;

struct rr_exchange {
    /* the request, complete when app->request is called */
    enum rr_method method;
    char path[RR_PATH_MAX]; /* without query string, single slashes, none at the end; "/" alone */
    bool path_too_long;
    bool plain; /* path is what the client wrote */
    char request_id[RR_REQUEST_ID_MAX + 1];
    struct rr_buf body;    /* of POST; what comes with other methods is dropped */
    uint64_t begun_ns;     /* headers complete */
    uint64_t read_ns;      /* body complete */
    size_t body_bytes;     /* as received, refused ones included */
    enum rr_door door;     /* by which the client came */
    struct rr_addr client; /* its address; behind a trusted proxy what begin makes of it */
    size_t length;         /* Content-Length; 0: none, SIZE_MAX: chunked */

    /* set by the application */
    const struct rr_route *route;
    void *job;
    size_t model; /* which of the server's models it is for */
    unsigned status;
    struct rr_buf reply;
    const char *content_type; /* static; default application/json */
    struct {
        const char *name;  /* static */
        const char *value; /* text, or static */
        char text[RR_HTTP_VALUE_MAX];
    } headers[RR_HTTP_MAX_HEADERS];
    unsigned n_headers;
    const struct rr_dialect *pinned; /* by a prefix of the path */
    bool close;                      /* end the connection after the reply */
    bool preflight;                  /* a browser's question before the request proper */
    uint64_t tenant;                 /* of the client's key; 0: nobody in particular */
    int max_priority;                /* enum rr_priority: what the key allows */
    uint64_t tokens;                 /* computed for it: what its key is charged */
    bool counted;                    /* against the limits of its key */
    struct rr_rate rate;      /* of its key */
    bool accepted;            /* counted in the server's */
    bool waits;               /* an admin route's answer comes later, through rr_http_wake */
    struct rr_engine *engine; /* leased from app->request to app->end; NULL: none is loaded yet */
    size_t reserved;          /* bytes counted in the server's bodies in flight */
    struct rr_trace trace;
    char peer[64];        /* address of the client, as text */
    const char *key_name; /* name of the key it came with; NULL: none */
    char key_text[64];    /* where key_name points to */
};

enum rr_http_next { RR_HTTP_REPLY, RR_HTTP_WAIT };

struct rr_http_app {
    void *user;
    /* The headers are in.  0: go on.  Otherwise the reply is filled in with an error, and the body,
     * if any, is thrown away. */
    int (*begin)(void *user, struct rr_exchange *x);
    /* Why the library side refuses: 400, 414, 431 or 501 (framing), 413 (more than max_body), 417;
     * fills in the reply. */
    void (*refuse)(void *user, struct rr_exchange *x, unsigned status, const char *why);
    enum rr_http_next (*request)(void *user, struct rr_exchange *x);
    void (*finish)(void *user, struct rr_exchange *x);
    void (*end)(void *user, struct rr_exchange *x, bool sent);
    /* A connection was refused or ended.  Must not block. */
    void (*ended)(void *user, enum rr_conn_end why);
    void (*tick)(void *user); /* about once a second, from a thread of its own */
};

struct rr_http_config {    /* what it points to lives as long as the daemon */
    const char *host;      /* addresses with commas between them */
    uint32_t port;         /* 0: any */
    const char *unix_path; /* "": none */
    uint32_t unix_mode;
    const char *admin; /* "address:port" of a second door; "": none */
    uint32_t threads;
    uint32_t max_connections, max_per_ip; /* max_per_ip 0: no limit */
    uint32_t max_requests;                /* of one connection; 0: no limit */
    unsigned idle_seconds;                /* without a request */
    uint64_t header_ns, write_ns;         /* see conns.h */
    size_t min_rate;                      /* bytes in a second */
    size_t max_body;
    const struct rr_nets *allow, *trusted; /* allow empty: everybody */
    bool tls;                              /* on the main door, with rr_tls_callback */
    int listener;         /* a socket that listens already (socket activation), the first of ... */
    unsigned n_listeners; /* ... so many; 0: open some */
};

struct rr_http; /* the daemon: sockets, threads, connections */

/* Binds and listens, so that the port is known to be ours before a model is loaded.  RR_EIO with a
 * message that names address and reason.  Connections queue in the kernel until rr_http_start. */
RR_NODISCARD int rr_http_open(struct rr_http **out, const struct rr_http_config *config,
                              const struct rr_http_app *app, struct rr_error *err);
RR_NODISCARD int rr_http_start(struct rr_http *h, struct rr_error *err);
uint32_t rr_http_port(const struct rr_http *h, enum rr_door door); /* 0: not open, or Unix */
bool rr_http_open_to_others(const struct rr_http *h); /* the main address, to other machines */
unsigned rr_http_connections(const struct rr_http *h);
unsigned rr_http_asleep(const struct rr_http *h); /* exchanges between RR_HTTP_WAIT and finish */

/* Sockets of a supervisor: who comes there waits, until READY at first, and from the beginning of
 * the end on for the next process.  True: there are such. */
bool rr_http_hold(struct rr_http *h, bool hold);

/* No further connection is accepted; those that are open go on. */
void rr_http_quiesce(struct rr_http *h);

/* Closes everything.  No exchange may be asleep.  NULL is allowed. */
void rr_http_close(struct rr_http *h);

/* Ends the sleep of an exchange.  Any thread, once for each RR_HTTP_WAIT, also before
 * app->request has returned.  The exchange must not be touched afterwards. */
void rr_http_wake(struct rr_exchange *x);

/* The socket, for watching only.  Valid from app->request until rr_http_wake. */
int rr_http_socket(const struct rr_exchange *x);

/* The nth header of that name in the request, or NULL.  Valid from app->begin until the reply. */
const char *rr_http_given(const struct rr_exchange *x, const char *name, unsigned nth);

void rr_http_header(struct rr_exchange *x, const char *name, const char *fmt, ...) RR_PRINTF(3, 4);
/* The same for a value that lives on and may be long. */
void rr_http_header_static(struct rr_exchange *x, const char *name, const char *value);

#endif
