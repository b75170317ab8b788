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

#if defined(__x86_64__)
#include <immintrin.h>
#include "cpu/features.h"
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

static double clock_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- peaks --------------------------------------------------------------------------------- */

#define STEPS 100000

/* Twelve independent chains of one instruction (more than latency times units), whose operands %0
 * and %1 are the sum and an input. */
#define PEAK(name, features, type, zero, ops)                                                  \
    features static double name(void)                                                              \
    {                                                                                              \
        type a = zero, s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a;                             \
        type s6 = a, s7 = a, s8 = a, s9 = a, s10 = a, s11 = a;                                     \
                                                                                                   \
        for (int n = 0; n < STEPS; n++) {                                                          \
            CHAIN(s0) CHAIN(s1) CHAIN(s2) CHAIN(s3) CHAIN(s4) CHAIN(s5)                            \
            CHAIN(s6) CHAIN(s7) CHAIN(s8) CHAIN(s9) CHAIN(s10) CHAIN(s11)                          \
        }                                                                                          \
        return 12.0 * (ops) * STEPS;                                                               \
    }

#if defined(__x86_64__)
#define CHAIN(s) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(s) : "v"(a));
PEAK(flops_avx2, __attribute__((target("avx2,fma"), noinline)), __m256, _mm256_setzero_ps(), 16)
PEAK(flops_avx512, __attribute__((target("avx512f"), noinline)), __m512, _mm512_setzero_ps(), 32)
#undef CHAIN
#elif defined(__aarch64__)
#define CHAIN(s) __asm__ volatile("fmla %0.4s, %1.4s, %1.4s" : "+w"(s) : "w"(a));
PEAK(flops_neon, __attribute__((noinline)), float32x4_t, vdupq_n_f32(0), 8)
#undef CHAIN
#endif

/* f32 operations per second of one thread at the level's vector width; 0: not known. */
static double peak_f32(const struct rr_kern *k)
{
    double best = 0;
    double (*flops)(void) = NULL;

#if defined(__x86_64__)
    if (k->needs & RR_CPU_AVX2) flops = flops_avx2;
    if (k->needs & RR_CPU_AVX512) flops = flops_avx512;
#elif defined(__aarch64__)
    if (k->needs) flops = flops_neon;
#endif
    for (int i = 0; flops && i < 100; i++) {
        double t = clock_of(CLOCK_MONOTONIC), n = flops();

        t = clock_of(CLOCK_MONOTONIC) - t;
        best = RR_MAX(best, n / t);
    }
    return best;
}

/* ---- kernels ------------------------------------------------------------------------------- */

static void report(const char *what, double ops, double seconds, double peak)
{
    printf("%-40s %9.1f us %8.1f GFLOP/s", what, seconds * 1e6, ops / seconds * 1e-9);
    if (peak > 0) printf(" %5.1f %%", 100 * ops / seconds / peak);
    printf("\n");
}

/* Best time of one call, over at least 0.2 s and 5 calls.  Calls that are longer than the scheduler
 * leaves anyone alone are timed by the thread's own clock, which is coarser. */
#define BEST(seconds, call)                                                                        \
    do {                                                                                           \
        double begin = clock_of(CLOCK_MONOTONIC);                                                  \
                                                                                                   \
        seconds = 1e9;                                                                             \
        for (int turn = 0; turn < 5 || clock_of(CLOCK_MONOTONIC) - begin < 0.2; turn++) {          \
            double wall = clock_of(CLOCK_MONOTONIC), own = clock_of(CLOCK_THREAD_CPUTIME_ID);      \
                                                                                                   \
            call;                                                                                  \
            own = clock_of(CLOCK_THREAD_CPUTIME_ID) - own;                                         \
            wall = clock_of(CLOCK_MONOTONIC) - wall;                                               \
            seconds = RR_MIN(seconds, own > 2e-3 ? own : wall);                                    \
        }                                                                                          \
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

static void bench_linear(const struct rr_kern *k, double peak)
{
    static const uint32_t shapes[][3] = {
        { 64, 1024, 1024 },  { 256, 1024, 1024 }, { 512, 1024, 1024 }, { 64, 4096, 1024 },
        { 512, 4096, 1024 }, { 64, 1024, 4096 },  { 512, 1024, 4096 }, { 128, 384, 384 },
        { 1, 1024, 1024 },   { 128, 1024, 1024 },
    };

    for (size_t i = 0; i < RR_COUNT(shapes); i++) {
        uint32_t m = shapes[i][0], n = shapes[i][1], d = shapes[i][2];
        struct check c = { .rng = 1 };
        float *x = alloc((size_t)m * d), *y = alloc((size_t)m * n);
        float *w = alloc((size_t)n * d), *b = alloc(n);
        struct rr_linear_f32 a = { .y = y, .x = x, .panels = w, .bias = b, .ldy = n, .ldx = d,
                                   .m = m, .n = n, .k = d, .n_end = n, .act = RR_ACT_NONE };
        char what[64];
        double s;

        check_fill(&c, x, (size_t)m * d, 1.0f);
        check_fill(&c, w, (size_t)n * d, 0.1f);
        for (int gelu = 0; gelu < 2; gelu++) {
            a.act = gelu ? RR_ACT_GELU : RR_ACT_NONE;
            if (gelu && n != 4096) continue;
            BEST(s, k->linear_f32(&a));
            snprintf(what, sizeof(what), "linear_f32 m %u n %u k %u%s", m, n, d, gelu ? " gelu" : "");
            report(what, 2.0 * m * n * d, s, peak);
        }
        free(x);
        free(y);
        free(w);
        free(b);
    }
}

static void bench_attention(const struct rr_kern *k, double peak)
{
    static const uint32_t shapes[][2] = { { 64, 64 }, { 128, 64 }, { 512, 64 }, { 128, 32 } };

    for (size_t i = 0; i < RR_COUNT(shapes); i++) {
        uint32_t t = shapes[i][0], dim = shapes[i][1];
        struct check c = { .rng = 1 };
        float *in = alloc((size_t)t * 3072), *y = alloc((size_t)t * 1024);
        struct rr_attention_f32 a = { .y = y, .q = in, .k = in + 1024, .v = in + 2048, .ldy = 1024,
                                      .ldq = 3072, .ldk = 3072, .ldv = 3072, .n_q = t, .n_kv = t,
                                      .head_dim = dim, .scale = 0.125f };
        char what[64];
        double s;

        a.scratch = alloc(rr_attention_f32_scratch(t, dim));
        check_fill(&c, in, (size_t)t * 3072, 1.0f);
        BEST(s, k->attention_f32(&a));
        snprintf(what, sizeof(what), "attention_f32 n %u dim %u", t, dim);
        report(what, 4.0 * t * t * dim, s, peak);
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
    double peak = peak_f32(k);

    printf("level %s: f32 peak %.1f GFLOP/s\n", k->name, peak * 1e-9);
    if (!function || strstr("linear_f32", function)) bench_linear(k, peak);
    if (!function || strstr("attention_f32", function)) bench_attention(k, peak);
    if (!function || strstr("rows", function)) bench_rows(k);
}
