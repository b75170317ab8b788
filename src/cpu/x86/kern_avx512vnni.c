/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx512vnni.c - level "avx512vnni": adds VPDPBUSD (Cascade Lake, Ice Lake and later).
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with the flags its name asks for, or with
 * RR_EMULATE_AVX512 for the tests.
 * Tiles 6 x 64: 24 sums, 4 weights and 1 input fill 29 of the 32 registers. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#define I8_VNNI

#define MR 6
#define NR 64
#define KC 512
#define SUMS 48 /* 12 KB, which stay in the L1 cache until they are finished */

#include "cpu/features.h"
#include "cpu/x86/dot_avx512.h"
#include "cpu/x86/vec_avx512.h"

#if defined(RR_EMULATE_AVX512)
#define TABLE rr_kern_avx512vnni_emulated
#else
#define TABLE rr_kern_avx512vnni
#endif

#include "cpu/body_table.h"

LEVEL(TABLE, "avx512vnni", RR_CPU_AVX512 | RR_CPU_AVX512_VNNI);

#endif
