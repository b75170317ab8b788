/* SPDX-License-Identifier: Apache-2.0 */
/* tile_mmla.h - int8 and bf16 tiles on SMMLA and BFMMLA.  Layer: cpu (L1).
 * Included by one level file, after body_linear_f32.h; it defines tiles_i8 and tiles_bf16.
 *
 * Both instructions take 8 bytes of two rows and 8 bytes of two columns and add a 2 x 2 block; two
 * groups of a packed panel, interleaved, are such columns. */
#ifndef RR_CPU_ARM_TILE_MMLA_H
#define RR_CPU_ARM_TILE_MMLA_H

#include <string.h>

#include "cpu/arm/vec_neon.h"
#include "cpu/body_linear_f32.h"

#define I8_TOP 254
#define I8_WTOP RR_I8_WFREE
#define I8_ZERO 127
#define I8_OWN_TILES
#define BF16_X RR_BF16
#define BF16_OWN_TILES

typedef uint16_t bf16_in;

static inline void v_store_bf16(uint16_t *p, v a)
{
    vst1_u16(p, vreinterpret_u16_bf16(vcvt_bf16_f32(a)));
}

/* One 2 x 2 block; sums are int32 or, as bits, float. */
RR_INLINE int32x4_t mmla(int32x4_t s, int8x16_t x, int8x16_t w, const bool bf16)
{
    if (bf16)
        return vreinterpretq_s32_f32(vbfmmlaq_f32(vreinterpretq_f32_s32(s),
                                                  vreinterpretq_bf16_s8(x),
                                                  vreinterpretq_bf16_s8(w)));
    return vmmlaq_s32(s, x, w);
}

/* acc: [mr][NR] sums.  x: rows ldx bytes apart, 8 bytes a step.  b: two groups a step. */
RR_INLINE void tile_mmla(void *acc, const int8_t *x, size_t ldx, const int8_t *b, uint32_t steps,
                         struct ahead next, const int mr, const bool bf16)
{
    int32x4_t s[3][NR / 2];
    int32_t *sums = (int32_t *)acc;

    RR_UNROLL
    for (int i = 0; i < mr; i += 2)
        RR_UNROLL
        for (int c = 0; c < NR / 2; c++) {
            int32x2_t lo = vld1_s32(sums + i * NR + 2 * c);

            s[i / 2][c] = vcombine_s32(lo, i + 1 < mr ? vld1_s32(sums + (i + 1) * NR + 2 * c) : lo);
        }
    for (uint32_t j = 0; j < steps; j++) {
        int8x16_t a[3];

        RR_UNROLL
        for (int i = 0; i < mr; i += 2)
            a[i / 2] = vcombine_s8(vld1_s8(x + (size_t)i * ldx),
                                   vld1_s8(x + (size_t)(i + 1 < mr ? i + 1 : i) * ldx));
        RR_UNROLL
        for (int c = 0; c < NR; c += 4) {
            int32x4_t w0 = vi_load(b + 4 * c), w1 = vi_load(b + 4 * (NR + c));
            int8x16_t z0 = vreinterpretq_s8_s32(vzip1q_s32(w0, w1));
            int8x16_t z1 = vreinterpretq_s8_s32(vzip2q_s32(w0, w1));

            RR_UNROLL
            for (int i = 0; i < mr; i += 2) {
                s[i / 2][c / 2] = mmla(s[i / 2][c / 2], a[i / 2], z0, bf16);
                s[i / 2][c / 2 + 1] = mmla(s[i / 2][c / 2 + 1], a[i / 2], z1, bf16);
            }
        }
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.step;
        x += 8;
        b += 2 * 4 * NR;
    }
    RR_UNROLL
    for (int i = 0; i < mr; i += 2)
        RR_UNROLL
        for (int c = 0; c < NR / 2; c++) {
            vst1_s32(sums + i * NR + 2 * c, vget_low_s32(s[i / 2][c]));
            if (i + 1 < mr) vst1_s32(sums + (i + 1) * NR + 2 * c, vget_high_s32(s[i / 2][c]));
        }
}

#define TILE(name, mr, bf16)                                                                       \
    static RR_NOINLINE void name(void *acc, const int8_t *x, size_t ldx, const int8_t *b,          \
                                 uint32_t steps, struct ahead next)                                \
    {                                                                                              \
        tile_mmla(acc, x, ldx, b, steps, next, mr, bf16);                                          \
    }
TILE(tile_i8_6, 6, false)
TILE(tile_i8_4, 4, false)
TILE(tile_i8_2, 2, false)
TILE(tile_i8_1, 1, false)
TILE(tile_bf16_6, 6, true)
TILE(tile_bf16_4, 4, true)
TILE(tile_bf16_2, 2, true)
TILE(tile_bf16_1, 1, true)
#undef TILE

typedef void tile_fn(void *acc, const int8_t *x, size_t ldx, const int8_t *b, uint32_t steps,
                     struct ahead next);

static void tiles(tile_fn *const four[4], void *acc, const int8_t *x, size_t ldx, const int8_t *b,
                  uint32_t steps, uint32_t rows, struct fetch part)
{
    static const uint32_t size[4] = { 6, 4, 2, 1 };
    struct ahead next = spread(part, (rows + 5) / 6, steps);
    int32_t *sums = (int32_t *)acc;

    for (int t = 0; t < 4; t++)
        for (; rows >= size[t]; rows -= size[t]) {
            fetch_results(&part.results, size[t]);
            four[t](sums, x, ldx, b, steps, next);
            sums += size[t] * NR;
            x += size[t] * ldx;
            next.at += next.step * steps;
        }
}

static void tiles_i8(int32_t *acc, const int32_t *first, const int8_t *x, size_t ldx,
                     const int8_t *b, uint32_t k, uint32_t rows, struct fetch part)
{
    static tile_fn *const four[4] = { tile_i8_6, tile_i8_4, tile_i8_2, tile_i8_1 };

    for (uint32_t i = 0; i < rows; i++)
        memcpy(acc + i * NR, first, NR * sizeof(*acc));
    tiles(four, acc, x, ldx, b, (k + 7) / 8, rows, part);
}

static void tiles_bf16(float *acc, const bf16_in *x, size_t ldx, const uint16_t *b, uint32_t k,
                       uint32_t rows, struct fetch part)
{
    static tile_fn *const four[4] = { tile_bf16_6, tile_bf16_4, tile_bf16_2, tile_bf16_1 };
    uint32_t pairs = (k + 1) / 2;

    memset(acc, 0, (size_t)rows * NR * sizeof(*acc));
    tiles(four, acc, (const int8_t *)x, 2 * ldx, (const int8_t *)b, pairs / 2, rows, part);
    if (pairs % 2) { /* the last pair, with zeros beside it */
        uint16_t xt[MB * 4] = { 0 }, bt[2 * 2 * NR] = { 0 };

        for (uint32_t i = 0; i < rows; i++)
            memcpy(xt + 4 * i, x + i * ldx + 2 * (pairs - 1), 4);
        memcpy(bt, b + (size_t)(pairs - 1) * 2 * NR, 4 * NR);
        tiles(four, acc, (const int8_t *)xt, 8, (const int8_t *)bt, 1, rows,
              (struct fetch){ .at = (const char *)bt });
    }
}

#endif
