/* SPDX-License-Identifier: Apache-2.0 */
/* cascade.h - the exact top k from two precisions: a cheap one for all candidates, an exact one for
 * as few as the proof needs.  Pure policy.  Layer: engine (L5).
 *
 * If no exact logit differs from its cheap one by more than drift, then a candidate that was not
 * computed exactly has at most cheap + drift.  Once k exact ones are known and no other can reach
 * the least of them, the first k are exact: the set is closed. */
#ifndef RR_ENGINE_CASCADE_H
#define RR_ENGINE_CASCADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rr_candidate {
    float cheap, exact;
    bool rescored; /* exact is known */
    bool ignored;  /* no candidate: equal to another one */
};

/* Writes the candidates to compute exactly next into picks [n] and returns how many; 0: the first k
 * are closed. */
size_t rr_cascade_pick(const struct rr_candidate *c, size_t n, size_t k, float drift,
                       uint32_t *picks);

/* The largest difference between the two precisions seen so far; 0: none. */
float rr_cascade_drift(const struct rr_candidate *c, size_t n);

#endif
