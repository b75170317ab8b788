/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_sm90.cu - gemm.cu's product for compute capability 9.0: one warp asks the hardware for tiles,
 * groups of four warps multiply them out of shared memory.
 *
 * Blocks form clusters: those side by side need the same rows of A, those above each other the same
 * of W.  Each fetches its share of both and the hardware hands it to all that need it, so that the L2
 * cache is read once for them: with 128 x 128 tiles alone it would have to deliver 64 bytes a
 * cycle to each processor, about three times what it can.
 *
 * Steps are 128 bytes of k for every type.  A stage has two barriers: full, when the bytes of both
 * tiles are there, and empty, when in every block that this one fetches for all warps' products with
 * them are over.  Sums run over k in ascending order whatever the tile and the cluster.
 *
 * gemm_turns: large products.  As many clusters as the device holds walk over the tiles; a block's two
 * groups have a tile each in turn, so that one's results go to memory while the other multiplies.
 * gemm_sm90: the groups share the block's one tile, where there are not more tiles than processors.
 *
 * Weights are fetched before the kernel in front has ended (device.h): none writes them. */
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
    static constexpr int USERS = WARPS; /* warps that multiply a stage */
    static constexpr int BYTES = (BM + BN) * STEP;
    static constexpr int STAGES = MEMORY / BLOCKS / (BYTES + 16);
    static constexpr int SHARED = STAGES * (BYTES + 16) + 1024; /* tiles begin at 1024 bytes */
};
/* Two groups, each with tiles of its own; the warp that fetches brings a group whose registers they
 * take. */
struct Turns : Shape<128, 2, 1> {
    static constexpr int THREADS = 384, USERS = 4;
    static constexpr int SHARED = Shape::SHARED + 16;
};

/* A tile's first row of A and of W. */
struct Corner {
    uint32_t row, column;
};

template <class Sh> struct Stages {
    unsigned char *tiles;
    uint64_t *full, *empty;
    Cluster c;
    uint32_t steps; /* of a tile */
    uint32_t total; /* of all tiles of this block, which its cluster's others have as well */

    __device__ Stages(unsigned char *memory, uint32_t steps_, uint32_t n_tiles)
        : tiles(memory + (1024 - shared_address(memory) % 1024) % 1024),
          full((uint64_t *)(tiles + Sh::STAGES * Sh::BYTES)), empty(full + Sh::STAGES),
          c(cluster_place()), steps(steps_), total(steps_ * n_tiles)
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
                barrier_init(&empty[s], Sh::USERS * (int)partners());
            }
            barrier_publish();
        }
        cluster_barrier();
    }
    /* One thread.  The bytes of a stage come from all partners, maybe before they are expected
     * here.  corner(i) is this block's tile i. */
    template <class F> __device__ void fill(const Args &p, F corner) const
    {
        uint32_t a_rows = Sh::BM / c.width, w_rows = Sh::BN / c.height;
        uint32_t beside = ((1u << c.width) - 1) << c.y * c.width, above = 0;
        auto fetch_w = [&](uint32_t n) {
            uint32_t s = n % Sh::STAGES;

            barrier_expect(&full[s], Sh::BYTES);
            copy_tile(tiles + s * Sh::BYTES + (Sh::BM + c.y * w_rows) * STEP, &p.w, n % steps * STEP,
                      corner(n / steps).column + c.y * w_rows, &full[s], above);
        };
        auto fetch_a = [&](uint32_t n) {
            uint32_t s = n % Sh::STAGES;

            copy_tile(tiles + s * Sh::BYTES + c.x * a_rows * STEP, &p.a, n % steps * STEP,
                      corner(n / steps).row + c.x * a_rows, &full[s], beside);
        };

        for (uint32_t y = 0; y < c.height; y++) above |= 1u << (y * c.width + c.x);
        for (uint32_t n = 0; n < Sh::STAGES && n < total; n++) fetch_w(n);
        wait_for_previous();
        for (uint32_t n = 0; n < total; n++) {
            if (n >= Sh::STAGES) {
                barrier_wait(&empty[n % Sh::STAGES], (n / Sh::STAGES - 1) & 1);
                fetch_w(n);
            }
            fetch_a(n);
        }
    }
    __device__ unsigned char *wait_full(uint32_t n) const
    {
        barrier_wait(&full[n % Sh::STAGES], n / Sh::STAGES & 1);
        return tiles + n % Sh::STAGES * Sh::BYTES;
    }
    /* This warp is done with the tiles of step n of all.  Nobody is told of the last ones: what is
     * told is waited for, so that no block has ended before. */
    __device__ void release(uint32_t n) const
    {
        uint32_t lane = threadIdx.x % 32;

        __syncwarp();
        if (n + Sh::STAGES < total && lane < partners())
            barrier_arrive(&empty[n % Sh::STAGES], partner(lane));
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
__device__ inline void accumulate(typename T::Sum (&sum)[N], const Stages<Sh> &st, int group)
{
    typename T::Sum part[N] = {};

    for (int i = 0; i < N; i++) sum[i] = 0;
    for (uint32_t k = 0; k < st.steps; k++) {
        unsigned char *tile = st.wait_full(k);
        uint64_t a = tile_descriptor(tile + group * 64 * STEP);
        uint64_t w = tile_descriptor(tile + Sh::BM * STEP);

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
            st.release(k);
#pragma unroll
            for (int i = 0; i < N; i++) {
                products_settle(part[i]);
                sum[i] += part[i];
            }
        } else {
            products_wait<1>();
            if (k) st.release(k - 1);
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
    uint32_t m = *p.g.rows;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    Stages<Sh> stages(memory, (p.g.ld_bytes + STEP - 1) / STEP, 1);
    Corner corner = { blockIdx.y * Sh::BM, blockIdx.x * BN };
    typename T::Sum sum[BN / 2];

    next_may_begin();
    if ((blockIdx.y - stages.c.y) * Sh::BM >= m) { /* all of the cluster */
        wait_for_previous();
        return;
    }
    stages.init();
    if (warp == Sh::WARPS) {
        if (lane == 0)
            stages.fill(p, [&](uint32_t) { return corner; });
        else
            wait_for_previous();
        return;
    }
    wait_for_previous();
    accumulate<T, Sh>(sum, stages, warp / 4);
    finish_rows<T, act, 1, BN / 8, GROUPS == 1 ? 3 : T::scaled ? 0 : 2>(
        p.g, m, corner.row + warp * 16 + lane / 4, 8, corner.column + lane % 4 / 2 * 4,
        [&](int j, int e) { return (float)sum[j * 4 + e]; });
#else
    (void)p; /* launch_gemm does not come here */
#endif
}

/* The sums of this block's tile i: rows [0, 64) and [64, 128).  over[g]: group g has seen all stages of
 * its tile full.  The other waits for that, since a barrier tells only the last phase from the one
 * before. */
template <class T>
__device__ inline void accumulate_tile(typename T::Sum (&sum)[2][64], const Stages<Turns> &st,
                                       uint64_t *over, uint32_t i)
{
    uint32_t n = i * st.steps;

    if (i) barrier_wait(&over[(i - 1) % 2], (i - 1) / 2 & 1);
    for (uint32_t k = 0; k < st.steps; k++) {
        unsigned char *tile = st.wait_full(n + k);
        if (k + 1 == st.steps) {
            __syncwarp(); /* after one step alone a lane may still wait for the tile before */
            if (threadIdx.x % 32 == 0) barrier_arrive(&over[i % 2], st.partner(st.c.x));
        }
        uint64_t a = tile_descriptor(tile), below = tile_descriptor(tile + 64 * STEP);
        uint64_t w = tile_descriptor(tile + Turns::BM * STEP);

        products_begin();
#pragma unroll
        for (int j = 0; j < STEP / 32; j++) {
            product<T>(sum[0], a + 2 * j, w + 2 * j, k + j > 0);
            product<T>(sum[1], below + 2 * j, w + 2 * j, k + j > 0);
        }
        products_commit();
        products_wait<1>();
        if (k) st.release(n + k - 1);
    }
    products_wait<0>();
    st.release(n + st.steps - 1);
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int i = 0; i < 64; i++) products_settle(sum[h][i]);
}

/* The grid is one row of clusters.  Clusters take squares of tiles, one for each block, in turn: first
 * those side by side. */
template <class T, Act act>
__global__ void __launch_bounds__(Turns::THREADS, 1) gemm_turns(const __grid_constant__ Args p)
{
#if RR_SM90
    RR_SHARED(memory);
    uint32_t m = *p.g.rows;
    int group = (int)threadIdx.x / 128, warp = (int)threadIdx.x / 32 % 4;
    int lane = (int)threadIdx.x % 32;
    Cluster c = cluster_place();
    uint32_t clusters = gridDim.x / c.width, mine = blockIdx.x / c.width;
    uint32_t across = (p.g.n + Turns::BN * c.width - 1) / (Turns::BN * c.width);
    uint32_t squares = across * ((m + Turns::BM * c.height - 1) / (Turns::BM * c.height));
    uint32_t n_tiles = mine < squares ? (squares - mine + clusters - 1) / clusters : 0;
    Stages<Turns> stages(memory, (p.g.ld_bytes + STEP - 1) / STEP, n_tiles);
    auto corner = [&](uint32_t i) -> Corner {
        uint32_t square = mine + i * clusters;

        return { (square / across * c.height + c.y) * Turns::BM,
                 (square % across * c.width + c.x) * Turns::BN };
    };

    uint64_t *over = stages.empty + Turns::STAGES;

    next_may_begin();
    if (threadIdx.x == 0)
        for (int g = 0; g < 2; g++) barrier_init(&over[g], Turns::USERS);
    stages.init();
    if (group == 2) {
        registers_give<40>();
        if (warp == 0 && lane == 0)
            stages.fill(p, corner);
        else
            wait_for_previous();
    } else {
        registers_take<232>();
        wait_for_previous();
        for (uint32_t i = group; i < n_tiles; i += 2) {
            typename T::Sum sum[2][64];
            Corner at = corner(i);

            accumulate_tile<T>(sum, stages, over, i);
#pragma unroll
            for (int h = 0; h < 2; h++)
                finish_rows<T, act, 1, 16, T::scaled ? 1 : 3>(
                    p.g, m, at.row + h * 64 + warp * 16 + lane / 4, 8, at.column + lane % 4 / 2 * 4,
                    [&](int j, int e) { return (float)sum[h][j * 4 + e]; });
        }
    }
#else
    (void)p;
#endif
}

/* ---- launching --------------------------------------------------------------------------------- */

} // namespace

/* The function is the driver's: it is asked for, so that the plugin can be loaded where there is no
 * driver. */
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

namespace
{

/* The largest power of two up to `most` that divides n. */
uint32_t common(uint32_t n, uint32_t most)
{
    while (n % most) most /= 2;
    return most;
}

/* `kernel` for tiles of Sh on a grid of clusters. */
template <class Sh, class Kernel>
cudaError_t launch(const LaunchContext &c, Kernel *kernel, dim3 grid, dim3 cluster, uint32_t rows,
                   const GemmArgs &g)
{
    Args p;
    cudaError_t e = make_map(&p.a, g.a, g.ld_bytes, rows, Sh::BM / cluster.x);

    p.g = g;
    if (!e) e = make_map(&p.w, g.w, g.ld_bytes, (g.n + 127) / 128 * 128, Sh::BN / cluster.y);
    if (!e)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Sh::SHARED);
    return e ? e : launch_clusters(kernel, grid, cluster, Sh::THREADS, Sh::SHARED, c, p);
}

/* A block for each tile.  Small tiles, of which there are few, share rows with three others: each
 * fetches little. */
template <class T, Act act, int BN, int GROUPS, int BLOCKS>
cudaError_t launch_tiles(const LaunchContext &c, uint32_t rows, const GemmArgs &g)
{
    /* ld: narrow tiles up to n alone would leave what lies behind it without zeros */
    dim3 grid((g.dst.ld + BN - 1) / BN, (rows + 64 * GROUPS - 1) / (64 * GROUPS));
    dim3 cluster(common(grid.x, GROUPS > 1 ? 2 : 4), GROUPS > 1 ? common(grid.y, 2) : 1);

    return launch<Shape<BN, GROUPS, BLOCKS>>(c, gemm_sm90<T, act, BN, GROUPS, BLOCKS>, grid, cluster,
                                             rows, g);
}

/* Squares of tiles for clusters of width by height, and how many clusters the device holds. */
struct Squares {
    uint32_t width, height, clusters, n;

    uint32_t rounds() const
    {
        return (n + clusters - 1) / clusters;
    }
};
template <class T, Act act>
cudaError_t squares_for(const LaunchContext &c, uint32_t rows, uint32_t n, Squares *out)
{
    uint32_t across = (n + Turns::BN - 1) / Turns::BN, down = (rows + Turns::BM - 1) / Turns::BM;
    auto kernel = gemm_turns<T, act>;
    cudaError_t e =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Turns::SHARED);

    /* of those with the fewest rounds the largest, which reads the L2 cache least */
    for (uint32_t height = 4; height && !e; height /= 2) {
        Squares s = { common(across, 2), height, 0, 0 };
        int clusters = 0;

        e = max_clusters(kernel, dim3(s.width, height), Turns::THREADS, Turns::SHARED, c.processors,
                         &clusters);
        s.clusters = (uint32_t)clusters;
        s.n = across / s.width * ((down + height - 1) / height);
        if (s.clusters && (!out->clusters || s.rounds() < out->rounds())) *out = s;
    }
    return e || out->clusters ? e : cudaErrorInvalidValue;
}

/* In units of a round of 128 x 128 tiles; a tile's results, which nothing hides at the end, take as
 * long as 2304 bytes of k. */
template <class T, Act act>
cudaError_t launch_large(const LaunchContext &c, uint32_t rows, const GemmArgs &g)
{
    uint32_t tall = (g.n + 127) / 128 * ((rows + 191) / 192);
    float results = 2304.0f / (float)g.ld_bytes;
    float together = (float)((tall + c.processors - 1) / c.processors) * (1.55f + results);
    Squares s = {};
    cudaError_t e = squares_for<T, act>(c, rows, g.n, &s);

    if (e) return e;
    if (together < (float)s.rounds() + results) return launch_tiles<T, act, 128, 3, 1>(c, rows, g);
    s.clusters = s.n < s.clusters ? s.n : s.clusters;
    return launch<Turns>(c, gemm_turns<T, act>, dim3(s.clusters * s.width, s.height),
                         dim3(s.width, s.height), rows, g);
}

template <class T, Act act>
cudaError_t launch_tile(const LaunchContext &c, uint32_t rows, const GemmArgs &g)
{
    uint32_t tiles = (g.n + 127) / 128 * ((rows + 127) / 128);

    if constexpr (act != ACT_OTHER) {
        if constexpr (!T::partial) { /* no registers for second sums */
            if (tiles >= 64) return launch_large<T, act>(c, rows, g);
        } else {
            if (tiles > (uint32_t)c.processors) return launch_tiles<T, act, 128, 2, 2>(c, rows, g);
            if (tiles >= 64) return launch_tiles<T, act, 128, 2, 1>(c, rows, g);
        }
    }
    /* narrow enough to occupy the processors: each gets only so much from the L2 cache */
    tiles = (g.n + 63) / 64 * ((rows + 63) / 64);
    if (tiles * 4 <= (uint32_t)c.processors) return launch_tiles<T, act, 16, 1, 1>(c, rows, g);
    if (tiles * 2 <= (uint32_t)c.processors) return launch_tiles<T, act, 32, 1, 1>(c, rows, g);
    return launch_tiles<T, act, 64, 1, 1>(c, rows, g);
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
