/* SPDX-License-Identifier: Apache-2.0 */
/* plan_print.c - the plan for people and for programs, and the advice.
 * Layer: cli (L6).  Threads: one. */
#include <inttypes.h>

#include "base/json_out.h"
#include "cli/cli.h"
#include "cli/plan.h"

#define JSON_LIMIT 65536
#define GUIDE_USERS 5   /* more at once: a GPU, says the guide */
#define GUIDE_BUDGET 40 /* euros a month that a GPU must be worth */

size_t rr_plan_best(const struct rr_plan_row *rows, size_t n, size_t first,
                    const struct rr_plan_load *load)
{
    size_t best = n, i;

    for (i = first; i < n; i++) {
        const struct rr_plan *p = &rows[i].plan;

        if (!p->possible || (load->budget > 0 && p->cost > load->budget)) continue;
        if (rows[i].offer.price <= 0 && p->machines > 1) continue;
        if (best == n || p->cost < rows[best].plan.cost ||
            (p->cost == rows[best].plan.cost && p->p95_ms < rows[best].plan.p95_ms))
            best = i;
    }
    return best;
}

bool rr_plan_guide_says_gpu(const struct rr_plan_load *load, char *why, size_t cap)
{
    bool users = load->users > GUIDE_USERS;
    bool budget = load->budget <= 0 || load->budget >= GUIDE_BUDGET;
    size_t at = 0;

    at += (size_t)snprintf(why, cap, "%.4g users at once (more than %d: GPU), ", load->users,
                           GUIDE_USERS);
    if (at < cap && load->budget > 0)
        snprintf(why + at, cap - at, "%.0f a month (less than %d: CPU)", load->budget,
                 GUIDE_BUDGET);
    else if (at < cap)
        snprintf(why + at, cap - at, "no budget given");
    return users && budget;
}

/* ---- for people ----------------------------------------------------------------------------- */

static void text_advice(FILE *out, const struct rr_plan_load *load, const struct rr_plan_row *rows,
                        size_t n)
{
    size_t best = rr_plan_best(rows, n, 1, load);
    char why[200];
    bool gpu = rr_plan_guide_says_gpu(load, why, sizeof(why));

    fprintf(out, "guide's rule  %s: %s\n", gpu ? "GPU" : "CPU", why);
    if (best == n)
        fprintf(out,
                "advice        none of these meets the goal%s: fewer candidates, a longer goal "
                "or quicker machines\n",
                load->budget > 0 ? " within the budget" : "");
    else
        fprintf(
            out, "advice        %s, %" PRIu32 " of \"%s\": the least money that meets the goal\n",
            rows[best].offer.gpu ? "GPU" : "CPU", rows[best].plan.machines, rows[best].offer.name);
    if (best == 1 && gpu)
        fprintf(out,
                "              the rule is of the old service; this machine is quick enough\n");
}

void rr_plan_text(FILE *out, const struct rr_plan_load *load, const struct rr_plan_row *rows,
                  size_t n, const char *measured)
{
    size_t i;

    fprintf(out,
            "load          %.4g requests/s at the peak, %.4g on average, %.0f candidates: %.4g "
            "pairs/s at the peak, %.4g million pairs a month\n",
            load->peak, load->average, load->candidates, load->peak * load->candidates,
            rr_plan_pairs_a_month(load) / 1e6);
    if (load->hits > 0)
        fprintf(out, "cache         answers %.0f %% of the pairs\n", 100 * load->hits);
    fprintf(out,
            "goal          p95 within %.0f ms at the peak, machines in use for %.0f %% at most\n",
            load->goal_ms, 100 * load->most_use);
    fprintf(out, "this machine  %s\n\n", measured);
    fprintf(out, "%-24s %9s %8s %6s %8s %8s %8s %9s %10s\n", "", "pairs/s", "machines", "in use",
            "alone ms", "mean ms", "p95 ms", "per month", "/million");
    for (i = 0; i < n; i++) {
        const struct rr_plan_offer *o = &rows[i].offer;
        const struct rr_plan *p = &rows[i].plan;

        if (!p->possible)
            fprintf(out, "%-24s %9.0f   misses the goal: one request alone takes %.0f ms\n",
                    o->name, o->pairs_per_s, p->alone_ms);
        else
            fprintf(out, "%-24s %9.0f %8" PRIu32 " %4.0f %% %8.1f %8.1f %8.1f %9.2f %10.4f\n",
                    o->name, o->pairs_per_s, p->machines, 100 * p->use, p->alone_ms, p->mean_ms,
                    p->p95_ms, p->cost, p->per_million);
    }
    fprintf(out, "\n");
    text_advice(out, load, rows, n);
}

/* ---- for programs --------------------------------------------------------------------------- */

static void json_row(struct rr_json_out *out, const struct rr_plan_row *row)
{
    const struct rr_plan_offer *o = &row->offer;
    const struct rr_plan *p = &row->plan;

    rr_out_object(out, NULL);
    rr_out_string(out, "name", o->name);
    rr_out_bool(out, "gpu", o->gpu);
    rr_out_printf(out, "price_per_month", "%.2f", o->price);
    rr_out_printf(out, "pairs_per_s", "%.3f", o->pairs_per_s);
    rr_out_printf(out, "fixed_ms", "%.3f", o->fixed_ms);
    rr_out_printf(out, "alone_ms", "%.3f", p->alone_ms);
    rr_out_bool(out, "possible", p->possible);
    if (p->possible) {
        rr_out_uint(out, "machines", p->machines);
        rr_out_printf(out, "use", "%.4f", p->use);
        rr_out_printf(out, "mean_ms", "%.3f", p->mean_ms);
        rr_out_printf(out, "p95_ms", "%.3f", p->p95_ms);
        rr_out_printf(out, "cost_per_month", "%.2f", p->cost);
        rr_out_printf(out, "cost_per_million", "%.6f", p->per_million);
        rr_out_printf(out, "cost_per_million_at_full_load", "%.6f", p->per_million_full);
    }
    rr_out_end(out);
}

static void json_load(struct rr_json_out *out, const struct rr_plan_load *load)
{
    rr_out_printf(out, "peak_requests_per_s", "%.6g", load->peak);
    rr_out_printf(out, "average_requests_per_s", "%.6g", load->average);
    rr_out_printf(out, "users", "%.6g", load->users);
    rr_out_printf(out, "candidates", "%.6g", load->candidates);
    rr_out_printf(out, "cache_hits", "%.4f", load->hits);
    rr_out_printf(out, "pairs_per_month", "%.6g", rr_plan_pairs_a_month(load));
    rr_out_printf(out, "goal_ms", "%.3f", load->goal_ms);
    rr_out_printf(out, "most_use", "%.3f", load->most_use);
    rr_out_printf(out, "budget", "%.2f", load->budget);
}

void rr_plan_json(FILE *out, const struct rr_plan_load *load, const struct rr_plan_row *rows,
                  size_t n, const char *measured)
{
    size_t best = rr_plan_best(rows, n, 1, load), i;
    char why[200];
    bool gpu = rr_plan_guide_says_gpu(load, why, sizeof(why));
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    json_load(&o, load);
    rr_out_string(&o, "measured", measured);
    rr_out_array(&o, "rows");
    for (i = 0; i < n; i++) json_row(&o, &rows[i]);
    rr_out_end(&o);
    rr_out_string(&o, "guide_says", gpu ? "gpu" : "cpu");
    rr_out_string(&o, "guide_because", why);
    rr_out_string(&o, "advice", best < n ? rows[best].offer.name : NULL);
    if (best < n)
        rr_out_bool(&o, "advice_gpu", rows[best].offer.gpu);
    else
        rr_out_null(&o, "advice_gpu");
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    rr_cli_print(out, &b);
}
