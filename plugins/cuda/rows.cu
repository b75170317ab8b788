/* SPDX-License-Identifier: Apache-2.0 */
/* rows.cu - operations on single rows.  A team of one warp or of the block's four takes a row, each
 * lane eight neighbouring columns at a time: loads of 16 bytes, all of them under way before the first
 * is used, where a row is not too long to be held. */
#include "device.h"
#include "kern.h"

using namespace dev;

namespace
{

constexpr int WARPS = 4, ROWS = WARPS, THREADS = WARPS * 32;

__device__ inline uint32_t my_row()
{
    return blockIdx.x * ROWS + (threadIdx.x >> 5);
}
__device__ inline uint32_t my_lane()
{
    return threadIdx.x & 31;
}

/* The columns that a warp takes at once, and the first four of this lane. */
constexpr uint32_t STRIDE = 128;
__device__ inline uint32_t first_four()
{
    return my_lane() * 4;
}

/* Eight neighbouring columns, from a multiple of eight on; rows of buffers end at one. */
struct Eight {
    float v[8];
};
__device__ inline Eight eight(const Four &a, const Four &b)
{
    return { { a.v[0], a.v[1], a.v[2], a.v[3], b.v[0], b.v[1], b.v[2], b.v[3] } };
}
/* Of 16-bit values in the order of memory. */
template <Narrow narrow> __device__ inline Eight eight_of(const uint4 &x)
{
    uint32_t pairs[4] = { x.x, x.y, x.z, x.w };
    Eight r;

#pragma unroll
    for (int i = 0; i < 4; i++) {
        r.v[2 * i] = narrow_to<narrow>((uint16_t)pairs[i]);
        r.v[2 * i + 1] = narrow_to<narrow>((uint16_t)(pairs[i] >> 16));
    }
    return r;
}
/* Of a vector among the weights, which begin and end at multiples of 256 bytes; NULL: all are
 * `otherwise`. */
__device__ inline Eight vector_eight(const float *vector, uint32_t j, float otherwise)
{
    Four other = { { otherwise, otherwise, otherwise, otherwise } };

    if (!vector) return eight(other, other);
    return eight(load_four(vector + j), load_four(vector + j + 4));
}

/* The warps that take a row together.  The slots, five times four floats, lie in shared memory; every
 * result has its own. */
constexpr int SLOTS = 5 * WARPS * 4;
template <int warps> struct Team {
    static constexpr uint32_t LANES = 32 * warps;
    uint32_t row, lane;
    float *slots;

    __device__ explicit Team(unsigned char *shared)
        : row(blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES), lane(threadIdx.x % LANES),
          slots((float *)shared)
    {
    }
    /* Makes the four warps' values known to all. */
    __device__ const float *known(float v)
    {
        float *of = slots;

        slots += WARPS;
        if (threadIdx.x % 32 == 0) of[threadIdx.x / 32] = v;
        __syncthreads();
        return of;
    }
    __device__ float sum(float v)
    {
        v = warp_sum(v);
        if (warps == 1) return v;
        const float *of = known(v);
        return (of[0] + of[1]) + (of[2] + of[3]);
    }
    __device__ float max(float v)
    {
        v = warp_max(v);
        if (warps == 1) return v;
        const float *of = known(v);
        return fmaxf(fmaxf(of[0], of[1]), fmaxf(of[2], of[3]));
    }
};

/* Reads and writes a value in the forms that it has. */
template <Narrow narrow> struct Row {
    float *f32;
    uint16_t *bits;
    uint32_t width, ld;

    __device__ Row(const Buffer &b, size_t row)
        : f32(b.f32 ? b.f32 + row * b.ld : nullptr),
          bits(b.narrow ? b.narrow + row * b.ld : nullptr), width(b.width), ld(b.ld)
    {
    }
    __device__ float get(uint32_t j) const
    {
        return f32 ? f32[j] : narrow_to<narrow>(bits[j]);
    }
    __device__ void put(uint32_t j, float v)
    {
        if (f32) f32[j] = v;
        if (bits) bits[j] = narrow_from<narrow>(v);
    }
    /* Of what this kernel does not write; zeros beyond the width. */
    __device__ Four four(uint32_t j) const
    {
        Four x;

        if (j % 4 == 0) return f32 ? input_four(f32 + j) : input_four<narrow>(bits + j);
#pragma unroll
        for (int e = 0; e < 4; e++) x.v[e] = j + e < width ? get(j + e) : 0.0f;
        return x;
    }
    /* j is a multiple of four; what lies beyond the width becomes zero. */
    __device__ void put_four(uint32_t j, Four x)
    {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (j + e >= width) x.v[e] = 0;
        store_four(f32, bits, narrow == BF16, j, x);
    }
    /* Of what this kernel does not write. */
    __device__ Eight eight(uint32_t j) const
    {
        if (f32) return ::eight(input_four(f32 + j), input_four(f32 + j + 4));
        return eight_of<narrow>(load_input((const uint4 *)(bits + j)));
    }
    /* What lies beyond the width becomes zero. */
    __device__ void put_eight(uint32_t j, Eight x)
    {
        uint32_t pairs[4];

#pragma unroll
        for (int e = 0; e < 8; e++)
            if (j + e >= width) x.v[e] = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) pairs[i] = narrow_pair<narrow>(x.v[2 * i], x.v[2 * i + 1]);
        if (f32) {
            *(float4 *)(f32 + j) = float4{ x.v[0], x.v[1], x.v[2], x.v[3] };
            *(float4 *)(f32 + j + 4) = float4{ x.v[4], x.v[5], x.v[6], x.v[7] };
        }
        if (bits) *(uint4 *)(bits + j) = uint4{ pairs[0], pairs[1], pairs[2], pairs[3] };
    }
    __device__ void zero_tail()
    {
        for (uint32_t j = width + my_lane(); j < ld; j += 32) put(j, 0.0f);
    }
};

__device__ inline float table_value(const void *table, enum rr_dtype type, size_t i)
{
    if (type == RR_F32) return ((const float *)table)[i];
    if (type == RR_I8) return (float)((const int8_t *)table)[i];
    return type == RR_F16 ? f16_to(((const uint16_t *)table)[i])
                          : bf16_to(((const uint16_t *)table)[i]);
}

/* From column j of a row of a table on, whose rows are not padded. */
__device__ inline Eight table_eight(const void *table, enum rr_dtype type, int row, uint32_t width,
                                    uint32_t j)
{
    size_t i = (size_t)row * width + j;
    Eight x;

    if (width % 8) {
#pragma unroll
        for (int e = 0; e < 8; e++)
            x.v[e] = j + e < width ? table_value(table, type, i + e) : 0.0f;
    } else if (type == RR_F32) {
        x = vector_eight((const float *)table + i, 0, 0.0f);
    } else if (type == RR_I8) {
        uint2 bytes = load_only((const uint2 *)((const int8_t *)table + i));
#pragma unroll
        for (int e = 0; e < 8; e++)
            x.v[e] = (float)(int8_t)((e < 4 ? bytes.x : bytes.y) >> e % 4 * 8);
    } else {
        uint4 values = load_only((const uint4 *)((const uint16_t *)table + i));
        x = type == RR_F16 ? eight_of<F16>(values) : eight_of<BF16>(values);
    }
    return x;
}

template <Narrow narrow> __global__ void __launch_bounds__(THREADS) embed(const EmbedArgs p)
{
    uint32_t row = blockIdx.x;

    previous_done();
    if (row >= p.batch.dims->rows[RR_ROWS_TOKENS]) return;
    Row<narrow> y(p.dst, row);
    int4 token = p.batch.tokens[row];
    float scale = p.word_type == RR_I8 ? p.scale * p.word_scale[token.x] : p.scale;
    for (uint32_t j = threadIdx.x * 8; j < y.ld; j += THREADS * 8) {
        Eight word = {}, position = {}, type = {};
        if (j < y.width) {
            word = table_eight(p.word, p.word_type, token.x, y.width, j);
            if (p.position)
                position = table_eight(p.position, p.position_type, token.y, y.width, j);
            if (p.type) type = table_eight(p.type, p.type_type, token.z, y.width, j);
        }
#pragma unroll
        for (int e = 0; e < 8; e++) word.v[e] = scale * word.v[e] + position.v[e] + type.v[e];
        y.put_eight(j, word);
    }
}

template <Narrow narrow> __global__ void __launch_bounds__(THREADS) pool(const PoolArgs p)
{
    uint32_t row = blockIdx.x;

    previous_done();
    if (row >= p.batch.dims->rows[RR_ROWS_SEQUENCES]) return;
    Row<narrow> y(p.dst, row);
    uint32_t begin = p.batch.cu_seqlens[row], end = p.batch.cu_seqlens[row + 1];
    if (p.kind == RR_OP_FIRST) end = begin + 1;
    if (p.kind == RR_OP_LAST) begin = end - 1;
    for (uint32_t j = threadIdx.x * 8; j < y.ld; j += THREADS * 8) {
        Eight sum = {};
#pragma unroll 4
        for (uint32_t t = begin; t < end; t++) {
            Eight x = Row<narrow>(p.src, t).eight(j);
#pragma unroll
            for (int e = 0; e < 8; e++) sum.v[e] += x.v[e];
        }
#pragma unroll
        for (int e = 0; e < 8; e++) sum.v[e] /= (float)(end - begin);
        y.put_eight(j, sum);
    }
}

/* One row for a quantized LINEAR, from the row alone.  A row with a NaN or an infinity gets
 * factors NaN: the result must show it.  each(f) calls f(columns, j) for all of this lane's; it is
 * called twice. */
template <int warps, class Each>
__device__ inline void quantize_row(const Quantized &dst, Team<warps> &team, const Buffer &src,
                                    Each each)
{
    float top = -INFINITY, bottom = -INFINITY; /* max of x and of -x */
    bool finite = true;
    uint8_t *q = dst.q + (size_t)team.row * dst.ld;

    each([&](const Eight &x, uint32_t j) {
        Eight smooth = vector_eight(dst.smooth, j, 1.0f);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            float v = x.v[e] * smooth.v[e];
            if (j + e >= src.width) continue;
            finite = finite && fabsf(v) < INFINITY;
            top = fmaxf(top, v);
            bottom = fmaxf(bottom, -v);
        }
    });
    top = team.max(top);
    bottom = team.max(bottom);
    finite = team.sum(finite ? 0.0f : 1.0f) == 0;
    float scale = dst.f8 ? fmaxf(top, bottom) / 448.0f : (top + bottom) / 254.0f;
    float middle = dst.f8 ? 0.0f : 0.5f * (top - bottom);
    float inverse = finite && scale > 0 ? 1.0f / scale : 0.0f;
    each([&](const Eight &x, uint32_t j) {
        Eight smooth = vector_eight(dst.smooth, j, 1.0f);
        uint32_t bytes[2] = {};
#pragma unroll
        for (int e = 0; e < 8; e++) {
            float v = finite ? (x.v[e] * smooth.v[e] - middle) * inverse : 0.0f;
            if (j + e >= src.width) v = 0;
            uint8_t byte = dst.f8 ? f8_from(v)
                                  : (uint8_t)(int8_t)fminf(fmaxf(rintf(v), -127.0f), 127.0f);
            bytes[e / 4] |= (uint32_t)byte << e % 4 * 8;
        }
        *(uint2 *)(q + j) = uint2{ bytes[0], bytes[1] };
    });
    for (uint32_t j = src.ld + team.lane; j < dst.ld; j += team.LANES) q[j] = 0;
    if (team.lane == 0) {
        dst.scale[team.row] = finite ? scale : NAN;
        if (!dst.f8) dst.offset[team.row] = finite ? middle : NAN;
    }
}

/* This lane's columns of a row: `held` times eight in registers, or with 0 read again each time. */
template <Narrow narrow, int warps, int held> struct Columns {
    const Row<narrow> &row;
    uint32_t lane;
    Eight q[held ? held : 1];

    __device__ uint32_t column(int i) const
    {
        return (i * Team<warps>::LANES + lane) * 8;
    }
    __device__ Columns(const Row<narrow> &r, uint32_t l) : row(r), lane(l)
    {
#pragma unroll
        for (int i = 0; i < held; i++)
            if (column(i) < row.ld) q[i] = row.eight(column(i));
    }
    template <class F> __device__ void each(F f) const
    {
        if (held == 0) {
#pragma unroll 4
            for (uint32_t j = lane * 8; j < row.ld; j += Team<warps>::LANES * 8) f(row.eight(j), j);
        }
#pragma unroll
        for (int i = 0; i < held; i++)
            if (column(i) < row.ld) f(q[i], column(i));
    }
};

/* Gamma and beta: weights, which are fetched before the kernel before this one has ended, and held
 * where the row leaves room for them. */
template <int held> struct Factors {
    static constexpr bool AHEAD = held == 1 || held == 2;
    Eight gamma[AHEAD ? held : 1], beta[AHEAD ? held : 1];

    __device__ Factors(const NormArgs &p, uint32_t first, uint32_t stride)
    {
#pragma unroll
        for (int i = 0; AHEAD && i < held; i++)
            if (first + i * stride < p.src.ld) load(p, i, first + i * stride);
    }
    __device__ void load(const NormArgs &p, int i, uint32_t j)
    {
        gamma[i] = vector_eight(p.gamma, j, 1.0f);
        beta[i] = vector_eight(p.beta, j, 0.0f);
    }
};

/* With a block for each row the bucket's are all read, before it is known whether the batch has
 * them. */
template <Narrow narrow, int warps, int held>
__global__ void __launch_bounds__(THREADS) norm(const NormArgs p)
{
    RR_SHARED(memory);
    Team<warps> team(memory);
    uint32_t stride = team.LANES * 8;
    float mean = 0, square = 0;

    next_may_begin();
    uint32_t rows = load_only(p.rows);
    Factors<held> factors(p, team.lane * 8, stride);
    wait_for_previous();
    if (warps == 1 && team.row >= rows) return;
    Row<narrow> x(p.src, team.row), y(p.dst, team.row);
    Columns<narrow, warps, held> columns(x, team.lane);
    if (team.row >= rows) return;
    if (!p.rms) {
        columns.each([&](const Eight &q, uint32_t) {
            mean += ((q.v[0] + q.v[1]) + (q.v[2] + q.v[3])) +
                    ((q.v[4] + q.v[5]) + (q.v[6] + q.v[7]));
        });
        mean = team.sum(mean) / (float)x.width;
    }
    columns.each([&](const Eight &q, uint32_t j) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            float d = j + e < x.width ? q.v[e] - mean : 0.0f;
            square += d * d;
        }
    });
    float factor = 1.0f / sqrtf(team.sum(square) / (float)x.width + p.eps);
    auto results = [&](auto f) {
        columns.each([&](const Eight &q, uint32_t j) {
            int i = factors.AHEAD ? (int)(j / stride) : 0;
            Eight r;

            if (!factors.AHEAD) factors.load(p, 0, j);
#pragma unroll
            for (int e = 0; e < 8; e++)
                r.v[e] = (q.v[e] - mean) * factor * factors.gamma[i].v[e] + factors.beta[i].v[e];
            f(r, j);
        });
    };
    if (y.f32 || y.bits) results([&](const Eight &r, uint32_t j) { y.put_eight(j, r); });
    if (p.q.q) quantize_row(p.q, team, p.src, results);
}

__device__ inline float gate(float v, enum rr_act act)
{
    switch (act) {
    case RR_ACT_GELU: return 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
    case RR_ACT_SILU: return v / (1.0f + expf(-v));
    case RR_ACT_GELU_TANH:
        return 0.5f * v * (1.0f + tanhf(0.79788456080286536f * (v + 0.044715f * v * v * v)));
    default: return v < 0 ? 0.0f : v;
    }
}

template <Narrow narrow> __global__ void glu(const GluArgs p)
{
    uint32_t row = my_row();

    previous_done();
    if (row >= *p.rows) return;
    Row<narrow> x(p.src, row), y(p.dst, row);
    uint32_t a = p.act_second ? y.width : 0, b = y.width - a;
#pragma unroll 4
    for (uint32_t j = first_four(); j < y.width; j += STRIDE) {
        Four gates = x.four(a + j), values = x.four(b + j), r;
#pragma unroll
        for (int e = 0; e < 4; e++) r.v[e] = gate(gates.v[e], p.act) * values.v[e];
        y.put_four(j, r);
    }
    y.zero_tail();
}

/* One group of head_dim columns; the value in between is f32. */
template <Narrow narrow>
__device__ inline void rotate(const RotaryArgs &p, const Row<narrow> &x, Row<narrow> &y,
                              uint32_t col, const float *cosines, const float *sines)
{
    float factor = 1.0f;

    if (p.gamma) {
        float square = 0;
        for (uint32_t j = my_lane(); j < p.head_dim; j += 32)
            square += x.get(col + j) * x.get(col + j);
        factor = 1.0f / sqrtf(warp_sum(square) / (float)p.head_dim + p.eps);
    }
    for (uint32_t j = my_lane(); j < p.head_dim; j += 32) {
        if (j >= p.n && j < 2 * p.n) continue; /* written by the lane of its partner */
        float a = x.get(col + j) * factor * (p.gamma ? p.gamma[j] : 1.0f);
        if (j >= p.n) {
            y.put(col + j, a);
            continue;
        }
        float b = x.get(col + j + p.n) * factor * (p.gamma ? p.gamma[j + p.n] : 1.0f);
        y.put(col + j, a * cosines[j] - b * sines[j]);
        y.put(col + j + p.n, b * cosines[j] + a * sines[j]);
    }
}

template <Narrow narrow> __global__ void rotary(const RotaryArgs p)
{
    uint32_t row = my_row(), token = row;

    previous_done();
    if (row >= p.batch.dims->rows[p.sequences ? RR_ROWS_SEQUENCES : RR_ROWS_TOKENS]) return;
    if (p.sequences) token = p.last ? p.batch.cu_seqlens[row + 1] - 1 : p.batch.cu_seqlens[row];
    size_t angle = (size_t)p.batch.tokens[token].y * p.n;
    Row<narrow> x(p.src, row), y(p.dst, row);
    for (uint32_t j = my_lane(); j < y.width; j += 32)
        if (j < p.col || j >= p.col + p.heads * p.head_dim) y.put(j, x.get(j));
    for (uint32_t h = 0; h < p.heads; h++)
        rotate(p, x, y, p.col + h * p.head_dim, p.cosines + angle, p.sines + angle);
    y.zero_tail();
}

template <Narrow narrow, int warps, int held>
__global__ void __launch_bounds__(THREADS) quantize(const QuantizeArgs p)
{
    RR_SHARED(memory);
    Team<warps> team(memory);

    next_may_begin();
    uint32_t rows = load_only(p.rows);
    wait_for_previous();
    if (team.row >= rows) return;
    Row<narrow> x(p.src, team.row);
    Columns<narrow, warps, held> columns(x, team.lane);
    quantize_row(p.dst, team, p.src, [&](auto f) { columns.each(f); });
}

} // namespace

cudaError_t code_arch(int *arch)
{
    cudaFuncAttributes a;
    cudaError_t e = cudaFuncGetAttributes(&a, embed<F16>);

    if (!e) *arch = a.ptxVersion;
    return e;
}

/* A warp for each row, and a block. */
#define LAUNCH(kernel, rows) \
    RR_LAUNCH((kernel), dim3(((rows) + ROWS - 1) / ROWS), dim3(THREADS), SLOTS, c, a)
#define LAUNCH_BLOCKS(kernel, rows) RR_LAUNCH((kernel), dim3(rows), dim3(THREADS), SLOTS, c, a)
#define LAUNCH_ROWS(kernel, rows) \
    (c.bf16 ? LAUNCH(kernel<BF16>, rows) : LAUNCH(kernel<F16>, rows))

/* A row by its width: one warp holds 512 columns, four hold 1024 or 4096. */
#define LAUNCH_WIDTH(kernel, narrow, width, rows) \
    ((width) <= 512    ? LAUNCH((kernel<narrow, 1, 2>), rows) \
     : (width) <= 1024 ? LAUNCH_BLOCKS((kernel<narrow, WARPS, 1>), rows) \
     : (width) <= 4096 ? LAUNCH_BLOCKS((kernel<narrow, WARPS, 4>), rows) \
                       : LAUNCH_BLOCKS((kernel<narrow, WARPS, 0>), rows))

cudaError_t launch_embed(const LaunchContext &c, const EmbedArgs &a)
{
    uint32_t n = c.rows[RR_ROWS_TOKENS];

    return c.bf16 ? LAUNCH_BLOCKS(embed<BF16>, n) : LAUNCH_BLOCKS(embed<F16>, n);
}
cudaError_t launch_pool(const LaunchContext &c, const PoolArgs &a)
{
    uint32_t n = c.rows[RR_ROWS_SEQUENCES];

    return c.bf16 ? LAUNCH_BLOCKS(pool<BF16>, n) : LAUNCH_BLOCKS(pool<F16>, n);
}
cudaError_t launch_norm(const LaunchContext &c, enum rr_rows rows, const NormArgs &a)
{
    uint32_t n = c.rows[rows], width = a.src.width;

    return c.bf16 ? LAUNCH_WIDTH(norm, BF16, width, n) : LAUNCH_WIDTH(norm, F16, width, n);
}
cudaError_t launch_glu(const LaunchContext &c, enum rr_rows rows, const GluArgs &a)
{
    return LAUNCH_ROWS(glu, c.rows[rows]);
}
cudaError_t launch_rotary(const LaunchContext &c, const RotaryArgs &a)
{
    return LAUNCH_ROWS(rotary, c.rows[a.sequences ? RR_ROWS_SEQUENCES : RR_ROWS_TOKENS]);
}
cudaError_t launch_quantize(const LaunchContext &c, enum rr_rows rows, const QuantizeArgs &a)
{
    uint32_t n = c.rows[rows], width = a.src.width;

    return c.bf16 ? LAUNCH_WIDTH(quantize, BF16, width, n) : LAUNCH_WIDTH(quantize, F16, width, n);
}
