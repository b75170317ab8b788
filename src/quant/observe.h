/* SPDX-License-Identifier: Apache-2.0 */
/* observe.h - what the inputs of linear layers look like: a struct that a calibration run fills.
 * Layer: quant (L2).  Threads: add from any thread; the rest from one. */
#ifndef RR_QUANT_OBSERVE_H
#define RR_QUANT_OBSERVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_observed { /* one linear layer's inputs */
    uint32_t width;
    float *absmax;   /* [width] largest |x| of each channel; NULL before the first row */
    float *rows;     /* [n_rows, width] a sample of the rows */
    uint64_t *marks; /* [n_rows] their hashes */
    uint32_t n_rows;
    uint64_t limit; /* rows with a larger hash are not wanted any more */
};

struct rr_observer;

/* n_layers layers, numbered from 0, of which max_rows rows each are kept. */
RR_NODISCARD int rr_observer_open(struct rr_observer **out, uint32_t n_layers, uint32_t max_rows,
                                  struct rr_error *err);
void rr_observer_close(struct rr_observer *o); /* NULL is allowed */

/* rows rows of width values.  Which rows are kept depends on their content alone (those with the
 * smallest hashes), never on threads or order. */
void rr_observer_add(struct rr_observer *o, uint32_t layer, const float *x, size_t ldx,
                     uint32_t rows, uint32_t width);

/* Cuts the samples to max_rows and sorts them.  RR_ENOMEM if add ran out of memory. */
RR_NODISCARD int rr_observer_finish(struct rr_observer *o, struct rr_error *err);
const struct rr_observed *rr_observer_layer(const struct rr_observer *o, uint32_t layer);

#endif
