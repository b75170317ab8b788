/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_verify.c - the figures of "rerankd verify" on lists whose figures are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "cli/verify.h"

static void add(struct rr_verify *v, const float *a, const float *b, size_t n, long relevant)
{
    struct rr_error err;

    assert_int_equal(rr_verify_add(v, a, b, n, relevant, &err), RR_OK);
}

static void near(double a, double b)
{
    if (fabs(a - b) > 1e-6) fail_msg("%.9g, expected %.9g", a, b);
}

static void test_equal(void **state)
{
    const float a[7] = { 3, 1, 4, 1, 5, 9, 2 };
    struct rr_verify v;
    struct rr_verify_report r;

    (void)state;
    rr_verify_init(&v);
    add(&v, a, a, 7, 5);
    rr_verify_report(&v, &r);
    assert_int_equal(r.lists, 1);
    assert_int_equal(r.pairs, 7);
    near(r.max_diff, 0);
    near(r.tau, 1);
    near(r.top_equal[0], 1);
    near(r.top_equal[1], 1);
    assert_int_equal(r.top_lists[2], 0); /* seven documents: the ten best say nothing */
    near(r.ndcg[0], 1);
    near(r.mrr[1], 1);
    rr_verify_free(&v);
}

/* By hand: of the six pairs of four documents two are turned round: tau = (4 - 2) / 6. */
static void test_known(void **state)
{
    const float a[4] = { 4, 3, 2, 1 }, b[4] = { 3, 4, 1, 2.5f };
    struct rr_verify v;
    struct rr_verify_report r;

    (void)state;
    rr_verify_init(&v);
    add(&v, a, b, 4, 0);
    rr_verify_report(&v, &r);
    near(r.tau, 1.0 / 3);
    near(r.max_diff, 1.5);
    near(r.mean_diff, (1 + 1 + 1 + 1.5) / 4);
    near(r.top_equal[0], 0);
    near(r.ndcg[0], 1);
    near(r.ndcg[1], 1 / log2(3)); /* second */
    near(r.mrr[1], 0.5);
    rr_verify_free(&v);
}

static void test_ties(void **state)
{
    static const struct {
        float a[3], b[3];
        double tau;
        const char *why;
    } cases[] = {
        { { 1, 1, 1 }, { 1, 1, 1 }, 1, "no order on either side is the same order" },
        { { 1, 1, 1 }, { 1, 2, 3 }, 0, "no order against one" },
        { { 1, 1, 2 }, { 1, 2, 3 }, 0.816496580927726, "one tie: 2 / sqrt(2 * 3)" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rr_verify v;
        struct rr_verify_report r;

        rr_verify_init(&v);
        add(&v, cases[i].a, cases[i].b, 3, -1);
        rr_verify_report(&v, &r);
        near(r.tau, cases[i].tau);
        assert_int_equal(r.labelled, 0);
        rr_verify_free(&v);
    }
}

/* Two lists of six: one keeps its five best, one does not; 600 small differences and some large
 * ones: the 99th percentile is between. */
static void test_sums(void **state)
{
    const float a[6] = { 6, 5, 4, 3, 2, 1 }, same[6] = { 5, 6, 4, 2, 3, 1 };
    const float other[6] = { 6, 5, 4, 3, 1, 2 };
    struct rr_verify v;
    struct rr_verify_report r;
    float x[100] = { 0 }, y[100];
    int i;

    (void)state;
    rr_verify_init(&v);
    add(&v, a, same, 6, -1);
    add(&v, a, other, 6, -1);
    rr_verify_report(&v, &r);
    near(r.top_equal[1], 0.5);
    assert_int_equal(r.top_lists[1], 2);
    rr_verify_free(&v);

    for (i = 0; i < 100; i++) y[i] = i < 98 ? 0.25f : 8;
    add(&v, x, y, 100, -1);
    rr_verify_report(&v, &r);
    near(r.p99_diff, 8);
    y[98] = 0.5f;
    rr_verify_free(&v);
    add(&v, x, y, 100, -1);
    rr_verify_report(&v, &r);
    near(r.p99_diff, 0.5);
    near(r.max_diff, 8);
    rr_verify_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_sums),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
