/* SPDX-License-Identifier: Apache-2.0 */
/* layers.c - see layers.h.  Layer: model (L4). */
#include "model/layers.h"

#include <math.h>

#include "base/err.h"

/* ---- registers ------------------------------------------------------------------------------- */

static struct rr_row_regs add_rows(struct rr_builder *b, const struct rr_model_config *c,
                                   unsigned flags, uint32_t qkv, enum rr_rows rows)
{
    bool gated = flags & RR_REGISTERS_GATED;
    struct rr_row_regs r = { .normed = RR_NONE, .gated = RR_NONE };

    r.x = rr_builder_register(b, c->hidden, rows);
    if (flags & RR_REGISTERS_NORMED) r.normed = rr_builder_register(b, c->hidden, rows);
    r.qkv = rr_builder_register(b, qkv, rows);
    r.context = rr_builder_register(b, c->heads * c->head_dim, rows);
    r.up = rr_builder_register(b, gated ? 2 * c->intermediate : c->intermediate, rows);
    if (gated) r.gated = rr_builder_register(b, c->intermediate, rows);
    return r;
}

struct rr_registers rr_registers_add(struct rr_builder *b, const struct rr_model_config *c,
                                     unsigned flags)
{
    uint32_t query = c->heads * c->head_dim, kv = 2 * c->kv_heads * c->head_dim;
    struct rr_registers r;

    r.tokens = add_rows(b, c, flags, query + kv, RR_ROWS_TOKENS);
    r.last = add_rows(b, c, flags, query, RR_ROWS_SEQUENCES);
    r.kv = rr_builder_register(b, kv, RR_ROWS_TOKENS);
    return r;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

void rr_weights_set_dims(struct rr_weights *w, const struct rr_model_config *c)
{
    w->dim[RR_DIM_LABELS] = 1;
    w->dim[RR_DIM_VOCAB] = c->vocab;
    w->dim[RR_DIM_POSITIONS] = c->positions;
    w->dim[RR_DIM_TYPES] = c->types;
    w->dim[RR_DIM_HIDDEN] = c->hidden;
    w->dim[RR_DIM_EMBEDDING] = c->embedding;
    w->dim[RR_DIM_INTERMEDIATE] = c->intermediate;
    w->dim[RR_DIM_GATED] = 2 * c->intermediate;
    w->dim[RR_DIM_HEAD] = c->head_dim;
    w->dim[RR_DIM_QUERY] = c->heads * c->head_dim;
    w->dim[RR_DIM_KEY] = c->kv_heads * c->head_dim;
    w->dim[RR_DIM_QKV] = 3 * c->hidden;
    w->dim[RR_DIM_DISTANCES] = 2 * c->relative.span;
}

struct rr_op_attention rr_attention_op(const struct rr_model_config *c)
{
    return (struct rr_op_attention){
        .heads = c->heads,
        .head_dim = c->head_dim,
        .scale = (float)(1.0 / sqrt((double)c->head_dim)),
    };
}

void rr_weights_split_qkv(struct rr_weights *w, const struct rr_weight *qkv, uint32_t hidden,
                          struct rr_weight *q, struct rr_weight *kv)
{
    q->weight = rr_weights_rows(w, qkv->weight, 0, hidden);
    q->bias = rr_weights_rows(w, qkv->bias, 0, hidden);
    kv->weight = rr_weights_rows(w, qkv->weight, hidden, 2 * hidden);
    kv->bias = rr_weights_rows(w, qkv->bias, hidden, 2 * hidden);
}

/* ---- layers in the manner of BERT ------------------------------------------------------------ */

#define ROW RR_WEIGHT_ROW

static const struct rr_weight_row layer_rows[] = {
    ROW(rr_layer, out.weight, "attention.output.dense.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(rr_layer, out.bias, "attention.output.dense.bias", RR_DIM_HIDDEN),
    ROW(rr_layer, attention_norm.gamma, "attention.output.LayerNorm.weight", RR_DIM_HIDDEN),
    ROW(rr_layer, attention_norm.beta, "attention.output.LayerNorm.bias", RR_DIM_HIDDEN),
    ROW(rr_layer, up.weight, "intermediate.dense.weight", RR_DIM_INTERMEDIATE, RR_DIM_HIDDEN),
    ROW(rr_layer, up.bias, "intermediate.dense.bias", RR_DIM_INTERMEDIATE),
    ROW(rr_layer, down.weight, "output.dense.weight", RR_DIM_HIDDEN, RR_DIM_INTERMEDIATE),
    ROW(rr_layer, down.bias, "output.dense.bias", RR_DIM_HIDDEN),
    ROW(rr_layer, norm.gamma, "output.LayerNorm.weight", RR_DIM_HIDDEN),
    ROW(rr_layer, norm.beta, "output.LayerNorm.bias", RR_DIM_HIDDEN),
};

static const struct rr_weight_row pooler_rows[] = {
    ROW(rr_head, dense.weight, "pooler.dense.weight", RR_DIM_HIDDEN, RR_DIM_HIDDEN),
    ROW(rr_head, dense.bias, "pooler.dense.bias", RR_DIM_HIDDEN),
};
static const struct rr_weight_row classifier_rows[] = {
    ROW(rr_head, classifier.weight, "classifier.weight", RR_DIM_LABELS, RR_DIM_HIDDEN),
    ROW(rr_head, classifier.bias, "classifier.bias", RR_DIM_LABELS),
};

bool rr_is_last(const struct rr_model_config *c, uint32_t i)
{
    return i + 1 == c->layers && c->pool != RR_OP_MEAN;
}

int rr_layer_bind(struct rr_weights *w, const char *prefix, const char *scope, struct rr_layer *l,
                  struct rr_error *err)
{
    return rr_weights_bind(w, prefix, scope, layer_rows, RR_COUNT(layer_rows), l, err);
}

/* What follows attention, on whatever rows r has. */
static void add_rest(struct rr_builder *b, const struct rr_model_config *c,
                     const struct rr_row_regs *r, const struct rr_layer *l)
{
    rr_builder_linear(b, r->x, r->context, &l->out, 1, RR_ACT_NONE, r->x);
    rr_builder_layer_norm(b, r->x, r->x, &l->attention_norm, c->norm_eps);
    rr_builder_linear(b, r->up, r->x, &l->up, 1, c->act, RR_NONE);
    rr_builder_linear(b, r->x, r->up, &l->down, 1, RR_ACT_NONE, r->x);
    rr_builder_layer_norm(b, r->x, r->x, &l->norm, c->norm_eps);
}

static void add_on_tokens(struct rr_builder *b, const struct rr_model_config *c,
                          const struct rr_row_regs *r, const struct rr_layer *l,
                          struct rr_op_attention a)
{
    struct rr_weight qkv[3] = { l->query, l->key, l->value };

    a.kv = r->qkv;
    a.k_col = c->hidden;
    a.v_col = 2 * c->hidden;
    rr_builder_linear(b, r->qkv, r->x, qkv, 3, RR_ACT_NONE, RR_NONE);
    rr_builder_attention(b, r->context, r->qkv, &a);
    add_rest(b, c, r, l);
}

void rr_layer_add(struct rr_builder *b, const struct rr_model_config *c,
                  const struct rr_registers *regs, const struct rr_layer *l,
                  struct rr_op_attention a, bool last)
{
    struct rr_weight kv[2] = { l->key, l->value };
    const struct rr_row_regs *r = &regs->last;

    if (!last) {
        add_on_tokens(b, c, &regs->tokens, l, a);
        return;
    }
    a.kv = regs->kv;
    a.v_col = c->hidden;
    rr_builder_linear(b, regs->kv, regs->tokens.x, kv, 2, RR_ACT_NONE, RR_NONE);
    rr_builder_pool(b, RR_OP_FIRST, r->x, regs->tokens.x);
    rr_builder_linear(b, r->qkv, r->x, &l->query, 1, RR_ACT_NONE, RR_NONE);
    rr_builder_attention(b, r->context, r->qkv, &a);
    add_rest(b, c, r, l);
}

int rr_head_bind(struct rr_weights *w, const char *prefix, struct rr_head *h, struct rr_error *err)
{
    int rc = rr_weights_bind(w, prefix, "", pooler_rows, RR_COUNT(pooler_rows), h, err);

    return rc ? rc : rr_weights_bind(w, "", "", classifier_rows, RR_COUNT(classifier_rows), h, err);
}

uint32_t rr_head_add(struct rr_builder *b, const struct rr_row_regs *last, const struct rr_head *h,
                     enum rr_act act)
{
    uint32_t logit = rr_builder_register(b, 1, RR_ROWS_SEQUENCES);

    rr_builder_linear(b, last->context, last->x, &h->dense, 1, act, RR_NONE);
    rr_builder_linear(b, logit, last->context, &h->classifier, 1, RR_ACT_NONE, RR_NONE);
    return logit;
}
