/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate.c - a program in double precision, one element at a time, after the comments of
 * rerank_backend.h and nothing else. */
#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "program.h"

struct machine {
    const struct rr_program *p;
    const struct rr_batch *b;
    double **regs; /* [n_registers] rows back to back */
};

static uint32_t rows_of(const struct machine *m, uint32_t reg)
{
    return m->p->registers[reg].rows == RR_ROWS_TOKENS ? m->b->n_tokens : m->b->n_sequences;
}

static uint32_t width_of(const struct machine *m, uint32_t reg)
{
    return m->p->registers[reg].width;
}

static double *row_of(const struct machine *m, uint32_t reg, uint32_t row)
{
    return m->regs[reg] + (size_t)row * width_of(m, reg);
}

static double value(const struct machine *m, uint32_t tensor, uint32_t row, uint32_t column)
{
    const struct rr_tensor *t = &m->p->tensors[tensor];

    return tensor_value(t, t->rank == 2 ? (size_t)row * t->shape[1] + column : column);
}

static double activate(enum rr_act act, double v)
{
    if (act == RR_ACT_GELU) return v * 0.5 * erfc(-v / sqrt(2.0));
    if (act == RR_ACT_RELU) return v > 0 ? v : 0;
    if (act == RR_ACT_TANH) return tanh(v);
    if (act == RR_ACT_SILU) return v / (1 + exp(-v));
    if (act == RR_ACT_GELU_TANH)
        return 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
    return v;
}

static void embed(const struct machine *m, const struct rr_op *op)
{
    const struct rr_op_embed *e = &op->u.embed;

    for (uint32_t t = 0; t < m->b->n_tokens; t++)
        for (uint32_t j = 0; j < width_of(m, op->dst); j++)
            row_of(m, op->dst, t)[j] =
                value(m, e->word, (uint32_t)m->b->ids[t], j) * (e->scale == 0 ? 1 : e->scale) +
                (e->position == RR_NONE
                     ? 0
                     : value(m, e->position, (uint32_t)m->b->positions[t], j)) +
                (e->type == RR_NONE ? 0 : value(m, e->type, (uint32_t)m->b->types[t], j));
}

static void linear(const struct machine *m, const struct rr_op *op)
{
    const struct rr_op_linear *l = &op->u.linear;

    for (uint32_t r = 0; r < rows_of(m, op->dst); r++) {
        uint32_t column = 0;

        for (uint32_t part = 0; part < l->n_parts; part++) {
            for (uint32_t o = 0; o < m->p->tensors[l->weight[part]].shape[0]; o++, column++) {
                double sum = l->bias[part] == RR_NONE ? 0 : value(m, l->bias[part], 0, o);

                for (uint32_t i = 0; i < width_of(m, op->src); i++)
                    sum += row_of(m, op->src, r)[i] * value(m, l->weight[part], o, i);
                sum = activate(l->act, sum);
                if (l->residual != RR_NONE) sum += row_of(m, l->residual, r)[column];
                row_of(m, op->dst, r)[column] = sum;
            }
        }
    }
}

static void norm(const struct machine *m, const struct rr_op *op)
{
    uint32_t n = width_of(m, op->dst);

    for (uint32_t r = 0; r < rows_of(m, op->dst); r++) {
        const double *x = row_of(m, op->src, r);
        double mean = 0, var = 0;

        for (uint32_t j = 0; !op->u.norm.rms && j < n; j++) mean += x[j] / n;
        for (uint32_t j = 0; j < n; j++) var += (x[j] - mean) * (x[j] - mean) / n;
        for (uint32_t j = 0; j < n; j++)
            row_of(m, op->dst, r)[j] =
                (x[j] - mean) / sqrt(var + (double)op->u.norm.eps) *
                    value(m, op->u.norm.gamma, 0, j) +
                (op->u.norm.beta == RR_NONE ? 0 : value(m, op->u.norm.beta, 0, j));
    }
}

static void glu(const struct machine *m, const struct rr_op *op)
{
    uint32_t n = width_of(m, op->dst), second = op->u.glu.act_second ? n : 0;

    for (uint32_t r = 0; r < rows_of(m, op->dst); r++)
        for (uint32_t j = 0; j < n; j++)
            row_of(m, op->dst, r)[j] = activate(op->u.glu.act, row_of(m, op->src, r)[second + j]) *
                                       row_of(m, op->src, r)[n - second + j];
}

static void rotary_row(const struct machine *m, const struct rr_op_rotary *o, double *x,
                       int32_t position)
{
    uint32_t n = m->p->tensors[o->frequencies].shape[0];
    double squares = 0;

    for (uint32_t j = 0; j < o->head_dim; j++) squares += x[j] * x[j] / o->head_dim;
    for (uint32_t j = 0; o->gamma != RR_NONE && j < o->head_dim; j++)
        x[j] *= value(m, o->gamma, 0, j) / sqrt(squares + (double)o->eps);
    for (uint32_t j = 0; j < n; j++) {
        double angle = position * value(m, o->frequencies, 0, j), a = x[j], b = x[j + n];

        x[j] = a * cos(angle) - b * sin(angle);
        x[j + n] = b * cos(angle) + a * sin(angle);
    }
}

static void rotary(const struct machine *m, const struct rr_op *op)
{
    const struct rr_op_rotary *o = &op->u.rotary;

    for (uint32_t r = 0; r < rows_of(m, op->dst); r++) {
        uint32_t t = r;

        if (m->p->registers[op->dst].rows == RR_ROWS_SEQUENCES)
            t = o->last ? m->b->cu_seqlens[r + 1] - 1 : m->b->cu_seqlens[r];
        for (uint32_t h = 0; h < o->heads; h++)
            rotary_row(m, o, row_of(m, op->dst, r) + o->col + (size_t)h * o->head_dim,
                       m->b->positions[t]);
    }
}

/* The row of the distances' table for x = i - j. */
static uint32_t distance_row(const struct rr_relative *r, double x)
{
    double mid = r->buckets / 2, far = fabs(x);

    if (r->buckets && far > mid) {
        double steps = log(far / mid) / log((r->max_distance - 1) / mid) * (mid - 1);

        x = copysign(mid + ceil(steps - 1e-5), x); /* a whole number in f32 is one here, too */
    }
    return (uint32_t)(fmax(-(double)r->span, fmin(x, r->span - 1.0)) + r->span);
}

/* x . (LayerNorm(table[row]) W^T + bias), columns of one head. */
static double distance_term(const struct machine *m, const struct rr_op_attention *a,
                            const double *x, uint32_t row, uint32_t head, uint32_t weight,
                            uint32_t bias)
{
    const struct rr_relative *r = &a->relative;
    uint32_t n = m->p->tensors[r->table].shape[1];
    double mean = 0, var = 0, sum = 0;

    for (uint32_t j = 0; j < n; j++) mean += value(m, r->table, row, j) / n;
    for (uint32_t j = 0; j < n; j++) var += pow(value(m, r->table, row, j) - mean, 2) / n;
    for (uint32_t d = 0; d < a->head_dim; d++) {
        uint32_t o = head * a->head_dim + d;
        double y = bias == RR_NONE ? 0 : value(m, bias, 0, o);

        for (uint32_t j = 0; j < n; j++) {
            double t = value(m, r->table, row, j);

            if (r->gamma != RR_NONE)
                t = (t - mean) / sqrt(var + (double)r->eps) * value(m, r->gamma, 0, j) +
                    value(m, r->beta, 0, j);
            y += t * value(m, weight, o, j);
        }
        sum += x[d] * y;
    }
    return sum;
}

struct view { /* one query: its row of src, its place in its sequence, the sequence */
    uint32_t row, token, begin, end;
};

static double score(const struct machine *m, const struct rr_op *op, const struct view *v,
                    uint32_t head, uint32_t j)
{
    const struct rr_op_attention *a = &op->u.attention;
    const struct rr_relative *r = &a->relative;
    uint32_t group = head * (a->kv_heads ? a->kv_heads : a->heads) / a->heads;
    const double *q = row_of(m, op->src, v->row) + a->q_col + head * a->head_dim;
    const double *k = row_of(m, a->kv, j) + a->k_col + group * a->head_dim;
    double distance = (double)v->token - j, sum = 0;
    uint32_t row;

    if ((a->causal && distance < 0) || (a->window && fabs(distance) > a->window)) return -INFINITY;
    for (uint32_t d = 0; d < a->head_dim; d++) sum += q[d] * k[d];
    if (r->on) {
        row = distance_row(r, distance);
        if (r->content_position)
            sum += distance_term(m, a, q, row, head, r->key_weight, r->key_bias);
        if (r->position_content)
            sum += distance_term(m, a, k, row, head, r->query_weight, r->query_bias);
    }
    return sum * (double)a->scale;
}

static void attend(const struct machine *m, const struct rr_op *op, const struct view *v,
                   uint32_t head, double *p)
{
    const struct rr_op_attention *a = &op->u.attention;
    uint32_t group = head * (a->kv_heads ? a->kv_heads : a->heads) / a->heads;
    double *y = row_of(m, op->dst, v->row) + head * a->head_dim, max = -INFINITY, sum = 0;

    for (uint32_t j = v->begin; j < v->end; j++) max = fmax(max, p[j] = score(m, op, v, head, j));
    for (uint32_t j = v->begin; j < v->end; j++) sum += p[j] = exp(p[j] - max);
    for (uint32_t d = 0; d < a->head_dim; d++) {
        y[d] = 0;
        for (uint32_t j = v->begin; j < v->end; j++)
            y[d] += p[j] / sum * row_of(m, a->kv, j)[a->v_col + group * a->head_dim + d];
    }
}

static void attention(const struct machine *m, const struct rr_op *op)
{
    double *p = rr_calloc(RR_MEM_MISC, m->b->n_tokens, sizeof(*p));

    assert(p);
    for (uint32_t s = 0; s < m->b->n_sequences; s++) {
        uint32_t begin = m->b->cu_seqlens[s], end = m->b->cu_seqlens[s + 1];
        bool tokens = m->p->registers[op->src].rows == RR_ROWS_TOKENS;

        for (uint32_t h = 0; h < op->u.attention.heads; h++)
            for (uint32_t r = tokens ? begin : s; r < (tokens ? end : s + 1); r++) {
                uint32_t token = tokens ? r : op->u.attention.last ? end - 1 : begin;
                struct view v = { r, token, begin, end };

                attend(m, op, &v, h, p);
            }
    }
    rr_free(p);
}

static void pool(const struct machine *m, const struct rr_op *op)
{
    for (uint32_t s = 0; s < m->b->n_sequences; s++) {
        uint32_t begin = m->b->cu_seqlens[s], end = m->b->cu_seqlens[s + 1];

        if (op->kind == RR_OP_FIRST) end = begin + 1;
        if (op->kind == RR_OP_LAST) begin = end - 1;
        for (uint32_t j = 0; j < width_of(m, op->dst); j++) {
            double sum = 0;

            for (uint32_t t = begin; t < end; t++) sum += row_of(m, op->src, t)[j];
            row_of(m, op->dst, s)[j] = sum / (end - begin);
        }
    }
}

void program_evaluate(const struct rr_program *p, const struct rr_batch *b, double *logits)
{
    struct machine m = { p, b, rr_calloc(RR_MEM_MISC, p->n_registers, sizeof(double *)) };

    assert(m.regs);
    for (uint32_t i = 0; i < p->n_registers; i++) {
        m.regs[i] = rr_calloc(RR_MEM_MISC, (size_t)rows_of(&m, i) * width_of(&m, i), sizeof(double));
        assert(m.regs[i]);
    }
    for (uint32_t i = 0; i < p->n_ops; i++) {
        switch (p->ops[i].kind) {
        case RR_OP_EMBED: embed(&m, &p->ops[i]); break;
        case RR_OP_FIRST:
        case RR_OP_LAST:
        case RR_OP_MEAN: pool(&m, &p->ops[i]); break;
        case RR_OP_LINEAR: linear(&m, &p->ops[i]); break;
        case RR_OP_NORM: norm(&m, &p->ops[i]); break;
        case RR_OP_GLU: glu(&m, &p->ops[i]); break;
        case RR_OP_ROTARY: rotary(&m, &p->ops[i]); break;
        case RR_OP_ATTENTION: attention(&m, &p->ops[i]); break;
        }
    }
    for (uint32_t s = 0; s < b->n_sequences; s++) logits[s] = *row_of(&m, p->output, s);
    for (uint32_t i = 0; i < p->n_registers; i++) rr_free(m.regs[i]);
    rr_free(m.regs);
}
