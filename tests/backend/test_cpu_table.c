/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_table.c - embedding tables: large ones in f32 are kept in f16 by devices in int8 and
 * bf16, and nothing else about them changes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "../support/program.h"
#include "backend/cpu_backend.h"
#include "backend/registry.h"
#include "cpu/weights.h"

#define WORDS 5000 /* of 64 floats: more than the least size */
#define WIDTH 64

struct fixture {
    struct program p;
    struct batch b;
    uint32_t word; /* tensor */
};

static void setup(struct fixture *f)
{
    static const struct encoder_shape shape = { 1, WIDTH, 2, 64, WORDS, 100, 2 };
    uint64_t seed = 3;

    program_init(&f->p, 5, true);
    program_encoder(&f->p, &shape);
    batch_init(&f->b, 200, 8);
    for (uint32_t i = 0; i < 8; i++) batch_add(&f->b, 5 + 2 * i, WORDS, 2, 2, &seed);
    for (uint32_t i = 0; i < f->p.p.n_ops; i++)
        if (f->p.ops[i].kind == RR_OP_EMBED) f->word = f->p.ops[i].u.embed.word;
}

static void teardown(struct fixture *f)
{
    batch_free(&f->b);
    program_free(&f->p);
}

/* Logits, the type that words are read in, and the memory of the plan. */
static enum rr_dtype score(const struct fixture *f, const char *dtype, uint32_t threads,
                           float *logits, struct rr_memory *memory)
{
    struct rr_device_options opt = { .threads = threads, .dtype = dtype };
    struct rr_limits limits = { 200, 8, 50 };
    struct rr_error err = { 0 };
    enum rr_dtype found = RR_I8;
    struct rr_device *d;
    struct rr_loaded *l;

    if (rr_backend_cpu()->open(&d, &opt, &err)) fail_msg("%s", err.msg);
    if (rr_backend_cpu()->plan(d, &f->p.p, &limits, memory, &err)) fail_msg("%s", err.msg);
    if (rr_backend_cpu()->load(d, &f->p.p, &limits, &l, &err)) fail_msg("%s", err.msg);
    if (rr_backend_cpu()->run(l, &f->b.b, logits, &err)) fail_msg("%s", err.msg);
    for (uint32_t i = 0; i < l->n_steps; i++)
        if (l->steps[i].op.kind == RR_OP_EMBED) found = l->steps[i].word.dtype;
    rr_backend_cpu()->unload(l);
    rr_backend_cpu()->close(d);
    return found;
}

static void test_halves(void **state)
{
    static const char *const dtypes[] = { "int8", "bf16" };
    static uint16_t halves[WORDS * WIDTH];
    struct rr_memory memory[2];
    float own[8], given[8], f32[8];
    struct fixture f;

    (void)state;
    setup(&f);
    assert_true(rr_weights_to_f16(halves, f.p.tensors[f.word].data, WORDS * WIDTH));
    assert_int_equal(score(&f, "f32", 2, f32, &memory[0]), RR_F32);
    assert_true(memory[0].mapped >= WORDS * WIDTH * 4);
    for (size_t i = 0; i < RR_COUNT(dtypes); i++) {
        struct rr_tensor *t = &f.p.tensors[f.word], before = *t;

        assert_int_equal(score(&f, dtypes[i], 1 + (uint32_t)i, own, &memory[0]), RR_F16);
        t->data = halves;
        t->dtype = RR_F16;
        t->in_file = false;
        assert_int_equal(score(&f, dtypes[i], 2, given, &memory[1]), RR_F16);
        *t = before;
        assert_memory_equal(own, given, sizeof(own));
        assert_true(memory[0].mapped + WORDS * WIDTH * 2 == memory[1].mapped);
        assert_true(memory[0].weights >= memory[1].weights + WORDS * WIDTH * 2);
        for (int s = 0; s < 8; s++) assert_true(fabsf(own[s] - f32[s]) < 0.1f);
    }
    teardown(&f);
}

/* A word that f16 has no number for: the table stays in the file, as it is. */
static void test_too_large(void **state)
{
    struct rr_memory memory;
    float logits[8];
    struct fixture f;

    (void)state;
    setup(&f);
    ((float *)(uintptr_t)f.p.tensors[f.word].data)[WORDS * WIDTH - 1] = 65520;
    assert_int_equal(score(&f, "int8", 2, logits, &memory), RR_F32);
    for (int s = 0; s < 8; s++) assert_true(isfinite(logits[s]));
    ((float *)(uintptr_t)f.p.tensors[f.word].data)[WORDS * WIDTH - 1] = nextafterf(65520, 0);
    assert_int_equal(score(&f, "int8", 2, logits, &memory), RR_F16);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_too_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
