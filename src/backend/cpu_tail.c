/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_tail.c - a program's last operations, which see one row a sequence.  Layer: backend (L3).
 * Threads: the owner of the device; put_off by workers, each with its own pieces.
 *
 * What follows the last look at tokens (the last layer's feed-forward network and the head) has few
 * rows and all of its weights: 42 MB in XLM-R-large, which each chunk of one or two sequences would
 * read again.  So when a batch has several pieces their rows are put off, and the team takes all of
 * them through the tail at the end. */
#include <string.h>

#include "backend/cpu_backend.h"

static bool sees_tokens(const struct rr_program *p, const struct rr_op *op)
{
    uint32_t extra = op->kind == RR_OP_LINEAR ? op->u.linear.residual : RR_NONE;

    return op->kind == RR_OP_EMBED || op->kind == RR_OP_ATTENTION ||
           p->registers[op->dst].rows == RR_ROWS_TOKENS ||
           p->registers[op->src].rows == RR_ROWS_TOKENS ||
           (extra != RR_NONE && p->registers[extra].rows == RR_ROWS_TOKENS);
}

/* An operand of a step of the tail, unless it is known or the tail itself has written it. */
static bool add(struct rr_loaded *l, const struct rr_program *p, uint32_t step,
                enum rr_cpu_operand operand, uint32_t reg)
{
    struct rr_cpu_tail *t = &l->tail;

    for (uint32_t i = t->begin; i < step; i++)
        if (p->ops[i].dst == reg) return true;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->values[i].reg == reg) return true;
    if (t->n == RR_COUNT(t->values)) return false;
    t->values[t->n++] = (struct rr_cpu_crossing){
        .reg = reg,
        .chunk = l->chunk.places[step][operand],
        .team = l->team.places[step][operand],
        .col = t->row_floats,
    };
    t->row_floats += l->team.places[step][operand].ld;
    return true;
}

void rr_cpu_tail_find(struct rr_loaded *l, const struct rr_program *p)
{
    struct rr_cpu_tail *t = &l->tail;
    bool writes = false, fits = true;

    t->begin = p->n_ops;
    while (t->begin > 0 && !sees_tokens(p, &p->ops[t->begin - 1])) t->begin--;
    for (uint32_t i = t->begin; i < p->n_ops; i++) {
        const struct rr_op *op = &p->ops[i];

        fits = fits && add(l, p, i, RR_CPU_SRC, op->src);
        if (op->kind == RR_OP_LINEAR && op->u.linear.residual != RR_NONE)
            fits = fits && add(l, p, i, RR_CPU_EXTRA, op->u.linear.residual);
        writes = writes || op->dst == p->output;
    }
    if (fits && writes) return;
    *t = (struct rr_cpu_tail){ .begin = p->n_ops };
}

void rr_cpu_tail_put_off(const struct rr_loaded *l, const struct rr_cpu_frame *f)
{
    const struct rr_cpu_tail *t = &l->tail;
    float *row = t->rows + (f->order - l->plan.order) * t->row_floats;

    for (uint32_t i = 0; i < f->n_sequences; i++, row += t->row_floats)
        for (uint32_t j = 0; j < t->n; j++) {
            const struct rr_cpu_crossing *c = &t->values[j];
            const struct rr_cpu_place *place = f->layout == &l->chunk ? &c->chunk : &c->team;

            memcpy(row + c->col, rr_cpu_at(f, place, i), place->ld * sizeof(float));
        }
}

void rr_cpu_tail_take(const struct rr_loaded *l, const struct rr_cpu_frame *f)
{
    const struct rr_cpu_tail *t = &l->tail;
    const float *row = t->rows + (f->order - l->plan.order) * t->row_floats;

    for (uint32_t i = 0; i < f->n_sequences; i++, row += t->row_floats)
        for (uint32_t j = 0; j < t->n; j++) {
            const struct rr_cpu_crossing *c = &t->values[j];

            memcpy(rr_cpu_at(f, &c->team, i), row + c->col, c->team.ld * sizeof(float));
        }
}
