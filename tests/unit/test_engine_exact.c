/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_exact.c - the exact top k through the engine: on a device whose cheap precision is off
 * by a known bound, and on the CPU with a real model in int8 and f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "engine_support.h"

enum { N = 200 };

static struct fault_control *fault;
static struct documents docs;

static int setup(void **state)
{
    (void)state;
    docs = documents_make("document", N, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    documents_free(&docs);
    return 0;
}

static int reset(void **state)
{
    (void)state;
    fault = engine_faults();
    return 0;
}

static struct rr_result *ask(struct rr_engine *e, size_t k)
{
    struct rr_request req = {
        .query = { "query", 5 }, .documents = docs.texts, .n_documents = docs.n, .exact_top_k = k
    };
    struct rr_result *r;
    struct rr_error err;

    if (rr_score(e, &req, &r, &err)) fail_msg("%s", err.msg);
    return r;
}

static struct rr_result *in_f32(const char *device)
{
    struct rr_options opt = engine_options(device);
    struct rr_engine *e;
    struct rr_result *r;

    opt.dtype = "f32";
    e = engine_open(&opt);
    r = ask(e, 10);
    assert_true(r->exact); /* trivially */
    assert_int_equal(r->n_rescored, 0);
    rr_close(e);
    return r;
}

/* The first k are those of f32, with its logits. */
static void assert_top(const struct rr_result *r, const struct rr_result *f32, size_t k)
{
    size_t i;

    assert_true(r->exact);
    for (i = 0; i < k; i++) {
        uint32_t doc = r->order[i];

        assert_int_equal(doc, f32->order[i]);
        assert_true(r->scores[doc].rescored);
        assert_true(r->scores[doc].logit == f32->scores[doc].logit);
        assert_true(r->scores[doc].score == f32->scores[doc].score);
    }
}

static void test_bounded(void **state)
{
    static const struct {
        int noise_ppm;
        float drift;
        size_t k, least, most;
        const char *why;
    } cases[] = {
        { 50000, 0.0501f, 10, 10, 40, "a good bound" },
        { 50000, 0.0501f, 1, 1, 20, "the best one only" },
        { 50000, 0.0501f, N + 5, N, N, "all" },
        { 50000, 20.0f, 10, N, N, "a bound that says nothing" },
        { 500000, 0.001f, 10, 11, N, "a bound that is too small is widened" },
        { 0, 0.001f, 10, 10, 12, "no difference at all" },
        { 50000, 0, 10, 10, N, "measured at open" },
    };
    struct rr_result *f32;
    size_t c;

    (void)state;
    f32 = in_f32("fault");
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_options opt = engine_options("fault");
        struct rr_engine *e;
        struct rr_result *r;
        struct rr_stats s;
        size_t k = cases[c].k < N ? cases[c].k : N;

        fault->noise_ppm = cases[c].noise_ppm;
        opt.dtype = "int8";
        opt.rescore_dtype = "f32";
        opt.drift = cases[c].drift;
        e = engine_open(&opt);
        assert_string_equal(rr_engine_info(e)->rescore_dtype, "f32");
        r = ask(e, cases[c].k);
        assert_top(r, f32, k);
        if (r->n_rescored < cases[c].least || r->n_rescored > cases[c].most)
            fail_msg("%s: %zu rescored", cases[c].why, r->n_rescored);
        rr_engine_stats(e, &s);
        assert_int_equal(s.rescored_pairs, r->n_rescored);
        assert_int_equal(s.pairs_done, N + r->n_rescored);
        assert_true(s.drift >= cases[c].drift);
        if (cases[c].noise_ppm > 100000) assert_true(s.drift > 0.1f);
        rr_result_free(r);
        r = ask(e, 0); /* without asking, the cheap ones */
        assert_int_equal(r->n_rescored, 0);
        assert_false(r->exact);
        rr_result_free(r);
        rr_close(e);
    }
    rr_result_free(f32);
}

/* Equal documents, the cache, and windows: the same top k. */
static void test_with_the_rest(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct documents plain = docs;
    struct rr_text mixed[N];
    struct rr_result *f32, *r;
    struct rr_engine *e;
    size_t i;

    (void)state;
    for (i = 0; i < N; i++) mixed[i] = docs.texts[i / 2]; /* each twice */
    docs.texts = mixed;
    f32 = in_f32("fault");
    fault->noise_ppm = 50000;
    opt.dtype = "int8";
    opt.rescore_dtype = "f32";
    opt.drift = 0.0501f;
    opt.cache_bytes = 1 << 20;
    e = engine_open(&opt);
    r = ask(e, 10);
    assert_top(r, f32, 10);
    assert_int_equal(r->n_duplicates, N / 2);
    rr_result_free(r);
    r = ask(e, 10); /* both precisions from the cache, each under its own key */
    assert_top(r, f32, 10);
    assert_int_equal(r->n_rescored, 0);
    assert_true(r->n_cached >= N / 2 + 10);
    rr_result_free(r);
    rr_result_free(f32);
    rr_close(e);
    docs = plain;
}

static void test_real_model(void **state)
{
    struct rr_options opt = engine_options("cpu");
    struct rr_result *f32, *r;
    struct rr_engine *e;
    struct rr_stats s;

    (void)state;
    f32 = in_f32("cpu");
    opt.dtype = "int8";
    opt.rescore_dtype = "f32";
    e = engine_open(&opt);
    r = ask(e, 10);
    rr_engine_stats(e, &s);
    print_message("drift %g, %zu of %d rescored\n", (double)s.drift, r->n_rescored, N);
    assert_top(r, f32, 10);
    rr_result_free(r);
    rr_result_free(f32);
    rr_close(e);
}

static float drift_now(struct rr_engine *e)
{
    struct rr_stats s;

    rr_engine_stats(e, &s);
    return s.drift;
}

/* The CPU that stands in for a device has a difference of its own, which the device's bound does not
 * cover. */
static void test_stand_in(void **state)
{
    struct rr_options opt = engine_options("cpu");
    struct rr_engine *cpu, *e;
    float bound;
    size_t i;

    (void)state;
    opt.threads = 1;
    opt.dtype = "int8";
    opt.rescore_dtype = "f32";
    cpu = engine_open(&opt);
    bound = drift_now(cpu);
    rr_close(cpu);
    opt.dtype = "f32";
    cpu = engine_open(&opt);
    opt.dtype = "int8";
    opt.device = "fault";
    opt.fallback = true;
    for (i = 0; i < 10; i++) { /* each time anew: what it sees widens the bound */
        char query[32];
        struct rr_request req = { .query = { query, (size_t)sprintf(query, "query %zu", i) },
                                  .documents = docs.texts,
                                  .n_documents = docs.n,
                                  .exact_top_k = 1 };
        struct rr_result *got, *f32;
        struct rr_error err;

        fault->fail = 0;
        e = engine_open(&opt);
        assert_true(drift_now(e) < bound); /* the device has no difference at all */
        fault->fail = 1;
        if (rr_score(e, &req, &got, &err)) fail_msg("%s", err.msg);
        if (rr_score(cpu, &req, &f32, &err)) fail_msg("%s", err.msg);
        assert_top(got, f32, 1);
        assert_true(drift_now(e) >= bound);
        rr_result_free(got);
        rr_result_free(f32);
        rr_close(e);
    }
    rr_close(cpu);
}

/* A deadline in the middle: what is there is the answer, and it does not claim to be exact. */
static void test_late(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct request r = { .req = {
                             .exact_top_k = 10, .allow_partial = true, .timeout_ns = 400000000 } };
    struct rr_engine *e;

    (void)state;
    fault->noise_ppm = 50000;
    opt.dtype = "int8";
    opt.rescore_dtype = "f32";
    opt.drift = 20; /* everything is rescored */
    opt.batch_tokens = 512;
    e = engine_open(&opt);
    fault->slow_us = 60000;
    request_start(e, &r, "query", &docs);
    request_wait(&r);
    assert_int_equal(r.code, RR_OK);
    assert_false(r.result->exact);
    assert_true(r.ended - r.submitted < 0.8);
    request_drop(&r);
    rr_close(e);
}

static void test_refused(void **state)
{
    const float wrong[] = { -1, NAN, INFINITY };
    struct rr_options opt = engine_options("fault");
    struct rr_request req = {
        .query = { "q", 1 }, .documents = docs.texts, .n_documents = 1, .exact_top_k = 1
    };
    struct rr_result *r;
    struct rr_engine *e;
    struct rr_info info;
    struct rr_error err;
    size_t i;

    (void)state;
    opt.dtype = "int8";
    e = engine_open(&opt);
    assert_int_equal(rr_score(e, &req, &r, &err), RR_EINVAL);
    assert_non_null(strstr(err.msg, "rescore_dtype"));
    rr_close(e);
    opt.rescore_dtype = "f64";
    assert_int_equal(rr_open(&e, &opt, &err), RR_EINVAL);
    opt.rescore_dtype = "f32";
    for (i = 0; i < RR_COUNT(wrong); i++) {
        opt.drift = wrong[i];
        assert_int_equal(rr_open(&e, &opt, &err), RR_EINVAL);
        assert_int_equal(rr_inspect(&opt, &info, &err), RR_EINVAL);
        assert_non_null(strstr(err.msg, "drift is "));
    }
}

/* Opens the model of dir with this verify.json: what it takes for the bound, and the model's
 * fingerprint. */
static float drift_of(const char *dir, const char *json, int rc, const char *why, uint64_t *print)
{
    struct rr_options opt = engine_options("fault");
    struct rr_engine *e;
    struct rr_error err;
    struct rr_stats s;
    char path[512];
    FILE *f;

    snprintf(path, sizeof(path), "%s/verify.json", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(json, f);
    fclose(f);
    opt.model = dir;
    opt.dtype = "int8";
    opt.rescore_dtype = "f32";
    if (rr_open(&e, &opt, &err) != rc) fail_msg("%s: %s", why, err.msg);
    unlink(path);
    if (!e) return 0;
    *print = rr_engine_info(e)->fingerprint;
    rr_engine_stats(e, &s);
    rr_close(e);
    return s.drift;
}

/* The bound of the model folder's report, if it is of what is computed. */
static void test_report(void **state)
{
    static const struct {
        const char *json;
        enum { NONE, OURS, OTHER } print; /* and a member for the fingerprint of the files */
        int rc;
        bool taken;
        const char *why;
    } cases[] = {
        { "{\"drift\": 0.25, \"other\": [1]}", NONE, RR_OK, true, "a number" },
        { "{\"drift\": \"0.25\"}", NONE, RR_EFORMAT, false, "not a number" },
        { "{", NONE, RR_EFORMAT, false, "not JSON" },
        { "{\"drift\": 0.25, \"dtype\": \"int8\", \"isa\": \"none\", \"version\": \"" RR_VERSION "\"}",
          OURS, RR_OK, true, "of what is computed" },
        { "{\"drift\": 0.25, \"dtype\": \"int8\", \"isa\": \"none\", \"version\": \"0.0.9\"}", OURS,
          RR_OK, false, "of another version" },
        { "{\"drift\": 0.25, \"dtype\": \"int8\", \"isa\": \"none\"}", OURS, RR_OK, false,
          "of a version that did not say which" },
        { "{\"drift\": 0.25, \"dtype\": \"bf16\", \"isa\": \"none\", \"version\": \"" RR_VERSION "\"}",
          OURS, RR_OK, false, "of another precision" },
        { "{\"drift\": 0.25, \"dtype\": \"int8\", \"isa\": \"avx2\", \"version\": \"" RR_VERSION "\"}",
          OURS, RR_OK, false, "of other instructions" },
        { "{\"drift\": 0.25, \"dtype\": \"int8\", \"version\": \"" RR_VERSION "\"}", OTHER, RR_OK, false,
          "of other files" },
        { "{\"drift\": 0.25, \"dtype\": 8}", NONE, RR_EFORMAT, false, "a precision is a word" },
    };
    static const char *const files[] = { "config.json", "tokenizer.json", "model.safetensors" };
    char dir[] = "/tmp/rerankd-test-XXXXXX", from[512], to[512], here[256], json[256];
    char print[17] = "";
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_non_null(getcwd(here, sizeof(here)));
    for (i = 0; i < 3; i++) {
        snprintf(from, sizeof(from), "%s/" TINY_MODEL "/%s", here, files[i]);
        snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t h = 0;
        float drift;

        if (cases[i].print == NONE)
            snprintf(json, sizeof(json), "%s", cases[i].json);
        else
            snprintf(json, sizeof(json), "{\"fingerprint\": \"%s\", %s",
                     cases[i].print == OURS ? print : "0123456789abcdef", cases[i].json + 1);
        drift = drift_of(dir, json, cases[i].rc, cases[i].why, &h);
        if ((drift == 0.25f) != cases[i].taken) fail_msg("%s: %g", cases[i].why, (double)drift);
        if (h) snprintf(print, sizeof(print), "%016llx", (unsigned long long)h);
    }
    for (i = 0; i < 3; i++) {
        snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
        unlink(to);
    }
    rmdir(dir);
}

/* A bound from pairs of which one has no score would be too small. */
static void test_no_number(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct rr_tokens *t;
    struct rr_engine *e;
    struct rr_error err;

    (void)state;
    opt.dtype = "int8";
    e = engine_open(&opt);
    assert_int_equal(rr_tokenize(e, (struct rr_text){ "y", 1 }, false, &t, &err), RR_OK);
    fault->nan_id = t->tokens[t->n - 1].id; /* of the last pair of drift.c, not of the probe */
    rr_tokens_free(t);
    rr_close(e);
    opt.rescore_dtype = "f32";
    assert_int_equal(rr_open(&e, &opt, &err), RR_ENONFINITE);
    assert_non_null(strstr(err.msg, "not a number"));
}

/* What is f32 already is not made worse by a second precision. */
static void test_nothing_above_f32(void **state)
{
    struct rr_options opt = engine_options("fault");
    struct rr_result *f32, *r;
    struct rr_engine *e;

    (void)state;
    f32 = in_f32("fault");
    fault->noise_ppm = 50000;
    opt.dtype = "f32";
    opt.rescore_dtype = "bf16";
    e = engine_open(&opt);
    assert_string_equal(rr_engine_info(e)->rescore_dtype, "");
    r = ask(e, 10);
    assert_true(r->exact);
    assert_int_equal(r->n_rescored, 0);
    for (size_t i = 0; i < N; i++) assert_true(r->scores[i].logit == f32->scores[i].logit);
    rr_result_free(r);
    rr_result_free(f32);
    rr_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_bounded, reset),
        cmocka_unit_test_setup(test_with_the_rest, reset),
        cmocka_unit_test_setup(test_real_model, reset),
        cmocka_unit_test_setup(test_stand_in, reset),
        cmocka_unit_test_setup(test_late, reset),
        cmocka_unit_test_setup(test_refused, reset),
        cmocka_unit_test_setup(test_report, reset),
        cmocka_unit_test_setup(test_no_number, reset),
        cmocka_unit_test_setup(test_nothing_above_f32, reset),
    };

    rr_set_log(log_nothing, NULL, RR_LOG_ERROR);
    return cmocka_run_group_tests(tests, setup, teardown);
}
