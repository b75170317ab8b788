/* SPDX-License-Identifier: Apache-2.0 */
/* shadow_print.c - the report of "rerankd shadow", one for people and one for programs.
 * Layer: cli (L6).  Threads: one. */
#include <inttypes.h>

#include "base/json_out.h"
#include "cli/cli.h"
#include "cli/shadow.h"

#define JSON_LIMIT 65536

static const char *const sides[RR_SIDES] = { "primary", "candidate" };

static void text_latency(FILE *out, const struct rr_shadow_report *r)
{
    const struct rr_shadow_latency *a = &r->ms[RR_PRIMARY], *b = &r->ms[RR_CANDIDATE];
    size_t i;

    fprintf(out, "%-11s %9s %9s %9s %9s %9s %9s\n", "latency ms", "mean", "p50", "p90", "p95",
            "p99", "max");
    for (i = 0; i < RR_SIDES; i++) {
        const struct rr_shadow_latency *l = &r->ms[i];

        fprintf(out, "  %-9s %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f\n", sides[i], l->mean, l->p50,
                l->p90, l->p95, l->p99, l->max);
    }
    if (a->p50 > 0)
        fprintf(out, "  %-9s %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f\n", "ratio", b->mean / a->mean,
                b->p50 / a->p50, b->p90 / a->p90, b->p95 / a->p95, b->p99 / a->p99,
                b->max / a->max);
}

static void text_scores(FILE *out, const struct rr_shadow_report *r)
{
    if (!r->n_scores) {
        fprintf(out, "scores      not compared: no document has one from both\n");
        return;
    }
    fprintf(out,
            "scores      %zu compared: differences %.3g on average, p99 %.3g, max %.3g%s%s%s\n",
            r->n_scores, r->mean_diff, r->p99_diff, r->max_diff, r->converted >= 0 ? "; the " : "",
            r->converted >= 0 ? sides[r->converted] : "",
            r->converted >= 0 ? " gives logits, compared as probabilities" : "");
}

void rr_shadow_text(FILE *out, const struct rr_shadow *s, const struct rr_shadow_report *r,
                    const struct rr_shadow_names *names)
{
    size_t i;

    for (i = 0; i < RR_SIDES; i++) fprintf(out, "%-11s %s\n", sides[i], names->url[i]);
    fprintf(
        out,
        "requests    %zu: %zu answered by both, %zu by neither, %zu failed at the primary only, "
        "%zu at the candidate only\n",
        r->asked, r->both, r->neither, r->only[RR_PRIMARY], r->only[RR_CANDIDATE]);
    for (i = 0; i < RR_SIDES; i++)
        if (*names->why[i]) fprintf(out, "  %-9s first failure: %s\n", sides[i], names->why[i]);
    if (!r->both) return;
    fprintf(out, "order       Kendall's tau %.4f on average of %zu, least %.4f\n", r->tau, r->n_tau,
            r->least_tau);
    fprintf(out, "best        equal in %.2f %% of %zu; the %zu best in %.2f %% of %zu\n",
            100 * r->top1_equal, r->n_top1, r->top_k, 100 * r->top_equal, r->n_top);
    if (r->counts_differ)
        fprintf(out, "length      %zu replies have another number of documents\n",
                r->counts_differ);
    text_scores(out, r);
    text_latency(out, r);
    if (s->n_worst) fprintf(out, "look at     ");
    for (i = 0; i < s->n_worst; i++)
        fprintf(out, "%sline %" PRIu64 " (tau %.4f)", i ? ", " : "", s->worst[i].line,
                s->worst[i].tau);
    if (s->n_worst) fprintf(out, "\n");
}

static void json_side(struct rr_json_out *o, size_t i, const struct rr_shadow_report *r,
                      const struct rr_shadow_names *names)
{
    const struct rr_shadow_latency *l = &r->ms[i];

    rr_out_object(o, sides[i]);
    rr_out_string(o, "url", names->url[i]);
    rr_out_uint(o, "failed_alone", r->only[i]);
    rr_out_string(o, "first_failure", names->why[i]);
    rr_out_object(o, "latency_ms");
    rr_out_printf(o, "mean", "%.3f", l->mean);
    rr_out_printf(o, "p50", "%.3f", l->p50);
    rr_out_printf(o, "p90", "%.3f", l->p90);
    rr_out_printf(o, "p95", "%.3f", l->p95);
    rr_out_printf(o, "p99", "%.3f", l->p99);
    rr_out_printf(o, "max", "%.3f", l->max);
    rr_out_end(o);
    rr_out_end(o);
}

static void json_agreement(struct rr_json_out *o, const struct rr_shadow_report *r)
{
    rr_out_uint(o, "requests", r->asked);
    rr_out_uint(o, "both", r->both);
    rr_out_uint(o, "neither", r->neither);
    rr_out_printf(o, "kendall_tau", "%.6f", r->tau);
    rr_out_printf(o, "least_tau", "%.6f", r->least_tau);
    rr_out_uint(o, "tau_lists", r->n_tau);
    rr_out_printf(o, "top1_equal", "%.6f", r->top1_equal);
    rr_out_uint(o, "top1_lists", r->n_top1);
    rr_out_uint(o, "top_k", r->top_k);
    rr_out_printf(o, "top_equal", "%.6f", r->top_equal);
    rr_out_uint(o, "top_lists", r->n_top);
    rr_out_uint(o, "counts_differ", r->counts_differ);
    rr_out_uint(o, "scores", r->n_scores);
    rr_out_string(o, "converted", r->converted < 0 ? NULL : sides[r->converted]);
    rr_out_printf(o, "mean_score_difference", "%.6g", r->mean_diff);
    rr_out_printf(o, "p99_score_difference", "%.6g", r->p99_diff);
    rr_out_printf(o, "max_score_difference", "%.6g", r->max_diff);
}

void rr_shadow_json(FILE *out, const struct rr_shadow *s, const struct rr_shadow_report *r,
                    const struct rr_shadow_names *names, const char *verdict)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };
    size_t i;

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    for (i = 0; i < RR_SIDES; i++) json_side(&o, i, r, names);
    json_agreement(&o, r);
    rr_out_array(&o, "worst");
    for (i = 0; i < s->n_worst; i++) {
        rr_out_object(&o, NULL);
        rr_out_uint(&o, "line", s->worst[i].line);
        rr_out_printf(&o, "kendall_tau", "%.6f", s->worst[i].tau);
        rr_out_end(&o);
    }
    rr_out_end(&o);
    rr_out_string(&o, "refused_because", verdict);
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    rr_cli_print(out, &b);
}
