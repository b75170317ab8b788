/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_exec.c - one operation on some of its rows and columns.  Layer: backend (L3).
 * Threads: any number at once, on different shares. */
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/clock.h"

/* The sequence of the piece that token row `row` belongs to. */
static uint32_t sequence_at(const struct rr_cpu_frame *f, uint32_t row)
{
    uint32_t low = 0, high = f->n_sequences;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (rr_cpu_first_row(f, middle) <= row)
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
    float scale = s->op.u.embed.scale;

    for (uint32_t row = share->row0; row < share->row1; row++) {
        float *y = rr_cpu_at(f, dst, row);
        uint32_t t; /* token in the batch */

        while (row >= rr_cpu_first_row(f, sequence + 1)) sequence++;
        t = b->cu_seqlens[f->order[sequence]] + (row - rr_cpu_first_row(f, sequence));
        kern->convert(y, table_row(&s->word, b->ids[t]), s->word.dtype, s->width);
        if (scale != 0)
            for (uint32_t j = 0; j < s->width; j++) y[j] *= scale;
        if (s->position.data)
            kern->add_convert(y, table_row(&s->position, b->positions[t]), s->position.dtype,
                              s->width);
        if (s->type.data)
            kern->add_convert(y, table_row(&s->type, b->types[t]), s->type.dtype, s->width);
    }
}

/* Rows that a LINEAR is about to take, to who observes; those in 16 bits one by one. */
static void show(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_rows *x, uint32_t m,
                 float *scratch)
{
    uint32_t k = l->steps[step].linear.k;

    if (x->dtype == RR_F32) {
        l->observe(l->observe_user, step, x->at, x->ld, m);
        return;
    }
    for (uint32_t i = 0; i < m; i++) {
        l->device->kern->convert(scratch, rr_cpu_rows_after(x, i).at, x->dtype, k);
        l->observe(l->observe_user, step, scratch, k, 1);
    }
}

static struct rr_cpu_product product_of(const struct rr_cpu_step *s,
                                        const struct rr_cpu_place *place,
                                        const struct rr_cpu_frame *f,
                                        const struct rr_cpu_share *share)
{
    struct rr_cpu_product a = {
        .y = rr_cpu_rows(f, &place[RR_CPU_DST], share->row0),
        .x = rr_cpu_rows(f, &place[RR_CPU_SRC], share->row0),
        .m = share->row1 - share->row0,
        .n_begin = share->col0,
        .n_end = share->col1,
        .act = s->op.u.linear.act,
    };

    if (s->op.u.linear.residual != RR_NONE) {
        a.residual = rr_cpu_at(f, &place[RR_CPU_EXTRA], share->row0);
        a.ldr = place[RR_CPU_EXTRA].ld;
    }
    return a;
}

static void linear(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_place *place,
                   const struct rr_cpu_frame *f, const struct rr_cpu_share *share, float *scratch)
{
    const struct rr_cpu_step *s = &f->steps[step];
    struct rr_cpu_narrow room = { scratch, l->tuning.block_rows };
    struct rr_cpu_product a = product_of(s, place, f, share);

    if (l->observe && share->col0 == 0) /* the shares of other columns have the same rows */
        show(l, step, &a.x, a.m, scratch);
    if (f->narrow.base && rr_cpu_linear_converts(&s->linear, a.x.dtype))
        rr_cpu_linear_product(l->device->kern, &s->linear, &a, &f->narrow, share->row0);
    else
        rr_cpu_linear_multiply(l->device->kern, &s->linear, &a, &room,
                               f->times ? &f->times[step].convert : NULL);
}

void rr_cpu_exec_convert(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                         const struct rr_cpu_share *share)
{
    struct rr_cpu_rows x = rr_cpu_rows(f, &f->layout->places[step][RR_CPU_SRC], share->row0);
    uint64_t begin = f->times ? rr_now_ns() : 0, ns;

    rr_cpu_linear_convert(l->device->kern, &f->steps[step].linear, &f->narrow, share->row0, &x,
                          share->row1 - share->row0);
    if (!f->times) return;
    ns = rr_now_ns() - begin;
    f->times[step].all += ns;
    f->times[step].convert += ns;
}

static void norm(const struct rr_loaded *l, const struct rr_cpu_step *s,
                 const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                 const struct rr_cpu_share *share)
{
    const struct rr_cpu_place *dst = &place[RR_CPU_DST], *src = &place[RR_CPU_SRC];
    float *y = rr_cpu_at(f, dst, share->row0);
    const float *x = rr_cpu_at(f, src, share->row0);
    uint32_t rows = share->row1 - share->row0;

    if (s->op.u.norm.rms)
        l->device->kern->rmsnorm_f32(y, dst->ld, x, src->ld, s->gamma, rows, s->width,
                                     s->op.u.norm.eps);
    else
        l->device->kern->layernorm_f32(y, dst->ld, x, src->ld, s->gamma, s->beta, rows, s->width,
                                       s->op.u.norm.eps);
}

static void glu(const struct rr_loaded *l, const struct rr_cpu_step *s,
                const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                const struct rr_cpu_share *share)
{
    const struct rr_op_glu *op = &s->op.u.glu;
    const float *x = rr_cpu_at(f, &place[RR_CPU_SRC], share->row0);

    l->device->kern->glu_f32(rr_cpu_at(f, &place[RR_CPU_DST], share->row0), place[RR_CPU_DST].ld,
                             op->act_second ? x + s->width : x, op->act_second ? x : x + s->width,
                             place[RR_CPU_SRC].ld, share->row1 - share->row0, s->width, op->act);
}

/* FIRST, LAST, MEAN: rows of dst are sequences of the piece. */
static void pool(const struct rr_loaded *l, const struct rr_cpu_step *s,
                 const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                 const struct rr_cpu_share *share)
{
    const struct rr_cpu_place *src = &place[RR_CPU_SRC];

    for (uint32_t i = share->row0; i < share->row1; i++) {
        float *y = rr_cpu_at(f, &place[RR_CPU_DST], i);
        uint32_t begin = rr_cpu_first_row(f, i), end = rr_cpu_first_row(f, i + 1);

        memcpy(y, rr_cpu_at(f, src, s->op.kind == RR_OP_LAST ? end - 1 : begin),
               s->width * sizeof(float));
        if (s->op.kind != RR_OP_MEAN) continue;
        for (uint32_t row = begin + 1; row < end; row++)
            l->device->kern->add_convert(y, rr_cpu_at(f, src, row), RR_F32, s->width);
        for (uint32_t j = 0; j < s->width; j++) y[j] /= (float)(end - begin);
    }
}

/* Position of a row: a token, or the first or last token of a sequence. */
static uint32_t position_of(const struct rr_loaded *l, const struct rr_cpu_step *s,
                            const struct rr_cpu_frame *f, uint32_t row)
{
    const struct rr_batch *b = l->batch;
    uint32_t sequence, t;

    if (s->rows == RR_ROWS_TOKENS) {
        sequence = sequence_at(f, row);
        t = b->cu_seqlens[f->order[sequence]] + (row - rr_cpu_first_row(f, sequence));
    } else {
        t = s->op.u.rotary.last ? b->cu_seqlens[f->order[row] + 1] - 1
                                : b->cu_seqlens[f->order[row]];
    }
    return (uint32_t)b->positions[t];
}

static void rotary(const struct rr_loaded *l, const struct rr_cpu_step *s,
                   const struct rr_cpu_place *dst, const struct rr_cpu_frame *f,
                   const struct rr_cpu_share *share)
{
    const struct rr_op_rotary *op = &s->op.u.rotary;

    for (uint32_t row = share->row0; row < share->row1; row++) {
        float *x = rr_cpu_at(f, dst, row) + op->col;
        size_t angle = (size_t)position_of(l, s, f, row) * s->angles;

        if (s->gamma)
            l->device->kern->rmsnorm_f32(x, op->head_dim, x, op->head_dim, s->gamma, op->heads,
                                         op->head_dim, op->eps);
        l->device->kern->rotary_f32(x, op->heads, op->head_dim, s->cosines + angle,
                                    s->sines + angle, s->angles);
    }
}

static void attention(const struct rr_loaded *l, const struct rr_cpu_step *s,
                      const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                      const struct rr_cpu_share *share, float *scratch)
{
    struct rr_cpu_share one = *share;

    if (s->rows == RR_ROWS_TOKENS) {
        rr_cpu_attend(l, s, place, f, share, sequence_at(f, share->row0), scratch);
        return;
    }
    for (uint32_t i = share->row0; i < share->row1; i++) {
        one.row0 = i;
        one.row1 = i + 1;
        rr_cpu_attend(l, s, place, f, &one, i, scratch);
    }
}

void rr_cpu_exec(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                 const struct rr_cpu_share *share, float *scratch)
{
    const struct rr_cpu_step *s = &f->steps[step];
    const struct rr_cpu_place *place = f->layout->places[step];
    const struct rr_cpu_place *dst = &place[RR_CPU_DST];
    uint64_t begin = f->times ? rr_now_ns() : 0;

    switch (s->op.kind) {
    case RR_OP_EMBED:
        embed(l, s, dst, f, share);
        break;
    case RR_OP_FIRST:
    case RR_OP_LAST:
    case RR_OP_MEAN:
        pool(l, s, place, f, share);
        break;
    case RR_OP_LINEAR:
        linear(l, step, place, f, share, scratch);
        break;
    case RR_OP_NORM:
        norm(l, s, place, f, share);
        break;
    case RR_OP_GLU:
        glu(l, s, place, f, share);
        break;
    case RR_OP_ROTARY:
        rotary(l, s, dst, f, share);
        break;
    case RR_OP_ATTENTION:
        attention(l, s, place, f, share, scratch);
        break;
    }
    if (f->times) f->times[step].all += rr_now_ns() - begin;
}

bool rr_cpu_exec_pairs(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f)
{
    const struct rr_cpu_step *norm = &f->steps[step], *next = norm + 1;

    return norm->op.kind == RR_OP_NORM && !norm->op.u.norm.rms && !l->observe &&
           step + 1 < l->n_steps && next->op.kind == RR_OP_LINEAR &&
           next->op.src == norm->op.dst &&
           rr_cpu_linear_converts(&next->linear, f->layout->places[step + 1][RR_CPU_SRC].dtype);
}

void rr_cpu_exec_norm(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                      const struct rr_cpu_share *share, const struct rr_cpu_narrow *to,
                      uint32_t row)
{
    const struct rr_cpu_step *s = &f->steps[step];
    const struct rr_cpu_place *place = f->layout->places[step];
    struct rr_layernorm_i8 norm = {
        .y = rr_cpu_at(f, &place[RR_CPU_DST], share->row0),
        .x = rr_cpu_at(f, &place[RR_CPU_SRC], share->row0),
        .ldy = place[RR_CPU_DST].ld,
        .ldx = place[RR_CPU_SRC].ld,
        .gamma = s->gamma,
        .beta = s->beta,
        .m = share->row1 - share->row0,
        .n = s->width,
        .eps = s->op.u.norm.eps,
    };
    uint64_t begin = f->times ? rr_now_ns() : 0;

    rr_cpu_linear_convert_norm(l->device->kern, &s[1].linear, to, row, &norm);
    if (f->times) f->times[step].all += rr_now_ns() - begin;
}

void rr_cpu_exec_product(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                         const struct rr_cpu_share *share, const struct rr_cpu_narrow *from,
                         uint32_t row)
{
    const struct rr_cpu_step *s = &f->steps[step];
    struct rr_cpu_product product = product_of(s, f->layout->places[step], f, share);
    uint64_t begin = f->times ? rr_now_ns() : 0;

    rr_cpu_linear_product(l->device->kern, &s->linear, &product, from, row);
    if (f->times) f->times[step].all += rr_now_ns() - begin;
}
