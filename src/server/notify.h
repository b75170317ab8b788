/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - what systemd wants to know and what it hands over; does nothing without it.
 * Layer: server (L6).  Threads: one. */
#ifndef RR_SERVER_NOTIFY_H
#define RR_SERVER_NOTIFY_H

#include <stdint.h>

#include "base/attr.h"

struct rr_notify {        /* fields are private but for watchdog_ns */
    int fd;               /* -1: nobody listens */
    uint64_t watchdog_ns; /* systemd restarts us after so long without WATCHDOG=1; 0: never */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. */
void rr_notify_open(struct rr_notify *n);
void rr_notify_close(struct rr_notify *n);

/* Sends lines such as "READY=1\nSTATUS=...".  Never blocks. */
void rr_notify_send(const struct rr_notify *n, const char *fmt, ...) RR_PRINTF(2, 3);

/* How many sockets systemd listens on for us (LISTEN_FDS, LISTEN_PID): *first and those behind. */
unsigned rr_notify_listeners(int *first);

#endif
