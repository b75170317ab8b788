/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - int8 and bf16 weights: quantizing and packing.  Layer: cpu (L1).
 * Threads: pure functions. */
#include "cpu/weights.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "cpu/body_weights.h"
#include "cpu/features.h"
#include "cpu/weights_levels.h"

bool rr_weights_within(const int8_t *q, uint32_t k, uint32_t wtop)
{
    float t[8];

    for (uint32_t j = 0; j < k && wtop < RR_I8_WFREE; j += 8) {
        for (uint32_t i = 0; i < 8; i++) t[i] = j + i < k ? (float)q[j + i] : 0;
        for (int s = 0; s < 2; s++)
            if (set_sum(t, s, 1) > (float)wtop || set_sum(t, s, -1) > (float)wtop) return false;
    }
    return true;
}

float rr_weights_quantize_row(int8_t *q, const float *w, uint32_t k, uint32_t wtop)
{
#if defined(__x86_64__)
    if (rr_cpu_flags() & RR_CPU_AVX2) return rr_weights_quantize_row_avx2(q, w, k, wtop);
#endif
    return rr_weights_quantize_row_plain(q, w, k, wtop);
}

float rr_weights_quantize_row_plain(int8_t *q, const float *w, uint32_t k, uint32_t wtop)
{
    return quantize_row(q, w, k, wtop);
}

void rr_weights_pack_i8(int8_t *panels, uint32_t nr, float *w_sum, const int8_t *q, uint32_t row0,
                        uint32_t rows, uint32_t k)
{
    size_t panel = (size_t)rr_i8_depth(k) * nr;

    for (uint32_t r = 0; r < rows; r++, q += k) {
        size_t o = (size_t)row0 + r;
        int8_t *column = panels + o / nr * panel + o % nr * 4;
        int32_t sum = 0;

        for (uint32_t j = 0; j < k; j += 4)
            memcpy(column + (size_t)j * nr, q + j, RR_MIN(k - j, 4u));
        for (uint32_t j = 0; j < k; j++) sum += q[j];
        w_sum[o] = (float)sum;
    }
}

uint16_t rr_weights_round_bf16(float v)
{
    uint32_t bits;

    memcpy(&bits, &v, 4);
    if (v != v) return (uint16_t)(bits >> 16 | 0x40); /* stays NaN, quiet */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

uint16_t rr_weights_round_f16(float v)
{
    uint32_t bits, sign;

    memcpy(&bits, &v, 4);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return (uint16_t)(sign | 0x7E00);
    if (bits >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520 and more */
    if (bits < 0x38800000) {                                  /* below 2^-14: steps of 2^-24 */
        float a;

        memcpy(&a, &bits, 4);
        return (uint16_t)(sign | (uint32_t)nearest(a * 0x1p24f));
    }
    bits -= 0x38000000; /* exponents of f16 begin 112 later */
    return (uint16_t)(sign | ((bits + 0xFFF + (bits >> 13 & 1)) >> 13));
}

bool rr_weights_to_f16_plain(uint16_t *out, const float *v, size_t n)
{
    bool fits = true;

    for (size_t i = 0; i < n; i++) {
        out[i] = rr_weights_round_f16(v[i]);
        fits &= (out[i] & 0x7FFF) != 0x7C00 || isinf(v[i]);
    }
    return fits;
}

bool rr_weights_to_f16(uint16_t *out, const float *v, size_t n)
{
#if defined(__x86_64__)
    if (rr_cpu_flags() & RR_CPU_AVX2) return rr_weights_to_f16_avx2(out, v, n);
#endif
    return rr_weights_to_f16_plain(out, v, n);
}

void rr_weights_pack_bf16(uint16_t *panels, uint32_t nr, const float *w, uint32_t row0,
                          uint32_t rows, uint32_t k)
{
    size_t panel = ((size_t)k + 1) / 2 * nr * 2;

    for (uint32_t r = 0; r < rows; r++, w += k) {
        size_t o = (size_t)row0 + r;
        uint16_t *column = panels + o / nr * panel + o % nr * 2;

        for (uint32_t j = 0; j < k; j++)
            column[(size_t)(j / 2) * nr * 2 + j % 2] = rr_weights_round_bf16(w[j]);
    }
}

float rr_weights_quantize_i16(int16_t *p, float *sum, const float *w, uint32_t k)
{
    float most = row_max(w, k), scale, inv;
    double all = 0, squares = 0, whole = 0;
    int8_t q[8192];

    *sum = 0;
    memset(p, 0, k * sizeof(*p));
    if (!(most > 1e-30f)) return most > 0 ? 0 : most; /* NaN, 0, or less than a score can show */
    scale = k <= RR_COUNT(q) ? rr_weights_grid(q, w, k) : 0;
    for (uint32_t j = 0; j < k; j++) {
        all += fabsf(w[j]);
        squares += (double)w[j] * w[j];
    }
    for (uint32_t j = 0; j < k && scale > 0; j++) {
        p[j] = q[j];
        whole += abs(q[j]);
    }
    if (scale == 0 || whole > RR_I16_CHANNEL) {
        /* Rounding adds half of each value at most. */
        scale = (float)RR_MAX(all / (RR_I16_CHANNEL - 0.5 * k - 64),
                              RR_MAX(sqrt(squares / k) / RR_I16_STEPS, most / INT16_MAX));
        inv = 1.0f / scale;
        whole = 0;
        for (uint32_t j = 0; j < k; j++) {
            p[j] = (int16_t)rintf(w[j] * inv);
            whole += abs(p[j]);
        }
    }
    *sum = (float)whole;
    return scale;
}

void rr_weights_pack_i16(uint16_t *panels, uint32_t nr, const int16_t *p, uint32_t row0,
                         uint32_t rows, uint32_t k)
{
    size_t panel = ((size_t)k + 1) / 2 * nr * 2;

    for (uint32_t r = 0; r < rows; r++, p += k) {
        size_t o = (size_t)row0 + r;
        uint16_t *column = panels + o / nr * panel + o % nr * 2;

        for (uint32_t j = 0; j < k; j++)
            column[(size_t)(j / 2) * nr * 2 + j % 2] = (uint16_t)p[j];
    }
}
