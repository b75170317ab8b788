/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_model.h - a reranker in a GGUF file, as the files of a model folder: a config.json, tensors
 * by their Hugging Face names, a tokenizer.json.  Layer: model (L4).  Threads: open and close from
 * one thread; the rest is read-only.
 *
 * What reads a model folder then needs no second way: the same checks, the same networks. */
#ifndef RR_MODEL_GGUF_MODEL_H
#define RR_MODEL_GGUF_MODEL_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/buf.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/safetensors.h"

/* The same tensor, or pair of weight and bias, in both worlds.  %u is the layer. */
struct rr_gguf_name {
    const char *gguf, *hf; /* without ".weight" and ".bias", and without the network's prefix */
    bool matrix;           /* its weight has two dimensions, even where one is 1 */
};

struct rr_gguf_names {  /* of a family of networks; both lists end with a row without names */
    const char *prefix; /* of the Hugging Face names */
    const struct rr_gguf_name *body;
    const struct rr_gguf_name *head; /* without the prefix */
};

/* The first rows of RoBERTa's position table, which the format leaves out, in files of rerankd
 * convert where they are not zero: an array of f32. */
#define RR_GGUF_FIRST_POSITIONS "rerankd.first_positions"

/* In files of rerankd convert, a bool: scores are logits, not their sigmoid. */
#define RR_GGUF_IDENTITY "rerankd.identity"

/* In files of rerankd convert, u32: the tokens of struct rr_words. */
#define RR_GGUF_YES "rerankd.true_token_id"
#define RR_GGUF_NO "rerankd.false_token_id"

/* In files of rerankd convert, u32: tokens per pair that the folder asked for. */
#define RR_GGUF_MAX_LENGTH "rerankd.max_length"

/* stacked: queries, keys and values are one tensor, where a family has both forms.  NULL: a family
 * that GGUF files of rerankers do not have. */
const struct rr_gguf_names *rr_gguf_names(enum rr_family family, bool stacked);
/* What the format adds to a tensor: 1 to the weights of Gemma's norms, which it stores whole. */
float rr_gguf_shift(const char *architecture, struct rr_text gguf);

/* The other world's name of a tensor; false: it has none. */
bool rr_gguf_to_hf(const struct rr_gguf_names *names, struct rr_text gguf, char *out, size_t cap,
                   bool *matrix);
bool rr_gguf_from_hf(const struct rr_gguf_names *names, const char *hf, char *out, size_t cap);

enum { RR_GGUF_POOL_MEAN = 1, RR_GGUF_POOL_FIRST = 2, RR_GGUF_POOL_RANK = 4 }; /* llama.cpp's */

struct rr_gguf_model;

bool rr_gguf_named(const char *path); /* the name ends with .gguf and has more before that */
bool rr_gguf_is(const char *path); /* a file whose name ends with .gguf, or that begins so */

/* Maps and checks the file.  Quantised tensors are decoded to f32 here.  RR_ENOTSUP: a network or
 * tokenizer that we do not have, or a file that is no reranker. */
RR_NODISCARD int rr_gguf_model_open(struct rr_gguf_model **out, const char *path,
                                    struct rr_error *err);
/* The same of bytes in memory, which must stay; name is for messages. */
RR_NODISCARD int rr_gguf_model_parse(struct rr_gguf_model **out, struct rr_text bytes,
                                     const char *name, struct rr_error *err);
void rr_gguf_model_close(struct rr_gguf_model *m); /* NULL is allowed */

bool rr_gguf_model_identity(const struct rr_gguf_model *m);         /* RR_GGUF_IDENTITY is true */
struct rr_words rr_gguf_model_words(const struct rr_gguf_model *m); /* RR_GGUF_YES, RR_GGUF_NO */
uint32_t rr_gguf_model_max_length(const struct rr_gguf_model *m);   /* RR_GGUF_MAX_LENGTH or 0 */
struct rr_text rr_gguf_model_config(const struct rr_gguf_model *m); /* of a config.json */
const struct rr_safetensors_entry *rr_gguf_model_find(const struct rr_gguf_model *m,
                                                      const char *name);
const struct rr_safetensors_entry *rr_gguf_model_entries(const struct rr_gguf_model *m, size_t *n);
size_t rr_gguf_model_bytes(const struct rr_gguf_model *m);
uint64_t rr_gguf_model_fingerprint(const struct rr_gguf_model *m, uint64_t seed);

/* Appends a tokenizer.json that does what the file's tokenizer does. */
RR_NODISCARD int rr_gguf_model_tokenizer(const struct rr_gguf_model *m, struct rr_buf *out,
                                         struct rr_error *err);
/* Appends ["left","right"] for each pair of pieces that make a piece, in the order in which
 * SentencePiece's BPE joins them: by the score of what they make.  RR_ENOMEM (gguf_merges.c). */
RR_NODISCARD int rr_gguf_merges(const struct rr_gguf_value *pieces,
                                const struct rr_gguf_value *scores, struct rr_buf *out);
/* gguf_tok.c */
RR_NODISCARD int rr_gguf_tokenizer(const struct rr_gguf *g, const char *where, struct rr_buf *out,
                                   struct rr_error *err);

#endif
