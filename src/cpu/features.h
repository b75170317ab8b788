/* SPDX-License-Identifier: Apache-2.0 */
/* features.h - what the processor and its operating system offer.  Layer: cpu (L1).  Threads:
 * any. */
#ifndef RR_CPU_FEATURES_H
#define RR_CPU_FEATURES_H

#include <stddef.h>
#include <stdint.h>

enum rr_cpu_flag {
    RR_CPU_AVX2 = 1 << 0, /* with FMA and F16C, and the operating system saves ymm */
    RR_CPU_AVX_VNNI = 1 << 1,
    RR_CPU_AVX512 = 1 << 2, /* F, BW, DQ, VL, and the operating system saves zmm */
    RR_CPU_AVX512_VNNI = 1 << 3,
    RR_CPU_AVX512_BF16 = 1 << 4,
    RR_CPU_AMX_INT8 = 1 << 5, /* with the permission of the kernel */
    RR_CPU_AMX_BF16 = 1 << 6,
    RR_CPU_NEON = 1 << 16,
    RR_CPU_DOTPROD = 1 << 17,
    RR_CPU_I8MM = 1 << 18,
    RR_CPU_BF16 = 1 << 19
};

/* Detected once; the same word ever after. */
uint32_t rr_cpu_flags(void);

/* "avx2 avx-vnni ...": names of the flags set, space-separated. */
void rr_cpu_flag_names(uint32_t flags, char *out, size_t cap);

/* Brand string, or "unknown". */
void rr_cpu_brand(char *out, size_t cap);

#endif
