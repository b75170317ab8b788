/* SPDX-License-Identifier: Apache-2.0 */
/* check_bf16.c - checks of the bf16 kernels against kern_ref.  Layer: tests.
 *
 * Tolerances, with u = 2^-23: round_bf16 none; linear_bf16 2 u (8 + sqrt k) (|bias| + sum |x w|),
 * since products of bf16 are exact but instructions differ in how they add two of them; GELU and
 * tanh add 3e-7 max(1, |v|).  Results in 16 bits are those in f32, rounded. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "check.h"
#include "cpu/weights.h"

#define U 0x1p-23

static void check_round(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 4; t++) {
        uint32_t m = check_between(c, 1, 3), k = check_between(c, 1, 200);
        size_t ldx = k + check_random(c, 3), ldy = (k + 1) / 2 * 2 + 2 * check_random(c, 3);
        uint32_t *x = check_alloc(m * ldx * 4, false);
        uint16_t *got = check_alloc(m * ldy * 2, true), *want = check_alloc(m * ldy * 2, true);

        for (size_t i = 0; i < m * ldx; i++) { /* any bits: NaN, infinities, ties */
            x[i] = check_random(c, 65536) << 16 | check_random(c, 65536);
            if (check_random(c, 3) == 0) x[i] = (x[i] & 0xFFFF0000) | 0x8000;
        }
        check_mark(got, m * ldy * 2);
        check_mark(want, m * ldy * 2);
        c->kern->round_bf16(got, ldy, (const float *)x, ldx, m, k);
        c->ref->round_bf16(want, ldy, (const float *)x, ldx, m, k);
        check_case(c, memcmp(got, want, m * ldy * 2) == 0, "m %u k %u", m, k);
        check_free();
    }
}

struct linear_case {
    uint32_t m, n, k;
    enum rr_act act;
    int residual; /* 0 none, 1 another matrix, 2 y itself */
};

static void linear_pieces(const struct rr_kern *kern, const struct rr_linear_bf16 *all, float *y,
                          const float *old, uint32_t rows, uint32_t columns)
{
    size_t size = all->x_dtype == RR_BF16 ? 2 : 4;

    check_mark(y, ((all->m - 1) * all->ldy + all->n) * sizeof(float));
    for (uint32_t i = 0; i < all->m && all->residual == all->y; i++)
        memcpy(y + i * all->ldy, old + i * all->n, all->n * sizeof(float));
    for (uint32_t i = 0; i < all->m; i += rows)
        for (uint32_t o = 0; o < all->n; o += columns) {
            struct rr_linear_bf16 a = *all;

            a.y = y + i * a.ldy;
            a.x = (const char *)all->x + i * a.ldx * size;
            if (a.residual) a.residual = a.residual == all->y ? a.y : a.residual + i * a.ldr;
            a.m = RR_MIN(rows, all->m - i);
            a.n_begin = o;
            a.n_end = RR_MIN(o + columns, all->n);
            kern->linear_bf16(&a);
        }
}

/* a->y has the results: they are rounded where they are to be in 16 bits. */
static void linear_halves(struct check *c, const struct rr_linear_bf16 *a)
{
    uint32_t rows = check_between(c, 1, a->m), columns = c->kern->bf16_nr * check_between(c, 1, 2);
    enum rr_dtype dtype = check_random(c, 2) ? RR_F16 : RR_BF16;
    size_t n = (a->m - 1) * a->ldy + a->n, size = a->x_dtype == RR_BF16 ? 2 : 4;
    uint16_t *half = check_alloc(n * sizeof(*half), false);

    check_mark(half, n * sizeof(*half));
    for (uint32_t i = 0; i < a->m; i += rows)
        for (uint32_t o = 0; o < a->n; o += columns) {
            struct rr_linear_bf16 b = *a;

            b.y = NULL;
            b.half = (struct rr_half){ half + i * a->ldy, dtype };
            b.x = (const char *)a->x + i * a->ldx * size;
            b.m = RR_MIN(rows, a->m - i);
            b.n_begin = o;
            b.n_end = RR_MIN(o + columns, a->n);
            c->kern->linear_bf16(&b);
        }
    check_halves(c, half, dtype, a->y, a->m, a->ldy, a->n);
}

static double tolerance(const struct rr_linear_bf16 *a, const float *x, const float *w, uint32_t i,
                        uint32_t o, double want)
{
    double sum = fabs(a->bias[o]);

    for (uint32_t j = 0; j < a->k; j++)
        sum += fabs((double)x[i * a->ldx + j] * w[(size_t)o * a->k + j]);
    sum *= 2 * 1.02 * U * (8 + sqrt(a->k)); /* w, x before rounding to bf16: 2^-8 each */
    if (a->act == RR_ACT_GELU || a->act == RR_ACT_TANH) sum = 1.2 * sum + 3e-7;
    return sum + 3 * U * (fabs(want) + (a->residual ? 8 : 0)) + 1e-30;
}

static void linear_one(struct check *c, struct linear_case s)
{
    uint32_t nr = c->kern->bf16_nr, rnr = c->ref->bf16_nr, bad = 0;
    size_t ldx = (s.k + 1) / 2 * 2 + 2 * check_random(c, 3), ldy = s.n + check_random(c, 5);
    size_t ny = (s.m - 1) * ldy + s.n, nx = (s.m - 1) * ldx + s.k;
    float *x = check_alloc(nx * sizeof(float), false);
    uint16_t *xb = check_alloc(((s.m - 1) * ldx + (s.k + 1) / 2 * 2) * 2, false);
    float *w = check_alloc((size_t)s.n * s.k * sizeof(float), false);
    float *bias = check_alloc(s.n * sizeof(float), false);
    float *old = check_alloc((size_t)s.m * s.n * sizeof(float), false);
    float *res = check_alloc(ny * sizeof(float), false),
          *got = check_alloc(ny * sizeof(float), false);
    float *cut = check_alloc(ny * sizeof(float), false),
          *want = check_alloc(ny * sizeof(float), false);
    uint16_t *panels = check_alloc(rr_weights_bytes_bf16(nr, s.n, s.k), true);
    uint16_t *rpanels = check_alloc(rr_weights_bytes_bf16(rnr, s.n, s.k), true);
    struct rr_linear_bf16 a = { .y = got,
                                .x = x,
                                .x_dtype = c->kern->bf16_x,
                                .panels = panels,
                                .bias = bias,
                                .ldy = ldy,
                                .ldx = ldx,
                                .ldr = ldy,
                                .m = s.m,
                                .n = s.n,
                                .k = s.k,
                                .n_end = s.n,
                                .act = s.act };
    struct rr_linear_bf16 r;
    double worst = 0;

    check_fill(c, x, nx, 1.0f);
    check_fill(c, w, (size_t)s.n * s.k, 1.0f / sqrtf((float)s.k));
    check_fill(c, bias, s.n, 1.0f);
    check_fill(c, old, (size_t)s.m * s.n, 2.0f);
    check_fill(c, res, ny, 2.0f);
    c->ref->round_bf16(xb, ldx, x, ldx, s.m, s.k);
    rr_weights_pack_bf16(panels, c->kern->packed_nr, w, 0, s.n, s.k);
    rr_weights_pack_bf16(rpanels, c->ref->packed_nr, w, 0, s.n, s.k);
    if (a.x_dtype == RR_BF16) a.x = xb;
    a.residual = s.residual == 1 ? res : s.residual == 2 ? got : NULL;
    linear_pieces(c->kern, &a, got, old, s.m, s.n);
    linear_pieces(c->kern, &a, cut, old, check_between(c, 1, s.m), nr * check_between(c, 1, 2));
    if (!a.residual) linear_halves(c, &a);
    r = a;
    r.panels = rpanels;
    r.y = want;
    if (s.residual == 2) r.residual = want;
    linear_pieces(c->ref, &r, want, old, s.m, s.n);
    for (uint32_t i = 0; i < s.m; i++)
        for (uint32_t o = 0; o < s.n; o++) {
            double q = want[i * ldy + o],
                   e = fabs(got[i * ldy + o] - q) / tolerance(&a, x, w, i, o, q);

            bad += !(e <= 1);
            worst = fmax(worst, e);
        }
    check_case(c, bad == 0, "m %u n %u k %u act %d residual %d: %u wrong, %.2f tolerances", s.m,
               s.n, s.k, s.act, s.residual, bad, worst);
    check_case(c, check_columns_equal(got, cut, 4, s.m, ldy, 0, s.n),
               "m %u n %u k %u: other bits when cut", s.m, s.n, s.k);
    check_case(c, check_columns_untouched(got, 4, s.m - 1, ldy, s.n, (uint32_t)ldy),
               "m %u n %u k %u: wrote outside", s.m, s.n, s.k);
    check_free();
}

static void check_linear_bf16(struct check *c)
{
    for (uint32_t m = 1; m <= 13; m++)
        linear_one(c, (struct linear_case){ m, 70, 33, RR_ACT_NONE, 0 });
    linear_one(c, (struct linear_case){ 50, 130, 256, RR_ACT_GELU, 1 });
    linear_one(c, (struct linear_case){ 35, 64, 70, RR_ACT_NONE, 2 });
    linear_one(c, (struct linear_case){ 101, 20, 64, RR_ACT_RELU, 1 });
    for (int residual = 0; residual <= 2; residual++) /* deep: some levels go by parts along k */
        linear_one(c, (struct linear_case){ 5 + 40 * residual, 70, 4100 - 2003 * (residual == 1),
                                            RR_ACT_NONE, residual });
    for (uint32_t t = 0; t < c->cases / 8; t++)
        linear_one(c,
                   (struct linear_case){ .m = check_between(c, 1, 40),
                                         .n = check_between(c, 1, 150),
                                         .k = CHECK_PICK(c, 1, 2, 3, 7, 16, 31, 32, 64, 100, 256),
                                         .act = (enum rr_act)check_random(c, 4),
                                         .residual = (int)check_random(c, 3) });
}

static bool has_linear(const struct rr_kern *k)
{
    return k->linear_bf16;
}

const struct check_entry check_bf16_entries[] = {
    { "round_bf16", check_round, NULL },
    { "linear_bf16", check_linear_bf16, has_linear },
    { NULL, NULL, NULL },
};
