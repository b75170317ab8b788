/* SPDX-License-Identifier: Apache-2.0 */
/* test_cuda.c - what the CUDA plugin computes: the self-check, precisions, bits, numbers that a
 * precision does not have.  What goes wrong is in test_faults.c.
 *
 * test_cuda [BACKEND]: default cudaemul89, the plugin over the emulation.  With "cuda" it runs on a
 * GPU. */
#include "fixture.h"

/* ---- the self-check's expectations -------------------------------------------------------------- */

struct golden { /* struct Golden of plugins/cuda/plan.h */
    struct rr_program program;
    struct rr_batch batch, copies;
    struct rr_limits limits;
    const double *expected;
};
typedef const struct golden *golden_fn(void);

static void test_golden(void **state)
{
    void *symbol = plugin_symbol("rr_cuda_golden");
    const struct golden *g;
    double logits[16];
    golden_fn *find;

    (void)state;
    memcpy(&find, &symbol, sizeof(find));
    g = find();
    assert_true(g->batch.n_sequences <= RR_COUNT(logits));
    program_evaluate(&g->program, &g->batch, logits);
    for (uint32_t s = 0; s < g->batch.n_sequences; s++)
        if (fabs(logits[s] - g->expected[s]) > 1e-9)
            fail_msg("the self-check's logits are %.12g, %.12g, %.12g; golden.cc has %.12g at %u",
                     logits[0], logits[1], logits[2], g->expected[s], s);
}

/* ---- precisions --------------------------------------------------------------------------------- */

static void check_precision(const struct network *n, const struct precision *p,
                            const double *expected)
{
    struct fixture f;
    double off;

    fixture_open(&f, n, p->dtype);
    fixture_must_run(&f);
    off = fixture_off(&f, expected);
    print_message("%s, %s: %.2e\n", n->why, p->dtype, off);
    if (!(off <= p->tolerance))
        fail_msg("%s in %s: off by %g, allowed %g", n->why, p->dtype, off, p->tolerance);
    assert_int_equal(fixture_repeated(&f), 0);
    fixture_free(&f);
}

static void test_precisions(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(networks); i++) {
        double expected[8];
        struct fixture f;

        fixture_make(&f, &networks[i]);
        program_evaluate(&f.p.p, &f.b.b, expected);
        fixture_free(&f);
        for (size_t j = 0; j < RR_COUNT(precisions); j++)
            if (has(&precisions[j])) check_precision(&networks[i], &precisions[j], expected);
    }
}

/* The bits of a score do not depend on what else is in the batch. */
static void test_neighbours(void **state)
{
    (void)state;
    for (size_t j = 0; j < RR_COUNT(precisions); j++) {
        struct fixture f;

        if (!has(&precisions[j])) continue;
        fixture_open(&f, &networks[3], precisions[j].dtype);
        fixture_must_run(&f);
        fixture_check_alone(&f, precisions[j].dtype);
        fixture_free(&f);
    }
}

/* ---- attention in 16 bits ------------------------------------------------------------------------ */

#define LONG_POSITIONS 600

/* With the last word in the last token of every second sequence that has others: it is NaN or infinite
 * in all columns, the other sequences keep their bits. */
static void check_none_leaks(struct fixture *f, const struct rr_limits *limits, const char *why)
{
    static const float none[] = { NAN, INFINITY };

    for (size_t i = 0; i < RR_COUNT(none); i++) {
        uint32_t width = f->p.registers[0].width;
        float *word = (float *)(uintptr_t)f->p.tensors[0].data + (size_t)(WORDS - 1) * width;
        float before[8];

        memcpy(before, f->logits, sizeof(before));
        for (uint32_t j = 0; j < width; j++) word[j] = none[i];
        for (uint32_t s = 1; s < f->b.b.n_sequences; s += 2) f->b.ids[f->b.cu[s + 1] - 1] = WORDS - 1;
        backend()->unload(f->l);
        if (backend()->load(f->d, &f->p.p, limits, &f->l, &f->err)) fail_msg("load: %s", f->err.msg);
        fixture_must_run(f);
        for (uint32_t s = 0; s < f->b.b.n_sequences; s += 2)
            if (memcmp(&before[s], &f->logits[s], sizeof(before[s])) != 0)
                fail_msg("%s: sequence %u beside %g: %.9g, before %.9g", why, s, (double)none[i],
                         (double)f->logits[s], (double)before[s]);
    }
}

static void check_attention(const struct attention_view *c, const struct precision *p,
                            const uint32_t *lengths)
{
    const struct rr_limits limits = { LONG_POSITIONS, 8, LONG_POSITIONS };
    double expected[8], off;
    struct fixture f = { 0 };
    uint64_t seed = 5;

    program_init(&f.p, 4711, true);
    program_view(&f.p, c, WORDS, LONG_POSITIONS, TYPES);
    batch_init(&f.b, LONG_POSITIONS, 8);
    batch_clear(&f.b);
    for (; *lengths; lengths++) batch_add(&f.b, *lengths, WORDS - 1, 2, TYPES, &seed);
    program_evaluate(&f.p.p, &f.b.b, expected);
    f.d = open_as(p->dtype);
    if (backend()->load(f.d, &f.p.p, &limits, &f.l, &f.err)) fail_msg("load: %s", f.err.msg);
    fixture_must_run(&f);
    off = fixture_off(&f, expected);
    if (!(off <= p->tolerance))
        fail_msg("%s, %s: off by %g, allowed %g", c->why, p->dtype, off, p->tolerance);
    assert_int_equal(fixture_repeated(&f), 0);
    fixture_check_alone(&f, c->why);
    check_none_leaks(&f, &limits, c->why);
    fixture_free(&f);
}

static void test_attention(void **state)
{
    static const struct attention_view cases[] = {
        { 2, 2, 64, 0, false, false, false, "attention" },
        { 2, 1, 64, 0, true, false, false, "causal, two heads share keys" },
        { 1, 1, 64, 20, false, false, false, "window" },
        { 1, 1, 64, 100, true, false, false, "causal window" },
        { 3, 3, 64, 0, false, true, false, "first token" },
        { 2, 2, 64, 70, true, true, true, "last token, window" },
    };
    static const uint32_t lengths[][8] = { { 128, 129, 64, 65, 1, 63, 127 }, { 320, 200 }, { 512 } };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++)
        for (size_t j = 1; j <= 2; j++) /* f16, bf16 */
            for (size_t k = 0; k < RR_COUNT(lengths); k++)
                if (has(&precisions[j])) check_attention(&cases[i], &precisions[j], lengths[k]);
}

/* ---- numbers that are none ---------------------------------------------------------------------- */

/* A NaN that is computed comes back as one, after it was tried in f32. */
static void test_nan(void **state)
{
    (void)state;
    for (size_t j = 0; j < RR_COUNT(precisions); j++) {
        bool f32 = strcmp(precisions[j].dtype, "f32") == 0;
        struct fixture f;

        if (!has(&precisions[j])) continue;
        fixture_make(&f, &networks[0]);
        ((float *)(uintptr_t)f.p.tensors[0].data)[(size_t)f.b.ids[f.b.cu[2]] * 64] = NAN;
        f.d = open_as(precisions[j].dtype);
        assert_int_equal(fixture_load(&f), RR_OK);
        fixture_must_run(&f);
        assert_true(isnan(f.logits[2]));
        assert_true(f32 ? fixture_repeated(&f) == 0 : fixture_repeated(&f) >= 1);
        fixture_free(&f);
    }
}

/* Values so large that some sequences have one beyond f16 and others have not: those are repeated in
 * f32, the others keep the bits that they have alone.  Returns whether the factor is such a one. */
static bool check_repeated(const struct network *n, const struct precision *p, float factor)
{
    bool bf16 = strcmp(p->dtype, "bf16") == 0, some, all;
    double expected[8], off;
    struct fixture f;
    uint64_t count;

    fixture_make(&f, n);
    program_evaluate(&f.p.p, &f.b.b, expected);
    enlarge_values(&f.p, factor);
    f.d = open_as(p->dtype);
    if (fixture_load(&f)) fail_msg("load: %s", f.err.msg);
    fixture_must_run(&f);
    count = fixture_repeated(&f);
    some = count > 0;
    all = count == f.b.b.n_sequences;
    off = fixture_off(&f, expected);
    if (!(off <= p->tolerance))
        fail_msg("%s in %s, times %g: off by %g, allowed %g; %u repeated", n->why, p->dtype,
                 (double)factor, off, p->tolerance, (unsigned)count);
    if (bf16) assert_false(some); /* it has the range of f32 */
    if (some && !all) {
        fixture_check_alone(&f, p->dtype);
        assert_int_equal(fixture_repeated(&f), 2 * count);
        print_message("%s, %s: %u of %u in f32 for values times %g, off by %.2e\n", n->why,
                      p->dtype, (unsigned)count, f.b.b.n_sequences, (double)factor, off);
    }
    fixture_free(&f);
    return bf16 || (some && !all);
}

/* Where the driver does not let kernels begin early, which only the emulation can say: the same. */
static void test_one_by_one(void **state)
{
    float early[8];
    struct fixture f;

    (void)state;
    fixture_open(&f, &networks[0], "f16");
    fixture_must_run(&f);
    memcpy(early, f.logits, sizeof(early));
    fixture_free(&f);
    setenv("EMUL_NO_EARLY", "1", 1);
    fixture_open(&f, &networks[0], "f16");
    fixture_must_run(&f);
    unsetenv("EMUL_NO_EARLY");
    assert_memory_equal(f.logits, early, f.b.b.n_sequences * sizeof(*early));
    fixture_free(&f);
}

static void test_repeated(void **state)
{
    static const size_t which[] = { 0, 3 }; /* an encoder, a decoder */

    (void)state;
    for (size_t i = 0; i < RR_COUNT(which); i++)
        for (size_t j = 1; j < RR_COUNT(precisions); j++) { /* f32 has nothing better */
            float factor = 20000;
            int tries = 0;

            if (!has(&precisions[j])) continue;
            while (!check_repeated(&networks[which[i]], &precisions[j], factor)) {
                if (++tries > 16) fail_msg("%s: no factor was too large", precisions[j].dtype);
                factor *= 1.3f;
            }
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_precisions),
        cmocka_unit_test(test_neighbours), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_nan),        cmocka_unit_test(test_repeated),
        cmocka_unit_test(test_one_by_one),
    };

    if (argc > 1) backend_name = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
