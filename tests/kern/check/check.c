/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - random numbers, guarded memory and counting for the kernel checks.  Layer: tests. */
#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/weights.h"

#define MAX_BLOCKS 64

static struct {
    void *base;
    size_t bytes;
} blocks[MAX_BLOCKS];
static size_t n_blocks;

/* ---- random -------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea and Flood, 2014) */
static uint64_t next(struct check *c)
{
    uint64_t z = c->rng += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

uint32_t check_random(struct check *c, uint32_t n)
{
    return (uint32_t)((next(c) >> 32) * n >> 32);
}

uint32_t check_between(struct check *c, uint32_t a, uint32_t b)
{
    return a + check_random(c, b - a + 1);
}

float check_normal(struct check *c)
{
    float sum = 0;

    for (int i = 0; i < 4; i++) /* variance of one term: 1/12 */
        sum += (float)(next(c) >> 40) * 0x1p-24f - 0.5f;
    return sum * 1.7320508f;
}

void check_fill(struct check *c, float *p, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) p[i] = check_normal(c) * scale;
}

uint32_t check_pick(struct check *c, const uint32_t *list, size_t n)
{
    return list[check_random(c, (uint32_t)n)];
}

/* ---- memory -------------------------------------------------------------------------------- */

void *check_alloc(size_t bytes, bool aligned)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    size_t unit = aligned ? 64 : 4;
    char *base;

    if (body == 0) body = page;
    base = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || n_blocks == MAX_BLOCKS || mprotect(base + body, page, PROT_NONE)) {
        perror("check_alloc");
        exit(2);
    }
    blocks[n_blocks].base = base;
    blocks[n_blocks++].bytes = body + page;
    return base + (body - bytes) / unit * unit;
}

void check_free(void)
{
    while (n_blocks) {
        n_blocks--;
        munmap(blocks[n_blocks].base, blocks[n_blocks].bytes);
    }
}

void check_mark(void *p, size_t bytes)
{
    memset(p, CHECK_UNTOUCHED, bytes);
}

/* ---- judging ------------------------------------------------------------------------------- */

bool check_case(struct check *c, bool ok, const char *fmt, ...)
{
    va_list ap;

    if (ok) {
        c->passed++;
        return true;
    }
    if (c->failed++ < 10) {
        printf("FAIL %s %s: ", c->kern->name, c->function);
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf("\n");
    }
    return false;
}

bool check_columns_untouched(const void *p, size_t size, uint32_t m, size_t ld, uint32_t from,
                             uint32_t to)
{
    for (uint32_t i = 0; i < m; i++) {
        const unsigned char *row = (const unsigned char *)p + i * ld * size;

        for (size_t b = from * size; b < to * size; b++)
            if (row[b] != CHECK_UNTOUCHED) return false;
    }
    return true;
}

bool check_columns_equal(const void *a, const void *b, size_t size, uint32_t m, size_t ld,
                         uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < m; i++) {
        size_t at = (i * ld + from) * size;

        if (memcmp((const char *)a + at, (const char *)b + at, (to - from) * size)) return false;
    }
    return true;
}

/* RR_TEST_TIES_UP=1: what lies halfway between two f16 may also be rounded up, as VCVTPS2PH of
 * Bochs 2.7 does. */
static bool rounded_up(struct check *c, uint16_t half, uint16_t want, float v)
{
    const uint16_t both[2] = { want, (uint16_t)(want + 1) };
    float f[2];

    if (half != both[1] || !getenv("RR_TEST_TIES_UP")) return false;
    c->ref->convert(f, both, RR_F16, 2);
    return f[0] + f[1] == 2 * v;
}

void check_halves(struct check *c, const uint16_t *half, enum rr_dtype dtype, const float *want,
                  uint32_t m, size_t ld, uint32_t n)
{
    uint32_t bad = 0;

    for (uint32_t i = 0; i < m; i++)
        for (uint32_t o = 0; o < n; o++) {
            float v = want[i * ld + o];
            uint16_t h = half[i * ld + o];
            uint16_t w = dtype == RR_F16 ? rr_weights_round_f16(v) : rr_weights_round_bf16(v);

            bad += h != w && !(dtype == RR_F16 && rounded_up(c, h, w, v));
        }
    check_case(c, bad == 0, "m %u n %u: %u results are not rounded to %s", m, n, bad,
               dtype == RR_F16 ? "f16" : "bf16");
    check_case(c, check_columns_untouched(half, sizeof(*half), m - 1, ld, n, (uint32_t)ld),
               "m %u n %u: wrote outside the results in 16 bits", m, n);
}
