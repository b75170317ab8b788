/* SPDX-License-Identifier: Apache-2.0 */
/* dot_neon.h - products of groups of four signed bytes.  Layer: cpu (L1).
 * Included by one level file, after vec_neon.h.  I8_DOTPROD: SDOT.  Without it: 16-bit products, of
 * which two still fit (2 * 127 * 127), added in pairs. */
#ifndef RR_CPU_ARM_DOT_NEON_H
#define RR_CPU_ARM_DOT_NEON_H

#include "cpu/arm/vec_neon.h"

#define I8_TOP 254
#define I8_WTOP RR_I8_WFREE
#define I8_ZERO 127
#define I8_STEP 1

typedef int8x16_t dot_x;
typedef int8x16_t dot_w;

static inline dot_x dot_x_load(const int8_t *p)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)p));
}

static inline dot_w dot_w_load(const int8_t *p) { return vld1q_s8(p); }

#if defined(I8_DOTPROD)

#define I8_MR 6

static inline vi dot(vi sum, dot_x x, dot_w w) { return vdotq_s32(sum, w, x); }

#else

#define I8_MR 4

static inline vi dot(vi sum, dot_x x, dot_w w)
{
    int16x8_t lo = vmull_s8(vget_low_s8(x), vget_low_s8(w)), hi = vmull_high_s8(x, w);

    return vpadalq_s16(sum, vpaddq_s16(lo, hi));
}

#endif
#endif
