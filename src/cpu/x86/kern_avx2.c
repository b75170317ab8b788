/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx2.c - level "avx2": 256-bit vectors, FMA, F16C (Haswell, Zen and later).
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with -mavx2 -mfma -mf16c.
 * f32 tile 6 x 16: 12 sums, 2 weights and 1 input fill 15 of the 16 registers.
 * int8 tile 4 x 16: 8 sums, 4 weights, 2 inputs, 1 product and a constant fill all 16. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#define MR 6
#define NR 16
#define KC 512

#include "cpu/features.h"
#include "cpu/x86/dot_avx2.h"
#include "cpu/x86/vec_avx2.h"

#include "cpu/body_table.h"

LEVEL(rr_kern_avx2, "avx2", RR_CPU_AVX2);

#endif
