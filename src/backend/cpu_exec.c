/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_exec.c - one operation on some of its rows and columns.  Layer: backend (L3).
 * Threads: any number at once, on different shares. */
#include <string.h>

#include "backend/cpu_backend.h"

/* Row `row` of a value: a token or a sequence of the piece. */
static float *at(const struct rr_cpu_frame *f, const struct rr_cpu_place *p, uint32_t row)
{
    if (p->area == RR_CPU_BLOCK) row -= f->block0;
    return f->area[p->area] + p->offset * f->room.rows[p->area] + (size_t)row * p->ld;
}

static uint32_t first_row(const struct rr_cpu_frame *f, uint32_t sequence)
{
    return f->starts[sequence] - f->starts[0];
}

/* The sequence of the piece that token row `row` belongs to. */
static uint32_t sequence_at(const struct rr_cpu_frame *f, uint32_t row)
{
    uint32_t low = 0, high = f->n_sequences;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (first_row(f, middle) <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static const char *table_row(const struct rr_cpu_table *t, int32_t i)
{
    return t->data + (size_t)i * t->row_bytes;
}

static void embed(const struct rr_loaded *l, const struct rr_cpu_step *s,
                  const struct rr_cpu_place *dst, const struct rr_cpu_frame *f,
                  const struct rr_cpu_share *share)
{
    const struct rr_kern *kern = l->device->kern;
    const struct rr_batch *b = l->batch;
    uint32_t sequence = sequence_at(f, share->row0);

    for (uint32_t row = share->row0; row < share->row1; row++) {
        float *y = at(f, dst, row);
        uint32_t t; /* token in the batch */

        while (row >= first_row(f, sequence + 1)) sequence++;
        t = b->cu_seqlens[f->order[sequence]] + (row - first_row(f, sequence));
        kern->convert(y, table_row(&s->word, b->ids[t]), s->word.dtype, s->width);
        kern->add_convert(y, table_row(&s->position, b->positions[t]), s->position.dtype,
                          s->width);
        if (s->type.data)
            kern->add_convert(y, table_row(&s->type, b->types[t]), s->type.dtype, s->width);
    }
}

static void linear(const struct rr_loaded *l, const struct rr_cpu_step *s,
                   const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                   const struct rr_cpu_share *share, float *scratch)
{
    struct rr_linear_f32 a = {
        .y = at(f, &place[RR_CPU_DST], share->row0),
        .x = at(f, &place[RR_CPU_SRC], share->row0),
        .ldy = place[RR_CPU_DST].ld,
        .ldx = place[RR_CPU_SRC].ld,
        .m = share->row1 - share->row0,
        .n = s->linear.n,
        .k = s->linear.k,
        .n_begin = share->col0,
        .n_end = share->col1,
        .act = s->op.u.linear.act,
    };

    if (s->op.u.linear.residual != RR_NONE) {
        a.residual = at(f, &place[RR_CPU_EXTRA], share->row0);
        a.ldr = place[RR_CPU_EXTRA].ld;
    }
    rr_cpu_linear_multiply(l->device->kern, &s->linear, &a, scratch);
}

/* Rows of dst are queries of `sequence`; heads [col0, col1). */
static void attend(const struct rr_loaded *l, const struct rr_cpu_step *s,
                   const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                   const struct rr_cpu_share *share, uint32_t sequence, float *scratch)
{
    const struct rr_op_attention *op = &s->op.u.attention;
    const float *kv = at(f, &place[RR_CPU_EXTRA], first_row(f, sequence));
    struct rr_attention_f32 a = {
        .ldy = place[RR_CPU_DST].ld,
        .ldq = place[RR_CPU_SRC].ld,
        .ldk = place[RR_CPU_EXTRA].ld,
        .ldv = place[RR_CPU_EXTRA].ld,
        .n_q = share->row1 - share->row0,
        .n_kv = f->starts[sequence + 1] - f->starts[sequence],
        .head_dim = op->head_dim,
        .scale = op->scale,
        .scratch = scratch,
    };

    for (uint32_t head = share->col0; head < share->col1; head++) {
        size_t col = (size_t)head * op->head_dim;

        a.y = at(f, &place[RR_CPU_DST], share->row0) + col;
        a.q = at(f, &place[RR_CPU_SRC], share->row0) + op->q_col + col;
        a.k = kv + op->k_col + col;
        a.v = kv + op->v_col + col;
        l->device->kern->attention_f32(&a);
    }
}

static void attention(const struct rr_loaded *l, const struct rr_cpu_step *s,
                      const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                      const struct rr_cpu_share *share, float *scratch)
{
    struct rr_cpu_share one = *share;

    if (s->rows == RR_ROWS_TOKENS) {
        attend(l, s, place, f, share, sequence_at(f, share->row0), scratch);
        return;
    }
    for (uint32_t i = share->row0; i < share->row1; i++) {
        one.row0 = i;
        one.row1 = i + 1;
        attend(l, s, place, f, &one, i, scratch);
    }
}

void rr_cpu_exec(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                 const struct rr_cpu_share *share, float *scratch)
{
    const struct rr_cpu_step *s = &l->steps[step];
    const struct rr_cpu_place *place = f->layout->places[step];
    const struct rr_cpu_place *dst = &place[RR_CPU_DST], *src = &place[RR_CPU_SRC];

    switch (s->op.kind) {
    case RR_OP_EMBED:
        embed(l, s, dst, f, share);
        break;
    case RR_OP_FIRST:
        for (uint32_t i = share->row0; i < share->row1; i++)
            memcpy(at(f, dst, i), at(f, src, first_row(f, i)), s->width * sizeof(float));
        break;
    case RR_OP_LINEAR:
        linear(l, s, place, f, share, scratch);
        break;
    case RR_OP_NORM:
        l->device->kern->layernorm_f32(at(f, dst, share->row0), dst->ld, at(f, src, share->row0),
                                       src->ld, s->gamma, s->beta, share->row1 - share->row0,
                                       s->width, s->op.u.norm.eps);
        break;
    case RR_OP_ATTENTION:
        attention(l, s, place, f, share, scratch);
        break;
    }
}
