/* SPDX-License-Identifier: Apache-2.0 */
/* arch_modernbert.c - see arch_modernbert.h.  Layer: model (L4).
 *
 * A pre-norm encoder: x = norm(words), then per layer  x = x + out(attention(norm(x))),
 * x = x + down(act(a) * b) with (a, b) = up(norm(x)); a last norm.  Positions turn queries, keys.
 * Most layers see a window only.  The first layer has no norm of its own.  A head that reads the
 * first token needs only that row of the last layer. */
#include "model/arch_modernbert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "model/layers.h"
#include "model/rotary.h"

/* ---- config.json ---------------------------------------------------------------------------- */

static int read_layer_types(struct rr_model_config *c, const json_t *root, const char *where,
                            struct rr_error *err)
{
    const json_t *list = json_object_get(root, "layer_types");
    uint32_t every = 3;
    int rc;

    rc = rr_json_u32(root, where, "global_attn_every_n_layers", 1, RR_MAX_LAYERS, &every, err);
    if (rc) return rc;
    for (uint32_t i = 0; i < c->layers; i++) c->is_local[i] = i % every != 0;
    if (!list || json_is_null(list)) return RR_OK;
    if (json_array_size(list) != c->layers)
        return rr_fail(err, RR_EFORMAT,
                       "%s: layer_types has %zu entries, expected num_hidden_layers, %" PRIu32,
                       where, json_array_size(list), c->layers);
    for (uint32_t i = 0; i < c->layers; i++) {
        const char *name = json_string_value(json_array_get(list, i));

        c->is_local[i] = name && strcmp(name, "sliding_attention") == 0;
        if (!c->is_local[i] && (!name || strcmp(name, "full_attention") != 0))
            return rr_fail(err, RR_ENOTSUP,
                           "%s: layer_types[%" PRIu32 "] is \"%.40s\", expected full_attention or "
                           "sliding_attention",
                           where, i, name ? name : "not a string");
    }
    return RR_OK;
}

static int read_pooling(struct rr_model_config *c, const json_t *root, const char *where,
                        struct rr_error *err)
{
    struct rr_text name = { "cls", 3 };
    int rc = rr_json_text(root, where, "classifier_pooling", &name, err);

    if (rc) return rc;
    c->pool = rr_text_is(name, "mean") ? RR_OP_MEAN : RR_OP_FIRST;
    if (c->pool == RR_OP_MEAN || rr_text_is(name, "cls")) return RR_OK;
    return rr_fail(err, RR_ENOTSUP, "%s: classifier_pooling is \"%.40s\", expected cls or mean",
                   where, name.data);
}

int rr_arch_modernbert_read(struct rr_model_config *c, const json_t *root, const char *where,
                            struct rr_error *err)
{
    const unsigned gated =
        1u << RR_ACT_GELU | 1u << RR_ACT_SILU | 1u << RR_ACT_RELU | 1u << RR_ACT_GELU_TANH;
    uint32_t window = 128;
    int rc;

    c->norm_eps = 1e-5f;
    c->theta = 160000.0f;
    c->local_theta = 10000.0f;
    rc = rr_config_sizes(c, root, where, "norm_eps", err);
    if (!rc) rc = rr_config_even_heads(c, where, err);
    if (!rc && c->head_dim % 2)
        rc = rr_fail(err, RR_EFORMAT, "%s: heads of %" PRIu32 " columns, expected an even number",
                     where, c->head_dim);
    if (!rc) rc = read_layer_types(c, root, where, err);
    if (!rc) rc = rr_json_u32(root, where, "local_attention", 2, RR_CONFIG_MAX_ROWS, &window, err);
    if (!rc)
        rc = rr_rotary_read(&c->theta, root, where, "full_attention", "global_rope_theta", err);
    if (json_is_null(json_object_get(root, "local_rope_theta"))) /* not a missing one */
        c->local_theta = c->theta;
    if (!rc)
        rc = rr_rotary_read(&c->local_theta, root, where, "sliding_attention", "local_rope_theta",
                            err);
    if (!rc) rc = rr_config_act(&c->act, root, where, "hidden_activation", "gelu", gated, err);
    if (!rc)
        rc = rr_config_act(&c->head_act, root, where, "classifier_activation", "gelu",
                           1u << RR_ACT_GELU | 1u << RR_ACT_RELU | 1u << RR_ACT_TANH, err);
    if (!rc) rc = read_pooling(c, root, where, err);
    c->window = window / 2;
    if (!rc) /* another name of that half, which wins */
        rc = rr_json_u32(root, where, "sliding_window", 1, RR_CONFIG_MAX_ROWS / 2, &c->window, err);
    return rc;
}

/* ---- the network ---------------------------------------------------------------------------- */

struct embeddings {
    uint32_t word;
    struct rr_norm norm;
};

struct layer {
    struct rr_norm attention_norm; /* gamma RR_NONE: none */
    struct rr_weight qkv, out;
    struct rr_norm norm;
    struct rr_weight up, down;
};

struct head {
    struct rr_norm final; /* of the encoder */
    struct rr_weight dense;
    struct rr_norm norm;
    struct rr_weight classifier;
};

#define ROW RR_WEIGHT_ROW
#define OPTIONAL RR_WEIGHT_OPTIONAL

static const struct rr_weight_row embedding_rows[] = {
    ROW(embeddings, word, "tok_embeddings.weight", RR_DIM_VOCAB, RR_DIM_HIDDEN),
    ROW(embeddings, norm.gamma, "norm.weight", RR_DIM_HIDDEN),
    OPTIONAL(embeddings, norm.beta, "norm.bias", RR_DIM_HIDDEN),
};

static const struct rr_weight_row layer_rows[] = {
    OPTIONAL(layer, attention_norm.gamma, "attn_norm.weight", RR_DIM_HIDDEN),
    OPTIONAL(layer, attention_norm.beta, "attn_norm.bias", RR_DIM_HIDDEN),
    ROW(layer, qkv.weight, "attn.Wqkv.weight", RR_DIM_QKV, RR_DIM_HIDDEN),
    OPTIONAL(layer, qkv.bias, "attn.Wqkv.bias", RR_DIM_QKV),
    ROW(layer, out.weight, "attn.Wo.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    OPTIONAL(layer, out.bias, "attn.Wo.bias", RR_DIM_HIDDEN),
    ROW(layer, norm.gamma, "mlp_norm.weight", RR_DIM_HIDDEN),
    OPTIONAL(layer, norm.beta, "mlp_norm.bias", RR_DIM_HIDDEN),
    ROW(layer, up.weight, "mlp.Wi.weight", RR_DIM_GATED, RR_DIM_HIDDEN),
    OPTIONAL(layer, up.bias, "mlp.Wi.bias", RR_DIM_GATED),
    ROW(layer, down.weight, "mlp.Wo.weight", RR_DIM_HIDDEN, RR_DIM_INTERMEDIATE),
    OPTIONAL(layer, down.bias, "mlp.Wo.bias", RR_DIM_HIDDEN),
};

static const struct rr_weight_row final_rows[] = {
    ROW(head, final.gamma, "final_norm.weight", RR_DIM_HIDDEN),
    OPTIONAL(head, final.beta, "final_norm.bias", RR_DIM_HIDDEN),
};

static const struct rr_weight_row head_rows[] = {
    ROW(head, dense.weight, "head.dense.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    OPTIONAL(head, dense.bias, "head.dense.bias", RR_DIM_HIDDEN),
    ROW(head, norm.gamma, "head.norm.weight", RR_DIM_HIDDEN),
    OPTIONAL(head, norm.beta, "head.norm.bias", RR_DIM_HIDDEN),
    ROW(head, classifier.weight, "classifier.weight", RR_DIM_LABELS, RR_DIM_HIDDEN),
    ROW(head, classifier.bias, "classifier.bias", RR_DIM_LABELS),
};

struct build {
    struct rr_builder *b;
    const struct rr_model_config *c;
    uint32_t frequencies[2]; /* of global and local layers */
    struct rr_registers r;
};

static void add_rotary(const struct build *s, uint32_t reg, uint32_t col, uint32_t heads,
                       bool local)
{
    rr_builder_rotary(s->b, reg,
                      &(struct rr_op_rotary){ .col = col,
                                              .heads = heads,
                                              .head_dim = s->c->head_dim,
                                              .frequencies = s->frequencies[local],
                                              .gamma = RR_NONE });
}

static struct rr_op_attention attention(const struct build *s, uint32_t kv, bool local)
{
    struct rr_op_attention a = rr_attention_op(s->c);

    a.kv = kv;
    a.window = local ? s->c->window : 0;
    return a;
}

static void add_after_attention(const struct build *s, const struct layer *l,
                                const struct rr_row_regs *r)
{
    rr_builder_linear(s->b, r->x, r->context, &l->out, 1, RR_ACT_NONE, r->x);
    rr_builder_layer_norm(s->b, r->normed, r->x, &l->norm, s->c->norm_eps);
    rr_builder_linear(s->b, r->up, r->normed, &l->up, 1, RR_ACT_NONE, RR_NONE);
    rr_builder_glu(s->b, r->gated, r->up, s->c->act, false);
    rr_builder_linear(s->b, r->x, r->gated, &l->down, 1, RR_ACT_NONE, r->x);
}

/* What attention reads: the layer's norm of x, or x itself in a layer without one. */
static uint32_t add_attention_norm(const struct build *s, const struct layer *l)
{
    if (l->attention_norm.gamma == RR_NONE) return s->r.tokens.x;
    rr_builder_layer_norm(s->b, s->r.tokens.normed, s->r.tokens.x, &l->attention_norm,
                          s->c->norm_eps);
    return s->r.tokens.normed;
}

static void add_layer(const struct build *s, const struct layer *l, bool local)
{
    const struct rr_row_regs *r = &s->r.tokens;
    struct rr_op_attention a = attention(s, r->qkv, local);

    a.k_col = s->c->hidden;
    a.v_col = 2 * s->c->hidden;
    rr_builder_linear(s->b, r->qkv, add_attention_norm(s, l), &l->qkv, 1, RR_ACT_NONE, RR_NONE);
    add_rotary(s, r->qkv, 0, 2 * s->c->heads, local); /* queries and keys lie side by side */
    rr_builder_attention(s->b, r->context, r->qkv, &a);
    add_after_attention(s, l, r);
}

/* Keys and values of all tokens, the rest for the first token of each sequence. */
static void add_last_layer(const struct build *s, struct rr_weights *w, const struct layer *l,
                           bool local)
{
    const struct rr_row_regs *r = &s->r.last;
    uint32_t normed = add_attention_norm(s, l);
    struct rr_op_attention a = attention(s, s->r.kv, local);
    struct rr_weight q, kv;

    a.v_col = s->c->hidden;
    rr_weights_split_qkv(w, &l->qkv, s->c->hidden, &q, &kv);
    rr_builder_linear(s->b, s->r.kv, normed, &kv, 1, RR_ACT_NONE, RR_NONE);
    add_rotary(s, s->r.kv, 0, s->c->heads, local);
    rr_builder_pool(s->b, RR_OP_FIRST, r->normed, normed);
    rr_builder_pool(s->b, RR_OP_FIRST, r->x, s->r.tokens.x);
    rr_builder_linear(s->b, r->qkv, r->normed, &q, 1, RR_ACT_NONE, RR_NONE);
    add_rotary(s, r->qkv, 0, s->c->heads, local);
    rr_builder_attention(s->b, r->context, r->qkv, &a);
    add_after_attention(s, l, r);
}

/* Of the rows that the head reads: one of each sequence, or those that the mean is taken of. */
static void add_final_norm(const struct build *s, const struct head *h)
{
    uint32_t x = s->c->pool == RR_OP_MEAN ? s->r.tokens.x : s->r.last.x;

    rr_builder_layer_norm(s->b, x, x, &h->final, s->c->norm_eps);
}

static void add_head(const struct build *s, const struct head *h, uint32_t *output)
{
    const struct rr_row_regs *r = &s->r.last;

    if (s->c->pool == RR_OP_MEAN) rr_builder_pool(s->b, RR_OP_MEAN, r->x, s->r.tokens.x);
    rr_builder_linear(s->b, r->context, r->x, &h->dense, 1, s->c->head_act, RR_NONE);
    rr_builder_layer_norm(s->b, r->context, r->context, &h->norm, s->c->norm_eps);
    *output = rr_builder_register(s->b, 1, RR_ROWS_SEQUENCES);
    rr_builder_linear(s->b, *output, r->context, &h->classifier, 1, RR_ACT_NONE, RR_NONE);
}

static int add_layers(struct build *s, struct rr_weights *w, struct rr_error *err)
{
    const struct rr_model_config *c = s->c;

    for (uint32_t i = 0; i < c->layers; i++) {
        struct layer l;
        char scope[48];
        int rc;

        snprintf(scope, sizeof(scope), "layers.%" PRIu32 ".", i);
        rc = rr_weights_bind(w, "model.", scope, layer_rows, RR_COUNT(layer_rows), &l, err);
        if (rc) return rc;
        if (i > 0 && l.attention_norm.gamma == RR_NONE)
            return rr_fail(err, RR_EFORMAT, "%s: tensor model.%sattn_norm.weight is missing",
                           rr_checkpoint_path(w->checkpoint), scope);
        if (rr_is_last(c, i))
            add_last_layer(s, w, &l, c->is_local[i]);
        else
            add_layer(s, &l, c->is_local[i]);
    }
    return RR_OK;
}

int rr_arch_modernbert_build(struct rr_weights *w, const struct rr_model_config *c,
                             uint32_t *output, struct rr_error *err)
{
    struct build s = { .b = w->builder, .c = c };
    struct embeddings e;
    struct head h;
    int rc;

    rr_weights_set_dims(w, c);
    s.r = rr_registers_add(s.b, c, RR_REGISTERS_NORMED | RR_REGISTERS_GATED);
    rc = rr_rotary_tensor(w, c->theta, c->head_dim, 0, &s.frequencies[0], err);
    if (!rc) rc = rr_rotary_tensor(w, c->local_theta, c->head_dim, 0, &s.frequencies[1], err);
    if (!rc)
        rc = rr_weights_bind(w, "model.", "embeddings.", embedding_rows, RR_COUNT(embedding_rows),
                             &e, err);
    if (rc) return rc;
    rr_builder_embed(s.b, s.r.tokens.x,
                     &(struct rr_op_embed){ .word = e.word, .position = RR_NONE, .type = RR_NONE });
    rr_builder_layer_norm(s.b, s.r.tokens.x, s.r.tokens.x, &e.norm, s.c->norm_eps);
    rc = add_layers(&s, w, err);
    if (!rc) rc = rr_weights_bind(w, "model.", "", final_rows, RR_COUNT(final_rows), &h, err);
    if (rc) return rc;
    add_final_norm(&s, &h);
    if (c->modules.n) return rr_modules_add(w, &c->modules, &s.r, output, err);
    rc = rr_weights_bind(w, "", "", head_rows, RR_COUNT(head_rows), &h, err);
    if (rc) return rc;
    add_head(&s, &h, output);
    return RR_OK;
}
