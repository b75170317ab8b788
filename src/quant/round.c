/* SPDX-License-Identifier: Apache-2.0 */
/* round.c - see round.h. */
#include "quant/round.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/weights.h"

#define DAMPING 0.001f /* of the mean diagonal: keeps directions that were not seen from drifting */
#define MAX_SWEEPS 10
#define BLOCK 8 /* rows of the matrix that are summed together */

struct work {
    int8_t *q;
    float *scale;
    const float *w;
    uint32_t n, k, wtop, rows;
    const float *x; /* [rows, k] inputs, factors applied; NULL: none */
    float *h;       /* [k, k] sum of x x^T, damped */
    float *errors;  /* [workers, 2 k] */
    _Atomic uint32_t next;
};

static void sum_block(const struct work *t, uint32_t begin, uint32_t end)
{
    uint32_t k = t->k;

    for (uint32_t i = 0; i < t->rows; i++) {
        const float *x = t->x + (size_t)i * k;

        for (uint32_t a = begin; a < end; a++) {
            float *h = t->h + (size_t)a * k, v = x[a];

            if (v == 0) continue;
            for (uint32_t b = 0; b < k; b++) h[b] += v * x[b];
        }
    }
}

static void sum_worker(void *user, uint32_t worker)
{
    struct work *t = user;
    uint32_t at;

    (void)worker;
    while ((at = atomic_fetch_add_explicit(&t->next, BLOCK, memory_order_relaxed)) < t->k)
        sum_block(t, at, RR_MIN(at + BLOCK, t->k));
}

/* Whether the set of four that j is in keeps to its limit with q[j] = v. */
static bool allowed(const struct work *t, const int8_t *q, uint32_t j, int8_t v)
{
    uint32_t first = j / 8 * 8;
    int8_t eight[8] = { 0 };

    memcpy(eight, q + first, RR_MIN(t->k - first, 8u));
    eight[j - first] = v;
    return rr_weights_within(eight, 8, t->wtop);
}

/* One row.  e = w - scale q, g = H e; a step of q_j by s changes the error by
 * -2 s scale g_j + (s scale)^2 H_jj. */
static void descend(const struct work *t, uint32_t row, float *e, float *g)
{
    uint32_t k = t->k;
    int8_t *q = t->q + (size_t)row * k;
    const float *w = t->w + (size_t)row * k;
    float scale = t->scale[row];

    for (uint32_t j = 0; j < k; j++) {
        e[j] = w[j] - scale * (float)q[j];
        g[j] = 0;
    }
    for (uint32_t a = 0; a < k; a++) {
        const float *h = t->h + (size_t)a * k;

        for (uint32_t b = 0; b < k; b++) g[b] += e[a] * h[b];
    }
    for (int sweep = 0, changes = 1; sweep < MAX_SWEEPS && changes; sweep++) {
        changes = 0;
        for (uint32_t j = 0; j < k; j++) {
            const float *h = t->h + (size_t)j * k;
            float best = (float)q[j] + g[j] / (h[j] * scale), step;

            best = RR_MAX(-127.0f, RR_MIN(rintf(best), 127.0f));
            step = best - (float)q[j];
            if (!(step != 0) || !allowed(t, q, j, (int8_t)best)) continue;
            changes++;
            q[j] = (int8_t)best;
            for (uint32_t b = 0; b < k; b++) g[b] -= step * scale * h[b];
        }
    }
}

static void round_worker(void *user, uint32_t worker)
{
    struct work *t = user;
    float *e = t->errors + (size_t)worker * 2 * t->k;
    uint32_t row;

    while ((row = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed)) < t->n) {
        t->scale[row] = rr_weights_quantize_row(t->q + (size_t)row * t->k,
                                                t->w + (size_t)row * t->k, t->k, t->wtop);
        if (t->x && t->scale[row] > 0) descend(t, row, e, e + t->k);
    }
}

/* False: every input was zero, there is nothing to go by. */
static bool damp(const struct work *t)
{
    float sum = 0;

    for (uint32_t j = 0; j < t->k; j++) sum += t->h[(size_t)j * t->k + j];
    sum *= DAMPING / (float)t->k;
    for (uint32_t j = 0; j < t->k; j++) t->h[(size_t)j * t->k + j] += sum;
    return sum > 0 && isfinite(sum);
}

int rr_round_weights(int8_t *q, float *scale, const float *w, uint32_t n, uint32_t k, uint32_t wtop,
                     const struct rr_observed *in, const float *factors, struct rr_pool *pool,
                     struct rr_error *err)
{
    struct work t = { .q = q, .scale = scale, .w = w, .n = n, .k = k, .wtop = wtop };
    float *x = NULL;
    int rc = RR_OK;

    if (in && in->n_rows) {
        t.rows = in->n_rows;
        x = rr_alloc(RR_MEM_MISC, t.rows, k * sizeof(*x));
        t.h = rr_calloc(RR_MEM_MISC, k, k * sizeof(*t.h));
        t.errors = rr_alloc(RR_MEM_MISC, rr_pool_size(pool), 2 * k * sizeof(*t.errors));
        if (!x || !t.h || !t.errors) {
            rc = rr_fail(err, RR_ENOMEM, "out of memory for rounding %u columns", k);
            goto done;
        }
        for (size_t i = 0; i < (size_t)t.rows * k; i++)
            x[i] = in->rows[i] * (factors ? factors[i % k] : 1);
        t.x = x;
        rr_pool_run(pool, sum_worker, &t);
        if (!damp(&t)) t.x = NULL;
        t.next = 0;
    }
    rr_pool_run(pool, round_worker, &t);
done:
    rr_free(t.errors);
    rr_free(t.h);
    rr_free(x);
    return rc;
}
