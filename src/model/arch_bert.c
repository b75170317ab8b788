/* SPDX-License-Identifier: Apache-2.0 */
/* arch_bert.c - see arch_bert.h.  Layer: model (L4).
 *
 * A post-norm encoder: embeddings, then per layer  x = norm(x + attention(x)),
 * x = norm(x + ffn(x)).  The head reads the first token only, so the last layer computes that row
 * only: keys and values of all tokens, everything else on one row per sequence. */
#include "model/arch_bert.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"

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

struct layer {
    struct rr_weight query, key, value, out; /* attention */
    struct rr_weight qkv;                    /* flash: the first three stacked */
    struct rr_norm attention_norm;
    struct rr_weight up, down; /* feed-forward */
    struct rr_norm norm;
};

struct head {
    struct rr_weight dense, classifier;
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

static const struct rr_weight_row layer_rows[] = {
    ROW(layer, query.weight, "attention.self.query.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, query.bias, "attention.self.query.bias", RR_DIM_HIDDEN),
    ROW(layer, key.weight, "attention.self.key.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, key.bias, "attention.self.key.bias", RR_DIM_HIDDEN),
    ROW(layer, value.weight, "attention.self.value.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, value.bias, "attention.self.value.bias", RR_DIM_HIDDEN),
    ROW(layer, out.weight, "attention.output.dense.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, out.bias, "attention.output.dense.bias", RR_DIM_HIDDEN),
    ROW(layer, attention_norm.gamma, "attention.output.LayerNorm.weight", RR_DIM_HIDDEN),
    ROW(layer, attention_norm.beta, "attention.output.LayerNorm.bias", RR_DIM_HIDDEN),
    ROW(layer, up.weight, "intermediate.dense.weight", RR_DIM_INTERMEDIATE, RR_DIM_HIDDEN),
    ROW(layer, up.bias, "intermediate.dense.bias", RR_DIM_INTERMEDIATE),
    ROW(layer, down.weight, "output.dense.weight", RR_DIM_HIDDEN, RR_DIM_INTERMEDIATE),
    ROW(layer, down.bias, "output.dense.bias", RR_DIM_HIDDEN),
    ROW(layer, norm.gamma, "output.LayerNorm.weight", RR_DIM_HIDDEN),
    ROW(layer, norm.beta, "output.LayerNorm.bias", RR_DIM_HIDDEN),
};

/* The same layers as "flash" implementations store them: queries, keys and values in one. */
static const struct rr_weight_row flash_rows[] = {
    ROW(layer, qkv.weight, "mixer.Wqkv.weight", RR_DIM_QKV, RR_DIM_HIDDEN),
    ROW(layer, qkv.bias, "mixer.Wqkv.bias", RR_DIM_QKV),
    ROW(layer, out.weight, "mixer.out_proj.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(layer, out.bias, "mixer.out_proj.bias", RR_DIM_HIDDEN),
    ROW(layer, attention_norm.gamma, "norm1.weight", RR_DIM_HIDDEN),
    ROW(layer, attention_norm.beta, "norm1.bias", RR_DIM_HIDDEN),
    ROW(layer, up.weight, "mlp.fc1.weight", RR_DIM_INTERMEDIATE, RR_DIM_HIDDEN),
    ROW(layer, up.bias, "mlp.fc1.bias", RR_DIM_INTERMEDIATE),
    ROW(layer, down.weight, "mlp.fc2.weight", RR_DIM_HIDDEN, RR_DIM_INTERMEDIATE),
    ROW(layer, down.bias, "mlp.fc2.bias", RR_DIM_HIDDEN),
    ROW(layer, norm.gamma, "norm2.weight", RR_DIM_HIDDEN),
    ROW(layer, norm.beta, "norm2.bias", RR_DIM_HIDDEN),
};
static const struct rr_weight_row flash_norm_rows[] = {
    ROW(embeddings, norm.gamma, "emb_ln.weight", RR_DIM_EMBEDDING),
    ROW(embeddings, norm.beta, "emb_ln.bias", RR_DIM_EMBEDDING),
};

/* The heads compute the same, under other names: BERT's first layer belongs to the network. */
static const struct rr_weight_row pooler_rows[] = {
    ROW(head, dense.weight, "pooler.dense.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(head, dense.bias, "pooler.dense.bias", RR_DIM_HIDDEN),
};

static const struct rr_weight_row bert_head_rows[] = {
    ROW(head, classifier.weight, "classifier.weight", RR_DIM_LABELS, RR_DIM_HIDDEN),
    ROW(head, classifier.bias, "classifier.bias", RR_DIM_LABELS),
};

static const struct rr_weight_row roberta_head_rows[] = {
    ROW(head, dense.weight, "classifier.dense.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(head, dense.bias, "classifier.dense.bias", RR_DIM_HIDDEN),
    ROW(head, classifier.weight, "classifier.out_proj.weight", RR_DIM_LABELS, RR_DIM_HIDDEN),
    ROW(head, classifier.bias, "classifier.out_proj.bias", RR_DIM_LABELS),
};

struct build { /* what the steps share */
    struct rr_builder *b;
    const struct rr_model_config *config;
    struct {
        uint32_t x, qkv, context, inner;
    } tokens; /* registers with a row per token */
    struct {
        uint32_t kv;                                      /* of tokens, last layer */
        uint32_t x, query, context, inner, pooled, logit; /* a row per sequence */
    } last;
};

static void add_registers(struct build *s)
{
    uint32_t h = s->config->hidden, inner = s->config->intermediate;

    s->tokens.x = rr_builder_register(s->b, h, RR_ROWS_TOKENS);
    if (s->config->layers > 1) {
        s->tokens.qkv = rr_builder_register(s->b, 3 * h, RR_ROWS_TOKENS);
        s->tokens.context = rr_builder_register(s->b, h, RR_ROWS_TOKENS);
        s->tokens.inner = rr_builder_register(s->b, inner, RR_ROWS_TOKENS);
    }
    s->last.kv = rr_builder_register(s->b, 2 * h, RR_ROWS_TOKENS);
    s->last.x = rr_builder_register(s->b, h, RR_ROWS_SEQUENCES);
    s->last.query = rr_builder_register(s->b, h, RR_ROWS_SEQUENCES);
    s->last.context = rr_builder_register(s->b, h, RR_ROWS_SEQUENCES);
    s->last.inner = rr_builder_register(s->b, inner, RR_ROWS_SEQUENCES);
    s->last.pooled = rr_builder_register(s->b, h, RR_ROWS_SEQUENCES);
    s->last.logit = rr_builder_register(s->b, 1, RR_ROWS_SEQUENCES);
}

static struct rr_op_attention attention(const struct rr_model_config *c, uint32_t kv)
{
    uint32_t head_dim = c->hidden / c->heads;

    return (struct rr_op_attention){
        .kv = kv,
        .heads = c->heads,
        .head_dim = head_dim,
        .scale = (float)(1.0 / sqrt((double)head_dim)),
    };
}

/* x = norm(x + out(context)); x = norm(x + down(act(up(x)))) on whatever rows x has. */
static void add_after_attention(const struct build *s, const struct layer *l, uint32_t x,
                                uint32_t context, uint32_t inner)
{
    rr_builder_linear(s->b, x, context, &l->out, 1, RR_ACT_NONE, x);
    rr_builder_layer_norm(s->b, x, x, &l->attention_norm, s->config->norm_eps);
    rr_builder_linear(s->b, inner, x, &l->up, 1, s->config->act, RR_NONE);
    rr_builder_linear(s->b, x, inner, &l->down, 1, RR_ACT_NONE, x);
    rr_builder_layer_norm(s->b, x, x, &l->norm, s->config->norm_eps);
}

static void add_layer(const struct build *s, const struct layer *l)
{
    struct rr_weight qkv[3] = { l->query, l->key, l->value };
    struct rr_op_attention a = attention(s->config, s->tokens.qkv);

    a.k_col = s->config->hidden;
    a.v_col = 2 * s->config->hidden;
    rr_builder_linear(s->b, s->tokens.qkv, s->tokens.x, qkv, 3, RR_ACT_NONE, RR_NONE);
    rr_builder_attention(s->b, s->tokens.context, s->tokens.qkv, &a);
    add_after_attention(s, l, s->tokens.x, s->tokens.context, s->tokens.inner);
}

static void add_last_layer(const struct build *s, const struct layer *l)
{
    struct rr_weight kv[2] = { l->key, l->value };
    struct rr_op_attention a = attention(s->config, s->last.kv);

    a.v_col = s->config->hidden;
    rr_builder_linear(s->b, s->last.kv, s->tokens.x, kv, 2, RR_ACT_NONE, RR_NONE);
    rr_builder_pool(s->b, RR_OP_FIRST, s->last.x, s->tokens.x);
    rr_builder_linear(s->b, s->last.query, s->last.x, &l->query, 1, RR_ACT_NONE, RR_NONE);
    rr_builder_attention(s->b, s->last.context, s->last.query, &a);
    add_after_attention(s, l, s->last.x, s->last.context, s->last.inner);
}

/* jinaai/jina-reranker-v2 and others of its implementation. */
static bool is_flash(const struct rr_weights *w, const char *prefix)
{
    char name[64];

    snprintf(name, sizeof(name), "%sencoder.layers.0.mixer.Wqkv.weight", prefix);
    return rr_checkpoint_find(w->checkpoint, name) != NULL;
}

static int bind_layer(struct rr_weights *w, const char *prefix, uint32_t i, struct layer *l,
                      struct rr_error *err)
{
    uint32_t h = w->dim[RR_DIM_HIDDEN];
    struct rr_weight *parts[3] = { &l->query, &l->key, &l->value };
    char scope[48];
    int rc;

    if (!is_flash(w, prefix)) {
        snprintf(scope, sizeof(scope), "encoder.layer.%" PRIu32 ".", i);
        return rr_weights_bind(w, prefix, scope, layer_rows, RR_COUNT(layer_rows), l, err);
    }
    snprintf(scope, sizeof(scope), "encoder.layers.%" PRIu32 ".", i);
    rc = rr_weights_bind(w, prefix, scope, flash_rows, RR_COUNT(flash_rows), l, err);
    for (uint32_t k = 0; k < 3 && !rc; k++) {
        parts[k]->weight = rr_weights_rows(w, l->qkv.weight, k * h, h);
        parts[k]->bias = rr_weights_rows(w, l->qkv.bias, k * h, h);
    }
    return rc;
}

static int bind_head(struct rr_weights *w, const char *prefix, enum rr_family family,
                     struct head *head, struct rr_error *err)
{
    int rc;

    if (family != RR_FAMILY_BERT)
        return rr_weights_bind(w, "", "", roberta_head_rows, RR_COUNT(roberta_head_rows), head,
                               err);
    rc = rr_weights_bind(w, prefix, "", pooler_rows, RR_COUNT(pooler_rows), head, err);
    if (rc) return rc;
    return rr_weights_bind(w, "", "", bert_head_rows, RR_COUNT(bert_head_rows), head, err);
}

static void set_dims(struct rr_weights *w, const struct rr_model_config *c)
{
    w->dim[RR_DIM_LABELS] = 1;
    w->dim[RR_DIM_VOCAB] = c->vocab;
    w->dim[RR_DIM_POSITIONS] = c->positions;
    w->dim[RR_DIM_TYPES] = c->types;
    w->dim[RR_DIM_HIDDEN] = c->hidden;
    w->dim[RR_DIM_EMBEDDING] = c->embedding;
    w->dim[RR_DIM_QKV] = 3 * c->hidden;
    w->dim[RR_DIM_INTERMEDIATE] = c->intermediate;
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
static int add_embeddings(const struct build *s, struct rr_weights *w, const char *prefix,
                          struct rr_error *err)
{
    bool narrow = s->config->embedding != s->config->hidden;
    uint32_t x = s->tokens.x;
    struct embeddings e;
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
    if (narrow) x = rr_builder_register(s->b, s->config->embedding, RR_ROWS_TOKENS);
    rr_builder_embed(
        s->b, x, &(struct rr_op_embed){ .word = e.word, .position = e.position, .type = e.type });
    rr_builder_layer_norm(s->b, x, x, &e.norm, s->config->norm_eps);
    if (narrow) rr_builder_linear(s->b, s->tokens.x, x, &e.project, 1, RR_ACT_NONE, RR_NONE);
    return RR_OK;
}

int rr_arch_bert_build(struct rr_weights *w, const struct rr_model_config *config, uint32_t *output,
                       struct rr_error *err)
{
    const char *prefix = prefix_of(config->family);
    struct build s = { .b = w->builder, .config = config };
    struct layer l;
    struct head head;
    int rc;

    set_dims(w, config);
    add_registers(&s);
    rc = add_embeddings(&s, w, prefix, err);
    if (rc) return rc;
    for (uint32_t i = 0; i < config->layers; i++) {
        rc = bind_layer(w, prefix, i, &l, err);
        if (rc) return rc;
        if (i + 1 < config->layers)
            add_layer(&s, &l);
        else
            add_last_layer(&s, &l);
    }
    rc = bind_head(w, prefix, config->family, &head, err);
    if (rc) return rc;
    rr_builder_linear(s.b, s.last.pooled, s.last.x, &head.dense, 1, config->head_act, RR_NONE);
    rr_builder_linear(s.b, s.last.logit, s.last.pooled, &head.classifier, 1, RR_ACT_NONE, RR_NONE);
    *output = s.last.logit;
    return RR_OK;
}
