/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h - answers about the server itself.  Layer: server (L6).  Threads: I/O threads. */
#ifndef RR_SERVER_ADMIN_H
#define RR_SERVER_ADMIN_H

#include "server/server.h"

void rr_admin_root(struct rr_server *s, struct rr_exchange *x);
void rr_admin_info(struct rr_server *s, struct rr_exchange *x);
void rr_admin_metrics(struct rr_server *s, struct rr_exchange *x);
void rr_admin_options(struct rr_server *s, struct rr_exchange *x);

#endif
