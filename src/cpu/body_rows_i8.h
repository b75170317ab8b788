/* SPDX-License-Identifier: Apache-2.0 */
/* body_rows_i8.h - quantizing rows, alone and after LayerNorm; rounding rows to bf16.
 * Layer: cpu (L1).  Included by one level file, after body_rows.h; needs I8_TOP and I8_ZERO. */
#ifndef RR_CPU_BODY_ROWS_I8_H
#define RR_CPU_BODY_ROWS_I8_H

#include "cpu/body_rows.h"

/* x[j ...] * smooth[j ...]; lanes past k repeat the row's first value, which changes no extreme. */
RR_INLINE v smooth_load(const float *x, const float *smooth, uint32_t j, uint32_t k)
{
    float t[VW];
    v a;

    if (j + VW <= k) {
        a = v_load(x + j);
        return smooth ? v_mul(a, v_load(smooth + j)) : a;
    }
    for (uint32_t l = 0; l < VW; l++)
        t[l] = j + l < k ? (smooth ? x[j + l] * smooth[j + l] : x[j + l])
                         : (smooth ? x[0] * smooth[0] : x[0]);
    return v_load(t);
}

RR_INLINE void quantize_one(const struct rr_rows_i8 *out, uint32_t row, const float *x,
                            const float *smooth, uint32_t k)
{
    int8_t *q = out->q + row * out->ld;
    v least0 = smooth_load(x, smooth, 0, k), least1 = least0, most0 = least0, most1 = least0;
    v poison0 = v_set(0.0f), poison1 = poison0, a, b; /* 0, or NaN for good */
    uint32_t j = 0;
    float lo, range;

    for (; j + 2 * VW <= k; j += 2 * VW) { /* two, so that none waits for the one before */
        v t = smooth_load(x, smooth, j, k), u = smooth_load(x, smooth, j + VW, k);

        least0 = v_min(least0, t);
        least1 = v_min(least1, u);
        most0 = v_max(most0, t);
        most1 = v_max(most1, u);
        poison0 = v_fma(t, v_set(0.0f), poison0);
        poison1 = v_fma(u, v_set(0.0f), poison1);
    }
    for (; j < k; j += VW) {
        v t = smooth_load(x, smooth, j, k);

        least0 = v_min(least0, t);
        most0 = v_max(most0, t);
        poison0 = v_fma(t, v_set(0.0f), poison0);
    }
    lo = v_min_lane(v_min(least0, least1));
    range = v_max_lane(v_max(most0, most1)) - lo;
    a = v_set(lo);
    b = v_set(range > 1e-30f ? I8_TOP / range : 0.0f);
    for (j = 0; j < k; j += VW) {
        v t = v_round(v_mul(v_sub(smooth_load(x, smooth, j, k), a), b));

        v_store_bytes(q + j, I8_ZERO ? v_sub(t, v_set(I8_ZERO)) : t);
    }
    memset(q + k, 0, rr_i8_depth(k) - k);
    out->scale[row] = range > 1e-30f ? range / I8_TOP : 0.0f;
    out->offset[row] = lo + v_sum(v_add(poison0, poison1));
}

static void quantize_row(const struct rr_rows_i8 *out, uint32_t row, const float *x,
                         const float *smooth, uint32_t k)
{
    if (smooth)
        quantize_one(out, row, x, smooth, k);
    else
        quantize_one(out, row, x, NULL, k);
}

static void quantize_i8(const struct rr_rows_i8 *out, const float *x, size_t ldx,
                        const float *smooth, uint32_t m, uint32_t k)
{
    for (uint32_t i = 0; i < m; i++)
        quantize_row(out, i, x + i * ldx, smooth, k);
}

static void layernorm_i8(const struct rr_layernorm_i8 *a)
{
    for (uint32_t i = 0; i < a->m; i++) { /* the row is still in the L1 cache */
        layernorm_row(a->y + i * a->ldy, a->x + i * a->ldx, a->gamma, a->beta, a->n, a->eps);
        quantize_row(&a->out, i, a->y + i * a->ldy, a->smooth, a->n);
    }
}

/* To nearest even in integers, which compilers turn into vectors; NaN stays NaN. */
RR_INLINE uint32_t to_bf16(float x)
{
    uint32_t bits, up;

    memcpy(&bits, &x, 4);
    up = bits + 0x7FFF + (bits >> 16 & 1);
    return ((bits & 0x7FFFFFFF) > 0x7F800000 ? bits | 0x400000 : up) >> 16;
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
