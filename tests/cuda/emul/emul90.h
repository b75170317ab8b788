/* SPDX-License-Identifier: Apache-2.0 */
/* emul90.h - sm90.h under emulation: the blocks of a cluster run together, copies arrive when nothing
 * else can run, products happen when they are waited for, and both are laid out as the PTX ISA says. */
#ifndef RR_EMUL90_H
#define RR_EMUL90_H

#include <cuda.h>

#include "emul.h"
#include "kern.h"

namespace emul
{

enum ProductKind { PRODUCT_F16, PRODUCT_BF16, PRODUCT_S8, PRODUCT_F8 };

void barrier_init(uint64_t *bar, int arrivals);
void barrier_publish();
void barrier_arrive(uint64_t *bar, int block, int bytes);
void barrier_wait(uint64_t *bar, uint32_t parity);
void copy_tile(void *shared, const CUtensorMap &map, int x, int y, uint64_t *bar,
               uint32_t blocks);
uint64_t tile_descriptor(const void *tile);
void product(ProductKind kind, void *sums, int n, uint64_t a, uint64_t b, bool add);
void product_of_rows(ProductKind kind, float *sums, int n, const uint32_t *a, uint64_t b);
void products_begin();
void products_commit();
void products_wait(int pending);

} // namespace emul

namespace dev
{

struct Cluster {
    uint32_t x, y, width, height;
};
static inline Cluster cluster_place()
{
    dim3 place = emul::here->in_cluster, size = emul::cluster_size();

    return { place.x, place.y, size.x, size.y };
}
static inline void cluster_barrier()
{
    emul::cluster_barrier();
}
template <class Kernel, class Args>
cudaError_t launch_clusters(Kernel *kernel, dim3 grid, dim3 cluster, int threads, size_t shared,
                            const LaunchContext &c, const Args &args)
{
    if (emul::refuses(c.early)) return cudaErrorNotSupported;
    return emul::launch((const void *)kernel, grid, dim3(threads), shared, c.stream,
                        [=] { kernel(args); }, cluster);
}
template <class Kernel>
cudaError_t max_clusters(Kernel *, dim3 cluster, int, size_t, int processors, int *n)
{
    *n = processors / (int)(cluster.x * cluster.y);
    return cudaSuccess;
}
static inline void barrier_init(uint64_t *bar, int arrivals)
{
    emul::barrier_init(bar, arrivals);
}
static inline void barrier_publish()
{
    emul::barrier_publish();
}
static inline void barrier_arrive(uint64_t *bar, uint32_t block)
{
    emul::barrier_arrive(bar, (int)block, 0);
}
static inline void barrier_expect(uint64_t *bar, int bytes)
{
    emul::barrier_arrive(bar, emul::this_block(), bytes);
}
static inline void barrier_wait(uint64_t *bar, uint32_t parity)
{
    emul::barrier_wait(bar, parity);
}
static inline void copy_tile(void *shared, const CUtensorMap *map, int x, int y, uint64_t *bar,
                             uint32_t blocks)
{
    emul::copy_tile(shared, *map, x, y, bar, blocks);
}
static inline uint64_t tile_descriptor(const void *tile)
{
    return emul::tile_descriptor(tile);
}
template <int n> static inline void registers_give()
{
}
template <int n> static inline void registers_take()
{
}
static inline void products_begin()
{
    emul::products_begin();
}
static inline void products_commit()
{
    emul::products_commit();
}
template <int pending> static inline void products_wait()
{
    emul::products_wait(pending);
}
template <class V> static inline void products_settle(V &)
{
}
template <int n>
static inline void product_f16(float (&d)[n], uint64_t a, uint64_t b, int add)
{
    emul::product(emul::PRODUCT_F16, d, 2 * n, a, b, add);
}
template <int n>
static inline void product_bf16(float (&d)[n], uint64_t a, uint64_t b, int add)
{
    emul::product(emul::PRODUCT_BF16, d, 2 * n, a, b, add);
}
template <int n> static inline void product_s8(int (&d)[n], uint64_t a, uint64_t b, int add)
{
    emul::product(emul::PRODUCT_S8, d, 2 * n, a, b, add);
}
template <int n>
static inline void product_f8(float (&d)[n], uint64_t a, uint64_t b, int add)
{
    emul::product(emul::PRODUCT_F8, d, 2 * n, a, b, add);
}

template <int n>
static inline void product_of_rows_f16(float (&d)[n], const uint32_t (&a)[4], uint64_t b)
{
    emul::product_of_rows(emul::PRODUCT_F16, d, 2 * n, a, b);
}
template <int n>
static inline void product_of_rows_bf16(float (&d)[n], const uint32_t (&a)[4], uint64_t b)
{
    emul::product_of_rows(emul::PRODUCT_BF16, d, 2 * n, a, b);
}
static inline void map_prefetch(const CUtensorMap *)
{
}
static inline void publish_to_products()
{
}

} // namespace dev
#endif
