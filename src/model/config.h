/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - config.json of a model folder: which network, how large.  Layer: model (L4).
 * Threads: any. */
#ifndef RR_MODEL_CONFIG_H
#define RR_MODEL_CONFIG_H

#include "base/attr.h"
#include "rerank_backend.h"

enum rr_family {                   /* networks that differ in more than size */
                 RR_FAMILY_BERT,   /* token types, positions from 0, pooler + classifier */
                 RR_FAMILY_ROBERTA /* pad-aware positions, two-layer classification head */
};

struct rr_model_config {
    char architecture[64]; /* architectures[0] */
    enum rr_family family;
    uint32_t vocab, types; /* rows of the tables */
    uint32_t positions;    /* rows of the position table */
    uint32_t hidden, layers, heads, intermediate;
    uint32_t pad_id;
    uint32_t max_length; /* longest sequence that the position table allows */
    enum rr_act act;
    float norm_eps;
};

/* Fills *out from the text of a config.json; where is the file's name for messages.  RR_EFORMAT:
 * malformed, a needed field missing or out of range; RR_ENOTSUP: a network that we do not have, or
 * not with one label.  Optional fields default to what the reference defaults to. */
RR_NODISCARD int rr_config_parse(struct rr_model_config *out, struct rr_text json,
                                 const char *where, struct rr_error *err);

#endif
