/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - finds the tensors that a network needs, by a table, and checks their shapes.
 * Layer: model (L4).  Threads: one. */
#ifndef RR_MODEL_WEIGHTS_H
#define RR_MODEL_WEIGHTS_H

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
              RR_DIM_INTERMEDIATE,
              RR_DIMS
};

struct rr_weight_row {  /* one tensor of a network */
    size_t field;       /* offsetof the uint32_t that gets its index in the program */
    const char *name;   /* without the scope */
    enum rr_dim dim[2]; /* its shape */
};

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
};

/* Binds n rows: each tensor is looked for as prefix + scope + name, then as scope + name (files
 * saved from the bare network), with the old LayerNorm names gamma and beta as well.  Its index in
 * the program goes to the field of *fields.  A tensor that is missing or of another shape is
 * RR_EFORMAT, one of an unusable dtype RR_ENOTSUP; messages name tensor, found and expected.
 * A tensor whose data are not aligned for their dtype, as old writers left them, is copied. */
RR_NODISCARD int rr_weights_bind(struct rr_weights *w, const char *prefix, const char *scope,
                                 const struct rr_weight_row *rows, size_t n, void *fields,
                                 struct rr_error *err);
void rr_weights_free(struct rr_weights *w); /* the copies; nothing else is owned */

#endif
