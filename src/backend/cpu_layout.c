/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_layout.c - where register rows live while a program runs.  Layer: backend (L3).  Threads:
 * any.
 *
 * A register that is written again holds a new value, and a value's storage is free for others
 * before it is written and after its last use.  In the chunk layout, values that do not leave a
 * segment of row-wise operations (the wide activation between the two halves of the feed-forward
 * network above all) need storage for the rows of one block only; that is what keeps them in the
 * second-level cache. */
#include <inttypes.h>

#include "backend/cpu_backend.h"
#include "base/err.h"
#include "base/mem.h"

#define LANE 16 /* floats in 64 bytes */
#define ALIASING 512 /* floats: rows so far apart, or a multiple, share few sets of the caches */

struct value {
    uint32_t width;         /* with padding */
    uint32_t first, last;   /* operations: written, last used */
    uint32_t begin, end;    /* the same in the time that counts for its area, both included */
    struct rr_cpu_place place;
};

struct maker {
    const struct rr_program *p;
    const enum rr_dtype *kept;
    struct value *values;  /* [n_ops] at most: each operation makes one or goes on with one */
    uint32_t n_values;
    uint32_t *current;     /* [n_registers] value that the register holds */
    uint32_t (*operands)[RR_CPU_OPERANDS]; /* [n_ops] values; RR_NONE */
    uint32_t output;
};

static uint32_t extra_register(const struct rr_op *op)
{
    if (op->kind == RR_OP_LINEAR) return op->u.linear.residual;
    if (op->kind == RR_OP_ATTENTION) return op->u.attention.kv;
    return RR_NONE;
}

static uint32_t read_value(struct maker *m, uint32_t reg, uint32_t op)
{
    uint32_t v;

    if (reg == RR_NONE) return RR_NONE;
    v = m->current[reg];
    m->values[v].last = op;
    return v;
}

static uint32_t write_value(struct maker *m, uint32_t reg, uint32_t op)
{
    struct value *v = &m->values[m->n_values];

    /* In place (NORM onto its source, LINEAR onto its residual): the value goes on. */
    if (m->p->ops[op].src == reg || extra_register(&m->p->ops[op]) == reg) return m->current[reg];
    v->width = rr_cpu_width(m->p, reg);
    if (m->kept[op] != RR_F32) v->width = (v->width + 1) / 2;
    v->width = (v->width + LANE - 1) / LANE * LANE;
    if (v->width % ALIASING == 0) v->width += LANE; /* 1 % at 128 tokens, 5 % at 512 */
    v->first = v->last = op;
    v->place.ld = v->width;
    v->place.dtype = m->kept[op];
    m->current[reg] = m->n_values;
    return m->n_values++;
}

static void find_values(struct maker *m)
{
    for (uint32_t i = 0; i < m->p->n_ops; i++) {
        const struct rr_op *op = &m->p->ops[i];

        m->operands[i][RR_CPU_SRC] = read_value(m, op->src, i);
        m->operands[i][RR_CPU_EXTRA] = read_value(m, extra_register(op), i);
        m->operands[i][RR_CPU_DST] = write_value(m, op->dst, i);
    }
    m->output = read_value(m, m->p->output, m->p->n_ops - 1);
}

static enum rr_rows value_rows(const struct maker *m, const struct value *v)
{
    return m->p->registers[m->p->ops[v->first].dst].rows;
}

/* Chooses the area and the time scale.  Blocks run through a segment again and again, so what
 * outlives a segment, or is read in a later block, occupies whole segments. */
static void choose_area(const struct maker *m, struct value *v, const uint32_t *segment_of,
                        const struct rr_cpu_segment *segments, bool blocks)
{
    bool tokens = value_rows(m, v) == RR_ROWS_TOKENS;

    v->begin = v->first;
    v->end = v->last;
    v->place.area = tokens ? RR_CPU_TOKENS : RR_CPU_SEQUENCES;
    if (!blocks) return;
    if (tokens && segment_of[v->first] == segment_of[v->last] &&
        segments[segment_of[v->first]].by_rows) {
        v->place.area = RR_CPU_BLOCK;
    } else {
        v->begin = segment_of[v->first];
        v->end = segment_of[v->last];
    }
}

static bool clash(const struct value *a, const struct value *b)
{
    return a->place.area == b->place.area && a->begin <= b->end && b->begin <= a->end &&
           a->place.offset < b->place.offset + b->width &&
           b->place.offset < a->place.offset + a->width;
}

/* First fit: the lowest offset that no earlier value occupies at the same time. */
static void place_values(struct maker *m, struct rr_cpu_layout *l)
{
    for (uint32_t i = 0; i < m->n_values; i++) {
        struct value *v = &m->values[i];
        uint32_t j = 0;

        v->place.offset = 0;
        while (j < i) {
            if (clash(v, &m->values[j])) {
                v->place.offset = m->values[j].place.offset + m->values[j].width;
                j = 0;
            } else {
                j++;
            }
        }
        if (l->row_floats[v->place.area] < v->place.offset + v->width)
            l->row_floats[v->place.area] = v->place.offset + v->width;
    }
}

static bool is_by_rows(const struct rr_program *p, const struct rr_op *op)
{
    return op->kind != RR_OP_FIRST && op->kind != RR_OP_ATTENTION &&
           p->registers[op->dst].rows == RR_ROWS_TOKENS;
}

uint32_t rr_cpu_segments(const struct rr_program *p, struct rr_cpu_segment *segments)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n_ops; i++) {
        bool by_rows = is_by_rows(p, &p->ops[i]);

        if (n > 0 && by_rows && segments[n - 1].by_rows)
            segments[n - 1].end = i + 1;
        else
            segments[n++] = (struct rr_cpu_segment){ i, i + 1, by_rows };
    }
    return n;
}

int rr_cpu_layout(struct rr_cpu_layout *l, const struct rr_program *p, const enum rr_dtype *kept,
                  const struct rr_cpu_segment *segments, uint32_t n_segments, bool blocks,
                  struct rr_error *err)
{
    struct maker m = { .p = p, .kept = kept };
    uint32_t *segment_of = rr_calloc(RR_MEM_MISC, p->n_ops, sizeof(*segment_of));
    int rc = RR_OK;

    m.values = rr_calloc(RR_MEM_MISC, p->n_ops, sizeof(*m.values));
    m.current = rr_calloc(RR_MEM_MISC, p->n_registers, sizeof(*m.current));
    m.operands = rr_calloc(RR_MEM_MISC, p->n_ops, sizeof(*m.operands));
    if (!segment_of || !m.values || !m.current || !m.operands) {
        rc = rr_fail(err, RR_ENOMEM, "out of memory laying out %" PRIu32 " operations", p->n_ops);
        goto done;
    }
    for (uint32_t s = 0; s < n_segments; s++)
        for (uint32_t i = segments[s].begin; i < segments[s].end; i++) segment_of[i] = s;

    find_values(&m);
    for (uint32_t i = 0; i < m.n_values; i++)
        choose_area(&m, &m.values[i], segment_of, segments, blocks);
    place_values(&m, l);
    for (uint32_t i = 0; i < p->n_ops; i++)
        for (int o = 0; o < RR_CPU_OPERANDS; o++)
            if (m.operands[i][o] != RR_NONE)
                l->places[i][o] = m.values[m.operands[i][o]].place;
    l->output = m.values[m.output].place;
done:
    rr_free(m.operands);
    rr_free(m.current);
    rr_free(m.values);
    rr_free(segment_of);
    return rc;
}
