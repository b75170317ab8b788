/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine.c - librerank through its public header: reference scores, the same bits whatever
 * else is computed, and every way a request can end. */
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
#include <pthread.h>

#include "base/mem.h"
#include "base/text.h"
#include "rerank.h"

#define MODEL "tests/golden/models/tiny-xlmr"

enum { MAX_PAIRS = 600 };

/* All pairs of the model's reference.jsonl whose window is the default. */
static struct {
    json_t *lines[256];
    size_t n_lines, n_pairs;
    struct rr_text query[MAX_PAIRS], doc[MAX_PAIRS];
    float expected[MAX_PAIRS]; /* by the reference implementation */
    float base[MAX_PAIRS];     /* ours, one pair at a time on one thread */
} ref;

static struct rr_text text_of(const json_t *s)
{
    return (struct rr_text){ json_string_value(s), json_string_length(s) };
}

static void add_line(json_t *line)
{
    json_t *docs = json_object_get(line, "documents"), *logits = json_object_get(line, "logits");
    size_t i;

    if (json_integer_value(json_object_get(line, "max_length")) != 512) {
        json_decref(line);
        return;
    }
    ref.lines[ref.n_lines++] = line;
    for (i = 0; i < json_array_size(docs) && ref.n_pairs < MAX_PAIRS; i++) {
        ref.query[ref.n_pairs] = text_of(json_object_get(line, "query"));
        ref.doc[ref.n_pairs] = text_of(json_array_get(docs, i));
        ref.expected[ref.n_pairs] = (float)json_number_value(json_array_get(logits, i));
        ref.n_pairs++;
    }
}

static int setup(void **state)
{
    FILE *f = fopen(MODEL "/reference.jsonl", "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    (void)state;
    rr_set_log(NULL, NULL, RR_LOG_ERROR);
    if (!f) return -1;
    while ((len = getline(&line, &cap, f)) > 0 && ref.n_lines < 256) {
        json_t *j = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);

        if (j) add_line(j);
    }
    free(line);
    fclose(f);
    return ref.n_pairs >= 40 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    while (ref.n_lines) json_decref(ref.lines[--ref.n_lines]);
    return 0;
}

static struct rr_engine *open_engine(uint32_t threads, uint32_t batch_tokens)
{
    struct rr_options opt;
    struct rr_engine *e;
    struct rr_error err;

    rr_options_init(&opt);
    opt.model = MODEL;
    opt.device = "cpu";
    opt.threads = threads;
    opt.batch_tokens = batch_tokens;
    if (rr_open(&e, &opt, &err)) fail_msg("%s", err.msg);
    return e;
}

static struct rr_result *score(struct rr_engine *e, const struct rr_request *req)
{
    struct rr_result *r;
    struct rr_error err;

    if (rr_score(e, req, &r, &err)) fail_msg("%s", err.msg);
    return r;
}

static float score_pair(struct rr_engine *e, size_t pair)
{
    struct rr_request req = { .query = ref.query[pair], .documents = &ref.doc[pair],
                              .n_documents = 1 };
    struct rr_result *r = score(e, &req);
    float logit = r->scores[0].logit;

    rr_result_free(r);
    return logit;
}

static void assert_same_bits(float a, float b)
{
    assert_memory_equal(&a, &b, sizeof(a));
}

/* ---- scores -------------------------------------------------------------------------------- */

static void test_reference(void **state)
{
    struct rr_engine *e = open_engine(1, 0);
    double worst = 0;
    size_t i;

    (void)state;
    for (i = 0; i < ref.n_pairs; i++) {
        double diff;

        ref.base[i] = score_pair(e, i);
        diff = (double)ref.base[i] - (double)ref.expected[i];
        if (diff < 0) diff = -diff;
        if (diff > worst) worst = diff;
    }
    rr_close(e);
    print_message("%zu pairs, largest logit difference %.2g\n", ref.n_pairs, worst);
    assert_true(worst <= 2e-4);
}

/* One request with pairs of one query, in a random order with repeats: same bits as alone. */
static void check_shuffled(struct rr_engine *e, unsigned *seed, size_t n)
{
    struct rr_text docs[64];
    size_t which[64], i, q = (size_t)rand_r(seed) % ref.n_pairs;
    struct rr_request req = { .query = ref.query[q], .documents = docs, .n_documents = n };
    struct rr_result *r;

    for (i = 0; i < n; i++) { /* any document with q's own query: first and last are references */
        which[i] = i == 0 || i == n - 1 ? q : (size_t)rand_r(seed) % ref.n_pairs;
        docs[i] = ref.doc[which[i]];
    }
    r = score(e, &req);
    for (i = 0; i < n; i++)
        if (rr_text_eq(ref.query[which[i]], req.query))
            assert_same_bits(r->scores[i].logit, ref.base[which[i]]);
    for (i = 1; i < n; i++) {
        const struct rr_score *a = &r->scores[r->order[i - 1]], *b = &r->scores[r->order[i]];

        assert_true(a->logit > b->logit ||
                    (a->logit == b->logit && r->order[i - 1] < r->order[i]));
        assert_true(a->score >= b->score);
    }
    rr_result_free(r);
}

static void test_same_bits(void **state)
{
    static const struct {
        uint32_t threads, batch_tokens;
        const char *why;
    } cases[] = {
        { 1, 0, "one thread" },
        { 2, 0, "two threads" },
        { 3, 512, "more threads than processors, smallest batches" },
        { 4, 16384, "everything in one batch" },
    };
    unsigned seed = 7;
    size_t c, i;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_engine *e = open_engine(cases[c].threads, cases[c].batch_tokens);

        for (i = 0; i < ref.n_pairs; i += 3) assert_same_bits(score_pair(e, i), ref.base[i]);
        for (i = 0; i < 12; i++) check_shuffled(e, &seed, 2 + (size_t)rand_r(&seed) % 62);
        rr_close(e);
    }
}

struct client {
    struct rr_engine *e;
    unsigned seed;
};

static void *client_main(void *arg)
{
    struct client *c = arg;
    int i;

    for (i = 0; i < 10; i++) check_shuffled(c->e, &c->seed, 1 + (size_t)rand_r(&c->seed) % 40);
    return NULL;
}

/* Several callers at once share batches: still the bits of the pair alone. */
static void test_same_bits_under_load(void **state)
{
    struct rr_engine *e = open_engine(2, 2048);
    struct client clients[6];
    pthread_t threads[6];
    struct rr_stats stats;
    size_t i;

    (void)state;
    for (i = 0; i < 6; i++) {
        clients[i] = (struct client){ e, (unsigned)i + 1 };
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    rr_engine_stats(e, &stats);
    assert_int_equal(stats.requests_done, 60);
    assert_int_equal(stats.queue_requests, 0);
    assert_int_equal(stats.queue_pairs, 0);
    assert_int_equal(stats.queue_tokens, 0);
    rr_close(e);
}

/* ---- cache and equal documents -------------------------------------------------------------- */

static void test_duplicates(void **state)
{
    struct rr_engine *e = open_engine(1, 0);
    struct rr_text docs[5] = { ref.doc[0], ref.doc[1], ref.doc[0], ref.doc[0], ref.doc[1] };
    struct rr_request req = { .query = ref.query[0], .documents = docs, .n_documents = 5 };
    struct rr_result *r = score(e, &req);
    struct rr_stats stats;

    (void)state;
    rr_engine_stats(e, &stats);
    assert_int_equal(r->n_duplicates, 3);
    assert_int_equal(stats.pairs_done, 2);
    assert_int_equal(stats.duplicate_pairs, 3);
    assert_memory_equal(&r->scores[2], &r->scores[0], sizeof(r->scores[0]));
    assert_memory_equal(&r->scores[4], &r->scores[1], sizeof(r->scores[0]));
    assert_int_equal(r->tokens, 3 * r->scores[0].tokens + 2 * r->scores[1].tokens);
    assert_same_bits(r->scores[3].logit, ref.base[0]);
    rr_result_free(r);
    rr_close(e);
}

static void test_cache(void **state)
{
    static const struct {
        uint32_t max_length;
        uint8_t truncate_side;
        bool no_cache;
        size_t cached;
        const char *why;
    } cases[] = {
        { 0, RR_TRUNCATE_MODEL, false, 0, "first time" },
        { 0, RR_TRUNCATE_RIGHT, false, 20, "the same again, which the model does itself" },
        { 512, RR_TRUNCATE_MODEL, false, 20, "the same window by its number" },
        { 64, RR_TRUNCATE_MODEL, false, 0, "another window" },
        { 64, RR_TRUNCATE_MODEL, false, 20, "another window, again" },
        { 64, RR_TRUNCATE_LEFT, false, 0, "cut from the other side" },
        { 0, RR_TRUNCATE_MODEL, true, 0, "the caller wants none" },
    };
    struct rr_options opt;
    struct rr_engine *e;
    struct rr_error err;
    struct rr_stats stats;
    struct rr_score first[20];
    struct rr_text docs[20];
    size_t c, i, n = 0;

    (void)state;
    for (c = 0; n < 20; c++) { /* twenty that differ */
        for (i = 0; i < n && !rr_text_eq(docs[i], ref.doc[c]); i++) {
        }
        if (i == n) docs[n++] = ref.doc[c];
    }
    rr_options_init(&opt);
    opt.model = MODEL;
    opt.device = "cpu";
    opt.cache_bytes = 1 << 20;
    assert_int_equal(rr_open(&e, &opt, &err), RR_OK);
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_request req = { .query = ref.query[0], .documents = docs, .n_documents = 20,
                                  .max_length = cases[c].max_length,
                                  .truncate_side = cases[c].truncate_side,
                                  .no_cache = cases[c].no_cache };
        struct rr_result *r = score(e, &req);

        if (r->n_cached != cases[c].cached) fail_msg("%s: %zu", cases[c].why, r->n_cached);
        if (c == 0) memcpy(first, r->scores, sizeof(first));
        for (i = 0; i < 20 && (c < 3 || cases[c].no_cache); i++) {
            assert_same_bits(r->scores[i].logit, first[i].logit);
            assert_int_equal(r->scores[i].tokens, first[i].tokens);
            assert_int_equal(r->scores[i].truncated, first[i].truncated);
        }
        rr_result_free(r);
    }
    rr_engine_stats(e, &stats);
    assert_int_equal(stats.cache_hits, 60);
    assert_int_equal(stats.cache_entries, 60);
    rr_close(e);
}

/* ---- scores that are no numbers -------------------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
    char buf[65536];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    size_t n;

    assert_non_null(in);
    assert_non_null(out);
    while ((n = fread(buf, 1, sizeof(buf), in)) > 0) assert_int_equal(fwrite(buf, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* Overwrites the first value of a tensor of a safetensors file. */
static void poke_tensor(const char *path, const char *name, float value)
{
    FILE *f = fopen(path, "r+b");
    uint64_t len;
    char *header;
    json_t *root, *entry;
    long at;

    assert_non_null(f);
    assert_int_equal(fread(&len, 8, 1, f), 1);
    header = malloc(len);
    assert_int_equal(fread(header, 1, len, f), len);
    root = json_loadb(header, len, 0, NULL);
    entry = json_object_get(json_object_get(root, name), "data_offsets");
    assert_non_null(entry);
    at = (long)(8 + len) + (long)json_integer_value(json_array_get(entry, 0));
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite(&value, sizeof(value), 1, f), 1);
    assert_int_equal(fclose(f), 0);
    json_decref(root);
    free(header);
}

/* A model whose weights hold a NaN is caught when it is opened, by the first forward. */
static void test_not_a_number(void **state)
{
    static const char *const files[] = { "config.json", "tokenizer.json", "tokenizer_config.json",
                                         "model.safetensors" };
    char dir[] = "/tmp/rerankd-test-XXXXXX", from[256], to[256];
    struct rr_options opt;
    struct rr_engine *e;
    struct rr_error err;
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    for (i = 0; i < 4; i++) {
        snprintf(from, sizeof(from), MODEL "/%s", files[i]);
        snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
        copy_file(from, to);
    }
    poke_tensor(to, "classifier.out_proj.bias", strtof("nan", NULL));
    rr_options_init(&opt);
    opt.model = dir;
    opt.device = "cpu";
    assert_int_equal(rr_open(&e, &opt, &err), RR_ENONFINITE);
    assert_null(e);
    poke_tensor(to, "classifier.out_proj.bias", 1e30f);
    if (rr_open(&e, &opt, &err)) fail_msg("%s", err.msg); /* odd, but finite */
    rr_close(e);
    for (i = 0; i < 4; i++) {
        snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
        unlink(to);
    }
    rmdir(dir);
}

/* ---- requests that end otherwise ----------------------------------------------------------- */

static void test_bad_requests(void **state)
{
    struct rr_engine *e = open_engine(1, 0);
    char *longest = calloc(1, 40000);
    struct rr_text doc = { "x", 1 };
    struct rr_text long_doc = { longest, 39999 };
    struct {
        struct rr_request req;
        int rc;
        const char *why;
    } cases[] = {
        { { .query = { "q", 1 } }, RR_EINVAL, "no documents" },
        { { .query = { "q", 1 }, .documents = &doc, .n_documents = 1, .max_length = 513 },
          RR_EINVAL, "window larger than the model's" },
        { { .query = { "q", 1 }, .documents = &doc, .n_documents = 1, .max_length = 2 }, RR_EINVAL,
          "window smaller than the special tokens" },
        { { .query = { "q", 1 }, .documents = &doc, .n_documents = 1,
            .priority = (enum rr_priority)2 }, RR_EINVAL, "no such priority" },
        { { .query = { "q", 1 }, .documents = &doc, .n_documents = 1, .truncate_side = 3 },
          RR_EINVAL, "no such side" },
        { { .query = { "q", 1 }, .documents = &doc, .n_documents = 1,
            .window = { 10, 5, (enum rr_pooling)3 } }, RR_EINVAL, "no such pooling" },
        { { .query = { "q", 1 }, .documents = &long_doc, .n_documents = 1, .no_truncate = true },
          RR_ETOOBIG, "too long and may not be cut" },
        { { .query = { "q", 1 }, .documents = &doc, .n_documents = 1, .timeout_ns = 1 },
          RR_ETIMEDOUT, "late before it began" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < 39999; i++) longest[i] = i % 4 == 3 ? ' ' : "abcdefgh"[(i / 4) % 8];
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rr_result *r = NULL;
        struct rr_error err = { 0 };

        if (rr_score(e, &cases[i].req, &r, &err) != cases[i].rc)
            fail_msg("%s: got %s", cases[i].why, rr_status_name(err.code));
        assert_null(r);
        assert_true(err.msg[0] != 0);
    }
    rr_close(e);
    free(longest);
}

/* One text of many is not UTF-8: which. */
static void test_bad_text(void **state)
{
    const struct rr_text good = { "x", 1 }, bad = { "a\xff", 2 };
    struct rr_engine *e = open_engine(1, 0);
    struct rr_text docs[40];
    struct rr_request req = { .query = good, .documents = docs, .n_documents = RR_COUNT(docs) };
    struct rr_result *r;
    struct rr_error err;
    size_t i, windows;

    (void)state;
    for (i = 0; i < RR_COUNT(docs); i++) docs[i] = i == 37 ? bad : good;
    for (windows = 0; windows < 2; windows++) {
        req.window.size = windows ? 100 : 0;
        assert_int_equal(rr_score(e, &req, &r, &err), RR_EINVAL);
        assert_string_equal(err.msg, "documents[37]: tokenizer: the text is not valid UTF-8");
    }
    req.query = bad;
    assert_int_equal(rr_score(e, &req, &r, &err), RR_EINVAL);
    assert_string_equal(err.msg, "query: tokenizer: the text is not valid UTF-8");
    rr_close(e);
}

static void test_truncation_is_reported(void **state)
{
    struct rr_engine *e = open_engine(1, 0);
    struct rr_text docs[2] = { { "un deux trois quatre cinq six sept huit neuf dix", 48 },
                               { "un", 2 } };
    struct rr_request req = { .query = { "nombres", 7 }, .documents = docs, .n_documents = 2,
                              .max_length = 16 };
    struct rr_result *r = score(e, &req);

    (void)state;
    assert_true(r->scores[0].truncated);
    assert_int_equal(r->scores[0].tokens, 16);
    assert_false(r->scores[1].truncated);
    assert_int_equal(r->tokens, 16 + r->scores[1].tokens);
    rr_result_free(r);
    rr_close(e);
}

struct tally {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int calls, ok, canceled, other;
};

static void count(void *user, struct rr_result *r, const struct rr_error *err)
{
    struct tally *t = user;

    pthread_mutex_lock(&t->lock);
    t->calls++;
    t->ok += err->code == RR_OK;
    t->canceled += err->code == RR_ECANCELED;
    t->other += err->code != RR_OK && err->code != RR_ECANCELED;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    rr_result_free(r);
}

/* A queue of two requests: the third is refused, its on_done never comes; closing finishes what
 * was accepted. */
static void test_full_queue(void **state)
{
    struct tally t = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    struct rr_options opt;
    struct rr_engine *e;
    struct rr_error err;
    struct rr_text docs[64];
    struct rr_request req = { .query = ref.query[0], .documents = docs, .n_documents = 64 };
    int accepted = 0, busy = 0, i;

    (void)state;
    for (i = 0; i < 64; i++) docs[i] = ref.doc[(size_t)i % ref.n_pairs];
    rr_options_init(&opt);
    opt.model = MODEL;
    opt.device = "cpu";
    opt.queue_requests = 2;
    assert_int_equal(rr_open(&e, &opt, &err), RR_OK);
    for (i = 0; i < 50; i++) {
        int rc = rr_submit(e, &req, count, &t, NULL, &err);

        assert_true(rc == RR_OK || rc == RR_EBUSY);
        accepted += rc == RR_OK;
        busy += rc == RR_EBUSY;
    }
    assert_true(accepted >= 2);
    assert_true(busy > 0);
    rr_close(e);
    assert_int_equal(t.calls, accepted);
    assert_int_equal(t.ok, accepted);
}

static void test_cancel(void **state)
{
    struct tally t = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    struct rr_engine *e = open_engine(1, 512);
    struct rr_text docs[64];
    struct rr_request req = { .query = ref.query[0], .documents = docs, .n_documents = 64 };
    struct rr_ticket *tickets[8];
    struct rr_stats stats;
    struct rr_error err;
    int i;

    (void)state;
    for (i = 0; i < 64; i++) docs[i] = ref.doc[(size_t)i % ref.n_pairs];
    /* The tally's lock keeps on_done from returning, so that the tickets stay valid. */
    pthread_mutex_lock(&t.lock);
    for (i = 0; i < 8; i++)
        assert_int_equal(rr_submit(e, &req, count, &t, &tickets[i], &err), RR_OK);
    for (i = 1; i < 8; i++) rr_cancel(e, tickets[i]);
    while (t.calls < 8) pthread_cond_wait(&t.changed, &t.lock);
    pthread_mutex_unlock(&t.lock);
    assert_int_equal(t.other, 0);
    assert_true(t.canceled >= 6);
    rr_engine_stats(e, &stats);
    assert_int_equal(stats.requests_canceled, t.canceled);
    assert_int_equal(stats.queue_tokens, 0);
    rr_close(e);
}

/* ---- faults -------------------------------------------------------------------------------- */

/* Each allocation of a request fails once: a clean error or a right answer, and nothing leaks
 * (the sanitizer build checks that). */
static void test_memory_faults(void **state)
{
    struct rr_engine *e = open_engine(1, 0);
    struct rr_request req = { .query = ref.query[0], .documents = &ref.doc[0], .n_documents = 1 };
    int failures = 0;
    uint64_t n;

    (void)state;
    for (n = 1; n < 60; n++) {
        struct rr_result *r;
        struct rr_error err;
        int rc;

        rr_mem_fault(n, false);
        rc = rr_score(e, &req, &r, &err);
        rr_mem_fault(0, false);
        if (rc) {
            assert_int_equal(rc, RR_ENOMEM);
            failures++;
        } else {
            assert_same_bits(r->scores[0].logit, ref.base[0]);
            rr_result_free(r);
        }
    }
    assert_true(failures >= 3);
    rr_close(e);
}

/* rr_open fails cleanly at whichever allocation. */
static void test_open_faults(void **state)
{
    struct rr_options opt;
    struct rr_error err;
    uint64_t n, step = 1;
    int rc = RR_ENOMEM;

    (void)state;
    rr_options_init(&opt);
    opt.model = MODEL;
    opt.device = "cpu";
    for (n = 1; rc != RR_OK && n < 2000000; n += step) {
        struct rr_engine *e;

        rr_mem_fault(n, true);
        rc = rr_open(&e, &opt, &err);
        rr_mem_fault(0, false);
        if (rc == RR_OK)
            rr_close(e);
        else
            assert_null(e);
        step = 1 + n / 12; /* every early one, a sample of the many while files are read */
    }
    assert_int_equal(rc, RR_OK);
}

static void test_open_errors(void **state)
{
    static const struct {
        const char *model, *device, *isa, *dtype;
        uint32_t max_length;
        bool fallback;
        int rc;
        const char *part, *why;
    } cases[] = {
        { "", "cpu", "auto", "auto", 0, true, RR_EINVAL, "model", "no folder" },
        { "/nowhere", "cpu", "auto", "auto", 0, true, RR_ENOENT, "/nowhere", "missing folder" },
        { MODEL, "tpu", "auto", "auto", 0, false, RR_EDEVICE, "tpu", "no such backend" },
        { MODEL, "cuda:x", "auto", "auto", 0, true, RR_EINVAL, "cuda:x", "not a number" },
        { MODEL, "cpu", "sse9", "auto", 0, true, RR_ENOTSUP, "sse9", "no such level" },
        { MODEL, "cpu", "auto", "f7", 0, true, RR_ENOTSUP, "f7", "no such precision" },
        { MODEL, "cpu", "auto", "auto", 100000, true, RR_EINVAL, "100000", "window too large" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rr_options opt;
        struct rr_engine *e;
        struct rr_error err = { 0 };

        rr_options_init(&opt);
        opt.model = cases[i].model;
        opt.device = cases[i].device;
        opt.isa = cases[i].isa;
        opt.dtype = cases[i].dtype;
        opt.max_length = cases[i].max_length;
        opt.fallback = cases[i].fallback;
        if (rr_open(&e, &opt, &err) != cases[i].rc)
            fail_msg("%s: got %s: %s", cases[i].why, rr_status_name(err.code), err.msg);
        if (!strstr(err.msg, cases[i].part))
            fail_msg("%s: no \"%s\" in: %s", cases[i].why, cases[i].part, err.msg);
        assert_null(e);
    }
}

/* "" is no cache, like NULL, and not the current folder. */
static void test_no_cache_dir(void **state)
{
    static const char *const none[] = { "", NULL };
    char dir[] = "/tmp/rerankd-test-XXXXXX", here[256], model[512];
    struct rr_options opt;
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_non_null(getcwd(here, sizeof(here)));
    snprintf(model, sizeof(model), "%s/" MODEL, here);
    assert_int_equal(chdir(dir), 0);
    rr_options_init(&opt);
    opt.model = model;
    opt.device = "cpu";
    opt.packed_cache = true;
    for (i = 0; i < RR_COUNT(none); i++) {
        struct rr_error err = { 0 };
        struct rr_engine *e;

        opt.cache_dir = none[i];
        assert_int_equal(rr_open(&e, &opt, &err), RR_OK);
        assert_int_equal(rr_choose_dtype(e, none[i], "f32", "why", &err), RR_EINVAL);
        assert_non_null(strstr(err.msg, "no cache folder was given"));
        assert_int_equal(rr_choose_dtype(e, dir, "fp8", "why", &err), RR_EINVAL);
        assert_non_null(strstr(err.msg, "found \"fp8\", expected f32, bf16 or int8"));
        rr_close(e);
    }
    assert_int_equal(chdir(here), 0);
    assert_int_equal(rmdir(dir), 0); /* it is empty */
}

/* A program that was built with a header of another version: nothing behind its struct is written,
 * and it is told why it cannot go on. */
static void test_options_of_other_sizes(void **state)
{
    static const size_t sizes[] = { sizeof(size_t), offsetof(struct rr_options, devices),
                                    sizeof(struct rr_options) + 64 };
    size_t i, k;

    (void)state;
    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        union {
            struct rr_options opt;
            unsigned char bytes[sizeof(struct rr_options) + 128];
        } u;
        struct rr_engine *e;
        struct rr_error err;

        memset(&u, 0xa5, sizeof(u));
        rr_options_init_sized(&u.opt, sizes[i]);
        assert_int_equal(u.opt.struct_size, sizes[i]);
        for (k = sizes[i]; k < sizeof(u); k++) assert_int_equal(u.bytes[k], 0xa5);
        for (k = sizeof(u.opt); k < sizes[i]; k++) assert_int_equal(u.bytes[k], 0);
        if (sizes[i] > sizeof(size_t)) {
            assert_string_equal(u.opt.dtype, "auto");
            assert_int_equal(u.opt.queue_requests, 4096);
            u.opt.model = MODEL;
        }
        assert_int_equal(rr_open(&e, &u.opt, &err), RR_EINVAL);
        assert_non_null(strstr(err.msg, "header of librerank"));
    }
}

/* An unusable GPU with fallback: the CPU serves and says so. */
static void test_fallback(void **state)
{
    struct rr_options opt;
    struct rr_engine *e;
    struct rr_error err;

    (void)state;
    if (getenv("RR_TEST_GPU")) skip();
    rr_options_init(&opt);
    opt.model = MODEL;
    opt.device = "cuda";
    assert_int_equal(rr_open(&e, &opt, &err), RR_OK);
    assert_true(rr_engine_info(e)->fallback_active);
    assert_string_equal(rr_engine_info(e)->device, "cpu");
    rr_close(e);
    opt.fallback = false;
    assert_int_not_equal(rr_open(&e, &opt, &err), RR_OK);
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void test_info(void **state)
{
    struct rr_options opt;
    struct rr_info info;
    struct rr_engine *e = open_engine(2, 0);
    const struct rr_info *i = rr_engine_info(e);
    struct rr_error err;

    (void)state;
    assert_string_equal(i->model, "tiny-xlmr");
    assert_string_equal(i->architecture, "XLMRobertaForSequenceClassification");
    assert_int_equal(i->max_length, 512);
    assert_int_equal(i->threads, 2);
    assert_int_equal(i->layers, 3);
    assert_int_equal(i->batch_tokens, 2 * 2 * 512); /* of so small a model; else half as many */
    rr_options_init(&opt);
    opt.model = MODEL;
    opt.device = "cpu";
    opt.threads = 2;
    assert_int_equal(rr_inspect(&opt, &info, &err), RR_OK);
    assert_memory_equal(&info, i, sizeof(info));
    rr_close(e);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(rr_status_name(RR_OK), "RR_OK");
    assert_string_equal(rr_status_name(RR_EINTERNAL), "RR_EINTERNAL");
    assert_string_equal(rr_status_name(RR_EINTERNAL + 1), "unknown status");
    assert_string_equal(rr_gpu_throttle_name(0), "power");
    assert_string_equal(rr_gpu_throttle_name(RR_GPU_THROTTLES - 1), "setting");
    assert_null(rr_gpu_throttle_name(RR_GPU_THROTTLES));
}

/* Behind the last network there is none, however far. */
static void test_supported(void **state)
{
    struct rr_support s;
    size_t n = 0;

    (void)state;
    while (rr_supported(n, &s)) n++;
    assert_true(n > 10);
    assert_false(rr_supported(n + 1, &s));
    assert_false(rr_supported(n + 20, &s));
    assert_false(rr_supported(SIZE_MAX, &s));
}

static void test_tokenize(void **state)
{
    struct rr_engine *e = open_engine(1, 0);
    struct rr_text text = { "Bonjour <mask> !", 16 };
    struct rr_tokens *t;
    struct rr_error err;
    size_t i;

    (void)state;
    assert_int_equal(rr_tokenize(e, text, true, &t, &err), RR_OK);
    assert_true(t->n > 4);
    assert_int_equal(t->tokens[0].id, 0);
    assert_true(t->tokens[0].special);
    assert_true(t->tokens[t->n - 1].special);
    for (i = 1; i + 1 < t->n; i++) {
        assert_true(t->tokens[i].end <= text.len);
        assert_true(t->tokens[i].start <= t->tokens[i].end);
    }
    assert_int_equal(t->tokens[1].start, 0);
    assert_int_equal(t->tokens[t->n - 2].end, 16);
    rr_tokens_free(t);
    assert_true(rr_text_is(rr_token_piece(e, 0), "<s>"));
    assert_int_equal(rr_token_piece(e, 1 << 30).len, 0);
    rr_close(e);
}

/* Special tokens that the text itself has are those of its bytes, not the template's. */
static void test_tokenize_specials(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        uint32_t spans[5][2];
    } cases[] = {
        { "<s>", 3, { { 0, 0 }, { 0, 3 } } },
        { "<s><s>", 4, { { 0, 0 }, { 0, 3 }, { 3, 6 } } },
        { "</s>", 3, { { 0, 0 }, { 0, 4 } } },
        { "<s></s>", 4, { { 0, 0 }, { 0, 3 }, { 3, 7 } } },
        { "", 2, { { 0, 0 } } },
    };
    struct rr_engine *e = open_engine(1, 0);
    size_t i, k;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        struct rr_tokens *t;
        struct rr_error err;

        assert_int_equal(rr_tokenize(e, rr_text(cases[i].text), true, &t, &err), RR_OK);
        assert_int_equal(t->n, cases[i].n);
        for (k = 0; k + 1 < t->n; k++) {
            assert_int_equal(t->tokens[k].start, cases[i].spans[k][0]);
            assert_int_equal(t->tokens[k].end, cases[i].spans[k][1]);
        }
        assert_int_equal(t->tokens[k].start, t->tokens[k].end);
        rr_tokens_free(t);
    }
    rr_close(e);
}

static void test_decode(void **state)
{
    struct rr_engine *e = open_engine(1, 0);
    struct rr_text text = { "Bonjour tout le monde", 21 }, back;
    int32_t ids[32], none = -1;
    struct rr_tokens *t;
    struct rr_error err;
    size_t i;

    (void)state;
    assert_int_equal(rr_tokenize(e, text, true, &t, &err), RR_OK);
    assert_true(t->n <= RR_COUNT(ids));
    for (i = 0; i < t->n; i++) ids[i] = t->tokens[i].id;
    assert_int_equal(rr_decode(e, ids, t->n, true, &back, &err), RR_OK);
    assert_true(rr_text_eq(back, text));
    rr_text_free(back);
    assert_int_equal(rr_decode(e, ids, t->n, false, &back, &err), RR_OK);
    assert_true(back.len > text.len); /* with <s> and </s> */
    rr_text_free(back);
    assert_int_equal(rr_decode(e, &none, 1, true, &back, &err), RR_OK);
    assert_int_equal(back.len, 0);
    rr_text_free(back);
    rr_tokens_free(t);
    rr_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_under_load),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_truncation_is_reported),
        cmocka_unit_test(test_no_cache_dir),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_memory_faults),
        cmocka_unit_test(test_open_faults),
        cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_options_of_other_sizes),
        cmocka_unit_test(test_fallback),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_supported),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_tokenize_specials),
        cmocka_unit_test(test_decode),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
