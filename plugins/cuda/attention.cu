/* SPDX-License-Identifier: Apache-2.0 */
/* attention.cu - softmax(q k^T scale) v inside each sequence, without padding.
 *
 * attention_tiles: tensor cores.  A block takes 64 queries of one head, four warps of 16 rows each,
 * and walks over the keys in tiles of 64 with a running maximum and sum in f32, so that scores
 * never leave the registers.  The next keys travel during softmax and the product with the values,
 * the next values during the product with the keys.  The tiles begin at the sequence's first token,
 * so a row's sums are added in the same order wherever the sequence lies in the batch.
 *
 * attention_sm90.cu has the same for 9.0 and heads of 64.
 *
 * attention_rows: plain arithmetic, a warp for each query and head: f32, wide heads, and scores with
 * relative positions. */
#include "attention.h"

using namespace dev;

namespace
{

constexpr int TILE = ATTENTION_TILE, WARPS = 4, THREADS = WARPS * 32;
constexpr int COLUMNS = 256; /* of a head that a block of attention_rows takes */

/* One query's place: its sequence, and its position in it. */
struct Query {
    uint32_t begin, length; /* of the sequence */
    uint32_t at;            /* position in the sequence */
};

__device__ inline bool sees(const AttentionArgs &p, uint32_t query, uint32_t key)
{
    uint32_t distance = query > key ? query - key : key - query;

    return !(p.causal & (key > query)) & !((p.window > 0) & (distance > p.window));
}

/* ---- tensor cores -------------------------------------------------------------------------- */

/* Rows of D values in shared memory, 16-byte chunks permuted for ldmatrix. */
template <int D> __device__ inline uint16_t *chunk_at(uint16_t *tile, int row, int chunk)
{
    int mixed = D >= 64 ? chunk ^ (row & 7) : chunk ^ (row >> 1 & 3);

    return tile + row * D + mixed * 8;
}

/* Copies TILE rows from row first on, columns [col, col + head_dim), the rest as zeros: a hidden key
 * has weight 0, and 0 times whatever lay there must be 0. */
template <int D>
__device__ inline void load_tile(uint16_t *tile, const Buffer &b, uint32_t first, uint32_t rows,
                                 uint32_t col, uint32_t head_dim)
{
    bool aligned = col % 8 == 0 && head_dim % 8 == 0;

    for (int i = (int)threadIdx.x; i < TILE * (D / 8); i += THREADS) {
        int row = i / (D / 8), chunk = i % (D / 8);
        uint16_t *to = chunk_at<D>(tile, row, chunk);
        const uint16_t *from = b.narrow + (size_t)(first + row) * b.ld + col + chunk * 8;

        if ((uint32_t)row < rows && aligned && (uint32_t)chunk * 8 < head_dim) {
            copy_async(to, from);
            continue;
        }
        for (int e = 0; e < 8; e++)
            to[e] = (uint32_t)row < rows && (uint32_t)(chunk * 8 + e) < head_dim ? from[e] : 0;
    }
}

template <Narrow narrow, int D> struct Tiles {
    uint32_t q[D / 16][4];  /* this warp's 16 queries */
    float out[D / 8][4];    /* sums of p v, rows g and g + 8 */
    float top[2], total[2]; /* running maximum, in units of log2, and sum */

    __device__ void load_queries(uint16_t *tile, int warp, int lane)
    {
#pragma unroll
        for (int i = 0; i < D / 16; i++)
            ldmatrix(q[i], chunk_at<D>(tile, warp * 16 + (lane & 15), i * 2 + (lane >> 4)));
#pragma unroll
        for (int i = 0; i < D / 8; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) out[i][e] = 0;
        top[0] = top[1] = -INFINITY;
        total[0] = total[1] = 0;
    }

    __device__ void scores(float s[TILE / 8][4], uint16_t *keys, int lane) const
    {
#pragma unroll
        for (int j = 0; j < TILE / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[j][e] = 0;
#pragma unroll
        for (int i = 0; i < D / 16; i++)
#pragma unroll
            for (int j = 0; j < TILE / 8; j += 2) {
                uint32_t b[4];
                ldmatrix(b, chunk_at<D>(keys, j * 8 + (lane & 7) + (lane >> 4 << 3),
                                        i * 2 + (lane >> 3 & 1)));
                mma_narrow<narrow>(s[j], q[i], b[0], b[1]);
                mma_narrow<narrow>(s[j + 1], q[i], b[2], b[3]);
            }
    }

    __device__ static void scale(float s[TILE / 8][4], float factor)
    {
#pragma unroll
        for (int j = 0; j < TILE / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[j][e] *= factor;
    }

    /* Scores of row h become weights; what was summed before is scaled to the new maximum. */
    __device__ void soften(float s[TILE / 8][4], int h)
    {
        float m = top[h], sum = 0;

#pragma unroll
        for (int j = 0; j < TILE / 8; j++) m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
        m = fmaxf(m, __shfl_xor_sync(0xFFFFFFFFu, m, 1));
        m = fmaxf(m, __shfl_xor_sync(0xFFFFFFFFu, m, 2));
        float base = m == -INFINITY ? 0.0f : m; /* nothing seen yet */
        float keep = power_of_two(top[h] - base);
#pragma unroll
        for (int j = 0; j < TILE / 8; j++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                s[j][e] = power_of_two(s[j][e] - base);
                sum += s[j][e];
            }
        total[h] = total[h] * keep + sum;
        top[h] = m;
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            out[i][2 * h] *= keep;
            out[i][2 * h + 1] *= keep;
        }
    }

    __device__ void add_values(const float s[TILE / 8][4], uint16_t *values, int lane)
    {
#pragma unroll
        for (int j = 0; j < TILE / 16; j++) { /* 16 keys: the layout of sums is that of operands */
            uint32_t p[4] = { narrow_pair<narrow>(s[2 * j][0], s[2 * j][1]),
                              narrow_pair<narrow>(s[2 * j][2], s[2 * j][3]),
                              narrow_pair<narrow>(s[2 * j + 1][0], s[2 * j + 1][1]),
                              narrow_pair<narrow>(s[2 * j + 1][2], s[2 * j + 1][3]) };
#pragma unroll
            for (int i = 0; i < D / 8; i += 2) {
                uint32_t b[4];
                ldmatrix_transposed(b, chunk_at<D>(values, j * 16 + (lane & 15), i + (lane >> 4)));
                mma_narrow<narrow>(out[i], p, b[0], b[1]);
                mma_narrow<narrow>(out[i + 1], p, b[2], b[3]);
            }
        }
    }
};

/* Scores of this lane's two queries, `first` of the block and eight later, with keys from k on
 * that they do not see. */
__device__ inline void hide(const AttentionArgs &p, float s[TILE / 8][4], const Span &span, uint32_t k,
                            uint32_t first, int lane)
{
#pragma unroll
    for (int j = 0; j < TILE / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            uint32_t key = k + j * 8 + (lane & 3) * 2 + (e & 1);
            uint32_t query = span.at + first + (e >> 1) * 8;

            if (key >= span.length || !sees(p, query, key)) s[j][e] = -INFINITY;
        }
}

#if RR_ARCH >= 80
#define BLOCKS(D) ((D) > 64 ? 2 : 4) /* of a processor */
#else
#define BLOCKS(D) 2 /* as many as there is shared memory for */
#endif

template <Narrow narrow, int D>
__global__ void __launch_bounds__(THREADS, BLOCKS(D)) attention_tiles(const AttentionArgs p)
{
    RR_SHARED(memory);
    uint16_t *keys = (uint16_t *)memory, *values = keys + TILE * D, *queries = values + TILE * D;
    int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    uint32_t head = blockIdx.y, group = head * p.kv_heads / p.heads;
    float log2_scale = p.scale * 1.44269504088896341f;
    Tiles<narrow, D> t;

    previous_done();
    if (blockIdx.x >= (p.sequences ? p.batch.dims->rows[RR_ROWS_SEQUENCES] : p.batch.dims->tiles))
        return;
    Span span = span_of(p, blockIdx.x, TILE);
    Keys seen = keys_of(p, span);
    auto fetch = [&](uint16_t *tile, uint32_t k, uint32_t col) {
        uint32_t rows = span.length - k < TILE ? span.length - k : TILE;

        if (k < seen.end)
            load_tile<D>(tile, p.kv, span.begin + k, rows, col + group * p.head_dim, p.head_dim);
        copy_commit();
    };
    load_tile<D>(queries, p.q, span.row, span.rows, p.q_col + head * p.head_dim, p.head_dim);
    fetch(keys, seen.first, p.k_col);
    fetch(values, seen.first, p.v_col);
    for (uint32_t k = seen.first; k < seen.end; k += TILE) {
        float s[TILE / 8][4];

        copy_wait<1>(); /* the keys are there, the values may not be */
        __syncthreads();
        if (k == seen.first) t.load_queries(queries, warp, lane);
        t.scores(s, keys, lane);
        __syncthreads();
        fetch(keys, k + TILE, p.k_col);
        t.scale(s, log2_scale);
        if (p.causal || p.window || k + TILE > span.length)
            hide(p, s, span, k, warp * 16 + (lane >> 2), lane);
        t.soften(s, 0);
        t.soften(s, 1);
        copy_wait<1>(); /* the values are there, the next keys may not be */
        __syncthreads();
        t.add_values(s, values, lane);
        __syncthreads();
        fetch(values, k + TILE, p.v_col);
    }
    copy_wait<0>();
    float total[2] = { row_sum(t.total[0]), row_sum(t.total[1]) };
    store_rows<narrow, D>(p, span, head, warp * 16 + (lane >> 2), total,
                          [&](int j, int e) { return t.out[j][e]; });
}

/* ---- plain arithmetic ---------------------------------------------------------------------- */

template <Narrow narrow> __device__ inline float at(const Buffer &b, size_t row, uint32_t column)
{
    size_t i = row * b.ld + column;

    return b.f32 ? b.f32[i] : narrow_to<narrow>(b.narrow[i]);
}

template <Narrow narrow>
__device__ inline float score(const AttentionArgs &p, const Query &q, size_t q_row, uint32_t key,
                              uint32_t head)
{
    uint32_t group = head * p.kv_heads / p.heads, n = p.head_dim, h = head * n;
    const RelativeArgs &r = p.relative;
    float sum = 0, rel = 0;

    for (uint32_t j = 0; j < n; j++)
        sum = fmaf(at<narrow>(p.q, q_row, p.q_col + h + j),
                   at<narrow>(p.kv, q.begin + key, p.k_col + group * n + j), sum);
    if (r.buckets) {
        size_t row = r.buckets[(int)q.at - (int)key + (int)r.max_length - 1];
        for (uint32_t j = 0; r.keys && j < n; j++)
            rel = fmaf(at<narrow>(p.q, q_row, p.q_col + h + j), r.keys[row * r.ld + h + j], rel);
        for (uint32_t j = 0; r.queries && j < n; j++)
            rel = fmaf(at<narrow>(p.kv, q.begin + key, p.k_col + h + j),
                       r.queries[row * r.ld + h + j], rel);
    }
    return p.scale * (sum + rel);
}

/* A warp's query: 32 keys at a time, one each lane; then 32 columns at a time.  The scores of heads
 * wider than COLUMNS are computed once for each of their parts. */
template <Narrow narrow> __global__ void attention_rows(const AttentionArgs p)
{
    uint32_t row = blockIdx.x * WARPS + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    uint32_t head = blockIdx.y, group = head * p.kv_heads / p.heads, sequence = row;
    uint32_t first = blockIdx.z * COLUMNS; /* of the head's columns, those of this block */
    float top = -INFINITY, total = 0, out[COLUMNS / 32] = {};
    Query q;

    previous_done();
    if (row >= p.batch.dims->rows[p.sequences ? RR_ROWS_SEQUENCES : RR_ROWS_TOKENS]) return;
    if (!p.sequences) sequence = (uint32_t)p.batch.tokens[row].w;
    q.begin = p.batch.cu_seqlens[sequence];
    q.length = p.batch.cu_seqlens[sequence + 1] - q.begin;
    q.at = !p.sequences ? row - q.begin : p.last ? q.length - 1 : 0;
    for (uint32_t k = 0; k < q.length; k += 32) {
        uint32_t key = k + lane;
        bool seen = key < q.length && sees(p, q.at, key);
        float s = seen ? score<narrow>(p, q, row, key, head) : -INFINITY;
        float m = warp_max(s);

        m = m != m || m > top ? m : top;
        if (m == -INFINITY) continue;
        float keep = expf(top - m), weight = seen ? expf(s - m) : 0.0f;
        total = total * keep + warp_sum(weight);
        top = m;
#pragma unroll
        for (int i = 0; i < COLUMNS / 32; i++) out[i] *= keep;
        for (uint32_t j = 0; j < 32 && k + j < q.length; j++) {
            float w = __shfl_sync(0xFFFFFFFFu, weight, (int)j);
            if (w == 0) continue;
#pragma unroll
            for (int i = 0; i < COLUMNS / 32; i++) {
                uint32_t column = first + i * 32 + lane;
                if (column < p.head_dim)
                    out[i] = fmaf(
                        w, at<narrow>(p.kv, q.begin + k + j, p.v_col + group * p.head_dim + column),
                        out[i]);
            }
        }
    }
    uint32_t end = head + 1 == p.heads ? p.dst.ld : (head + 1) * p.head_dim;
    for (uint32_t j = p.dst.width + lane; head + 1 == p.heads && j < end; j += 32) {
        if (p.dst.f32) p.dst.f32[(size_t)row * p.dst.ld + j] = 0;
        if (p.dst.narrow) p.dst.narrow[(size_t)row * p.dst.ld + j] = 0;
    }
#pragma unroll
    for (int i = 0; i < COLUMNS / 32; i++) {
        uint32_t column = first + i * 32 + lane;
        size_t to = (size_t)row * p.dst.ld + head * p.head_dim + column;
        if (column >= p.head_dim) continue;
        if (p.dst.f32) p.dst.f32[to] = out[i] / total;
        if (p.dst.narrow) p.dst.narrow[to] = narrow_from<narrow>(out[i] / total);
    }
}

template <Narrow narrow> cudaError_t launch_narrow(const LaunchContext &c, const AttentionArgs &a)
{
    dim3 grid(a.sequences ? c.rows[RR_ROWS_SEQUENCES] : c.max_tiles, a.heads), block(THREADS);

#if defined(RR_HAS_SM90) || defined(RR_EMUL) /* there is code for 9.0's own instructions */
    if (c.arch == 90 && attention_fits_sm90(a)) return launch_attention_sm90(c, a);
#endif
    if (c.arch >= 75 && attention_on_tensor_cores(a)) {
        if (a.head_dim <= 32)
            return RR_LAUNCH((attention_tiles<narrow, 32>), grid, block, 3 * TILE * 32 * 2, c, a);
        if (a.head_dim <= 64)
            return RR_LAUNCH((attention_tiles<narrow, 64>), grid, block, 3 * TILE * 64 * 2, c, a);
        return RR_LAUNCH((attention_tiles<narrow, 128>), grid, block, 3 * TILE * 128 * 2, c, a);
    }
    grid.z = (a.head_dim + COLUMNS - 1) / COLUMNS;
    grid.x = (c.rows[a.sequences ? RR_ROWS_SEQUENCES : RR_ROWS_TOKENS] + WARPS - 1) / WARPS;
    return RR_LAUNCH(attention_rows<narrow>, grid, block, 0, c, a);
}

} // namespace

cudaError_t launch_attention(const LaunchContext &c, const AttentionArgs &a)
{
    return c.bf16 ? launch_narrow<BF16>(c, a) : launch_narrow<F16>(c, a);
}
