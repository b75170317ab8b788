/* SPDX-License-Identifier: Apache-2.0 */
/* gate.h - everything between a socket and a request that may be answered: listeners, TLS,
 * networks, keys, limits, origins, privileges.  Layer: server (L6).
 * Threads: open, start and close from one; reload from any; check and done from I/O threads. */
#ifndef RR_SERVER_GATE_H
#define RR_SERVER_GATE_H

#include "server/server.h"

/* Binds, reads keys and certificates, drops privileges, closes off files, and only then
 * starts the threads that meet clients.  Sets s->gate, s->http, s->watch. */
RR_NODISCARD int rr_gate_open(struct rr_server *s, struct rr_error *err);
/* What rr_gate_open would refuse in the settings and the files that they name.  Opens no port. */
RR_NODISCARD int rr_gate_try(const struct rr_settings *settings, struct rr_error *err);
/* Once ready: one warning when other machines reach the server and nothing says which may. */
void rr_gate_warn(struct rr_server *s);
void rr_gate_close(struct rr_server *s);

/* Reads keys and certificates again, as on SIGHUP.  What cannot be read stays as it was, and the
 * first error is returned.  Files that change are also noticed by themselves within a second. */
RR_NODISCARD int rr_gate_reload(struct rr_server *s, struct rr_error *err);

/* Who asks: behind trusted proxies whom they name.  Sets x->client and x->peer. */
void rr_gate_client(const struct rr_server *s, struct rr_exchange *x);

/* Adds what lets a web page read the reply, refusals, too, so before anything is refused; once. */
void rr_gate_origin(const struct rr_server *s, struct rr_exchange *x);

/* After these and when the route is found, before the body is read.  0, or -1 with a problem: 401,
 * 403, 404 or 429. */
int rr_gate_check(struct rr_server *s, struct rr_exchange *x, struct rr_problem *problem);

/* Does a request need a key? */
bool rr_gate_asks_keys(const struct rr_server *s);

/* For struct rr_http_app; user is the server. */
void rr_gate_tick(void *user);
void rr_gate_ended(void *user, enum rr_conn_end why);

/* Its status is known, before it is sent, once: refusals for want of room are not held against a
 * key, and the reply says what is left of its limit. */
void rr_gate_answer(struct rr_server *s, struct rr_exchange *x);

/* The exchange is over: its tokens are charged. */
void rr_gate_done(struct rr_server *s, const struct rr_exchange *x);

#endif
