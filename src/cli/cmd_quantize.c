/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_quantize.c - "rerankd quantize": a model folder in another precision.
 * Layer: cli (L6).  Threads: one. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/expect.h"
#include "cli/hub.h"
#include "cli/lists.h"
#include "cli/verify.h"
#include "rerank.h"

#define REDRAW_NS (200 * RR_MILLISECOND)

struct own {
    const char *dtype, *calibration, *check, *keep, *gate, *top5, *tau;
    bool cache, tables_f16, json;
    uint32_t limit;
};

static const struct rr_option own_options[] = {
    RR_OWN("dtype", "int8", STR, dtype, "int8|bf16|f16|f32", "Precision of the new folder."),
    RR_OWN("calibration", "builtin", STR, calibration, "FILE",
           "int8: JSONL of {\"query\", \"documents\": [...]} like what will be asked; half of them "
           "are kept back to check the result. builtin: French and English lists that come with "
           "rerankd; none: round every weight alone, as serving in int8 does by itself."),
    RR_OWN("check", "", STR, check, "FILE",
           "int8: lists to check the result with, instead of half of --calibration."),
    RR_OWN("limit", "0", U32, limit, "N", "Use the first N lists of each file only; 0: all."),
    RR_OWN("keep-bf16", "", STR, keep, "PATTERN",
           "int8: layers with a weight of such a name stay in bf16, for example *layer.23.*"),
    RR_OWN("gate", "none", STR, gate, "none|auto",
           "auto: layers go back to bf16 or f32, those first whose errors move scores most for the "
           "time they take, until the five best of other lists can be expected to stay the same in "
           "as many of them as --gate-top5 says, by more than a standard error, and the lists kept "
           "back do not speak against it."),
    RR_OWN("gate-top5", "0.99", STR, top5, "SHARE",
           "Least share of other lists whose five best are to be the same as in f32."),
    RR_OWN("gate-tau", "0.985", STR, tau, "TAU", "Least Kendall's tau in the lists kept back."),
    RR_OWN("cache", "false", BOOL, cache, "",
           "Also leave the weights in the new folder as this machine packs them, to be mapped."),
    RR_OWN("tables-f16", "false", BOOL, tables_f16, "", "Store embedding tables in f16."),
    RR_OWN("json", "false", BOOL, json, "", "Print one JSON object."),
};

struct run {
    const struct own *own;
    double top5, tau; /* asked for */
    const struct rr_list *check;
    size_t n_check, n_kept_back;    /* the first of them, which were not calibrated with */
    struct rr_verify_report report; /* of the last candidate, on the lists kept back */
    struct rr_expected expected;    /* of other lists */
    bool checked;
    bool bad_lists; /* the error is one of the lists */
    uint64_t drawn_ns;
    const char *step; /* last one that was told */
};

/* ---- progress ------------------------------------------------------------------------------- */

static void clear_line(struct run *r)
{
    if (r->drawn_ns) fprintf(stderr, "\r\033[K");
    r->drawn_ns = 0;
}

/* On a terminal one line that changes, elsewhere a line for each step. */
static void show(void *user, const char *step, size_t done, size_t total)
{
    struct run *r = user;
    uint64_t now = rr_now_ns();
    bool fresh = !r->step || strcmp(r->step, step);

    r->step = step;
    if (!rr_cli_is_terminal(stderr)) {
        if (fresh) rr_cli_complain("quantize", "%s", step);
        return;
    }
    if (!fresh && now - r->drawn_ns < REDRAW_NS) return;
    fprintf(stderr, "\r%s", step);
    if (total) fprintf(stderr, " %zu/%zu", done, total);
    fprintf(stderr, "\033[K");
    fflush(stderr);
    r->drawn_ns = now;
}

/* ---- judging -------------------------------------------------------------------------------- */

/* Lists kept back whose five best changed. */
static size_t changed(const struct run *r)
{
    size_t n = r->report.top_lists[1];

    return n - (size_t)(r->report.top_equal[1] * (double)n + 0.5);
}

/* What keeps the gate from being met; NULL: nothing.  What was counted decides only where chance
 * would not have it: of 68 lists one that changes is 1.5 % already. */
static const char *gate_why(const struct run *r)
{
    if (r->report.tau < r->tau) return "Kendall's tau is too small";
    if (rr_expect_refuted(changed(r), r->report.top_lists[1], r->top5))
        return "more lists changed than chance allows";
    if (!(r->expected.share - r->expected.error >= r->top5))
        return "it is not expected with a standard error to spare";
    return NULL;
}

static int compare(struct run *r, const float *reference, const float *candidate,
                   struct rr_error *err)
{
    struct rr_verify sums;
    int rc =
        rr_expect(&r->expected, reference, candidate, r->check, r->n_check, r->n_kept_back, 5, err);

    rr_verify_init(&sums);
    for (size_t i = 0; i < r->n_kept_back && !rc; i++) {
        size_t n = r->check[i].n_documents;

        rc = rr_verify_add(&sums, reference, candidate, n, NULL, err);
        reference += n;
        candidate += n;
    }
    if (!rc) rr_verify_report(&sums, &r->report);
    rr_verify_free(&sums);
    return rc;
}

static int judge(void *user, const float *reference, const float *candidate, size_t n_int8,
                 bool *good, struct rr_error *err)
{
    struct run *r = user;
    int rc = compare(r, reference, candidate, err);

    if (rc) return rc;
    r->checked = true;
    clear_line(r);
    rr_cli_complain("quantize",
                    "%zu layers in int8: Kendall's tau %.4f, five best changed in %zu of %zu "
                    "lists, expected of others: equal in %.2f %% +- %.2f",
                    n_int8, r->report.tau, changed(r), r->report.top_lists[1],
                    100 * r->expected.share, 100 * r->expected.error);
    *good = !gate_why(r);
    return RR_OK;
}

/* ---- lists ---------------------------------------------------------------------------------- */

struct texts {
    struct rr_lists files[2];                /* calibration, check */
    struct rr_list *calibration, *kept_back; /* the halves of the first one; behind the second
                                              * the first once more */
};

static void free_texts(struct texts *t)
{
    rr_lists_free(&t->files[0]);
    rr_lists_free(&t->files[1]);
    rr_free(t->calibration);
    rr_free(t->kept_back);
}

static int builtin_path(char *path, size_t cap, const struct rr_settings *settings,
                        struct rr_error *err)
{
    struct rr_model_spec none = { .path = "" }; /* no model: the starter's folder */
    struct rr_settings starter = *settings;
    struct rr_options opt;

    starter.models = &none;
    rr_settings_engine(&starter, &opt);
    if (!rr_path_join(path, cap, opt.model, "calibration.jsonl"))
        return rr_fail(err, RR_EINVAL, "the starter model's path is too long");
    if (rr_file_exists(path)) return RR_OK;
    return rr_fail(err, RR_ENOENT, "%s is not there: give --calibration FILE, or none", path);
}

/* Half of the lists of the first file are for checking.  How near scores are to each other is known
 * better from all of them, so that the gate has those of the other half, too. */
static int split(struct texts *t, struct rr_quantize *q, size_t *n_kept_back, struct rr_error *err)
{
    const struct rr_lists *all = &t->files[0];
    size_t n[2] = { 0, 0 };

    t->calibration = rr_alloc(RR_MEM_MISC, all->n, sizeof(*t->calibration));
    t->kept_back = rr_alloc(RR_MEM_MISC, all->n, sizeof(*t->kept_back));
    if (!t->calibration || !t->kept_back) return rr_fail(err, RR_ENOMEM, "out of memory");
    for (size_t i = 0; i < all->n; i++) {
        /* In fours: the kinds of lists may take turns, as the four of the built-in ones do. */
        bool back = i / 4 % 2;

        *(back ? &t->kept_back[n[1]] : &t->calibration[n[0]]) = all->lists[i];
        n[back]++;
    }
    memcpy(t->kept_back + n[1], t->calibration, n[0] * sizeof(*t->calibration));
    q->calibration = t->calibration;
    q->n_calibration = n[0];
    q->check = t->kept_back;
    q->n_check = q->gate && n[1] ? all->n : n[1];
    *n_kept_back = n[1];
    return RR_OK;
}

static int read_texts(struct texts *t, const struct own *own, const struct rr_settings *settings,
                      struct rr_quantize *q, size_t *n_kept_back, struct rr_error *err)
{
    const char *path = own->calibration;
    char builtin[4096];
    bool none = strcmp(path, "none") == 0;
    int rc = RR_OK;

    if (strcmp(own->dtype, "int8")) return RR_OK;
    if (strcmp(path, "builtin") == 0) {
        rc = builtin_path(builtin, sizeof(builtin), settings, err);
        path = builtin;
    }
    if (!rc && !none) rc = rr_lists_read(&t->files[0], path, own->limit, err);
    if (!rc && *own->check) rc = rr_lists_read(&t->files[1], own->check, own->limit, err);
    if (rc) return rc;
    if (!none && !*own->check) return split(t, q, n_kept_back, err);
    q->calibration = t->files[0].lists;
    q->n_calibration = t->files[0].n;
    q->check = t->files[1].lists;
    q->n_check = *n_kept_back = t->files[1].n;
    return RR_OK;
}

/* ---- command -------------------------------------------------------------------------------- */

static void print_json(const struct run *r, const struct rr_quantize *q,
                       const struct rr_quantize_report *done)
{
    const struct rr_verify_report *v = &r->report;
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };

    rr_buf_init(&b, RR_MEM_MISC, 4096);
    rr_out_object(&o, NULL);
    rr_out_string(&o, "dtype", q->dtype);
    rr_out_uint(&o, "layers", done->n_layers);
    rr_out_uint(&o, "int8_layers", strcmp(q->dtype, "int8") == 0 ? done->n_int8 : 0);
    if (done->time > 0) {
        rr_out_printf(&o, "int8_share", "%.4f", done->int8_share);
        rr_out_uint(&o, "input16_layers", done->n_fine);
        rr_out_printf(&o, "estimated_time", "%.3f", done->time);
        rr_out_printf(&o, "estimated_time_bf16", "%.3f", done->time_bf16);
    }
    if (r->checked) {
        rr_out_uint(&o, "lists", v->lists);
        rr_out_printf(&o, "max_logit_difference", "%.6g", v->max_diff);
        rr_out_printf(&o, "mean_logit_difference", "%.6g", v->mean_diff);
        rr_out_printf(&o, "kendall_tau", "%.6f", v->tau);
        rr_out_printf(&o, "top5_equal", "%.6f", v->top_equal[1]);
        rr_out_printf(&o, "top5_expected", "%.6f", r->expected.share);
        rr_out_printf(&o, "top5_expected_error", "%.6f", r->expected.error);
        rr_out_uint(&o, "top5_expected_lists", r->expected.lists);
        rr_out_bool(&o, "gate_met", !gate_why(r));
    }
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    rr_cli_print(stdout, &b);
}

/* What other lists would show, whether that will do, and what else there is. */
static void print_expected(const struct run *r, const struct rr_quantize_report *done)
{
    const char *why = gate_why(r);

    if (r->expected.lists == 0) {
        printf("no list has more than five documents: the five best prove nothing\n");
        return;
    }
    printf("expected of other lists like these: five best equal in %.2f %% +- %.2f (a standard "
           "error, from the scores of %zu lists)\n%.4g %% of the lists and tau %.4g are %s%s\n",
           100 * r->expected.share, 100 * r->expected.error, r->expected.lists, 100 * r->top5,
           r->tau, why ? "not met: " : "met", why ? why : "");
    if (why)
        printf("more: --gate auto leaves layers in 16 bits that scores depend on, --dtype bf16 "
               "all; served with --rescore-dtype f32, a request's exact_top_k has f32's order\n");
    else if (done->time > done->time_bf16)
        printf("more: all in bf16 is quicker on this machine, and less exact: rerankd verify "
               "--dtype bf16 --gate says whether it will do\n");
}

static void print_layers(const struct rr_quantize_report *done)
{
    printf(", %zu of %zu layers, %.0f %% of their multiplications", done->n_int8, done->n_layers,
           100 * done->int8_share);
    if (done->n_fine)
        printf("; %" PRIu32 " more with inputs in 16 bits", done->n_fine);
    if (done->n_int8 + done->n_fine < done->n_layers) printf("; the others in bf16 or f32");
    printf("\nestimated for this machine: the layers take %.2f times as long as all in int8, all "
           "in bf16 %.2f times",
           done->time, done->time_bf16);
}

static void print_result(const struct run *r, const struct rr_quantize *q,
                         const struct rr_quantize_report *done)
{
    const struct rr_verify_report *v = &r->report;

    if (r->own->json) {
        print_json(r, q, done);
        return;
    }
    printf("%s: %s", q->out, q->dtype);
    if (done->time > 0)
        print_layers(done);
    printf("\n");
    if (!r->checked && q->n_calibration)
        printf("not checked: of %zu lists none is kept back, of five or more half\n",
               q->n_calibration);
    if (!r->checked) return;
    printf("against f32 on %zu lists: Kendall's tau %.4f, ", v->lists, v->tau);
    if (r->expected.lists)
        printf("five best equal in %.2f %% (changed in %zu), ", 100 * v->top_equal[1], changed(r));
    printf("largest logit difference %.4g\n", v->max_diff);
    print_expected(r, done);
}

static bool has_long_list(const struct rr_quantize *q)
{
    for (size_t i = 0; i < q->n_check; i++)
        if (q->check[i].n_documents > 5) return true;
    return false;
}

static int quantize(struct run *r, const struct rr_settings *settings, const char *model,
                    const char *out, struct rr_error *err)
{
    struct rr_options opt;
    struct rr_quantize_report done;
    struct texts texts = { 0 };
    struct rr_quantize q = {
        .engine = &opt,
        .out = out,
        .dtype = r->own->dtype,
        .keep = r->own->keep,
        .cache = r->own->cache,
        .tables_f16 = r->own->tables_f16,
        .gate = strcmp(r->own->gate, "auto") == 0,
        .judge = judge,
        .progress = show,
        .user = r,
    };
    int rc;

    rr_settings_engine(settings, &opt);
    opt.model = model;
    rc = read_texts(&texts, r->own, settings, &q, &r->n_kept_back, err);
    r->bad_lists = rc != RR_OK;
    if (!rc && q.gate && !has_long_list(&q))
        rc = rr_fail(err, RR_EINVAL,
                     "--gate auto needs lists of more than five documents, kept back from "
                     "calibration: give more with --calibration, or --check");
    r->check = q.check;
    r->n_check = q.n_check;
    if (!rc) rc = rr_quantize(&q, &done, err);
    clear_line(r);
    if (!rc) print_result(r, &q, &done);
    free_texts(&texts);
    return rc;
}

static int run_quantize(const struct rr_settings *settings, const void *fields, char **words,
                        int n_words)
{
    static char dir[RR_HUB_PATH];
    struct run r = { .own = fields };
    const char *model = words[0];
    struct rr_error err = { 0 };
    int rc, code;

    if (n_words != 2) {
        rr_cli_complain("quantize", "found %d folders, expected the model's and the new one's",
                        n_words);
        return RR_EXIT_USAGE;
    }
    if (!rr_cli_number("quantize", "gate-top5", r.own->top5, 0, 1, &r.top5) ||
        !rr_cli_number("quantize", "gate-tau", r.own->tau, -1, 1, &r.tau))
        return RR_EXIT_USAGE;
    if (strcmp(r.own->gate, "auto") == 0 && strcmp(r.own->dtype, "int8")) {
        rr_cli_complain("quantize",
                        "--gate auto chooses among layers in int8: it needs --dtype int8");
        return RR_EXIT_USAGE;
    }
    code = rr_cli_hub_path(&rr_cmd_quantize, settings, &model, dir);
    if (code) return code;
    rc = quantize(&r, settings, model, words[1], &err);
    if (rc) {
        rr_cli_complain("quantize", "%s", err.msg);
        return r.bad_lists ? rr_exit_code_of_data(rc) : rr_exit_code_of_output(rc);
    }
    (void)rr_cli_flush(&code);
    return code;
}

const struct rr_command rr_cmd_quantize = {
    .name = "quantize",
    .args = "MODEL OUT",
    .summary = "write a model folder in int8, bf16, f16 or f32",
    .about =
        "Reads MODEL, a folder or ORG/NAME, and writes the folder OUT, which appears whole or\n"
        "not at all.\n"
        "Serving OUT with --dtype auto computes in its precision. For int8, texts show what\n"
        "the layers' inputs look like; your own queries and documents are best.\n"
        "--threads, --isa and --max-length work as in rerankd serve.",
    .sections = "",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 2,
    .run = run_quantize,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
