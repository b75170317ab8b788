/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - config.json of a model folder: which network, how large.  Layer: model (L4).
 * Threads: any. */
#ifndef RR_MODEL_CONFIG_H
#define RR_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>

#include "base/attr.h"
#include "model/modules.h"
#include "rerank_backend.h"

#define RR_CONFIG_MAX_WIDTH \
    (1u << 16)                        /* ceilings far above every known model: they keep products */
#define RR_CONFIG_MAX_ROWS (1u << 24) /* of sizes small */

enum rr_family {                       /* networks that differ in more than size */
                 RR_FAMILY_BERT,       /* token types, positions from 0, pooler + classifier */
                 RR_FAMILY_ROBERTA,    /* pad-aware positions, two-layer classification head */
                 RR_FAMILY_ELECTRA,    /* BERT with narrower embeddings and a head with GELU */
                 RR_FAMILY_MODERNBERT, /* rotary, local and global attention, gated units */
                 RR_FAMILY_DEBERTA,    /* attention by content and by distance */
                 RR_FAMILY_GTE,        /* BERT with rotary positions and gated units */
                 RR_FAMILY_DECODER     /* causal, RMSNorm, shared keys: Qwen2, Qwen3, Gemma */
};

#define RR_MAX_LAYERS 1024

struct rr_model_config {
    char architecture[64]; /* architectures[0] */
    enum rr_family family;
    uint32_t vocab, types; /* rows of the tables */
    uint32_t positions;    /* rows of the position table */
    uint32_t hidden, layers, heads, intermediate;
    uint32_t embedding; /* width of the tables */
    uint32_t pad_id;
    uint32_t max_length; /* longest sequence that the position table allows */
    enum rr_act act;
    float norm_eps;

    /* rotary networks */
    uint32_t kv_heads, head_dim;
    float theta, local_theta;     /* base of the angles, of layers that see all and of others */
    float rotary_divisor;         /* of all frequencies; 0: 1 */
    uint32_t window;              /* local layers: tokens that one sees to each side */
    bool is_local[RR_MAX_LAYERS]; /* [layers] */
    enum rr_op_kind pool;         /* FIRST, MEAN or LAST: what the head reads */
    enum rr_act head_act;
    struct rr_modules modules; /* instead of the network's own head; not from config.json */
    struct rr_words words;     /* of a causal network; not from config.json */

    struct { /* DeBERTa */
        bool on, content_position, position_content;
        bool shared; /* distances are projected by the keys' and queries' own weights */
        bool norm;   /* LayerNorm over the table of distances */
        uint32_t span, buckets, max_distance;
        bool positions; /* absolute ones, too */
    } relative;

    struct {                 /* decoders */
        bool qk_norm;        /* RMSNorm over each head's queries and keys */
        bool gamma_plus_one; /* RMSNorm weights are stored minus 1 */
        float embed_scale;   /* 0: 1 */
        bool judge; /* no head of its own: the logit of one token, or of one less another */
        bool tied;  /* without an output layer the table of words is it */
    } decoder;
};

/* Fills *out from the text of a config.json; where is the file's name for messages.  RR_EFORMAT:
 * malformed, a needed field missing or out of range; RR_ENOTSUP: a network that we do not have, or
 * not with one label.  Optional fields default to what the reference defaults to. */
RR_NODISCARD int rr_config_parse(struct rr_model_config *out, struct rr_text json,
                                 const char *where, struct rr_error *err);

/* ---- for the readers of the families (arch.h) --------------------------------------------------
 * All name the file and the field in their errors. */

/* A size that the reference could default, too; a file without it is more likely damaged. */
RR_NODISCARD int rr_config_need_u32(const json_t *root, const char *where, const char *key,
                                    uint32_t max, uint32_t *out, struct rr_error *err);
/* vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size,
 * max_position_embeddings, pad_token_id and the norm's epsilon, whose key differs and whose default
 * is in *c.  Also what follows from them: max_length, kv_heads, head_dim. */
RR_NODISCARD int rr_config_sizes(struct rr_model_config *c, const json_t *root, const char *where,
                                 const char *eps_key, struct rr_error *err);
RR_NODISCARD int rr_config_even_heads(const struct rr_model_config *c, const char *where,
                                      struct rr_error *err);
/* The activation called by key, which defaults to the name given.  allowed: 1 << each. */
RR_NODISCARD int rr_config_act(enum rr_act *out, const json_t *root, const char *where,
                               const char *key, const char *fallback, unsigned allowed,
                               struct rr_error *err);
/* A field that must be false, or absent. */
RR_NODISCARD int rr_config_off(const json_t *root, const char *where, const char *key,
                               struct rr_error *err);

#endif
