/* SPDX-License-Identifier: Apache-2.0 */
/* extras.h - what every dialect can be asked beyond its own options, and how a reply shows it.
 * Layer: server (L6).  Threads: pure.
 *
 * Nothing is added to a reply that was not asked for: readers insist on their shapes. */
#ifndef RR_SERVER_EXTRAS_H
#define RR_SERVER_EXTRAS_H

#include "server/dialect.h"

/* Reads score_threshold, return_logits, explain, window, priority, timeout_ms, allow_partial,
 * no_cache and exact_top_k from an object of the body; where: its path.  0, or -1 with a
 * problem. */
int rr_extras_parse(struct rr_fields *f, const json_t *obj, const char *where);

/* Will rr_extras_item write anything? */
bool rr_extras_any(const struct rr_ask *ask);

/* Appends members to the entry of one document, each with a comma in front: logit, window, explain.
 * spaced: one space after colons and commas. */
void rr_extras_item(const struct rr_reply *r, size_t group, uint32_t at, bool spaced,
                    struct rr_buf *out);

/* The same at the end of a reply that is an object: partial and missing, exact and rescored,
 * explain. */
void rr_extras_reply(const struct rr_reply *r, bool spaced, struct rr_buf *out);

/* Sums over the groups of a reply. */
struct rr_totals {
    uint64_t tokens;
    size_t documents, cached, duplicates, coalesced, rescored, missing, truncated;
    bool exact;
};
void rr_extras_totals(const struct rr_reply *r, struct rr_totals *t);

/* "2", "1.5", "1.5s", "250ms", "1m" as nanoseconds; false: none of these, or not above zero. */
bool rr_timeout_parse(const char *text, uint64_t *ns);

#endif
