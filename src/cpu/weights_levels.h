/* SPDX-License-Identifier: Apache-2.0 */
/* weights_levels.h - rr_weights_quantize_row as it was compiled for one kind of vectors, for
 * weights.c and the checks.  Layer: cpu (L1). */
#ifndef RR_CPU_WEIGHTS_LEVELS_H
#define RR_CPU_WEIGHTS_LEVELS_H

#include <stdint.h>

float rr_weights_quantize_row_plain(int8_t *q, const float *w, uint32_t k, uint32_t wtop);
#if defined(__x86_64__)
float rr_weights_quantize_row_avx2(int8_t *q, const float *w, uint32_t k, uint32_t wtop);
#endif

#endif
