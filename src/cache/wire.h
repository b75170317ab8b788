/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - bytes to and from a server over TCP, TLS or a Unix socket, never longer than a deadline.
 * Layer: cache (L1).  Threads: one at a time for a wire; any for credentials.
 *
 * The only place that knows GnuTLS.  Deadlines are absolute, in the time of rr_now_ns. */
#ifndef RR_CACHE_WIRE_H
#define RR_CACHE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cache/address.h"
#include "rerank_types.h"

struct rr_wire;
struct rr_wire_tls; /* whom to trust */

/* ca_file NULL: the authorities that the system trusts. */
RR_NODISCARD int rr_wire_tls_open(struct rr_wire_tls **out, const char *ca_file,
                                  struct rr_error *err);
void rr_wire_tls_close(struct rr_wire_tls *t); /* NULL is allowed; after all its wires */

/* Resolves and connects; looking a name up can take longer than the deadline.  tls is for addresses
 * with tls set: the certificate must be valid for the host. */
RR_NODISCARD int rr_wire_open(struct rr_wire **out, const struct rr_address *to,
                              struct rr_wire_tls *tls, uint64_t deadline, struct rr_error *err);
void rr_wire_close(struct rr_wire *w); /* at once, without a farewell; NULL is allowed */

/* Nothing has arrived that nobody asked for, and the other side has not closed.  Costs one call. */
bool rr_wire_quiet(const struct rr_wire *w);

/* All of data, or an error: RR_ETIMEDOUT, or RR_EIO. */
RR_NODISCARD int rr_wire_send(struct rr_wire *w, const char *data, size_t len, uint64_t deadline,
                              struct rr_error *err);
/* At least one byte; an end of the connection is RR_EIO. */
RR_NODISCARD int rr_wire_receive(struct rr_wire *w, char *data, size_t cap, size_t *len,
                                 uint64_t deadline, struct rr_error *err);

#endif
