/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_plan.c - "rerankd bench --plan": its options, and the rows of the plan.
 * Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/plan.h"

#define DAY_S 86400.0

/* Exactly one of the three ways to say how many requests come. */
static bool read_rates(const struct rr_bench_plan *p, struct rr_plan_load *load)
{
    double users, think, average, day, peak;

    if (!rr_cli_number("bench", "users", p->users, 0, 1e9, &users) ||
        !rr_cli_number("bench", "think", p->think, 0.001, 1e6, &think) ||
        !rr_cli_number("bench", "requests-per-s", p->requests, 0, 1e9, &average) ||
        !rr_cli_number("bench", "pairs-per-day", p->day, 0, 1e15, &day) ||
        !rr_cli_number("bench", "peak", p->peak, 1, 1000, &peak))
        return false;
    if ((users > 0) + (average > 0) + (day > 0) != 1) {
        rr_cli_complain("bench",
                        "--plan: found %d loads, expected one of --users, --requests-per-s, "
                        "--pairs-per-day, above 0",
                        (users > 0) + (average > 0) + (day > 0));
        return false;
    }
    if (users > 0) average = users / think / peak;
    if (day > 0) average = day / DAY_S / load->candidates;
    load->users = average * peak * think;
    load->average = average;
    load->peak = average * peak;
    return true;
}

static bool read_load(const struct rr_bench_plan *p, struct rr_plan_load *load)
{
    memset(load, 0, sizeof(*load));
    return rr_cli_number("bench", "candidates", p->candidates, 1, 1e6, &load->candidates) &&
           rr_cli_number("bench", "hits", p->hits, 0, 0.99, &load->hits) &&
           rr_cli_number("bench", "goal", p->goal, 0.001, 1e9, &load->goal_ms) &&
           rr_cli_number("bench", "most-use", p->most_use, 0.01, 0.99, &load->most_use) &&
           rr_cli_number("bench", "budget", p->budget, 0, 1e9, &load->budget) &&
           read_rates(p, load);
}

int rr_bench_plan(const struct rr_bench_plan *p, rr_bench_rate_fn *measure, void *user)
{
    struct rr_plan_row rows[2 + RR_PLAN_OFFERS] = { { .offer = rr_plan_as_now },
                                                    { .offer.name = "rerankd, this machine" } };
    struct rr_plan_offer offers[RR_PLAN_OFFERS];
    struct rr_plan_offer *here = &rows[1].offer;
    struct rr_plan_load load;
    struct rr_error err = { 0 };
    char measured[200] = "as given";
    size_t n = rr_plan_n_guide, i;
    int rc = RR_OK;

    if (!read_load(p, &load) ||
        !rr_cli_number("bench", "pairs-per-s", p->rate, 0, 1e12, &here->pairs_per_s) ||
        !rr_cli_number("bench", "price", p->price, 0, 1e9, &here->price))
        return RR_EXIT_USAGE;
    rows[0].offer.price = here->price;
    memcpy(offers, rr_plan_guide, n * sizeof(*offers));
    if (*p->offers) rc = rr_plan_offers_read(offers, &n, p->offers, &err);
    if (!rc && here->pairs_per_s <= 0)
        rc = measure(user, &here->pairs_per_s, &here->gpu, measured, sizeof(measured), &err);
    if (rc) {
        rr_cli_complain("bench", "%s", err.msg);
        return rr_exit_code_of_data(rc);
    }
    for (i = 0; i < n; i++) rows[2 + i].offer = offers[i];
    for (i = 0; i < n + 2; i++) rr_plan_fit(&rows[i].plan, &rows[i].offer, &load);
    if (p->json)
        rr_plan_json(stdout, &load, rows, n + 2, measured);
    else
        rr_plan_text(stdout, &load, rows, n + 2, measured);
    return RR_EXIT_OK;
}
