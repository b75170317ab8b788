/* SPDX-License-Identifier: Apache-2.0 */
/* body_linear_i16.h - packed product of whole numbers of 16 bits: layers in bf16 on levels without
 * instructions for it.
 * Layer: cpu (L1).  Included by one level file, after body_linear_f32.h, which with I16_DOT gives
 *   dot_i16(sum, pair of inputs in every lane, VW pairs)   sum plus both products, exactly
 *   v_store_i16(p, a, b)                                   2 VW whole numbers as 16 bits each
 *   vi_max, vi_bits, vi_max_lane                           of bits of floats
 *
 * Same shape as the f32 product: see there.  Integer sums are exact, so their order is free. */
#ifndef RR_CPU_BODY_LINEAR_I16_H
#define RR_CPU_BODY_LINEAR_I16_H

#include <float.h>

#include "cpu/body_linear_f32.h"

#define I16_MR 6 /* 12 sums, 2 weights, an input and a product in 16 registers */

/* ---- rows ---------------------------------------------------------------------------------- */

struct steps {  /* how floats are kept as whole numbers, at most top each */
    float inv;  /* steps per 1 */
    float size; /* of a step; NaN if there is a NaN or infinity */
};

/* By the bits of |x|: as whole numbers they have the order of the values, with NaN at the top. */
static struct steps steps_of(const float *x, size_t ldx, uint32_t m, uint32_t n, float top)
{
    vi most0 = vi_zero(), most1 = most0;
    float largest;

    for (uint32_t i = 0; i < m; i++, x += ldx) {
        uint32_t j = 0;

        for (; j + 2 * VW <= n; j += 2 * VW) {
            most0 = vi_max(most0, vi_bits(v_abs(v_load(x + j))));
            most1 = vi_max(most1, vi_bits(v_abs(v_load(x + j + VW))));
        }
        for (; j < n; j += VW) most0 = vi_max(most0, vi_bits(v_abs(load_upto(x + j, n - j))));
    }
    largest = vi_max_lane(vi_max(most0, most1));
    if (!(largest <= FLT_MAX)) return (struct steps){ 0.0f, NAN };
    return largest > 1e-30f ? (struct steps){ top / largest, largest / top }
                            : (struct steps){ 0.0f, 0.0f };
}

/* y[i, j] = x[i, j] in steps; what follows up to two whole vectors is 0. */
static void round_i16(uint16_t *y, size_t ldy, const float *x, size_t ldx, uint32_t m, uint32_t n,
                      float inv)
{
    v factor = v_set(inv);

    for (uint32_t i = 0; i < m; i++, x += ldx, y += ldy)
        for (uint32_t j = 0; j < n; j += 2 * VW) {
            v first = load_upto(x + j, n - j), second = v_set(0.0f);

            if (n - j > VW) second = load_upto(x + j + VW, n - j - VW);
            v_store_i16(y + j, v_mul(first, factor), v_mul(second, factor));
        }
}

static void quantize_i16(const struct rr_rows_i16 *out, const float *x, size_t ldx, float top,
                         uint32_t m, uint32_t k)
{
    struct steps s[ROWS_AT_ONCE];
    uint32_t step = rows_at_once(k);

    for (uint32_t i = 0; i < m; i += step) {
        uint32_t n = RR_MIN(m - i, step);

        for (uint32_t j = 0; j < n; j++) s[j] = steps_of(x + (i + j) * ldx, 0, 1, k, top);
        for (uint32_t j = 0; j < n; j++) {
            round_i16(out->q + (i + j) * out->ld, 0, x + (i + j) * ldx, 0, 1, k, s[j].inv);
            out->scale[i + j] = s[j].size;
        }
    }
}

/* ---- products ------------------------------------------------------------------------------ */

/* acc[mr][NARROW_NR] = mr rows of x times a panel, pair by pair. */
RR_INLINE void tile_i16(int32_t *acc, const uint16_t *x, size_t ldx, const uint16_t *b,
                        uint32_t pairs, struct ahead next, const int mr)
{
    vi s[I16_MR][NARROW_NV];

    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            s[i][c] = vi_zero();
    for (uint32_t j = 0; j < pairs; j++, x += 2, b += 2 * NARROW_NR) {
        vi w[NARROW_NV];

        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            w[c] = vi_load(b + 2 * c * VW);
        RR_UNROLL
        for (int i = 0; i < mr; i++) {
            vi a = vi_set(x + (size_t)i * ldx);

            RR_UNROLL
            for (int c = 0; c < NARROW_NV; c++)
                s[i][c] = dot_i16(s[i][c], a, w[c]);
        }
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.step;
    }
    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            vi_store(acc + i * NARROW_NR + c * VW, s[i][c]);
}

#define TILE(mr)                                                                                   \
    static RR_NOINLINE void tile_i16_##mr(int32_t *acc, const uint16_t *x, size_t ldx,             \
                                          const uint16_t *b, uint32_t pairs, struct ahead next)    \
    {                                                                                              \
        tile_i16(acc, x, ldx, b, pairs, next, mr);                                                 \
    }
TILE(6)
TILE(4)
TILE(2)
TILE(1)
#undef TILE

/* acc[rows][NARROW_NR] = rows of x times a panel; meanwhile part of the next one is fetched. */
static void tiles_i16(int32_t *acc, const uint16_t *x, size_t ldx, const uint16_t *b,
                      uint32_t pairs, uint32_t rows, struct fetch part)
{
    struct ahead next = spread(part, (rows + I16_MR - 1) / I16_MR, pairs);
    size_t tile = next.step * pairs;

    for (; rows >= 6; rows -= 6, acc += 6 * NARROW_NR, x += 6 * ldx, next.at += tile) {
        fetch_results(&part.results, 6);
        tile_i16_6(acc, x, ldx, b, pairs, next);
    }
    for (; rows >= 4; rows -= 4, acc += 4 * NARROW_NR, x += 4 * ldx, next.at += tile) {
        fetch_results(&part.results, 4);
        tile_i16_4(acc, x, ldx, b, pairs, next);
    }
    for (; rows >= 2; rows -= 2, acc += 2 * NARROW_NR, x += 2 * ldx, next.at += tile)
        tile_i16_2(acc, x, ldx, b, pairs, next);
    if (rows) tile_i16_1(acc, x, ldx, b, pairs, next);
}

/* ---- the linear layer ---------------------------------------------------------------------- */

/* Rows of finished sums become rows of y: n of the columns from o on, which is NARROW_NR or, at the
 * end, less; the contract's chain of roundings.  Nothing is read through a inside the loop: stores
 * of y would have it read anew. */
RR_INLINE void finish_columns_i16(const struct rr_linear_i16 *a, const int32_t *acc, uint32_t row,
                                  uint32_t rows, uint32_t o, const uint32_t n, enum rr_act act)
{
    const float *scale = a->x.scale + row;
    const float *res = a->residual ? a->residual + row * a->ldr + o : NULL;
    const size_t ldy = a->ldy, ldr = a->ldr;
    float *y = a->y + row * ldy + o;
    v w_scale[NARROW_NV], bias[NARROW_NV];

    RR_UNROLL
    for (uint32_t c = 0; c < NARROW_NR; c += VW) {
        w_scale[c / VW] = c < n ? load_upto(a->w_scale + o + c, n - c) : v_set(0.0f);
        bias[c / VW] = c < n ? load_upto(a->bias + o + c, n - c) : v_set(0.0f);
    }
    for (uint32_t i = 0; i < rows; i++, acc += NARROW_NR, y += ldy) {
        RR_UNROLL
        for (uint32_t c = 0; c < NARROW_NR; c += VW) {
            v factor = v_mul(v_set(scale[i]), w_scale[c / VW]);
            v s = v_fma(v_from_i32(vi_load(acc + c)), factor, bias[c / VW]);

            if (c < n) store_columns(y + c, activate(s, act), res ? res + c : NULL, n - c);
        }
        if (res) res += ldr;
    }
}

RR_INLINE void finish_rows_i16(const struct rr_linear_i16 *a, const int32_t *acc, uint32_t row,
                               uint32_t rows, uint32_t o, enum rr_act act)
{
    if (a->n_end - o >= NARROW_NR)
        finish_columns_i16(a, acc, row, rows, o, NARROW_NR, act);
    else
        finish_columns_i16(a, acc, row, rows, o, a->n_end - o, act);
}

static void finish_i16(const struct rr_linear_i16 *a, const int32_t *acc, uint32_t row,
                       uint32_t rows, uint32_t o)
{
    switch (a->act) {
    case RR_ACT_NONE: finish_rows_i16(a, acc, row, rows, o, RR_ACT_NONE); break;
    case RR_ACT_GELU: finish_rows_i16(a, acc, row, rows, o, RR_ACT_GELU); break;
    case RR_ACT_RELU: finish_rows_i16(a, acc, row, rows, o, RR_ACT_RELU); break;
    case RR_ACT_TANH: finish_rows_i16(a, acc, row, rows, o, RR_ACT_TANH); break;
    case RR_ACT_SILU:
    case RR_ACT_GELU_TANH: break; /* of gated units only */
    }
}

static void linear_i16(const struct rr_linear_i16 *a)
{
    int32_t acc[SUMS * NARROW_NR] RR_ALIGNED(64);
    const struct rr_half f32 = { .y = NULL };
    uint32_t pairs = (a->k + 1) / 2, block = rows_a_panel(a->m, a->x.ld * sizeof(*a->x.q));
    size_t panel = (size_t)pairs * 2 * NARROW_NR; /* weights */

    for (uint32_t begin = 0; begin < a->m; begin += block) {
        uint32_t end = begin + RR_MIN(a->m - begin, block);

        for (uint32_t o = a->n_begin; o < a->n_end; o += NARROW_NR) {
            const uint16_t *b = a->panels + o / NARROW_NR * panel;

            for (uint32_t row = begin; row < end; row += SUMS) {
                uint32_t rows = RR_MIN(end - row, (uint32_t)SUMS);

                tiles_i16(acc, a->x.q + row * a->x.ld, a->x.ld, b, pairs, rows,
                          fetch_part(b, panel * sizeof(*b), row - begin, rows, end - begin,
                                     results(a->y, &f32, a->ldy, a->residual, a->ldr, row, o,
                                             a->n_end, NARROW_NR)));
                finish_i16(a, acc, row, rows, o);
            }
        }
    }
}

#endif
