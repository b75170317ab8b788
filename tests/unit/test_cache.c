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

/* Everything a score depends on changes the key; the same again does not. */
static void test_key(void **state)
{
    struct rr_key all[] = {
        key_of(1, 512, 0, "query", "document"), key_of(2, 512, 0, "query", "document"),
        key_of(1, 511, 0, "query", "document"), key_of(1, 512, 1, "query", "document"),
        key_of(1, 512, 0, "quer", "ydocument"), key_of(1, 512, 0, "queryd", "ocument"),
        key_of(1, 512, 0, "", "querydocument"), key_of(1, 512, 0, "document", "query"),
        key_of(1, 512, 0, "", ""),
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
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_lru),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
