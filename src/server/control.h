/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - what only the operator may do: /admin and /debug.
 * Layer: server (L6).  Threads: I/O threads. */
#ifndef RR_SERVER_CONTROL_H
#define RR_SERVER_CONTROL_H

#include "server/server.h"

/* POST /admin/reload: {"model": folder} or no body at all, which reads the same folder again. */
void rr_control_reload(struct rr_server *s, struct rr_exchange *x);

/* GET /debug/state: what the process is doing, as JSON; never text of a request. */
void rr_control_state(struct rr_server *s, struct rr_exchange *x);

#endif
