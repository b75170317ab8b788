/* SPDX-License-Identifier: Apache-2.0 */
/* doors.h - listening sockets and the thread that accepts from them.
 * Layer: server (L6).  Threads: one of its own; open and close from one other. */
#ifndef RR_SERVER_DOORS_H
#define RR_SERVER_DOORS_H

#include <sys/socket.h>

#include "base/attr.h"
#include "server/http.h"

struct rr_doors_config {
    const char *host;      /* addresses with commas between them */
    uint32_t port;         /* 0: any, the same for all addresses */
    int listener;          /* listens already, in host's place ... */
    unsigned n_listeners;  /* ... and those after it, so many in all; 0: none */
    const char *unix_path; /* "": none */
    uint32_t unix_mode;    /* permissions of the socket */
    const char *admin;     /* "address:port"; "": none */
    void *user;
    /* One accepted socket; from then on it is the callee's. */
    void (*take)(void *user, int fd, const struct sockaddr *from, socklen_t len, enum rr_door door);
    void (*relieve)(void *user); /* no descriptors are left: close something */
};

struct rr_doors;

/* Binds and listens.  RR_EIO with a message that names address and reason. */
RR_NODISCARD int rr_doors_open(struct rr_doors **out, const struct rr_doors_config *config,
                               struct rr_error *err);
/* Can the addresses be understood?  Opens nothing: a server may be listening there. */
RR_NODISCARD int rr_doors_check(const struct rr_doors_config *config, struct rr_error *err);
RR_NODISCARD int rr_doors_start(struct rr_doors *d, struct rr_error *err);
uint32_t rr_doors_port(const struct rr_doors *d, enum rr_door door); /* 0: not open */
/* Does a main address take connections from other machines? */
bool rr_doors_open_to_others(const struct rr_doors *d);

/* Lets those who come to sockets of a supervisor wait there, for later or for another process.  So
 * it is from the beginning; without such sockets nothing happens. */
void rr_doors_hold(struct rr_doors *d, bool hold);

/* Stops accepting and closes the sockets; take is not running any more.  Twice is allowed. */
void rr_doors_shut(struct rr_doors *d);
void rr_doors_close(struct rr_doors *d); /* NULL is allowed */

#endif
