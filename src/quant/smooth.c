/* SPDX-License-Identifier: Apache-2.0 */
/* smooth.c - see smooth.h. */
#include "quant/smooth.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/weights.h"

#define TRIAL_ROWS 96     /* inputs that an alpha is judged by */
#define TRIAL_OUTPUTS 256 /* and outputs of each */
#define X_TOP 254.0f      /* levels of an activation, kern.h */

/* The first one, which the source found to suit most layers, stays unless another has less than
 * MUCH_LESS of its error: a sample of one layer says little about what follows it. */
static const float alphas[] = { 0.5f, 0.2f, 0.35f, 0.65f, 0.8f };
#define MUCH_LESS 0.7

void rr_smooth_factors(float *factors, const struct rr_observed *in, const float *w, uint32_t n,
                       float alpha)
{
    for (uint32_t j = 0; j < in->width; j++) factors[j] = 0;
    for (uint32_t o = 0; o < n; o++)
        for (uint32_t j = 0; j < in->width; j++) {
            float a = fabsf(w[(size_t)o * in->width + j]);

            factors[j] = a > factors[j] ? a : factors[j];
        }
    for (uint32_t j = 0; j < in->width; j++) {
        float x = in->absmax[j], most = factors[j];
        bool used = x > 1e-9f && most > 1e-9f; /* a dead channel is left alone */
        float f = used ? (1 - alpha) * log2f(most) - alpha * log2f(x) : 0;

        factors[j] = exp2f(RR_MAX(-20.0f, RR_MIN(f, 20.0f)));
    }
}

/* Inputs as int8 sees them, in their own scale again. */
static void round_inputs(float *out, const struct rr_observed *in, uint32_t rows,
                         const float *factors)
{
    uint32_t k = in->width;

    for (uint32_t i = 0; i < rows; i++, out += k) {
        const float *x = in->rows + (size_t)i * k;
        float low = INFINITY, high = -INFINITY, scale;

        for (uint32_t j = 0; j < k; j++) {
            out[j] = factors ? x[j] * factors[j] : x[j];
            low = RR_MIN(low, out[j]);
            high = RR_MAX(high, out[j]);
        }
        scale = (high - low) / X_TOP;
        for (uint32_t j = 0; j < k; j++) {
            float v = scale > 0 ? low + scale * rintf((out[j] - low) / scale) : out[j];

            out[j] = factors ? v / factors[j] : v;
        }
    }
}

struct sums {
    double error, size;
};

/* One output: w and what int8 makes of it, v, over all rows of inputs and what int8 makes of them,
 * y. */
static void add_output(struct sums *s, const struct rr_observed *in, uint32_t rows, const float *y,
                       const float *w, const float *v)
{
    uint32_t k = in->width;

    for (uint32_t i = 0; i < rows; i++, y += k) {
        const float *x = in->rows + (size_t)i * k;
        double exact = 0, rounded = 0;

        for (uint32_t j = 0; j < k; j++) {
            exact += (double)x[j] * w[j];
            rounded += (double)y[j] * v[j];
        }
        s->error += (exact - rounded) * (exact - rounded);
        s->size += exact * exact;
    }
}

struct trial {
    const struct rr_observed *in;
    uint32_t rows;
    float *x;   /* [rows, k] rounded inputs */
    float *row; /* [2 k] */
    int8_t *q;  /* [k] */
};

static int open_trial(struct trial *t, const struct rr_observed *in, struct rr_error *err)
{
    t->in = in;
    t->rows = RR_MIN(in->n_rows, TRIAL_ROWS);
    t->x = rr_alloc(RR_MEM_MISC, RR_MAX(t->rows, 1u), in->width * sizeof(*t->x));
    t->row = rr_alloc(RR_MEM_MISC, in->width, 2 * sizeof(*t->row));
    t->q = rr_alloc(RR_MEM_MISC, in->width, 1);
    if (t->x && t->row && t->q) return RR_OK;
    return rr_fail(err, RR_ENOMEM, "out of memory for a trial of %u inputs", t->rows);
}

static void close_trial(struct trial *t)
{
    rr_free(t->q);
    rr_free(t->row);
    rr_free(t->x);
}

static uint32_t step_of(uint32_t n)
{
    return (n + TRIAL_OUTPUTS - 1) / TRIAL_OUTPUTS;
}

static double try_factors(struct trial *t, const float *w, uint32_t n, uint32_t wtop,
                          const float *factors)
{
    uint32_t k = t->in->width;
    struct sums s = { 0 };

    round_inputs(t->x, t->in, t->rows, factors);
    for (uint32_t o = 0; o < n; o += step_of(n)) {
        const float *from = w + (size_t)o * k;
        float scale;

        for (uint32_t j = 0; j < k; j++) t->row[j] = from[j] / factors[j];
        scale = rr_weights_quantize_row(t->q, t->row, k, wtop);
        for (uint32_t j = 0; j < k; j++) t->row[j] = scale * (float)t->q[j] * factors[j];
        add_output(&s, t->in, t->rows, t->x, from, t->row);
    }
    return s.size > 0 ? s.error / s.size : 0;
}

int rr_smooth_search(float *alpha, const struct rr_observed *in, const float *w, uint32_t n,
                     uint32_t wtop, struct rr_error *err)
{
    float *factors = rr_alloc(RR_MEM_MISC, in->width, sizeof(*factors));
    struct trial t = { 0 };
    double best = INFINITY;
    int rc = factors ? open_trial(&t, in, err)
                     : rr_fail(err, RR_ENOMEM, "out of memory for %u factors", in->width);

    *alpha = alphas[0];
    for (size_t a = 0; a < RR_COUNT(alphas) && !rc; a++) {
        double e;

        rr_smooth_factors(factors, in, w, n, alphas[a]);
        e = try_factors(&t, w, n, wtop, factors);
        if (!(e < best)) continue;
        best = a ? e : MUCH_LESS * e;
        *alpha = alphas[a];
    }
    close_trial(&t);
    rr_free(factors);
    return rc;
}

int rr_smooth_error(double *error, const struct rr_observed *in, const float *w,
                    const struct rr_rounded *parts, uint32_t n_parts, struct rr_error *err)
{
    uint32_t k = in->width;
    const float *factors = parts[0].factors;
    struct trial t = { 0 };
    struct sums s = { 0 };
    int rc = open_trial(&t, in, err);

    if (!rc) round_inputs(t.x, in, t.rows, factors);
    for (uint32_t p = 0; p < n_parts && !rc; p++) {
        for (uint32_t o = 0; o < parts[p].n; o += step_of(parts[p].n)) {
            const int8_t *q = parts[p].q + (size_t)o * k;

            for (uint32_t j = 0; j < k; j++) {
                float f = factors ? factors[j] : 1;

                t.row[j] = parts[p].scale[o] * (float)q[j] * f;
                t.row[k + j] = w[(size_t)o * k + j] * f;
            }
            add_output(&s, in, t.rows, t.x, t.row + k, t.row);
        }
        w += (size_t)parts[p].n * k;
    }
    *error = s.size > 0 ? s.error / s.size : 0;
    close_trial(&t);
    return rc;
}
