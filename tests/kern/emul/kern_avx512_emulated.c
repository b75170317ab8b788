/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avx512_emulated.c - the AVX-512 level compiled against emulated intrinsics. */
#define RR_EMULATE_AVX512
#include "cpu/x86/kern_avx512.c"
