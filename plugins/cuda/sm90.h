/* SPDX-License-Identifier: Apache-2.0 */
/* sm90.h - what compute capability 9.0 adds: clusters of blocks that reach each other's shared memory,
 * copies of whole tiles by the hardware (TMA), to one block or several, barriers in shared memory that
 * count their bytes, and products of four warps straight from shared memory.
 * With RR_EMUL it is tests/cuda/emul/emul90.h.
 *
 * Tiles in shared memory are rows of 128 bytes whose 16-byte chunks are permuted by bits 7 to 9 of
 * the address ("128-byte swizzle"), as the copies write them and the products read them. */
#ifndef RR_CUDA_SM90_H
#define RR_CUDA_SM90_H

#include "device.h"
#include "kern.h"

#include <cuda.h>

/* gemm_sm90.cu, on the host: boxes of 128 bytes by box_rows of a matrix in device memory. */
cudaError_t make_map(CUtensorMap *map, const void *base, uint32_t ld_bytes, uint32_t rows,
                     uint32_t box_rows);

#ifdef RR_EMUL
#include "emul90.h"
#define RR_SM90 (RR_EMUL_ARCH == 90)
#else
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define RR_SM90 1
#else
#define RR_SM90 0
#endif

namespace dev
{

/* ---- clusters: a block's place in its own, as in a grid of x by y blocks ------------------------ */

struct Cluster {
    uint32_t x, y;           /* of this block */
    uint32_t width, height;  /* of the cluster */
};
__device__ inline Cluster cluster_place()
{
    Cluster c = { 0, 0, 1, 1 };

#if RR_SM90
    asm("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(c.x));
    asm("mov.u32 %0, %%cluster_ctaid.y;" : "=r"(c.y));
    asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(c.width));
    asm("mov.u32 %0, %%cluster_nctaid.y;" : "=r"(c.height));
#endif
    return c;
}
/* All threads of all blocks of the cluster.  Of what was written before, others see what barrier_publish
 * makes known, no more: a release here would wait for all of the thread's memory, up to the L2 cache. */
__device__ inline void cluster_barrier()
{
#if RR_SM90
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
#endif
}

/* As RR_LAUNCH; the grid is a multiple of the cluster, which has eight blocks at most. */
template <class Kernel, class Args>
cudaError_t launch_clusters(Kernel *kernel, dim3 grid, dim3 cluster, int threads, size_t shared,
                            const LaunchContext &c, const Args &args)
{
    return launch(kernel, grid, dim3(threads), shared, c.stream, c.early, args, &cluster);
}

/* How many such clusters the device can run at once. */
template <class Kernel>
cudaError_t max_clusters(Kernel *kernel, dim3 cluster, int threads, size_t shared, int, int *n)
{
    cudaLaunchAttribute attribute = in_clusters(cluster);
    cudaLaunchConfig_t config = {};

    config.gridDim = cluster;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaOccupancyMaxActiveClusters(n, kernel, &config);
}

/* ---- barriers in shared memory ------------------------------------------------------------------ */

__device__ inline void barrier_init(uint64_t *bar, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)),
                 "r"(arrivals)
                 : "memory");
}
/* Makes initialised barriers known to the copies and the cluster; a cluster_barrier must follow. */
__device__ inline void barrier_publish()
{
#if RR_SM90
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
/* At the barrier that lies where `bar` does in the memory of the cluster's block number `block` (x + y
 * width).  That block must not have ended.  It hands back tiles whose products are over, and nothing that
 * this thread wrote: with the cluster for a scope the release is a MEMBAR.GPU, half a microsecond. */
__device__ inline void barrier_arrive(uint64_t *bar, uint32_t block)
{
#if RR_SM90
    asm volatile("{\n.reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.release.cta.shared::cluster.b64 _, [there];\n}\n" ::"r"(
                     shared_address(bar)),
                 "r"(block)
                 : "memory");
#endif
}
/* One arrival, and that many bytes of copies to wait for. */
__device__ inline void barrier_expect(uint64_t *bar, int bytes)
{
#if RR_SM90
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(bar)),
                 "r"(bytes)
                 : "memory");
#endif
}
/* Until the phase of this parity (0 for the first, 1 for the second, 0, ...) is over. */
__device__ inline void barrier_wait(uint64_t *bar, uint32_t parity)
{
#if RR_SM90
    uint32_t over;

    do {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}\n"
                     : "=r"(over)
                     : "r"(shared_address(bar)), "r"(parity)
                     : "memory");
    } while (!over);
#endif
}

/* The map's box whose first byte is (x, y) to this place in the shared memory of each block of the cluster
 * whose bit is set, this one's among them, and its bytes to the barrier there; zeros where the map has
 * nothing. */
__device__ inline void copy_tile(void *shared, const CUtensorMap *map, int x, int y, uint64_t *bar,
                                 uint32_t blocks)
{
#if RR_SM90
    uint32_t to = shared_address(shared), at = shared_address(bar);

    if (blocks & (blocks - 1))
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
                     "l"(map), "r"(x), "r"(y), "r"(at), "h"((uint16_t)blocks)
                     : "memory");
    else
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                     "l"(map), "r"(x), "r"(y), "r"(at)
                     : "memory");
#endif
}

/* The map will be needed soon. */
__device__ inline void map_prefetch(const CUtensorMap *map)
{
#if RR_SM90
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#endif
}

/* What this thread wrote to shared memory, for products and copies; a barrier of the block must follow
 * before they are asked for. */
__device__ inline void publish_to_products()
{
#if RR_SM90
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* Address, 1024 bytes from eight rows to the next, 128-byte swizzle. */
__device__ inline uint64_t tile_descriptor(const void *tile)
{
    return (uint64_t)((shared_address(tile) & 0x3FFFF) >> 4) | (uint64_t)1 << 16 |
           (uint64_t)64 << 32 | (uint64_t)1 << 62;
}

/* The four warps of a group hand registers back, or take some, until each thread has so many; in a branch
 * that all of the group take. */
template <int n> __device__ inline void registers_give()
{
#if RR_SM90
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
#endif
}
template <int n> __device__ inline void registers_take()
{
#if RR_SM90
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
#endif
}

/* Before the first product, and after the sums were used otherwise. */
__device__ inline void products_begin()
{
#if RR_SM90
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ inline void products_commit()
{
#if RR_SM90
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int pending> __device__ inline void products_wait()
{
#if RR_SM90
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#endif
}

/* The sums are used here, not earlier: the compiler knows nothing of what waits. */
__device__ inline void products_settle(float &v)
{
    asm volatile("" : "+f"(v)::"memory");
}
__device__ inline void products_settle(int &v)
{
    asm volatile("" : "+r"(v)::"memory");
}
__device__ inline void products_settle(uint32_t &v)
{
    asm volatile("" : "+r"(v)::"memory");
}

#define RR_4(c, d, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define RR_16(c, d, i) RR_4(c, d, i), RR_4(c, d, i + 4), RR_4(c, d, i + 8), RR_4(c, d, i + 12)
#define RR_32(c, d) RR_16(c, d, 0), RR_16(c, d, 16)
#define RR_64(c, d) RR_32(c, d), RR_16(c, d, 32), RR_16(c, d, 48)
#define RR_8(c, d) RR_4(c, d, 0), RR_4(c, d, 4)
#define RR_NAMES_8 "{%0,%1,%2,%3,%4,%5,%6,%7}"
#define RR_NAMES_16 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}"
#define RR_NAMES_32 \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
    "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
#define RR_NAMES_64 \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
    "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
    "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
    "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"

/* sum[64, n] = a[64, k] b[n, k]^T + (add ? sum : 0); thread t of the four warps has rows
 * t / 32 * 16 + t % 32 / 4 and 8 more, and of each eight columns 2 (t % 4) and the next. */
#if RR_SM90
/* n is the number of sums of a thread; the operands a, b and add follow them. */
#define RR_PRODUCT_OF(name, type, constraint, kind, tail, n, columns, sums, a_at, b_at, add_at) \
    __device__ inline void name(type(&d)[n], uint64_t a, uint64_t b, int add) \
    { \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" add_at ", 0;\n" \
                     "wgmma.mma_async.sync.aligned.m64n" columns kind " " RR_NAMES_##n ", %" a_at \
                     ", %" b_at ", p" tail ";\n}\n" \
                     : sums \
                     : "l"(a), "l"(b), "r"(add)); \
    }
#define RR_PRODUCT(name, type, constraint, kind, tail) \
    RR_PRODUCT_OF(name, type, constraint, kind, tail, 8, "16", RR_8(constraint, d), "8", "9", "10") \
    RR_PRODUCT_OF(name, type, constraint, kind, tail, 16, "32", RR_16(constraint, d, 0), "16", "17", \
                  "18") \
    RR_PRODUCT_OF(name, type, constraint, kind, tail, 32, "64", RR_32(constraint, d), "32", "33", \
                  "34") \
    RR_PRODUCT_OF(name, type, constraint, kind, tail, 64, "128", RR_64(constraint, d), "64", "65", \
                  "66")
#else
#define RR_PRODUCT(name, type, constraint, kind, tail) \
    template <int n> __device__ inline void name(type(&)[n], uint64_t, uint64_t, int) \
    { \
    }
#endif
RR_PRODUCT(product_f16, float, "+f", "k16.f32.f16.f16", ", 1, 1, 0, 0")
RR_PRODUCT(product_bf16, float, "+f", "k16.f32.bf16.bf16", ", 1, 1, 0, 0")
RR_PRODUCT(product_s8, int, "+r", "k32.s32.s8.s8", "")
RR_PRODUCT(product_f8, float, "+f", "k32.f32.e4m3.e4m3", ", 1, 1")

/* sum[64, 64] += a[64, 16] b[16, 64]: a in registers, each warp's 16 rows as mma_f16 has them, and b
 * as it lies there: 16 rows of a tile (not rows of b's transpose as above), whose 64 columns are one
 * row of 128 bytes, so that only the descriptor's distance from eight rows to the next counts.
 * The registers must stay as they are until the product was waited for. */
#if RR_SM90
#define RR_PRODUCT_OF_ROWS(name, kind) \
    __device__ inline void name(float(&d)[32], const uint32_t(&a)[4], uint64_t b) \
    { \
        asm volatile("wgmma.mma_async.sync.aligned.m64n64" kind " " RR_NAMES_32 \
                     ", {%32,%33,%34,%35}, %36, 1, 1, 1, 1;" \
                     : RR_32("+f", d) \
                     : RR_4("r", a, 0), "l"(b)); \
    }
#else
#define RR_PRODUCT_OF_ROWS(name, kind) \
    __device__ inline void name(float(&)[32], const uint32_t(&)[4], uint64_t) \
    { \
    }
#endif
RR_PRODUCT_OF_ROWS(product_of_rows_f16, "k16.f32.f16.f16")
RR_PRODUCT_OF_ROWS(product_of_rows_bf16, "k16.f32.bf16.bf16")

} // namespace dev
#endif
#endif
