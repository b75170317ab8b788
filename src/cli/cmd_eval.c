/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_eval.c - "rerankd eval": how good rankings are, on labelled data.
 * Layer: cli (L6).  Threads: one. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/eval.h"
#include "cli/hub.h"
#include "cli/pump.h"
#include "cli/score.h"
#include "cli/trec.h"

#define PATH_BYTES 4096
#define PART 1024          /* documents of one request */
#define MAX_AGREEMENT 4096 /* longer lists are not compared document by document: it is n^2 */

struct own {
    const char *run, *qrels, *queries, *corpus, *split, *candidates, *against, *against_dtype, *svg,
        *output;
    uint32_t k, depth, limit;
    bool title, rerank, json, per_query, progress;
};

static const struct rr_option own_options[] = {
    RR_OWN("run", "", STR, run, "FILE", "First-stage run in TREC form: the candidates."),
    RR_OWN("qrels", "", STR, qrels, "FILE",
           "Relevance judgements, in TREC form or BEIR's; default: FOLDER/qrels/SPLIT.tsv."),
    RR_OWN("queries", "", STR, queries, "FILE",
           "Texts of the queries, JSONL or id TAB text; default: FOLDER/queries.jsonl."),
    RR_OWN("corpus", "", STR, corpus, "FILE",
           "Texts of the documents, the same; default: FOLDER/corpus.jsonl."),
    RR_OWN("split", "test", STR, split, "NAME", "Which qrels of the folder."),
    RR_OWN("candidates", "run", STR, candidates, "run|judged|all",
           "What is ranked: the documents of --run, those that were judged, or the whole corpus."),
    RR_OWN("depth", "0", U32, depth, "N", "Rank the N best of the run only; 0: all."),
    RR_OWN("limit", "0", U32, limit, "N", "Use the first N queries only; 0: all."),
    RR_OWN_BETWEEN("k", "10", U32, k, 1, 100000, "N", "Cut-off of nDCG, MRR and recall."),
    RR_OWN("title", "true", BOOL, title, "", "Put a document's title before its text."),
    RR_OWN("rerank", "true", BOOL, rerank, "",
           "Rank with the model; --no-rerank measures the run alone."),
    RR_OWN("against", "", STR, against, "DIR", "Compare with this model, too."),
    RR_OWN("against-dtype", "", STR, against_dtype, "DTYPE",
           "Compare with this precision, of --against or of the same model."),
    RR_OWN("output", "", STR, output, "FILE", "Write the model's ranking as a TREC run."),
    RR_OWN("svg", "", STR, svg, "FILE", "Draw the measures."),
    RR_OWN("json", "false", BOOL, json, "", "Print one JSON object."),
    RR_OWN("per-query", "false", BOOL, per_query, "", "With --json: every query's measures."),
    RR_OWN("progress", "false", BOOL, progress, "", "Report progress without a terminal, too."),
};

struct eval {
    const struct own *own;
    const char *against; /* "": not given; else a folder, or a GGUF file */
    struct rr_eval_data data;
    struct rr_eval_system systems[RR_EVAL_SYSTEMS];
    size_t n_systems;
    struct rr_progress progress;
    uint64_t n_scored;
    float *scores;  /* of the system that is being scored */
    bool bad_model; /* it cannot be opened: else it is data that is malformed */
    char paths[3][PATH_BYTES];
};

/* ---- what to read --------------------------------------------------------------------------- */

/* own when it is given, else a file of the folder. */
static int choose(const char **out, char path[PATH_BYTES], const char *own, const char *folder,
                  const char *name, struct rr_error *err)
{
    *out = own;
    if (*own || !folder) return RR_OK;
    if (!rr_path_join(path, PATH_BYTES, folder, name))
        return rr_fail(err, RR_EINVAL, "%.100s: the path is too long", folder);
    *out = path;
    return RR_OK;
}

static int choose_files(struct eval *e, struct rr_eval_sources *s, const char *folder,
                        struct rr_error *err)
{
    const struct own *own = e->own;
    char qrels[300];
    int rc;

    snprintf(qrels, sizeof(qrels), "qrels/%.250s.tsv", own->split);
    rc = choose(&s->qrels, e->paths[0], own->qrels, folder, qrels, err);
    if (!rc) rc = choose(&s->queries, e->paths[1], own->queries, folder, "queries.jsonl", err);
    if (!rc) rc = choose(&s->corpus, e->paths[2], own->corpus, folder, "corpus.jsonl", err);
    if (rc) return rc;
    s->pool = own->candidates[0] == 'r'   ? RR_POOL_RUN
              : own->candidates[0] == 'j' ? RR_POOL_JUDGED
                                          : RR_POOL_ALL;
    if (s->pool == RR_POOL_RUN && !*own->run)
        return rr_fail(err, RR_EINVAL,
                       "nothing says what to rank: give --run FILE, the candidates of a first "
                       "stage, or --candidates judged or all");
    if (!*s->qrels)
        return rr_fail(err, RR_EINVAL,
                       "give a folder in BEIR's layout, a file of labelled lists "
                       "in JSONL, or --qrels FILE");
    if (own->rerank && (!*s->queries || !*s->corpus))
        return rr_fail(err, RR_EINVAL,
                       "the texts are missing: give --queries FILE and --corpus FILE, or "
                       "--no-rerank to measure the run alone");
    if (!own->rerank) s->corpus = NULL;
    s->run = own->run;
    s->depth = own->depth;
    s->limit = own->limit;
    s->with_title = own->title;
    return RR_OK;
}

/* What is read would be lost. */
static int check_outputs(const struct own *own, const char *const *read, size_t n,
                         struct rr_error *err)
{
    int rc = rr_cli_check_output("output", own->output, read, n, err);

    return rc ? rc : rr_cli_check_output("svg", own->svg, read, n, err);
}

static int by_id(const void *pa, const void *pb)
{
    const struct rr_text *a = pa, *b = pb;
    int c = memcmp(a->data, b->data, RR_MIN(a->len, b->len));

    return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* Whether the ids of lists can be written as a run, before hours of work for it. */
static int check_ids(const struct rr_eval_data *d, struct rr_error *err)
{
    struct rr_text *ids = rr_alloc(RR_MEM_MISC, d->n_queries, sizeof(*ids));
    const struct rr_text *bad = NULL;
    size_t i;
    int rc = RR_OK;

    if (!ids) return rr_fail(err, RR_ENOMEM, "out of memory for the ids");
    for (i = 0; i < d->n_queries; i++) {
        ids[i] = d->queries[i].id;
        if (!rr_trec_is_word(ids[i])) bad = &d->queries[i].id;
    }
    qsort(ids, d->n_queries, sizeof(*ids), by_id);
    for (i = 1; i < d->n_queries && !bad; i++)
        if (rr_text_eq(ids[i - 1], ids[i])) bad = &ids[i];
    if (bad)
        rc = rr_fail(err, RR_EFORMAT,
                     "--output: the id \"%.*s\" cannot be written in TREC form, expected one word "
                     "without spaces that no other list has",
                     (int)RR_MIN(bad->len, 80), bad->data);
    rr_free(ids);
    return rc;
}

static int read_lists(struct eval *e, const char *path, struct rr_error *err)
{
    int rc = check_outputs(e->own, &path, 1, err);

    if (!rc && !e->own->rerank)
        rc = rr_fail(err, RR_EINVAL, "lists have no run that could be measured alone");
    if (!rc) rc = rr_eval_read_lists(&e->data, path, e->own->limit, err);
    return rc || !*e->own->output ? rc : check_ids(&e->data, err);
}

static int read_data(struct eval *e, const char *word, struct rr_error *err)
{
    struct rr_eval_sources s = { 0 };
    struct stat st;
    bool folder = word && stat(word, &st) == 0 && S_ISDIR(st.st_mode);
    int rc;

    if (word && !folder) return read_lists(e, word, err);
    rc = choose_files(e, &s, word, err);
    if (!rc && !e->own->rerank && s.pool != RR_POOL_RUN)
        rc = rr_fail(err, RR_EINVAL, "--no-rerank measures a run: give --run FILE");
    if (!rc) {
        const char *const read[] = { s.qrels, s.run, s.queries, s.corpus };

        rc = check_outputs(e->own, read, RR_COUNT(read), err);
    }
    return rc ? rc : rr_eval_read_files(&e->data, &s, err);
}

/* ---- scoring -------------------------------------------------------------------------------- */

static int take(void *user, struct rr_pump_job *job, struct rr_error *err)
{
    struct eval *e = user;
    const size_t *at = job->user;
    size_t i;

    (void)err;
    for (i = 0; i < job->request.n_documents; i++)
        e->scores[*at + i] = job->result->scores[i].logit;
    e->n_scored += job->request.n_documents;
    rr_progress_update(&e->progress, e->n_scored, e->n_scored, e->data.n_candidates);
    return RR_OK;
}

static int submit_part(struct eval *e, struct rr_pump *pump, const struct rr_eval_query *q,
                       size_t at, size_t n, struct rr_error *err)
{
    const struct rr_eval_data *d = &e->data;
    struct rr_pump_job *job;
    struct rr_text *texts;
    size_t *first, i;
    int rc = rr_pump_next(pump, &job, err);

    if (rc) return rc;
    first = rr_arena_alloc(&job->arena, 1, sizeof(*first));
    texts = rr_arena_alloc(&job->arena, n, sizeof(*texts));
    if (!first || !texts) return rr_fail(err, RR_ENOMEM, "out of memory for the texts");
    for (i = 0; i < n && !rc; i++) {
        const struct rr_named_text *doc = &d->docs[d->candidates[at + i].doc];

        texts[i] = doc->text;
        if (d->corpus)
            rc = rr_texts_find(d->corpus, doc->id, d->with_title, &job->arena, &texts[i], err);
    }
    if (rc) return rc;
    *first = at;
    job->user = first;
    job->request.query = q->text;
    job->request.documents = texts;
    job->request.n_documents = n;
    return rr_pump_submit(pump, err);
}

static int score_queries(struct eval *e, struct rr_engine *engine, struct rr_error *err)
{
    struct rr_pump *pump;
    size_t i, done;
    int rc = rr_pump_open(&pump, engine, take, e, err);

    e->n_scored = 0;
    for (i = 0; i < e->data.n_queries && !rc; i++) {
        const struct rr_eval_query *q = &e->data.queries[i];

        for (done = 0; done < q->n && !rc; done += PART)
            rc = submit_part(e, pump, q, q->first + done, RR_MIN(q->n - done, (size_t)PART), err);
        if (rc) rr_fail_prefix(err, "query %.*s", (int)RR_MIN(q->id.len, 80), q->id.data);
    }
    if (!rc) rc = rr_pump_finish(pump, err);
    rr_pump_close(pump);
    return rc;
}

static struct rr_eval_system *add_system(struct eval *e, struct rr_error *err)
{
    struct rr_eval_system *s = &e->systems[e->n_systems++];

    s->scores = rr_calloc(RR_MEM_MISC, e->data.n_candidates, sizeof(*s->scores));
    s->measures = rr_calloc(RR_MEM_MISC, e->data.n_queries, sizeof(*s->measures));
    if (s->scores && s->measures) return s;
    rr_fail(err, RR_ENOMEM, "out of memory for %zu scores", e->data.n_candidates);
    return NULL;
}

/* One model after the other: only one needs to be in memory. */
static int score_model(struct eval *e, const struct rr_settings *settings, const char *model,
                       const char *dtype, struct rr_error *err)
{
    struct rr_eval_system *s = add_system(e, err);
    struct rr_engine *engine;
    struct rr_options opt;
    int rc;

    if (!s) return RR_ENOMEM;
    rr_settings_engine(settings, &opt);
    if (*model) opt.model = model;
    if (*dtype) opt.dtype = dtype;
    rr_pump_limits(&opt);
    rc = rr_open(&engine, &opt, err);
    e->bad_model = rc != RR_OK;
    if (rc) return rc;
    snprintf(s->name, sizeof(s->name), "%.60s (%s)", rr_engine_info(engine)->model,
             rr_engine_info(engine)->dtype);
    e->scores = s->scores;
    rr_progress_init(&e->progress, e->own->progress, rr_settings_french(settings));
    rc = score_queries(e, engine, err);
    rr_progress_clear(&e->progress);
    rr_close(engine);
    return rc;
}

static int score_all(struct eval *e, const struct rr_settings *settings, struct rr_error *err)
{
    const struct own *own = e->own;
    int rc = RR_OK;
    size_t i;

    if (e->data.has_first) {
        struct rr_eval_system *s = add_system(e, err);

        if (!s) return RR_ENOMEM;
        snprintf(s->name, sizeof(s->name), "first stage");
        for (i = 0; i < e->data.n_candidates; i++) s->scores[i] = e->data.candidates[i].first;
    }
    if (own->rerank) rc = score_model(e, settings, "", "", err);
    if (!rc && (*own->against || *own->against_dtype))
        rc = score_model(e, settings, e->against, own->against_dtype, err);
    return rc;
}

/* ---- measuring ------------------------------------------------------------------------------ */

static int measure_query(struct eval *e, struct rr_eval_system *s, size_t query, uint32_t *order,
                         int32_t *labels, struct rr_error *err)
{
    const struct rr_eval_data *d = &e->data;
    const struct rr_eval_query *q = &d->queries[query];
    size_t i;
    int rc = rr_eval_order(order, d, q, s->scores, err);

    if (rc) return rc;
    for (i = 0; i < q->n; i++) labels[i] = d->candidates[q->first + order[i]].label;
    rr_measure(s->measures[query], labels, q->n, d->gains + q->gains, q->n_gains, e->own->k);
    for (i = 0; i < RR_MEASURES; i++) s->mean[i] += s->measures[query][i]; /* so far a sum */
    return RR_OK;
}

static int measure(struct eval *e, struct rr_eval_system *s, struct rr_error *err)
{
    uint32_t *order = rr_alloc(RR_MEM_MISC, e->data.n_candidates, sizeof(*order));
    int32_t *labels = rr_alloc(RR_MEM_MISC, e->data.n_candidates, sizeof(*labels));
    int rc = order && labels ? RR_OK : rr_fail(err, RR_ENOMEM, "out of memory for the measures");
    size_t i;

    for (i = 0; i < e->data.n_queries && !rc; i++) rc = measure_query(e, s, i, order, labels, err);
    for (i = 0; i < RR_MEASURES; i++) s->mean[i] /= (double)e->data.n_queries;
    rr_free(order);
    rr_free(labels);
    return rc;
}

static int compare(struct eval *e, struct rr_eval_report *r, size_t other, struct rr_error *err)
{
    const struct rr_eval_system *a = &e->systems[other], *b = &e->systems[r->subject];
    struct rr_verify agreement;
    size_t i, m;
    int rc = RR_OK;

    for (m = 0; m < RR_MEASURES; m++)
        r->versus[other][m] =
            rr_bootstrap(&a->measures[0][m], &b->measures[0][m], e->data.n_queries, RR_MEASURES);
    rr_verify_init(&agreement);
    for (i = 0; i < e->data.n_queries && !rc; i++) {
        const struct rr_eval_query *q = &e->data.queries[i];

        if (q->n <= MAX_AGREEMENT)
            rc = rr_verify_add(&agreement, a->scores + q->first, b->scores + q->first, q->n, NULL,
                               err);
    }
    rr_verify_report(&agreement, &r->agreement[other]);
    rr_verify_free(&agreement);
    return rc;
}

/* ---- output --------------------------------------------------------------------------------- */

static void write_query(FILE *out, const struct eval *e, const struct rr_eval_system *s,
                        const struct rr_eval_query *q, const uint32_t *order)
{
    size_t i;

    for (i = 0; i < q->n; i++) {
        size_t at = q->first + order[i];
        struct rr_text id = e->data.docs[e->data.candidates[at].doc].id;

        fprintf(out, "%.*s Q0 ", (int)q->id.len, q->id.data);
        if (id.len)
            fwrite(id.data, 1, id.len, out);
        else
            fprintf(out, "%" PRIu32, order[i]); /* of a list */
        fprintf(out, " %zu %.9g rerankd\n", i + 1, (double)s->scores[at]);
    }
}

static int cannot_write(const char *path, struct rr_error *err)
{
    return rr_fail_errno(err, RR_EIO, path, "cannot be written", errno);
}

/* Whether path can be written, asked before hours of work for it; it stays as it is. */
static int check_output(const char *path, struct rr_error *err)
{
    char folder[PATH_BYTES];
    const char *slash = strrchr(path, '/');

    if (!*path) return RR_OK;
    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    return access(rr_file_exists(path) ? path : folder, W_OK) ? cannot_write(path, err) : RR_OK;
}

static int write_run(const struct eval *e, const struct rr_eval_system *s, struct rr_error *err)
{
    uint32_t *order = rr_alloc(RR_MEM_MISC, e->data.n_candidates, sizeof(*order));
    FILE *out = fopen(e->own->output, "we");
    size_t i;
    int rc = order ? RR_OK : rr_fail(err, RR_ENOMEM, "out of memory for the output");

    if (!rc && !out) rc = cannot_write(e->own->output, err);
    for (i = 0; i < e->data.n_queries && !rc; i++) {
        rc = rr_eval_order(order, &e->data, &e->data.queries[i], s->scores, err);
        if (!rc) write_query(out, e, s, &e->data.queries[i], order);
    }
    if (out && (ferror(out) | fclose(out)) && !rc) rc = cannot_write(e->own->output, err);
    rr_free(order);
    return rc;
}

static int report(struct eval *e, struct rr_error *err)
{
    struct rr_eval_report r = {
        .data = &e->data, .k = e->own->k, .systems = e->systems, .n_systems = e->n_systems
    };
    size_t i;
    int rc = RR_OK;

    r.subject = e->data.has_first && e->own->rerank;
    for (i = 0; i < e->n_systems && !rc; i++) rc = measure(e, &e->systems[i], err);
    for (i = 0; i < e->n_systems && !rc; i++) {
        if (i != r.subject) rc = compare(e, &r, i, err);
    }
    if (rc) return rc;
    if (e->own->json)
        rr_eval_print_json(stdout, &r, e->own->per_query);
    else
        rr_eval_print_table(stdout, &r);
    if (*e->own->output) rc = write_run(e, &e->systems[r.subject], err);
    if (!rc && *e->own->svg) rc = rr_eval_write_svg(e->own->svg, &r, err);
    return rc;
}

static int run_eval(const struct rr_settings *settings, const void *fields, char **words,
                    int n_words)
{
    static char dir[RR_HUB_PATH];
    const struct own *own = fields;
    const char *against = own->against;
    struct rr_error err = { 0 };
    int rc, code = rr_cli_hub_path(&rr_cmd_eval, settings, &against, dir);
    struct eval *e;
    size_t i;

    if (code) return code;
    e = rr_calloc(RR_MEM_MISC, 1, sizeof(*e));
    if (!e) return RR_EXIT_OSERR;
    e->own = own;
    e->against = against;
    rr_eval_data_init(&e->data);
    rc = read_data(e, n_words ? words[0] : NULL, &err);
    code = rr_exit_code_of_data(rc);
    if (!rc) {
        rc = check_output(e->own->output, &err);
        if (!rc) rc = check_output(e->own->svg, &err);
        code = rr_exit_code_of_output(rc);
    }
    if (!rc) {
        rc = score_all(e, settings, &err);
        code = e->bad_model ? rr_exit_code(rc) : rr_exit_code_of_data(rc);
    }
    if (!rc) {
        rc = report(e, &err);
        code = rr_exit_code_of_output(rc);
    }
    if (rc) rr_cli_complain("eval", "%s", err.msg);
    for (i = 0; i < e->n_systems; i++) {
        rr_free(e->systems[i].scores);
        rr_free(e->systems[i].measures);
    }
    rr_eval_data_free(&e->data);
    rr_free(e);
    return code;
}

const struct rr_command rr_cmd_eval = {
    .name = "eval",
    .args = "[FOLDER|LISTS.jsonl]",
    .summary = "measure rankings on labelled data: nDCG, MRR, recall, MAP",
    .about = "Takes a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv),\n"
             "or --qrels, --run, --queries and --corpus, or JSONL: {\"query\", \"documents\":\n"
             "[...], \"labels\": [...] or \"positive\": index}.  Numbers are trec_eval's.\n"
             "\n"
             "With a first stage's run, or --against, tells whether the difference is\n"
             "significant (paired bootstrap) and how far the orders agree.",
    .sections = "MODEL DEVICE",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 1,
    .run = run_eval,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
