/* SPDX-License-Identifier: Apache-2.0 */
/* golden.cc - a small encoder with fixed weights, run when a device is opened for the first time and
 * after it was lost: a device, a driver or a build that computes wrongly is refused before it serves.
 * The first time also among copies of itself, which other kernels and tiles compute: the bits must be
 * the same.
 *
 * The expected logits come from an evaluation in double precision by the tests, which also check
 * that they still belong to this program (tests/cuda/test_cuda.c). */
#include <math.h>

#include "plan.h"

namespace
{

/* COPIES have as many tokens, and INNER as many columns, as large products begin with. */
constexpr uint32_t WIDTH = 64, INNER = 1024, WORDS = 16, TOKENS = 70, SEQUENCES = 3, COPIES = 14;

const double expected[SEQUENCES] = {
    -0.0135813983548,
    -0.0736388782645,
    -0.317087080943,
};

struct Encoder {
    std::vector<struct rr_tensor> tensors;
    std::vector<std::vector<float>> data;
    std::vector<struct rr_register> registers;
    std::vector<struct rr_op> ops;
    int32_t ids[COPIES * TOKENS], positions[COPIES * TOKENS], types[COPIES * TOKENS];
    uint32_t cu[COPIES * SEQUENCES + 1] = { 0, 1, 5, TOKENS };
    uint32_t seed = 1;
    Golden golden = {};

    /* Multiples of 1 / 256 in [-1/2, 1/2]: exact in f16, and in bf16 but for a bit. */
    float next()
    {
        seed = seed * 1664525u + 1013904223u;
        return (float)((int)(seed >> 24) - 128) / 256.0f;
    }
    uint32_t tensor(uint32_t rows, uint32_t columns, float size, float centre)
    {
        std::vector<float> v((size_t)(rows ? rows : 1) * columns);

        for (float &x : v) x = centre + size * next();
        data.push_back(v);
        struct rr_tensor t = {};
        t.name = "golden";
        t.dtype = RR_F32;
        t.rank = rows ? 2 : 1;
        t.shape[0] = rows ? rows : columns;
        t.shape[1] = rows ? columns : 0;
        t.data = data.back().data();
        tensors.push_back(t);
        return (uint32_t)tensors.size() - 1;
    }
    struct rr_op &op(enum rr_op_kind kind, uint32_t width, enum rr_rows rows, uint32_t src)
    {
        struct rr_op o = {};

        registers.push_back({ width, rows });
        o.kind = kind;
        o.dst = (uint32_t)registers.size() - 1;
        o.src = src;
        ops.push_back(o);
        return ops.back();
    }
    uint32_t linear(uint32_t src, uint32_t out, enum rr_act act, uint32_t residual)
    {
        uint32_t in = registers[src].width;
        struct rr_op_linear l = { 1,
                                  { tensor(out, in, 0.25f, 0), 0, 0 },
                                  { tensor(0, out, 0.25f, 0), RR_NONE, RR_NONE },
                                  residual,
                                  act };
        struct rr_op &o = op(RR_OP_LINEAR, out, registers[src].rows, src);

        o.u.linear = l;
        return o.dst;
    }
    uint32_t norm(uint32_t src)
    {
        struct rr_op_norm n = { tensor(0, WIDTH, 0.5f, 1), tensor(0, WIDTH, 0.5f, 0), 1e-5f,
                                false };
        struct rr_op &o = op(RR_OP_NORM, WIDTH, registers[src].rows, src);

        o.u.norm = n;
        return o.dst;
    }

    Encoder()
    {
        struct rr_op_embed e = { tensor(WORDS, WIDTH, 1, 0), tensor(TOKENS, WIDTH, 1, 0),
                                 tensor(2, WIDTH, 1, 0), 1 };
        struct rr_op &embed = op(RR_OP_EMBED, WIDTH, RR_ROWS_TOKENS, RR_NONE);
        embed.u.embed = e;
        uint32_t x = norm(embed.dst), qkv = linear(x, 3 * WIDTH, RR_ACT_NONE, RR_NONE);
        struct rr_op &attention = op(RR_OP_ATTENTION, WIDTH, RR_ROWS_TOKENS, qkv);
        attention.u.attention.kv = qkv;
        attention.u.attention.k_col = WIDTH;
        attention.u.attention.v_col = 2 * WIDTH;
        attention.u.attention.heads = 1;
        attention.u.attention.head_dim = WIDTH;
        attention.u.attention.scale = 0.125f;
        uint32_t y = norm(linear(attention.dst, WIDTH, RR_ACT_NONE, x));
        y = norm(linear(linear(y, INNER, RR_ACT_GELU, RR_NONE), WIDTH, RR_ACT_NONE, y));
        uint32_t first = op(RR_OP_FIRST, WIDTH, RR_ROWS_SEQUENCES, y).dst;
        uint32_t logit =
            linear(linear(first, WIDTH, RR_ACT_TANH, RR_NONE), 1, RR_ACT_NONE, RR_NONE);

        for (uint32_t i = 0, s = 0; i < TOKENS; i++) {
            if (i >= cu[s + 1]) s++;
            ids[i] = (int32_t)(i * 7 % WORDS);
            positions[i] = (int32_t)(i - cu[s]);
            types[i] = (int32_t)(i % 2);
        }
        for (uint32_t i = TOKENS; i < COPIES * TOKENS; i++) {
            ids[i] = ids[i - TOKENS];
            positions[i] = positions[i - TOKENS];
            types[i] = types[i - TOKENS];
        }
        for (uint32_t s = SEQUENCES + 1; s <= COPIES * SEQUENCES; s++)
            cu[s] = cu[s - SEQUENCES] + TOKENS;
        golden.program = { tensors.data(),
                           (uint32_t)tensors.size(),
                           registers.data(),
                           (uint32_t)registers.size(),
                           ops.data(),
                           (uint32_t)ops.size(),
                           logit };
        golden.batch = { TOKENS, SEQUENCES, ids, positions, types, cu };
        golden.copies = { COPIES * TOKENS, COPIES * SEQUENCES, ids, positions, types, cu };
        golden.limits = { COPIES * TOKENS, COPIES * SEQUENCES, TOKENS };
        golden.expected = expected;
    }
};

} // namespace

extern "C" __attribute__((visibility("default"))) const struct Golden *rr_cuda_golden(void)
{
    static const Encoder encoder;

    return &encoder.golden;
}

namespace
{

int compare(const struct rr_device *d, const float *logits, const float *copies, struct rr_error *err)
{
    static const double tolerance[] = { 1e-4, 0.01, 0.05, 0.05, 0.1 }; /* [Precision] */

    for (uint32_t s = 0; s < SEQUENCES; s++)
        if (!(fabs(logits[s] - expected[s]) <= tolerance[(int)d->precision]))
            return rr_fail(err, RR_EDEVICE,
                           "GPU %d (%.64s, sm_%d) computes wrongly in %s: %.6g in the self-check, "
                           "expected %.6g",
                           d->ordinal, d->prop.name, d->arch, precision_name(d->precision),
                           (double)logits[s], expected[s]);
    for (uint32_t s = 0; copies && s < COPIES * SEQUENCES; s++)
        if (copies[s] != logits[s % SEQUENCES])
            return rr_fail(err, RR_EDEVICE,
                           "GPU %d (%.64s, sm_%d) computes wrongly in %s: %.9g in the self-check, "
                           "%.9g among others",
                           d->ordinal, d->prop.name, d->arch, precision_name(d->precision),
                           (double)logits[s % SEQUENCES], (double)copies[s]);
    return RR_OK;
}

} // namespace

int check_golden(struct rr_device *d, bool copies_too, struct rr_error *err)
{
    struct rr_loaded *l = nullptr;
    float logits[SEQUENCES], copies[COPIES * SEQUENCES];
    int rc = RR_OK;

    try {
        const struct Golden *g = rr_cuda_golden();
        rc = load_program(d, &g->program, &g->limits, &l, err);
        if (!rc) rc = run_batch(l, &g->batch, logits, err);
        if (!rc && copies_too) rc = run_batch(l, &g->copies, copies, err);
    } catch (const std::bad_alloc &) {
        rc = rr_fail(err, RR_ENOMEM, "out of host memory");
    }
    if (!rc) rc = compare(d, logits, copies_too ? copies : nullptr, err);
    unload_program(l);
    return rc;
}
