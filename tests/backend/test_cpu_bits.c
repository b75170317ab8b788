/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_bits.c - a score is a function of its sequence alone: the same bits whatever else is in
 * the batch, in whatever order, with any number of threads, in chunks or by the team, with any size
 * of chunk and block.  Also: the choice of the instruction set level. */
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../support/levels.h"
#include "../support/program.h"
#include "backend/cpu_backend.h"
#include "backend/registry.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cpu/features.h"

#define WORDS 60
#define POSITIONS 300
#define TYPES 2
#define MAX_TOKENS 1024
#define MAX_SEQUENCES 32

/* Sizes that are no multiples of any panel or register tile. */
static const struct encoder_shape shape = { 2, 84, 3, 148, WORDS, POSITIONS, TYPES };

struct fixture {
    struct program p;
    struct batch b;
    float alone[MAX_SEQUENCES]; /* each sequence in a batch of its own, one thread */
    const struct rr_kern *kern;
    const char *dtype;
};

static void run(struct rr_loaded *l, const struct batch *b, float *logits)
{
    struct rr_error err = { 0 };

    memset(logits, 0xFF, b->b.n_sequences * sizeof(*logits));
    if (rr_backend_cpu()->run(l, &b->b, logits, &err)) fail_msg("run: %s", err.msg);
}

static struct rr_loaded *load(const struct fixture *f, uint32_t threads,
                              const struct rr_cpu_tuning *tuning, struct rr_device **d)
{
    struct rr_device_options opt = { .threads = threads, .isa = f->kern->name,
                                     .dtype = strcmp(f->dtype, "mixed") ? f->dtype : "int8" };
    struct rr_limits limits = { MAX_TOKENS, MAX_SEQUENCES, 200 };
    struct rr_error err = { 0 };
    struct rr_loaded *l;

    if (rr_backend_cpu()->open(d, &opt, &err)) fail_msg("open: %s", err.msg);
    if (tuning) *rr_cpu_tuning(*d) = *tuning;
    if (rr_backend_cpu()->load(*d, &f->p.p, &limits, &l, &err)) fail_msg("load: %s", err.msg);
    return l;
}

static void unload(struct rr_loaded *l, struct rr_device *d)
{
    rr_backend_cpu()->unload(l);
    rr_backend_cpu()->close(d);
}

/* Some weights in int8, smoothed and not, some of inputs in 16 bits, some in bf16, the others as they
 * are: what "rerankd quantize" makes.  Or, with only >= 0, all of one kind.  "mixed" is no name of a
 * device's precision: it is opened in int8. */
enum { SMOOTHED, INT8, BF16, AS_IT_IS, FINE, KINDS };

static void mix(struct program *p, int only)
{
    static float factors[2 * 148], scales[PROGRAM_MAX][3 * 84 + 148];
    static int8_t data[PROGRAM_MAX][84 * 148];
    uint32_t n_layers = 0;

    for (uint32_t j = 0; j < RR_COUNT(factors); j++) factors[j] = 0.5f + (float)(j % 7) / 4;
    for (uint32_t i = 0; i < p->p.n_ops; i++) {
        const struct rr_op_linear *l = &p->ops[i].u.linear;
        uint32_t kind = only < 0 ? n_layers % KINDS : (uint32_t)only;

        if (p->ops[i].kind != RR_OP_LINEAR) continue;
        n_layers++;
        for (uint32_t part = 0; part < l->n_parts; part++) {
            struct rr_tensor *t = &p->tensors[l->weight[part]];
            size_t n = (size_t)t->shape[0] * t->shape[1];

            if (kind == AS_IT_IS) continue;
            for (size_t j = 0; j < n; j++) {
                double v = tensor_value(t, j);
                float f = (float)v;
                uint32_t bits;

                data[l->weight[part]][j] = (int8_t)RR_MAX(-127.0, RR_MIN(v * 300, 127.0));
                memcpy(&bits, &f, 4);
                if (kind == BF16) ((uint16_t *)(uintptr_t)t->data)[j] = (uint16_t)(bits >> 16);
            }
            if (kind == BF16) {
                t->dtype = RR_BF16;
                continue;
            }
            for (uint32_t o = 0; o < t->shape[0]; o++)
                scales[l->weight[part]][o] = (1 + (float)(o % 5) / 8) / 300;
            t->dtype = RR_I8;
            t->data = data[l->weight[part]];
            t->scale = scales[l->weight[part]];
            t->smooth = kind == SMOOTHED || (kind == FINE && n_layers % 2) ? factors : NULL;
            t->fine = kind == FINE;
            t->in_file = false;
        }
    }
    p->p.mixed = true;
}

static void setup(struct fixture *f, const struct rr_kern *kern, const char *dtype)
{
    static const uint32_t lengths[] = { 3, 70, 17, 64, 1, 150, 33, 12, 32, 32, 7, 2, 25, 5 };
    uint64_t seed = 99;
    struct rr_loaded *l;
    struct rr_device *d;
    struct batch one;

    f->kern = kern;
    f->dtype = dtype;
    program_init(&f->p, 2, true);
    program_encoder(&f->p, &shape);
    if (strcmp(dtype, "mixed") == 0) mix(&f->p, -1);
    batch_init(&f->b, MAX_TOKENS, MAX_SEQUENCES);
    for (size_t i = 0; i < RR_COUNT(lengths); i++)
        batch_add(&f->b, lengths[i], WORDS, 2, TYPES, &seed);
    batch_init(&one, MAX_TOKENS, 1);
    l = load(f, 1, NULL, &d);
    for (uint32_t i = 0; i < f->b.b.n_sequences; i++) {
        batch_clear(&one);
        batch_add_from(&one, &f->b, i);
        run(l, &one, &f->alone[i]);
    }
    unload(l, d);
    batch_free(&one);
}

static void teardown(struct fixture *f)
{
    batch_free(&f->b);
    program_free(&f->p);
}

/* Runs the sequences order[0 .. n) together and compares bits. */
static void check_order(const struct fixture *f, struct rr_loaded *l, const uint32_t *order,
                        uint32_t n, const char *what)
{
    float logits[MAX_SEQUENCES];
    struct batch b;

    batch_init(&b, MAX_TOKENS, MAX_SEQUENCES);
    for (uint32_t i = 0; i < n; i++) batch_add_from(&b, &f->b, order[i]);
    run(l, &b, logits);
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(&logits[i], &f->alone[order[i]], sizeof(float)) != 0)
            fail_msg("%s %s, %s, %u sequences: sequence %u: %a, alone %a", f->kern->name,
                     f->dtype, what, n, order[i], (double)logits[i],
                     (double)f->alone[order[i]]);
    batch_free(&b);
}

static void check_batches(const struct fixture *f, struct rr_loaded *l, const char *what)
{
    uint32_t order[MAX_SEQUENCES], n = f->b.b.n_sequences;
    uint64_t seed = 31;

    for (uint32_t i = 0; i < n; i++) order[i] = i;
    check_order(f, l, order, n, what);
    for (uint32_t i = n; i > 1; i--) { /* shuffled, then the shuffled list in parts */
        uint32_t j = random_below(&seed, i), t = order[i - 1];

        order[i - 1] = order[j];
        order[j] = t;
    }
    check_order(f, l, order, n, what);
    for (uint32_t i = 0, part; i < n; i += part) {
        part = 1 + random_below(&seed, 5);
        part = RR_MIN(part, n - i);
        check_order(f, l, order + i, part, what);
    }
}

/* Every way of cutting the work. */
static const struct {
    uint32_t threads;
    struct rr_cpu_tuning t; /* chunk, solo and team tokens, block rows, mode, least, batch */
    const char *why;
} ways[] = {
    { 1, { 256, 1024, 1024, 264, RR_CPU_AUTO, 32, 512 }, "one thread" },
    { 2, { 256, 1024, 1024, 264, RR_CPU_AUTO, 32, 512 }, "two threads" },
    { 3, { 256, 1024, 1024, 264, RR_CPU_AUTO, 32, 512 }, "three threads" },
    { 2, { 640, 640, 1024, 576, RR_CPU_AUTO, 256, 1280 }, "two threads, as for tiles" },
    { 4, { 256, 1024, 1024, 264, RR_CPU_CHUNKS, 32, 512 }, "chunks" },
    { 4, { 256, 1024, 1024, 264, RR_CPU_TEAM, 32, 512 }, "team" },
    { 2, { 1, 1024, 1024, 24, RR_CPU_CHUNKS, 32, 512 }, "chunks of one sequence, small blocks" },
    { 1, { 256, 1024, 1024, 1, RR_CPU_CHUNKS, 32, 512 }, "blocks of one row" },
    { 3, { 64, 64, 64, 48, RR_CPU_AUTO, 32, 512 }, "long ones by the team, the rest in chunks" },
    { 2, { 128, 1, 300, 48, RR_CPU_AUTO, 32, 512 }, "nearly all by the team, several pieces" },
    { 1, { 64, 64, 64, 48, RR_CPU_TEAM, 32, 512 }, "a team of one" },
};

static void check_ways(const struct rr_kern *kern, const char *dtype)
{
    struct fixture f;

    setup(&f, kern, dtype);
    for (size_t w = 0; w < RR_COUNT(ways); w++) {
        struct rr_device *d;
        struct rr_loaded *l = load(&f, ways[w].threads, &ways[w].t, &d);

        check_batches(&f, l, ways[w].why);
        unload(l, d);
    }
    teardown(&f);
}

static void test_bits(void **state)
{
    static const char *const dtypes[] = { "f32", "bf16", "int8", "mixed" };
    uint32_t n;
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    (void)state;
    for (uint32_t i = 0; i < n; i++)
        for (size_t t = 0; t < RR_COUNT(dtypes); t++)
            if (levels_wanted(levels[i])) check_ways(levels[i], dtypes[t]);
}

/* The caller's rounding mode must not reach the results, and must be his again afterwards. */
static void test_callers_rounding(void **state)
{
    static const uint32_t order[] = { 1, 5, 3 };
    struct rr_loaded *l;
    struct rr_device *d;
    struct fixture f;
    int after;

    (void)state;
    setup(&f, rr_kern_pick(rr_cpu_flags(), NULL), "f32");
    l = load(&f, 2, NULL, &d);
    fesetround(FE_UPWARD);
    check_order(&f, l, order, 3, "rounding upward");
    after = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(after, FE_UPWARD);
    unload(l, d);
    teardown(&f);
}

static _Atomic uint64_t ticks;

static uint64_t tick(void)
{
    return atomic_fetch_add(&ticks, 1);
}

/* Every operation's time is counted, that of converting inputs where there is any and no norm does it
 * beside its own work, and no score changes by it. */
static void check_profile(const char *dtype, enum rr_cpu_mode mode)
{
    static const uint32_t order[] = { 1, 5, 3, 0 };
    struct rr_cpu_tuning t = { 256, 1024, 1024, 264, mode, 32, 512 };
    struct rr_cpu_time times[2][PROGRAM_MAX] = { 0 };
    struct rr_loaded *l;
    struct rr_device *d;
    struct fixture f;

    setup(&f, rr_kern_pick(rr_cpu_flags(), NULL), dtype);
    l = load(&f, 2, &t, &d);
    rr_clock_fake(tick);
    rr_cpu_profile(l, times[0]);
    check_order(&f, l, order, RR_COUNT(order), "measured");
    rr_cpu_profile(l, NULL);
    rr_clock_fake(NULL);
    for (uint32_t i = 0; i < l->n_steps; i++) {
        const struct rr_cpu_time *one = &times[0][i], *two = &times[0][l->n_steps + i];
        bool paired = i && l->steps[i - 1].op.kind == RR_OP_NORM;

        assert_true(one->all + two->all > one->convert + two->convert);
        assert_int_equal(one->convert + two->convert > 0,
                         l->steps[i].op.kind == RR_OP_LINEAR && l->steps[i].linear.narrow &&
                             !paired);
    }
    unload(l, d);
    teardown(&f);
}

static void test_profile(void **state)
{
    (void)state;
    check_profile("f32", RR_CPU_CHUNKS);
    check_profile("int8", RR_CPU_CHUNKS);
    check_profile("int8", RR_CPU_TEAM);
}

/* The batch by a device opened in f32 and by one in int8. */
static void run_both(struct fixture *f, float logits[2][MAX_SEQUENCES])
{
    static const char *const dtypes[] = { "f32", "int8" };

    for (int i = 0; i < 2; i++) {
        struct rr_device *d;
        struct rr_loaded *l;

        f->dtype = dtypes[i];
        l = load(f, 1, NULL, &d);
        run(l, &f->b, logits[i]);
        unload(l, d);
    }
}

/* A mixed program is near its own f32 form (which the device opened in f32 makes of it), and not the
 * same: the stored int8 weights and the factors of their inputs are used, and rightly. */
static void test_mixed(void **state)
{
    const struct rr_kern *kern = rr_kern_pick(rr_cpu_flags(), NULL);
    float logits[2][MAX_SEQUENCES], most = 0, spread = 0;
    struct fixture f;

    (void)state;
    setup(&f, kern, "mixed");
    run_both(&f, logits);
    for (uint32_t s = 0; s < f.b.b.n_sequences; s++) {
        most = RR_MAX(most, fabsf(logits[0][s] - logits[1][s]));
        spread = RR_MAX(spread, fabsf(logits[0][s] - logits[0][0]));
    }
    if (!(most > 0 && most < 0.1f * spread))
        fail_msg("largest difference %g, logits are %g apart", (double)most, (double)spread);
    teardown(&f);
}

/* Largest difference between logits of a program with all weights of one kind in int8 and of the
 * same weights in f32. */
static float lost(const struct rr_kern *kern, int kind)
{
    float logits[2][MAX_SEQUENCES], most = 0;
    struct fixture f;

    setup(&f, kern, "f32");
    mix(&f.p, kind);
    run_both(&f, logits);
    for (uint32_t s = 0; s < f.b.b.n_sequences; s++)
        most = RR_MAX(most, fabsf(logits[0][s] - logits[1][s]));
    teardown(&f);
    return most;
}

/* What inputs of 16 bits are for. */
static void test_fine(void **state)
{
    uint32_t n;
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    (void)state;
    for (uint32_t i = 0; i < n; i++) {
        /* Where the weights of int8 are limited, these become others, of 16 bits. */
        float coarse, fine, least = levels[i]->i8_wtop < RR_I8_WFREE ? 3 : 10;

        if ((levels[i]->needs & rr_cpu_flags()) != levels[i]->needs) continue;
        coarse = lost(levels[i], INT8);
        fine = lost(levels[i], FINE);
        print_message("%s: %g, inputs in 16 bits %g\n", levels[i]->name, (double)coarse,
                      (double)fine);
        if (!(coarse > 0 && fine < coarse / least))
            fail_msg("%s: off by %g, with inputs in 16 bits by %g", levels[i]->name,
                     (double)coarse, (double)fine);
    }
}

/* Layers that are kept beside int8 are kept for their accuracy: a level whose own bf16 is coarser
 * takes another's whole numbers, for attention, too, so that both have the same scores. */
static void test_kept_as_exact(void **state)
{
    uint32_t n;
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    (void)state;
    for (uint32_t i = 0; i < n; i++) {
        const struct rr_kern *const pair[] = { levels[i], levels[i]->i16 };
        struct fixture f[2];

        if ((levels[i]->needs & rr_cpu_flags()) != levels[i]->needs) continue;
        if (!pair[1] || pair[0] == pair[1]) continue;
        assert_true(pair[1]->linear_i16 && pair[1]->attention_i16 && pair[1]->quantize_i16);
        assert_int_equal(pair[1]->needs & ~pair[0]->needs, 0);
        for (int j = 0; j < 2; j++) setup(&f[j], pair[j], "mixed");
        for (uint32_t s = 0; s < f[0].b.b.n_sequences; s++) {
            float got = f[0].alone[s], want = f[1].alone[s];

            if (!(fabsf(got - want) <= 1e-5f * (1 + fabsf(want))))
                fail_msg("%s, sequence %u: %.9g, %s: %.9g", pair[0]->name, s, (double)got,
                         pair[1]->name, (double)want);
        }
        for (int j = 0; j < 2; j++) teardown(&f[j]);
    }
}

/* Weights that are not in a file must survive the load, which drops file pages. */
static void test_anonymous_weights(void **state)
{
    struct encoder_shape big = { 1, 512, 8, 1024, WORDS, 64, 0 };
    struct rr_device_options opt = { .threads = 2 };
    struct rr_limits limits = { 64, 2, 64 };
    struct rr_error err = { 0 };
    struct rr_device *d;
    struct program p;
    float logit[2];
    struct batch b;
    uint64_t seed = 3;

    (void)state;
    program_init(&p, 8, false);
    program_encoder(&p, &big);
    batch_init(&b, 64, 2);
    batch_add(&b, 20, WORDS, 2, 0, &seed);
    assert_int_equal(rr_backend_cpu()->open(&d, &opt, &err), RR_OK);
    for (int i = 0; i < 2; i++) {
        struct rr_loaded *l;

        assert_int_equal(rr_backend_cpu()->load(d, &p.p, &limits, &l, &err), RR_OK);
        run(l, &b, &logit[i]);
        rr_backend_cpu()->unload(l);
    }
    assert_memory_equal(&logit[0], &logit[1], sizeof(logit[0]));
    rr_backend_cpu()->close(d);
    batch_free(&b);
    program_free(&p);
}

/* ---- the instruction set level ----------------------------------------------------------------- */

static int warnings;

static void count_warnings(void *user, int severity, const char *line)
{
    (void)user;
    (void)line;
    if (severity == RR_WARN) warnings++;
}

static void wrong_norm(float *y, size_t ldy, const float *x, size_t ldx, const float *gamma,
                       const float *beta, uint32_t m, uint32_t n, float eps)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->layernorm_f32(y, ldy, x, ldx, gamma, beta, m, n, eps);
    y[(m - 1) * ldy + n - 1] += 0.01f; /* one element */
}

static void wrong_convert(float *y, const void *src, enum rr_dtype dtype, size_t n)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->convert(y, src, dtype, n);
    if (dtype == RR_F16) y[3] = -y[3];
}

/* One sum is off by one. */
static void wrong_linear_i8(const struct rr_linear_i8 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->linear_i8(a);
    a->y[a->n - 1] += a->x.scale[0] * a->w_scale[a->n - 1];
}

/* A byte of the last row. */
static void wrong_layernorm_i8(const struct rr_layernorm_i8 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->layernorm_i8(a);
    a->out.q[(a->m - 1) * a->out.ld + a->n - 1] ^= 1;
}

/* Rounds down instead of to the nearest. */
static void wrong_round_bf16(uint16_t *y, size_t ldy, const float *x, size_t ldx, uint32_t m,
                             uint32_t k)
{
    uint32_t bits;

    rr_kern_levels(&(uint32_t){ 0 })[0]->round_bf16(y, ldy, x, ldx, m, k);
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < k; j++) {
            memcpy(&bits, &x[i * ldx + j], 4);
            y[i * ldy + j] = (uint16_t)(bits >> 16);
        }
}

static void wrong_rotary(float *x, uint32_t heads, uint32_t head_dim, const float *cosines,
                         const float *sines, uint32_t n)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->rotary_f32(x, heads, head_dim, sines, cosines, n);
}

static void wrong_attention(const struct rr_attention_f32 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->attention_f32(a);
    a->y[(a->n_q - 1) * a->ldy] += 0.001f;
}

static void wrong_attention_bf16(const struct rr_attention_f32 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->attention_bf16(a);
    a->y[(a->n_q - 1) * a->ldy] += 0.002f;
}

/* Right but from rows that are in bf16 already. */
static void wrong_attention_kept(const struct rr_attention_f32 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->attention_bf16(a);
    if (a->q16) a->y[0] += 0.001f;
}

/* Right but for results in bf16. */
static void wrong_attention_half(const struct rr_attention_f32 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->attention_f32(a);
    if (a->half.y) a->half.y[a->head_dim - 1] ^= 1;
}

/* Right but for results in f16. */
static void wrong_linear_half(const struct rr_linear_i8 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->linear_i8(a);
    if (a->half.y) a->half.y[0] ^= 1;
}

static void wrong_linear_i16(const struct rr_linear_i16 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->linear_i16(a);
    a->y[(a->m - 1) * a->ldy] *= 1 + 0x1p-22f;
}

/* Right but of rows in f16. */
static void wrong_quantize_f16(const struct rr_rows_i8 *out, const void *x, enum rr_dtype dtype,
                               size_t ldx, const float *smooth, uint32_t m, uint32_t k)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->quantize_i8(out, x, dtype, ldx, smooth, m, k);
    if (dtype == RR_F16) out->q[(m - 1) * out->ld] ^= 1;
}

static void wrong_attention_i16(const struct rr_attention_f32 *a)
{
    rr_kern_levels(&(uint32_t){ 0 })[0]->attention_i16(a);
    a->y[(a->n_q - 1) * a->ldy] += 0.002f;
}

static void test_isa(void **state)
{
    uint32_t n;
    struct rr_kern good = *rr_kern_levels(&n)[0], norm = good, convert = good, absent = good;
    struct rr_kern i8 = good, norm_i8 = good, bf16 = good, attention = good,
                   narrow = good, whole = good, rotary = good, kept = good, half = good,
                   rows = good, i16 = good, below = good, short_y = good;
    const struct rr_kern *const levels[] = { rr_kern_levels(&n)[0], &good, &norm, &convert, &i8,
                                             &norm_i8, &bf16, &attention, &narrow, &whole,
                                             &rotary, &kept, &half, &rows, &i16,
                                             &below, &short_y, &absent };
    static const struct {
        const char *name;
        int code;
        int level; /* index, or -1 */
        int warnings;
        const char *words, *why;
    } cases[] = {
        { NULL, RR_OK, 1, 15, "", "steps down over those that compute wrongly" },
        { "auto", RR_OK, 1, 15, "", "the same by name" },
        { "good", RR_OK, 1, 0, "", "by name" },
        { "ref", RR_OK, 0, 0, "", "the reference itself" },
        { "norm", RR_EDEVICE, -1, 0, "layernorm differs", "asked for, but wrong" },
        { "convert", RR_EDEVICE, -1, 0, "convert differs", "asked for, but wrong" },
        { "i8", RR_EDEVICE, -1, 0, "linear int8 differs", "one step in one sum" },
        { "norm_i8", RR_EDEVICE, -1, 0, "layernorm int8 differs", "one bit of one row" },
        { "bf16", RR_EDEVICE, -1, 0, "linear bf16 differs", "through its rounded rows" },
        { "attention", RR_EDEVICE, -1, 0, "attention differs", "one value, by a thousandth" },
        { "narrow", RR_EDEVICE, -1, 0, "attention bf16 differs", "one value, by two thousandths" },
        { "whole", RR_EDEVICE, -1, 0, "attention i16 differs", "one value, by two thousandths" },
        { "rotary", RR_EDEVICE, -1, 0, "rotary differs", "cosines for sines" },
        { "kept", RR_EDEVICE, -1, 0, "attention of bf16 differs", "rows that were in bf16" },
        { "half", RR_EDEVICE, -1, 0, "linear int8 in f16 differs", "one bit of one result" },
        { "rows", RR_EDEVICE, -1, 0, "quantize int8 of f16 differs", "one step of one row" },
        { "i16", RR_EDEVICE, -1, 0, "linear i16 differs", "one result, by two bits" },
        { "below", RR_EDEVICE, -1, 0, "linear i16 differs", "in the level that it asks" },
        { "short_y", RR_EDEVICE, -1, 0, "attention in bf16 differs", "one bit of one result" },
        { "absent", RR_ENOTSUP, -1, 0,
          "'absent' is not offered by this processor; this machine has: auto, ref, good, norm, "
          "convert, i8, norm_i8, bf16, attention, narrow, whole, rotary, kept, half, rows, "
          "i16, below, short_y", "flags are missing" },
        { "mmx", RR_ENOTSUP, -1, 0, "'mmx' is not known", "no such level" },
    };

    (void)state;
    good.name = "good";
    norm.name = "norm";
    norm.layernorm_f32 = wrong_norm;
    convert.name = "convert";
    convert.convert = wrong_convert;
    i8.name = "i8";
    i8.linear_i8 = wrong_linear_i8;
    norm_i8.name = "norm_i8";
    norm_i8.layernorm_i8 = wrong_layernorm_i8;
    bf16.name = "bf16";
    bf16.round_bf16 = wrong_round_bf16;
    attention.name = "attention";
    attention.attention_f32 = wrong_attention;
    narrow.name = "narrow";
    narrow.attention_bf16 = wrong_attention_bf16;
    whole.name = "whole";
    whole.attention_i16 = wrong_attention_i16;
    rotary.name = "rotary";
    rotary.rotary_f32 = wrong_rotary;
    kept.name = "kept";
    kept.attention_bf16 = wrong_attention_kept;
    half.name = "half";
    half.linear_i8 = wrong_linear_half;
    rows.name = "rows";
    rows.quantize_i8 = wrong_quantize_f16;
    i16.name = "i16";
    i16.linear_i16 = wrong_linear_i16;
    below.name = "below";
    below.i16 = &i16;
    short_y.name = "short_y";
    short_y.attention_f32 = wrong_attention_half;
    absent.name = "absent";
    absent.needs = 1u << 30;
    rr_log_set(count_warnings, NULL, RR_DEBUG);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        const struct rr_kern *k;
        struct rr_error err = { 0 };
        int rc;

        warnings = 0;
        rc = rr_cpu_isa(&k, levels, RR_COUNT(levels), 0, cases[i].name, &err);
        if (rc != cases[i].code || !strstr(err.msg, cases[i].words))
            fail_msg("%s: %d '%s'", cases[i].why, rc, err.msg);
        assert_ptr_equal(k, cases[i].level < 0 ? NULL : levels[cases[i].level]);
        assert_int_equal(warnings, cases[i].warnings);
    }
    rr_log_set(NULL, NULL, RR_INFO);
}

/* A level that is compiled with another's instructions runs where those are, too. */
static void test_needs(void **state)
{
    static const char *const pairs[][2] = {
        { "avxvnni", "avx2" },   { "avx512vnni", "avx512" }, { "avx512bf16", "avx512vnni" },
        { "amx", "avx512bf16" }, { "i8mm", "dotprod" },      { "dotprod", "neon" },
    };
    uint32_t n, found = 0;
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    (void)state;
    for (size_t i = 0; i < RR_COUNT(pairs); i++) {
        const struct rr_kern *upper = NULL, *lower = NULL;

        for (uint32_t l = 0; l < n; l++) {
            if (strcmp(levels[l]->name, pairs[i][0]) == 0) upper = levels[l];
            if (strcmp(levels[l]->name, pairs[i][1]) == 0) lower = levels[l];
        }
        if (!upper || !lower) continue; /* of another architecture */
        found++;
        if ((upper->needs & lower->needs) != lower->needs)
            fail_msg("%s lacks flags of %s", pairs[i][0], pairs[i][1]);
    }
    assert_true(found > 0);
}

static void test_options(void **state)
{
    static const struct {
        struct rr_device_options opt;
        int code;
        const char *words;
    } cases[] = {
        { { .threads = 1 }, RR_OK, "" },
        { { .threads = 0, .dtype = "auto" }, RR_OK, "" },
        { { .threads = 1, .dtype = "f32", .isa = "ref" }, RR_OK, "" },
        { { .index = 1 }, RR_ENOENT, "no CPU device 1" },
        { { .threads = 5000 }, RR_EINVAL, "5000 compute threads" },
        { { .threads = 1, .dtype = "f64" }, RR_ENOTSUP, "'f64', it has: auto, f32" },
        { { .threads = 1, .isa = "sse9" }, RR_ENOTSUP, "'sse9' is not known" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct rr_device_info info;
        struct rr_error err = { 0 };
        struct rr_device *d;
        int rc = rr_backend_cpu()->open(&d, &cases[i].opt, &err);

        if (rc != cases[i].code || !strstr(err.msg, cases[i].words))
            fail_msg("row %zu: %d '%s'", i, rc, err.msg);
        if (rc) {
            assert_null(d);
            continue;
        }
        rr_backend_cpu()->describe(d, &info);
        assert_true(info.name[0] && info.isa[0] && info.threads >= 1);
        assert_string_equal(info.dtype, "f32");
        assert_true(info.batch_tokens >= 512 && info.memory_total > 1000000);
        rr_backend_cpu()->close(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),    cmocka_unit_test(test_callers_rounding),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_fine),
        cmocka_unit_test(test_kept_as_exact),
        cmocka_unit_test(test_anonymous_weights), cmocka_unit_test(test_isa),
        cmocka_unit_test(test_needs),
        cmocka_unit_test(test_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
