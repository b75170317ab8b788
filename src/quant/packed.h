/* SPDX-License-Identifier: Apache-2.0 */
/* packed.h - a file of weights as a device packed them, mapped at the next start.
 * Layer: quant (L2).  Threads: any.
 *
 * A header of RR_PACKED_HEADER bytes, then the weights byte for byte, so that they are aligned as
 * pages are.  The file belongs to one model, one instruction set and one way of packing (the key)
 * and is worth nothing elsewhere: whatever does not fit is made again. */
#ifndef RR_QUANT_PACKED_H
#define RR_QUANT_PACKED_H

#include "base/attr.h"
#include "rerank_types.h"

#define RR_PACKED_HEADER 4096

struct rr_packed_key {
    uint64_t fingerprint; /* of the model's weights */
    uint64_t layout;      /* rr_packed_mix of all that decides what the bytes mean */
    uint64_t bytes;       /* of the weights */
};

/* hash with one more value in it; begin with 0. */
uint64_t rr_packed_mix(uint64_t hash, uint64_t value);

/* Writes block, room for the header and then key->bytes of weights, to path: whole or not at all.
 * The header is filled in. */
RR_NODISCARD int rr_packed_save(const char *path, char *block, const struct rr_packed_key *key,
                                struct rr_error *err);

/* Is file, a whole one, sound and of this key?  Reads every byte (XXH3: about as fast as memory).
 * RR_EFORMAT says what differs. */
RR_NODISCARD int rr_packed_check(struct rr_text file, const struct rr_packed_key *key,
                                 struct rr_error *err);

#endif
