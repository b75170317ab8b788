/* SPDX-License-Identifier: Apache-2.0 */
/* kern_levels.h - the tables that the files of the levels define, for kern.c.  Layer: cpu (L1). */
#ifndef RR_CPU_KERN_LEVELS_H
#define RR_CPU_KERN_LEVELS_H

#include "cpu/kern.h"

extern const struct rr_kern rr_kern_ref;
#if defined(__x86_64__)
extern const struct rr_kern rr_kern_avx2;
extern const struct rr_kern rr_kern_avxvnni;
extern const struct rr_kern rr_kern_avx512;
extern const struct rr_kern rr_kern_avx512vnni;
extern const struct rr_kern rr_kern_avx512bf16;
extern const struct rr_kern rr_kern_amx;
#elif defined(__aarch64__)
extern const struct rr_kern rr_kern_neon;
extern const struct rr_kern rr_kern_dotprod;
extern const struct rr_kern rr_kern_i8mm;
#endif

#endif
