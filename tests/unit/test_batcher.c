/* SPDX-License-Identifier: Apache-2.0 */
/* test_batcher.c - the batching policy alone: limits, order, fairness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/batcher.h"

enum { MAX_PAIRS = 64, MAX_ITEMS = 256 };

struct fake {
    rr_job job;
    struct rr_pair pairs[MAX_PAIRS];
};

static void fake_init(struct fake *f, size_t n, uint32_t tokens)
{
    size_t i;

    memset(f, 0, sizeof(*f));
    f->job.pairs = f->pairs;
    f->job.req.n_documents = n;
    f->job.n_ready = n;
    for (i = 0; i < n; i++) f->pairs[i].n_tokens = tokens;
}

static void test_empty(void **state)
{
    struct rr_batcher b;
    struct rr_batch_item items[MAX_ITEMS];
    uint32_t tokens = 7;

    (void)state;
    rr_batcher_init(&b, 512, MAX_ITEMS);
    assert_int_equal(rr_batcher_take(&b, items, &tokens), 0);
    assert_int_equal(tokens, 0);
}

/* Never more tokens or pairs than allowed; every pair exactly once, in order. */
static void test_limits(void **state)
{
    static const struct {
        uint32_t max_tokens, max_pairs, pair_tokens;
        size_t n;
        const char *why;
    } cases[] = {
        { 512, 256, 100, 20, "token limit closes the batch" },
        { 4096, 3, 10, 20, "pair limit closes the batch" },
        { 512, 256, 512, 5, "a pair as long as the batch" },
        { 512, 256, 1, 64, "many tiny pairs" },
        { 300, 256, 300, 3, "a pair longer than the quantum" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_batcher b;
        struct rr_batch_item items[MAX_ITEMS];
        struct fake f;
        size_t seen = 0;
        uint32_t tokens, n, i;

        rr_batcher_init(&b, cases[c].max_tokens, cases[c].max_pairs);
        fake_init(&f, cases[c].n, cases[c].pair_tokens);
        rr_batcher_add(&b, &f.job);
        rr_batcher_add(&b, &f.job); /* twice has no effect */
        while ((n = rr_batcher_take(&b, items, &tokens)) > 0) {
            assert_true(n <= cases[c].max_pairs);
            assert_true(tokens <= cases[c].max_tokens);
            assert_int_equal(tokens, n * cases[c].pair_tokens);
            for (i = 0; i < n; i++) assert_int_equal(items[i].pair, seen++);
        }
        assert_int_equal(seen, cases[c].n);
        assert_false(f.job.in_ring);
        assert_null(b.tail);
    }
}

/* A batch is filled to within one pair of its limit while work is left. */
static void test_batches_are_full(void **state)
{
    struct rr_batcher b;
    struct rr_batch_item items[MAX_ITEMS];
    struct fake f[3];
    uint32_t tokens;
    size_t i;

    (void)state;
    rr_batcher_init(&b, 1000, MAX_ITEMS);
    for (i = 0; i < 3; i++) {
        fake_init(&f[i], 60, 30);
        rr_batcher_add(&b, &f[i].job);
    }
    for (i = 0; i < 5; i++) {
        rr_batcher_take(&b, items, &tokens);
        assert_true(tokens > 1000 - 30);
    }
}

/* A small job behind a large one is done within two batches, and long and short documents share
 * tokens, not pairs. */
static void test_fair(void **state)
{
    struct rr_batcher b;
    struct rr_batch_item items[MAX_ITEMS];
    struct fake large, small;
    uint32_t tokens, n, i, share[2] = { 0, 0 };
    int batches = 0;

    (void)state;
    rr_batcher_init(&b, 2048, MAX_ITEMS);
    fake_init(&large, 64, 500);
    fake_init(&small, 20, 50);
    rr_batcher_add(&b, &large.job);
    rr_batcher_add(&b, &small.job);
    while (small.job.n_taken < 20) {
        n = rr_batcher_take(&b, items, &tokens);
        for (i = 0; i < n; i++) {
            bool is_large = items[i].job == &large.job;

            share[is_large] += items[i].job->pairs[items[i].pair].n_tokens;
        }
        batches++;
    }
    assert_true(batches <= 2);
    assert_int_equal(share[0], 1000);
    assert_true(share[1] > 0);
}

static void test_remove(void **state)
{
    struct rr_batcher b;
    struct rr_batch_item items[MAX_ITEMS];
    struct fake f[4];
    uint32_t tokens, n, i;
    size_t victim, j;

    (void)state;
    for (victim = 0; victim < 4; victim++) {
        rr_batcher_init(&b, 4096, MAX_ITEMS);
        for (j = 0; j < 4; j++) {
            fake_init(&f[j], 3, 10);
            rr_batcher_add(&b, &f[j].job);
        }
        rr_batcher_remove(&b, &f[victim].job);
        rr_batcher_remove(&b, &f[victim].job); /* twice has no effect */
        n = rr_batcher_take(&b, items, &tokens);
        assert_int_equal(n, 9);
        for (i = 0; i < n; i++) assert_ptr_not_equal(items[i].job, &f[victim].job);
    }
    rr_batcher_init(&b, 4096, MAX_ITEMS);
    fake_init(&f[0], 3, 10);
    rr_batcher_add(&b, &f[0].job);
    rr_batcher_remove(&b, &f[0].job);
    assert_null(b.tail);
}

/* Pairs that become ready later are served when the job is added again. */
static void test_grows(void **state)
{
    struct rr_batcher b;
    struct rr_batch_item items[MAX_ITEMS];
    struct fake f;
    uint32_t tokens;

    (void)state;
    rr_batcher_init(&b, 4096, MAX_ITEMS);
    fake_init(&f, 10, 10);
    f.job.n_ready = 4;
    rr_batcher_add(&b, &f.job);
    assert_int_equal(rr_batcher_take(&b, items, &tokens), 4);
    rr_batcher_add(&b, &f.job); /* nothing new: stays out */
    assert_false(f.job.in_ring);
    f.job.n_ready = 10;
    rr_batcher_add(&b, &f.job);
    assert_int_equal(rr_batcher_take(&b, items, &tokens), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),           cmocka_unit_test(test_limits),
        cmocka_unit_test(test_batches_are_full), cmocka_unit_test(test_fair),
        cmocka_unit_test(test_remove),          cmocka_unit_test(test_grows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
