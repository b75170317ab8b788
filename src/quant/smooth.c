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
static const float alphas[] = { 0.5f, -1, 0.2f, 0.35f, 0.65f, 0.8f };
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

struct trial {
    const struct rr_observed *in;
    const float *w;
    uint32_t n, step; /* every step-th output is looked at */
    uint32_t rows, wtop;
    float *x;       /* [rows, k] inputs as int8 sees them, divided by the factors again */
    float *row;     /* [k] */
    int8_t *q;      /* [k] */
    float *factors; /* [k], 1 for none */
};

/* What int8 makes of the inputs; back in their own scale. */
static void round_inputs(struct trial *t)
{
    uint32_t k = t->in->width;

    for (uint32_t i = 0; i < t->rows; i++) {
        const float *in = t->in->rows + (size_t)i * k;
        float *out = t->x + (size_t)i * k, low = INFINITY, high = -INFINITY, scale;

        for (uint32_t j = 0; j < k; j++) {
            out[j] = in[j] * t->factors[j];
            low = RR_MIN(low, out[j]);
            high = RR_MAX(high, out[j]);
        }
        scale = (high - low) / X_TOP;
        for (uint32_t j = 0; j < k; j++) {
            float v = scale > 0 ? low + scale * rintf((out[j] - low) / scale) : out[j];

            out[j] = v / t->factors[j];
        }
    }
}

static double try_factors(struct trial *t)
{
    uint32_t k = t->in->width;
    double error = 0, size = 0;

    round_inputs(t);
    for (uint32_t o = 0; o < t->n; o += t->step) {
        const float *w = t->w + (size_t)o * k;
        float scale;

        for (uint32_t j = 0; j < k; j++) t->row[j] = w[j] / t->factors[j];
        scale = rr_weights_quantize_row(t->q, t->row, k, t->wtop);
        for (uint32_t j = 0; j < k; j++) t->row[j] = scale * (float)t->q[j] * t->factors[j];
        for (uint32_t i = 0; i < t->rows; i++) {
            const float *x = t->in->rows + (size_t)i * k, *y = t->x + (size_t)i * k;
            double exact = 0, rounded = 0;

            for (uint32_t j = 0; j < k; j++) {
                exact += (double)x[j] * w[j];
                rounded += (double)y[j] * t->row[j];
            }
            error += (exact - rounded) * (exact - rounded);
            size += exact * exact;
        }
    }
    return size > 0 ? error / size : 0;
}

int rr_smooth_search(float *alpha, double *error, const struct rr_observed *in, const float *w,
                     uint32_t n, uint32_t wtop, struct rr_error *err)
{
    uint32_t k = in->width;
    struct trial t = {
        .in = in, .w = w, .n = n, .rows = RR_MIN(in->n_rows, TRIAL_ROWS), .wtop = wtop
    };
    double best = INFINITY;
    int rc = RR_OK;

    t.step = (n + TRIAL_OUTPUTS - 1) / TRIAL_OUTPUTS;
    t.x = rr_alloc(RR_MEM_MISC, RR_MAX(t.rows, 1u), k * sizeof(*t.x));
    t.row = rr_alloc(RR_MEM_MISC, k, sizeof(*t.row));
    t.q = rr_alloc(RR_MEM_MISC, k, 1);
    t.factors = rr_alloc(RR_MEM_MISC, k, sizeof(*t.factors));
    *alpha = -1;
    *error = INFINITY;
    if (!t.x || !t.row || !t.q || !t.factors)
        rc = rr_fail(err, RR_ENOMEM, "out of memory for a trial of %u inputs", t.rows);
    for (size_t a = 0; a < RR_COUNT(alphas) && !rc; a++) {
        double e;

        if (alphas[a] < 0)
            for (uint32_t j = 0; j < k; j++) t.factors[j] = 1;
        else
            rr_smooth_factors(t.factors, in, w, n, alphas[a]);
        e = try_factors(&t);
        if (!(e < best)) continue;
        best = a ? e : MUCH_LESS * e;
        *error = e;
        *alpha = alphas[a];
    }
    rr_free(t.factors);
    rr_free(t.q);
    rr_free(t.row);
    rr_free(t.x);
    return rc;
}
