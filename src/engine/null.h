/* SPDX-License-Identifier: Apache-2.0 */
/* null.h - a stand-in for model and device, for tests and for measuring everything else: every byte
 * is a token, the logit is a hash of the tokens, and a batch takes as long as one asks for.
 * Layer: engine (L5).
 *
 * Chosen by the device "null" or "null:base_us=200,per_token_ns=50".  A pair reads
 *     256, bytes of the query, 257, bytes of the document, 257
 * and its logit is FNV-1a (64 bits) over these numbers, then (hash >> 40) / 2^20 - 8. */
#ifndef RR_ENGINE_NULL_H
#define RR_ENGINE_NULL_H

#include <stdbool.h>

#include "base/attr.h"
#include "model/model.h"
#include "tok/tok.h"

struct rr_null {
    uint64_t base_ns; /* of each batch */
    uint64_t token_ns;
};

/* Is this device string one of null's? */
bool rr_null_is(const char *device);

RR_NODISCARD int rr_null_parse(struct rr_null *out, const char *device, struct rr_error *err);
RR_NODISCARD int rr_null_tokenizer(struct rr_tok **out, struct rr_error *err);
void rr_null_forward(const struct rr_null *null, const struct rr_sequences *seqs, float *logits);

#endif
