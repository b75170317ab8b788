/* SPDX-License-Identifier: Apache-2.0 */
/* test_shared.c - the shared cache against a Redis that misbehaves: nothing wrong is ever taken for
 * a score, nobody waits beyond the deadline, and all is well again when the server is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/tiers.h"
#include "fake_redis.h"
#include "support/fault.h"

enum { N = 20 };
#define PATIENCE (60 * RR_SECOND)         /* for what will happen, on a slow machine */
#define DEADLINE (30 * RR_SECOND)         /* for answers that come: nothing should wait for it */
#define AT_ONCE (10 * RR_SECOND)          /* without waiting for it, on a slow machine */
#define SHORT (200 * RR_MILLISECOND)      /* for answers that do not come */
#define SCHEDULING (150 * RR_MILLISECOND) /* what a busy machine may add to that */

static struct rr_shared *open_shared(int port, const char *more, uint64_t deadline_ns)
{
    struct rr_shared_cache config = { .deadline_ns = deadline_ns };
    struct rr_shared *s;
    struct rr_error err;
    char url[200];

    snprintf(url, sizeof(url), "redis://%s127.0.0.1:%d", more, port);
    config.url = url;
    assert_int_equal(rr_shared_open(&s, &config, &err), RR_OK);
    return s;
}

static struct rr_shared_stats stats_of(struct rr_shared *s)
{
    struct rr_shared_stats stats;

    rr_shared_stats(s, &stats);
    return stats;
}

static void wait_up(struct rr_shared *s, bool up)
{
    uint64_t end = rr_now_ns() + PATIENCE;

    while (stats_of(s).up != up) {
        if (rr_now_ns() > end) fail_msg("the circuit does not %s", up ? "close" : "open");
        usleep(1000);
    }
}

static void wait_stored(struct rr_shared *s, uint64_t n)
{
    uint64_t end = rr_now_ns() + PATIENCE;

    while (stats_of(s).stored < n) {
        if (rr_now_ns() > end) fail_msg("%llu stored", (unsigned long long)stats_of(s).stored);
        usleep(1000);
    }
}

/* Until n are stored or dropped: what a busy machine does not store within a second is dropped. */
static struct rr_shared_stats wait_settled(struct rr_shared *s, uint64_t n)
{
    uint64_t end = rr_now_ns() + PATIENCE;
    struct rr_shared_stats stats = stats_of(s);

    for (; stats.stored + stats.dropped < n; stats = stats_of(s)) {
        if (rr_now_ns() > end) fail_msg("%llu stored", (unsigned long long)stats.stored);
        usleep(1000);
    }
    return stats;
}

/* Keys from first on, and what is known of them. */
static void make(struct rr_key *keys, struct rr_cached *values, size_t n, uint64_t first)
{
    size_t i;

    for (i = 0; i < n; i++) {
        keys[i] = (struct rr_key){ (first + i) * UINT64_C(0x9E3779B97F4A7C15), first + i };
        values[i] =
            (struct rr_cached){ (float)(first + i) / 8, (uint32_t)(first + i), (first + i) & 1, 7 };
    }
}

static void store(struct rr_shared *s, uint64_t first)
{
    struct rr_key keys[N];
    struct rr_cached values[N];
    struct rr_shared_stats stats = stats_of(s);
    uint64_t before = stats.stored;
    int i;

    make(keys, values, N, first);
    for (i = 0; stats.stored < before + N; i++) {
        assert_true(i < 5);
        rr_shared_put(s, keys, values, N);
        stats = wait_settled(s, stats.stored + stats.dropped + N);
    }
}

/* Looks N keys up; whatever is found must be right. */
static size_t look_up(struct rr_shared *s, uint64_t first)
{
    struct rr_key keys[N];
    struct rr_cached values[N], out[N];
    bool hit[N];
    size_t i, n, hits = 0;

    make(keys, values, N, first);
    n = rr_shared_get(s, keys, N, out, hit);
    for (i = 0; i < N; i++) {
        if (!hit[i]) continue;
        hits++;
        assert_memory_equal(&out[i].logit, &values[i].logit, sizeof(float));
        assert_int_equal(out[i].tokens, values[i].tokens);
        assert_int_equal(out[i].truncated, values[i].truncated);
        assert_int_equal(out[i].full_tokens, 7);
    }
    assert_int_equal(hits, n);
    return hits;
}

static void test_round_trip(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", DEADLINE);
    struct rr_key bad_key = { 7, 7 };
    struct rr_cached bad = { NAN, 1, 0, 1 };
    struct rr_shared_stats stats;

    (void)state;
    wait_up(s, true);
    assert_int_equal(look_up(s, 0), 0);
    store(s, 0);
    rr_shared_put(s, &bad_key, &bad, 1); /* is left out */
    store(s, 1000);
    assert_int_equal(look_up(s, 0), N);
    assert_int_equal(look_up(s, N / 2), N / 2);
    stats = stats_of(s);
    assert_int_equal(stats.hits, N + N / 2);
    assert_int_equal(stats.misses, N + N / 2);
    assert_int_equal(stats.errors + stats.dropped + stats.invalid, 0);
    assert_int_equal(stats.stored, 2 * N);
    assert_int_equal(fake_redis_stored(f), 2 * N);
    assert_int_equal(fake_redis_connections(f), 1);
    rr_shared_close(s);
    fake_redis_stop(f);
}

/* As long as it takes is a time, too. */
static void test_no_deadline(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", UINT64_MAX);

    (void)state;
    wait_up(s, true);
    store(s, 0);
    assert_int_equal(look_up(s, 0), N);
    rr_shared_close(s);
    fake_redis_stop(f);
}

/* A struct of zeros. */
static void test_no_url(void **state)
{
    struct rr_shared_cache config = { 0 };
    struct rr_shared *s;
    struct rr_error err;

    (void)state;
    assert_int_equal(rr_shared_open(&s, &config, &err), RR_EINVAL);
    assert_non_null(strstr(err.msg, "redis-url"));
}

/* One row for each way to misbehave: what one look-up gives, and whether the link survives. */
static void test_misbehaviour(void **state)
{
    static const struct {
        enum fake_mode mode;
        const char *error;
        size_t hits, invalid;
        bool up;
    } rows[] = {
        { FAKE_BYTEWISE, NULL, N, 0, true },
        { FAKE_WRONG_LENGTH, NULL, 0, N, true },
        { FAKE_FLIPPED, NULL, 0, N, true },
        { FAKE_SWAPPED, NULL, 0, N, true },
        { FAKE_NUMBERS, NULL, 0, N, true },
        { FAKE_CUT, NULL, 0, 0, false },
        { FAKE_GARBAGE, NULL, 0, 0, false },
        { FAKE_HUGE_BULK, NULL, 0, 0, false },
        { FAKE_HUGE_ARRAY, NULL, 0, 0, false },
        { FAKE_FLOOD, NULL, 0, 0, false },
        { FAKE_SHORT_ARRAY, NULL, 0, 0, false },
        { FAKE_NESTED, NULL, 0, 0, false },
        { FAKE_NOT_ARRAY, NULL, 0, 0, false },
        { FAKE_RESP3, NULL, 0, 0, false },
        { FAKE_EXTRA, NULL, 0, 0, false },
        { FAKE_ERROR, "-LOADING Redis is loading the dataset in memory", 0, 0, false },
        { FAKE_ERROR, "-MOVED 3999 127.0.0.1:6381", 0, 0, false },
        { FAKE_ERROR, "-CROSSSLOT Keys in request don't hash to the same slot", 0, 0, false },
        { FAKE_ERROR, "-NOPERM this user has no permissions to run 'mget'", 0, 0, false },
        { FAKE_ERROR, "-MASTERDOWN Link with MASTER is down", 0, 0, false },
        { FAKE_ERROR, "-", 0, 0, false },
    };
    struct fake_redis *f = fake_redis_start(0, NULL);
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        struct rr_shared *s = open_shared(fake_redis_port(f), "", DEADLINE); /* a fresh back-off */
        struct rr_shared_stats stats;
        uint64_t start;

        wait_up(s, true);
        store(s, 0);
        fake_redis_mode(f, rows[i].mode, rows[i].error);
        start = rr_now_ns();
        assert_int_equal(look_up(s, 0), rows[i].hits);
        assert_true(rr_now_ns() - start < AT_ONCE);
        stats = stats_of(s);
        if (stats.up != rows[i].up) fail_msg("row %zu: up is %d", i, stats.up);
        assert_int_equal(stats.invalid, rows[i].invalid);
        assert_int_equal(stats.errors, N - rows[i].hits);
        if (!rows[i].up) {
            start = rr_now_ns();
            assert_int_equal(look_up(s, 0), 0); /* the circuit is open: no wait at all */
            assert_true(rr_now_ns() - start < AT_ONCE);
        }
        fake_redis_mode(f, FAKE_GOOD, NULL);
        wait_up(s, true);
        assert_int_equal(look_up(s, 0), N);
        rr_shared_close(s);
    }
    fake_redis_stop(f);
}

/* A server that stands still costs one deadline, and no more.  A machine that is busy elsewhere may
 * make it longer once, but not every time. */
static void test_silent(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", SHORT);
    uint64_t start, took, end;
    bool in_time = false;
    int i, k;

    (void)state;
    wait_up(s, true);
    store(s, 0);
    for (i = 0; i < 20 && !in_time; i++) {
        wait_up(s, true);
        fake_redis_mode(f, FAKE_SILENT, NULL);
        start = rr_now_ns();
        assert_int_equal(look_up(s, 0), 0);
        took = rr_now_ns() - start;
        in_time = took >= SHORT && took < SHORT + SCHEDULING;
        assert_false(stats_of(s).up);
        start = rr_now_ns();
        for (k = 0; k < 100; k++) assert_int_equal(look_up(s, 0), 0);
        assert_true(rr_now_ns() - start < AT_ONCE); /* the circuit is open: not 100 deadlines */
        assert_false(stats_of(s).up);
        fake_redis_mode(f, FAKE_GOOD, NULL);
    }
    assert_true(in_time);
    assert_int_equal(stats_of(s).invalid, 0);
    end = rr_now_ns() + PATIENCE;
    do {
        assert_true(rr_now_ns() < end);
        wait_up(s, true);
    } while (look_up(s, 0) != N);
    rr_shared_close(s);
    fake_redis_stop(f);
}

/* The answer to one look-up comes when the next is under way: on a connection that is gone. */
static void test_late_reply(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", SHORT);
    unsigned before;
    int i;

    (void)state;
    wait_up(s, true);
    store(s, 0);
    store(s, 1000);
    for (i = 0; i < 3; i++) {
        wait_up(s, true);
        before = fake_redis_connections(f);
        fake_redis_mode(f, FAKE_LATE, NULL);
        assert_int_equal(look_up(s, 0), 0);
        fake_redis_mode(f, FAKE_GOOD, NULL);
        wait_up(s, true);
        (void)look_up(s, 1000); /* checks that what it finds is of these keys */
        assert_true(fake_redis_connections(f) > before);
    }
    rr_shared_close(s);
    fake_redis_stop(f);
}

/* Down at start, there later, gone, back. */
static void test_comes_and_goes(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    int port = fake_redis_port(f);
    struct rr_shared *s;
    uint64_t start;

    (void)state;
    fake_redis_stop(f);
    start = rr_now_ns();
    s = open_shared(port, "", DEADLINE);
    assert_int_equal(look_up(s, 0), 0);
    assert_true(rr_now_ns() - start < AT_ONCE);
    assert_false(stats_of(s).up);
    f = fake_redis_start(port, NULL);
    assert_non_null(f);
    wait_up(s, true);
    store(s, 0);
    assert_int_equal(look_up(s, 0), N);
    fake_redis_stop(f);
    assert_int_equal(look_up(s, 0), 0);
    wait_up(s, false);
    f = fake_redis_start(port, NULL);
    assert_non_null(f);
    wait_up(s, true);
    store(s, 0);
    assert_int_equal(look_up(s, 0), N);
    rr_shared_close(s);
    fake_redis_stop(f);
}

/* An idle connection that the server closed costs nothing. */
static void test_idle_close(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    int port = fake_redis_port(f);
    struct rr_shared *s = open_shared(port, "", DEADLINE);

    (void)state;
    wait_up(s, true);
    fake_redis_stop(f); /* and a new one takes its place before anybody asks */
    f = fake_redis_start(port, NULL);
    assert_non_null(f);
    store(s, 0);
    assert_int_equal(look_up(s, 0), N);
    assert_int_equal(stats_of(s).errors, 0);
    rr_shared_close(s);
    fake_redis_stop(f);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_login(void **state)
{
    struct fake_redis *f = fake_redis_start(0, "s3cret");
    char path[] = "/tmp/rr_password_XXXXXX", url[100];
    struct rr_shared_cache config = { .url = url, .password_file = path, .deadline_ns = DEADLINE };
    struct rr_shared *s;
    struct rr_error err;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    s = open_shared(fake_redis_port(f), "me:s3cret@", DEADLINE);
    wait_up(s, true);
    rr_shared_close(s);

    snprintf(url, sizeof(url), "redis://127.0.0.1:%d/7", fake_redis_port(f));
    assert_int_equal(rr_shared_open(&s, &config, &err), RR_EFORMAT); /* the file is empty */
    write_file(path, "wrong\n");
    assert_int_equal(rr_shared_open(&s, &config, &err), RR_OK);
    while (fake_redis_connections(f) < 3) usleep(1000);
    assert_false(stats_of(s).up);
    write_file(path, "s3cret\nsecond line\n"); /* it is read again */
    wait_up(s, true);
    assert_int_equal(fake_redis_db(f), 7);
    rr_shared_close(s);
    unlink(path);
    assert_int_equal(rr_shared_open(&s, &config, &err), RR_ENOENT);
    assert_null(s);
    fake_redis_stop(f);
}

/* False: the machine was too busy to store a batch within its second. */
static bool queue_once(void)
{
    enum { MANY = 20000, ROOM = 16384 };
    struct rr_shared_stats stats;
    struct fake_redis *f = fake_redis_start(0, NULL);
    int port = fake_redis_port(f);
    struct rr_key *keys = calloc(MANY, sizeof(*keys));
    struct rr_cached *values = calloc(MANY, sizeof(*values));
    struct rr_shared *s;
    uint64_t start;

    assert_true(keys && values);
    fake_redis_stop(f);
    s = open_shared(port, "", DEADLINE);
    make(keys, values, MANY, 0);
    start = rr_now_ns();
    rr_shared_put(s, keys, values, MANY);
    assert_true(rr_now_ns() - start < AT_ONCE);
    assert_int_equal(stats_of(s).dropped, MANY - ROOM);
    f = fake_redis_start(port, NULL);
    assert_non_null(f);
    stats = wait_settled(s, MANY);
    if (stats.stored == ROOM) {
        wait_up(s, true);
        assert_int_equal(look_up(s, MANY - N), N);
        assert_int_equal(look_up(s, 0), 0);
    }
    rr_shared_close(s);
    fake_redis_stop(f);
    free(keys);
    free(values);
    return stats.stored == ROOM;
}

/* Stores that nobody takes: the newest are kept, the callers never wait. */
static void test_queue(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 5 && !queue_once(); i++) continue;
    assert_true(i < 5);
}

/* What is queued at close still goes out; a server that stands still does not hold close up. */
static void test_close(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", DEADLINE);
    struct rr_key keys[N];
    struct rr_cached values[N];
    uint64_t start, took = UINT64_MAX;
    int i;

    (void)state;
    wait_up(s, true);
    make(keys, values, N, 0);
    rr_shared_put(s, keys, values, N);
    rr_shared_close(s);
    assert_int_equal(fake_redis_stored(f), N);
    for (i = 0; i < 5 && took >= 3 * RR_SECOND;
         i++) { /* again: the machine may be busy elsewhere */
        fake_redis_mode(f, FAKE_GOOD, NULL);
        s = open_shared(fake_redis_port(f), "", DEADLINE);
        wait_up(s, true);
        fake_redis_mode(f, FAKE_SILENT, NULL);
        rr_shared_put(s, keys, values, N);
        start = rr_now_ns();
        rr_shared_close(s);
        took = rr_now_ns() - start;
    }
    assert_true(took < 3 * RR_SECOND);
    fake_redis_stop(f);
}

/* Refused stores pause the stores; look-ups go on and the circuit stays closed. */
static void test_refused_stores(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", DEADLINE);
    struct rr_key keys[N];
    struct rr_cached values[N];
    uint64_t end = rr_now_ns() + PATIENCE;

    (void)state;
    wait_up(s, true);
    store(s, 0);
    fake_redis_mode(f, FAKE_ERROR, "-OOM command not allowed when used memory > 'maxmemory'.");
    make(keys, values, N, 500);
    rr_shared_put(s, keys, values, N);
    while (stats_of(s).dropped < N && rr_now_ns() < end) usleep(1000);
    assert_int_equal(stats_of(s).dropped, N);
    assert_true(stats_of(s).up);
    fake_redis_mode(f, FAKE_GOOD, NULL);
    assert_int_equal(look_up(s, 0), N);
    store(s, 500);
    assert_int_equal(look_up(s, 500), N);
    rr_shared_close(s);
    fake_redis_stop(f);
}

/* Memory first, then the shared cache, whose answers stay in memory. */
static void test_tiers(void **state)
{
    enum { MANY = 600 };
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", DEADLINE);
    struct rr_tiers both = { NULL, s }, memory = { NULL, NULL }, none = { NULL, NULL };
    struct rr_key keys[MANY];
    struct rr_cached values[MANY], out[MANY];
    struct rr_error err;
    bool hit[MANY];
    size_t i;

    (void)state;
    assert_int_equal(rr_lru_open(&both.memory, 1 << 20, &err), RR_OK);
    memory.memory = both.memory;
    wait_up(s, true);
    make(keys, values, MANY, 0);
    for (i = 0; i < MANY; i++) { /* a third here, a third there, a third nowhere */
        if (i % 3 == 0) rr_tiers_put(&memory, &keys[i], &values[i], 1);
        if (i % 3 == 1) rr_shared_put(s, &keys[i], &values[i], 1);
    }
    wait_stored(s, MANY / 3);
    rr_tiers_get(&both, keys, MANY, out, hit);
    for (i = 0; i < MANY; i++) {
        assert_int_equal(hit[i], i % 3 != 2);
        if (hit[i]) assert_true(out[i].logit == values[i].logit && out[i].tokens == i);
    }
    assert_int_equal(stats_of(s).hits, MANY / 3);
    rr_tiers_get(&memory, keys, MANY, out, hit);
    for (i = 0; i < MANY; i++) assert_int_equal(hit[i], i % 3 != 2);
    rr_tiers_put(&both, &keys[2], &values[2], 1);
    wait_stored(s, MANY / 3 + 1);
    rr_tiers_get(&memory, &keys[2], 1, out, hit);
    assert_true(hit[0]);
    rr_tiers_put(&none, keys, values, MANY);
    rr_tiers_get(&none, keys, MANY, out, hit);
    for (i = 0; i < MANY; i++) assert_false(hit[i]);
    rr_lru_close(both.memory);
    rr_shared_close(s);
    fake_redis_stop(f);
}

struct hammer {
    struct rr_shared *s;
    uint64_t first;
    size_t hits;
};

static void *hammer(void *arg)
{
    struct hammer *h = arg;
    struct rr_key keys[N];
    struct rr_cached values[N];
    int i;

    for (i = 0; i < 200; i++) {
        make(keys, values, N, h->first);
        if (i % 10 == 0) rr_shared_put(h->s, keys, values, N);
        h->hits += look_up(h->s, h->first);
    }
    return NULL;
}

/* Many at once, more than there are links: everybody gets the values of his keys. */
static void test_threads(void **state)
{
    enum { THREADS = 12 };
    struct fake_redis *f = fake_redis_start(0, NULL);
    struct rr_shared *s = open_shared(fake_redis_port(f), "", DEADLINE);
    struct hammer h[THREADS];
    pthread_t t[THREADS];
    size_t i, hits = 0;

    (void)state;
    wait_up(s, true);
    for (i = 0; i < THREADS; i++) {
        h[i] = (struct hammer){ s, i * 100, 0 };
        assert_int_equal(pthread_create(&t[i], NULL, hammer, &h[i]), 0);
    }
    for (i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        hits += h[i].hits;
    }
    assert_true(hits > 0);
    assert_int_equal(stats_of(s).hits, hits);
    assert_true(fake_redis_connections(f) <= 8);
    assert_int_equal(stats_of(s).errors, 0);
    rr_shared_close(s);
    fake_redis_stop(f);
}

/* Opening, and look-ups and stores in every state of the connection, with short memory. */
static int whole_life(void *user)
{
    struct rr_shared_cache config = { .url = user, .deadline_ns = DEADLINE };
    struct rr_shared *s;
    struct rr_error err;
    int rc = rr_shared_open(&s, &config, &err);

    if (rc) return rc;
    (void)look_up(s, 0);
    rr_shared_close(s);
    return RR_OK;
}

static void test_short_memory(void **state)
{
    struct fake_redis *f = fake_redis_start(0, NULL);
    char url[100];

    (void)state;
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", fake_redis_port(f));
    fault_each(whole_life, url);
    fake_redis_stop(f);
}

static int quiet(void **state)
{
    (void)state;
    rr_log_set(NULL, NULL, RR_ERROR);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_misbehaviour),
        cmocka_unit_test(test_silent),         cmocka_unit_test(test_late_reply),
        cmocka_unit_test(test_comes_and_goes), cmocka_unit_test(test_idle_close),
        cmocka_unit_test(test_login),          cmocka_unit_test(test_queue),
        cmocka_unit_test(test_close),          cmocka_unit_test(test_refused_stores),
        cmocka_unit_test(test_tiers),          cmocka_unit_test(test_threads),
        cmocka_unit_test(test_short_memory),   cmocka_unit_test(test_no_deadline),
        cmocka_unit_test(test_no_url),
    };

    return cmocka_run_group_tests(tests, quiet, NULL);
}
