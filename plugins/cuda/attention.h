/* SPDX-License-Identifier: Apache-2.0 */
/* attention.h - what attention on tensor cores has in common: which queries a block has, which keys
 * they see, and how results are stored. */
#ifndef RR_CUDA_ATTENTION_H
#define RR_CUDA_ATTENTION_H

#include "device.h"
#include "kern.h"

namespace dev
{

/* Queries that a block takes: rows of src from row on, positions in the sequence from at on. */
struct Span {
    uint32_t begin, length, at, row, rows;
};

/* Tile number `tile` of the batch, of at most `most` queries, or a sequence's only one. */
__device__ inline Span span_of(const AttentionArgs &p, uint32_t tile, uint32_t most)
{
    uint2 place = p.sequences ? uint2{ tile, 0 } : p.batch.tiles[tile];
    Span s;

    s.begin = p.batch.cu_seqlens[place.x];
    s.length = p.batch.cu_seqlens[place.x + 1] - s.begin;
    if (p.sequences) {
        s.at = p.last ? s.length - 1 : 0;
        s.row = tile;
        s.rows = 1;
    } else {
        s.at = place.y;
        s.row = s.begin + s.at;
        s.rows = s.length - s.at < most ? s.length - s.at : most;
    }
    return s;
}

/* The keys that some query of the span sees: from a whole tile on, up to end. */
struct Keys {
    uint32_t first, end;
};

__device__ inline Keys keys_of(const AttentionArgs &p, const Span &s)
{
    uint32_t last = s.at + s.rows - 1;
    Keys k = { 0, s.length };

    if (p.causal) k.end = last + 1;
    if (p.window) {
        k.first = s.at > p.window ? (s.at - p.window) / ATTENTION_TILE * ATTENTION_TILE : 0;
        if (k.end > last + p.window && k.end - last > p.window + 1) k.end = last + p.window + 1;
    }
    return k;
}

/* The sum over the four lanes that share a row. */
__device__ inline float row_sum(float v)
{
    v += __shfl_xor_sync(0xFFFFFFFFu, v, 1);
    return v + __shfl_xor_sync(0xFFFFFFFFu, v, 2);
}

/* This lane's two rows of the span, `local` and eight later, over their totals: out(j, e) is column
 * 8 j + 2 (lane % 4) + e % 2, of the second row from e = 2 on. */
template <Narrow narrow, int D, class Out>
__device__ inline void store_rows(const AttentionArgs &p, const Span &span, uint32_t head,
                                  uint32_t local, const float total[2], Out out)
{
    uint32_t col = head * p.head_dim, lane = threadIdx.x & 31;

#pragma unroll
    for (int h = 0; h < 2; h++) {
        bool stored = local + h * 8 < span.rows;
        size_t row = (size_t)(span.row + local + h * 8) * p.dst.ld;
        float factor = 1.0f / total[h];
#pragma unroll
        for (int i = 0; i < D / 8; i += 2) {
            uint32_t j = (i + (lane & 1)) * 8 + (lane & 2) * 2;
            float first[2] = { out(i, 2 * h) * factor, out(i, 2 * h + 1) * factor };
            float second[2] = { out(i + 1, 2 * h) * factor, out(i + 1, 2 * h + 1) * factor };
            Four x = exchange<1>(first, second);

            if (stored && j < p.head_dim)
                store_four(p.dst.f32, p.dst.narrow, narrow == BF16, row + col + j, x);
        }
        if (!stored || head + 1 < p.heads) continue;
        for (uint32_t j = p.dst.width + (lane & 3); j < p.dst.ld; j += 4) {
            if (p.dst.narrow) p.dst.narrow[row + j] = 0;
            if (p.dst.f32) p.dst.f32[row + j] = 0;
        }
    }
}

} // namespace dev

/* attention_sm90.cu: with what only compute capability 9.0 has.  It takes heads of 64 in 16 bits, whose
 * columns begin at 16 bytes, and scales above 0. */
cudaError_t launch_attention_sm90(const LaunchContext &c, const AttentionArgs &a);

static inline bool attention_fits_sm90(const AttentionArgs &a)
{
    return attention_on_tensor_cores(a) && a.head_dim == 64 && a.scale > 0 &&
           (a.q_col | a.k_col | a.v_col) % 8 == 0;
}

#endif
