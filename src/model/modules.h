/* SPDX-License-Identifier: Apache-2.0 */
/* modules.h - a head in the manner of sentence-transformers: modules.json lists what follows the
 * bare network, each module in a folder of its own.  Layer: model (L4).  Threads: one. */
#ifndef RR_MODEL_MODULES_H
#define RR_MODEL_MODULES_H

#include <stdbool.h>

#include "base/attr.h"
#include "rerank_backend.h"

#define RR_MODULES_MAX 8

struct rr_module {
    char path[64];    /* its folder, inside the model's */
    bool norm;        /* LayerNorm; false: a dense layer */
    uint32_t in, out; /* widths */
    bool bias;
    bool residual; /* what goes in is added to what comes out */
    enum rr_act act;
};

/* [Transformer, Pooling, Dense or LayerNorm..., Dense that makes the scores] */
struct rr_modules {
    uint32_t n; /* 0: the network has a head of its own */
    struct rr_module list[RR_MODULES_MAX];
    enum rr_op_kind pool; /* FIRST or MEAN */
    bool skips_prompt;    /* pooled without the tokens of the prompt */
};

/* The tokens whose logits make the score of a causal network, where the model says them. */
struct rr_words {
    bool given;
    int32_t yes, no; /* no is -1: the logit of yes alone */
};

/* Whether folder has a modules.json. */
bool rr_modules_listed(const char *folder);
/* From folder/modules.json and the config.json of each module; hidden: width of the network's
 * rows.  RR_ENOENT: there is no modules.json; RR_ENOTSUP: a module that we do not have, or no
 * scores at the end, as in an embedding model.  Paths are plain names: nothing outside of folder is
 * read. */
RR_NODISCARD int rr_modules_read(struct rr_modules *out, const char *folder, uint32_t hidden,
                                 struct rr_error *err);

/* The same for a causal network: a LogitScore whose tokens are below vocab.  Without a modules.json
 * nothing is given.  RR_ENOTSUP: another head, as that of an embedding model. */
RR_NODISCARD int rr_modules_words(struct rr_words *out, const char *folder, uint32_t vocab,
                                  struct rr_error *err);

/* Copies, of each module's folder, config.json and model.safetensors. */
RR_NODISCARD int rr_modules_copy(const char *from, const char *to, struct rr_error *err);

struct rr_weights;
struct rr_registers;

/* What the modules do to the rows of the last layer; *output: the register of the logits. */
RR_NODISCARD int rr_modules_add(struct rr_weights *w, const struct rr_modules *m,
                                const struct rr_registers *r, uint32_t *output,
                                struct rr_error *err);

#endif
