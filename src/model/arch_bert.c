/* SPDX-License-Identifier: Apache-2.0 */
/* arch_bert.c - see arch_bert.h.  Layer: model (L4).
 *
 * A post-norm encoder: embeddings, then per layer  x = norm(x + attention(x)),
 * x = norm(x + ffn(x)).  The head reads the first token only, so the last layer computes that row
 * only: keys and values of all tokens, everything else on one row per sequence. */
#include "model/arch_bert.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "model/layers.h"

/* ---- config.json ---------------------------------------------------------------------------- */

/* Variants of the networks that would need other operations. */
static int check_variants(const json_t *root, const char *where, struct rr_error *err)
{
    struct rr_text position = { "absolute", 8 };
    int rc = rr_json_text(root, where, "position_embedding_type", &position, err);

    if (rc) return rc;
    if (!rr_text_is(position, "absolute"))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: position_embedding_type is \"%.60s\", supported is absolute", where,
                       position.data);
    rc = rr_config_off(root, where, "is_decoder", err);
    if (!rc) rc = rr_config_off(root, where, "add_cross_attention", err);
    return rc;
}

/* The RoBERTa family counts positions from pad_token_id + 1, so that its table is longer than the
 * longest sequence. */
static int derive_max_length(struct rr_model_config *c, const char *where, struct rr_error *err)
{
    uint32_t reserved = c->family == RR_FAMILY_ROBERTA ? c->pad_id + 1 : 0;

    if (c->positions <= reserved)
        return rr_fail(err, RR_EFORMAT,
                       "%s: max_position_embeddings is %" PRIu32 ", expected more "
                       "than pad_token_id + 1, %" PRIu32,
                       where, c->positions, reserved);
    c->max_length = c->positions - reserved;
    return RR_OK;
}

int rr_arch_bert_read(struct rr_model_config *c, const json_t *root, const char *where,
                      struct rr_error *err)
{
    int rc = check_variants(root, where, err);

    c->types = 2; /* the reference's defaults */
    c->norm_eps = 1e-12f;
    if (!rc) rc = rr_config_sizes(c, root, where, "layer_norm_eps", err);
    if (!rc) rc = rr_config_even_heads(c, where, err);
    if (!rc)
        rc = rr_json_u32(root, where, "type_vocab_size", 1, RR_CONFIG_MAX_ROWS, &c->types, err);
    c->embedding = c->hidden;
    if (c->family == RR_FAMILY_ELECTRA) c->embedding = 128;
    if (!rc && c->family == RR_FAMILY_ELECTRA)
        rc = rr_json_u32(root, where, "embedding_size", 1, RR_CONFIG_MAX_WIDTH, &c->embedding, err);
    c->head_act = c->family == RR_FAMILY_ELECTRA ? RR_ACT_GELU : RR_ACT_TANH;
    if (!rc) rc = derive_max_length(c, where, err);
    if (!rc)
        rc = rr_config_act(&c->act, root, where, "hidden_act", "gelu",
                           1u << RR_ACT_GELU | 1u << RR_ACT_RELU, err);
    return rc;
}

/* ---- the network ---------------------------------------------------------------------------- */

struct embeddings {
    uint32_t word, position, type;
    struct rr_norm norm;
    struct rr_weight project;
};

struct flash_layer { /* queries, keys and values stacked */
    struct rr_layer layer;
    struct rr_weight qkv;
};

#define ROW RR_WEIGHT_ROW

static const struct rr_weight_row embedding_rows[] = {
    ROW(embeddings, word, "word_embeddings.weight", RR_DIM_VOCAB, RR_DIM_EMBEDDING),
    ROW(embeddings, position, "position_embeddings.weight", RR_DIM_POSITIONS, RR_DIM_EMBEDDING),
    ROW(embeddings, type, "token_type_embeddings.weight", RR_DIM_TYPES, RR_DIM_EMBEDDING),
};
static const struct rr_weight_row embedding_norm_rows[] = {
    ROW(embeddings, norm.gamma, "LayerNorm.weight", RR_DIM_EMBEDDING),
    ROW(embeddings, norm.beta, "LayerNorm.bias", RR_DIM_EMBEDDING),
};

/* Of networks whose tables are narrower than their layers. */
static const struct rr_weight_row projection_rows[] = {
    ROW(embeddings, project.weight, "embeddings_project.weight", RR_DIM_HIDDEN, RR_DIM_EMBEDDING),
    ROW(embeddings, project.bias, "embeddings_project.bias", RR_DIM_HIDDEN),
};

static const struct rr_weight_row qkv_rows[] = {
    ROW(rr_layer, query.weight, "attention.self.query.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(rr_layer, query.bias, "attention.self.query.bias", RR_DIM_HIDDEN),
    ROW(rr_layer, key.weight, "attention.self.key.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(rr_layer, key.bias, "attention.self.key.bias", RR_DIM_HIDDEN),
    ROW(rr_layer, value.weight, "attention.self.value.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(rr_layer, value.bias, "attention.self.value.bias", RR_DIM_HIDDEN),
};

/* The same layers as "flash" implementations store them: queries, keys and values in one. */
static const struct rr_weight_row flash_rows[] = {
    ROW(flash_layer, qkv.weight, "mixer.Wqkv.weight", RR_DIM_QKV, RR_DIM_HIDDEN),
    ROW(flash_layer, qkv.bias, "mixer.Wqkv.bias", RR_DIM_QKV),
    ROW(flash_layer, layer.out.weight, "mixer.out_proj.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(flash_layer, layer.out.bias, "mixer.out_proj.bias", RR_DIM_HIDDEN),
    ROW(flash_layer, layer.attention_norm.gamma, "norm1.weight", RR_DIM_HIDDEN),
    ROW(flash_layer, layer.attention_norm.beta, "norm1.bias", RR_DIM_HIDDEN),
    ROW(flash_layer, layer.up.weight, "mlp.fc1.weight", RR_DIM_INTERMEDIATE, RR_DIM_HIDDEN),
    ROW(flash_layer, layer.up.bias, "mlp.fc1.bias", RR_DIM_INTERMEDIATE),
    ROW(flash_layer, layer.down.weight, "mlp.fc2.weight", RR_DIM_HIDDEN, RR_DIM_INTERMEDIATE),
    ROW(flash_layer, layer.down.bias, "mlp.fc2.bias", RR_DIM_HIDDEN),
    ROW(flash_layer, layer.norm.gamma, "norm2.weight", RR_DIM_HIDDEN),
    ROW(flash_layer, layer.norm.beta, "norm2.bias", RR_DIM_HIDDEN),
};
static const struct rr_weight_row flash_norm_rows[] = {
    ROW(embeddings, norm.gamma, "emb_ln.weight", RR_DIM_EMBEDDING),
    ROW(embeddings, norm.beta, "emb_ln.bias", RR_DIM_EMBEDDING),
};

/* The same head as BERT's, under other names. */
static const struct rr_weight_row roberta_head_rows[] = {
    ROW(rr_head, dense.weight, "classifier.dense.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(rr_head, dense.bias, "classifier.dense.bias", RR_DIM_HIDDEN),
    ROW(rr_head, classifier.weight, "classifier.out_proj.weight", RR_DIM_LABELS, RR_DIM_HIDDEN),
    ROW(rr_head, classifier.bias, "classifier.out_proj.bias", RR_DIM_LABELS),
};

/* jinaai/jina-reranker-v2 and others of its implementation. */
static bool is_flash(const struct rr_weights *w, const char *prefix)
{
    char name[64];

    snprintf(name, sizeof(name), "%sencoder.layers.0.mixer.Wqkv.weight", prefix);
    return rr_checkpoint_find(w->checkpoint, name) != NULL;
}

static int bind_layer(struct rr_weights *w, const char *prefix, uint32_t i, struct rr_layer *l,
                      struct rr_error *err)
{
    uint32_t h = w->dim[RR_DIM_HIDDEN];
    struct rr_weight *parts[3] = { &l->query, &l->key, &l->value };
    struct flash_layer flash;
    char scope[48];
    int rc;

    if (!is_flash(w, prefix)) {
        snprintf(scope, sizeof(scope), "encoder.layer.%" PRIu32 ".", i);
        rc = rr_weights_bind(w, prefix, scope, qkv_rows, RR_COUNT(qkv_rows), l, err);
        return rc ? rc : rr_layer_bind(w, prefix, scope, l, err);
    }
    snprintf(scope, sizeof(scope), "encoder.layers.%" PRIu32 ".", i);
    rc = rr_weights_bind(w, prefix, scope, flash_rows, RR_COUNT(flash_rows), &flash, err);
    if (rc) return rc;
    *l = flash.layer;
    for (uint32_t k = 0; k < 3; k++) {
        parts[k]->weight = rr_weights_rows(w, flash.qkv.weight, k * h, h);
        parts[k]->bias = rr_weights_rows(w, flash.qkv.bias, k * h, h);
    }
    return RR_OK;
}

static const char *prefix_of(enum rr_family family)
{
    switch (family) {
    case RR_FAMILY_BERT: return "bert.";
    case RR_FAMILY_ELECTRA: return "electra.";
    default: return "roberta.";
    }
}

/* x = norm(words + positions + types), widened where the tables are narrow. */
static int add_embeddings(struct rr_weights *w, const struct rr_model_config *c, const char *prefix,
                          uint32_t x, struct rr_error *err)
{
    bool narrow = c->embedding != c->hidden;
    struct rr_builder *b = w->builder;
    struct embeddings e;
    uint32_t sum = x;
    int rc = rr_weights_bind(w, prefix, "embeddings.", embedding_rows, RR_COUNT(embedding_rows), &e,
                             err);

    if (!rc && is_flash(w, prefix))
        rc = rr_weights_bind(w, prefix, "", flash_norm_rows, RR_COUNT(flash_norm_rows), &e, err);
    else if (!rc)
        rc = rr_weights_bind(w, prefix, "embeddings.", embedding_norm_rows,
                             RR_COUNT(embedding_norm_rows), &e, err);
    if (!rc && narrow)
        rc = rr_weights_bind(w, prefix, "", projection_rows, RR_COUNT(projection_rows), &e, err);
    if (rc) return rc;
    if (narrow) sum = rr_builder_register(b, c->embedding, RR_ROWS_TOKENS);
    rr_builder_embed(
        b, sum, &(struct rr_op_embed){ .word = e.word, .position = e.position, .type = e.type });
    rr_builder_layer_norm(b, sum, sum, &e.norm, c->norm_eps);
    if (narrow) rr_builder_linear(b, x, sum, &e.project, 1, RR_ACT_NONE, RR_NONE);
    return RR_OK;
}

int rr_arch_bert_build(struct rr_weights *w, const struct rr_model_config *c, uint32_t *output,
                       struct rr_error *err)
{
    struct rr_registers r = rr_registers_add(w->builder, c, 0);
    const char *prefix = prefix_of(c->family);
    struct rr_head head;
    int rc;

    rr_weights_set_dims(w, c);
    rc = add_embeddings(w, c, prefix, r.tokens.x, err);
    for (uint32_t i = 0; i < c->layers && !rc; i++) {
        struct rr_layer l;

        rc = bind_layer(w, prefix, i, &l, err);
        if (!rc) rr_layer_add(w->builder, c, &r, &l, rr_attention_op(c), rr_is_last(c, i));
    }
    if (!rc && c->modules.n) return rr_modules_add(w, &c->modules, &r, output, err);
    if (!rc && c->family == RR_FAMILY_BERT)
        rc = rr_head_bind(w, prefix, &head, err);
    else if (!rc)
        rc = rr_weights_bind(w, "", "", roberta_head_rows, RR_COUNT(roberta_head_rows), &head, err);
    if (!rc) *output = rr_head_add(w->builder, &r.last, &head, c->head_act);
    return rc;
}
