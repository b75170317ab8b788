/* SPDX-License-Identifier: Apache-2.0 */
/* gemm.h - what the products on tensor cores have in common: types of operands, and what happens to
 * a sum before it is stored. */
#ifndef RR_CUDA_GEMM_H
#define RR_CUDA_GEMM_H

#include "device.h"
#include "kern.h"

namespace dev
{

/* bytes: of an operand; scaled: by a_scale of the row and w_scale of the column; offset: int8's
 * rows are offset + scale q, fp8's are scale q.  partial: sums of 128 products are added up in f32
 * outside of the tensor cores, whose own sums of fp8 keep fewer bits than f32 has. */
struct TypeF16 {
    using Sum = float;
    static constexpr Narrow narrow = F16;
    static constexpr bool scaled = false, offset = false, partial = false;
    static constexpr int bytes = 2;
    __device__ static void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
    {
        mma_f16(c, a, b0, b1);
    }
};
struct TypeBF16 {
    using Sum = float;
    static constexpr Narrow narrow = BF16;
    static constexpr bool scaled = false, offset = false, partial = false;
    static constexpr int bytes = 2;
    __device__ static void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
    {
        mma_bf16(c, a, b0, b1);
    }
};
struct TypeI8 {
    using Sum = int;
    static constexpr Narrow narrow = F16;
    static constexpr bool scaled = true, offset = true, partial = false;
    static constexpr int bytes = 1;
    __device__ static void mma(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
    {
        mma_s8(c, a, b0, b1);
    }
};
struct TypeF8 {
    using Sum = float;
    static constexpr Narrow narrow = F16;
    static constexpr bool scaled = true, offset = false, partial = true;
    static constexpr int bytes = 1;
    __device__ static void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
    {
        mma_f8(c, a, b0, b1);
    }
};

enum Act { ACT_NONE, ACT_GELU, ACT_OTHER };

template <Act act> __device__ inline float activate(float v, enum rr_act kind)
{
    if (act == ACT_GELU) return 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
    if (act == ACT_OTHER) return kind == RR_ACT_TANH ? tanhf(v) : v < 0 ? 0.0f : v;
    return v;
}

/* ---- from sums to memory ------------------------------------------------------------------------ */

/* The factors of four columns, for all rows. */
template <class T> struct Columns {
    Four bias, scale, sum;

    __device__ Columns(const GemmArgs &p, uint32_t column) : bias(load_four(p.bias + column))
    {
        if (T::scaled) scale = load_four(p.w_scale + column);
        if (T::offset) sum = load_four(p.w_sum + column);
    }
};

/* Four sums of a row become results. */
template <class T, Act act>
__device__ inline void finish(const GemmArgs &p, uint32_t row, uint32_t column, const Columns<T> &c,
                              const Four &residual, Four &x)
{
    float scale = T::scaled ? load_only(p.a_scale + row) : 0;
    float offset = T::offset ? load_only(p.a_offset + row) : 0;

#pragma unroll
    for (int e = 0; e < 4; e++) {
        if (T::offset)
            x.v[e] = c.scale.v[e] * (scale * x.v[e] + offset * c.sum.v[e]);
        else if (T::scaled)
            x.v[e] = c.scale.v[e] * (scale * x.v[e]);
        x.v[e] = activate<act>(x.v[e] + c.bias.v[e], p.act) + residual.v[e];
        if (column + e >= p.n) x.v[e] = 0;
    }
    store_four(p.dst.f32, p.dst.narrow, T::scaled ? p.bf16 : T::narrow == BF16,
               (size_t)row * p.dst.ld + column, x);
}

/* The results of two rows, `apart` from each other, in `blocks` blocks of eight columns.  sum(j,
 * 2 h + e) is this lane's value in block j, row h.  Two blocks at a time lanes exchange theirs
 * (device.h), and each has four columns of one, from `column` on in block 0: whole sectors of
 * memory are written at once.  Where registers allow, the next residuals are on their way
 * meanwhile.  All lanes call; a row from m on is not stored. */
template <class T, Act act, int bit, int blocks, class Sums>
__device__ inline void finish_rows(const GemmArgs &p, uint32_t m, uint32_t row, uint32_t apart,
                                   uint32_t column, Sums sum)
{
    constexpr bool ahead = !T::scaled && act == ACT_NONE;
    Four now[2] = {}, next[2] = {};
    auto load = [&](Four &to, uint32_t c, int h) {
        if (p.residual && row + h * apart < m && c < p.dst.ld)
            to = load_four(p.residual + (size_t)(row + h * apart) * p.ld_residual + c);
    };

    if (threadIdx.x & bit) column += 8;
    if (ahead) load(now[0], column, 0), load(now[1], column, 1);
#pragma unroll
    for (int j = 0; j < blocks; j += 2) {
        uint32_t c = column + j * 8;
        Four x[2];

        if (ahead && j + 2 < blocks) load(next[0], c + 16, 0), load(next[1], c + 16, 1);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float first[2] = { sum(j, 2 * h), sum(j, 2 * h + 1) };
            float second[2] = { sum(j + 1, 2 * h), sum(j + 1, 2 * h + 1) };
            x[h] = exchange<bit>(first, second);
        }
        if (c < p.dst.ld) {
            Columns<T> columns(p, c);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (!ahead) load(now[h], c, h);
                if (row + h * apart < m)
                    finish<T, act>(p, row + h * apart, c, columns, now[h], x[h]);
            }
        }
        if (ahead) now[0] = next[0], now[1] = next[1];
    }
}

} // namespace dev

/* gemm_sm90.cu: the same product with what only compute capability 9.0 has. */
cudaError_t launch_gemm_sm90(const LaunchContext &c, uint32_t rows, GemmType type,
                             const GemmArgs &a);

#endif
