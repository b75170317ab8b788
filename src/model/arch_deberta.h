/* SPDX-License-Identifier: Apache-2.0 */
/* arch_deberta.h - DeBERTa-v2 and -v3 with a classification head of one label.
 * Layer: model (L4).  Threads: one.  Sources: He et al. 2020 (arXiv:2006.03654), section 3; He et
 * al. 2021 (arXiv:2111.09543). */
#ifndef RR_MODEL_ARCH_DEBERTA_H
#define RR_MODEL_ARCH_DEBERTA_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

RR_NODISCARD int rr_arch_deberta_read(struct rr_model_config *c, const json_t *root,
                                      const char *where, struct rr_error *err);
RR_NODISCARD int rr_arch_deberta_build(struct rr_weights *w, const struct rr_model_config *c,
                                       uint32_t *output, struct rr_error *err);

#endif
