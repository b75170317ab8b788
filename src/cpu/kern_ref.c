/* SPDX-License-Identifier: Apache-2.0 */
/* kern_ref.c - the specification of every kernel: plain C in the plainest order.
 * Layer: cpu (L1).  Threads: pure functions.
 *
 * Sums are kept in double and rounded once, so that this level is nearer to the truth than any
 * level that is checked against it. */
#include <math.h>
#include <string.h>

#include "cpu/kern_levels.h"

#define NR 16

/* IEEE half precision to float: exact.  Subnormals are multiples of 2^-24. */
static float from_f16(uint16_t h)
{
    uint32_t exponent = h >> 10 & 31, fraction = h & 1023, bits;
    float v;

    if (exponent == 0) {
        v = (float)fraction * 0x1p-24f;
        return h & 0x8000 ? -v : v;
    }
    bits = (uint32_t)(h & 0x8000) << 16 | fraction << 13;
    bits |= exponent == 31 ? 0x7F800000u : (exponent + 112) << 23;
    memcpy(&v, &bits, 4);
    return v;
}

/* bfloat16 is the upper half of a float. */
static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float v;

    memcpy(&v, &bits, 4);
    return v;
}

static float element(const void *src, enum rr_dtype dtype, size_t i)
{
    switch (dtype) {
    case RR_F16: return from_f16(((const uint16_t *)src)[i]);
    case RR_BF16: return from_bf16(((const uint16_t *)src)[i]);
    case RR_I8: return ((const int8_t *)src)[i];
    case RR_F32: break;
    }
    return ((const float *)src)[i];
}

static void convert(float *y, const void *src, enum rr_dtype dtype, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = element(src, dtype, i);
}

static void add_convert(float *y, const void *src, enum rr_dtype dtype, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += element(src, dtype, i);
}

static float activate(enum rr_act act, float v)
{
    switch (act) {
    case RR_ACT_GELU: return 0.5f * v * (1.0f + erff(v * 0.70710678f));
    case RR_ACT_RELU: return v < 0.0f ? 0.0f : v; /* NaN goes through */
    case RR_ACT_TANH: return tanhf(v);
    case RR_ACT_NONE: break;
    }
    return v;
}

static void pack_f32(float *panels, const void *src, enum rr_dtype dtype, uint32_t row0,
                     uint32_t rows, uint32_t k)
{
    for (uint32_t r = 0; r < rows; r++) {
        size_t o = (size_t)row0 + r;
        float *column = panels + o / NR * NR * k + o % NR;

        for (uint32_t j = 0; j < k; j++)
            column[(size_t)j * NR] = element(src, dtype, (size_t)r * k + j);
    }
}

static void linear_f32(const struct rr_linear_f32 *a)
{
    for (uint32_t i = 0; i < a->m; i++) {
        const float *x = a->x + i * a->ldx;

        for (uint32_t o = a->n_begin; o < a->n_end; o++) {
            const float *column = a->panels + (size_t)(o / NR) * NR * a->k + o % NR;
            double sum = a->bias[o];
            float v;

            for (uint32_t j = 0; j < a->k; j++)
                sum += (double)x[j] * column[(size_t)j * NR];
            v = activate(a->act, (float)sum);
            if (a->residual) v += a->residual[i * a->ldr + o];
            a->y[i * a->ldy + o] = v;
        }
    }
}

static void attention_f32(const struct rr_attention_f32 *a)
{
    float *p = a->scratch; /* [n_kv] */

    for (uint32_t i = 0; i < a->n_q; i++) {
        const float *q = a->q + i * a->ldq;
        float max = -INFINITY;
        double sum = 0;

        for (uint32_t j = 0; j < a->n_kv; j++) {
            double dot = 0;

            for (uint32_t d = 0; d < a->head_dim; d++)
                dot += (double)q[d] * a->k[j * a->ldk + d];
            p[j] = (float)(dot * a->scale);
            if (p[j] > max) max = p[j];
        }
        for (uint32_t j = 0; j < a->n_kv; j++) {
            p[j] = expf(p[j] - max);
            sum += p[j];
        }
        for (uint32_t d = 0; d < a->head_dim; d++) {
            double v = 0;

            for (uint32_t j = 0; j < a->n_kv; j++)
                v += (double)p[j] * a->v[j * a->ldv + d];
            a->y[i * a->ldy + d] = (float)(v / sum);
        }
    }
}

static void layernorm_f32(float *y, size_t ldy, const float *x, size_t ldx, const float *gamma,
                          const float *beta, uint32_t m, uint32_t n, float eps)
{
    for (uint32_t i = 0; i < m; i++) {
        const float *in = x + i * ldx;
        float *out = y + i * ldy;
        double mean = 0, var = 0, inv;

        for (uint32_t j = 0; j < n; j++)
            mean += in[j];
        mean /= n;
        for (uint32_t j = 0; j < n; j++)
            var += (in[j] - mean) * (in[j] - mean);
        inv = 1.0 / sqrt(var / n + eps);
        for (uint32_t j = 0; j < n; j++)
            out[j] = (float)((in[j] - mean) * inv * gamma[j] + beta[j]);
    }
}

const struct rr_kern rr_kern_ref = {
    .name = "ref",
    .needs = 0,
    .f32_nr = NR,
    .pack_f32 = pack_f32,
    .linear_f32 = linear_f32,
    .attention_f32 = attention_f32,
    .layernorm_f32 = layernorm_f32,
    .convert = convert,
    .add_convert = add_convert,
};
