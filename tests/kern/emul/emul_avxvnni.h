/* SPDX-License-Identifier: Apache-2.0 */
/* emul_avxvnni.h - VPDPBUSD and VPDPWSSD on 256 bits in plain C and AVX2, under the intrinsics'
 * names (Intel SDM). */
#ifndef RR_EMUL_AVXVNNI_H
#define RR_EMUL_AVXVNNI_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define _mm256_dpbusd_avx_epi32 emu_dpbusd
#define _mm256_dpwssd_avx_epi32 emu_dpwssd

static inline __m256i emu_dpbusd(__m256i s, __m256i a, __m256i b)
{
    int32_t sum[8];
    uint8_t u[32];
    int8_t w[32];

    memcpy(sum, &s, 32);
    memcpy(u, &a, 32);
    memcpy(w, &b, 32);
    for (int n = 0; n < 32; n++)
        sum[n / 4] += u[n] * w[n];
    memcpy(&s, sum, 32);
    return s;
}

static inline __m256i emu_dpwssd(__m256i s, __m256i a, __m256i b)
{
    return _mm256_add_epi32(s, _mm256_madd_epi16(a, b));
}

#endif
