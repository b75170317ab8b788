/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_score.c - "rerankd score": texts in, scores out, no server.
 * Layer: cli (L6).  Threads: one; on_done is called from the engine's.
 *
 * Input is taken in blocks.  Within a block, records in a row with the same query are one request;
 * all requests of a block are in the engine at once. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/pump.h"
#include "cli/score.h"

#define MIN_BLOCK 32 /* records; the first block, so that results appear soon */
#define MAX_BLOCK 1024
#define BLOCK_NS (RR_SECOND / 2)        /* blocks grow until one takes so long */
#define BLOCK_BYTES ((size_t)256 << 20) /* of texts */

struct own {
    const char *query, *format, *reference, *tolerance;
    uint32_t top;
    bool json, table, sort, raw_order, text, progress;
};

static const struct rr_option own_options[] = {
    RR_OWN("query", "", STR, query, "TEXT", "What the texts are scored against."),
    RR_OWN("format", "auto", STR, format, "auto|lines|jsonl",
           "Form of the input; auto: jsonl if it begins with { or a double quote."),
    RR_OWN("top", "0", U32, top, "N", "Print the N best only; 0: all."),
    RR_OWN("sort", "true", BOOL, sort, "",
           "Print best first; --no-sort: in input order, as it comes."),
    RR_OWN("raw-order", "false", BOOL, raw_order, "", "The same as --no-sort."),
    RR_OWN("json", "false", BOOL, json, "", "Print JSONL even on a terminal."),
    RR_OWN("table", "false", BOOL, table, "", "Print a table even in a pipe."),
    RR_OWN("text", "true", BOOL, text, "", "Print the texts, too."),
    RR_OWN("progress", "false", BOOL, progress, "", "Report progress even without a terminal."),
    RR_OWN("reference", "", STR, reference, "FILE",
           "Score this reference.jsonl instead, and print the largest differences."),
    RR_OWN("tolerance", "2e-4", STR, tolerance, "X", "With --reference: larger differences fail."),
};

struct group { /* records in a row with the same query: one request */
    struct run *run;
    struct rr_request request;
    struct rr_result *result;
    struct rr_error err;
};

struct run {
    const struct own *own;
    struct rr_engine *engine;
    struct rr_source source;
    struct rr_results results;
    struct rr_progress progress;
    struct rr_arena arena; /* texts of the block */
    struct rr_record records[MAX_BLOCK];
    struct rr_text texts[MAX_BLOCK];
    struct group groups[MAX_BLOCK];
    size_t n_records, n_groups, block;
    bool pairs; /* some record has brought its own query */
    uint64_t n_scored;
    pthread_mutex_t lock;
    pthread_cond_t done;
    size_t n_pending; /* lock */
};

/* ---- one block ------------------------------------------------------------------------------ */

static void on_done(void *user, struct rr_result *result, const struct rr_error *err)
{
    struct group *g = user;

    pthread_mutex_lock(&g->run->lock);
    g->result = result;
    g->err = *err;
    if (--g->run->n_pending == 0) pthread_cond_signal(&g->run->done);
    pthread_mutex_unlock(&g->run->lock);
}

/* Reads up to a block's worth of records.  On an error, those before it stay in the block. */
static int read_block(struct run *r, struct rr_error *err)
{
    bool got = true;
    int rc = RR_OK;

    rr_arena_reset(&r->arena);
    r->n_records = 0;
    while (!rc && got && r->n_records < r->block && r->arena.used < BLOCK_BYTES / 4) {
        rc = rr_source_next(&r->source, &r->arena, &r->records[r->n_records], &got, err);
        if (!rc && got) r->n_records++;
    }
    return rc;
}

static int check_queries(struct run *r, struct rr_error *err)
{
    const struct rr_text given = rr_text(r->own->query);
    size_t i;

    for (i = 0; i < r->n_records; i++) {
        struct rr_record *rec = &r->records[i];

        if (rec->query.data)
            r->pairs = true;
        else
            rec->query = given;
        if (!rr_text_blank(rec->query)) continue;
        r->n_records = i; /* what comes before is fine */
        return rr_fail(err, RR_EINVAL,
                       "%s: line %llu has no query; give --query TEXT, or JSONL "
                       "objects with a \"query\"",
                       r->source.name, (unsigned long long)rec->index + 1);
    }
    return RR_OK;
}

static void make_groups(struct run *r)
{
    struct group *g = NULL;
    size_t i;

    r->n_groups = 0;
    for (i = 0; i < r->n_records; i++) {
        r->texts[i] = r->records[i].text;
        if (!g || !rr_text_eq(g->request.query, r->records[i].query)) {
            g = &r->groups[r->n_groups++];
            memset(g, 0, sizeof(*g));
            g->run = r;
            g->request.query = r->records[i].query;
            g->request.documents = &r->texts[i];
        }
        g->request.n_documents++;
    }
}

/* Scores the block and waits.  Errors stay in their groups. */
static void score_block(struct run *r)
{
    struct rr_error err;
    struct group *g;
    size_t i;
    int rc;

    make_groups(r);
    r->n_pending = r->n_groups;
    for (i = 0; i < r->n_groups; i++) {
        g = &r->groups[i];
        rc = rr_submit(r->engine, &g->request, on_done, g, NULL, &err);
        if (rc) on_done(g, NULL, &err); /* the engine will not call it */
    }
    pthread_mutex_lock(&r->lock);
    while (r->n_pending) pthread_cond_wait(&r->done, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

/* Hands on the results up to the first group that failed; frees all. */
static int take_results(struct run *r, struct rr_error *err)
{
    const struct rr_record *rec = r->records;
    size_t i, j;
    int rc = RR_OK;

    rr_progress_clear(&r->progress);
    for (i = 0; i < r->n_groups; i++) {
        struct group *g = &r->groups[i];

        if (!rc && !g->result) {
            rc = rr_fail(err, g->err.code ? g->err.code : RR_EINTERNAL, "%s",
                         g->err.msg[0] ? g->err.msg : rr_status_name(g->err.code));
            rr_fail_prefix(err, "%s: line %llu", r->source.name,
                           (unsigned long long)rec->index + 1);
        }
        for (j = 0; !rc && j < g->request.n_documents; j++, rec++) {
            rc = rr_results_add(&r->results, rec->index, &g->result->scores[j], rec->text, err);
            if (!rc) r->n_scored++;
        }
        rr_result_free(g->result);
        g->result = NULL;
    }
    return rc;
}

/* ---- all of them ---------------------------------------------------------------------------- */

/* Scores block after block; the first is in r->records already, input_rc says how reading it
 * ended.  Everything read before an error is scored and printed. */
static int score_all(struct run *r, int input_rc, struct rr_error *input_err)
{
    struct rr_error err = { 0 };
    uint64_t start;
    int rc = RR_OK, broken;

    while (r->n_records > 0 && !rc) {
        start = rr_now_ns();
        score_block(r);
        rc = take_results(r, &err);
        if (!r->results.sorted && !rr_cli_flush(&broken)) return broken;
        rr_progress_update(&r->progress, r->n_scored, r->source.bytes, r->source.total);
        if (rr_now_ns() - start < BLOCK_NS && r->block < MAX_BLOCK) r->block *= 2;
        if (input_rc) break;
        if (!rc) input_rc = read_block(r, input_err);
        if (!rc && check_queries(r, &err)) {
            *input_err = err;
            input_rc = err.code;
        }
    }
    rr_progress_clear(&r->progress);
    if (r->pairs) r->results.sorted = false; /* scores of several queries have no order */
    rr_results_finish(&r->results);
    if (!rr_cli_flush(&broken)) return broken;
    if (!rc && input_rc) err = *input_err;
    if (!rc) rc = input_rc;
    if (!rc) return RR_EXIT_OK;
    rr_cli_complain("score", "%s", err.msg);
    return rr_exit_code_of_data(rc);
}

/* reference: the file to be scored, for its windows; NULL: others are. */
static int open_engine(const struct rr_settings *settings, const char *reference,
                       struct rr_engine **engine)
{
    struct rr_options opt;
    struct rr_error err = { 0 };
    int rc;

    rr_set_log(NULL, NULL,
               strcmp(settings->log_level, "debug") == 0   ? RR_LOG_DEBUG
               : strcmp(settings->log_level, "error") == 0 ? RR_LOG_ERROR
                                                           : RR_LOG_WARN);
    rr_settings_engine(settings, &opt);
    rr_pump_limits(&opt);
    rc = rr_open(engine, &opt, &err);
    if (!rc && reference) rc = rr_reference_fit(engine, &opt, reference, 0, &err);
    if (!rc) return RR_EXIT_OK;
    rr_cli_complain("score", "%s", err.msg);
    return rr_exit_code(rc);
}

/* Reads the first block before the engine is opened: what is wrong with the input shows at once. */
static int score_source(struct run *r, const struct rr_settings *settings)
{
    struct rr_error err = { 0 }, query_err = { 0 };
    int code, rc = read_block(r, &err);

    if (check_queries(r, &query_err)) {
        err = query_err;
        rc = err.code;
    }
    if (r->n_records == 0) {
        if (!rc)
            rr_cli_complain("score", "%s: nothing to score, the input is empty", r->source.name);
        else
            rr_cli_complain("score", "%s", err.msg);
        return rc ? rr_exit_code_of_data(rc) : RR_EXIT_DATA;
    }
    if (r->pairs) r->results.sorted = false; /* known so early, they are printed as they come */
    code = open_engine(settings, NULL, &r->engine);
    if (code) return code;
    rr_progress_init(&r->progress, r->own->progress, r->results.french);
    code = score_all(r, rc, &err);
    rr_close(r->engine);
    return code;
}

static int run_source(const struct rr_settings *settings, const struct own *own, const char *path)
{
    struct run *r = rr_calloc(RR_MEM_MISC, 1, sizeof(*r));
    struct rr_error err = { 0 };
    enum rr_format format = own->format[0] == 'a'   ? RR_FORMAT_AUTO
                            : own->format[0] == 'l' ? RR_FORMAT_LINES
                                                    : RR_FORMAT_JSONL;
    int code, rc;

    if (!r) {
        rr_cli_complain("score", "out of memory");
        return RR_EXIT_OSERR;
    }
    r->own = own;
    r->block = MIN_BLOCK;
    rr_arena_init(&r->arena, RR_MEM_MISC, BLOCK_BYTES);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->done, NULL);
    rr_results_init(&r->results);
    r->results.table = own->table || (!own->json && rr_cli_is_terminal(stdout));
    r->results.sorted = own->sort && !own->raw_order;
    r->results.with_text = own->text;
    r->results.top = own->top;
    r->results.french = rr_settings_french(settings);
    rc = rr_source_open(&r->source, path, format, &err);
    if (rc) {
        rr_cli_complain("score", "%s", err.msg);
        code = rr_exit_code(rc);
    } else {
        code = score_source(r, settings);
    }
    rr_source_close(&r->source);
    rr_results_free(&r->results);
    rr_arena_reset(&r->arena);
    pthread_cond_destroy(&r->done);
    pthread_mutex_destroy(&r->lock);
    rr_free(r);
    return code;
}

static int run_reference(const struct rr_settings *settings, const struct own *own)
{
    struct rr_engine *engine;
    char *end;
    double tolerance = strtod(own->tolerance, &end);
    int code;

    if (end == own->tolerance || *end || !(tolerance >= 0.0) || !isfinite(tolerance)) {
        rr_cli_complain("score", "--tolerance: found \"%.40s\", expected a number such as 2e-4",
                        own->tolerance);
        return RR_EXIT_USAGE;
    }
    if (!rr_file_exists(own->reference)) {
        rr_cli_complain("score", "%s: no such file", own->reference);
        return RR_EXIT_NOINPUT;
    }
    code = open_engine(settings, own->reference, &engine);
    if (code) return code;
    code = rr_score_reference("score", engine, own->reference, 0, tolerance, own->json);
    rr_close(engine);
    return code;
}

static int run_score(const struct rr_settings *settings, const void *own_fields, char **words,
                     int n_words)
{
    const struct own *own = own_fields;

    if (own->json && own->table) {
        rr_cli_complain("score", "--json and --table exclude each other");
        return RR_EXIT_USAGE;
    }
    if (own->reference[0]) {
        if (n_words == 0) return run_reference(settings, own);
        rr_cli_complain("score", "--reference takes its texts from its own file, not from %.60s",
                        words[0]);
        return RR_EXIT_USAGE;
    }
    if (rr_text_blank(rr_text(own->query)) && strcmp(own->format, "lines") == 0) {
        rr_cli_complain("score", "lines of text need a query; give --query TEXT");
        return RR_EXIT_USAGE;
    }
    if (n_words == 0 && rr_cli_is_terminal(stdin))
        fprintf(stderr, "reading texts from the terminal, one per line; end with Ctrl-D\n");
    return run_source(settings, own, n_words ? words[0] : "-");
}

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");

const struct rr_command rr_cmd_score = {
    .name = "score",
    .args = "--query TEXT [FILE|-]",
    .summary = "score lines or JSONL against a query",
    .about = "Input is a text per line, or JSONL: strings, or objects with \"text\",\n"
             "\"content\" or \"document\".  An object may bring its own \"query\"; then\n"
             "results come in input order.  Blank lines are skipped.\n"
             "\n"
             "On a terminal, prints a table.  In a pipe, prints JSONL:\n"
             "{\"index\":0,\"score\":0.98,\"logit\":3.9,\"text\":\"...\"}; index counts\n"
             "lines from 0, \"truncated\":true tells that a pair was cut to --max-length.\n"
             "\n"
             "A malformed line ends the run with exit status 65; the lines before it are\n"
             "scored.",
    .sections = "MODEL DEVICE LOG",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 1,
    .run = run_score,
};
