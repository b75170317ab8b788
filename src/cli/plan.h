/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - "rerankd bench --plan": how many machines a load needs, what they cost, and whether they
 * should have GPUs.  Layer: cli (L6).  Threads: one.
 *
 * A machine is a server that computes so many pairs a second, one request after the other; requests
 * come at random and wait in one queue for all machines (M/M/c; Erlang 1917).  The time in service
 * is taken as constant, the wait as Erlang's formula C gives it for service times that vary as much
 * as their mean: for requests of similar length that is too long, never too short. */
#ifndef RR_CLI_PLAN_H
#define RR_CLI_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/attr.h"
#include "rerank_types.h"

enum { RR_PLAN_OFFERS = 32, RR_PLAN_NAME = 48 };

struct rr_plan_load {
    double peak;       /* requests a second in the busiest hour */
    double average;    /* requests a second */
    double users;      /* who ask at the same time then */
    double candidates; /* documents of a request */
    double hits;       /* share of pairs that a cache answers, below 1 */
    double goal_ms;    /* of the 95th percentile at the peak */
    double most_use; /* of the machines' time, at the peak: room for what the formula leaves out */
    double budget;   /* a month, 0: any */
};

struct rr_plan_offer {
    char name[RR_PLAN_NAME];
    bool gpu;
    double price;       /* a month */
    double pairs_per_s; /* of one machine at full load */
    double fixed_ms;    /* of each request, whatever its length: network, launches */
};

struct rr_plan {
    bool possible;           /* whether any number of machines meets the goal */
    uint32_t machines;       /* the fewest that do */
    double use;              /* of their time at the peak */
    double alone_ms;         /* a request that finds the machine free */
    double mean_ms, p95_ms;  /* at the peak */
    double cost;             /* a month */
    double per_million;      /* pairs, at the average load */
    double per_million_full; /* pairs, if the machines were at most_use all month */
};

/* Probability that a request waits, of c servers that are offered load (arrival rate by service
 * rate of one); 1 when load >= c. */
double rr_plan_erlang_c(uint32_t c, double load);

/* The fewest machines of the offer for the load. */
void rr_plan_fit(struct rr_plan *out, const struct rr_plan_offer *offer,
                 const struct rr_plan_load *load);

double rr_plan_pairs_a_month(const struct rr_plan_load *load);

/* ---- offers (plan_offers.c) ----------------------------------------------------------------- */

/* The guide's five machines with GPUs, at its prices and for its figures. */
extern const struct rr_plan_offer rr_plan_guide[];
extern const size_t rr_plan_n_guide;

/* ragfab's Python service on two cores, by the guide's figures. */
extern const struct rr_plan_offer rr_plan_as_now;

/* A JSON array of objects "name", "gpu", "price_per_month", "pairs_per_s" and perhaps "fixed_ms".
 * offers has room for RR_PLAN_OFFERS. */
RR_NODISCARD int rr_plan_offers_read(struct rr_plan_offer *offers, size_t *n, const char *path,
                                     struct rr_error *err);

/* ---- output and advice (plan_print.c) ------------------------------------------------------- */

struct rr_plan_row {
    struct rr_plan_offer offer;
    struct rr_plan plan;
};

/* Index of the row that meets the goal within the budget for least money, then with least p95; rows
 * before first are only to compare with.  Of what costs nothing there is one.  n: none. */
size_t rr_plan_best(const struct rr_plan_row *rows, size_t n, size_t first,
                    const struct rr_plan_load *load);

/* What the guide's own criteria say: true is a GPU.  why gets the reasons. */
bool rr_plan_guide_says_gpu(const struct rr_plan_load *load, char *why, size_t cap);

/* rows: as now, this machine, the offers.  measured: where this machine's rate is from. */
void rr_plan_text(FILE *out, const struct rr_plan_load *load, const struct rr_plan_row *rows,
                  size_t n, const char *measured);
void rr_plan_json(FILE *out, const struct rr_plan_load *load, const struct rr_plan_row *rows,
                  size_t n, const char *measured);

#endif
