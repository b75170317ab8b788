/* SPDX-License-Identifier: Apache-2.0 */
/* gemm.cu - y = act(x W^T + b) + residual on tensor cores: f16, bf16, int8, fp8.
 *
 * A tile of BM rows by BN columns per block, 64 bytes of k per step: 32 16-bit or 64 8-bit values,
 * which is the same data movement, so one kernel serves all types.  Shared memory holds rows of 64
 * bytes whose four 16-byte chunks are permuted by bits 1 and 2 of the row: every ldmatrix reads eight
 * rows without bank conflicts.  Sums run over k in ascending order, whatever the tile. */
#include <type_traits>

#include "gemm.h"

using namespace dev;

namespace
{

constexpr int STEP = 64; /* bytes of k */

__device__ inline unsigned char *chunk_at(unsigned char *tile, int row, int chunk)
{
    return tile + row * STEP + ((chunk ^ (row >> 1 & 3)) << 4);
}

template <class T, int BM, int BN, int WM, int WN> struct Tile {
    static constexpr int THREADS = WM * WN * 32;
    static constexpr int MT = BM / WM / 16, NT = BN / WN / 8; /* of each warp */
    static constexpr int BYTES = (BM + BN) * STEP;            /* of a stage */
    static constexpr int ROWS = THREADS / 4;                  /* that the threads copy at once */
    static constexpr int A_COPIES = BM / ROWS, W_COPIES = BN / ROWS; /* of 16 bytes, each thread */
    static_assert(BM % ROWS == 0 && BN % ROWS == 0 && NT % 2 == 0, "tile");

    typename T::Sum sum[MT][NT][4]; /* on 7.0, pairs of them are eight values of one product */
    typename T::Sum total[T::partial ? MT : 1][T::partial ? NT : 1][4];
    const char *a[A_COPIES], *w; /* this thread's sources of the next step */

    /* Rows beyond the last are read as the last: their results are not stored. */
    __device__ Tile(const GemmArgs &p, uint32_t m)
    {
        uint32_t row = threadIdx.x >> 2, at = (threadIdx.x & 3) * 16;

#pragma unroll
        for (int i = 0; i < A_COPIES; i++) {
            uint32_t r = blockIdx.y * BM + row + i * ROWS;
            a[i] = (const char *)p.a + (size_t)(r < m ? r : m - 1) * p.ld_bytes + at;
        }
        w = (const char *)p.w + (size_t)(blockIdx.x * BN + row) * p.ld_bytes + at;
        clear();
    }
    __device__ const char *w_row(const GemmArgs &p, int i) const
    {
        return w + (size_t)(i * ROWS) * p.ld_bytes;
    }
    __device__ void next_step()
    {
#pragma unroll
        for (int i = 0; i < A_COPIES; i++) a[i] += STEP;
        w += STEP;
    }
    /* Where copy i of A, and after them of W, goes. */
    __device__ static unsigned char *target(unsigned char *stage, int i)
    {
        return chunk_at(stage, ((int)threadIdx.x >> 2) + i * ROWS, (int)threadIdx.x & 3);
    }
    __device__ void copy_step(const GemmArgs &p, unsigned char *stage)
    {
#pragma unroll
        for (int i = 0; i < A_COPIES; i++) copy_async(target(stage, i), a[i]);
#pragma unroll
        for (int i = 0; i < W_COPIES; i++) copy_async(target(stage, A_COPIES + i), w_row(p, i));
        next_step();
    }

    __device__ void clear()
    {
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    sum[i][j][e] = 0;
                    if (T::partial) total[T::partial ? i : 0][T::partial ? j : 0][e] = 0;
                }
    }
    /* Adds the sums up outside of the tensor cores: every second step, and after the last. */
    __device__ void collect(uint32_t k, uint32_t steps)
    {
        if (!T::partial || !(k % 2 || k + 1 == steps)) return;
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    total[T::partial ? i : 0][T::partial ? j : 0][e] += sum[i][j][e];
                    sum[i][j][e] = 0;
                }
    }
    __device__ float result(int i, int j, int e) const
    {
        return (float)(T::partial ? total[T::partial ? i : 0][T::partial ? j : 0][e]
                                  : sum[i][j][e]);
    }

#if RR_ARCH >= 75 || RR_ARCH == 0
    /* half: the first or the second 32 bytes of the step. */
    __device__ void multiply(unsigned char *stage, int half)
    {
        int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
        int row = warp / WN * MT * 16 + (lane & 15);
        int column = BM + warp % WN * NT * 8 + (lane & 7) + (lane >> 4 << 3);

        uint32_t f[4], b[NT / 2][4];

#pragma unroll
        for (int j = 0; j < NT / 2; j++)
            ldmatrix(b[j], chunk_at(stage, column + j * 16, half * 2 + (lane >> 3 & 1)));
#pragma unroll
        for (int i = 0; i < MT; i++) {
            ldmatrix(f, chunk_at(stage, row + i * 16, half * 2 + (lane >> 4)));
#pragma unroll
            for (int j = 0; j < NT / 2; j++) {
                T::mma(sum[i][2 * j], f, b[j][0], b[j][1]);
                T::mma(sum[i][2 * j + 1], f, b[j][2], b[j][3]);
            }
        }
    }
    /* This lane's two rows, and the first of the four columns that it has together with its partner,
     * the lane that differs in bit PARTNER. */
    static constexpr int APART = 8, PARTNER = 1;
    __device__ static int row_of(int lane)
    {
        return lane >> 2;
    }
    __device__ static int column_of(int lane)
    {
        return (lane & 2) * 2;
    }
#else /* 7.0: no ldmatrix, f16 only.  The quarters of a warp share 16 rows and 16 columns: rows 4 to 7
       * and 12 to 15 belong to the odd ones, the same columns to the last two.  So eight neighbouring
       * lanes read eight neighbouring rows. */
    __device__ void multiply(unsigned char *stage, int half)
    {
        int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
        int place = (lane & 3) + (lane >> 4 << 3);
        int row = warp / WN * MT * 16 + place + (lane & 4);
        int column = BM + warp % WN * NT * 8 + place + (lane >> 1 & 4);

#pragma unroll
        for (int chunk = half * 2; chunk < half * 2 + 2; chunk++) { /* 16 bytes: two times four of k */
            uint4 b[NT / 2];

#pragma unroll
            for (int j = 0; j < NT / 2; j++)
                b[j] = *(const uint4 *)chunk_at(stage, column + j * 16, chunk);
#pragma unroll
            for (int i = 0; i < MT; i++) {
                uint4 a = *(const uint4 *)chunk_at(stage, row + i * 16, chunk);
#pragma unroll
                for (int j = 0; j < NT / 2; j++) {
                    if constexpr (std::is_same<T, TypeF16>::value) { /* open() refuses others */
                        mma_f16_quarters(sum[i][2 * j], a.x, a.y, b[j].x, b[j].y);
                        mma_f16_quarters(sum[i][2 * j], a.z, a.w, b[j].z, b[j].w);
                    }
                }
            }
        }
    }
    /* sum[i][2 j] and [2 j + 1] are the eight values of one product: two rows by two times two. */
    static constexpr int APART = 2, PARTNER = 2;
    __device__ static int row_of(int lane)
    {
        return (lane & 1) + (lane & 4) + (lane >> 4 << 3);
    }
    __device__ static int column_of(int lane)
    {
        return lane >> 1 & 4;
    }
#endif
};

#if RR_ARCH >= 80 || RR_ARCH == 0
constexpr int STAGES = 3;
#else
constexpr int STAGES = 2;
#endif

template <class Tl>
__device__ inline void accumulate(Tl &t, const GemmArgs &p, unsigned char *shared)
{
    uint32_t steps = p.ld_bytes / STEP;

#if RR_ARCH >= 80 || RR_ARCH == 0
    for (uint32_t s = 0; s < STAGES - 1; s++) {
        if (s < steps) t.copy_step(p, shared + s * Tl::BYTES);
        copy_commit();
    }
    for (uint32_t k = 0; k < steps; k++) {
        uint32_t next = k + STAGES - 1;

        copy_wait<STAGES - 2>();
        __syncthreads();
        if (next < steps) t.copy_step(p, shared + next % STAGES * Tl::BYTES);
        copy_commit();
        t.multiply(shared + k % STAGES * Tl::BYTES, 0);
        t.multiply(shared + k % STAGES * Tl::BYTES, 1);
        t.collect(k, steps);
    }
#else /* through registers: A of the next step travels during the first half of this one, W during
       * the second */
    t.copy_step(p, shared);
    __syncthreads();
    for (uint32_t k = 0; k < steps; k++) {
        unsigned char *now = shared + k % 2 * Tl::BYTES, *next = shared + (k + 1) % 2 * Tl::BYTES;
        bool more = k + 1 < steps;
        {
            uint4 held[Tl::A_COPIES] = {};
#pragma unroll
            for (int i = 0; i < Tl::A_COPIES; i++)
                if (more) held[i] = *(const uint4 *)t.a[i];
            t.multiply(now, 0);
#pragma unroll
            for (int i = 0; i < Tl::A_COPIES; i++)
                if (more) *(uint4 *)Tl::target(next, i) = held[i];
        }
        {
            uint4 held[Tl::W_COPIES] = {};
#pragma unroll
            for (int i = 0; i < Tl::W_COPIES; i++)
                if (more) held[i] = *(const uint4 *)t.w_row(p, i);
            t.multiply(now, 1);
#pragma unroll
            for (int i = 0; i < Tl::W_COPIES; i++)
                if (more) *(uint4 *)Tl::target(next, Tl::A_COPIES + i) = held[i];
        }
        t.next_step();
        __syncthreads();
    }
#endif
}

template <class T, Act act, int BM, int BN, int WM, int WN>
__global__ void __launch_bounds__(WM *WN * 32, 2) gemm(const GemmArgs p)
{
    using Tl = Tile<T, BM, BN, WM, WN>;
    RR_SHARED(shared);
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;

    previous_done();
    uint32_t m = *p.rows;
    if (blockIdx.y * BM >= m) return;
    Tl t(p, m);
    accumulate(t, p, shared);
    m = *p.rows; /* again, rather than in a register all the while */
    uint32_t row0 = blockIdx.y * BM + warp / WN * Tl::MT * 16;
    uint32_t column0 = blockIdx.x * BN + warp % WN * Tl::NT * 8;
#pragma unroll
    for (int i = 0; i < Tl::MT; i++)
        finish_rows<T, act, Tl::PARTNER, Tl::NT, !T::scaled && act == ACT_NONE>(
            p, m, row0 + i * 16 + Tl::row_of(lane), Tl::APART, column0 + Tl::column_of(lane),
            [&](int j, int e) { return t.result(i, j, e); });
}

template <class T, Act act, int BM, int BN, int WM, int WN>
cudaError_t launch(const LaunchContext &c, uint32_t rows, const GemmArgs &a)
{
    using Tl = Tile<T, BM, BN, WM, WN>;
    dim3 grid((a.n + BN - 1) / BN, (rows + BM - 1) / BM);
    uint32_t stages = c.arch >= 80 ? 3 : 2;

    return RR_LAUNCH((gemm<T, act, BM, BN, WM, WN>), grid, dim3(Tl::THREADS), stages * Tl::BYTES, c,
                     a);
}

template <class T, Act act>
cudaError_t launch_tile(const LaunchContext &c, uint32_t rows, const GemmArgs &a)
{
    /* Large tiles read the operands less often; small ones give small batches enough blocks. */
    bool large = (uint64_t)((a.n + 127) / 128) * ((rows + 127) / 128) >= 64;

    if (!large || act == ACT_OTHER) return launch<T, act, 64, 64, 2, 2>(c, rows, a);
    /* Two sets of sums leave no registers for a wider one. */
    return launch<T, act, 128, T::partial ? 64 : 128, T::partial ? 4 : 2, T::partial ? 2 : 4>(
        c, rows, a);
}

template <class T> cudaError_t launch_type(const LaunchContext &c, uint32_t rows, const GemmArgs &a)
{
    if (a.act == RR_ACT_NONE) return launch_tile<T, ACT_NONE>(c, rows, a);
    if (a.act == RR_ACT_GELU) return launch_tile<T, ACT_GELU>(c, rows, a);
    return launch_tile<T, ACT_OTHER>(c, rows, a);
}

} // namespace

cudaError_t launch_gemm(const LaunchContext &c, enum rr_rows rows, GemmType type, const GemmArgs &a)
{
#if defined(RR_HAS_SM90) || defined(RR_EMUL) /* there is code for 9.0's own instructions */
    if (type != GEMM_F32 && c.arch == 90) return launch_gemm_sm90(c, c.rows[rows], type, a);
#endif
    switch (type) {
    case GEMM_F16: return launch_type<TypeF16>(c, c.rows[rows], a);
    case GEMM_BF16: return launch_type<TypeBF16>(c, c.rows[rows], a);
    case GEMM_I8: return launch_type<TypeI8>(c, c.rows[rows], a);
    case GEMM_F8: return launch_type<TypeF8>(c, c.rows[rows], a);
    default: return launch_gemm_f32(c, rows, GEMM_F32, a);
    }
}
