/* SPDX-License-Identifier: Apache-2.0 */
/* check_i16.c - checks of linear layers in whole numbers of 16 bits.  Layer: tests.
 *
 * Tolerances: none for quantize_i16 and for linear_i16 without activation or with ReLU; GELU and
 * tanh add 3e-7 max(1, |v|).  Sums are driven to the last of their 31 bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "check.h"
#include "cpu/weights.h"

static struct rr_rows_i16 rows_alloc(uint32_t m, uint32_t k)
{
    struct rr_rows_i16 r = { .ld = (k + 31) / 32 * 32 };

    r.q = check_alloc(m * r.ld * sizeof(*r.q), true);
    r.scale = check_alloc(m * sizeof(float), false);
    check_mark(r.q, m * r.ld * sizeof(*r.q));
    return r;
}

static void check_quantize(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 2; t++) {
        uint32_t k = t < 70 ? t + 1 : check_between(c, 1, 2000), m = check_between(c, 1, 9);
        size_t ldx = k + check_random(c, 3);
        float *x = check_alloc(((m - 1) * ldx + k) * sizeof(float), false);
        float top = (float)CHECK_PICK(c, 1, RR_I16_ROW, INT16_MAX);
        struct rr_rows_i16 got = rows_alloc(m, k), cut = rows_alloc(m, k);
        uint32_t wrong = 0;

        check_fill(c, x, (m - 1) * ldx + k,
                   (float[]){ 0.0f, 1e-35f, 1e-3f, 1.0f, 1e6f }[check_random(c, 5)]);
        if (check_random(c, 4) == 0) x[check_random(c, k)] *= 1000; /* an outlier */
        c->kern->quantize_i16(&got, x, ldx, top, m, k);
        for (uint32_t i = 0; i < m; i++) {
            struct rr_rows_i16 one = { cut.q + i * cut.ld, cut.scale + i, cut.ld };
            const float *row = x + i * ldx;
            float most = 0;

            for (uint32_t j = 0; j < k; j++) most = fmaxf(most, fabsf(row[j]));
            for (uint32_t j = 0; j < k; j++)
                wrong += (int16_t)got.q[i * got.ld + j] !=
                         (most > 1e-30f ? (int16_t)rintf(row[j] * (top / most)) : 0);
            if (k % 2) wrong += got.q[i * got.ld + k] != 0;
            wrong += got.scale[i] != (most > 1e-30f ? most / top : 0);
            c->kern->quantize_i16(&one, row, ldx, top, 1, k);
        }
        check_case(c, wrong == 0, "m %u k %u: %u values not as defined", m, k, wrong);
        check_case(c, check_columns_equal(got.q, cut.q, 2, m, got.ld, 0, k) &&
                          memcmp(got.scale, cut.scale, m * sizeof(float)) == 0,
                   "m %u k %u: other bits when cut", m, k);
        x[check_random(c, k)] = check_random(c, 2) ? NAN : -INFINITY;
        c->kern->quantize_i16(&got, x, ldx, top, m, k);
        check_case(c, isnan(got.scale[0]), "k %u: a NaN or infinity got lost", k);
        check_case(c, memcmp(got.scale + 1, cut.scale + 1, (m - 1) * sizeof(float)) == 0,
                   "m %u k %u: a NaN or infinity got into other rows", m, k);
        check_free();
    }
}

struct linear_case {
    uint32_t m, n, k;
    enum rr_act act;
    int residual; /* 0 none, 1 another matrix, 2 y itself */
    bool extreme; /* sums as large as they can be */
};

static void linear_pieces(const struct rr_kern *kern, const struct rr_linear_i16 *all, float *y,
                          const float *old, uint32_t rows, uint32_t columns)
{
    check_mark(y, ((all->m - 1) * all->ldy + all->n) * sizeof(float));
    for (uint32_t i = 0; i < all->m && all->residual == all->y; i++)
        memcpy(y + i * all->ldy, old + i * all->n, all->n * sizeof(float));
    for (uint32_t i = 0; i < all->m; i += rows)
        for (uint32_t o = 0; o < all->n; o += columns) {
            struct rr_linear_i16 a = *all;

            a.y = y + i * a.ldy;
            a.x.q += i * a.x.ld;
            a.x.scale += i;
            if (a.residual) a.residual = a.residual == all->y ? a.y : a.residual + i * a.ldr;
            a.m = RR_MIN(rows, all->m - i);
            a.n_begin = o;
            a.n_end = RR_MIN(o + columns, all->n);
            kern->linear_i16(&a);
        }
}

/* Rows, weights within their limits, scales; extreme: signs such that all products are positive or
 * all negative, and 31 bits are used up. */
static void linear_inputs(struct check *c, struct linear_case s, struct rr_rows_i16 *x, int16_t *w,
                          float *w_scale)
{
    int32_t each = RR_MIN(INT16_MAX, RR_I16_CHANNEL / (int32_t)s.k);

    for (uint32_t i = 0; i < s.m; i++) {
        for (uint32_t j = 0; j < x->ld; j++) {
            int q = s.extreme ? (j % 2 ? -RR_I16_ROW : RR_I16_ROW)
                              : (int)check_random(c, 2 * RR_I16_ROW + 1) - RR_I16_ROW;

            x->q[i * x->ld + j] = (uint16_t)(int16_t)(j < s.k ? q : 0);
        }
        x->scale[i] = 0.01f + (float)check_random(c, 100) * 1e-3f;
    }
    for (uint32_t o = 0; o < s.n; o++) {
        w_scale[o] = 1e-6f + (float)check_random(c, 100) * 1e-8f;
        for (uint32_t j = 0; j < s.k; j++)
            w[(size_t)o * s.k + j] =
                (int16_t)(s.extreme ? ((j + o) % 2 ? -each : each)
                                    : (int)check_random(c, 2 * (uint32_t)each + 1) - each);
    }
}

static void linear_one(struct check *c, struct linear_case s)
{
    uint32_t nr = c->kern->bf16_nr, rnr = c->ref->bf16_nr, bad = 0;
    size_t ldy = s.n + check_random(c, 5), ny = (s.m - 1) * ldy + s.n;
    struct rr_rows_i16 x = rows_alloc(s.m, s.k);
    int16_t *w = check_alloc((size_t)s.n * s.k * sizeof(*w), false);
    uint16_t *panels = check_alloc(rr_weights_bytes_bf16(nr, s.n, s.k), true);
    uint16_t *rpanels = check_alloc(rr_weights_bytes_bf16(rnr, s.n, s.k), true);
    float *w_scale = check_alloc(s.n * sizeof(float), false);
    float *bias = check_alloc(s.n * sizeof(float), false);
    float *old = check_alloc((size_t)s.m * s.n * sizeof(float), false);
    float *res = check_alloc(ny * sizeof(float), false),
          *got = check_alloc(ny * sizeof(float), false);
    float *cut = check_alloc(ny * sizeof(float), false),
          *want = check_alloc(ny * sizeof(float), false);
    struct rr_linear_i16 a = { .y = got,
                               .x = x,
                               .panels = panels,
                               .w_scale = w_scale,
                               .bias = bias,
                               .ldy = ldy,
                               .ldr = ldy,
                               .m = s.m,
                               .n = s.n,
                               .k = s.k,
                               .n_end = s.n,
                               .act = s.act };
    struct rr_linear_i16 r;
    bool exact = s.act == RR_ACT_NONE || s.act == RR_ACT_RELU;
    double worst = 0;

    linear_inputs(c, s, &x, w, w_scale);
    check_fill(c, bias, s.n, 1.0f);
    check_fill(c, old, (size_t)s.m * s.n, 2.0f);
    check_fill(c, res, ny, 2.0f);
    rr_weights_pack_i16(panels, c->kern->packed_nr, w, 0, s.n, s.k);
    rr_weights_pack_i16(rpanels, c->ref->packed_nr, w, 0, s.n, s.k);
    a.residual = s.residual == 1 ? res : s.residual == 2 ? got : NULL;
    linear_pieces(c->kern, &a, got, old, s.m, s.n);
    linear_pieces(c->kern, &a, cut, old, check_between(c, 1, s.m), nr * check_between(c, 1, 2));
    r = a;
    r.panels = rpanels;
    r.y = want;
    if (s.residual == 2) r.residual = want;
    linear_pieces(c->ref, &r, want, old, s.m, s.n);
    for (uint32_t i = 0; i < s.m; i++)
        for (uint32_t o = 0; o < s.n; o++) {
            float g = got[i * ldy + o], q = want[i * ldy + o];
            double e = fabs((double)g - q) / (6e-7 * fmax(1, fabs((double)q)));

            bad += exact ? memcmp(&g, &q, 4) != 0 : !(e <= 1);
            worst = fmax(worst, e);
        }
    check_case(c, bad == 0, "m %u n %u k %u act %d residual %d extreme %d: %u wrong (%.2f)", s.m,
               s.n, s.k, s.act, s.residual, s.extreme, bad, worst);
    check_case(c, check_columns_equal(got, cut, 4, s.m, ldy, 0, s.n),
               "m %u n %u k %u: other bits when cut", s.m, s.n, s.k);
    check_case(c, check_columns_untouched(got, 4, s.m - 1, ldy, s.n, (uint32_t)ldy),
               "m %u n %u k %u: wrote outside", s.m, s.n, s.k);
    check_free();
}

static void check_linear(struct check *c)
{
    for (uint32_t m = 1; m <= 13; m++)
        linear_one(c, (struct linear_case){ m, 70, 33, RR_ACT_NONE, 0, false });
    linear_one(c, (struct linear_case){ 5, 66, 4096, RR_ACT_NONE, 0, true });
    linear_one(c, (struct linear_case){ 50, 130, 256, RR_ACT_GELU, 1, false });
    linear_one(c, (struct linear_case){ 35, 64, 100, RR_ACT_NONE, 2, false });
    linear_one(c, (struct linear_case){ 151, 20, 64, RR_ACT_RELU, 1, false });
    for (uint32_t t = 0; t < c->cases / 8; t++) {
        struct linear_case s = { .m = check_between(c, 1, 40),
                                 .n = check_between(c, 1, 150),
                                 .k = CHECK_PICK(c, 1, 2, 3, 7, 8, 16, 31, 64, 100, 256, 384),
                                 .act = (enum rr_act)check_random(c, 4),
                                 .residual = (int)check_random(c, 3),
                                 .extreme = check_random(c, 5) == 0 };

        linear_one(c, s);
    }
}

static bool has_linear(const struct rr_kern *k)
{
    return k->linear_i16;
}

static bool is_reference(const struct rr_kern *k)
{
    return k->needs == 0;
}

/* Channels of all kinds: on a grid, with an outlier, long ones. */
static void check_weights(struct check *c)
{
    for (uint32_t t = 0; t < c->cases; t++) {
        uint32_t k = t < 40 ? t + 1 : check_between(c, 1, t % 8 == 0 ? 20000 : 2000);
        float *w = check_alloc(k * sizeof(float), false), sum, scale;
        int16_t *p = check_alloc(k * sizeof(*p), false);
        double all = 0, worst = 0, whole = 0, squares = 0, step;
        bool grid = check_random(c, 4) == 0;
        int largest = 0;

        check_fill(c, w, k, 0.1f);
        for (uint32_t j = 0; j < k && grid; j++)
            w[j] = 0.003f * (float)((int)check_random(c, 255) - 127);
        if (check_random(c, 4) == 0) w[check_random(c, k)] *= 50;
        scale = rr_weights_quantize_i16(p, &sum, w, k);
        for (uint32_t j = 0; j < k; j++) {
            all += fabs((double)w[j]);
            squares += (double)w[j] * w[j];
            whole += abs(p[j]);
            largest = RR_MAX(largest, abs(p[j]));
            worst = fmax(worst, fabs((double)w[j] - (double)scale * p[j]));
        }
        step = fmax(all / (RR_I16_CHANNEL - 0.5 * k - 64), sqrt(squares / k) / RR_I16_STEPS);
        check_case(c, whole == (double)sum && whole <= RR_I16_CHANNEL &&
                          largest <= INT16_MAX,
                   "k %u: adds up to %g, the largest is %d", k, whole, largest);
        check_case(c, worst <= 0.501 * step, "k %u: off by %g, a step is %g", k, worst, step);
        w[check_random(c, k)] = NAN;
        check_case(c, isnan(rr_weights_quantize_i16(p, &sum, w, k)), "k %u: a NaN got lost", k);
        memset(w, 0, k * sizeof(float));
        check_case(c, rr_weights_quantize_i16(p, &sum, w, k) == 0, "k %u: zeros", k);
        check_free();
    }
}

const struct check_entry check_i16_entries[] = {
    { "weights_i16", check_weights, is_reference },
    { "quantize_i16", check_quantize, has_linear },
    { "linear_i16", check_linear, has_linear },
    { NULL, NULL, NULL },
};
