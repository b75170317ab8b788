/* SPDX-License-Identifier: Apache-2.0 */
/* test_batcher.c - the batching policy alone: limits, order, fairness, priorities, deadlines.  Time
 * is a number that the tests make up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/batcher.h"
#include "engine/engine.h"

enum { MAX_PAIRS = 64, MAX_ITEMS = 256, MAX_JOBS = 40 };

static struct rr_pace no_pace; /* nothing measured yet */

struct fake {
    rr_job job;
    struct rr_unit units[MAX_PAIRS];
    struct rr_want_block *block;
};

static struct fake fakes[MAX_JOBS];
static struct rr_batcher batcher;
static struct rr_unit *items[MAX_ITEMS];

static void open_batcher(uint32_t max_tokens, uint32_t max_pairs)
{
    batcher = (struct rr_batcher){ 0 };
    no_pace = (struct rr_pace){ .max_tokens = max_tokens,
                                .max_pairs = max_pairs,
                                .part_tokens = max_tokens };
}

static int forget(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < MAX_JOBS; i++) free(fakes[i].block);
    memset(fakes, 0, sizeof(fakes));
    return 0;
}

/* Job number i with n pairs of so many tokens, as it comes from prep. */
static rr_job *fake_job(size_t i, size_t n, uint32_t tokens)
{
    struct fake *f = &fakes[i];
    size_t p;

    free(f->block);
    memset(f, 0, sizeof(*f));
    f->block = calloc(1, sizeof(*f->block) + MAX_PAIRS * sizeof(*f->block->wants));
    f->block->n = n;
    f->job.at = f->block;
    f->job.class = RR_CLASS_NORMAL;
    f->job.deadline_ns = UINT64_MAX;
    f->job.tokens_left = n * tokens;
    for (p = 0; p < MAX_PAIRS; p++) {
        f->units[p].n_tokens = tokens;
        f->block->wants[p].job = &f->job;
        f->block->wants[p].unit = &f->units[p];
    }
    return &f->job;
}

static size_t job_of(const struct rr_unit *u)
{
    return (size_t)((const char *)u - (const char *)fakes) / sizeof(fakes[0]);
}

/* One batch; share[i] gets the tokens of job i. */
static uint32_t take(const struct rr_pace *pace, uint32_t *share)
{
    uint32_t tokens = 0, sum = 0, n = rr_batcher_take(&batcher, pace, items, &tokens), i;

    if (share) memset(share, 0, MAX_JOBS * sizeof(*share));
    for (i = 0; i < n; i++) {
        sum += items[i]->n_tokens;
        assert_true(items[i]->taken);
        if (share) share[job_of(items[i])] += items[i]->n_tokens;
    }
    assert_int_equal(sum, tokens);
    assert_true(tokens <= pace->max_tokens);
    assert_true(n <= pace->max_pairs);
    return n;
}

static void test_empty(void **state)
{
    (void)state;
    open_batcher(512, MAX_ITEMS);
    assert_int_equal(take(&no_pace, NULL), 0);
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
        { 8192, 256, 8192, 2, "a pair much longer than the quantum" },
        { 512, 1, 1, 3, "room for one pair" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        rr_job *job = fake_job(0, cases[c].n, cases[c].pair_tokens);
        size_t seen = 0;
        uint32_t n, i;

        open_batcher(cases[c].max_tokens, cases[c].max_pairs);
        rr_batcher_add(&batcher, job);
        rr_batcher_add(&batcher, job); /* twice has no effect */
        while ((n = take(&no_pace, NULL)) > 0)
            for (i = 0; i < n; i++) assert_ptr_equal(items[i], &fakes[0].units[seen++]);
        assert_int_equal(seen, cases[c].n);
        assert_null(job->batch.flow);
        assert_true(rr_flows_empty(&batcher.flows));
    }
}

/* A tenant that waits at two models gets half of its share at each, and the class that the turn was
 * given for leads, whatever the batcher's own count says. */
static void test_shared_device(void **state)
{
    static struct rr_grant grant = { .lead = RR_CLASS_NORMAL };
    struct rr_pace pace;
    uint32_t share[MAX_JOBS];
    rr_job *twice, *once, *high;

    (void)state;
    open_batcher(768, MAX_ITEMS);
    pace = no_pace;
    pace.grant = &grant;
    twice = fake_job(0, MAX_PAIRS, 16);
    once = fake_job(1, MAX_PAIRS, 16);
    twice->req.tenant = 10;
    once->req.tenant = 11;
    grant.models[RR_CLASS_NORMAL][rr_flows_home(10)] = 2;
    grant.models[RR_CLASS_NORMAL][rr_flows_home(11)] = 1;
    rr_batcher_add(&batcher, twice);
    rr_batcher_add(&batcher, once);
    take(&pace, share);
    assert_int_equal(share[0], 256);
    assert_int_equal(share[1], 512);

    high = fake_job(2, 4, 100);
    high->class = RR_CLASS_HIGH;
    rr_batcher_add(&batcher, high);
    take(&pace, share); /* NORMAL's turn: HIGH gets nothing of a batch that NORMAL fills */
    assert_int_equal(share[2], 0);
    grant.lead = RR_CLASS_HIGH;
    take(&pace, share);
    assert_int_equal(share[2], 400);
}

/* A batch is filled to within one pair of its limit while work is left. */
static void test_batches_are_full(void **state)
{
    size_t i;

    (void)state;
    open_batcher(1000, MAX_ITEMS);
    for (i = 0; i < 3; i++) rr_batcher_add(&batcher, fake_job(i, 60, 30));
    for (i = 0; i < 5; i++) assert_int_equal(take(&no_pace, NULL), 33);
}

/* A small job behind two large ones is done as soon as its share allows. */
static void test_small_behind_large(void **state)
{
    static const struct {
        size_t large_n, small_n;
        uint32_t large_tokens, small_tokens, max_tokens;
        int most;
        const char *why;
    } cases[] = {
        { 64, 20, 500, 50, 2048, 2, "long documents before short ones" },
        { 64, 20, 500, 50, 1024, 4, "a whole batch of work, of which a third is its share" },
        { 1, 20, 8192, 32, 8192, 2, "one pair that fills a batch" },
        { 64, 1, 512, 512, 1024, 2, "one document of the same length" },
    };
    uint32_t share[MAX_JOBS];
    size_t c, i;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        int batches = 0;

        open_batcher(cases[c].max_tokens, MAX_ITEMS);
        for (i = 1; i < 3; i++)
            rr_batcher_add(&batcher, fake_job(i, cases[c].large_n, cases[c].large_tokens));
        rr_batcher_add(&batcher, fake_job(0, cases[c].small_n, cases[c].small_tokens));
        for (; fakes[0].job.batch.flow; batches++) take(&no_pace, share);
        if (batches > cases[c].most) fail_msg("%s: %d batches", cases[c].why, batches);
    }
}

/* A batch that is worth its while and completes a job is not filled up with others' work. */
static void test_not_mixed_needlessly(void **state)
{
    uint32_t share[MAX_JOBS];

    (void)state;
    open_batcher(2048, MAX_ITEMS);
    fake_job(0, 24, 50)->class = RR_CLASS_HIGH; /* 1200 tokens: more than half a batch */
    rr_batcher_add(&batcher, &fakes[0].job);
    rr_batcher_add(&batcher, fake_job(1, 64, 100));
    take(&no_pace, share);
    assert_int_equal(share[0], 1200);
    assert_int_equal(share[1], 0);
    /* A small one does not waste the device: it shares. */
    open_batcher(2048, MAX_ITEMS);
    rr_batcher_add(&batcher, fake_job(0, 2, 50));
    rr_batcher_add(&batcher, fake_job(1, 64, 100));
    take(&no_pace, share);
    assert_int_equal(share[0], 100);
    assert_true(share[1] >= 1900);
}

/* Tenants share first: one with ten requests gets no more than one with a single request. */
static void test_tenants(void **state)
{
    uint32_t share[MAX_JOBS], many = 0, one = 0;
    size_t i, b;

    (void)state;
    open_batcher(2048, MAX_ITEMS);
    for (i = 1; i <= 10; i++) {
        fake_job(i, 64, 100)->req.tenant = 7;
        rr_batcher_add(&batcher, &fakes[i].job);
    }
    fake_job(0, 64, 100)->req.tenant = 8;
    rr_batcher_add(&batcher, &fakes[0].job);
    for (b = 0; b < 4; b++) {
        take(&no_pace, share);
        one += share[0];
        for (i = 1; i <= 10; i++) many += share[i];
    }
    assert_in_range(one, many - 512, many + 512);
    /* ... and the requests of a tenant share its part. */
    for (i = 1; i <= 10; i++) assert_true(fakes[i].job.at_want > 0);
}

/* More tenants than flows: everybody is served, nobody twice in a row. */
static void test_more_tenants_than_flows(void **state)
{
    static struct {
        rr_job job;
        struct rr_unit *unit;
        struct rr_want_block *block;
    } t[3 * RR_FLOWS];
    uint32_t tokens, n, i, served = 0;

    (void)state;
    open_batcher(100, MAX_ITEMS);
    for (i = 0; i < 3 * RR_FLOWS; i++) {
        memset(&t[i], 0, sizeof(t[i]));
        t[i].block = calloc(1, sizeof(*t[i].block) + sizeof(struct rr_want));
        t[i].block->n = 1;
        t[i].unit = calloc(1, sizeof(*t[i].unit));
        t[i].unit->n_tokens = 10;
        t[i].block->wants[0].unit = t[i].unit;
        t[i].job.at = t[i].block;
        t[i].job.deadline_ns = UINT64_MAX;
        t[i].job.req.tenant = i;
        rr_batcher_add(&batcher, &t[i].job);
    }
    while ((n = rr_batcher_take(&batcher, &no_pace, items, &tokens)) > 0) served += n;
    assert_int_equal(served, 3 * RR_FLOWS);
    for (i = 0; i < 3 * RR_FLOWS; i++) {
        free(t[i].unit);
        free(t[i].block);
    }
}

/* Higher classes go first, lower ones get their part nevertheless. */
static void test_priorities(void **state)
{
    uint32_t share[MAX_JOBS], sum[RR_CLASSES] = { 0 };
    int b, c;

    (void)state;
    open_batcher(640, MAX_ITEMS);
    for (c = 0; c < RR_CLASSES; c++) {
        fake_job((size_t)c, 64, 100)->class = (enum rr_class)c;
        rr_batcher_add(&batcher, &fakes[c].job);
    }
    for (b = 0; b < 32; b++) {
        take(&no_pace, share);
        for (c = 0; c < RR_CLASSES; c++) {
            sum[c] += share[c];
            /* Endless work: taken pairs are there again. */
            for (int p = 0; p < MAX_PAIRS; p++) fakes[c].units[p].taken = false;
            fakes[c].job.at_want = 0;
            rr_batcher_add(&batcher, &fakes[c].job);
        }
    }
    assert_true(sum[RR_CLASS_HIGH] > 2 * sum[RR_CLASS_NORMAL]);
    assert_true(sum[RR_CLASS_NORMAL] > 2 * sum[RR_CLASS_LOW]);
    assert_true(sum[RR_CLASS_LOW] >= 600);
}

static void test_remove(void **state)
{
    uint32_t n, i;
    size_t victim, j;

    (void)state;
    for (victim = 0; victim < 4; victim++) {
        open_batcher(4096, MAX_ITEMS);
        for (j = 0; j < 4; j++) {
            fake_job(j, 3, 10)->req.tenant = j / 2;
            rr_batcher_add(&batcher, &fakes[j].job);
        }
        rr_batcher_remove(&fakes[victim].job);
        rr_batcher_remove(&fakes[victim].job); /* twice has no effect */
        n = take(&no_pace, NULL);
        assert_int_equal(n, 9);
        for (i = 0; i < n; i++) assert_int_not_equal(job_of(items[i]), victim);
    }
    open_batcher(4096, MAX_ITEMS);
    rr_batcher_add(&batcher, fake_job(0, 3, 10));
    rr_batcher_remove(&fakes[0].job);
    assert_true(rr_flows_empty(&batcher.flows));
}

/* Pairs that become ready later are served when the job is added again; those that another job's
 * turn has taken are not taken twice. */
static void test_grows(void **state)
{
    rr_job *job = fake_job(0, 4, 10);

    (void)state;
    open_batcher(4096, MAX_ITEMS);
    rr_batcher_add(&batcher, job);
    assert_int_equal(take(&no_pace, NULL), 4);
    rr_batcher_add(&batcher, job); /* nothing new: stays out */
    assert_null(job->batch.flow);
    fakes[0].block->n = 10;
    fakes[0].units[7].taken = true;
    rr_batcher_add(&batcher, job);
    assert_int_equal(take(&no_pace, NULL), 5);
}

/* What cannot be done in time is not started, but what can is. */
static void test_deadlines(void **state)
{
    static const struct {
        uint64_t deadline;
        double ns_per_token, all_ns_per_token;
        uint64_t others;
        bool partial;
        uint32_t taken;
        const char *why;
    } cases[] = {
        { UINT64_MAX, 1000, 1000, 0, false, 10, "no deadline" },
        { 1000 + 100 * 10, 1, 1, 0, false, 10, "time enough" },
        { 1000 + 999, 1, 1, 0, false, 0, "one nanosecond short" },
        { 1000 + 999, 0, 0, 0, false, 10, "nothing measured: try" },
        { 1000 + 999, 1, 1, 0, true, 10, "short, but parts are welcome" },
        { 1000 + 50, 1, 1, 0, true, 0, "not even one pair" },
        { 999, 1, 1, 0, false, 0, "over already" },
        { 1000 + 500, 1, 0.5, 0, false, 10, "two lanes need half the time" },
        { 1000 + 499, 1, 0.5, 0, false, 0, "... and no less" },
        { 1000 + 499, 1, 0.5, 100, false, 10, "one of the pairs may be done in a moment" },
        { 1000 + 99, 1, 0.05, 0, false, 0, "a pair is on one lane" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        rr_job *job = fake_job(0, 10, 100);
        struct rr_pace pace;
        uint32_t n;

        open_batcher(4096, MAX_ITEMS);
        pace = no_pace;
        pace.now = 1000;
        pace.least_ns_per_token = cases[c].ns_per_token;
        pace.all_ns_per_token = cases[c].all_ns_per_token;
        pace.others_tokens = cases[c].others;
        job->deadline_ns = cases[c].deadline;
        job->req.allow_partial = cases[c].partial;
        rr_batcher_add(&batcher, job);
        n = take(&pace, NULL);
        if (n != cases[c].taken) fail_msg("%s: %u pairs", cases[c].why, n);
        assert_int_equal(job->hopeless, n == 0 && !cases[c].partial);
        rr_batcher_add(&batcher, job); /* a hopeless one stays out */
        assert_null(job->batch.flow);
    }
}

/* What is known of a lane's speed, by its large batches: how many, and when the last one ended. */
static void test_pace(void **state)
{
    static const struct {
        uint32_t n_large[2];
        uint64_t ago_s[2];
        double least, all;
        const char *why;
    } cases[] = {
        { { 0, 0 }, { 0, 0 }, 0, 0, "nothing" },
        { { 3, 9 }, { 0, 0 }, 0, 0, "too few: they may have been held up" },
        { { 4, 9 }, { 0, 0 }, 100, 75, "enough" },
        { { 4, 9 }, { 9, 9 }, 100, 75, "of late" },
        { { 4, 9 }, { 9, 11 }, 0, 0, "long ago: whatever was slow then may be over" },
    };
    static struct rr_kind kind;
    static struct rr_lane lanes[2];
    static struct rr_engine e = { .lanes = lanes, .n_lanes = 2 };
    size_t c, i;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_pace pace = { .now = 100 * RR_SECOND };

        for (i = 0; i < 2; i++)
            lanes[i] = (struct rr_lane){ .engine = &e,
                                         .kind = &kind,
                                         .state = RR_LANE_UP,
                                         .least_ns_per_token = i ? 300 : 100,
                                         .n_large = cases[c].n_large[i],
                                         .large_ns = pace.now - cases[c].ago_s[i] * RR_SECOND };
        rr_lane_pace(&lanes[0], &pace);
        if (pace.least_ns_per_token != cases[c].least ||
            (cases[c].least > 0 && fabs(pace.all_ns_per_token - cases[c].all) > 1e-6))
            fail_msg("%s: %g %g", cases[c].why, pace.least_ns_per_token, pace.all_ns_per_token);
    }
}

/* Where parts are welcome, a pair that is too long for the time left does not give up those behind
 * it. */
static void test_too_long_pairs(void **state)
{
    static const struct {
        uint64_t left;
        uint32_t tokens[5], taken;
        bool hopeless, left_out;
        const char *why;
    } cases[] = {
        { 100, { 20, 200, 30, 101, 40 }, 90, false, true, "the short ones around long ones" },
        { 100, { 200, 20, 30, 40, 50 }, 140, false, true, "the first one is too long" },
        { 100, { 50, 40, 30, 20, 200 }, 140, false, true, "the last one is" },
        { 100, { 200, 200, 200, 200, 200 }, 0, false, true, "all of them: more may come" },
        { 200, { 200, 20, 30, 40, 50 }, 340, false, false, "time for each" },
        { 0, { 200, 20, 30, 40, 50 }, 0, true, false, "time for none" },
    };
    struct rr_pace pace;
    rr_job *job;
    size_t c, p;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        uint32_t share[MAX_JOBS];

        open_batcher(4096, MAX_ITEMS);
        pace = no_pace;
        pace.now = 1000;
        pace.least_ns_per_token = pace.all_ns_per_token = 1;
        job = fake_job(0, 5, 0);
        for (p = 0; p < 5; p++) job->tokens_left += fakes[0].units[p].n_tokens = cases[c].tokens[p];
        job->req.allow_partial = true;
        job->deadline_ns = pace.now + cases[c].left;
        rr_batcher_add(&batcher, job);
        take(&pace, share);
        if (share[0] != cases[c].taken) fail_msg("%s: %u tokens", cases[c].why, share[0]);
        assert_int_equal(job->hopeless, cases[c].hopeless);
        assert_int_equal(job->left_out, cases[c].left_out);
        assert_null(job->batch.flow);
    }
    /* What comes from prep later is served, and since the job cannot be complete, a batch of its
     * last pairs has room for others. */
    open_batcher(200, MAX_ITEMS);
    pace.max_tokens = pace.part_tokens = 200;
    job = fake_job(0, 1, 500);
    job->req.allow_partial = true;
    job->deadline_ns = pace.now + 100;
    rr_batcher_add(&batcher, job);
    assert_int_equal(take(&pace, NULL), 0);
    fakes[0].block->n = 3;
    fakes[0].units[1].n_tokens = fakes[0].units[2].n_tokens = 80;
    rr_batcher_add(&batcher, job);
    rr_batcher_add(&batcher, fake_job(1, 1, 40));
    assert_int_equal(take(&pace, NULL), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_limits),
        cmocka_unit_test_teardown(test_shared_device, forget),
        cmocka_unit_test(test_batches_are_full),
        cmocka_unit_test(test_small_behind_large),
        cmocka_unit_test(test_not_mixed_needlessly),
        cmocka_unit_test(test_tenants),
        cmocka_unit_test(test_more_tenants_than_flows),
        cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_too_long_pairs),
    };

    return cmocka_run_group_tests(tests, NULL, forget);
}
