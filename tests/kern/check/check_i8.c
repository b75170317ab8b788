/* SPDX-License-Identifier: Apache-2.0 */
/* check_i8.c - checks of the int8 kernels and of the weights they read.  Layer: tests.
 *
 * Tolerances: none.  quantize_i8, layernorm_i8 (against the level's layernorm_f32) and linear_i8
 * without activation or with ReLU give the reference's bits; tanh adds 3e-7 max(1, |v|), GELU
 * GELU_ERROR, a hundredth of what rounding to 8 bits next leaves uncertain.  Results in 16 bits are
 * those in f32, rounded; rows of f16 are quantized as if they were in f32. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "check.h"
#include "cpu/weights.h"
#include "cpu/weights_levels.h"

#define GELU_ERROR 1.2e-4 /* of GELU in linear_i8, kern.h */

/* ---- rows ---------------------------------------------------------------------------------- */

static struct rr_rows_i8 rows_alloc(uint32_t m, uint32_t k, bool fine)
{
    struct rr_rows_i8 r = { .ld = rr_i8_stride(k), .fine = fine };

    r.q = check_alloc(rr_i8_rows(&r, m) * r.ld, true);
    r.scale = check_alloc(m * sizeof(float), false);
    r.offset = check_alloc(m * sizeof(float), false);
    check_mark(r.q, rr_i8_rows(&r, m) * r.ld);
    return r;
}

static bool rows_equal(const struct rr_rows_i8 *a, const struct rr_rows_i8 *b, uint32_t m,
                       uint32_t k)
{
    return check_columns_equal(a->q, b->q, 1, rr_i8_rows(a, m), a->ld, 0, rr_i8_depth(k)) &&
           memcmp(a->scale, b->scale, m * sizeof(float)) == 0 &&
           memcmp(a->offset, b->offset, m * sizeof(float)) == 0;
}

static float top_of(const struct rr_rows_i8 *r)
{
    return r->fine ? RR_I8_BASE * RR_I8_BASE - 1 : RR_I8_BASE - 1;
}

/* Value j of row i becomes q. */
static void put(const struct rr_kern *kern, const struct rr_rows_i8 *r, uint32_t i, uint32_t j,
                int q)
{
    int8_t *at = r->q + rr_i8_rows(r, i) * r->ld + j;

    if (r->fine) at[r->ld] = (int8_t)(uint8_t)(q % RR_I8_BASE - kern->i8_zero);
    *at = (int8_t)(uint8_t)((r->fine ? q / RR_I8_BASE : q) - kern->i8_zero);
}

/* A digit of a byte; above the base if it is none. */
static int digit(const struct rr_kern *kern, int8_t byte)
{
    return kern->i8_zero ? byte + kern->i8_zero : (uint8_t)byte;
}

/* The definition of a quantized row, for any i8_zero. */
static void define_row(const struct rr_kern *kern, const struct rr_rows_i8 *out, uint32_t i,
                       const float *x, const float *smooth, uint32_t k)
{
    float lo = INFINITY, hi = -INFINITY, top = top_of(out), range;

    for (uint32_t row = rr_i8_rows(out, i); row < rr_i8_rows(out, i + 1); row++)
        memset(out->q + row * out->ld, 0, rr_i8_depth(k));
    for (uint32_t j = 0; j < k; j++) {
        float t = smooth ? x[j] * smooth[j] : x[j];

        lo = fminf(lo, t);
        hi = fmaxf(hi, t);
    }
    range = hi - lo;
    for (uint32_t j = 0; j < k; j++) {
        float t = smooth ? x[j] * smooth[j] : x[j];

        put(kern, out, i, j, (int)rintf((t - lo) * (range > 1e-30f ? top / range : 0)));
    }
    out->scale[i] = range > 1e-30f ? range / top : 0;
    out->offset[i] = lo + 0.0f; /* never -0 */
}

/* Largest |x - (offset + scale q)| in units of scale. */
static double row_error(const struct rr_kern *kern, const struct rr_rows_i8 *r, uint32_t i,
                        const float *x, const float *smooth, uint32_t k)
{
    double worst = 0;

    for (uint32_t j = 0; j < k; j++) {
        const int8_t *at = r->q + rr_i8_rows(r, i) * r->ld + j;
        int q = digit(kern, *at), lower = r->fine ? digit(kern, at[r->ld]) : 0;
        double t = smooth ? x[j] * smooth[j] : x[j];

        if (q > (int)kern->i8_top || lower > (int)kern->i8_top) return 1e9;
        if (r->fine) q = q * RR_I8_BASE + lower;
        t = fabs(t - ((double)r->offset[i] + (double)r->scale[i] * q));
        worst = fmax(worst, r->scale[i] > 0 ? t / r->scale[i] : (t > 1e-29) * 1e9);
    }
    return worst;
}

/* Rows of f16, as the same rows in f32. */
static void quantize_halves(struct check *c, const float *x, size_t ldx, const float *smooth,
                            uint32_t m, uint32_t k, bool fine)
{
    size_t n = (m - 1) * ldx + k;
    uint16_t *half = check_alloc(n * sizeof(*half), false);
    float *same = check_alloc(n * sizeof(*same), false);
    struct rr_rows_i8 got = rows_alloc(m, k, fine), want = rows_alloc(m, k, fine);

    for (size_t i = 0; i < n; i++) half[i] = rr_weights_round_f16(fminf(fmaxf(x[i], -6e4f), 6e4f));
    c->ref->convert(same, half, RR_F16, n);
    c->kern->quantize_i8(&got, half, RR_F16, ldx, smooth, m, k);
    c->kern->quantize_i8(&want, same, RR_F32, ldx, smooth, m, k);
    check_case(c, rows_equal(&got, &want, m, k), "m %u k %u: rows of f16 are quantized otherwise",
               m, k);
    half[check_random(c, k)] = check_random(c, 2) ? 0x7C00 : 0xFE00; /* infinity, NaN */
    c->kern->quantize_i8(&got, half, RR_F16, ldx, smooth, m, k);
    check_case(c, isnan(got.offset[0]), "k %u: a NaN or infinity of f16 got lost", k);
}

static void check_quantize(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 2; t++) {
        uint32_t k = t < 70 ? t + 1 : check_between(c, 1, 2000), m = check_between(c, 1, 9);
        size_t ldx = k + check_random(c, 3);
        float *x = check_alloc(((m - 1) * ldx + k) * sizeof(float), false), *smooth = NULL;
        bool fine = check_random(c, 2);
        struct rr_rows_i8 got = rows_alloc(m, k, fine), want = rows_alloc(m, k, fine);
        struct rr_rows_i8 cut = rows_alloc(m, k, fine);
        double worst = 0;

        if (check_random(c, 2)) {
            smooth = check_alloc(k * sizeof(float), false);
            for (uint32_t j = 0; j < k; j++) smooth[j] = 0.5f + (float)check_random(c, 100) / 50;
        }
        check_fill(c, x, (m - 1) * ldx + k,
                   (float[]){ 0.0f, 1e-35f, 1e-3f, 1.0f, 1e6f }[check_random(c, 5)]);
        if (check_random(c, 4) == 0) x[check_random(c, k)] *= 1000; /* an outlier */
        c->kern->quantize_i8(&got, x, RR_F32, ldx, smooth, m, k);
        for (uint32_t i = 0; i < m; i++) {
            struct rr_rows_i8 one = { cut.q + rr_i8_rows(&cut, i) * cut.ld, cut.scale + i,
                                      cut.offset + i, cut.ld, fine };

            define_row(c->kern, &want, i, x + i * ldx, smooth, k);
            c->kern->quantize_i8(&one, x + i * ldx, RR_F32, ldx, smooth, 1, k);
            worst = fmax(worst, row_error(c->kern, &got, i, x + i * ldx, smooth, k));
        }
        check_case(c, rows_equal(&got, &want, m, k), "m %u k %u fine %d: not as defined", m, k,
                   fine);
        /* A step of 16 bits is 128 of f32's. */
        check_case(c, worst <= (fine ? 0.52 : 0.501), "m %u k %u fine %d: off by %.3f steps", m, k,
                   fine, worst);
        check_case(c, rows_equal(&got, &cut, m, k), "m %u k %u: other bits when cut", m, k);
        check_case(c,
                   check_columns_untouched(got.q, 1, rr_i8_rows(&got, m), got.ld, rr_i8_depth(k),
                                           (uint32_t)got.ld),
                   "m %u k %u: wrote outside", m, k);

        quantize_halves(c, x, ldx, smooth, m, k, fine);
        x[check_random(c, k)] = check_random(c, 2) ? NAN : INFINITY;
        c->kern->quantize_i8(&got, x, RR_F32, ldx, smooth, m, k);
        check_case(c, isnan(got.offset[0]), "k %u: a NaN or infinity got lost", k);
        check_case(c, memcmp(got.offset + 1, want.offset + 1, (m - 1) * sizeof(float)) == 0,
                   "m %u k %u: a NaN or infinity got into other rows", m, k);
        check_free();
    }
}

static void check_layernorm_i8(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 8; t++) {
        uint32_t n = check_between(c, 1, 1100), m = check_between(c, 1, 9);
        size_t ldx = n + check_random(c, 4), ldy = n + check_random(c, 4);
        float *x = check_alloc(m * ldx * sizeof(float), false);
        float *y = check_alloc(m * ldy * sizeof(float), false);
        float *want = check_alloc(m * ldy * sizeof(float), false);
        float *g = check_alloc(n * sizeof(float), false),
              *b = check_alloc(n * sizeof(float), false);
        bool fine = check_random(c, 2);
        struct rr_rows_i8 got = rows_alloc(m, n, fine), rows = rows_alloc(m, n, fine);
        struct rr_layernorm_i8 a = { .y = y,
                                     .x = x,
                                     .ldy = ldy,
                                     .ldx = ldx,
                                     .gamma = g,
                                     .beta = b,
                                     .smooth = check_random(c, 2) ? g : NULL,
                                     .out = got,
                                     .m = m,
                                     .n = n,
                                     .eps = 1e-5f };

        check_fill(c, x, m * ldx, 3.0f);
        check_fill(c, g, n, 1.0f);
        check_fill(c, b, n, 1.0f);
        check_mark(y, m * ldy * sizeof(float));
        check_mark(want, m * ldy * sizeof(float));
        c->kern->layernorm_i8(&a);
        c->kern->layernorm_f32(want, ldy, x, ldx, g, b, m, n, 1e-5f);
        c->kern->quantize_i8(&rows, want, RR_F32, ldy, a.smooth, m, n);
        check_case(c, memcmp(y, want, m * ldy * sizeof(float)) == 0, "m %u n %u: values", m, n);
        check_case(c, rows_equal(&got, &rows, m, n), "m %u n %u: rows", m, n);
        check_free();
    }
}

/* ---- linear -------------------------------------------------------------------------------- */

struct linear_case {
    uint32_t m, n, k;
    enum rr_act act;
    int residual; /* 0 none, 1 another matrix, 2 y itself */
    bool fine;
    bool extreme; /* every q and every weight as large as it can be */
};

static void linear_pieces(const struct rr_kern *kern, const struct rr_linear_i8 *all, float *y,
                          const float *old, uint32_t rows, uint32_t columns)
{
    check_mark(y, ((all->m - 1) * all->ldy + all->n) * sizeof(float));
    for (uint32_t i = 0; i < all->m && all->residual == all->y; i++)
        memcpy(y + i * all->ldy, old + i * all->n, all->n * sizeof(float));
    for (uint32_t i = 0; i < all->m; i += rows)
        for (uint32_t o = 0; o < all->n; o += columns) {
            struct rr_linear_i8 a = *all;

            a.y = y + i * a.ldy;
            a.x.q += rr_i8_rows(&a.x, i) * a.x.ld;
            a.x.scale += i;
            a.x.offset += i;
            if (a.residual) a.residual = a.residual == all->y ? a.y : a.residual + i * a.ldr;
            a.m = RR_MIN(rows, all->m - i);
            a.n_begin = o;
            a.n_end = RR_MIN(o + columns, all->n);
            kern->linear_i8(&a);
        }
}

/* Elements 0, 1, 4 and 5 of each eight, or 2, 3, 6 and 7: what they add up to, each sign apart. */
static int set_sum(const int8_t *w, uint32_t k, uint32_t j, int set, int sign)
{
    int sum = 0;

    for (uint32_t i = j; i < RR_MIN(j + 8, k); i++)
        if ((int)(i >> 1 & 1) == set) sum += RR_MAX(sign * w[i], 0);
    return sum;
}

/* Random weights of one channel within the level's limit; extreme: at the limit, with the largest
 * values in places that change. */
static void random_weights(struct check *c, int8_t *w, uint32_t k, bool extreme, int sign)
{
    int wtop = (int)c->kern->i8_wtop;

    for (uint32_t j = 0; j < k; j++) w[j] = 0;
    for (uint32_t t = 0; t < k; t++) { /* in any order: the limit hits any place */
        uint32_t j = t ^ check_random(c, 8);
        int limit;

        if (j >= k) j = t;
        w[j] = 0;
        limit = RR_MIN(127, wtop - set_sum(w, k, j & ~7u, (int)(j >> 1 & 1), sign));
        if (extreme && check_random(c, 3)) limit = RR_MIN(limit, wtop / 4 + 1);
        w[j] = (int8_t)(sign * (extreme ? limit : (int)check_random(c, (uint32_t)limit + 1)));
        if (!extreme) sign = check_random(c, 2) ? 1 : -1;
    }
}

/* Rows of the level and the same rows for the reference; weights; everything random. */
static void linear_inputs(struct check *c, struct linear_case s, struct rr_rows_i8 *x,
                          struct rr_rows_i8 *rx, int8_t *w, float *w_scale)
{
    uint32_t top = (uint32_t)top_of(x);

    for (uint32_t i = 0; i < rr_i8_rows(x, s.m); i++) {
        memset(x->q + i * x->ld, 0, rr_i8_depth(s.k));
        memset(rx->q + i * rx->ld, 0, rr_i8_depth(s.k));
    }
    for (uint32_t i = 0; i < s.m; i++) {
        for (uint32_t j = 0; j < s.k; j++) {
            int q = s.extreme ? (int)top : (int)check_random(c, top + 1);

            if (s.extreme && i % 3 == 1 && j % 2) q = 0;
            put(c->kern, x, i, j, q);
            put(c->ref, rx, i, j, q);
        }
        x->scale[i] = rx->scale[i] = 0.01f + (float)check_random(c, 100) * 1e-3f;
        x->offset[i] = rx->offset[i] = check_normal(c);
    }
    for (uint32_t o = 0; o < s.n; o++) {
        w_scale[o] = 0.001f + (float)check_random(c, 100) * 1e-5f;
        random_weights(c, w + (size_t)o * s.k, s.k, s.extreme, o % 2 ? 1 : -1);
    }
}

/* a->y has the results: they are rounded where they are to be in 16 bits. */
static void linear_halves(struct check *c, const struct rr_linear_i8 *a)
{
    uint32_t rows = check_between(c, 1, a->m), columns = c->kern->i8_nr * check_between(c, 1, 2);
    enum rr_dtype dtype = check_random(c, 2) ? RR_F16 : RR_BF16;
    size_t n = (a->m - 1) * a->ldy + a->n;
    uint16_t *half = check_alloc(n * sizeof(*half), false);

    check_mark(half, n * sizeof(*half));
    for (uint32_t i = 0; i < a->m; i += rows)
        for (uint32_t o = 0; o < a->n; o += columns) {
            struct rr_linear_i8 b = *a;

            b.y = NULL;
            b.half = (struct rr_half){ half + i * a->ldy, dtype };
            b.x.q += rr_i8_rows(&b.x, i) * b.x.ld;
            b.x.scale += i;
            b.x.offset += i;
            b.m = RR_MIN(rows, a->m - i);
            b.n_begin = o;
            b.n_end = RR_MIN(o + columns, a->n);
            c->kern->linear_i8(&b);
        }
    check_halves(c, half, dtype, a->y, a->m, a->ldy, a->n);
}

static void linear_one(struct check *c, struct linear_case s)
{
    uint32_t nr = c->kern->i8_nr, rnr = c->ref->i8_nr, bad = 0;
    size_t ldy = s.n + check_random(c, 5), ny = (s.m - 1) * ldy + s.n;
    struct rr_rows_i8 x = rows_alloc(s.m, s.k, s.fine), rx = rows_alloc(s.m, s.k, s.fine);
    int8_t *w = check_alloc((size_t)s.n * s.k, false);
    int8_t *panels = check_alloc(rr_weights_bytes_i8(nr, s.n, s.k), true);
    int8_t *rpanels = check_alloc(rr_weights_bytes_i8(rnr, s.n, s.k), true);
    float *w_scale = check_alloc(s.n * sizeof(float), false);
    float *w_sum = check_alloc(s.n * sizeof(float), false);
    float *bias = check_alloc(s.n * sizeof(float), false);
    float *old = check_alloc((size_t)s.m * s.n * sizeof(float), false);
    float *res = check_alloc(ny * sizeof(float), false),
          *got = check_alloc(ny * sizeof(float), false);
    float *cut = check_alloc(ny * sizeof(float), false),
          *want = check_alloc(ny * sizeof(float), false);
    struct rr_linear_i8 a = { .y = got,
                              .x = x,
                              .panels = panels,
                              .w_scale = w_scale,
                              .w_sum = w_sum,
                              .bias = bias,
                              .ldy = ldy,
                              .ldr = ldy,
                              .m = s.m,
                              .n = s.n,
                              .k = s.k,
                              .n_end = s.n,
                              .act = s.act };
    struct rr_linear_i8 r;
    bool exact = s.act == RR_ACT_NONE || s.act == RR_ACT_RELU;
    double worst = 0;

    linear_inputs(c, s, &x, &rx, w, w_scale);
    check_fill(c, bias, s.n, 1.0f);
    check_fill(c, old, (size_t)s.m * s.n, 2.0f);
    check_fill(c, res, ny, 2.0f);
    rr_weights_pack_i8(panels, c->kern->packed_nr, w_sum, w, 0, s.n, s.k);
    rr_weights_pack_i8(rpanels, c->ref->packed_nr, w_sum, w, 0, s.n, s.k);
    a.residual = s.residual == 1 ? res : s.residual == 2 ? got : NULL;
    if (check_random(c, 4) == 0) bias[check_random(c, s.n)] = 1e5f; /* too large for f16 */
    linear_pieces(c->kern, &a, got, old, s.m, s.n);
    linear_pieces(c->kern, &a, cut, old, check_between(c, 1, s.m), nr * check_between(c, 1, 2));
    if (!a.residual) linear_halves(c, &a);
    r = a;
    r.panels = rpanels;
    r.x = rx;
    r.y = want;
    if (s.residual == 2) r.residual = want;
    linear_pieces(c->ref, &r, want, old, s.m, s.n);
    for (uint32_t i = 0; i < s.m; i++)
        for (uint32_t o = 0; o < s.n; o++) {
            float g = got[i * ldy + o], q = want[i * ldy + o];
            double allowed = 6e-7 * fmax(1, fabs((double)q)) +
                             (s.act == RR_ACT_GELU ? GELU_ERROR : 0);
            double e = fabs((double)g - q) / allowed;

            bad += exact ? memcmp(&g, &q, 4) != 0 : !(e <= 1);
            worst = fmax(worst, e);
        }
    check_case(c, bad == 0,
               "m %u n %u k %u act %d residual %d fine %d extreme %d: %u wrong (%.2f)", s.m, s.n, s.k,
               s.act, s.residual, s.fine, s.extreme, bad, worst);
    check_case(c, check_columns_equal(got, cut, 4, s.m, ldy, 0, s.n),
               "m %u n %u k %u: other bits when cut", s.m, s.n, s.k);
    check_case(c, check_columns_untouched(got, 4, s.m - 1, ldy, s.n, (uint32_t)ldy),
               "m %u n %u k %u: wrote outside", s.m, s.n, s.k);
    check_free();
}

static void check_linear_i8(struct check *c)
{
    for (uint32_t m = 1; m <= 26; m++)
        linear_one(c, (struct linear_case){ (m + 1) / 2, 70, 33, RR_ACT_NONE, 0, m % 2, false });
    for (int fine = 0; fine < 2; fine++) {
        linear_one(c, (struct linear_case){ 5, 66, 4096, RR_ACT_NONE, 0, fine, true });
        linear_one(c, (struct linear_case){ 50, 130, 256, RR_ACT_GELU, 1, fine, false });
        linear_one(c, (struct linear_case){ 35, 64, 100, RR_ACT_NONE, 2, fine, false });
        linear_one(c, (struct linear_case){ 101, 20, 64, RR_ACT_RELU, 1, fine, false });
    }
    for (uint32_t t = 0; t < c->cases / 8; t++) {
        struct linear_case s = { .m = check_between(c, 1, 40),
                                 .n = check_between(c, 1, 150),
                                 .k = CHECK_PICK(c, 1, 2, 3, 7, 8, 16, 31, 64, 100, 256, 384),
                                 .act = (enum rr_act)check_random(c, 4),
                                 .residual = (int)check_random(c, 3),
                                 .fine = check_random(c, 2),
                                 .extreme = check_random(c, 5) == 0 };

        linear_one(c, s);
    }
}

/* ---- weights ------------------------------------------------------------------------------- */

static bool is_reference(const struct rr_kern *k)
{
    return k->needs == 0;
}

static double squared_error(const float *w, const int8_t *q, float scale, uint32_t k)
{
    double e = 0;

    for (uint32_t j = 0; j < k; j++)
        e += (w[j] - (double)scale * q[j]) * (w[j] - (double)scale * q[j]);
    return e;
}

/* The largest value of any element, or, above it, what a set adds up to over the limit. */
static int weight_excess(const int8_t *q, uint32_t k, uint32_t wtop)
{
    int most = 0;

    for (uint32_t j = 0; j < k; j++) most = RR_MAX(most, q[j] < 0 ? -q[j] : q[j]);
    for (uint32_t j = 0; j < k; j += 8)
        for (int set = 0; set < 2; set++)
            for (int sign = -1; sign <= 1; sign += 2)
                if (set_sum(q, k, j, set, sign) > (int)wtop)
                    most = RR_MAX(most, 127 + set_sum(q, k, j, set, sign) - (int)wtop);
    return most;
}

/* The search is never worse than a scale that fits the largest value or set, and, for values as
 * those of real weights, a limit on sets costs little. */
static void check_weights(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 4; t++) {
        uint32_t k = check_between(c, 1, 1500), wtop = CHECK_PICK(c, RR_I8_WFREE, 129);
        bool outlier = check_random(c, 2), limited = wtop < RR_I8_WFREE;
        float *w = check_alloc(k * sizeof(float), false), max = 0, scale, fit;
        int8_t *q = check_alloc(k, false), *plain = check_alloc(k, false);
        int8_t *other = check_alloc(k, false);
        double error, simple;

        check_fill(c, w, k, (float[]){ 1e-20f, 0.02f, 1.0f, 1e5f }[check_random(c, 4)]);
        if (outlier) w[check_random(c, k)] *= 8; /* clipping pays */
        for (uint32_t j = 0; j < k; j++) max = fmaxf(max, fabsf(w[j]));
        fit = max / (limited ? 32 : 127); /* 4 x 32 <= 129 */
        for (uint32_t j = 0; j < k; j++) plain[j] = (int8_t)lrintf(w[j] / fit);
        scale = rr_weights_quantize_row_plain(other, w, k, wtop);
        check_case(c, scale == rr_weights_quantize_row(q, w, k, wtop) && !memcmp(q, other, k),
                   "k %u wtop %u: other bits with wider vectors", k, wtop);
        check_case(c, weight_excess(q, k, wtop) <= 127, "k %u wtop %u: weight %d", k, wtop,
                   weight_excess(q, k, wtop));
        error = squared_error(w, q, scale, k);
        simple = squared_error(w, plain, fit, k);
        /* A few values may fit the plain scale by chance; then no worse than rounding to the nearest. */
        check_case(c,
                   error <= simple * 1.0001 + 1e-12 * k * max * max ||
                       (k < 16 && error <= 0.25 * k * (double)scale * scale),
                   "k %u: worse than no search: %g, %g", k, error, simple);
        if (limited && k > 500 && !outlier) {
            scale = rr_weights_quantize_row(plain, w, k, RR_I8_WFREE);
            simple = squared_error(w, plain, scale, k);
            /* At worst a set has four of the largest value: a step 508 / 129 times as wide. */
            check_case(c, error <= simple * 16, "k %u: the limit costs %g, %g", k, error, simple);
        }
        w[check_random(c, k)] = NAN;
        check_case(c, isnan(rr_weights_quantize_row(q, w, k, wtop)), "k %u: a NaN got lost", k);
        memset(w, 0, k * sizeof(float));
        check_case(c, rr_weights_quantize_row(q, w, k, wtop) == 0, "k %u: zeros", k);
        check_free();
    }
}

/* GELU alone: inputs of zero, so that the bias is the value; [-12, 12] and what is not a number. */
static void check_gelu_i8(struct check *c)
{
    uint32_t n = 65536;
    float *bias = check_alloc(n * sizeof(float), false), *y = check_alloc(n * sizeof(float), false);
    float *zero = check_alloc(n * sizeof(float), false);
    struct rr_rows_i8 x = rows_alloc(1, 4, false);
    struct rr_linear_i8 a = { .y = y,
                              .x = x,
                              .panels = check_alloc(rr_weights_bytes_i8(c->kern->i8_nr, n, 4), true),
                              .w_scale = zero,
                              .w_sum = zero,
                              .bias = bias,
                              .ldy = n,
                              .m = 1,
                              .n = n,
                              .k = 4,
                              .n_end = n,
                              .act = RR_ACT_GELU };
    double worst = 0;

    for (uint32_t i = 0; i < n; i++) bias[i] = ((float)i / 32768 - 1) * 12;
    bias[7] = NAN;
    bias[8] = INFINITY;
    c->kern->linear_i8(&a);
    check_case(c, isnan(y[7]) && isinf(y[8]), "NaN and infinity become %g and %g", (double)y[7],
               (double)y[8]);
    for (uint32_t i = 9; i < n; i++)
        worst = fmax(worst, fabs(y[i] - 0.5 * bias[i] * erfc(-bias[i] * 0.70710678118654752)));
    check_case(c, worst <= GELU_ERROR, "GELU is off by %.2g", worst);
    check_free();
}

const struct check_entry check_i8_entries[] = {
    { "weights_i8", check_weights, is_reference },
    { "quantize_i8", check_quantize, NULL },
    { "layernorm_i8", check_layernorm_i8, NULL },
    { "linear_i8", check_linear_i8, NULL },
    { "gelu_i8", check_gelu_i8, NULL },
    { NULL, NULL, NULL },
};
