/* SPDX-License-Identifier: Apache-2.0 */
/* rows.cu - operations on single rows: a warp for each row, four rows a block.  Where a row is
 * gone through for every layer, a lane takes four neighbouring columns at a time, lane after
 * lane: loads of 8 or 16 bytes, of which many are under way. */
#include "device.h"
#include "kern.h"

using namespace dev;

namespace
{

constexpr int ROWS = 4, THREADS = ROWS * 32;

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

/* Of a vector among the weights, which begin and end at multiples of 256 bytes; NULL: all are
 * `otherwise`. */
__device__ inline Four vector_four(const float *vector, uint32_t j, float otherwise)
{
    if (!vector) return { { otherwise, otherwise, otherwise, otherwise } };
    return load_four(vector + j);
}

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
    __device__ void zero_tail()
    {
        for (uint32_t j = width + my_lane(); j < ld; j += 32) put(j, 0.0f);
    }
};

__device__ inline float table_value(const void *table, enum rr_dtype type, size_t i)
{
    if (type == RR_F32) return ((const float *)table)[i];
    return type == RR_F16 ? f16_to(((const uint16_t *)table)[i])
                          : bf16_to(((const uint16_t *)table)[i]);
}

template <Narrow narrow> __global__ void embed(const EmbedArgs p)
{
    uint32_t row = my_row();

    previous_done();
    if (row >= p.batch.dims->rows[RR_ROWS_TOKENS]) return;
    Row<narrow> y(p.dst, row);
    int4 token = p.batch.tokens[row];
    size_t w = y.width;
    bool bytes = p.word_type == RR_I8;
    float scale = bytes ? p.scale * p.word_scale[token.x] : p.scale;
    for (uint32_t j = my_lane(); j < y.width; j += 32) {
        float v = scale * (bytes ? (float)((const int8_t *)p.word)[token.x * w + j]
                                 : table_value(p.word, p.word_type, token.x * w + j));
        if (p.position) v += table_value(p.position, p.position_type, token.y * w + j);
        if (p.type) v += table_value(p.type, p.type_type, token.z * w + j);
        y.put(j, v);
    }
    y.zero_tail();
}

template <Narrow narrow> __global__ void pool(const PoolArgs p)
{
    uint32_t row = my_row();

    previous_done();
    if (row >= p.batch.dims->rows[RR_ROWS_SEQUENCES]) return;
    Row<narrow> y(p.dst, row);
    uint32_t begin = p.batch.cu_seqlens[row], end = p.batch.cu_seqlens[row + 1];
    if (p.kind == RR_OP_FIRST) end = begin + 1;
    if (p.kind == RR_OP_LAST) begin = end - 1;
    for (uint32_t j = my_lane(); j < y.width; j += 32) {
        float sum = 0;
        for (uint32_t t = begin; t < end; t++) sum += Row<narrow>(p.src, t).get(j);
        y.put(j, sum / (float)(end - begin));
    }
    y.zero_tail();
}

/* One row for a quantized LINEAR, from the row alone.  A row with a NaN or an infinity gets
 * factors NaN: the result must show it.  each(f) calls f(columns, j) for all of this lane's; it is
 * called twice. */
template <class Each>
__device__ inline void quantize_row(const Quantized &dst, size_t row, uint32_t width, Each each)
{
    float top = -INFINITY, bottom = -INFINITY; /* max of x and of -x */
    bool finite = true;
    uint8_t *q = dst.q + row * dst.ld;

    each([&](const Four &x, uint32_t j) {
        Four smooth = vector_four(dst.smooth, j, 1.0f);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float v = x.v[e] * smooth.v[e];
            if (j + e >= width) continue;
            finite = finite && fabsf(v) < INFINITY;
            top = fmaxf(top, v);
            bottom = fmaxf(bottom, -v);
        }
    });
    top = warp_max(top);
    bottom = warp_max(bottom);
    finite = warp_sum(finite ? 0.0f : 1.0f) == 0;
    float scale = dst.f8 ? fmaxf(top, bottom) / 448.0f : (top + bottom) / 254.0f;
    float middle = dst.f8 ? 0.0f : 0.5f * (top - bottom);
    float inverse = finite && scale > 0 ? 1.0f / scale : 0.0f;
    each([&](const Four &x, uint32_t j) {
        Four smooth = vector_four(dst.smooth, j, 1.0f);
        uint32_t bytes = 0;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float v = finite && j + e < width ? (x.v[e] * smooth.v[e] - middle) * inverse : 0.0f;
            uint8_t byte = dst.f8 ? f8_from(v)
                                  : (uint8_t)(int8_t)fminf(fmaxf(rintf(v), -127.0f), 127.0f);
            bytes |= (uint32_t)byte << 8 * e;
        }
        *(uint32_t *)(q + j) = bytes;
    });
    for (uint32_t j = (width + 3) / 4 * 4 + my_lane(); j < dst.ld; j += 32) q[j] = 0;
    if (my_lane() == 0) {
        dst.scale[row] = finite ? scale : NAN;
        if (!dst.f8) dst.offset[row] = finite ? middle : NAN;
    }
}

/* This lane's columns of a row: MOST_HELD fours in registers, or with 0 read again each time. */
constexpr int MOST_HELD = 8;
template <Narrow narrow, int held> struct Columns {
    const Row<narrow> &row;
    Four q[held];

    __device__ explicit Columns(const Row<narrow> &r) : row(r)
    {
#pragma unroll
        for (int i = 0; i < held; i++) {
            uint32_t j = first_four() + i * STRIDE;
            if (j < row.width) q[i] = row.four(j);
        }
    }
    template <class F> __device__ void each(F f) const
    {
#pragma unroll
        for (int i = 0; i < held; i++) {
            uint32_t j = first_four() + i * STRIDE;
            if (j < row.width) f(q[i], j);
        }
    }
};
template <Narrow narrow> struct Columns<narrow, 0> {
    const Row<narrow> &row;

    __device__ explicit Columns(const Row<narrow> &r) : row(r)
    {
    }
    template <class F> __device__ void each(F f) const
    {
#pragma unroll 8
        for (uint32_t j = first_four(); j < row.width; j += STRIDE) f(row.four(j), j);
    }
};

template <Narrow narrow, int held> __global__ void norm(const NormArgs p)
{
    uint32_t row = my_row();
    float mean = 0, square = 0;

    previous_done();
    if (row >= *p.rows) return;
    Row<narrow> x(p.src, row), y(p.dst, row);
    Columns<narrow, held> columns(x);
    if (!p.rms) {
        columns.each([&](const Four &q, uint32_t) { mean += (q.v[0] + q.v[1]) + (q.v[2] + q.v[3]); });
        mean = warp_sum(mean) / (float)x.width;
    }
    columns.each([&](const Four &q, uint32_t j) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float d = j + e < x.width ? q.v[e] - mean : 0.0f;
            square += d * d;
        }
    });
    float factor = 1.0f / sqrtf(warp_sum(square) / (float)x.width + p.eps);
    auto results = [&](auto f) {
        columns.each([&](const Four &q, uint32_t j) {
            Four gamma = vector_four(p.gamma, j, 1.0f), beta = vector_four(p.beta, j, 0.0f), r;
#pragma unroll
            for (int e = 0; e < 4; e++) r.v[e] = (q.v[e] - mean) * factor * gamma.v[e] + beta.v[e];
            f(r, j);
        });
    };
    if (y.f32 || y.bits) results([&](const Four &r, uint32_t j) { y.put_four(j, r); });
    y.zero_tail();
    if (p.q.q) quantize_row(p.q, row, x.width, results);
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

template <Narrow narrow> __global__ void quantize(const QuantizeArgs p)
{
    uint32_t row = my_row();

    previous_done();
    if (row >= *p.rows) return;
    Row<narrow> x(p.src, row);
    Columns<narrow, 0> columns(x);
    quantize_row(p.dst, row, x.width, [&](auto f) { columns.each(f); });
}

dim3 blocks(uint32_t rows)
{
    return dim3((rows + ROWS - 1) / ROWS);
}

} // namespace

cudaError_t code_arch(int *arch)
{
    cudaFuncAttributes a;
    cudaError_t e = cudaFuncGetAttributes(&a, quantize<F16>);

    if (!e) *arch = a.ptxVersion;
    return e;
}

#define LAUNCH(kernel, rows) RR_LAUNCH((kernel), blocks(rows), dim3(THREADS), 0, c, a)
#define LAUNCH_ROWS(kernel, rows) \
    (c.bf16 ? LAUNCH(kernel<BF16>, rows) : LAUNCH(kernel<F16>, rows))

cudaError_t launch_embed(const LaunchContext &c, const EmbedArgs &a)
{
    return LAUNCH_ROWS(embed, c.rows[RR_ROWS_TOKENS]);
}
cudaError_t launch_pool(const LaunchContext &c, const PoolArgs &a)
{
    return LAUNCH_ROWS(pool, c.rows[RR_ROWS_SEQUENCES]);
}
cudaError_t launch_norm(const LaunchContext &c, enum rr_rows rows, const NormArgs &a)
{
    uint32_t n = c.rows[rows];

    if (a.src.width > MOST_HELD * STRIDE)
        return c.bf16 ? LAUNCH((norm<BF16, 0>), n) : LAUNCH((norm<F16, 0>), n);
    return c.bf16 ? LAUNCH((norm<BF16, MOST_HELD>), n) : LAUNCH((norm<F16, MOST_HELD>), n);
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
    return LAUNCH_ROWS(quantize, c.rows[rows]);
}
