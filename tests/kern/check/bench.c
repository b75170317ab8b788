/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - speeds of the kernels, as a share of a peak that register-only loops reach here.
 * Layer: tests.  Each figure is the best of several repetitions in the thread's own processor time:
 * other work on the machine disturbs, never helps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/attr.h"
#include "check.h"
#include "cpu/peak.h"
#include "cpu/weights.h"

static double clock_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- kernels ------------------------------------------------------------------------------- */

static void report(const char *what, double ops, double seconds, double best)
{
    printf("%-40s %9.1f us %8.1f GOP/s", what, seconds * 1e6, ops / seconds * 1e-9);
    if (best > 0) printf(" %5.1f %%", 100 * ops / seconds / best);
    printf("\n");
}

/* Best time of one call, over at least 0.2 s and 5 calls.  Calls that are longer than the scheduler
 * leaves anyone alone are timed by the thread's own clock, which is coarser. */
#define BEST(seconds, call) \
    do { \
        double begin = clock_of(CLOCK_MONOTONIC); \
\
        seconds = 1e9; \
        for (int turn = 0; turn < 5 || clock_of(CLOCK_MONOTONIC) - begin < 0.2; turn++) { \
            double wall = clock_of(CLOCK_MONOTONIC), own = clock_of(CLOCK_THREAD_CPUTIME_ID); \
\
            call; \
            own = clock_of(CLOCK_THREAD_CPUTIME_ID) - own; \
            wall = clock_of(CLOCK_MONOTONIC) - wall; \
            seconds = RR_MIN(seconds, own > 2e-3 ? own : wall); \
        } \
    } while (0)

/* Like weights and workspaces of the program: huge pages where the system gives them. */
static float *alloc(size_t floats)
{
    size_t huge = (size_t)2 << 20, bytes = (floats * sizeof(float) + huge - 1) / huge * huge;
    void *p = aligned_alloc(huge, bytes);

    if (!p) exit(2);
    madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 0, bytes);
    return p;
}

static const uint32_t shapes[][3] = {
    /* m, n, k */
    { 64, 1024, 1024 },  { 256, 1024, 1024 }, { 512, 1024, 1024 }, { 64, 4096, 1024 },
    { 512, 4096, 1024 }, { 64, 1024, 4096 },  { 512, 1024, 4096 }, { 128, 384, 384 },
    { 20, 3072, 1024 },  { 1, 1024, 1024 },
};

static void bench_f32(const struct rr_kern *k, double best, const uint32_t shape[3], bool gelu)
{
    uint32_t m = shape[0], n = shape[1], d = shape[2];
    struct check c = { .rng = 1 };
    float *x = alloc((size_t)m * d), *y = alloc((size_t)m * n), *w = alloc((size_t)n * d);
    float *b = alloc(n);
    struct rr_linear_f32 a = { .y = y,
                               .x = x,
                               .panels = w,
                               .bias = b,
                               .ldy = n,
                               .ldx = d,
                               .m = m,
                               .n = n,
                               .k = d,
                               .n_end = n,
                               .act = gelu ? RR_ACT_GELU : RR_ACT_NONE };
    char what[64];
    double s;

    check_fill(&c, x, (size_t)m * d, 1.0f);
    check_fill(&c, w, (size_t)n * d, 0.1f);
    BEST(s, k->linear_f32(&a));
    snprintf(what, sizeof(what), "linear_f32 m %u n %u k %u%s", m, n, d, gelu ? " gelu" : "");
    report(what, 2.0 * m * n * d, s, best);
    free(x);
    free(y);
    free(w);
    free(b);
}

static void bench_i8(const struct rr_kern *k, double best, const uint32_t shape[3], bool gelu)
{
    uint32_t m = shape[0], n = shape[1], d = shape[2];
    struct check c = { .rng = 1 };
    float *in = alloc((size_t)m * d), *y = alloc((size_t)m * n), *b = alloc(n);
    float *scales = alloc(2 * (size_t)m);
    struct rr_rows_i8 x = { .scale = scales, .offset = scales + m, .ld = rr_i8_stride(d) };
    int8_t *w = (int8_t *)alloc(rr_weights_bytes_i8(k->i8_nr, n, d) / 4 + 1);
    struct rr_linear_i8 a = { .y = y,
                              .panels = w,
                              .w_scale = b,
                              .w_sum = b,
                              .bias = b,
                              .ldy = n,
                              .m = m,
                              .n = n,
                              .k = d,
                              .n_end = n,
                              .act = gelu ? RR_ACT_GELU : RR_ACT_NONE };
    char what[64];
    double s;

    x.q = (int8_t *)alloc(m * x.ld / 4);
    a.x = x;
    check_fill(&c, in, (size_t)m * d, 1.0f);
    for (size_t i = 0; i < (size_t)n * d; i++) w[i] = (int8_t)((int)check_random(&c, 65) - 32);
    BEST(s, k->quantize_i8(&x, in, RR_F32, d, NULL, m, d));
    if (n == 1024) printf("quantize_i8 m %u k %u: %.1f ns/row\n", m, d, s / m * 1e9);
    BEST(s, k->linear_i8(&a));
    snprintf(what, sizeof(what), "linear_i8 m %u n %u k %u%s", m, n, d, gelu ? " gelu" : "");
    report(what, 2.0 * m * n * d, s, best);
    free(in);
    free(y);
    free(b);
    free(scales);
    free(w);
    free(x.q);
}

static void bench_bf16(const struct rr_kern *k, double best, const uint32_t shape[3], bool gelu)
{
    uint32_t m = shape[0], n = shape[1], d = shape[2];
    struct check c = { .rng = 1 };
    float *in = alloc((size_t)m * d), *y = alloc((size_t)m * n), *w = alloc((size_t)n * d);
    float *b = alloc(n);
    uint16_t *x = (uint16_t *)alloc((size_t)m * d / 2 + 1);
    uint16_t *panels = (uint16_t *)alloc(rr_weights_bytes_bf16(k->bf16_nr, n, d) / 4);
    struct rr_linear_bf16 a = { .y = y,
                                .x = k->bf16_x == RR_F32 ? (void *)in : (void *)x,
                                .x_dtype = k->bf16_x,
                                .panels = panels,
                                .bias = b,
                                .ldy = n,
                                .ldx = d,
                                .m = m,
                                .n = n,
                                .k = d,
                                .n_end = n,
                                .act = gelu ? RR_ACT_GELU : RR_ACT_NONE };
    char what[64];
    double s;

    check_fill(&c, in, (size_t)m * d, 1.0f);
    check_fill(&c, w, (size_t)n * d, 0.1f);
    rr_weights_pack_bf16(panels, k->packed_nr, w, 0, n, d);
    k->round_bf16(x, d, in, d, m, d);
    BEST(s, k->linear_bf16(&a));
    snprintf(what, sizeof(what), "linear_bf16 m %u n %u k %u%s", m, n, d, gelu ? " gelu" : "");
    report(what, 2.0 * m * n * d, s, best);
    free(in);
    free(y);
    free(w);
    free(b);
    free(x);
    free(panels);
}

static void bench_i16(const struct rr_kern *k, double best, const uint32_t shape[3], bool gelu)
{
    uint32_t m = shape[0], n = shape[1], d = shape[2];
    struct check c = { .rng = 1 };
    float *in = alloc((size_t)m * d), *y = alloc((size_t)m * n), *b = alloc(n), *scale = alloc(m);
    uint16_t *x = (uint16_t *)alloc((size_t)m * (d + 32) / 2 + 1);
    uint16_t *panels = (uint16_t *)alloc(rr_weights_bytes_bf16(k->bf16_nr, n, d) / 4);
    struct rr_linear_i16 a = { .y = y,
                               .x = { x, scale, d + 32 },
                               .panels = panels,
                               .w_scale = b,
                               .bias = b,
                               .ldy = n,
                               .m = m,
                               .n = n,
                               .k = d,
                               .n_end = n,
                               .act = gelu ? RR_ACT_GELU : RR_ACT_NONE };
    char what[64];
    double s;

    check_fill(&c, in, (size_t)m * d, 1.0f);
    for (size_t i = 0; i < (size_t)n * d; i++) panels[i] = (uint16_t)(int16_t)(i % 65 - 32);
    BEST(s, k->quantize_i16(&a.x, in, d, RR_I16_ROW, m, d));
    if (n == 1024) printf("quantize_i16 m %u k %u: %.1f ns/row\n", m, d, s / m * 1e9);
    BEST(s, k->linear_i16(&a));
    snprintf(what, sizeof(what), "linear_i16 m %u n %u k %u%s", m, n, d, gelu ? " gelu" : "");
    report(what, 2.0 * m * n * d, s, best);
    free(in);
    free(y);
    free(b);
    free(scale);
    free(x);
    free(panels);
}

typedef void bench_fn(const struct rr_kern *k, double best, const uint32_t shape[3], bool gelu);

static void bench_shapes(const struct rr_kern *k, double best, bench_fn *run)
{
    for (size_t i = 0; i < RR_COUNT(shapes); i++) {
        run(k, best, shapes[i], false);
        if (shapes[i][1] == 4096) run(k, best, shapes[i], true);
    }
}

static void bench_attention(rr_attention_f32_fn *run, const char *name, double best)
{
    static const uint32_t sizes[][2] = { { 64, 64 }, { 128, 64 }, { 512, 64 }, { 128, 32 } };

    for (size_t i = 0; i < RR_COUNT(sizes); i++) {
        uint32_t t = sizes[i][0], dim = sizes[i][1];
        struct check c = { .rng = 1 };
        float *in = alloc((size_t)t * 3088), *y = alloc((size_t)t * 1040); /* strides as in programs */
        struct rr_attention_f32 a = { .y = y,
                                      .q = in,
                                      .k = in + 1024,
                                      .v = in + 2048,
                                      .ldy = 1040,
                                      .ldq = 3088,
                                      .ldk = 3088,
                                      .ldv = 3088,
                                      .n_q = t,
                                      .n_kv = t,
                                      .head_dim = dim,
                                      .scale = 0.125f };
        char what[64];
        double s;

        a.scratch = alloc(rr_attention_f32_scratch(t, dim));
        check_fill(&c, in, (size_t)t * 3088, 1.0f);
        BEST(s, run(&a));
        snprintf(what, sizeof(what), "%s n %u dim %u", name, t, dim);
        report(what, 4.0 * t * t * dim, s, best);
        free(in);
        free(y);
        free(a.scratch);
    }
}

static void bench_rows(const struct rr_kern *k)
{
    uint32_t n = 1024, m = 1024;
    struct check c = { .rng = 1 };
    float *x = alloc((size_t)m * n), *y = alloc((size_t)m * n), *g = alloc(n);
    double s;

    check_fill(&c, x, (size_t)m * n, 1.0f);
    BEST(s, k->layernorm_f32(y, n, x, n, g, g, 64, n, 1e-5f));
    printf("%-40s %9.1f ns/row\n", "layernorm_f32 n 1024", s / 64 * 1e9);
    BEST(s, k->pack_f32(y, x, RR_F32, 0, m, n));
    printf("%-40s %9.2f GB/s in\n", "pack_f32 f32 1024x1024", 4e-9 * m * n / s);
    BEST(s, k->pack_f32(y, x, RR_F16, 0, m, n));
    printf("%-40s %9.2f GB/s in\n", "pack_f32 f16 1024x1024", 2e-9 * m * n / s);
    BEST(s, k->add_convert(y, x, RR_F16, (size_t)m * n));
    printf("%-40s %9.2f G/s\n", "add_convert f16", 1e-9 * m * n / s);
    free(x);
    free(y);
    free(g);
}

void check_bench(const struct rr_kern *k, const char *function)
{
    double f32 = rr_peak(k->name, "f32", 1).best, bf16 = rr_peak(k->name, "bf16", 1).best;
    double i8 = rr_peak(k->name, "int8", 1).best;

    printf("level %s: peaks f32 %.1f, int8 %.1f, bf16 %.1f GOP/s\n", k->name, f32 * 1e-9, i8 * 1e-9,
           bf16 * 1e-9);
    if (!function || strstr("linear_f32", function)) bench_shapes(k, f32, bench_f32);
    if (!function || strstr("linear_i8", function)) bench_shapes(k, i8, bench_i8);
    if (k->linear_bf16 && (!function || strstr("linear_bf16", function)))
        bench_shapes(k, bf16, bench_bf16);
    if (k->linear_i16 && (!function || strstr("linear_i16", function)))
        bench_shapes(k, bf16, bench_i16);
    if (!function || strstr("attention_f32", function))
        bench_attention(k->attention_f32, "attention_f32", f32);
    if (k->attention_bf16 && (!function || strstr("attention_bf16", function)))
        bench_attention(k->attention_bf16, "attention_bf16", bf16);
    if (k->attention_i16 && (!function || strstr("attention_i16", function)))
        bench_attention(k->attention_i16, "attention_i16", bf16);
    if (!function || strstr("rows", function)) bench_rows(k);
}
