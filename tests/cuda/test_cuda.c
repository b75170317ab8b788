/* SPDX-License-Identifier: Apache-2.0 */
/* test_cuda.c - what is particular to the CUDA plugin: precisions, refusals, lost devices, memory.
 *
 * test_cuda [BACKEND]: default cudaemul89, the plugin over the emulation.  With "cuda" it runs on a
 * GPU; what only the emulation can provoke is left out then. */
#include <dlfcn.h>
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
#define TYPES 2

static const char *backend_name = "cudaemul89";

static bool emulated(void)
{
    return strncmp(backend_name, "cudaemul", 8) == 0;
}

static const struct rr_backend *backend(void)
{
    const struct rr_backend *b;
    struct rr_error err = { 0 };

    if (rr_backend_find(&b, backend_name, &err)) fail_msg("%s: %s", backend_name, err.msg);
    return b;
}

static struct rr_device *open_as(const char *dtype)
{
    struct rr_device_options opt = { .dtype = dtype };
    struct rr_error err = { 0 };
    struct rr_device *d;

    if (backend()->open(&d, &opt, &err)) fail_msg("open as %s: %s", dtype, err.msg);
    return d;
}

static const struct precision {
    const char *dtype;
    double tolerance; /* of logits of about 1 */
    int arch;         /* the oldest that has it */
} precisions[] = { { "f32", 5e-5, 0 },
                   { "f16", 0.01, 0 },
                   { "bf16", 0.08, 80 },
                   { "int8", 0.15, 75 },
                   { "fp8", 0.3, 89 } };

static bool has(const struct precision *p)
{
    struct rr_device_info info;
    struct rr_device *d = open_as("f32");

    backend()->describe(d, &info);
    backend()->close(d);
    return atoi(info.isa + 3) >= p->arch;
}

/* ---- the self-check's expectations -------------------------------------------------------------- */

struct golden { /* struct Golden of plugins/cuda/plan.h */
    struct rr_program program;
    struct rr_batch batch;
    struct rr_limits limits;
    const double *expected;
};
typedef const struct golden *golden_fn(void);

static const struct golden *golden(void)
{
    char file[64];
    golden_fn *find;
    void *handle, *symbol;

    snprintf(file, sizeof(file), "librerank_%s.so", backend_name);
    backend();
    handle = dlopen(file, RTLD_NOW | RTLD_NOLOAD);
    if (!handle) { /* it was loaded by its path */
        char path[4096] = "";
        Dl_info info;
        if (dladdr(*(void **)&(void *){ (void *)(uintptr_t)backend()->open }, &info))
            snprintf(path, sizeof(path), "%s", info.dli_fname);
        handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    }
    assert_non_null(handle);
    symbol = dlsym(handle, "rr_cuda_golden");
    assert_non_null(symbol);
    memcpy(&find, &symbol, sizeof(find));
    return find();
}

static void test_golden(void **state)
{
    const struct golden *g = golden();
    double logits[16];

    (void)state;
    assert_true(g->batch.n_sequences <= RR_COUNT(logits));
    program_evaluate(&g->program, &g->batch, logits);
    for (uint32_t s = 0; s < g->batch.n_sequences; s++)
        if (fabs(logits[s] - g->expected[s]) > 1e-9)
            fail_msg("the self-check's logits are %.12g, %.12g, %.12g; golden.cc has %.12g at %u",
                     logits[0], logits[1], logits[2], g->expected[s], s);
}

/* ---- precisions --------------------------------------------------------------------------------- */

struct network {
    uint32_t layers, hidden, heads, kv_heads, head_dim, inner;
    bool decoder; /* rotary, causal, GLU, RMSNorm, the last token; else an encoder */
    uint32_t window;
    const char *why;
};

/* A pre-norm decoder of the usual parts. */
static void make_decoder(struct program *p, const struct network *n)
{
    uint32_t q = n->heads * n->head_dim, kv = n->kv_heads * n->head_dim, x, y, s, angles;
    const uint32_t parts[3] = { q, kv, kv }, out = n->hidden, pair = 2 * n->inner, one = 1;
    struct rr_op_rotary *r;

    x = program_embed(p, WORDS, POSITIONS, TYPES, n->hidden);
    for (uint32_t i = 0; i < n->layers; i++) {
        struct rr_op_attention *a;

        y = program_norm(p, x, 1e-6f, false);
        p->ops[p->p.n_ops - 1].u.norm.rms = true;
        p->ops[p->p.n_ops - 1].u.norm.beta = RR_NONE;
        y = program_linear(p, y, 3, parts, RR_ACT_NONE, RR_NONE, false);
        r = program_rotary(p, y, 0, n->heads, n->head_dim, n->head_dim / 2);
        r->gamma = program_tensor(p, "q norm", 0, n->head_dim, 0.3, 1);
        angles = r->frequencies;
        program_rotary(p, y, q, n->kv_heads, n->head_dim, n->head_dim / 2)->frequencies = angles;
        y = program_attention(p, y, y, 0, q, q + kv, n->heads, n->head_dim);
        a = &p->ops[p->p.n_ops - 1].u.attention;
        a->kv_heads = n->kv_heads;
        a->causal = true;
        a->window = n->window;
        x = program_linear(p, y, 1, &out, RR_ACT_NONE, x, false);
        y = program_norm(p, x, 1e-6f, false);
        y = program_linear(p, y, 1, &pair, RR_ACT_NONE, RR_NONE, false);
        y = program_glu(p, y, RR_ACT_SILU, false);
        x = program_linear(p, y, 1, &out, RR_ACT_NONE, x, false);
    }
    x = program_norm(p, x, 1e-6f, false);
    s = program_pool(p, RR_OP_LAST, x);
    p->p.output = program_linear(p, s, 1, &one, RR_ACT_NONE, RR_NONE, true);
}

static void make(struct program *p, const struct network *n)
{
    struct encoder_shape shape = {
        n->layers, n->hidden, n->heads, n->inner, WORDS, POSITIONS, TYPES
    };

    program_init(p, 99, true);
    if (n->decoder)
        make_decoder(p, n);
    else
        program_encoder(p, &shape);
}

static const struct network networks[] = {
    { 2, 64, 2, 0, 32, 256, false, 0, "encoder" },
    { 1, 60, 5, 0, 12, 100, false, 0, "encoder of odd sizes" },
    { 1, 192, 2, 0, 96, 130, false, 0, "wide heads" },
    { 1, 64, 4, 2, 16, 96, true, 0, "decoder, two heads share keys" },
    { 1, 48, 3, 1, 64, 72, true, 20, "decoder with a window" },
};

static void add_batch(struct batch *b)
{
    static const uint32_t lengths[] = { 5, 1, 64, 17, 65, 130 };
    uint64_t seed = 3;

    batch_init(b, 400, 8);
    batch_clear(b);
    for (size_t i = 0; i < RR_COUNT(lengths); i++) batch_add(b, lengths[i], WORDS, 2, TYPES, &seed);
}

static void test_precisions(void **state)
{
    struct rr_limits limits = { 400, 8, 200 };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(networks); i++) {
        double expected[8], worst = 0;
        struct program p;
        struct batch b;

        make(&p, &networks[i]);
        add_batch(&b);
        program_evaluate(&p.p, &b.b, expected);
        for (size_t j = 0; j < RR_COUNT(precisions); j++) {
            struct rr_error err = { 0 };
            struct rr_loaded *l;
            struct rr_device *d;
            float logits[8];

            if (!has(&precisions[j])) continue;
            d = open_as(precisions[j].dtype);
            if (backend()->load(d, &p.p, &limits, &l, &err)) fail_msg("load: %s", err.msg);
            if (backend()->run(l, &b.b, logits, &err)) fail_msg("run: %s", err.msg);
            worst = 0;
            for (uint32_t s = 0; s < b.b.n_sequences; s++) {
                assert_true(isfinite(logits[s])); /* fmax would lose a NaN */
                worst = fmax(worst, fabs(logits[s] - expected[s]) / (1 + fabs(expected[s])));
            }
            print_message("%s, %s: %.2e\n", networks[i].why, precisions[j].dtype, worst);
            if (!(worst <= precisions[j].tolerance))
                fail_msg("%s in %s: off by %g, allowed %g", networks[i].why, precisions[j].dtype,
                         worst, precisions[j].tolerance);
            backend()->unload(l);
            backend()->close(d);
        }
        batch_free(&b);
        program_free(&p);
    }
}

/* The bits of a score do not depend on what else is in the batch. */
static void test_neighbours(void **state)
{
    struct rr_limits limits = { 400, 8, 200 };

    (void)state;
    for (size_t j = 0; j < RR_COUNT(precisions); j++) {
        struct rr_error err = { 0 };
        struct rr_loaded *l;
        struct rr_device *d;
        struct program p;
        struct batch all, one;
        float logits[8], alone;

        if (!has(&precisions[j])) continue;
        make(&p, &networks[3]);
        add_batch(&all);
        batch_init(&one, 400, 8);
        d = open_as(precisions[j].dtype);
        assert_int_equal(backend()->load(d, &p.p, &limits, &l, &err), RR_OK);
        assert_int_equal(backend()->run(l, &all.b, logits, &err), RR_OK);
        for (uint32_t s = 0; s < all.b.n_sequences; s++) {
            batch_clear(&one);
            batch_add_from(&one, &all, s);
            assert_int_equal(backend()->run(l, &one.b, &alone, &err), RR_OK);
            if (memcmp(&alone, &logits[s], sizeof(alone)) != 0)
                fail_msg("%s, sequence %u: %.9g alone, %.9g among others", precisions[j].dtype, s,
                         (double)alone, (double)logits[s]);
        }
        backend()->unload(l);
        backend()->close(d);
        batch_free(&all);
        batch_free(&one);
        program_free(&p);
    }
}

/* A NaN that is computed comes back as one. */
static void test_nan(void **state)
{
    struct rr_limits limits = { 400, 8, 200 };

    (void)state;
    for (size_t j = 0; j < RR_COUNT(precisions); j++) {
        struct rr_error err = { 0 };
        struct rr_loaded *l;
        struct rr_device *d;
        struct program p;
        struct batch b;
        float logits[8];

        if (!has(&precisions[j])) continue;
        make(&p, &networks[0]);
        add_batch(&b);
        p.dtype = RR_F32;
        ((float *)(uintptr_t)p.tensors[0].data)[(size_t)b.ids[b.cu[2]] * 64] = NAN;
        d = open_as(precisions[j].dtype);
        assert_int_equal(backend()->load(d, &p.p, &limits, &l, &err), RR_OK);
        assert_int_equal(backend()->run(l, &b.b, logits, &err), RR_OK);
        assert_true(isnan(logits[2]));
        backend()->unload(l);
        backend()->close(d);
        batch_free(&b);
        program_free(&p);
    }
}

/* ---- what goes wrong ---------------------------------------------------------------------------- */

static void test_no_device(void **state)
{
    static const struct {
        const char *name, *value, *words;
    } cases[] = {
        { "EMUL_DRIVER", "0", "no NVIDIA driver" },
        { "EMUL_DRIVER", "11040", "the NVIDIA driver is for CUDA 11.4, this plugin needs one for" },
        { "EMUL_DEVICES", "0", "the driver finds no NVIDIA GPU" },
        { "EMUL_CC", "61", "has compute capability 6.1, this plugin needs 7.0" },
        { "CUDA_VISIBLE_DEVICES", "", "CUDA_VISIBLE_DEVICES is set and names no device" },
    };
    const struct rr_backend *b = backend();

    (void)state;
    if (!emulated()) skip();
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        const char *why = NULL;
        const struct rr_backend *found;
        struct rr_error err = { 0 };
        uint32_t n;

        setenv(cases[i].name, cases[i].value, 1);
        n = b->device_count(&why);
        if (n || !why || !strstr(why, cases[i].words) || strchr(why, '\n'))
            fail_msg("row %zu: %u devices, '%s'; expected '%s'", i, n, why, cases[i].words);
        assert_int_equal(rr_backend_find(&found, backend_name, &err), RR_EDEVICE);
        unsetenv(cases[i].name);
    }
    assert_int_equal(b->device_count(NULL), 1);
}

static const struct {
    const char *nvml; /* its bits */
    uint32_t reasons;
} throttles[] = { { "0x4", RR_THROTTLE_POWER },
                  { "0x80", RR_THROTTLE_POWER },
                  { "0x20", RR_THROTTLE_THERMAL },
                  { "0x48", RR_THROTTLE_THERMAL | RR_THROTTLE_HARDWARE },
                  { "0x102", RR_THROTTLE_SETTING } };

static void test_devices(void **state)
{
    struct rr_device_options opt = { .index = 2, .dtype = "auto" };
    struct rr_device_info info;
    struct rr_device_stats stats;
    struct rr_error err = { 0 };
    struct rr_device *d;

    (void)state;
    if (!emulated()) skip();
    setenv("EMUL_DEVICES", "2", 1);
    assert_int_equal(backend()->open(&d, &opt, &err), RR_EDEVICE);
    assert_non_null(strstr(err.msg, "there is no GPU 2: 2 can be used"));
    opt.index = 1;
    assert_int_equal(backend()->open(&d, &opt, &err), RR_OK);
    backend()->describe(d, &info);
    assert_string_equal(info.name, "Emulated GPU 1");
    assert_string_equal(info.dtype, "f16");
    assert_true(info.memory_total == (uint64_t)512 << 20);
    assert_non_null(backend()->stats);
    assert_int_equal(backend()->stats(d, &stats), RR_OK);
    assert_true(stats.memory_total == info.memory_total); /* NVML does not know this one */
    assert_true(stats.utilization < 0 && stats.celsius < 0 && stats.watts < 0);
    backend()->close(d);
    unsetenv("EMUL_DEVICES");
    opt.index = 0;
    assert_int_equal(backend()->open(&d, &opt, &err), RR_OK);
    assert_int_equal(backend()->stats(d, &stats), RR_OK);
    assert_true(stats.memory_used == (uint64_t)100 << 20);
    assert_true(stats.utilization == 0.25f && stats.celsius == 41 && stats.watts == 33.5f);
    assert_int_equal(stats.throttled, 0); /* idle is no reason */
    for (size_t i = 0; i < RR_COUNT(throttles); i++) {
        setenv("EMUL_THROTTLE", throttles[i].nvml, 1);
        assert_int_equal(backend()->stats(d, &stats), RR_OK);
        assert_int_equal(stats.throttled, throttles[i].reasons);
    }
    unsetenv("EMUL_THROTTLE");
    backend()->close(d);
    opt.dtype = "fp4";
    assert_int_equal(backend()->open(&d, &opt, &err), RR_EINVAL);
    setenv("EMUL_CC", "75", 1);
    opt.dtype = "bf16";
    assert_int_equal(backend()->open(&d, &opt, &err), RR_ENOTSUP);
    assert_non_null(strstr(err.msg, "use f16"));
    opt.dtype = "fp8";
    assert_int_equal(backend()->open(&d, &opt, &err), RR_ENOTSUP);
    assert_non_null(
        strstr(err.msg, "fp8 needs compute capability 8.9, this GPU has 7.5: use int8"));
    setenv("EMUL_CC", "70", 1);
    opt.dtype = "int8";
    assert_int_equal(backend()->open(&d, &opt, &err), RR_ENOTSUP);
    assert_non_null(
        strstr(err.msg, "int8 needs compute capability 7.5, this GPU has 7.0: use f16"));
    unsetenv("EMUL_CC");
}

/* Loads and runs; what must not work is the caller's concern. */
static int use(struct rr_device *d, struct rr_loaded **l, struct rr_error *err)
{
    struct rr_limits limits = { 400, 8, 200 };
    struct program p;
    struct batch b;
    float logits[8];
    int rc;

    make(&p, &networks[0]);
    add_batch(&b);
    rc = *l ? RR_OK : backend()->load(d, &p.p, &limits, l, err);
    if (!rc) rc = backend()->run(*l, &b.b, logits, err);
    batch_free(&b);
    program_free(&p);
    return rc;
}

/* An error that stays: everything says so until the device is closed; then it can be reopened. */
static void test_lost(void **state)
{
    struct rr_device_options opt = { .dtype = "f32" };
    struct rr_device *d, *other, *again;
    struct rr_loaded *l = NULL;
    struct rr_error err = { 0 };

    (void)state;
    if (!emulated()) skip();
    d = open_as("f32");
    other = open_as("f16");
    assert_int_equal(use(d, &l, &err), RR_OK);
    setenv("EMUL_STICKY", "1", 1);
    assert_int_equal(use(d, &l, &err), RR_EDEVICE);
    assert_non_null(strstr(err.msg, "GPU 0 failed: an illegal memory access"));
    assert_int_equal(use(d, &l, &err), RR_EDEVICE);
    assert_non_null(strstr(err.msg, "was lost"));
    backend()->unload(l);
    backend()->close(d);
    assert_int_equal(backend()->open(&again, &opt, &err), RR_EDEVICE);
    assert_non_null(strstr(err.msg, "still hold it"));
    backend()->close(other);
    l = NULL;
    assert_int_equal(backend()->open(&again, &opt, &err), RR_OK);
    assert_int_equal(use(again, &l, &err), RR_OK);
    backend()->unload(l);
    backend()->close(again);
}

/* Whichever allocation fails: RR_ENOMEM, and nothing is left behind. */
static void test_memory(void **state)
{
    struct rr_device_options opt = { .dtype = "f16" };
    struct rr_error err = { 0 };
    int rc = RR_ENOMEM;

    (void)state;
    if (!emulated()) skip();
    for (int n = 1; rc; n++) {
        struct rr_device *d;
        struct rr_loaded *l = NULL;
        char text[16];

        assert_true(n < 100);
        snprintf(text, sizeof(text), "%d", n);
        setenv("EMUL_FAIL_ALLOC", text, 1);
        rc = backend()->open(&d, &opt, &err);
        if (!rc) {
            rc = use(d, &l, &err);
            backend()->unload(l);
            backend()->close(d);
        }
        assert_true(rc == RR_OK || rc == RR_ENOMEM);
        unsetenv("EMUL_FAIL_ALLOC");
    }
}

static void test_does_not_fit(void **state)
{
    struct rr_limits limits = { 1 << 20, 8, 200 };
    struct rr_device *d;
    struct rr_loaded *l;
    struct rr_memory m;
    struct rr_error err = { 0 };
    struct program p;

    (void)state;
    if (!emulated()) skip();
    d = open_as("f16");
    make(&p, &networks[0]);
    assert_int_equal(backend()->plan(d, &p.p, &limits, &m, &err), RR_OK);
    assert_true(m.workspace > (uint64_t)512 << 20 && m.weights > 0 && m.mapped == 0);
    assert_int_equal(backend()->load(d, &p.p, &limits, &l, &err), RR_ENOMEM);
    assert_null(l);
    assert_non_null(strstr(err.msg, "the model needs "));
    assert_non_null(strstr(err.msg, " of 512 MiB are free"));
    backend()->close(d);
    program_free(&p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),       cmocka_unit_test(test_precisions),
        cmocka_unit_test(test_neighbours),   cmocka_unit_test(test_nan),
        cmocka_unit_test(test_no_device),    cmocka_unit_test(test_devices),
        cmocka_unit_test(test_lost),         cmocka_unit_test(test_memory),
        cmocka_unit_test(test_does_not_fit),
    };

    if (argc > 1) backend_name = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
