/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - what kernels need beyond C++: matrix fragments, asynchronous copies, narrow types.
 *
 * Kernels are written against this header and plain CUDA syntax.  Compiled by nvcc it is a few lines
 * of PTX; with RR_EMUL it is the host emulation of tests/cuda/emul, so that the same kernel source
 * runs in the tests of a machine without a GPU.
 *
 * RR_ARCH is the architecture that device code is compiled for, 75, 80, ...; it selects between
 * instructions, never between results: a kernel adds in the same order everywhere. */
#ifndef RR_CUDA_DEVICE_H
#define RR_CUDA_DEVICE_H

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef RR_EMUL
#include "emul.h"
#define RR_ARCH RR_EMUL_ARCH
#else
#ifdef __CUDA_ARCH__
#define RR_ARCH (__CUDA_ARCH__ / 10)
#else
#define RR_ARCH 0 /* host pass */
#endif

/* The dynamic shared memory of the block. */
#define RR_SHARED(name) \
    extern __shared__ __align__(128) unsigned char rr_shared_memory[]; \
    unsigned char *name = rr_shared_memory
/* c is the LaunchContext. */
#define RR_LAUNCH(kernel, grid, block, shared, c, args) \
    dev::launch((kernel), (grid), (block), (shared), (c).stream, (c).early, (args))

namespace dev
{

/* Its blocks may begin when those of the kernel before it say so (next_may_begin). */
inline cudaLaunchAttribute early_launch()
{
    cudaLaunchAttribute attribute = {};

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    return attribute;
}
inline cudaLaunchAttribute in_clusters(dim3 cluster)
{
    cudaLaunchAttribute attribute = {};

    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = { cluster.x, cluster.y, cluster.z };
    return attribute;
}
/* cluster: of blocks, which the grid is a multiple of; NULL: none. */
template <class Kernel, class Args>
cudaError_t launch(Kernel *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   bool early, const Args &args, const dim3 *cluster = nullptr)
{
    cudaLaunchAttribute attributes[2];
    cudaLaunchConfig_t config = {};
    void *parameters[] = { const_cast<Args *>(&args) };

    if (cluster) attributes[config.numAttrs++] = in_clusters(*cluster);
    if (early) attributes[config.numAttrs++] = early_launch();
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = attributes;
    return cudaLaunchKernelExC(&config, (const void *)kernel, parameters);
}

/* ---- kernels that begin before the one before them has ended, from 9.0 on ------------------------ */

/* When all blocks have called it, or ended, those of the next kernel take the room that is left. */
__device__ inline void next_may_begin()
{
#if RR_ARCH >= 90
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/* Until the kernel before this one has ended and what it wrote can be read.  Every thread calls, and
 * before it reads or writes anything that any kernel writes: since a kernel ends after its wait, all
 * that were before have ended, too, and nobody reads any longer what is written over.  What only
 * the host writes may be read before. */
__device__ inline void wait_for_previous()
{
#if RR_ARCH >= 90
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
__device__ inline void ldmatrix(uint32_t r[4], const void *row)
{
#if RR_ARCH >= 75
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#else
    __trap();
#endif
}

__device__ inline void ldmatrix_transposed(uint32_t r[4], const void *row)
{
#if RR_ARCH >= 75
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#else
    __trap();
#endif
}

/* c[16, 8] += a[16, 16] b[16, 8], f32 sums.  On sm_75 two steps of eight. */
__device__ inline void mma_f16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#if RR_ARCH >= 80
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif RR_ARCH >= 75
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b1));
#else
    __trap();
#endif
}

/* 7.0's own: each quarter of the warp, lanes 4 q to + 3 and 16 + 4 q to + 3, multiplies 8 rows by 8
 * columns, four of k; lane i of the eight brings row i and column i. */
__device__ inline void mma_f16_quarters(float c[8], uint32_t a0, uint32_t a1, uint32_t b0,
                                        uint32_t b1)
{
#if RR_ARCH >= 70
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9}, {%10,%11}, {%0,%1,%2,%3,%4,%5,%6,%7};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]),
                   "+f"(c[6]), "+f"(c[7])
                 : "r"(a0), "r"(a1), "r"(b0), "r"(b1));
#else
    __trap();
#endif
}

__device__ inline void mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#if RR_ARCH >= 80
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap(); /* open() refuses bf16 on such a device */
#endif
}

/* c[16, 8] += a[16, 32] b[32, 8] of signed bytes, exact.  On sm_75 four of m8n8k16. */
__device__ inline void mma_s8(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#if RR_ARCH >= 80
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif RR_ARCH >= 75
#pragma unroll
    for (int half = 0; half < 2; half++) {
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                     : "+r"(c[2 * half]), "+r"(c[2 * half + 1])
                     : "r"(a[half]), "r"(b0));
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                     : "+r"(c[2 * half]), "+r"(c[2 * half + 1])
                     : "r"(a[2 + half]), "r"(b1));
    }
#else
    __trap();
#endif
}

/* The same of fp8 e4m3, f32 sums. */
__device__ inline void mma_f8(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#if RR_ARCH >= 89
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap(); /* open() refuses fp8 on such a device */
#endif
}

/* To fp8 e4m3, nearest even, saturated at 448. */
__device__ inline uint8_t f8_from(float v)
{
#if RR_ARCH >= 89
    uint16_t h;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(h) : "f"(0.0f), "f"(v));
    return (uint8_t)h; /* the second operand is the low half */
#else
    __trap();
    return 0;
#endif
}

/* 16 bytes from global to shared memory; both aligned to 16.  Without the instruction a plain copy,
 * complete at the next barrier: kernels that matter there fetch through registers instead. */
__device__ inline void copy_async(void *shared, const void *global)
{
#if RR_ARCH >= 80
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
                 "l"(global)
                 : "memory");
#else
    *(uint4 *)shared = *(const uint4 *)global;
#endif
}

__device__ inline void copy_commit()
{
#if RR_ARCH >= 80
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits until at most `pending` of the committed groups are unfinished. */
template <int pending> __device__ inline void copy_wait()
{
#if RR_ARCH >= 80
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

/* What no kernel writes: the load may go ahead of stores, and of wait_for_previous(). */
template <class V> __device__ inline V load_only(const V *p)
{
    return __ldg(p);
}
/* What earlier kernels wrote and this one does not.  The same, but not ahead of wait_for_previous(): for
 * load_only the compiler may take any memory to be older than the kernel. */
template <class V> __device__ inline V load_input(const V *p)
{
#if RR_ARCH >= 90
    return *p;
#else
    return __ldg(p);
#endif
}

/* 2^v; what is below 2^-126 becomes 0. */
__device__ inline float power_of_two(float v)
{
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v));
    return power;
}

__device__ inline uint16_t f16_from(float v)
{
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
    return h;
}

__device__ inline float f16_to(uint16_t h)
{
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h));
    return v;
}

} // namespace dev
#endif

namespace dev
{

/* What a kernel begins with that has nothing to do before. */
__device__ inline void previous_done()
{
    next_may_begin();
    wait_for_previous();
}

enum Narrow { F16, BF16 }; /* what a 16-bit buffer holds */

__device__ inline float bf16_to(uint16_t h)
{
    return __uint_as_float((uint32_t)h << 16);
}

/* To nearest even; NaN stays NaN. */
__device__ inline uint16_t bf16_from(float v)
{
    uint32_t u = __float_as_uint(v);

    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1)) >> 16);
}

/* Beyond 65504 f16 is infinite: that must reach the logit, for the pair to be repeated in f32. */
template <Narrow narrow> __device__ inline uint16_t narrow_from(float v)
{
    return narrow == BF16 ? bf16_from(v) : f16_from(v);
}

/* What f8_from and the host make: e4m3. */
__device__ inline float f8_to(uint8_t q)
{
    uint32_t sign = (uint32_t)(q & 0x80) << 24, magnitude = q & 0x7F;

    if (magnitude == 0x7F) return __uint_as_float(0x7FC00000u);
    if (magnitude < 8) return __uint_as_float(__float_as_uint((float)magnitude * 0x1p-9f) | sign);
    return __uint_as_float(((magnitude << 20) + (120u << 23)) | sign);
}

template <Narrow narrow> __device__ inline float narrow_to(uint16_t h)
{
    return narrow == BF16 ? bf16_to(h) : f16_to(h);
}

template <Narrow narrow> __device__ inline uint32_t narrow_pair(float low, float high)
{
#if RR_ARCH >= 80 && !defined(RR_EMUL)
    uint32_t pair;

    if (narrow == BF16)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
    return narrow_from<narrow>(low) | (uint32_t)narrow_from<narrow>(high) << 16;
}

/* Four neighbouring columns of a row, from a multiple of four on. */
struct Four {
    float v[4];
};

/* From the bits of four values. */
__device__ inline Four four_from(uint4 x)
{
    return { { __uint_as_float(x.x), __uint_as_float(x.y), __uint_as_float(x.z),
               __uint_as_float(x.w) } };
}
template <Narrow narrow> __device__ inline Four four_from(uint32_t low, uint32_t high)
{
    return { { narrow_to<narrow>((uint16_t)low), narrow_to<narrow>((uint16_t)(low >> 16)),
               narrow_to<narrow>((uint16_t)high), narrow_to<narrow>((uint16_t)(high >> 16)) } };
}
/* Of weights. */
__device__ inline Four load_four(const float *from)
{
    float4 x = load_only((const float4 *)from);

    return { { x.x, x.y, x.z, x.w } };
}
/* Of what earlier kernels wrote and this one does not. */
__device__ inline Four input_four(const float *from)
{
    float4 x = load_input((const float4 *)from);

    return { { x.x, x.y, x.z, x.w } };
}
template <Narrow narrow> __device__ inline Four input_four(const uint16_t *from)
{
    uint2 x = load_input((const uint2 *)from);

    return four_from<narrow>(x.x, x.y);
}
/* To both forms of a value, or the one that is not NULL. */
__device__ inline void store_four(float *f32, uint16_t *bits, bool bf16, size_t at, const Four &x)
{
    auto pair = [=](float low, float high) {
        return bf16 ? narrow_pair<BF16>(low, high) : narrow_pair<F16>(low, high);
    };

    if (f32) *(float4 *)(f32 + at) = float4{ x.v[0], x.v[1], x.v[2], x.v[3] };
    if (bits) *(uint2 *)(bits + at) = uint2{ pair(x.v[0], x.v[1]), pair(x.v[2], x.v[3]) };
}

/* Sums of products lie so that a lane has two neighbouring columns, a, of one block of eight and
 * the same two, b, of the next, and the lane that differs in bit `bit` the two beside them.
 * They exchange: each has four neighbouring columns, of the next block in the lane that has the
 * bit.  All lanes call. */
template <int bit> __device__ inline Four exchange(const float (&a)[2], const float (&b)[2])
{
    bool second = threadIdx.x & bit;
    float r0 = __shfl_xor_sync(0xFFFFFFFFu, second ? a[0] : b[0], bit);
    float r1 = __shfl_xor_sync(0xFFFFFFFFu, second ? a[1] : b[1], bit);

    return { { second ? r0 : a[0], second ? r1 : a[1], second ? b[0] : r0, second ? b[1] : r1 } };
}

template <Narrow narrow>
__device__ inline void mma_narrow(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    if (narrow == BF16)
        mma_bf16(c, a, b0, b1);
    else
        mma_f16(c, a, b0, b1);
}

__device__ inline float warp_sum(float v)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, lane);
    return v;
}

/* NaN in any lane does not get lost. */
__device__ inline float warp_max(float v)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) {
        float other = __shfl_xor_sync(0xFFFFFFFFu, v, lane);
        v = v > other || v != v ? v : other;
    }
    return v;
}

} // namespace dev
#endif
