/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.h - one safetensors file: its header checked, its tensors by name.
 * Layer: model (L4).  Threads: parse from one thread; the result is immutable and shared freely.
 *
 * A file is 8 bytes N (little-endian), N bytes of JSON, then the data.  The JSON maps each tensor's
 * name to {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from the start of the
 * data; "__metadata__" maps strings to strings.  The tensors tile the data: no gap, no overlap.
 * Source: the format's description in the safetensors repository, README, "Format". */
#ifndef RR_MODEL_SAFETENSORS_H
#define RR_MODEL_SAFETENSORS_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/json_out.h"
#include "rerank_backend.h"

#define RR_SAFETENSORS_MAX_HEADER 100000000 /* bytes; the reference's limit too */
#define RR_SAFETENSORS_MAX_RANK 4           /* what struct rr_tensor holds */

struct rr_safetensors;

struct rr_safetensors_dtype {
    const char *name; /* as the header spells it, e.g. "BF16" */
    uint32_t bits;    /* of one element */
    bool usable;      /* true: dtype says how backends call it */
    enum rr_dtype dtype;
};

struct rr_safetensors_entry {
    const char *name;
    const struct rr_safetensors_dtype *type;
    uint32_t rank;
    uint32_t shape[RR_SAFETENSORS_MAX_RANK];
    uint64_t begin, end; /* bytes from the start of the data */
    const void *data;    /* into the file's bytes; aligned only as the file happens to be */
    bool made;           /* of other formats: data are memory of ours, not of the file's map */
};

/* Reads the header of a whole file, here the bytes of its map; where is the name for messages.  The
 * data are not touched.  RR_EFORMAT: anything that does not fit, naming tensor, found and expected;
 * RR_ETOOBIG: header or rank above the limits; RR_ENOTSUP: a dtype that the format does not have.
 * *out points into file.data, which must outlive it; free with rr_safetensors_close. */
RR_NODISCARD int rr_safetensors_parse(struct rr_safetensors **out, struct rr_text file,
                                      const char *where, struct rr_error *err);
void rr_safetensors_close(struct rr_safetensors *st); /* NULL is allowed */

/* NULL when there is none of that name. */
const struct rr_safetensors_entry *rr_safetensors_find(const struct rr_safetensors *st,
                                                       const char *name);

/* All entries in the order of their data. */
const struct rr_safetensors_entry *rr_safetensors_entries(const struct rr_safetensors *st,
                                                          size_t *n);

/* The precision ("int8", "bf16", "f16", "f32") that "rerankd quantize" wrote into __metadata__
 * under RR_SAFETENSORS_MADE_FOR; "" in other files. */
#define RR_SAFETENSORS_MADE_FOR "rerankd.dtype"
const char *rr_safetensors_made_for(const struct rr_safetensors *st);

/* Bytes before the data: the length field and the JSON. */
size_t rr_safetensors_header_bytes(const struct rr_safetensors *st);

/* ---- writing: a header, tensor by tensor in the order of their data ---- */

/* made_for: what rr_safetensors_made_for shall give, or NULL. */
void rr_safetensors_begin(struct rr_json_out *o, const char *made_for);
void rr_safetensors_put(struct rr_json_out *o, const char *name, const char *dtype,
                        const uint32_t *shape, uint32_t rank, uint64_t begin, uint64_t end);
/* Pads the header so that the data are aligned to 64 bytes; length: the bytes before it. */
void rr_safetensors_end(struct rr_json_out *o, unsigned char length[8]);

#endif
