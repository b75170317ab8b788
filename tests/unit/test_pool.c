/* SPDX-License-Identifier: Apache-2.0 */
/* test_pool.c - the worker team: every worker once for each run, barriers that nobody passes early,
 * sleeping and waking, more workers than processors. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/pool.h"
#include "cpu/topology.h"

#define MAX_THREADS 9

static struct rr_pool *open_pool(uint32_t n)
{
    struct rr_error err = { 0 };
    struct rr_pool *p;

    if (rr_pool_open(&p, n, &err)) fail_msg("rr_pool_open(%u): %s", n, err.msg);
    assert_int_equal(rr_pool_size(p), n);
    return p;
}

/* ---- runs ---------------------------------------------------------------------------------------- */

struct counts { /* plain, not atomic: a run orders everything, which TSan confirms */
    struct rr_pool *pool;
    uint64_t calls[MAX_THREADS];
    uint64_t total;
    pthread_t first[MAX_THREADS]; /* the thread that was worker i in the first run */
};

static void count(void *user, uint32_t worker)
{
    struct counts *c = user;

    if (c->calls[worker]++ == 0)
        c->first[worker] = pthread_self();
    else
        assert_true(pthread_equal(c->first[worker], pthread_self()));
}

static void test_every_worker_once(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= MAX_THREADS; n += n < 4 ? 1 : 5) {
        struct counts c = { .pool = open_pool(n) };

        for (uint64_t run = 1; run <= 200; run++) {
            rr_pool_run(c.pool, count, &c);
            for (uint32_t w = 0; w < n; w++) assert_int_equal(c.calls[w], run);
        }
        assert_true(pthread_equal(c.first[0], pthread_self())); /* the owner is worker 0 */
        for (uint32_t w = 1; w < n; w++) assert_false(pthread_equal(c.first[w], c.first[0]));
        rr_pool_close(c.pool);
    }
}

/* ---- barriers ------------------------------------------------------------------------------------ */

#define ROUNDS 300

struct phases {
    struct rr_pool *pool;
    uint32_t at[MAX_THREADS]; /* the round each worker has reached; ordered by the barriers alone */
    _Atomic uint32_t early;   /* somebody was not where he had to be */
};

static void walk(void *user, uint32_t worker)
{
    struct phases *p = user;

    for (uint32_t round = 1; round <= ROUNDS; round++) {
        p->at[worker] = round;
        rr_pool_barrier(p->pool);
        for (uint32_t w = 0; w < rr_pool_size(p->pool); w++)
            if (p->at[w] != round) atomic_fetch_add(&p->early, 1);
        rr_pool_barrier(p->pool); /* nobody goes on while somebody still looks */
    }
}

static void test_barrier(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= MAX_THREADS; n += 2) {
        struct phases p = { .pool = open_pool(n) };

        rr_pool_run(p.pool, walk, &p);
        rr_pool_run(p.pool, walk, &p); /* the barrier's state carries over */
        assert_int_equal(p.early, 0);
        for (uint32_t w = 0; w < n; w++) assert_int_equal(p.at[w], ROUNDS);
        rr_pool_close(p.pool);
    }
}

/* ---- several callers ----------------------------------------------------------------------------- */

enum { CALLERS = 4, RUNS = 50 };

/* Callers that share a pool: each gets all of it, and nobody else's work comes between. */
static void *share(void *arg)
{
    struct phases *p = arg;

    for (int i = 0; i < RUNS; i++) rr_pool_run(p->pool, walk, p);
    return NULL;
}

static void test_callers_take_turns(void **state)
{
    struct phases p = { .pool = open_pool(3) };
    pthread_t threads[CALLERS];

    (void)state;
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, share, &p), 0);
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(p.early, 0); /* one set of phases for all: two runs at once would mix them */
    rr_pool_close(p.pool);
}

struct visit {
    struct rr_pool *pool;
    _Atomic bool inside, leave;
    uint32_t seen[MAX_THREADS]; /* calls of each worker */
};

static void stay(void *user, uint32_t worker)
{
    struct visit *v = user;

    if (worker) return;
    v->inside = true;
    while (!v->leave) sched_yield();
}

static void *stay_long(void *arg)
{
    struct visit *v = arg;

    rr_pool_run(v->pool, stay, v);
    return NULL;
}

static void see(void *user, uint32_t worker)
{
    ((struct visit *)user)->seen[worker]++;
}

/* While somebody else has the workers, the caller does the work alone; else with all of them. */
static void test_or_alone(void **state)
{
    struct visit v = { .pool = open_pool(3) };
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, stay_long, &v), 0);
    while (!v.inside) sched_yield();
    rr_pool_run_or_alone(v.pool, see, &v);
    assert_int_equal(v.seen[0], 1);
    assert_int_equal(v.seen[1], 0);
    v.leave = true;
    pthread_join(thread, NULL);
    rr_pool_run_or_alone(v.pool, see, &v);
    assert_int_equal(v.seen[0], 2);
    assert_int_equal(v.seen[1] + v.seen[2], 2);
    rr_pool_close(v.pool);
}

/* ---- idle workers sleep -------------------------------------------------------------------------- */

static uint64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * RR_SECOND + (uint64_t)ts.tv_nsec;
}

static void nothing(void *user, uint32_t worker)
{
    (void)user;
    (void)worker;
}

/* Not a wait for something to happen, but the measured interval itself. */
static void let_time_pass(void)
{
    nanosleep(&(struct timespec){ 0, 200000000 }, NULL);
}

static void test_idle_costs_nothing(void **state)
{
    struct rr_pool *p = open_pool(4);
    uint64_t used;

    (void)state;
    rr_pool_run(p, nothing, NULL);
    used = cpu_ns();
    let_time_pass();
    used = cpu_ns() - used;
    if (used > 50 * RR_MILLISECOND) /* spinning would be 200 ms of at least one processor */
        fail_msg("three idle workers used %.1f ms of processor time in 200 ms", (double)used / 1e6);
    rr_pool_run(p, nothing, NULL); /* and they wake up again */
    rr_pool_close(p);
}

/* The owner sleeps too when the others take long: worker 1 works until the owner's clock stands. */
struct slow {
    clockid_t owner_clock;
    uint64_t owner_used; /* processor time of the owner while it waited */
};

static uint64_t read_clock(clockid_t clock)
{
    struct timespec ts = { 0, 0 };

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * RR_SECOND + (uint64_t)ts.tv_nsec;
}

static void work_slowly(void *user, uint32_t worker)
{
    struct slow *s = user;

    if (worker != 1) return;
    s->owner_used = read_clock(s->owner_clock);
    let_time_pass();
    s->owner_used = read_clock(s->owner_clock) - s->owner_used;
}

static void test_owner_sleeps(void **state)
{
    struct rr_pool *p = open_pool(2);
    struct slow s = { .owner_used = 0 };

    (void)state;
    assert_int_equal(pthread_getcpuclockid(pthread_self(), &s.owner_clock), 0);
    rr_pool_run(p, work_slowly, &s);
    assert_true(s.owner_used < 50 * RR_MILLISECOND);
    rr_pool_close(p);
}

/* ---- more workers than processors ---------------------------------------------------------------- */

static void test_too_large_never_spins(void **state)
{
    struct rr_topology t;
    struct rr_pool *p;

    (void)state;
    rr_topology_get(&t);
    p = open_pool(t.threads + 1);
    assert_int_equal(rr_pool_spin_ns(p), 0);
    rr_pool_close(p);
    p = open_pool(t.threads);
    assert_true(rr_pool_spin_ns(p) > 0);
    rr_pool_close(p);
}

/* ---- the rest ------------------------------------------------------------------------------------ */

static uint64_t no_time(void)
{
    return 1;
}

static void test_clock_that_stands_still(void **state)
{
    struct counts c = { .pool = NULL };

    (void)state;
    rr_clock_fake(no_time); /* a worker that trusted this clock would spin for ever */
    c.pool = open_pool(3);
    for (int i = 0; i < 100; i++) rr_pool_run(c.pool, count, &c);
    rr_pool_close(c.pool);
    rr_clock_fake(NULL);
    assert_int_equal(c.calls[2], 100);
}

static void read_mask(void *user, uint32_t worker)
{
    pthread_sigmask(SIG_SETMASK, NULL, (sigset_t *)user + worker);
}

static void test_workers_take_no_signals(void **state)
{
    struct rr_pool *p = open_pool(2);
    sigset_t masks[2];

    (void)state;
    rr_pool_run(p, read_mask, masks);
    assert_int_equal(sigismember(&masks[0], SIGTERM), 0);
    assert_int_equal(sigismember(&masks[1], SIGTERM), 1);
    rr_pool_close(p);
}

static void test_refused(void **state)
{
    static const uint32_t counts[] = { 0, RR_POOL_MAX + 1 };
    struct rr_error err = { 0 };
    struct rr_pool *p = (struct rr_pool *)&err;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(counts); i++) {
        assert_int_equal(rr_pool_open(&p, counts[i], &err), RR_EINVAL);
        assert_null(p);
        assert_non_null(strstr(err.msg, "possible are 1 to 1024"));
    }
    rr_mem_fault(1, false);
    assert_int_equal(rr_pool_open(&p, 2, &err), RR_ENOMEM);
    rr_mem_fault(0, false);
    assert_null(p);
    rr_pool_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_worker_once),
        cmocka_unit_test(test_barrier),
        cmocka_unit_test(test_callers_take_turns),
        cmocka_unit_test(test_or_alone),
        cmocka_unit_test(test_idle_costs_nothing),
        cmocka_unit_test(test_owner_sleeps),
        cmocka_unit_test(test_too_large_never_spins),
        cmocka_unit_test(test_clock_that_stands_still),
        cmocka_unit_test(test_workers_take_no_signals),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
