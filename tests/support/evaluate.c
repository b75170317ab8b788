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
    return v;
}

static void embed(const struct machine *m, const struct rr_op *op)
{
    const struct rr_op_embed *e = &op->u.embed;

    for (uint32_t t = 0; t < m->b->n_tokens; t++)
        for (uint32_t j = 0; j < width_of(m, op->dst); j++)
            row_of(m, op->dst, t)[j] =
                value(m, e->word, (uint32_t)m->b->ids[t], j) +
                value(m, e->position, (uint32_t)m->b->positions[t], j) +
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

        for (uint32_t j = 0; j < n; j++) mean += x[j] / n;
        for (uint32_t j = 0; j < n; j++) var += (x[j] - mean) * (x[j] - mean) / n;
        for (uint32_t j = 0; j < n; j++)
            row_of(m, op->dst, r)[j] = (x[j] - mean) / sqrt(var + (double)op->u.norm.eps) *
                                           value(m, op->u.norm.gamma, 0, j) +
                                       value(m, op->u.norm.beta, 0, j);
    }
}

/* One query row of one head over the rows [begin, end) of kv. */
static void attend(const struct machine *m, const struct rr_op *op, uint32_t row, uint32_t head,
                   uint32_t begin, uint32_t end, double *p)
{
    const struct rr_op_attention *a = &op->u.attention;
    const double *q = row_of(m, op->src, row) + a->q_col + head * a->head_dim;
    double *y = row_of(m, op->dst, row) + head * a->head_dim, max = -INFINITY, sum = 0;

    for (uint32_t j = begin; j < end; j++) {
        const double *k = row_of(m, a->kv, j) + a->k_col + head * a->head_dim;

        p[j] = 0;
        for (uint32_t d = 0; d < a->head_dim; d++) p[j] += q[d] * k[d] * (double)a->scale;
        max = fmax(max, p[j]);
    }
    for (uint32_t j = begin; j < end; j++) sum += p[j] = exp(p[j] - max);
    for (uint32_t d = 0; d < a->head_dim; d++) {
        y[d] = 0;
        for (uint32_t j = begin; j < end; j++)
            y[d] += p[j] / sum * row_of(m, a->kv, j)[a->v_col + head * a->head_dim + d];
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
            for (uint32_t r = tokens ? begin : s; r < (tokens ? end : s + 1); r++)
                attend(m, op, r, h, begin, end, p);
    }
    rr_free(p);
}

static void first(const struct machine *m, const struct rr_op *op)
{
    for (uint32_t s = 0; s < m->b->n_sequences; s++)
        for (uint32_t j = 0; j < width_of(m, op->dst); j++)
            row_of(m, op->dst, s)[j] = row_of(m, op->src, m->b->cu_seqlens[s])[j];
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
        case RR_OP_FIRST: first(&m, &p->ops[i]); break;
        case RR_OP_LINEAR: linear(&m, &p->ops[i]); break;
        case RR_OP_NORM: norm(&m, &p->ops[i]); break;
        case RR_OP_ATTENTION: attention(&m, &p->ops[i]); break;
        }
    }
    for (uint32_t s = 0; s < b->n_sequences; s++) logits[s] = *row_of(&m, p->output, s);
    for (uint32_t i = 0; i < p->n_registers; i++) rr_free(m.regs[i]);
    rr_free(m.regs);
}
