/* SPDX-License-Identifier: Apache-2.0 */
/* body_weights.h - quantizing a row of weights to int8, see weights.h.  Layer: cpu (L1).
 * Included by weights.c and by the same compiled for wider vectors.  All give the same bits: sums
 * have LANES parts in a fixed order, and multiply-adds are not fused. */
#ifndef RR_CPU_BODY_WEIGHTS_H
#define RR_CPU_BODY_WEIGHTS_H

#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "cpu/weights.h"

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
    for (int l = 0; l < LANES; l++) max = most[l] > max ? most[l] : max;
    return max + poison;
}

/* ---- sets of four -----------------------------------------------------------------------------
 * i8_wtop of kern.h: what elements 0, 1, 4 and 5 of each eight, or 2, 3, 6 and 7, may add up to,
 * those of each sign apart. */

#define SET(r, s, i) (r)[2 * (s) + (i) % 2 + (i) / 2 * 4] /* element i of set s of eight r */

/* What the elements of sign add up to. */
static inline float set_sum(const float r[8], int s, float sign)
{
    float sum = 0;

    for (int i = 0; i < 4; i++) sum += SET(r, s, i) * sign > 0 ? SET(r, s, i) * sign : 0;
    return sum;
}

/* Brings a set down to wtop, one step at a time where it costs the least squared error. */
static void limit_set(float r[8], const float w[8], int s, float inv, float sign, float wtop)
{
    for (float over = set_sum(r, s, sign) - wtop; over > 0; over--) {
        int best = -1;
        float least = 0;

        for (int i = 0; i < 4; i++) {
            float error = (SET(w, s, i) * inv - SET(r, s, i)) * sign; /* grows by one */

            if (SET(r, s, i) * sign <= 0 || (best >= 0 && error >= least)) continue;
            best = i;
            least = error;
        }
        SET(r, s, best) -= sign;
    }
}

#define BLOCK 64 /* elements rounded at once: whole eights, whole LANES */
#define SETS (BLOCK / 4)

/* set_sum of all sets of a block, in a form that compilers turn into vectors; set s of eight number
 * e is 2 e + s. */
static void set_sums(float sums[SETS], const float r[BLOCK], float sign)
{
    float half[BLOCK / 2]; /* elements 0 and 4, 1 and 5, 2 and 6, 3 and 7 of each eight */

    for (int e = 0; e < BLOCK / 8; e++)
        for (int i = 0; i < 4; i++) {
            float a = sign * r[8 * e + i], b = sign * r[8 * e + 4 + i];

            half[4 * e + i] = (a > 0 ? a : 0) + (b > 0 ? b : 0);
        }
    for (int i = 0; i < SETS; i++) sums[i] = half[2 * i] + half[2 * i + 1];
}

/* Brings all sets of a block down to wtop. */
static void limit_block(float r[BLOCK], const float w[BLOCK], float inv, float wtop)
{
    float sums[SETS];

    for (float sign = -1; sign <= 1; sign += 2) {
        set_sums(sums, r, sign);
        for (int i = 0; i < SETS; i++)
            if (sums[i] > wtop) limit_set(r + i / 2 * 8, w + i / 2 * 8, i % 2, inv, sign, wtop);
    }
}

/* w[0 .. n), or, if n < BLOCK, a copy of it in t with zeros after it. */
static const float *whole_block(float t[BLOCK], const float *w, uint32_t n)
{
    if (n >= BLOCK) return w;
    memset(t, 0, BLOCK * sizeof(*t));
    memcpy(t, w, n * sizeof(*t));
    return t;
}

/* The most that a set of w[k] adds up to. */
static float most_in_sets(const float *w, uint32_t k)
{
    float lanes[SETS] = { 0 }, sums[SETS], t[BLOCK], most = 0;

    for (uint32_t j = 0; j < k; j += BLOCK) {
        const float *block = whole_block(t, w + j, k - j);

        for (float sign = -1; sign <= 1; sign += 2) {
            set_sums(sums, block, sign);
            for (int i = 0; i < SETS; i++) lanes[i] = sums[i] > lanes[i] ? sums[i] : lanes[i];
        }
    }
    for (int i = 0; i < SETS; i++) most = RR_MAX(most, lanes[i]);
    return most;
}

/* ---- quantizing ---------------------------------------------------------------------------- */

/* r = block / scale, rounded and within the limits. */
static void round_block(float r[BLOCK], const float *block, float inv, uint32_t wtop)
{
    for (int j = 0; j < BLOCK; j++) r[j] = clamp127(nearest(clamp127(block[j] * inv)));
    if (wtop < RR_I8_WFREE) limit_block(r, block, inv, (float)wtop);
}

/* Squared error of w with this scale. */
static float row_error(const float *w, uint32_t k, float scale, uint32_t wtop)
{
    float error[LANES] = { 0 }, inv = 1.0f / scale, sum = 0, r[BLOCK], t[BLOCK];

    for (uint32_t j = 0; j < k; j += BLOCK) {
        const float *block = whole_block(t, w + j, k - j);

        round_block(r, block, inv, wtop);
        for (uint32_t i = 0; i < BLOCK; i += LANES)
            for (uint32_t l = 0; l < LANES; l++) {
                float d = block[i + l] - r[i + l] * scale;

                error[l] += d * d;
            }
    }
    for (int l = 0; l < LANES; l++) sum += error[l];
    return sum;
}

static inline float step_down(float first, int steps)
{
    return first * (1.0f - 0.04f * (float)steps);
}

/* The scale with the least error: from the one that clips nothing down in strides until it gets
 * worse, then the steps beside the best one; or that of the grid (0: none) the row is on, where
 * only sets over their limit have errors. */
static float best_scale(const float *w, uint32_t k, float first, uint32_t wtop, float grid)
{
    float least = row_error(w, k, first, wtop), error;
    int best = 0, coarse;

    for (int i = 3; i < 18; i += 3) {
        error = row_error(w, k, step_down(first, i), wtop);
        if (!(error < least)) break;
        least = error;
        best = i;
    }
    coarse = best;
    for (int i = RR_MAX(coarse - 1, 1); i <= coarse + 1; i += 2) {
        error = row_error(w, k, step_down(first, i), wtop);
        if (!(error < least)) continue;
        least = error;
        best = i;
    }
    return grid > 0 && row_error(w, k, grid, wtop) < least ? grid : step_down(first, best);
}

/* rr_weights_quantize_row */
static float quantize_row(int8_t *q, const float *w, uint32_t k, uint32_t wtop)
{
    float max = row_max(w, k), first = max / 127.0f, grid, scale, inv;
    double wq[LANES] = { 0 }, qq[LANES] = { 0 };

    memset(q, 0, k);
    if (isnan(max)) return NAN;
    if (max < 1e-30f) return 0.0f;
    grid = rr_weights_grid(q, w, k);
    if (grid > 0 && rr_weights_within(q, k, wtop)) return grid;

    if (wtop < RR_I8_WFREE) first = RR_MAX(first, most_in_sets(w, k) / (float)wtop);
    scale = best_scale(w, k, first, wtop, grid);
    inv = 1.0f / scale;
    for (uint32_t j = 0; j < k; j += BLOCK) {
        uint32_t n = RR_MIN(k - j, (uint32_t)BLOCK);
        float r[BLOCK], t[BLOCK];
        const float *block = whole_block(t, w + j, n);

        round_block(r, block, inv, wtop);
        for (uint32_t i = 0; i < n; i++) q[j + i] = (int8_t)r[i];
        for (uint32_t i = 0; i < BLOCK; i++) { /* zeros past the row */
            wq[i % LANES] += (double)block[i] * r[i];
            qq[i % LANES] += (double)r[i] * r[i];
        }
    }
    for (int l = 1; l < LANES; l++) {
        wq[0] += wq[l];
        qq[0] += qq[l];
    }
    return (float)(wq[0] / qq[0]); /* least sum (w - scale q)^2; some |q| is at least 1 */
}

#endif
