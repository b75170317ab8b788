/* SPDX-License-Identifier: Apache-2.0 */
/* supervise.h - looks after the engine: says when it fails, feeds the watchdog while it does not,
 * and ends the process when there is no hope.  Layer: server (L6).  Threads: the main one. */
#ifndef RR_SERVER_SUPERVISE_H
#define RR_SERVER_SUPERVISE_H

#include "server/notify.h"
#include "server/server.h"

struct rr_supervisor { /* fields are private */
    struct rr_server *server;
    const struct rr_notify *notify;
    uint64_t sick_since_ns; /* 0: healthy */
};

void rr_supervisor_init(struct rr_supervisor *v, struct rr_server *s,
                        const struct rr_notify *notify);

/* One look, to be had every second or oftener.  RR_EDEVICE (device lost) or RR_EINTERNAL (stalled)
 * when it has been bad for --stall-exit. */
RR_NODISCARD int rr_supervise(struct rr_supervisor *v, struct rr_error *err);

#endif
