/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_shadow.c - "rerankd shadow": replies of every form, and differences known by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/shadow.h"
#include "cli/verify.h"
#include "support/fault.h"

#define RAGFAB \
    "[{\"chunk_id\":\"a\",\"content\":\"x\"},{\"chunk_id\":\"b\",\"content\":\"x\"}," \
    "{\"chunk_id\":\"c\",\"content\":\"y\"}]"
#define INSTANCES \
    "[{\"query\":\"q\",\"texts\":[\"x\",\"y\"]},{\"query\":\"r\",\"texts\":[\"z\",\"x\",\"y\"]}]"
#define STRINGS "[\"x\",\"x\",\"y\"]"

static void near(double a, double b)
{
    if (fabs(a - b) > 1e-6) fail_msg("%.9g, expected %.9g", a, b);
}

static json_t *parse(const char *text)
{
    struct rr_error err = { 0 };
    json_t *v = NULL;

    assert_int_equal(rr_json_parse(&v, rr_text(text), 0, RR_JSON_DUP_LAST, &err), RR_OK);
    return v;
}

static int read_reply(struct rr_ranking *r, const char *documents, const char *reply)
{
    struct rr_error err = { 0 };
    json_t *list = parse(documents);
    int rc = rr_ranking_read(r, list, rr_text(reply), &err);

    json_decref(list);
    return rc;
}

static const struct {
    const char *why, *documents, *reply;
    int rc;
    const char *order; /* indexes, best first; '=' between equal ones */
    float score0;      /* of document 0, NAN: none */
} replies[] = {
    { "TEI: a bare list, ties in the order of the reply", STRINGS,
      "[{\"index\":2,\"score\":0.9},{\"index\":1,\"score\":0.5},{\"index\":0,\"score\":0.5}]",
      RR_OK, "21=0", 0.5f },
    { "Cohere and Jina", STRINGS,
      "{\"id\":\"1\",\"results\":[{\"index\":1,\"relevance_score\":3.5},"
      "{\"index\":0,\"relevance_score\":-1,\"document\":{\"text\":\"x\"}}]}",
      RR_OK, "10", -1 },
    { "Voyage", STRINGS, "{\"data\":[{\"index\":0,\"relevance_score\":0.25}]}", RR_OK, "0", 0.25f },
    { "NIM: logits", STRINGS,
      "{\"rankings\":[{\"index\":0,\"logit\":-4},{\"index\":1,\"logit\":-5}]}", RR_OK, "01", -4 },
    { "vLLM's score: in the order of the request", STRINGS,
      "{\"data\":[{\"index\":0,\"score\":0.1},{\"index\":1,\"score\":0.3},{\"index\":2,\"score\":0.2}]}",
      RR_OK, "120", 0.1f },
    { "Weaviate: no index, in the order of the request", STRINGS,
      "{\"scores\":[{\"document\":\"x\",\"score\":0.1},{\"document\":\"x\",\"score\":0.3},"
      "{\"document\":\"y\",\"score\":0.2}]}",
      RR_OK, "120", 0.1f },
    { "DashScope: in an object of its own", STRINGS,
      "{\"output\":{\"results\":[{\"index\":1,\"relevance_score\":0.5}]},\"request_id\":\"1\"}",
      RR_OK, "1", NAN },
    { "labels of pairs, in the order of the request", STRINGS,
      "[[{\"score\":0.1,\"label\":\"L\"}],[{\"score\":0.3}],[{\"score\":0.2}]]", RR_OK, "120",
      0.1f },
    { "bare numbers", STRINGS, "{\"scores\":[0.5,0.75,0.25]}", RR_OK, "102", 0.5f },
    { "ragfab's old form: the documents, without scores", RAGFAB,
      "{\"documents\":[{\"chunk_id\":\"c\",\"content\":\"y\"},{\"chunk_id\":\"a\",\"content\":\"x\"}],"
      "\"count\":2}",
      RR_OK, "20", NAN },
    { "ids decide, not texts", RAGFAB,
      "{\"documents\":[{\"chunk_id\":\"b\",\"content\":\"x\"},{\"chunk_id\":\"a\",\"content\":\"x\"}]}",
      RR_OK, "10", NAN },
    { "ragfab's newer form has scores", RAGFAB,
      "{\"documents\":[{\"chunk_id\":\"a\",\"score\":0.75}]}", RR_OK, "0", 0.75f },
    { "equal texts are taken in turn", STRINGS,
      "{\"results\":[{\"text\":\"y\",\"score\":3},{\"text\":\"x\",\"score\":2},"
      "{\"text\":\"x\",\"score\":1}]}",
      RR_OK, "201", 2 },
    { "nothing asked for", RAGFAB, "{\"documents\":[],\"count\":0}", RR_OK, "", NAN },
    { "Vertex: a list for each instance", INSTANCES,
      "{\"predictions\":[[{\"index\":1,\"score\":0.5},{\"index\":0,\"score\":0.25}],"
      "[{\"index\":2,\"score\":1}]]}",
      RR_OK, "10", 0.25f },
    { "a list for one of two instances", INSTANCES, "{\"predictions\":[[]]}", RR_EFORMAT, "", 0 },
    { "an index of another instance", INSTANCES,
      "{\"predictions\":[[{\"index\":2,\"score\":1}],[]]}", RR_EFORMAT, "", 0 },
    { "no list for an instance", INSTANCES, "{\"predictions\":[[],1]}", RR_EFORMAT, "", 0 },
    { "an index that is not there", STRINGS, "[{\"index\":3,\"score\":1}]", RR_EFORMAT, "", 0 },
    { "a negative index", STRINGS, "[{\"index\":-1,\"score\":1}]", RR_EFORMAT, "", 0 },
    { "an index that comes twice", STRINGS, "[{\"index\":1,\"score\":1},{\"index\":1,\"score\":1}]",
      RR_EFORMAT, "", 0 },
    { "more scores than documents", STRINGS, "[1,2,3,4]", RR_EFORMAT, "", 0 },
    { "a document of somebody else", RAGFAB, "{\"documents\":[{\"chunk_id\":\"z\"}]}", RR_EFORMAT,
      "", 0 },
    { "an object of no known form", STRINGS, "{\"detail\":\"no\"}", RR_EFORMAT, "", 0 },
    { "no JSON", STRINGS, "<html>", RR_EFORMAT, "", 0 },
};

static void test_replies(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(replies); i++) {
        struct rr_ranking r;
        int rc = read_reply(&r, replies[i].documents, replies[i].reply);
        const char *p;
        size_t n = 0;

        if (rc != replies[i].rc) fail_msg("%s: %d", replies[i].why, rc);
        for (p = replies[i].order; !rc && *p; p++) {
            bool tied = p[1] == '=';
            size_t d = (size_t)(*p - '0');

            n++;
            if (!p[1]) break;
            p += tied;
            if (tied ? r.key[d] != r.key[p[1] - '0'] : r.key[d] <= r.key[p[1] - '0'])
                fail_msg("%s: order at %c", replies[i].why, *p);
        }
        if (!rc && r.n_returned != n) fail_msg("%s: %zu returned", replies[i].why, r.n_returned);
        if (!rc && isnan(r.score[0]) != isnan(replies[i].score0))
            fail_msg("%s: score %g", replies[i].why, (double)r.score[0]);
        if (!rc && !isnan(r.score[0])) near((double)r.score[0], (double)replies[i].score0);
        rr_ranking_free(&r);
    }
}

/* ---- comparison ----------------------------------------------------------------------------- */

/* Both servers answered one request for n strings "0", "1"... */
static void add(struct rr_shadow *s, uint64_t line, size_t n, const char *primary,
                const char *candidate, double ms0, double ms1)
{
    const char *reply[2] = { primary, candidate };
    const bool answered[2] = { primary != NULL, candidate != NULL };
    const double ms[2] = { ms0, ms1 };
    struct rr_ranking r[2] = { 0 };
    struct rr_error err = { 0 };
    json_t *list = json_array();
    size_t i;

    for (i = 0; i < n; i++) json_array_append_new(list, json_sprintf("%zu", i));
    for (i = 0; i < 2; i++)
        if (reply[i]) assert_int_equal(rr_ranking_read(&r[i], list, rr_text(reply[i]), &err), 0);
    assert_int_equal(rr_shadow_add(s, line, answered, ms, r, &err), RR_OK);
    for (i = 0; i < 2; i++) rr_ranking_free(&r[i]);
    json_decref(list);
}

/* By hand.  Line 1: scores 4 3 2 1 and 3 4 1 2.5: two of six pairs turned, tau 1/3; best differs;
 * the two best are the same set.  Line 2: the same.  Line 3: candidate failed, line 4: both. */
static void test_known(void **state)
{
    struct rr_shadow s;
    struct rr_shadow_report r;

    (void)state;
    rr_shadow_init(&s, 2);
    add(&s, 1, 4, "[0.4,0.3,0.2,0.1]", "[0.3,0.4,0.1,0.25]", 10, 1);
    add(&s, 2, 4, "[0.4,0.3,0.2,0.1]", "[0.4,0.3,0.2,0.1]", 30, 3);
    add(&s, 3, 4, "[0.4,0.3,0.2,0.1]", NULL, 500, 500);
    add(&s, 4, 4, NULL, NULL, 500, 500);
    rr_shadow_report(&s, &r);
    assert_int_equal(r.asked, 4);
    assert_int_equal(r.both, 2);
    assert_int_equal(r.neither, 1);
    assert_int_equal(r.only[RR_CANDIDATE], 1);
    assert_int_equal(r.only[RR_PRIMARY], 0);
    near(r.tau, (1.0 / 3 + 1) / 2);
    near(r.least_tau, 1.0 / 3);
    near(r.top1_equal, 0.5);
    near(r.top_equal, 1);
    assert_int_equal(r.n_scores, 8);
    near(r.mean_diff, (0.1 + 0.1 + 0.1 + 0.15) / 8);
    near(r.max_diff, 0.15);
    near(r.ms[RR_PRIMARY].p50, 10);
    near(r.ms[RR_PRIMARY].p95, 30);
    near(r.ms[RR_PRIMARY].mean, 20);
    near(r.ms[RR_CANDIDATE].max, 3);
    assert_int_equal(s.n_worst, 1);
    assert_int_equal(s.worst[0].line, 1);
    rr_shadow_free(&s);
}

/* What only some replies tell. */
static void test_partial(void **state)
{
    struct rr_shadow s;
    struct rr_shadow_report r;

    (void)state;
    rr_shadow_init(&s, 2);
    /* Three returned and two: of the ten pairs, 0-1 0-2 1-2 and the six with 3 and 4 are ordered by
     * the primary (9), 0-1 and six by the candidate (7); none is turned: 7 / sqrt(63). */
    add(&s, 1, 5, "[{\"index\":0},{\"index\":1},{\"index\":2}]", "[{\"index\":0},{\"index\":1}]", 1,
        1);
    rr_shadow_report(&s, &r);
    near(r.tau, 7 / sqrt(9 * 7));
    assert_int_equal(r.counts_differ, 1);
    near(r.top_equal, 1);
    assert_int_equal(r.n_scores, 0);
    assert_int_equal(r.converted, -1);
    /* Ties at the border are no difference; another document is one. */
    add(&s, 2, 3, "[0.5,0.4,0.4]", "[0.5,0.3,0.4]", 1, 1);
    add(&s, 3, 3, "[0.5,0.4,0.3]", "[0.5,0.3,0.4]", 1, 1);
    rr_shadow_report(&s, &r);
    assert_int_equal(r.n_top, 3);
    near(r.top_equal, 2.0 / 3);
    rr_shadow_free(&s);
}

/* An instance is a list of its own: a document that is better in both than those of other instances
 * is no agreement.  Of the two here one is the same, one is turned. */
static void test_instances(void **state)
{
    static const char *const text[] = {
        "{\"predictions\":[[{\"index\":0,\"score\":0.9},{\"index\":1,\"score\":0.8}],"
        "[{\"index\":0,\"score\":0.2},{\"index\":1,\"score\":0.1},{\"index\":2,\"score\":0}]]}",
        "{\"predictions\":[[{\"index\":0,\"score\":0.9},{\"index\":1,\"score\":0.8}],"
        "[{\"index\":0,\"score\":0},{\"index\":1,\"score\":0.1},{\"index\":2,\"score\":0.2}]]}"
    };
    struct rr_ranking r[2];
    struct rr_shadow s;
    struct rr_shadow_report report;
    struct rr_error err = { 0 };

    (void)state;
    rr_shadow_init(&s, 2);
    for (size_t i = 0; i < 2; i++) assert_int_equal(read_reply(&r[i], INSTANCES, text[i]), RR_OK);
    assert_int_equal(rr_shadow_add(&s, 7, (bool[]){ true, true }, (double[]){ 1, 1 }, r, &err), 0);
    rr_shadow_report(&s, &report);
    assert_int_equal(report.both, 1);
    assert_int_equal(report.n_tau, 2);
    near(report.tau, 0);
    near(report.least_tau, -1);
    near(report.top1_equal, 0.5);
    assert_int_equal(report.n_top1, 2);
    assert_int_equal(report.n_scores, 5);
    near(report.max_diff, 0.2);
    for (size_t i = 0; i < 2; i++) rr_ranking_free(&r[i]);
    rr_shadow_free(&s);
}

static void test_logits(void **state)
{
    struct rr_shadow s;
    struct rr_shadow_report r;

    (void)state;
    rr_shadow_init(&s, 5);
    add(&s, 1, 2, "[0.5,0.8807970779778823]", "[0,2]", 1, 1); /* sigmoid(2) */
    rr_shadow_report(&s, &r);
    assert_int_equal(r.converted, RR_CANDIDATE);
    if (r.max_diff > 1e-6) fail_msg("%g", r.max_diff);
    assert_int_equal(r.n_top, 0); /* two documents say nothing about the five best */
    rr_shadow_free(&s);
}

static void test_worst(void **state)
{
    /* Orders of three with 3, 2, 1 and 0 pairs turned: tau -1, -1/3, 1/3, 1. */
    static const char *const turned[] = { "[1,2,3]", "[1,3,2]", "[2,3,1]", "[3,2,1]" };
    struct rr_shadow s;
    size_t i;

    (void)state;
    rr_shadow_init(&s, 1);
    for (i = 0; i < 12; i++) add(&s, i + 1, 3, "[3,2,1]", turned[3 - i % 4], 1, 1);
    assert_int_equal(s.n_worst, RR_SHADOW_WORST);
    for (i = 0; i < 3; i++) assert_int_equal(s.worst[i].line, 4 * i + 4);
    assert_int_equal(s.worst[3].line, 3);
    assert_int_equal(s.worst[4].line, 7);
    near(s.worst[4].tau, -1.0 / 3);
    rr_shadow_free(&s);
}

static const struct {
    const char *why;
    struct rr_shadow_gate gate;
    const char *says; /* part of it, NULL: good */
} gates[] = {
    /* on the lists of test_known */
    { "all bounds wide", { -1, 0, 1, 0, 0 }, NULL },
    { "one of four fails at the candidate only", { -1, 0, 0.24, 0, 0 }, "1 of 4 requests" },
    { "that many are allowed", { -1, 0, 0.25, 0, 0 }, NULL },
    { "tau is 2/3", { 0.67, 0, 1, 0, 0 }, "Kendall's tau is 0.6667" },
    { "tau just enough", { 0.66, 0, 1, 0, 0 }, NULL },
    { "scores are 0.15 apart", { -1, 0, 1, 0, 0.14 }, "scores differ by up to 0.15" },
    { "scores within", { -1, 0, 1, 0, 0.16 }, NULL },
    { "a tenth of the time", { -1, 0, 1, 0.05, 0 }, "p95 is 0.10 times" },
    { "quick enough", { -1, 0, 1, 0.11, 0 }, NULL },
};

static void test_gate(void **state)
{
    struct rr_shadow s;
    struct rr_shadow_report r, none = { 0 };
    char line[256];
    size_t i;

    (void)state;
    rr_shadow_init(&s, 2);
    add(&s, 1, 4, "[0.4,0.3,0.2,0.1]", "[0.3,0.4,0.1,0.25]", 10, 1);
    add(&s, 2, 4, "[0.4,0.3,0.2,0.1]", "[0.4,0.3,0.2,0.1]", 30, 3);
    add(&s, 3, 4, "[0.4,0.3,0.2,0.1]", NULL, 500, 500);
    add(&s, 4, 4, NULL, NULL, 500, 500);
    rr_shadow_report(&s, &r);
    for (i = 0; i < RR_COUNT(gates); i++) {
        const char *says = rr_shadow_gate(&r, &gates[i].gate, line, sizeof(line));

        if (!says != !gates[i].says || (says && !strstr(says, gates[i].says)))
            fail_msg("%s: %s", gates[i].why, says ? says : "good");
    }
    r.top_equal = 0.5;
    assert_non_null(strstr(
        rr_shadow_gate(&r, &(struct rr_shadow_gate){ -1, 0.99, 1, 0, 0 }, line, sizeof(line)),
        "the 2 best are equal in 50.00 %"));
    r.n_top = 0;
    assert_non_null(
        strstr(rr_shadow_gate(&r, &gates[0].gate, line, sizeof(line)), "the best prove nothing"));
    assert_non_null(strstr(rr_shadow_gate(&none, &gates[0].gate, line, sizeof(line)),
                           "no request was answered"));
    rr_shadow_free(&s);
}

/* ---- out of memory -------------------------------------------------------------------------- */

static int try_all(void *user)
{
    struct rr_error err = { 0 };
    const bool answered[2] = { true, true };
    const double ms[2] = { 1, 1 };
    struct rr_ranking r[2] = { 0 };
    struct rr_shadow s;
    json_t *list = user;
    int rc;

    rr_shadow_init(&s, 5);
    rc = rr_ranking_read(&r[0], list, rr_text("{\"predictions\":[[0.5,0.75],[1]]}"), &err);
    if (!rc) rc = rr_ranking_read(&r[1], list, rr_text("{\"predictions\":[[1,0.75],[1]]}"), &err);
    if (!rc) rc = rr_shadow_add(&s, 1, answered, ms, r, &err);
    rr_ranking_free(&r[0]);
    rr_ranking_free(&r[1]);
    rr_shadow_free(&s);
    return rc;
}

static void test_no_memory(void **state)
{
    json_t *list = parse("[{\"query\":\"q\",\"texts\":[\"a\",\"b\"]},{\"texts\":[\"c\"]}]");

    (void)state;
    (void)fault_each(try_all, list);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies), cmocka_unit_test(test_known),
        cmocka_unit_test(test_partial), cmocka_unit_test(test_instances),
        cmocka_unit_test(test_logits),  cmocka_unit_test(test_worst),
        cmocka_unit_test(test_gate),    cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
