/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_expect.c - what is expected of lists that were not looked at, where it is known: on few
 * documents by integrals of the normal distribution, on many by trying. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "cli/expect.h"

#define LISTS 100
#define DOCUMENTS 12

/* Lists of two documents: a gap of 1 and errors of variance v keep Phi(1 / sqrt(2 v)) of them.  What
 * moves a whole list alike is no error. */
static void test_few(void **state)
{
    static const struct {
        float reference[4], candidate[4];
        double share;
        const char *why;
    } cases[] = {
        { { 1, 0, 1, 0 }, { 1, 0, 1, 0 }, 1, "no errors" },
        { { 1, 0, 1, 0 }, { 8, 7, 0, -1 }, 1, "every list moved as a whole" },
        { { 1, 0, 1, 0 }, { 1.5f, -0.5f, 0.5f, 0.5f }, 0.841344746, "variance 1/2: Phi(1)" },
        /* Errors that lose one in ten have Phi(1 / sqrt(2 v)) = 0.8, 1 / sqrt(2 v) = 0.841621. */
        { { 1, 0, 9, 0 }, { 1.5f, -0.5f, 8.5f, 0.5f }, 0.915837877, "a wide gap: 1 - 0.0841621" },
        { { 2, 2, 5, 0 }, { 2.5f, 1.5f, 4.5f, 0.5f }, 0.749999857, "a tie is lost half the time" },
        { { 2, 2, 1, 0 }, { 3, 3, 2, 0 }, 0.940488394, "equal documents; 1 - 0.0841621 / sqrt 2" },
        { { 1, 0, 1, 0 }, { NAN, 0, 1, 0 }, 0, "nothing is known" },
    };
    const struct rr_list lists[2] = { { .n_documents = 2 }, { .n_documents = 2 } };
    struct rr_expected e;
    struct rr_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(
            rr_expect(&e, cases[i].reference, cases[i].candidate, lists, 2, 2, 1, &err), RR_OK);
        if (!(fabs(e.share - cases[i].share) < 1e-6))
            fail_msg("%s: %.9g, expected %.9g", cases[i].why, e.share, cases[i].share);
        assert_int_equal(
            rr_expect(&e, cases[i].reference, cases[i].candidate, lists, 2, 2, 2, &err), RR_OK);
        assert_true(e.share == 0 && e.lists == 0); /* all documents are among the two best */
    }
    assert_int_equal(rr_expect(&e, NULL, NULL, NULL, 0, 0, 5, &err), RR_OK);
    assert_true(e.share == 0 && e.lists == 0);
}

/* ---- many lists ----------------------------------------------------------------------------- */

static uint64_t seed;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
}

static float scores[LISTS * DOCUMENTS], noisy[LISTS * DOCUMENTS];
static struct rr_list lists[LISTS];

/* Scores from 0 to 3, errors of this deviation. */
static void draw(double deviation)
{
    for (size_t i = 0; i < LISTS; i++) lists[i].n_documents = DOCUMENTS;
    for (size_t i = 0; i < LISTS * DOCUMENTS; i++) {
        scores[i] = (float)(3 * uniform());
        noisy[i] = scores[i] + (float)(deviation * normal());
    }
}

static bool is_lost(const float *a, const float *b, size_t top)
{
    for (size_t i = 0; i < DOCUMENTS; i++) {
        size_t rank_a = 0, rank_b = 0;

        for (size_t j = 0; j < DOCUMENTS; j++) {
            rank_a += a[j] > a[i];
            rank_b += b[j] > b[i];
        }
        if ((rank_a < top) != (rank_b < top)) return true;
    }
    return false;
}

static size_t count_lost(void)
{
    size_t n = 0;

    for (size_t i = 0; i < LISTS; i++)
        n += is_lost(scores + i * DOCUMENTS, noisy + i * DOCUMENTS, 5);
    return n;
}

/* What a hundred lists expect, again and again with others, is right in the mean, spreads as the
 * standard error says, and far less than what is counted in them. */
static void test_many(void **state)
{
    static const double deviations[] = { 0.004, 0.02, 0.2 };

    (void)state;
    seed = 1;
    for (size_t d = 0; d < sizeof(deviations) / sizeof(*deviations); d++) {
        enum { TRIES = 60 };
        double sum = 0, squares = 0, errors = 0, many = 0, mean, spread;
        struct rr_expected e;
        struct rr_error err;

        for (int t = 0; t < TRIES; t++) {
            draw(deviations[d]);
            assert_int_equal(rr_expect(&e, scores, noisy, lists, LISTS, LISTS / 2, 5, &err), RR_OK);
            assert_int_equal(e.lists, LISTS);
            sum += 1 - e.share;
            squares += (1 - e.share) * (1 - e.share);
            errors += e.error * e.error;
        }
        for (int t = 0; t < 400; t++) {
            draw(deviations[d]);
            many += (double)count_lost();
        }
        many /= 400.0 * LISTS; /* a hundredth and more, known to 5 % of that and better */
        mean = sum / TRIES;
        spread = sqrt(squares / TRIES - mean * mean);
        if (!(fabs(mean / many - 1) < 0.12))
            fail_msg("errors of %g: %g expected, %g counted", deviations[d], mean, many);
        if (!(fabs(sqrt(errors / TRIES) / spread - 1) < 0.35))
            fail_msg("errors of %g: standard error %g, spread %g", deviations[d],
                     sqrt(errors / TRIES), spread);
        if (!(d || spread < 0.5 * sqrt(many / LISTS))) /* of counting: Poisson's */
            fail_msg("errors of %g: spread %g, no better than counting", deviations[d], spread);
    }
}

/* Errors are told by the first lists only, gaps by all. */
static void test_halves(void **state)
{
    struct rr_expected half, all, other;
    struct rr_error err;

    (void)state;
    seed = 2;
    draw(0.02);
    assert_int_equal(rr_expect(&all, scores, noisy, lists, LISTS, LISTS / 2, 5, &err), RR_OK);
    assert_int_equal(rr_expect(&half, scores, noisy, lists, LISTS / 2, LISTS / 2, 5, &err), RR_OK);
    assert_true(all.lists == LISTS && half.lists == LISTS / 2 && all.error < half.error);
    memcpy(noisy + sizeof(noisy) / sizeof(*noisy) / 2,
           scores + sizeof(scores) / sizeof(*scores) / 2, sizeof(scores) / 2);
    assert_int_equal(rr_expect(&other, scores, noisy, lists, LISTS, LISTS / 2, 5, &err), RR_OK);
    assert_true(other.share == all.share && other.error == all.error);
}

/* Of 68 lists at 1 %: 3 or more are lost in 3.1 % of all cases, 2 or more in 15 %; of 1000, 16 or
 * more in 4.7 %, 15 or more in 8.2 %. */
static void test_refuted(void **state)
{
    static const struct {
        size_t lost, n;
        double kept;
        bool refuted;
    } cases[] = {
        { 0, 68, 0.99, false }, { 2, 68, 0.99, false },    { 3, 68, 0.99, true },
        { 68, 68, 0.99, true }, { 15, 1000, 0.99, false }, { 16, 1000, 0.99, true },
        { 0, 0, 0.99, false },  { 0, 5, 1, false },        { 1, 5, 1, true },
        { 5, 5, 0, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        if (rr_expect_refuted(cases[i].lost, cases[i].n, cases[i].kept) != cases[i].refuted)
            fail_msg("%zu of %zu", cases[i].lost, cases[i].n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_refuted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
