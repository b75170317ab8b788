/* SPDX-License-Identifier: Apache-2.0 */
/* kern_i8mm.c - level "i8mm": adds SMMLA and BFMMLA (Neoverse V1, N2 and later).
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with -march=armv8.6-a.
 * Tiles 6 x 16: 24 blocks of 2 x 2 sums, 3 pairs of rows and 4 weights fill 31 of 32 registers. */
#include "cpu/kern_levels.h"

#if defined(__aarch64__)

#if !defined(__clang__) /* hoists the inputs of all rows above the sums and runs out of registers */
#pragma GCC optimize("no-schedule-insns")
#endif

#include "cpu/features.h"
#include "cpu/arm/vec_neon.h"

#define MR 6
#define NR 16
#define KC 512

#include "cpu/arm/tile_mmla.h"
#include "cpu/body_table.h"

LEVEL(rr_kern_i8mm, "i8mm", RR_CPU_NEON | RR_CPU_DOTPROD | RR_CPU_I8MM | RR_CPU_BF16);

#endif
