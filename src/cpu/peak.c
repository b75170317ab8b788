/* SPDX-License-Identifier: Apache-2.0 */
/* peak.c - see peak.h. */
#include "cpu/peak.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/mem.h"
#include "cpu/features.h"
#include "cpu/kern.h"
#include "cpu/pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define STEPS 20000 /* of a loop: a fraction of a millisecond */
#define MEASURE_NS 50000000

/* Twelve independent chains of one instruction (more than latency times units), whose operands %0
 * and %1 are the sum and an input. */
#define PEAK(name, features, type, zero, ops) \
    features static double name(void) \
    { \
        type a = zero, s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a; \
        type s6 = a, s7 = a, s8 = a, s9 = a, s10 = a, s11 = a; \
\
        for (int n = 0; n < STEPS; n++) { \
            CHAIN(s0) \
            CHAIN(s1) \
            CHAIN(s2) \
            CHAIN(s3) \
            CHAIN(s4) CHAIN(s5) CHAIN(s6) CHAIN(s7) CHAIN(s8) CHAIN(s9) CHAIN(s10) CHAIN(s11) \
        } \
        return 12.0 * (ops)*STEPS; \
    }

#if defined(__x86_64__)
#define TARGET(features) __attribute__((target(features), noinline))
#define CHAIN(s) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(s) : "v"(a));
PEAK(f32_avx2, TARGET("avx2,fma"), __m256, _mm256_setzero_ps(), 16)
PEAK(f32_avx512, TARGET("avx512f"), __m512, _mm512_setzero_ps(), 32)
#undef CHAIN
#define CHAIN(s) \
    __asm__ volatile("vpmaddubsw %1, %1, %%ymm15\n\tvpmaddubsw %1, %1, %%ymm14\n\t" \
                     "vpaddw %%ymm14, %%ymm15, %%ymm15\n\tvpmaddwd %%ymm15, %1, %%ymm15\n\t" \
                     "vpaddd %%ymm15, %0, %0" \
                     : "+x"(s) \
                     : "x"(a) \
                     : "xmm14", "xmm15");
PEAK(i8_avx2, TARGET("avx2"), __m256i, _mm256_setzero_si256(), 128)
#undef CHAIN
#define CHAIN(s) \
    __asm__ volatile("vpmaddubsw %1, %1, %%zmm15\n\tvpmaddubsw %1, %1, %%zmm14\n\t" \
                     "vpaddw %%zmm14, %%zmm15, %%zmm15\n\tvpmaddwd %%zmm15, %1, %%zmm15\n\t" \
                     "vpaddd %%zmm15, %0, %0" \
                     : "+x"(s) \
                     : "x"(a) \
                     : "xmm14", "xmm15");
PEAK(i8_avx512bw, TARGET("avx512f,avx512bw"), __m512i, _mm512_setzero_si512(), 256)
#undef CHAIN
#define CHAIN(s) \
    __asm__ volatile("vpmaddwd %1, %1, %%ymm15\n\tvpaddd %%ymm15, %0, %0" \
                     : "+x"(s) \
                     : "x"(a) \
                     : "xmm15");
PEAK(i16_avx2, TARGET("avx2"), __m256i, _mm256_setzero_si256(), 32)
#undef CHAIN
#define CHAIN(s) \
    __asm__ volatile("vpmaddwd %1, %1, %%zmm15\n\tvpaddd %%zmm15, %0, %0" \
                     : "+x"(s) \
                     : "x"(a) \
                     : "xmm15");
PEAK(i16_avx512bw, TARGET("avx512f,avx512bw"), __m512i, _mm512_setzero_si512(), 64)
#undef CHAIN
#define CHAIN(s) __asm__ volatile("%{vex%} vpdpwssd %1, %1, %0" : "+x"(s) : "x"(a));
PEAK(i16_avxvnni, TARGET("avx2"), __m256i, _mm256_setzero_si256(), 32)
#undef CHAIN
#define CHAIN(s) __asm__ volatile("vpdpwssd %1, %1, %0" : "+v"(s) : "v"(a));
PEAK(i16_avx512, TARGET("avx512f"), __m512i, _mm512_setzero_si512(), 64)
#undef CHAIN
#define CHAIN(s) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(s) : "x"(a));
PEAK(i8_avxvnni, TARGET("avx2"), __m256i, _mm256_setzero_si256(), 64)
#undef CHAIN
#define CHAIN(s) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(s) : "v"(a));
PEAK(i8_avx512, TARGET("avx512f"), __m512i, _mm512_setzero_si512(), 128)
#undef CHAIN
#define CHAIN(s) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(s) : "v"(a));
PEAK(bf16_avx512, TARGET("avx512f"), __m512, _mm512_setzero_ps(), 64)
#undef CHAIN

/* Whole tiles: 16 rows of 64 bytes.  Four of sums: a product takes 16 cycles, its sum 52. */
#define PEAK_TILES(name, product, ops) \
    static double name(void) \
    { \
        struct { \
            uint8_t palette, start_row, reserved[14]; \
            uint16_t row_bytes[16]; \
            uint8_t rows[16]; \
        } shape = { .palette = 1 }; \
\
        for (int t = 0; t < 8; t++) { \
            shape.rows[t] = 16; \
            shape.row_bytes[t] = 64; \
        } \
        __asm__ volatile("ldtilecfg %0" : : "m"(shape)); \
        for (int n = 0; n < STEPS; n++) \
            __asm__ volatile(product " %tmm7, %tmm6, %tmm0\n\t" product \
                                     " %tmm7, %tmm6, %tmm1\n\t" product \
                                     " %tmm7, %tmm6, %tmm2\n\t" product " %tmm7, %tmm6, %tmm3"); \
        __asm__ volatile("tilerelease"); \
        return 4.0 * (ops)*STEPS; \
    }
PEAK_TILES(i8_amx, "tdpbusd", 2 * 16 * 16 * 64)
PEAK_TILES(bf16_amx, "tdpbf16ps", 2 * 16 * 16 * 32)
#elif defined(__aarch64__)
#define TARGET(arch) __attribute__((target(arch), noinline))
#define CHAIN(s) __asm__ volatile("fmla %0.4s, %1.4s, %1.4s" : "+w"(s) : "w"(a));
PEAK(f32_neon, TARGET("arch=armv8-a"), float32x4_t, vdupq_n_f32(0), 8)
#undef CHAIN
#define CHAIN(s) \
    __asm__ volatile(".arch_extension dotprod\n\tsdot %0.4s, %1.16b, %1.16b" : "+w"(s) : "w"(a));
PEAK(i8_dotprod, TARGET("arch=armv8.6-a"), int32x4_t, vdupq_n_s32(0), 32)
#undef CHAIN
#define CHAIN(s) \
    __asm__ volatile(".arch_extension i8mm\n\tsmmla %0.4s, %1.16b, %1.16b" : "+w"(s) : "w"(a));
PEAK(i8_i8mm, TARGET("arch=armv8.6-a"), int32x4_t, vdupq_n_s32(0), 64)
#undef CHAIN
#define CHAIN(s) \
    __asm__ volatile(".arch_extension bf16\n\tbfmmla %0.4s, %1.8h, %1.8h" : "+w"(s) : "w"(a));
PEAK(bf16_i8mm, TARGET("arch=armv8.6-a"), float32x4_t, vdupq_n_f32(0), 32)
#undef CHAIN
#endif

typedef double loop_fn(void);

enum { F32, BF16, INT8, DTYPES };

/* What a level's products are made of; NULL: not measured.  Layers in bf16 take whole numbers of 16
 * bits, or widen their weights to f32, where the processor has no product of bf16. */
static const struct {
    const char *level;
    loop_fn *loops[DTYPES];
} table[] = {
#if defined(__x86_64__)
    { "avx2", { f32_avx2, i16_avx2, i8_avx2 } },
    { "avxvnni", { f32_avx2, i16_avxvnni, i8_avxvnni } },
    { "avx512", { f32_avx512, i16_avx512bw, i8_avx512bw } },
    { "avx512vnni", { f32_avx512, i16_avx512, i8_avx512 } },
    { "avx512bf16", { f32_avx512, bf16_avx512, i8_avx512 } },
    { "amx", { f32_avx512, bf16_amx, i8_amx } },
#elif defined(__aarch64__)
    { "neon", { f32_neon, f32_neon, NULL } },
    { "dotprod", { f32_neon, f32_neon, i8_dotprod } },
    { "i8mm", { f32_neon, bf16_i8mm, i8_i8mm } },
#endif
    { "", { NULL } },
};

/* A level of this name that the processor can run. */
static bool can_run(const char *level)
{
    uint32_t n;
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    for (uint32_t i = 0; i < n; i++)
        if (strcmp(levels[i]->name, level) == 0)
            return (levels[i]->needs & rr_cpu_flags()) == levels[i]->needs;
    return false;
}

static loop_fn *find_loop(const char *level, const char *dtype)
{
    static const char *const names[DTYPES] = { "f32", "bf16", "int8" };

    if (!can_run(level)) return NULL;
    for (size_t i = 0; i < RR_COUNT(table); i++)
        for (int d = 0; d < DTYPES; d++)
            if (strcmp(table[i].level, level) == 0 && strcmp(names[d], dtype) == 0)
                return table[i].loops[d];
    return NULL;
}

struct race { /* every thread runs the loop for the same time */
    loop_fn *loop;
    struct rr_pool *pool;
    struct rr_peak *found; /* [threads] operations per ns, each thread's own */
};

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void run(void *user, uint32_t worker)
{
    const struct race *r = user;
    uint64_t begin, from, to;
    double best = 0, all = 0;

    rr_pool_barrier(r->pool);
    begin = to = now_ns();
    do {
        double ops;

        from = to;
        ops = r->loop();
        to = now_ns();
        best = RR_MAX(best, ops / (double)RR_MAX(to - from, 1));
        all += ops;
    } while (to - begin < MEASURE_NS);
    r->found[worker] = (struct rr_peak){ best, all / (double)(to - begin) };
}

struct rr_peak rr_peak(const char *level, const char *dtype, uint32_t threads)
{
    struct race r = { .loop = find_loop(level, dtype) };
    struct rr_peak sum = { 0 };
    struct rr_error err;

    if (!r.loop || rr_pool_open(&r.pool, threads, &err)) return sum;
    r.found = rr_calloc(RR_MEM_MISC, threads, sizeof(*r.found));
    if (r.found) rr_pool_run(r.pool, run, &r);
    for (uint32_t i = 0; r.found && i < threads; i++) {
        sum.best += r.found[i].best * 1e9;
        sum.mean += r.found[i].mean * 1e9;
    }
    rr_free(r.found);
    rr_pool_close(r.pool);
    return sum;
}
