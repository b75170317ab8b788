/* SPDX-License-Identifier: Apache-2.0 */
/* attention_sm90.cu - attention.cu's attention_tiles for compute capability 9.0 and heads of 64: the
 * hardware fetches tiles of 64 rows and multiplies them where they lie.
 *
 * A block has GROUPS times four warps with 64 queries each, all of a sequence and head, for which keys
 * and values are fetched once.  Blocks are as many as fit on the device and take one piece of work after
 * the other, so that what a batch does not have costs nothing.
 *
 * A thread asks for the queries and the first STAGES tiles of keys and values at once, and for a further
 * one when all are done with the one that lies in its place.  Each row's sums are added in the order of
 * attention_tiles, whatever the number of groups. */
#include "attention.h"
#include "sm90.h"

using namespace dev;

namespace
{

constexpr int TILE = ATTENTION_TILE;
constexpr int ROW = 128, BYTES = TILE * ROW; /* of a tile: heads of 64 values in 16 bits */

struct Args {
    AttentionArgs a;
    CUtensorMap q, kv; /* boxes of a tile; of one row where that is all that is asked */
};

/* One group: many small blocks, with room for 128 keys.  Two read keys and values half as often. */
template <int GROUPS> struct Shape {
    static constexpr int THREADS = GROUPS * 128;
    static constexpr int BLOCKS = GROUPS == 1 ? 5 : 2; /* of a processor */
    static constexpr int STAGES = GROUPS == 1 ? 2 : 4;
};

/* A piece of work: queries of a head; none: it is the end. */
struct Work {
    Span span;
    Keys keys;
    uint32_t head;
};

template <int GROUPS> __device__ inline Work find_work(const AttentionArgs &p, uint32_t number)
{
    const Dims &d = *p.batch.dims;
    uint32_t tile = number / p.heads;
    Work w = {};

    if (tile >= (p.sequences ? d.rows[RR_ROWS_SEQUENCES] : GROUPS == 1 ? d.tiles : d.pairs)) return w;
    w.span = span_of(p, tile, GROUPS * TILE);
    w.keys = keys_of(p, w.span);
    w.head = number % p.heads;
    return w;
}

/* What lies in the block's shared memory. */
template <int GROUPS> struct Shared {
    static constexpr int STAGES = Shape<GROUPS>::STAGES;
    unsigned char *queries, *stages; /* tiles: GROUPS, STAGES times keys and values */
    uint64_t *asked, *keys, *values; /* barriers: of queries, and of each stage */
    Work *work;                      /* [2] what is done, what comes next */

    static constexpr int SIZE = (GROUPS + 2 * STAGES) * BYTES + 8 * (1 + 2 * STAGES) +
                                2 * (int)sizeof(Work) + 1024; /* tiles begin at 1024 bytes */

    __device__ explicit Shared(unsigned char *memory)
        : queries(memory + (1024 - shared_address(memory) % 1024) % 1024),
          stages(queries + GROUPS * BYTES), asked((uint64_t *)(stages + 2 * STAGES * BYTES)),
          keys(asked + 1), values(keys + STAGES), work((Work *)(values + STAGES))
    {
    }
    /* One thread. */
    __device__ void init() const
    {
        for (int i = 0; i < 1 + 2 * STAGES; i++) barrier_init(asked + i, 1);
        barrier_publish();
    }
    __device__ unsigned char *key_tile(uint32_t stage) const
    {
        return stages + stage * 2 * BYTES;
    }
    __device__ unsigned char *value_tile(uint32_t stage) const
    {
        return stages + (stage * 2 + 1) * BYTES;
    }
    /* Keys and values from k on become tile number n of the block.  One thread. */
    __device__ void fetch(const Args &p, const Work &w, uint32_t k, uint32_t n) const
    {
        uint32_t s = n % STAGES, col = w.head * p.a.kv_heads / p.a.heads * 64;

        barrier_expect(&keys[s], BYTES);
        copy_tile(key_tile(s), &p.kv, (p.a.k_col + col) * 2, w.span.begin + k, &keys[s], 1);
        barrier_expect(&values[s], BYTES);
        copy_tile(value_tile(s), &p.kv, (p.a.v_col + col) * 2, w.span.begin + k, &values[s], 1);
    }
    /* All that there is room for; n tiles were used before.  One thread. */
    __device__ void begin(const Args &p, const Work &w, uint32_t n) const
    {
        uint32_t col = (p.a.q_col + w.head * 64) * 2, tiles = (w.span.rows + TILE - 1) / TILE;

        barrier_expect(asked, p.a.sequences ? ROW : (int)tiles * BYTES);
#pragma unroll 1
        for (uint32_t g = 0; g < tiles; g++)
            copy_tile(queries + g * BYTES, &p.q, col, w.span.row + g * TILE, asked, 1);
#pragma unroll 1
        for (uint32_t i = 0; i < STAGES && w.keys.first + i * TILE < w.keys.end; i++)
            fetch(p, w, w.keys.first + i * TILE, n + i);
    }
};

/* A lane's part of 16 queries of a warp: sums of weights times values, rows g and g + 8. */
template <Narrow narrow> struct Rows {
    float out[32];
    float top[2], total[2]; /* running maximum, in units of log2, and sum */

    __device__ void init()
    {
#pragma unroll
        for (int i = 0; i < 32; i++) out[i] = 0;
        top[0] = top[1] = -INFINITY;
        total[0] = total[1] = 0;
    }
    __device__ static void scores(float (&s)[32], const unsigned char *queries,
                                  const unsigned char *keys)
    {
        uint64_t a = tile_descriptor(queries), b = tile_descriptor(keys);

        products_begin();
#pragma unroll
        for (int i = 0; i < 4; i++) /* 16 columns of both; addresses count 16 bytes */
            if (narrow == BF16)
                product_bf16(s, a + 2 * i, b + 2 * i, i > 0);
            else
                product_f16(s, a + 2 * i, b + 2 * i, i > 0);
        products_commit();
        products_wait<0>();
#pragma unroll
        for (int i = 0; i < 32; i++) products_settle(s[i]);
    }
    /* Scores of row h become weights, as operands: the layout of sums is theirs, 16 keys each.  What was
     * summed before is scaled to the new maximum. */
    __device__ void soften(uint32_t (&weights)[4][4], const float (&s)[32], int h, float log2_scale)
    {
        float m = -INFINITY, sum = 0;

#pragma unroll
        for (int j = 0; j < 8; j++) m = fmaxf(m, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
        m = fmaxf(m, __shfl_xor_sync(0xFFFFFFFFu, m, 1));
        m = fmaxf(m, __shfl_xor_sync(0xFFFFFFFFu, m, 2));
        m = fmaxf(m * log2_scale, top[h]);
        float base = m == -INFINITY ? 0.0f : m; /* nothing seen yet */
        float keep = power_of_two(top[h] - base);
        top[h] = m;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float w0 = power_of_two(fmaf(s[4 * j + 2 * h], log2_scale, -base));
            float w1 = power_of_two(fmaf(s[4 * j + 2 * h + 1], log2_scale, -base));

            sum += w0;
            sum += w1;
            weights[j / 2][j % 2 * 2 + h] = narrow_pair<narrow>(w0, w1);
            out[4 * j + 2 * h] *= keep;
            out[4 * j + 2 * h + 1] *= keep;
        }
        total[h] = total[h] * keep + sum;
    }
    __device__ void add_values(uint32_t (&weights)[4][4], const unsigned char *values)
    {
        uint64_t b = tile_descriptor(values);

#pragma unroll
        for (int i = 0; i < 16; i++) products_settle(weights[i / 4][i % 4]);
#pragma unroll
        for (int i = 0; i < 32; i++) products_settle(out[i]);
        products_begin();
#pragma unroll
        for (int i = 0; i < 4; i++) /* 16 rows of 128 bytes */
            if (narrow == BF16)
                product_of_rows_bf16(out, weights[i], b + 128 * i);
            else
                product_of_rows_f16(out, weights[i], b + 128 * i);
        products_commit();
        products_wait<0>();
#pragma unroll
        for (int i = 0; i < 32; i++) products_settle(out[i]);
    }
};

/* Of keys k to k + 63 those that this lane's two queries, in positions `query` and eight later, do not
 * see: score 4 j + e is of key 8 j + 2 (lane % 4) + e % 2, of the second query from e = 2 on. */
__device__ inline void hide(const AttentionArgs &p, float (&score)[32], uint32_t length, uint32_t k,
                            uint32_t query)
{
#pragma unroll
    for (int h = 0; h < 2; h++, query += 8) {
        uint32_t first = 0, end = length;

        if (p.causal && query < end) end = query + 1;
        if (p.window && p.window < length) { /* query: the last one that sees a key is not beyond */
            if (query > p.window) first = query - p.window;
            if (query + p.window < end) end = query + p.window + 1;
        }
        uint32_t seen = end > first ? end - first : 0, at = k + (threadIdx.x & 3) * 2 - first;
#pragma unroll
        for (int j = 0; j < TILE / 8; j++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++)
                if (at + j * 8 + e % 2 >= seen) score[4 * j + e] = -INFINITY;
    }
}

/* Rows from `rows` on of a tile that has come: a hidden key has weight 0, and 0 times whatever lies there,
 * which may be another sequence's infinity, must be 0.  All threads. */
template <int THREADS>
__device__ inline void clear_rows(unsigned char *tile, uint32_t rows)
{
    for (uint32_t at = rows * ROW + threadIdx.x * 16; at < BYTES; at += THREADS * 16)
        *(uint4 *)(tile + at) = uint4{ 0, 0, 0, 0 };
    publish_to_products();
    __syncthreads();
}

template <Narrow narrow, int GROUPS>
__global__ void __launch_bounds__(Shape<GROUPS>::THREADS, Shape<GROUPS>::BLOCKS)
    attention_sm90(const __grid_constant__ Args p)
{
#if RR_SM90
    constexpr int STAGES = Shape<GROUPS>::STAGES;
    RR_SHARED(memory);
    Shared<GROUPS> shared(memory);
    uint32_t group = threadIdx.x / 128, n = 0; /* tiles of keys before */
    uint32_t local = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4; /* of this lane's rows */
    float log2_scale = p.a.scale * 1.44269504088896341f;
    Rows<narrow> rows;

    if (threadIdx.x == 0) {
        map_prefetch(&p.q);
        map_prefetch(&p.kv);
        shared.init();
        shared.work[0] = find_work<GROUPS>(p.a, blockIdx.x);
    }
    __syncthreads();
    previous_done();
    if (threadIdx.x == 0 && shared.work[0].span.rows) shared.begin(p, shared.work[0], 0);
    for (uint32_t i = 0; shared.work[i & 1].span.rows; i++) {
        const Work &w = shared.work[i & 1];
        Span mine = w.span; /* of this group */
        Keys seen = {};     /* by it; none where the others have all queries */

        if (group * TILE < mine.rows) {
            mine.at += group * TILE;
            mine.rows = mine.rows - group * TILE < TILE ? mine.rows - group * TILE : TILE;
            seen = keys_of(p.a, mine);
            barrier_wait(shared.asked, i & 1);
        }
        rows.init();
        for (uint32_t k = w.keys.first; k < w.keys.end; k += TILE, n++) {
            uint32_t s = n % STAGES, turn = n / STAGES & 1;

            if (k + TILE > w.span.length) {
                barrier_wait(&shared.values[s], turn);
                clear_rows<Shape<GROUPS>::THREADS>(shared.value_tile(s), w.span.length - k);
            }
            if (k < seen.end && k + TILE > seen.first) {
                float score[32];
                uint32_t weights[4][4];

                barrier_wait(&shared.keys[s], turn);
                rows.scores(score, shared.queries + group * BYTES, shared.key_tile(s));
                if (p.a.causal || p.a.window || k + TILE > w.span.length)
                    hide(p.a, score, w.span.length, k, w.span.at + local);
                rows.soften(weights, score, 0, log2_scale);
                rows.soften(weights, score, 1, log2_scale);
                barrier_wait(&shared.values[s], turn);
                rows.add_values(weights, shared.value_tile(s));
            }
            if (k + STAGES * TILE < w.keys.end) {
                __syncthreads();
                if (threadIdx.x == 0) shared.fetch(p, w, k + STAGES * TILE, n + STAGES);
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            Work &next = shared.work[(i + 1) & 1];

            next = find_work<GROUPS>(p.a, blockIdx.x + (i + 1) * gridDim.x);
            if (next.span.rows) shared.begin(p, next, n);
        }
        float total[2] = { row_sum(rows.total[0]), row_sum(rows.total[1]) };
        store_rows<narrow, 64>(p.a, w.span, w.head, local, total,
                               [&](int j, int e) { return rows.out[4 * j + e]; });
        __syncthreads();
    }
#else
    (void)p; /* launch_attention does not come here */
#endif
}

template <Narrow narrow, int GROUPS>
cudaError_t launch(const LaunchContext &c, const AttentionArgs &a)
{
    using Sh = Shape<GROUPS>;
    constexpr int shared = Shared<GROUPS>::SIZE;
    auto kernel = attention_sm90<narrow, GROUPS>;
    uint32_t rows = c.rows[a.sequences ? RR_ROWS_SEQUENCES : RR_ROWS_TOKENS];
    uint32_t most = (a.sequences ? rows : c.max_tiles) * a.heads;
    uint32_t blocks = (uint32_t)c.processors * Sh::BLOCKS;
    Args p;
    cudaError_t e = make_map(&p.q, a.q.narrow, a.q.ld * 2, rows, a.sequences ? 1 : TILE);

    p.a = a;
    if (!e) e = make_map(&p.kv, a.kv.narrow, a.kv.ld * 2, c.rows[RR_ROWS_TOKENS], TILE);
    if (!e)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (!e) /* all BLOCKS must find room: the driver need not guess */
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 cudaSharedmemCarveoutMaxShared);
    return e ? e
             : RR_LAUNCH(kernel, dim3(most < blocks ? most : blocks), dim3(Sh::THREADS), shared,
                         c, p);
}

/* Two groups where there is work for all blocks, if sequences are as long as two groups at least. */
template <Narrow narrow> cudaError_t launch_narrow(const LaunchContext &c, const AttentionArgs &a)
{
    uint32_t tiles = c.rows[RR_ROWS_TOKENS] / TILE * a.heads;
    bool few = tiles <= (uint32_t)c.processors * Shape<1>::BLOCKS * 3 / 2;

    return a.sequences || few ? launch<narrow, 1>(c, a) : launch<narrow, 2>(c, a);
}

} // namespace

cudaError_t launch_attention_sm90(const LaunchContext &c, const AttentionArgs &a)
{
    return c.bf16 ? launch_narrow<BF16>(c, a) : launch_narrow<F16>(c, a);
}
