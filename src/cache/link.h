/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - one connection to a Redis server: log in, look keys up, store.
 * Layer: cache (L1).  Threads: one at a time.
 *
 * One command is in flight at a time, and after any error but a refusal the link must be closed: a
 * reply that comes late is then lost with its connection and cannot answer another question. */
#ifndef RR_CACHE_LINK_H
#define RR_CACHE_LINK_H

#include "base/attr.h"
#include "cache/key.h"
#include "cache/lru.h"
#include "cache/wire.h"

struct rr_link;

/* Why the server said no: its word, such as LOADING, OOM or READONLY. */
struct rr_refusal {
    char word[24];
};

/* What a look-up found. */
struct rr_found {
    size_t hits, invalid; /* invalid: something stood there that is not this pair's score */
};

/* Connects, logs in and chooses the database.  Not RR_OK: nothing is left open. */
RR_NODISCARD int rr_link_open(struct rr_link **out, const struct rr_address *to,
                              struct rr_wire_tls *tls, uint64_t deadline, struct rr_error *err);
void rr_link_close(struct rr_link *l);       /* NULL is allowed */
bool rr_link_quiet(const struct rr_link *l); /* see rr_wire_quiet */

/* One MGET.  RR_EBUSY: the server answered with an error, which is in err, and the link is as good
 * as before. */
RR_NODISCARD int rr_link_get(struct rr_link *l, const struct rr_key *keys, size_t n,
                             struct rr_cached *out, bool *hit, struct rr_found *found,
                             uint64_t deadline, struct rr_error *err);

/* One SET with EX for each key, in one go.  *refused: how many the server did not take, and why it
 * refused the last of them. */
RR_NODISCARD int rr_link_set(struct rr_link *l, const struct rr_key *keys,
                             const struct rr_cached *values, size_t n, uint32_t ttl_seconds,
                             size_t *refused, struct rr_refusal *why, uint64_t deadline,
                             struct rr_error *err);

#endif
