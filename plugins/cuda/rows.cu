/* SPDX-License-Identifier: Apache-2.0 */
/* rows.cu - operations on single rows: a warp for each row, four rows a block. */
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

/* One row for a quantized LINEAR, from the row alone.  A row with a NaN or an infinity gets factors
 * NaN: the result must show it.  get(j) is called twice for each column. */
template <class Get>
__device__ inline void quantize_row(const Quantized &dst, size_t row, uint32_t width, Get get)
{
    float top = -INFINITY, bottom = -INFINITY; /* max of x and of -x */
    bool finite = true;
    uint8_t *q = dst.q + row * dst.ld;

    for (uint32_t j = my_lane(); j < width; j += 32) {
        float v = get(j) * (dst.smooth ? dst.smooth[j] : 1.0f);
        finite = finite && fabsf(v) < INFINITY;
        top = fmaxf(top, v);
        bottom = fmaxf(bottom, -v);
    }
    top = warp_max(top);
    bottom = warp_max(bottom);
    finite = warp_sum(finite ? 0.0f : 1.0f) == 0;
    float scale = dst.f8 ? fmaxf(top, bottom) / 448.0f : (top + bottom) / 254.0f;
    float middle = dst.f8 ? 0.0f : 0.5f * (top - bottom);
    float inverse = finite && scale > 0 ? 1.0f / scale : 0.0f;
    for (uint32_t j = my_lane(); j < dst.ld; j += 32) {
        float v = 0;
        if (j < width && finite)
            v = (get(j) * (dst.smooth ? dst.smooth[j] : 1.0f) - middle) * inverse;
        q[j] = dst.f8 ? f8_from(v) : (uint8_t)(int8_t)fminf(fmaxf(rintf(v), -127.0f), 127.0f);
    }
    if (my_lane() == 0) {
        dst.scale[row] = finite ? scale : NAN;
        if (!dst.f8) dst.offset[row] = finite ? middle : NAN;
    }
}

template <Narrow narrow> __global__ void norm(const NormArgs p)
{
    uint32_t row = my_row();
    float mean = 0, square = 0;

    if (row >= *p.rows) return;
    Row<narrow> x(p.src, row), y(p.dst, row);
    if (!p.rms) {
        for (uint32_t j = my_lane(); j < x.width; j += 32) mean += x.get(j);
        mean = warp_sum(mean) / (float)x.width;
    }
    for (uint32_t j = my_lane(); j < x.width; j += 32) {
        float d = x.get(j) - mean;
        square += d * d;
    }
    float factor = 1.0f / sqrtf(warp_sum(square) / (float)x.width + p.eps);
    auto result = [&](uint32_t j) {
        return (x.get(j) - mean) * factor * p.gamma[j] + (p.beta ? p.beta[j] : 0.0f);
    };
    if (y.f32 || y.bits)
        for (uint32_t j = my_lane(); j < x.width; j += 32) y.put(j, result(j));
    y.zero_tail();
    if (p.q.q) quantize_row(p.q, row, x.width, result);
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

    if (row >= *p.rows) return;
    Row<narrow> x(p.src, row), y(p.dst, row);
    uint32_t a = p.act_second ? y.width : 0, b = y.width - a;
    for (uint32_t j = my_lane(); j < y.width; j += 32)
        y.put(j, gate(x.get(a + j), p.act) * x.get(b + j));
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

    if (row >= *p.rows) return;
    Row<narrow> x(p.src, row);
    quantize_row(p.dst, row, x.width, [&](uint32_t j) { return x.get(j); });
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

#define LAUNCH_ROWS(kernel, rows) \
    (c.bf16 ? RR_LAUNCH(kernel<BF16>, blocks(rows), dim3(THREADS), 0, c.stream, a) \
            : RR_LAUNCH(kernel<F16>, blocks(rows), dim3(THREADS), 0, c.stream, a))

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
    return LAUNCH_ROWS(norm, c.rows[rows]);
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
