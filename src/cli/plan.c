/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - see plan.h.  Sources: A. K. Erlang, "Solution of some problems in the theory of
 * probabilities of significance in automatic telephone exchanges" (1917), formulas B and C;
 * L. Kleinrock, "Queueing Systems", vol. 1 (1975), section 3.5. */
#include "cli/plan.h"

#include <math.h>
#include <string.h>

#define SECONDS_A_MONTH (365.25 / 12 * 86400)
#define MOST_MACHINES 1000000

/* Formula B by its recursion, of which C follows. */
double rr_plan_erlang_c(uint32_t c, double load)
{
    double b = 1;
    uint32_t k;

    if (load >= c) return 1;
    for (k = 1; k <= c; k++) b = load * b / (k + load * b);
    return c * b / (c - load * (1 - b));
}

double rr_plan_pairs_a_month(const struct rr_plan_load *load)
{
    return load->average * load->candidates * SECONDS_A_MONTH;
}

/* Times with c machines, each of service_s seconds a request.  The wait is longer than t with
 * probability C exp(-(c / service_s - rate) t). */
static void times_of(struct rr_plan *out, uint32_t c, double rate, double service_s)
{
    double waits = rr_plan_erlang_c(c, rate * service_s), spare = c / service_s - rate;
    double p95 = waits > 0.05 ? log(waits / 0.05) / spare : 0;

    out->machines = c;
    out->use = rate * service_s / c;
    out->mean_ms = out->alone_ms + 1e3 * waits / spare;
    out->p95_ms = out->alone_ms + 1e3 * p95;
}

void rr_plan_fit(struct rr_plan *out, const struct rr_plan_offer *offer,
                 const struct rr_plan_load *load)
{
    double service_s = load->candidates * (1 - load->hits) / offer->pairs_per_s;
    double needed = ceil(load->peak * service_s / load->most_use - 1e-9), pairs;
    uint32_t c;

    memset(out, 0, sizeof(*out));
    out->alone_ms = offer->fixed_ms + 1e3 * load->candidates / offer->pairs_per_s;
    if (needed > MOST_MACHINES || out->alone_ms > load->goal_ms) return;
    for (c = needed < 1 ? 1 : (uint32_t)needed; c <= MOST_MACHINES; c++) {
        times_of(out, c, load->peak, service_s);
        if (out->p95_ms <= load->goal_ms) break;
    }
    pairs = rr_plan_pairs_a_month(load) / 1e6;
    out->possible = true;
    out->cost = out->machines * offer->price;
    out->per_million = pairs > 0 ? out->cost / pairs : 0;
    out->per_million_full =
        offer->price / (offer->pairs_per_s * load->most_use * SECONDS_A_MONTH / 1e6);
}
