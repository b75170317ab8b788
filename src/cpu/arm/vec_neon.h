/* SPDX-License-Identifier: Apache-2.0 */
/* vec_neon.h - the vector vocabulary of the kernel bodies, 4 floats wide: Armv8-A Advanced SIMD.
 * Layer: cpu (L1).  Included by a level file, before the bodies. */
#ifndef RR_CPU_ARM_VEC_NEON_H
#define RR_CPU_ARM_VEC_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#define VW 4 /* lanes */
typedef float32x4_t v;
typedef int32x4_t vi; /* VW 32-bit integers */

static inline v v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, v a) { vst1q_f32(p, a); }
static inline v v_set(float a) { return vdupq_n_f32(a); }
static inline v v_add(v a, v b) { return vaddq_f32(a, b); }
static inline v v_sub(v a, v b) { return vsubq_f32(a, b); }
static inline v v_mul(v a, v b) { return vmulq_f32(a, b); }
static inline v v_div(v a, v b) { return vdivq_f32(a, b); }
static inline v v_fma(v a, v b, v c) { return vfmaq_f32(c, a, b); } /* a * b + c */
static inline v v_max(v a, v b) { return vmaxq_f32(a, b); } /* NaN if one of them is NaN */
static inline v v_min(v a, v b) { return vminq_f32(a, b); }
static inline v v_abs(v a) { return vabsq_f32(a); }
static inline v v_round(v a) { return vrndnq_f32(a); }

/* a * 2^n for a in [1/2, 2) and integral n in [-125, 126] */
static inline v v_scale2(v a, v n)
{
    int32x4_t e = vshlq_n_s32(vcvtq_s32_f32(n), 23);

    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), e));
}

/* Returns a - floor(a); v_scale2 by whole is by floor(a). */
static inline v v_split(v a, v *whole)
{
    *whole = vrndmq_f32(a);
    return v_sub(a, *whole);
}

/* The first n < VW lanes; the others read as 0 and are not written. */
static inline v v_load_n(const float *p, uint32_t n)
{
    float t[4] = { 0 };

    for (uint32_t i = 0; i < n && i < VW; i++)
        t[i] = p[i];
    return vld1q_f32(t);
}

static inline void v_store_n(float *p, v a, uint32_t n)
{
    float t[4];

    vst1q_f32(t, a);
    for (uint32_t i = 0; i < n; i++)
        p[i] = t[i];
}

static inline v v_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline void v_store_f16(uint16_t *p, v a)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}

static inline v v_load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

/* Pairs of bf16, one pair in a lane: the first and the second of each as floats. */
static inline v v_first_bf16(vi p) { return vreinterpretq_f32_s32(vshlq_n_s32(p, 16)); }
static inline v v_second_bf16(vi p)
{
    return vreinterpretq_f32_s32(vandq_s32(p, vdupq_n_s32((int)0xFFFF0000)));
}

static inline vi vi_load(const void *p) { return vld1q_s32((const int32_t *)p); }
static inline void vi_store(void *p, vi a) { vst1q_s32((int32_t *)p, a); }
static inline v v_from_i32(vi a) { return vcvtq_f32_s32(a); }

/* VW numbers, each as the low byte of the nearest integer. */
static inline void v_store_bytes(int8_t *p, v a)
{
    int16x4_t h = vmovn_s32(vcvtnq_s32_f32(a));
    int8x8_t b = vmovn_s16(vcombine_s16(h, h));

    vst1_lane_s32((int32_t *)p, vreinterpret_s32_s8(b), 0);
}

/* The same of 4 VW numbers. */
static inline void v_store_bytes4(int8_t *p, const v a[4])
{
    int16x8_t lo = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a[0])), vmovn_s32(vcvtnq_s32_f32(a[1])));
    int16x8_t hi = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a[2])), vmovn_s32(vcvtnq_s32_f32(a[3])));

    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}

static inline float v_sum(v a)
{
    float32x2_t s = vadd_f32(vget_low_f32(a), vget_high_f32(a));

    return vget_lane_f32(vpadd_f32(s, s), 0);
}

static inline float v_max_lane(v a) { return vmaxvq_f32(a); }
static inline float v_min_lane(v a) { return vminvq_f32(a); }

/* r[i] lane j <-> r[j] lane i */
static inline void v_transpose(v r[VW])
{
    float32x4x2_t a = vzipq_f32(r[0], r[2]), b = vzipq_f32(r[1], r[3]);
    float32x4x2_t lo = vzipq_f32(a.val[0], b.val[0]), hi = vzipq_f32(a.val[1], b.val[1]);

    r[0] = lo.val[0];
    r[1] = lo.val[1];
    r[2] = hi.val[0];
    r[3] = hi.val[1];
}

#endif
