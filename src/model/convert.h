/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h - writes a model in another format or precision.  Layer: model (L4).  Threads: one.
 * What is written is what the network needs, and what its tokenizer needs. */
#ifndef RR_MODEL_CONVERT_H
#define RR_MODEL_CONVERT_H

#include <stdio.h>

#include "base/attr.h"
#include "base/buf.h"
#include "model/checkpoint.h"
#include "model/gguf_model.h"
#include "model/model.h"

/* from: a folder or a GGUF file.  to: a name that ends with .gguf, or a folder that is made, for
 * safetensors; either must not be there yet, and is whole when it is.  dtype: "f32", "f16", "bf16"
 * or, in GGUF, "q8_0".  shard_bytes: of a safetensors file, 0: one file whatever its size.
 * tokenizer: what goes into a GGUF file instead of the folder's tokenizer.json; empty: that. */
RR_NODISCARD int rr_model_convert(const char *from, const char *to, const char *dtype,
                                  uint64_t shard_bytes, struct rr_text tokenizer,
                                  struct rr_error *err);

/* ---- between the files of convert_*.c ------------------------------------------------------- */

struct rr_convert_tensor {
    char name[160]; /* in the file that is written */
    const struct rr_tensor *src;
    const struct rr_gguf_type *type; /* to write */
    uint32_t rank, shape[4];
    uint64_t skip;     /* elements of src that are left out at its start */
    uint64_t elements; /* that are written */
    uint64_t bytes;
    float shift; /* added to each element */
};

struct rr_convert {
    const char *from, *to;
    const struct rr_gguf_type *type;
    uint64_t shard_bytes;
    struct rr_text tokenizer; /* empty: the source's */
    struct rr_model *model;
    struct rr_convert_tensor *tensors;
    size_t n;
};

/* One of the files of the source folder; RR_ENOENT is no error and leaves out empty. */
RR_NODISCARD int rr_convert_read(const struct rr_convert *c, const char *name, struct rr_buf *out,
                                 struct rr_error *err);
/* The tensor's data.  Errors of writing stay in out, for the caller to look at once. */
RR_NODISCARD int rr_convert_put(FILE *out, const struct rr_convert_tensor *t, struct rr_error *err);
RR_NODISCARD int rr_convert_gguf(struct rr_convert *c, struct rr_error *err);

/* Key-value pairs of a GGUF file (convert_gguf.c). */
struct rr_gguf_head {
    struct rr_buf bytes;
    uint64_t n;
};
void rr_gguf_put_key(struct rr_gguf_head *h, const char *key, enum rr_gguf_kind kind);
void rr_gguf_put_u32(struct rr_gguf_head *h, const char *key, uint32_t v);
void rr_gguf_put_f32(struct rr_gguf_head *h, const char *key, float v);
void rr_gguf_put_bool(struct rr_gguf_head *h, const char *key, bool v);
void rr_gguf_put_text(struct rr_gguf_head *h, const char *key, struct rr_text v);
/* Only the length and the bytes, as in an array. */
void rr_gguf_put_string(struct rr_gguf_head *h, struct rr_text v);
void rr_gguf_put_array(struct rr_gguf_head *h, const char *key, enum rr_gguf_kind element,
                       uint64_t n);
void rr_gguf_put_raw(struct rr_gguf_head *h, const void *data, size_t len);

/* tokenizer.ggml.*, from the text of a tokenizer.json for the network of config
 * (convert_vocab.c). */
RR_NODISCARD int rr_convert_vocab(struct rr_gguf_head *h, struct rr_text json, const char *where,
                                  const struct rr_model_config *config, struct rr_error *err);

#endif
