/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_faults.c - devices that fail, through the plugin "fault": pairs that break a batch, dead
 * devices, hanging ones, numbers that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine_support.h"

static struct fault_control *fault;

static int reset(void **state)
{
    (void)state;
    fault = engine_faults();
    return 0;
}

static int ask(struct rr_engine *e, const char *query, const struct documents *d, bool no_cache,
               float *logits)
{
    struct rr_request req = { .query = { query, strlen(query) },
                              .documents = d->texts,
                              .n_documents = d->n,
                              .no_cache = no_cache };
    struct rr_result *r;
    struct rr_error err;
    int rc = rr_score(e, &req, &r, &err);
    size_t i;

    for (i = 0; rc == RR_OK && i < d->n; i++) logits[i] = r->scores[i].logit;
    rr_result_free(r);
    return rc;
}

/* The id of the first token of a text, special tokens apart. */
static int token_of(struct rr_engine *e, const char *text)
{
    struct rr_tokens *t;
    struct rr_error err;
    int id;

    assert_int_equal(rr_tokenize(e, (struct rr_text){ text, strlen(text) }, false, &t, &err),
                     RR_OK);
    id = t->tokens[t->n - 1].id;
    rr_tokens_free(t);
    return id;
}

/* ---- one pair, one row ----------------------------------------------------------------------- */

/* Ten requests share batches.  One has a document that the device cannot bear. */
static void test_poison(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct rr_engine *e = engine_open(&opt);
    struct documents good[10], bad = documents_make("Zimbabwe", 20, 0);
    float expected[10][20], logits[20];
    struct request r[10], poisoned = { 0 };
    struct rr_stats s;
    int i, runs;

    (void)state;
    for (i = 0; i < 10; i++) {
        char tag[16];

        snprintf(tag, sizeof(tag), "doc%c", 'a' + i);
        good[i] = documents_make(tag, 20, 0);
        assert_int_equal(ask(e, "q", &good[i], true, expected[i]), RR_OK);
    }
    bad.n = 1;
    fault->poison_id = token_of(e, "Z");
    fault->code = RR_EIO;
    fault->slow_us = 20000; /* so that all are in the queue together */
    for (i = 0; i < 10; i++) {
        r[i] = (struct request){ .req.no_cache = true };
        request_start(e, &r[i], "q", &good[i]);
        if (i == 5) request_start(e, &poisoned, "q", &bad);
    }
    request_wait(&poisoned);
    assert_int_equal(poisoned.code, RR_EIO);
    for (i = 0; i < 10; i++) {
        request_wait(&r[i]);
        assert_int_equal(r[i].code, RR_OK);
        for (size_t j = 0; j < 20; j++) assert_true(r[i].result->scores[j].logit == expected[i][j]);
        request_drop(&r[i]);
        documents_free(&good[i]);
    }
    rr_engine_stats(e, &s);
    assert_true(s.device_errors >= 1);
    assert_true(health(e).ok);
    /* It is remembered: no run is spent on it again, for a minute. */
    runs = fault->runs;
    assert_int_equal(ask(e, "q", &bad, false, logits), RR_EIO);
    assert_int_equal(fault->runs, runs);
    bad.n = 20;
    rr_close(e);
    documents_free(&bad);
}

static void test_error_once(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct rr_engine *e = engine_open(&opt);
    struct documents d = documents_make("doc", 16, 0);
    float expected[16], logits[16];
    struct rr_stats s;

    (void)state;
    assert_int_equal(ask(e, "q", &d, true, expected), RR_OK);
    fault->fail_next = 1;
    assert_int_equal(ask(e, "q", &d, true, logits), RR_OK);
    assert_memory_equal(logits, expected, sizeof(logits));
    rr_engine_stats(e, &s);
    assert_int_equal(s.device_errors, 1);
    assert_int_equal(s.device_retries, 16);
    rr_close(e);
    documents_free(&d);
}

/* A NaN, or a logit that the device forgot to write, fails its request only. */
static void test_not_a_number(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct rr_engine *e = engine_open(&opt);
    struct documents good = documents_make("doc", 10, 0), bad = documents_make("Zimbabwe", 10, 0);
    struct request a = { .req.no_cache = true }, b = { 0 };
    float logits[10];
    struct rr_stats s;

    (void)state;
    fault->nan_id = token_of(e, "Z");
    fault->slow_us = 20000;
    request_start(e, &a, "q", &good);
    request_start(e, &b, "q", &bad);
    request_wait(&a);
    request_wait(&b);
    assert_int_equal(a.code, RR_OK);
    assert_int_equal(b.code, RR_ENONFINITE);
    rr_engine_stats(e, &s);
    assert_true(s.nonfinite >= 1);
    fault->nan_id = 0;
    assert_int_equal(ask(e, "q", &bad, false, logits), RR_OK); /* nothing of it was cached */
    fault->missing = 1;
    assert_int_equal(ask(e, "other", &good, true, logits), RR_ENONFINITE);
    request_drop(&a);
    request_drop(&b);
    rr_close(e);
    documents_free(&good);
    documents_free(&bad);
}

/* ---- the whole device ------------------------------------------------------------------------ */

static void cpu_logits(const char *query, const struct documents *d, float *logits)
{
    struct rr_options opt = engine_options("cpu");
    struct rr_engine *e;

    opt.threads = 1;
    e = engine_open(&opt);
    assert_int_equal(ask(e, query, d, true, logits), RR_OK);
    rr_close(e);
}

/* The CPU stands in with its own scores under its own keys, until the device is back. */
static void test_cpu_stands_in(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct documents d = documents_make("doc", 16, 0);
    float device[16], cpu[16], logits[16];
    struct rr_engine *e;
    struct rr_health h;
    struct rr_stats s;

    (void)state;
    cpu_logits("q", &d, cpu);
    opt.fallback = true;
    opt.threads = 1;
    opt.cache_bytes = 1 << 20;
    e = engine_open(&opt);
    assert_int_equal(ask(e, "q", &d, true, device), RR_OK);
    assert_memory_not_equal(device, cpu, sizeof(cpu));
    fault->fail = 1;
    /* In flight when the device dies: computed again, not lost, not cached as the device's. */
    assert_int_equal(ask(e, "q", &d, false, logits), RR_OK);
    assert_memory_equal(logits, cpu, sizeof(cpu));
    h = health(e);
    assert_true(h.ok);
    assert_false(h.device_ok);
    assert_non_null(strstr(h.why, "told to fail"));
    assert_int_equal(ask(e, "q", &d, false, logits), RR_OK);
    assert_memory_equal(logits, cpu, sizeof(cpu));
    rr_engine_stats(e, &s);
    assert_int_equal(s.device_retries, 16);
    assert_int_equal(s.pairs_done, 2 * 16); /* what was lost with the device was not done */
    assert_int_equal(s.batches_done, 2);
    fault->fail = 0;
    wait_until_well(e, 10);
    assert_int_equal(ask(e, "q", &d, false, logits), RR_OK);
    assert_memory_equal(logits, device, sizeof(device));
    rr_close(e);
    documents_free(&d);
}

static void copy_file(const char *to_dir, const char *name, int change)
{
    char path[512];
    FILE *in, *out;
    long at = 0;
    int c;

    snprintf(path, sizeof(path), TINY_MODEL "/%s", name);
    in = fopen(path, "rb");
    assert_non_null(in);
    snprintf(path, sizeof(path), "%s/%s", to_dir, name);
    unlink(path); /* a new file, as deployments do: what is mapped stays as it is */
    out = fopen(path, "wb");
    assert_non_null(out);
    while ((c = getc(in)) != EOF) {
        at++;
        putc(c, out);
    }
    if (change) { /* the lowest bits of the last weight */
        fseek(out, at - 4, SEEK_SET);
        putc(change, out);
    }
    fclose(out);
    fclose(in);
}

/* The model's files were replaced since the start: the CPU would stand in with another model. */
static void test_other_files(void **state)
{
    static const char *const files[] = { "config.json", "tokenizer.json", "model.safetensors" };
    char dir[] = "/tmp/rerankd-test-XXXXXX", path[512];
    struct rr_options opt = engine_options("fault");
    struct documents d = documents_make("doc", 4, 0);
    float logits[4];
    struct rr_engine *e;
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    for (i = 0; i < 3; i++) copy_file(dir, files[i], 0);
    opt.model = dir;
    opt.fallback = true;
    opt.threads = 1;
    e = engine_open(&opt);
    copy_file(dir, files[2], 1);
    fault->fail = 1;
    assert_int_equal(ask(e, "q", &d, true, logits), RR_EDEVICE);
    assert_false(health(e).ok);
    copy_file(dir, files[2], 0); /* they are those of the start again: it comes */
    for (i = 0; i < 100 && !health(e).ok; i++) sleep_ms(100);
    assert_int_equal(ask(e, "q", &d, true, logits), RR_OK);
    rr_close(e);
    for (i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    documents_free(&d);
}

static void test_no_stand_in(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct rr_engine *e = engine_open(&opt);
    struct documents d = documents_make("doc", 4, 0);
    float expected[4], logits[4];
    int opens;

    (void)state;
    assert_int_equal(ask(e, "q", &d, true, expected), RR_OK);
    fault->fail = 1;
    assert_int_equal(ask(e, "q", &d, true, logits), RR_EDEVICE);
    assert_false(health(e).ok);
    assert_int_equal(ask(e, "q", &d, true, logits), RR_EDEVICE); /* at once, without a run */
    opens = fault->opens;
    sleep_ms(1300);
    assert_true(fault->opens > opens); /* it is being tried */
    assert_false(health(e).ok);
    fault->fail = 0;
    wait_until_well(e, 10);
    assert_true(health(e).ok);
    assert_int_equal(ask(e, "q", &d, true, logits), RR_OK);
    assert_memory_equal(logits, expected, sizeof(logits));
    rr_close(e);
    documents_free(&d);
}

static _Atomic uint64_t jump; /* added to the clock */

static uint64_t jumping_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * RR_SECOND + (uint64_t)ts.tv_nsec + jump;
}

/* A device that dies, or goes wrong, while idle is noticed by the probe that a look at the health
 * starts; one that is well stays so however long nobody asks. */
static void test_idle_death(void **state)
{
    static const struct {
        int fail, wrong;
        bool ok;
        const char *why;
    } cases[] = {
        { 0, 0, true, "well" },
        { 1, 0, false, "dead" },
        { 0, 1, false, "gives other bits" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_options opt = engine_options("fault");
        struct rr_engine *e = engine_open(&opt);
        int runs = fault->runs, i;

        rr_clock_fake(jumping_clock);
        assert_true(health(e).ok);
        sleep_ms(20);
        assert_int_equal(fault->runs, runs); /* young enough */
        fault->fail = cases[c].fail;
        fault->wrong = cases[c].wrong;
        jump = 3600 * RR_SECOND;
        assert_true(health(e).ok); /* nothing is known yet */
        for (i = 0; i < 500 && fault->runs == runs; i++) sleep_ms(10);
        sleep_ms(50);
        if (health(e).ok != cases[c].ok) fail_msg("%s", cases[c].why);
        if (cases[c].ok) assert_true(health(e).probe_age_ns < RR_SECOND);
        jump = 0;
        rr_clock_fake(NULL);
        *fault = (struct fault_control){ 0 };
        rr_close(e);
    }
}

static void test_hang(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct documents d = documents_make("doc", 4, 0);
    struct request a = { .req.no_cache = true }, b = a;
    float expected[4], logits[4];
    struct rr_engine *e;
    struct rr_health h;

    (void)state;
    opt.stall_ns = 200000000;
    e = engine_open(&opt);
    assert_int_equal(ask(e, "q", &d, true, expected), RR_OK);
    fault->hang = 1;
    request_start(e, &a, "q", &d);
    sleep_ms(20);
    request_start(e, &b, "q", &d);
    request_wait(&a);
    request_wait(&b);
    assert_int_equal(a.code, RR_EDEVICE);
    assert_int_equal(b.code, RR_EDEVICE);
    assert_true(a.ended - a.submitted >= 0.2);
    assert_true(a.ended - a.submitted < 1);
    h = health(e);
    assert_false(h.ok);
    assert_true(h.stalled);
    assert_int_equal(ask(e, "q", &d, true, logits), RR_EDEVICE); /* refused at once */
    fault->hang = 0;
    wait_until_well(e, 10);
    assert_int_equal(ask(e, "q", &d, true, logits), RR_OK);
    assert_memory_equal(logits, expected, sizeof(logits));
    rr_close(e);
    documents_free(&d);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void test_open(void **state)
{
    static const struct {
        int open_code, load_code, fail, rc;
        const char *why;
    } cases[] = {
        { RR_EDEVICE, 0, 0, RR_EDEVICE, "the device cannot be opened" },
        { 0, RR_ENOMEM, 0, RR_ENOMEM, "no memory for the weights" },
        { 0, 0, 1, RR_EDEVICE, "the first forward fails" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_options opt = engine_options("fault");
        struct rr_engine *e;
        struct rr_error err;

        fault->open_code = cases[c].open_code;
        fault->load_code = cases[c].load_code;
        fault->fail = cases[c].fail;
        if (rr_open(&e, &opt, &err) != cases[c].rc) fail_msg("%s: %d", cases[c].why, err.code);
        assert_null(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_poison, reset),
        cmocka_unit_test_setup(test_error_once, reset),
        cmocka_unit_test_setup(test_not_a_number, reset),
        cmocka_unit_test_setup(test_cpu_stands_in, reset),
        cmocka_unit_test_setup(test_other_files, reset),
        cmocka_unit_test_setup(test_no_stand_in, reset),
        cmocka_unit_test_setup(test_idle_death, reset),
        cmocka_unit_test_setup(test_hang, reset),
        cmocka_unit_test_setup(test_open, reset),
    };

    rr_set_log(log_nothing, NULL, RR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
