/* SPDX-License-Identifier: Apache-2.0 */
/* linger.h - reads and drops what clients still send after they got an early refusal.
 * Layer: server (L6).  Threads: add from any; one thread of its own.
 *
 * A socket closed with unread input makes the kernel send a reset, which can destroy the reply on
 * its way.  So a copy of the socket is kept open here until the client is through, or two seconds
 * have passed. */
#ifndef RR_SERVER_LINGER_H
#define RR_SERVER_LINGER_H

#include "base/attr.h"
#include "rerank_types.h"

struct rr_linger;

RR_NODISCARD int rr_linger_open(struct rr_linger **out, struct rr_error *err);
void rr_linger_close(struct rr_linger *l); /* NULL is allowed */

/* Keeps a duplicate of fd; fd stays the caller's.  Does nothing when too many are kept already. */
void rr_linger_add(struct rr_linger *l, int fd);

#endif
