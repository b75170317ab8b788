/* SPDX-License-Identifier: Apache-2.0 */
/* arch_decoder.h - causal language models that judge a pair: Qwen2, Qwen3, Gemma.
 * Layer: model (L4).  Threads: one.  Sources: Yang et al. 2025 (arXiv:2505.09388), section 2;
 * Ainslie et al. 2023 (arXiv:2305.13245); Gemma Team 2024 (arXiv:2403.08295), section 2. */
#ifndef RR_MODEL_ARCH_DECODER_H
#define RR_MODEL_ARCH_DECODER_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

RR_NODISCARD int rr_arch_decoder_read(struct rr_model_config *c, const json_t *root,
                                      const char *where, struct rr_error *err);
/* Where the network has no classifier (config.decoder.judge), its weights are a made tensor of
 * zeros, which rr_model_judge fills: see w->judge. */
RR_NODISCARD int rr_arch_decoder_build(struct rr_weights *w, const struct rr_model_config *c,
                                       uint32_t *output, struct rr_error *err);

#endif
