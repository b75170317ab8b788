/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_verify.c - "rerankd verify": what a precision costs, on the user's own queries and documents.
 * Layer: cli (L6).  Threads: one.
 *
 * Both precisions are loaded at once and score the same lists; f32 is the reference.  With --choose
 * every precision of the device takes its turn. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/hub.h"
#include "cli/known.h"
#include "cli/lists.h"
#include "cli/sample.h"
#include "cli/score.h"
#include "cli/verify.h"
#include "cli/verify_choose.h"
#include "rerank.h"

#define MAX_DOCUMENTS 10000
#define REFERENCE_PATH 4096

struct own {
    const char *data, *against, *top5, *tau, *tolerance;
    bool json, gate, write, golden, choose;
    uint32_t limit, exact;
};

static const struct rr_option own_options[] = {
    RR_OWN("data", "", STR, data, "FILE",
           "JSONL: {\"query\", \"documents\": [...]}, and, where known, \"positive\": index of the "
           "relevant one, or \"labels\": a grade for each; empty: built-in lists."),
    RR_OWN("against", "", STR, against, "DIR",
           "Folder or GGUF file whose scores in f32 are the reference, for example the one that "
           "rerankd quantize read; empty: the model's own weights."),
    RR_OWN_BETWEEN(
        "limit", "0", U32, limit, 0, UINT32_MAX, "N",
        "Use the first N lists only, with --golden the first N lines or known pairs; 0: all."),
    RR_OWN("gate", "false", BOOL, gate, "",
           "Exit with 1 unless the precision is good enough: see --gate-top5 and --gate-tau."),
    RR_OWN("gate-top5", "0.99", STR, top5, "SHARE",
           "With --gate and --choose: least share of lists whose five best are the same."),
    RR_OWN("gate-tau", "0", STR, tau, "TAU", "With --gate and --choose: least Kendall's tau."),
    RR_OWN("choose", "false", BOOL, choose, "",
           "Measure every precision that the device has, and keep in the cache folder which is the "
           "quickest that is good enough: --dtype auto takes it from then on."),
    RR_OWN_BETWEEN("exact-top-k", "0", U32, exact, 0, MAX_DOCUMENTS, "K",
                   "Also ask for an exact top K, re-scored in f32, and say whether it was; 0: no."),
    RR_OWN(
        "write", "false", BOOL, write, "",
        "Store the report as verify.json in the model's folder; re-scoring in f32 beside the same "
        "precision takes its bound, \"drift\", from there."),
    RR_OWN("golden", "false", BOOL, golden, "",
           "Instead: score the model folder's reference.jsonl (of a file m.gguf, m.reference.jsonl "
           "beside it), or the pairs that are known of the hub's model of that name, and compare "
           "with the scores in it."),
    RR_OWN("tolerance", "2e-4", STR, tolerance, "X", "With --golden: larger differences fail."),
    RR_OWN("json", "false", BOOL, json, "", "Print one JSON object."),
};

struct verify {
    const struct own *own;
    const char *model, *against;  /* NULL, "": not given; else folders, or GGUF files */
    struct rr_engine *engines[2]; /* f32, and the precision in question */
    struct rr_verify sums;
    uint64_t ns[2];        /* that their scoring took */
    struct rr_lists lists; /* of --data */
    bool progress;
};

/* ---- one list ------------------------------------------------------------------------------- */

static int score_exact(struct verify *v, const struct rr_request *req, const float *reference,
                       struct rr_error *err)
{
    struct rr_request exact = *req;
    struct rr_result *result;
    int rc;

    exact.exact_top_k = v->own->exact;
    rc = rr_score(v->engines[1], &exact, &result, err);
    if (rc) return rc;
    rr_verify_add_exact(&v->sums, reference, result->order, req->n_documents, v->own->exact,
                        result->n_rescored, result->exact);
    rr_result_free(result);
    return RR_OK;
}

/* grades: NULL when not known. */
static int score_both(struct verify *v, const struct rr_request *req, const float *grades,
                      struct rr_error *err)
{
    size_t n = req->n_documents, i;
    float *logits = rr_alloc(RR_MEM_MISC, n, 2 * sizeof(*logits));
    int rc = RR_OK, s;

    if (!logits) return rr_fail(err, RR_ENOMEM, "out of memory");
    for (s = 0; s < 2 && !rc; s++) {
        struct rr_request one = *req;
        struct rr_result *result;
        uint64_t begin = rr_now_ns();

        one.no_cache = s == 1 || !v->own->choose; /* f32 once for all precisions */
        rc = rr_score(v->engines[s], &one, &result, err);
        v->ns[s] += rr_now_ns() - begin;
        if (rc) break;
        for (i = 0; i < n; i++) logits[(size_t)s * n + i] = result->scores[i].logit;
        rr_result_free(result);
    }
    if (!rc) rc = rr_verify_add(&v->sums, logits, logits + n, n, grades, err);
    if (!rc && v->own->exact) rc = score_exact(v, req, logits, err);
    rr_free(logits);
    if (!v->progress) return rc;
    fprintf(stderr, "\r%zu lists, %zu pairs\033[K", v->sums.n_lists, v->sums.n_pairs);
    fflush(stderr);
    return rc;
}

static int verify_list(struct verify *v, size_t i, struct rr_error *err)
{
    const struct rr_list *list = &v->lists.lists[i];
    struct rr_request req = { .query = list->query,
                              .documents = list->documents,
                              .n_documents = list->n_documents,
                              .no_cache = true };
    float *grades = rr_alloc(RR_MEM_MISC, list->n_documents, sizeof(*grades));
    bool known;
    int rc;

    if (!grades) return rr_fail(err, RR_ENOMEM, "out of memory");
    rc = rr_verify_grades(v->lists.lines[i].tree, grades, list->n_documents, &known, err);
    if (rc)
        rr_fail_prefix(err, "%s: line %" PRIu64, v->own->data, v->lists.lines[i].number);
    else
        rc = score_both(v, &req, known ? grades : NULL, err);
    rr_free(grades);
    return rc;
}

/* ---- all lists ------------------------------------------------------------------------------ */

static int verify_sample(struct verify *v, struct rr_error *err)
{
    struct rr_text docs[RR_SAMPLE_DOCS];
    struct rr_request req = { .documents = docs, .n_documents = RR_SAMPLE_DOCS, .no_cache = true };
    int rc = RR_OK;
    uint32_t i;

    for (i = 0; i < RR_SAMPLE_LISTS && !rc && !(v->own->limit && i >= v->own->limit); i++) {
        float grades[RR_SAMPLE_DOCS] = { 0 };
        long relevant;

        rr_sample_list(i, &req.query, docs, &relevant);
        grades[relevant] = 1;
        rc = score_both(v, &req, grades, err);
    }
    return rc;
}

static int verify_lists(struct verify *v, struct rr_error *err)
{
    int rc = RR_OK;

    if (!*v->own->data) return verify_sample(v, err);
    for (size_t i = 0; i < v->lists.n && !rc; i++) rc = verify_list(v, i, err);
    return rc;
}

/* ---- command -------------------------------------------------------------------------------- */

/* Weights that are in int8 already are no measure of what int8 does: whoever is to decide by them
 * must be given the original. */
static int own_weights_tell(const struct rr_info *info, const char *option, struct rr_error *err)
{
    if (strcmp(info->weights_dtype, "int8")) return RR_OK;
    return rr_fail(err, RR_EINVAL,
                   "%s: its weights are in int8 already, and compared with themselves they look "
                   "perfect: %s needs --against DIR, the folder that they were made from",
                   info->path, option);
}

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* reference.jsonl in the model's folder; of a file, m.gguf, m.reference.jsonl beside it. */
static bool reference_of(char path[REFERENCE_PATH], const char *model)
{
    size_t stem = rr_text_stem(model, ".gguf");
    int n;

    if (is_folder(model)) return rr_path_join(path, REFERENCE_PATH, model, "reference.jsonl");
    n = snprintf(path, REFERENCE_PATH, "%.*s.reference.jsonl", (int)(stem ? stem : strlen(model)),
                 model);
    return n > 0 && n < REFERENCE_PATH;
}

static int open_engines(struct verify *v, const struct rr_settings *settings, struct rr_error *err)
{
    char reference[REFERENCE_PATH];
    struct rr_options opt;
    int rc;

    rr_settings_engine(settings, &opt);
    opt.cache_bytes = 0;
    opt.shared_cache = NULL;
    if (v->model) opt.model = v->model;
    if (v->own->exact) opt.rescore_dtype = "f32";
    rc = rr_open(&v->engines[1], &opt, err);
    if (!rc && v->own->golden && reference_of(reference, opt.model))
        rc = rr_reference_fit(&v->engines[1], &opt, reference, v->own->limit, err);
    if (rc || v->own->golden) return rc;
    if (v->own->gate && !*v->against)
        rc = own_weights_tell(rr_engine_info(v->engines[1]), "--gate", err);
    if (rc) return rc;
    opt.dtype = "f32";
    opt.rescore_dtype = NULL;
    if (*v->against) {
        opt.model = v->against;
        opt.max_length = rr_engine_info(v->engines[1])->max_length; /* cut alike */
    }
    rc = rr_open(&v->engines[0], &opt, err);
    if (rc && *v->against) rr_fail_prefix(err, "--against");
    return rc;
}

/* The model's reference.jsonl; else what is known of it by its name on the hub. */
static int run_golden(struct verify *v, double tolerance)
{
    const char *model = rr_engine_info(v->engines[1])->path;
    const struct rr_known *known;
    struct rr_error err = { 0 };
    char path[REFERENCE_PATH];
    size_t n;
    int rc;

    if (!reference_of(path, model)) {
        rr_cli_complain("verify", "the model's path is too long");
        return RR_EXIT_FAILURE;
    }
    known = rr_file_exists(path) ? NULL : rr_known_find(model, &n);
    if (!known && !rr_file_exists(path)) {
        rr_cli_complain("verify",
                        "%s: there are no reference scores: expected %s (lines as rerankd score "
                        "--reference takes them), or a model from the hub whose scores are known",
                        model, path);
        return rr_exit_code(RR_ENOENT);
    }
    if (!known)
        return rr_score_reference("verify", v->engines[1], path, v->own->limit, tolerance,
                                  v->own->json);
    if (v->own->limit) n = RR_MIN(n, (size_t)v->own->limit);
    rc = rr_known_check(v->engines[1], known, n, tolerance, &err);
    if (rc) {
        rr_cli_complain("verify", "%s", err.msg);
        return rc == RR_EFORMAT ? RR_EXIT_FAILURE : rr_exit_code(rc);
    }
    if (v->own->json)
        printf("{\"known\":\"%s\",\"pairs\":%zu,\"ok\":true}\n", known->model, n);
    else
        printf("%s: %zu known pairs\nok\n", known->model, n);
    return RR_EXIT_OK;
}

/* Prints, stores, judges: an exit code. */
static int report(struct verify *v, double top5, double tau)
{
    const struct rr_info *info = rr_engine_info(v->engines[1]);
    const struct rr_info *against = *v->against ? rr_engine_info(v->engines[0]) : NULL;
    struct rr_verify_report r;
    struct rr_error err = { 0 };
    char line[160];
    const char *why;

    if (v->progress) fputs("\r\033[K", stderr);
    rr_verify_report(&v->sums, &r);
    if (v->own->json)
        rr_verify_json(stdout, info, against, &r);
    else
        rr_verify_text(stdout, info, against, &r);
    if (v->own->write) {
        int rc = is_folder(info->path)
                     ? rr_verify_write(info, &r, &err)
                     : rr_fail(&err, RR_ENOTSUP,
                               "%s: --write stores verify.json in the model's folder, and this is "
                               "a file: make a folder of it with rerankd convert",
                               info->path);

        if (rc) {
            rr_cli_complain("verify", "%s", err.msg);
            return rr_exit_code_of_output(rc);
        }
    }
    why = v->own->gate ? rr_verify_gate(&r, top5, tau, line, sizeof(line)) : NULL;
    if (!why) return RR_EXIT_OK;
    rr_cli_complain("verify", "%s", why);
    return RR_EXIT_FAILURE;
}

/* ---- choosing ------------------------------------------------------------------------------- */

/* Fills a row with what engines[1], opened for it unless it is there, makes of the lists; what the
 * device refuses is no failure. */
static int try_precision(struct verify *v, struct rr_options *opt, const double gate[2],
                         struct rr_candidate *row, struct rr_error *err)
{
    struct rr_error refused = { 0 };
    const char *why;
    int rc;

    opt->dtype = row->dtype;
    if (!v->engines[1] && rr_open(&v->engines[1], opt, &refused)) {
        snprintf(row->why, sizeof(row->why), "%.*s", (int)sizeof(row->why) - 1, refused.msg);
        return RR_OK;
    }
    rr_verify_free(&v->sums);
    v->ns[1] = 0;
    rc = verify_lists(v, err);
    rr_close(v->engines[1]);
    v->engines[1] = NULL;
    if (rc) return rc;
    rr_verify_report(&v->sums, &row->report);
    row->ran = true;
    row->per_second = (double)row->report.pairs * 1e9 / (double)v->ns[1];
    why = rr_verify_gate(&row->report, gate[0], gate[1], row->why, sizeof(row->why));
    row->holds = !why;
    return RR_OK;
}

/* Opens what the precisions are compared with: the model itself in f32, which is then rows[0], or
 * the one of --against; the model in f32 is in engines[1] then.  *info: the model in f32. */
static int open_choice(struct verify *v, struct rr_options *opt, struct rr_candidate *rows,
                       struct rr_info *info, struct rr_error *err)
{
    bool other = *v->against;
    struct rr_options reference;
    int rc;

    opt->dtype = "f32";
    reference = *opt;
    reference.cache_bytes = (size_t)64 << 20; /* its scores, for the second precision on */
    opt->cache_bytes = 0;
    rc = rr_open(&v->engines[other], other ? opt : &reference, err);
    if (rc) return rc;
    *info = *rr_engine_info(v->engines[other]);
    opt->device = info->device; /* "auto" could be another one */
    opt->fallback = false;
    rows[0].ran = rows[0].holds = !other;
    if (!other) return own_weights_tell(info, "--choose", err);
    reference.model = v->against;
    reference.max_length = info->max_length; /* cut alike */
    rc = rr_open(&v->engines[0], &reference, err);
    if (rc) rr_fail_prefix(err, "--against");
    return rc;
}

static int choose(struct verify *v, struct rr_options *opt, const double gate[2],
                  struct rr_candidate *rows, size_t n, struct rr_error *err)
{
    int rc = RR_OK;
    size_t i;

    for (i = rows[0].ran; i < n && !rc; i++) {
        rc = try_precision(v, opt, gate, &rows[i], err);
        if (!rc && rows[i].ran && !rows[0].per_second)
            rows[0].per_second = (double)rows[i].report.pairs * 1e9 / (double)v->ns[0];
    }
    return rc;
}

/* Keeps the choice for the model, which is engines[0] unless that is the one of --against. */
static int keep_choice(struct verify *v, struct rr_options *opt, const char *dtype, const char *why,
                       struct rr_error *err)
{
    bool other = *v->against;
    int rc = RR_OK;

    opt->dtype = "f32";
    if (other) rc = rr_open(&v->engines[1], opt, err);
    return rc ? rc : rr_choose_dtype(v->engines[other], opt->cache_dir, dtype, why, err);
}

/* An exit code. */
static int run_choose(struct verify *v, const struct rr_settings *settings, const double gate[2])
{
    struct rr_candidate rows[] = { { .dtype = "f32" },
                                   { .dtype = "f16" },
                                   { .dtype = "bf16" },
                                   { .dtype = "int8" },
                                   { .dtype = "fp8" } };
    const char *against = *v->against ? v->against : NULL;
    size_t n = RR_COUNT(rows), best;
    struct rr_error err = { 0 };
    struct rr_options opt;
    struct rr_info info;
    char why[256];
    int rc, code;

    rr_settings_engine(settings, &opt);
    opt.shared_cache = NULL;
    opt.rescore_dtype = NULL;
    if (v->model) opt.model = v->model;
    if (!opt.cache_dir) {
        rr_cli_complain("verify", "--choose needs a folder to keep the choice: --cache-dir");
        return RR_EXIT_USAGE;
    }
    rc = open_choice(v, &opt, rows, &info, &err);
    code = rr_exit_code(rc);
    if (!rc) {
        rc = choose(v, &opt, gate, rows, n, &err);
        code = rr_exit_code_of_data(rc);
    }
    if (v->progress) fputs("\r\033[K", stderr);
    if (!rc) {
        best = rr_choose(rows, n);
        (v->own->json ? rr_choose_json : rr_choose_text)(stdout, &info, against, rows, n, best);
        if (best == n) {
            rr_cli_complain("verify",
                            "no precision of %s is good enough beside %s: nothing was kept",
                            info.path, against);
            return RR_EXIT_FAILURE;
        }
        rr_choose_why(rows, best, rr_unix_time(), why, sizeof(why));
        rc = keep_choice(v, &opt, rows[best].dtype, why, &err);
        code = rr_exit_code_of_output(rc);
    }
    if (rc) rr_cli_complain("verify", "%s", err.msg);
    return code;
}

/* What would be left undone without a word. */
static bool fits_together(const struct own *o)
{
    const struct {
        bool both;
        const char *names;
    } pairs[] = {
        { o->golden && *o->against, "--golden compares with scores in a file: it and --against" },
        { o->golden && *o->data, "--golden has lists of its own: it and --data" },
        { o->golden && o->exact, "--golden orders nothing: it and --exact-top-k" },
        { o->golden && o->write, "--golden makes no report: it and --write" },
        { o->golden && o->choose, "--golden is of one precision: it and --choose" },
        { o->write && *o->against, "--write stores a bound for re-scoring, which takes the model's "
                                   "own weights: it and --against" },
        { o->choose && o->write, "--choose compares many precisions: it and --write" },
        { o->choose && o->exact, "--choose compares precisions alone: it and --exact-top-k" },
    };

    for (size_t i = 0; i < RR_COUNT(pairs); i++) {
        if (!pairs[i].both) continue;
        rr_cli_complain("verify", "%s do not go together, leave one out", pairs[i].names);
        return false;
    }
    return true;
}

static int run_verify(const struct rr_settings *settings, const void *fields, char **words,
                      int n_words)
{
    static char dirs[2][RR_HUB_PATH];
    struct verify v = { .own = fields, .progress = rr_cli_is_terminal(stderr) };
    struct rr_error err = { 0 };
    double gate[2], tolerance;
    int rc, code;

    if (!rr_cli_number("verify", "gate-top5", v.own->top5, 0, 1, &gate[0]) ||
        !rr_cli_number("verify", "gate-tau", v.own->tau, -1, 1, &gate[1]) ||
        !rr_cli_number("verify", "tolerance", v.own->tolerance, 0, 1e6, &tolerance) ||
        !fits_together(v.own))
        return RR_EXIT_USAGE;
    v.model = n_words ? words[0] : NULL;
    v.against = v.own->against;
    code = v.model ? rr_cli_hub_path(&rr_cmd_verify, settings, &v.model, dirs[0]) : RR_EXIT_OK;
    if (!code) code = rr_cli_hub_path(&rr_cmd_verify, settings, &v.against, dirs[1]);
    if (code) return code;
    rr_verify_init(&v.sums);
    rc = *v.own->data ? rr_lists_read(&v.lists, v.own->data, v.own->limit, &err) : RR_OK;
    code = rr_exit_code_of_data(rc);
    if (!rc && v.own->choose) {
        code = run_choose(&v, settings, gate);
        goto end;
    }
    if (!rc) {
        rc = open_engines(&v, settings, &err);
        code = rr_exit_code(rc);
    }
    if (!rc && !v.own->golden) {
        rc = verify_lists(&v, &err);
        code = rr_exit_code_of_data(rc);
    }
    if (rc) {
        rr_cli_complain("verify", "%s", err.msg);
    } else if (v.own->golden) {
        code = run_golden(&v, tolerance);
    } else {
        code = report(&v, gate[0], gate[1]);
    }
end:
    rr_lists_free(&v.lists);
    rr_verify_free(&v.sums);
    rr_close(v.engines[0]);
    rr_close(v.engines[1]);
    return code;
}

const struct rr_command rr_cmd_verify = {
    .name = "verify",
    .args = "[MODEL]",
    .summary = "compare a precision with f32 on your own queries and documents",
    .about = "Scores lists at --dtype and in f32 and prints how far logits, orders and, where the\n"
             "relevant documents are known, nDCG and MRR are apart. MODEL is as in --model, which\n"
             "counts without it. f32 means the same weights in f32: of a folder that is in int8\n"
             "already these were rounded, and --against DIR compares with the original, which\n"
             "--gate and --choose ask for there.",
    .sections = "MODEL DEVICE",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 1,
    .run = run_verify,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
