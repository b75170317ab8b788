/* SPDX-License-Identifier: Apache-2.0 */
/* body_rows.h - kernels that go along rows: conversions, packing, LayerNorm.
 * Layer: cpu (L1).  Included by one level file, after its vec_*.h; needs NR, the panel width. */
#ifndef RR_CPU_BODY_ROWS_H
#define RR_CPU_BODY_ROWS_H

#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "cpu/kern.h"

#define RR_INLINE static inline __attribute__((always_inline))
#if defined(RR_EMULATE_AVX512) /* nothing to keep in registers */
#define RR_UNROLL
#elif defined(__clang__) /* before a loop with few, constant turns: no loop is left */
#define RR_UNROLL _Pragma("clang loop unroll(full)")
#else
#define RR_UNROLL _Pragma("GCC unroll 16")
#endif

/* Rows of n floats that are read twice, by a pass that looks and one that writes: several at once
 * as long as they stay in the L1 cache, so that the first pass of one row, a chain with a long end,
 * goes on beside the others. */
#define ROWS_AT_ONCE 4
static inline uint32_t rows_at_once(uint32_t n) { return n <= 1024 ? ROWS_AT_ONCE : 1; }

static inline size_t dtype_size(enum rr_dtype dtype)
{
    return dtype == RR_F32 ? 4 : dtype == RR_I8 ? 1 : 2;
}

/* VW elements at src as floats. */
RR_INLINE v load_full(const void *src, enum rr_dtype dtype)
{
    float tmp[VW];

    if (dtype == RR_F16) return v_load_f16((const uint16_t *)src);
    if (dtype == RR_BF16) return v_load_bf16((const uint16_t *)src);
    if (dtype == RR_F32) return v_load((const float *)src);
    for (int i = 0; i < VW; i++)
        tmp[i] = ((const int8_t *)src)[i];
    return v_load(tmp);
}

/* The first n < VW elements at src, then zeros. */
RR_INLINE v load_part(const void *src, enum rr_dtype dtype, uint32_t n)
{
    float tmp[VW] = { 0 };

    memcpy(tmp, src, n * dtype_size(dtype));
    return load_full(tmp, dtype);
}

/* To nearest even in integers, which compilers turn into vectors; NaN stays NaN. */
RR_INLINE uint32_t to_bf16(float x)
{
    uint32_t bits, up;

    memcpy(&bits, &x, 4);
    up = bits + 0x7FFF + (bits >> 16 & 1);
    return ((bits & 0x7FFFFFFF) > 0x7F800000 ? bits | 0x400000 : up) >> 16;
}

/* VW values. */
RR_INLINE void store_bf16(uint16_t *y, v a)
{
#if defined(V_STORE_BF16)
    v_store_bf16(y, a);
#else
    float t[VW];

    v_store(t, a);
    for (uint32_t i = 0; i < VW; i++) y[i] = (uint16_t)to_bf16(t[i]);
#endif
}

/* ---- conversions --------------------------------------------------------------------------- */

RR_INLINE void convert_rows(float *y, const void *src, enum rr_dtype dtype, size_t n, bool add)
{
    const char *in = (const char *)src;
    size_t i = 0, size = dtype_size(dtype);

    for (; i + VW <= n; i += VW) {
        v a = load_full(in + i * size, dtype);

        v_store(y + i, add ? v_add(v_load(y + i), a) : a);
    }
    if (i < n) {
        uint32_t rest = (uint32_t)(n - i);
        v a = load_part(in + i * size, dtype, rest);

        v_store_n(y + i, add ? v_add(v_load_n(y + i, rest), a) : a, rest);
    }
}

static void convert(float *y, const void *src, enum rr_dtype dtype, size_t n)
{
    switch (dtype) { /* constants, so that each call below becomes one tight loop */
    case RR_F32: convert_rows(y, src, RR_F32, n, false); break;
    case RR_F16: convert_rows(y, src, RR_F16, n, false); break;
    case RR_BF16: convert_rows(y, src, RR_BF16, n, false); break;
    case RR_I8: convert_rows(y, src, RR_I8, n, false); break;
    }
}

static void add_convert(float *y, const void *src, enum rr_dtype dtype, size_t n)
{
    switch (dtype) {
    case RR_F32: convert_rows(y, src, RR_F32, n, true); break;
    case RR_F16: convert_rows(y, src, RR_F16, n, true); break;
    case RR_BF16: convert_rows(y, src, RR_BF16, n, true); break;
    case RR_I8: convert_rows(y, src, RR_I8, n, true); break;
    }
}

/* ---- packing ------------------------------------------------------------------------------- */

/* VW source rows (row stride ld bytes) become VW columns of a panel: dst[j * nr + r]. */
RR_INLINE void pack_columns(float *dst, const uint32_t nr, const char *src, size_t ld,
                            enum rr_dtype dtype, uint32_t k)
{
    size_t size = dtype_size(dtype);
    uint32_t j = 0;
    v t[VW];

    for (; j + VW <= k; j += VW) {
        for (int r = 0; r < VW; r++)
            t[r] = load_full(src + (size_t)r * ld + j * size, dtype);
        v_transpose(t);
        for (int r = 0; r < VW; r++) v_store(dst + (size_t)(j + (uint32_t)r) * nr, t[r]);
    }
    if (j < k) {
        for (int r = 0; r < VW; r++)
            t[r] = load_part(src + (size_t)r * ld + j * size, dtype, k - j);
        v_transpose(t);
        for (uint32_t r = 0; r < k - j; r++) v_store(dst + (size_t)(j + r) * nr, t[r]);
    }
}

/* One source row becomes one column: the edges of a stack that does not fall on VW. */
static void pack_column(float *dst, uint32_t nr, const char *src, enum rr_dtype dtype, uint32_t k)
{
    float tmp[64];

    for (uint32_t j = 0; j < k; j += 64) {
        uint32_t n = RR_MIN(k - j, 64u);

        convert(tmp, src + j * dtype_size(dtype), dtype, n);
        for (uint32_t i = 0; i < n; i++) dst[(size_t)(j + i) * nr] = tmp[i];
    }
}

/* pack_f32 into panels of nr columns, for source rows that are ld bytes apart. */
RR_INLINE void pack_rows(float *panels, const uint32_t nr, const void *src, size_t ld,
                         enum rr_dtype dtype, uint32_t row0, uint32_t rows, uint32_t k)
{
    const char *in = (const char *)src;
    uint32_t r = 0;

    while (r < rows) {
        size_t o = (size_t)row0 + r;
        float *dst = panels + o / nr * nr * k + o % nr;

        if (o % VW == 0 && rows - r >= VW) {
            pack_columns(dst, nr, in + r * ld, ld, dtype, k);
            r += VW;
        } else {
            pack_column(dst, nr, in + r * ld, dtype, k);
            r++;
        }
    }
}

static void pack_f32(float *panels, const void *src, enum rr_dtype dtype, uint32_t row0,
                     uint32_t rows, uint32_t k)
{
    size_t ld = k * dtype_size(dtype);

    switch (dtype) {
    case RR_F32: pack_rows(panels, NR, src, ld, RR_F32, row0, rows, k); break;
    case RR_F16: pack_rows(panels, NR, src, ld, RR_F16, row0, rows, k); break;
    case RR_BF16: pack_rows(panels, NR, src, ld, RR_BF16, row0, rows, k); break;
    case RR_I8: pack_rows(panels, NR, src, ld, RR_I8, row0, rows, k); break;
    }
}

/* ---- LayerNorm ----------------------------------------------------------------------------- */

/* Sum over a row of x - shift, and in *squares of its square; shift 0 and squares NULL: the sum. */
RR_INLINE float row_sum(const float *x, uint32_t n, float shift, float *squares)
{
    v s0 = v_set(0), s1 = s0, q0 = s0, q1 = s0, c = v_set(shift);
    uint32_t i = 0;

    for (; i + 2 * VW <= n; i += 2 * VW) {
        v a = v_sub(v_load(x + i), c), b = v_sub(v_load(x + i + VW), c);

        s0 = v_add(s0, a);
        s1 = v_add(s1, b);
        if (squares) {
            q0 = v_fma(a, a, q0);
            q1 = v_fma(b, b, q1);
        }
    }
    s0 = v_add(s0, s1);
    q0 = v_add(q0, q1);
    for (; i < n; i += VW) {
        v a = n - i < VW ? v_load_n(x + i, n - i) : v_load(x + i);
        float d[VW];

        v_store(d, v_sub(a, c));
        a = n - i < VW ? v_load_n(d, n - i) : v_load(d); /* lanes past the row count as 0 */
        s0 = v_add(s0, a);
        q0 = v_fma(a, a, q0);
    }
    if (squares) *squares = v_sum(q0);
    return v_sum(s0);
}

struct moments { /* of a row */
    float mean, delta, inv; /* delta: what rounding left over of the mean; inv: 1 / deviation */
};

/* Two passes with the correction of Chan, Golub and LeVeque (1983): the mean that rounding left
 * over, delta, is measured in the second pass and taken off mean and variance. */
RR_INLINE struct moments moments_of(const float *x, uint32_t n, float eps)
{
    float mean = row_sum(x, n, 0.0f, NULL) / (float)n, squares;
    float delta = row_sum(x, n, mean, &squares) / (float)n;
    float var = squares / (float)n - delta * delta;

    return (struct moments){ mean, delta, 1.0f / sqrtf((var < 0.0f ? 0.0f : var) + eps) };
}

RR_INLINE void normalize_row(float *y, const float *x, const float *gamma, const float *beta,
                             uint32_t n, const struct moments *of)
{
    v m = v_set(of->mean), d = v_set(of->delta), s = v_set(of->inv);
    uint32_t i = 0;

    for (; i + VW <= n; i += VW) {
        v a = v_mul(v_sub(v_sub(v_load(x + i), m), d), s);

        v_store(y + i, v_fma(a, v_load(gamma + i), beta ? v_load(beta + i) : v_set(0.0f)));
    }
    if (i < n) {
        v a = v_mul(v_sub(v_sub(v_load_n(x + i, n - i), m), d), s);
        v b = beta ? v_load_n(beta + i, n - i) : v_set(0.0f);

        v_store_n(y + i, v_fma(a, v_load_n(gamma + i, n - i), b), n - i);
    }
}

static void layernorm_f32(float *y, size_t ldy, const float *x, size_t ldx, const float *gamma,
                          const float *beta, uint32_t m, uint32_t n, float eps)
{
    struct moments of[ROWS_AT_ONCE];
    uint32_t step = rows_at_once(n);

    for (uint32_t i = 0; i < m; i += step) {
        uint32_t rows = RR_MIN(m - i, step);

        for (uint32_t j = 0; j < rows; j++) of[j] = moments_of(x + (i + j) * ldx, n, eps);
        for (uint32_t j = 0; j < rows; j++)
            normalize_row(y + (i + j) * ldy, x + (i + j) * ldx, gamma, beta, n, &of[j]);
    }
}

#endif
