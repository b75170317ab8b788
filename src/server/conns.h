/* SPDX-License-Identifier: Apache-2.0 */
/* conns.h - the open connections: how many, whose, and which take too long.
 * Layer: server (L6).  Threads: add from the acceptor, the rest from any; one thread of its own.
 *
 * The HTTP library closes sockets, nobody else does.  A connection that has to go is shut down
 * here, which the library notices like a client that left. */
#ifndef RR_SERVER_CONNS_H
#define RR_SERVER_CONNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "server/http.h"
#include "server/nets.h"

#define RR_CONNS_ADMIN 16 /* beside max, at the admin address, that its operator always gets in */

enum rr_conn_phase {
    RR_CONN_IDLE,  /* between requests, or in the middle of a head */
    RR_CONN_BODY,  /* the head is in, the body is coming */
    RR_CONN_WAIT,  /* the request is being computed: whether the client is there is watch.h's */
    RR_CONN_WRITE, /* the reply is being sent */
    RR_CONN_PHASES
};

struct rr_conn { /* lock: of the table */
    int fd;
    bool tls;
    enum rr_door door;
    struct rr_addr peer;
    uint32_t requests;          /* I/O thread only */
    _Atomic uint64_t received;  /* body bytes; relaxed: only growth is looked at */
    enum rr_conn_phase phase;   /* lock */
    enum rr_conn_end end;       /* lock; RR_END_NONE: may go on */
    uint64_t since_ns, mark_ns; /* lock; phase began, progress was last measured */
    uint64_t mark,
        base;      /* lock; the measure then, bytes from the client when the last reply began */
    bool measured; /* lock; base is known, and mark while writing */
    struct rr_conn *prev, *next; /* lock; of the idle ones, oldest first */
};

struct rr_conns_config {
    uint32_t max, per_ip;          /* per_ip 0: no limit; the admin address is apart */
    uint64_t header_ns, write_ns;  /* for a head; without enough being read of a reply */
    size_t min_rate;               /* bytes in a second, of a body and of a reply */
    const struct rr_nets *trusted; /* proxies: per_ip does not count for them */
    void *user;
    void (*ended)(void *user, enum rr_conn_end why); /* lock is held; must not call back */
    void (*tick)(void *user);                        /* about once a second, without the lock */
};

struct rr_conns;

RR_NODISCARD int rr_conns_open(struct rr_conns **out, const struct rr_conns_config *config,
                               struct rr_error *err);
void rr_conns_close(struct rr_conns *c); /* NULL is allowed; no connection may be open */

/* Before the library gets the socket.  NULL: refused, close it; the oldest idle connection has been
 * told to go if there was none to spare. */
struct rr_conn *rr_conns_add(struct rr_conns *c, int fd, const struct rr_addr *peer,
                             enum rr_door door, bool tls);
struct rr_conn *rr_conns_find(struct rr_conns *c, int fd); /* NULL: not added */
void rr_conns_remove(struct rr_conns *c, struct rr_conn *conn);
unsigned rr_conns_count(struct rr_conns *c);

/* The process is out of descriptors: tells the oldest idle connection to go. */
void rr_conns_relieve(struct rr_conns *c);

/* False: the connection has been told to go, nothing may be sent on it any more. */
bool rr_conns_move(struct rr_conns *c, struct rr_conn *conn, enum rr_conn_phase phase);

enum rr_conn_end rr_conns_end(struct rr_conns *c, struct rr_conn *conn);

#endif
