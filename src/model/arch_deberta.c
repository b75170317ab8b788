/* SPDX-License-Identifier: Apache-2.0 */
/* arch_deberta.c - see arch_deberta.h.  Layer: model (L4).
 *
 * A post-norm encoder like BERT's, whose attention adds terms by distance: one table of distances
 * for all layers, projected by each layer's own weights.  The head reads the first token only, so
 * the last layer computes that row only. */
#include "model/arch_deberta.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "model/layers.h"

/* ---- config.json ---------------------------------------------------------------------------- */

/* "c2p" and "p2c", as a list or as "c2p|p2c", then in either case, as in the reference. */
static int read_terms(struct rr_model_config *c, const json_t *root, const char *where,
                      struct rr_error *err)
{
    const json_t *v = json_object_get(root, "pos_att_type");
    char list[64] = "";
    size_t len = 0;

    if (json_is_string(v)) {
        snprintf(list, sizeof(list), "%s", json_string_value(v));
        for (char *s = list; *s; s++)
            if (*s >= 'A' && *s <= 'Z') *s = (char)(*s - 'A' + 'a');
    } else if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v) && len < sizeof(list); i++) {
            const char *s = json_string_value(json_array_get(v, i));

            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s|", s ? s : "?");
        }
    } else if (v && !json_is_null(v)) {
        return rr_fail(err, RR_EFORMAT, "%s: pos_att_type is %s, expected a list", where,
                       rr_json_type_name(v));
    }
    c->relative.content_position = strstr(list, "c2p") != NULL;
    c->relative.position_content = strstr(list, "p2c") != NULL;
    if (!strstr(list, "p2p") && !strchr(list, '?')) return RR_OK;
    return rr_fail(err, RR_ENOTSUP, "%s: pos_att_type is \"%s\", supported are c2p and p2c", where,
                   list);
}

/* -1 stands for "none" in several fields; 0 then. */
static int read_count(const json_t *root, const char *where, const char *key, uint32_t *out,
                      struct rr_error *err)
{
    const json_t *v = json_object_get(root, key);

    *out = 0;
    if (json_is_integer(v) && json_integer_value(v) < 0) return RR_OK;
    return rr_json_u32(root, where, key, 0, RR_CONFIG_MAX_WIDTH, out, err);
}

static int read_relative(struct rr_model_config *c, const json_t *root, const char *where,
                         struct rr_error *err)
{
    struct rr_text norm = { "none", 4 };
    int rc = rr_json_bool(root, where, "relative_attention", &c->relative.on, err);

    if (!rc) rc = read_terms(c, root, where, err);
    if (!rc) rc = rr_json_bool(root, where, "share_att_key", &c->relative.shared, err);
    if (!rc) rc = read_count(root, where, "position_buckets", &c->relative.buckets, err);
    if (!rc) rc = read_count(root, where, "max_relative_positions", &c->relative.max_distance, err);
    if (!rc) rc = rr_json_text(root, where, "norm_rel_ebd", &norm, err);
    if (rc) return rc;
    if (!c->relative.max_distance) c->relative.max_distance = c->positions;
    c->relative.span = c->relative.buckets ? c->relative.buckets : c->relative.max_distance;
    c->relative.norm = strcasestr(norm.data, "layer_norm") != NULL; /* in either case, too */
    return RR_OK;
}

static int check_equal(const json_t *root, const char *where, const char *key, uint32_t expected,
                       struct rr_error *err)
{
    uint32_t found = expected;
    int rc = rr_json_u32(root, where, key, 0, UINT32_MAX, &found, err);

    if (rc || found == expected) return rc;
    return rr_fail(err, RR_ENOTSUP, "%s: %s is %" PRIu32 ", supported is %" PRIu32, where, key,
                   found, expected);
}

int rr_arch_deberta_read(struct rr_model_config *c, const json_t *root, const char *where,
                         struct rr_error *err)
{
    const unsigned acts = 1u << RR_ACT_GELU | 1u << RR_ACT_RELU;
    int rc;

    c->norm_eps = 1e-7f;
    c->relative.positions = true;
    rc = rr_config_sizes(c, root, where, "layer_norm_eps", err);
    if (!rc) rc = rr_config_even_heads(c, where, err);
    if (!rc)
        rc = rr_json_u32(root, where, "type_vocab_size", 0, RR_CONFIG_MAX_ROWS, &c->types, err);
    if (!rc) rc = rr_json_bool(root, where, "position_biased_input", &c->relative.positions, err);
    if (!rc) rc = read_relative(c, root, where, err);
    if (!rc) rc = rr_config_act(&c->act, root, where, "hidden_act", "gelu", acts, err);
    if (!rc)
        rc = rr_config_act(&c->head_act, root, where, "pooler_hidden_act", "gelu",
                           acts | 1u << RR_ACT_TANH, err);
    if (!rc) rc = check_equal(root, where, "embedding_size", c->hidden, err);
    if (!rc) rc = check_equal(root, where, "pooler_hidden_size", c->hidden, err);
    if (!rc) rc = check_equal(root, where, "attention_head_size", c->head_dim, err);
    if (!rc) rc = check_equal(root, where, "conv_kernel_size", 0, err);
    return rc;
}

/* ---- the network ---------------------------------------------------------------------------- */

struct embeddings {
    uint32_t word, position, type;
    struct rr_norm norm;
    uint32_t distances; /* table of relative positions */
    struct rr_norm distance_norm;
};

struct layer {
    struct rr_layer base;
    struct rr_weight position_key, position_query; /* where they are not shared */
};

#define ROW RR_WEIGHT_ROW
#define OPTIONAL RR_WEIGHT_OPTIONAL

static const struct rr_weight_row embedding_rows[] = {
    ROW(embeddings, word, "embeddings.word_embeddings.weight", RR_DIM_VOCAB, RR_DIM_HIDDEN),
    ROW(embeddings, norm.gamma, "embeddings.LayerNorm.weight", RR_DIM_HIDDEN),
    ROW(embeddings, norm.beta, "embeddings.LayerNorm.bias", RR_DIM_HIDDEN),
};
static const struct rr_weight_row position_rows[] = {
    ROW(embeddings, position, "embeddings.position_embeddings.weight", RR_DIM_POSITIONS,
        RR_DIM_HIDDEN),
};
static const struct rr_weight_row type_rows[] = {
    ROW(embeddings, type, "embeddings.token_type_embeddings.weight", RR_DIM_TYPES, RR_DIM_HIDDEN),
};
static const struct rr_weight_row distance_rows[] = {
    ROW(embeddings, distances, "encoder.rel_embeddings.weight", RR_DIM_DISTANCES, RR_DIM_HIDDEN),
};
static const struct rr_weight_row distance_norm_rows[] = {
    ROW(embeddings, distance_norm.gamma, "encoder.LayerNorm.weight", RR_DIM_HIDDEN),
    ROW(embeddings, distance_norm.beta, "encoder.LayerNorm.bias", RR_DIM_HIDDEN),
};

static const struct rr_weight_row layer_rows[] = {
    ROW(layer, base.query.weight, "attention.self.query_proj.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, base.query.bias, "attention.self.query_proj.bias", RR_DIM_HIDDEN),
    ROW(layer, base.key.weight, "attention.self.key_proj.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, base.key.bias, "attention.self.key_proj.bias", RR_DIM_HIDDEN),
    ROW(layer, base.value.weight, "attention.self.value_proj.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, base.value.bias, "attention.self.value_proj.bias", RR_DIM_HIDDEN),
    OPTIONAL(layer, position_key.weight, "attention.self.pos_key_proj.weight", RR_DIM_HIDDEN,
             RR_DIM_HIDDEN),
    OPTIONAL(layer, position_key.bias, "attention.self.pos_key_proj.bias", RR_DIM_HIDDEN),
    OPTIONAL(layer, position_query.weight, "attention.self.pos_query_proj.weight", RR_DIM_HIDDEN,
             RR_DIM_HIDDEN),
    OPTIONAL(layer, position_query.bias, "attention.self.pos_query_proj.bias", RR_DIM_HIDDEN),
};

/* The scale counts the terms, as the paper has it: 1 / sqrt(terms * head_dim). */
static struct rr_op_attention attention(const struct rr_model_config *c, const struct embeddings *e,
                                        const struct layer *l)
{
    bool shared = c->relative.shared;
    const struct rr_weight *key = shared ? &l->base.key : &l->position_key;
    const struct rr_weight *query = shared ? &l->base.query : &l->position_query;
    int terms = 1 + c->relative.content_position + c->relative.position_content;

    return (struct rr_op_attention){
        .heads = c->heads,
        .head_dim = c->head_dim,
        .scale = (float)(1.0 / sqrt((double)c->head_dim * terms)),
        .relative = {
            .on = c->relative.on &&
                  (c->relative.content_position || c->relative.position_content),
            .content_position = c->relative.content_position,
            .position_content = c->relative.position_content,
            .table = e->distances,
            .gamma = c->relative.norm ? e->distance_norm.gamma : RR_NONE,
            .beta = c->relative.norm ? e->distance_norm.beta : RR_NONE,
            .eps = c->norm_eps,
            .key_weight = key->weight, .key_bias = key->bias,
            .query_weight = query->weight, .query_bias = query->bias,
            .span = c->relative.span,
            .buckets = c->relative.buckets,
            .max_distance = c->relative.max_distance,
        },
    };
}

static int bind_embeddings(struct rr_weights *w, const struct rr_model_config *c,
                           struct embeddings *e, struct rr_error *err)
{
    const char *prefix = "deberta.";
    int rc = rr_weights_bind(w, prefix, "", embedding_rows, RR_COUNT(embedding_rows), e, err);

    e->position = e->type = RR_NONE;
    if (!rc && c->relative.positions)
        rc = rr_weights_bind(w, prefix, "", position_rows, RR_COUNT(position_rows), e, err);
    if (!rc && c->types)
        rc = rr_weights_bind(w, prefix, "", type_rows, RR_COUNT(type_rows), e, err);
    if (!rc && c->relative.on)
        rc = rr_weights_bind(w, prefix, "", distance_rows, RR_COUNT(distance_rows), e, err);
    if (!rc && c->relative.on && c->relative.norm)
        rc = rr_weights_bind(w, prefix, "", distance_norm_rows, RR_COUNT(distance_norm_rows), e,
                             err);
    return rc;
}

static int bind_layer(struct rr_weights *w, const struct rr_model_config *c, uint32_t i,
                      struct layer *l, struct rr_error *err)
{
    char scope[48];
    int rc;

    snprintf(scope, sizeof(scope), "encoder.layer.%" PRIu32 ".", i);
    rc = rr_weights_bind(w, "deberta.", scope, layer_rows, RR_COUNT(layer_rows), l, err);
    if (!rc) rc = rr_layer_bind(w, "deberta.", scope, &l->base, err);
    if (rc || !c->relative.on || c->relative.shared) return rc;
    if ((c->relative.content_position && l->position_key.weight == RR_NONE) ||
        (c->relative.position_content && l->position_query.weight == RR_NONE))
        return rr_fail(err, RR_EFORMAT,
                       "%s: %sattention.self has no pos_key_proj or pos_query_proj, expected both "
                       "since share_att_key is false",
                       rr_checkpoint_path(w->checkpoint), scope);
    return RR_OK;
}

int rr_arch_deberta_build(struct rr_weights *w, const struct rr_model_config *c, uint32_t *output,
                          struct rr_error *err)
{
    struct rr_builder *b = w->builder;
    struct rr_registers r = rr_registers_add(b, c, 0);
    struct embeddings e;
    struct rr_head head;
    int rc;

    rr_weights_set_dims(w, c);
    rc = bind_embeddings(w, c, &e, err);
    if (rc) return rc;
    rr_builder_embed(
        b, r.tokens.x,
        &(struct rr_op_embed){ .word = e.word, .position = e.position, .type = e.type });
    rr_builder_layer_norm(b, r.tokens.x, r.tokens.x, &e.norm, c->norm_eps);
    for (uint32_t i = 0; i < c->layers && !rc; i++) {
        struct layer l;

        rc = bind_layer(w, c, i, &l, err);
        if (!rc) rr_layer_add(b, c, &r, &l.base, attention(c, &e, &l), rr_is_last(c, i));
    }
    if (!rc && c->modules.n) return rr_modules_add(w, &c->modules, &r, output, err);
    if (!rc) rc = rr_head_bind(w, "deberta.", &head, err);
    if (!rc) *output = rr_head_add(b, &r.last, &head, c->head_act);
    return rc;
}
