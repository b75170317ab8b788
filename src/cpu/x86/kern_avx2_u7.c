/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx2_u7.c - level "avx2-u7": as "avx2", but with activations of 7 bits in int8, which is a
 * third faster and less exact (see dot_avx2.h).  Never chosen by itself.
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with -mavx2 -mfma -mf16c. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#define I8_SEVEN_BITS

#include "cpu/features.h"
#include "cpu/x86/dot_avx2.h"
#include "cpu/x86/vec_avx2.h"

#define MR 6
#define NR 16
#define KC 1024

#include "cpu/body_table.h"

LEVEL(rr_kern_avx2_u7, "avx2-u7", RR_CPU_AVX2);

#endif
