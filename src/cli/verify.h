/* SPDX-License-Identifier: Apache-2.0 */
/* verify.h - how far two scorings of the same lists are apart.  Pure; no engine.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_VERIFY_H
#define RR_CLI_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

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
};

void rr_verify_init(struct rr_verify *v);
void rr_verify_free(struct rr_verify *v);

/* One list: logits of n documents by the reference and by the candidate.  relevant: index of the
 * one relevant document, or -1 when that is not known. */
RR_NODISCARD int rr_verify_add(struct rr_verify *v, const float *reference, const float *candidate,
                               size_t n, long relevant, struct rr_error *err);

void rr_verify_report(struct rr_verify *v, struct rr_verify_report *out);

#endif
