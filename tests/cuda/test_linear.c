/* SPDX-License-Identifier: Apache-2.0 */
/* test_linear.c - LINEAR in the CUDA plugin: large tiles, weights that come quantized, models that
 * mix types.
 *
 * test_linear [BACKEND]: default cudaemul89, the plugin over the emulation; "cuda" runs on a GPU. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/registry.h"
#include "base/attr.h"
#include "support/program.h"

#define WORDS 50
#define POSITIONS 300

static const char *backend_name = "cudaemul89";

static const struct rr_backend *backend(void)
{
    const struct rr_backend *b;
    struct rr_error err = { 0 };

    if (rr_backend_find(&b, backend_name, &err)) fail_msg("%s: %s", backend_name, err.msg);
    return b;
}

/* NULL: this device has no such precision, and says so in words of the message. */
static struct rr_device *open_as(const char *dtype, int *arch)
{
    struct rr_device_options opt = { .dtype = dtype };
    struct rr_device_info info;
    struct rr_error err = { 0 };
    struct rr_device *d;
    int rc = backend()->open(&d, &opt, &err);

    if (rc == RR_ENOTSUP && strstr(err.msg, "needs compute capability")) return NULL;
    if (rc) fail_msg("open as %s: %s", dtype, err.msg);
    backend()->describe(d, &info);
    *arch = atoi(info.isa + 3);
    return d;
}

static void run(struct rr_device *d, const struct program *p, const struct rr_limits *limits,
                const struct batch *b, float *logits)
{
    struct rr_error err = { 0 };
    struct rr_loaded *l;

    if (backend()->load(d, &p->p, limits, &l, &err)) fail_msg("load: %s", err.msg);
    if (backend()->run(l, &b->b, logits, &err)) fail_msg("run: %s", err.msg);
    backend()->unload(l);
}

/* A pair that went wrong may be right again after its repetition in f32, which would hide it. */
static void check_none_repeated(struct rr_device *d, const char *why)
{
    struct rr_device_stats stats;

    assert_int_equal(backend()->stats(d, &stats), RR_OK);
    if (stats.repeated) fail_msg("%s: %d pairs repeated in f32", why, (int)stats.repeated);
}

static double distance(const struct batch *b, const float *logits, const double *expected)
{
    double worst = 0;

    for (uint32_t s = 0; s < b->b.n_sequences; s++) {
        if (!isfinite(logits[s]) || !isfinite(expected[s])) return INFINITY; /* fmax loses NaN */
        worst = fmax(worst, fabs(logits[s] - expected[s]) / (1 + fabs(expected[s])));
    }
    return worst;
}

/* Neither sizes are multiples of a tile. */
struct size {
    const char *why;
    uint32_t k, n, most;        /* most: tokens of a batch */
    uint32_t sequences, length; /* of the first; the others have one or two more */
    const char *processors;     /* of the emulation; NULL: 4 */
};

static void check_size(const struct size *s, const char *dtype, double tolerance)
{
    struct rr_limits limits = { s->most, 8, 200 };
    double expected[8], off;
    float logits[8];
    uint64_t seed = 4;
    struct program p;
    struct batch b;
    struct rr_device *d;
    uint32_t x, y;
    int arch;

    if (s->processors) setenv("EMUL_PROCESSORS", s->processors, 1);
    d = open_as(dtype, &arch);
    unsetenv("EMUL_PROCESSORS");
    if (!d) return;
    program_init(&p, 7, false);
    x = program_norm(&p, program_embed(&p, WORDS, POSITIONS, 2, s->k), 1e-5f, false);
    y = program_linear(&p, x, 1, &s->n, RR_ACT_GELU, RR_NONE, true);
    program_probe(&p, y);
    batch_init(&b, s->most, 8);
    batch_clear(&b);
    for (uint32_t i = 0; i < s->sequences; i++)
        batch_add(&b, s->length + i % 3, WORDS, 2, 2, &seed);
    program_evaluate(&p.p, &b.b, expected);
    run(d, &p, &limits, &b, logits);
    check_none_repeated(d, s->why);
    backend()->close(d);
    off = distance(&b, logits, expected);
    print_message("%s, %s: %.2e\n", s->why, dtype, off);
    if (!(off <= tolerance))
        fail_msg("%s, %s: off by %g, allowed %g", s->why, dtype, off, tolerance);
    batch_free(&b);
    program_free(&p);
}

static void test_sizes(void **state)
{
    static const struct {
        const char *dtype;
        double tolerance;
    } cases[] = { { "f16", 0.005 }, { "bf16", 0.03 }, { "int8", 0.03 }, { "fp8", 0.1 } };
    static const struct size large = { "tiles of large batches", 72, 1000, 1024, 8, 124, NULL };
    static const struct size wide = { "rows wider than a warp holds", 1034, 1000, 1024, 1, 5, NULL };
    /* More steps of k than a pipeline has stages.  On 9.0 in emulation: 832 rows leave the last cluster's
     * lower blocks without any; 4 processors hold a cluster of four, 2 one of two, 17 two of eight, with
     * four tiles each, of one step in int8; 50 have a tile of 192 rows each; with 10 and 40 small batches
     * get narrower tiles.  The emulation of others has no stages that are filled again. */
    static const struct size deep[] = { { "large and deep", 400, 1000, 1024, 7, 118, NULL },
                                        { "large, two by two", 400, 1000, 1024, 7, 118, "2" },
                                        { "large, clusters of eight", 400, 1000, 1024, 7, 118, "17" },
                                        { "large, four tiles of one step", 72, 1000, 1024, 8, 124, "17" },
                                        { "tiles of 192 rows", 400, 2000, 576, 4, 118, "50" },
                                        { "small and deep", 840, 1000, 1024, 2, 65, NULL },
                                        { "narrow and deep", 840, 200, 1024, 1, 60, "10" },
                                        { "narrowest and deep", 840, 200, 1024, 1, 60, "40" } };
    bool stages = !strstr(backend_name, "emul") || strstr(backend_name, "90");

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        check_size(&large, cases[i].dtype, cases[i].tolerance);
        check_size(&wide, cases[i].dtype, cases[i].tolerance);
        for (size_t j = 0; stages && j < RR_COUNT(deep); j++)
            check_size(&deep[j], cases[i].dtype, cases[i].tolerance);
    }
}

/* ---- weights that come quantized ---------------------------------------------------------------- */

enum kind { STORED_SMOOTH, STORED, FINE, KEPT, PLAIN };

struct stored {
    float smooth[512], scale[512];
    int8_t data[512 * 512];
};

/* Rounds the weights of a LINEAR to what a folder may hold. */
static void store(struct program *p, uint32_t tensor, enum kind kind, struct stored *s)
{
    struct rr_tensor *t = &p->tensors[tensor];
    uint32_t rows = t->shape[0], k = t->shape[1];

    if (kind == PLAIN) return;
    if (kind == KEPT) {
        for (size_t i = 0; i < (size_t)rows * k; i++) {
            uint32_t bits;
            memcpy(&bits, &((const float *)t->data)[i], 4);
            ((uint16_t *)(uintptr_t)t->data)[i] = (uint16_t)(bits >> 16);
        }
        t->dtype = RR_BF16;
        return;
    }
    assert_true(rows <= 512 && k <= 512);
    for (uint32_t i = 0; i < k; i++) s->smooth[i] = 0.5f + (float)(i % 7) / 4;
    for (uint32_t o = 0; o < rows; o++) {
        s->scale[o] = (1 + (float)(o % 5) / 8) / 300;
        for (uint32_t i = 0; i < k; i++) {
            double v = (double)((const float *)t->data)[(size_t)o * k + i] * 300;
            s->data[(size_t)o * k + i] = (int8_t)fmax(-127, fmin(v, 127));
        }
    }
    t->dtype = RR_I8;
    t->data = s->data;
    t->scale = s->scale;
    t->smooth = kind == STORED_SMOOTH ? s->smooth : NULL;
    t->fine = kind == FINE;
    t->in_file = false;
}

/* The kinds take turns from one LINEAR to the next. */
static struct stored *store_all(struct program *p, const enum kind *kinds, size_t n)
{
    struct stored *all = calloc(p->p.n_tensors, sizeof(*all));
    size_t turn = 0;

    assert_non_null(all);
    for (uint32_t i = 0; i < p->p.n_ops; i++) {
        const struct rr_op_linear *l = &p->ops[i].u.linear;

        if (p->ops[i].kind != RR_OP_LINEAR) continue;
        for (uint32_t part = 0; part < l->n_parts; part++)
            store(p, l->weight[part], kinds[turn % n], &all[l->weight[part]]);
        turn++;
    }
    return all;
}

static void add_batch(struct batch *b)
{
    static const uint32_t lengths[] = { 5, 1, 64, 17, 65, 130 };
    uint64_t seed = 3;

    batch_init(b, 400, 8);
    batch_clear(b);
    for (size_t i = 0; i < RR_COUNT(lengths); i++) batch_add(b, lengths[i], WORDS, 2, 2, &seed);
}

static const struct folder {
    bool mixed;
    enum kind kinds[4];
    size_t n_kinds;
    const char *why;
} folders[] = {
    { false, { STORED_SMOOTH }, 1, "all in int8 with factors for the inputs" },
    { false, { STORED }, 1, "all in int8" },
    { true, { STORED_SMOOTH, KEPT, STORED, KEPT }, 4, "some layers kept in bf16" },
    { true, { KEPT, STORED, PLAIN, STORED_SMOOTH }, 4, "layers in three types" },
    { true, { STORED, FINE, FINE, STORED_SMOOTH }, 4, "some with inputs in 16 bits" },
};

static void test_stored(void **state)
{
    struct encoder_shape shape = { 2, 128, 4, 512, WORDS, POSITIONS, 2 };
    struct rr_limits limits = { 400, 8, 200 };
    struct rr_error err = { 0 };
    int arch;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(folders); i++) {
        const struct folder *f = &folders[i];
        struct rr_device *d = open_as("int8", &arch);
        struct rr_memory stored, plain;
        struct stored *data;
        double expected[8], off;
        float logits[8];
        struct program p;
        struct batch b;

        if (!d) skip();
        program_init(&p, 99, false);
        program_encoder(&p, &shape);
        data = store_all(&p, f->kinds, f->n_kinds);
        p.p.mixed = f->mixed;
        add_batch(&b);
        program_evaluate(&p.p, &b.b, expected);
        run(d, &p, &limits, &b, logits);
        off = distance(&b, logits, expected);
        print_message("%s: %.2e\n", f->why, off);
        if (!(off <= 0.05)) fail_msg("%s: off by %g", f->why, off);
        assert_int_equal(backend()->plan(d, &p.p, &limits, &stored, &err), RR_OK);
        backend()->close(d);
        /* Bytes on the device tell whether int8 stayed int8: beside the tables, one for each weight
         * instead of two. */
        d = open_as("f16", &arch);
        assert_int_equal(backend()->plan(d, &p.p, &limits, &plain, &err), RR_OK);
        backend()->close(d);
        if (!f->mixed && !((double)stored.weights < 0.7 * (double)plain.weights))
            fail_msg("%s: %llu bytes, in f16 %llu", f->why, (unsigned long long)stored.weights,
                     (unsigned long long)plain.weights);
        free(data);
        batch_free(&b);
        program_free(&p);
    }
}

/* What a layer is kept in bf16 for: inputs beyond the range of f16.  Before 8.0, where f16 stands in,
 * the pairs are repeated in f32. */
static void test_range(void **state)
{
    struct rr_limits limits = { 400, 8, 200 };
    const uint32_t width = 64;
    double expected[8], off;
    float logits[8];
    struct program p;
    struct batch b;
    uint32_t x, in;
    struct rr_device *d;
    int arch;

    (void)state;
    d = open_as("int8", &arch);
    if (!d) skip();
    program_init(&p, 5, false);
    x = program_norm(&p, program_embed(&p, WORDS, POSITIONS, 2, width), 1e-5f, false);
    for (uint32_t j = 0; j < width; j++)
        ((float *)(uintptr_t)p.tensors[p.ops[1].u.norm.gamma].data)[j] = 1e4f * (float)(1 + j % 60);
    in = program_linear(&p, x, 1, &width, RR_ACT_NONE, RR_NONE, true);
    store(&p, p.ops[2].u.linear.weight[0], KEPT, NULL);
    x = program_norm(&p, in, 1e-5f, false);
    program_probe(&p, x);
    p.p.mixed = true;
    add_batch(&b);
    program_evaluate(&p.p, &b.b, expected);
    run(d, &p, &limits, &b, logits);
    off = distance(&b, logits, expected);
    print_message("range of bf16: %.2e\n", off);
    if (!(off <= 0.05)) fail_msg("off by %g", off);
    backend()->close(d);
    batch_free(&b);
    program_free(&p);
}

/* One NaN in a row must reach the logit, in 8 bits, too, which have none for it. */
static void test_nan(void **state)
{
    static const char *const dtypes[] = { "f16", "int8", "fp8" };
    struct rr_limits limits = { 400, 8, 200 };
    const uint32_t width = 64;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(dtypes); i++) {
        int arch;
        struct rr_device *d = open_as(dtypes[i], &arch);
        float logits[8];
        struct program p;
        struct batch b;
        uint32_t x;

        if (!d) continue;
        program_init(&p, 6, false);
        x = program_norm(&p, program_embed(&p, WORDS, POSITIONS, 2, width), 1e-5f, false);
        ((float *)(uintptr_t)p.tensors[p.ops[1].u.norm.gamma].data)[3] = NAN;
        program_probe(&p, program_linear(&p, x, 1, &width, RR_ACT_NONE, RR_NONE, true));
        add_batch(&b);
        run(d, &p, &limits, &b, logits);
        for (uint32_t s = 0; s < b.b.n_sequences; s++)
            if (!isnan(logits[s])) fail_msg("%s: %g, expected NaN", dtypes[i], (double)logits[s]);
        backend()->close(d);
        batch_free(&b);
        program_free(&p);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_nan),
    };

    if (argc > 1) backend_name = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
