/* SPDX-License-Identifier: Apache-2.0 */
/* emul.cc - see emul.h.  One grid at a time, on the thread that synchronises. */
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace emul
{

namespace
{

constexpr size_t STACK = 96 * 1024;
constexpr int GUARD = 1024;

struct Copy {
    void *to;
    unsigned char data[16];
    int group;
};

enum State { READY, AT_BARRIER, AT_CLUSTER_BARRIER, AT_WARP, AT_CONDITION, DONE };

struct Fiber {
    Place place;
    State state;
    uint64_t generation; /* of what it waits for */
    void *stack_pointer;
    ucontext_t context;
    unsigned char *stack;
    std::vector<Copy> copies;
    bool waited;                 /* for the kernel before */
    int group;                   /* the next to be committed */
    std::function<bool()> ready; /* AT_CONDITION */
};

/* What the lanes of a warp hand to each other: two halves, so that a lane that is ahead does not
 * overwrite what a slower one still reads. */
struct Warp {
    uint64_t generation;
    int arrived, kind;
    unsigned char in[2][32][48], out[2][32][32];
};

/* Where threads meet: how many have come, and how often all have. */
struct Meeting {
    int arrived;
    uint64_t generation;
};
struct Block {
    std::vector<unsigned char> shared;
    Meeting barrier;
    int alive; /* threads */
};

/* Of the cluster that runs; its fibers are block after block. */
std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<Block> blocks;
dim3 cluster_dims;
Meeting all_blocks;
int block_threads, current;
const std::function<void()> *body;

/* What the grid loaded as something that nobody writes. */
struct Load {
    const void *from;
    unsigned char size, data[16];
};
std::vector<Load> loads;
std::vector<std::function<void()>> late; /* what may happen when no thread can go on */
bool eager;                              /* it happens at once in this cluster */

/* ---- switching ----------------------------------------------------------------------------- */

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
void *main_stack;
extern "C" void emul_switch(void **save, void *load);
asm(".text\n.globl emul_switch\n.hidden emul_switch\n.type emul_switch, @function\nemul_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size emul_switch, .-emul_switch\n");

void fiber_main();
void prepare(Fiber &f)
{
    void **top = (void **)(f.stack + STACK) - 3; /* as after a call: 8 bytes off 16 */

    *--top = (void *)fiber_main;
    top -= 6;
    memset(top, 0, 6 * sizeof(*top));
    f.stack_pointer = top;
}
void enter(Fiber &f)
{
    emul_switch(&main_stack, f.stack_pointer);
}
void leave(Fiber &f)
{
    emul_switch(&f.stack_pointer, main_stack);
}
#else
ucontext_t main_context;
void fiber_main();
void prepare(Fiber &f)
{
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, fiber_main, 0);
}
void enter(Fiber &f)
{
    swapcontext(&main_context, &f.context);
}
void leave(Fiber &f)
{
    swapcontext(&f.context, &main_context);
}
#endif

void fiber_main()
{
    (*body)();
    Fiber &f = fibers[current];
    f.state = DONE;
    if (!f.copies.empty()) die("ends with copies that it did not wait for");
    if (!f.waited) die("ends without waiting for the kernel before it");
    end_thread_90();
    Block &b = blocks[this_block()];
    b.alive--;
    if (b.barrier.arrived || all_blocks.arrived) die("leaves while others wait at a barrier");
    leave(f);
    abort();
}

void wait_as(State state, uint64_t generation)
{
    Fiber &f = fibers[current];

    f.state = state;
    f.generation = generation;
    leave(f);
}

int threads_alive()
{
    int n = 0;

    for (const Block &b : blocks) n += b.alive;
    return n;
}

/* A condition may be about the block that waits for it: current is set first. */
bool can_run(const Fiber &f, int i)
{
    current = i;
    switch (f.state) {
    case READY: return true;
    case AT_BARRIER: return blocks[i / block_threads].barrier.generation > f.generation;
    case AT_CLUSTER_BARRIER: return all_blocks.generation > f.generation;
    case AT_WARP: return warps[i / 32].generation > f.generation;
    case AT_CONDITION: return f.ready();
    default: return false;
    }
}

/* Lets each of n fibers run once that can; false: none could. */
bool run_round(int first, int n, uint64_t order)
{
    bool moved = false;

    for (int i = 0; i < n; i++) {
        int at = first + (order % 2 ? n - 1 - i : (int)((i + order / 2 * 32) % n));
        if (!can_run(fibers[at], at)) continue;
        here = &fibers[at].place;
        fibers[at].state = READY;
        enter(fibers[at]);
        moved = true;
    }
    return moved;
}

/* In some clusters each block runs as far as it can before the next one does. */
void run_cluster(uint64_t order)
{
    int n = (int)blocks.size();
    bool apart = n > 1 && order / 2 % 2;

    while (threads_alive()) {
        bool moved = false;

        for (int i = 0; apart && i < n; i++) {
            int block = order / 4 % 2 ? n - 1 - i : i;
            while (run_round(block * block_threads, block_threads, order)) moved = true;
        }
        if (!apart) moved = run_round(0, (int)fibers.size(), order);
        if (moved) continue;
        if (late.empty()) die("all threads wait for each other");
        std::vector<std::function<void()>> now;
        now.swap(late);
        for (auto &what : now) what();
    }
    if (!late.empty()) die("the blocks end before their copies");
}

/* ---- meeting ------------------------------------------------------------------------------- */

enum Kind { SHUFFLE, MATRICES, MULTIPLY_S8, MULTIPLY_S8_SMALL, MULTIPLY_F8, MULTIPLY_QUARTERS, MULTIPLY_16 };

/* Each lane brings in and gets out; the last one to come calls work for the whole warp. */
template <class Work>
void meet(int kind, const void *in, size_t n, void *out, size_t n_out, Work work)
{
    Warp &w = warps[current / 32];
    uint64_t generation = w.generation;
    int half = generation & 1, lane = current % 32;

    if (w.arrived && w.kind != kind) die("lanes of a warp are at different instructions");
    w.kind = kind;
    memcpy(w.in[half][lane], in, n);
    if (++w.arrived == 32) {
        work(w.in[half], w.out[half]);
        w.arrived = 0;
        w.generation++;
    } else {
        wait_as(AT_WARP, generation);
    }
    memcpy(out, w.out[half][lane], n_out);
}

float half_value[65536];
bool half_value_known;

float widen(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023, u;

    if (exponent == 31)
        u = sign | 0x7F800000u | fraction << 13;
    else if (exponent)
        u = sign | (exponent + 112) << 23 | fraction << 13;
    else {
        float v = ldexpf((float)fraction, -24);
        return sign ? -v : v;
    }
    return __uint_as_float(u);
}

} // namespace

Place *here;

void die(const char *why)
{
    fprintf(stderr, "emulated kernel, block (%u, %u), thread %u: %s\n", here->block.x,
            here->block.y, here->thread.x, why);
    abort();
}

int this_thread()
{
    return current % block_threads;
}

int this_block()
{
    return current / block_threads;
}

dim3 cluster_size()
{
    return cluster_dims;
}

void loaded_only(const void *from, const void *value, size_t n)
{
    Load l = { from, (unsigned char)n, {} };

    if ((uintptr_t)from % n) die("a load that is not aligned to its size");
    memcpy(l.data, value, n);
    loads.push_back(l);
}

void wait_for_previous()
{
    fibers[current].waited = true;
}

void must_have_waited()
{
    if (!fibers[current].waited) die("reads what the kernel before it may still write");
}

void wait_for(const std::function<bool()> &ready)
{
    if (ready()) return;
    fibers[current].ready = ready;
    wait_as(AT_CONDITION, 0);
}

void happen_some_time(const std::function<void()> &what)
{
    if (eager)
        what();
    else
        late.push_back(what);
}

unsigned char *shared_memory_of(int block)
{
    if (!blocks[block].alive) die("the memory of a block that has ended");
    return (unsigned char *)(((uintptr_t)blocks[block].shared.data() + 1023) & ~(uintptr_t)1023);
}

unsigned char *shared_memory()
{
    return shared_memory_of(this_block());
}

namespace
{

void prepare_fibers(size_t n)
{
    while (fibers.size() > n) {
        munmap(fibers.back().stack, STACK);
        fibers.pop_back();
    }
    while (fibers.size() < n) {
        Fiber f = {};
        f.stack = (unsigned char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f.stack == MAP_FAILED) abort();
        fibers.push_back(f);
    }
}

/* first: the place of the cluster's first block in the grid. */
void begin_cluster(dim3 first, dim3 grid)
{
    size_t n = block_threads;

    for (size_t b = 0; b < blocks.size(); b++) {
        dim3 in((unsigned)b % cluster_dims.x, (unsigned)b / cluster_dims.x);

        blocks[b].shared.assign(blocks[b].shared.size(), 0xFF);
        blocks[b].barrier = {};
        blocks[b].alive = (int)n;
        for (size_t t = 0; t < n; t++) {
            Fiber &f = fibers[b * n + t];
            f.place = { dim3((unsigned)t), dim3(first.x + in.x, first.y + in.y, first.z), in, grid };
            f.state = READY;
            f.waited = false;
            f.group = 0;
            prepare(f);
        }
    }
    all_blocks = {};
    begin_cluster_90(blocks.size(), n);
    for (Warp &w : warps) w.generation = 0, w.arrived = 0;
}

} // namespace

bool run_grid(dim3 grid, dim3 block, size_t n_shared, const std::function<void()> &kernel,
              dim3 cluster)
{
    dim3 clusters(grid.x / cluster.x, grid.y / cluster.y, grid.z);
    size_t n_blocks = (size_t)cluster.x * cluster.y;

    /* kernels here use whole warps, and clusters of two dimensions that fill the grid */
    if (block.x % 32 || grid.x % cluster.x || grid.y % cluster.y || cluster.z != 1 || n_blocks > 8)
        abort();
    block_threads = (int)block.x;
    cluster_dims = cluster;
    blocks.resize(n_blocks);
    for (Block &b : blocks) b.shared.resize(n_shared + GUARD + 1024);
    prepare_fibers(n_blocks * block.x);
    warps.resize(fibers.size() / 32);
    body = &kernel;
    loads.clear();
    for (unsigned i = 0; i < clusters.x * clusters.y * clusters.z; i++) {
        eager = i % 2;
        begin_cluster(dim3(i % clusters.x * cluster.x, i / clusters.x % clusters.y * cluster.y,
                           i / clusters.x / clusters.y),
                      grid);
        run_cluster(i);
        for (Block &b : blocks) {
            size_t end = (size_t)(-(uintptr_t)b.shared.data() & 1023) + n_shared;
            for (size_t g = end; g < end + GUARD; g++)
                if (b.shared[g] != 0xFF) return false;
        }
    }
    for (const Load &l : loads)
        if (memcmp(l.from, l.data, l.size) != 0)
            die("the grid wrote what it had loaded as something that nobody writes");
    return true;
}

namespace
{

/* Of n threads the running one has come. */
void wait_for_all(Meeting &m, int n, State state)
{
    uint64_t generation = m.generation;

    if (++m.arrived == n) {
        m.arrived = 0;
        m.generation++;
    } else {
        wait_as(state, generation);
    }
}

} // namespace

void block_barrier()
{
    Block &b = blocks[this_block()];

    if (blocks.size() == 1) cluster_barrier_90(); /* the block is the cluster */
    wait_for_all(b.barrier, b.alive, AT_BARRIER);
}

void cluster_barrier()
{
    cluster_barrier_90();
    wait_for_all(all_blocks, threads_alive(), AT_CLUSTER_BARRIER);
}

/* ---- values -------------------------------------------------------------------------------- */

float f16_value(uint16_t h)
{
    if (!half_value_known) {
        for (int i = 0; i < 65536; i++) half_value[i] = widen((uint16_t)i);
        half_value_known = true;
    }
    return half_value[h];
}

/* To nearest even, as cvt.rn. */
uint16_t f16_bits(float v)
{
    uint32_t u = __float_as_uint(v), sign = u >> 16 & 0x8000;
    float a = fabsf(v);

    if (a != a) return 0x7FFF;
    if (a >= 65520.0f) return (uint16_t)(sign | 0x7C00);
    if (a < 6.103515625e-05f) return (uint16_t)(sign | (uint32_t)nearbyintf(ldexpf(a, 24)));
    u = (u & 0x7FFFFFFF) - (112u << 23);
    return (uint16_t)(sign | ((u + 0xFFF + (u >> 13 & 1)) >> 13));
}

float bits_16(uint16_t h, bool bf16)
{
    return bf16 ? __uint_as_float((uint32_t)h << 16) : f16_value(h);
}

/* e4m3: four bits of exponent with bias 7, three of fraction, no infinities. */
float f8_value(uint8_t q)
{
    int exponent = q >> 3 & 15, fraction = q & 7;
    float v = exponent ? ldexpf((float)(8 + fraction), exponent - 10) : ldexpf((float)fraction, -9);

    if ((q & 0x7F) == 0x7F) return NAN;
    return q & 0x80 ? -v : v;
}

/* As cvt.rn.satfinite. */
uint8_t f8_bits(float v)
{
    uint8_t sign = __float_as_uint(v) >> 31 ? 0x80 : 0;
    float a = fabsf(v);
    int exponent;

    if (a != a) return 0x7F;
    if (a >= 448.0f) return (uint8_t)(sign | 0x7E);
    if (a < 0.015625f) return (uint8_t)(sign | (int)nearbyintf(a * 512.0f));
    frexpf(a, &exponent); /* a = [1/2, 1) * 2^exponent */
    int steps = (int)nearbyintf(ldexpf(a, 4 - exponent)); /* 8 to 16 */
    return (uint8_t)(sign | (((exponent + 6) << 3) + steps - 8));
}

float shuffle_xor(float v, int mask)
{
    float out;

    meet(SHUFFLE, &v, 4, &out, 4, [=](auto in, auto result) {
        for (int lane = 0; lane < 32; lane++) memcpy(result[lane], in[lane ^ mask], 4);
    });
    return out;
}

float shuffle(float v, int from)
{
    float out;

    meet(SHUFFLE, &v, 4, &out, 4, [=](auto in, auto result) {
        for (int lane = 0; lane < 32; lane++) memcpy(result[lane], in[from & 31], 4);
    });
    return out;
}

/* ldmatrix .x4: lane l addresses row l % 8 of matrix l / 8; lane t gets of each matrix row t / 4,
 * elements 2 (t % 4) and the next, or with .trans the same of the transposed matrix. */
void load_matrices(uint32_t r[4], const void *row, bool transposed)
{
    if ((uintptr_t)row % 16) die("ldmatrix of an address that is not aligned to 16 bytes");
    meet(MATRICES, &row, sizeof(row), r, 16, [=](auto in, auto result) {
        for (int m = 0; m < 4; m++) {
            uint16_t matrix[8][8];
            for (int i = 0; i < 8; i++) {
                const void *from;
                memcpy(&from, in[m * 8 + i], sizeof(from));
                memcpy(matrix[i], from, 16);
            }
            for (int t = 0; t < 32; t++) {
                int i = t / 4, j = t % 4 * 2;
                uint16_t pair[2] = { transposed ? matrix[j][i] : matrix[i][j],
                                     transposed ? matrix[j + 1][i] : matrix[i][j + 1] };
                memcpy(result[t] + 4 * m, pair, 4);
            }
        }
    });
}

/* mma.m16n8k16 and .m16n8k8 of 16-bit types.  With g = lane / 4, t = lane % 4: register r of A holds
 * row g + 8 (r % 2), columns 2 t + 8 (r / 2) and the next; register r of B rows 2 t + 8 r and the
 * next of column g; C rows g (0, 1) and g + 8 (2, 3), columns 2 t and the next. */
void multiply_16(float c[4], const uint32_t *a, const uint32_t *b, int k, bool bf16)
{
    unsigned char in[48] = {};
    float out[4];

    memcpy(in, a, k / 4 * 4);
    memcpy(in + 16, b, k / 8 * 4);
    memcpy(in + 24, c, 16);
    meet(MULTIPLY_16 + k, in, sizeof(in), out, 16, [=](auto lanes, auto result) {
        float A[16][16], B[16][8];
        for (int lane = 0; lane < 32; lane++) {
            uint16_t x[8], y[4];
            int g = lane / 4, t = lane % 4;
            memcpy(x, lanes[lane], 16);
            memcpy(y, lanes[lane] + 16, 8);
            for (int e = 0; e < k / 2; e++)
                A[g + 8 * (e / 2 % 2)][2 * t + e % 2 + 8 * (e / 4)] = bits_16(x[e], bf16);
            for (int e = 0; e < k / 4; e++) B[2 * t + e % 2 + 8 * (e / 2)][g] = bits_16(y[e], bf16);
        }
        for (int lane = 0; lane < 32; lane++) {
            float sum[4];
            memcpy(sum, lanes[lane] + 24, 16);
            for (int e = 0; e < 4; e++)
                for (int i = 0; i < k; i++)
                    sum[e] += A[lane / 4 + 8 * (e / 2)][i] * B[i][lane % 4 * 2 + e % 2];
            memcpy(result[lane], sum, 16);
        }
    });
    memcpy(c, out, 16);
}

/* mma.m8n8k4 of f16 with sums in f32: quarter q of the warp is lanes 4 q to 4 q + 3 and 16 more;
 * place i of a lane in it is lane % 4, and 4 more from lane 16 on.  It brings row i of A and column i
 * of B, four of k each; of C it has, as value e, row lane % 2 + e & 2 (and 4 more from lane 16 on),
 * column (e & 4) + (lane & 2) + (e & 1). */
void multiply_quarters(float c[8], const uint32_t a[2], const uint32_t b[2])
{
    unsigned char in[48] = {};
    float out[8];

    memcpy(in, a, 8);
    memcpy(in + 8, b, 8);
    memcpy(in + 16, c, 32);
    meet(MULTIPLY_QUARTERS, in, sizeof(in), out, 32, [](auto lanes, auto result) {
        for (int lane = 0; lane < 32; lane++) {
            int q = lane / 4 % 4, high = lane >= 16;
            auto lane_at = [=](int place) { return q * 4 + place % 4 + (place >= 4 ? 16 : 0); };
            float sum[8];
            memcpy(sum, lanes[lane] + 16, 32);
            for (int e = 0; e < 8; e++) {
                int row = lane % 2 + (e & 2) + 4 * high, column = (e & 4) + (lane & 2) + (e & 1);
                uint16_t x[4], y[4];
                memcpy(x, lanes[lane_at(row)], 8);
                memcpy(y, lanes[lane_at(column)] + 8, 8);
                for (int i = 0; i < 4; i++) sum[e] += f16_value(x[i]) * f16_value(y[i]);
            }
            memcpy(result[lane], sum, 32);
        }
    });
    memcpy(c, out, 32);
}

/* mma.m16n8k32 of bytes: register r of A holds row g + 8 (r % 2), columns 4 t + 16 (r / 2) to + 3;
 * register r of B rows 4 t + 16 r to + 3 of column g; C as above. */
template <class Sum, class Value>
static void multiply_bytes(int kind, Sum c[4], const uint32_t a[4], const uint32_t b[2], Value value)
{
    unsigned char in[48] = {};
    Sum out[4];

    memcpy(in, a, 16);
    memcpy(in + 16, b, 8);
    memcpy(in + 24, c, 16);
    meet(kind, in, sizeof(in), out, 16, [=](auto lanes, auto result) {
        Sum A[16][32], B[32][8];
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4;
            for (int e = 0; e < 16; e++)
                A[g + 8 * (e / 4 % 2)][4 * t + e % 4 + 16 * (e / 8)] = value(lanes[lane][e]);
            for (int e = 0; e < 8; e++)
                B[4 * t + e % 4 + 16 * (e / 4)][g] = value(lanes[lane][16 + e]);
        }
        for (int lane = 0; lane < 32; lane++) {
            Sum sum[4];
            memcpy(sum, lanes[lane] + 24, 16);
            for (int e = 0; e < 4; e++)
                for (int i = 0; i < 32; i++)
                    sum[e] += A[lane / 4 + 8 * (e / 2)][i] * B[i][lane % 4 * 2 + e % 2];
            memcpy(result[lane], sum, 16);
        }
    });
    memcpy(c, out, 16);
}

void multiply_s8_m16n8k32(int c[4], const uint32_t a[4], const uint32_t b[2])
{
    multiply_bytes(MULTIPLY_S8, c, a, b, [](uint8_t q) { return (int)(int8_t)q; });
}

void multiply_f8_m16n8k32(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    multiply_bytes(MULTIPLY_F8, c, a, b, f8_value);
}

/* mma.m8n8k16 of bytes: A row g, columns 4 t to + 3; B rows 4 t to + 3 of column g; C row g, columns
 * 2 t and the next. */
void multiply_s8_m8n8k16(int c[2], uint32_t a, uint32_t b)
{
    unsigned char in[48] = {};
    int out[2];

    memcpy(in, &a, 4);
    memcpy(in + 4, &b, 4);
    memcpy(in + 8, c, 8);
    meet(MULTIPLY_S8_SMALL, in, sizeof(in), out, 8, [](auto lanes, auto result) {
        int8_t A[8][16], B[16][8];
        for (int lane = 0; lane < 32; lane++)
            for (int e = 0; e < 4; e++) {
                A[lane / 4][lane % 4 * 4 + e] = (int8_t)lanes[lane][e];
                B[lane % 4 * 4 + e][lane / 4] = (int8_t)lanes[lane][4 + e];
            }
        for (int lane = 0; lane < 32; lane++) {
            int sum[2];
            memcpy(sum, lanes[lane] + 8, 8);
            for (int e = 0; e < 2; e++)
                for (int i = 0; i < 16; i++) sum[e] += A[lane / 4][i] * B[i][lane % 4 * 2 + e];
            memcpy(result[lane], sum, 8);
        }
    });
    memcpy(c, out, 8);
}

/* ---- asynchronous copies: the bytes are read at once and arrive at the wait ---------------- */

void copy_async(void *to, const void *from)
{
    Fiber &f = fibers[current];
    Copy c = { to, {}, f.group };

    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) die("cp.async that is not aligned to 16 bytes");
    memcpy(c.data, from, 16);
    f.copies.push_back(c);
}

void copy_commit()
{
    fibers[current].group++;
}

void copy_wait(int pending)
{
    Fiber &f = fibers[current];
    size_t kept = 0;

    for (size_t i = 0; i < f.copies.size(); i++)
        if (f.copies[i].group < f.group - pending)
            memcpy(f.copies[i].to, f.copies[i].data, 16);
        else
            f.copies[kept++] = f.copies[i];
    f.copies.resize(kept);
}

} // namespace emul
