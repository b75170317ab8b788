/* SPDX-License-Identifier: Apache-2.0 */
/* verify.h - how far two scorings of the same lists are apart.  Pure; no engine.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_VERIFY_H
#define RR_CLI_VERIFY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/attr.h"
#include "rerank.h"

enum { RR_VERIFY_TOPS = 3 }; /* top 1, 5, 10 */

struct rr_verify { /* sums; fields are private */
    float *diffs;  /* [n_pairs] |logit difference|, sorted by rr_verify_report */
    size_t n_pairs, cap_pairs;
    size_t n_lists;
    size_t n_tau; /* lists of two or more documents */
    double tau;
    size_t tops[RR_VERIFY_TOPS], n_tops[RR_VERIFY_TOPS];
    size_t n_labelled;
    double ndcg[2], mrr[2];
    size_t exact_k; /* 0: not asked for */
    size_t n_exact, n_promised, n_rescored, n_considered;
};

struct rr_verify_report {
    size_t lists, pairs;
    double max_diff, p99_diff, mean_diff; /* of logits */
    double tau;                       /* Kendall's tau-b, mean over lists; 1 if none has an order */
    double top_equal[RR_VERIFY_TOPS]; /* share of lists whose sets of 1, 5, 10 best are equal; lists
                                         no longer than that are not counted */
    size_t top_lists[RR_VERIFY_TOPS];
    size_t labelled;
    double ndcg[2], mrr[2]; /* at 10; reference, candidate; of the labelled lists */
    size_t exact_k;         /* 0: re-scoring was not asked for */
    double exact_equal;     /* share of lists whose first exact_k, in order, are the reference's */
    double exact_promised;  /* ... that the engine called exact */
    double rescored;        /* share of the pairs that were re-scored */
};

/* Kendall's tau-b of two lists of n values: 1 the same order, -1 the reverse; pairs that are tied
 * on one side count half; 1 where both are tied throughout. */
double rr_kendall(const float *a, const float *b, size_t n);

void rr_verify_init(struct rr_verify *v);
void rr_verify_free(struct rr_verify *v);

/* What a list says about relevance, "positive" or "labels", into grades[n]; *known: it says
 * something.  An error names neither the file nor the line. */
RR_NODISCARD int rr_verify_grades(const json_t *list, float *grades, size_t n, bool *known,
                                  struct rr_error *err);

/* One list: logits of n documents by the reference and by the candidate.  grades: how relevant each
 * document is, 0 not at all; NULL, or zeros only, when that is not known. */
RR_NODISCARD int rr_verify_add(struct rr_verify *v, const float *reference, const float *candidate,
                               size_t n, const float *grades, struct rr_error *err);

/* The same list with its first k asked to be exact: the order that came, the pairs that were
 * re-scored, and whether the engine promised that the first k are right. */
void rr_verify_add_exact(struct rr_verify *v, const float *reference, const uint32_t *order,
                         size_t n, size_t k, size_t n_rescored, bool promised);

void rr_verify_report(struct rr_verify *v, struct rr_verify_report *out);

/* A bound for differences of logits that were not seen: the largest seen and half as much again. */
double rr_verify_drift(const struct rr_verify_report *r);

/* Why the precision is not good enough, in one line; NULL: it is.  Lists of five or fewer documents
 * prove nothing about the five best, so without longer ones it is not. */
const char *rr_verify_gate(const struct rr_verify_report *r, double least_top5, double least_tau,
                           char *line, size_t cap);

/* The report, one for people and one for programs.  against: the model that was the reference, NULL
 * where it was info's own weights in f32. */
void rr_verify_text(FILE *out, const struct rr_info *info, const struct rr_info *against,
                    const struct rr_verify_report *r);
void rr_verify_json(FILE *out, const struct rr_info *info, const struct rr_info *against,
                    const struct rr_verify_report *r);

/* The JSON as verify.json in the model folder, where an engine that re-scores finds "drift"; the
 * reference was the model's own weights. */
RR_NODISCARD int rr_verify_write(const struct rr_info *info, const struct rr_verify_report *r,
                                 struct rr_error *err);

#endif
