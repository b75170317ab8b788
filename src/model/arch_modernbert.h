/* SPDX-License-Identifier: Apache-2.0 */
/* arch_modernbert.h - ModernBERT with a classification head of one label.
 * Layer: model (L4).  Threads: one.  Sources: Warner et al. 2024 (arXiv:2412.13663), section 2;
 * Su et al. 2021 (arXiv:2104.09864); Shazeer 2020 (arXiv:2002.05202). */
#ifndef RR_MODEL_ARCH_MODERNBERT_H
#define RR_MODEL_ARCH_MODERNBERT_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

RR_NODISCARD int rr_arch_modernbert_read(struct rr_model_config *c, const json_t *root,
                                         const char *where, struct rr_error *err);
RR_NODISCARD int rr_arch_modernbert_build(struct rr_weights *w, const struct rr_model_config *c,
                                          uint32_t *output, struct rr_error *err);

#endif
