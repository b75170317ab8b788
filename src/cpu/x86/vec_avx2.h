/* SPDX-License-Identifier: Apache-2.0 */
/* vec_avx2.h - the vector vocabulary of the kernel bodies, 8 floats wide: AVX2, FMA, F16C.
 * Layer: cpu (L1).  Included by one level file, before the bodies. */
#ifndef RR_CPU_X86_VEC_AVX2_H
#define RR_CPU_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VW 8 /* lanes */
typedef __m256 v;
typedef __m256i vi; /* VW 32-bit integers */

static inline v v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, v a) { _mm256_storeu_ps(p, a); }
static inline v v_set(float a) { return _mm256_set1_ps(a); }
static inline v v_add(v a, v b) { return _mm256_add_ps(a, b); }
static inline v v_sub(v a, v b) { return _mm256_sub_ps(a, b); }
static inline v v_mul(v a, v b) { return _mm256_mul_ps(a, b); }
static inline v v_div(v a, v b) { return _mm256_div_ps(a, b); }
static inline v v_fma(v a, v b, v c) { return _mm256_fmadd_ps(a, b, c); } /* a * b + c */
static inline v v_max(v a, v b) { return _mm256_max_ps(a, b); } /* b if one of them is NaN */
static inline v v_min(v a, v b) { return _mm256_min_ps(a, b); }
static inline v v_abs(v a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }

static inline v v_round(v a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a * 2^n for a in [1/2, 2) and integral n in [-125, 126] */
static inline v v_scale2(v a, v n)
{
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);

    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), e));
}

/* Returns a - floor(a); v_scale2 by whole is by floor(a). */
static inline v v_split(v a, v *whole)
{
    *whole = _mm256_floor_ps(a);
    return v_sub(a, *whole);
}

/* All ones in lanes 0 .. n-1. */
static inline __m256i v_first(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n < VW lanes; the others read as 0 and are not written. */
static inline v v_load_n(const float *p, uint32_t n) { return _mm256_maskload_ps(p, v_first(n)); }
static inline void v_store_n(float *p, v a, uint32_t n) { _mm256_maskstore_ps(p, v_first(n), a); }

static inline v v_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline void v_store_f16(uint16_t *p, v a)
{
    _mm_storeu_si128((__m128i *)p,
                     _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline v v_load_bf16(const uint16_t *p)
{
    __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

    return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}

/* Pairs of bf16, one pair in a lane: the first and the second of each as floats. */
static inline v v_first_bf16(vi p) { return _mm256_castsi256_ps(_mm256_slli_epi32(p, 16)); }
static inline v v_second_bf16(vi p)
{
    return _mm256_castsi256_ps(_mm256_and_si256(p, _mm256_set1_epi32((int)0xFFFF0000)));
}

static inline vi vi_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void vi_store(void *p, vi a) { _mm256_storeu_si256((__m256i *)p, a); }
static inline vi vi_zero(void) { return _mm256_setzero_si256(); }

static inline vi vi_set(const void *p) /* 4 bytes in every lane */
{
    int32_t four;

    memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}

static inline v v_from_i32(vi a) { return _mm256_cvtepi32_ps(a); }

/* VW numbers, each as the low byte of the nearest integer. */
static inline void v_store_bytes(int8_t *p, v a)
{
    const __m256i low = _mm256_set1_epi32(0x0C080400);
    __m256i i = _mm256_shuffle_epi8(_mm256_cvtps_epi32(a), low); /* 4 bytes in each half */
    __m128i b = _mm_unpacklo_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));

    _mm_storel_epi64((__m128i *)p, b);
}

/* The same of 4 VW numbers that fit 16 bits.  Packing goes on within halves, so groups of
 * four bytes come out as 0 2 4 6 1 3 5 7. */
static inline void v_store_bytes4(int8_t *p, const v a[4])
{
    const __m256i low = _mm256_set1_epi16(0xFF), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i s = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
    __m256i t = _mm256_packs_epi32(_mm256_cvtps_epi32(a[2]), _mm256_cvtps_epi32(a[3]));

    s = _mm256_packus_epi16(_mm256_and_si256(s, low), _mm256_and_si256(t, low));
    vi_store(p, _mm256_permutevar8x32_epi32(s, order));
}

/* 2 VW whole numbers as 16 bits each. */
static inline void v_store_i16(uint16_t *p, v a, v b)
{
    __m256i i = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));

    vi_store(p, _mm256_permute4x64_epi64(i, 0xD8));
}

/* The same of two, pair by pair. */
static inline vi vi_pairs(v a, v b)
{
    __m256i second = _mm256_slli_epi32(_mm256_cvtps_epi32(b), 16);

    return _mm256_blend_epi16(_mm256_cvtps_epi32(a), second, 0xAA);
}

static inline float v_sum(v a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float v_max_lane(v a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline float v_min_lane(v a)
{
    __m128 s = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    s = _mm_min_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_min_ss(s, _mm_movehdup_ps(s)));
}

static inline vi vi_bits(v a) { return _mm256_castps_si256(a); }
static inline vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }

/* The float whose bits are the largest. */
static inline float vi_max_lane(vi a)
{
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));

    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(s, _mm_shuffle_epi32(s, 0xB1))));
}

/* r[i] lane j <-> r[j] lane i */
static inline void v_transpose(v r[VW])
{
    v t[8], u[8];

    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

#endif
