/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a cross-encoder: folder in Hugging Face layout in, logits out.
 * Layer: model (L4).  Knows nothing about text.
 * Threads: open, load and close from one thread; forward from one thread at a time. */
#ifndef RR_MODEL_MODEL_H
#define RR_MODEL_MODEL_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/buf.h"
#include "model/modules.h"
#include "rerank_backend.h"

struct rr_model;
struct rr_model_config;
struct rr_checkpoint;

struct rr_model_info {
    char architecture[64];
    char weights_dtype[16]; /* "f32", "f16", "bf16", "int8" (the linear layers') or "mixed" */
    char dtype[8]; /* the arithmetic that the folder was made for: "int8", "bf16", else "f32" */
    uint32_t layers, hidden, heads, intermediate, vocab, types;
    uint32_t max_length; /* longest sequence the position table allows */
    uint64_t parameters;
    uint64_t file_bytes;
    uint64_t fingerprint; /* XXH3 of config.json, the safetensors headers and a sample of data */
    bool identity;        /* scores are logits, not their sigmoid, says the model's folder */
    uint32_t preferred_length; /* tokens per pair that it says; 0: nothing */
    bool judge;           /* the logit is a word's: rr_model_judge must be called before load */
    struct rr_words words; /* for rr_model_judge, where the model says them */
    bool modules;          /* modules.json says what the head is: its files belong to the folder */
    char query_prompt[1024]; /* comes before each query, says the folder; "": nothing */
};

/* Reads config.json, maps the safetensors file or shards, checks every tensor that the architecture
 * needs, and builds its program.  No tensor data are read.  Errors name file, field, found,
 * expected. */
RR_NODISCARD int rr_model_open(struct rr_model **out, const char *folder, struct rr_error *err);
void rr_model_close(struct rr_model *m); /* unloads first; NULL is allowed */

const struct rr_model_info *rr_model_info(const struct rr_model *m);
const struct rr_program *rr_model_program(const struct rr_model *m);
/* What it was made from, for the converter. */
const struct rr_model_config *rr_model_config(const struct rr_model *m);
const struct rr_checkpoint *rr_model_checkpoint(const struct rr_model *m);
/* Appends the tokenizer.json of a model that has it inside, a GGUF file; nothing for a folder. */
RR_NODISCARD int rr_model_tokenizer(const struct rr_model *m, struct rr_buf *out,
                                    struct rr_error *err);

/* For causal networks: the logit is that of token yes, less that of token no unless it is
 * negative. */
RR_NODISCARD int rr_model_judge(struct rr_model *m, int32_t yes, int32_t no, struct rr_error *err);

/* Gives the program to a device.  m keeps using device until unload or close. */
RR_NODISCARD int rr_model_load(struct rr_model *m, const struct rr_backend *backend,
                               struct rr_device *device, const struct rr_limits *limits,
                               struct rr_error *err);
void rr_model_unload(struct rr_model *m);

/* Name of the i-th network that we have, NULL at the end; *gguf_types: "" or the types of weights
 * that are read from GGUF files of it; *models: well-known ones. */
const char *rr_model_supported(size_t i, const char **gguf_types, const char **models);

/* From now on p, which must stay as it is, is loaded instead of the model's own program: a copy of
 * it with other tensors.  NULL: the own one again. */
void rr_model_replace(struct rr_model *m, const struct rr_program *p);

/* As rr_backend.observe of what is loaded; RR_ENOTSUP if the backend has none. */
RR_NODISCARD int rr_model_observe(struct rr_model *m, rr_observe_fn *fn, void *user,
                                  struct rr_error *err);

/* Sequences to score: ids and types as the tokenizer made them, back to back. */
struct rr_sequences {
    uint32_t n_tokens, n_sequences;
    const int32_t *ids;         /* [n_tokens] */
    const int32_t *types;       /* [n_tokens] */
    const uint32_t *cu_seqlens; /* [n_sequences + 1] */
};

/* logits[n_sequences].  Checks ids, types and lengths against the model (RR_EINVAL), derives the
 * positions, runs.  A NaN or infinite logit is returned as it is: the caller decides. */
RR_NODISCARD int rr_model_forward(struct rr_model *m, const struct rr_sequences *seqs,
                                  float *logits, struct rr_error *err);

#endif
