/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_life.c - how requests live together and end: deadlines, cancels, partial answers, equal
 * pairs in flight, shares of the device.  The device is "null": a logit names its pair, so an answer
 * for the wrong pair shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine_support.h"
#include "support/fault.h"

static void assert_logits(const struct request *r)
{
    size_t i;

    assert_int_equal(r->code, RR_OK);
    assert_int_equal(r->result->n_documents, r->req.n_documents);
    for (i = 0; i < r->req.n_documents; i++) {
        const struct rr_score *s = &r->result->scores[i];

        if (s->missing) continue;
        assert_true(s->logit == null_logit(r->req.query, r->req.documents[i]));
    }
}

static void assert_idle(struct rr_engine *e)
{
    struct rr_stats s;

    rr_engine_stats(e, &s);
    assert_int_equal(s.queue_requests, 0);
    assert_int_equal(s.queue_pairs, 0);
    assert_int_equal(s.queue_tokens, 0);
    assert_int_equal(s.queue_bytes, 0);
}

/* A request that occupies the device: the next ones wait until its batch is over. */
static void occupy(struct rr_engine *e, struct request *r, const struct documents *d)
{
    *r = (struct request){ .req.no_cache = true };
    request_start(e, r, "occupied", d);
    for (;;) { /* until it is in its batch: nothing else tells */
        struct rr_stats s;

        sleep_ms(20);
        rr_engine_stats(e, &s);
        if (s.queue_requests) return;
    }
}

/* ---- deadlines ----------------------------------------------------------------------------- */

/* Did it end at its deadline?  false: later, for want of a processor or of a timer. */
static bool on_time(const struct request *r)
{
    double took = r->ended - r->submitted, deadline = (double)r->req.timeout_ns * 1e-9;

    print_message("answer after %.3f s (deadline %.3f)\n", took, deadline);
    if (r->code == RR_ETIMEDOUT)
        assert_true(took >= deadline - 0.001);
    else
        assert_logits(r);                         /* its batch was over first */
    return r->code == RR_ETIMEDOUT && took < 0.4; /* 0.05 more on a machine with time */
}

/* The answer comes at the deadline, not when the batch is over: each time on a machine with time, at
 * least once in ten on a busy one. */
static void test_deadline(void **state)
{
    struct rr_options opt = engine_options("null:base_us=600000");
    struct rr_engine *e = engine_open(&opt);
    struct documents d = documents_make("doc", 3, 20);
    bool good = false;
    int i;

    (void)state;
    for (i = 0; i < 10 && !good; i++) {
        struct request in_batch = { .req = { .timeout_ns = 150000000, .no_cache = true } };
        struct request queued = { .req = { .timeout_ns = 100000000, .no_cache = true } };
        struct request later = { .req.no_cache = true };

        request_start(e, &in_batch, "in a batch", &d);
        sleep_ms(30);
        request_start(e, &queued, "queued", &d);
        request_wait(&in_batch);
        request_wait(&queued);
        good = on_time(&in_batch);
        good = on_time(&queued) && good;
        request_drop(&in_batch);
        request_drop(&queued);
        request_start(e, &later, "later", &d); /* the engine is as it was */
        request_wait(&later);
        assert_logits(&later);
        request_drop(&later);
        assert_idle(e);
    }
    assert_true(good);
    rr_close(e);
    documents_free(&d);
}

/* Once the speed is known, what cannot end in time is not started. */
static void test_hopeless_is_not_started(void **state)
{
    struct rr_options opt = engine_options("null:per_token_ns=100000");
    struct documents few = documents_make("few", 60, 50), many = documents_make("many", 200, 200);
    struct request first = { 0 }, hopeless = { .req.timeout_ns = 200000000 }, next = { 0 };
    struct rr_stats before, after;
    struct rr_engine *e;

    (void)state;
    opt.batch_tokens = 512;
    e = engine_open(&opt);
    request_start(e, &first, "q", &few); /* 3,000 tokens, in batches of up to 512 */
    request_drop(&first);
    assert_true(rr_engine_wait_ns(e, 1000) > 90000000);
    assert_true(rr_engine_wait_ns(e, SIZE_MAX) == RR_ENDLESS);
    rr_engine_stats(e, &before);
    request_start(e, &hopeless, "q", &many); /* 40,000 tokens: 4 s */
    request_wait(&hopeless);
    assert_int_equal(hopeless.code, RR_ETIMEDOUT);
    assert_true(hopeless.ended - hopeless.submitted >= 0.199);
    rr_engine_stats(e, &after);
    assert_int_equal(after.pairs_done, before.pairs_done);
    request_start(e, &next, "q", &few);
    request_wait(&next);
    assert_logits(&next);
    request_drop(&next);
    rr_close(e);
    documents_free(&few);
    documents_free(&many);
}

/* ... which small batches do not say: what they take is the device's base. */
static void test_base_is_no_speed(void **state)
{
    struct rr_options opt = engine_options("null:base_us=50000,per_token_ns=1000");
    struct rr_engine *e = engine_open(&opt);
    struct documents few = documents_make("f", 1, 1), many = documents_make("many", 50, 50);
    struct request r[9] = { [8].req.timeout_ns = 5000000000 };
    size_t i;

    (void)state;
    for (i = 0; i < 9; i++) { /* 8 times 10 ms a token or so, then 2,500 tokens in two batches */
        r[i].req.no_cache = true;
        request_start(e, &r[i], "q", i < 8 ? &few : &many);
        request_wait(&r[i]);
        assert_logits(&r[i]);
        request_drop(&r[i]);
    }
    assert_true(rr_engine_wait_ns(e, 2500) < 2000000000); /* the large ones count for most */
    rr_close(e);
    documents_free(&few);
    documents_free(&many);
}

static void test_partial(void **state)
{
    struct rr_options opt = engine_options("null:base_us=10000,per_token_ns=100000");
    struct documents d = documents_make("doc", 200, 200);
    struct request r = { .req = { .timeout_ns = 1000000000, .allow_partial = true } };
    struct rr_engine *e;
    size_t i, missing = 0;
    struct rr_stats s;

    (void)state;
    opt.batch_tokens = 2048;
    e = engine_open(&opt);
    free((void *)d.texts[199].data);
    d.texts[199] = d.texts[0]; /* an equal one is scored when the first is */
    request_start(e, &r, "query", &d);
    request_wait(&r);
    assert_true(r.ended - r.submitted < 3); /* all of it takes 4 s: a busy machine has time */
    assert_logits(&r);
    for (i = 0; i < 200; i++) missing += r.result->scores[i].missing;
    assert_int_equal(r.result->n_missing, missing);
    assert_in_range(missing, 1, 198);
    for (i = 0; i < 200; i++) /* missing ones last, by index */
        assert_int_equal(r.result->scores[r.result->order[i]].missing, i >= 200 - missing);
    assert_false(r.result->scores[0].missing);
    rr_engine_stats(e, &s);
    assert_int_equal(s.partial_requests, 1);
    assert_int_equal(s.requests_done, 1);
    request_drop(&r);
    /* Nothing in time is an answer, too. */
    r.req.timeout_ns = 1;
    request_start(e, &r, "query", &d);
    request_wait(&r);
    assert_int_equal(r.code, RR_OK);
    assert_true(r.result->n_missing > 0); /* a batch may begin before the deadline is looked at */
    request_drop(&r);
    rr_close(e);
    d.texts[199].data = NULL;
    d.n = 199;
    documents_free(&d);
}

/* ---- cancels ------------------------------------------------------------------------------- */

/* With a device that does not end its batch before all have been answered. */
static void test_cancel_is_prompt(void **state)
{
    struct fault_control *fault = engine_faults();
    struct rr_options opt = engine_options("fault");
    struct rr_engine *e = engine_open(&opt);
    struct documents d = documents_make("doc", 20, 20);
    struct request r[20];
    double took = 1;
    struct rr_stats s;
    int i, k;

    (void)state;
    for (k = 0; k < 10 && took >= 0.25; k++) { /* a busy machine is slower, but not each time */
        struct request later = { 0 };
        int runs = fault->runs;
        double start;

        fault->hang = 1;
        for (i = 0; i < 20; i++) {
            r[i] = (struct request){ 0 };
            request_start(e, &r[i], i ? "queued" : "in a batch", &d);
        }
        while (fault->runs == runs) sleep_ms(1);
        sleep_ms(50);
        start = seconds();
        for (i = 0; i < 20; i++) rr_cancel(e, r[i].ticket);
        for (i = 0; i < 20; i++) request_wait(&r[i]);
        took = seconds() - start;
        fault->hang = 0;
        for (i = 0; i < 20; i++) assert_int_equal(r[i].code, RR_ECANCELED);
        request_start(e, &later, "later", &d); /* the batch is over */
        request_wait(&later);
        assert_int_equal(later.code, RR_OK);
        request_drop(&later);
    }
    assert_true(took < 0.25);
    rr_engine_stats(e, &s);
    assert_int_equal(s.requests_canceled, 20 * k);
    assert_idle(e);
    rr_close(e);
    documents_free(&d);
}

/* ---- equal pairs in flight ------------------------------------------------------------------- */

static void test_coalescing(void **state)
{
    static const struct {
        bool no_cache, cancel_first, expire_first;
        size_t computed;
        const char *why;
    } cases[] = {
        { false, false, false, 20, "once for both" },
        { false, true, false, 20, "the first leaves, the second is answered" },
        { false, false, true, 20, "the first is late, the second is answered" },
        { true, false, false, 40, "the callers want nothing shared" },
    };
    struct documents d = documents_make("doc", 20, 20), busy = documents_make("busy", 1, 20);
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_options opt = engine_options("null:base_us=200000");
        struct rr_engine *e = engine_open(&opt);
        struct request a = { .req.no_cache = cases[c].no_cache }, b = a, first;
        struct rr_stats s;

        if (cases[c].expire_first) a.req.timeout_ns = 20000000;
        occupy(e, &first, &busy);
        request_start(e, &a, "same", &d);
        sleep_ms(5);
        request_start(e, &b, "same", &d);
        if (cases[c].cancel_first) rr_cancel(e, a.ticket);
        request_wait(&a);
        request_wait(&b);
        request_drop(&first);
        if (!cases[c].cancel_first && !cases[c].expire_first) assert_logits(&a);
        assert_logits(&b);
        rr_engine_stats(e, &s);
        if (s.pairs_done != cases[c].computed + 1)
            fail_msg("%s: %zu pairs", cases[c].why, (size_t)s.pairs_done);
        if (!cases[c].no_cache)
            assert_int_equal(b.result->n_coalesced + (a.result ? a.result->n_coalesced : 0),
                             a.result ? 20 : b.result->n_coalesced);
        request_drop(&a);
        request_drop(&b);
        assert_idle(e);
        rr_close(e);
    }
    documents_free(&d);
    documents_free(&busy);
}

/* ---- shares -------------------------------------------------------------------------------- */

/* A request of 20 documents behind one of 1,000 is answered long before it. */
static void test_small_behind_large(void **state)
{
    static const struct {
        uint64_t tenants[2];
        enum rr_priority priorities[2];
        const char *why;
    } cases[] = {
        { { 0, 0 }, { RR_PRIORITY_NORMAL, RR_PRIORITY_NORMAL }, "two requests of one tenant" },
        { { 1, 2 }, { RR_PRIORITY_NORMAL, RR_PRIORITY_NORMAL }, "two tenants" },
        { { 1, 1 }, { RR_PRIORITY_LOW, RR_PRIORITY_HIGH }, "by priority" },
        { { 1, 1 }, { RR_PRIORITY_HIGH, RR_PRIORITY_LOW }, "of low priority: not starved" },
    };
    struct documents large = documents_make("large", 1000, 100);
    struct documents small = documents_make("small", 20, 50);
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_options opt = engine_options("null:per_token_ns=3000");
        struct rr_engine *e = engine_open(&opt);
        struct request a = { .req = { .tenant = cases[c].tenants[0],
                                      .priority = cases[c].priorities[0] } };
        struct request b = { .req = { .tenant = cases[c].tenants[1],
                                      .priority = cases[c].priorities[1] } };

        request_start(e, &a, "large", &large);
        sleep_ms(20);
        request_start(e, &b, "small", &small);
        request_wait(&b);
        if (request_done(&a)) fail_msg("%s: the large one was first", cases[c].why);
        assert_logits(&b);
        request_wait(&a);
        assert_logits(&a);
        request_drop(&a);
        request_drop(&b);
        rr_close(e);
    }
    documents_free(&large);
    documents_free(&small);
}

/* ---- queue --------------------------------------------------------------------------------- */

static void test_queue_limits(void **state)
{
    static const struct {
        size_t requests, tokens, bytes;
        const char *part, *why;
    } cases[] = {
        { 2, 262144, 1 << 30, "requests", "by requests" },
        { 100, 600, 1 << 30, "tokens", "by tokens" },
        { 100, 262144, 900, "bytes", "by bytes of text" },
    };
    struct documents d = documents_make("doc", 10, 40);
    size_t c;

    (void)state;
    for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rr_options opt = engine_options("null:base_us=100000");
        struct request a = { 0 }, b = { 0 }, more = { .req.goes_on = true };
        struct rr_engine *e;
        struct rr_result *result;
        struct rr_error err;

        opt.queue_requests = cases[c].requests;
        opt.queue_tokens = cases[c].tokens;
        opt.queue_bytes = cases[c].bytes;
        e = engine_open(&opt);
        request_start(e, &a, "a", &d);
        request_start(e, &b, "b", &d);
        assert_int_equal(rr_score(e, &b.req, &result, &err), RR_EBUSY);
        if (!strstr(err.msg, cases[c].part)) fail_msg("%s: %s", cases[c].why, err.msg);
        request_start(e, &more, "c", &d); /* of a request that was taken: there is always room */
        request_wait(&more);
        assert_logits(&more);
        request_drop(&more);
        request_drop(&a);
        request_drop(&b);
        assert_int_equal(rr_score(e, &b.req, &result, &err), RR_OK); /* room again */
        rr_result_free(result);
        rr_close(e);
    }
    documents_free(&d);
}

/* Larger than the whole queue: taken when it is empty. */
static void test_larger_than_the_queue(void **state)
{
    struct rr_options opt = engine_options("null");
    struct documents d = documents_make("doc", 100, 400);
    struct request r = { 0 };
    struct rr_engine *e;

    (void)state;
    opt.queue_tokens = 1000;
    opt.queue_bytes = 1000;
    e = engine_open(&opt);
    request_start(e, &r, "q", &d);
    request_wait(&r);
    assert_logits(&r);
    request_drop(&r);
    rr_close(e);
    documents_free(&d);
}

/* ---- everything at once ---------------------------------------------------------------------- */

struct client {
    struct rr_engine *e;
    unsigned seed;
    int ok, late;
};

/* Random requests, some with a deadline, many alike. */
static void *client_main(void *arg)
{
    struct client *c = arg;
    int i;

    for (i = 0; i < 250; i++) {
        struct documents d =
            documents_make("doc", 1 + (size_t)rand_r(&c->seed) % 40, (size_t)rand_r(&c->seed) % 60);
        struct request r = { 0 };

        if (rand_r(&c->seed) % 4 == 0) r.req.timeout_ns = 1 + (uint64_t)rand_r(&c->seed) % 4000000;
        r.req.allow_partial = rand_r(&c->seed) % 2;
        r.req.no_cache = rand_r(&c->seed) % 4 == 0;
        r.req.tenant = (uint64_t)rand_r(&c->seed) % 3;
        r.req.priority = (enum rr_priority)(rand_r(&c->seed) % 3 - 1);
        request_start(c->e, &r, rand_r(&c->seed) % 2 ? "one" : "two", &d);
        request_wait(&r);
        if (r.code == RR_OK) assert_logits(&r);
        c->ok += r.code == RR_OK;
        c->late += r.code == RR_ETIMEDOUT;
        request_drop(&r);
        documents_free(&d);
    }
    return NULL;
}

static void test_ledger(void **state)
{
    struct rr_options opt = engine_options("null:base_us=100");
    struct client clients[8];
    pthread_t threads[8];
    struct rr_engine *e;
    struct rr_stats s;
    int i, ok = 0, late = 0;

    (void)state;
    opt.cache_bytes = 64 << 10; /* small: entries come and go */
    e = engine_open(&opt);
    for (i = 0; i < 8; i++) {
        clients[i] = (struct client){ .e = e, .seed = (unsigned)i + 1 };
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        ok += clients[i].ok;
        late += clients[i].late;
    }
    rr_engine_stats(e, &s);
    assert_int_equal(ok + late, 8 * 250);
    assert_int_equal(s.requests_done, ok);
    assert_int_equal(s.requests_failed, late);
    assert_true(late > 0);
    assert_true(ok > 8 * 125);
    assert_idle(e);
    rr_close(e);
}

/* Cancels at every stage.  on_done waits for the canceller, so that the ticket stays valid. */
struct canceled {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool cancel_over;
    int calls, code;
};

static void after_cancel(void *user, struct rr_result *result, const struct rr_error *err)
{
    struct canceled *c = user;

    pthread_mutex_lock(&c->lock);
    while (!c->cancel_over) pthread_cond_wait(&c->changed, &c->lock);
    c->calls++;
    c->code = err->code;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    rr_result_free(result);
}

static void test_cancel_anywhere(void **state)
{
    struct rr_options opt = engine_options("null:base_us=50");
    struct rr_engine *e = engine_open(&opt);
    struct documents d = documents_make("doc", 40, 30);
    struct rr_request req = { .query = { "q", 1 }, .documents = d.texts, .n_documents = d.n };
    unsigned seed = 5;
    int i, canceled = 0;

    (void)state;
    for (i = 0; i < 1500; i++) {
        struct canceled c = { .lock = PTHREAD_MUTEX_INITIALIZER,
                              .changed = PTHREAD_COND_INITIALIZER };
        struct timespec ts = { 0, (long)(rand_r(&seed) % 300) * 1000 };
        struct rr_ticket *ticket;
        struct rr_error err;

        assert_int_equal(rr_submit(e, &req, after_cancel, &c, &ticket, &err), RR_OK);
        nanosleep(&ts, NULL);
        rr_cancel(e, ticket);
        pthread_mutex_lock(&c.lock);
        c.cancel_over = true;
        pthread_cond_broadcast(&c.changed);
        while (!c.calls) pthread_cond_wait(&c.changed, &c.lock);
        pthread_mutex_unlock(&c.lock);
        assert_true(c.code == RR_OK || c.code == RR_ECANCELED);
        canceled += c.code == RR_ECANCELED;
    }
    assert_in_range(canceled, 100, 1500);
    rr_close(e);
    documents_free(&d);
}

struct watch { /* over what closing an engine leaves behind */
    atomic_int lines; /* warnings and worse */
    size_t before;    /* bytes in use */
};

static void count_line(void *user, enum rr_log_level level, const char *line)
{
    (void)level;
    (void)line;
    ++((struct watch *)user)->lines;
}

static void watch_begin(struct watch *w)
{
    *w = (struct watch){ .before = fault_memory_in_use() };
    rr_set_log(count_line, w, RR_LOG_WARN);
}

static void assert_nothing_left(const struct watch *w)
{
    rr_set_log(NULL, NULL, RR_LOG_WARN);
    assert_int_equal(w->lines, 0);
    assert_int_equal(fault_memory_in_use(), w->before);
}

/* "Never" and "at once" for a hanging device: neither a device that computes, nor one that has
 * nothing to do when the engine is closed, hangs. */
static void test_stall_at_the_limits(void **state)
{
    static const uint64_t limits[] = { UINT64_MAX, UINT64_MAX - 1000000000u, 1 };
    struct watch w;
    size_t i;

    (void)state;
    watch_begin(&w);
    for (i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        struct rr_options opt = engine_options(i < 2 ? "null:base_us=20000" : "null");
        struct documents d = documents_make("doc", 10, 100);
        struct rr_engine *e;
        struct request r = { 0 };

        opt.stall_ns = limits[i];
        e = engine_open(&opt);
        if (i < 2) {
            request_start(e, &r, "q", &d);
            request_wait(&r);
            assert_logits(&r);
            request_drop(&r);
        }
        rr_close(e);
        documents_free(&d);
    }
    assert_nothing_left(&w);
}

/* A run that nobody waits for any more takes longer than stall_ns, but no longer than it should:
 * closing waits for it. */
static void test_close_during_a_long_run(void **state)
{
    struct rr_options opt = engine_options("null:per_token_ns=1000000");
    struct documents few, many;
    struct watch w;
    struct rr_engine *e;
    struct request r = { 0 };

    (void)state;
    watch_begin(&w);
    few = documents_make("doc", 1, 10);
    many = documents_make("doc", 1, 1900);
    opt.max_length = 2048;
    opt.stall_ns = 300000000;
    e = engine_open(&opt);
    request_start(e, &r, "q", &few);
    request_wait(&r); /* now it is known how long a token takes */
    request_drop(&r);
    request_start(e, &r, "q", &many);
    sleep_ms(100);
    rr_cancel(e, r.ticket);
    request_wait(&r);
    request_drop(&r);
    rr_close(e);
    documents_free(&few);
    documents_free(&many);
    assert_nothing_left(&w);
}

/* Each allocation of a request fails once: a clean error or a right answer. */
static void test_memory_faults(void **state)
{
    struct rr_options opt = engine_options("null");
    struct rr_engine *e = engine_open(&opt);
    struct documents d = documents_make("doc", 40, 600);
    struct rr_request req = { .query = { "q", 1 },
                              .documents = d.texts,
                              .n_documents = d.n,
                              .window = { 200, 100, RR_POOL_MAX_SCORE } };
    int failures = 0, successes = 0;
    uint64_t n;

    (void)state;
    for (n = 1; n < 400; n += 1 + n / 20) {
        struct rr_result *r;
        struct rr_error err;
        int rc;

        rr_mem_fault(n, n % 2 == 0);
        rc = rr_score(e, &req, &r, &err);
        rr_mem_fault(0, false);
        if (rc) assert_int_equal(rc, RR_ENOMEM);
        failures += rc != 0;
        successes += rc == 0;
        rr_result_free(r);
    }
    assert_true(failures > 10);
    assert_idle(e);
    rr_close(e);
    documents_free(&d);
    print_message("%d failed, %d did not\n", failures, successes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_hopeless_is_not_started),
        cmocka_unit_test(test_base_is_no_speed),
        cmocka_unit_test(test_partial),
        cmocka_unit_test(test_cancel_is_prompt),
        cmocka_unit_test(test_coalescing),
        cmocka_unit_test(test_small_behind_large),
        cmocka_unit_test(test_queue_limits),
        cmocka_unit_test(test_larger_than_the_queue),
        cmocka_unit_test(test_ledger),
        cmocka_unit_test(test_cancel_anywhere),
        cmocka_unit_test(test_memory_faults),
        cmocka_unit_test(test_stall_at_the_limits),
        cmocka_unit_test(test_close_during_a_long_run),
    };

    rr_set_log(NULL, NULL, RR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
