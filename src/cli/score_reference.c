/* SPDX-License-Identifier: Apache-2.0 */
/* score_reference.c - "rerankd score --reference" and "rerankd verify --golden": how far are our
 * scores from known ones?  Layer: cli (L6).  Threads: one.
 *
 * Each line of the file: {"query", "documents": [...], "max_length", "logits": [...],
 * "scores": [...]}; other members are ignored. */
#include <math.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_out.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/score.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)

struct worst {
    double difference;
    uint64_t line, document; /* from 1 and 0 */
};

struct comparison {
    struct rr_engine *engine;
    const char *path;
    uint32_t limit; /* lines to read; 0: all */
    uint64_t line;  /* from 1 */
    uint64_t n_requests, n_pairs;
    struct worst logit, score;
    uint32_t longest; /* "max_length" of all lines */
};

static void note(struct worst *w, double ours, double theirs, uint64_t line, uint64_t document)
{
    double d = fabs(ours - theirs);

    if (d <= w->difference && w->line) return;
    *w = (struct worst){ d, line, document };
}

static int bad_line(const struct comparison *c, struct rr_error *err, const char *what)
{
    return rr_fail(err, RR_EFORMAT, "%s: line %llu: %s", c->path, (unsigned long long)c->line,
                   what);
}

/* An array of n numbers, finite by JSON's rules. */
static bool are_numbers(const json_t *v, size_t n)
{
    size_t i;

    if (!json_is_array(v) || json_array_size(v) != n) return false;
    for (i = 0; i < n; i++) {
        if (!json_is_number(json_array_get(v, i))) return false;
    }
    return true;
}

static int compare(struct comparison *c, const struct rr_request *request, const json_t *logits,
                   const json_t *scores, struct rr_error *err)
{
    struct rr_result *result = NULL;
    size_t i;
    int rc = rr_score(c->engine, request, &result, err);

    if (rc) {
        rr_fail_prefix(err, "%s: line %llu", c->path, (unsigned long long)c->line);
        return rc;
    }
    for (i = 0; i < request->n_documents; i++) {
        note(&c->logit, (double)result->scores[i].logit,
             json_number_value(json_array_get(logits, i)), c->line, i);
        note(&c->score, result->scores[i].score, json_number_value(json_array_get(scores, i)),
             c->line, i);
    }
    c->n_requests++;
    c->n_pairs += request->n_documents;
    rr_result_free(result);
    return RR_OK;
}

static int compare_line(struct comparison *c, const json_t *v, struct rr_error *err)
{
    const json_t *documents = json_object_get(v, "documents"), *d;
    const json_t *logits = json_object_get(v, "logits"), *scores = json_object_get(v, "scores");
    size_t n = json_array_size(documents), i;
    struct rr_request request = { .query = { NULL, 0 }, .n_documents = n };
    struct rr_text *texts;
    int rc = rr_json_text(v, c->path, "query", &request.query, err);

    if (!rc) rc = rr_json_u32(v, c->path, "max_length", 0, 131072, &request.max_length, err);
    if (rc) return bad_line(c, err, "\"query\" or \"max_length\" is of the wrong kind");
    if (!request.query.data) return bad_line(c, err, "no \"query\"");
    if (n == 0) return bad_line(c, err, "no \"documents\"");
    if (!are_numbers(logits, n) || !are_numbers(scores, n))
        return bad_line(c, err, "\"logits\" and \"scores\" must have a number for each document");
    texts = rr_calloc(RR_MEM_MISC, n, sizeof(*texts));
    if (!texts) return rr_fail(err, RR_ENOMEM, "%s: out of memory", c->path);
    for (i = 0; i < n && !rc; i++) {
        d = json_array_get(documents, i);
        if (json_is_string(d))
            texts[i] = (struct rr_text){ json_string_value(d), json_string_length(d) };
        else
            rc = bad_line(c, err, "\"documents\" holds something that is no string");
    }
    request.documents = texts;
    if (!rc) rc = compare(c, &request, logits, scores, err);
    rr_free(texts);
    return rc;
}

static int note_longest(struct comparison *c, const json_t *v, struct rr_error *err)
{
    uint32_t max_length = 0;
    int rc = rr_json_u32(v, c->path, "max_length", 0, 131072, &max_length, err);

    c->longest = RR_MAX(c->longest, max_length);
    return rc;
}

/* Calls fn with each line of the file that is not blank, up to the limit. */
static int each_line(struct comparison *c,
                     int (*fn)(struct comparison *, const json_t *, struct rr_error *),
                     struct rr_error *err)
{
    struct rr_text line;
    char *text = NULL;
    json_t *v;
    size_t at, len = 0;
    uint32_t n = 0;
    int rc = rr_file_read(&text, &len, c->path, MAX_FILE_BYTES, RR_MEM_MISC, err);

    c->line = 0;
    at = len - rr_text_unmarked((struct rr_text){ text, len }).len;
    for (; at < len && !rc && !(c->limit && n == c->limit); at += line.len + 1) {
        const char *end = memchr(text + at, '\n', len - at);

        line = (struct rr_text){ text + at, end ? (size_t)(end - text) - at : len - at };
        c->line++;
        if (rr_utf8_invalid(line) == SIZE_MAX && rr_text_blank(line)) continue;
        n++;
        rc = rr_json_parse(&v, line, 0, RR_JSON_DUP_LAST, err);
        if (rc) {
            rr_fail_prefix(err, "%s: line %llu", c->path, (unsigned long long)c->line);
            break;
        }
        rc = fn(c, v, err);
        json_decref(v);
    }
    rr_free(text);
    return rc;
}

static void print_json(const struct comparison *c, double tolerance, bool ok)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b };

    rr_buf_init(&b, RR_MEM_MISC, 4096);
    rr_out_object(&o, NULL);
    rr_out_uint(&o, "requests", c->n_requests);
    rr_out_uint(&o, "pairs", c->n_pairs);
    rr_out_printf(&o, "max_logit_difference", "%.9g", c->logit.difference);
    rr_out_printf(&o, "max_score_difference", "%.9g", c->score.difference);
    rr_out_printf(&o, "tolerance", "%.9g", tolerance);
    rr_out_bool(&o, "ok", ok);
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    rr_cli_print(stdout, &b);
}

static void print_report(const struct comparison *c, double tolerance, bool ok, bool json)
{
    if (json) {
        print_json(c, tolerance, ok);
        return;
    }
    printf("requests                  %llu\n"
           "pairs                     %llu\n"
           "max |logit difference|    %.3g  (line %llu, document %llu)\n"
           "max |score difference|    %.3g  (line %llu, document %llu)\n"
           "tolerance                 %.3g\n"
           "%s\n",
           (unsigned long long)c->n_requests, (unsigned long long)c->n_pairs, c->logit.difference,
           (unsigned long long)c->logit.line, (unsigned long long)c->logit.document,
           c->score.difference, (unsigned long long)c->score.line,
           (unsigned long long)c->score.document, tolerance,
           ok ? "ok" : "too far from the reference");
}

static int compare_file(struct comparison *c, struct rr_error *err)
{
    int rc = each_line(c, compare_line, err);

    if (!rc && c->n_pairs == 0) rc = rr_fail(err, RR_EFORMAT, "%s: holds no pairs", c->path);
    return rc;
}

int rr_reference_fit(struct rr_engine **engine, struct rr_options *opt, const char *path,
                     uint32_t limit, struct rr_error *err)
{
    struct comparison c = { .path = path, .limit = limit };
    struct rr_error ignored;
    int rc;

    /* What is wrong with the file is said when its lines are scored. */
    if (each_line(&c, note_longest, &ignored) || c.longest <= rr_engine_info(*engine)->max_length)
        return RR_OK;
    rr_close(*engine);
    opt->max_length = c.longest;
    rc = rr_open(engine, opt, err);
    if (rc) rr_fail_prefix(err, "%s", path);
    return rc;
}

int rr_reference_compare(struct rr_engine *engine, const char *path,
                         struct rr_reference_report *out, struct rr_error *err)
{
    struct comparison c = { .engine = engine, .path = path };
    int rc = compare_file(&c, err);

    *out = (struct rr_reference_report){ c.n_requests, c.n_pairs, c.logit.difference,
                                         c.score.difference };
    return rc;
}

int rr_score_reference(const char *command, struct rr_engine *engine, const char *path,
                       uint32_t limit, double tolerance, bool json)
{
    struct comparison c = { .engine = engine, .path = path, .limit = limit };
    struct rr_error err = { 0 };
    bool ok;
    int rc = compare_file(&c, &err);

    if (rc == RR_EIO || rc == RR_ENOENT || rc == RR_ETOOBIG) {
        rr_cli_complain(command, "%s", err.msg);
        return RR_EXIT_NOINPUT;
    }
    if (rc) {
        rr_cli_complain(command, "%s", err.msg);
        return rr_exit_code_of_data(rc);
    }
    ok = c.logit.difference <= tolerance && c.score.difference <= tolerance;
    print_report(&c, tolerance, ok, json);
    return ok ? RR_EXIT_OK : RR_EXIT_FAILURE;
}
