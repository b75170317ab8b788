/* SPDX-License-Identifier: Apache-2.0 */
/* weights_avx2.c - quantizing rows of weights, and to f16, with 256-bit vectors: the bits of
 * weights.c in less time.  Layer: cpu (L1).  Threads: pure functions.  Compiled with -mavx2 -mfma
 * -mf16c. */
#include "cpu/weights_levels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "cpu/body_weights.h"

float rr_weights_quantize_row_avx2(int8_t *q, const float *w, uint32_t k, uint32_t wtop)
{
    return quantize_row(q, w, k, wtop);
}

bool rr_weights_to_f16_avx2(uint16_t *out, const float *v, size_t n)
{
    const __m256 sign = _mm256_set1_ps(-0.0f),
                 most = _mm256_set1_ps(65520.0f); /* becomes infinite */
    __m256 over = _mm256_setzero_ps();
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 a = _mm256_loadu_ps(v + i), size = _mm256_andnot_ps(sign, a);
        __m256 finite = _mm256_cmp_ps(size, _mm256_set1_ps(INFINITY), _CMP_LT_OQ);

        over = _mm256_or_ps(over, _mm256_and_ps(finite, _mm256_cmp_ps(size, most, _CMP_GE_OQ)));
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    return rr_weights_to_f16_plain(out + i, v + i, n - i) && _mm256_movemask_ps(over) == 0;
}

#endif
