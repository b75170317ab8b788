/* SPDX-License-Identifier: Apache-2.0 */
/* test_team.c - engines that share a device: whose turn it is (policy alone, then engines on "null"
 * under load), the compute threads that they share, and the bits of their scores. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/clock.h"
#include "engine/team.h"

#include "engine_support.h"

/* Jain's index of how evenly n got theirs: 1 when all have the same, 1/n when one has all. */
static double jain(const double *x, size_t n)
{
    double sum = 0, squares = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    return sum * sum / ((double)n * squares);
}

/* ---- policy --------------------------------------------------------------------------------- */

enum { MODELS = 3, TENANTS = 12 };

struct load { /* who waits where, all the time */
    const char *why;
    const char *tenants[MODELS]; /* a letter for each tenant that waits at the model */
    double cost[MODELS];         /* of a turn, in milliseconds */
    double least_jain;           /* of the tenants' time */
};

static void claim(struct rr_claim *c, const char *tenants)
{
    memset(c, 0, sizeof(*c));
    for (; *tenants; tenants++) c->tenants[RR_CLASS_NORMAL][rr_flows_home((uint64_t)*tenants)]++;
}

/* A turn's time goes to the model's tenants by the quanta that their batcher gives them. */
static void spend(const struct rr_grant *g, const char *tenants, double ms, double *time)
{
    double sum = 0;
    const char *t;

    for (t = tenants; *t; t++) sum += 1.0 / g->models[RR_CLASS_NORMAL][rr_flows_home((uint64_t)*t)];
    for (t = tenants; *t; t++)
        time[*t - 'a'] += ms / g->models[RR_CLASS_NORMAL][rr_flows_home((uint64_t)*t)] / sum;
}

static void test_shares(void **state)
{
    static const struct load loads[] = {
        { "one tenant each: half and half", { "a", "b", "" }, { 1, 1, 1 }, 0.999 },
        { "turns of other lengths: time counts, not turns", { "a", "b", "" }, { 9, 1, 1 }, 0.99 },
        { "many at one model do not push the one at another out, nor it them",
          { "abcdefghij", "k", "" },
          { 5, 2, 1 },
          0.99 },
        { "who asks two models gets no more than who asks one",
          { "ab", "a", "" },
          { 1, 1, 1 },
          0.999 },
        { "... three", { "ab", "ac", "ad" }, { 3, 2, 1 }, 0.99 },
    };
    size_t i, m, n;

    (void)state;
    for (i = 0; i < RR_COUNT(loads); i++) {
        const struct load *l = &loads[i];
        struct rr_turns turns = { 0 };
        struct rr_stake stakes[MODELS] = { 0 };
        double time[TENANTS] = { 0 }, used[MODELS] = { 0 };
        struct rr_claim claims[MODELS];
        struct rr_grant grant;

        for (m = 0; m < MODELS; m++) {
            claim(&claims[m], l->tenants[m]);
            if (*l->tenants[m]) rr_turns_claim(&turns, &stakes[m], &claims[m]);
        }
        for (n = 0; n < 5000; n++) {
            struct rr_stake *s = rr_turns_next(&turns, &grant);

            assert_non_null(s);
            m = (size_t)(s - stakes);
            spend(&grant, l->tenants[m], l->cost[m], time);
            used[m] += l->cost[m];
            rr_turns_charge(s, (uint64_t)(l->cost[m] * 1e6));
            rr_turns_claim(&turns, s, &claims[m]);
        }
        for (n = 0; n < TENANTS && time[n] > 0; n++) continue;
        if (jain(time, n) < l->least_jain) fail_msg("%s: %f", l->why, jain(time, n));
        for (m = 0; m < MODELS; m++)
            if (*l->tenants[m] && used[m] <= 0) fail_msg("%s: model %zu got nothing", l->why, m);
    }
}

/* Who had nothing to do for long is next, but does not make up for all that time. */
static void test_coming_back(void **state)
{
    struct rr_turns turns = { 0 };
    struct rr_stake a = { 0 }, b = { 0 };
    struct rr_claim one;
    struct rr_grant grant;
    size_t n, turns_of_b = 0;

    (void)state;
    claim(&one, "a");
    rr_turns_claim(&turns, &a, &one);
    for (n = 0; n < 1000; n++) {
        assert_ptr_equal(rr_turns_next(&turns, &grant), &a);
        rr_turns_charge(&a, 1000000);
        rr_turns_claim(&turns, &a, &one);
    }
    claim(&one, "b");
    rr_turns_claim(&turns, &b, &one);
    for (n = 0; n < 100; n++) {
        struct rr_stake *s = rr_turns_next(&turns, &grant);

        if (n <= 1) assert_true(n == 0 || s == &b || turns_of_b == 1); /* within two turns */
        turns_of_b += s == &b;
        claim(&one, s == &b ? "b" : "a");
        rr_turns_charge(s, 1000000);
        rr_turns_claim(&turns, s, &one);
    }
    assert_in_range(turns_of_b, 49, 51);
    rr_turns_claim(&turns, &a, NULL);
    rr_turns_claim(&turns, &b, NULL);
    assert_null(rr_turns_next(&turns, &grant));
    assert_true(rr_turns_share(&turns, &a) == 1);
}

/* HIGH goes first, whichever model it waits at, and still nobody starves. */
static void test_classes(void **state)
{
    struct rr_turns turns = { 0 };
    struct rr_stake high = { 0 }, normal = { 0 }, low = { 0 };
    struct rr_claim claims[RR_CLASSES] = { 0 };
    struct rr_stake *const stakes[RR_CLASSES] = { &high, &normal, &low };
    size_t n, got[RR_CLASSES] = { 0 };
    struct rr_grant grant;
    int c;

    (void)state;
    for (c = 0; c < RR_CLASSES; c++) {
        claims[c].tenants[c][7] = 1;
        rr_turns_claim(&turns, stakes[c], &claims[c]);
    }
    for (n = 0; n < 160; n++) {
        struct rr_stake *s = rr_turns_next(&turns, &grant);

        assert_ptr_equal(s, stakes[grant.lead]);
        got[grant.lead]++;
        rr_turns_charge(s, 1000);
        rr_turns_claim(&turns, s, &claims[grant.lead]);
    }
    assert_int_equal(got[RR_CLASS_LOW], 10);
    assert_int_equal(got[RR_CLASS_NORMAL], 30);
    assert_int_equal(got[RR_CLASS_HIGH], 120);
}

static uint64_t now_ns = RR_SECOND; /* of the test below */

static uint64_t slow_clock(void)
{
    return now_ns;
}

/* A runner that takes over from another wakes up late, and that is nobody's time: five tenants at
 * one model and one at another have a sixth of the turns each. */
static void test_late_runners(void **state)
{
    struct rr_member *members[2], *last = NULL;
    struct rr_team *team = NULL;
    struct rr_claim claims[2];
    struct rr_error err;
    size_t n, i, turns[2] = { 0 };

    (void)state;
    assert_int_equal(rr_team_open(&team, 1, &err), RR_OK);
    claim(&claims[0], "abcde");
    claim(&claims[1], "f");
    rr_clock_fake(slow_clock);
    for (i = 0; i < 2; i++) {
        assert_int_equal(rr_team_join(&members[i], team, "a device", 1, &err), RR_OK);
        rr_team_quit(members[i]); /* rr_team_wait says at once whose turn it is */
        rr_team_ask(members[i], &claims[i]);
    }
    for (n = 0; n < 120; n++) {
        const struct rr_grant *grant;

        for (i = 0; !rr_team_wait(members[i], &grant); i++) assert_int_equal(i, 0);
        if (members[i] != last) now_ns += 10 * RR_MILLISECOND; /* only now does it wake up */
        last = members[i];
        assert_true(rr_team_wait(last, &grant));
        turns[i]++;
        now_ns += RR_MILLISECOND;
        rr_team_done(members[i], &claims[i]);
    }
    rr_clock_fake(NULL);
    assert_in_range(turns[1], 19, 21);
    rr_team_leave(members[0]);
    rr_team_leave(members[1]);
    rr_team_close(team);
}

/* ---- engines -------------------------------------------------------------------------------- */

static struct rr_team *team_open(uint32_t threads)
{
    struct rr_team *team;
    struct rr_error err;

    if (rr_team_open(&team, threads, &err)) fail_msg("%s", err.msg);
    return team;
}

static struct rr_engine *open_with(struct rr_team *team, const char *device, const char *model,
                                   uint32_t max_length)
{
    struct rr_options opt = engine_options(device);
    struct rr_engine *e;
    struct rr_error err;

    opt.model = model;
    opt.queue_tokens = (size_t)1 << 24;
    opt.max_length = opt.batch_tokens = max_length;
    if (rr_open_in(&e, team, &opt, &err)) fail_msg("%s", err.msg);
    return e;
}

static struct rr_engine *open_in(struct rr_team *team, const char *device, const char *model)
{
    return open_with(team, device, model, 0);
}

/* Batches of one document: many short turns. */
static struct rr_engine *open_slow(struct rr_team *team)
{
    return open_with(team, "null:per_token_ns=5000", TINY_MODEL, 640);
}

enum { EACH = 60, SIZE = 10 }; /* requests of a tenant at a model, documents of some */

struct crowd { /* a tenant's requests at one model, all at once */
    struct rr_engine *engine;
    uint64_t tenant;
    char queries[EACH][32];
    struct request requests[EACH];
};

static void crowd_start(struct crowd *c, const struct documents *docs)
{
    size_t i;

    for (i = 0; i < EACH; i++) {
        /* Texts of its own, or equal pairs would be computed once. */
        snprintf(c->queries[i], sizeof(c->queries[i]), "tenant %d, %zu", (int)c->tenant, i);
        c->requests[i].req.tenant = c->tenant;
        c->requests[i].req.no_cache = true;
        request_start(c->engine, &c->requests[i], c->queries[i], docs);
    }
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* How many requests each tenant had answered when the first `upto` of all were. */
static void count_answers(struct crowd *crowds, size_t n, size_t upto, double *answered,
                          size_t tenants)
{
    static double times[TENANTS * EACH];
    size_t i, k, m = 0;

    for (i = 0; i < n; i++)
        for (k = 0; k < EACH; k++) times[m++] = crowds[i].requests[k].ended;
    qsort(times, m, sizeof(*times), by_time);
    memset(answered, 0, tenants * sizeof(*answered));
    for (i = 0; i < n; i++)
        for (k = 0; k < EACH; k++)
            answered[crowds[i].tenant] += crowds[i].requests[k].ended <= times[upto - 1];
}

#define FAIR 0.95 /* Jain's index */

/* Jain's index of the answers that each tenant had.  upto: while none of them has run out of
 * requests.  A batch of another engine keeps the device until all of them are there; below 0: it
 * did not. */
static double fairness(struct rr_team *team, struct crowd *crowds, size_t n, size_t tenants,
                       size_t upto)
{
    /* One document each: requests of several end nearly together, whatever each one's share is. */
    struct documents docs = documents_make("document", 1, 500);
    struct rr_engine *first = open_in(team, "null:base_us=500000", TINY_MODEL);
    struct request all_there = { .req.no_cache = true };
    double answered[TENANTS];
    bool late;
    size_t i, k;

    request_start(first, &all_there, "first", &docs);
    for (i = 0; i < n; i++) crowd_start(&crowds[i], &docs);
    late = request_done(&all_there);
    request_wait(&all_there);
    request_drop(&all_there);
    rr_close(first);
    for (i = 0; i < n; i++)
        for (k = 0; k < EACH; k++) {
            request_wait(&crowds[i].requests[k]);
            assert_int_equal(crowds[i].requests[k].code, RR_OK);
            request_drop(&crowds[i].requests[k]);
        }
    count_answers(crowds, n, upto, answered, tenants);
    documents_free(&docs);
    if (late) return -1;
    if (jain(answered, tenants) < FAIR)
        for (i = 0; i < tenants; i++) print_message("tenant %zu: %.0f\n", i, answered[i]);
    return jain(answered, tenants);
}

/* Time is what is shared, and answers are what can be counted: on a busy machine a batch may take
 * much longer than its tokens should, and its model then gets fewer of them.  Over a hundred short
 * batches that evens out (0.99 and more at three times as many busy threads as processors), but
 * for a pause of the whole machine, which comes once; taking turns by models alone gives 0.9 and
 * 0.55 in the two tests below, each time.  So the best of three attempts tells them apart. */
static void check_fair(struct rr_team *team, struct crowd *crowds, size_t n, size_t tenants,
                       size_t upto)
{
    double index, best = -1;
    int i;

    for (i = 0; i < 3 && best < FAIR; i++) {
        index = fairness(team, crowds, n, tenants, upto);
        best = RR_MAX(best, index);
        if (index < FAIR) print_message("Jain's index is %f, attempt %d\n", index, i + 1);
    }
    if (best < 0)
        print_message("a slow machine: says nothing\n");
    else if (best < FAIR)
        fail_msg("Jain's index is %f at best", best);
}

static void test_tenant_at_two_models(void **state)
{
    static struct crowd crowds[3];
    struct rr_team *team = team_open(1);
    struct rr_engine *a = open_slow(team), *b = open_slow(team);

    (void)state;
    crowds[0] = (struct crowd){ .engine = a, .tenant = 0 };
    crowds[1] = (struct crowd){ .engine = b, .tenant = 0 };
    crowds[2] = (struct crowd){ .engine = a, .tenant = 1 };
    check_fair(team, crowds, 3, 2, 100); /* by models alone: 67 to 33 */
    rr_close(a);
    rr_close(b);
    rr_team_close(team);
}

static void test_tenant_alone_at_a_model(void **state)
{
    static struct crowd crowds[6];
    struct rr_team *team = team_open(1);
    struct rr_engine *a = open_slow(team), *b = open_slow(team);
    size_t i;

    (void)state;
    for (i = 0; i < 6; i++) crowds[i] = (struct crowd){ .engine = i < 5 ? a : b, .tenant = i };
    check_fair(team, crowds, 6, 6, 110); /* by models: 55 for one, 11 each for five */
    rr_close(a);
    rr_close(b);
    rr_team_close(team);
}

/* A thousand requests at one model: what comes to another one waits for a batch or two, not for
 * them. */
static void test_flood(void **state)
{
    static struct crowd flood;
    struct documents docs = documents_make("document", SIZE, 60);
    struct rr_team *team = team_open(1);
    struct rr_engine *a = open_in(team, "null:per_token_ns=2000", TINY_MODEL);
    struct rr_engine *b = open_in(team, "null:per_token_ns=2000", TINY_MODEL);
    struct request one = { 0 };
    struct rr_stats before, after;
    size_t i;

    (void)state;
    flood = (struct crowd){ .engine = a, .tenant = 1 };
    crowd_start(&flood, &docs);
    for (i = 0; i < 5; i++) {
        rr_engine_stats(a, &before);
        one = (struct request){ .req.tenant = 1, .req.no_cache = true };
        request_start(b, &one, "another model", &docs);
        request_wait(&one);
        rr_engine_stats(a, &after);
        assert_int_equal(one.code, RR_OK);
        request_drop(&one);
        assert_true(after.batches_done - before.batches_done <= 4);
    }
    assert_true(after.queue_requests > 0); /* the flood was on all the time */
    assert_true(rr_engine_wait_ns(b, 1000) > 0);
    for (i = 0; i < EACH; i++) {
        request_wait(&flood.requests[i]);
        request_drop(&flood.requests[i]);
    }
    rr_close(b);
    rr_close(a);
    rr_team_close(team);
    documents_free(&docs);
}

/* An engine can be closed while others wait for the device, and opened beside them. */
static void test_close_under_load(void **state)
{
    static struct crowd crowds[2];
    struct documents docs = documents_make("document", SIZE, 60);
    struct rr_team *team = team_open(1);
    struct rr_engine *a = open_in(team, "null:per_token_ns=1000", TINY_MODEL), *b;
    size_t i, k;

    (void)state;
    crowds[0] = (struct crowd){ .engine = a, .tenant = 0 };
    crowd_start(&crowds[0], &docs);
    for (i = 0; i < 3; i++) {
        b = open_in(team, "null:per_token_ns=10", TINY_MODEL);
        crowds[1] = (struct crowd){ .engine = b, .tenant = 1 };
        crowd_start(&crowds[1], &docs);
        rr_close(b); /* finishes what it has accepted */
        for (k = 0; k < EACH; k++) {
            assert_int_equal(crowds[1].requests[k].code, RR_OK);
            request_drop(&crowds[1].requests[k]);
        }
    }
    for (k = 0; k < EACH; k++) {
        request_wait(&crowds[0].requests[k]);
        assert_int_equal(crowds[0].requests[k].code, RR_OK);
        request_drop(&crowds[0].requests[k]);
    }
    rr_close(a);
    rr_team_close(team);
    documents_free(&docs);
}

/* An idle engine beside a busy one stays well: its probe gets a turn. */
static void test_probe(void **state)
{
    struct rr_team *team = team_open(1);
    struct rr_engine *a = open_in(team, "null", TINY_MODEL), *b = open_in(team, "null", TINY_MODEL);
    struct rr_health health;

    (void)state;
    rr_engine_health(a, &health);
    assert_true(health.ok);
    rr_engine_health(b, &health);
    assert_true(health.ok);
    rr_close(a);
    rr_close(b);
    rr_team_close(team);
}

/* A model is closed while one of its devices hangs and it waits for its turn at another one: that
 * turn is nobody's, and the other model goes on there. */
static void test_close_hanging(void **state)
{
    static struct rr_team *team; /* left behind with the model */
    static struct rr_engine *a;
    struct fault_control *fault = engine_faults();
    struct documents docs = documents_make("document", 1, 0);
    struct request hangs = { .req.no_cache = true }, waits = hangs, first = hangs, next = hangs;
    struct rr_options opt = engine_options("auto");
    struct rr_engine *b;
    struct rr_error err;

    (void)state;
    rr_set_log(log_nothing, NULL, RR_LOG_ERROR);
    team = team_open(1);
    opt.devices = "fault:0,fault:1";
    opt.stall_ns = 500000000;
    if (rr_open_in(&a, team, &opt, &err)) fail_msg("%s", err.msg);
    b = open_in(team, "fault:1", TINY_MODEL);
    fault[0].runs = fault[1].runs = 0;
    fault[0].hang = fault[1].hang = 1;
    request_start(b, &first, "first", &docs); /* b has the device */
    while (!fault[1].runs) sleep_ms(1);
    request_start(a, &hangs, "hangs", &docs);
    while (!fault[0].runs) sleep_ms(1);
    request_start(a, &waits, "waits", &docs); /* a asks for its turn there, too */
    sleep_ms(50);
    rr_cancel(a, hangs.ticket);
    rr_cancel(a, waits.ticket);
    request_drop(&hangs);
    request_drop(&waits);
    rr_close(a);
    fault[1].hang = 0;
    request_drop(&first);
    next.req.timeout_ns = 10000000000;
    request_start(b, &next, "next", &docs);
    request_wait(&next);
    assert_int_equal(next.code, RR_OK);
    request_drop(&next);
    rr_close(b);
    rr_team_close(team);
    fault[0].hang = 0;
    documents_free(&docs);
}

/* ---- the CPU -------------------------------------------------------------------------------- */

/* Threads of this process whose name begins so. */
static unsigned threads_called(const char *start)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *d;
    unsigned n = 0;

    assert_non_null(dir);
    while ((d = readdir(dir))) {
        char path[300], name[32] = "";
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", d->d_name);
        f = fopen(path, "r");
        if (!f) continue;
        if (fgets(name, sizeof(name), f) && strncmp(name, start, strlen(start)) == 0) n++;
        fclose(f);
    }
    closedir(dir);
    return n;
}

static void score(struct rr_engine *e, const struct documents *docs, float *logits)
{
    struct rr_request req = { .query = { "which one", 9 },
                              .documents = docs->texts,
                              .n_documents = docs->n,
                              .no_cache = true };
    struct rr_result *r;
    struct rr_error err;
    size_t i;

    if (rr_score(e, &req, &r, &err)) fail_msg("%s", err.msg);
    for (i = 0; i < docs->n; i++) logits[i] = r->scores[i].logit;
    rr_result_free(r);
}

struct user { /* of one engine */
    struct rr_engine *engine;
    const struct documents *docs;
    const float *expected;
    bool wrong;
};

static void *use(void *arg)
{
    struct user *u = arg;
    float logits[SIZE];
    int i;

    for (i = 0; i < 5; i++) {
        score(u->engine, u->docs, logits);
        if (memcmp(logits, u->expected, sizeof(logits)) != 0) u->wrong = true;
    }
    return NULL;
}

/* Three models, three workers, all used at once: as many threads as for one, and the bits that each
 * has alone. */
static void test_shared_threads(void **state)
{
    static const char *const models[MODELS] = { "tests/golden/models/tiny-xlmr",
                                                "tests/golden/models/tiny-bert",
                                                "tests/golden/models/tiny-roberta" };
    struct documents docs = documents_make("document", SIZE, 60);
    float alone[MODELS][SIZE];
    struct user users[2 * MODELS];
    pthread_t threads[2 * MODELS];
    struct rr_engine *engines[MODELS];
    struct rr_team *team = team_open(3);
    size_t m;

    (void)state;
    for (m = 0; m < MODELS; m++) {
        struct rr_options opt = engine_options("cpu");
        struct rr_engine *e;

        opt.model = models[m];
        opt.threads = 2;
        e = engine_open(&opt);
        score(e, &docs, alone[m]);
        rr_close(e);
    }
    assert_int_equal(threads_called("rr-cpu-"), 0);
    for (m = 0; m < MODELS; m++) {
        engines[m] = open_in(team, "cpu", models[m]);
        assert_int_equal(rr_engine_info(engines[m])->threads, 3);
    }
    assert_int_equal(threads_called("rr-cpu-"), 2); /* the third is the runner whose turn it is */
    for (m = 0; m < 2 * MODELS; m++) {
        users[m] = (struct user){ engines[m % MODELS], &docs, alone[m % MODELS], false };
        assert_int_equal(pthread_create(&threads[m], NULL, use, &users[m]), 0);
    }
    for (m = 0; m < 2 * MODELS; m++) {
        pthread_join(threads[m], NULL);
        assert_false(users[m].wrong);
    }
    for (m = 0; m < MODELS; m++) rr_close(engines[m]);
    rr_team_close(team);
    assert_int_equal(threads_called("rr-cpu-"), 0);
    documents_free(&docs);
}

static void test_bad_team(void **state)
{
    struct rr_team *team;
    struct rr_error err;

    (void)state;
    assert_int_equal(rr_team_open(&team, 100000, &err), RR_EINVAL);
    assert_null(team);
    rr_team_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_coming_back),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_late_runners),
        cmocka_unit_test(test_tenant_at_two_models),
        cmocka_unit_test(test_tenant_alone_at_a_model),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_close_under_load),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_close_hanging),
        cmocka_unit_test(test_shared_threads),
        cmocka_unit_test(test_bad_team),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
