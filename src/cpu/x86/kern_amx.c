/* SPDX-License-Identifier: Apache-2.0 */
/* kern_amx.c - level "amx": int8 and bf16 products on AMX tiles (Sapphire Rapids and later), all
 * else on 512-bit vectors.  Layer: cpu (L1).  Threads: pure functions.  Compiled with the flags its
 * name asks for, or with RR_EMULATE_AVX512 for the tests. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#include "cpu/features.h"
#include "cpu/x86/vec_avx512.h"

#if defined(RR_EMULATE_AVX512)
#define TABLE rr_kern_amx_emulated
#else
#define TABLE rr_kern_amx
#define I16_LEVEL(symbol) &rr_kern_avx512vnni
#endif

#define MR 6
#define NR 64
#define KC 512
#define MB 96
#define NARROW_NR 32 /* two tiles, a panel each */
#define PACKED_NR 16
#define SUMS 32
#define PANEL_ROWS 576 /* with fewer, products are done before the next panel is there */
#define PANEL_BYTES (13u << 16) /* of an L2 cache of 2 MiB, half of which may be another thread's */
#define PAIR_QUERIES 32 /* two tiles of rows */

#include "cpu/x86/tile_amx.h"

#include "cpu/body_table.h"

/* Around the tiles are the vectors of avx512bf16: rounding to bf16 is an instruction of it. */
LEVEL(TABLE, "amx",
      RR_CPU_AVX512 | RR_CPU_AVX512_VNNI | RR_CPU_AVX512_BF16 | RR_CPU_AMX_INT8 | RR_CPU_AMX_BF16);

#endif
