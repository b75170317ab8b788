/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_kept.c - which values are kept in 16 bits between two operations.  Layer: backend (L3).
 * Threads: any.
 *
 * Results of a LINEAR or an ATTENTION are, where all that is done with them is to round them: in
 * bf16 what is multiplied as bf16, which changes no bit of a score; in f16 what is rounded to 8
 * bits next, whose error is a sixteenth of a step at most in rows with values around 0, such as
 * GELU's. */
#include "backend/cpu_backend.h"

static bool may_be_kept(const struct rr_cpu_step *s)
{
    if (s->rows != RR_ROWS_TOKENS || s->op.dst == s->op.src) return false;
    if (s->op.kind == RR_OP_ATTENTION) return s->op.dst != s->op.u.attention.kv;
    return s->op.kind == RR_OP_LINEAR && s->linear.narrow &&
           s->linear.packing != RR_CPU_PACK_I16 && s->op.u.linear.residual == RR_NONE;
}

static bool reads(const struct rr_op *op, uint32_t reg)
{
    return op->src == reg || (op->kind == RR_OP_LINEAR && op->u.linear.residual == reg) ||
           (op->kind == RR_OP_ATTENTION && op->u.attention.kv == reg);
}

/* In which form a step takes a register that it reads. */
static enum rr_dtype wanted(const struct rr_loaded *l, const struct rr_cpu_step *s, uint32_t reg)
{
    const struct rr_cpu_linear *w = &s->linear;

    if (s->op.kind == RR_OP_ATTENTION) return rr_cpu_attention_takes_bf16(l, s) ? RR_BF16 : RR_F32;
    if (s->op.kind != RR_OP_LINEAR || s->op.u.linear.residual == reg || !w->narrow) return RR_F32;
    if (w->packing == RR_CPU_PACK_I8) return RR_F16;
    if (w->packing == RR_CPU_PACK_I16) return RR_F32;
    return w->k % 2 ? RR_F32 : RR_BF16; /* an odd row would need a 0 behind it */
}

enum rr_dtype rr_cpu_kept(const struct rr_loaded *l, const struct rr_program *p, uint32_t i)
{
    uint32_t reg = p->ops[i].dst, j = i + 1;
    enum rr_dtype type = RR_F32;
    bool read = false;

    if (!may_be_kept(&l->steps[i])) return RR_F32;
    for (; j < p->n_ops; j++) {
        if (reads(&p->ops[j], reg)) {
            enum rr_dtype t = wanted(l, &l->steps[j], reg);

            if (read && t != type) return RR_F32;
            type = t;
            read = true;
        }
        if (p->ops[j].dst == reg) break; /* in place, too: then it was read as f32 */
    }
    return j == p->n_ops && p->output == reg ? RR_F32 : type;
}
