/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.h - lists of texts, tokenized once and run through a model again and again.
 * Layer: engine (L5).  Threads: one. */
#ifndef RR_ENGINE_CALIBRATE_H
#define RR_ENGINE_CALIBRATE_H

#include "engine/engine.h"

struct rr_texts {
    int32_t *ids, *types; /* [n_tokens] */
    uint32_t *lengths;    /* [n_pairs] tokens */
    size_t n_tokens, n_pairs;
    size_t cap_tokens, cap_pairs;
};

/* Tokenizes every pair as a request would be, cut to s->info.max_length.  flags: of the tokenizer,
 * beside the model's own. */
RR_NODISCARD int rr_texts_make(struct rr_texts *t, const struct rr_setup *s, unsigned flags,
                               const struct rr_list *lists, size_t n, struct rr_error *err);
void rr_texts_free(struct rr_texts *t);

/* Runs the first n_pairs through what is loaded; logits[n_pairs], or NULL. */
RR_NODISCARD int rr_texts_run(const struct rr_texts *t, const struct rr_setup *s, size_t n_pairs,
                              float *logits, struct rr_error *err);

#endif
