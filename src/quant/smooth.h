/* SPDX-License-Identifier: Apache-2.0 */
/* smooth.h - factors that move the range of a layer's inputs into its weights.
 * Layer: quant (L2).  Threads: pure functions.
 * Source: Xiao et al. 2022, SmoothQuant (arXiv:2211.10438), section 4. */
#ifndef RR_QUANT_SMOOTH_H
#define RR_QUANT_SMOOTH_H

#include <stdint.h>

#include "base/attr.h"
#include "quant/observe.h"

/* factors[k] for alpha from 0 (all range stays in the inputs) to 1 (all goes into the weights):
 * inputs are to be multiplied by them, columns of w, [n, k], divided. */
void rr_smooth_factors(float *factors, const struct rr_observed *in, const float *w, uint32_t n,
                       float alpha);

/* The alpha with the least error of int8 outputs on a sample of the inputs.  wtop: of the level,
 * cpu/kern.h. */
RR_NODISCARD int rr_smooth_search(float *alpha, const struct rr_observed *in, const float *w,
                                  uint32_t n, uint32_t wtop, struct rr_error *err);

struct rr_rounded { /* rows of weights in int8, factors (NULL: 1) taken off: scale[o] q[o, i] */
    const int8_t *q;
    const float *scale, *factors;
    uint32_t n;
};

/* *error: mean squared error of a layer's outputs in int8, inputs rounded, too, relative to their
 * mean square.  w, [all rows of the parts, k], is what was rounded to them. */
RR_NODISCARD int rr_smooth_error(double *error, const struct rr_observed *in, const float *w,
                                 const struct rr_rounded *parts, uint32_t n_parts,
                                 struct rr_error *err);

#endif
