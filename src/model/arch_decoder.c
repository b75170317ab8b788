/* SPDX-License-Identifier: Apache-2.0 */
/* arch_decoder.c - see arch_decoder.h.  Layer: model (L4).
 *
 * A pre-norm decoder: per layer  x = x + out(attention(norm(x))),  x = x + down(act(gate(y)) *
 * up(y)) with y = norm(x).  RMSNorms; rotary positions; a token sees those before it; several heads
 * of queries share one of keys and values.  The last token's row is judged, so the last layer
 * computes that row only. */
#include "model/arch_decoder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "model/layers.h"
#include "model/rotary.h"

/* ---- config.json ---------------------------------------------------------------------------- */

static int read_heads(struct rr_model_config *c, const json_t *root, const char *where,
                      struct rr_error *err)
{
    int rc = rr_json_u32(root, where, "num_key_value_heads", 1, c->heads, &c->kv_heads, err);

    if (!rc) rc = rr_json_u32(root, where, "head_dim", 1, 4096, &c->head_dim, err);
    if (rc) return rc;
    if (c->heads % c->kv_heads)
        return rr_fail(err, RR_EFORMAT,
                       "%s: num_key_value_heads is %" PRIu32 ", expected a divisor of "
                       "num_attention_heads, %" PRIu32,
                       where, c->kv_heads, c->heads);
    if (c->head_dim % 2 || (uint64_t)c->heads * c->head_dim > RR_CONFIG_MAX_WIDTH)
        return rr_fail(err, RR_EFORMAT,
                       "%s: %" PRIu32 " heads of %" PRIu32 " columns, expected an even number and "
                       "at most %u columns in all",
                       where, c->heads, c->head_dim, RR_CONFIG_MAX_WIDTH);
    return RR_OK;
}

/* Each of two fields can let tokens see those behind them. */
static int check_causal(const json_t *root, const char *where, struct rr_error *err)
{
    bool causal = true;
    int rc = rr_json_bool(root, where, "is_causal", &causal, err);

    if (!rc && !causal)
        rc = rr_fail(err, RR_ENOTSUP,
                     "%s: is_causal is false, supported is true: tokens that see those behind them "
                     "give other scores",
                     where);
    return rc ? rc : rr_config_off(root, where, "use_bidirectional_attention", err);
}

/* use_sliding_window is harmless where no layer has a window or all tokens fit in it.  Which layers
 * have one, and the defaults: Qwen2Config of transformers. */
static int check_window(const struct rr_model_config *c, const json_t *root, const char *where,
                        struct rr_error *err)
{
    const json_t *types = json_object_get(root, "layer_types"), *type;
    uint32_t window = 4096, first = 28;
    bool on = false, any;
    size_t i;
    int rc = rr_json_bool(root, where, "use_sliding_window", &on, err);

    if (!rc) rc = rr_json_u32(root, where, "sliding_window", 1, UINT32_MAX, &window, err);
    if (!rc) rc = rr_json_u32(root, where, "max_window_layers", 0, UINT32_MAX, &first, err);
    if (rc || !on || json_is_null(json_object_get(root, "sliding_window"))) return rc;
    any = !json_is_array(types) && first < c->layers;
    json_array_foreach(types, i, type)
    {
        const char *name = json_string_value(type);

        any = any || !name || strcmp(name, "full_attention") != 0;
    }
    if (!any || window >= c->positions) return RR_OK;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: use_sliding_window is true and layers have windows of %" PRIu32
                   " tokens, supported are layers that see all",
                   where, window);
}

int rr_arch_decoder_read(struct rr_model_config *c, const json_t *root, const char *where,
                         struct rr_error *err)
{
    bool gemma = strstr(c->architecture, "Gemma") != NULL;
    unsigned acts = 1u << RR_ACT_SILU | 1u << RR_ACT_GELU_TANH | (gemma ? 1u << RR_ACT_GELU : 0);
    int rc;

    c->norm_eps = 1e-6f;
    c->theta = 10000.0f;
    c->pool = RR_OP_LAST;
    c->decoder.tied = true;
    c->decoder.qk_norm = strstr(c->architecture, "Qwen3") != NULL;
    rc = rr_config_sizes(c, root, where, "rms_norm_eps", err);
    if (gemma) c->head_dim = 256; /* the reference's defaults, whatever the other sizes are */
    if (c->decoder.qk_norm) c->head_dim = 128;
    if (!rc) rc = read_heads(c, root, where, err);
    if (!rc) rc = rr_rotary_read(&c->theta, root, where, NULL, "rope_theta", err);
    if (!rc)
        rc = rr_config_act(&c->act, root, where, "hidden_act", gemma ? "gelu_pytorch_tanh" : "silu",
                           acts, err);
    if (!rc) rc = check_window(c, root, where, err);
    if (!rc) rc = check_causal(root, where, err);
    if (!rc) rc = rr_json_bool(root, where, "tie_word_embeddings", &c->decoder.tied, err);
    c->decoder.judge = strstr(c->architecture, "ForCausalLM") != NULL;
    if (gemma) {
        if (c->act == RR_ACT_GELU) c->act = RR_ACT_GELU_TANH; /* the first files mean this by it */
        c->decoder.gamma_plus_one = true;
        c->decoder.embed_scale = sqrtf((float)c->hidden);
    }
    return rc;
}

/* ---- the network ---------------------------------------------------------------------------- */

struct layer {
    uint32_t attention_norm, norm; /* gammas */
    struct rr_weight query, key, value, out;
    uint32_t query_norm, key_norm; /* gammas, or RR_NONE */
    struct rr_weight gate, up, down;
};

struct ends { /* what is not in a layer */
    uint32_t word, norm, output;
};

#define ROW RR_WEIGHT_ROW
#define OPTIONAL RR_WEIGHT_OPTIONAL

static const struct rr_weight_row end_rows[] = {
    ROW(ends, word, "embed_tokens.weight", RR_DIM_VOCAB, RR_DIM_HIDDEN),
    ROW(ends, norm, "norm.weight", RR_DIM_HIDDEN),
};
static const struct rr_weight_row output_rows[] = {
    OPTIONAL(ends, output, "lm_head.weight", RR_DIM_VOCAB, RR_DIM_HIDDEN), /* else tied to word */
};
static const struct rr_weight_row score_rows[] = {
    ROW(ends, output, "score.weight", RR_DIM_LABELS, RR_DIM_HIDDEN),
};

static const struct rr_weight_row layer_rows[] = {
    ROW(layer, attention_norm, "input_layernorm.weight", RR_DIM_HIDDEN),
    ROW(layer, query.weight, "self_attn.q_proj.weight", RR_DIM_QUERY, RR_DIM_HIDDEN),
    OPTIONAL(layer, query.bias, "self_attn.q_proj.bias", RR_DIM_QUERY),
    ROW(layer, key.weight, "self_attn.k_proj.weight", RR_DIM_KEY, RR_DIM_HIDDEN),
    OPTIONAL(layer, key.bias, "self_attn.k_proj.bias", RR_DIM_KEY),
    ROW(layer, value.weight, "self_attn.v_proj.weight", RR_DIM_KEY, RR_DIM_HIDDEN),
    OPTIONAL(layer, value.bias, "self_attn.v_proj.bias", RR_DIM_KEY),
    ROW(layer, out.weight, "self_attn.o_proj.weight", RR_DIM_HIDDEN, RR_DIM_QUERY),
    OPTIONAL(layer, out.bias, "self_attn.o_proj.bias", RR_DIM_HIDDEN),
    OPTIONAL(layer, query_norm, "self_attn.q_norm.weight", RR_DIM_HEAD),
    OPTIONAL(layer, key_norm, "self_attn.k_norm.weight", RR_DIM_HEAD),
    ROW(layer, norm, "post_attention_layernorm.weight", RR_DIM_HIDDEN),
    ROW(layer, gate.weight, "mlp.gate_proj.weight", RR_DIM_INTERMEDIATE, RR_DIM_HIDDEN),
    ROW(layer, up.weight, "mlp.up_proj.weight", RR_DIM_INTERMEDIATE, RR_DIM_HIDDEN),
    ROW(layer, down.weight, "mlp.down_proj.weight", RR_DIM_HIDDEN, RR_DIM_INTERMEDIATE),
};

struct build {
    struct rr_builder *b;
    struct rr_weights *w;
    const struct rr_model_config *c;
    uint32_t query_width, key_width, frequencies;
    struct rr_registers r;
};

static void add_norm(const struct build *s, uint32_t dst, uint32_t src, uint32_t gamma)
{
    rr_builder_norm(s->b, dst, src,
                    &(struct rr_op_norm){
                        .gamma = gamma, .beta = RR_NONE, .eps = s->c->norm_eps, .rms = true });
}

static void add_rotary(const struct build *s, uint32_t reg, uint32_t col, uint32_t heads,
                       uint32_t gamma)
{
    rr_builder_rotary(s->b, reg,
                      &(struct rr_op_rotary){ .col = col,
                                              .heads = heads,
                                              .head_dim = s->c->head_dim,
                                              .frequencies = s->frequencies,
                                              .gamma = gamma,
                                              .eps = s->c->norm_eps,
                                              .last = true });
}

static struct rr_op_attention attention(const struct build *s, uint32_t kv)
{
    struct rr_op_attention a = rr_attention_op(s->c);

    a.kv = kv;
    a.kv_heads = s->c->kv_heads;
    a.causal = a.last = true;
    return a;
}

static void add_after_attention(const struct build *s, const struct layer *l,
                                const struct rr_row_regs *r)
{
    struct rr_weight up[2] = { l->gate, l->up };

    rr_builder_linear(s->b, r->x, r->context, &l->out, 1, RR_ACT_NONE, r->x);
    add_norm(s, r->normed, r->x, l->norm);
    rr_builder_linear(s->b, r->up, r->normed, up, 2, RR_ACT_NONE, RR_NONE);
    rr_builder_glu(s->b, r->gated, r->up, s->c->act, false);
    rr_builder_linear(s->b, r->x, r->gated, &l->down, 1, RR_ACT_NONE, r->x);
}

static void add_layer(const struct build *s, const struct layer *l)
{
    struct rr_weight qkv[3] = { l->query, l->key, l->value };
    const struct rr_row_regs *r = &s->r.tokens;
    struct rr_op_attention a = attention(s, r->qkv);

    a.k_col = s->query_width;
    a.v_col = s->query_width + s->key_width;
    add_norm(s, r->normed, r->x, l->attention_norm);
    rr_builder_linear(s->b, r->qkv, r->normed, qkv, 3, RR_ACT_NONE, RR_NONE);
    add_rotary(s, r->qkv, 0, s->c->heads, l->query_norm);
    add_rotary(s, r->qkv, s->query_width, s->c->kv_heads, l->key_norm);
    rr_builder_attention(s->b, r->context, r->qkv, &a);
    add_after_attention(s, l, r);
}

static void add_last_layer(const struct build *s, const struct layer *l)
{
    struct rr_weight kv[2] = { l->key, l->value };
    const struct rr_row_regs *t = &s->r.tokens, *r = &s->r.last;
    struct rr_op_attention a = attention(s, s->r.kv);

    a.v_col = s->key_width;
    add_norm(s, t->normed, t->x, l->attention_norm);
    rr_builder_linear(s->b, s->r.kv, t->normed, kv, 2, RR_ACT_NONE, RR_NONE);
    add_rotary(s, s->r.kv, 0, s->c->kv_heads, l->key_norm);
    rr_builder_pool(s->b, RR_OP_LAST, r->normed, t->normed);
    rr_builder_pool(s->b, RR_OP_LAST, r->x, t->x);
    rr_builder_linear(s->b, r->qkv, r->normed, &l->query, 1, RR_ACT_NONE, RR_NONE);
    add_rotary(s, r->qkv, 0, s->c->heads, l->query_norm);
    rr_builder_attention(s->b, r->context, r->qkv, &a);
    add_after_attention(s, l, r);
}

/* Gemma stores gamma - 1. */
static int one_more(const struct build *s, uint32_t *gamma, struct rr_error *err)
{
    float *data;
    uint32_t made;
    int rc;

    if (!s->c->decoder.gamma_plus_one) return RR_OK;
    rc = rr_weights_make(s->w, "norm + 1", 0, s->c->hidden, &made, &data, err);
    if (rc) return rc;
    if (!s->b->failed) rr_weights_read(s->w, *gamma, 0, data);
    for (uint32_t i = 0; i < s->c->hidden; i++) data[i] += 1.0f;
    *gamma = made;
    return RR_OK;
}

static int add_layers(struct build *s, struct rr_error *err)
{
    for (uint32_t i = 0; i < s->c->layers; i++) {
        struct layer l;
        char scope[48];
        int rc;

        snprintf(scope, sizeof(scope), "layers.%" PRIu32 ".", i);
        rc = rr_weights_bind(s->w, "model.", scope, layer_rows, RR_COUNT(layer_rows), &l, err);
        if (!rc) rc = one_more(s, &l.attention_norm, err);
        if (!rc) rc = one_more(s, &l.norm, err);
        if (rc) return rc;
        if (s->c->decoder.qk_norm && (l.query_norm == RR_NONE || l.key_norm == RR_NONE))
            return rr_fail(err, RR_EFORMAT,
                           "%s: tensor model.%sself_attn.q_norm.weight or k_norm.weight is missing",
                           rr_checkpoint_path(s->w->checkpoint), scope);
        l.gate.bias = l.up.bias = l.down.bias = RR_NONE;
        if (i + 1 < s->c->layers)
            add_layer(s, &l);
        else
            add_last_layer(s, &l);
    }
    return RR_OK;
}

/* The one row that makes the logit: the classifier's, or one that rr_model_judge fills from the
 * output layer, which is the tensor before it. */
static int add_output(const struct build *s, struct ends *e, uint32_t *output, struct rr_error *err)
{
    struct rr_weight row = { RR_NONE, RR_NONE };
    float *zeros;
    int rc;

    if (!s->c->decoder.judge) {
        rc = rr_weights_bind(s->w, "", "", score_rows, RR_COUNT(score_rows), e, err);
        row.weight = e->output;
    } else {
        rc = rr_weights_bind(s->w, "", "", output_rows, RR_COUNT(output_rows), e, err);
        if (!rc && e->output == RR_NONE && !s->c->decoder.tied)
            rc = rr_fail(err, RR_EFORMAT,
                         "%s: tensor lm_head.weight is missing, expected since tie_word_embeddings "
                         "is false",
                         rr_checkpoint_path(s->w->checkpoint));
        if (e->output == RR_NONE) e->output = e->word;
        if (!rc) s->w->judge.table = e->output;
        if (!rc) rc = rr_weights_make(s->w, "judge", 1, s->c->hidden, &row.weight, &zeros, err);
        if (!rc) s->w->judge.row = zeros;
    }
    if (rc) return rc;
    *output = rr_builder_register(s->b, 1, RR_ROWS_SEQUENCES);
    rr_builder_linear(s->b, *output, s->r.last.x, &row, 1, RR_ACT_NONE, RR_NONE);
    return RR_OK;
}

int rr_arch_decoder_build(struct rr_weights *w, const struct rr_model_config *c, uint32_t *output,
                          struct rr_error *err)
{
    struct build s = { .b = w->builder,
                       .w = w,
                       .c = c,
                       .query_width = c->heads * c->head_dim,
                       .key_width = c->kv_heads * c->head_dim };
    struct ends e;
    int rc;

    rr_weights_set_dims(w, c);
    s.r = rr_registers_add(s.b, c, RR_REGISTERS_NORMED | RR_REGISTERS_GATED);
    rc = rr_rotary_tensor(w, c->theta, c->head_dim, 0, &s.frequencies, err);
    if (!rc) rc = rr_weights_bind(w, "model.", "", end_rows, RR_COUNT(end_rows), &e, err);
    if (!rc) rc = one_more(&s, &e.norm, err);
    if (rc) return rc;
    rr_builder_embed(s.b, s.r.tokens.x,
                     &(struct rr_op_embed){ .word = e.word,
                                            .position = RR_NONE,
                                            .type = RR_NONE,
                                            .scale = c->decoder.embed_scale });
    rc = add_layers(&s, err);
    if (rc) return rc;
    add_norm(&s, s.r.last.x, s.r.last.x, e.norm);
    return add_output(&s, &e, output, err);
}
