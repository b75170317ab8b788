/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_f32.cu - y = act(x W^T + b) + residual in f32 by fused multiply-adds: precision f32, the last
 * layer of the head in every precision, and a pair that is repeated: over weights as they are stored
 * for the others.  Few outputs are dot products, which have kernels of their own. */
#include "device.h"
#include "kern.h"

namespace
{

constexpr int BM = 64, BN = 64, BK = 16, THREADS = 256;

struct Shared {
    float a[BK][BM + 4], w[BK][BN + 4]; /* + 4: the transposing stores hit other banks */
};

/* Four neighbours of a row of W, as f32; bytes without their row's scale. */
template <GemmType stored> __device__ inline float4 weights_at(const unsigned char *row, uint32_t k)
{
    if (stored == GEMM_F32) return *(const float4 *)(row + (size_t)k * 4);
    if (stored == GEMM_F16 || stored == GEMM_BF16) {
        constexpr dev::Narrow narrow = stored == GEMM_BF16 ? dev::BF16 : dev::F16;
        uint2 u = *(const uint2 *)(row + (size_t)k * 2);
        return { dev::narrow_to<narrow>((uint16_t)u.x), dev::narrow_to<narrow>((uint16_t)(u.x >> 16)),
                 dev::narrow_to<narrow>((uint16_t)u.y), dev::narrow_to<narrow>((uint16_t)(u.y >> 16)) };
    }
    uint32_t u = *(const uint32_t *)(row + k);
    if (stored == GEMM_F8)
        return { dev::f8_to((uint8_t)u), dev::f8_to((uint8_t)(u >> 8)),
                 dev::f8_to((uint8_t)(u >> 16)), dev::f8_to((uint8_t)(u >> 24)) };
    return { (float)(int8_t)u, (float)(int8_t)(u >> 8), (float)(int8_t)(u >> 16),
             (float)(int8_t)(u >> 24) };
}

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
    if (p.w_scale) v *= p.w_scale[column];
    v = activate_any(v + p.bias[column], p.act);
    if (column >= p.n)
        v = 0;
    else if (p.residual)
        v += p.residual[(size_t)row * p.ld_residual + column];
    else if (p.residual_narrow)
        v += dev::f16_to(p.residual_narrow[(size_t)row * p.ld_residual + column]);
    if (p.dst.f32) p.dst.f32[(size_t)row * p.dst.ld + column] = v;
    if (p.dst.narrow)
        p.dst.narrow[(size_t)row * p.dst.ld + column] =
            p.bf16 ? dev::narrow_from<dev::BF16>(v) : dev::narrow_from<dev::F16>(v);
}

/* Each thread computes 4 x 4; sums run over k in ascending order. */
template <GemmType stored> __global__ void __launch_bounds__(THREADS) gemm_f32(const GemmArgs p)
{
    RR_SHARED(memory);
    Shared &s = *(Shared *)memory;
    uint32_t row0 = blockIdx.y * BM, column0 = blockIdx.x * BN;
    int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    int load_row = (int)threadIdx.x / 4, load_k = (int)threadIdx.x % 4 * 4;
    const unsigned char *w;
    const float *a;
    float sum[4][4] = {};

    dev::previous_done();
    uint32_t m = *p.rows;
    if (row0 >= m) return;
    uint32_t row = row0 + load_row < m ? row0 + load_row : m - 1;
    a = (const float *)p.a + (size_t)row * p.ld_a + load_k;
    w = (const unsigned char *)p.w + (size_t)(column0 + load_row) * p.ld_bytes;
    for (uint32_t k = 0; k < p.ld_a; k += BK) {
        float4 av = *(const float4 *)(a + k), wv = weights_at<stored>(w, load_k + k);

        if (p.smooth) {
            float4 factor = *(const float4 *)(p.smooth + load_k + k);
            av = { av.x * factor.x, av.y * factor.y, av.z * factor.z, av.w * factor.w };
        }
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
#pragma unroll /* an index that is not constant would put the sums into memory */
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            if (row0 + ty * 4 + r < m)
                finish_f32(p, row0 + ty * 4 + r, column0 + tx * 4 + c, sum[r][c]);
}

/* A warp for each row and output.  A lane adds its four neighbours of each 128 of k in ascending order,
 * the lanes' sums are added at the end.  Weights are on their way before the kernel before has ended. */
constexpr int MOST_DOTS = 16, PIECES = 8, STEP = 128;
template <GemmType stored> __global__ void __launch_bounds__(32) dots_f32(const GemmArgs p)
{
    uint32_t row = blockIdx.x, column = blockIdx.y, lane = threadIdx.x;
    const float *a = (const float *)p.a + (size_t)row * p.ld_a;
    const unsigned char *w = (const unsigned char *)p.w + (size_t)column * p.ld_bytes;
    float sum = 0;

    dev::next_may_begin();
    uint32_t m = *p.rows;
    for (uint32_t first = lane * 4; first < p.ld_a; first += PIECES * STEP) {
        float4 x[PIECES], y[PIECES];

#pragma unroll
        for (uint32_t i = 0; i < PIECES; i++)
            if (first + i * STEP < p.ld_a) y[i] = weights_at<stored>(w, first + i * STEP);
        dev::wait_for_previous();
#pragma unroll
        for (uint32_t i = 0; i < PIECES; i++)
            if (first + i * STEP < p.ld_a) x[i] = *(const float4 *)(a + first + i * STEP);
#pragma unroll
        for (uint32_t i = 0; i < PIECES; i++) {
            if (first + i * STEP >= p.ld_a) continue;
            if (p.smooth) {
                float4 factor = *(const float4 *)(p.smooth + first + i * STEP);
                x[i] = { x[i].x * factor.x, x[i].y * factor.y, x[i].z * factor.z,
                         x[i].w * factor.w };
            }
            sum = fmaf(x[i].x, y[i].x, sum);
            sum = fmaf(x[i].y, y[i].y, sum);
            sum = fmaf(x[i].z, y[i].z, sum);
            sum = fmaf(x[i].w, y[i].w, sum);
        }
    }
    dev::wait_for_previous(); /* of short rows some lanes have nothing to add */
    if (row >= m) return;
    sum = dev::warp_sum(sum);
    if (lane == 0) finish_f32(p, row, column, sum);
    for (uint32_t j = p.n + lane; column == 0 && j < p.dst.ld; j += 32) finish_f32(p, row, j, 0);
}

} // namespace

cudaError_t launch_gemm_f32(const LaunchContext &c, enum rr_rows rows, GemmType stored,
                            const GemmArgs &a)
{
    dim3 grid((a.n + BN - 1) / BN, (c.rows[rows] + BM - 1) / BM), dots(c.rows[rows], a.n);

#define LAUNCH(type) \
    (a.n <= MOST_DOTS ? RR_LAUNCH(dots_f32<type>, dots, dim3(32), 0, c, a) \
                      : RR_LAUNCH(gemm_f32<type>, grid, dim3(THREADS), sizeof(Shared), c, a))
    switch (stored) {
    case GEMM_F16: return LAUNCH(GEMM_F16);
    case GEMM_BF16: return LAUNCH(GEMM_BF16);
    case GEMM_I8: return LAUNCH(GEMM_I8);
    case GEMM_F8: return LAUNCH(GEMM_F8);
    default: return LAUNCH(GEMM_F32);
    }
#undef LAUNCH
}
