/* SPDX-License-Identifier: Apache-2.0 */
/* builder.h - writes a program (rerank_backend.h) step by step.  Layer: model (L4).
 * Threads: one.  The first shortage of memory is remembered and everything after it does nothing,
 * so that a network's description reads straight on and is checked once, at rr_builder_done. */
#ifndef RR_MODEL_BUILDER_H
#define RR_MODEL_BUILDER_H

#include <stdbool.h>

#include "base/attr.h"
#include "rerank_backend.h"

struct rr_builder {
    struct rr_tensor *tensors;
    struct rr_register *registers;
    struct rr_op *ops;
    uint32_t n_tensors, n_registers, n_ops;
    uint32_t cap_tensors, cap_registers, cap_ops;
    bool failed;
};

void rr_builder_init(struct rr_builder *b);
void rr_builder_free(struct rr_builder *b); /* the program that done gave dies with it */

/* Both give the index; RR_NONE after a failure. */
uint32_t rr_builder_tensor(struct rr_builder *b, const struct rr_tensor *t);
uint32_t rr_builder_register(struct rr_builder *b, uint32_t width, enum rr_rows rows);

struct rr_weight {         /* of a linear layer */
    uint32_t weight, bias; /* tensors */
};

struct rr_norm {
    uint32_t gamma, beta; /* tensors; beta RR_NONE: none */
};

void rr_builder_embed(struct rr_builder *b, uint32_t dst, const struct rr_op_embed *e);
/* kind: RR_OP_FIRST, RR_OP_LAST or RR_OP_MEAN. */
void rr_builder_pool(struct rr_builder *b, enum rr_op_kind kind, uint32_t dst, uint32_t src);
/* parts: 1 to 3, stacked along the outputs. */
void rr_builder_linear(struct rr_builder *b, uint32_t dst, uint32_t src,
                       const struct rr_weight *parts, uint32_t n_parts, enum rr_act act,
                       uint32_t residual);
void rr_builder_norm(struct rr_builder *b, uint32_t dst, uint32_t src, const struct rr_op_norm *n);
void rr_builder_layer_norm(struct rr_builder *b, uint32_t dst, uint32_t src,
                           const struct rr_norm *n, float eps);
void rr_builder_glu(struct rr_builder *b, uint32_t dst, uint32_t src, enum rr_act act,
                    bool act_second);
void rr_builder_rotary(struct rr_builder *b, uint32_t reg, const struct rr_op_rotary *r);
void rr_builder_attention(struct rr_builder *b, uint32_t dst, uint32_t src,
                          const struct rr_op_attention *a);

/* Views of the builder's arrays.  RR_ENOMEM if any step failed. */
RR_NODISCARD int rr_builder_done(const struct rr_builder *b, uint32_t output,
                                 struct rr_program *out, struct rr_error *err);

#endif
