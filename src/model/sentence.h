/* SPDX-License-Identifier: Apache-2.0 */
/* sentence.h - what sentence-transformers writes beside a CrossEncoder.  Layer: model (L4).
 * Threads: any. */
#ifndef RR_MODEL_SENTENCE_H
#define RR_MODEL_SENTENCE_H

#include <stdbool.h>

#include "base/attr.h"
#include "rerank_types.h"

#define RR_PROMPT_BYTES 1024 /* with its end; a longer one is refused */

struct rr_sentence {
    bool identity;       /* scores are the logits; false: their sigmoid, the default */
    uint32_t max_length; /* tokens per pair; 0: not said */
    char prompt[RR_PROMPT_BYTES]; /* comes before each query; mostly "" */
};

/* Reads activation_fn of config_sentence_transformers.json, else "sentence_transformers" or, older,
 * "sbert_ce_default_activation_function" of config.json; max_seq_length of
 * sentence_bert_config.json, or max_length of its processing_kwargs; the prompt that
 * default_prompt_name chooses.  A file that is missing says nothing.  RR_ENOTSUP: an activation
 * that is neither Identity nor Sigmoid; processing_kwargs that cut texts in another way. */
RR_NODISCARD int rr_sentence_read(struct rr_sentence *out, const char *folder,
                                  struct rr_error *err);

#endif
