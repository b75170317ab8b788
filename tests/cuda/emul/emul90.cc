/* SPDX-License-Identifier: Apache-2.0 */
/* emul90.cc - see emul90.h: barriers in shared memory, copies of tiles, products of four warps. */
#include "emul90.h"

#include <map>
#include <vector>

#include "inside.h"

namespace emul
{

namespace
{

/* ---- barriers ---------------------------------------------------------------------------------- */

struct Barrier {
    int arrivals;        /* of each phase */
    int missing, bytes;  /* of this phase */
    uint32_t phases;     /* that are over */
    int block;           /* whose thread initialised it */
    bool published;      /* by a fence of the cluster's scope */
    bool known;          /* to others: that block's barrier of the cluster came after the fence */
};
std::map<uint64_t *, Barrier> barriers;

Barrier &find(uint64_t *bar)
{
    auto at = barriers.find(bar);

    if (at == barriers.end()) die("a barrier that was not initialised");
    return at->second;
}

/* For copies and other blocks. */
Barrier &find_known(uint64_t *bar)
{
    Barrier &b = find(bar);

    if (!b.known) die("a barrier whose initialisation was not made known to the cluster");
    return b;
}

void turn(Barrier &b)
{
    if (b.missing || b.bytes) return;
    b.phases++;
    b.missing = b.arrivals;
}

/* ---- shared memory as the 128-byte swizzle has it ------------------------------------------------ */

size_t swizzled(size_t at)
{
    return at ^ (at >> 7 & 7) << 4;
}

/* Column c, row i of k, of a descriptor's 16-bit matrix whose columns are neighbours ("MN-major"): 64
 * columns are 128 bytes, the next ones, and the next eight rows, lie where its distances say. */
uint16_t number_at(uint64_t descriptor, int c, int i)
{
    size_t start = (descriptor & 0x3FFF) << 4, rows8 = (descriptor >> 32 & 0x3FFF) << 4;
    size_t columns64 = (descriptor >> 16 & 0x3FFF) << 4;
    uint16_t h;

    memcpy(&h, shared_memory() + swizzled(start + c / 64 * columns64 + i / 8 * rows8 + i % 8 * 128 +
                                          c % 64 * 2), 2);
    return h;
}

/* Row r of a descriptor's matrix, byte b of its 32. */
uint8_t byte_at(uint64_t descriptor, int r, int b)
{
    size_t start = (descriptor & 0x3FFF) << 4, rows8 = (descriptor >> 32 & 0x3FFF) << 4;

    return shared_memory()[swizzled(start + r / 8 * rows8 + r % 8 * 128 + b)];
}

/* ---- products ------------------------------------------------------------------------------------ */

struct Product {
    ProductKind kind;
    void *sums;
    int n;
    uint64_t a, b;
    bool add;
    int group;
    const uint32_t *registers; /* of a, which then has no descriptor; b's columns are neighbours */
};
struct Thread {
    std::vector<Product> queue;
    int group; /* the next to be committed */
    bool begun;
};
struct Group { /* four warps */
    int arrived;
    uint64_t generation;
};
struct Block {
    std::vector<Thread> threads;
    std::vector<Group> groups;
};
std::vector<Block> blocks; /* of the cluster */

/* What lies at the place of p, which is in the running block's shared memory, in that of another. */
template <class T> T *there(T *p, int block)
{
    return (T *)(shared_memory_of(block) + ((unsigned char *)p - shared_memory()));
}

float number(ProductKind kind, uint64_t descriptor, int r, int i)
{
    if (kind == PRODUCT_F8) return f8_value(byte_at(descriptor, r, i));
    if (kind == PRODUCT_S8) return (int8_t)byte_at(descriptor, r, i);
    uint16_t h = (uint16_t)(byte_at(descriptor, r, 2 * i) | byte_at(descriptor, r, 2 * i + 1) << 8);
    return bits_16(h, kind == PRODUCT_BF16);
}

/* Lane t of warp w has rows 16 w + t / 4 and 8 more; register 4 j + 2 h + e is row + 8 h, column
 * 8 j + 2 (t % 4) + e. */
template <class Sum> void multiply(int first, size_t which, const Product &p)
{
    int k = p.kind == PRODUCT_F8 || p.kind == PRODUCT_S8 ? 32 : 16;
    std::vector<Sum> a(64 * k), b((size_t)p.n * k);

    for (int r = 0; r < 64 && !p.registers; r++)
        for (int i = 0; i < k; i++) a[r * k + i] = (Sum)number(p.kind, p.a, r, i);
    for (int r = 0; r < p.n; r++)
        for (int i = 0; i < k; i++)
            b[r * k + i] = p.registers ? (Sum)bits_16(number_at(p.b, r, i), p.kind == PRODUCT_BF16)
                                       : (Sum)number(p.kind, p.b, r, i);
    /* register e / 2 of a: rows as those of sums, columns 2 (t % 4) and the next, from 4 on 8 more */
    for (int t = 0; t < 128 && p.registers; t++) {
        uint16_t x[8];

        memcpy(x, blocks[this_block()].threads[first + t].queue[which].registers, 16);
        for (int e = 0; e < 8; e++)
            a[(t / 32 * 16 + t % 32 / 4 + e / 2 % 2 * 8) * k + t % 4 * 2 + e % 2 + e / 4 * 8] =
                (Sum)bits_16(x[e], p.kind == PRODUCT_BF16);
    }
    for (int t = 0; t < 128; t++) {
        Sum *sums = (Sum *)blocks[this_block()].threads[first + t].queue[which].sums;

        for (int e = 0; e < p.n / 2; e++) {
            int row = t / 32 * 16 + t % 32 / 4 + e / 2 % 2 * 8;
            int column = e / 4 * 8 + t % 4 * 2 + e % 2;
            Sum sum = p.add ? sums[e] : 0;
            for (int i = 0; i < k; i++) sum += a[row * k + i] * b[column * k + i];
            sums[e] = sum;
        }
    }
}

/* The group's products that are older than the last `pending` commits. */
void multiply_due(int first, int pending)
{
    std::vector<Thread> &threads = blocks[this_block()].threads;
    Thread &leader = threads[first];
    size_t due = 0;

    while (due < leader.queue.size() && leader.queue[due].group < leader.group - pending) due++;
    for (int t = 1; t < 128; t++)
        if (threads[first + t].queue.size() != leader.queue.size() ||
            threads[first + t].group != leader.group)
            die("threads of a group asked for different products");
    for (size_t i = 0; i < due; i++) {
        const Product &p = leader.queue[i];

        for (int t = 1; t < 128; t++)
            if (threads[first + t].queue[i].a != p.a || threads[first + t].queue[i].b != p.b)
                die("threads of a group named different operands");
        if (p.kind == PRODUCT_S8)
            multiply<int>(first, i, p);
        else
            multiply<float>(first, i, p);
    }
    for (int t = 0; t < 128; t++) {
        Thread &thread = threads[first + t];
        thread.queue.erase(thread.queue.begin(), thread.queue.begin() + (long)due);
        if (due) thread.begun = false;
    }
}

} // namespace

void begin_cluster_90(size_t n_blocks, size_t n)
{
    Block b = { std::vector<Thread>(n), std::vector<Group>(n / 128 + 1) };

    barriers.clear();
    blocks.assign(n_blocks, b);
}

void end_thread_90()
{
    if (!blocks[this_block()].threads[this_thread()].queue.empty()) die("ends with products that it did not wait for");
}

void barrier_init(uint64_t *bar, int arrivals)
{
    barriers[bar] = { arrivals, arrivals, 0, 0, this_block(), false, false };
}

void barrier_publish()
{
    for (auto &b : barriers)
        if (b.second.block == this_block()) b.second.published = true;
}

void cluster_barrier_90()
{
    for (auto &b : barriers)
        if (b.second.block == this_block() && b.second.published) b.second.known = true;
}

void barrier_arrive(uint64_t *bar, int block, int bytes)
{
    Barrier &b = block == this_block() ? find(bar) : find_known(there(bar, block));

    if (!b.missing) die("more arrivals at a barrier than it was initialised for");
    b.missing--;
    b.bytes += bytes;
    turn(b);
}

void barrier_wait(uint64_t *bar, uint32_t parity)
{
    find(bar);
    wait_for([=] { return (find(bar).phases & 1) != parity; });
}

void copy_tile(void *shared, const CUtensorMap &map, int x, int y, uint64_t *bar, uint32_t to_blocks)
{
    size_t to = (size_t)((unsigned char *)shared - shared_memory());
    size_t bar_at = (size_t)((unsigned char *)bar - shared_memory());

    if (to % 1024) die("a tile that does not begin at 1024 bytes");
    if (to_blocks >> blocks.size()) die("a copy to blocks that the cluster has not");
    if (!(to_blocks >> this_block() & 1)) die("a copy that leaves out the block that asks for it");
    happen_some_time([=] {
        for (int block = 0; block < (int)blocks.size(); block++) {
            if (!(to_blocks >> block & 1)) continue;
            unsigned char *memory = shared_memory_of(block);
            for (uint32_t r = 0; r < map.box[1]; r++)
                for (uint32_t i = 0; i < map.box[0]; i++) {
                    size_t row = (size_t)y + r, column = (size_t)x + i;
                    bool inside = row < map.size[1] && column < map.size[0];

                    memory[swizzled(to + r * 128 + i)] =
                        inside ? map.base[row * map.stride + column] : 0;
                }
            Barrier &b = find_known((uint64_t *)(memory + bar_at));
            b.bytes -= (int)(map.box[0] * map.box[1]);
            turn(b);
        }
    });
}

uint64_t tile_descriptor(const void *tile)
{
    size_t at = (size_t)((const unsigned char *)tile - shared_memory());

    if (at % 1024) die("a tile that does not begin at 1024 bytes");
    return at >> 4 | (uint64_t)1 << 16 | (uint64_t)64 << 32 | (uint64_t)1 << 62;
}

void products_begin()
{
    blocks[this_block()].threads[this_thread()].begun = true;
}

namespace
{

void ask(const Product &p)
{
    Thread &t = blocks[this_block()].threads[this_thread()];

    if (!t.begun) die("a product without a fence before it");
    t.queue.push_back(p);
    t.queue.back().group = t.group;
}

/* 128-byte swizzle, eight rows in one piece. */
bool usual(uint64_t descriptor)
{
    return descriptor >> 62 == 1 && (descriptor >> 32 & 0x3FFF) == 64;
}

} // namespace

void product(ProductKind kind, void *sums, int n, uint64_t a, uint64_t b, bool add)
{
    if (!usual(a) || !usual(b)) die("a product of operands in another layout than 128-byte swizzle");
    ask({ kind, sums, n, a, b, add, 0, nullptr });
}

void product_of_rows(ProductKind kind, float *sums, int n, const uint32_t *a, uint64_t b)
{
    if (b >> 62 != 1) die("a product of an operand in another layout than 128-byte swizzle");
    ask({ kind, sums, n, 0, b, true, 0, a });
}

void products_commit()
{
    blocks[this_block()].threads[this_thread()].group++;
}

void products_wait(int pending)
{
    int first = this_thread() / 128 * 128;
    Group &g = blocks[this_block()].groups[first / 128];
    uint64_t generation = g.generation;

    if (++g.arrived < 128) {
        wait_for([&] { return g.generation > generation; });
        return;
    }
    multiply_due(first, pending);
    g.arrived = 0;
    g.generation++;
}

} // namespace emul

extern "C" CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType, cuuint32_t rank,
                                           void *base, const cuuint64_t *size,
                                           const cuuint64_t *stride, const cuuint32_t *box,
                                           const cuuint32_t *step, CUtensorMapInterleave,
                                           CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                           CUtensorMapFloatOOBfill)
{
    if (rank != 2 || (uintptr_t)base % 16 || stride[0] % 16 || box[0] != 128 || box[1] > 256 ||
        step[0] != 1 || step[1] != 1 || swizzle != CU_TENSOR_MAP_SWIZZLE_128B || !size[0] ||
        !size[1])
        return CUDA_ERROR_INVALID_VALUE;
    *map = { (const unsigned char *)base, { size[0], size[1] }, stride[0], { box[0], box[1] } };
    return CUDA_SUCCESS;
}
