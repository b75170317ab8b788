/* SPDX-License-Identifier: Apache-2.0 */
/* check_f32.c - checks of the f32 kernels against kern_ref.  Layer: tests.
 *
 * Tolerances, with u = 2^-23 (what one rounding can cost, twice over):
 *   linear_f32     u (8 + sqrt k) (|bias| + sum |x w|), and 3e-7 max(1, |v|) for GELU and tanh
 *   attention_f32, _bf16, _i16  as a product of two linear steps: see attention_tolerance
 *   layernorm_f32  2e-6 (|gamma (x - mean) / std| + |beta|) + 2e-7
 *   pack_f32, convert, add_convert  none: bits */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "check.h"
#include "cpu/weights.h"

#define U 0x1p-23

static size_t size_of(enum rr_dtype dtype)
{
    return dtype == RR_F32 ? 4 : dtype == RR_I8 ? 1 : 2;
}

/* Random bits of dtype without NaN and infinities; half precision includes subnormals. */
static void fill_dtype(struct check *c, void *p, enum rr_dtype dtype, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h = (uint16_t)check_random(c, 65536);

        if (dtype == RR_F16 && (h >> 10 & 31) == 31) h &= 0x83FF;
        if (dtype == RR_BF16 && (h >> 7 & 255) >= 254) h &= 0x807F;
        if (dtype == RR_F32)
            ((float *)p)[i] = check_normal(c);
        else if (dtype == RR_I8)
            ((int8_t *)p)[i] = (int8_t)h;
        else
            ((uint16_t *)p)[i] = h;
    }
}

/* ---- convert ------------------------------------------------------------------------------- */

static void check_convert(struct check *c)
{
    for (uint32_t t = 0; t < c->cases; t++) {
        enum rr_dtype dtype = (enum rr_dtype)check_random(c, 4);
        uint32_t n = t < 70 ? t : check_between(c, 1, 3000);
        bool add = check_random(c, 2);
        void *src = check_alloc(n * size_of(dtype), false);
        float *got = check_alloc(n * sizeof(float), false);
        float *want = check_alloc(n * sizeof(float), false);

        fill_dtype(c, src, dtype, n);
        check_fill(c, want, n, 1.0f);
        if (n) memcpy(got, want, n * sizeof(float));

        if (add) {
            c->kern->add_convert(got, src, dtype, n);
            c->ref->add_convert(want, src, dtype, n);
        } else {
            c->kern->convert(got, src, dtype, n);
            c->ref->convert(want, src, dtype, n);
        }
        check_case(c, memcmp(got, want, n * sizeof(float)) == 0, "n %u dtype %d add %d", n, dtype,
                   add);
        check_free();
    }
}

/* ---- pack ---------------------------------------------------------------------------------- */

static void check_pack(struct check *c)
{
    uint32_t nr = c->kern->f32_nr;

    for (uint32_t t = 0; t < c->cases / 4; t++) {
        enum rr_dtype dtype = (enum rr_dtype)check_random(c, 4);
        uint32_t row0 = check_random(c, 3) ? check_random(c, 5) * 16 : check_random(c, 40);
        uint32_t rows = check_between(c, 1, 90), k = check_between(c, 1, 80);
        uint32_t panels = (row0 + rows + nr - 1) / nr;
        size_t total = (size_t)panels * nr * k, wrong = 0;
        float *got = check_alloc(total * sizeof(float), true);
        float *row = check_alloc(k * sizeof(float), false);
        char *src = check_alloc(rows * k * size_of(dtype), false);

        fill_dtype(c, src, dtype, (size_t)rows * k);
        check_mark(got, total * sizeof(float));
        c->kern->pack_f32(got, src, dtype, row0, rows, k);
        for (uint32_t o = 0; o < panels * nr; o++) {
            const float *column = got + (size_t)(o / nr) * nr * k + o % nr;
            bool mine = o >= row0 && o < row0 + rows;

            check_mark(row, k * sizeof(float));
            if (mine) c->ref->convert(row, src + (size_t)(o - row0) * k * size_of(dtype), dtype, k);
            for (uint32_t j = 0; j < k; j++)
                wrong += memcmp(&column[(size_t)j * nr], &row[j], 4) != 0;
        }
        check_case(c, wrong == 0, "row0 %u rows %u k %u dtype %d: %zu wrong", row0, rows, k, dtype,
                   wrong);
        check_free();
    }
}

/* ---- linear -------------------------------------------------------------------------------- */

struct linear_case {
    uint32_t m, n, k;
    enum rr_act act;
    int residual; /* 0 none, 1 another matrix, 2 y itself */
    float scale;
};

/* Runs the case in pieces of rows x columns (0: all) into y, which is [m, ld] and marked. */
static void linear_pieces(const struct rr_kern *kern, const struct rr_linear_f32 *all, float *y,
                          const float *old, uint32_t rows, uint32_t columns)
{
    uint32_t m = all->m, n = all->n;

    check_mark(y, ((m - 1) * all->ldy + n) * sizeof(float));
    for (uint32_t i = 0; i < m && all->residual == all->y; i++)
        memcpy(y + i * all->ldy, old + i * n, n * sizeof(float));
    for (uint32_t i = 0; i < m; i += rows ? rows : m)
        for (uint32_t o = 0; o < n; o += columns ? columns : n) {
            struct rr_linear_f32 a = *all;

            a.y = y + i * a.ldy;
            a.x += i * a.ldx;
            if (a.residual) a.residual = a.residual == all->y ? a.y : a.residual + i * a.ldr;
            a.m = rows ? RR_MIN(rows, m - i) : m;
            a.n_begin = o;
            a.n_end = columns ? RR_MIN(o + columns, n) : n;
            kern->linear_f32(&a);
        }
}

static double linear_tolerance(const struct rr_linear_f32 *a, const float *w, uint32_t i,
                               uint32_t o, double want)
{
    double sum = fabs(a->bias[o]);

    for (uint32_t j = 0; j < a->k; j++)
        sum += fabs((double)a->x[i * a->ldx + j] * w[(size_t)o * a->k + j]);
    sum *= U * (8 + sqrt(a->k));
    if (a->act == RR_ACT_GELU || a->act == RR_ACT_TANH) sum = 1.2 * sum + 3e-7;
    return sum + 3 * U * (fabs(want) + (a->residual ? 8 : 0)) + 1e-30;
}

static void linear_one(struct check *c, struct linear_case s)
{
    uint32_t nr = c->kern->f32_nr, rnr = c->ref->f32_nr, step = nr * check_between(c, 1, 2);
    size_t ldx = s.k + check_random(c, 5), ldy = s.n + check_random(c, 5), ldr = ldy;
    size_t ny = (s.m - 1) * ldy + s.n;
    float *x = check_alloc(((s.m - 1) * ldx + s.k) * sizeof(float), false);
    float *w = check_alloc((size_t)s.n * s.k * sizeof(float), false);
    float *bias = check_alloc(s.n * sizeof(float), false);
    float *old = check_alloc((size_t)s.m * s.n * sizeof(float), false);
    float *res = check_alloc(ny * sizeof(float), false);
    float *got = check_alloc(ny * sizeof(float), false);
    float *cut = check_alloc(ny * sizeof(float), false);
    float *want = check_alloc(ny * sizeof(float), false);
    float *panels = check_alloc((size_t)(s.n + nr - 1) / nr * nr * s.k * sizeof(float), true);
    float *rpanels = check_alloc((size_t)(s.n + rnr - 1) / rnr * rnr * s.k * sizeof(float), true);
    struct rr_linear_f32 a = { .x = x,
                               .panels = panels,
                               .bias = bias,
                               .ldy = ldy,
                               .ldx = ldx,
                               .ldr = ldr,
                               .m = s.m,
                               .n = s.n,
                               .k = s.k,
                               .n_end = s.n,
                               .act = s.act };
    struct rr_linear_f32 r;
    uint32_t bad = 0;
    double worst = 0;

    check_fill(c, x, (s.m - 1) * ldx + s.k, s.scale);
    check_fill(c, w, (size_t)s.n * s.k, 1.0f / sqrtf((float)s.k));
    check_fill(c, bias, s.n, 1.0f);
    check_fill(c, old, (size_t)s.m * s.n, 2.0f);
    check_fill(c, res, ny, 2.0f);
    c->kern->pack_f32(panels, w, RR_F32, 0, s.n, s.k);
    c->ref->pack_f32(rpanels, w, RR_F32, 0, s.n, s.k);

    a.y = got;
    a.residual = s.residual == 1 ? res : s.residual == 2 ? got : NULL;
    linear_pieces(c->kern, &a, got, old, 0, 0);
    linear_pieces(c->kern, &a, cut, old, check_between(c, 1, s.m), step);
    r = a;
    r.panels = rpanels;
    r.y = want;
    if (s.residual == 2) r.residual = want;
    linear_pieces(c->ref, &r, want, old, 0, 0);

    for (uint32_t i = 0; i < s.m; i++)
        for (uint32_t o = 0; o < s.n; o++) {
            double d = fabs((double)got[i * ldy + o] - want[i * ldy + o]);
            double e = d / linear_tolerance(&a, w, i, o, want[i * ldy + o]);

            bad += !(e <= 1);
            if (e > worst) worst = e;
        }
    check_case(c, bad == 0, "m %u n %u k %u act %d residual %d scale %g: %u wrong, %.2f tolerances",
               s.m, s.n, s.k, s.act, s.residual, (double)s.scale, bad, worst);
    check_case(c, check_columns_equal(got, cut, 4, s.m, ldy, 0, s.n),
               "m %u n %u k %u: other bits when cut", s.m, s.n, s.k);
    check_case(c, check_columns_untouched(got, 4, s.m - 1, ldy, s.n, (uint32_t)ldy),
               "m %u n %u k %u: wrote outside", s.m, s.n, s.k);
    check_free();
}

static void check_linear(struct check *c)
{
    uint32_t big = c->cases > 100 ? 2100 : 70;

    for (uint32_t m = 1; m <= 13; m++) /* every combination of full tiles and remainders */
        linear_one(c, (struct linear_case){ m, 70, 33, RR_ACT_NONE, 0, 1.0f });
    linear_one(c,
               (struct linear_case){ 50, 130, big, RR_ACT_GELU, 1, 1.0f }); /* blocks of m and k */
    linear_one(c, (struct linear_case){ 7, 64, big - 1, RR_ACT_NONE, 2, 1e4f });
    linear_one(c, (struct linear_case){ 1, 1, 1, RR_ACT_TANH, 0, 1.0f });
    for (uint32_t t = 0; t < c->cases / 4; t++) {
        struct linear_case s = { .m = check_between(c, 1, 13),
                                 .n = check_between(c, 1, 150),
                                 .k = CHECK_PICK(c, 1, 2, 3, 7, 8, 16, 31, 64, 100, 256),
                                 .act = (enum rr_act)check_random(c, 4),
                                 .residual = (int)check_random(c, 3) };

        s.scale = (float[]){ 1e-20f, 0.01f, 1.0f, 8.0f, 1e5f, 1e15f }[check_random(c, 6)];
        linear_one(c, s);
    }
}

/* GELU alone: one input that is the value, weight 1, bias 0; 65536 steps over [-12, 12]. */
static void check_gelu(struct check *c)
{
    uint32_t nr = c->kern->f32_nr, n = 4096;
    float *x = check_alloc(n * sizeof(float), false), *y = check_alloc(n * sizeof(float), false);
    float *panel = check_alloc(nr * sizeof(float), true), bias[1] = { 0 };
    double worst = 0;

    panel[0] = 1.0f;
    for (uint32_t t = 0; t < 16; t++) {
        for (uint32_t i = 0; i < n; i++) x[i] = ((float)(t * n + i) / (16 * 2048) - 1) * 12;
        for (uint32_t i = 0; i < n; i++) { /* one row each: lane 0 is the answer */
            struct rr_linear_f32 a = { .y = y + i,
                                       .x = x + i,
                                       .panels = panel,
                                       .bias = bias,
                                       .ldy = 1,
                                       .ldx = 1,
                                       .m = 1,
                                       .n = 1,
                                       .k = 1,
                                       .n_end = 1,
                                       .act = RR_ACT_GELU };
            double want = 0.5 * x[i] * erfc(-x[i] * 0.70710678118654752);

            c->kern->linear_f32(&a);
            worst = fmax(worst, fabs(y[i] - want) / fmax(1, fabs(want)));
        }
    }
    check_case(c, worst <= 3e-7, "GELU is off by %.2g", worst);
    check_free();
}

/* ---- attention ----------------------------------------------------------------------------- */

/* Scores are off by d, so a weight of the softmax is by a factor 1 + this = e^(2 d). */
static double weight_tolerance(const struct rr_attention_f32 *a, uint32_t i)
{
    double most = 0;

    for (uint32_t j = 0; j < a->n_kv; j++) {
        double sum = 0;

        for (uint32_t d = 0; d < a->head_dim; d++)
            sum += fabs((double)a->q[i * a->ldq + d] * a->k[j * a->ldk + d]);
        most = fmax(most, sum * fabs(a->scale));
    }
    return expm1(2 * U * (4 + sqrt(a->head_dim)) * most);
}

/* The weight w as the sums of values see it; unit is what makes whole numbers of those of i16. */
static double rounded_weight(const char *type, double w, float unit)
{
    int exponent;

    if (strcmp(type, "i16") == 0) return rint(w * unit) / unit;
    if (strcmp(type, "f32") == 0 || w == 0) return w;
    frexp(w, &exponent);
    return ldexp(rint(ldexp(w, 8 - exponent)), exponent - 8); /* bf16 has eight bits */
}

/* What the weights may be off by, then the sums.  A weight near enough to a tie to be rounded the
 * other way is off by a whole step of its type.  p: what the reference left, [n_kv]. */
static double attention_tolerance(const struct rr_attention_f32 *a, uint32_t i, const char *type,
                                  const float *p)
{
    double off = weight_tolerance(a, i), value = 0, sum = 0, steps = 0;
    float unit;

    if (strcmp(type, "bf16") == 0) off += 8e-5; /* v_exp2_bf16 */
    for (uint32_t j = 0; j < a->n_kv; j++) {
        for (uint32_t d = 0; d < a->head_dim; d++)
            value = fmax(value, fabs(a->v[j * a->ldv + d]));
        sum += p[j];
    }
    unit = rr_i16_unit((float)sum, a->n_kv);
    for (uint32_t j = 0; j < a->n_kv; j++)
        steps += rounded_weight(type, p[j] * (1 + off + 4 * U), unit) -
                 rounded_weight(type, p[j] / (1 + off + 4 * U), unit);
    return value * (off + steps / sum + U * (16 + sqrt(a->n_kv)));
}

static rr_attention_f32_fn *attention_of(const struct rr_kern *k, const char *type)
{
    return strcmp(type, "bf16") == 0  ? k->attention_bf16
           : strcmp(type, "i16") == 0 ? k->attention_i16
                                      : k->attention_f32;
}

/* a->y has the results: they are rounded where they are to be in 16 bits. */
static void attention_halves(struct check *c, rr_attention_f32_fn *level,
                             const struct rr_attention_f32 *a, enum rr_dtype dtype)
{
    size_t n = (a->n_q - 1) * a->ldy + a->head_dim;
    uint16_t *half = check_alloc(n * sizeof(*half), false);
    struct rr_attention_f32 b = *a;

    check_mark(half, n * sizeof(*half));
    b.y = NULL;
    b.half = (struct rr_half){ half, dtype };
    level(&b);
    check_halves(c, half, dtype, a->y, a->n_q, a->ldy, a->head_dim);
}

static void attention_one(struct check *c, const char *type, uint32_t n_q, uint32_t n_kv,
                          uint32_t dim, float size)
{
    rr_attention_f32_fn *level = attention_of(c->kern, type);
    rr_attention_f32_fn *ref = attention_of(c->ref, type);
    size_t ld = dim * 3 + check_random(c, 4), ldy = dim + check_random(c, 4);
    size_t scratch = rr_attention_f32_scratch(n_kv, dim), rows = RR_MAX(n_q, n_kv);
    float *in = check_alloc(rows * ld * sizeof(float), false);
    float *got = check_alloc(((n_q - 1) * ldy + dim) * sizeof(float), false);
    float *cut = check_alloc(((n_q - 1) * ldy + dim) * sizeof(float), false);
    float *want = check_alloc(((n_q - 1) * ldy + dim) * sizeof(float), false);
    struct rr_attention_f32 a = { .y = got,
                                  .q = in,
                                  .k = in + dim,
                                  .v = in + 2 * dim,
                                  .ldy = ldy,
                                  .ldq = ld,
                                  .ldk = ld,
                                  .ldv = ld,
                                  .n_q = n_q,
                                  .n_kv = n_kv,
                                  .head_dim = dim,
                                  .scale = 1 / sqrtf((float)dim) };
    struct rr_attention_f32 b;
    uint32_t step = check_between(c, 1, n_q), bad = 0;
    double worst = 0;
    float *mask;

    a.scratch = check_alloc(scratch * sizeof(float), true);
    if (check_random(c, 3) == 0) {
        a.ldb = n_kv + check_random(c, 3);
        a.bias = mask = check_alloc(((n_q - 1) * a.ldb + n_kv) * sizeof(float), false);
        for (uint32_t i = 0; i < n_q; i++)
            for (uint32_t j = 1; j < n_kv; j++) /* every query sees the first key */
                mask[i * a.ldb + j] = check_random(c, 3) ? 0.0f : -FLT_MAX;
    }
    check_fill(c, in, rows * ld, size);
    check_mark(a.scratch, scratch * sizeof(float));
    check_mark(got, ((n_q - 1) * ldy + dim) * sizeof(float));
    level(&a);
    for (uint32_t i = 0; i < n_q; i += step) {
        b = a;
        b.y = cut + i * ldy;
        b.q += i * ld;
        if (b.bias) b.bias += i * b.ldb;
        b.n_q = RR_MIN(step, n_q - i);
        level(&b);
    }
    for (uint32_t i = 0; i < n_q; i++) {
        double tolerance;

        b = a;
        b.y = want + i * ldy;
        b.q += i * ld;
        if (b.bias) b.bias += i * b.ldb;
        b.n_q = 1;
        ref(&b);
        tolerance = attention_tolerance(&a, i, type, a.scratch) + 1e-30;
        for (uint32_t d = 0; d < dim; d++) {
            double e = fabs((double)got[i * ldy + d] - want[i * ldy + d]) / tolerance;

            bad += !(e <= 1);
            if (e > worst) worst = e;
        }
    }
    check_case(c, bad == 0, "n_q %u n_kv %u dim %u size %g: %u wrong, %.2f tolerances", n_q, n_kv,
               dim, (double)size, bad, worst);
    check_case(c, check_columns_equal(got, cut, 4, n_q, ldy, 0, dim),
               "n_q %u n_kv %u dim %u: other bits when cut", n_q, n_kv, dim);
    if (level == c->kern->attention_bf16) {
        uint16_t *half = check_alloc(rows * ld * sizeof(*half), false);

        for (size_t i = 0; i < rows * ld; i++) half[i] = rr_weights_round_bf16(in[i]);
        b = a;
        b.y = cut;
        b.q = b.k = b.v = NULL;
        b.q16 = half;
        b.k16 = half + dim;
        b.v16 = half + 2 * dim;
        level(&b);
        check_case(c, check_columns_equal(got, cut, 4, n_q, ldy, 0, dim),
                   "n_q %u n_kv %u dim %u: other bits from inputs in bf16", n_q, n_kv, dim);
    }
    check_case(c, check_columns_untouched(got, 4, n_q - 1, ldy, dim, (uint32_t)ldy),
               "n_q %u n_kv %u dim %u: wrote outside", n_q, n_kv, dim);
    attention_halves(c, level, &a, RR_BF16);
    attention_halves(c, level, &a, RR_F16);
    check_free();
}

static void attention_cases(struct check *c, const char *type)
{
    attention_one(c, type, 1, 1, 64, 1.0f);
    attention_one(c, type, 13, c->cases > 100 ? 600 : 130, 64, 1.0f);
    attention_one(c, type, 33, 65, 64, 1.0f); /* more queries than any level takes at once */
    attention_one(c, type, 40, 300, 64, 16.0f); /* the largest scores far above the first keys' */
    for (uint32_t t = 0; t < c->cases / 8; t++) {
        uint32_t dim = CHECK_PICK(c, 4, 5, 16, 20, 24, 32, 64, 80, 128);
        uint32_t n_kv = check_random(c, 4) ? check_between(c, 1, 140) : check_between(c, 1, 600);
        float size = (float[]){ 0.01f, 1.0f, 5.0f, 30.0f, 300.0f }[check_random(c, 5)];

        attention_one(c, type, check_between(c, 1, 20), c->cases > 100 ? n_kv : n_kv / 8 + 1, dim,
                      size);
    }
}

static void check_attention(struct check *c)
{
    attention_cases(c, "f32");
}

static void check_attention_bf16(struct check *c)
{
    attention_cases(c, "bf16");
}

static bool has_attention_bf16(const struct rr_kern *k)
{
    return k->attention_bf16;
}

/* Whole numbers have no NaN, so a row that has one, or whose keys or values have, must be told. */
static void poisoned(struct check *c, uint32_t part, float poison)
{
    enum { N = 21, DIM = 40 };
    float *in = check_alloc(3 * N * DIM * sizeof(float), false);
    float *y = check_alloc(N * DIM * sizeof(float), false);
    struct rr_attention_f32 a = { .y = y, .q = in, .k = in + DIM, .v = in + 2 * DIM, .ldy = DIM,
                                  .ldq = 3 * DIM, .ldk = 3 * DIM, .ldv = 3 * DIM, .n_q = N,
                                  .n_kv = N, .head_dim = DIM, .scale = 0.1f };
    uint32_t row = check_random(c, N), wrong = 0;

    a.scratch = check_alloc(rr_attention_f32_scratch(N, DIM) * sizeof(float), true);
    check_fill(c, in, (size_t)3 * N * DIM, 1.0f);
    in[(3 * row + part) * DIM + check_random(c, DIM)] = poison;
    c->kern->attention_i16(&a);
    for (uint32_t i = 0; i < N * DIM; i++)
        wrong += !isnan(y[i]) == (part > 0 || i / DIM == row);
    check_case(c, wrong == 0, "%g in part %u: %u values are not what they should be",
               (double)poison, part, wrong);
    check_free();
}

static void check_attention_i16(struct check *c)
{
    attention_cases(c, "i16");
    attention_one(c, "i16", 3, RR_I16_KEYS, 32, 1.0f);
    attention_one(c, "i16", 3, RR_I16_KEYS + 1, 32, 1.0f);
    attention_one(c, "i16", 5, 40, 128, 0.0f);
    for (uint32_t part = 0; part < 3; part++) {
        poisoned(c, part, NAN);
        poisoned(c, part, INFINITY);
        poisoned(c, part, -INFINITY);
    }
}

static bool has_attention_i16(const struct rr_kern *k)
{
    return k->attention_i16;
}

/* ---- LayerNorm ----------------------------------------------------------------------------- */

static void layernorm_one(struct check *c, uint32_t m, uint32_t n, float mean, float size)
{
    size_t ldx = n + check_random(c, 5), ldy = n + check_random(c, 5);
    float *x = check_alloc(((m - 1) * ldx + n) * sizeof(float), false);
    float *got = check_alloc(((m - 1) * ldy + n) * sizeof(float), false);
    float *cut = check_alloc(((m - 1) * ldx + n) * sizeof(float), false); /* in place: ldx */
    float *want = check_alloc(((m - 1) * ldy + n) * sizeof(float), false);
    float *g = check_alloc(n * sizeof(float), false), *b = check_alloc(n * sizeof(float), false);
    uint32_t rows = check_between(c, 1, m), bad = 0, different = 0;
    double worst = 0;

    check_fill(c, x, (m - 1) * ldx + n, size);
    for (size_t i = 0; i < (m - 1) * ldx + n; i++) x[i] += mean;
    check_fill(c, g, n, 1.0f);
    check_fill(c, b, n, 1.0f);
    check_mark(got, ((m - 1) * ldy + n) * sizeof(float));
    memcpy(cut, x, ((m - 1) * ldx + n) * sizeof(float));
    c->kern->layernorm_f32(got, ldy, x, ldx, g, b, m, n, 1e-5f);
    for (uint32_t i = 0; i < m; i += rows)
        c->kern->layernorm_f32(cut + i * ldx, ldx, cut + i * ldx, ldx, g, b, RR_MIN(rows, m - i), n,
                               1e-5f);
    c->ref->layernorm_f32(want, ldy, x, ldx, g, b, m, n, 1e-5f);
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            double w = want[i * ldy + j], d = fabs(got[i * ldy + j] - w);
            double e = d / (2e-6 * (fabs(w - b[j]) + fabs(b[j])) + 2e-7);

            bad += !(e <= 1);
            if (e > worst) worst = e;
            different += memcmp(&got[i * ldy + j], &cut[i * ldx + j], 4) != 0;
        }
    check_case(c, bad == 0, "m %u n %u mean %g size %g: %u wrong, %.2f tolerances", m, n,
               (double)mean, (double)size, bad, worst);
    check_case(c, different == 0, "m %u n %u: other bits when cut or in place", m, n);
    check_case(c, check_columns_untouched(got, 4, m - 1, ldy, n, (uint32_t)ldy),
               "m %u n %u: wrote outside", m, n);
    check_free();
}

static void check_layernorm(struct check *c)
{
    layernorm_one(c, 3, 1024, 1e4f, 0.0f); /* constant rows */
    layernorm_one(c, 3, 384, -3.3f, 0.0f);
    for (uint32_t t = 0; t < c->cases / 2; t++) {
        uint32_t n = t < 70 ? t + 1 : check_between(c, 1, 1100);
        float size = (float[]){ 1e-3f, 1.0f, 100.0f, 1e6f }[check_random(c, 4)];

        layernorm_one(c, check_between(c, 1, 9), n, check_normal(c) * 3 * size, size);
    }
}

const struct check_entry check_f32_entries[] = {
    { "convert", check_convert, NULL },
    { "pack_f32", check_pack, NULL },
    { "linear_f32", check_linear, NULL },
    { "gelu_f32", check_gelu, NULL },
    { "attention_f32", check_attention, NULL },
    { "attention_bf16", check_attention_bf16, has_attention_bf16 },
    { "attention_i16", check_attention_i16, has_attention_i16 },
    { "layernorm_f32", check_layernorm, NULL },
    { NULL, NULL, NULL },
};
