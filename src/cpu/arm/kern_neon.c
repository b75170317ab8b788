/* SPDX-License-Identifier: Apache-2.0 */
/* kern_neon.c - level "neon": what every aarch64 processor has.
 * Layer: cpu (L1).  Threads: pure functions.
 * f32 tile 6 x 16: 24 sums, 4 weights and 1 input fill 29 of the 32 registers. */
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

#include "cpu/arm/dot_neon.h"
#include "cpu/body_table.h"

LEVEL(rr_kern_neon, "neon", RR_CPU_NEON);

#endif
