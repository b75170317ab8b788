/* SPDX-License-Identifier: Apache-2.0 */
/* arch.h - the networks that we have: what config.json calls them, how their fields are read, how
 * they are written down as a program.  Layer: model (L4).  Threads: any.
 *
 * A further network is one arch_*.c and rows in the table of arch.c. */
#ifndef RR_MODEL_ARCH_H
#define RR_MODEL_ARCH_H

#include "base/attr.h"
#include "model/config.h"
#include "model/weights.h"

enum rr_ending {                /* what makes the logit */
                 RR_END_HEAD,   /* a classifier */
                 RR_END_WORD,   /* how probable a word is */
                 RR_END_MODULES /* what modules.json lists */
};

struct rr_arch {
    const char *name; /* architectures[0] */
    enum rr_family family;
    uint32_t pad_id; /* of the reference's configuration class */
    /* Fills *c, whose architecture, family and pad_id are set, from the fields of config.json. */
    int (*read)(struct rr_model_config *c, const json_t *root, const char *where,
                struct rr_error *err);
    /* Writes the network into w->builder, with its tensors from w->checkpoint.  *output is the
     * register of the logits. */
    int (*build)(struct rr_weights *w, const struct rr_model_config *c, uint32_t *output,
                 struct rr_error *err);
    enum rr_ending ending;
    const char *models; /* well-known ones, for people */
};

/* Ended by a row without a name. */
extern const struct rr_arch rr_archs[];

/* NULL: none of that name. */
const struct rr_arch *rr_arch_find(const char *name, size_t len);

#endif
