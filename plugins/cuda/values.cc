/* SPDX-License-Identifier: Apache-2.0 */
/* values.cc - follows every value of a program from its write to its last use, decides in which
 * forms it is kept, and gives it a place in the workspace. */
#include <algorithm>

#include "plan.h"

/* The head's last product is a dot product: f32 costs nothing there. */
#define NARROWEST_TENSOR_CORE_OUTPUT 16

const char *precision_name(Precision p)
{
    static const char *const names[] = { "f32", "f16", "bf16", "int8" };

    return names[(int)p];
}

GemmType gemm_type(Precision precision, const struct rr_program &p, const struct rr_op &op)
{
    if (precision == Precision::F32 || p.registers[op.dst].width <= NARROWEST_TENSOR_CORE_OUTPUT)
        return GEMM_F32;
    if (precision == Precision::BF16) return GEMM_BF16;
    /* Weights that come quantized have factors for their inputs, and mixed models ask for more than
     * int8 here and there: f16 does justice to both. */
    if (p.mixed || p.tensors[op.u.linear.weight[0]].dtype == RR_I8) return GEMM_F16;
    /* rows of sequences are few: their weights are not worth a lower precision */
    return precision == Precision::I8 && p.registers[op.dst].rows == RR_ROWS_TOKENS ? GEMM_I8
                                                                                    : GEMM_F16;
}

bool narrow_attention(Precision precision, const struct rr_op &op)
{
    return precision != Precision::F32 && op.u.attention.head_dim <= 128 &&
           !op.u.attention.relative.on;
}

namespace
{

struct Builder {
    Precision precision;
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

    void linear(const struct rr_op &op, size_t i, OpValues &o)
    {
        Value &v = read(op.src, i);

        switch (gemm_type(precision, p, op)) {
        case GEMM_F32: v.f32 = true; break;
        case GEMM_I8:
            l.quantized_ld = std::max(l.quantized_ld, (uint32_t)round_up(v.width, 64));
            break; /* reads what there is */
        default: v.narrow = true;
        }
        if (op.u.linear.residual == RR_NONE) return;
        read(op.u.linear.residual, i).f32 = true;
        o.other = now[op.u.linear.residual];
    }
    void attention(const struct rr_op &op, size_t i, OpValues &o)
    {
        Value &q = read(op.src, i), &kv = read(op.u.attention.kv, i);

        o.other = now[op.u.attention.kv];
        if (narrow_attention(precision, op))
            q.narrow = kv.narrow = true;
        else
            q.f32 = kv.f32 = true;
    }
    void op(size_t i)
    {
        const struct rr_op &op = p.ops[i];
        OpValues o = { NO_VALUE, NO_VALUE, NO_VALUE };

        if (op.kind != RR_OP_EMBED) o.src = now[op.src];
        if (op.kind == RR_OP_LINEAR)
            linear(op, i, o);
        else if (op.kind == RR_OP_ATTENTION)
            attention(op, i, o);
        else if (op.kind != RR_OP_EMBED)
            read(op.src, i).f32 = true;
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

Layout make_layout(Precision precision, const struct rr_program &p, const struct rr_limits &limits)
{
    Layout l = {};
    Builder b = { precision, p, l, std::vector<size_t>(p.n_registers, NO_VALUE) };
    std::vector<Piece> pieces;

    for (size_t i = 0; i < p.n_ops; i++) b.op(i);
    l.output = b.now[p.output];
    l.values[l.output].f32 = true;
    l.values[l.output].last = p.n_ops;
    for (Value &v : l.values) {
        size_t rows = v.rows == RR_ROWS_TOKENS ? limits.max_tokens : limits.max_sequences;

        if (!v.f32 && !v.narrow) (precision == Precision::F32 ? v.f32 : v.narrow) = true;
        if (v.f32) v.f32_at = place(pieces, round_up(rows * v.ld * 4, 256), v.first, v.last);
        if (v.narrow) v.narrow_at = place(pieces, round_up(rows * v.ld * 2, 256), v.first, v.last);
    }
    for (const Piece &piece : pieces) l.bytes = std::max(l.bytes, piece.at + piece.bytes);
    if (l.quantized_ld) {
        l.quantized_at = l.bytes;
        l.quantized_scale_at =
            l.quantized_at + round_up((size_t)limits.max_tokens * l.quantized_ld, 256);
        l.quantized_offset_at = l.quantized_scale_at + round_up((size_t)limits.max_tokens * 4, 256);
        l.bytes = l.quantized_offset_at + round_up((size_t)limits.max_tokens * 4, 256);
    }
    return l;
}
