/* SPDX-License-Identifier: Apache-2.0 */
/* prompts.h - what causal rerankers are asked, and which of their words is the answer.
 * Layer: engine (L5).  Threads: any. */
#ifndef RR_ENGINE_PROMPTS_H
#define RR_ENGINE_PROMPTS_H

#include "model/model.h"
#include "tok/prompt.h"

/* Opens the prompt of the model's architecture, and tells the model which tokens judge a pair.
 * *out is NULL for networks that read pairs by the tokenizer's template. */
RR_NODISCARD int rr_prompts_open(struct rr_prompt **out, struct rr_model *model,
                                 const struct rr_tok *tok, struct rr_error *err);

#endif
