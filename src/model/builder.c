/* SPDX-License-Identifier: Apache-2.0 */
/* builder.c - see builder.h.  Layer: model (L4). */
#include "model/builder.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

void rr_builder_init(struct rr_builder *b)
{
    memset(b, 0, sizeof(*b));
}

void rr_builder_free(struct rr_builder *b)
{
    rr_free(b->tensors);
    rr_free(b->registers);
    rr_free(b->ops);
    rr_builder_init(b);
}

/* Room for one more in an array of n elements; the array or NULL. */
static void *grow(struct rr_builder *b, void *array, uint32_t n, uint32_t *cap, size_t size)
{
    uint32_t more = *cap ? *cap * 2 : 32;
    void *p;

    if (b->failed) return NULL;
    if (n < *cap) return array;
    p = rr_realloc(RR_MEM_MODEL, array, more, size);
    if (!p) {
        b->failed = true;
        return NULL;
    }
    *cap = more;
    return p;
}

uint32_t rr_builder_tensor(struct rr_builder *b, const struct rr_tensor *t)
{
    struct rr_tensor *p = grow(b, b->tensors, b->n_tensors, &b->cap_tensors, sizeof(*p));

    if (!p) return RR_NONE;
    b->tensors = p;
    p[b->n_tensors] = *t;
    return b->n_tensors++;
}

uint32_t rr_builder_register(struct rr_builder *b, uint32_t width, enum rr_rows rows)
{
    struct rr_register *p = grow(b, b->registers, b->n_registers, &b->cap_registers, sizeof(*p));

    if (!p) return RR_NONE;
    b->registers = p;
    p[b->n_registers] = (struct rr_register){ .width = width, .rows = rows };
    return b->n_registers++;
}

static void add_op(struct rr_builder *b, const struct rr_op *op)
{
    struct rr_op *p = grow(b, b->ops, b->n_ops, &b->cap_ops, sizeof(*p));

    if (!p) return;
    b->ops = p;
    p[b->n_ops++] = *op;
}

void rr_builder_embed(struct rr_builder *b, uint32_t dst, const struct rr_op_embed *e)
{
    struct rr_op op = { .kind = RR_OP_EMBED, .dst = dst, .src = RR_NONE };

    op.u.embed = *e;
    add_op(b, &op);
}

void rr_builder_pool(struct rr_builder *b, enum rr_op_kind kind, uint32_t dst, uint32_t src)
{
    struct rr_op op = { .kind = kind, .dst = dst, .src = src };

    add_op(b, &op);
}

void rr_builder_linear(struct rr_builder *b, uint32_t dst, uint32_t src,
                       const struct rr_weight *parts, uint32_t n_parts, enum rr_act act,
                       uint32_t residual)
{
    struct rr_op op = { .kind = RR_OP_LINEAR, .dst = dst, .src = src };
    struct rr_op_linear *l = &op.u.linear;

    l->n_parts = n_parts;
    for (uint32_t i = 0; i < RR_COUNT(l->weight); i++) {
        l->weight[i] = i < n_parts ? parts[i].weight : RR_NONE;
        l->bias[i] = i < n_parts ? parts[i].bias : RR_NONE;
    }
    l->act = act;
    l->residual = residual;
    add_op(b, &op);
}

void rr_builder_norm(struct rr_builder *b, uint32_t dst, uint32_t src, const struct rr_op_norm *n)
{
    struct rr_op op = { .kind = RR_OP_NORM, .dst = dst, .src = src };

    op.u.norm = *n;
    add_op(b, &op);
}

void rr_builder_layer_norm(struct rr_builder *b, uint32_t dst, uint32_t src,
                           const struct rr_norm *n, float eps)
{
    rr_builder_norm(b, dst, src,
                    &(struct rr_op_norm){ .gamma = n->gamma, .beta = n->beta, .eps = eps });
}

void rr_builder_glu(struct rr_builder *b, uint32_t dst, uint32_t src, enum rr_act act,
                    bool act_second)
{
    struct rr_op op = { .kind = RR_OP_GLU, .dst = dst, .src = src };

    op.u.glu = (struct rr_op_glu){ .act = act, .act_second = act_second };
    add_op(b, &op);
}

void rr_builder_rotary(struct rr_builder *b, uint32_t reg, const struct rr_op_rotary *r)
{
    struct rr_op op = { .kind = RR_OP_ROTARY, .dst = reg, .src = reg };

    op.u.rotary = *r;
    add_op(b, &op);
}

void rr_builder_attention(struct rr_builder *b, uint32_t dst, uint32_t src,
                          const struct rr_op_attention *a)
{
    struct rr_op op = { .kind = RR_OP_ATTENTION, .dst = dst, .src = src };

    op.u.attention = *a;
    add_op(b, &op);
}

int rr_builder_done(const struct rr_builder *b, uint32_t output, struct rr_program *out,
                    struct rr_error *err)
{
    memset(out, 0, sizeof(*out));
    if (b->failed) return rr_fail(err, RR_ENOMEM, "out of memory for the model's program");
    out->tensors = b->tensors;
    out->n_tensors = b->n_tensors;
    out->registers = b->registers;
    out->n_registers = b->n_registers;
    out->ops = b->ops;
    out->n_ops = b->n_ops;
    out->output = output;
    return RR_OK;
}
