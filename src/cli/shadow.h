/* SPDX-License-Identifier: Apache-2.0 */
/* shadow.h - the parts of "rerankd shadow": what a reply says, how far two replies are apart.
 * Pure; no network.  Layer: cli (L6).  Threads: one, but where a comment says otherwise. */
#ifndef RR_CLI_SHADOW_H
#define RR_CLI_SHADOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/attr.h"
#include "rerank_types.h"

/* ---- replies (shadow_reply.c) --------------------------------------------------------------- */

enum { RR_BODY_LISTS = 6 };
extern const char *const rr_body_lists[RR_BODY_LISTS]; /* what dialects call the documents */

/* A request's documents, whatever its dialect calls them, or its "instances", each with documents;
 * NULL: it has none.  A view. */
json_t *rr_body_documents(const json_t *body);

struct rr_ranking {
    size_t n;          /* documents of the request */
    float *key;        /* [n] higher is better, equal where the scores are; -inf: not returned */
    float *score;      /* [n] NaN: not returned, or without a score */
    size_t n_returned; /* documents in the reply */
    size_t n_scored;
    struct rr_ranking *next; /* of the request's next instance; owned, NULL: there is none */
};

/* Reads the reply to a request with these documents (NULL: none), in any form that is known: a
 * list, or an object with "results", "data", "rankings", "documents" or "scores" ("output" may hold
 * it), whose members have an "index", or are documents of the request, or are in its order; for
 * instances an object with "predictions", such a list for each.
 * RR_EFORMAT: none of these.  Free it in any case. */
RR_NODISCARD int rr_ranking_read(struct rr_ranking *out, const json_t *documents,
                                 struct rr_text reply, struct rr_error *err);
void rr_ranking_free(struct rr_ranking *r);

/* ---- comparison (shadow_compare.c) ---------------------------------------------------------- */

enum rr_side { RR_PRIMARY, RR_CANDIDATE, RR_SIDES };
enum { RR_SHADOW_WORST = 5 };

struct rr_floats { /* grows; fields are private */
    float *data;
    size_t n, cap;
};

struct rr_shadow { /* sums; fields are private, but top_k is set by the caller after init */
    size_t top_k;
    size_t asked, both, neither, only[RR_SIDES];
    size_t counts_differ;
    size_t n_tau, n_top1, n_top, top1, top;
    double tau, least_tau;
    struct rr_floats ms[RR_SIDES];     /* of requests that both answered */
    struct rr_floats scores[RR_SIDES]; /* of documents that both scored, in the same order */
    struct {
        uint64_t line;
        double tau;
    } worst[RR_SHADOW_WORST]; /* the lowest first */
    size_t n_worst;
};

void rr_shadow_init(struct rr_shadow *s, size_t top_k);
void rr_shadow_free(struct rr_shadow *s);

/* One request.  answered: by which side, in so many milliseconds; rankings are looked at when both
 * did. */
RR_NODISCARD int rr_shadow_add(struct rr_shadow *s, uint64_t line, const bool answered[RR_SIDES],
                               const double ms[RR_SIDES],
                               const struct rr_ranking rankings[RR_SIDES], struct rr_error *err);

struct rr_shadow_latency {
    double mean, p50, p90, p95, p99, max; /* milliseconds */
};

struct rr_shadow_report {
    size_t asked, both, neither, only[RR_SIDES]; /* only[s]: failed at side s only */
    size_t counts_differ;                        /* replies with another number of documents */
    double tau, least_tau; /* mean and lowest of the requests with two documents or more */
    size_t n_tau;
    size_t top_k;
    double top1_equal, top_equal; /* shares; ties at the border are no difference */
    size_t n_top1, n_top;         /* of so many: lists no longer than k say nothing */
    size_t n_scores;
    int converted; /* the side whose logits became probabilities to be compared, -1: none */
    double mean_diff, p99_diff, max_diff;
    struct rr_shadow_latency ms[RR_SIDES];
};

/* Sorts what was added. */
void rr_shadow_report(struct rr_shadow *s, struct rr_shadow_report *out);

struct rr_shadow_gate {
    double tau, top; /* least */
    double errors;   /* most requests that fail at the candidate only, a share */
    double slowdown; /* most of candidate's p95 by primary's; 0: any */
    double score;    /* largest difference of a score; 0: any */
};

/* Why the candidate is not good enough, in one line; NULL: it is. */
const char *rr_shadow_gate(const struct rr_shadow_report *r, const struct rr_shadow_gate *gate,
                           char *line, size_t cap);

/* ---- output (shadow_print.c) ---------------------------------------------------------------- */

struct rr_shadow_names {
    const char *url[RR_SIDES];
    const char *why[RR_SIDES]; /* first failure, "" none */
};

void rr_shadow_text(FILE *out, const struct rr_shadow *s, const struct rr_shadow_report *r,
                    const struct rr_shadow_names *names);
/* verdict: of the gate, NULL: good or not asked for. */
void rr_shadow_json(FILE *out, const struct rr_shadow *s, const struct rr_shadow_report *r,
                    const struct rr_shadow_names *names, const char *verdict);

#endif
