/* SPDX-License-Identifier: Apache-2.0 */
/* test_metrics.c - base/metrics: the exposition text byte for byte, bad tables, threads, faults. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "support/fault.h"

enum { REQUESTS, DEPTH, BUSY, LATENCY, N_METRICS };

static const char *const paths[] = { "/rerank", "a\"b\\c\nd" };
static const char *const codes[] = { "200", "400", "503" };
static const double seconds[] = { 0.005, 0.1, 1 };

static const struct rr_metric table[N_METRICS] = {
    [REQUESTS] = { .type = RR_METRIC_COUNTER,
                   .name = "requests_total",
                   .help = "Requests\\answered.\nAll.",
                   .labels = { { "path", paths, 2 }, { "code", codes, 3 } } },
    [DEPTH] = { .type = RR_METRIC_GAUGE, .name = "queue_depth", .help = "Waiting." },
    [BUSY] = { .type = RR_METRIC_COUNTER,
               .name = "busy_seconds_total",
               .help = "Busy.",
               .scale = 1e-9,
               .labels = { { "code", codes, 2 } } },
    [LATENCY] = { .type = RR_METRIC_HISTOGRAM,
                  .name = "latency_seconds",
                  .help = "Time.",
                  .scale = 1e-3,
                  .buckets = seconds,
                  .n_buckets = 3 },
};

static const char expected[] = "# HELP requests_total Requests\\\\answered.\\nAll.\n"
                               "# TYPE requests_total counter\n"
                               "requests_total{path=\"/rerank\",code=\"400\"} 3\n"
                               "requests_total{path=\"a\\\"b\\\\c\\nd\",code=\"503\"} 1\n"
                               "# HELP queue_depth Waiting.\n"
                               "# TYPE queue_depth gauge\n"
                               "queue_depth -4\n"
                               "# HELP busy_seconds_total Busy.\n"
                               "# TYPE busy_seconds_total counter\n"
                               "busy_seconds_total{code=\"200\"} 0.0\n"
                               "busy_seconds_total{code=\"400\"} 2.5\n"
                               "# HELP latency_seconds Time.\n"
                               "# TYPE latency_seconds histogram\n"
                               "latency_seconds_bucket{le=\"0.005\"} 1\n"
                               "latency_seconds_bucket{le=\"0.1\"} 3\n"
                               "latency_seconds_bucket{le=\"1.0\"} 3\n"
                               "latency_seconds_bucket{le=\"+Inf\"} 4\n"
                               "latency_seconds_sum 7.125\n"
                               "latency_seconds_count 4\n"
                               "# HELP info What runs.\n"
                               "# TYPE info gauge\n"
                               "info{version=\"0.1\",model=\"a\\\"b\"} 1\n";

static int fill_and_write(void *user)
{
    static const char *const keys[] = { "version", "model" };
    static const char *const values[] = { "0.1", "a\"b" };
    struct rr_buf *out = user;
    struct rr_metrics *m;
    struct rr_error err;
    int rc = rr_metrics_open(&m, table, N_METRICS, &err);

    if (rc) return rc;
    rr_metrics_add(m, REQUESTS, rr_metric_series(&table[REQUESTS], 0, 1), 2);
    rr_metrics_add(m, REQUESTS, rr_metric_series(&table[REQUESTS], 0, 1), 1);
    rr_metrics_add(m, REQUESTS, rr_metric_series(&table[REQUESTS], 1, 2), 1);
    rr_metrics_set(m, DEPTH, 0, 5);
    rr_metrics_add(m, DEPTH, 0, (uint64_t)-9);
    rr_metrics_set(m, BUSY, rr_metric_series(&table[BUSY], 1, 0), 2500000000);
    rr_metrics_observe(m, LATENCY, 0, 5); /* a bound belongs to its bucket */
    rr_metrics_observe(m, LATENCY, 0, 20);
    rr_metrics_observe(m, LATENCY, 0, 100);
    rr_metrics_observe(m, LATENCY, 0, 7000);
    rr_metrics_write(m, out);
    rr_metrics_write_info(out, "info", "What runs.", 2, keys, values);
    rc = out->failed ? RR_ENOMEM : RR_OK;
    rr_metrics_close(m);
    return rc;
}

static void test_text(void **state)
{
    struct rr_buf out;

    (void)state;
    rr_buf_init(&out, RR_MEM_MISC, 1 << 16);
    assert_int_equal(fill_and_write(&out), RR_OK);
    assert_string_equal(out.data, expected);
    rr_buf_free(&out);
}

static void test_what_is_not_there(void **state)
{
    struct rr_metrics *m;
    struct rr_error err;

    (void)state;
    assert_int_equal(rr_metrics_open(&m, table, N_METRICS, &err), RR_OK);
    rr_metrics_add(m, N_METRICS, 0, 1);
    rr_metrics_add(m, DEPTH, 1, 1);
    rr_metrics_set(m, REQUESTS, 6, 1);
    rr_metrics_observe(m, LATENCY, 1, 1);
    rr_metrics_observe(m, DEPTH, 0, 1); /* not a histogram */
    assert_int_equal(rr_metrics_value(m, DEPTH, 0), 0);
    assert_int_equal(rr_metrics_value(m, LATENCY, 0), 0);
    assert_int_equal(rr_metrics_value(m, N_METRICS, 0), 0);
    rr_metrics_close(m);
    rr_metrics_close(NULL);
}

static void test_bad_tables(void **state)
{
    static const double falling[] = { 1, 1 };
    static const struct {
        struct rr_metric metric;
        const char *why;
    } cases[] = {
        { { .name = "9a", .help = "" }, "begins with a digit" },
        { { .name = "a-b", .help = "" }, "hyphen" },
        { { .name = "", .help = "" }, "empty name" },
        { { .help = "" }, "no name" },
        { { .name = "a" }, "no help" },
        { { .name = "a", .help = "", .labels = { { "x y", codes, 1 } } }, "label name" },
        { { .name = "a", .help = "", .labels = { { NULL, NULL, 0 }, { "b", codes, 1 } } },
          "second label without a first" },
        { { .type = RR_METRIC_HISTOGRAM,
            .name = "a",
            .help = "",
            .buckets = falling,
            .n_buckets = 2 },
          "bounds do not rise" },
    };
    struct rr_metrics *m;
    struct rr_error err;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        if (rr_metrics_open(&m, &cases[i].metric, 1, &err) != RR_EINTERNAL || m) {
            fail_msg("accepted: %s", cases[i].why);
        }
    }
    assert_int_equal(fault_memory_in_use(), 0);
}

static void *update_much(void *user)
{
    int i;

    for (i = 0; i < 10000; i++) {
        rr_metrics_add(user, REQUESTS, 0, 1);
        rr_metrics_observe(user, LATENCY, 0, (uint64_t)(i % 2000));
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    struct rr_metrics *m;
    struct rr_error err;
    struct rr_buf out;
    size_t i;

    (void)state;
    assert_int_equal(rr_metrics_open(&m, table, N_METRICS, &err), RR_OK);
    rr_buf_init(&out, RR_MEM_MISC, 1 << 16);
    for (i = 0; i < RR_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, update_much, m), 0);
    }
    for (i = 0; i < 20; i++) { /* a scrape may come at any time */
        rr_buf_clear(&out);
        rr_metrics_write(m, &out);
        assert_false(out.failed);
    }
    for (i = 0; i < RR_COUNT(threads); i++) pthread_join(threads[i], NULL);
    assert_int_equal(rr_metrics_value(m, REQUESTS, 0), 40000);
    assert_int_equal(rr_metrics_value(m, LATENCY, 0), 40000);
    rr_buf_free(&out);
    rr_metrics_close(m);
}

static int fill_and_free(void *user)
{
    struct rr_buf out;
    int rc;

    (void)user;
    rr_buf_init(&out, RR_MEM_MISC, 1 << 16);
    rc = fill_and_write(&out);
    rr_buf_free(&out);
    return rc;
}

static void test_faults(void **state)
{
    struct fault_report r = fault_each(fill_and_free, NULL);

    (void)state;
    assert_true(r.allocations >= 5);
    assert_int_equal(r.survived, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),       cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_bad_tables), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
