/* SPDX-License-Identifier: Apache-2.0 */
/* test_cache.c - keys and the in-process cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cache/key.h"
#include "cache/lru.h"

static struct rr_key key_of(uint64_t fingerprint, uint32_t max_length, uint32_t flags,
                            const char *query, const char *doc)
{
    struct rr_key_context c = { fingerprint, max_length, flags };

    return rr_key_pair(rr_key_prefix(&c, rr_text(query)), rr_text(doc));
}

static struct rr_key key_of_bytes(const char *query, size_t query_len, const char *doc,
                                  size_t doc_len)
{
    struct rr_key_context c = { 1, 512, 0 };

    return rr_key_pair(rr_key_prefix(&c, (struct rr_text){ query, query_len }),
                       (struct rr_text){ doc, doc_len });
}

/* Everything a score depends on changes the key; the same again does not. */
static void test_key(void **state)
{
    struct rr_key all[] = {
        key_of(1, 512, 0, "query", "document"),
        key_of(2, 512, 0, "query", "document"),
        key_of(1, 511, 0, "query", "document"),
        key_of(1, 512, 1, "query", "document"),
        key_of(1, 512, 0, "quer", "ydocument"),
        key_of(1, 512, 0, "queryd", "ocument"),
        key_of(1, 512, 0, "", "querydocument"),
        key_of(1, 512, 0, "document", "query"),
        key_of(1, 512, 0, "", ""),
        key_of(1, 512, 0, "caf\u00e9", "d"),  /* composed */
        key_of(1, 512, 0, "cafe\u0301", "d"), /* decomposed: other bytes, other tokens perhaps */
        key_of_bytes("q", 1, "a\0b", 3),
        key_of_bytes("q", 1, "a\0c", 3),
        key_of_bytes("q", 1, "a", 1),
        key_of_bytes("q\0", 2, "a", 1),
        key_of_bytes("q", 1, "\0a", 2),
    };
    size_t n = sizeof(all) / sizeof(all[0]), i, j;

    (void)state;
    assert_true(rr_key_eq(all[0], key_of(1, 512, 0, "query", "document")));
    for (i = 0; i < n; i++)
        for (j = 0; j < i; j++) assert_false(rr_key_eq(all[i], all[j]));
}

static struct rr_key numbered(uint64_t i)
{
    char doc[32];

    snprintf(doc, sizeof(doc), "%llu", (unsigned long long)i);
    return key_of(0, 512, 0, "q", doc);
}

/* A model of the cache in plain form would be exact LRU; per shard it is, so what was used within
 * the last n_slots uses of its shard is there, and the count of entries is bounded. */
static void test_lru(void **state)
{
    enum { N = 5000 };
    struct rr_lru *c;
    struct rr_lru_stats stats;
    struct rr_cached v;
    struct rr_error err;
    uint64_t i;

    (void)state;
    assert_int_equal(rr_lru_open(&c, 64 << 10, &err), RR_OK);
    for (i = 0; i < N; i++) {
        rr_lru_put(c, numbered(i), (struct rr_cached){ (float)i, 7, i & 1, 0 });
        assert_true(rr_lru_get(c, numbered(i), &v));
        assert_true(v.logit == (float)i && v.tokens == 7 && v.truncated == (i & 1));
        assert_true(rr_lru_get(c, numbered(0), &v)); /* used all the time: never goes */
    }
    rr_lru_stats(c, &stats);
    assert_true(stats.entries > 500 && stats.bytes <= 64 << 10);
    assert_int_equal(stats.evictions, N - stats.entries);
    assert_int_equal(stats.hits, 2 * N);
    assert_false(rr_lru_get(c, numbered(1), &v));
    rr_lru_put(c, numbered(N - 1), (struct rr_cached){ -1, 8, 0, 0 }); /* overwrites */
    assert_true(rr_lru_get(c, numbered(N - 1), &v));
    assert_true(v.logit == -1 && v.tokens == 8);
    rr_lru_close(c);
}

static void test_small(void **state)
{
    struct rr_lru *c;
    struct rr_error err;

    (void)state;
    assert_int_equal(rr_lru_open(&c, 10, &err), RR_EINVAL);
    assert_null(c);
    assert_int_equal(rr_lru_open(&c, 4096, &err), RR_OK);
    rr_lru_close(c);
    rr_mem_fault(3, true);
    assert_int_equal(rr_lru_open(&c, 1 << 20, &err), RR_ENOMEM);
    rr_mem_fault(0, false);
    assert_null(c);
}

/* Millions of pairs, some of them again and again: memory stays within the budget, those stay in the
 * cache, and every answer is that of its key. */
static void test_many(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    enum { MANY = 2 * 1000 * 1000, HOT = 10000, EVERY = 10 };
#else
    enum { MANY = 10 * 1000 * 1000, HOT = 10000, EVERY = 10 };
#endif
    const size_t budget = 64 << 20;
    struct rr_key_context context = { 1, 512, 0 };
    struct rr_key prefix = rr_key_prefix(&context, rr_text("q"));
    uint32_t i, asked = 0, hits = 0;
    struct rr_lru *c;
    struct rr_cached v;
    struct rr_error err;
    size_t before, after, peak;

    (void)state;
    rr_mem_usage(RR_MEM_CACHE, &before, &peak);
    assert_int_equal(rr_lru_open(&c, budget, &err), RR_OK);
    rr_mem_usage(RR_MEM_CACHE, &after, &peak);
    assert_true(after - before <= budget + budget / 20);
    for (i = 0; i < MANY; i++) {
        uint32_t pair = i % EVERY ? HOT + i : i / EVERY % HOT;
        struct rr_key key =
            rr_key_pair(prefix, (struct rr_text){ (const char *)&pair, sizeof(pair) });
        bool hit = rr_lru_get(c, key, &v);

        if (hit)
            assert_int_equal(v.tokens, pair);
        else
            rr_lru_put(c, key, (struct rr_cached){ 1, pair & INT32_MAX, 0, 0 });
        if (pair >= HOT) continue;
        asked++;
        hits += hit;
    }
    assert_true(hits >= (asked - HOT) / 100 * 95);
    rr_lru_close(c);
    rr_mem_usage(RR_MEM_CACHE, &after, &peak);
    assert_int_equal(after, before);
}

static uint64_t time_of_keys(uint32_t n, struct rr_key (*make)(uint32_t i))
{
    struct rr_lru *c;
    struct rr_cached v;
    struct rr_error err;
    uint64_t start = rr_now_ns();
    uint32_t i;

    assert_int_equal(rr_lru_open(&c, 64 << 20, &err), RR_OK);
    for (i = 0; i < n; i++) rr_lru_put(c, make(i), (struct rr_cached){ 0, i, 0, 0 });
    for (i = 0; i < n; i++) assert_true(rr_lru_get(c, make(i), &v) && v.tokens == i);
    rr_lru_close(c);
    return rr_now_ns() - start;
}

static struct rr_key spread_key(uint32_t i)
{
    return (struct rr_key){ i * UINT64_C(0x9E3779B97F4A7C15), i * UINT64_C(0xC2B2AE3D27D4EB4F) };
}

static struct rr_key low_bits_agree(uint32_t i)
{
    return (struct rr_key){ (uint64_t)i << 40 | 5, (uint64_t)i << 40 | 5 };
}

static struct rr_key high_bits_agree(uint32_t i)
{
    return (struct rr_key){ i, 0 };
}

/* Texts chosen so that bits of their keys agree do not make long chains. */
static void test_flood(void **state)
{
    enum { FLOOD = 50000 };
    uint64_t usual = time_of_keys(FLOOD, spread_key);

    (void)state;
    assert_true(time_of_keys(FLOOD, low_bits_agree) < 20 * usual + RR_SECOND / 10);
    assert_true(time_of_keys(FLOOD, high_bits_agree) < 20 * usual + RR_SECOND / 10);
}

static void *hammer(void *arg)
{
    struct rr_lru *c = arg;
    struct rr_cached v;
    uint64_t i;

    for (i = 0; i < 20000; i++) {
        uint64_t k = i * 7919 % 3000;

        if (rr_lru_get(c, numbered(k), &v) && v.logit != (float)k) return c;
        rr_lru_put(c, numbered(k), (struct rr_cached){ (float)k, 1, 0, 0 });
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct rr_lru *c;
    struct rr_error err;
    pthread_t t[4];
    void *bad = NULL;
    int i;

    (void)state;
    assert_int_equal(rr_lru_open(&c, 64 << 10, &err), RR_OK);
    for (i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, hammer, c), 0);
    for (i = 0; i < 4; i++) {
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
    rr_lru_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key),  cmocka_unit_test(test_lru),   cmocka_unit_test(test_small),
        cmocka_unit_test(test_many), cmocka_unit_test(test_flood), cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
