/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_rank.c - "rerankd rank": ranks lists of any number, in bounded memory, and can go on after an
 * interruption.  Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/pump.h"
#include "cli/rank.h"

struct own {
    const char *queries, *corpus, *output, *format, *tag;
    uint32_t top, depth;
    bool resume, title, progress;
};

static const struct rr_option own_options[] = {
    RR_OWN("queries", "", STR, queries, "FILE",
           "Texts of the queries, JSONL or id TAB text: the input is a TREC run."),
    RR_OWN("corpus", "", STR, corpus, "FILE", "Texts of the documents, the same."),
    RR_OWN("output", "", STR, output, "FILE", "Where the results go; empty: standard output."),
    RR_OWN("resume", "false", BOOL, resume, "",
           "Go on with --output FILE where an earlier run was interrupted."),
    RR_OWN("format", "auto", STR, format, "auto|trec|jsonl",
           "Form of the results; auto: that of the input."),
    RR_OWN("top", "0", U32, top, "N", "Write the N best of each query only; 0: all."),
    RR_OWN("depth", "0", U32, depth, "N", "Rank the first N documents of each query only; 0: all."),
    RR_OWN("tag", "rerankd", STR, tag, "WORD", "Last word of the lines of a TREC run."),
    RR_OWN("title", "true", BOOL, title, "", "Put a document's title before its text."),
    RR_OWN("progress", "false", BOOL, progress, "", "Report progress even without a terminal."),
};

struct rank {
    const struct own *own;
    struct rr_rank_input lists;
    struct rr_ranking ranking;
    struct rr_progress progress;
    uint64_t n_pairs;
    bool bad_model; /* it cannot be opened: else it is data that is malformed */
};

static int take(void *user, struct rr_pump_job *job, struct rr_error *err)
{
    struct rank *r = user;
    int rc;

    rr_progress_clear(&r->progress);
    rc = rr_ranking_add(&r->ranking, job->user, job->result, err);
    r->n_pairs += job->request.n_documents;
    rr_progress_update(&r->progress, r->n_pairs, r->lists.source.bytes, r->lists.source.total);
    return rc;
}

/* Reads over the lists that the output has already. */
static int skip_done(struct rank *r, struct rr_error *err)
{
    struct rr_arena arena;
    struct rr_rank_list list;
    const char *id;
    size_t n, expected;
    bool got;
    int rc;

    rr_arena_init(&arena, RR_MEM_MISC, SIZE_MAX / 2);
    for (;;) {
        rc = rr_ranking_done(&r->ranking, &id, &n, err);
        if (rc || !id) break;
        rc = rr_rank_input_next(&r->lists, true, &arena, &list, &got, err);
        if (rc) break;
        if (!got || !rr_text_is(list.id, id)) {
            rc = rr_fail(err, RR_EINVAL,
                         "%s: has query %.80s where the input has %.80s: it is the output of "
                         "another input",
                         r->own->output, id, got ? list.id.data : "no more");
            break;
        }
        expected = rr_ranking_count(&r->ranking, list.n);
        if (n != expected) {
            rc = rr_fail(err, RR_EINVAL,
                         "%s: has %zu results of query %.80s where this run has %zu: it is the "
                         "output of another --top or --depth",
                         r->own->output, n, id, expected);
            break;
        }
        rr_arena_reset(&arena);
    }
    rr_arena_reset(&arena);
    return rc;
}

static int submit_next(struct rank *r, struct rr_pump *pump, bool *got, struct rr_error *err)
{
    struct rr_pump_job *job;
    struct rr_rank_list *list;
    int rc = rr_pump_next(pump, &job, err);

    if (rc) return rc;
    list = rr_arena_alloc(&job->arena, 1, sizeof(*list));
    if (!list) return rr_fail(err, RR_ENOMEM, "out of memory for the texts");
    rc = rr_rank_input_next(&r->lists, false, &job->arena, list, got, err);
    if (!rc && *got) rc = rr_ranking_check(&r->ranking, list, err);
    if (rc || !*got) return rc;
    job->user = list;
    job->request.query = list->query;
    job->request.documents = list->texts;
    job->request.n_documents = list->n;
    rc = rr_pump_submit(pump, err);
    if (rc) rr_fail_prefix(err, "query %.80s", list->id.data);
    return rc;
}

/* What was read before an error is ranked and written. */
static int rank_all(struct rank *r, struct rr_engine *engine, struct rr_error *err)
{
    struct rr_error late = { 0 };
    struct rr_pump *pump;
    bool got = true;
    int rc = rr_pump_open(&pump, engine, take, r, err), end;

    while (!rc && got) rc = submit_next(r, pump, &got, err);
    end = pump ? rr_pump_finish(pump, &late) : rc;
    if (!rc && end) {
        *err = late;
        rc = end;
    }
    rr_pump_close(pump);
    return rc;
}

/* With --resume a file that is there is gone on with, which must not be what is read. */
static int check_output(const struct own *own, const char *word, struct rr_error *err)
{
    const char *const read[] = { strcmp(word, "-") == 0 ? "/dev/stdin" : word, own->queries,
                                 own->corpus };
    return rr_cli_check_output("output", own->output, read, RR_COUNT(read), err);
}

static int open_all(struct rank *r, const char *word, struct rr_error *err)
{
    const struct own *own = r->own;
    bool trec = *own->queries;
    int rc = rr_rank_input_open(&r->lists, word, trec ? own->queries : NULL,
                                trec ? own->corpus : NULL, err);

    r->lists.depth = own->depth;
    r->lists.with_title = own->title;
    r->ranking.trec = own->format[0] == 'a' ? trec : own->format[0] == 't';
    r->lists.unique = r->ranking.trec;
    r->ranking.top = own->top;
    r->ranking.tag = own->tag;
    if (!rc) rc = check_output(own, word, err);
    if (!rc) rc = rr_ranking_open(&r->ranking, *own->output ? own->output : NULL, own->resume, err);
    if (!rc) rc = skip_done(r, err);
    return rc ? rc : rr_ranking_begin(&r->ranking, err);
}

static int rank(struct rank *r, const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_engine *engine;
    struct rr_options opt;
    int rc;

    rr_settings_engine(settings, &opt);
    rr_pump_limits(&opt);
    rc = rr_open(&engine, &opt, err);
    r->bad_model = rc != RR_OK;
    if (rc) return rc;
    rr_progress_init(&r->progress, r->own->progress, rr_settings_french(settings));
    rc = rank_all(r, engine, err);
    rr_progress_clear(&r->progress);
    rr_close(engine);
    return rc;
}

static int check_words(const struct own *own)
{
    const char *wrong = NULL;

    if (!*own->queries != !*own->corpus) wrong = "--queries and --corpus belong together";
    if (own->resume && !*own->output) wrong = "--resume goes on with a file: give --output FILE";
    if (!*own->tag || strpbrk(own->tag, " \t\n")) wrong = "--tag: expected one word";
    if (!wrong) return RR_EXIT_OK;
    rr_cli_complain("rank", "%s", wrong);
    return RR_EXIT_USAGE;
}

static int run_rank(const struct rr_settings *settings, const void *fields, char **words,
                    int n_words)
{
    struct rank *r;
    struct rr_error err = { 0 }, late = { 0 };
    int rc, end, code = check_words(fields);

    if (code) return code;
    r = rr_calloc(RR_MEM_MISC, 1, sizeof(*r));
    if (!r) return RR_EXIT_OSERR;
    r->own = fields;
    rc = open_all(r, n_words ? words[0] : "-", &err);
    if (!rc) rc = rank(r, settings, &err);
    end = rr_ranking_close(&r->ranking, &late);
    if (!rc && end) {
        err = late;
        rc = end;
    }
    if (rc && !r->ranking.told) rr_cli_complain("rank", "%s", err.msg);
    code = r->ranking.cannot_write ? rr_exit_code_of_output(rc)
           : r->bad_model          ? rr_exit_code(rc)
                                   : rr_exit_code_of_data(rc);
    rr_rank_input_close(&r->lists);
    rr_free(r);
    return code;
}

const struct rr_command rr_cmd_rank = {
    .name = "rank",
    .args = "[FILE|-]",
    .summary = "rank a TREC run or JSONL lists of any size",
    .about =
        "Input is JSONL, {\"query\": \"...\", \"documents\": [...], \"id\": ..., \"ids\": [...]}\n"
        "with optional ids; or, with --queries and --corpus, a TREC run whose lines are\n"
        "grouped by query.  Memory does not grow with the input; of a corpus it needs 20\n"
        "to 45 bytes a text.\n"
        "\n"
        "Results come in the order of the input.  With --resume, what an interrupted run\n"
        "has written is kept; the file ends up the same as without the interruption.",
    .sections = "MODEL DEVICE",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 1,
    .run = run_rank,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
