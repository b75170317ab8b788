/* SPDX-License-Identifier: Apache-2.0 */
/* check_rotary.c - RMSNorm, gated units, rotary positions, attention with a bias.
 *
 * Tolerances:
 *   rmsnorm_f32     2e-6 |gamma x / rms| + 1e-9
 *   glu_f32         (4e-7 |a| + 3e-7) |b|
 *   rotary_f32      3e-7 (|x| + |y|)
 *   attention_f32   1e-5 of the largest value, with scores of size 1 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "check.h"

struct rows { /* m rows of n values, ld apart, and what a kernel made of them */
    uint32_t m, n;
    size_t ld, ldy;
    float *x, *got, *cut, *want; /* cut: ldy, by single rows */
};

static struct rows rows_new(struct check *c, uint32_t m, uint32_t n, uint32_t width, float size)
{
    struct rows r = {
        .m = m, .n = n, .ld = width + check_random(c, 5), .ldy = n + check_random(c, 5)
    };
    size_t out = ((m - 1) * r.ldy + n) * sizeof(float), in = (m - 1) * r.ld + width;

    r.x = check_alloc(in * sizeof(float), false);
    r.got = check_alloc(out, false);
    r.cut = check_alloc(out, false);
    r.want = check_alloc(out, false);
    check_fill(c, r.x, in, size);
    check_mark(r.got, out);
    check_mark(r.cut, out);
    return r;
}

/* tolerance(user, row, column) is what got may be off. */
static void judge(struct check *c, const struct rows *r,
                  double (*tolerance)(const void *, uint32_t, uint32_t), const void *user)
{
    uint32_t bad = 0;
    double worst = 0;

    for (uint32_t i = 0; i < r->m; i++)
        for (uint32_t j = 0; j < r->n; j++) {
            size_t at = i * r->ldy + j;
            double e = fabs((double)r->got[at] - r->want[at]) / tolerance(user, i, j);

            bad += !(e <= 1);
            worst = fmax(worst, e);
        }
    check_case(c, bad == 0, "m %u n %u: %u wrong, %.2f tolerances", r->m, r->n, bad, worst);
    check_case(c, check_columns_equal(r->got, r->cut, 4, r->m, r->ldy, 0, r->n),
               "m %u n %u: other bits row by row", r->m, r->n);
    check_case(c, check_columns_untouched(r->got, 4, r->m - 1, r->ldy, r->n, (uint32_t)r->ldy),
               "m %u n %u: wrote outside", r->m, r->n);
    check_free();
}

static double rms_tolerance(const void *user, uint32_t i, uint32_t j)
{
    const struct rows *r = user;

    return 2e-6 * fabs(r->want[i * r->ldy + j]) + 1e-9;
}

static void check_rmsnorm(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 2; t++) {
        uint32_t n = t < 70 ? t + 1 : check_between(c, 1, 1100);
        float size = (float[]){ 1e-3f, 1.0f, 1e6f }[check_random(c, 3)];
        struct rows r = rows_new(c, check_between(c, 1, 5), n, n, size);
        float *gamma = check_alloc(n * sizeof(float), false);

        check_fill(c, gamma, n, 1.0f);
        c->kern->rmsnorm_f32(r.got, r.ldy, r.x, r.ld, gamma, r.m, n, 1e-6f);
        for (uint32_t i = 0; i < r.m; i++)
            c->kern->rmsnorm_f32(r.cut + i * r.ldy, r.ldy, r.x + i * r.ld, r.ld, gamma, 1, n,
                                 1e-6f);
        c->ref->rmsnorm_f32(r.want, r.ldy, r.x, r.ld, gamma, r.m, n, 1e-6f);
        judge(c, &r, rms_tolerance, &r);
    }
}

static double glu_tolerance(const void *user, uint32_t i, uint32_t j)
{
    const struct rows *r = user;
    const float *x = r->x + i * r->ld;

    return (4e-7 * fabs(x[j]) + 3e-7) * fabs(x[r->n + j]) + 1e-30;
}

static void check_glu(struct check *c)
{
    static const enum rr_act acts[] = { RR_ACT_GELU, RR_ACT_RELU, RR_ACT_SILU, RR_ACT_GELU_TANH };

    for (uint32_t t = 0; t < c->cases / 2; t++) {
        uint32_t n = t < 70 ? t + 1 : check_between(c, 1, 600);
        enum rr_act act = acts[check_random(c, RR_COUNT(acts))];
        float size = (float[]){ 0.1f, 2.0f, 200.0f }[check_random(c, 3)];
        struct rows r = rows_new(c, check_between(c, 1, 5), n, 2 * n, size);

        c->kern->glu_f32(r.got, r.ldy, r.x, r.x + n, r.ld, r.m, n, act);
        for (uint32_t i = 0; i < r.m; i++)
            c->kern->glu_f32(r.cut + i * r.ldy, r.ldy, r.x + i * r.ld, r.x + i * r.ld + n, r.ld, 1,
                             n, act);
        c->ref->glu_f32(r.want, r.ldy, r.x, r.x + n, r.ld, r.m, n, act);
        judge(c, &r, glu_tolerance, &r);
    }
}

static void check_rotary(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 2; t++) {
        uint32_t n = t < 40 ? t + 1 : check_between(c, 1, 128), heads = check_between(c, 1, 4);
        uint32_t dim = 2 * n + check_random(c, 7), width = heads * dim, bad = 0;
        float *x = check_alloc(width * sizeof(float), false);
        float *want = check_alloc(width * sizeof(float), false);
        float *cosines = check_alloc(n * sizeof(float), false);
        float *sines = check_alloc(n * sizeof(float), false);

        check_fill(c, x, width, 3.0f);
        memcpy(want, x, width * sizeof(float));
        for (uint32_t j = 0; j < n; j++) {
            float angle = check_normal(c) * 100;

            cosines[j] = cosf(angle);
            sines[j] = sinf(angle);
        }
        c->kern->rotary_f32(x, heads, dim, cosines, sines, n);
        c->ref->rotary_f32(want, heads, dim, cosines, sines, n);
        for (uint32_t j = 0; j < width; j++) {
            uint32_t col = j % dim, other = col < n ? j + n : col < 2 * n ? j - n : j;
            double e = 3e-7 * (fabs(want[j]) + fabs(want[other]) + 1e-6);

            bad += col < 2 * n ? !(fabs((double)x[j] - want[j]) <= e)
                               : memcmp(&x[j], &want[j], 4) != 0;
        }
        check_case(c, bad == 0, "%u heads of %u, %u angles: %u wrong", heads, dim, n, bad);
        check_free();
    }
}

/* Adds to scores of about 1 and hides some keys; a row that sees one key has its value. */
static void bias_one(struct check *c, uint32_t n_q, uint32_t n_kv, uint32_t dim)
{
    size_t ld = 3 * (size_t)dim, ldb = n_kv + check_random(c, 9), rows = RR_MAX(n_q, n_kv);
    float *in = check_alloc(rows * ld * sizeof(float), false);
    float *bias = check_alloc(((n_q - 1) * ldb + n_kv) * sizeof(float), false);
    float *got = check_alloc(n_q * dim * sizeof(float), false);
    float *want = check_alloc(n_q * dim * sizeof(float), false);
    struct rr_attention_f32 a = { .y = got,
                                  .q = in,
                                  .k = in + dim,
                                  .v = in + 2 * dim,
                                  .ldy = dim,
                                  .ldq = ld,
                                  .ldk = ld,
                                  .ldv = ld,
                                  .n_q = n_q,
                                  .n_kv = n_kv,
                                  .head_dim = dim,
                                  .scale = 1 / sqrtf((float)dim),
                                  .bias = bias,
                                  .ldb = ldb };
    uint32_t bad = 0, alone = check_random(c, n_q), key = check_random(c, n_kv);

    a.scratch = check_alloc(rr_attention_f32_scratch(n_kv, dim) * sizeof(float), true);
    check_fill(c, in, rows * ld, 1.0f);
    check_fill(c, bias, (n_q - 1) * ldb + n_kv, 2.0f);
    for (uint32_t i = 0; i < n_q; i++)
        for (uint32_t j = 0; j < n_kv; j++)
            if ((i == alone && j != key) || (j > 0 && check_random(c, 3) == 0 && i != alone))
                bias[i * ldb + j] = -FLT_MAX;
    c->kern->attention_f32(&a);
    a.y = want;
    c->ref->attention_f32(&a);
    for (uint32_t i = 0; i < n_q * dim; i++) bad += !(fabs((double)got[i] - want[i]) <= 4e-5);
    check_case(c, bad == 0, "n_q %u n_kv %u dim %u: %u wrong", n_q, n_kv, dim, bad);
    bad = 0;
    for (uint32_t d = 0; d < dim; d++) {
        double v = in[key * ld + 2 * dim + d];

        bad += !(fabs(got[(size_t)alone * dim + d] - v) <= 1e-6 * fabs(v));
    }
    check_case(c, bad == 0, "n_kv %u dim %u: a row that sees key %u alone differs from it", n_kv,
               dim, key);
    check_free();
}

static void check_bias(struct check *c)
{
    for (uint32_t t = 0; t < c->cases / 4; t++)
        bias_one(c, check_between(c, 1, 40), t < 40 ? t + 1 : check_between(c, 1, 150),
                 CHECK_PICK(c, 1, 8, 13, 32, 64, 80));
}

const struct check_entry check_rotary_entries[] = {
    { "rmsnorm_f32", check_rmsnorm, NULL },
    { "glu_f32", check_glu, NULL },
    { "rotary_f32", check_rotary, NULL },
    { "attention_bias_f32", check_bias, NULL },
    { NULL, NULL, NULL },
};
