/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_sm90.cu - gemm.cu's product for compute capability 9.0: one warp asks the hardware for tiles,
 * GROUPS times four warps multiply them out of shared memory.
 *
 * Blocks form clusters: those side by side need the same rows of A, those above each other the same
 * of W.  Each fetches its share of both and the hardware hands it to all that need it, so that the L2
 * cache is read once for them: with 128 x 128 tiles alone it would have to deliver 64 bytes a
 * cycle to each processor, about twice what it can.
 *
 * Steps are 128 bytes of k for every type.  A stage has two barriers: full, when the bytes of both
 * tiles are there, and empty, when in every block that this one fetches for all warps' products with
 * them are over.  Sums run over k in ascending order whatever the tile and the cluster. */
#include <type_traits>

#include "gemm.h"
#include "sm90.h"

using namespace dev;

namespace
{

constexpr int STEP = 128; /* bytes of k */

struct Args {
    GemmArgs g;
    CUtensorMap a, w;
};

constexpr int MEMORY = 206000; /* shared, of a processor, for stages; it has 227 KB */

/* Tiles of 64 GROUPS by COLUMNS.  BLOCKS share a processor and its memory: a block that is alone
 * there has more stages. */
template <int COLUMNS, int GROUPS, int BLOCKS> struct Shape {
    static constexpr int BM = 64 * GROUPS, BN = COLUMNS;
    static constexpr int WARPS = GROUPS * 4, THREADS = WARPS * 32 + 32;
    static constexpr int BYTES = (BM + BN) * STEP;
    static constexpr int STAGES = MEMORY / BLOCKS / (BYTES + 16);
    static constexpr int SHARED = STAGES * (BYTES + 16) + 1024; /* tiles begin at 1024 bytes */
};

template <class Sh> struct Stages {
    unsigned char *tiles;
    uint64_t *full, *empty;
    Cluster c;

    __device__ explicit Stages(unsigned char *memory)
        : tiles(memory + (1024 - shared_address(memory) % 1024) % 1024),
          full((uint64_t *)(tiles + Sh::STAGES * Sh::BYTES)), empty(full + Sh::STAGES),
          c(cluster_place())
    {
    }
    /* How many blocks fetch for this one, which are those that it fetches for. */
    __device__ uint32_t partners() const
    {
        return c.width + c.height - 1;
    }
    /* The number in the cluster of partner i: first those beside it and itself, then above and
     * below. */
    __device__ uint32_t partner(uint32_t i) const
    {
        if (i < c.width) return c.y * c.width + i;
        i -= c.width;
        return (i < c.y ? i : i + 1) * c.width + c.x;
    }
    __device__ void init() const
    {
        if (threadIdx.x == 0) {
            for (int s = 0; s < Sh::STAGES; s++) {
                barrier_init(&full[s], 1);
                barrier_init(&empty[s], Sh::WARPS * (int)partners());
            }
            barrier_publish();
        }
        cluster_barrier();
    }
    /* One thread.  The bytes of a stage come from all partners, maybe before they are expected
     * here. */
    __device__ void fill(const Args &p, uint32_t steps) const
    {
        uint32_t a_rows = Sh::BM / c.width, w_rows = Sh::BN / c.height;
        uint32_t beside = ((1u << c.width) - 1) << c.y * c.width, above = 0;

        for (uint32_t y = 0; y < c.height; y++) above |= 1u << (y * c.width + c.x);
        for (uint32_t k = 0; k < steps; k++) {
            uint32_t s = k % Sh::STAGES, turn = k / Sh::STAGES;
            unsigned char *a = tiles + s * Sh::BYTES + c.x * a_rows * STEP;
            unsigned char *w = tiles + s * Sh::BYTES + (Sh::BM + c.y * w_rows) * STEP;

            if (turn) barrier_wait(&empty[s], (turn - 1) & 1);
            barrier_expect(&full[s], Sh::BYTES);
            copy_tile(a, &p.a, k * STEP, blockIdx.y * Sh::BM + c.x * a_rows, &full[s], beside);
            copy_tile(w, &p.w, k * STEP, blockIdx.x * Sh::BN + c.y * w_rows, &full[s], above);
        }
    }
    /* This warp is done with the tiles of step k.  Nobody is told of the last ones: what is told is
     * waited for, so that no block has ended before. */
    __device__ void release(uint32_t k, uint32_t steps) const
    {
        uint32_t lane = threadIdx.x % 32;

        __syncwarp();
        if (k + Sh::STAGES < steps && lane < partners())
            barrier_arrive(&empty[k % Sh::STAGES], partner(lane));
    }
};

template <class T, class Sums>
__device__ inline void product(Sums &d, uint64_t a, uint64_t b, int add)
{
    if constexpr (std::is_same<T, TypeF16>::value) product_f16(d, a, b, add);
    if constexpr (std::is_same<T, TypeBF16>::value) product_bf16(d, a, b, add);
    if constexpr (std::is_same<T, TypeI8>::value) product_s8(d, a, b, add);
    if constexpr (std::is_same<T, TypeF8>::value) product_f8(d, a, b, add);
}

/* The sums of this group of four warps, rows [group * 64, group * 64 + 64) of the block's tile. */
template <class T, class Sh, int N>
__device__ inline void accumulate(typename T::Sum (&sum)[N], const Stages<Sh> &st, int group,
                                  uint32_t steps)
{
    typename T::Sum part[N] = {};

    for (int i = 0; i < N; i++) sum[i] = 0;
    for (uint32_t k = 0; k < steps; k++) {
        uint32_t s = k % Sh::STAGES;
        unsigned char *tile = st.tiles + s * Sh::BYTES;
        uint64_t a = tile_descriptor(tile + group * 64 * STEP);
        uint64_t w = tile_descriptor(tile + Sh::BM * STEP);

        barrier_wait(&st.full[s], k / Sh::STAGES & 1);
        products_begin();
#pragma unroll
        for (int i = 0; i < STEP / 32; i++) /* 32 bytes of k each; addresses count 16 bytes */
            if constexpr (T::partial)
                product<T>(part, a + 2 * i, w + 2 * i, i > 0);
            else
                product<T>(sum, a + 2 * i, w + 2 * i, k + i > 0);
        products_commit();
        if constexpr (T::partial) {
            products_wait<0>();
            st.release(k, steps);
#pragma unroll
            for (int i = 0; i < N; i++) {
                products_settle(part[i]);
                sum[i] += part[i];
            }
        } else {
            products_wait<1>();
            if (k) st.release(k - 1, steps);
        }
    }
    products_wait<0>();
#pragma unroll
    for (int i = 0; i < N; i++) products_settle(sum[i]);
}

template <class T, Act act, int BN, int GROUPS, int BLOCKS>
__global__ void __launch_bounds__(GROUPS * 128 + 32, T::partial ? 1 : BLOCKS)
    gemm_sm90(const __grid_constant__ Args p)
{
#if RR_SM90
    using Sh = Shape<BN, GROUPS, BLOCKS>;
    RR_SHARED(memory);
    uint32_t steps = (p.g.ld_bytes + STEP - 1) / STEP, m = *p.g.rows;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    Stages<Sh> stages(memory);
    typename T::Sum sum[BN / 2];

    if ((blockIdx.y - stages.c.y) * Sh::BM >= m) return; /* all of the cluster */
    stages.init();
    if (warp == Sh::WARPS) {
        if (lane == 0) stages.fill(p, steps);
        return;
    }
    accumulate<T, Sh>(sum, stages, warp / 4, steps);
    uint32_t row0 = blockIdx.y * Sh::BM + warp * 16 + lane / 4;
    finish_rows<T, act, 1, BN / 8>(p.g, m, row0, 8, blockIdx.x * BN + lane % 4 / 2 * 4,
                                   [&](int j, int e) { return (float)sum[j * 4 + e]; });
#else
    (void)p; /* launch_gemm does not come here */
#endif
}

/* ---- launching --------------------------------------------------------------------------------- */

/* Boxes of 128 bytes by box_rows of a matrix in device memory.  The function is the driver's: it is
 * asked for, so that the plugin can be loaded where there is no driver. */
cudaError_t make_map(CUtensorMap *map, const void *base, uint32_t ld_bytes, uint32_t rows,
                     uint32_t box_rows)
{
    static decltype(&cuTensorMapEncodeTiled) encode;
    cuuint64_t size[2] = { ld_bytes, rows }, stride[1] = { ld_bytes };
    cuuint32_t box[2] = { STEP, box_rows }, step[2] = { 1, 1 };

    if (!encode) {
        cudaDriverEntryPointQueryResult found;
        void *entry = nullptr;
        cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                         cudaEnableDefault, &found);
        if (e || found != cudaDriverEntryPointSuccess) return e ? e : cudaErrorNotSupported;
        encode = reinterpret_cast<decltype(encode)>(entry);
    }
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void *>(base), size, stride, box,
                  step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
               ? cudaErrorInvalidValue
               : cudaSuccess;
}

/* The largest power of two up to `most` that divides n. */
uint32_t common(uint32_t n, uint32_t most)
{
    while (n % most) most /= 2;
    return most;
}

/* Small tiles, of which there are few, share rows with three others: each fetches little. */
template <class T, Act act, int BN, int GROUPS, int BLOCKS>
cudaError_t launch(const LaunchContext &c, dim3 grid, uint32_t rows, const GemmArgs &g)
{
    using Sh = Shape<BN, GROUPS, BLOCKS>;
    auto kernel = gemm_sm90<T, act, BN, GROUPS, BLOCKS>;
    dim3 cluster(common(grid.x, GROUPS > 1 ? 2 : 4), GROUPS > 1 ? common(grid.y, 2) : 1);
    Args p;
    cudaError_t e = make_map(&p.a, g.a, g.ld_bytes, rows, Sh::BM / cluster.x);

    p.g = g;
    if (!e) e = make_map(&p.w, g.w, g.ld_bytes, (g.n + 127) / 128 * 128, BN / cluster.y);
    if (!e)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Sh::SHARED);
    return e ? e : launch_clusters(kernel, grid, cluster, Sh::THREADS, Sh::SHARED, c.stream, p);
}

template <class T, Act act, int BN, int GROUPS>
cudaError_t launch_tiles(const LaunchContext &c, uint32_t rows, const GemmArgs &g)
{
    dim3 grid((g.n + BN - 1) / BN, (rows + 64 * GROUPS - 1) / (64 * GROUPS));

    if constexpr (GROUPS < 3)
        if (grid.x * grid.y > (uint32_t)c.processors)
            return launch<T, act, BN, GROUPS, 2>(c, grid, rows, g);
    return launch<T, act, BN, GROUPS, 1>(c, grid, rows, g);
}

/* How long all tiles of 64 groups rows take: rounds of one on each processor, times their size.  Two
 * that share one take as long as one after the other. */
uint32_t rounds(const LaunchContext &c, uint32_t rows, uint32_t n, uint32_t groups)
{
    uint32_t tiles = (n + 127) / 128 * ((rows + 64 * groups - 1) / (64 * groups));

    return (tiles + c.processors - 1) / c.processors * groups;
}

template <class T, Act act>
cudaError_t launch_tile(const LaunchContext &c, uint32_t rows, const GemmArgs &a)
{
    bool large = (uint64_t)((a.n + 127) / 128) * ((rows + 127) / 128) >= 64;

    if (!large || act == ACT_OTHER) return launch_tiles<T, act, 64, 1>(c, rows, a);
    if constexpr (!T::partial) { /* no registers for three groups' second sums */
        if (rounds(c, rows, a.n, 3) < rounds(c, rows, a.n, 2))
            return launch_tiles<T, act, 128, 3>(c, rows, a);
    }
    return launch_tiles<T, act, 128, 2>(c, rows, a);
}

template <class T> cudaError_t launch_type(const LaunchContext &c, uint32_t rows, const GemmArgs &a)
{
    if (a.act == RR_ACT_NONE) return launch_tile<T, ACT_NONE>(c, rows, a);
    if (a.act == RR_ACT_GELU) return launch_tile<T, ACT_GELU>(c, rows, a);
    return launch_tile<T, ACT_OTHER>(c, rows, a);
}

} // namespace

cudaError_t launch_gemm_sm90(const LaunchContext &c, uint32_t rows, GemmType type,
                             const GemmArgs &a)
{
    switch (type) {
    case GEMM_F16: return launch_type<TypeF16>(c, rows, a);
    case GEMM_BF16: return launch_type<TypeBF16>(c, rows, a);
    case GEMM_I8: return launch_type<TypeI8>(c, rows, a);
    case GEMM_F8: return launch_type<TypeF8>(c, rows, a);
    default: return cudaErrorInvalidValue;
    }
}
