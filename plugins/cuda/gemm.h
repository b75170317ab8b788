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

/* GELU with its erf, off by 7e-6 at most, which is less than 16 bits of the result keep: erff takes
 * twice as many instructions, and there is a result for each 1024 products.  The normal distribution's
 * odd part is x P(x^2), a minimax fit up to |x| = 5; beyond it is 0 or 1. */
__device__ inline float gelu(float x)
{
    const float c[] = { 0.141364023f, -0.0702983886f, 0.0515257157f, -0.0403918959f,
                        0.0313540772f, -0.0236246828f, 0.0169214420f, -0.0101708174f,
                        0.00509492913f, -0.00387485698f, 0.00320456969f, -0.00110404589f };
    constexpr int n = sizeof(c) / sizeof(*c);
    float inside = fminf(fmaxf(x, -5.0f), 5.0f), t = fmaf(inside * inside, 0.08f, -1.0f), sum = c[n - 1];

#pragma unroll
    for (int i = n - 2; i >= 0; i--) sum = fmaf(sum, t, c[i]);
    return x * __saturatef(fmaf(inside, sum, 0.5f));
}

template <Act act> __device__ inline float activate(float v, enum rr_act kind)
{
    if (act == ACT_GELU) return gelu(v);
    if (act == ACT_OTHER) return kind == RR_ACT_TANH ? tanhf(v) : v < 0 ? 0.0f : v;
    return v;
}

/* ---- from sums to memory ------------------------------------------------------------------------ */

/* The factors of four columns, for all rows. */
template <class T> struct Columns {
    Four bias, scale, sum;

    Columns() = default;
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
    float scale = T::scaled ? load_input(p.a_scale + row) : 0;
    float offset = T::offset ? load_input(p.a_offset + row) : 0;

#pragma unroll
    for (int e = 0; e < 4; e++) {
        if (T::offset)
            x.v[e] = c.scale.v[e] * (scale * x.v[e] + offset * c.sum.v[e]);
        else if (T::scaled)
            x.v[e] = c.scale.v[e] * (scale * x.v[e]);
        x.v[e] = activate<act>(x.v[e] + c.bias.v[e], p.act) + residual.v[e];
    }
    if (column + 4 > p.n)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (column + e >= p.n) x.v[e] = 0;
}

/* The results of two rows, `apart` from each other, in `blocks` blocks of eight columns.  sum(j,
 * 2 h + e) is this lane's value in block j, row h.  Two blocks at a time lanes exchange theirs
 * (device.h), and each has four columns of one, from `column` on in block 0: whole sectors of
 * memory are written at once.  What is added to the next `ahead` pairs of blocks is on its way
 * meanwhile, as registers allow.  All lanes call; a row from m on is not stored. */
template <class T, Act act, int bit, int blocks, int ahead, class Sums>
__device__ inline void finish_rows(const GemmArgs &p, uint32_t m, uint32_t row, uint32_t apart,
                                   uint32_t column, Sums sum)
{
    constexpr int pairs = blocks / 2, held = ahead + 1;
    uint32_t rows[2] = { row < m ? row : m - 1, row + apart < m ? row + apart : m - 1 };
    uint4 residual[held][2] = {}; /* as it lies there */
    Columns<T> columns[held];
    bool wide = T::narrow == BF16 || p.residual;
    const char *from = wide ? (const char *)p.residual : (const char *)p.residual_narrow;
    auto fetch = [&](int j) {
        uint32_t c = column + j * 16;

        if (c >= p.dst.ld) return;
        columns[j % held] = Columns<T>(p, c);
        if (!from) return;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const char *at = from + ((size_t)rows[h] * p.ld_residual + c) * (wide ? 4 : 2);

            if (wide) {
                residual[j % held][h] = load_input((const uint4 *)at);
            } else {
                uint2 bits = load_input((const uint2 *)at);
                residual[j % held][h].x = bits.x;
                residual[j % held][h].y = bits.y;
            }
        }
    };

    if (threadIdx.x & bit) column += 8;
#pragma unroll
    for (int j = 0; j < ahead && j < pairs; j++) fetch(j);
#pragma unroll
    for (int j = 0; j < pairs; j++) {
        uint32_t c = column + j * 16;
        Four x[2];

        if (j + ahead < pairs) fetch(j + ahead);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float first[2] = { sum(2 * j, 2 * h), sum(2 * j, 2 * h + 1) };
            float second[2] = { sum(2 * j + 1, 2 * h), sum(2 * j + 1, 2 * h + 1) };
            x[h] = exchange<bit>(first, second);
        }
        if (c >= p.dst.ld) continue;
#pragma unroll
        for (int h = 0; h < 2; h++) /* both before a store: they fill each other's pauses */
            finish<T, act>(p, rows[h], c, columns[j % held],
                           wide ? four_from(residual[j % held][h])
                                : four_from<F16>(residual[j % held][h].x, residual[j % held][h].y),
                           x[h]);
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (row + h * apart < m)
                store_four(p.dst.f32, p.dst.narrow, T::scaled ? p.bf16 : T::narrow == BF16,
                           (size_t)rows[h] * p.dst.ld + c, x[h]);
    }
}

} // namespace dev

/* gemm_sm90.cu: the same product with what only compute capability 9.0 has. */
cudaError_t launch_gemm_sm90(const LaunchContext &c, uint32_t rows, GemmType type,
                             const GemmArgs &a);

#endif
