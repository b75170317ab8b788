/* SPDX-License-Identifier: Apache-2.0 */
/* dot_avx2.h - products of groups of four bytes without VNNI.
 * Layer: cpu (L1).  Included by one level file, after vec_avx2.h and NR.
 *
 * VPMADDUBSW multiplies unsigned by signed bytes and adds neighbours in 16 bits, with saturation.
 * The weights are such that even two of its results add up in 16 bits (i8_wtop in kern.h), so that
 * one VPMADDWD widens two groups: three multiplications for eight bytes. */
#ifndef RR_CPU_X86_DOT_AVX2_H
#define RR_CPU_X86_DOT_AVX2_H

#include "cpu/x86/vec_avx2.h"

#define I8_MR 4
#define I8_STEP 2
#define I8_TOP 254
#define I8_WTOP 129
#define I8_ZERO 0

typedef struct {
    __m256i first, second;
} dot_x;

/* The second group stays in memory: in registers, clang would lack one in a tile of 4 rows. */
typedef struct {
    __m256i first;
    const __m256i *second;
} dot_w;

static inline dot_x dot_x_load(const int8_t *p)
{
    return (dot_x){ vi_set(p), vi_set(p + 4) };
}

static inline dot_w dot_w_load(const int8_t *p)
{
    return (dot_w){ vi_load(p), (const __m256i *)(const void *)(p + 4 * NR) };
}

static inline vi dot(vi sum, dot_x x, dot_w w)
{
    __m256i t = _mm256_maddubs_epi16(x.first, w.first), u;

    __asm__("vpmaddubsw %2, %1, %0" : "=x"(u) : "x"(x.second), "m"(*w.second));
    t = _mm256_madd_epi16(_mm256_add_epi16(t, u), _mm256_set1_epi16(1));
    return _mm256_add_epi32(sum, t);
}

#define I16_DOT
static inline vi dot_i16(vi sum, vi x, vi w)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
}

#endif
