/* SPDX-License-Identifier: Apache-2.0 */
/* beside.h - what the files beside tokenizer.json change in it, as for transformers and
 * sentence-transformers.  Layer: tok (L1).  Threads: any. */
#ifndef RR_TOK_BESIDE_H
#define RR_TOK_BESIDE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_tok_beside {
    uint32_t max_length; /* model_max_length; 0: none */
    unsigned changes;    /* of the texts' tokens: 0, or a number that tells changes apart */
    bool changed;        /* anything of root */
    bool literal;        /* split_special_tokens: "<s>" in a text is text; not in root */
};

/* Writes into root, the tokenizer.json of folder with or without its vocabulary, what its
 * tokenizer_config.json says: truncation_side; model_input_names without token_type_ids, so that
 * all types are 0; of a BERT tokenizer do_lower_case, strip_accents and
 * tokenize_chinese_chars, of RoBERTa's, Qwen2's, XLM-RoBERTa's and DeBERTa's add_prefix_space, of
 * DeBERTa's do_lower_case and split_by_punct.  Which it is, tokenizer_class or config.json tells;
 * then its defaults count, too.  And do_lower_case of sentence_bert_config.json, which is read
 * where there is a modules.json, of a CrossEncoder.  root stays a file that other readers take. */
RR_NODISCARD int rr_tok_beside(struct rr_tok_beside *out, json_t *root, const char *folder,
                               struct rr_error *err);

#endif
