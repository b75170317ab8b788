/* SPDX-License-Identifier: Apache-2.0 */
/* emul_avx512.h - the 512-bit intrinsics that the kernels use, in plain C, under their own names.
 *
 * The kernel sources include this instead of <immintrin.h> when RR_EMULATE_AVX512 is defined, and
 * are then checked on processors without AVX-512.  Each function follows the operation section of
 * its instruction in the Intel SDM; fused multiply-adds round once.  Slow, and meant to be. */
#ifndef RR_EMUL_AVX512_H
#define RR_EMUL_AVX512_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cpu/weights.h"

#define _MM_FROUND_TO_NEAREST_INT 0
#define _MM_FROUND_NO_EXC 8

#define EMU static inline __attribute__((always_inline, unused))

typedef struct { float f[16]; } __m512;
typedef union {
    int32_t i[16];
    int16_t h[32];
    int8_t b[64];
    uint8_t u[64];
} __m512i;
typedef struct { uint16_t h[16]; } __m256i;
typedef struct { int8_t b[16]; } __m128i;
typedef __m512i __m512bh;
typedef uint16_t __mmask16;

#define EACH(expression)                                                                           \
    __m512 r;                                                                                      \
    for (int n = 0; n < 16; n++)                                                                   \
        r.f[n] = (expression);                                                                     \
    return r

EMU __m512 _mm512_loadu_ps(const void *p)
{
    __m512 r;

    memcpy(&r, p, sizeof(r));
    return r;
}
EMU void _mm512_storeu_ps(void *p, __m512 a) { memcpy(p, &a, sizeof(a)); }
EMU __m512 _mm512_set1_ps(float a) { EACH(a); }
EMU __m512 _mm512_add_ps(__m512 a, __m512 b) { EACH(a.f[n] + b.f[n]); }
EMU __m512 _mm512_sub_ps(__m512 a, __m512 b) { EACH(a.f[n] - b.f[n]); }
EMU __m512 _mm512_mul_ps(__m512 a, __m512 b) { EACH(a.f[n] * b.f[n]); }
EMU __m512 _mm512_div_ps(__m512 a, __m512 b) { EACH(a.f[n] / b.f[n]); }
EMU __m512 _mm512_max_ps(__m512 a, __m512 b) { EACH(a.f[n] > b.f[n] ? a.f[n] : b.f[n]); }
EMU __m512 _mm512_min_ps(__m512 a, __m512 b) { EACH(a.f[n] < b.f[n] ? a.f[n] : b.f[n]); }
EMU __m512 _mm512_abs_ps(__m512 a) { EACH(__builtin_fabsf(a.f[n])); }
EMU __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c)
{
    EACH(__builtin_fmaf(a.f[n], b.f[n], c.f[n]));
}
/* imm 8: to nearest even, whole numbers */
EMU __m512 _mm512_roundscale_ps(__m512 a, int imm) { EACH(imm == 8 ? rintf(a.f[n]) : NAN); }
EMU __m512 _mm512_reduce_ps(__m512 a, int imm) { EACH(imm == 9 ? a.f[n] - floorf(a.f[n]) : NAN); }
EMU __m512 _mm512_scalef_ps(__m512 a, __m512 b) { EACH(ldexpf(a.f[n], (int)floorf(b.f[n]))); }

EMU __m512 _mm512_maskz_loadu_ps(__mmask16 k, const void *p)
{
    __m512 r = { { 0 } };

    for (int n = 0; n < 16; n++)
        if (k >> n & 1) memcpy(&r.f[n], (const char *)p + 4 * n, 4); /* the rest is not touched */
    return r;
}
EMU void _mm512_mask_storeu_ps(void *p, __mmask16 k, __m512 a)
{
    for (int n = 0; n < 16; n++)
        if (k >> n & 1) memcpy((char *)p + 4 * n, &a.f[n], 4);
}

/* ---- conversions --------------------------------------------------------------------------- */

EMU __m256i _mm256_loadu_si256(const __m256i *p)
{
    __m256i r;

    memcpy(&r, p, sizeof(r));
    return r;
}
EMU void _mm256_storeu_si256(__m256i *p, __m256i a) { memcpy(p, &a, sizeof(a)); }
EMU float emu_from_f16(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float r = exponent == 31 ? (fraction ? NAN : INFINITY)
              : exponent     ? ldexpf((float)(1024 + fraction), exponent - 25)
                             : ldexpf((float)fraction, -24);

    return h >> 15 ? -r : r;
}
EMU __m512 _mm512_cvtph_ps(__m256i a) { EACH(emu_from_f16(a.h[n])); }
/* imm 8: to nearest even, no exceptions */
EMU __m256i _mm512_cvtps_ph(__m512 a, int imm)
{
    __m256i r;

    for (int n = 0; n < 16; n++)
        r.h[n] = imm == 8 ? rr_weights_round_f16(a.f[n]) : 0x7E00;
    return r;
}
EMU __m512i _mm512_cvtepu16_epi32(__m256i a)
{
    __m512i r;

    for (int n = 0; n < 16; n++)
        r.i[n] = a.h[n];
    return r;
}
EMU __m512i _mm512_slli_epi32(__m512i a, unsigned count)
{
    for (int n = 0; n < 16; n++)
        a.i[n] = (int32_t)((uint32_t)a.i[n] << count);
    return a;
}
EMU __m512 _mm512_castsi512_ps(__m512i a)
{
    __m512 r;

    memcpy(&r, &a, sizeof(r));
    return r;
}
EMU __m512i _mm512_castps_si512(__m512 a)
{
    __m512i r;

    memcpy(&r, &a, sizeof(r));
    return r;
}
EMU float _mm512_cvtss_f32(__m512 a) { return a.f[0]; }

/* ---- integers ------------------------------------------------------------------------------ */

#define EACH_INT(field, count, expression)                                                         \
    __m512i r;                                                                                     \
    for (int n = 0; n < (count); n++)                                                              \
        r.field[n] = (expression);                                                                 \
    return r

EMU __m512i _mm512_loadu_si512(const void *p)
{
    __m512i r;

    memcpy(&r, p, sizeof(r));
    return r;
}
EMU void _mm512_storeu_si512(void *p, __m512i a) { memcpy(p, &a, sizeof(a)); }
EMU void _mm_storeu_si128(__m128i *p, __m128i a) { memcpy(p, &a, sizeof(a)); }
EMU __m512i _mm512_set1_epi32(int a) { EACH_INT(i, 16, a); }
EMU __m512i _mm512_and_si512(__m512i a, __m512i b) { EACH_INT(i, 16, a.i[n] & b.i[n]); }
EMU __m512i _mm512_or_si512(__m512i a, __m512i b) { EACH_INT(i, 16, a.i[n] | b.i[n]); }
EMU __m512i _mm512_max_epi32(__m512i a, __m512i b)
{
    EACH_INT(i, 16, a.i[n] > b.i[n] ? a.i[n] : b.i[n]);
}
EMU __m512i _mm512_setzero_si512(void) { EACH_INT(i, 16, 0); }
EMU __m512i _mm512_add_epi32(__m512i a, __m512i b)
{
    EACH_INT(i, 16, (int32_t)((uint32_t)a.i[n] + (uint32_t)b.i[n]));
}
EMU __m512i _mm512_set1_epi16(short a) { EACH_INT(h, 32, a); }
EMU __m512i _mm512_add_epi16(__m512i a, __m512i b) { EACH_INT(h, 32, (int16_t)(a.h[n] + b.h[n])); }
EMU __m512i _mm512_maddubs_epi16(__m512i a, __m512i b) /* saturates */
{
    __m512i r;

    for (int n = 0; n < 32; n++) {
        int s = a.u[2 * n] * b.b[2 * n] + a.u[2 * n + 1] * b.b[2 * n + 1];

        r.h[n] = (int16_t)(s > INT16_MAX ? INT16_MAX : s < INT16_MIN ? INT16_MIN : s);
    }
    return r;
}
EMU __m512i _mm512_madd_epi16(__m512i a, __m512i b)
{
    EACH_INT(i, 16, (int32_t)((uint32_t)(a.h[2 * n] * b.h[2 * n]) +
                              (uint32_t)(a.h[2 * n + 1] * b.h[2 * n + 1])));
}
EMU __m512i _mm512_dpwssd_epi32(__m512i s, __m512i a, __m512i b)
{
    return _mm512_add_epi32(s, _mm512_madd_epi16(a, b));
}
EMU __m512i _mm512_dpbusd_epi32(__m512i s, __m512i a, __m512i b)
{
    for (int n = 0; n < 64; n++)
        s.i[n / 4] += a.u[n] * b.b[n];
    return s;
}
EMU __m512 _mm512_cvtepi32_ps(__m512i a) { EACH((float)a.i[n]); }
EMU __m512i _mm512_cvtps_epi32(__m512 a)
{
    EACH_INT(i, 16, __builtin_fabsf(a.f[n]) < 0x1p31f ? (int32_t)rintf(a.f[n]) : INT32_MIN);
}
/* Both saturate, quarter by quarter: first a's numbers, then b's. */
EMU __m512i _mm512_packs_epi32(__m512i a, __m512i b)
{
    __m512i r;

    for (int n = 0; n < 32; n++) {
        int32_t t = (n % 8 < 4 ? a : b).i[n / 8 * 4 + n % 4];

        r.h[n] = (int16_t)(t > INT16_MAX ? INT16_MAX : t < INT16_MIN ? INT16_MIN : t);
    }
    return r;
}
EMU __m512i _mm512_packus_epi16(__m512i a, __m512i b)
{
    __m512i r;

    for (int n = 0; n < 64; n++) {
        int16_t t = (n % 16 < 8 ? a : b).h[n / 16 * 8 + n % 8];

        r.u[n] = (uint8_t)(t > UINT8_MAX ? UINT8_MAX : t < 0 ? 0 : t);
    }
    return r;
}
EMU __m512i _mm512_permutexvar_epi32(__m512i order, __m512i a)
{
    EACH_INT(i, 16, a.i[order.i[n] & 15]);
}
#define _mm512_setr_epi32(...) ((__m512i){ .i = { __VA_ARGS__ } })
EMU __m128i _mm512_cvtepi32_epi8(__m512i a)
{
    __m128i r;

    for (int n = 0; n < 16; n++)
        r.b[n] = (int8_t)(uint8_t)a.i[n];
    return r;
}

EMU __m256i _mm512_cvtepi32_epi16(__m512i a)
{
    __m256i r;

    for (int n = 0; n < 16; n++)
        r.h[n] = (uint16_t)a.i[n];
    return r;
}

/* bf16 to float with subnormals as zero, as VDPBF16PS reads them. */
EMU float emu_from_bf16(int16_t h)
{
    uint32_t bits = (uint32_t)(uint16_t)h << 16;
    float r;

    if ((bits & 0x7F800000) == 0) bits &= 0x80000000;
    memcpy(&r, &bits, 4);
    return r;
}
EMU __m512 _mm512_dpbf16_ps(__m512 s, __m512bh a, __m512bh b)
{
    for (int n = 0; n < 16; n++) {
        for (int i = 2 * n + 1; i >= 2 * n; i--)
            s.f[n] = __builtin_fmaf(emu_from_bf16(a.h[i]), emu_from_bf16(b.h[i]), s.f[n]);
    }
    return s;
}

/* To nearest even, subnormals to zero, NaN quiet. */
EMU __m256i _mm512_cvtneps_pbh(__m512 a)
{
    __m256i r;

    for (int n = 0; n < 16; n++) {
        uint32_t bits;

        memcpy(&bits, &a.f[n], 4);
        if ((bits & 0x7FFFFFFF) > 0x7F800000)
            bits |= 0x400000;
        else if ((bits & 0x7F800000) == 0)
            bits &= 0x80000000;
        else
            bits += 0x7FFF + (bits >> 16 & 1);
        r.h[n] = (uint16_t)(bits >> 16);
    }
    return r;
}

/* ---- shuffles ------------------------------------------------------------------------------ */

/* Inside each 128-bit lane: two floats of a, two of b, two bits of imm each. */
EMU __m512 _mm512_shuffle_ps(__m512 a, __m512 b, int imm)
{
    EACH((n & 2 ? b : a).f[(n & ~3) + (imm >> 2 * (n & 3) & 3)]);
}
/* Whole 128-bit lanes: two of a, two of b. */
EMU __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int imm)
{
    EACH((n & 8 ? b : a).f[4 * (imm >> 2 * (n >> 2) & 3) + (n & 3)]);
}
EMU __m512 _mm512_unpacklo_ps(__m512 a, __m512 b)
{
    EACH((n & 1 ? b : a).f[(n & ~3) + (n >> 1 & 1)]);
}
EMU __m512 _mm512_unpackhi_ps(__m512 a, __m512 b)
{
    EACH((n & 1 ? b : a).f[(n & ~3) + 2 + (n >> 1 & 1)]);
}

#endif
