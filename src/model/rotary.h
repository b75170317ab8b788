/* SPDX-License-Identifier: Apache-2.0 */
/* rotary.h - frequencies of rotary positions: fields of config.json, tensor of the program.
 * Layer: model (L4).  Threads: one.  Source: Su et al. 2021 (arXiv:2104.09864), section 3. */
#ifndef RR_MODEL_ROTARY_H
#define RR_MODEL_ROTARY_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

/* The base of the angles: rope_parameters[kind].rope_theta, or rope_parameters.rope_theta where
 * kind is NULL, or the older field key; *theta is the default.  Scalings other than "default" are
 * RR_ENOTSUP. */
RR_NODISCARD int rr_rotary_read(float *theta, const json_t *root, const char *where,
                                const char *kind, const char *key, struct rr_error *err);

/* rope_theta and rope_scaling of type "ntk" with its factor f (Su 2023, kexue.fm/archives/9706):
 * theta f, and all frequencies divided by f^(2 / head_dim).  Into c->theta, c->rotary_divisor. */
RR_NODISCARD int rr_rotary_read_ntk(struct rr_model_config *c, const json_t *root,
                                    const char *where, struct rr_error *err);

/* f32 [head_dim / 2]: theta^(-2 j / head_dim) / divisor, rounded as the reference rounds it.
 * divisor 0: 1. */
RR_NODISCARD int rr_rotary_tensor(struct rr_weights *w, float theta, uint32_t head_dim,
                                  float divisor, uint32_t *index, struct rr_error *err);

#endif
