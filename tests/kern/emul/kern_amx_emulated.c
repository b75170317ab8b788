/* SPDX-License-Identifier: Apache-2.0 */
/* kern_amx_emulated.c - level "amx" compiled against emulated intrinsics. */
#define RR_EMULATE_AVX512
#include "cpu/x86/kern_amx.c"
