/* SPDX-License-Identifier: Apache-2.0 */
/* arch_gte.h - the GTE encoders ("NewModel") with a classification head of one label.
 * Layer: model (L4).  Threads: one.  Source: Zhang et al. 2024 (arXiv:2407.19669), section 3. */
#ifndef RR_MODEL_ARCH_GTE_H
#define RR_MODEL_ARCH_GTE_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

RR_NODISCARD int rr_arch_gte_read(struct rr_model_config *c, const json_t *root, const char *where,
                                  struct rr_error *err);
RR_NODISCARD int rr_arch_gte_build(struct rr_weights *w, const struct rr_model_config *c,
                                   uint32_t *output, struct rr_error *err);

#endif
