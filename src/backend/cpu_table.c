/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_table.c - embedding tables: in the file, or in f16 beside the weights.  Layer: backend (L3).
 * Threads: the owner of the device; converting uses the device's workers.
 *
 * A table in f32 is the largest thing that a device in int8 or bf16 has: 1.0 GB for 250,002 words
 * of 1024, and every page of it becomes resident sooner or later.  There it is kept in f16, which
 * is eight times as precise as bf16.  A device in f32 reads it as it is. */
#include "backend/cpu_backend.h"
#include "base/file.h"
#include "cpu/weights.h"

#define MIN_BYTES ((size_t)1 << 20) /* smaller tables stay as they are */
#define SHARE_ROWS 512

struct rr_cpu_table rr_cpu_table_of(const struct rr_device *d, const struct rr_program *p,
                                    uint32_t tensor)
{
    const struct rr_tensor *t = &p->tensors[tensor];
    struct rr_cpu_table table = {
        .data = t->data, .dtype = t->dtype, .rows = t->shape[0], .row_bytes = rr_cpu_row_bytes(t)
    };

    table.halved = d->packing != RR_CPU_PACK_F32 && t->dtype == RR_F32 &&
                   table.rows * table.row_bytes >= MIN_BYTES;
    return table;
}

/* From now on in f16, at data. */
static void use_halves(struct rr_cpu_table *t, void *data)
{
    t->data = data;
    t->dtype = RR_F16;
    t->row_bytes /= 2;
}

void rr_cpu_table_place(struct rr_cpu_table *t, bool converted, struct rr_cpu_bump *b)
{
    if (!t->halved) return;
    if (t->dtype == RR_F16) { /* a copy for another node */
        t->data = rr_cpu_take(b, t->rows, t->row_bytes);
        return;
    }
    t->halves = rr_cpu_take(b, t->rows, t->row_bytes / 2);
    if (converted && t->halves) use_halves(t, t->halves);
}

struct converting {
    struct rr_cpu_table *table;
    bool in_file;
    _Atomic uint32_t next;
    atomic_bool overflow;
};

static void convert_worker(void *user, uint32_t worker)
{
    struct converting *c = user;
    const struct rr_cpu_table *t = c->table;
    size_t width = t->row_bytes / sizeof(float);
    uint32_t row;

    (void)worker;
    while ((row = atomic_fetch_add_explicit(&c->next, SHARE_ROWS, memory_order_relaxed)) <
           t->rows) {
        size_t rows = RR_MIN(t->rows - row, (uint32_t)SHARE_ROWS);
        const char *from = t->data + row * t->row_bytes;

        if (!rr_weights_to_f16(t->halves + row * width, (const float *)(const void *)from,
                               rows * width))
            atomic_store_explicit(&c->overflow, true, memory_order_relaxed);
        if (c->in_file) rr_file_drop(from, rows * t->row_bytes);
    }
}

/* False: a value is too large for f16, the table stays where it is. */
static bool convert(struct rr_loaded *l, const struct rr_program *p, struct rr_cpu_table *t,
                    uint32_t tensor)
{
    struct converting c = { .table = t };

    if (!t->halved) return true;
    c.in_file = p->tensors[tensor].in_file;
    rr_pool_run_or_alone(l->device->pool, convert_worker, &c);
    if (atomic_load_explicit(&c.overflow, memory_order_relaxed)) return false;
    use_halves(t, t->halves);
    return true;
}

bool rr_cpu_tables_convert(struct rr_loaded *l, const struct rr_program *p)
{
    bool all = true;

    for (uint32_t i = 0; i < l->n_steps; i++) {
        struct rr_cpu_step *s = &l->steps[i];
        const struct rr_op_embed *e = &s->op.u.embed;

        if (s->op.kind != RR_OP_EMBED) continue;
        all &= convert(l, p, &s->word, e->word);
        all &= convert(l, p, &s->position, e->position);
        all &= convert(l, p, &s->type, e->type);
    }
    return all;
}
