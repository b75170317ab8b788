/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.h - one GGUF file, as llama.cpp writes it: its metadata and its tensors' directory, checked.
 * Layer: model (L4).  Threads: parse from one thread; the result is immutable and shared freely.
 *
 * A file is "GGUF", a version, two counts, key-value pairs, a description of each tensor, padding,
 * then the data; numbers are little-endian.  Each tensor's data begin where those of the one before
 * it end, rounded up to the alignment.  Source: the format's description in the ggml repository,
 * docs/gguf.md. */
#ifndef RR_MODEL_GGUF_H
#define RR_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "model/gguf_quant.h"
#include "rerank_types.h"

#define RR_GGUF_MAX_KEYS 4096
#define RR_GGUF_MAX_TENSORS 65536
#define RR_GGUF_MAX_TEXT ((uint64_t)128 << 20)    /* bytes of a string */
#define RR_GGUF_MAX_ALIGNMENT ((uint32_t)1 << 20) /* bytes */
#define RR_GGUF_MAX_RANK 4

enum rr_gguf_kind { /* of values; the numbers are the format's */
                    RR_GGUF_U8,
                    RR_GGUF_I8,
                    RR_GGUF_U16,
                    RR_GGUF_I16,
                    RR_GGUF_U32,
                    RR_GGUF_I32,
                    RR_GGUF_F32,
                    RR_GGUF_BOOL,
                    RR_GGUF_TEXT,
                    RR_GGUF_ARRAY,
                    RR_GGUF_U64,
                    RR_GGUF_I64,
                    RR_GGUF_F64,
                    RR_GGUF_KINDS
};

struct rr_gguf_value {
    struct rr_text key;
    enum rr_gguf_kind kind;
    enum rr_gguf_kind element; /* of an array */
    uint64_t n;                /* elements; 1 for anything but an array */
    const char *data;          /* of the first element, as it lies in the file: not aligned */
    size_t len;                /* bytes of all */
};

struct rr_gguf_tensor {
    struct rr_text name;
    const struct rr_gguf_type *type;
    uint32_t rank;
    uint32_t shape[RR_GGUF_MAX_RANK]; /* outermost first: the file's order turned round */
    uint64_t elements;
    const void *data; /* aligned as the file says, 32 bytes at the usual place */
    size_t bytes;
};

struct rr_gguf;

/* Reads what comes before the data of a whole file, here the bytes of its map; where is the name
 * for messages.  RR_EFORMAT: anything that does not fit, naming field, found and expected;
 * RR_ETOOBIG: above the limits; RR_ENOTSUP: another version, byte order or type of tensor.  *out
 * points into file.data, which must outlive it; free with rr_gguf_close. */
RR_NODISCARD int rr_gguf_parse(struct rr_gguf **out, struct rr_text file, const char *where,
                               struct rr_error *err);
void rr_gguf_close(struct rr_gguf *g); /* NULL is allowed */

const struct rr_gguf_value *rr_gguf_find(const struct rr_gguf *g, const char *key); /* or NULL */
const struct rr_gguf_value *rr_gguf_values(const struct rr_gguf *g, size_t *n);
const struct rr_gguf_tensor *rr_gguf_tensors(const struct rr_gguf *g, size_t *n);
size_t rr_gguf_header_bytes(const struct rr_gguf *g); /* before the data */

/* A missing key leaves *out as it is and is RR_OK unless it is needed; another kind, or a number
 * out of range, is RR_EFORMAT naming the key.  Integers may be of any width. */
RR_NODISCARD int rr_gguf_u32(const struct rr_gguf *g, const char *key, bool needed, uint32_t min,
                             uint32_t max, uint32_t *out, struct rr_error *err);
RR_NODISCARD int rr_gguf_f32(const struct rr_gguf *g, const char *key, bool needed, float *out,
                             struct rr_error *err);
RR_NODISCARD int rr_gguf_bool(const struct rr_gguf *g, const char *key, bool *out,
                              struct rr_error *err);
RR_NODISCARD int rr_gguf_text(const struct rr_gguf *g, const char *key, bool needed,
                              struct rr_text *out, struct rr_error *err);
/* An array whose elements are of this kind, or NULL when it is missing and not needed. */
RR_NODISCARD int rr_gguf_array(const struct rr_gguf *g, const char *key, bool needed,
                               enum rr_gguf_kind element, const struct rr_gguf_value **out,
                               struct rr_error *err);

/* The elements of an array one after the other: *at is 0 at first.  The array was checked. */
struct rr_text rr_gguf_next_text(const struct rr_gguf_value *v, size_t *at);
float rr_gguf_f32_at(const struct rr_gguf_value *v, uint64_t i);
uint32_t rr_gguf_u32_at(const struct rr_gguf_value *v, uint64_t i);

#endif
