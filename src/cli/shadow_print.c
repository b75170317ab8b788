/* SPDX-License-Identifier: Apache-2.0 */
/* shadow_print.c - the report of "rerankd shadow", one for people and one for programs.
 * Layer: cli (L6).  Threads: one. */
#include <inttypes.h>

#include "base/buf.h"
#include "base/text.h"
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

static void json_side(struct rr_buf *b, size_t i, const struct rr_shadow_report *r,
                      const struct rr_shadow_names *names)
{
    const struct rr_shadow_latency *l = &r->ms[i];

    rr_buf_printf(b, "\"%s\": {\"url\": ", sides[i]);
    rr_buf_json_string(b, rr_text(names->url[i]));
    rr_buf_printf(b, ", \"failed_alone\": %zu, \"first_failure\": ", r->only[i]);
    rr_buf_json_string(b, rr_text(names->why[i]));
    rr_buf_printf(b,
                  ", \"latency_ms\": {\"mean\": %.3f, \"p50\": %.3f, \"p90\": %.3f, "
                  "\"p95\": %.3f, \"p99\": %.3f, \"max\": %.3f}}, ",
                  l->mean, l->p50, l->p90, l->p95, l->p99, l->max);
}

void rr_shadow_json(FILE *out, const struct rr_shadow *s, const struct rr_shadow_report *r,
                    const struct rr_shadow_names *names, const char *verdict)
{
    struct rr_buf b;
    size_t i;

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_buf_putc(&b, '{');
    for (i = 0; i < RR_SIDES; i++) json_side(&b, i, r, names);
    rr_buf_printf(&b,
                  "\"requests\": %zu, \"both\": %zu, \"neither\": %zu, \"kendall_tau\": %.6f, "
                  "\"least_tau\": %.6f, \"tau_lists\": %zu, \"top1_equal\": %.6f, "
                  "\"top1_lists\": %zu, \"top_k\": %zu, \"top_equal\": %.6f, \"top_lists\": %zu, "
                  "\"counts_differ\": %zu, \"scores\": %zu, \"converted\": ",
                  r->asked, r->both, r->neither, r->tau, r->least_tau, r->n_tau, r->top1_equal,
                  r->n_top1, r->top_k, r->top_equal, r->n_top, r->counts_differ, r->n_scores);
    if (r->converted < 0)
        rr_buf_puts(&b, "null");
    else
        rr_buf_printf(&b, "\"%s\"", sides[r->converted]);
    rr_buf_printf(&b,
                  ", \"mean_score_difference\": %.6g, \"p99_score_difference\": %.6g, "
                  "\"max_score_difference\": %.6g, \"worst\": [",
                  r->mean_diff, r->p99_diff, r->max_diff);
    for (i = 0; i < s->n_worst; i++)
        rr_buf_printf(&b, "%s{\"line\": %" PRIu64 ", \"kendall_tau\": %.6f}", i ? ", " : "",
                      s->worst[i].line, s->worst[i].tau);
    rr_buf_puts(&b, "], \"refused_because\": ");
    if (verdict)
        rr_buf_json_string(&b, rr_text(verdict));
    else
        rr_buf_puts(&b, "null");
    rr_buf_puts(&b, "}\n");
    if (!b.failed) fwrite(b.data, 1, b.len, out);
    rr_buf_free(&b);
}
