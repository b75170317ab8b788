/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_f32.cu - y = act(x W^T + b) + residual in f32 by fused multiply-adds: precision f32, and the
 * last layer of the head in every precision. */
#include "device.h"
#include "kern.h"

namespace
{

constexpr int BM = 64, BN = 64, BK = 16, THREADS = 256;

struct Shared {
    float a[BK][BM + 4], w[BK][BN + 4]; /* + 4: the transposing stores hit other banks */
};

__device__ inline float activate_any(float v, enum rr_act act)
{
    switch (act) {
    case RR_ACT_GELU: return 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
    case RR_ACT_RELU: return v < 0 ? 0.0f : v;
    case RR_ACT_TANH: return tanhf(v);
    default: return v;
    }
}

__device__ inline void finish_f32(const GemmArgs &p, uint32_t row, uint32_t column, float v)
{
    if (column >= p.dst.ld) return;
    v = activate_any(v + p.bias[column], p.act);
    if (column >= p.n)
        v = 0;
    else if (p.residual)
        v += p.residual[(size_t)row * p.ld_residual + column];
    if (p.dst.f32) p.dst.f32[(size_t)row * p.dst.ld + column] = v;
    if (p.dst.narrow)
        p.dst.narrow[(size_t)row * p.dst.ld + column] =
            p.bf16 ? dev::narrow_from<dev::BF16>(v) : dev::narrow_from<dev::F16>(v);
}

/* Each thread computes 4 x 4; sums run over k in ascending order. */
__global__ void __launch_bounds__(THREADS) gemm_f32(const GemmArgs p)
{
    RR_SHARED(memory);
    Shared &s = *(Shared *)memory;
    uint32_t m = *p.rows, ld = p.ld_bytes / 4, row0 = blockIdx.y * BM, column0 = blockIdx.x * BN;
    int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    int load_row = (int)threadIdx.x / 4, load_k = (int)threadIdx.x % 4 * 4;
    const float *a, *w;
    float sum[4][4] = {};

    if (row0 >= m) return;
    uint32_t row = row0 + load_row < m ? row0 + load_row : m - 1;
    a = (const float *)p.a + (size_t)row * ld + load_k;
    w = (const float *)p.w + (size_t)(column0 + load_row) * ld + load_k;
    for (uint32_t k = 0; k < ld; k += BK) {
        float4 av = *(const float4 *)(a + k), wv = *(const float4 *)(w + k);

        __syncthreads();
        s.a[load_k][load_row] = av.x;
        s.a[load_k + 1][load_row] = av.y;
        s.a[load_k + 2][load_row] = av.z;
        s.a[load_k + 3][load_row] = av.w;
        s.w[load_k][load_row] = wv.x;
        s.w[load_k + 1][load_row] = wv.y;
        s.w[load_k + 2][load_row] = wv.z;
        s.w[load_k + 3][load_row] = wv.w;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < BK; i++) {
            float4 x = *(const float4 *)&s.a[i][ty * 4], y = *(const float4 *)&s.w[i][tx * 4];
            float xs[4] = { x.x, x.y, x.z, x.w }, ys[4] = { y.x, y.y, y.z, y.w };
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) sum[r][c] = fmaf(xs[r], ys[c], sum[r][c]);
        }
    }
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++)
            if (row0 + ty * 4 + r < m)
                finish_f32(p, row0 + ty * 4 + r, column0 + tx * 4 + c, sum[r][c]);
}

} // namespace

cudaError_t launch_gemm_f32(const LaunchContext &c, enum rr_rows rows, const GemmArgs &a)
{
    dim3 grid((a.n + BN - 1) / BN, (c.rows[rows] + BM - 1) / BM);

    return RR_LAUNCH(gemm_f32, grid, dim3(THREADS), sizeof(Shared), c.stream, a);
}
