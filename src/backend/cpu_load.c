/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_load.c - from a program to something that runs: sizes, memory, packed weights.
 * Layer: backend (L3).  Threads: the owner of the device; packing uses the device's workers.
 *
 * Everything is sized first, by walking over the steps with a bump pointer that starts at nothing;
 * plan() stops there, load() allocates and walks again. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cpu/numa.h"
#include "quant/packed.h"

#define PIECE_SEQUENCES 256   /* most in a piece of work: rows of one per sequence are few */
#define ATTENTION_PRICE 3.0   /* its flop are dearer: short sums, exp, repacking */
#define ROW_PRICE 20.0        /* flop for an element of EMBED or NORM */

/* ---- weights --------------------------------------------------------------------------------- */

static void describe_step(struct rr_cpu_step *s, const struct rr_device *d,
                          const struct rr_program *p, const struct rr_op *op)
{
    s->op = *op;
    s->rows = p->registers[op->dst].rows;
    s->width = rr_cpu_width(p, op->dst);
    if (op->kind == RR_OP_LINEAR) {
        rr_cpu_linear_init(&s->linear, d, p, op);
    } else if (op->kind == RR_OP_EMBED) {
        const struct rr_op_embed *e = &op->u.embed;

        s->word = rr_cpu_table_of(d, p, e->word);
        if (e->position != RR_NONE) s->position = rr_cpu_table_of(d, p, e->position);
        if (e->type != RR_NONE) s->type = rr_cpu_table_of(d, p, e->type);
    } else if (op->kind == RR_OP_ROTARY) {
        s->angles = p->tensors[op->u.rotary.frequencies].shape[0];
    }
}

/* Whether some of an int8 model's layers are not, or take inputs of 16 bits. */
static bool keeps_layers(const struct rr_loaded *l)
{
    for (uint32_t i = 0; i < l->n_steps; i++) {
        const struct rr_cpu_step *s = &l->steps[i];

        if (s->op.kind == RR_OP_LINEAR && s->rows == RR_ROWS_TOKENS &&
            (s->linear.packing != RR_CPU_PACK_I8 || s->linear.fine))
            return l->device->packing == RR_CPU_PACK_I8;
    }
    return false;
}

/* Angles of all positions, unless an earlier step has the same. */
static void place_angles(const struct rr_loaded *l, struct rr_cpu_step *steps, uint32_t step,
                         struct rr_cpu_bump *b)
{
    struct rr_cpu_step *s = &steps[step];
    size_t n = (size_t)l->limits.max_length * s->angles;

    if (s->op.u.rotary.gamma != RR_NONE)
        s->gamma = rr_cpu_take(b, s->op.u.rotary.head_dim, sizeof(float));
    for (uint32_t i = 0; i < step; i++) {
        const struct rr_cpu_step *t = &steps[i];

        if (t->op.kind != RR_OP_ROTARY ||
            t->op.u.rotary.frequencies != s->op.u.rotary.frequencies)
            continue;
        s->cosines = t->cosines;
        s->sines = t->sines;
        return;
    }
    s->cosines = rr_cpu_take(b, n, sizeof(float));
    s->sines = rr_cpu_take(b, n, sizeof(float));
}

/* As the reference computes them: the product of position and frequency is rounded to f32. */
static void fill_angles(const struct rr_loaded *l, struct rr_cpu_step *s,
                        const struct rr_tensor *t)
{
    const struct rr_op_rotary *op = &s->op.u.rotary;
    const struct rr_tensor *frequencies = &t[op->frequencies];
    float f;

    if (s->gamma)
        l->device->kern->convert(s->gamma, t[op->gamma].data, t[op->gamma].dtype, op->head_dim);
    for (uint32_t j = 0; j < s->angles; j++) {
        size_t size = frequencies->dtype == RR_F32 ? 4 : 2;

        l->device->kern->convert(&f, (const char *)frequencies->data + j * size,
                                 frequencies->dtype, 1);
        for (uint32_t i = 0; i < l->limits.max_length; i++) {
            float angle = (float)i * f;

            s->cosines[(size_t)i * s->angles + j] = cosf(angle);
            s->sines[(size_t)i * s->angles + j] = sinf(angle);
        }
    }
}

/* steps: l's, or a copy of them for another memory node.  filled: by a map, at b's base. */
static void place_weights(const struct rr_loaded *l, struct rr_cpu_step *steps,
                          bool filled, struct rr_cpu_bump *b)
{
    for (uint32_t i = 0; i < l->n_steps; i++) {
        struct rr_cpu_step *s = &steps[i];

        rr_cpu_table_place(&s->word, filled, b);
        rr_cpu_table_place(&s->position, filled, b);
        rr_cpu_table_place(&s->type, filled, b);
        if (s->op.kind == RR_OP_LINEAR) {
            rr_cpu_linear_place(&s->linear, b);
        } else if (s->op.kind == RR_OP_NORM) {
            s->gamma = rr_cpu_take(b, s->width, sizeof(float));
            if (s->op.u.norm.beta != RR_NONE) s->beta = rr_cpu_take(b, s->width, sizeof(float));
        } else if (s->op.kind == RR_OP_ROTARY) {
            place_angles(l, steps, i, b);
        } else if (s->op.kind == RR_OP_ATTENTION) {
            rr_cpu_relative_place(s, l->device->kern, l->limits.max_length, b);
        }
    }
}

static void copy_vectors(struct rr_loaded *l, const struct rr_program *p)
{
    const struct rr_tensor *t = p->tensors;

    for (uint32_t i = 0; i < l->n_steps; i++) {
        struct rr_cpu_step *s = &l->steps[i];
        const struct rr_op_linear *op = &s->op.u.linear;
        float *bias = s->linear.bias;

        if (s->op.kind == RR_OP_NORM) {
            const struct rr_op_norm *n = &s->op.u.norm;

            l->device->kern->convert(s->gamma, t[n->gamma].data, t[n->gamma].dtype, s->width);
            if (s->beta)
                l->device->kern->convert(s->beta, t[n->beta].data, t[n->beta].dtype, s->width);
        } else if (s->op.kind == RR_OP_ROTARY) {
            fill_angles(l, s, t);
        } else if (s->op.kind == RR_OP_LINEAR) {
            for (uint32_t j = 0; j < op->n_parts; j++) {
                uint32_t n = t[op->weight[j]].shape[0];

                if (op->bias[j] != RR_NONE)
                    l->device->kern->convert(bias, t[op->bias[j]].data, t[op->bias[j]].dtype, n);
                bias += n;
            }
        }
    }
}

/* ---- workspace ------------------------------------------------------------------------------- */

static void choose_rooms(struct rr_loaded *l)
{
    const struct rr_limits *max = &l->limits;
    uint32_t length = RR_MIN(max->max_length, max->max_tokens);
    uint32_t chunk = RR_MAX(l->tuning.chunk_tokens, RR_MIN(length, l->tuning.solo_tokens));
    uint32_t team = RR_MAX(length, l->tuning.team_tokens);

    chunk = RR_MIN(chunk, max->max_tokens);
    team = RR_MIN(team, max->max_tokens);
    l->chunk_room.rows[RR_CPU_TOKENS] = chunk;
    l->chunk_room.rows[RR_CPU_BLOCK] = RR_MIN(chunk, l->tuning.block_rows);
    l->chunk_room.rows[RR_CPU_SEQUENCES] = RR_MIN(RR_MIN(chunk, max->max_sequences),
                                                  PIECE_SEQUENCES);
    l->team_room.rows[RR_CPU_TOKENS] = team;
    l->team_room.rows[RR_CPU_SEQUENCES] = RR_MIN(RR_MIN(team, max->max_sequences),
                                                 PIECE_SEQUENCES);
    for (uint32_t i = 0; i < l->n_steps; i++) {
        const struct rr_op *op = &l->steps[i].op;
        size_t need = 0;

        if (op->kind == RR_OP_ATTENTION) {
            need = rr_cpu_attention_scratch(&l->steps[i], l->device->kern, length);
        } else if (op->kind == RR_OP_LINEAR) {
            need = rr_cpu_linear_scratch(&l->steps[i].linear, l->tuning.block_rows);
            l->narrow_bytes = RR_MAX(l->narrow_bytes, rr_cpu_linear_narrow(&l->steps[i].linear));
        }
        l->scratch_floats = RR_MAX(l->scratch_floats, (need + 15) / 16 * 16);
    }
}

/* Floats for the areas of one layout; SIZE_MAX on overflow. */
static size_t area_floats(const struct rr_cpu_layout *layout, const struct rr_cpu_room *room)
{
    size_t sum = 0, part;

    for (int a = 0; a < RR_CPU_AREAS; a++)
        if (!rr_mul(layout->row_floats[a], room->rows[a], &part) || !rr_add(sum, part, &sum))
            return SIZE_MAX;
    return sum;
}

static void place_workspace(struct rr_loaded *l, struct rr_cpu_bump *b)
{
    uint32_t threads = l->device->threads;
    size_t team = area_floats(&l->team, &l->team_room), all;

    l->chunk_floats = area_floats(&l->chunk, &l->chunk_room);
    if (!rr_mul(l->chunk_floats, threads, &all)) b->overflow = true;
    /* The team and the single workers never work at the same time. */
    l->areas = rr_cpu_take(b, RR_MAX(all, team), sizeof(float));
    l->scratch = rr_cpu_take(b, threads, l->scratch_floats * sizeof(float));
    l->narrow.rows = l->team_room.rows[RR_CPU_TOKENS];
    l->narrow.base = rr_cpu_take(b, l->narrow.rows, l->narrow_bytes);
    l->plan.order = rr_cpu_take(b, l->limits.max_sequences, sizeof(*l->plan.order));
    l->plan.starts = rr_cpu_take(b, (size_t)l->limits.max_sequences + 1, sizeof(*l->plan.starts));
    l->plan.pieces = rr_cpu_take(b, l->limits.max_sequences, sizeof(*l->plan.pieces));
    l->plan.load = rr_cpu_take(b, threads, sizeof(*l->plan.load));
    l->tail.rows = rr_cpu_take(b, l->limits.max_sequences, l->tail.row_floats * sizeof(float));
    l->tickets = rr_cpu_take(b, (size_t)l->n_steps * 2, sizeof(*l->tickets));
}

static void estimate_cost(struct rr_loaded *l)
{
    for (uint32_t i = 0; i < l->n_steps; i++) {
        const struct rr_cpu_step *s = &l->steps[i];
        double *per_row = s->rows == RR_ROWS_TOKENS ? &l->cost.linear : &l->cost.fixed;
        double *per_key = s->rows == RR_ROWS_TOKENS ? &l->cost.square : &l->cost.linear;

        if (s->op.kind == RR_OP_LINEAR)
            *per_row += 2.0 * s->linear.n * s->linear.k;
        else if (s->op.kind == RR_OP_ATTENTION)
            *per_key += 4.0 * s->width * ATTENTION_PRICE;
        else
            *per_row += ROW_PRICE * s->width;
    }
}

/* ---- the object ------------------------------------------------------------------------------ */

/* Embedding tables in the file: each counted once, however many operations use it. */
static uint64_t mapped_bytes(const struct rr_device *d, const struct rr_program *p)
{
    uint64_t sum = 0;

    for (uint32_t t = 0; t < p->n_tensors; t++) {
        bool used = false;

        for (uint32_t i = 0; i < p->n_ops && !used; i++) {
            const struct rr_op_embed *e = &p->ops[i].u.embed;

            used = p->ops[i].kind == RR_OP_EMBED &&
                   (e->word == t || e->position == t || e->type == t);
        }
        if (used && !rr_cpu_table_of(d, p, t).halved)
            sum += p->tensors[t].shape[0] * rr_cpu_row_bytes(&p->tensors[t]);
    }
    return sum;
}

/* Everything but the weights and the workspace, whose sizes go to l->memory. */
static int build(struct rr_loaded *l, const struct rr_program *p, struct rr_error *err)
{
    struct rr_cpu_bump weights = { 0 }, workspace = { 0 };
    enum rr_dtype *kept;
    size_t all;
    int rc;

    l->n_steps = p->n_ops;
    l->steps = rr_calloc(RR_MEM_MODEL, p->n_ops, sizeof(*l->steps));
    l->segments = rr_calloc(RR_MEM_MODEL, p->n_ops, sizeof(*l->segments));
    l->chunk.places = rr_calloc(RR_MEM_MODEL, p->n_ops, sizeof(*l->chunk.places));
    l->team.places = rr_calloc(RR_MEM_MODEL, p->n_ops, sizeof(*l->team.places));
    if (!l->steps || !l->segments || !l->chunk.places || !l->team.places)
        return rr_fail(err, RR_ENOMEM, "out of memory for %" PRIu32 " operations", p->n_ops);

    for (uint32_t i = 0; i < p->n_ops; i++) describe_step(&l->steps[i], l->device, p, &p->ops[i]);
    l->keeps = keeps_layers(l);
    l->n_segments = rr_cpu_segments(p, l->segments);
    kept = rr_calloc(RR_MEM_MISC, p->n_ops, sizeof(*kept));
    if (!kept)
        return rr_fail(err, RR_ENOMEM, "out of memory for %" PRIu32 " operations", p->n_ops);
    for (uint32_t i = 0; i < p->n_ops; i++) kept[i] = rr_cpu_kept(l, p, i);
    rc = rr_cpu_layout(&l->chunk, p, kept, l->segments, l->n_segments, true, err);
    if (!rc) rc = rr_cpu_layout(&l->team, p, kept, l->segments, l->n_segments, false, err);
    rr_free(kept);
    if (rc) return rc;
    rr_cpu_tail_find(l, p);
    estimate_cost(l);
    choose_rooms(l);
    place_weights(l, l->steps, false, &weights);
    place_workspace(l, &workspace);
    if (weights.overflow || workspace.overflow)
        return rr_fail(err, RR_ENOMEM, "the program needs more memory than can be addressed");
    l->weight_bytes = weights.used;
    if (!rr_mul(weights.used, rr_pool_nodes(l->device->pool), &all))
        return rr_fail(err, RR_ENOMEM, "the weights of all nodes are more than can be addressed");
    l->memory.weights = all;
    l->memory.workspace = workspace.used;
    l->memory.mapped = mapped_bytes(l->device, p);
    return RR_OK;
}

/* Room for one copy of the weights and a header, near to a node if there is more than one. */
static int alloc_weights(const struct rr_loaded *l, char **out, uint32_t node, struct rr_error *err)
{
    const struct rr_pool *pool = l->device->pool;

    *out = rr_pages_alloc(RR_MEM_WEIGHTS, RR_PACKED_HEADER + l->weight_bytes);
    if (!*out)
        return rr_fail(err, RR_ENOMEM, "out of memory for %zu MB of weights",
                       l->weight_bytes / 1000000);
    if (rr_pool_nodes(pool) > 1 &&
        !rr_numa_prefer(*out, RR_PACKED_HEADER + l->weight_bytes, rr_pool_node_id(pool, node)))
        rr_log(RR_DEBUG, "memory node %" PRIu32 " cannot be asked for: weights may be far away",
               rr_pool_node_id(pool, node));
    return RR_OK;
}

/* What the first node has, for the others. */
static int copy_weights(struct rr_loaded *l, struct rr_error *err)
{
    uint32_t n = rr_pool_nodes(l->device->pool) - 1;

    if (n == 0) return RR_OK;
    l->copies = rr_calloc(RR_MEM_MODEL, n, sizeof(*l->copies));
    if (!l->copies) return rr_fail(err, RR_ENOMEM, "out of memory for %" PRIu32 " nodes", n);
    for (uint32_t i = 0; i < n; i++) {
        struct rr_cpu_copy *c = &l->copies[i];
        struct rr_cpu_bump bump = { 0 };
        int rc;

        c->steps = rr_alloc(RR_MEM_MODEL, l->n_steps, sizeof(*c->steps));
        if (!c->steps) return rr_fail(err, RR_ENOMEM, "out of memory for a copy of the program");
        rc = alloc_weights(l, &c->weights, i + 1, err);
        if (rc) return rc;
        memcpy(c->weights, l->weights, l->weight_bytes);
        memcpy(c->steps, l->steps, l->n_steps * sizeof(*c->steps));
        bump.base = c->weights;
        place_weights(l, c->steps, false, &bump);
    }
    return RR_OK;
}

static void free_copies(struct rr_loaded *l)
{
    for (uint32_t i = 0; l->copies && i + 1 < rr_pool_nodes(l->device->pool); i++) {
        rr_pages_free(RR_MEM_WEIGHTS, l->copies[i].weights, RR_PACKED_HEADER + l->weight_bytes);
        rr_free(l->copies[i].steps);
    }
    rr_free(l->copies);
}

static int fill(struct rr_loaded *l, const struct rr_program *p, struct rr_error *err)
{
    struct rr_cpu_bump weights = { 0 }, workspace = { 0 };
    bool kept = rr_cpu_packed_open(l, p);
    int rc = kept ? RR_OK : alloc_weights(l, &l->block, 0, err);

    if (rc) return rc;
    l->weights = (kept ? l->packed.data : l->block) + RR_PACKED_HEADER;
    l->workspace = rr_pages_alloc(RR_MEM_WORKSPACE, l->memory.workspace);
    if (!l->workspace)
        return rr_fail(err, RR_ENOMEM, "out of memory for %" PRIu64 " MB of workspace",
                       l->memory.workspace / 1000000);
    weights.base = (char *)(uintptr_t)l->weights; /* nothing writes there when it is a map */
    workspace.base = l->workspace;
    place_weights(l, l->steps, kept, &weights);
    place_workspace(l, &workspace);
    if (kept) return copy_weights(l, err);
    copy_vectors(l, p);
    for (uint32_t i = 0; i < l->n_steps; i++) {
        struct rr_cpu_step *s = &l->steps[i];

        if (s->op.kind != RR_OP_ATTENTION || !s->op.u.attention.relative.on) continue;
        rc = rr_cpu_relative_fill(s, l->device->kern, p->tensors, l->limits.max_length, err);
        if (rc) return rc;
    }
    rr_cpu_pack(l, p);
    if (rr_cpu_tables_convert(l, p)) rr_cpu_packed_save(l, p);
    return copy_weights(l, err);
}

static int create(struct rr_loaded **out, const struct rr_device *d, const struct rr_program *p,
                  const struct rr_limits *limits, struct rr_error *err)
{
    struct rr_loaded *l;
    int rc;

    *out = NULL;
    rc = rr_cpu_check(p, limits, err);
    if (rc) return rc;
    l = rr_calloc(RR_MEM_MODEL, 1, sizeof(*l));
    if (!l) return rr_fail(err, RR_ENOMEM, "out of memory for a program");
    l->device = (struct rr_device *)d; /* plan() does not use what it may not */
    l->limits = *limits;
    l->tuning = d->tuning;
    rc = build(l, p, err);
    if (rc) {
        rr_cpu_unload(l);
        return rc;
    }
    *out = l;
    return RR_OK;
}

int rr_cpu_plan_memory(const struct rr_device *d, const struct rr_program *p,
                       const struct rr_limits *limits, struct rr_memory *out,
                       struct rr_error *err)
{
    struct rr_loaded *l;
    int rc = create(&l, d, p, limits, err);

    if (rc) return rc;
    *out = l->memory;
    rr_cpu_unload(l);
    return RR_OK;
}

int rr_cpu_load(struct rr_device *d, const struct rr_program *p, const struct rr_limits *limits,
                struct rr_loaded **out, struct rr_error *err)
{
    int rc = create(out, d, p, limits, err);

    if (rc) return rc;
    rc = fill(*out, p, err);
    if (rc) {
        rr_cpu_unload(*out);
        *out = NULL;
    }
    return rc;
}

void rr_cpu_unload(struct rr_loaded *l)
{
    if (!l) return;
    rr_pages_free(RR_MEM_WORKSPACE, l->workspace, l->memory.workspace);
    free_copies(l);
    rr_pages_free(RR_MEM_WEIGHTS, l->block, RR_PACKED_HEADER + l->weight_bytes);
    rr_file_unmap(&l->packed);
    rr_free(l->team.places);
    rr_free(l->chunk.places);
    rr_free(l->segments);
    rr_free(l->steps);
    rr_free(l);
}
