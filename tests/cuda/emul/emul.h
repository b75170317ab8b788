/* SPDX-License-Identifier: Apache-2.0 */
/* emul.h - a block of CUDA threads on the host: every thread a fiber, which runs until it meets the
 * others at __syncthreads, a shuffle or a matrix instruction.
 *
 * Clusters of blocks, mostly of one, run one after the other, threads in an order that changes from
 * cluster to cluster: a missing barrier shows.  Shared memory begins as 0xFF bytes (NaN in every type) and ends at a guard.
 * Fragments are laid out as the PTX ISA says, independently of what kernels assume.
 * Copies by cp.async arrive only when they are waited for. */
#ifndef RR_EMUL_H
#define RR_EMUL_H

#include <cuda_runtime.h>
#include <functional>

namespace emul
{

struct Place {
    dim3 thread, block, in_cluster, grid;
};
extern Place *here; /* of the running fiber */

cudaError_t launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   std::function<void()> run, dim3 cluster = dim3());
bool refuses(bool early); /* EMUL_NO_EARLY */
/* The whole grid, now; false: it wrote beyond its shared memory. */
bool run_grid(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel,
              dim3 cluster);
unsigned char *shared_memory(); /* of the running block */
int this_block();               /* its number in the cluster */
dim3 cluster_size();
void block_barrier();
void cluster_barrier();
float f16_value(uint16_t h);
uint16_t f16_bits(float v);
uint8_t f8_bits(float v);
/* load_only: the address must fit, and the grid may not write there. */
void loaded_only(const void *from, const void *value, size_t n);
/* Every thread must call it before it ends, and before it reads what other kernels wrote. */
void wait_for_previous();
void must_have_waited();

/* Matrix and warp operations: all 32 lanes call, each gets its part. */
float shuffle_xor(float v, int mask);
float shuffle(float v, int from);
void load_matrices(uint32_t r[4], const void *row, bool transposed);
void multiply_16(float c[4], const uint32_t *a, const uint32_t *b, int k, bool bf16);
void multiply_quarters(float c[8], const uint32_t a[2], const uint32_t b[2]);
void multiply_s8_m16n8k32(int c[4], const uint32_t a[4], const uint32_t b[2]);
void multiply_f8_m16n8k32(float c[4], const uint32_t a[4], const uint32_t b[2]);
void multiply_s8_m8n8k16(int c[2], uint32_t a, uint32_t b);
void copy_async(void *to, const void *from);
void copy_commit();
void copy_wait(int pending);

} // namespace emul

#define threadIdx (emul::here->thread)
#define blockIdx (emul::here->block)
#define gridDim (emul::here->grid)
#define RR_SHARED(name) unsigned char *name = emul::shared_memory()
#define RR_LAUNCH(kernel, grid, block, shared, c, args) \
    (emul::refuses((c).early) \
         ? cudaErrorNotSupported \
         : emul::launch((const void *)(kernel), (grid), (block), (shared), (c).stream, \
                        [=, kernel_args = (args)] { kernel(kernel_args); }))

static inline void __syncthreads()
{
    emul::block_barrier();
}
static inline void __syncwarp()
{
    emul::shuffle(0, 0);
}
static inline float __shfl_xor_sync(unsigned, float v, int mask)
{
    return emul::shuffle_xor(v, mask);
}
static inline float __shfl_sync(unsigned, float v, int from)
{
    return emul::shuffle(v, from);
}
static inline float __saturatef(float v)
{
    return v > 0 ? v < 1 ? v : 1.0f : 0.0f; /* NaN: 0 */
}
static inline uint32_t __float_as_uint(float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    return u;
}
static inline float __uint_as_float(uint32_t u)
{
    float v;
    memcpy(&v, &u, 4);
    return v;
}

namespace dev
{

static inline void ldmatrix(uint32_t r[4], const void *row)
{
    emul::load_matrices(r, row, false);
}
static inline void ldmatrix_transposed(uint32_t r[4], const void *row)
{
    emul::load_matrices(r, row, true);
}
static inline void mma_f16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#if RR_EMUL_ARCH >= 80
    uint32_t b[2] = { b0, b1 };
    emul::multiply_16(c, a, b, 16, false);
#else
    emul::multiply_16(c, a, &b0, 8, false);
    emul::multiply_16(c, a + 2, &b1, 8, false);
#endif
}
static inline void mma_f16_quarters(float c[8], uint32_t a0, uint32_t a1, uint32_t b0, uint32_t b1)
{
    uint32_t a[2] = { a0, a1 }, b[2] = { b0, b1 };
    emul::multiply_quarters(c, a, b);
}
static inline void mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    uint32_t b[2] = { b0, b1 };
    emul::multiply_16(c, a, b, 16, true);
}
static inline void mma_s8(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#if RR_EMUL_ARCH >= 80
    uint32_t b[2] = { b0, b1 };
    emul::multiply_s8_m16n8k32(c, a, b);
#else
    for (int half = 0; half < 2; half++) {
        emul::multiply_s8_m8n8k16(c + 2 * half, a[half], b0);
        emul::multiply_s8_m8n8k16(c + 2 * half, a[2 + half], b1);
    }
#endif
}
static inline void mma_f8(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    uint32_t b[2] = { b0, b1 };
    emul::multiply_f8_m16n8k32(c, a, b);
}
static inline void copy_async(void *to, const void *from)
{
#if RR_EMUL_ARCH >= 80
    emul::copy_async(to, from);
#else
    memcpy(to, from, 16);
#endif
}
static inline void copy_commit()
{
    emul::copy_commit();
}
template <int pending> static inline void copy_wait()
{
    emul::copy_wait(pending);
}
template <class V> static inline V load_only(const V *p)
{
    V v;

    memcpy(&v, p, sizeof(v)); /* where a plain one could be left out or split */
    emul::loaded_only(p, &v, sizeof(v));
    return v;
}
template <class V> static inline V load_input(const V *p)
{
    emul::must_have_waited();
    return load_only(p);
}
static inline void next_may_begin()
{
}
static inline void wait_for_previous()
{
    emul::wait_for_previous();
}
static inline float power_of_two(float v)
{
    float power = exp2f(v);
    return power < 0x1p-126f ? 0 : power;
}
static inline uint8_t f8_from(float v)
{
    return emul::f8_bits(v);
}
static inline uint32_t shared_address(const void *p)
{
    return (uint32_t)((const unsigned char *)p - emul::shared_memory());
}
static inline uint16_t f16_from(float v)
{
    return emul::f16_bits(v);
}
static inline float f16_to(uint16_t h)
{
    return emul::f16_value(h);
}

} // namespace dev
#endif
