/* SPDX-License-Identifier: Apache-2.0 */
/* test_devices.c - several devices for one model: the list as text; which lane takes what (policy
 * alone, with time as a number); engines on "null" and "fault" devices of several speeds and kinds,
 * which fail, hang and come back under load. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/attr.h"
#include "engine/devices.h"
#include "engine/dispatch.h"

#include "engine_support.h"

static struct fault_control *fault; /* [FAULT_DEVICES] */

static int reset(void **state)
{
    (void)state;
    fault = engine_faults();
    return 0;
}

/* ---- the list -------------------------------------------------------------------------------- */

static void test_list(void **state)
{
    static const struct {
        const char *text;
        int rc;
        const char *names; /* or what the message says */
    } cases[] = {
        { "cpu", RR_OK, "cpu" },
        { "cuda:0,cuda:1,cpu", RR_OK, "cuda:0 cuda:1 cpu" },
        { "cuda, cuda:3 ,cpu:0", RR_OK, "cuda:0 cuda:3 cpu" }, /* as --device would read them */
        { "null,null", RR_OK, "null null" },
        { "null:base_us=1,per_token_ns=2,null:per_token_ns=3", RR_OK,
          "null:base_us=1,per_token_ns=2 null:per_token_ns=3" },
        { "fault:*", RR_OK, "fault:0 fault:1 fault:2 fault:3 fault:4 fault:5 fault:6 fault:7" },
        { "cpu,fault:*", RR_OK,
          "cpu fault:0 fault:1 fault:2 fault:3 fault:4 fault:5 fault:6 fault:7" },
        { "", RR_EINVAL, "expected names such as" },
        { "cuda:0,,cpu", RR_EINVAL, "expected names such as" },
        { "auto", RR_EINVAL, "expected names such as" },
        { "cuda:0,cuda:0", RR_EINVAL, "cuda:0 is there twice" },
        { "cuda,cuda:0", RR_EINVAL, "cuda:0 is there twice" }, /* two names of one device */
        { "fault:1,fault:*", RR_EINVAL, "fault:1 is there twice" },
        { "null,cpu", RR_EINVAL, "null is a stand-in" },
        { "nowhere:*", RR_OK, "nowhere:0" }, /* refused, or not, where it is opened */
        { "x:0,x:1,x:2,x:3,x:4,x:5,x:6,x:7,x:8,x:9,x:10,x:11,x:12,x:13,x:14,x:15,x:16", RR_EINVAL,
          "at most 16" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < RR_COUNT(cases); c++) {
        struct rr_devices d;
        struct rr_error err = { 0 };
        char names[1024] = "";
        uint32_t i;
        int rc = rr_devices_parse(&d, cases[c].text, &err);

        if (rc != cases[c].rc) fail_msg("\"%s\": %d %s", cases[c].text, rc, err.msg);
        if (rc && !strstr(err.msg, cases[c].names)) fail_msg("\"%s\": %s", cases[c].text, err.msg);
        for (i = 0; !rc && i < d.n; i++)
            sprintf(names + strlen(names), "%s%s", i ? " " : "", d.names[i]);
        if (!rc) assert_string_equal(names, cases[c].names);
    }
}

static void check_open(const char *devices, const char *device, bool fallback, int rc,
                       const char *what)
{
    struct rr_options opt = engine_options(device);
    struct rr_engine *e;
    struct rr_error err = { 0 };

    opt.devices = devices;
    opt.fallback = fallback;
    if (rr_open(&e, &opt, &err) != rc) fail_msg("%s: %d %s", devices, err.code, err.msg);
    if (rc) {
        assert_null(e);
        if (!strstr(err.msg, what)) fail_msg("%s: %s", devices, err.msg);
        return;
    }
    assert_string_equal(rr_engine_info(e)->device, what);
    rr_close(e);
}

/* What cannot be used is an error, or with fallback left out; the last resort is the CPU. */
static void test_open(void **state)
{
    (void)state;
    check_open("fault:0,fault:1", "auto", false, RR_OK, "fault:0,fault:1");
    check_open("fault:0,fault:1", "cpu", false, RR_EINVAL, "give one of them");
    check_open("fault:0,fault:8", "auto", false, RR_EDEVICE, "fault:8: 8 usable devices");
    check_open("fault:0,fault:8", "auto", true, RR_OK, "fault:0");
    check_open("fault:9,fault:8", "auto", true, RR_OK, "cpu");
    check_open("fault:0,nowhere:1", "auto", true, RR_EDEVICE, "nowhere");
    check_open("fault:0,nowhere:*", "auto", true, RR_EDEVICE, "nowhere");
    check_open("cuda:77,fault:1", "auto", true, RR_OK, "fault:1");
    check_open("fault:*", "auto", false, RR_OK, "fault:0,+7");
    fault[1].open_code = RR_EDEVICE;
    check_open("fault:0,fault:1", "auto", false, RR_EDEVICE, "fault:1 cannot be used");
    check_open("fault:1,fault:2", "auto", true, RR_OK, "fault:2"); /* the first one */
    fault[1].open_code = 0;
    fault[2].load_code = RR_ENOMEM;
    check_open("fault:1,fault:2", "auto", false, RR_ENOMEM, "fault:2");
}

/* ---- policy ---------------------------------------------------------------------------------- */

static void test_speed(void **state)
{
    struct rr_speed s;
    int i;

    (void)state;
    rr_speed_init(&s, 10, 1100, 1010, 101100);
    assert_true(s.base_ns == 100 && s.token_ns == 100);
    assert_true(rr_speed_ns(&s, 50) == 5100);
    for (i = 0; i < 100; i++) rr_speed_learn(&s, 99, 20000); /* twice as slow as it was */
    assert_true(fabs(rr_speed_ns(&s, 99) - 20000) < 1);
    assert_true(fabs(rr_speed_ns(&s, 199) - 40000) < 1);
    rr_speed_hope(&s, 99, 25000); /* slower still: one probe says nothing */
    assert_true(fabs(rr_speed_ns(&s, 199) - 40000) < 1);
    rr_speed_hope(&s, 99, 10000); /* as fast as at first */
    assert_true(fabs(rr_speed_ns(&s, 199) - 20000) < 1);
    for (i = 0; i < 100; i++) rr_speed_learn(&s, 99, 20000);
    rr_speed_init(&s, 10, 1000, 1000, 500); /* a large batch that took less: nothing but a base */
    assert_true(rr_speed_ns(&s, 0) == 1000 && rr_speed_ns(&s, 1000) == 1000);
    rr_speed_init(&s, 10, 100, 1000, 200000); /* more than in proportion: no base below 0 */
    assert_true(s.base_ns == 0);
    s = (struct rr_speed){ 0 };
    rr_speed_learn(&s, 10, 10); /* was never measured */
    assert_true(rr_speed_ns(&s, 1000) == 0);
}

enum { GPU, GPU2, SLOW, SPEEDS };
static const struct rr_speed speeds[SPEEDS] = {
    [GPU] = { 100000, 100, 1 },  /* 0.1 ms and 10,000 tokens a millisecond */
    [GPU2] = { 100000, 100, 1 }, /* the same again */
    [SLOW] = { 0, 5000, 1 },     /* 200 tokens a millisecond */
};

/* A free lane takes a batch unless the others end all that waits before it ends that batch. */
static void test_takes(void **state)
{
    static const struct {
        int me, other;
        double other_busy_ns, waiting;
        bool takes;
        const char *why;
    } cases[] = {
        { GPU, GPU2, 0, 100, true, "two alike, both free: whoever asks takes it" },
        { GPU, GPU2, 1e6, 100, true, "the other one is busy" },
        { GPU, SLOW, 0, 5000, true, "a slow one does not keep a fast one from working" },
        { SLOW, GPU, 0, 100, false, "a fast one is free" },
        { SLOW, GPU, 0, 2000, false, "... also for more" },
        { SLOW, GPU, 300000, 100, false, "it will be free in time: 0.41 ms, alone 0.5 ms" },
        { SLOW, GPU, 1e6, 100, true, "it is busy for longer than the work takes: overflow" },
        { SLOW, GPU, 5e6, 2000, false, "... but not longer than this one takes: 10 ms" },
        { SLOW, GPU, 0, 1e6, true, "a queue that even the fast one needs long for" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < RR_COUNT(cases); c++) {
        struct rr_hand me = { &speeds[cases[c].me], 4096, 0, 1 };
        struct rr_hand other = { &speeds[cases[c].other], 4096, cases[c].other_busy_ns, 1 };

        if (rr_lane_takes(&me, &other, 1, cases[c].waiting, 100) != cases[c].takes)
            fail_msg("%s", cases[c].why);
        assert_true(
            rr_lane_takes(&me, NULL, 0, cases[c].waiting, 100)); /* alone it takes everything */
    }
}

static void test_parts(void **state)
{
    struct rr_hand me = { &speeds[GPU], 4096, 0, 1 }, others[2] = { me, me };

    (void)state;
    assert_true(rr_lane_part(&me, NULL, 0, 900, 100) == 900);
    assert_true(rr_lane_part(&me, NULL, 0, 9000, 100) == 4096);
    assert_true(rr_lane_part(&me, others, 1, 6000, 100) == 3000); /* two halves at the same time */
    assert_true(fabs(rr_lane_part(&me, others, 2, 6000, 100) - 2000) < 1e-6);
    assert_true(rr_lane_part(&me, others, 1, 1000, 100) ==
                1000); /* too little to pay a second base */
    others[0].busy_ns = 1000;
    assert_true(rr_lane_part(&me, others, 1, 4000, 100) == 4000);
}

/* The kind that ends a request first, behind what it has in hand. */
static void test_finish(void **state)
{
    struct rr_hand gpus[2] = { { &speeds[GPU], 4096, 0, 1 }, { &speeds[GPU2], 4096, 0, 1 } };
    struct rr_hand cpu = { &speeds[SLOW], 1024, 0, 1 };

    (void)state;
    assert_true(rr_finish_ns(gpus, 0, 0, 1) == HUGE_VAL);
    assert_true(rr_finish_ns(gpus, 1, 0, 1000) == 200000);
    assert_true(rr_finish_ns(gpus, 2, 0, 1000) == 200000); /* a batch is on one of them */
    assert_true(rr_finish_ns(gpus, 2, 80000, 1000) < 0.6 * rr_finish_ns(gpus, 1, 80000, 1000));
    assert_true(rr_finish_ns(gpus, 2, 0, 1000) < rr_finish_ns(&cpu, 1, 0, 1000));
    /* 1.6 million tokens wait, 100 ms on both: a small request is better off on the CPU ... */
    assert_true(rr_finish_ns(gpus, 2, 1.6e6, 1000) > rr_finish_ns(&cpu, 1, 0, 1000));
    /* ... one that the CPU needs longer for is not. */
    assert_true(rr_finish_ns(gpus, 2, 1.6e6, 30000) < rr_finish_ns(&cpu, 1, 0, 30000));
    gpus[0].share = 0.5; /* another model has half of it */
    assert_true(rr_finish_ns(gpus, 1, 0, 1000) == 400000);
}

/* A day of requests on lanes of several speeds, by the policy, in a time that is a number: each lane
 * gets about what its speed allows, and all end together. */
static void simulate(const struct rr_speed *s, size_t n, double tokens, double *done, double *end)
{
    double now = 0, waiting = tokens, busy_until[4] = { 0 };
    size_t i, k;

    memset(done, 0, n * sizeof(*done));
    while (waiting > 0) {
        bool taken = false;

        for (i = 0; i < n && waiting > 0; i++) {
            struct rr_hand me = { &s[i], 4096, 0, 1 }, others[4];
            double part;
            size_t m = 0;

            if (busy_until[i] > now) continue;
            for (k = 0; k < n; k++)
                if (k != i)
                    others[m++] =
                        (struct rr_hand){ &s[k], 4096, RR_MAX(busy_until[k] - now, 0.0), 1 };
            if (!rr_lane_takes(&me, others, m, waiting, RR_MIN(waiting, 100.0))) continue;
            part = RR_MIN(ceil(rr_lane_part(&me, others, m, waiting, RR_MIN(waiting, 100.0))),
                          waiting);
            waiting -= part;
            done[i] += part;
            busy_until[i] = now + rr_speed_ns(&s[i], part);
            taken = true;
        }
        if (taken) continue;
        for (i = 0, *end = HUGE_VAL; i < n; i++)
            if (busy_until[i] > now) *end = RR_MIN(*end, busy_until[i]);
        assert_true(*end < HUGE_VAL); /* somebody works, or somebody takes */
        now = *end;
    }
    for (i = 0, *end = 0; i < n; i++) *end = RR_MAX(*end, busy_until[i]);
}

static void test_throughput(void **state)
{
    static const struct rr_speed lanes[4] = {
        { 100000, 100, 1 }, { 100000, 100, 1 }, { 50000, 200, 1 }, { 0, 5000, 1 }
    };
    double done[4], end, alone = rr_speed_ns(&lanes[0], 4096) / 4096 * 4e6;
    size_t n;

    (void)state;
    for (n = 1; n <= 4; n++) {
        double rate = 0, expected;
        size_t i;

        simulate(lanes, n, 4e6, done, &end);
        for (i = 0; i < n; i++) rate += 4096 / rr_speed_ns(&lanes[i], 4096);
        expected = 4e6 / rate;
        if (end > 1.05 * expected) fail_msg("%zu lanes: %f, could be %f", n, end, expected);
        assert_true(end <= 1.01 * alone);
        for (i = 0; i < n; i++)
            assert_true(fabs(done[i] - 4e6 / rate * 4096 / rr_speed_ns(&lanes[i], 4096)) < 2e5);
    }
    simulate(lanes, 4, 1000, done, &end); /* a small request waits for no slow lane */
    assert_true(done[3] == 0 && end <= 250000);
}

/* ---- engines --------------------------------------------------------------------------------- */

static struct rr_engine *open_on(const char *devices, struct rr_options *opt)
{
    opt->devices = devices;
    opt->queue_tokens = (size_t)1 << 24;
    return engine_open(opt);
}

static struct rr_device_state device(struct rr_engine *e, uint32_t i)
{
    struct rr_device_state d;

    assert_true(rr_engine_device(e, i, &d));
    return d;
}

enum { MANY = 200, SIZE = 8 };

struct crowd {
    struct request requests[MANY];
    char queries[MANY][16];
    struct documents docs;
};

/* Request i: a query of its own, past the cache, and whatever else req asks for. */
static void crowd_ask(struct crowd *c, struct rr_engine *e, size_t i, struct rr_request req)
{
    if (!c->docs.n) c->docs = documents_make("document", SIZE, 40);
    snprintf(c->queries[i], sizeof(c->queries[i]), "query %zu", i);
    req.no_cache = true;
    c->requests[i] = (struct request){ .req = req };
    request_start(e, &c->requests[i], c->queries[i], &c->docs);
}

static void crowd_start(struct crowd *c, struct rr_engine *e, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) crowd_ask(c, e, i, (struct rr_request){ 0 });
}

/* Each is answered once, rightly. */
static void crowd_check(struct crowd *c, size_t n, bool null)
{
    size_t i, k;

    for (i = 0; i < n; i++) {
        struct request *r = &c->requests[i];

        request_wait(r);
        if (r->code) fail_msg("request %zu: %d", i, r->code);
        for (k = 0; k < SIZE && null; k++)
            assert_true(r->result->scores[k].logit == null_logit(r->req.query, c->docs.texts[k]));
        request_drop(r);
    }
}

/* The last lines of a test; reference may be NULL. */
static void crowd_end(struct crowd *c, struct rr_engine *e, struct rr_engine *reference)
{
    rr_close(e);
    rr_close(reference);
    documents_free(&c->docs);
}

/* Work that none of two fast devices can do alone in time goes to both; a very slow one beside them
 * gets nothing of a little work. */
static void test_share_work(void **state)
{
    static struct crowd c;
    struct rr_options opt = engine_options("auto");
    struct rr_engine *e = open_on("null:per_token_ns=2000,null:per_token_ns=2000", &opt);
    struct rr_device_state a, b;
    struct rr_stats s;

    (void)state;
    crowd_start(&c, e, MANY);
    crowd_check(&c, MANY, true);
    a = device(e, 0);
    b = device(e, 1);
    assert_string_equal(a.name, "null:0");
    assert_string_equal(b.name, "null:1");
    assert_true(a.up && b.up && !a.reserve);
    assert_int_equal(a.pairs_done + b.pairs_done, MANY * SIZE);
    /* Half each but for a batch or two; on a busy machine their speeds differ for a while. */
    assert_true(a.pairs_done > MANY * SIZE / 10 && b.pairs_done > MANY * SIZE / 10);
    rr_engine_stats(e, &s);
    assert_int_equal(s.batches_done, a.batches_done + b.batches_done);
    assert_true(rr_engine_wait_ns(e, 1000) > 0);
    rr_close(e);

    e = open_on("null:per_token_ns=10,null:per_token_ns=1000000", &opt);
    for (int i = 0; i < 5;
         i++) { /* one at a time: the fast one is free again within microseconds */
        crowd_start(&c, e, 1);
        crowd_check(&c, 1, true);
    }
    assert_int_equal(device(e, 0).pairs_done, 5 * SIZE);
    assert_int_equal(device(e, 1).pairs_done, 0);
    crowd_end(&c, e, NULL);
}

/* What several can do in time together is not given up because one alone could not, nor because the
 * slowest of them asks. */
static void test_deadline(void **state)
{
    static const char *const lists[] = {
        "null:per_token_ns=20000,null:per_token_ns=20000,"
        "null:per_token_ns=20000,null:per_token_ns=20000",
        "null:per_token_ns=200000,null:per_token_ns=5000",
    };
    struct documents d = documents_make("document", 200, 450);
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(lists); i++) {
        struct rr_options opt = engine_options("auto");
        struct request r = { .req.no_cache = true };
        struct rr_device_state s;
        struct rr_engine *e;
        uint32_t k;

        opt.batch_tokens = 640;
        e = open_on(lists[i], &opt);
        request_start(e, &r, "query", &d); /* which measures all of them */
        request_wait(&r);
        request_drop(&r);
        for (k = 0; rr_engine_device(e, k, &s); k++) assert_true(s.pairs_done > 0);
        /* All together took half a second, on a machine with time; the first one alone takes four
         * times as long or more.  It is given up each time, or a busy machine was the reason. */
        r.req.timeout_ns = (uint64_t)((r.ended - r.submitted) * 2.4e9);
        for (k = 0; k < 3; k++) {
            request_start(e, &r, "query", &d);
            request_wait(&r);
            request_drop(&r);
            if (!r.code) break;
        }
        if (r.code) fail_msg("%s: %d", lists[i], r.code);
        rr_close(e);
    }
    documents_free(&d);
}

/* Two kinds: the slow one is overflow.  All pairs of a request are of one kind, also when it is
 * scored again beside others: the logits are all those of "other", which are the negative ones, or
 * none is. */
static size_t count_other(struct crowd *c, struct rr_engine *reference, size_t n)
{
    static struct crowd expected;
    size_t i, k, other = 0;

    crowd_start(&expected, reference, n);
    for (i = 0; i < n; i++) {
        struct request *r = &c->requests[i], *x = &expected.requests[i];
        float sign = 1;

        request_wait(r);
        request_wait(x);
        assert_int_equal(r->code, RR_OK);
        assert_int_equal(x->code, RR_OK);
        if (r->result->scores[0].logit != x->result->scores[0].logit) sign = -1;
        for (k = 0; k < SIZE; k++)
            assert_true(r->result->scores[k].logit == sign * x->result->scores[k].logit);
        other += sign < 0;
        request_drop(r);
        request_drop(x);
    }
    documents_free(&expected.docs);
    return other;
}

static void test_overflow(void **state)
{
    static struct crowd c;
    struct rr_options opt = engine_options("auto");
    struct rr_engine *e, *reference;
    size_t i;

    (void)state;
    reference = open_on("fault:2", &opt);
    fault[1].other = 1;
    fault[0].slow_us = 2000; /* measured when they are opened */
    fault[1].slow_us = 100000;
    e = open_on("fault:0,fault:1", &opt);
    for (i = 0; i < 10; i++) { /* one at a time: never on the slow one */
        crowd_start(&c, e, 1);
        assert_int_equal(count_other(&c, reference, 1), 0);
    }
    assert_int_equal(device(e, 1).pairs_done, 0);
    /* It gets slower, and then there is much to do: some go to the other one, most do not. */
    fault[0].slow_us = 30000;
    for (i = 0; i < 12; i++) {
        crowd_start(&c, e, 1);
        crowd_check(&c, 1, false);
    }
    crowd_start(&c, e, MANY);
    i = count_other(&c, reference, MANY);
    print_message("%zu of %d on the slow device\n", i, MANY);
    assert_true(i > 0 && i < MANY);
    assert_int_equal(device(e, 1).pairs_done, i * SIZE);
    crowd_end(&c, e, reference);
}

/* What held up the probe when a device was measured does not make it look fast later: other probes
 * take a small part of what that one took, full batches what they always did. */
static void test_held_up(void **state)
{
    struct documents d = documents_make("document", 40, 450);
    struct rr_options opt = engine_options("auto");
    struct request r = { 0 };
    struct rr_engine *e;
    int runs, i;

    (void)state;
    fault[1].other = 1;
    fault[0].token_us = 10;
    fault[1].token_us = 50;
    fault[1].held_run = 2; /* the first is the warm-up */
    e = open_on("fault:0,fault:1", &opt);
    runs = fault[1].runs;
    sleep_ms(4100); /* so that it is probed */
    for (i = 0; i < 500 && fault[1].runs == runs; i++) {
        health(e);
        sleep_ms(10);
    }
    assert_true(fault[1].runs > runs);
    request_start(e, &r, "query", &d);
    request_wait(&r);
    assert_int_equal(r.code, RR_OK);
    assert_int_equal(device(e, 1).pairs_done, 0);
    request_drop(&r);
    rr_close(e);
    documents_free(&d);
}

/* A pair that was cached by one kind is not the other's. */
static void test_keys(void **state)
{
    struct rr_options opt = engine_options("auto");
    struct documents d = documents_make("doc", SIZE, 0);
    struct request r = { 0 };
    struct rr_engine *e;
    float logit;

    (void)state;
    opt.cache_bytes = 1 << 20;
    fault[1].other = 1;
    fault[1].slow_us = 20000;
    e = open_on("fault:0,fault:1", &opt);
    request_start(e, &r, "q", &d);
    request_wait(&r);
    logit = r.result->scores[0].logit;
    request_drop(&r);
    fault[0].fail = 1; /* its next batch is the last one, for some time */
    r.req.no_cache = true;
    request_start(e, &r, "q", &d);
    request_wait(&r);
    assert_true(r.result->scores[0].logit == -logit);
    request_drop(&r);
    r = (struct request){ 0 };
    request_start(e, &r, "q", &d);
    request_wait(&r);
    assert_int_equal(r.result->n_cached, 0); /* it is the other kind's turn, which knows nothing */
    assert_true(r.result->scores[0].logit == -logit);
    request_drop(&r);
    fault[0].fail = 0;
    wait_until_well(e, 20);
    request_start(e, &r, "q", &d);
    request_wait(&r);
    assert_int_equal(r.result->n_cached, SIZE);
    assert_true(r.result->scores[0].logit == logit);
    request_drop(&r);
    rr_close(e);
    documents_free(&d);
}

/* Devices that call themselves alike and give other bits are told apart. */
static void test_unlike(void **state)
{
    struct rr_options opt = engine_options("auto");
    static struct crowd c;
    struct rr_engine *e;

    (void)state;
    fault[1].wrong = 1; /* off by one, at start already */
    fault[1].slow_us = 20000;
    e = open_on("fault:0,fault:1", &opt);
    crowd_start(&c, e, 20);
    crowd_check(&c, 20, false);
    assert_true(health(e).ok);
    assert_true(health(e).device_ok);
    crowd_end(&c, e, NULL);
}

/* One of two dies under load, alike or not: nothing is lost, answered twice or wrong; it comes back
 * by itself and works again. */
static void test_kill_one(void **state)
{
    static struct crowd c;
    int other;

    (void)state;
    for (other = 0; other < 2; other++) {
        struct rr_options opt = engine_options("auto");
        struct rr_engine *e, *reference = open_on("fault:2", &opt);
        struct rr_health h;
        struct rr_stats s;
        size_t i;

        fault[0].slow_us = fault[1].slow_us = 3000;
        fault[1].other = other;
        e = open_on("fault:0,fault:1", &opt);
        crowd_start(&c, e, MANY);
        sleep_ms(10);
        fault[1].fail = 1;
        i = count_other(&c, reference, MANY);
        print_message("%zu of %d before it died\n", i, MANY);
        if (!other) assert_int_equal(i, 0);
        h = health(e);
        assert_true(h.ok);
        assert_false(h.device_ok);
        assert_false(h.stalled);
        assert_non_null(strstr(h.why, "fault:1"));
        assert_non_null(strstr(h.why, "told to fail"));
        assert_non_null(strstr(h.why, "1 of 2 devices serve"));
        assert_false(device(e, 1).up);
        assert_true(device(e, 1).why[0] != 0);
        assert_true(device(e, 1).errors >= 1 && device(e, 0).errors == 0);
        rr_engine_stats(e, &s);
        assert_int_equal(s.requests_done, MANY);
        assert_int_equal(s.requests_failed, 0);
        fault[1].fail = 0;
        wait_until_well(e, 20);
        i = (size_t)device(e, 1).pairs_done;
        crowd_start(&c, e, MANY);
        count_other(&c, reference, MANY);
        assert_true(device(e, 1).pairs_done > i);
        rr_close(e);
        rr_close(reference);
        for (i = 0; i < 3; i++) fault[i] = (struct fault_control){ 0 };
    }
    documents_free(&c.docs);
}

/* A lane that hangs: what it had in hand is computed by the other one, and when it answers after
 * all, that changes nothing. */
static void test_hang_one(void **state)
{
    static struct crowd c;
    struct rr_options opt = engine_options("auto");
    struct rr_engine *e, *reference = open_on("fault:2", &opt);
    struct rr_health h;
    struct rr_stats s;

    (void)state;
    opt.stall_ns = 1500000000; /* a busy machine may keep the other one waiting, too */
    fault[0].slow_us = fault[1].slow_us = 3000;
    e = open_on("fault:0,fault:1", &opt);
    fault[1].hang = 1;
    crowd_start(&c, e, 100);
    assert_int_equal(count_other(&c, reference, 100), 0);
    h = health(e);
    assert_true(h.ok);
    assert_false(h.device_ok);
    assert_false(h.stalled);
    assert_non_null(strstr(h.why, "has not answered"));
    assert_int_equal(device(e, 1).pairs_done, 0);
    crowd_start(&c, e, 20); /* new ones are taken */
    crowd_check(&c, 20, false);
    fault[1].hang = 0;
    wait_until_well(e, 20);
    rr_engine_stats(e, &s);
    assert_int_equal(s.requests_done, 120);
    assert_int_equal(device(e, 0).pairs_done, 120 * SIZE);
    assert_int_equal(device(e, 1).pairs_done, 0);
    crowd_start(&c, e, MANY);
    assert_int_equal(count_other(&c, reference, MANY), 0);
    crowd_end(&c, e, reference);
}

/* All die under load.  With the CPU in reserve it answers; without, every request gets an error, and
 * new ones, at once. */
static void test_kill_all(void **state)
{
    static struct crowd c;
    int fallback;

    (void)state;
    for (fallback = 0; fallback < 2; fallback++) {
        struct rr_options opt = engine_options("auto");
        struct rr_engine *e;
        struct rr_health h;
        struct rr_stats s;
        size_t i, failed = 0;

        opt.fallback = fallback;
        opt.threads = 1;
        fault[0].slow_us = fault[1].slow_us = 3000;
        e = open_on("fault:0,fault:1", &opt);
        assert_int_equal(device(e, 0).reserve, false);
        if (fallback) assert_true(device(e, 2).reserve && !device(e, 2).up);
        crowd_start(&c, e, 50);
        sleep_ms(10);
        fault[0].fail = fault[1].fail = 1;
        for (i = 0; i < 50; i++) {
            request_wait(&c.requests[i]);
            assert_true(c.requests[i].code == RR_OK || c.requests[i].code == RR_EDEVICE);
            failed += c.requests[i].code != RR_OK;
            request_drop(&c.requests[i]);
        }
        h = health(e);
        assert_int_equal(h.ok, fallback);
        assert_false(h.device_ok);
        assert_non_null(strstr(h.why, "fault:0"));
        assert_non_null(strstr(h.why, "fault:1"));
        crowd_start(&c, e, 1);
        request_wait(&c.requests[0]);
        assert_int_equal(c.requests[0].code, fallback ? RR_OK : RR_EDEVICE);
        request_drop(&c.requests[0]);
        if (fallback) assert_int_equal(failed, 0);
        rr_engine_stats(e, &s);
        assert_int_equal(s.requests_failed, failed + !fallback);
        assert_int_equal(s.queue_requests, 0);
        if (fallback) {
            assert_true(device(e, 2).up && device(e, 2).pairs_done > 0);
            assert_true(device(e, 2).weights_bytes > 0 && device(e, 2).workspace_bytes > 0);
        }
        fault[0].fail = 0; /* one is enough */
        i = 0;
        while (!device(e, 0).up && i++ < 6000) sleep_ms(10); /* its tries are seconds apart */
        assert_true(device(e, 0).up);
        h = health(e);
        assert_true(h.ok);
        assert_false(h.device_ok);
        i = fallback ? (size_t)device(e, 2).pairs_done : 0;
        crowd_start(&c, e, 20);
        crowd_check(&c, 20, false);
        if (fallback) assert_int_equal(device(e, 2).pairs_done, i); /* the CPU rests again */
        rr_close(e);
        fault[0] = fault[1] = (struct fault_control){ 0 };
    }
    documents_free(&c.docs);
}

/* A request that kills every device that computes it does not get to see them all. */
static void test_killer(void **state)
{
    struct rr_options opt = engine_options("auto");
    struct documents d = documents_make("doc", 2, 0);
    struct request r = { .req.no_cache = true };
    struct rr_engine *e = open_on("fault:*", &opt);
    int i, up = 0;

    (void)state;
    for (i = 0; i < FAULT_DEVICES; i++) fault[i].fail = 1;
    request_start(e, &r, "q", &d);
    request_wait(&r);
    assert_int_equal(r.code, RR_EDEVICE);
    request_drop(&r);
    for (i = 0; i < FAULT_DEVICES; i++) up += device(e, (uint32_t)i).up;
    assert_int_equal(up, FAULT_DEVICES - 3);
    rr_close(e);
    documents_free(&d);
}

/* Cancelled and late requests, and closing, while lanes die and come back. */
static void test_life(void **state)
{
    static struct crowd c;
    size_t i, k;

    (void)state;
    for (k = 0; k < 3; k++) {
        struct rr_options opt = engine_options("auto");
        struct rr_engine *e;

        fault[0].slow_us = fault[1].slow_us = 1000;
        fault[1].other = 1;
        e = open_on("fault:0,fault:1,fault:2", &opt);
        for (i = 0; i < 3; i++) fault[i].hang = 1; /* nothing ends before all is set up */
        for (i = 0; i < MANY; i++) {
            crowd_ask(&c, e, i, (struct rr_request){ .timeout_ns = i % 7 == 3 ? 1000000 : 0 });
            if (i % 7 == 5) rr_cancel(e, c.requests[i].ticket);
        }
        sleep_ms(5);
        fault[k].fail = 1;
        fault[(k + 1) % 3].fail_next = 2;
        for (i = 0; i < 3; i++) fault[i].hang = 0;
        rr_close(e); /* finishes what it has accepted */
        for (i = 0; i < MANY; i++) {
            int code = i % 7 == 3 ? RR_ETIMEDOUT : i % 7 == 5 ? RR_ECANCELED : RR_OK;

            assert_true(request_done(&c.requests[i]));
            if (c.requests[i].code != code) fail_msg("request %zu: %d", i, c.requests[i].code);
            request_drop(&c.requests[i]);
        }
        for (i = 0; i < 3; i++) fault[i] = (struct fault_control){ 0 };
    }
    documents_free(&c.docs);
}

/* The exact top k is proven within one kind, whichever it is. */
static void test_exact(void **state)
{
    static struct crowd c;
    struct rr_options opt = engine_options("auto");
    struct rr_engine *e;
    size_t i;

    (void)state;
    opt.dtype = "bf16";
    opt.rescore_dtype = "f32";
    fault[0].noise_ppm = fault[1].noise_ppm = 50000;
    fault[0].slow_us = fault[1].slow_us = 1000;
    fault[1].other = 1;
    e = open_on("fault:0,fault:1", &opt);
    for (i = 0; i < MANY; i++) {
        crowd_ask(&c, e, i, (struct rr_request){ .exact_top_k = 3 });
        if (i == MANY / 2) fault[0].fail = 1;
    }
    for (i = 0; i < MANY; i++) {
        request_wait(&c.requests[i]);
        assert_int_equal(c.requests[i].code, RR_OK);
        assert_true(c.requests[i].result->exact);
        assert_true(c.requests[i].result->n_rescored <= SIZE);
        request_drop(&c.requests[i]);
    }
    assert_false(device(e, 0).up);
    crowd_end(&c, e, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_list, reset),
        cmocka_unit_test_setup(test_open, reset),
        cmocka_unit_test(test_speed),
        cmocka_unit_test(test_takes),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_throughput),
        cmocka_unit_test(test_share_work),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test_setup(test_overflow, reset),
        cmocka_unit_test_setup(test_held_up, reset),
        cmocka_unit_test_setup(test_keys, reset),
        cmocka_unit_test_setup(test_unlike, reset),
        cmocka_unit_test_setup(test_kill_one, reset),
        cmocka_unit_test_setup(test_hang_one, reset),
        cmocka_unit_test_setup(test_kill_all, reset),
        cmocka_unit_test_setup(test_killer, reset),
        cmocka_unit_test_setup(test_life, reset),
        cmocka_unit_test_setup(test_exact, reset),
    };

    if (!getenv("LOUD")) rr_set_log(log_nothing, NULL, RR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
