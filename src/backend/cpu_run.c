/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_run.c - executes the plan of a batch: chunks by single workers, pieces by the team.
 * Layer: backend (L3).  Threads: run by the device's owner; the workers are the device's. */
#include <fenv.h>
#include <inttypes.h>

#include "backend/cpu_backend.h"
#include "base/err.h"

#define ROW_STEP 24          /* blocks are multiples of it: whole register tiles of every kernel */
#define SHARES_PER_WORKER 4  /* of an operation of the team: evens out workers of unequal speed */
#define LEAST_ROWS 24        /* in a share of a linear */
#define LEAST_LINEAR 200000  /* multiply-adds in a share of a linear: a few microseconds */
#define LEAST_QUERIES 32     /* in a share of attention: K and V are repacked for each share */

/* ---- frames ---------------------------------------------------------------------------------- */

static void place_areas(struct rr_cpu_frame *f, float *base)
{
    for (int a = 0; a < RR_CPU_AREAS; a++) {
        f->area[a] = base;
        base += f->layout->row_floats[a] * f->room.rows[a];
    }
}

/* The steps whose weights are on the worker's node. */
static const struct rr_cpu_step *steps_of(const struct rr_loaded *l, uint32_t worker)
{
    uint32_t node = rr_pool_node(l->device->pool, worker);

    return node ? l->copies[node - 1].steps : l->steps;
}

static struct rr_cpu_time *times_of(const struct rr_loaded *l, uint32_t worker)
{
    return l->times ? l->times + (size_t)worker * l->n_steps : NULL;
}

static void take_piece(struct rr_cpu_frame *f, const struct rr_cpu_plan *p,
                       const struct rr_cpu_piece *piece)
{
    f->order = p->order + piece->begin;
    f->starts = p->starts + piece->begin;
    f->n_sequences = piece->end - piece->begin;
    f->n_tokens = p->starts[piece->end] - p->starts[piece->begin];
    f->block0 = 0;
}

static uint32_t rows_of(const struct rr_cpu_step *s, const struct rr_cpu_frame *f)
{
    return s->rows == RR_ROWS_TOKENS ? f->n_tokens : f->n_sequences;
}

/* LINEAR is divided by columns, ATTENTION by heads, the others not at all. */
static uint32_t columns_of(const struct rr_cpu_step *s)
{
    if (s->op.kind == RR_OP_LINEAR) return s->linear.n;
    if (s->op.kind == RR_OP_ATTENTION) return s->op.u.attention.heads;
    return 1;
}

static void store_logits(const struct rr_loaded *l, const struct rr_cpu_frame *f)
{
    const struct rr_cpu_place *p = &f->layout->output;
    const float *row = f->area[p->area] + p->offset * f->room.rows[p->area];

    for (uint32_t i = 0; i < f->n_sequences; i++, row += p->ld) l->logits[f->order[i]] = *row;
}

/* A piece has passed its operations. */
static void end_piece(const struct rr_loaded *l, const struct rr_cpu_frame *f)
{
    if (l->plan.end < l->n_steps)
        rr_cpu_tail_put_off(l, f);
    else
        store_logits(l, f);
}

/* ---- one worker, one chunk ------------------------------------------------------------------- */

/* Rows in a block, so that all blocks of n rows are about equal. */
static uint32_t block_rows(uint32_t n, uint32_t most)
{
    uint32_t blocks = (n + most - 1) / most, rows = (n + blocks - 1) / blocks;

    rows = (rows + ROW_STEP - 1) / ROW_STEP * ROW_STEP;
    return RR_MIN(rows, most);
}

static void run_blocks(const struct rr_loaded *l, const struct rr_cpu_segment *segment,
                       struct rr_cpu_frame *f, float *scratch)
{
    const struct rr_cpu_narrow room = { scratch, l->tuning.block_rows };
    uint32_t rows = block_rows(f->n_tokens, f->room.rows[RR_CPU_BLOCK]);

    for (uint32_t row = 0; row < f->n_tokens; row += rows) {
        struct rr_cpu_share share = { row, RR_MIN(row + rows, f->n_tokens), 0, 0 };

        f->block0 = row;
        for (uint32_t i = segment->begin; i < segment->end; i++) {
            bool pair = i + 1 < segment->end && rows <= room.rows && rr_cpu_exec_pairs(l, i, f);

            if (pair) rr_cpu_exec_norm(l, i++, f, &share, &room, 0);
            share.col1 = columns_of(&l->steps[i]);
            if (pair)
                rr_cpu_exec_product(l, i, f, &share, &room, 0);
            else
                rr_cpu_exec(l, i, f, &share, scratch);
        }
    }
}

/* Attention on tokens goes sequence by sequence, everything else in one call. */
static void run_whole(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                      float *scratch)
{
    const struct rr_cpu_step *s = &l->steps[step];
    struct rr_cpu_share share = { 0, rows_of(s, f), 0, columns_of(s) };

    if (s->op.kind != RR_OP_ATTENTION || s->rows != RR_ROWS_TOKENS) {
        rr_cpu_exec(l, step, f, &share, scratch);
        return;
    }
    for (uint32_t i = 0; i < f->n_sequences; i++) {
        share.row0 = f->starts[i] - f->starts[0];
        share.row1 = f->starts[i + 1] - f->starts[0];
        rr_cpu_exec(l, step, f, &share, scratch);
    }
}

static void run_chunks(struct rr_loaded *l, uint32_t worker)
{
    struct rr_cpu_frame f = { .layout = &l->chunk, .room = l->chunk_room,
                              .steps = steps_of(l, worker), .times = times_of(l, worker) };
    float *scratch = l->scratch + worker * l->scratch_floats;
    uint32_t i;

    place_areas(&f, l->areas + worker * l->chunk_floats);
    /* Relaxed: the plan was published by the start of the job; only uniqueness matters here. */
    while ((i = atomic_fetch_add_explicit(&l->next_piece, 1, memory_order_relaxed)) <
           l->plan.solo_end) {
        take_piece(&f, &l->plan, &l->plan.pieces[i]);
        for (uint32_t s = 0; s < l->n_segments && l->segments[s].begin < l->plan.end; s++) {
            if (l->segments[s].by_rows)
                run_blocks(l, &l->segments[s], &f, scratch);
            else
                run_whole(l, l->segments[s].begin, &f, scratch);
        }
        end_piece(l, &f);
    }
}

/* ---- the team -------------------------------------------------------------------------------- */

/* How an operation is cut: a grid of groups (sequences of attention, otherwise 1), row parts and
 * column parts. */
struct grid {
    uint32_t groups, rows, cols;
};

static struct grid linear_grid(const struct rr_loaded *l, const struct rr_cpu_step *s, uint32_t m)
{
    uint32_t nr = s->linear.nr, panels = (s->linear.n + nr - 1) / nr;
    double work = (double)m * s->linear.n * s->linear.k;
    double most = RR_MIN(1 + work / LEAST_LINEAR, SHARES_PER_WORKER * l->device->threads);
    uint32_t shares = (uint32_t)most;
    struct grid g = { 1, 1, RR_MIN(panels, shares) };

    /* Columns first: then each worker streams its own part of the weights, once. */
    g.rows = RR_MIN((shares + g.cols - 1) / g.cols, (m + LEAST_ROWS - 1) / LEAST_ROWS);
    return g;
}

static struct grid team_grid(const struct rr_loaded *l, const struct rr_cpu_step *s,
                             const struct rr_cpu_frame *f)
{
    uint32_t shares = SHARES_PER_WORKER * l->device->threads, rows = rows_of(s, f);
    struct grid g = { 1, 1, 1 };

    if (s->op.kind == RR_OP_LINEAR) return linear_grid(l, s, rows);
    if (s->op.kind != RR_OP_ATTENTION) {
        g.rows = RR_MIN(rows, shares);
        return g;
    }
    g.groups = f->n_sequences;
    g.cols = s->op.u.attention.heads;
    if (s->rows == RR_ROWS_TOKENS && (uint64_t)g.groups * g.cols < shares) {
        uint32_t longest = f->starts[1] - f->starts[0];

        g.rows = (shares + g.groups * g.cols - 1) / (g.groups * g.cols);
        g.rows = RR_MIN(g.rows, (longest + LEAST_QUERIES - 1) / LEAST_QUERIES);
    }
    return g;
}

static uint32_t cut(uint32_t n, uint32_t part, uint32_t parts)
{
    return (uint32_t)((uint64_t)n * part / parts);
}

/* Share number i of an operation; false if it is empty. */
static bool team_share(const struct rr_cpu_step *s, const struct rr_cpu_frame *f,
                       const struct grid *g, uint32_t i, struct rr_cpu_share *out)
{
    uint32_t col = i % g->cols, row = i / g->cols % g->rows, group = i / g->cols / g->rows;
    uint32_t begin = 0, rows = rows_of(s, f), columns = columns_of(s), unit = 1;

    if (s->op.kind == RR_OP_ATTENTION) {
        bool tokens = s->rows == RR_ROWS_TOKENS;

        begin = tokens ? f->starts[group] - f->starts[0] : group;
        rows = tokens ? f->starts[group + 1] - f->starts[group] : 1;
    } else if (s->op.kind == RR_OP_LINEAR) {
        unit = s->linear.nr;
    }
    out->row0 = begin + cut(rows, row, g->rows);
    out->row1 = begin + cut(rows, row + 1, g->rows);
    out->col0 = unit * cut((columns + unit - 1) / unit, col, g->cols);
    out->col1 = RR_MIN(unit * cut((columns + unit - 1) / unit, col + 1, g->cols), columns);
    return out->row0 < out->row1 && out->col0 < out->col1;
}

/* The inputs of a LINEAR are converted by rows before it is shared by columns: once, not once for
 * each share.  After a norm, they are already. */
static void team_convert(struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f)
{
    uint32_t rows = f->n_tokens, n = RR_MIN(rows, SHARES_PER_WORKER * l->device->threads), i;

    while ((i = atomic_fetch_add_explicit(&l->tickets[l->n_steps + step], 1,
                                          memory_order_relaxed)) < n) {
        struct rr_cpu_share share = { cut(rows, i, n), cut(rows, i + 1, n), 0, 0 };

        rr_cpu_exec_convert(l, step, f, &share);
    }
    rr_pool_barrier(l->device->pool);
}

static void team_step(struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                      uint32_t worker)
{
    const struct rr_cpu_step *s = &l->steps[step];
    struct grid g = team_grid(l, s, f);
    uint32_t n = g.groups * g.rows * g.cols, i;
    struct rr_cpu_share share;
    bool pairs = rr_cpu_exec_pairs(l, step, f);

    if (rr_cpu_linear_converts(&s->linear, f->layout->places[step][RR_CPU_SRC].dtype) &&
        !(step > 0 && rr_cpu_exec_pairs(l, step - 1, f)))
        team_convert(l, step, f);
    /* Relaxed: the barriers order everything; here only uniqueness matters. */
    while ((i = atomic_fetch_add_explicit(&l->tickets[step], 1, memory_order_relaxed)) < n) {
        if (!team_share(s, f, &g, i, &share)) continue;
        if (pairs)
            rr_cpu_exec_norm(l, step, f, &share, &f->narrow, share.row0);
        else
            rr_cpu_exec(l, step, f, &share, l->scratch + worker * l->scratch_floats);
    }
    rr_pool_barrier(l->device->pool);
    /* For the next piece.  Nobody comes back to this step before another barrier, which needs
     * us. */
    if (worker != 0) return;
    atomic_store_explicit(&l->tickets[step], 0, memory_order_relaxed);
    atomic_store_explicit(&l->tickets[l->n_steps + step], 0, memory_order_relaxed);
}

static struct rr_cpu_frame team_frame(const struct rr_loaded *l, uint32_t worker)
{
    struct rr_cpu_frame f = { .layout = &l->team, .room = l->team_room,
                              .steps = steps_of(l, worker), .narrow = l->narrow,
                              .times = times_of(l, worker) };

    place_areas(&f, l->areas);
    return f;
}

static void run_team(struct rr_loaded *l, uint32_t begin, uint32_t end, uint32_t worker)
{
    struct rr_cpu_frame f = team_frame(l, worker);

    for (uint32_t i = begin; i < end; i++) {
        take_piece(&f, &l->plan, &l->plan.pieces[i]);
        for (uint32_t s = 0; s < l->plan.end; s++) team_step(l, s, &f, worker);
        if (worker == 0) end_piece(l, &f);
        rr_pool_barrier(l->device->pool); /* before anybody reuses the areas */
    }
}

/* What was put off, as many sequences at a time as there is room for. */
static void run_tail(struct rr_loaded *l, uint32_t worker)
{
    struct rr_cpu_frame f = team_frame(l, worker);
    uint32_t n = l->batch->n_sequences, room = f.room.rows[RR_CPU_SEQUENCES];

    for (uint32_t begin = 0; begin < n; begin += room) {
        struct rr_cpu_piece piece = { begin, RR_MIN(begin + room, n) };

        take_piece(&f, &l->plan, &piece);
        if (worker == 0) rr_cpu_tail_take(l, &f);
        rr_pool_barrier(l->device->pool);
        for (uint32_t s = l->tail.begin; s < l->n_steps; s++) team_step(l, s, &f, worker);
        if (worker == 0) store_logits(l, &f);
        rr_pool_barrier(l->device->pool);
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

static void work(void *user, uint32_t worker)
{
    struct rr_loaded *l = user;
    const struct rr_cpu_plan *p = &l->plan;
    fenv_t env;

    /* The caller's thread may round or flush otherwise than ours: a library that was built with
     * -ffast-math changes that behind its program's back.  Results must not depend on it. */
    fegetenv(&env);
    fesetenv(FE_DFL_ENV);
    if (p->solo_begin > 0) run_team(l, 0, p->solo_begin, worker);
    run_chunks(l, worker);
    if (p->solo_end < p->n_pieces) {
        rr_pool_barrier(l->device->pool);
        run_team(l, p->solo_end, p->n_pieces, worker);
    }
    if (p->end < l->n_steps) {
        rr_pool_barrier(l->device->pool);
        run_tail(l, worker);
    }
    fesetenv(&env);
}

/* The model layer has checked the batch; this keeps a mistake there from reading wild memory. */
static int check_batch(const struct rr_loaded *l, const struct rr_batch *b, struct rr_error *err)
{
    if (b->n_tokens > l->limits.max_tokens || b->n_sequences > l->limits.max_sequences)
        return rr_fail(err, RR_ETOOBIG,
                       "batch of %" PRIu32 " tokens in %" PRIu32 " sequences, loaded for %" PRIu32
                       " in %" PRIu32, b->n_tokens, b->n_sequences, l->limits.max_tokens,
                       l->limits.max_sequences);
    if (b->cu_seqlens[0] != 0 || b->cu_seqlens[b->n_sequences] != b->n_tokens)
        return rr_fail(err, RR_EINVAL,
                       "cu_seqlens begins with %" PRIu32 " and ends with %" PRIu32
                       ", expected 0 and %" PRIu32 " tokens", b->cu_seqlens[0],
                       b->cu_seqlens[b->n_sequences], b->n_tokens);
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        if (b->cu_seqlens[i + 1] <= b->cu_seqlens[i] || b->cu_seqlens[i + 1] > b->n_tokens)
            return rr_fail(err, RR_EINVAL, "sequence %" PRIu32 " of the batch is empty", i);
        if (b->cu_seqlens[i + 1] - b->cu_seqlens[i] > l->limits.max_length)
            return rr_fail(err, RR_ETOOBIG,
                           "sequence %" PRIu32 " has %" PRIu32 " tokens, loaded for %" PRIu32, i,
                           b->cu_seqlens[i + 1] - b->cu_seqlens[i], l->limits.max_length);
    }
    return RR_OK;
}

static int check_rows(const int32_t *rows, uint32_t n, const struct rr_cpu_table *t,
                      const char *what, struct rr_error *err)
{
    for (uint32_t i = 0; i < n; i++)
        if (rows[i] < 0 || (uint32_t)rows[i] >= t->rows)
            return rr_fail(err, RR_EINVAL,
                           "token %" PRIu32 " of the batch is outside the %s table of %" PRIu32
                           " rows", i, what, t->rows);
    return RR_OK;
}

void rr_cpu_observe(struct rr_loaded *l, rr_observe_fn *fn, void *user)
{
    l->observe = fn;
    l->observe_user = user;
}

void rr_cpu_profile(struct rr_loaded *l, struct rr_cpu_time *times)
{
    l->times = times;
}

int rr_cpu_run(struct rr_loaded *l, const struct rr_batch *batch, float *logits,
               struct rr_error *err)
{
    int rc;

    if (batch->n_sequences == 0 && batch->n_tokens == 0) return RR_OK;
    rc = check_batch(l, batch, err);
    for (uint32_t i = 0; i < l->n_steps && !rc; i++) {
        const struct rr_cpu_step *s = &l->steps[i];

        if (s->op.kind == RR_OP_ROTARY) {
            struct rr_cpu_table angles = { .rows = l->limits.max_length };

            rc = check_rows(batch->positions, batch->n_tokens, &angles, "angle", err);
        }
        if (s->op.kind != RR_OP_EMBED) continue;
        rc = check_rows(batch->ids, batch->n_tokens, &s->word, "word", err);
        if (!rc && s->position.data)
            rc = check_rows(batch->positions, batch->n_tokens, &s->position, "position", err);
        if (!rc && s->type.data)
            rc = check_rows(batch->types, batch->n_tokens, &s->type, "type", err);
    }
    if (rc) return rc;

    rr_cpu_plan_batch(l, batch);
    l->batch = batch;
    l->logits = logits;
    atomic_store_explicit(&l->next_piece, l->plan.solo_begin, memory_order_relaxed);
    if (l->plan.alone)
        work(l, 0);
    else
        rr_pool_run(l->device->pool, work, l);
    return RR_OK;
}
