/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_attention.c - attention of some query rows, head by head: shared keys, masks, relative
 * positions.  Layer: backend (L3).  Threads: any number at once, on different shares.
 *
 * Plain heads go to the kernel whole.  Where a row does not see all keys, queries are taken in
 * blocks on a grid that begins with the sequence, and a block is given the keys that any row of its
 * grid cell may see.  So which keys a row is summed over, and in which order, depends on the row
 * alone, not on how the work was cut. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/err.h"

enum { GRID = 64 };

static bool is_masked(const struct rr_cpu_step *s)
{
    const struct rr_op_attention *a = &s->op.u.attention;

    return a->relative.on || a->window || (a->causal && s->rows == RR_ROWS_TOKENS) ||
           (a->causal && !a->last);
}

static uint32_t padded_span(const struct rr_op_attention *a, const struct rr_kern *kern)
{
    return (2 * a->relative.span + kern->f32_nr - 1) / kern->f32_nr * kern->f32_nr;
}

static uint32_t round16(uint32_t n)
{
    return (n + 15) / 16 * 16;
}

/* Kernel scratch, then the bias of a block, its scores by distance, those of all keys. */
size_t rr_cpu_attention_scratch(const struct rr_cpu_step *s, const struct rr_kern *kern,
                                uint32_t length)
{
    const struct rr_op_attention *a = &s->op.u.attention;
    size_t floats = rr_attention_f32_scratch(length, a->head_dim);

    floats = (floats + 15) / 16 * 16;
    if (is_masked(s)) floats += (size_t)GRID * round16(length);
    if (a->relative.on) floats += ((size_t)GRID + length) * padded_span(a, kern);
    return floats;
}

/* ---- relative positions -------------------------------------------------------------------- */

/* Row of the table for a distance, as the reference computes it in f32. */
static uint32_t bucket_of(const struct rr_relative *r, int32_t distance)
{
    int32_t mid = (int32_t)(r->buckets / 2), x = distance,
            far = distance < 0 ? -distance : distance;
    int32_t span = (int32_t)r->span;

    if (r->buckets && far > mid) {
        float log_far = logf((float)far / (float)mid);
        float log_max = logf((float)(r->max_distance - 1) / (float)mid);

        x = (int32_t)ceilf(log_far / log_max * (float)(mid - 1)) + mid;
        if (distance < 0) x = -x;
    }
    x = RR_MAX(-span, RR_MIN(x, span - 1));
    return (uint32_t)(x + span);
}

void rr_cpu_relative_place(struct rr_cpu_step *s, const struct rr_kern *kern, uint32_t max_length,
                           struct rr_cpu_bump *b)
{
    const struct rr_op_attention *a = &s->op.u.attention;
    struct rr_cpu_relative *r = &s->relative;

    if (!a->relative.on) return;
    r->head_floats = ((size_t)padded_span(a, kern) * a->head_dim + 15) / 16 * 16;
    if (a->relative.content_position)
        r->keys = rr_cpu_take(b, a->heads * r->head_floats, sizeof(float));
    if (a->relative.position_content)
        r->queries = rr_cpu_take(b, a->heads * r->head_floats, sizeof(float));
    r->bucket = rr_cpu_take(b, 2 * (size_t)max_length - 1, sizeof(*r->bucket));
    r->zero = rr_cpu_take(b, padded_span(a, kern), sizeof(float));
}

struct projection { /* what one projection of the table needs, in one allocation */
    float *rows;    /* [2 span, in] normalised table */
    float *panels;  /* weights, packed */
    float *bias;    /* [width, rounded up] */
    float *out;     /* [2 span, width, rounded up] */
};

/* out = rows W^T + bias, then each head's columns become rows of its own packed matrix. */
static void project(const struct rr_cpu_step *s, const struct rr_kern *kern,
                    const struct rr_tensor *weight, const struct rr_tensor *bias,
                    const struct projection *p, float *heads)
{
    const struct rr_op_attention *a = &s->op.u.attention;
    uint32_t in = weight->shape[1], width = weight->shape[0], rows = 2 * a->relative.span;
    uint32_t nr = kern->f32_nr, padded = (width + nr - 1) / nr * nr;
    struct rr_linear_f32 linear = { .y = p->out,
                                    .x = p->rows,
                                    .panels = p->panels,
                                    .bias = p->bias,
                                    .ldy = padded,
                                    .ldx = in,
                                    .m = rows,
                                    .n = width,
                                    .k = in,
                                    .n_end = width };
    float *head = p->panels; /* after the product, one head's rows without gaps */

    memset(p->panels, 0, (size_t)padded * in * sizeof(float));
    memset(p->bias, 0, padded * sizeof(float));
    kern->pack_f32(p->panels, weight->data, weight->dtype, 0, width, in);
    if (bias) kern->convert(p->bias, bias->data, bias->dtype, width);
    kern->linear_f32(&linear);
    for (uint32_t h = 0; h < a->heads; h++, heads += s->relative.head_floats) {
        for (uint32_t i = 0; i < rows; i++)
            memcpy(head + (size_t)i * a->head_dim,
                   p->out + (size_t)i * padded + (size_t)h * a->head_dim,
                   a->head_dim * sizeof(float));
        kern->pack_f32(heads, head, RR_F32, 0, rows, a->head_dim);
    }
}

int rr_cpu_relative_fill(struct rr_cpu_step *s, const struct rr_kern *kern,
                         const struct rr_tensor *tensors, uint32_t max_length, struct rr_error *err)
{
    const struct rr_op_attention *a = &s->op.u.attention;
    const struct rr_relative *r = &a->relative;
    const struct rr_tensor *table = &tensors[r->table];
    uint32_t rows = 2 * r->span, in = table->shape[1], width = a->heads * a->head_dim;
    size_t padded = (width + kern->f32_nr - 1) / kern->f32_nr * kern->f32_nr;
    size_t panels = RR_MAX(padded * in, (size_t)rows * a->head_dim);
    float *memory = rr_calloc(
        RR_MEM_MODEL, rows * (size_t)in + panels + padded + rows * padded + 2 * (size_t)in + 64,
        sizeof(float));
    float *base = (float *)(((uintptr_t)memory + 63) / 64 * 64);
    struct projection p = { .panels = base, .rows = base + panels };
    float *gamma = p.rows + rows * (size_t)in, *beta = gamma + in;

    if (!memory) return rr_fail(err, RR_ENOMEM, "out of memory for relative positions");
    p.bias = beta + in;
    p.out = p.bias + padded;
    kern->convert(p.rows, table->data, table->dtype, (size_t)rows * in);
    if (r->gamma != RR_NONE) {
        kern->convert(gamma, tensors[r->gamma].data, tensors[r->gamma].dtype, in);
        kern->convert(beta, tensors[r->beta].data, tensors[r->beta].dtype, in);
        kern->layernorm_f32(p.rows, in, p.rows, in, gamma, beta, rows, in, r->eps);
    }
    if (r->content_position)
        project(s, kern, &tensors[r->key_weight],
                r->key_bias == RR_NONE ? NULL : &tensors[r->key_bias], &p, s->relative.keys);
    if (r->position_content)
        project(s, kern, &tensors[r->query_weight],
                r->query_bias == RR_NONE ? NULL : &tensors[r->query_bias], &p, s->relative.queries);
    for (uint32_t i = 0; i < 2 * max_length - 1; i++)
        s->relative.bucket[i] = bucket_of(r, (int32_t)i - (int32_t)(max_length - 1));
    rr_free(memory);
    return RR_OK;
}

/* ---- one head ------------------------------------------------------------------------------ */

struct head { /* what the blocks of one head share */
    const struct rr_loaded *l;
    const struct rr_cpu_step *s;
    rr_attention_f32_fn *attend;
    struct rr_attention_f32 a; /* of the whole sequence; q of query row 0 */
    struct rr_cpu_rows y;      /* of all heads, query row 0 */
    uint32_t number;
    float *bias, *by_query, *by_key; /* scratch */
    uint32_t span;                   /* padded columns of by_query and by_key */
};

/* y[m, 2 span] = x . table^T of this head. */
static void by_distance(const struct head *h, float *y, const float *x, size_t ldx, uint32_t m,
                        const float *panels)
{
    const struct rr_op_attention *op = &h->s->op.u.attention;
    const struct rr_cpu_relative *r = &h->s->relative;
    struct rr_linear_f32 a = { .y = y,
                               .x = x,
                               .panels = panels + h->number * r->head_floats,
                               .bias = r->zero,
                               .ldy = h->span,
                               .ldx = ldx,
                               .m = m,
                               .n = 2 * op->relative.span,
                               .k = op->head_dim,
                               .n_end = 2 * op->relative.span };

    h->l->device->kern->linear_f32(&a);
}

/* The terms of query i (in a block whose query 0 is `first`) for keys [key0, key1). */
static void add_relative(const struct head *h, float *bias, uint32_t in_block, uint32_t query,
                         uint32_t key0, uint32_t key1)
{
    const struct rr_relative *r = &h->s->op.u.attention.relative;
    const uint32_t *bucket = h->s->relative.bucket + query + h->l->limits.max_length - 1;
    const float *q = h->by_query + (size_t)in_block * h->span;

    for (uint32_t j = key0; j < key1; j++) {
        uint32_t row = *(bucket - j);
        float sum = r->content_position ? q[row] : 0.0f;

        if (r->position_content) sum += h->by_key[(size_t)j * h->span + row];
        bias[j - key0] += h->a.scale * sum;
    }
}

/* Where the head's results of rows from `row` on go. */
static void set_results(struct rr_attention_f32 *a, const struct head *h, uint32_t row)
{
    struct rr_cpu_rows y = rr_cpu_rows_after(&h->y, row);
    size_t col = (size_t)h->number * a->head_dim;

    if (y.dtype == RR_F32)
        a->y = (float *)y.at + col;
    else
        a->half = (struct rr_half){ (uint16_t *)y.at + col, y.dtype };
}

/* Queries [row0, row1) of the sequence, all in one cell of the grid, y and q at row0 - base. */
static void attend_block(const struct head *h, uint32_t row0, uint32_t row1, uint32_t base)
{
    const struct rr_op_attention *op = &h->s->op.u.attention;
    uint32_t cell = row0 / GRID * GRID, n = h->a.n_kv, key0 = 0, key1 = n;
    struct rr_attention_f32 a = h->a;

    if (op->window && cell > op->window) key0 = (cell - op->window) / GRID * GRID;
    if (op->causal)
        key1 = RR_MIN(n, cell + GRID);
    else if (op->window && n - RR_MIN(n, cell + GRID) > op->window)
        key1 = cell + GRID + op->window;
    set_results(&a, h, row0 - base);
    a.q += (row0 - base) * a.ldq;
    a.k += key0 * a.ldk;
    a.v += key0 * a.ldv;
    a.n_q = row1 - row0;
    a.n_kv = key1 - key0;
    a.bias = h->bias;
    a.ldb = round16(key1 - key0);
    if (op->relative.on && op->relative.content_position)
        by_distance(h, h->by_query, a.q, a.ldq, a.n_q, h->s->relative.keys);
    for (uint32_t i = row0; i < row1; i++) {
        float *bias = h->bias + (i - row0) * a.ldb;

        for (uint32_t j = key0; j < key1; j++) {
            bool hidden =
                (op->causal && j > i) || (op->window && (j > i ? j - i : i - j) > op->window);

            bias[j - key0] = hidden ? -FLT_MAX : 0.0f;
        }
        if (op->relative.on) add_relative(h, bias, i - row0, i, key0, key1);
    }
    h->attend(&a);
}

/* Rows of dst are sequences: the query is the first or the last token. */
static void attend_rows(struct head *h, const struct rr_cpu_share *share, uint32_t begin)
{
    const struct rr_op_attention *op = &h->s->op.u.attention;
    uint32_t row0 = share->row0 - begin, row1 = share->row1 - begin, base = row0;

    if (h->s->rows == RR_ROWS_SEQUENCES) {
        row0 = base = op->last ? h->a.n_kv - 1 : 0;
        row1 = row0 + 1;
    }
    if (!is_masked(h->s)) {
        h->a.n_q = row1 - row0;
        set_results(&h->a, h, 0);
        h->attend(&h->a);
        return;
    }
    if (op->relative.on && op->relative.position_content)
        by_distance(h, h->by_key, h->a.k, h->a.ldk, h->a.n_kv, h->s->relative.queries);
    while (row0 < row1) {
        uint32_t end = RR_MIN(row1, row0 / GRID * GRID + GRID);

        attend_block(h, row0, end, base);
        row0 = end;
    }
}

/* Narrow where linear layers are, too, and the level can; like those, what sees one row per
 * sequence stays in f32.  Beside int8, whose error is four times as large, bf16 does no harm; where
 * layers are kept in a better precision it would be half of what is left. */
rr_attention_f32_fn *rr_cpu_attention_kernel(const struct rr_loaded *l, const struct rr_cpu_step *s)
{
    const struct rr_kern *kern = l->device->kern;
    rr_attention_f32_fn *narrow = kern->attention_i16 ? kern->attention_i16
                                                      : kern->attention_bf16;

    if (l->device->packing == RR_CPU_PACK_F32 || s->rows != RR_ROWS_TOKENS)
        return kern->attention_f32;
    if (l->keeps && kern->i16) narrow = kern->i16->attention_i16;
    return narrow ? narrow : kern->attention_f32;
}

bool rr_cpu_attention_takes_bf16(const struct rr_loaded *l, const struct rr_cpu_step *s)
{
    return !is_masked(s) && l->device->kern->attention_bf16 &&
           rr_cpu_attention_kernel(l, s) == l->device->kern->attention_bf16;
}

/* Columns from col on of a value's row, in the one of both forms that it is kept in. */
static void point(const float **x, const uint16_t **x16, const struct rr_cpu_rows *rows, size_t col)
{
    if (rows->dtype == RR_BF16)
        *x16 = (const uint16_t *)rows->at + col;
    else
        *x = (const float *)rows->at + col;
}

void rr_cpu_attend(const struct rr_loaded *l, const struct rr_cpu_step *s,
                   const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                   const struct rr_cpu_share *share, uint32_t sequence, float *scratch)
{
    const struct rr_op_attention *op = &s->op.u.attention;
    uint32_t n = f->starts[sequence + 1] - f->starts[sequence];
    uint32_t begin = s->rows == RR_ROWS_TOKENS ? rr_cpu_first_row(f, sequence) : share->row0;
    uint32_t group = op->heads / rr_cpu_kv_heads(op);
    struct rr_cpu_rows kv = rr_cpu_rows(f, &place[RR_CPU_EXTRA], rr_cpu_first_row(f, sequence));
    struct rr_cpu_rows q = rr_cpu_rows(f, &place[RR_CPU_SRC], share->row0);
    struct head h = {
        .l = l, .s = s, .attend = rr_cpu_attention_kernel(l, s),
        .y = rr_cpu_rows(f, &place[RR_CPU_DST], share->row0),
        .span = padded_span(op, l->device->kern)
    };

    h.a = (struct rr_attention_f32){
        .ldy = h.y.ld,
        .ldq = q.ld,
        .ldk = kv.ld,
        .ldv = kv.ld,
        .n_kv = n,
        .head_dim = op->head_dim,
        .scale = op->scale,
        .scratch = scratch,
    };
    h.bias = scratch + (rr_attention_f32_scratch(n, op->head_dim) + 15) / 16 * 16;
    h.by_query = h.bias + (size_t)GRID * round16(n);
    h.by_key = h.by_query + (size_t)GRID * h.span;
    for (h.number = share->col0; h.number < share->col1; h.number++) {
        size_t col = (size_t)h.number * op->head_dim;
        size_t kv_col = (size_t)(h.number / group) * op->head_dim;

        point(&h.a.q, &h.a.q16, &q, op->q_col + col);
        point(&h.a.k, &h.a.k16, &kv, op->k_col + kv_col);
        point(&h.a.v, &h.a.v16, &kv, op->v_col + kv_col);
        attend_rows(&h, share, begin);
    }
}
