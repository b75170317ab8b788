/* SPDX-License-Identifier: Apache-2.0 */
/* known.h - scores of well-known models that their publishers or others have told, to notice a
 * model that is not what its name says, or a network that we read otherwise.  Layer: cli (L6).
 * Threads: any. */
#ifndef RR_CLI_KNOWN_H
#define RR_CLI_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "rerank.h"

struct rr_known {
    const char *model; /* ORG/NAME on the hub */
    const char *query, *document;
    double value;
    double tolerance; /* fits the digits that were told and the precision that they came from */
    bool sigmoid;     /* value is the logit's sigmoid, whatever the model's activation is */
    const char *source;
};

/* Rows of a model, by its name on the hub or by a folder of the hub's cache; NULL: none. */
const struct rr_known *rr_known_find(const char *model, size_t *n);

/* Scores each pair alone.  RR_EFORMAT: one is farther from its value than its tolerance, or than
 * tolerance, whichever is more. */
RR_NODISCARD int rr_known_check(struct rr_engine *engine, const struct rr_known *rows, size_t n,
                                double tolerance, struct rr_error *err);

#endif
