/* SPDX-License-Identifier: Apache-2.0 */
/* dot_avx2.h - products of groups of four bytes without VNNI, in two forms.
 * Layer: cpu (L1).  Included by one level file, after vec_avx2.h.
 *
 * VPMADDUBSW multiplies unsigned by signed bytes and adds neighbours in 16 bits, with saturation:
 * two products of full bytes, 255 * 127 * 2, do not fit.
 *   By default it gets |w| as the unsigned side and the input with the sign of w as the signed one;
 *   with the input in [-127, 127] two products are at most 2 * 127 * 127 = 32258 and fit.
 *   With I8_SEVEN_BITS the input is limited to 7 bits instead: one instruction less, a third faster
 *   (193 against 144 GOP/s on a Zen 3 core), twice the rounding error of the activations. */
#ifndef RR_CPU_X86_DOT_AVX2_H
#define RR_CPU_X86_DOT_AVX2_H

#include <string.h>

#include "cpu/x86/vec_avx2.h"

#define I8_MR 4

typedef __m256i dot_x;

static inline dot_x dot_x_load(const int8_t *p)
{
    int32_t four;

    memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}

#if defined(I8_SEVEN_BITS)

#define I8_TOP 127
#define I8_ZERO 0

typedef __m256i dot_w;

static inline dot_w dot_w_load(const int8_t *p) { return vi_load(p); }

static inline vi dot(vi sum, dot_x x, dot_w w)
{
    __m256i t = _mm256_maddubs_epi16(x, w);

    return _mm256_add_epi32(sum, _mm256_madd_epi16(t, _mm256_set1_epi16(1)));
}

#else

#define I8_TOP 254
#define I8_ZERO 127

typedef struct {
    __m256i value, size;
} dot_w;

static inline dot_w dot_w_load(const int8_t *p)
{
    __m256i w = vi_load(p);

    return (dot_w){ w, _mm256_abs_epi8(w) };
}

static inline vi dot(vi sum, dot_x x, dot_w w)
{
    __m256i t = _mm256_maddubs_epi16(w.size, _mm256_sign_epi8(x, w.value));

    return _mm256_add_epi32(sum, _mm256_madd_epi16(t, _mm256_set1_epi16(1)));
}

#endif
#endif
