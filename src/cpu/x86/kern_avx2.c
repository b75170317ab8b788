/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx2.c - level "avx2": 256-bit vectors, FMA, F16C (Haswell, Zen and later).
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with -mavx2 -mfma -mf16c.
 * Tile 6 x 16: 12 sums, 2 weights and 1 input fill 15 of the 16 registers. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#include "cpu/features.h"
#include "cpu/x86/vec_avx2.h"

#define MR 6
#define NR 16
#define KC 1024

#include "cpu/body_attention_f32.h"
#include "cpu/body_linear_f32.h"
#include "cpu/body_rows.h"

const struct rr_kern rr_kern_avx2 = {
    .name = "avx2",
    .needs = RR_CPU_AVX2,
    .f32_nr = NR,
    .pack_f32 = pack_f32,
    .linear_f32 = linear_f32,
    .attention_f32 = attention_f32,
    .layernorm_f32 = layernorm_f32,
    .convert = convert,
    .add_convert = add_convert,
};

#endif
