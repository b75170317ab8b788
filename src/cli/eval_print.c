/* SPDX-License-Identifier: Apache-2.0 */
/* eval_print.c - what "rerankd eval" found, as a table and as JSON.  Layer: cli (L6).  Threads:
 * one. */
#include <string.h>

#include "base/json_out.h"
#include "cli/cli.h"
#include "cli/eval.h"

#define NAME_COLUMNS 28
#define JSON_LIMIT ((size_t)1 << 30)

static void heading(char out[RR_MEASURES][24], uint32_t k)
{
    snprintf(out[0], sizeof(out[0]), "nDCG@%u", (unsigned)k);
    snprintf(out[1], sizeof(out[1]), "MRR@%u", (unsigned)k);
    snprintf(out[2], sizeof(out[2]), "recall@%u", (unsigned)k);
    snprintf(out[3], sizeof(out[3]), "MAP");
}

static void print_versus(FILE *out, const struct rr_eval_report *r, size_t other)
{
    static const char *const tops[RR_VERIFY_TOPS] = { "best", "5 best", "10 best" };
    const struct rr_verify_report *a = &r->agreement[other];
    char names[RR_MEASURES][24];
    size_t m;

    heading(names, r->k);
    fprintf(out, "\n%s less %s\n", r->systems[r->subject].name, r->systems[other].name);
    for (m = 0; m < RR_MEASURES; m++) {
        const struct rr_difference *d = &r->versus[other][m];

        fprintf(out, "  %-*s %+.4f  95 %% in [%+.4f, %+.4f]  p = %.4f\n", NAME_COLUMNS - 2,
                names[m], d->mean, d->low, d->high, d->p);
    }
    fprintf(out, "  %-*s %.4f\n", NAME_COLUMNS - 2, "Kendall's tau", a->tau);
    for (m = 0; m < RR_VERIFY_TOPS; m++) {
        if (a->top_lists[m])
            fprintf(out, "  the same %-*s %.2f %% of %zu queries\n", NAME_COLUMNS - 11, tops[m],
                    100 * a->top_equal[m], a->top_lists[m]);
    }
}

void rr_eval_print_table(FILE *out, const struct rr_eval_report *r)
{
    const struct rr_eval_data *d = r->data;
    char names[RR_MEASURES][24];
    size_t i, m;

    heading(names, r->k);
    fprintf(out, "%zu queries, %zu pairs\n", d->n_queries, d->n_candidates);
    if (d->n_left_out)
        fprintf(out, "%zu judged queries have no candidates and are not counted\n", d->n_left_out);
    fprintf(out, "\n%-*s", NAME_COLUMNS, "");
    for (m = 0; m < RR_MEASURES; m++) fprintf(out, " %10s", names[m]);
    fputc('\n', out);
    for (i = 0; i < r->n_systems; i++) {
        fprintf(out, "%-*.*s", NAME_COLUMNS, NAME_COLUMNS, r->systems[i].name);
        for (m = 0; m < RR_MEASURES; m++) fprintf(out, " %10.4f", r->systems[i].mean[m]);
        fputc('\n', out);
    }
    for (i = 0; i < r->n_systems; i++) {
        if (i != r->subject) print_versus(out, r, i);
    }
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void put_measures(struct rr_json_out *o, const double *values)
{
    size_t m;

    for (m = 0; m < RR_MEASURES; m++) rr_out_double(o, rr_measure_keys[m], values[m]);
}

static void put_versus(struct rr_json_out *o, const struct rr_eval_report *r, size_t other)
{
    const struct rr_verify_report *a = &r->agreement[other];
    size_t m;

    rr_out_object(o, NULL);
    rr_out_string(o, "with", r->systems[other].name);
    for (m = 0; m < RR_MEASURES; m++) {
        const struct rr_difference *d = &r->versus[other][m];

        rr_out_object(o, rr_measure_keys[m]);
        rr_out_double(o, "mean", d->mean);
        rr_out_double(o, "low", d->low);
        rr_out_double(o, "high", d->high);
        rr_out_double(o, "p", d->p);
        rr_out_end(o);
    }
    rr_out_double(o, "kendall_tau", a->tau);
    rr_out_printf(o, "top1_equal", "%.6f", a->top_equal[0]);
    rr_out_printf(o, "top5_equal", "%.6f", a->top_equal[1]);
    rr_out_printf(o, "top10_equal", "%.6f", a->top_equal[2]);
    rr_out_end(o);
}

static void put_queries(struct rr_json_out *o, const struct rr_eval_report *r)
{
    size_t q, i;

    rr_out_array(o, "per_query");
    for (q = 0; q < r->data->n_queries; q++) {
        rr_out_object(o, NULL);
        rr_out_text(o, "id", r->data->queries[q].id);
        rr_out_array(o, "systems");
        for (i = 0; i < r->n_systems; i++) {
            rr_out_object(o, NULL);
            put_measures(o, r->systems[i].measures[q]);
            rr_out_end(o);
        }
        rr_out_end(o);
        rr_out_end(o);
    }
    rr_out_end(o);
}

void rr_eval_print_json(FILE *out, const struct rr_eval_report *r, bool per_query)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b };
    size_t i;

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    rr_out_uint(&o, "queries", r->data->n_queries);
    rr_out_uint(&o, "pairs", r->data->n_candidates);
    rr_out_uint(&o, "left_out", r->data->n_left_out);
    rr_out_uint(&o, "k", r->k);
    rr_out_array(&o, "systems");
    for (i = 0; i < r->n_systems; i++) {
        rr_out_object(&o, NULL);
        rr_out_string(&o, "name", r->systems[i].name);
        put_measures(&o, r->systems[i].mean);
        rr_out_end(&o);
    }
    rr_out_end(&o);
    rr_out_string(&o, "subject", r->systems[r->subject].name);
    rr_out_array(&o, "comparisons");
    for (i = 0; i < r->n_systems; i++)
        if (i != r->subject) put_versus(&o, r, i);
    rr_out_end(&o);
    if (per_query) put_queries(&o, r);
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    if (b.failed) rr_cli_complain("eval", "out of memory for the output");
    rr_cli_print(out, &b);
}
