/* SPDX-License-Identifier: Apache-2.0 */
/* values.cc - follows every value of a program from its write to its last use, decides in which
 * forms it is kept, and gives it a place in the workspace. */
#include <algorithm>

#include "plan.h"

/* The head's last product is a dot product: f32 costs nothing there. */
#define NARROWEST_TENSOR_CORE_OUTPUT 16

const char *precision_name(Precision p)
{
    static const char *const names[] = { "f32", "f16", "bf16", "int8", "fp8" };

    return names[(int)p];
}

Numbers numbers_for(Precision precision, int arch, const struct rr_program &p)
{
    bool bf16 = precision == Precision::BF16;

    for (uint32_t i = 0; i < p.n_ops && precision == Precision::I8 && p.mixed && arch >= 80; i++)
        if (p.ops[i].kind == RR_OP_LINEAR &&
            p.tensors[p.ops[i].u.linear.weight[0]].dtype == RR_BF16)
            bf16 = true;
    return { precision, bf16 };
}

GemmType gemm_type(const Numbers &n, const struct rr_program &p, const struct rr_op &op)
{
    GemmType narrow = n.bf16 ? GEMM_BF16 : GEMM_F16;
    const struct rr_tensor &weight = p.tensors[op.u.linear.weight[0]];

    if (n.precision == Precision::F32 || p.registers[op.dst].width <= NARROWEST_TENSOR_CORE_OUTPUT)
        return GEMM_F32;
    if (n.precision == Precision::I8 && weight.dtype == RR_I8) /* they come so */
        return weight.fine ? narrow : GEMM_I8;
    if (n.precision == Precision::I8 && p.mixed) return weight.dtype == RR_BF16 ? narrow : GEMM_F32;
    /* rows of sequences are few: their weights are not worth a lower precision */
    if (p.registers[op.dst].rows == RR_ROWS_SEQUENCES) return narrow;
    return n.precision == Precision::I8 ? GEMM_I8 : n.precision == Precision::F8 ? GEMM_F8 : narrow;
}

bool narrow_attention(const Numbers &n, const struct rr_op &op)
{
    return n.precision != Precision::F32 && op.u.attention.head_dim <= 128 &&
           !op.u.attention.relative.on;
}

namespace
{

struct Builder {
    const Numbers &n;
    const struct rr_program &p;
    Layout &l;
    std::vector<size_t> now; /* value that each register holds */

    Value &read(uint32_t reg, size_t op)
    {
        Value &v = l.values[now[reg]];

        v.last = op;
        return v;
    }
    size_t write(uint32_t reg, size_t op)
    {
        Value v = {};

        v.width = p.registers[reg].width;
        v.rows = p.registers[reg].rows;
        v.ld = buffer_ld(v.width);
        v.first = v.last = op;
        l.values.push_back(v);
        return now[reg] = l.values.size() - 1;
    }

    /* Of a reader that takes either form: f16 is precise enough for what passes between two operations,
     * bf16 is not. */
    void either(Value &v)
    {
        if (n.precision == Precision::F32 || n.bf16)
            v.f32 = true;
        else
            v.any = true;
    }
    /* A NORM's result keeps its size.  Where sums are added to sums, layer after layer, errors add up,
     * too, and f16 may end. */
    void residual(uint32_t reg, size_t i)
    {
        Value &v = read(reg, i);

        if (p.ops[v.first].kind == RR_OP_NORM)
            either(v);
        else
            v.f32 = true;
    }

    /* The NORM that wrote the value can quantize it as it goes, once. */
    void quantized(Value &v, size_t i, OpValues &o, bool f8)
    {
        size_t maker = v.first;
        bool as_it_goes = p.ops[maker].kind == RR_OP_NORM && l.ops[maker].quantized == NO_VALUE;

        o.quantized = l.quantized.size();
        if (as_it_goes)
            l.ops[maker].quantized = o.quantized;
        else
            v.any = true;
        l.quantized.push_back({ as_it_goes ? maker : i, i, (uint32_t)round_up(v.width, 64), v.rows,
                                f8, 0, 0, 0 });
    }
    void linear(const struct rr_op &op, size_t i, OpValues &o)
    {
        Value &v = read(op.src, i);
        GemmType type = gemm_type(n, p, op);

        if (is_quantized(type))
            quantized(v, i, o, type == GEMM_F8);
        else if (type == GEMM_F32)
            v.f32 = true;
        else
            v.narrow = true;
        if (op.u.linear.residual == RR_NONE) return;
        residual(op.u.linear.residual, i);
        o.other = now[op.u.linear.residual];
    }
    void attention(const struct rr_op &op, size_t i, OpValues &o)
    {
        Value &q = read(op.src, i), &kv = read(op.u.attention.kv, i);

        o.other = now[op.u.attention.kv];
        if (narrow_attention(n, op))
            q.narrow = kv.narrow = true;
        else
            q.f32 = kv.f32 = true;
    }
    void op(size_t i)
    {
        const struct rr_op &op = p.ops[i];
        OpValues o = { NO_VALUE, NO_VALUE, NO_VALUE, NO_VALUE };

        if (op.kind != RR_OP_EMBED) o.src = now[op.src];
        if (op.kind == RR_OP_LINEAR)
            linear(op, i, o);
        else if (op.kind == RR_OP_ATTENTION)
            attention(op, i, o);
        else if (op.kind != RR_OP_EMBED)
            either(read(op.src, i));
        o.dst = write(op.dst, i);
        l.ops.push_back(o);
    }
};

struct Piece {
    size_t at, bytes, first, last;
};

/* The lowest place that no piece living at the same time covers. */
size_t place(std::vector<Piece> &pieces, size_t bytes, size_t first, size_t last)
{
    size_t at = 0;
    bool moved = true;

    while (moved) {
        moved = false;
        for (const Piece &p : pieces)
            if (p.first <= last && first <= p.last && at < p.at + p.bytes && p.at < at + bytes) {
                at = p.at + p.bytes;
                moved = true;
            }
    }
    pieces.push_back({ at, bytes, first, last });
    return at;
}

} // namespace

Layout make_layout(const Numbers &n, const struct rr_program &p, const struct rr_limits &limits)
{
    Layout l = {};
    Builder b = { n, p, l, std::vector<size_t>(p.n_registers, NO_VALUE) };
    std::vector<Piece> pieces;
    auto rows_of = [&](enum rr_rows rows) -> size_t {
        return rows == RR_ROWS_TOKENS ? limits.max_tokens : limits.max_sequences;
    };

    for (size_t i = 0; i < p.n_ops; i++) b.op(i);
    l.output = b.now[p.output];
    l.values[l.output].f32 = true;
    l.values[l.output].last = p.n_ops;
    for (Value &v : l.values) {
        size_t rows = rows_of(v.rows);

        if (v.any && !v.f32 && !v.narrow) v.narrow = true;
        if (v.f32) v.f32_at = place(pieces, round_up(rows * v.ld * 4, 256), v.first, v.last);
        if (v.narrow) v.narrow_at = place(pieces, round_up(rows * v.ld * 2, 256), v.first, v.last);
    }
    for (QuantizedValue &q : l.quantized) {
        size_t rows = rows_of(q.rows), factors = round_up(rows * 4, 256);

        q.at = place(pieces, round_up(rows * q.ld, 256), q.maker, q.reader);
        q.scale_at = place(pieces, factors, q.maker, q.reader);
        if (!q.f8) q.offset_at = place(pieces, factors, q.maker, q.reader);
    }
    for (const Piece &piece : pieces) l.bytes = std::max(l.bytes, piece.at + piece.bytes);
    return l;
}
