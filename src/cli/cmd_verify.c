/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_verify.c - "rerankd verify": what a precision costs, on the user's own queries and documents.
 * Layer: cli (L6).  Threads: one.
 *
 * Both precisions are loaded at once and score the same lists; f32 is the reference. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/verify.h"
#include "rerank.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)
#define MAX_DOCUMENTS 10000

struct own {
    const char *data, *gate;
    bool json;
    uint32_t limit;
};

#define OWN(name, def, type, field, arg, help) \
    { \
        name, "", def, RR_OPTION_##type, offsetof(struct own, field), 0, 0, "VERIFY", arg, help \
    }

static const struct rr_option own_options[] = {
    OWN("data", "", STR, data, "FILE",
        "JSONL: {\"query\", \"documents\": [...], \"positive\": index of the relevant one, "
        "optional}; empty: the model folder's reference.jsonl."),
    OWN("limit", "0", U32, limit, "N", "Use the first N lists only; 0: all."),
    OWN("gate", "0", STR, gate, "SHARE",
        "Fail when the five best differ in more than 1 - SHARE of the lists; 0.99 is a good gate."),
    OWN("json", "false", BOOL, json, "", "Print one JSON object."),
};

struct verify {
    const struct own *own;
    struct rr_engine *engines[2]; /* f32, and the precision in question */
    struct rr_verify sums;
    const char *path;
    uint64_t line; /* from 1 */
};

static int bad_line(const struct verify *v, struct rr_error *err, const char *what)
{
    return rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 ": %s", v->path, v->line, what);
}

static int score_both(struct verify *v, const struct rr_request *req, long relevant,
                      struct rr_error *err)
{
    float *logits = rr_alloc(RR_MEM_MISC, req->n_documents, 2 * sizeof(*logits));
    int rc = RR_OK, s;
    size_t i;

    if (!logits) return rr_fail(err, RR_ENOMEM, "out of memory");
    for (s = 0; s < 2 && !rc; s++) {
        struct rr_result *result;

        rc = rr_score(v->engines[s], req, &result, err);
        if (rc) break;
        for (i = 0; i < req->n_documents; i++)
            logits[(size_t)s * req->n_documents + i] = result->scores[i].logit;
        rr_result_free(result);
    }
    if (!rc)
        rc = rr_verify_add(&v->sums, logits, logits + req->n_documents, req->n_documents, relevant,
                           err);
    rr_free(logits);
    return rc;
}

static int verify_list(struct verify *v, const json_t *list, struct rr_error *err)
{
    const json_t *query = json_object_get(list, "query"),
                 *docs = json_object_get(list, "documents");
    const json_t *positive = json_object_get(list, "positive");
    size_t n = json_array_size(docs), i;
    struct rr_request req = { .no_cache = true };
    struct rr_text *texts;
    int rc;

    if (!json_is_string(query) || n == 0 || n > MAX_DOCUMENTS)
        return bad_line(v, err,
                        "expected an object with \"query\", a string, and \"documents\", an "
                        "array of 1 to 10000 strings");
    texts = rr_alloc(RR_MEM_MISC, n, sizeof(*texts));
    if (!texts) return rr_fail(err, RR_ENOMEM, "out of memory");
    for (i = 0; i < n; i++) {
        const json_t *doc = json_array_get(docs, i);

        if (!json_is_string(doc)) {
            rr_free(texts);
            return bad_line(v, err, "a document is not a string");
        }
        texts[i] = (struct rr_text){ json_string_value(doc), json_string_length(doc) };
    }
    req.query = (struct rr_text){ json_string_value(query), json_string_length(query) };
    req.documents = texts;
    req.n_documents = n;
    rc = score_both(v, &req, json_is_integer(positive) ? (long)json_integer_value(positive) : -1,
                    err);
    rr_free(texts);
    return rc;
}

static int verify_lines(struct verify *v, const char *data, size_t len, struct rr_error *err)
{
    const char *end = data + len;

    while (data < end && !(v->own->limit && v->sums.n_lists >= v->own->limit)) {
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        struct rr_text line = { data, (size_t)((newline ? newline : end) - data) };
        struct rr_error why = { 0 };
        json_t *list = NULL;
        int rc;

        v->line++;
        data = newline ? newline + 1 : end;
        if (rr_text_blank(line)) continue;
        if (rr_json_parse(&list, line, 0, RR_JSON_DUP_LAST, &why)) return bad_line(v, err, why.msg);
        rc = verify_list(v, list, err);
        json_decref(list);
        if (rc) return rc;
    }
    if (v->sums.n_lists) return RR_OK;
    return rr_fail(err, RR_EFORMAT, "%s: no lists in it", v->path);
}

static int open_engines(struct verify *v, const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_options opt;
    int rc;

    rr_settings_engine(settings, &opt);
    opt.cache_bytes = 0;
    rc = rr_open(&v->engines[1], &opt, err);
    if (rc) return rc;
    opt.dtype = "f32";
    return rr_open(&v->engines[0], &opt, err);
}

/* ---- output --------------------------------------------------------------------------------- */

static void print_json(const struct verify *v, const struct rr_verify_report *r)
{
    const struct rr_info *info = rr_engine_info(v->engines[1]);

    printf(
        "{\"model\": \"%s\", \"dtype\": \"%s\", \"isa\": \"%s\", \"lists\": %zu, \"pairs\": %zu, "
        "\"max_logit_difference\": %.6g, \"p99_logit_difference\": %.6g, "
        "\"mean_logit_difference\": %.6g, \"kendall_tau\": %.6f, \"top1_equal\": %.6f, "
        "\"top5_equal\": %.6f, \"top10_equal\": %.6f",
        info->model, info->dtype, info->isa, r->lists, r->pairs, r->max_diff, r->p99_diff,
        r->mean_diff, r->tau, r->top_equal[0], r->top_equal[1], r->top_equal[2]);
    if (r->labelled)
        printf(", \"labelled\": %zu, \"ndcg10\": [%.5f, %.5f], \"mrr10\": [%.5f, %.5f]",
               r->labelled, r->ndcg[0], r->ndcg[1], r->mrr[0], r->mrr[1]);
    printf("}\n");
}

static void print_table(const struct verify *v, const struct rr_verify_report *r)
{
    const struct rr_info *info = rr_engine_info(v->engines[1]);
    static const char *const names[RR_VERIFY_TOPS] = { "best equal", "5 best equal",
                                                       "10 best equal" };
    int i;

    printf("%s, %s (%s) against f32\n", info->model, info->dtype, info->isa);
    printf("%-22s %zu, %zu pairs\n", "lists", r->lists, r->pairs);
    printf("%-22s max %.4g, 99 %% below %.4g, mean %.4g\n", "logit difference", r->max_diff,
           r->p99_diff, r->mean_diff);
    printf("%-22s %.4f\n", "Kendall's tau", r->tau);
    for (i = 0; i < RR_VERIFY_TOPS; i++)
        if (r->top_lists[i])
            printf("%-22s %.2f %% of %zu lists\n", names[i], 100 * r->top_equal[i],
                   r->top_lists[i]);
    if (!r->labelled) return;
    printf("%-22s %.4f, f32 %.4f (%zu labelled lists)\n", "nDCG@10", r->ndcg[1], r->ndcg[0],
           r->labelled);
    printf("%-22s %.4f, f32 %.4f\n", "MRR@10", r->mrr[1], r->mrr[0]);
}

/* ---- command -------------------------------------------------------------------------------- */

static int run_data(struct verify *v, const struct rr_settings *settings, struct rr_error *err)
{
    char path[4096];
    char *data;
    size_t len;
    int rc = open_engines(v, settings, err);

    if (rc) return rc;
    v->path = v->own->data;
    if (!*v->path) {
        if (!rr_path_join(path, sizeof(path), rr_engine_info(v->engines[1])->path,
                          "reference.jsonl"))
            return rr_fail(err, RR_EINVAL, "the model's path is too long");
        v->path = path;
        if (!rr_file_exists(path))
            return rr_fail(err, RR_ENOENT, "%s is not there: give --data FILE", path);
    }
    rc = rr_file_read(&data, &len, v->path, MAX_FILE_BYTES, RR_MEM_MISC, err);
    if (rc) return rc;
    rc = verify_lines(v, data, len, err);
    rr_free(data);
    return rc;
}

static int run_verify(const struct rr_settings *settings, const void *fields, char **words,
                      int n_words)
{
    struct verify v = { .own = fields };
    struct rr_verify_report report;
    struct rr_error err = { 0 };
    char *end;
    double gate = strtod(v.own->gate, &end);
    int rc, code = RR_EXIT_OK;

    (void)words;
    (void)n_words;
    if (*end || end == v.own->gate || !(gate >= 0 && gate <= 1)) {
        rr_cli_complain("verify", "--gate: found \"%.40s\", expected a share from 0 to 1",
                        v.own->gate);
        return RR_EXIT_USAGE;
    }
    rr_verify_init(&v.sums);
    rc = run_data(&v, settings, &err);
    if (rc) {
        rr_cli_complain("verify", "%s", err.msg);
        code = rr_exit_code(rc);
    } else {
        rr_verify_report(&v.sums, &report);
        if (v.own->json)
            print_json(&v, &report);
        else
            print_table(&v, &report);
        if (report.top_equal[1] < gate) {
            rr_cli_complain("verify",
                            "the five best are equal in %.2f %% of the lists, asked for "
                            "are %.2f %%",
                            100 * report.top_equal[1], 100 * gate);
            code = RR_EXIT_FAILURE;
        }
    }
    rr_verify_free(&v.sums);
    rr_close(v.engines[0]);
    rr_close(v.engines[1]);
    return code;
}

const struct rr_command rr_cmd_verify = {
    .name = "verify",
    .args = "",
    .summary = "compare a precision with f32 on your own queries and documents",
    .about = "Scores lists at --dtype and in f32 and prints how far logits, orders and, where the\n"
             "relevant document is known, nDCG and MRR are apart.",
    .sections = "MODEL DEVICE",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .run = run_verify,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
