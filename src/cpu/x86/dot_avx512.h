/* SPDX-License-Identifier: Apache-2.0 */
/* dot_avx512.h - products of groups of four bytes and of pairs of bf16 on 512 bits.
 * Layer: cpu (L1).  Included by one level file, after vec_avx512.h and NR.  I8_VNNI: VPDPBUSD.
 * Without it: as in dot_avx2.h.  BF16_DOT: VDPBF16PS. */
#ifndef RR_CPU_X86_DOT_AVX512_H
#define RR_CPU_X86_DOT_AVX512_H

#include "cpu/x86/vec_avx512.h"

#define I8_TOP 254
#define I8_ZERO 0

#if defined(I8_VNNI)

#define I8_MR 6
#define I8_STEP 1
#define I8_WTOP RR_I8_WFREE

typedef __m512i dot_x;
typedef __m512i dot_w;

static inline dot_x dot_x_load(const int8_t *p) { return vi_set(p); }
static inline dot_w dot_w_load(const int8_t *p) { return vi_load(p); }
static inline vi dot(vi sum, dot_x x, dot_w w) { return _mm512_dpbusd_epi32(sum, x, w); }

#else

#define I8_MR 4
#define I8_STEP 2
#define I8_WTOP 129

typedef struct {
    __m512i first, second;
} dot_x;
typedef dot_x dot_w;

static inline dot_x dot_x_load(const int8_t *p) { return (dot_x){ vi_set(p), vi_set(p + 4) }; }

static inline dot_w dot_w_load(const int8_t *p)
{
    return (dot_w){ vi_load(p), vi_load(p + 4 * NR) };
}

static inline vi dot(vi sum, dot_x x, dot_w w)
{
    __m512i t = _mm512_add_epi16(_mm512_maddubs_epi16(x.first, w.first),
                                 _mm512_maddubs_epi16(x.second, w.second));

    return _mm512_add_epi32(sum, _mm512_madd_epi16(t, _mm512_set1_epi16(1)));
}

#endif

#if !defined(BF16_DOT) && !defined(BF16_OWN_TILES)
#define I16_DOT
static inline vi dot_i16(vi sum, vi x, vi w)
{
#if defined(I8_VNNI)
    return _mm512_dpwssd_epi32(sum, x, w);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
#endif
}
#endif

#if defined(BF16_DOT)
static inline vi vi_pair(const uint16_t *p) { return vi_set(p); }
static inline v dot_bf16(v sum, vi x, vi w)
{
    return _mm512_dpbf16_ps(sum, AS_BF16(x), AS_BF16(w));
}
#endif

#endif
