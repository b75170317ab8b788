/* SPDX-License-Identifier: Apache-2.0 */
/* prompts.h - how a model wants to read a pair: by the tokenizer's template, or, for causal
 * rerankers, inside the wording that they were trained on.  Layer: engine (L5).
 * Threads: a pairing is immutable after open. */
#ifndef RR_ENGINE_PROMPTS_H
#define RR_ENGINE_PROMPTS_H

#include "model/model.h"
#include "tok/prompt.h"

struct rr_pairing {
    struct rr_prompt *prompt; /* NULL: the template */
    uint32_t fixed;           /* tokens that every pair has besides query and document */
    int32_t yes, no;          /* tokens that judge a pair, if the model needs them; no may be < 0 */
    char before_query[sizeof(((struct rr_model_info *)0)->query_prompt)]; /* text; mostly "" */
};

/* For the model of that architecture.  RR_ENOTSUP: causal, and its wording is not known. */
RR_NODISCARD int rr_pairing_open(struct rr_pairing *p, const struct rr_model_info *model,
                                 const struct rr_tok *tok, struct rr_error *err);
/* Whether folder, of a LogitScore, has a chat template in other words: sentence-transformers reads
 * pairs by it. */
bool rr_pairing_other_template(const struct rr_model_info *model, const char *folder);
void rr_pairing_close(struct rr_pairing *p); /* zeros are allowed */

/* The ids of a query, with what comes before it; a view into s. */
RR_NODISCARD int rr_pairing_query(const struct rr_pairing *p, const struct rr_tok *tok,
                                  struct rr_tok_scratch *s, struct rr_text query, uint32_t max,
                                  unsigned flags, struct rr_tok_ids *out, struct rr_error *err);

/* Tells a causal model its words; nothing to do for others. */
RR_NODISCARD int rr_pairing_judge(const struct rr_pairing *p, struct rr_model *model,
                                  struct rr_error *err);

/* Tokenizer flags of a pair whose request says nothing: from which side it is cut. */
unsigned rr_pairing_flags(const struct rr_pairing *p, const struct rr_tok *tok);

/* One pair from its texts, with one scratch.  ids and types have room for max_length, query for as
 * many.  *dropped: tokens cut, at least. */
RR_NODISCARD int rr_pairing_ids(const struct rr_pairing *p, const struct rr_tok *tok,
                                struct rr_tok_scratch *s, const struct rr_text texts[2],
                                unsigned flags, uint32_t max_length, int32_t *query, int32_t *ids,
                                int32_t *types, uint32_t *n, uint32_t *dropped,
                                struct rr_error *err);

#endif
