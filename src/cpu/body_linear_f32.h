/* SPDX-License-Identifier: Apache-2.0 */
/* body_linear_f32.h - packed f32 matrix product with its epilogue.
 * Layer: cpu (L1).  Included by one level file, after body_rows.h; needs NR, the panel width (a
 * multiple of VW), MR, the rows of a full tile, and KC, the depth of a block along k.
 *
 * A tile is mr x NR sums in registers.  It starts from and ends in a small buffer, so that the
 * inner loop is alone in its function: compilers keep every sum in a register (check_spills), a row
 * of sums is the same chain of multiply-adds along k whatever mr and KC are, and the epilogue is
 * ordinary code.  The buffer's traffic is one load and store per KC multiply-adds. */
#ifndef RR_CPU_BODY_LINEAR_F32_H
#define RR_CPU_BODY_LINEAR_F32_H

#include "cpu/body_rows.h"
#include "cpu/body_math.h"

#define NV (NR / VW) /* vectors in a row of a tile */
#if !defined(MB)
#define MB (8 * MR) /* rows that share a panel's block while it is in the cache */
#endif

/* What the tiles fetch ahead: the weights after the block at hand, spread evenly over all its
 * tiles. Without it the first tile of each block waits for memory while the others wait for
 * nothing; worth a fifth of the time when the weights come from the L3 cache. */
struct ahead {
    const char *at;
    size_t step; /* bytes per turn of the inner loop */
};

/* acc[i][c] += sum over j < k of x[i][j] * b[j][c], in the order of j. */
RR_INLINE void tile_f32(float *acc, const float *x, size_t ldx, const float *b, uint32_t k,
                        struct ahead next, const int mr)
{
    v s[MR][NV];

    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NV; c++)
            s[i][c] = v_load(acc + i * NR + c * VW);
    for (uint32_t j = 0; j < k; j++) {
        v w[NV];

        RR_UNROLL
        for (int c = 0; c < NV; c++)
            w[c] = v_load(b + c * VW);
        RR_UNROLL
        for (int i = 0; i < mr; i++) {
            v a = v_set(x[(size_t)i * ldx + j]);

            RR_UNROLL
            for (int c = 0; c < NV; c++)
                s[i][c] = v_fma(a, w[c], s[i][c]);
        }
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.step;
        b += NR;
    }
    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NV; c++)
            v_store(acc + i * NR + c * VW, s[i][c]);
}

#define TILE(mr)                                                                                   \
    static RR_NOINLINE void tile_f32_##mr(float *acc, const float *x, size_t ldx, const float *b,  \
                                          uint32_t k, struct ahead next)                           \
    {                                                                                              \
        tile_f32(acc, x, ldx, b, k, next, mr);                                                     \
    }
TILE(6)
TILE(4)
TILE(2)
TILE(1)
#undef TILE

/* The same for any number of rows. */
static void tiles_f32(float *acc, const float *x, size_t ldx, const float *b, uint32_t k,
                      uint32_t rows)
{
    uint32_t turns = rows / 6 + rows % 6 / 4 + rows % 6 % 4 / 2 + rows % 2; /* tiles */
    struct ahead next = { (const char *)(b + (size_t)k * NR), NR * sizeof(float) / turns };
    size_t tile = next.step * k;

    for (; rows >= 6; rows -= 6, acc += 6 * NR, x += 6 * ldx, next.at += tile)
        tile_f32_6(acc, x, ldx, b, k, next);
    for (; rows >= 4; rows -= 4, acc += 4 * NR, x += 4 * ldx, next.at += tile)
        tile_f32_4(acc, x, ldx, b, k, next);
    for (; rows >= 2; rows -= 2, acc += 2 * NR, x += 2 * ldx, next.at += tile)
        tile_f32_2(acc, x, ldx, b, k, next);
    if (rows) tile_f32_1(acc, x, ldx, b, k, next);
}

RR_INLINE v activate(v a, enum rr_act act)
{
    float t[VW];

    if (act == RR_ACT_GELU) return v_gelu(a);
    if (act == RR_ACT_RELU) return v_max(v_set(0.0f), a);
    if (act == RR_ACT_TANH) { /* the head only: one row per sequence */
        v_store(t, a);
        for (int i = 0; i < VW; i++)
            t[i] = tanhf(t[i]);
        return v_load(t);
    }
    return a;
}

/* Rows of a finished tile become rows of y: columns [o, o + NR), the last cols < NR past n. */
RR_INLINE void finish_f32(const struct rr_linear_f32 *a, const float *acc, uint32_t row,
                          uint32_t rows, uint32_t o, enum rr_act act)
{
    uint32_t end = RR_MIN(o + NR, a->n_end);

    for (uint32_t i = 0; i < rows; i++, acc += NR) {
        float *y = a->y + (row + i) * a->ldy;
        const float *res = a->residual ? a->residual + (row + i) * a->ldr : NULL;
        uint32_t c = o;

        for (; c + VW <= end; c += VW) {
            v s = activate(v_add(v_load(acc + (c - o)), v_load(a->bias + c)), act);

            if (res) s = v_add(s, v_load(res + c));
            v_store(y + c, s);
        }
        if (c < end) {
            v s = activate(v_add(v_load(acc + (c - o)), v_load_n(a->bias + c, end - c)), act);

            if (res) s = v_add(s, v_load_n(res + c, end - c));
            v_store_n(y + c, s, end - c);
        }
    }
}

static void linear_f32(const struct rr_linear_f32 *a)
{
    float acc[MB * NR] RR_ALIGNED(64);

    for (uint32_t row = 0; row < a->m; row += MB) {
        uint32_t rows = RR_MIN(a->m - row, (uint32_t)MB);

        for (uint32_t o = a->n_begin; o < a->n_end; o += NR) {
            const float *panel = a->panels + (size_t)o * a->k;

            memset(acc, 0, rows * NR * sizeof(*acc));
            for (uint32_t k = 0; k < a->k; k += KC)
                tiles_f32(acc, a->x + row * a->ldx + k, a->ldx, panel + (size_t)k * NR,
                          RR_MIN(a->k - k, (uint32_t)KC), rows);
            switch (a->act) {
            case RR_ACT_NONE: finish_f32(a, acc, row, rows, o, RR_ACT_NONE); break;
            case RR_ACT_GELU: finish_f32(a, acc, row, rows, o, RR_ACT_GELU); break;
            case RR_ACT_RELU: finish_f32(a, acc, row, rows, o, RR_ACT_RELU); break;
            case RR_ACT_TANH: finish_f32(a, acc, row, rows, o, RR_ACT_TANH); break;
            case RR_ACT_SILU:
            case RR_ACT_GELU_TANH: break; /* of gated units only */
            }
        }
    }
}

#endif
