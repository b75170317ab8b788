/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx512bf16_emulated.c - level "avx512bf16" compiled against emulated intrinsics. */
#define RR_EMULATE_AVX512
#include "cpu/x86/kern_avx512bf16.c"
