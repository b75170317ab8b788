/* SPDX-License-Identifier: Apache-2.0 */
/* round.h - a linear layer's weights in int8, rounded so that its outputs change least.
 * Layer: quant (L2).  Threads: one; work is shared by the pool. */
#ifndef RR_QUANT_ROUND_H
#define RR_QUANT_ROUND_H

#include "base/attr.h"
#include "cpu/pool.h"
#include "quant/observe.h"

/* Quantizes w, [n, k], into q, [n, k], and scale[n]: each row as rr_weights_quantize_row does.
 * With inputs (NULL: without) the steps of each row are then chosen again, one after the other and
 * several times over, each to the whole number that minimizes sum_i (x_i . (w - scale q))^2 over
 * the sampled inputs while the others stay: a descent by coordinates on the layer's own error,
 * which never makes it larger.  wtop: of the level that multiplies, cpu/kern.h.  factors[k] (NULL:
 * none) multiply the inputs; w has been divided already. */
RR_NODISCARD int rr_round_weights(int8_t *q, float *scale, const float *w, uint32_t n, uint32_t k,
                                  uint32_t wtop, const struct rr_observed *in, const float *factors,
                                  struct rr_pool *pool, struct rr_error *err);

#endif
