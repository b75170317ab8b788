/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx512.c - level "avx512": 512-bit vectors (Skylake-X, Ice Lake, Zen 4 and later).
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with -mavx512f -mavx512bw -mavx512dq
 * -mavx512vl -mfma -mf16c, or with RR_EMULATE_AVX512 for the tests.
 * Tile 6 x 64: 24 sums, 4 weights and 1 input fill 29 of the 32 registers. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#include "cpu/features.h"
#include "cpu/x86/vec_avx512.h"

#define MR 6
#define NR 64
#define KC 1024

#include "cpu/body_attention_f32.h"
#include "cpu/body_linear_f32.h"
#include "cpu/body_rows.h"

#if defined(RR_EMULATE_AVX512)
#define TABLE rr_kern_avx512_emulated
#else
#define TABLE rr_kern_avx512
#endif

extern const struct rr_kern TABLE;

const struct rr_kern TABLE = {
    .name = "avx512",
    .needs = RR_CPU_AVX512,
    .f32_nr = NR,
    .pack_f32 = pack_f32,
    .linear_f32 = linear_f32,
    .attention_f32 = attention_f32,
    .layernorm_f32 = layernorm_f32,
    .convert = convert,
    .add_convert = add_convert,
};

#endif
