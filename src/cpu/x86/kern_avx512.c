/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx512.c - level "avx512": 512-bit vectors (Skylake-X and later).
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with the flags its name asks for, or with
 * RR_EMULATE_AVX512 for the tests.
 * f32 tile 6 x 64: 24 sums, 4 weights and 1 input fill 29 of the 32 registers.
 * int8 without VNNI: tile 4 x 64, 16 sums, 8 weights, 2 inputs and what dot_avx512.h needs. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#define MR 6
#define NR 64
#define KC 512

#include "cpu/features.h"
#include "cpu/x86/dot_avx512.h"
#include "cpu/x86/vec_avx512.h"

#if defined(RR_EMULATE_AVX512)
#define TABLE rr_kern_avx512_emulated
#else
#define TABLE rr_kern_avx512
#endif

#include "cpu/body_table.h"

LEVEL(TABLE, "avx512", RR_CPU_AVX512);

#endif
