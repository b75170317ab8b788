/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_verify.c - the figures of "rerankd verify" on lists whose figures are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "cli/verify.h"
#include "cli/verify_choose.h"

/* relevant: the one that is, -1: not known. */
static void add(struct rr_verify *v, const float *a, const float *b, size_t n, long relevant)
{
    float grades[100] = { 0 };
    struct rr_error err;

    if (relevant >= 0) grades[relevant] = 1;
    assert_int_equal(rr_verify_add(v, a, b, n, relevant < 0 ? NULL : grades, &err), RR_OK);
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

/* By hand: gains 3, 0, 1 in the order of a: 3 + 1 / 2 against the ideal 3 + 1 / log2(3). */
static void test_grades(void **state)
{
    const float a[3] = { 3, 2, 1 }, b[3] = { 1, 2, 3 }, grades[3] = { 2, 0, 1 };
    const float none[3] = { 0 }, nearly[3] = { 0, 1e-30f, 0 };
    double ideal = 3 + 1 / log2(3);
    struct rr_verify v;
    struct rr_verify_report r;
    struct rr_error err;

    (void)state;
    rr_verify_init(&v);
    assert_int_equal(rr_verify_add(&v, a, b, 3, grades, &err), RR_OK);
    assert_int_equal(rr_verify_add(&v, a, b, 3, none, &err), RR_OK); /* nothing to find: no label */
    assert_int_equal(rr_verify_add(&v, a, b, 3, nearly, &err), RR_OK); /* a gain of 0, too */
    rr_verify_report(&v, &r);
    assert_int_equal(r.labelled, 1);
    near(r.ndcg[0], 3.5 / ideal);
    near(r.ndcg[1], (1 + 3.0 / 2) / ideal);
    near(r.mrr[0], 1);
    near(r.mrr[1], 1);
    rr_verify_free(&v);
}

static void test_exact(void **state)
{
    const float a[4] = { 1, 4, 4, 2 };
    const uint32_t right[4] = { 1, 2, 0, 3 }, turned[4] = { 2, 1, 3, 0 };
    struct rr_verify v;
    struct rr_verify_report r;

    (void)state;
    rr_verify_init(&v);
    add(&v, a, a, 4, -1);
    add(&v, a, a, 4, -1);
    rr_verify_add_exact(&v, a, right, 4, 2, 3, true);
    rr_verify_add_exact(&v, a, turned, 4, 2, 0, false); /* ties go to the lower index */
    rr_verify_report(&v, &r);
    assert_int_equal(r.exact_k, 2);
    near(r.exact_equal, 0.5);
    near(r.exact_promised, 0.5);
    near(r.rescored, 3.0 / 8);
    rr_verify_free(&v);
}

static void test_gate(void **state)
{
    static const struct {
        double top5, tau, exact;
        size_t lists, k;
        const char *says, *why;
    } cases[] = {
        { 1, 1, 0, 10, 0, NULL, "equal" },
        { 0.98, 1, 0, 10, 0, "98.00 %", "too few lists with the same five" },
        { 1, 0.8, 0, 10, 0, "0.8000", "order too different" },
        { 1, 1, 0, 0, 0, "five documents", "short lists prove nothing" },
        { 1, 1, 0.5, 10, 3, "exact top 3", "a promise that was not kept" },
        { 1, 1, 1, 10, 3, NULL, "a promise that was kept" },
    };
    char line[160];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rr_verify_report r = { .tau = cases[i].tau, .exact_k = cases[i].k,
                                      .exact_equal = cases[i].exact, .max_diff = 2 };
        const char *got;

        r.top_equal[1] = cases[i].top5;
        r.top_lists[1] = cases[i].lists;
        got = rr_verify_gate(&r, 0.99, 0.9, line, sizeof(line));
        if (!got != !cases[i].says || (got && !strstr(got, cases[i].says)))
            fail_msg("%s: \"%s\"", cases[i].why, got ? got : "good");
        assert_true(rr_verify_drift(&r) > 2);
    }
}

static const struct {
    struct rr_candidate rows[4];
    size_t chosen;
    const char *why;
} choices[] = {
    { { { .dtype = "f32", .ran = true, .holds = true, .per_second = 10 },
        { .dtype = "f16", .ran = true, .holds = true, .per_second = 30 },
        { .dtype = "int8", .ran = true, .holds = true, .per_second = 50 },
        { .dtype = "fp8", .ran = true, .holds = false, .per_second = 60 } },
      2,
      "the quickest does not hold" },
    { { { .dtype = "f32", .ran = true, .holds = true, .per_second = 10 },
        { .dtype = "f16", .ran = false, .holds = true, .per_second = 90 },
        { .dtype = "int8", .ran = true, .holds = false, .per_second = 50 },
        { .dtype = "fp8", .ran = false } },
      0,
      "nothing else ran and held" },
    { { { .dtype = "f32", .ran = true, .holds = true, .per_second = 10 },
        { .dtype = "f16", .ran = true, .holds = true, .per_second = 10 },
        { .dtype = "bf16", .ran = true, .holds = true, .per_second = 10 },
        { .dtype = "int8", .ran = true, .holds = true, .per_second = 9 } },
      0,
      "no gain: the most exact" },
    { { { .dtype = "f32", .ran = true, .holds = false, .per_second = 10 },
        { .dtype = "f16", .ran = false },
        { .dtype = "bf16", .ran = true, .holds = true, .per_second = 5 },
        { .dtype = "int8", .ran = true, .holds = false, .per_second = 20 } },
      2,
      "f32 of rounded weights does not hold: slow is better" },
    { { { .dtype = "f32", .ran = true, .holds = false, .per_second = 10 } }, 4, "none holds" },
};

static void test_choose(void **state)
{
    char line[256];

    (void)state;
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
        if (rr_choose(choices[i].rows, 4) != choices[i].chosen) fail_msg("%s", choices[i].why);
    rr_choose_why(choices[0].rows, 2, 1800000000, line, sizeof(line));
    assert_string_equal(line, "chosen by verify on 2027-01-15, 5 best equal in 0.0 % of 0 lists, 5.0 "
                              "times as fast as f32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_grades),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_choose),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
