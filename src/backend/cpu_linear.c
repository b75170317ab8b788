/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_linear.c - the weights of linear layers: in which type they are stored, how they get there
 * from the model's tensors, and the multiplication.  Layer: backend (L3).
 * Threads: packing uses the device's workers; multiplying any number at once.
 *
 * Layers that see one row per sequence (the last layer's, the head) stay in f32 whatever was asked
 * for: they cost next to nothing, and what they round goes straight into the logit. */
#include <math.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/clock.h"
#include "base/file.h"
#include "cpu/weights.h"

#define PACK_BYTES (1u << 20) /* of f32 weights: a share of the packing work */
#define DROP_BYTES (1u << 20) /* smaller tensors may stay resident */

size_t rr_cpu_row_bytes(const struct rr_tensor *t)
{
    return (size_t)t->shape[t->rank - 1] * (t->dtype == RR_F32 ? 4 : t->dtype == RR_I8 ? 1 : 2);
}

/* Whether inputs are to be taken in 16 bits; cpu_check has seen that all parts agree. */
static bool is_fine(const struct rr_program *p, const struct rr_op *op)
{
    const struct rr_tensor *t = &p->tensors[op->u.linear.weight[0]];

    return t->dtype == RR_I8 && t->fine;
}

/* The arithmetic of a LINEAR: what the device was opened with, but where the program is mixed.
 * Layers that are kept beside int8 are kept so that scores stay near f32's. */
static enum rr_cpu_packing choose_packing(const struct rr_device *d, const struct rr_program *p,
                                          const struct rr_op *op)
{
    const struct rr_op_linear *l = &op->u.linear;
    uint32_t i8 = 0, bf16 = 0;

    if (p->registers[op->dst].rows != RR_ROWS_TOKENS) return RR_CPU_PACK_F32;
    if (d->packing == RR_CPU_PACK_BF16)
        return d->kern->linear_i16 ? RR_CPU_PACK_I16 : RR_CPU_PACK_BF16;
    if (d->packing != RR_CPU_PACK_I8 || !p->mixed) return d->packing;
    for (uint32_t j = 0; j < l->n_parts; j++) {
        i8 += p->tensors[l->weight[j]].dtype == RR_I8;
        bf16 += p->tensors[l->weight[j]].dtype == RR_BF16;
    }
    /* Where whole numbers of 16 bits cost little more than bytes, weights of those have limits that
     * stored ones may not keep to. */
    if (i8 == l->n_parts)
        return is_fine(p, op) && d->kern->linear_i16 && d->kern->i8_wtop < RR_I8_WFREE
                   ? RR_CPU_PACK_I16
                   : RR_CPU_PACK_I8;
    if (bf16 != l->n_parts) return RR_CPU_PACK_F32;
    return d->kern->i16 ? RR_CPU_PACK_I16 : RR_CPU_PACK_BF16;
}

/* The factors of the inputs; NULL: none.  cpu_check has seen that all parts agree. */
static const float *smooth_of(const struct rr_program *p, const struct rr_op *op)
{
    const struct rr_tensor *t = &p->tensors[op->u.linear.weight[0]];

    return t->dtype == RR_I8 ? t->smooth : NULL;
}

void rr_cpu_linear_init(struct rr_cpu_linear *w, const struct rr_device *d,
                        const struct rr_program *p, const struct rr_op *op)
{
    w->packing = choose_packing(d, p, op);
    w->n = rr_cpu_width(p, op->dst);
    w->k = rr_cpu_width(p, op->src);
    w->smoothed = w->packing == RR_CPU_PACK_I8 && smooth_of(p, op);
    w->fine = w->packing == RR_CPU_PACK_I8 && is_fine(p, op);
    w->narrow = w->packing == RR_CPU_PACK_I8 || w->packing == RR_CPU_PACK_I16 ||
                (w->packing == RR_CPU_PACK_BF16 && d->kern->bf16_x == RR_BF16);
    w->nr = w->packing == RR_CPU_PACK_I8    ? d->kern->i8_nr
            : w->packing == RR_CPU_PACK_F32 ? d->kern->f32_nr
            : w->packing == RR_CPU_PACK_I16 ? d->kern->i16->bf16_nr
                                            : d->kern->bf16_nr;
}

static size_t panel_bytes(const struct rr_cpu_linear *w)
{
    if (w->packing == RR_CPU_PACK_I8) return rr_weights_bytes_i8(w->nr, w->n, w->k);
    if (w->packing == RR_CPU_PACK_F32) return rr_weights_bytes_f32(w->nr, w->n, w->k);
    return rr_weights_bytes_bf16(w->nr, w->n, w->k);
}

void rr_cpu_linear_place(struct rr_cpu_linear *w, struct rr_cpu_bump *b)
{
    size_t n = ((size_t)w->n + w->nr - 1) / w->nr * w->nr;

    w->panels = rr_cpu_take(b, panel_bytes(w), 1);
    w->bias = rr_cpu_take(b, n, sizeof(float));
    if (w->packing != RR_CPU_PACK_I8 && w->packing != RR_CPU_PACK_I16) return;
    w->scale = rr_cpu_take(b, n, sizeof(float));
    w->sum = rr_cpu_take(b, n, sizeof(float));
    if (w->packing == RR_CPU_PACK_I16) w->top = rr_cpu_take(b, 1, sizeof(float));
    if (w->smoothed) w->smooth = rr_cpu_take(b, w->k, sizeof(float));
}

/* ---- packing -------------------------------------------------------------------------------- */

struct packing { /* the work of packing, cut into shares of whole panels */
    struct rr_loaded *l;
    const struct rr_program *p;
    _Atomic uint32_t next;
};

static uint32_t share_rows(const struct rr_cpu_linear *w)
{
    size_t panels = PACK_BYTES / ((size_t)w->nr * w->k * sizeof(float));

    return (uint32_t)RR_MAX(panels, 1) * w->nr;
}

/* Row `row` of a tensor in f32. */
static void widen_row(const struct rr_kern *kern, float *out, const struct rr_tensor *t,
                      uint32_t row, uint32_t k)
{
    const char *src = (const char *)t->data + row * rr_cpu_row_bytes(t);

    if (t->dtype != RR_I8) {
        kern->convert(out, src, t->dtype, k);
        return;
    }
    for (uint32_t j = 0; j < k; j++)
        out[j] = (float)((const int8_t *)src)[j] * t->scale[row] * (t->smooth ? t->smooth[j] : 1);
}

/* Packs row `row` of a tensor as column o of the matrix. */
static void pack_row(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                     const struct rr_tensor *t, uint32_t row, uint32_t o, float *scratch)
{
    int8_t *q = (int8_t *)(scratch + w->k);

    if (w->packing == RR_CPU_PACK_I8 && t->dtype == RR_I8) {
        const int8_t *stored = (const int8_t *)t->data + (size_t)row * w->k;

        if (rr_weights_within(stored, w->k, kern->i8_wtop)) {
            w->scale[o] = t->scale[row];
            rr_weights_pack_i8(w->panels, kern->packed_nr, w->sum, stored, o, 1, w->k);
            return;
        }
        /* Made for another level: quantized again, within the limits of this one. */
        for (uint32_t j = 0; j < w->k; j++) scratch[j] = (float)stored[j] * t->scale[row];
    } else {
        widen_row(kern, scratch, t, row, w->k);
    }
    if (w->packing == RR_CPU_PACK_F32) {
        kern->pack_f32(w->panels, scratch, RR_F32, o, 1, w->k);
    } else if (w->packing == RR_CPU_PACK_BF16) {
        rr_weights_pack_bf16(w->panels, kern->packed_nr, scratch, o, 1, w->k);
    } else if (w->packing == RR_CPU_PACK_I16) {
        int16_t *p = (int16_t *)(scratch + w->k);

        if (t->dtype != RR_I8) { /* through bf16, so that a folder in it has the same bits */
            kern->round_bf16((uint16_t *)p, w->k, scratch, w->k, 1, w->k);
            kern->convert(scratch, p, RR_BF16, w->k);
        }
        w->scale[o] = rr_weights_quantize_i16(p, &w->sum[o], scratch, w->k);
        rr_weights_pack_i16(w->panels, kern->i16->packed_nr, p, o, 1, w->k);
    } else {
        w->scale[o] = rr_weights_quantize_row(q, scratch, w->k, kern->i8_wtop);
        rr_weights_pack_i8(w->panels, kern->packed_nr, w->sum, q, o, 1, w->k);
    }
}

/* Packs columns [begin, end) of the stacked matrix. */
static void pack_columns(const struct packing *work, const struct rr_cpu_step *s, uint32_t begin,
                         uint32_t end, float *scratch)
{
    const struct rr_kern *kern = work->l->device->kern;
    const struct rr_op_linear *op = &s->op.u.linear;
    uint32_t first = 0; /* column of the stack where the part begins */

    for (uint32_t j = 0; j < op->n_parts; j++) {
        const struct rr_tensor *t = &work->p->tensors[op->weight[j]];
        uint32_t last = first + t->shape[0];
        uint32_t a = RR_MAX(begin, first), b = RR_MIN(end, last);
        size_t row = rr_cpu_row_bytes(t);

        if (a < b) {
            const char *src = (const char *)t->data + (a - first) * row;

            if (s->linear.packing == RR_CPU_PACK_F32 && t->dtype != RR_I8)
                kern->pack_f32(s->linear.panels, src, t->dtype, a, b - a, s->linear.k);
            else
                for (uint32_t o = a; o < b; o++)
                    pack_row(kern, &s->linear, t, o - first, o, scratch);
            /* Not needed again: without this the file would stay resident beside the copy. */
            if (t->in_file && t->shape[0] * row >= DROP_BYTES) rr_file_drop(src, (b - a) * row);
        }
        first = last;
    }
}

static void pack_worker(void *user, uint32_t worker)
{
    struct packing *w = user;
    float *scratch = w->l->scratch + worker * w->l->scratch_floats;
    uint32_t mine, seen = 0;

    mine = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < w->l->n_steps; i++) {
        const struct rr_cpu_step *s = &w->l->steps[i];
        uint32_t rows, shares;

        if (s->op.kind != RR_OP_LINEAR) continue;
        rows = share_rows(&s->linear);
        shares = (s->linear.n + rows - 1) / rows;
        for (; mine < seen + shares;
             mine = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed)) {
            uint32_t begin = (mine - seen) * rows;

            pack_columns(w, s, begin, RR_MIN(begin + rows, s->linear.n), scratch);
        }
        seen += shares;
    }
}

/* The most steps of a row with which the sum of no channel is beyond 31 bits. */
static void choose_top(struct rr_cpu_linear *w)
{
    float most = 1;

    for (uint32_t o = 0; o < w->n; o++) most = RR_MAX(most, w->sum[o]);
    *w->top = floorf(RR_MIN((float)INT16_MAX, (float)RR_I16_ROW * RR_I16_CHANNEL / most));
}

void rr_cpu_pack(struct rr_loaded *l, const struct rr_program *p)
{
    struct packing packing = { .l = l, .p = p };

    for (uint32_t i = 0; i < l->n_steps; i++) {
        struct rr_cpu_linear *w = &l->steps[i].linear;

        if (w->smoothed) memcpy(w->smooth, smooth_of(p, &l->steps[i].op), w->k * sizeof(float));
    }
    /* Beside models that serve, one thread packs: they are not held up, and neither is this. */
    rr_pool_run_or_alone(l->device->pool, pack_worker, &packing);
    for (uint32_t i = 0; i < l->n_steps; i++)
        if (l->steps[i].linear.packing == RR_CPU_PACK_I16) choose_top(&l->steps[i].linear);
}

/* ---- multiplying ---------------------------------------------------------------------------- */

static size_t bf16_stride(uint32_t k)
{
    return ((size_t)k + 31) / 32 * 32 + 32; /* not a multiple of 4096 bytes */
}

size_t rr_cpu_linear_narrow(const struct rr_cpu_linear *w)
{
    if (!w->narrow) return 0;
    if (w->packing == RR_CPU_PACK_I8)
        return (w->fine ? 2 : 1) * rr_i8_stride(w->k) + 2 * sizeof(float);
    return bf16_stride(w->k) * sizeof(uint16_t) +
           (w->packing == RR_CPU_PACK_I16 ? sizeof(float) : 0);
}

size_t rr_cpu_linear_scratch(const struct rr_cpu_linear *w, uint32_t rows)
{
    size_t pack = (size_t)w->k + w->k / 2 + 32; /* a row in f32, then in up to 16 bits */

    return RR_MAX(rows * rr_cpu_linear_narrow(w) / sizeof(float), pack);
}

/* Rows from `row` on: all bytes first, then the scales, then the offsets. */
static struct rr_rows_i8 rows_i8(const struct rr_cpu_linear *w, const struct rr_cpu_narrow *n,
                                 uint32_t row)
{
    struct rr_rows_i8 x = { .ld = rr_i8_stride(w->k), .fine = w->fine };
    float *scale = n->base + rr_i8_rows(&x, n->rows) * x.ld / sizeof(float);

    x.q = (int8_t *)n->base + rr_i8_rows(&x, row) * x.ld;
    x.scale = scale + row;
    x.offset = scale + n->rows + row;
    return x;
}

/* The same, scales behind all numbers. */
static struct rr_rows_i16 rows_i16(const struct rr_cpu_narrow *n, uint32_t row, uint32_t k)
{
    size_t ld = bf16_stride(k);
    uint16_t *q = (uint16_t *)n->base;

    return (struct rr_rows_i16){ q + row * ld, (float *)(q + n->rows * ld) + row, ld };
}

void rr_cpu_linear_convert(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                           const struct rr_cpu_narrow *to, uint32_t row,
                           const struct rr_cpu_rows *x, uint32_t m)
{
    if (w->packing == RR_CPU_PACK_I8) {
        struct rr_rows_i8 rows = rows_i8(w, to, row);

        kern->quantize_i8(&rows, x->at, x->dtype, x->ld, w->smooth, m, w->k);
    } else if (w->packing == RR_CPU_PACK_I16) {
        struct rr_rows_i16 rows = rows_i16(to, row, w->k);

        kern->i16->quantize_i16(&rows, x->at, x->ld, *w->top, m, w->k);
    } else {
        size_t ld = bf16_stride(w->k);

        kern->round_bf16((uint16_t *)to->base + row * ld, ld, x->at, x->ld, m, w->k);
    }
}

#define NORM_ROWS 4 /* which stay in the L1 cache until they are converted */

void rr_cpu_linear_convert_norm(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                                const struct rr_cpu_narrow *to, uint32_t row,
                                struct rr_layernorm_i8 *norm)
{
    if (w->packing == RR_CPU_PACK_I8) {
        norm->out = rows_i8(w, to, row);
        norm->smooth = w->smooth;
        kern->layernorm_i8(norm);
        return;
    }
    for (uint32_t i = 0; i < norm->m; i += NORM_ROWS) {
        uint32_t m = RR_MIN(norm->m - i, (uint32_t)NORM_ROWS);
        struct rr_cpu_rows y = { norm->y + i * norm->ldy, norm->ldy, RR_F32 };

        kern->layernorm_f32(y.at, y.ld, norm->x + i * norm->ldx, norm->ldx, norm->gamma,
                            norm->beta, m, norm->n, norm->eps);
        rr_cpu_linear_convert(kern, w, to, row + i, &y, m);
    }
}

/* y as f32 or half of it. */
static struct rr_half half_of(const struct rr_cpu_rows *y)
{
    return (struct rr_half){ y->dtype == RR_F32 ? NULL : y->at, y->dtype };
}

static void product_f32(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                        const struct rr_cpu_product *a)
{
    struct rr_linear_f32 b = {
        .y = a->y.at,
        .x = a->x.at,
        .panels = w->panels,
        .bias = w->bias,
        .residual = a->residual,
        .ldy = a->y.ld,
        .ldx = a->x.ld,
        .ldr = a->ldr,
        .m = a->m,
        .n = w->n,
        .k = w->k,
        .n_begin = a->n_begin,
        .n_end = a->n_end,
        .act = a->act,
    };

    kern->linear_f32(&b);
}

static void product_i8(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                       const struct rr_cpu_product *a, const struct rr_rows_i8 *x)
{
    struct rr_linear_i8 b = {
        .y = a->y.at,
        .half = half_of(&a->y),
        .x = *x,
        .panels = w->panels,
        .w_scale = w->scale,
        .w_sum = w->sum,
        .bias = w->bias,
        .residual = a->residual,
        .ldy = a->y.ld,
        .ldr = a->ldr,
        .m = a->m,
        .n = w->n,
        .k = w->k,
        .n_begin = a->n_begin,
        .n_end = a->n_end,
        .act = a->act,
    };

    kern->linear_i8(&b);
}

static void product_i16(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                        const struct rr_cpu_product *a, const struct rr_rows_i16 *x)
{
    struct rr_linear_i16 b = {
        .y = a->y.at,
        .x = *x,
        .panels = w->panels,
        .w_scale = w->scale,
        .bias = w->bias,
        .residual = a->residual,
        .ldy = a->y.ld,
        .ldr = a->ldr,
        .m = a->m,
        .n = w->n,
        .k = w->k,
        .n_begin = a->n_begin,
        .n_end = a->n_end,
        .act = a->act,
    };

    kern->i16->linear_i16(&b);
}

/* x: of type bf16_x. */
static void product_bf16(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                         const struct rr_cpu_product *a, const void *x, size_t ldx)
{
    struct rr_linear_bf16 b = {
        .y = a->y.at,
        .half = half_of(&a->y),
        .x = x,
        .x_dtype = kern->bf16_x,
        .panels = w->panels,
        .bias = w->bias,
        .residual = a->residual,
        .ldy = a->y.ld,
        .ldx = ldx,
        .ldr = a->ldr,
        .m = a->m,
        .n = w->n,
        .k = w->k,
        .n_begin = a->n_begin,
        .n_end = a->n_end,
        .act = a->act,
    };

    kern->linear_bf16(&b);
}

void rr_cpu_linear_product(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                           const struct rr_cpu_product *a, const struct rr_cpu_narrow *from,
                           uint32_t row)
{
    if (w->packing == RR_CPU_PACK_I8) {
        struct rr_rows_i8 x = rows_i8(w, from, row);

        product_i8(kern, w, a, &x);
    } else if (w->packing == RR_CPU_PACK_I16) {
        struct rr_rows_i16 x = rows_i16(from, row, w->k);

        product_i16(kern, w, a, &x);
    } else {
        size_t ld = bf16_stride(w->k);

        product_bf16(kern, w, a, (const uint16_t *)from->base + row * ld, ld);
    }
}

/* Block by block: converts rows and multiplies them. */
static void multiply_converted(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                               const struct rr_cpu_product *a, const struct rr_cpu_narrow *room,
                               uint64_t *convert_ns)
{
    struct rr_cpu_product b = *a;

    for (uint32_t row = 0; row < a->m; row += room->rows) {
        uint64_t begin = convert_ns ? rr_now_ns() : 0;

        b.m = RR_MIN(a->m - row, room->rows);
        b.y = rr_cpu_rows_after(&a->y, row);
        b.x = rr_cpu_rows_after(&a->x, row);
        b.residual = a->residual ? a->residual + row * a->ldr : NULL;
        rr_cpu_linear_convert(kern, w, room, 0, &b.x, b.m);
        if (convert_ns) *convert_ns += rr_now_ns() - begin;
        rr_cpu_linear_product(kern, w, &b, room, 0);
    }
}

void rr_cpu_linear_multiply(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                            const struct rr_cpu_product *a, const struct rr_cpu_narrow *room,
                            uint64_t *convert_ns)
{
    if (rr_cpu_linear_converts(w, a->x.dtype))
        multiply_converted(kern, w, a, room, convert_ns);
    else if (w->packing == RR_CPU_PACK_BF16)
        product_bf16(kern, w, a, a->x.at, a->x.ld);
    else
        product_f32(kern, w, a);
}
