/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_life.c - the parts of the server's life that need no sockets: what health says in
 * every state, leases on engines, supervision, traces, and log lines nobody reads. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "server/health.h"
#include "server/models.h"
#include "server/outlet.h"
#include "server/parking.h"
#include "server/plan.h"
#include "server/supervise.h"
#include "server/trace.h"

#include "fake_engine.c" /* in the same object, so that it is taken instead of the library's */

static struct rr_settings settings;
static struct rr_server server;

static uint64_t fake_now;

static uint64_t now(void)
{
    return fake_now;
}

static int setup(void **state)
{
    struct rr_error err;
    char *rest[1];
    int n_rest;

    (void)state;
    assert_int_equal(rr_settings_load(&settings, 0, NULL, rest, &n_rest, &err), RR_OK);
    memset(&server, 0, sizeof(server));
    server.settings = &settings;
    assert_int_equal(rr_models_open(&server.models, &settings, &err), RR_OK);
    assert_int_equal(rr_parking_new(&server.parking, &err), RR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rr_clock_fake(NULL);
    fake_engine_health(NULL);
    rr_models_close(server.models);
    rr_parking_free(server.parking);
    rr_settings_free(&settings);
    assert_int_equal(fake_engine_open_count(), 0);
    return 0;
}

static struct rr_engine *open_engine(const char *model)
{
    struct rr_options opt;
    struct rr_engine *engine;
    struct rr_error err;

    rr_options_init(&opt);
    opt.model = model;
    assert_int_equal(rr_open(&engine, &opt, &err), RR_OK);
    return engine;
}

static void put_in_service(const char *model)
{
    struct rr_error err;

    assert_int_equal(rr_models_switch(server.models, 0, open_engine(model), 0, &err), RR_OK);
}

/* ---- health ------------------------------------------------------------------------------- */

#define QUEUE 262144

/* The table of health.h, row by row. */
static void test_states(void **state)
{
    static const struct rr_health lost = { .why = "the GPU is gone" },
                                  stalled = { .device_ok = true, .stalled = true, .why = "stuck" };
    static const struct {
        const char *why;
        int phase;
        bool engine, strict;
        size_t queue;
        const struct rr_health *health;
        bool cache, up, fallback;
        unsigned ready, health_status;
        const char *ready_body, *health_part;
    } rows[] = {
        { "no model yet", RR_PHASE_LOADING, false, false, 0, NULL, false, false, false, 503, 503,
          "{\"status\":\"loading\"}", "\"loading\"" },
        { "the model is open, the plan not checked", RR_PHASE_LOADING, true, false, 0, NULL, false,
          false, false, 503, 503, "{\"status\":\"loading\"}", "\"loading\"" },
        { "ready", RR_PHASE_READY, true, false, 0, NULL, false, false, false, 200, 200,
          "{\"status\":\"ready\"}",
          "{\"status\":\"healthy\",\"device\":\"cpu\",\"model\":\"fake\"}" },
        { "90 % are not more than 90 %", RR_PHASE_READY, true, true, QUEUE / 10 * 9, NULL, false,
          false, false, 200, 200, "{\"status\":\"ready\"}", "healthy" },
        { "saturated, and balancers should go on", RR_PHASE_READY, true, false, QUEUE, NULL, false,
          false, false, 200, 200, "{\"status\":\"ready\"}", "healthy" },
        { "saturated, and balancers should not", RR_PHASE_READY, true, true, QUEUE, NULL, false,
          false, false, 503, 200, "{\"status\":\"saturated\"}", "healthy" },
        { "the shared cache answers", RR_PHASE_READY, true, false, 0, NULL, true, true, false, 200,
          200, "{\"status\":\"ready\"}", "\"model\":\"fake\"}" },
        { "the shared cache is down", RR_PHASE_READY, true, false, 0, NULL, true, false, false, 200,
          200, "{\"status\":\"ready\",\"degraded\":[\"cache\"]}", "\"degraded\":[\"cache\"]}" },
        { "the CPU stands in for a GPU", RR_PHASE_READY, true, false, 0, NULL, true, false, true,
          200, 200, "{\"status\":\"ready\",\"degraded\":[\"device\",\"cache\"]}", "healthy" },
        { "device lost", RR_PHASE_READY, true, false, 0, &lost, false, false, false, 503, 503,
          "{\"status\":\"unhealthy\",\"why\":\"the GPU is gone\"}", "\"unhealthy\"" },
        { "stalled", RR_PHASE_READY, true, false, 0, &stalled, false, false, false, 503, 503,
          "{\"status\":\"unhealthy\",\"why\":\"stuck\"}", "\"why\":\"stuck\"" },
        { "leaving", RR_PHASE_LEAVING, true, false, 0, NULL, false, false, false, 503, 503,
          "{\"status\":\"draining\"}", "\"draining\"" },
        { "draining", RR_PHASE_DRAINING, true, false, 0, NULL, false, false, false, 503, 503,
          "{\"status\":\"draining\"}", "\"draining\"" },
    };
    struct rr_exchange x;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        fake_engine_fallback(rows[i].fallback);
        fake_engine_health(rows[i].health);
        fake_engine_queue(rows[i].queue);
        fake_engine_shared(rows[i].cache, rows[i].up);
        settings.ready_when_saturated = !rows[i].strict;
        atomic_store(&server.phase, rows[i].phase);
        memset(&x, 0, sizeof(x));
        rr_buf_init(&x.reply, RR_MEM_REQUEST, 4096);
        if (rows[i].engine) x.engine = open_engine("fake");

        rr_admin_ready(&server, &x);
        if (x.status != rows[i].ready || strcmp(x.reply.data, rows[i].ready_body) != 0)
            fail_msg("%s: /ready %u %s", rows[i].why, x.status, x.reply.data);
        rr_buf_clear(&x.reply);
        rr_admin_health(&server, &x);
        if (x.status != rows[i].health_status || !strstr(x.reply.data, rows[i].health_part))
            fail_msg("%s: /health %u %s", rows[i].why, x.status, x.reply.data);
        assert_int_equal(x.n_headers, (rows[i].ready == 503) + (rows[i].health_status == 503));
        rr_buf_clear(&x.reply);
        rr_admin_live(&server, &x);
        assert_int_equal(x.status, 200);
        rr_buf_free(&x.reply);
        rr_close(x.engine);
    }
    fake_engine_fallback(false);
    fake_engine_queue(0);
    fake_engine_shared(false, false);
}

/* ---- supervision -------------------------------------------------------------------------- */

static void test_supervision(void **state)
{
    static const struct {
        bool device_ok, stalled;
        double patience;
        int code;
    } rows[] = {
        { true, false, 5, RR_EINTERNAL }, /* no sign of life */
        { false, true, 5, RR_EINTERNAL }, /* the device hangs */
        { false, false, 5, RR_EDEVICE },  /* lost */
        { false, false, 0, RR_OK },       /* never gives up */
    };
    struct rr_health sick = { .why = "stuck" };
    struct rr_notify nobody = { .fd = -1 };
    struct rr_supervisor v;
    struct rr_error err;
    size_t i;

    (void)state;
    fake_now = 100 * RR_SECOND;
    rr_clock_fake(now);
    rr_supervisor_init(&v, &server, &nobody);
    assert_int_equal(rr_supervise(&v, &err), RR_OK); /* no engine yet: no hurry */
    put_in_service("fake");
    for (i = 0; i < RR_COUNT(rows); i++) {
        settings.stall_exit = rows[i].patience;
        sick.device_ok = rows[i].device_ok;
        sick.stalled = rows[i].stalled;
        fake_engine_health(&sick);
        assert_int_equal(rr_supervise(&v, &err), RR_OK);
        fake_now += 4 * RR_SECOND;
        assert_int_equal(rr_supervise(&v, &err), RR_OK);
        fake_engine_health(NULL); /* a moment of health: the time begins anew */
        assert_int_equal(rr_supervise(&v, &err), RR_OK);
        fake_engine_health(&sick);
        fake_now += 2 * RR_SECOND;
        assert_int_equal(rr_supervise(&v, &err), RR_OK);
        fake_now += 5 * RR_SECOND;
        assert_int_equal(rr_supervise(&v, &err), rows[i].code);
        if (rows[i].code) assert_string_equal(err.msg, "stuck");
        fake_engine_health(NULL);
        assert_int_equal(rr_supervise(&v, &err), RR_OK);
    }
    assert_int_equal(atomic_load(&server.heartbeat_ns), fake_now);
}

/* ---- leases ------------------------------------------------------------------------------- */

static void *settle(void *arg)
{
    rr_models_settle(arg);
    return NULL;
}

/* One pair more; all engines together then have done so many. */
static void score(struct rr_engine *engine, struct rr_models *m, uint64_t expected)
{
    struct rr_stats stats;

    engine->stats.pairs_done++;
    assert_true(rr_models_stats(m, &stats));
    assert_int_equal(stats.pairs_done, expected);
}

/* The old engine lives as long as its last lease, counters go on, and nobody gets it any more. */
static void test_leases(void **state)
{
    struct rr_engine *first, *again, *second;
    struct rr_stats stats;
    pthread_t thread;

    (void)state;
    assert_null(rr_models_take(server.models, 0));
    rr_models_give(server.models, NULL);
    assert_false(rr_models_stats(server.models, &stats));
    put_in_service("one");
    first = rr_models_take(server.models, 0);
    again = rr_models_take(server.models, 0);
    assert_ptr_equal(first, again);
    score(first, server.models, 1);
    put_in_service("two");
    second = rr_models_take(server.models, 0);
    assert_ptr_not_equal(first, second);
    score(second, server.models, 2);
    assert_int_equal(pthread_create(&thread, NULL, settle, server.models), 0);
    rr_models_give(server.models, again);
    assert_int_equal(fake_engine_open_count(), 2);
    score(first, server.models, 3);
    rr_models_give(server.models, first); /* the last one */
    pthread_join(thread, NULL);
    assert_int_equal(fake_engine_open_count(), 1);
    score(second, server.models, 4);
    rr_models_give(server.models, second);

    first = rr_models_take(server.models, 0); /* a lease that never ends does not hold up the end */
    put_in_service("three");
    assert_int_equal(pthread_create(&thread, NULL, settle, server.models), 0);
    rr_models_stop(server.models);
    pthread_join(thread, NULL);
    rr_models_give(server.models, first);
}

static void *borrow(void *arg)
{
    int i;

    (void)arg;
    for (i = 0; i < 20000; i++) {
        struct rr_engine *e = rr_models_take(server.models, 0);

        if (strncmp(rr_engine_info(e)->path, "model", 5) != 0) return server.models;
        rr_models_give(server.models, e);
    }
    return NULL;
}

static void test_leases_and_switches(void **state)
{
    pthread_t threads[3];
    void *bad;
    int i;

    (void)state;
    put_in_service("model 0");
    for (i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, borrow, NULL), 0);
    for (i = 1; i < 50; i++) {
        put_in_service("model");
        rr_models_settle(server.models);
        assert_int_equal(fake_engine_open_count(), 1);
    }
    for (i = 0; i < 3; i++) {
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
}

/* ---- traces ------------------------------------------------------------------------------- */

#define ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void test_traceparent(void **state)
{
    static const struct {
        const char *header;
        bool continued, sampled;
    } rows[] = {
        { "00-" ID "-" SPAN "-01", true, true },
        { "00-" ID "-" SPAN "-00", true, false },
        { "00-" ID "-" SPAN "-03", true, true },           /* other flags are not ours */
        { "cc-" ID "-" SPAN "-01-what-ever", true, true }, /* a later version may go on */
        { "cc-" ID "-" SPAN "-01", true, true },
        { "cc-" ID "-" SPAN "-01x", false, true },
        { "00-" ID "-" SPAN "-01-more", false, true },                      /* version 00 may not */
        { "ff-" ID "-" SPAN "-01", false, true },                           /* forbidden */
        { "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", false, true }, /* upper case */
        { "00-00000000000000000000000000000000-" SPAN "-01", false, true },
        { "00-" ID "-0000000000000000-01", false, true },
        { "00-" ID "-" SPAN "-1", false, true },
        { "00-" ID "-" SPAN, false, true },
        { "00-" SPAN "-" ID "-01", false, true },
        { "00_" ID "_" SPAN "_01", false, true },
        { "---", false, true },
        { "", false, true },
        { NULL, false, true },
    };
    struct rr_trace t, before = { 0 };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        rr_trace_begin(&t, rows[i].header);
        if ((strcmp(t.id, ID) == 0) != rows[i].continued || t.sampled != rows[i].sampled)
            fail_msg("%s: id %s, sampled %d", rows[i].header, t.id, t.sampled);
        assert_string_equal(t.parent, rows[i].continued ? SPAN : "");
        assert_int_equal(strspn(t.id, "0123456789abcdef"), 32);
        assert_int_equal(strspn(t.span, "0123456789abcdef"), 16);
        assert_string_not_equal(t.span, before.span);
        before = t;
    }
}

/* ---- log ---------------------------------------------------------------------------------- */

static void test_limit(void **state)
{
    struct rr_limit l = { 0 };
    uint64_t missed;
    int i;

    (void)state;
    for (i = 0; i < 1000; i++) assert_true(rr_limit_take(&l, 0, 5, &missed));
    l = (struct rr_limit){ 0 };
    for (i = 0; i < 20; i++) assert_true(rr_limit_take(&l, 2, RR_SECOND, &missed)); /* 10 s worth */
    for (i = 0; i < 7; i++) assert_false(rr_limit_take(&l, 2, RR_SECOND, &missed));
    assert_true(rr_limit_take(&l, 2, RR_SECOND + RR_SECOND / 2, &missed));
    assert_int_equal(missed, 7);
    assert_false(rr_limit_take(&l, 2, RR_SECOND + RR_SECOND / 2, &missed));
    for (i = 0; i < 20; i++) assert_true(rr_limit_take(&l, 2, 999 * RR_SECOND, &missed));
    assert_false(rr_limit_take(&l, 2, 999 * RR_SECOND, &missed));
}

/* Lines that nobody takes are lost, and the first one taken afterwards begins a line. */
static void full_outlet(int ends[2])
{
    static char buffer[65536];
    static char line[6000];
    struct rr_outlet o;
    unsigned written = 0, lost = 0;
    ssize_t n;

    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\n';
    rr_outlet_open(&o, ends[1]);
    while (lost < 3 && written < 10000) {
        if (rr_outlet_write(&o, line, sizeof(line)))
            written++;
        else
            lost++;
    }
    assert_true(written > 5 && written < 10000);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0); /* others share it */
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    while (read(ends[0], buffer, sizeof(buffer)) > 0) continue;
    assert_true(rr_outlet_write(&o, "after\n", 6));
    n = read(ends[0], buffer, sizeof(buffer));
    assert_true(n >= 6);
    assert_memory_equal(buffer + n - 6, "after\n", 6);
    if (n > 6) assert_int_equal(buffer[n - 7], '\n');
    close(ends[0]);
    (void)rr_outlet_write(&o, "nobody\n", 7); /* and no signal */
    rr_outlet_close(&o);
    close(ends[1]);
}

static void test_outlet(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    full_outlet(ends);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    full_outlet(ends);
}

/* ---- memory ------------------------------------------------------------------------------- */

static void test_plan(void **state)
{
    enum { MIB = 1 << 20 };
    static const struct {
        const char *why;
        uint64_t limit, total;
        size_t inflight, expected; /* MiB */
        bool fits, gpu;
    } rows[] = {
        { "plenty", 0, 16384, 0, 256, true, false },
        { "a quarter of what the model leaves", 1064, 16384, 0, 225, true, false },
        { "never less than one body", 190, 16384, 0, 8, true, false },
        { "the control group counts, not the machine", 150, 16384, 0, 8, false, false },
        { "without a group the machine counts", 0, 150, 0, 8, false, false },
        { "given, and it fits", 1064, 16384, 400, 400, true, false },
        { "given, and it does not", 1064, 16384, 500, 500, false, false },
        { "less than a body is a body", 1064, 16384, 1, 8, true, false },
        { "nothing is known", 0, 0, 0, 256, true, false },
        { "what lies on a GPU takes nothing here", 152, 16384, 0, 22, true, true },
        { "the cache and bodies are here", 79, 16384, 0, 8, false, true },
    };
    struct rr_info info = { .weights_bytes = 90 * MIB, .workspace_bytes = 10 * MIB };
    struct rr_host host = { 0 };
    struct rr_plan plan;
    struct rr_error err;
    size_t i, inflight;

    (void)state;
    settings.cache_size = 64 * MIB;
    settings.max_body = 8 * MIB;
    for (i = 0; i < RR_COUNT(rows); i++) {
        info.host_weights_bytes = rows[i].gpu ? 0 : info.weights_bytes;
        info.host_workspace_bytes = rows[i].gpu ? 0 : info.workspace_bytes;
        host.memory_limit = rows[i].limit * MIB;
        host.memory_total = rows[i].total * MIB;
        settings.max_inflight_bytes = rows[i].inflight * MIB;
        if ((rr_plan_make(&plan, &settings, &info, &host, &inflight, &err) == RR_OK) !=
                rows[i].fits ||
            inflight != rows[i].expected * MIB)
            fail_msg("%s: %zu MiB, need %llu", rows[i].why, inflight / MIB,
                     (unsigned long long)plan.need / MIB);
        if (rows[i].fits) continue;
        assert_non_null(strstr(err.msg, rows[i].gpu ? "weights 0, workspace 0, cache 64"
                                                    : "weights 90, workspace 10, cache 64"));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_states),      TEST(test_supervision),
        TEST(test_leases),      TEST(test_leases_and_switches),
        TEST(test_traceparent), TEST(test_limit),
        TEST(test_outlet),      TEST(test_plan),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    rr_json_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
