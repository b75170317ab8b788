/* SPDX-License-Identifier: Apache-2.0 */
/* body_linear_i8.h - packed int8 matrix product with its epilogue.
 * Layer: cpu (L1).  Included by one level file, after body_linear_f32.h and a dot_*.h, which gives:
 *   I8_TOP, I8_WTOP, I8_ZERO as in struct rr_kern
 *   I8_MR                    rows of a full tile: 4 or 6
 *   I8_STEP                  groups of four bytes that a turn takes: 1 or 2 (the second group is
 *                            4 NARROW_NR bytes further in the panel)
 *   dot_w, dot_w_load(p)     VW columns x 4 I8_STEP bytes of weights, made ready
 *   dot_x, dot_x_load(p)     4 I8_STEP bytes of a row, in every lane
 *   dot(sum, x, w)           sum plus the products of the bytes in each lane, exactly
 * or, if the level has tiles of its own, defines tiles_i8 and I8_OWN_TILES, or all of linear_i8 and
 * I8_OWN_LINEAR.
 *
 * Same shape as the f32 product: see there.  Integer sums are exact, so their order is free.  Rows
 * and panels are padded to RR_I8_DEPTH bytes for the deepest instruction; the others stop at k. */
#ifndef RR_CPU_BODY_LINEAR_I8_H
#define RR_CPU_BODY_LINEAR_I8_H

#include "cpu/body_linear_f32.h"
#include "cpu/body_rows_i8.h"

_Static_assert(I8_TOP + 1 == RR_I8_BASE && SUMS % 2 == 0, "digits of fine rows");
_Static_assert(I8_WTOP == RR_I8_WFREE || I8_TOP * I8_WTOP <= INT16_MAX, "sums of four saturate");

#if !defined(I8_OWN_TILES) && !defined(I8_OWN_LINEAR)

/* acc[mr][NARROW_NR] = first[NARROW_NR], in each row, plus mr rows of x times a panel. */
RR_INLINE void tile_i8(int32_t *acc, const int32_t *first, const int8_t *x, size_t ldx,
                       const int8_t *b, uint32_t groups, struct ahead next, const int mr)
{
    vi s[I8_MR][NARROW_NV];

    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            s[i][c] = vi_load(first + c * VW);
    for (uint32_t j = 0; j < groups; j += I8_STEP) {
        dot_w w[NARROW_NV];

        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            w[c] = dot_w_load(b + 4 * c * VW);
        RR_UNROLL
        for (int i = 0; i < mr; i++) {
            dot_x a = dot_x_load(x + (size_t)i * ldx);

            RR_UNROLL
            for (int c = 0; c < NARROW_NV; c++)
                s[i][c] = dot(s[i][c], a, w[c]);
        }
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.step;
        b += 4 * NARROW_NR * I8_STEP;
        x += 4 * I8_STEP;
    }
    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            vi_store(acc + i * NARROW_NR + c * VW, s[i][c]);
}

#define TILE(mr)                                                                                   \
    static RR_NOINLINE void tile_i8_##mr(int32_t *acc, const int32_t *first, const int8_t *x,      \
                                         size_t ldx, const int8_t *b, uint32_t groups,             \
                                         struct ahead next)                                        \
    {                                                                                              \
        tile_i8(acc, first, x, ldx, b, groups, next, mr);                                          \
    }
#if I8_MR >= 6
TILE(6)
#endif
TILE(4)
TILE(2)
TILE(1)
#undef TILE

/* acc[rows][NARROW_NR] = first, in each row, plus rows of x, k of each, times a panel; meanwhile
 * part of the next one is fetched. */
static void tiles_i8(int32_t *acc, const int32_t *first, const int8_t *x, size_t ldx,
                     const int8_t *b, uint32_t k, uint32_t rows, struct fetch part)
{
    uint32_t groups = (k + 4 * I8_STEP - 1) / (4 * I8_STEP) * I8_STEP;
    struct ahead next = spread(part, (rows + I8_MR - 1) / I8_MR, groups / I8_STEP);
    size_t tile = next.step * (groups / I8_STEP);

#if I8_MR >= 6
    for (; rows >= 6; rows -= 6, acc += 6 * NARROW_NR, x += 6 * ldx, next.at += tile) {
        fetch_results(&part.results, 6);
        tile_i8_6(acc, first, x, ldx, b, groups, next);
    }
#endif
    for (; rows >= 4; rows -= 4, acc += 4 * NARROW_NR, x += 4 * ldx, next.at += tile) {
        fetch_results(&part.results, 4);
        tile_i8_4(acc, first, x, ldx, b, groups, next);
    }
    for (; rows >= 2; rows -= 2, acc += 2 * NARROW_NR, x += 2 * ldx, next.at += tile)
        tile_i8_2(acc, first, x, ldx, b, groups, next);
    if (rows) tile_i8_1(acc, first, x, ldx, b, groups, next);
}

#endif

/* Of VW columns: what their sums are multiplied by and added to. */
struct columns_i8 {
    v sum, scale, bias;
};

RR_INLINE struct columns_i8 columns_i8(const struct rr_linear_i8 *a, uint32_t o, uint32_t n)
{
    if (n < VW)
        return (struct columns_i8){ v_load_n(a->w_sum + o, n), v_load_n(a->w_scale + o, n),
                                    v_load_n(a->bias + o, n) };
    return (struct columns_i8){ v_load(a->w_sum + o), v_load(a->w_scale + o),
                                v_load(a->bias + o) };
}

/* VW sums of a row become values before activation: the contract's chain of roundings.  fine: the
 * sums of lower digits are a row of acc further. */
RR_INLINE v finish_sums(const int32_t *acc, bool fine, float offset, float scale,
                        const struct columns_i8 *c)
{
    v sum = v_from_i32(vi_load(acc));

    if (fine) sum = v_fma(sum, v_set(RR_I8_BASE), v_from_i32(vi_load(acc + NARROW_NR)));
    sum = v_fma(sum, v_set(scale), v_mul(v_set(offset), c->sum));
    return v_fma(sum, c->scale, c->bias);
}

/* What follows GELU is rounded to 8 bits again: it need not be exact. */
RR_INLINE v activate_i8(v a, enum rr_act act)
{
    return act == RR_ACT_GELU ? v_gelu_i8(a) : activate(a, act);
}

/* Finished sums become rows of y: n of the columns from o on, which is NARROW_NR or, at the end,
 * less.  Nothing is read through a inside the loop: stores of y would have it read anew. */
RR_INLINE void finish_columns_i8(const struct rr_linear_i8 *a, const int32_t *acc, uint32_t row,
                                 uint32_t rows, uint32_t o, const uint32_t n, enum rr_act act)
{
    const float *scale = a->x.scale + row, *offset = a->x.offset + row;
    const float *res = a->residual ? a->residual + row * a->ldr + o : NULL;
    const size_t ldy = a->ldy, ldr = a->ldr;
    const enum rr_dtype dtype = a->half.dtype;
    const bool fine = a->x.fine;
    uint16_t *half = a->half.y ? a->half.y + row * ldy + o : NULL;
    float *y = half ? NULL : a->y + row * ldy + o;
    struct columns_i8 columns[NARROW_NV];

    RR_UNROLL
    for (uint32_t c = 0; c < NARROW_NR; c += VW)
        columns[c / VW] = columns_i8(a, o + RR_MIN(c, n), c < n ? n - c : 0);
    for (uint32_t i = 0; i < rows; i++, acc += fine ? 2 * NARROW_NR : NARROW_NR) {
        RR_UNROLL
        for (uint32_t c = 0; c < NARROW_NR; c += VW) {
            v s = finish_sums(acc + c, fine, offset[i], scale[i], &columns[c / VW]);

            s = activate_i8(s, act);

            if (c < n && half)
                store_half(half + c, s, dtype, n - c);
            else if (c < n)
                store_columns(y + c, s, res ? res + c : NULL, n - c);
        }
        if (half)
            half += ldy;
        else
            y += ldy;
        if (res) res += ldr;
    }
}

RR_INLINE void finish_panel(const struct rr_linear_i8 *a, const int32_t *acc, uint32_t row,
                            uint32_t rows, uint32_t o, enum rr_act act)
{
    if (a->n_end - o >= NARROW_NR)
        finish_columns_i8(a, acc, row, rows, o, NARROW_NR, act);
    else
        finish_columns_i8(a, acc, row, rows, o, a->n_end - o, act);
}

static void finish_i8(const struct rr_linear_i8 *a, const int32_t *acc, uint32_t row,
                      uint32_t rows, uint32_t o)
{
    switch (a->act) {
    case RR_ACT_NONE: finish_panel(a, acc, row, rows, o, RR_ACT_NONE); break;
    case RR_ACT_GELU: finish_panel(a, acc, row, rows, o, RR_ACT_GELU); break;
    case RR_ACT_RELU: finish_panel(a, acc, row, rows, o, RR_ACT_RELU); break;
    case RR_ACT_TANH: finish_panel(a, acc, row, rows, o, RR_ACT_TANH); break;
    case RR_ACT_SILU:
    case RR_ACT_GELU_TANH: break; /* of gated units only */
    }
}

#if !defined(I8_OWN_LINEAR)

/* What the sums of a panel start from: bytes are q - I8_ZERO, so each sum lacks I8_ZERO times its
 * weights' sum. */
static void start_i8(const struct rr_linear_i8 *a, int32_t *first, uint32_t o)
{
    for (uint32_t c = 0; c < NARROW_NR; c++)
        first[c] = I8_ZERO && o + c < a->n_end ? I8_ZERO * (int32_t)a->w_sum[o + c] : 0;
}

static void linear_i8(const struct rr_linear_i8 *a)
{
    int32_t acc[SUMS * NARROW_NR] RR_ALIGNED(64), first[NARROW_NR] RR_ALIGNED(64);
    uint32_t m = rr_i8_rows(&a->x, a->m), each = rr_i8_rows(&a->x, 1);
    uint32_t block = rows_a_panel(m, a->x.ld);
    size_t bytes = (size_t)rr_i8_depth(a->k) * NARROW_NR;

    for (uint32_t begin = 0; begin < m; begin += block) {
        uint32_t end = begin + RR_MIN(m - begin, block);

        for (uint32_t o = a->n_begin; o < a->n_end; o += NARROW_NR) {
            const int8_t *panel = a->panels + o / NARROW_NR * bytes;

            start_i8(a, first, o);
            for (uint32_t row = begin; row < end; row += SUMS) {
                uint32_t rows = RR_MIN(end - row, (uint32_t)SUMS);
                struct results y = results(a->y, &a->half, a->ldy, a->residual, a->ldr, row / each,
                                           o, a->n_end, NARROW_NR);

                if (each > 1) y.bytes = 0; /* tiles count the bytes' rows */
                tiles_i8(acc, first, a->x.q + row * a->x.ld, a->x.ld, panel, a->k, rows,
                         fetch_part(panel, bytes, row - begin, rows, end - begin, y));
                finish_i8(a, acc, row / each, rows / each, o);
            }
        }
    }
    tiles_end();
}

#endif
#endif
