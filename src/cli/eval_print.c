/* SPDX-License-Identifier: Apache-2.0 */
/* eval_print.c - what "rerankd eval" found, as a table and as JSON.  Layer: cli (L6).  Threads:
 * one. */
#include <string.h>

#include "base/buf.h"
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

static void put_name(struct rr_buf *b, const char *name)
{
    rr_buf_json_string(b, (struct rr_text){ name, strlen(name) });
}

static void put_measures(struct rr_buf *b, const double *values)
{
    size_t m;

    for (m = 0; m < RR_MEASURES; m++) {
        rr_buf_printf(b, "%s\"%s\":", m ? "," : "", rr_measure_keys[m]);
        rr_buf_json_double(b, values[m]);
    }
}

static void put_versus(struct rr_buf *b, const struct rr_eval_report *r, size_t other)
{
    const struct rr_verify_report *a = &r->agreement[other];
    size_t m;

    rr_buf_puts(b, "{\"with\":");
    put_name(b, r->systems[other].name);
    for (m = 0; m < RR_MEASURES; m++) {
        const struct rr_difference *d = &r->versus[other][m];

        rr_buf_printf(b, ",\"%s\":{\"mean\":", rr_measure_keys[m]);
        rr_buf_json_double(b, d->mean);
        rr_buf_puts(b, ",\"low\":");
        rr_buf_json_double(b, d->low);
        rr_buf_puts(b, ",\"high\":");
        rr_buf_json_double(b, d->high);
        rr_buf_puts(b, ",\"p\":");
        rr_buf_json_double(b, d->p);
        rr_buf_putc(b, '}');
    }
    rr_buf_puts(b, ",\"kendall_tau\":");
    rr_buf_json_double(b, a->tau);
    rr_buf_printf(b, ",\"top1_equal\":%.6f,\"top5_equal\":%.6f,\"top10_equal\":%.6f}",
                  a->top_equal[0], a->top_equal[1], a->top_equal[2]);
}

static void put_queries(struct rr_buf *b, const struct rr_eval_report *r)
{
    size_t q, i;

    rr_buf_puts(b, ",\"per_query\":[");
    for (q = 0; q < r->data->n_queries; q++) {
        rr_buf_puts(b, q ? ",{\"id\":" : "{\"id\":");
        rr_buf_json_string(b, r->data->queries[q].id);
        rr_buf_puts(b, ",\"systems\":[");
        for (i = 0; i < r->n_systems; i++) {
            rr_buf_puts(b, i ? ",{" : "{");
            put_measures(b, r->systems[i].measures[q]);
            rr_buf_putc(b, '}');
        }
        rr_buf_puts(b, "]}");
    }
    rr_buf_putc(b, ']');
}

void rr_eval_print_json(FILE *out, const struct rr_eval_report *r, bool per_query)
{
    const char *comma = "";
    struct rr_buf b;
    size_t i;

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_buf_printf(&b, "{\"queries\":%zu,\"pairs\":%zu,\"left_out\":%zu,\"k\":%u,\"systems\":[",
                  r->data->n_queries, r->data->n_candidates, r->data->n_left_out, (unsigned)r->k);
    for (i = 0; i < r->n_systems; i++) {
        rr_buf_puts(&b, i ? ",{\"name\":" : "{\"name\":");
        put_name(&b, r->systems[i].name);
        rr_buf_putc(&b, ',');
        put_measures(&b, r->systems[i].mean);
        rr_buf_putc(&b, '}');
    }
    rr_buf_puts(&b, "],\"subject\":");
    put_name(&b, r->systems[r->subject].name);
    rr_buf_puts(&b, ",\"comparisons\":[");
    for (i = 0; i < r->n_systems; i++) {
        if (i == r->subject) continue;
        rr_buf_puts(&b, comma);
        put_versus(&b, r, i);
        comma = ",";
    }
    rr_buf_putc(&b, ']');
    if (per_query) put_queries(&b, r);
    rr_buf_puts(&b, "}\n");
    if (!b.failed)
        fwrite(b.data, 1, b.len, out);
    else
        rr_cli_complain("eval", "out of memory for the output");
    rr_buf_free(&b);
}
