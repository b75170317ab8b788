/* SPDX-License-Identifier: Apache-2.0 */
/* kern_ref.c - the specification of every kernel: plain C in the plainest order.
 * Layer: cpu (L1).  Threads: pure functions.
 *
 * Sums are kept in double and rounded once, so that this level is nearer to the truth than any
 * level that is checked against it. */
#include <math.h>
#include <string.h>

#include "cpu/kern_levels.h"
#include "cpu/weights.h"

#define NR 16
#define I8_TOP 254

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
    case RR_ACT_SILU: return v / (1.0f + expf(-v));
    case RR_ACT_GELU_TANH:
        return 0.5f * v * (1.0f + tanhf(0.79788456f * (v + 0.044715f * v * v * v)));
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

/* Element i of a result. */
static void store(float *y, const struct rr_half *half, size_t i, float v)
{
    if (!half->y)
        y[i] = v;
    else
        half->y[i] = half->dtype == RR_F16 ? rr_weights_round_f16(v) : rr_weights_round_bf16(v);
}

enum kept { KEPT_F32, KEPT_BF16, KEPT_I16 };

struct steps { /* how rows are kept: kern.h; of i16 only */
    float inv, size;
};

static struct steps steps_of(enum kept kept, const float *x, size_t ldx, uint32_t m, uint32_t n,
                             float top)
{
    float most = 0, poison = 0;

    if (kept != KEPT_I16) return (struct steps){ 1, 1 };
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            if (fabsf(x[i * ldx + j]) > most) most = fabsf(x[i * ldx + j]);
            poison += 0 * x[i * ldx + j];
        }
    if (!(most > 1e-30f)) return (struct steps){ 0, poison };
    return (struct steps){ top / most, most / top + poison };
}

static float keep(enum kept kept, float v, float inv)
{
    if (kept == KEPT_I16) return rintf(v * inv);
    return kept == KEPT_BF16 ? from_bf16(rr_weights_round_bf16(v)) : v;
}

static float row_value(const float *x, const uint16_t *x16, size_t i)
{
    return x16 ? from_bf16(x16[i]) : x[i];
}

static void attention(const struct rr_attention_f32 *a, enum kept kept)
{
    float *p = a->scratch, top = rr_i16_top(a->head_dim); /* [n_kv] */
    struct steps k = steps_of(kept, a->k, a->ldk, a->n_kv, a->head_dim, top);
    struct steps values = steps_of(kept, a->v, a->ldv, a->n_kv, a->head_dim, RR_I16_VALUES);

    for (uint32_t i = 0; i < a->n_q; i++) {
        const float *q = a->q16 ? NULL : a->q + i * a->ldq;
        struct steps row = steps_of(kept, q, 0, 1, a->head_dim, top);
        float max = -INFINITY, scale = row.size * k.size * a->scale, unit = 1;
        double sum = 0;

        for (uint32_t j = 0; j < a->n_kv; j++) {
            double dot = 0;

            for (uint32_t d = 0; d < a->head_dim; d++)
                dot += (double)keep(kept, row_value(a->q, a->q16, i * a->ldq + d), row.inv) *
                       keep(kept, row_value(a->k, a->k16, j * a->ldk + d), k.inv);
            p[j] = (float)(dot * scale);
            if (a->bias) p[j] += a->bias[i * a->ldb + j];
            if (p[j] > max) max = p[j];
        }
        for (uint32_t j = 0; j < a->n_kv; j++) {
            p[j] = expf(p[j] - max);
            sum += p[j];
        }
        if (kept == KEPT_I16) unit = rr_i16_unit((float)sum, a->n_kv);
        for (uint32_t d = 0; d < a->head_dim; d++) {
            double v = 0;

            for (uint32_t j = 0; j < a->n_kv; j++)
                v += (double)keep(kept, p[j], unit) *
                     keep(kept, row_value(a->v, a->v16, j * a->ldv + d), values.inv);
            store(a->y, &a->half, i * a->ldy + d, (float)(v * values.size / (unit * sum)));
        }
    }
}

static void attention_f32(const struct rr_attention_f32 *a)
{
    attention(a, KEPT_F32);
}

static void attention_bf16(const struct rr_attention_f32 *a)
{
    attention(a, KEPT_BF16);
}

static void attention_i16(const struct rr_attention_f32 *a)
{
    attention(a, a->n_kv > RR_I16_KEYS ? KEPT_F32 : KEPT_I16);
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
            out[j] = (float)((in[j] - mean) * inv * gamma[j] + (beta ? beta[j] : 0.0f));
    }
}

static void rmsnorm_f32(float *y, size_t ldy, const float *x, size_t ldx, const float *gamma,
                        uint32_t m, uint32_t n, float eps)
{
    for (uint32_t i = 0; i < m; i++) {
        double squares = 0, inv;

        for (uint32_t j = 0; j < n; j++)
            squares += (double)x[i * ldx + j] * x[i * ldx + j];
        inv = 1.0 / sqrt(squares / n + eps);
        for (uint32_t j = 0; j < n; j++)
            y[i * ldy + j] = (float)(x[i * ldx + j] * inv * gamma[j]);
    }
}

static void glu_f32(float *y, size_t ldy, const float *a, const float *b, size_t ldx, uint32_t m,
                    uint32_t n, enum rr_act act)
{
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++)
            y[i * ldy + j] = activate(act, a[i * ldx + j]) * b[i * ldx + j];
}

static void rotary_f32(float *x, uint32_t heads, uint32_t head_dim, const float *cosines,
                       const float *sines, uint32_t n)
{
    for (uint32_t h = 0; h < heads; h++, x += head_dim)
        for (uint32_t j = 0; j < n; j++) {
            double a = x[j], b = x[j + n];

            x[j] = (float)(a * cosines[j] - b * sines[j]);
            x[j + n] = (float)(b * cosines[j] + a * sines[j]);
        }
}

/* ---- int8 ---------------------------------------------------------------------------------- */

/* Element j of a row that begins at element `at`. */
static float smoothed(const void *x, enum rr_dtype dtype, size_t at, const float *smooth,
                      uint32_t j)
{
    float t = element(x, dtype, at + j);

    return smooth ? t * smooth[j] : t;
}

static void quantize_row(const struct rr_rows_i8 *out, uint32_t row, const void *x,
                         enum rr_dtype dtype, size_t at, const float *smooth, uint32_t k)
{
    int8_t *q = out->q + rr_i8_rows(out, row) * out->ld;
    float lo = INFINITY, hi = -INFINITY, poison = 0, inv;
    float top = out->fine ? RR_I8_BASE * RR_I8_BASE - 1 : I8_TOP;

    for (uint32_t j = 0; j < k; j++) {
        float t = smoothed(x, dtype, at, smooth, j);

        lo = t < lo ? t : lo;
        hi = t > hi ? t : hi;
        poison += t * 0.0f; /* 0, or NaN */
    }
    inv = hi - lo > 1e-30f ? top / (hi - lo) : 0.0f;
    for (uint32_t j = 0; j < k; j++) {
        float t = smoothed(x, dtype, at, smooth, j);

        t = rintf(poison == 0.0f ? (t - lo) * inv : 0.0f);
        if (out->fine) {
            q[j] = (int8_t)(uint8_t)((uint32_t)t / RR_I8_BASE);
            q[out->ld + j] = (int8_t)(uint8_t)((uint32_t)t % RR_I8_BASE);
        } else {
            q[j] = (int8_t)(uint8_t)t;
        }
    }
    memset(q + k, 0, rr_i8_depth(k) - k);
    if (out->fine) memset(q + out->ld + k, 0, rr_i8_depth(k) - k);
    out->scale[row] = hi - lo > 1e-30f ? (hi - lo) / top : 0.0f;
    out->offset[row] = lo + poison; /* never -0 */
}

static void quantize_i8(const struct rr_rows_i8 *out, const void *x, enum rr_dtype dtype,
                        size_t ldx, const float *smooth, uint32_t m, uint32_t k)
{
    for (uint32_t i = 0; i < m; i++)
        quantize_row(out, i, x, dtype, i * ldx, smooth, k);
}

static void layernorm_i8(const struct rr_layernorm_i8 *a)
{
    layernorm_f32(a->y, a->ldy, a->x, a->ldx, a->gamma, a->beta, a->m, a->n, a->eps);
    quantize_i8(&a->out, a->y, RR_F32, a->ldy, a->smooth, a->m, a->n);
}

/* From the sum, which is exact but of fine rows, to the value before activation: this chain of
 * roundings is the contract of every level. */
static float finish_i8(const struct rr_linear_i8 *a, float sum, uint32_t i, uint32_t o)
{
    float v = fmaf(sum, a->x.scale[i], a->x.offset[i] * a->w_sum[o]);

    return fmaf(v, a->w_scale[o], a->bias[o]);
}

static void linear_i8(const struct rr_linear_i8 *a)
{
    size_t depth = rr_i8_depth(a->k);

    for (uint32_t i = 0; i < a->m; i++) {
        const uint8_t *q = (const uint8_t *)a->x.q + rr_i8_rows(&a->x, i) * a->x.ld;

        for (uint32_t o = a->n_begin; o < a->n_end; o++) {
            const int8_t *column = a->panels + o / NR * NR * depth + o % NR * 4;
            int32_t sum = 0, lower = 0;
            float v;

            for (uint32_t j = 0; j < a->k; j++) {
                int32_t w = column[(size_t)(j / 4) * NR * 4 + j % 4];

                sum += q[j] * w;
                if (a->x.fine) lower += q[a->x.ld + j] * w;
            }
            v = a->x.fine ? fmaf((float)sum, RR_I8_BASE, (float)lower) : (float)sum;
            v = activate(a->act, finish_i8(a, v, i, o));
            if (a->residual) v += a->residual[i * a->ldr + o];
            store(a->y, &a->half, i * a->ldy + o, v);
        }
    }
}

/* ---- bf16 ---------------------------------------------------------------------------------- */

static void round_bf16(uint16_t *y, size_t ldy, const float *x, size_t ldx, uint32_t m, uint32_t k)
{
    for (uint32_t i = 0; i < m; i++) {
        for (uint32_t j = 0; j < k; j++) y[i * ldy + j] = rr_weights_round_bf16(x[i * ldx + j]);
        if (k % 2) y[i * ldy + k] = 0;
    }
}

static void linear_bf16(const struct rr_linear_bf16 *a)
{
    size_t pairs = ((size_t)a->k + 1) / 2;

    for (uint32_t i = 0; i < a->m; i++)
        for (uint32_t o = a->n_begin; o < a->n_end; o++) {
            const uint16_t *column = a->panels + o / NR * NR * pairs * 2 + o % NR * 2;
            double sum = a->bias[o];
            float v;

            for (uint32_t j = 0; j < a->k; j++)
                sum += (double)element(a->x, a->x_dtype, i * a->ldx + j) *
                       from_bf16(column[(size_t)(j / 2) * NR * 2 + j % 2]);
            v = activate(a->act, (float)sum);
            if (a->residual) v += a->residual[i * a->ldr + o];
            store(a->y, &a->half, i * a->ldy + o, v);
        }
}

/* ---- i16 ----------------------------------------------------------------------------------- */

static void quantize_i16(const struct rr_rows_i16 *out, const float *x, size_t ldx, float top,
                         uint32_t m, uint32_t k)
{
    for (uint32_t i = 0; i < m; i++) {
        struct steps s = steps_of(KEPT_I16, x + i * ldx, 0, 1, k, top);

        for (uint32_t j = 0; j < (k + 31) / 32 * 32; j++)
            out->q[i * out->ld + j] =
                j < k && s.size == s.size
                    ? (uint16_t)(int16_t)keep(KEPT_I16, x[i * ldx + j], s.inv) : 0;
        out->scale[i] = s.size;
    }
}

static void linear_i16(const struct rr_linear_i16 *a)
{
    size_t pairs = ((size_t)a->k + 1) / 2;

    for (uint32_t i = 0; i < a->m; i++)
        for (uint32_t o = a->n_begin; o < a->n_end; o++) {
            const uint16_t *column = a->panels + o / NR * NR * pairs * 2 + o % NR * 2;
            int32_t sum = 0;
            float v;

            for (uint32_t j = 0; j < a->k; j++)
                sum += (int16_t)a->x.q[i * a->x.ld + j] *
                       (int16_t)column[(size_t)(j / 2) * NR * 2 + j % 2];
            v = activate(a->act, fmaf((float)sum, a->x.scale[i] * a->w_scale[o], a->bias[o]));
            if (a->residual) v += a->residual[i * a->ldr + o];
            a->y[i * a->ldy + o] = v;
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
    .rmsnorm_f32 = rmsnorm_f32,
    .glu_f32 = glu_f32,
    .rotary_f32 = rotary_f32,
    .convert = convert,
    .add_convert = add_convert,
    .packed_nr = NR,
    .i8_nr = NR,
    .i8_top = I8_TOP,
    .i8_wtop = RR_I8_WFREE,
    .i8_zero = 0,
    .quantize_i8 = quantize_i8,
    .layernorm_i8 = layernorm_i8,
    .linear_i8 = linear_i8,
    .bf16_nr = NR,
    .bf16_x = RR_BF16,
    .round_bf16 = round_bf16,
    .linear_bf16 = linear_bf16,
    .attention_bf16 = attention_bf16,
    .attention_i16 = attention_i16,
    .quantize_i16 = quantize_i16,
    .linear_i16 = linear_i16,
    .i16 = &rr_kern_ref,
};
