/* SPDX-License-Identifier: Apache-2.0 */
/* value.h - how a score is written in a shared cache: the text of its key and 24 bytes.
 * Layer: cache (L1).  Threads: any.
 *
 *   key    "rr:1:" and the 128 bits in hexadecimal, high half first
 *   value  byte 0      version, 1
 *          byte 1      bit 0: the pair was cut to fit
 *          bytes 2-3   0
 *          bytes 4-7   logit, IEEE 754 single
 *          bytes 8-11  tokens of the pair
 *          bytes 12-15 tokens of the pair before it was cut, 0: not known
 *          bytes 16-23 XXH3 of the key's 16 bytes and bytes 0-15
 * All little-endian.  The check covers the key, so that the value of one pair under the key of
 * another (a late reply, a copy, a hostile neighbour's guess) is not taken for it. */
#ifndef RR_CACHE_VALUE_H
#define RR_CACHE_VALUE_H

#include "base/attr.h"
#include "cache/key.h"
#include "cache/lru.h"

enum { RR_VALUE_BYTES = 24, RR_KEY_CHARS = 5 + 32 };

void rr_value_key(char out[RR_KEY_CHARS], struct rr_key key); /* no zero at the end */

void rr_value_encode(unsigned char out[RR_VALUE_BYTES], struct rr_key key, struct rr_cached value);

/* False for whatever rr_value_encode with this key cannot have written, and for logits that are not
 * finite. */
RR_NODISCARD bool rr_value_decode(struct rr_cached *out, struct rr_key key, const char *data,
                                  size_t len);

#endif
