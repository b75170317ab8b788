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

/* Two neighbouring columns of one row. */
template <class T, Act act>
__device__ inline void finish(const GemmArgs &p, uint32_t row, uint32_t column, float v0, float v1)
{
    float v[2] = { v0, v1 };

    if (column >= p.dst.ld) return;
#pragma unroll
    for (int e = 0; e < 2; e++) {
        uint32_t c = column + e;

        if (T::offset)
            v[e] = p.w_scale[c] * (p.a_scale[row] * v[e] + p.a_offset[row] * p.w_sum[c]);
        else if (T::scaled)
            v[e] = p.w_scale[c] * (p.a_scale[row] * v[e]);
        v[e] = activate<act>(v[e] + p.bias[c], p.act);
        if (c >= p.n)
            v[e] = 0;
        else if (p.residual)
            v[e] += p.residual[(size_t)row * p.ld_residual + c];
    }
    if (p.dst.f32) *(float2 *)&p.dst.f32[(size_t)row * p.dst.ld + column] = make_float2(v[0], v[1]);
    if (p.dst.narrow)
        *(uint32_t *)&p.dst.narrow[(size_t)row * p.dst.ld + column] =
            (T::scaled ? p.bf16 : T::narrow == BF16) ? narrow_pair<BF16>(v[0], v[1])
                                                     : narrow_pair<F16>(v[0], v[1]);
}

} // namespace dev

/* gemm_sm90.cu: the same product with what only compute capability 9.0 has. */
cudaError_t launch_gemm_sm90(const LaunchContext &c, uint32_t rows, GemmType type,
                             const GemmArgs &a);

#endif
