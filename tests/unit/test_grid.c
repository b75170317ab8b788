/* SPDX-License-Identifier: Apache-2.0 */
/* test_grid.c - rows of weights that are whole steps of a grid are kept exactly in int8. */
#include "base/attr.h"
#include "cpu/weights.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define K 1024

static uint64_t state_of_random = 11;

static uint32_t below(uint32_t n)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state_of_random >> 33) % n);
}

/* To bf16 (8 bits) or f16 (11, and no finer than 2^-24). */
static float round_to(float v, int bits)
{
    uint32_t wide = (uint32_t)rr_weights_round_bf16(v) << 16;
    int exponent;

    if (bits == 8) memcpy(&v, &wide, 4);
    if (bits != 11) return v;
    (void)frexpf(v, &exponent);
    exponent = RR_MAX(exponent - 11, -24);
    return ldexpf(rintf(ldexpf(v, -exponent)), exponent);
}

/* Whole numbers up to most; within: sets of four add up to no more than 129. */
static void make_row(int8_t *n, uint32_t k, uint32_t most, bool within)
{
    for (uint32_t j = 0; j < k; j++) {
        n[j] = (int8_t)((int)below(2 * most + 1) - (int)most);
        while (within && !rr_weights_within(n, j + 1, 129)) n[j] = (int8_t)(n[j] / 2);
    }
    if (k > 1) n[1] = 1; /* so that no larger step does */
    n[0] = (int8_t)most;
    while (within && !rr_weights_within(n, k, 129))
        for (uint32_t j = 1; j < 8 && j < k; j++) n[j] = (int8_t)(n[j] / 2);
}

static void test_grids(void **state)
{
    static const struct {
        float step;
        int bits; /* of what is stored: 24 f32, 11 f16, 8 bf16 */
        uint32_t k, most;
        const char *why;
    } cases[] = {
        { 0x1p-9f, 24, K, 127, "a power of two" },
        { 0x1p-9f, 11, K, 127, "exact in f16" },
        { 0x1p-9f, 8, K, 127, "exact in bf16" },
        { 0x1p-24f, 11, K, 127, "the smallest steps of f16" },
        { 0x1p-90f, 24, K, 127, "tiny" },
        { 0x1p90f, 24, K, 127, "huge" },
        { 0.0123456f, 24, K, 127, "any f32: products are rounded" },
        { 1.9999999f, 24, K, 127, "just below a power of two" },
        { 0.0123456f, 11, K, 127, "products rounded to f16" },
        { 0.0000033f, 11, K, 127, "to subnormal f16" },
        { 0.0123456f, 8, K, 127, "products rounded to bf16" },
        { 0.0123456f, 24, K, 1, "three values" },
        { 0.0123456f, 24, K, 3, "few bits" },
        { 0.0123456f, 24, 37, 100, "an odd length" },
        { 0.0123456f, 24, 1, 127, "one weight" },
        { 3.0f, 24, 2, 127, "two" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++)
        for (int turn = 0; turn < 20; turn++) {
            static const uint32_t limits[] = { RR_I8_WFREE, 129 };
            int8_t n[K], q[K];
            float w[K];

            make_row(n, cases[i].k, cases[i].most, turn % 2);
            for (uint32_t j = 0; j < cases[i].k; j++)
                w[j] = round_to(cases[i].step * (float)n[j], cases[i].bits);
            for (size_t l = 0; l < RR_COUNT(limits); l++) {
                float step = rr_weights_quantize_row(q, w, cases[i].k, limits[l]);

                assert_true(rr_weights_within(q, cases[i].k, limits[l]));
                if (limits[l] == 129 && !(turn % 2)) continue; /* cannot be kept */
                for (uint32_t j = 0; j < cases[i].k; j++)
                    if (round_to(step * (float)q[j], cases[i].bits) != w[j])
                        fail_msg("%s, limit %u: weight %u is %a, found %d steps of %a",
                                 cases[i].why, limits[l], j, (double)w[j], q[j], (double)step);
            }
        }
}

/* A step that a power of two or a smaller number would also be a multiple of is not missed, and the
 * largest one is found, which leaves the most room under the limit of sets. */
static void test_largest_step(void **state)
{
    float w[K];
    int8_t q[K];

    (void)state;
    for (uint32_t j = 0; j < K; j++) w[j] = (j % 2 ? 0.5f : -0.5f) * (float)(j % 5) * 24;
    assert_true(rr_weights_grid(q, w, K) == 12.0f);
    for (uint32_t j = 0; j < K; j++) assert_int_equal(q[j], (j % 2 ? 1 : -1) * (int)(j % 5));
    for (uint32_t j = 0; j < K; j++) w[j] = j % 3 ? 0.3f : -0.3f; /* one value */
    assert_true(rr_weights_grid(q, w, K) == 0.3f);
    assert_int_equal(q[1], 1);
    assert_int_equal(q[3], -1);
}

static void test_not_on_a_grid(void **state)
{
    float w[K], step;
    int8_t n[K], q[K];

    (void)state;
    make_row(n, K, 127, false);
    for (uint32_t j = 0; j < K; j++) w[j] = 0.0123456f * (float)n[j];
    assert_true(rr_weights_grid(q, w, K) > 0);
    w[600] = nextafterf(nextafterf(nextafterf(w[600], 9), 9), 9); /* one weight, three units */
    assert_true(rr_weights_grid(q, w, K) == 0);
    step = rr_weights_quantize_row(q, w, K, RR_I8_WFREE); /* rounded as ever: near */
    for (uint32_t j = 0; j < K; j++) assert_true(fabsf(step * (float)q[j] - w[j]) < 0.02f);
    w[600] = 0.0123456f * 128; /* too far out */
    assert_true(rr_weights_grid(q, w, K) == 0);
    w[600] = INFINITY;
    assert_true(rr_weights_grid(q, w, K) == 0);
    w[600] = NAN;
    assert_true(isnan(rr_weights_quantize_row(q, w, K, RR_I8_WFREE)));
    memset(w, 0, sizeof(w));
    assert_true(rr_weights_grid(q, w, K) == 0);
    assert_true(rr_weights_quantize_row(q, w, K, RR_I8_WFREE) == 0);
    for (uint32_t j = 0; j < K; j++) { /* any bf16 numbers */
        uint32_t bits = (0x3F80u + below(0x180)) << 16;

        memcpy(&w[j], &bits, 4);
    }
    assert_true(rr_weights_grid(q, w, K) == 0);
}

/* Where a set is a little over the limit, only that set changes. */
static void test_over_the_limit(void **state)
{
    float w[K], step;
    int8_t n[K], q[K];
    int changed = 0;

    (void)state;
    make_row(n, K, 127, true);
    n[8] = n[9] = 66;
    n[12] = n[13] = 0;
    for (uint32_t j = 0; j < K; j++) w[j] = 0x1p-7f * (float)n[j];
    step = rr_weights_quantize_row(q, w, K, 129);
    for (uint32_t j = 0; j < K; j++) changed += q[j] != n[j];
    assert_true(changed <= 2);
    assert_true(fabsf(step - 0x1p-7f) < 1e-5f);
    assert_int_equal(q[8] + q[9], 129);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grids),
        cmocka_unit_test(test_largest_step),
        cmocka_unit_test(test_not_on_a_grid),
        cmocka_unit_test(test_over_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
