/* SPDX-License-Identifier: Apache-2.0 */
/* weights_levels.h - functions of weights.h as they were compiled for one kind of vectors, for
 * weights.c and the checks.  Layer: cpu (L1). */
#ifndef RR_CPU_WEIGHTS_LEVELS_H
#define RR_CPU_WEIGHTS_LEVELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

float rr_weights_quantize_row_plain(int8_t *q, const float *w, uint32_t k, uint32_t wtop);
bool rr_weights_to_f16_plain(uint16_t *out, const float *v, size_t n);
#if defined(__x86_64__)
float rr_weights_quantize_row_avx2(int8_t *q, const float *w, uint32_t k, uint32_t wtop);
bool rr_weights_to_f16_avx2(uint16_t *out, const float *v, size_t n);
#endif

#endif
