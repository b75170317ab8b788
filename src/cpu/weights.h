/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - int8 and bf16 weights: quantizing, and packing for a level.
 * Layer: cpu (L1).  Threads: pure functions; callers cut the rows among threads.
 * Compiled once, not per level: the same weights come out on every machine. */
#ifndef RR_CPU_WEIGHTS_H
#define RR_CPU_WEIGHTS_H

#include "cpu/kern.h"

/* Quantizes one output channel, w[k]: w = scale * q, -127 <= q <= 127 and sets of four within wtop
 * (i8_wtop of the level); returns scale.  It is the one with the least squared error among those
 * tried from the one that fits all values downwards, fitted to the rounded values.  A row on a grid
 * (rr_weights_grid) that is within wtop is kept exactly.  Zeros give scale 0; NaN or infinity
 * anywhere gives scale NaN. */
float rr_weights_quantize_row(int8_t *q, const float *w, uint32_t k, uint32_t wtop);

/* If w[k] is step * n for whole n, |n| <= 127, each product rounded to f32, f16 or bf16: the
 * largest such step, and the n in q.  0: it is not, or is all zeros, or not finite. */
float rr_weights_grid(int8_t *q, const float *w, uint32_t k);

/* Packs rows [row0, row0 + rows) of quantized weights, q is [rows, k], into panels of nr columns
 * (kern.h) and writes their sums to w_sum[row0 ...].  The caller zeroes the panels first. */
void rr_weights_pack_i8(int8_t *panels, uint32_t nr, float *w_sum, const int8_t *q, uint32_t row0,
                        uint32_t rows, uint32_t k);

/* To nearest even, NaN stays NaN; a value too large for f16 becomes infinite. */
uint16_t rr_weights_round_bf16(float v);
uint16_t rr_weights_round_f16(float v);

/* n values in f16.  False: one that is finite is not any more. */
bool rr_weights_to_f16(uint16_t *out, const float *v, size_t n);

/* Whether the sets of four of q[k] keep to wtop. */
bool rr_weights_within(const int8_t *q, uint32_t k, uint32_t wtop);

/* The same in bf16: w is [rows, k], rounded to nearest even. */
void rr_weights_pack_bf16(uint16_t *panels, uint32_t nr, const float *w, uint32_t row0,
                          uint32_t rows, uint32_t k);

/* Quantizes one output channel, w[k], for linear_i16: w = scale * p, |p| at most 32767 and in sum
 * RR_I16_CHANNEL; returns scale and adds up the |p|.  A row on a grid is kept exactly.  Zeros give
 * scale 0; NaN or infinity anywhere gives scale NaN. */
float rr_weights_quantize_i16(int16_t *p, float *sum, const float *w, uint32_t k);

/* Packs rows of whole numbers as rr_weights_pack_bf16 does those of bf16. */
void rr_weights_pack_i16(uint16_t *panels, uint32_t nr, const int16_t *p, uint32_t row0,
                         uint32_t rows, uint32_t k);

/* Bytes of the packed panels of an [n, k] matrix. */
static inline size_t rr_weights_bytes_f32(uint32_t nr, uint32_t n, uint32_t k)
{
    return ((size_t)n + nr - 1) / nr * nr * k * sizeof(float);
}
static inline size_t rr_weights_bytes_i8(uint32_t nr, uint32_t n, uint32_t k)
{
    return ((size_t)n + nr - 1) / nr * nr * rr_i8_depth(k);
}
static inline size_t rr_weights_bytes_bf16(uint32_t nr, uint32_t n, uint32_t k)
{
    return ((size_t)n + nr - 1) / nr * nr * (((size_t)k + 1) / 2) * 4;
}

#endif
