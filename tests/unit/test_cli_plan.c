/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_plan.c - "rerankd bench --plan" beside examples computed by hand and from textbooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/err.h"
#include "cli/plan.h"

static void near(double a, double b, const char *what)
{
    if (fabs(a - b) > 1e-4 * fmax(1, fabs(b))) fail_msg("%s: %.9g, expected %.9g", what, a, b);
}

static const struct {
    uint32_t c;
    double load, waits;
    const char *why;
} erlang[] = {
    { 1, 0.5, 0.5, "one server: the share of time that it is busy" },
    { 2, 1, 1.0 / 3, "two half-busy servers: 2 r^2 / (1 + r), r = 1/2" },
    { 5, 4, 0.554113, "tables of Erlang C" },
    { 10, 8, 0.409180, "tables of Erlang C" },
    { 3, 0, 0, "no load" },
    { 2, 2, 1, "as much as they can do" },
    { 2, 5, 1, "more than they can do" },
};

static void test_erlang(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(erlang); i++)
        near(rr_plan_erlang_c(erlang[i].c, erlang[i].load), erlang[i].waits, erlang[i].why);
}

/* 2 requests/s at the peak, 0.5 on average, 20 candidates. */
static const struct rr_plan_load load = {
    .peak = 2, .average = 0.5, .users = 60, .candidates = 20, .goal_ms = 500, .most_use = 0.8
};

/* A machine of 100 pairs/s needs 200 ms, so it is busy for 40 %: it waits with probability 0.4, for
 * 1 / (5 - 2) s when it does.  Mean: 200 + 400 / 3.  P95: ln(0.4 / 0.05) / 3 s more, 693 ms: one is
 * too slow.  Two are busy for r = 0.2, C = 2 r^2 / (1 + r) = 1/15: ln(20 / 15) / 8 s = 36 ms. */
static void test_cpu(void **state)
{
    const struct rr_plan_offer offer = { "x", false, 12, 100, 0 };
    struct rr_plan_load slow = load;
    struct rr_plan p;

    (void)state;
    slow.goal_ms = 900;
    rr_plan_fit(&p, &offer, &slow);
    assert_true(p.possible);
    assert_int_equal(p.machines, 1);
    near(p.use, 0.4, "use");
    near(p.alone_ms, 200, "alone");
    near(p.mean_ms, 200 + 400.0 / 3, "mean");
    near(p.p95_ms, 200 + 1e3 * log(8) / 3, "p95");
    rr_plan_fit(&p, &offer, &load);
    assert_int_equal(p.machines, 2);
    near(p.use, 0.2, "use of two");
    near(p.mean_ms, 200 + 1e3 / 15 / 8, "mean of two");
    near(p.p95_ms, 200 + 1e3 * log(20.0 / 15) / 8, "p95 of two");
    /* A month has 2629800 s: 26.298 million pairs for 24. */
    near(rr_plan_pairs_a_month(&load), 26298000, "pairs a month");
    near(p.cost, 24, "cost");
    near(p.per_million, 24 / 26.298, "cost of a million");
    near(p.per_million_full, 12 / (100 * 0.8 * 2.6298), "at full load");
}

/* A T4 of the guide: 50 ms for one request of 20, of which 20 are computing; 4 % busy. */
static void test_gpu(void **state)
{
    struct rr_plan p;

    (void)state;
    rr_plan_fit(&p, &rr_plan_guide[0], &load);
    assert_int_equal(p.machines, 1);
    near(p.alone_ms, 50, "alone");
    near(p.use, 0.04, "use");
    near(p.mean_ms, 50 + 1e3 * 0.04 / 48, "mean");
    near(p.p95_ms, 50, "fewer than one in twenty wait"); /* 4 % */
    near(p.per_million, 40 / 26.298, "cost of a million");
}

static void test_most_use(void **state)
{
    const struct rr_plan_offer offer = { "x", false, 1, 1000, 0 };
    struct rr_plan_load l = {
        .peak = 1736, .average = 1736, .candidates = 20, .goal_ms = 1e6, .most_use = 0.8
    };
    struct rr_plan p;

    (void)state;
    rr_plan_fit(&p, &offer, &l);
    assert_int_equal(p.machines, 44); /* 34.72 busy ones by 0.8 are 43.4 */
    l.peak = 1760;
    rr_plan_fit(&p, &offer, &l);
    assert_int_equal(p.machines, 44); /* exactly 0.8 is allowed */
    l.hits = 0.5;
    rr_plan_fit(&p, &offer, &l);
    assert_int_equal(p.machines, 22);
    near(p.alone_ms, 20, "a request that no cache knows");
    l.goal_ms = 19;
    rr_plan_fit(&p, &offer, &l);
    assert_false(p.possible);
    l.goal_ms = 1e6;
    l.peak = 1e12;
    rr_plan_fit(&p, &offer, &l);
    assert_false(p.possible);
}

/* ---- advice --------------------------------------------------------------------------------- */

static size_t best_of(double rate, double price, double budget, double goal)
{
    struct rr_plan_row rows[3] = { { .offer = { "as now", false, 0, 1000, 0 } },
                                   { .offer = { "cpu", false, price, rate, 0 } },
                                   { .offer = { "gpu", true, 40, 1000, 30 } } };
    struct rr_plan_load l = load;
    size_t i;

    l.budget = budget;
    l.goal_ms = goal;
    for (i = 0; i < 3; i++) rr_plan_fit(&rows[i].plan, &rows[i].offer, &l);
    return rr_plan_best(rows, 3, 1, &l);
}

static void test_advice(void **state)
{
    (void)state;
    assert_int_equal(best_of(200, 0, 0, 500), 1);  /* one machine that is there, quick enough */
    assert_int_equal(best_of(100, 0, 0, 500), 2);  /* two of it are not there */
    assert_int_equal(best_of(100, 12, 0, 500), 1); /* two at 12 are less than 40 */
    assert_int_equal(best_of(100, 30, 0, 500), 2);
    assert_int_equal(best_of(100, 30, 39, 500), 3); /* neither is within the budget */
    assert_int_equal(best_of(200, 0, 39, 60), 3);   /* 100 ms alone; the GPU costs too much */
    assert_int_equal(best_of(200, 0, 40, 60), 2);
    assert_int_equal(best_of(200, 40, 0, 500), 2); /* as dear: the quicker one */
}

static void test_rule_of_the_guide(void **state)
{
    static const struct {
        double users, budget;
        bool gpu;
    } rules[] = {
        { 6, 0, true }, { 5, 0, false }, { 6, 40, true }, { 6, 39, false }, { 2, 100, false }
    };
    char why[200];
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rules); i++) {
        struct rr_plan_load l = load;

        l.users = rules[i].users;
        l.budget = rules[i].budget;
        if (rr_plan_guide_says_gpu(&l, why, sizeof(why)) != rules[i].gpu)
            fail_msg("%g users, %g: %s", rules[i].users, rules[i].budget, why);
        assert_non_null(strstr(why, "users at once"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_erlang), cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_gpu),    cmocka_unit_test(test_most_use),
        cmocka_unit_test(test_advice), cmocka_unit_test(test_rule_of_the_guide),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
