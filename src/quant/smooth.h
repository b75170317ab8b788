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

/* The alpha with the least error of int8 outputs on a sample of the inputs; negative: factors do
 * not help.  wtop: of the level, cpu/kern.h.  *error: its mean squared error relative to the
 * outputs' mean square. */
RR_NODISCARD int rr_smooth_search(float *alpha, double *error, const struct rr_observed *in,
                                  const float *w, uint32_t n, uint32_t wtop, struct rr_error *err);

#endif
