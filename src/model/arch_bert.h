/* SPDX-License-Identifier: Apache-2.0 */
/* arch_bert.h - BERT, RoBERTa and XLM-RoBERTa with a classification head of one label.
 * Layer: model (L4).  Threads: one. */
#ifndef RR_MODEL_ARCH_BERT_H
#define RR_MODEL_ARCH_BERT_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

RR_NODISCARD int rr_arch_bert_read(struct rr_model_config *c, const json_t *root, const char *where,
                                   struct rr_error *err);

/* Writes the network of config into w->builder, with its tensors from w->checkpoint.  *output is
 * the register of the logits.  Sources: Devlin et al. 2018 (arXiv:1810.04805), section 3 and
 * appendix A; Vaswani et al. 2017 (arXiv:1706.03762), section 3; Liu et al. 2019
 * (arXiv:1907.11692); Conneau et al. 2019 (arXiv:1911.02116). */
RR_NODISCARD int rr_arch_bert_build(struct rr_weights *w, const struct rr_model_config *config,
                                    uint32_t *output, struct rr_error *err);

#endif
