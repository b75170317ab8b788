/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avxvnni.c - level "avxvnni": AVX2 with VPDPBUSD on 256 bits (Alder Lake and later).
 * Layer: cpu (L1).  Threads: pure functions.  Compiled with -mavxvnni -mavx2 -mfma -mf16c, or with
 * RR_EMULATE_AVXVNNI for the tests.  int8 tile 6 x 16 as for f32. */
#include "cpu/kern_levels.h"

#if defined(__x86_64__)

#include "cpu/features.h"
#include "cpu/x86/vec_avx2.h"

#if defined(RR_EMULATE_AVXVNNI)
#include "emul_avxvnni.h"
#define TABLE rr_kern_avxvnni_emulated
#else
#define TABLE rr_kern_avxvnni
#endif

#define MR 6
#define NR 16
#define KC 512

#define I8_MR 6
#define I8_STEP 1
#define I8_TOP 254
#define I8_WTOP RR_I8_WFREE
#define I8_ZERO 0

typedef __m256i dot_x;
typedef __m256i dot_w;

static inline dot_x dot_x_load(const int8_t *p) { return vi_set(p); }
static inline dot_w dot_w_load(const int8_t *p) { return vi_load(p); }
static inline vi dot(vi sum, dot_x x, dot_w w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }

#define I16_DOT
static inline vi dot_i16(vi sum, vi x, vi w) { return _mm256_dpwssd_avx_epi32(sum, x, w); }

#include "cpu/body_table.h"

LEVEL(TABLE, "avxvnni", RR_CPU_AVX2 | RR_CPU_AVX_VNNI);

#endif
