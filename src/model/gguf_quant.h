/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_quant.h - the types of tensors in GGUF files: blocks of a few weights that share a scale.
 * Layer: model (L4).  Threads: any.  Source: the layouts and formulas are facts of the ggml
 * repository's ggml-common.h and of the package gguf. */
#ifndef RR_MODEL_GGUF_QUANT_H
#define RR_MODEL_GGUF_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rerank_backend.h"

struct rr_gguf_type {
    uint32_t id; /* in the file */
    const char *name;
    unsigned block;      /* elements of one block, */
    unsigned bytes;      /* and its bytes */
    enum rr_dtype dtype; /* what backends get: the type itself, or F32 where decode is set */
    void (*decode)(float *out, const unsigned char *block); /* out[block]; NULL: as it is */
};

const struct rr_gguf_type *rr_gguf_type(uint32_t id); /* NULL: none that we have */
const char *rr_gguf_type_names(void);                 /* "F32, F16, ...", for messages */
/* By the name that users write, in small letters; NULL: none. */
const struct rr_gguf_type *rr_gguf_type_named(const char *name);

/* n elements, a multiple of the block, from data to out as f32. */
void rr_gguf_decode(const struct rr_gguf_type *t, float *out, const void *data, uint64_t n);

/* n elements from f32 to F32, F16, BF16 (to the nearest, ties to even) or Q8_0.  False: no way to
 * write this type. */
bool rr_gguf_encode(const struct rr_gguf_type *t, void *out, const float *in, uint64_t n);

/* f32 of a tensor of any dtype of backends. */
void rr_gguf_widen(float *out, const void *data, enum rr_dtype dtype, uint64_t n);

#endif
