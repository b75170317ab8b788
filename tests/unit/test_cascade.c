/* SPDX-License-Identifier: Apache-2.0 */
/* test_cascade.c - the exact top k from a cheap precision: random logits with bounded noise, with
 * noise beyond the bound, ties, duplicates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cascade.h"

enum { MAX_N = 300 };

static struct {
    struct rr_candidate c[MAX_N];
    float truth[MAX_N];
    uint32_t picks[MAX_N];
    size_t n, rescored, rounds;
} s;

static double unit(unsigned *seed)
{
    return (double)rand_r(seed) / RAND_MAX;
}

/* n candidates; some are equal to others, some logits are tied. */
static void make(unsigned *seed, size_t n, double noise, int ties)
{
    size_t i;

    memset(&s, 0, sizeof(s));
    s.n = n;
    for (i = 0; i < n; i++) {
        double logit = 10 * unit(seed) - 5;

        if (ties) logit = (double)(int)logit;
        s.truth[i] = (float)logit;
        s.c[i].cheap = (float)(logit + noise * (2 * unit(seed) - 1));
        s.c[i].ignored = unit(seed) < 0.1;
    }
}

/* As the engine does it.  Returns the bound at the end. */
static float run(size_t k, float drift)
{
    size_t m, i;

    while ((m = rr_cascade_pick(s.c, s.n, k, drift, s.picks)) > 0) {
        float seen;

        for (i = 0; i < m; i++) {
            struct rr_candidate *c = &s.c[s.picks[i]];

            assert_false(c->ignored);
            assert_false(c->rescored); /* nothing is computed twice */
            c->exact = s.truth[s.picks[i]];
            c->rescored = true;
        }
        s.rescored += m;
        s.rounds++;
        seen = rr_cascade_drift(s.c, s.n);
        if (seen > drift) drift = seen * 1.25f;
    }
    return drift;
}

static const float *order_by;

static int best_first(const void *pa, const void *pb)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;

    if (order_by[a] != order_by[b]) return order_by[a] > order_by[b] ? -1 : 1;
    return a < b ? -1 : a > b;
}

static size_t sort(const float *by, uint32_t *out)
{
    size_t n = 0, i;

    for (i = 0; i < s.n; i++)
        if (!s.c[i].ignored) out[n++] = (uint32_t)i;
    order_by = by;
    qsort(out, n, sizeof(*out), best_first);
    return n;
}

/* The first k by what is known are the first k by the truth, in the same order. */
static void check_top(size_t k)
{
    float known[MAX_N];
    uint32_t got[MAX_N], want[MAX_N];
    size_t i, n;

    for (i = 0; i < s.n; i++) known[i] = s.c[i].rescored ? s.c[i].exact : s.c[i].cheap;
    n = sort(known, got);
    sort(s.truth, want);
    for (i = 0; i < k && i < n; i++) {
        assert_int_equal(got[i], want[i]);
        assert_true(s.c[got[i]].rescored);
    }
}

static void test_random(void **state)
{
    unsigned seed = 1;
    size_t i, rescored = 0, all = 0;

    (void)state;
    for (i = 0; i < 3000; i++) {
        size_t n = 1 + (size_t)rand_r(&seed) % (MAX_N - 1), k = 1 + (size_t)rand_r(&seed) % 20;

        make(&seed, n, 0.05, i % 7 == 0);
        assert_true(run(k, 0.051f) == 0.051f); /* 0.05 and the rounding of cheap */
        check_top(k);
        assert_true(s.rounds <= 2);
        if (i % 7 == 0) continue;
        rescored += s.rescored;
        all += n;
    }
    print_message("%zu of %zu rescored\n", rescored, all);
    assert_true(rescored * 5 < all); /* that is the point of it */
}

/* The bound was too small.  What is seen of that widens it; then the top k is right. */
static void test_bound_too_small(void **state)
{
    size_t i, widened = 0;
    unsigned seed = 2;

    (void)state;
    for (i = 0; i < 500; i++) {
        size_t j;

        make(&seed, 200, 0, 0);
        /* The noise is the same for all but its sign, so one rescored pair shows all of it. */
        for (j = 0; j < s.n; j++) s.c[j].cheap += j % 2 ? 0.2f : -0.2f;
        widened += run(10, 0.01f) > 0.2f;
        check_top(10);
    }
    assert_int_equal(widened, 500);
}

static void test_edges(void **state)
{
    static const struct {
        size_t n, k, rescored;
        float drift;
        const char *why;
    } cases[] = {
        { 5, 0, 0, 0.1f, "no top k asked for" },
        { 5, 5, 5, 0.1f, "all of them" },
        { 5, 9, 5, 0.1f, "more than there are" },
        { 1, 1, 1, 0.1f, "a single one" },
        { 5, 1, 5, 100.0f, "a bound wider than the scores" },
        { 5, 2, 2, 0.0f, "a bound of nothing" },
    };
    size_t c, i;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        memset(&s, 0, sizeof(s));
        s.n = cases[c].n;
        for (i = 0; i < s.n; i++) s.truth[i] = s.c[i].cheap = (float)i;
        run(cases[c].k, cases[c].drift);
        if (s.rescored != cases[c].rescored) fail_msg("%s: %zu", cases[c].why, s.rescored);
        check_top(cases[c].k);
    }
    /* Equal in truth to the last of the top k, and first by its index: must be looked at. */
    memset(&s, 0, sizeof(s));
    s.n = 2;
    s.c[0].cheap = 0.875f;
    s.c[1].cheap = 1.0f;
    s.truth[0] = s.truth[1] = 1.0f;
    run(1, 0.125f);
    check_top(1);
    assert_int_equal(s.rescored, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_bound_too_small),
        cmocka_unit_test(test_edges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
