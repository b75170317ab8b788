/* SPDX-License-Identifier: Apache-2.0 */
/* body_linear_bf16.h - packed product with bf16 weights.
 * Layer: cpu (L1).  Included by one level file, after body_linear_f32.h.  Two forms:
 *   by default inputs are f32 and the weights are widened in the inner loop: half the memory
 * traffic
 *   of f32, the same arithmetic;
 *   with BF16_DOT inputs are bf16 and dot_bf16(sum, pair of inputs in every lane, VW pairs) does
 *   both products at once;
 *   a level with tiles of its own defines tiles_bf16, BF16_OWN_TILES and bf16_in, the input
 * type, or linear_bf16 as well, and BF16_OWN_LINEAR. */
#ifndef RR_CPU_BODY_LINEAR_BF16_H
#define RR_CPU_BODY_LINEAR_BF16_H

#include "cpu/body_linear_f32.h"
#include "cpu/body_rows_i8.h"

#if !defined(BF16_OWN_TILES) && !defined(BF16_OWN_LINEAR)

#if defined(BF16_DOT)
typedef uint16_t bf16_in;
#define BF16_X RR_BF16
#define BF16_MR MR
#else
typedef float bf16_in;
#define BF16_X RR_F32
#define BF16_MR 4 /* widening needs registers */
#endif

/* The sums of a tile over k, in registers. */
#if defined(BF16_DOT)
RR_INLINE void tile_products(v s[BF16_MR][NARROW_NV], const bf16_in *x, size_t ldx,
                             const uint16_t *b, uint32_t k, struct ahead next, const int mr)
{
    for (uint32_t j = 0; j < k; j += 2) { /* an odd k has a 0 after it */
        vi w[NARROW_NV];

        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            w[c] = vi_load(b + 2 * c * VW);
        RR_UNROLL
        for (int i = 0; i < mr; i++) {
            vi a = vi_pair(x + (size_t)i * ldx + j);

            RR_UNROLL
            for (int c = 0; c < NARROW_NV; c++)
                s[i][c] = dot_bf16(s[i][c], a, w[c]);
        }
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.step;
        b += 2 * NARROW_NR;
    }
}
#else
RR_INLINE void tile_products(v s[BF16_MR][NARROW_NV], const bf16_in *x, size_t ldx,
                             const uint16_t *b, uint32_t k, struct ahead next, const int mr)
{
    for (uint32_t j = 0; j < k; j += 2) {
        v w[NARROW_NV];

        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            w[c] = v_first_bf16(vi_load(b + 2 * c * VW));
        RR_UNROLL
        for (int i = 0; i < mr; i++)
            RR_UNROLL
            for (int c = 0; c < NARROW_NV; c++)
                s[i][c] = v_fma(v_set(x[(size_t)i * ldx + j]), w[c], s[i][c]);
        if (j + 1 == k) break; /* the input has no value for the second half of the last pair */
        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            w[c] = v_second_bf16(vi_load(b + 2 * c * VW));
        RR_UNROLL
        for (int i = 0; i < mr; i++)
            RR_UNROLL
            for (int c = 0; c < NARROW_NV; c++)
                s[i][c] = v_fma(v_set(x[(size_t)i * ldx + j + 1]), w[c], s[i][c]);
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.step;
        b += 2 * NARROW_NR;
    }
}
#endif

RR_INLINE void tile_bf16(float *acc, const bf16_in *x, size_t ldx, const uint16_t *b, uint32_t k,
                         struct ahead next, const int mr)
{
    v s[BF16_MR][NARROW_NV];

    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            s[i][c] = v_set(0);
    tile_products(s, x, ldx, b, k, next, mr);
    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NARROW_NV; c++)
            v_store(acc + i * NARROW_NR + c * VW, s[i][c]);
}

#define TILE(mr)                                                                                   \
    static RR_NOINLINE void tile_bf16_##mr(float *acc, const bf16_in *x, size_t ldx,               \
                                           const uint16_t *b, uint32_t k, struct ahead next)       \
    {                                                                                              \
        tile_bf16(acc, x, ldx, b, k, next, mr);                                                    \
    }
#if BF16_MR >= 6
TILE(6)
#endif
TILE(4)
TILE(2)
TILE(1)
#undef TILE

/* acc[rows][NARROW_NR] = rows of x times a panel; meanwhile part of the next one is fetched. */
static void tiles_bf16(float *acc, const bf16_in *x, size_t ldx, const uint16_t *b, uint32_t k,
                       uint32_t rows, struct fetch part)
{
    uint32_t pairs = (k + 1) / 2;
    struct ahead next = spread(part, (rows + BF16_MR - 1) / BF16_MR, pairs);
    size_t tile = next.step * pairs;

#if BF16_MR >= 6
    for (; rows >= 6; rows -= 6, acc += 6 * NARROW_NR, x += 6 * ldx, next.at += tile) {
        fetch_results(&part.results, 6);
        tile_bf16_6(acc, x, ldx, b, k, next);
    }
#endif
    for (; rows >= 4; rows -= 4, acc += 4 * NARROW_NR, x += 4 * ldx, next.at += tile) {
        fetch_results(&part.results, 4);
        tile_bf16_4(acc, x, ldx, b, k, next);
    }
    for (; rows >= 2; rows -= 2, acc += 2 * NARROW_NR, x += 2 * ldx, next.at += tile)
        tile_bf16_2(acc, x, ldx, b, k, next);
    if (rows) tile_bf16_1(acc, x, ldx, b, k, next);
}

#endif

#if !defined(BF16_OWN_LINEAR)

static void linear_bf16(const struct rr_linear_bf16 *a)
{
    float acc[SUMS * NARROW_NR] RR_ALIGNED(64);
    size_t panel = ((size_t)a->k + 1) / 2 * 2 * NARROW_NR; /* weights */
    struct rr_linear_f32 f = { .y = a->y, .bias = a->bias, .residual = a->residual, .ldy = a->ldy,
                               .ldr = a->ldr, .n_end = a->n_end, .act = a->act };
    uint32_t block = rows_a_panel(a->m, a->ldx * sizeof(bf16_in));

    for (uint32_t begin = 0; begin < a->m; begin += block) {
        uint32_t end = begin + RR_MIN(a->m - begin, block);

        for (uint32_t o = a->n_begin; o < a->n_end; o += NARROW_NR) {
            const uint16_t *b = a->panels + o / NARROW_NR * panel;

            for (uint32_t row = begin; row < end; row += SUMS) {
                uint32_t rows = RR_MIN(end - row, (uint32_t)SUMS);

                tiles_bf16(acc, (const bf16_in *)a->x + row * a->ldx, a->ldx, b, a->k, rows,
                           fetch_part(b, panel * 2, row - begin, rows, end - begin,
                                      results(a->y, &a->half, a->ldy, a->residual, a->ldr, row, o,
                                              a->n_end, NARROW_NR)));
                finish_f32(&f, &a->half, acc, NARROW_NR, row, rows, o, o + 1);
            }
        }
    }
    tiles_end();
}

#endif
#endif
