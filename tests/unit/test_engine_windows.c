/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_windows.c - long documents by windows, and how lengths are reported.  On the device
 * "null" a byte is a token, so a window is a piece of the text and has the score of that piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/attr.h"
#include "engine_support.h"

enum { SPECIALS = 3 };

static struct rr_engine *engine;

static int open_engine(void **state)
{
    struct rr_options opt = engine_options("null");

    (void)state;
    opt.cache_bytes = 1 << 20;
    engine = engine_open(&opt);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    rr_close(engine);
    return 0;
}

static const struct rr_text query = { "query", 5 };

static int score(const struct rr_text *doc, struct rr_window window, uint32_t max_length,
                 struct rr_score *out, struct rr_error *err)
{
    struct rr_request req = { .query = query,
                              .documents = doc,
                              .n_documents = 1,
                              .max_length = max_length,
                              .window = window,
                              .no_truncate = true };
    struct rr_result *r;
    int rc = rr_score(engine, &req, &r, err);

    if (!rc) *out = r->scores[0];
    rr_result_free(r);
    return rc;
}

/* What the windows of a document must give, by the text alone. */
static void check(const struct rr_text *doc, const struct rr_score *s, uint32_t size,
                  uint32_t stride, enum rr_pooling pooling, const char *why)
{
    uint32_t start = 0, n = 0, best = 0, tokens = 0;
    double sum = 0;
    float most = -100, logit, expected;

    for (;; start += stride) {
        if (start + size > doc->len) start = (uint32_t)doc->len - size;
        logit = null_logit(query, (struct rr_text){ doc->data + start, size });
        if (logit > most) {
            most = logit;
            best = start;
        }
        sum += logit;
        n++;
        tokens += (uint32_t)query.len + SPECIALS + size;
        if (start + size == doc->len || pooling == RR_POOL_FIRST) break;
    }
    expected = pooling == RR_POOL_MEAN ? (float)(sum / n) : most;
    if (s->logit != expected || s->n_windows != n || s->window_start != best ||
        s->window_end != best + size || s->tokens != tokens)
        fail_msg("%s: logit %g of %u windows, best %u to %u, expected %g, %u, %u to %u", why,
                 (double)s->logit, s->n_windows, s->window_start, s->window_end, (double)expected,
                 n, best, best + size);
    assert_int_equal(s->full_tokens, query.len + SPECIALS + doc->len);
    assert_int_equal(s->truncated, pooling == RR_POOL_FIRST);
}

static void test_windows(void **state)
{
    static const struct {
        size_t len;
        uint32_t size, stride, max_length, real_size, real_stride;
        enum rr_pooling pooling;
        const char *why;
    } cases[] = {
        { 300, 50, 25, 100, 50, 25, RR_POOL_MAX_SCORE, "halves overlap" },
        { 300, 50, 25, 100, 50, 25, RR_POOL_MAX_SCORE, "again, from the cache" },
        { 300, 50, 0, 100, 50, 50, RR_POOL_MAX_SCORE, "end to end" },
        { 310, 50, 0, 100, 50, 50, RR_POOL_MAX_SCORE, "the last one is moved back" },
        { 310, 50, 30, 100, 50, 30, RR_POOL_MEAN, "mean" },
        { 310, 50, 30, 100, 50, 30, RR_POOL_FIRST, "first" },
        { 500, 4000, 4000, 100, 92, 92, RR_POOL_MAX_SCORE, "no more than fits beside the query" },
        { 93, 92, 0, 100, 92, 92, RR_POOL_MAX_SCORE, "one token too many" },
        { 300, 1, 1, 100, 1, 1, RR_POOL_MAX_SCORE, "windows of one token" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct documents d = documents_make("window", 1, cases[c].len);
        struct rr_window w = { cases[c].size, cases[c].stride, cases[c].pooling };
        struct rr_score s;
        struct rr_error err;

        if (score(&d.texts[0], w, cases[c].max_length, &s, &err)) fail_msg("%s", err.msg);
        check(&d.texts[0], &s, cases[c].real_size, cases[c].real_stride, cases[c].pooling,
              cases[c].why);
        documents_free(&d);
    }
}

/* A document that fits is scored as without windows. */
static void test_fits(void **state)
{
    struct documents d = documents_make("fits", 1, 92);
    struct rr_window w = { 10, 5, RR_POOL_MAX_SCORE };
    struct rr_score s;
    struct rr_error err;
    int i;

    (void)state;
    for (i = 0; i < 2; i++) { /* computed, from the cache */
        assert_int_equal(score(&d.texts[0], w, 100, &s, &err), RR_OK);
        assert_true(s.logit == null_logit(query, d.texts[0]));
        assert_int_equal(s.n_windows, 0);
        assert_int_equal(s.tokens, 100);
        assert_int_equal(s.full_tokens, 100);
        assert_false(s.truncated);
    }
    documents_free(&d);
}

static void test_refused(void **state)
{
    static const struct {
        size_t len;
        struct rr_window window;
        uint32_t max_length;
        int rc;
        const char *why;
    } cases[] = {
        { 300, { 10, 11, RR_POOL_MAX_SCORE }, 100, RR_EINVAL, "stride beyond the window" },
        { 300, { 10, 10, RR_POOL_MAX_SCORE }, 8, RR_ETOOBIG, "no room beside the query" },
        { 3000, { 2, 1, RR_POOL_MAX_SCORE }, 100, RR_ETOOBIG, "too many windows" },
        { 300, { 0, 0, RR_POOL_MAX_SCORE }, 100, RR_ETOOBIG, "cut, but not allowed" },
    };
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct documents d = documents_make("refused", 1, cases[c].len);
        struct rr_score s;
        struct rr_error err;

        if (score(&d.texts[0], cases[c].window, cases[c].max_length, &s, &err) != cases[c].rc)
            fail_msg("%s: %s", cases[c].why, err.msg);
        documents_free(&d);
    }
}

/* Many documents, some of them cut, some equal: all wants of a job come together. */
static void test_many(void **state)
{
    struct documents d = documents_make("many", 100, 0);
    struct documents large = documents_make("long", 100, 200);
    struct request r = { .req = { .max_length = 100, .window = { 80, 40, RR_POOL_MAX_SCORE } } };
    size_t i;

    (void)state;
    for (i = 0; i < 100; i += 3) {
        struct rr_text t = d.texts[i];

        d.texts[i] = large.texts[i];
        large.texts[i] = t;
    }
    request_start(engine, &r, "query", &d);
    request_wait(&r);
    assert_int_equal(r.code, RR_OK);
    for (i = 0; i < 100; i++) {
        const struct rr_score *s = &r.result->scores[i];

        if (i % 3)
            assert_true(s->logit == null_logit(query, d.texts[i]));
        else
            check(&d.texts[i], s, 80, 40, RR_POOL_MAX_SCORE, "one of many");
    }
    request_drop(&r);
    documents_free(&d);
    documents_free(&large);
}

/* Without windows: what was cut is told, the same from the cache. */
static void test_full_tokens(void **state)
{
    struct documents d = documents_make("full", 1, 250);
    struct rr_request req = {
        .query = query, .documents = d.texts, .n_documents = 1, .max_length = 100
    };
    struct rr_error err;
    int i;

    (void)state;
    for (i = 0; i < 2; i++) {
        struct rr_result *r;

        assert_int_equal(rr_score(engine, &req, &r, &err), RR_OK);
        assert_int_equal(r->n_cached, i);
        assert_int_equal(r->scores[0].tokens, 100);
        assert_int_equal(r->scores[0].full_tokens, 258);
        assert_true(r->scores[0].truncated);
        rr_result_free(r);
    }
    documents_free(&d);
}

/* Writes the tiny model's file with obj added to it. */
static void write_with(const char *dir, const char *name, const char *obj)
{
    char path[512];
    json_t *root, *more = json_loads(obj, 0, NULL);

    snprintf(path, sizeof(path), TINY_MODEL "/%s", name);
    root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_object_update(root, more), 0);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    unlink(path);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    json_decref(more);
}

/* A text that is too long is cut where the tokenizer's files say, unless the request does. */
static void test_side(void **state)
{
    static const struct {
        const char *file, *config;
        bool left;
    } cases[] = {
        { "{}", "{}", false },
        { "{\"truncation\":null}", "{\"truncation_side\":\"left\"}", true },
        { "{\"truncation\":{\"direction\":\"Left\"}}", "{}", true },
        { "{\"truncation\":{\"direction\":\"Left\"}}", "{\"truncation_side\":\"right\"}", false },
        { "{\"truncation\":{\"direction\":7}}", "{\"truncation_side\":null}", false },
    };
    static const char *const kept[] = { "config.json", "model.safetensors" };
    struct documents d = documents_make("side", 1, 250);
    char dir[] = "/tmp/rerankd-test-XXXXXX", from[512], to[512], here[256];
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_non_null(getcwd(here, sizeof(here)));
    for (i = 0; i < RR_COUNT(kept); i++) {
        snprintf(from, sizeof(from), "%s/" TINY_MODEL "/%s", here, kept[i]);
        snprintf(to, sizeof(to), "%s/%s", dir, kept[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    for (i = 0; i < RR_COUNT(cases); i++) {
        struct rr_options opt = engine_options("cpu");
        float logit[3];

        write_with(dir, "tokenizer.json", cases[i].file);
        write_with(dir, "tokenizer_config.json", cases[i].config);
        opt.model = dir;
        struct rr_engine *e = engine_open(&opt);
        for (uint8_t side = RR_TRUNCATE_MODEL; side <= RR_TRUNCATE_RIGHT; side++) {
            struct rr_request req = { .query = query,
                                      .documents = d.texts,
                                      .n_documents = 1,
                                      .max_length = 40,
                                      .truncate_side = side };
            struct rr_error err;
            struct rr_result *r;

            assert_int_equal(rr_score(e, &req, &r, &err), RR_OK);
            logit[side] = r->scores[0].logit;
            rr_result_free(r);
        }
        assert_true(logit[RR_TRUNCATE_LEFT] != logit[RR_TRUNCATE_RIGHT]);
        if (logit[RR_TRUNCATE_MODEL] != logit[cases[i].left ? RR_TRUNCATE_LEFT : RR_TRUNCATE_RIGHT])
            fail_msg("%s %s", cases[i].file, cases[i].config);
        rr_close(e);
    }
    for (i = 0; i < RR_COUNT(kept); i++) {
        snprintf(to, sizeof(to), "%s/%s", dir, kept[i]);
        unlink(to);
    }
    snprintf(to, sizeof(to), "%s/tokenizer.json", dir);
    unlink(to);
    snprintf(to, sizeof(to), "%s/tokenizer_config.json", dir);
    unlink(to);
    rmdir(dir);
    documents_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),     cmocka_unit_test(test_fits),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_many),
        cmocka_unit_test(test_full_tokens), cmocka_unit_test(test_side),
    };

    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
