/* SPDX-License-Identifier: Apache-2.0 */
/* body_rows_rotary.h - row kernels of the networks after BERT: RMSNorm, gated units, rotary
 * positions.  Layer: cpu (L1).  Included by one level file, after body_linear_f32.h. */
#ifndef RR_CPU_BODY_ROWS_ROTARY_H
#define RR_CPU_BODY_ROWS_ROTARY_H

#include "cpu/body_linear_f32.h"

/* x * sigmoid(u) for u of the sign of x.  With e = exp(-|u|) the sigmoid is 1 / (1 + e) for
 * positive and e / (1 + e) for negative u, so nothing overflows. */
RR_INLINE v v_gate(v x, v u)
{
    v zero = v_set(0.0f), e = v_exp2_neg(v_mul(v_abs(u), v_set(-LOG2E)));

    return v_div(v_fma(v_min(zero, x), e, v_max(zero, x)), v_add(v_set(1.0f), e));
}

/* GELU by tanh: 0.5 x (1 + tanh u) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3). */
RR_INLINE v v_gelu_tanh(v x)
{
    v cube = v_mul(v_mul(x, x), x);

    return v_gate(x, v_mul(v_fma(cube, v_set(0.044715f), x), v_set(1.5957691216057308f)));
}

RR_INLINE v gated(v a, v b, enum rr_act act)
{
    if (act == RR_ACT_SILU) return v_mul(v_gate(a, a), b);
    if (act == RR_ACT_GELU_TANH) return v_mul(v_gelu_tanh(a), b);
    return v_mul(activate(a, act), b);
}

RR_INLINE void glu_rows(float *y, size_t ldy, const float *a, const float *b, size_t ldx,
                        uint32_t m, uint32_t n, enum rr_act act)
{
    for (uint32_t i = 0; i < m; i++, y += ldy, a += ldx, b += ldx) {
        uint32_t j = 0;

        for (; j + VW <= n; j += VW) v_store(y + j, gated(v_load(a + j), v_load(b + j), act));
        if (j < n)
            v_store_n(y + j, gated(v_load_n(a + j, n - j), v_load_n(b + j, n - j), act), n - j);
    }
}

static void glu_f32(float *y, size_t ldy, const float *a, const float *b, size_t ldx, uint32_t m,
                    uint32_t n, enum rr_act act)
{
    switch (act) { /* constants, so that each loop has one activation */
    case RR_ACT_SILU: glu_rows(y, ldy, a, b, ldx, m, n, RR_ACT_SILU); break;
    case RR_ACT_GELU_TANH: glu_rows(y, ldy, a, b, ldx, m, n, RR_ACT_GELU_TANH); break;
    case RR_ACT_RELU: glu_rows(y, ldy, a, b, ldx, m, n, RR_ACT_RELU); break;
    default: glu_rows(y, ldy, a, b, ldx, m, n, RR_ACT_GELU); break;
    }
}

static void rmsnorm_f32(float *y, size_t ldy, const float *x, size_t ldx, const float *gamma,
                        uint32_t m, uint32_t n, float eps)
{
    for (uint32_t i = 0; i < m; i++, y += ldy, x += ldx) {
        float squares;
        uint32_t j = 0;
        v s;

        (void)row_sum(x, n, 0.0f, &squares);
        s = v_set(1.0f / sqrtf(squares / (float)n + eps));
        for (; j + VW <= n; j += VW)
            v_store(y + j, v_mul(v_mul(v_load(x + j), s), v_load(gamma + j)));
        if (j < n)
            v_store_n(y + j, v_mul(v_mul(v_load_n(x + j, n - j), s), v_load_n(gamma + j, n - j)),
                      n - j);
    }
}

/* One turn: a' = a cos - b sin, b' = b cos + a sin. */
RR_INLINE void turn(float *x, uint32_t n, v a, v b, v c, v s, uint32_t lanes)
{
    v first = v_sub(v_mul(a, c), v_mul(b, s)), second = v_fma(a, s, v_mul(b, c));

    if (lanes == VW) {
        v_store(x, first);
        v_store(x + n, second);
    } else {
        v_store_n(x, first, lanes);
        v_store_n(x + n, second, lanes);
    }
}

static void rotary_f32(float *x, uint32_t heads, uint32_t head_dim, const float *cosines,
                       const float *sines, uint32_t n)
{
    for (uint32_t h = 0; h < heads; h++, x += head_dim) {
        uint32_t j = 0, rest;

        for (; j + VW <= n; j += VW)
            turn(x + j, n, v_load(x + j), v_load(x + j + n), v_load(cosines + j), v_load(sines + j),
                 VW);
        rest = n - j;
        if (rest)
            turn(x + j, n, v_load_n(x + j, rest), v_load_n(x + j + n, rest),
                 v_load_n(cosines + j, rest), v_load_n(sines + j, rest), rest);
    }
}

#endif
