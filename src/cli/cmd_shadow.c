/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_shadow.c - "rerankd shadow": sends recorded requests to two servers and says how far their
 * replies are apart: order, scores, latency, failures.  Layer: cli (L6).
 * Threads: --concurrency senders, which take lines and add results under one lock. */
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/http_post.h"
#include "cli/score.h"
#include "cli/shadow.h"

#define MAX_CONCURRENCY 256

struct own {
    const char *url[RR_SIDES], *key_file[RR_SIDES];
    const char *rate, *gate_tau, *gate_top, *gate_errors, *gate_slowdown, *gate_score;
    double timeout;
    uint32_t concurrency, limit, top_k;
    bool full, json, gate;
};

static const struct rr_option own_options[] = {
    RR_OWN("primary", "", STR, url[RR_PRIMARY], "URL", "The server in service."),
    RR_OWN("candidate", "", STR, url[RR_CANDIDATE], "URL",
           "The server to compare with it. Without a path: /rerank."),
    RR_OWN("primary-key-file", "", STR, key_file[RR_PRIMARY], "FILE",
           "Its API key, sent as a bearer token."),
    RR_OWN("candidate-key-file", "", STR, key_file[RR_CANDIDATE], "FILE", "The same."),
    RR_OWN_BETWEEN("concurrency", "1", U32, concurrency, 1, MAX_CONCURRENCY, "N",
                   "Requests under way at once, each at one of the servers."),
    RR_OWN("rate", "0", STR, rate, "X", "Most requests a second; 0: as fast as they answer."),
    RR_OWN_BETWEEN("limit", "0", U32, limit, 0, UINT32_MAX, "N",
                   "Stop after so many requests; 0: all."),
    RR_OWN_BETWEEN("timeout", "60", SECONDS, timeout, 0.001, 3600, "SECONDS", "Of each request."),
    RR_OWN("full", "false", BOOL, full, "",
           "Ask for all documents (top_k, top_n), so that whole orders are compared."),
    RR_OWN_BETWEEN("top-k", "5", U32, top_k, 1, 1000, "K", "Also compare the sets of the K best."),
    RR_OWN("gate", "false", BOOL, gate, "",
           "Exit with 1 unless the candidate is good enough, by these bounds."),
    RR_OWN("gate-top", "0.99", STR, gate_top, "SHARE",
           "Least share of requests whose K best are the same."),
    RR_OWN("gate-tau", "0", STR, gate_tau, "TAU", "Least Kendall's tau, on average."),
    RR_OWN("gate-errors", "0", STR, gate_errors, "SHARE",
           "Most requests that fail at the candidate only."),
    RR_OWN("gate-score", "0", STR, gate_score, "X", "Largest difference of a score; 0: any."),
    RR_OWN("gate-slowdown", "0", STR, gate_slowdown, "X",
           "Most times the primary's 95th percentile; 0: any."),
    RR_OWN("json", "false", BOOL, json, "", "Print one JSON object."),
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");

struct run {
    const struct own *own;
    struct rr_url url[RR_SIDES];
    char *key[RR_SIDES]; /* owned, NULL: none */
    uint64_t pause_ns;   /* between the beginnings of requests */
    pthread_mutex_t lock;
    /* Under lock. */
    struct rr_source in;
    struct rr_shadow sums;
    uint64_t next_ns; /* no request begins earlier */
    uint32_t begun;
    char why[RR_SIDES][256]; /* first failure of each side */
    struct rr_error err;     /* ends the run */
    bool over;
};

struct task { /* one request, of one sender */
    uint64_t line;
    struct rr_text body; /* owned */
    json_t *tree, *documents;
    uint64_t start_ns;
};

/* ---- requests ------------------------------------------------------------------------------- */

/* With the lock held.  A line that is a JSON string holds the body, as proxies log it. */
static int parse_line(struct run *r, struct rr_text line, struct task *t, struct rr_error *err)
{
    struct rr_error why = { 0 };
    int rc = rr_json_parse(&t->tree, line, 0, RR_JSON_DUP_LAST, &why);

    if (!rc && json_is_string(t->tree)) {
        json_t *outer = t->tree;
        struct rr_text inner = { json_string_value(outer), json_string_length(outer) };

        t->tree = NULL;
        rc = rr_json_parse(&t->tree, inner, 0, RR_JSON_DUP_LAST, &why);
        json_decref(outer);
    }
    if (!rc && !json_is_object(t->tree))
        rc = rr_fail(&why, RR_EFORMAT, "found %s, expected an object, the body of a request",
                     rr_json_type_name(t->tree));
    if (rc) return rr_fail(err, rc, "%s: line %" PRIu64 ": %s", r->in.name, r->in.lines, why.msg);
    t->line = r->in.lines;
    t->documents = rr_body_documents(t->tree);
    return RR_OK;
}

/* Every document is asked for, by the name that the request, or its dialect, has for that. */
static void ask_for_all(struct task *t)
{
    const json_t *first = json_array_get(t->documents, 0);
    bool ragfab = json_object_get(first, "content") && !json_object_get(t->tree, "top_n");
    const char *name = ragfab || json_object_get(t->tree, "top_k") ? "top_k" : "top_n";
    json_t *where = t->tree;

    if (json_is_object(json_object_get(where, "input")))
        where = json_object_get(where, "parameters");
    if (t->documents && json_object_get(t->tree, "texts") != t->documents &&
        json_object_get(t->tree, "instances") != t->documents)
        json_object_set_new(where, name, json_integer((json_int_t)json_array_size(t->documents)));
}

static void end_task(struct task *t)
{
    char *text = (char *)t->body.data; /* ours: json_dumps made it */

    rr_free(text);
    json_decref(t->tree);
    memset(t, 0, sizeof(*t));
}

/* Out of memory. */
static bool end_run(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    (void)rr_fail(&r->err, RR_ENOMEM, "out of memory for a request");
    r->over = true;
    pthread_mutex_unlock(&r->lock);
    return false;
}

/* The next request, and when it may begin; false at the end, or when the run is over. */
static bool next_task(struct run *r, struct task *t)
{
    struct rr_text line = { NULL, 0 };
    bool got = false;
    char *text;
    int rc = RR_OK;

    memset(t, 0, sizeof(*t));
    pthread_mutex_lock(&r->lock);
    while (!r->over && !rc && !got) {
        if (r->own->limit && r->begun == r->own->limit) break;
        rc = rr_source_line(&r->in, &line, &got, &r->err);
        if (rc || !got) break;
        got = !rr_text_blank(line);
    }
    if (got) rc = parse_line(r, line, t, &r->err);
    if (got && !rc) {
        r->begun++;
        t->start_ns = RR_MAX(r->next_ns, rr_now_ns());
        r->next_ns = t->start_ns + r->pause_ns;
    }
    if (rc || !got) r->over = true;
    pthread_mutex_unlock(&r->lock);
    if (rc || !got) return false;
    if (r->own->full) ask_for_all(t);
    text = json_dumps(t->tree, JSON_COMPACT);
    if (!text) return end_run(r);
    t->body = rr_text(text);
    return true;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = { (time_t)(ns / RR_SECOND), (long)(ns % RR_SECOND) };

    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* ---- both servers --------------------------------------------------------------------------- */

/* One side's answer.  why gets the reason, in one line, when there is none. */
static bool ask_side(struct run *r, struct rr_http_post *c, const struct task *t, double *ms,
                     struct rr_ranking *ranking, char *why, size_t cap)
{
    uint64_t start = rr_now_ns();
    struct rr_text reply = { "", 0 };
    struct rr_error err = { 0 };
    int status = 0, rc;

    rc = rr_http_post(c, t->body, start + (uint64_t)(r->own->timeout * (double)RR_SECOND), &status,
                      &reply, &err);
    *ms = (double)(rr_now_ns() - start) / 1e6;
    if (!rc && status == 200) rc = rr_ranking_read(ranking, t->documents, reply, &err);
    if (!rc && status == 200) return true;
    if (rc)
        snprintf(why, cap, "line %" PRIu64 ": %.200s", t->line, err.msg);
    else /* of the reply only its first bytes: servers say there what is wrong */
        snprintf(why, cap, "line %" PRIu64 ": status %d: %.160s", t->line, status, reply.data);
    return false;
}

static void compare(struct run *r, struct rr_http_post c[RR_SIDES], const struct task *t)
{
    struct rr_ranking rankings[RR_SIDES] = { 0 };
    char why[RR_SIDES][256] = { "", "" };
    bool answered[RR_SIDES];
    double ms[RR_SIDES];
    size_t i;

    for (i = 0; i < RR_SIDES; i++) { /* by turns first, so that neither finds warmer caches */
        size_t s = (t->line & 1) ? i : 1 - i;

        answered[s] = ask_side(r, &c[s], t, &ms[s], &rankings[s], why[s], sizeof(why[s]));
    }
    pthread_mutex_lock(&r->lock);
    for (i = 0; i < RR_SIDES; i++)
        if (!*r->why[i]) memcpy(r->why[i], why[i], sizeof(why[i]));
    if (!r->err.code && rr_shadow_add(&r->sums, t->line, answered, ms, rankings, &r->err))
        r->over = true;
    pthread_mutex_unlock(&r->lock);
    for (i = 0; i < RR_SIDES; i++) rr_ranking_free(&rankings[i]);
}

static void *send_tasks(void *user)
{
    struct run *r = user;
    struct rr_http_post c[RR_SIDES];
    struct task t;
    size_t i;

    for (i = 0; i < RR_SIDES; i++) {
        rr_http_post_init(&c[i], &r->url[i]);
        c[i].key = r->key[i];
    }
    while (next_task(r, &t)) {
        sleep_until(t.start_ns);
        compare(r, c, &t);
        end_task(&t);
    }
    end_task(&t);
    for (i = 0; i < RR_SIDES; i++) rr_http_post_close(&c[i]);
    return NULL;
}

static int run_senders(struct run *r, struct rr_error *err)
{
    pthread_t threads[MAX_CONCURRENCY];
    uint32_t i, started = 0;

    while (started < r->own->concurrency &&
           pthread_create(&threads[started], NULL, send_tasks, r) == 0)
        started++;
    for (i = 0; i < started; i++) pthread_join(threads[i], NULL);
    if (started == 0) return rr_fail(err, RR_EIO, "cannot start a thread");
    if (r->err.code) {
        *err = r->err;
        return err->code;
    }
    if (r->begun == 0) return rr_fail(err, RR_EFORMAT, "%s: no requests in it", r->in.name);
    return RR_OK;
}

/* ---- command -------------------------------------------------------------------------------- */

static int open_side(struct run *r, size_t s, const char *name, struct rr_error *err)
{
    struct rr_error why = { 0 };
    int rc;

    if (!*r->own->url[s])
        return rr_fail(err, RR_EINVAL, "--%s is missing: the URL of a server", name);
    rc = rr_url_parse(&r->url[s], r->own->url[s], &why);
    if (rc) return rr_fail(err, rc, "--%s: %s", name, why.msg);
    if (strcmp(r->url[s].path, "/") == 0)
        snprintf(r->url[s].path, sizeof(r->url[s].path), "/rerank");
    return rr_http_key(&r->key[s], r->own->key_file[s], err);
}

static bool parse_bounds(const struct own *own, struct rr_shadow_gate *g, double *rate)
{
    return rr_cli_number("shadow", "gate-top", own->gate_top, 0, 1, &g->top) &&
           rr_cli_number("shadow", "gate-tau", own->gate_tau, -1, 1, &g->tau) &&
           rr_cli_number("shadow", "gate-errors", own->gate_errors, 0, 1, &g->errors) &&
           rr_cli_number("shadow", "gate-score", own->gate_score, 0, 1e6, &g->score) &&
           rr_cli_number("shadow", "gate-slowdown", own->gate_slowdown, 0, 1e6, &g->slowdown) &&
           rr_cli_number("shadow", "rate", own->rate, 0, 1e6, rate);
}

static int conclude(struct run *r, const struct rr_shadow_gate *gate)
{
    const struct rr_shadow_names names = { { r->own->url[0], r->own->url[1] },
                                           { r->why[0], r->why[1] } };
    struct rr_shadow_report report;
    char line[256];
    const char *verdict;

    rr_shadow_report(&r->sums, &report);
    verdict = rr_shadow_gate(&report, gate, line, sizeof(line));
    if (r->own->json)
        rr_shadow_json(stdout, &r->sums, &report, &names, r->own->gate ? verdict : NULL);
    else
        rr_shadow_text(stdout, &r->sums, &report, &names);
    if (!verdict || (!r->own->gate && report.both)) return RR_EXIT_OK;
    rr_cli_complain("shadow", "%s", verdict);
    return RR_EXIT_FAILURE;
}

static int run_shadow(const struct rr_settings *settings, const void *fields, char **words,
                      int n_words)
{
    struct run r = { .own = fields, .lock = PTHREAD_MUTEX_INITIALIZER, .in = { .fd = -1 } };
    struct rr_shadow_gate gate;
    struct rr_error err = { 0 };
    double rate;
    int rc, code = RR_EXIT_OK;

    (void)settings;
    if (!parse_bounds(r.own, &gate, &rate)) return RR_EXIT_USAGE;
    r.pause_ns = rate > 0 ? (uint64_t)(1e9 / rate) : 0;
    rr_shadow_init(&r.sums, r.own->top_k);
    rc = open_side(&r, RR_PRIMARY, "primary", &err);
    if (!rc) rc = open_side(&r, RR_CANDIDATE, "candidate", &err);
    if (!rc) rc = rr_source_open(&r.in, n_words ? words[0] : "-", RR_FORMAT_JSONL, &err);
    if (!rc) rc = run_senders(&r, &err);
    if (!rc) code = conclude(&r, &gate);
    if (rc) {
        rr_cli_complain("shadow", "%s", err.msg);
        code = rr_exit_code_of_data(rc);
    }
    rr_source_close(&r.in);
    rr_shadow_free(&r.sums);
    rr_free(r.key[RR_PRIMARY]);
    rr_free(r.key[RR_CANDIDATE]);
    return code;
}

const struct rr_command rr_cmd_shadow = {
    .name = "shadow",
    .args = "[FILE]",
    .summary = "send recorded requests to two servers and compare the replies",
    .about =
        "FILE, or standard input, has the JSON body of a request in each line, in any dialect\n"
        "that both servers know, or the body as a JSON string, as proxies log it.  Each goes\n"
        "to both servers, one after the other, either of them first by turns.  The report has\n"
        "the differences in order, scores and latency, the failures, and the lines to look\n"
        "at.  Where a reply has no scores, only orders are compared.  Exit status 1: the gate\n"
        "is not met, or nothing could be compared.",
    .sections = "",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 1,
    .run = run_shadow,
};
