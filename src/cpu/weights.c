/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - int8 and bf16 weights: quantizing and packing.  Layer: cpu (L1).
 * Threads: pure functions. */
#include "cpu/weights.h"

#include <math.h>
#include <string.h>

#include "base/attr.h"

#define LANES 16 /* independent sums: the compiler can use any vector, the order stays the same */

/* Nearest whole number, ties to even, for |v| < 2^22: adding 1.5 * 2^23 leaves no fraction bits. */
static inline float nearest(float v)
{
    return (v + 12582912.0f) - 12582912.0f;
}

static inline float clamp127(float v)
{
    v = v < 127.0f ? v : 127.0f;
    return v > -127.0f ? v : -127.0f;
}

/* Largest |w|; NaN if any value is NaN or infinite. */
static float row_max(const float *w, uint32_t k)
{
    float most[LANES] = { 0 }, poison = 0, max = 0;

    for (uint32_t j = 0; j < k; j++) {
        float a = fabsf(w[j]);

        most[j % LANES] = a > most[j % LANES] ? a : most[j % LANES];
        poison += w[j] * 0.0f;
    }
    for (int l = 0; l < LANES; l++)
        max = most[l] > max ? most[l] : max;
    return max + poison;
}

/* Squared error of w with this scale. */
static float row_error(const float *w, uint32_t k, float scale)
{
    float error[LANES] = { 0 }, inv = 1.0f / scale, sum = 0;
    uint32_t j = 0;

    for (; j + LANES <= k; j += LANES)
        for (uint32_t l = 0; l < LANES; l++) {
            float d = w[j + l] - clamp127(nearest(clamp127(w[j + l] * inv))) * scale;

            error[l] += d * d;
        }
    for (uint32_t l = 0; j + l < k; l++) {
        float d = w[j + l] - clamp127(nearest(clamp127(w[j + l] * inv))) * scale;

        error[l] += d * d;
    }
    for (int l = 0; l < LANES; l++)
        sum += error[l];
    return sum;
}

/* The clipping point with the least error: from the largest value down, until it got worse
 * twice. */
static float best_scale(const float *w, uint32_t k, float max)
{
    float best = max / 127.0f, least = row_error(w, k, best);
    int worse = 0;

    for (int i = 1; i < 16 && worse < 2; i++) {
        float scale = max * (1.0f - 0.04f * (float)i) / 127.0f;
        float error = row_error(w, k, scale);

        if (error < least) {
            least = error;
            best = scale;
            worse = 0;
        } else {
            worse++;
        }
    }
    return best;
}

float rr_weights_quantize_row(int8_t *q, const float *w, uint32_t k)
{
    float max = row_max(w, k), scale, inv;
    double wq = 0, qq = 0;

    memset(q, 0, k);
    if (isnan(max)) return NAN;
    if (max < 1e-30f) return 0.0f;

    scale = best_scale(w, k, max);
    inv = 1.0f / scale;
    for (uint32_t j = 0; j < k; j++) {
        float r = clamp127(nearest(clamp127(w[j] * inv)));

        q[j] = (int8_t)r;
        wq += (double)w[j] * r;
        qq += (double)r * r;
    }
    return (float)(wq / qq); /* minimizes sum (w - scale q)^2 for these q; some |q| is at least 1 */
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
        for (uint32_t j = 0; j < k; j++)
            sum += q[j];
        w_sum[o] = (float)sum;
    }
}

static inline uint16_t round_bf16(float v)
{
    uint32_t bits;

    memcpy(&bits, &v, 4);
    if (v != v) return (uint16_t)(bits >> 16 | 0x40); /* stays NaN, quiet */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void rr_weights_pack_bf16(uint16_t *panels, uint32_t nr, const float *w, uint32_t row0,
                          uint32_t rows, uint32_t k)
{
    size_t panel = ((size_t)k + 1) / 2 * nr * 2;

    for (uint32_t r = 0; r < rows; r++, w += k) {
        size_t o = (size_t)row0 + r;
        uint16_t *column = panels + o / nr * panel + o % nr * 2;

        for (uint32_t j = 0; j < k; j++)
            column[(size_t)(j / 2) * nr * 2 + j % 2] = round_bf16(w[j]);
    }
}
