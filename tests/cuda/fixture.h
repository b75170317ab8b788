/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - what the tests of the CUDA plugin share: the backend under test, its precisions, small
 * networks, and one of them loaded on a device with a batch for it. */
#ifndef TESTS_CUDA_FIXTURE_H
#define TESTS_CUDA_FIXTURE_H

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

static inline bool emulated(void)
{
    return strncmp(backend_name, "cudaemul", 8) == 0;
}

static inline const struct rr_backend *backend(void)
{
    const struct rr_backend *b;
    struct rr_error err = { 0 };

    if (rr_backend_find(&b, backend_name, &err)) fail_msg("%s: %s", backend_name, err.msg);
    return b;
}

/* A symbol of the plugin beside its table of functions. */
static inline void *plugin_symbol(const char *name)
{
    char file[64];
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
    symbol = dlsym(handle, name);
    assert_non_null(symbol);
    return symbol;
}

static inline struct rr_device *open_as(const char *dtype)
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
} precisions[] __attribute__((unused)) = { { "f32", 5e-5, 0 },
                                           { "f16", 0.01, 0 },
                                           { "bf16", 0.08, 80 },
                                           { "int8", 0.15, 75 },
                                           { "fp8", 0.3, 89 } };

static inline bool has(const struct precision *p)
{
    struct rr_device_info info;
    struct rr_device *d = open_as("f32");

    backend()->describe(d, &info);
    backend()->close(d);
    return atoi(info.isa + 3) >= p->arch;
}

/* ---- networks ----------------------------------------------------------------------------------- */

struct network {
    uint32_t layers, hidden, heads, kv_heads, head_dim, inner;
    bool decoder; /* rotary, causal, GLU, RMSNorm, the last token; else an encoder */
    uint32_t window;
    const char *why;
};

/* A pre-norm decoder of the usual parts. */
static inline void make_decoder(struct program *p, const struct network *n)
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

static inline void make(struct program *p, const struct network *n)
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

static const struct network networks[] __attribute__((unused)) = {
    { 2, 64, 2, 0, 32, 256, false, 0, "encoder" },
    { 1, 60, 5, 0, 12, 100, false, 0, "encoder of odd sizes" },
    { 1, 192, 2, 0, 96, 130, false, 0, "wide heads" },
    { 1, 64, 4, 2, 16, 96, true, 0, "decoder, two heads share keys" },
    { 1, 48, 3, 1, 64, 72, true, 20, "decoder with a window" },
    { 1, 128, 2, 0, 64, 96, false, 0, "encoder, heads of 64" },
    { 1, 64, 4, 2, 64, 72, true, 0, "decoder, heads of 64, two share keys" },
};

static inline void add_batch(struct batch *b)
{
    static const uint32_t lengths[] = { 5, 1, 64, 17, 65, 130 };
    uint64_t seed = 3;

    batch_init(b, 400, 8);
    batch_clear(b);
    for (size_t i = 0; i < RR_COUNT(lengths); i++) batch_add(b, lengths[i], WORDS, 2, TYPES, &seed);
}

/* ---- one of them, loaded ------------------------------------------------------------------------ */

struct fixture {
    struct program p;
    struct batch b;
    struct rr_device *d;
    struct rr_loaded *l;
    float logits[8];
    struct rr_error err;
};

/* Program and batch; opening is the caller's. */
static inline void fixture_make(struct fixture *f, const struct network *n)
{
    memset(f, 0, sizeof(*f));
    make(&f->p, n);
    add_batch(&f->b);
}

static inline int fixture_load(struct fixture *f)
{
    const struct rr_limits limits = { 400, 8, 200 };

    return backend()->load(f->d, &f->p.p, &limits, &f->l, &f->err);
}

static inline int fixture_run(struct fixture *f)
{
    return backend()->run(f->l, &f->b.b, f->logits, &f->err);
}

static inline void fixture_close(struct fixture *f)
{
    backend()->unload(f->l);
    backend()->close(f->d);
    f->l = NULL;
    f->d = NULL;
}

static inline void fixture_free(struct fixture *f)
{
    fixture_close(f);
    batch_free(&f->b);
    program_free(&f->p);
}

/* All of it; a failure ends the test. */
static inline void fixture_open(struct fixture *f, const struct network *n, const char *dtype)
{
    fixture_make(f, n);
    f->d = open_as(dtype);
    if (fixture_load(f)) fail_msg("load: %s", f->err.msg);
}

static inline void fixture_must_run(struct fixture *f)
{
    if (fixture_run(f)) fail_msg("run: %s", f->err.msg);
}

/* The largest difference of the logits, relative to their size. */
static inline double fixture_off(const struct fixture *f, const double *expected)
{
    double worst = 0;

    for (uint32_t s = 0; s < f->b.b.n_sequences; s++) {
        if (!isfinite(f->logits[s])) return INFINITY; /* fmax would lose a NaN */
        worst = fmax(worst, fabs(f->logits[s] - expected[s]) / (1 + fabs(expected[s])));
    }
    return worst;
}

static inline uint64_t fixture_repeated(const struct fixture *f)
{
    struct rr_device_stats stats;

    assert_int_equal(backend()->stats(f->d, &stats), RR_OK);
    return stats.repeated;
}

/* Each sequence alone has the same bits as among the others. */
static inline void fixture_check_alone(struct fixture *f, const char *what)
{
    struct batch one;
    float alone;

    batch_init(&one, f->b.capacity_tokens, 8);
    for (uint32_t s = 0; s < f->b.b.n_sequences; s++) {
        batch_clear(&one);
        batch_add_from(&one, &f->b, s);
        if (backend()->run(f->l, &one.b, &alone, &f->err)) fail_msg("run: %s", f->err.msg);
        if (memcmp(&alone, &f->logits[s], sizeof(alone)) != 0)
            fail_msg("%s, sequence %u: %.9g alone, %.9g among others", what, s, (double)alone,
                     (double)f->logits[s]);
    }
    batch_free(&one);
}

/* The first attention's values times factor, and its output projection by it: the same function, with
 * numbers in between that f16 may not have. */
static inline void enlarge_tensor(struct rr_tensor *t, float factor)
{
    size_t n =
        t->dtype == RR_I8 ? t->shape[0] : (size_t)t->shape[0] * (t->rank > 1 ? t->shape[1] : 1);
    float *v = (float *)(uintptr_t)(t->dtype == RR_I8 ? (const void *)t->scale : t->data);

    assert_true(t->dtype == RR_F32 || t->dtype == RR_I8);
    for (size_t i = 0; i < n; i++) v[i] *= factor;
}

static inline void enlarge_values(struct program *p, float factor)
{
    for (uint32_t i = 0; i < p->p.n_ops; i++) {
        const struct rr_op_linear *l = &p->ops[i].u.linear;

        if (p->ops[i].kind != RR_OP_LINEAR || l->n_parts != 3) continue;
        enlarge_tensor(&p->tensors[l->weight[2]], factor);
        if (l->bias[2] != RR_NONE) enlarge_tensor(&p->tensors[l->bias[2]], factor);
        while (p->ops[i].kind != RR_OP_ATTENTION) i++;
        enlarge_tensor(&p->tensors[p->ops[i + 1].u.linear.weight[0]], 1 / factor);
        return;
    }
    fail_msg("the program has no attention of three parts");
}

#endif
