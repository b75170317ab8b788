/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_models.c - the registry of models with fake engines: names, aliases, leases, what is unloaded
 * for whom and when, failures and their pauses. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "server/models.h"

#include "fake_engine.c" /* in the same object, so that it is taken instead of the library's */

#define MIB ((uint64_t)1 << 20)

static struct rr_settings settings;
static struct rr_models *models;
static struct rr_error err;
static _Atomic uint64_t fake_now;

static uint64_t now(void)
{
    return fake_now;
}

/* Four models: the default of 10 MiB, and a, b, c of 20, 30 and 40. */
static int setup(void **state)
{
    char *words[] = { (char *)(uintptr_t) "--model=base=/m/base:10",
                      (char *)(uintptr_t) "--model=a=/m/a:20",
                      (char *)(uintptr_t) "--model=b=/m/b:30",
                      (char *)(uintptr_t) "--model=c=/m/c:40",
                      (char *)(uintptr_t) "--model-alias=rerank-v3.5=b",
                      (char *)(uintptr_t) "--model-alias=any=default",
                      (char *)(uintptr_t) "--config=none" };
    char *rest[RR_COUNT(words)];
    int n_rest;

    (void)state;
    if (rr_settings_load(&settings, RR_COUNT(words), words, rest, &n_rest, &err))
        fail_msg("%s", err.msg);
    fake_now = 1000 * RR_SECOND;
    assert_int_equal(rr_models_open(&models, &settings, &err), RR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rr_clock_fake(NULL);
    rr_models_close(models);
    rr_settings_free(&settings);
    assert_int_equal(fake_engine_open_count(), 0);
    return 0;
}

/* As the loader does it. */
static void load(size_t i, uint64_t took_ns)
{
    struct rr_options opt;
    struct rr_engine *engine;

    rr_models_options(models, &settings, i, &opt);
    if (rr_open(&engine, &opt, &err)) fail_msg("%s", err.msg);
    assert_int_equal(rr_models_switch(models, i, engine, took_ns, &err), RR_OK);
}

static enum rr_model_state state_of(size_t i)
{
    struct rr_model_view v;

    rr_models_view(models, i, &v);
    return v.state;
}

static char unloaded[100]; /* names, with blanks between */
static atomic_uint noted;  /* times that it grew: another thread may read it after that */

static void note(void *user, const char *name)
{
    (void)user;
    strcat(unloaded, name);
    strcat(unloaded, " ");
    noted++;
}

static int room(size_t i, uint64_t mib)
{
    return rr_models_make_room(models, i, mib * MIB, note, NULL, &err);
}

static void use(size_t i)
{
    struct rr_engine *e = rr_models_serve(models, i);

    assert_non_null(e);
    rr_models_give(models, e);
}

static void *tend(void *arg)
{
    (void)arg;
    rr_models_tend(models);
    return NULL;
}

/* ---- names ---------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    static const struct {
        const char *name;
        bool strict, found;
        size_t model;
        const char *why;
    } rows[] = {
        { "", true, true, 0, "nothing was asked for" },
        { "base", true, true, 0, "the default by its name" },
        { "b", true, true, 2, "another one" },
        { "rerank-v3.5", true, true, 2, "an alias" },
        { "any", true, true, 0, "an alias of the default" },
        { "B", true, false, 0, "names are exact" },
        { "b ", true, false, 0, "... to the last character" },
        { "rerank-v3.50", false, true, 0, "unknown: the default, as clients expect" },
        { "default", true, false, 0, "a word of --model-alias, not a name" },
    };
    size_t i, k;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        bool found = rr_models_find(models, &settings, rows[i].name, strlen(rows[i].name),
                                    rows[i].strict, &k);

        if (found != rows[i].found || k != rows[i].model) fail_msg("%s", rows[i].why);
    }
}

/* ---- room ----------------------------------------------------------------------------------- */

static void test_least_recently_used(void **state)
{
    pthread_t thread;

    (void)state;
    rr_clock_fake(now);
    unloaded[0] = 0;
    assert_int_equal(pthread_create(&thread, NULL, tend, NULL), 0);
    load(0, 0);
    rr_models_budget(models, 62 * MIB);
    assert_int_equal(room(1, 20), RR_OK);
    load(1, RR_SECOND);
    fake_now += RR_SECOND;
    assert_int_equal(room(2, 30), RR_OK);
    load(2, RR_SECOND);
    assert_string_equal(unloaded, ""); /* 10 + 20 + 30 fit */
    fake_now += RR_SECOND;
    use(1); /* so b is the one used longest ago */
    assert_int_equal(room(3, 32), RR_OK);
    assert_string_equal(unloaded, "b ");
    assert_int_equal(fake_engine_open_count(), 2); /* closed before the room is there */
    assert_int_equal(state_of(2), RR_MODEL_IDLE);
    assert_int_equal(state_of(1), RR_MODEL_LOADED);
    assert_int_equal(room(3, 40), RR_OK);
    assert_string_equal(unloaded, "b a ");
    load(3, RR_SECOND);
    assert_int_equal(room(1, 53), RR_ENOMEM); /* the default stays, whatever comes */
    assert_non_null(strstr(err.msg, "a needs 53.0 MiB"));
    assert_int_equal(room(1, 63), RR_ENOMEM); /* and nobody is unloaded for what cannot fit */
    assert_int_equal(state_of(0), RR_MODEL_LOADED);
    rr_models_stop(models);
    pthread_join(thread, NULL);
}

struct wait { /* a thread that makes room */
    size_t model;
    uint64_t mib;
    int rc;
    _Atomic bool done;
};

static void *make_room(void *arg)
{
    struct wait *w = arg;

    w->rc = room(w->model, w->mib);
    w->done = true;
    return NULL;
}

/* With a lease out a model is not closed; when its time is over it gets no further ones, and the
 * room is there after the last. */
static void test_leases_and_room(void **state)
{
    struct wait w = { .model = 2, .mib = 30 };
    struct rr_engine *lease, *other;
    pthread_t closer, waiter;

    (void)state;
    unloaded[0] = 0;
    noted = 0;
    assert_int_equal(pthread_create(&closer, NULL, tend, NULL), 0);
    load(0, 0);
    rr_models_budget(models, 45 * MIB);
    load(1, 100 * RR_MILLISECOND); /* may stay for a second */
    lease = rr_models_serve(models, 1);
    assert_int_equal(pthread_create(&waiter, NULL, make_room, &w), 0);
    /* Its second is not over, others may still use it; that it is unloaded is told afterwards. */
    while (state_of(1) == RR_MODEL_LOADED || noted == 0) {
        other = rr_models_serve(models, 1);
        if (other) assert_ptr_equal(other, lease);
        rr_models_give(models, other);
        sched_yield();
    }
    assert_string_equal(unloaded, "a ");
    assert_null(rr_models_serve(models, 1));
    assert_false(w.done);
    assert_int_equal(fake_engine_open_count(), 2); /* the lease is still out */
    assert_string_equal(rr_engine_info(lease)->path, "/m/a:20");
    rr_models_give(models, lease);
    pthread_join(waiter, NULL);
    assert_int_equal(w.rc, RR_OK);
    assert_int_equal(fake_engine_open_count(), 1);

    lease = rr_models_serve(models, 0); /* the end does not wait for leases either */
    w = (struct wait){ .model = 1, .mib = 20 };
    load(2, 1000 * RR_SECOND);
    other = rr_models_serve(models, 2);
    assert_int_equal(pthread_create(&waiter, NULL, make_room, &w), 0);
    rr_models_stop(models);
    pthread_join(waiter, NULL);
    assert_int_equal(w.rc, RR_ECLOSED);
    rr_models_give(models, other);
    rr_models_give(models, lease);
    pthread_join(closer, NULL);
}

enum { USERS = 3, ROUNDS = 300 };

/* Takes leases on all models; what it gets must be the one it asked for, and open. */
static void *borrow(void *arg)
{
    size_t *wrong = arg, i;
    int round;

    for (round = 0; round < ROUNDS; round++)
        for (i = 0; i < 4; i++) {
            static const char *const paths[] = { "/m/base:10", "/m/a:20", "/m/b:30", "/m/c:40" };
            struct rr_engine *e = rr_models_serve(models, i);

            if (e && strcmp(rr_engine_info(e)->path, paths[i]) != 0) ++*wrong;
            if (!e && i == 0) ++*wrong;
            sched_yield();
            rr_models_give(models, e);
        }
    return NULL;
}

/* Loads and unloads as a loader would while everybody takes leases: the budget holds, and counters
 * never fall. */
static void test_swaps_under_load(void **state)
{
    size_t wrong[USERS] = { 0 }, i, swaps;
    pthread_t threads[USERS], closer;
    struct rr_model_view v;
    struct rr_stats stats;
    uint64_t sum, requests = 0;

    (void)state;
    assert_int_equal(pthread_create(&closer, NULL, tend, NULL), 0);
    load(0, 0);
    rr_models_budget(models, 55 * MIB);
    for (i = 0; i < USERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, borrow, &wrong[i]), 0);
    for (swaps = 0; swaps < 60; swaps++) {
        static const uint64_t sizes[] = { 20, 30, 40 };

        unloaded[0] = 0;
        i = 1 + swaps % 3;
        assert_int_equal(room(i, sizes[i - 1]), RR_OK);
        load(i, 0);
        for (sum = 0, i = 0; i < 4; i++) {
            rr_models_view(models, i, &v);
            sum += v.bytes;
        }
        assert_true(sum <= 55 * MIB);
        assert_true(rr_models_stats(models, &stats));
    }
    for (i = 0; i < USERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
    for (i = 0; i < 4; i++) {
        rr_models_view(models, i, &v);
        requests += v.requests;
        if (i) assert_int_equal(v.loads, 20);
    }
    assert_true(requests >= USERS * ROUNDS);
    rr_models_stop(models);
    pthread_join(closer, NULL);
}

/* ---- failures ------------------------------------------------------------------------------- */

static void test_backoff(void **state)
{
    static const unsigned pauses[] = { 1, 2, 4, 8, 16, 32, 60, 60 };
    struct rr_error why = { RR_ENOENT, "no such folder" };
    uint64_t again_ns;
    size_t i;

    (void)state;
    rr_clock_fake(now);
    load(0, 0);
    for (i = 0; i < RR_COUNT(pauses); i++) {
        assert_int_equal(rr_models_begin(models, 1, &again_ns, &err), RR_OK);
        assert_int_equal(state_of(1), RR_MODEL_LOADING);
        rr_models_failed(models, 1, &why);
        assert_int_equal(rr_models_n_failed(models), 1);
        assert_int_equal(rr_models_begin(models, 1, &again_ns, &err), RR_EBUSY);
        assert_string_equal(err.msg, "no such folder");
        assert_int_equal(again_ns, pauses[i] * RR_SECOND);
        assert_int_equal(rr_models_begin(models, 2, &again_ns, &err), RR_OK); /* others may */
        fake_now += pauses[i] * RR_SECOND;
    }
    assert_int_equal(rr_models_begin(models, 1, &again_ns, &err), RR_OK);
    load(1, 0);
    assert_int_equal(rr_models_n_failed(models), 0);
    rr_models_kept(models, 1); /* what was to replace it failed: it serves on */
    assert_int_equal(state_of(1), RR_MODEL_LOADED);
    use(1);
    rr_models_kept(models, 3); /* the same of one that is not loaded: it can be */
    assert_int_equal(state_of(3), RR_MODEL_IDLE);
    assert_int_equal(rr_models_begin(models, 3, &again_ns, &err), RR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_least_recently_used, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leases_and_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swaps_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_backoff, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
