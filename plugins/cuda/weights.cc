/* SPDX-License-Identifier: Apache-2.0 */
/* weights.cc - weights as the kernels want them: rows padded to 64 bytes, outputs to 128, zeros
 * there, so that no kernel has a special case at an edge. */
#include <algorithm>
#include <cmath>
#include <math.h>
#include <string.h>

#include "plan.h"

namespace
{

/* ---- numbers ----------------------------------------------------------------------------------- */

float from_bits(uint32_t u)
{
    float v;

    memcpy(&v, &u, 4);
    return v;
}
uint32_t to_bits(float v)
{
    uint32_t u;

    memcpy(&u, &v, 4);
    return u;
}

float widen_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;

    if (exponent == 31) return from_bits(sign | 0x7F800000u | fraction << 13);
    if (exponent) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
}

/* To nearest even; finite values beyond the range become the largest. */
uint16_t narrow_f16(float v)
{
    uint32_t u = to_bits(v), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;

    if (a > 0x7F800000u) return 0x7FFF;
    if (a == 0x7F800000u) return (uint16_t)(sign | 0x7C00);
    if (a >= 0x477FF000u) return (uint16_t)(sign | 0x7BFF);
    if (a < 0x38800000u) return (uint16_t)(sign | (uint32_t)lrintf(fabsf(v) * 0x1p24f));
    a -= 112u << 23;
    return (uint16_t)(sign | ((a + 0xFFF + (a >> 13 & 1)) >> 13));
}

uint16_t narrow_bf16(float v)
{
    uint32_t u = to_bits(v);

    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

float value(const struct rr_tensor &t, size_t i)
{
    if (t.dtype == RR_I8) { /* of a quantized file, for another precision */
        size_t row = i / t.shape[1], column = i % t.shape[1];
        float w = (float)((const int8_t *)t.data)[i] * t.scale[row];
        return t.smooth ? w * t.smooth[column] : w;
    }
    if (t.dtype == RR_F32) return ((const float *)t.data)[i];
    if (t.dtype == RR_F16) return widen_f16(((const uint16_t *)t.data)[i]);
    return from_bits((uint32_t)((const uint16_t *)t.data)[i] << 16);
}

size_t tensor_bytes(const struct rr_tensor &t)
{
    size_t n = t.dtype == RR_F32 ? 4 : 2;

    for (uint32_t i = 0; i < t.rank; i++) n *= t.shape[i];
    return n;
}

/* ---- LINEAR -------------------------------------------------------------------------------------- */

struct Stacked { /* rows of up to three tensors, one below the other */
    const struct rr_program &p;
    const uint32_t *tensors;
    uint32_t n_parts, k;

    /* f(row, tensor, row of the tensor) */
    template <class F> void each(F f) const
    {
        uint32_t row = 0;

        for (uint32_t part = 0; part < n_parts; part++) {
            const struct rr_tensor &t = p.tensors[tensors[part]];
            for (uint32_t i = 0; i < t.shape[0]; i++) f(row++, t, i);
        }
    }
};

void narrow_row(GemmType type, char *to, const struct rr_tensor &t, size_t first, uint32_t k)
{
    if ((type == GEMM_F16 && t.dtype == RR_F16) || (type == GEMM_BF16 && t.dtype == RR_BF16)) {
        memcpy(to, (const uint16_t *)t.data + first, (size_t)k * 2);
        return;
    }
    for (uint32_t j = 0; j < k; j++) {
        float v = value(t, first + j);

        if (type == GEMM_F32)
            ((float *)to)[j] = v;
        else
            ((uint16_t *)to)[j] = type == GEMM_F16 ? narrow_f16(v) : narrow_bf16(v);
    }
}

/* To e4m3, nearest even, finite values saturated at 448: 4 bits of exponent, bias 7. */
uint8_t narrow_f8(float v)
{
    uint32_t u = to_bits(v), sign = u >> 24 & 0x80, a = u & 0x7FFFFFFF;

    if (a > 0x7F800000u) return 0x7F;
    if (a >= to_bits(448.0f)) return (uint8_t)(sign | 0x7E);
    if (a < to_bits(0x1p-6f)) return (uint8_t)(sign | (uint32_t)lrintf(fabsf(v) * 0x1p9f));
    a -= 120u << 23;
    return (uint8_t)(sign | ((a + 0x7FFFF + (a >> 20 & 1)) >> 20));
}

/* One row of weights as bytes. */
struct ByteRow {
    const struct rr_tensor &t;
    size_t first;
    uint32_t k;
    bool f8, stored; /* stored: int8 with factors for its inputs, taken as it is */
    float scale;

    ByteRow(const struct rr_tensor &tensor, size_t at, uint32_t width, GemmType type)
        : t(tensor), first(at), k(width), f8(type == GEMM_F8),
          stored(type == GEMM_I8 && t.dtype == RR_I8), scale(0)
    {
        if (stored) {
            scale = t.scale[first / k];
            return;
        }
        for (uint32_t j = 0; j < k; j++) scale = std::max(scale, fabsf(value(t, first + j)));
        scale /= f8 ? 448.0f : 127.0f;
    }
    int8_t byte(uint32_t j) const
    {
        if (stored) return ((const int8_t *)t.data)[first + j];
        float v = scale > 0 ? value(t, first + j) / scale : 0;
        return f8 ? (int8_t)narrow_f8(v)
                  : (int8_t)std::min(127.0f, std::max(-127.0f, rintf(v)));
    }
};

void pack_bytes(Packer &packer, OpWeights &w, const Stacked &s, size_t rows)
{
    const struct rr_tensor &t = s.p.tensors[s.tensors[0]];
    std::vector<float> scales(rows), sums(rows); /* known when the bytes are */
    auto put = [&](const std::vector<float> &v) {
        return packer.put(rows * 4, [&](char *to) { memcpy(to, v.data(), rows * 4); });
    };

    w.weight = packer.put(rows * w.ld_bytes, [&](char *to) {
        s.each([&](uint32_t row, const struct rr_tensor &part, uint32_t i) {
            ByteRow r(part, (size_t)i * s.k, s.k, w.type);
            int sum = 0;

            for (uint32_t j = 0; j < s.k; j++) {
                int8_t q = r.byte(j);

                to[(size_t)row * w.ld_bytes + j] = (char)q;
                sum += q;
            }
            scales[row] = r.scale;
            sums[row] = (float)sum;
        });
    });
    w.scale = put(scales);
    w.sum = w.type == GEMM_F8 ? NOWHERE : put(sums);
    if (w.type == GEMM_I8 && t.dtype == RR_I8 && t.smooth) /* zeros up to the row of a buffer */
        w.smooth = packer.put((size_t)buffer_ld(s.k) * 4, [&](char *to) {
            memcpy(to, t.smooth, (size_t)s.k * 4);
        });
}

void pack_linear(Packer &packer, OpWeights &w, const Numbers &n, const struct rr_program &p,
                 const struct rr_op &op)
{
    const struct rr_op_linear &l = op.u.linear;
    Stacked s = { p, l.weight, l.n_parts, p.registers[op.src].width };
    size_t rows;

    w.type = gemm_type(n, p, op);
    w.scale = w.sum = w.smooth = NOWHERE;
    w.n = p.registers[op.dst].width;
    rows = round_up(w.n, 128);
    /* Must match the rows that the kernel reads: those of the source's buffer, or quantized ones. */
    w.ld_bytes = is_quantized(w.type) ? (uint32_t)round_up(s.k, 64)
                                      : buffer_ld(s.k) * (w.type == GEMM_F32 ? 4 : 2);
    if (is_quantized(w.type))
        pack_bytes(packer, w, s, rows);
    else
        w.weight = packer.put(rows * w.ld_bytes, [&](char *to) {
            s.each([&](uint32_t row, const struct rr_tensor &t, uint32_t i) {
                narrow_row(w.type, to + (size_t)row * w.ld_bytes, t, (size_t)i * s.k, s.k);
            });
        });
    w.bias = packer.put(rows * 4, [&](char *to) {
        uint32_t row = 0;
        for (uint32_t part = 0; part < l.n_parts; part++)
            for (uint32_t i = 0; i < p.tensors[l.weight[part]].shape[0]; i++, row++)
                if (l.bias[part] != RR_NONE) ((float *)to)[row] = value(p.tensors[l.bias[part]], i);
    });
}

/* ---- the others ----------------------------------------------------------------------------------- */

size_t pack_vector(Packer &packer, const struct rr_program &p, uint32_t tensor)
{
    if (tensor == RR_NONE) return NOWHERE;
    const struct rr_tensor &t = p.tensors[tensor];
    return packer.put((size_t)t.shape[0] * 4, [&](char *to) {
        for (uint32_t i = 0; i < t.shape[0]; i++) ((float *)to)[i] = value(t, i);
    });
}

struct Shared { /* what several operations use: on the device once */
    std::map<uint32_t, size_t> tables, words, cosines, sines;
    std::map<std::vector<uint32_t>, size_t> buckets;
};

/* f(begin, end) for pieces of n: a table may be a gigabyte. */
template <class F> void in_pieces(size_t n, size_t piece, F f)
{
    for (size_t i = 0; i < n; i += piece) f(i, std::min(n, i + piece));
}

/* As in the file; f32 becomes f16 where 16 bits are computed in. */
size_t pack_table(Packer &packer, Shared &shared, const Numbers &n, const struct rr_program &p,
                  uint32_t tensor, enum rr_dtype *type, uint32_t *rows)
{
    if (tensor == RR_NONE) return NOWHERE;
    const struct rr_tensor &t = p.tensors[tensor];
    bool narrow = t.dtype == RR_F32 && n.precision != Precision::F32;
    *type = narrow ? RR_F16 : t.dtype;
    *rows = t.shape[0];
    if (shared.tables.count(tensor)) return shared.tables[tensor];
    if (!narrow) return shared.tables[tensor] = packer.put_raw(tensor_bytes(t), t.data);
    size_t at = packer.reserve(tensor_bytes(t) / 2), total = tensor_bytes(t) / 4;
    in_pieces(total, (size_t)1 << 20, [&](size_t begin, size_t end) {
        packer.put_at(at + begin * 2, (end - begin) * 2, [&](char *to) {
            for (size_t j = begin; j < end; j++)
                ((uint16_t *)to)[j - begin] = narrow_f16(((const float *)t.data)[j]);
        });
    });
    return shared.tables[tensor] = at;
}

/* One row of a table as int8; returns its factor. */
float byte_row(const struct rr_tensor &t, size_t i, std::vector<float> &row, int8_t *to)
{
    float top = 0;
    bool finite = true;

    for (size_t j = 0; j < row.size(); j++) {
        row[j] = value(t, i * row.size() + j);
        finite = finite && std::isfinite(row[j]);
        top = std::max(top, fabsf(row[j]));
    }
    float scale = finite ? top / 127.0f : NAN;
    for (size_t j = 0; j < row.size(); j++)
        to[j] = scale > 0 ? (int8_t)std::max(-127.0f, std::min(rintf(row[j] / scale), 127.0f)) : 0;
    return scale;
}

/* The table of words is the largest tensor of all: where the layers are computed in 8 bits, it has
 * int8 with one factor for each row, the factors behind the rows.  A row with a NaN or an infinity
 * has a NaN for its factor. */
void pack_words(Packer &packer, OpWeights &w, Shared &shared, const Numbers &n,
                const struct rr_program &p, uint32_t tensor)
{
    const struct rr_tensor &t = p.tensors[tensor];
    size_t rows = t.shape[0], columns = t.shape[1], bytes = round_up(rows * columns, 256);

    w.word_scale = NOWHERE;
    if (n.precision != Precision::I8 && n.precision != Precision::F8) {
        w.word = pack_table(packer, shared, n, p, tensor, &w.word_type, &w.word_rows);
        return;
    }
    w.word_type = RR_I8;
    w.word_rows = t.shape[0];
    bool made = shared.words.count(tensor);
    if (!made) shared.words[tensor] = packer.reserve(bytes + rows * 4);
    w.word = shared.words[tensor];
    w.word_scale = w.word + bytes;
    if (made || !packer.base) return;
    std::vector<float> factors(rows), row(columns);
    in_pieces(rows, std::max((size_t)1, ((size_t)1 << 22) / columns), [&](size_t begin, size_t end) {
        packer.put_at(w.word + begin * columns, (end - begin) * columns, [&](char *to) {
            for (size_t i = begin; i < end; i++)
                factors[i] = byte_row(t, i, row, (int8_t *)to + (i - begin) * columns);
        });
    });
    packer.put_at(w.word_scale, rows * 4,
                  [&](char *to) { memcpy(to, factors.data(), rows * 4); });
}

void pack_rotary(Packer &packer, OpWeights &w, Shared &shared, const struct rr_program &p,
                 const struct rr_op_rotary &r, uint32_t positions)
{
    const struct rr_tensor &t = p.tensors[r.frequencies];
    auto fill = [&](char *to, double (*f)(double)) {
        for (uint32_t i = 0; i < positions; i++)
            for (uint32_t j = 0; j < t.shape[0]; j++)
                ((float *)to)[(size_t)i * t.shape[0] + j] =
                    (float)f((double)((float)i * value(t, j)));
    };
    size_t bytes = (size_t)positions * t.shape[0] * 4;

    w.angles = t.shape[0];
    w.gamma = pack_vector(packer, p, r.gamma);
    if (!shared.cosines.count(r.frequencies)) {
        shared.cosines[r.frequencies] = packer.put(bytes, [&](char *to) { fill(to, cos); });
        shared.sines[r.frequencies] = packer.put(bytes, [&](char *to) { fill(to, sin); });
    }
    w.cosines = shared.cosines[r.frequencies];
    w.sines = shared.sines[r.frequencies];
}

int32_t bucket_row(const struct rr_relative &r, int64_t x)
{
    double d = (double)x, m = r.buckets / 2;

    if (r.buckets && fabs(d) > m) {
        double steps = ceil(log(fabs(d) / m) / log((r.max_distance - 1.0) / m) * (m - 1));
        d = (d < 0 ? -1 : 1) * (m + steps);
    }
    return (int32_t)(r.span + std::max(-(double)r.span, std::min(d, r.span - 1.0)));
}

void pack_relative(Packer &packer, OpWeights &w, Shared &shared, const struct rr_relative &r,
                   uint32_t width, uint32_t max_length)
{
    std::vector<uint32_t> key = { r.span, r.buckets, r.max_distance };
    size_t bytes = (size_t)r.span * 2 * buffer_ld(width) * 4;

    w.relative_ld = buffer_ld(width);
    if (!shared.buckets.count(key))
        shared.buckets[key] = packer.put(((size_t)max_length * 2 - 1) * 4, [&](char *to) {
            for (int64_t d = 0; d < 2 * (int64_t)max_length - 1; d++)
                ((int32_t *)to)[d] = bucket_row(r, d - ((int64_t)max_length - 1));
        });
    w.buckets = shared.buckets[key];
    w.relative_keys = r.content_position ? packer.reserve(bytes) : NOWHERE;
    w.relative_queries = r.position_content ? packer.reserve(bytes) : NOWHERE;
}

} // namespace

size_t Packer::reserve(size_t bytes)
{
    size_t at = used;

    used += round_up(bytes, 256);
    return at;
}

size_t Packer::put(size_t bytes, const std::function<void(char *)> &fill)
{
    size_t at = reserve(bytes);

    put_at(at, bytes, fill);
    return at;
}

void Packer::put_at(size_t at, size_t bytes, const std::function<void(char *)> &fill)
{
    if (!base || error) return;
    stage.assign(bytes, 0);
    fill(stage.data());
    error = cudaMemcpy(base + at, stage.data(), bytes, cudaMemcpyHostToDevice);
}

size_t Packer::put_raw(size_t bytes, const void *data)
{
    size_t at = reserve(bytes);

    if (base && !error) error = cudaMemcpy(base + at, data, bytes, cudaMemcpyHostToDevice);
    return at;
}

std::vector<OpWeights> pack_weights(Packer &packer, const Numbers &n, const struct rr_program &p,
                                    const struct rr_limits &l)
{
    std::vector<OpWeights> all(p.n_ops);
    Shared shared;

    for (uint32_t i = 0; i < p.n_ops; i++) {
        const struct rr_op &op = p.ops[i];
        OpWeights &w = all[i];
        const struct rr_op_embed &e = op.u.embed;

        w.buckets = w.relative_keys = w.relative_queries = NOWHERE;
        switch (op.kind) {
        case RR_OP_EMBED:
            pack_words(packer, w, shared, n, p, e.word);
            w.position =
                pack_table(packer, shared, n, p, e.position, &w.position_type, &w.position_rows);
            w.type_table = pack_table(packer, shared, n, p, e.type, &w.type_type, &w.type_rows);
            break;
        case RR_OP_LINEAR: pack_linear(packer, w, n, p, op); break;
        case RR_OP_NORM:
            w.gamma = pack_vector(packer, p, op.u.norm.gamma);
            w.beta = pack_vector(packer, p, op.u.norm.beta);
            break;
        case RR_OP_ROTARY: pack_rotary(packer, w, shared, p, op.u.rotary, l.max_length); break;
        case RR_OP_ATTENTION:
            if (op.u.attention.relative.on)
                pack_relative(packer, w, shared, op.u.attention.relative,
                              op.u.attention.heads * op.u.attention.head_dim, l.max_length);
            break;
        default: break;
        }
    }
    return all;
}

/* ---- tables of relative positions ---------------------------------------------------------------- */

namespace
{

/* R = LayerNorm(table), then keys and queries from it, on the device; temporary is counted first. */
struct RelativeMaker {
    Packer packer;
    const struct rr_program &p;
    const struct rr_op_attention &a;
    size_t dims, table, normed, gamma, beta, weight[2], bias[2];

    void pack()
    {
        const struct rr_relative &r = a.relative;
        uint32_t in = p.tensors[r.table].shape[1], ld = buffer_ld(in), rows = 2 * r.span;
        uint32_t out = a.heads * a.head_dim;
        const uint32_t weights[2] = { r.key_weight, r.query_weight };
        const uint32_t biases[2] = { r.key_bias, r.query_bias };

        dims = packer.put(sizeof(Dims), [&](char *to) {
            Dims d = { { rows, rows }, 0, 0 };
            memcpy(to, &d, sizeof(d));
        });
        table = matrix(r.table, rows, in, ld);
        normed = packer.reserve((size_t)rows * ld * 4);
        gamma = pack_vector(packer, p, r.gamma);
        beta = r.gamma == RR_NONE ? NOWHERE : pack_vector(packer, p, r.beta);
        for (int i = 0; i < 2; i++) {
            if (!(i ? r.position_content : r.content_position)) continue;
            weight[i] = matrix(weights[i], (uint32_t)round_up(out, 128), in, ld);
            bias[i] = packer.put(round_up(out, 128) * 4, [&](char *to) {
                for (uint32_t j = 0; biases[i] != RR_NONE && j < out; j++)
                    ((float *)to)[j] = value(p.tensors[biases[i]], j);
            });
        }
    }
    size_t matrix(uint32_t tensor, uint32_t rows, uint32_t columns, uint32_t ld)
    {
        const struct rr_tensor &t = p.tensors[tensor];

        return packer.put((size_t)rows * ld * 4, [&](char *to) {
            for (uint32_t i = 0; i < t.shape[0]; i++)
                narrow_row(GEMM_F32, to + (size_t)i * ld * 4, t, (size_t)i * columns, columns);
        });
    }
    cudaError_t launch(const LaunchContext &c, char *base, const OpWeights &w)
    {
        const struct rr_relative &r = a.relative;
        uint32_t in = p.tensors[r.table].shape[1], ld = buffer_ld(in), out = a.heads * a.head_dim;
        auto at = [&](size_t offset) { return (float *)(packer.base + offset); };
        const uint32_t *rows = &((const Dims *)at(dims))->rows[RR_ROWS_TOKENS];
        Buffer x = { at(table), nullptr, ld, in }, y = { at(normed), nullptr, ld, in };
        cudaError_t e = cudaSuccess;

        if (r.gamma != RR_NONE)
            e = launch_norm(c, RR_ROWS_TOKENS, { rows, at(gamma), at(beta), r.eps, false, x, y, {} });
        for (int i = 0; i < 2 && !e; i++) {
            size_t to = i ? w.relative_queries : w.relative_keys;
            GemmArgs g = {};

            if (to == NOWHERE) continue;
            g.rows = rows;
            g.a = r.gamma != RR_NONE ? y.f32 : x.f32;
            g.w = at(weight[i]);
            g.ld_bytes = ld * 4;
            g.ld_a = ld;
            g.n = out;
            g.bias = at(bias[i]);
            g.dst = { (float *)(base + to), nullptr, w.relative_ld, out };
            e = launch_gemm_f32(c, RR_ROWS_TOKENS, GEMM_F32, g);
        }
        return e ? e : cudaStreamSynchronize(c.stream);
    }
};

} // namespace

cudaError_t make_relative(const LaunchContext &context, char *base, const struct rr_program &p,
                          const std::vector<OpWeights> &weights)
{
    cudaError_t e = cudaSuccess;

    for (uint32_t i = 0; i < p.n_ops && !e; i++) {
        const struct rr_op_attention &a = p.ops[i].u.attention;
        LaunchContext c = context;

        if (p.ops[i].kind != RR_OP_ATTENTION || !a.relative.on) continue;
        c.rows[0] = c.rows[1] = 2 * a.relative.span;
        RelativeMaker m = { Packer(nullptr), p, a, 0, 0, 0, 0, 0, {}, {} };
        m.pack();
        char *memory = nullptr;
        e = cudaMalloc(&memory, m.packer.used);
        if (e) break;
        m.packer = Packer(memory);
        m.pack();
        e = m.packer.error;
        if (!e) e = m.launch(c, base, weights[i]);
        cudaFree(memory);
    }
    return e;
}
