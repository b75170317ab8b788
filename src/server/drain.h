/* SPDX-License-Identifier: Apache-2.0 */
/* drain.h - signals, and the orderly end.  Layer: server (L6).  Threads: the main one. */
#ifndef RR_SERVER_DRAIN_H
#define RR_SERVER_DRAIN_H

#include "server/notify.h"
#include "server/server.h"

/* A descriptor that reads SIGTERM, SIGINT and SIGHUP, which are blocked from here on. */
RR_NODISCARD int rr_signals_open(int *fd, struct rr_error *err);
/* The number of the signal that came; 0: none. */
int rr_signals_read(int fd);
/* From here on SIGTERM and SIGINT do what they do to any program: they end it at once. */
void rr_signals_release(void);

/* Tells balancers, waits --drain-delay for them, refuses new work, waits for what was accepted.
 * signal: SIGTERM or SIGINT; a second one shortens all waiting to nothing, a third one kills.
 * False: the engine does not give requests back, so threads still use everything. */
bool rr_drain(struct rr_server *s, const struct rr_notify *notify, int signals, int signal);

#endif
