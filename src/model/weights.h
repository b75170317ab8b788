/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - finds the tensors that a network needs, by a table, and checks their shapes.
 * Layer: model (L4).  Threads: one. */
#ifndef RR_MODEL_WEIGHTS_H
#define RR_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "model/builder.h"
#include "model/checkpoint.h"

enum rr_dim { /* what a tensor's dimension is measured in; the values are in rr_weights.dim */
              RR_DIM_END, /* no more dimensions */
              RR_DIM_LABELS,
              RR_DIM_VOCAB,
              RR_DIM_POSITIONS,
              RR_DIM_TYPES,
              RR_DIM_HIDDEN,
              RR_DIM_EMBEDDING, /* columns of the embedding tables */
              RR_DIM_INTERMEDIATE,
              RR_DIM_GATED,     /* 2 * intermediate */
              RR_DIM_HEAD,      /* columns of one head */
              RR_DIM_QUERY,     /* of all heads of queries */
              RR_DIM_KEY,       /* of all heads of keys, or of values */
              RR_DIM_QKV,       /* queries, keys and values */
              RR_DIM_DISTANCES, /* rows of the table of relative positions */
              RR_DIM_MODULE_IN, /* of the module that is being bound, see modules.h */
              RR_DIM_MODULE_OUT,
              RR_DIMS
};

struct rr_weight_row {  /* one tensor of a network */
    size_t field;       /* offsetof the uint32_t that gets its index in the program */
    const char *name;   /* without the scope */
    enum rr_dim dim[2]; /* its shape */
    bool optional;      /* missing: RR_NONE */
};

/* A row for a member of a struct: RR_WEIGHT_ROW(layer, up.bias, "fc1.bias", RR_DIM_HIDDEN) */
#define RR_WEIGHT_ROW(type, member, name, ...) \
    { \
        offsetof(struct type, member), name, { __VA_ARGS__ }, false \
    }
#define RR_WEIGHT_OPTIONAL(type, member, name, ...) \
    { \
        offsetof(struct type, member), name, { __VA_ARGS__ }, true \
    }

struct rr_weights { /* what binding shares and counts */
    const struct rr_checkpoint *checkpoint;
    struct rr_builder *builder;
    uint32_t dim[RR_DIMS];
    uint64_t parameters;    /* elements of all tensors bound so far */
    unsigned dtypes;        /* 1 << enum rr_dtype of each */
    struct rr_weight_copy { /* tensors that lay askew in their file */
        void *data;
        size_t bytes;
    } * copies;
    uint32_t n_copies;
    struct {            /* of networks without a classifier */
        uint32_t table; /* the output layer, [vocab, hidden] */
        float *row;     /* [hidden] of the made tensor that makes the logit; NULL: none */
    } judge;
};

/* Binds n rows: each tensor is looked for as prefix + scope + name, then as scope + name (files
 * saved from the bare network), with the old LayerNorm names gamma and beta as well.  Its index in
 * the program goes to the field of *fields.  A tensor that is missing or of another shape is
 * RR_EFORMAT, one of an unusable dtype RR_ENOTSUP; messages name tensor, found and expected.
 * The weight of a linear layer may be I8 beside F32 tensors "_scale" and maybe "_smooth" and
 * "_input_bits" (docs/internals/quant.md).  A tensor whose data are not aligned for their dtype,
 * as old writers left them, is copied. */
RR_NODISCARD int rr_weights_bind(struct rr_weights *w, const char *prefix, const char *scope,
                                 const struct rr_weight_row *rows, size_t n, void *fields,
                                 struct rr_error *err);
/* Rows [row0, row0 + rows) of a tensor bound before, as a tensor of their own. */
uint32_t rr_weights_rows(struct rr_weights *w, uint32_t tensor, uint32_t row0, uint32_t rows);

/* A tensor that is computed, f32 [rows, columns] or, with rows 0, [columns], filled with zeros;
 * *data are the caller's to write until the program is used.  name: static, for messages. */
RR_NODISCARD int rr_weights_make(struct rr_weights *w, const char *name, uint32_t rows,
                                 uint32_t columns, uint32_t *index, float **data,
                                 struct rr_error *err);

/* Row row of a tensor bound before (row 0: of a vector), as f32 [columns]. */
void rr_weights_read(const struct rr_weights *w, uint32_t tensor, uint32_t row, float *out);

void rr_weights_free(struct rr_weights *w); /* the copies; nothing else is owned */

#endif
