/* SPDX-License-Identifier: Apache-2.0 */
/* arch_gte.c - see arch_gte.h.  Layer: model (L4).
 *
 * BERT with rotary positions and gated units: per layer  x = norm(x + out(attention(x))),
 * x = norm(x + down(a * act(b))) with (a, b) = up(x).  The head reads the first token only, so the
 * last layer computes that row only. */
#include "model/arch_gte.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "model/layers.h"
#include "model/rotary.h"

/* ---- config.json ---------------------------------------------------------------------------- */

/* One of two words. */
static int read_choice(bool *second, const json_t *root, const char *where, const char *key,
                       const char *const words[2], struct rr_error *err)
{
    struct rr_text found = rr_text(words[0]);
    int rc = rr_json_text(root, where, key, &found, err);

    if (rc) return rc;
    *second = rr_text_is(found, words[1]);
    if (*second || rr_text_is(found, words[0])) return RR_OK;
    return rr_fail(err, RR_ENOTSUP, "%s: %s is \"%.40s\", expected %s or %s", where, key,
                   found.data, words[0], words[1]);
}

int rr_arch_gte_read(struct rr_model_config *c, const json_t *root, const char *where,
                     struct rr_error *err)
{
    static const char *const norms[2] = { "layer_norm", "rms_norm" };
    static const char *const positions[2] = { "rope", "absolute" };
    bool rms = false, absolute = false;
    int rc;

    c->norm_eps = 1e-12f;
    c->theta = 10000.0f;
    c->types = 1;
    rc = rr_config_sizes(c, root, where, "layer_norm_eps", err);
    if (!rc) rc = rr_config_even_heads(c, where, err);
    if (!rc && c->head_dim % 2)
        rc = rr_fail(err, RR_EFORMAT, "%s: heads of %" PRIu32 " columns, expected an even number",
                     where, c->head_dim);
    if (!rc)
        rc = rr_json_u32(root, where, "type_vocab_size", 0, RR_CONFIG_MAX_ROWS, &c->types, err);
    if (!rc) rc = read_choice(&rms, root, where, "layer_norm_type", norms, err);
    if (!rc) rc = read_choice(&absolute, root, where, "position_embedding_type", positions, err);
    if (!rc && absolute)
        rc = rr_fail(err, RR_ENOTSUP,
                     "%s: position_embedding_type is \"absolute\", supported is rope", where);
    if (!rc && rms)
        rc = rr_fail(err, RR_ENOTSUP,
                     "%s: layer_norm_type is \"rms_norm\", supported is layer_norm", where);
    if (!rc) rc = rr_config_off(root, where, "logn_attention_scale", err);
    if (!rc) rc = rr_rotary_read_ntk(c, root, where, err);
    if (!rc)
        rc = rr_config_act(&c->act, root, where, "hidden_act", "gelu",
                           1u << RR_ACT_GELU | 1u << RR_ACT_SILU | 1u << RR_ACT_RELU, err);
    return rc;
}

/* ---- the network ---------------------------------------------------------------------------- */

struct embeddings {
    uint32_t word, type;
    struct rr_norm norm;
};

struct layer {
    struct rr_weight qkv, out;
    struct rr_norm attention_norm;
    struct rr_weight up, down;
    struct rr_norm norm;
};

#define ROW RR_WEIGHT_ROW
#define OPTIONAL RR_WEIGHT_OPTIONAL

static const struct rr_weight_row embedding_rows[] = {
    ROW(embeddings, word, "word_embeddings.weight", RR_DIM_VOCAB, RR_DIM_HIDDEN),
    ROW(embeddings, norm.gamma, "LayerNorm.weight", RR_DIM_HIDDEN),
    ROW(embeddings, norm.beta, "LayerNorm.bias", RR_DIM_HIDDEN),
};
static const struct rr_weight_row type_rows[] = {
    ROW(embeddings, type, "token_type_embeddings.weight", RR_DIM_TYPES, RR_DIM_HIDDEN),
};

static const struct rr_weight_row layer_rows[] = {
    ROW(layer, qkv.weight, "attention.qkv_proj.weight", RR_DIM_QKV, RR_DIM_HIDDEN),
    OPTIONAL(layer, qkv.bias, "attention.qkv_proj.bias", RR_DIM_QKV),
    ROW(layer, out.weight, "attention.o_proj.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    OPTIONAL(layer, out.bias, "attention.o_proj.bias", RR_DIM_HIDDEN),
    ROW(layer, attention_norm.gamma, "attn_ln.weight", RR_DIM_HIDDEN),
    ROW(layer, attention_norm.beta, "attn_ln.bias", RR_DIM_HIDDEN),
    ROW(layer, up.weight, "mlp.up_gate_proj.weight", RR_DIM_GATED, RR_DIM_HIDDEN),
    OPTIONAL(layer, up.bias, "mlp.up_gate_proj.bias", RR_DIM_GATED),
    ROW(layer, down.weight, "mlp.down_proj.weight", RR_DIM_HIDDEN, RR_DIM_INTERMEDIATE),
    OPTIONAL(layer, down.bias, "mlp.down_proj.bias", RR_DIM_HIDDEN),
    ROW(layer, norm.gamma, "mlp_ln.weight", RR_DIM_HIDDEN),
    ROW(layer, norm.beta, "mlp_ln.bias", RR_DIM_HIDDEN),
};

struct build {
    struct rr_builder *b;
    struct rr_weights *w;
    const struct rr_model_config *c;
    uint32_t frequencies;
    struct rr_registers r;
};

static void add_rotary(const struct build *s, uint32_t reg, uint32_t heads)
{
    rr_builder_rotary(s->b, reg,
                      &(struct rr_op_rotary){ .heads = heads,
                                              .head_dim = s->c->head_dim,
                                              .frequencies = s->frequencies,
                                              .gamma = RR_NONE });
}

static void add_after_attention(const struct build *s, const struct layer *l,
                                const struct rr_row_regs *r)
{
    rr_builder_linear(s->b, r->x, r->context, &l->out, 1, RR_ACT_NONE, r->x);
    rr_builder_layer_norm(s->b, r->x, r->x, &l->attention_norm, s->c->norm_eps);
    rr_builder_linear(s->b, r->up, r->x, &l->up, 1, RR_ACT_NONE, RR_NONE);
    rr_builder_glu(s->b, r->gated, r->up, s->c->act, true);
    rr_builder_linear(s->b, r->x, r->gated, &l->down, 1, RR_ACT_NONE, r->x);
    rr_builder_layer_norm(s->b, r->x, r->x, &l->norm, s->c->norm_eps);
}

static void add_layer(const struct build *s, const struct layer *l)
{
    const struct rr_row_regs *r = &s->r.tokens;
    struct rr_op_attention a = rr_attention_op(s->c);

    a.kv = r->qkv;
    a.k_col = s->c->hidden;
    a.v_col = 2 * s->c->hidden;
    rr_builder_linear(s->b, r->qkv, r->x, &l->qkv, 1, RR_ACT_NONE, RR_NONE);
    add_rotary(s, r->qkv, 2 * s->c->heads); /* queries and keys lie side by side */
    rr_builder_attention(s->b, r->context, r->qkv, &a);
    add_after_attention(s, l, r);
}

static void add_last_layer(const struct build *s, const struct layer *l)
{
    const struct rr_row_regs *r = &s->r.last;
    struct rr_op_attention a = rr_attention_op(s->c);
    struct rr_weight q, kv;

    a.kv = s->r.kv;
    a.v_col = s->c->hidden;
    rr_weights_split_qkv(s->w, &l->qkv, s->c->hidden, &q, &kv);
    rr_builder_linear(s->b, s->r.kv, s->r.tokens.x, &kv, 1, RR_ACT_NONE, RR_NONE);
    add_rotary(s, s->r.kv, s->c->heads);
    rr_builder_pool(s->b, RR_OP_FIRST, r->x, s->r.tokens.x);
    rr_builder_linear(s->b, r->qkv, r->x, &q, 1, RR_ACT_NONE, RR_NONE);
    add_rotary(s, r->qkv, s->c->heads);
    rr_builder_attention(s->b, r->context, r->qkv, &a);
    add_after_attention(s, l, r);
}

static int add_embeddings(const struct build *s, struct rr_error *err)
{
    struct embeddings e = { .type = RR_NONE };
    int rc = rr_weights_bind(s->w, "new.", "embeddings.", embedding_rows, RR_COUNT(embedding_rows),
                             &e, err);

    if (!rc && s->c->types)
        rc = rr_weights_bind(s->w, "new.", "embeddings.", type_rows, RR_COUNT(type_rows), &e, err);
    if (rc) return rc;
    rr_builder_embed(s->b, s->r.tokens.x,
                     &(struct rr_op_embed){ .word = e.word, .position = RR_NONE, .type = e.type });
    rr_builder_layer_norm(s->b, s->r.tokens.x, s->r.tokens.x, &e.norm, s->c->norm_eps);
    return RR_OK;
}

int rr_arch_gte_build(struct rr_weights *w, const struct rr_model_config *c, uint32_t *output,
                      struct rr_error *err)
{
    struct build s = { .b = w->builder, .w = w, .c = c };
    struct rr_head head;
    int rc;

    rr_weights_set_dims(w, c);
    s.r = rr_registers_add(s.b, c, RR_REGISTERS_GATED);
    rc = rr_rotary_tensor(w, c->theta, c->head_dim, c->rotary_divisor, &s.frequencies, err);
    if (!rc) rc = add_embeddings(&s, err);
    for (uint32_t i = 0; i < c->layers && !rc; i++) {
        struct layer l;
        char scope[48];

        snprintf(scope, sizeof(scope), "encoder.layer.%" PRIu32 ".", i);
        rc = rr_weights_bind(w, "new.", scope, layer_rows, RR_COUNT(layer_rows), &l, err);
        if (rc) return rc;
        if (i + 1 < c->layers)
            add_layer(&s, &l);
        else
            add_last_layer(&s, &l);
    }
    if (!rc) rc = rr_head_bind(w, "new.", &head, err);
    if (!rc) *output = rr_head_add(s.b, &s.r.last, &head, RR_ACT_TANH);
    return rc;
}
