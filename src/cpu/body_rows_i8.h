/* SPDX-License-Identifier: Apache-2.0 */
/* body_rows_i8.h - quantizing rows, alone and after LayerNorm; rounding rows to bf16.
 * Layer: cpu (L1).  Included by one level file, after body_rows.h; needs I8_TOP and I8_ZERO. */
#ifndef RR_CPU_BODY_ROWS_I8_H
#define RR_CPU_BODY_ROWS_I8_H

#include "cpu/body_rows.h"

struct row_i8 { /* a row to quantize */
    const char *x;
    enum rr_dtype dtype;
    const float *smooth; /* NULL: none */
};

/* x[j ...] * smooth[j ...], VW of them. */
RR_INLINE v smooth_full(const struct row_i8 *r, uint32_t j)
{
    v t = load_full(r->x + j * dtype_size(r->dtype), r->dtype);

    return r->smooth ? v_mul(t, v_load(r->smooth + j)) : t;
}

/* The same where a row may end; lanes past k repeat its first value, which changes no extreme. */
RR_INLINE v smooth_load(const struct row_i8 *r, uint32_t j, uint32_t k)
{
    float t[VW], first[VW];

    if (j + VW <= k) return smooth_full(r, j);
    v_store(t, load_part(r->x + j * dtype_size(r->dtype), r->dtype, k - j));
    v_store(first, load_part(r->x, r->dtype, 1));
    for (uint32_t l = 0; l < VW; l++) {
        uint32_t at = j + l < k ? j + l : 0;

        t[l] = (at ? t[l] : first[0]) * (r->smooth ? r->smooth[at] : 1.0f);
    }
    return v_load(t);
}

struct range_i8 { /* of a row */
    float low, range;
    float poison; /* 0, or NaN if the row has a NaN or infinity */
};

RR_INLINE struct range_i8 range_of(const struct row_i8 *row, uint32_t k)
{
    v least0 = smooth_load(row, 0, k), least1 = least0, most0 = least0, most1 = least0;
    v poison0 = v_set(0.0f), poison1 = poison0;
    uint32_t j = 0;
    struct range_i8 r;

    for (; j + 2 * VW <= k; j += 2 * VW) { /* two, so that none waits for the one before */
        v t = smooth_full(row, j), u = smooth_full(row, j + VW);

        least0 = v_min(least0, t);
        least1 = v_min(least1, u);
        most0 = v_max(most0, t);
        most1 = v_max(most1, u);
        poison0 = v_fma(t, v_set(0.0f), poison0);
        poison1 = v_fma(u, v_set(0.0f), poison1);
    }
    for (; j < k; j += VW) {
        v t = smooth_load(row, j, k);

        least0 = v_min(least0, t);
        most0 = v_max(most0, t);
        poison0 = v_fma(t, v_set(0.0f), poison0);
    }
    r.low = v_min_lane(v_min(least0, least1));
    r.range = v_max_lane(v_max(most0, most1)) - r.low;
    r.poison = v_sum(v_add(poison0, poison1));
    return r;
}

/* q of x = low + range / top q, which storing it rounds. */
RR_INLINE v level_of(v x, v low, v inv)
{
    return v_mul(v_sub(x, low), inv);
}

/* What a byte holds of it. */
RR_INLINE v byte_of(v t)
{
    return I8_ZERO ? v_sub(v_round(t), v_set(I8_ZERO)) : t;
}

/* The bytes of the digits of t, rounded, to base RR_I8_BASE.  The nearest whole number to
 * (t - 127) / base is the upper one, by a margin of half a 255th, which f32 keeps easily. */
RR_INLINE void digits_of(v t, v *upper, v *lower)
{
    v u;

    t = v_round(t);
    u = v_round(v_mul(v_sub(t, v_set(RR_I8_BASE / 2)), v_set(1.0f / RR_I8_BASE)));
    *upper = byte_of(u);
    *lower = byte_of(v_fma(u, v_set(-RR_I8_BASE), t));
}

RR_INLINE void store_digits(const struct rr_rows_i8 *out, uint32_t row, const struct row_i8 *x,
                            uint32_t k, const struct range_i8 *r)
{
    const float top = RR_I8_BASE * RR_I8_BASE - 1;
    int8_t *q = out->q + (size_t)2 * row * out->ld, *q2 = q + out->ld;
    v low = v_set(r->low), inv = v_set(r->range > 1e-30f ? top / r->range : 0.0f);
    v upper[4], lower[4];
    uint32_t j = 0;

    for (; j + 4 * VW <= k; j += 4 * VW) {
        RR_UNROLL
        for (uint32_t c = 0; c < 4; c++)
            digits_of(level_of(smooth_full(x, j + c * VW), low, inv), &upper[c], &lower[c]);
        v_store_bytes4(q + j, upper);
        v_store_bytes4(q2 + j, lower);
    }
    for (; j < k; j += VW) {
        digits_of(level_of(smooth_load(x, j, k), low, inv), &upper[0], &lower[0]);
        v_store_bytes(q + j, upper[0]);
        v_store_bytes(q2 + j, lower[0]);
    }
    memset(q + k, 0, rr_i8_depth(k) - k);
    memset(q2 + k, 0, rr_i8_depth(k) - k);
    out->scale[row] = r->range > 1e-30f ? r->range / top : 0.0f;
    out->offset[row] = r->low + r->poison;
}

RR_INLINE void store_levels(const struct rr_rows_i8 *out, uint32_t row, const struct row_i8 *x,
                            uint32_t k, const struct range_i8 *r)
{
    int8_t *q = out->q + row * out->ld;
    v low = v_set(r->low), inv = v_set(r->range > 1e-30f ? I8_TOP / r->range : 0.0f);
    uint32_t j = 0;

    for (; j + 4 * VW <= k; j += 4 * VW) {
        v t[4];

        RR_UNROLL
        for (uint32_t c = 0; c < 4; c++)
            t[c] = byte_of(level_of(smooth_full(x, j + c * VW), low, inv));
        v_store_bytes4(q + j, t);
    }
    for (; j < k; j += VW)
        v_store_bytes(q + j, byte_of(level_of(smooth_load(x, j, k), low, inv)));
    memset(q + k, 0, rr_i8_depth(k) - k);
    out->scale[row] = r->range > 1e-30f ? r->range / I8_TOP : 0.0f;
    out->offset[row] = r->low + r->poison;
}

/* Rows from `row` on, m of them.  The ranges of a few first: then no row waits for the end of its
 * own search. */
RR_INLINE void quantize_some(const struct rr_rows_i8 *out, uint32_t row, const void *x,
                             enum rr_dtype dtype, size_t ldx, const float *smooth, uint32_t m,
                             uint32_t k)
{
    struct range_i8 r[ROWS_AT_ONCE];
    uint32_t step = rows_at_once(k);
    size_t bytes = ldx * dtype_size(dtype);

    for (uint32_t i = 0; i < m; i += step) {
        struct row_i8 in = { (const char *)x + i * bytes, dtype, smooth };
        uint32_t n = RR_MIN(m - i, step);

        for (uint32_t j = 0; j < n; j++, in.x += bytes) r[j] = range_of(&in, k);
        in.x -= n * bytes;
        for (uint32_t j = 0; j < n; j++, in.x += bytes)
            if (out->fine)
                store_digits(out, row + i + j, &in, k, &r[j]);
            else
                store_levels(out, row + i + j, &in, k, &r[j]);
    }
}

static void quantize_rows(const struct rr_rows_i8 *out, uint32_t row, const void *x,
                          enum rr_dtype dtype, size_t ldx, const float *smooth, uint32_t m,
                          uint32_t k)
{
    if (dtype == RR_F16 && smooth)
        quantize_some(out, row, x, RR_F16, ldx, smooth, m, k);
    else if (dtype == RR_F16)
        quantize_some(out, row, x, RR_F16, ldx, NULL, m, k);
    else if (smooth)
        quantize_some(out, row, x, RR_F32, ldx, smooth, m, k);
    else
        quantize_some(out, row, x, RR_F32, ldx, NULL, m, k);
}

static void quantize_i8(const struct rr_rows_i8 *out, const void *x, enum rr_dtype dtype,
                        size_t ldx, const float *smooth, uint32_t m, uint32_t k)
{
    quantize_rows(out, 0, x, dtype, ldx, smooth, m, k);
}

static void layernorm_i8(const struct rr_layernorm_i8 *a)
{
    uint32_t step = rows_at_once(a->n);

    for (uint32_t i = 0; i < a->m; i += step) { /* the rows are still in the L1 cache */
        uint32_t n = RR_MIN(a->m - i, step);
        float *y = a->y + i * a->ldy;

        layernorm_f32(y, a->ldy, a->x + i * a->ldx, a->ldx, a->gamma, a->beta, n, a->n, a->eps);
        quantize_rows(&a->out, i, y, RR_F32, a->ldy, a->smooth, n, a->n);
    }
}

static void round_bf16(uint16_t *y, size_t ldy, const float *x, size_t ldx, uint32_t m, uint32_t k)
{
    for (uint32_t i = 0; i < m; i++) {
        const float *in = x + i * ldx;
        uint16_t *out = y + i * ldy;

        for (uint32_t j = 0; j < k; j++) out[j] = (uint16_t)to_bf16(in[j]);
        if (k % 2) out[k] = 0;
    }
}

#endif
