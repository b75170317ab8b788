/* SPDX-License-Identifier: Apache-2.0 */
/* layers.h - what the descriptions of several networks have in common: registers, sizes, layers in
 * the manner of BERT.  Layer: model (L4).  Threads: one. */
#ifndef RR_MODEL_LAYERS_H
#define RR_MODEL_LAYERS_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

/* ---- registers ------------------------------------------------------------------------------- */

struct rr_row_regs { /* registers of one kind of rows; RR_NONE: not used */
    uint32_t x, normed, qkv, context, up, gated;
};

/* A head reads one row of each sequence, so that the last layer computes that row only: keys and
 * values of all tokens, everything else on one row per sequence. */
struct rr_registers {
    struct rr_row_regs tokens; /* qkv: queries, keys, values */
    struct rr_row_regs last;   /* a row per sequence; qkv: queries alone */
    uint32_t kv;               /* of tokens, last layer */
};

enum { RR_REGISTERS_NORMED = 1, RR_REGISTERS_GATED = 2 };

/* flags: whether layers read a norm of x; whether up is twice as wide, for a gated unit. */
struct rr_registers rr_registers_add(struct rr_builder *b, const struct rr_model_config *c,
                                     unsigned flags);

/* ---- sizes ----------------------------------------------------------------------------------- */

/* All of w->dim that follow from the configuration. */
void rr_weights_set_dims(struct rr_weights *w, const struct rr_model_config *c);

/* Scale by 1 / sqrt(head_dim); kv and the rest of the fields are the caller's. */
struct rr_op_attention rr_attention_op(const struct rr_model_config *c);

/* The first hidden rows of stacked queries, keys and values, and the others. */
void rr_weights_split_qkv(struct rr_weights *w, const struct rr_weight *qkv, uint32_t hidden,
                          struct rr_weight *q, struct rr_weight *kv);

/* ---- layers in the manner of BERT ------------------------------------------------------------ */

/* x = norm(x + out(attention(x))), x = norm(x + down(act(up(x)))). */
struct rr_layer {
    struct rr_weight query, key, value, out;
    struct rr_norm attention_norm;
    struct rr_weight up, down;
    struct rr_norm norm;
};

/* Whether layer i of a network whose head reads one row need compute that row only. */
bool rr_is_last(const struct rr_model_config *c, uint32_t i);
/* All but queries, keys and values, whose names differ. */
RR_NODISCARD int rr_layer_bind(struct rr_weights *w, const char *prefix, const char *scope,
                               struct rr_layer *l, struct rr_error *err);
/* The layer on all tokens or, last, for the first row of each sequence.  a: all but the places of
 * keys and values. */
void rr_layer_add(struct rr_builder *b, const struct rr_model_config *c,
                  const struct rr_registers *r, const struct rr_layer *l, struct rr_op_attention a,
                  bool last);

struct rr_head {
    struct rr_weight dense, classifier;
};

/* "pooler.dense" behind prefix, and "classifier". */
RR_NODISCARD int rr_head_bind(struct rr_weights *w, const char *prefix, struct rr_head *h,
                              struct rr_error *err);
/* classifier(act(dense(x))) of last.x; the register of the logits.  Overwrites last.context. */
uint32_t rr_head_add(struct rr_builder *b, const struct rr_row_regs *last, const struct rr_head *h,
                     enum rr_act act);

#endif
