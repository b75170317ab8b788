/* SPDX-License-Identifier: Apache-2.0 */
/* weights_avx2.c - quantizing rows of weights with 256-bit vectors: the bits of weights.c in half
 * the time.  Layer: cpu (L1).  Threads: pure functions.  Compiled with -mavx2 -mfma -mf16c. */
#include "cpu/weights_levels.h"

#if defined(__x86_64__)

#include "cpu/body_weights.h"

float rr_weights_quantize_row_avx2(int8_t *q, const float *w, uint32_t k, uint32_t wtop)
{
    return quantize_row(q, w, k, wtop);
}

#endif
