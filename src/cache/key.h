/* SPDX-License-Identifier: Apache-2.0 */
/* key.h - names a pair's score: 128 bits of XXH3 over everything the score depends on.
 * Layer: cache (L1).  Threads: any.
 *
 * A key may be computed because a score is a function of the pair alone.  Query and document are
 * length-prefixed, so that moving a byte from one to the other is another key. */
#ifndef RR_CACHE_KEY_H
#define RR_CACHE_KEY_H

#include <stdbool.h>

#include "rerank_types.h"

struct rr_key {
    uint64_t lo, hi;
};

/* What a score depends on besides the two texts. */
struct rr_key_context {
    uint64_t fingerprint; /* of model, tokenizer and arithmetic (precision, instruction set) */
    uint32_t max_length;
    uint32_t flags; /* tokenizer flags of the request */
};

/* The part shared by all documents of a request: state after context and query. */
struct rr_key rr_key_prefix(const struct rr_key_context *context, struct rr_text query);
struct rr_key rr_key_pair(struct rr_key prefix, struct rr_text document);

/* Where the key goes in a table of the process.  Clients choose texts, hence keys; a secret of the
 * process keeps them from choosing keys that meet in a table. */
uint64_t rr_key_hash(struct rr_key key);

static inline bool rr_key_eq(struct rr_key a, struct rr_key b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

#endif
