/* SPDX-License-Identifier: Apache-2.0 */
/* vec_avx512.h - the vector vocabulary of the kernel bodies, 16 floats wide: AVX-512 F, BW, DQ, VL.
 * Layer: cpu (L1).  Included by a level file, before the bodies.  With RR_EMULATE_AVX512 the
 * intrinsics come from a plain C emulation, so that the level can be checked on any processor. */
#ifndef RR_CPU_X86_VEC_AVX512_H
#define RR_CPU_X86_VEC_AVX512_H

#if defined(RR_EMULATE_AVX512)
#include "emul_avx512.h"
#define AS_BF16(a) (a)
#define AS_BITS(a) (a)
#else
#include <immintrin.h>
#define AS_BF16(a) ((__m512bh)(a))
#define AS_BITS(a) ((__m256i)(a))
#endif
#include <stdint.h>
#include <string.h>

#define VW 16 /* lanes */
typedef __m512 v;
typedef __m512i vi; /* VW 32-bit integers */

static inline v v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, v a) { _mm512_storeu_ps(p, a); }
static inline v v_set(float a) { return _mm512_set1_ps(a); }
static inline v v_add(v a, v b) { return _mm512_add_ps(a, b); }
static inline v v_sub(v a, v b) { return _mm512_sub_ps(a, b); }
static inline v v_mul(v a, v b) { return _mm512_mul_ps(a, b); }
static inline v v_div(v a, v b) { return _mm512_div_ps(a, b); }
static inline v v_fma(v a, v b, v c) { return _mm512_fmadd_ps(a, b, c); } /* a * b + c */
static inline v v_max(v a, v b) { return _mm512_max_ps(a, b); } /* b if one of them is NaN */
static inline v v_min(v a, v b) { return _mm512_min_ps(a, b); }
static inline v v_abs(v a) { return _mm512_abs_ps(a); }
static inline v v_round(v a) { return _mm512_roundscale_ps(a, 8); } /* to nearest, no exception */
static inline v v_scale2(v a, v n) { return _mm512_scalef_ps(a, n); } /* a * 2^floor(n) */

/* Returns a - floor(a); v_scale2 by whole is by floor(a). */
static inline v v_split(v a, v *whole)
{
    *whole = a;
    return _mm512_reduce_ps(a, 9); /* downwards, no exception */
}

/* The first n < VW lanes; the others read as 0 and are not written. */
static inline v v_load_n(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

static inline void v_store_n(float *p, v a, uint32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}

static inline v v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline void v_store_f16(uint16_t *p, v a)
{
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline v v_load_bf16(const uint16_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}

/* Pairs of bf16, one pair in a lane: the first and the second of each as floats. */
static inline v v_first_bf16(vi p) { return _mm512_castsi512_ps(_mm512_slli_epi32(p, 16)); }
static inline v v_second_bf16(vi p)
{
    return _mm512_castsi512_ps(_mm512_and_si512(p, _mm512_set1_epi32((int)0xFFFF0000)));
}

static inline vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(void *p, vi a) { _mm512_storeu_si512(p, a); }
static inline vi vi_zero(void) { return _mm512_setzero_si512(); }

static inline vi vi_set(const void *p) /* 4 bytes in every lane */
{
    int32_t four;

    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}

static inline v v_from_i32(vi a) { return _mm512_cvtepi32_ps(a); }

/* VW numbers, each as the low byte of the nearest integer. */
static inline void v_store_bytes(int8_t *p, v a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

/* The same of 4 VW numbers from 0 to 255.  Packing goes on within quarters, so groups of four bytes
 * come out as 0 4 8 12 1 5 ... */
static inline void v_store_bytes4(int8_t *p, const v a[4])
{
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i s = _mm512_packs_epi32(_mm512_cvtps_epi32(a[0]), _mm512_cvtps_epi32(a[1]));
    __m512i t = _mm512_packs_epi32(_mm512_cvtps_epi32(a[2]), _mm512_cvtps_epi32(a[3]));

    vi_store(p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(s, t)));
}

/* 2 VW whole numbers as 16 bits each. */
static inline void v_store_i16(uint16_t *p, v a, v b)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a)));
    _mm256_storeu_si256((__m256i *)(p + VW), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(b)));
}

/* The same of two, pair by pair. */
static inline vi vi_pairs(v a, v b)
{
    __m512i first = _mm512_and_si512(_mm512_cvtps_epi32(a), _mm512_set1_epi32(0xFFFF));

    return _mm512_or_si512(first, _mm512_slli_epi32(_mm512_cvtps_epi32(b), 16));
}

#if defined(__AVX512BF16__) || defined(RR_EMULATE_AVX512)
#define V_STORE_BF16
/* To nearest even; subnormals become 0. */
static inline void v_store_bf16(uint16_t *p, v a)
{
    _mm256_storeu_si256((__m256i *)p, AS_BITS(_mm512_cvtneps_pbh(a)));
}
#endif

/* Lanes 128 bits wide: 0 + 2, 1 + 3, then their halves. */
static inline float v_sum(v a)
{
    a = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0x4E));
    a = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0xB1));
    a = _mm512_add_ps(a, _mm512_shuffle_ps(a, a, 0x4E));
    a = _mm512_add_ps(a, _mm512_shuffle_ps(a, a, 0xB1));
    return _mm512_cvtss_f32(a);
}

static inline float v_max_lane(v a)
{
    a = _mm512_max_ps(a, _mm512_shuffle_f32x4(a, a, 0x4E));
    a = _mm512_max_ps(a, _mm512_shuffle_f32x4(a, a, 0xB1));
    a = _mm512_max_ps(a, _mm512_shuffle_ps(a, a, 0x4E));
    a = _mm512_max_ps(a, _mm512_shuffle_ps(a, a, 0xB1));
    return _mm512_cvtss_f32(a);
}

static inline float v_min_lane(v a)
{
    a = _mm512_min_ps(a, _mm512_shuffle_f32x4(a, a, 0x4E));
    a = _mm512_min_ps(a, _mm512_shuffle_f32x4(a, a, 0xB1));
    a = _mm512_min_ps(a, _mm512_shuffle_ps(a, a, 0x4E));
    a = _mm512_min_ps(a, _mm512_shuffle_ps(a, a, 0xB1));
    return _mm512_cvtss_f32(a);
}

static inline vi vi_bits(v a) { return _mm512_castps_si512(a); }
static inline vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }

/* The float whose bits are the largest. */
static inline float vi_max_lane(vi a)
{
    v f = _mm512_castsi512_ps(a);

    a = vi_max(a, vi_bits(_mm512_shuffle_f32x4(f, f, 0x4E)));
    f = _mm512_castsi512_ps(a);
    a = vi_max(a, vi_bits(_mm512_shuffle_f32x4(f, f, 0xB1)));
    f = _mm512_castsi512_ps(a);
    a = vi_max(a, vi_bits(_mm512_shuffle_ps(f, f, 0x4E)));
    f = _mm512_castsi512_ps(a);
    a = vi_max(a, vi_bits(_mm512_shuffle_ps(f, f, 0xB1)));
    return _mm512_cvtss_f32(_mm512_castsi512_ps(a));
}

/* r[i] lane j <-> r[j] lane i */
static inline void v_transpose(v r[VW])
{
    v t[16], u[16];

    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* u[i + c]: columns c, 4 + c, 8 + c, 12 + c of four rows */
        u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
        u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
    for (int c = 0; c < 4; c++) {
        v a = _mm512_shuffle_f32x4(u[c], u[c + 4], 0x88);
        v b = _mm512_shuffle_f32x4(u[c], u[c + 4], 0xDD);
        v d = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0x88);
        v e = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0xDD);

        r[c] = _mm512_shuffle_f32x4(a, d, 0x88);
        r[c + 4] = _mm512_shuffle_f32x4(b, e, 0x88);
        r[c + 8] = _mm512_shuffle_f32x4(a, d, 0xDD);
        r[c + 12] = _mm512_shuffle_f32x4(b, e, 0xDD);
    }
}

#endif
