/* SPDX-License-Identifier: Apache-2.0 */
/* expect.h - what errors of logits would do to lists that were not looked at.  Pure; no engine.
 * Layer: cli (L6).  Threads: one.
 *
 * A list loses its best few when errors lift a document from below the cut over one from above it.
 * How often that is depends on how large the errors are, which few lists tell well, and on how
 * often scores are that near to each other at the cut, which they tell badly: of a hundred lists
 * one or two have gaps as narrow as small errors.  But gaps that are small against those that are
 * usual are all about equally frequent, so that losses grow as the errors do.  They are therefore
 * computed for errors so large that one list in ten is lost, and scaled down. */
#ifndef RR_CLI_EXPECT_H
#define RR_CLI_EXPECT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "rerank.h"

struct rr_expected {
    double share; /* of lists whose best few stay the same set */
    double error; /* its standard error, the lists being a sample */
    size_t lists; /* those that are longer than the best few: others tell nothing */
};

/* Lists like these, with errors as large as those of candidate, independent and normal: [pairs]
 * logits, list after list, all of which tell about gaps and the first n_errors lists about errors.
 * Without a list longer than `top`, or with a logit that is not finite, share is 0. */
RR_NODISCARD int rr_expect(struct rr_expected *out, const float *reference, const float *candidate,
                           const struct rr_list *lists, size_t n_lists, size_t n_errors, size_t top,
                           struct rr_error *err);

/* Whether so many lost lists of n are too many to be chance where a share of 1 - kept is lost: it
 * would happen in less than one case of twenty. */
bool rr_expect_refuted(size_t lost, size_t n, double kept);

#endif
