/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_plan.c - how a batch is cut into work.  Layer: backend (L3).  Threads: the device's owner.
 *
 * Two ways of working, with opposite strengths.  A worker that takes some whole sequences through
 * the program alone never waits and keeps its activations in its own cache, but the workers end at
 * different times.  A team that shares each operation ends together, at the price of a barrier
 * after each and of activations that travel between caches.  So the workers take chunks, longest
 * sequences first, smaller chunks towards the end, and the team does what is left over when the
 * last round of chunks would leave too many without work.  Where to change over is decided by
 * adding up estimated times; nothing but time depends on it. */
#include "backend/cpu_backend.h"

#define FLOP_PER_NS 50.0     /* of one worker: the order of magnitude decides */
#define BARRIER_NS 1500.0    /* between two operations of the team, with the wait for the slowest */
#define TEAM_PRICE 1.06      /* operations of the team are that much slower, all in all */
#define WEIGHT_NS 0.02       /* per byte of weights for each chunk: what does not hide in compute */
#define ALONE_NS 40000.0     /* less work than this is not worth waking anybody */

static uint32_t length_of(const struct rr_batch *b, uint32_t sequence)
{
    return b->cu_seqlens[sequence + 1] - b->cu_seqlens[sequence];
}

/* Longest first, equal ones as they came.  Shell sort: no memory, and short lists. */
static void sort_sequences(uint32_t *order, const struct rr_batch *b)
{
    static const uint32_t gaps[] = { 3548, 1577, 701, 301, 132, 57, 23, 10, 4, 1 };

    for (uint32_t i = 0; i < b->n_sequences; i++) order[i] = i;
    for (size_t g = 0; g < RR_COUNT(gaps); g++) {
        for (uint32_t i = gaps[g]; i < b->n_sequences; i++) {
            uint32_t mine = order[i], length = length_of(b, mine), j = i;

            for (; j >= gaps[g]; j -= gaps[g]) {
                uint32_t other = order[j - gaps[g]], other_length = length_of(b, other);

                if (other_length > length || (other_length == length && other < mine)) break;
                order[j] = other;
            }
            order[j] = mine;
        }
    }
}

static uint32_t tokens_of(const struct rr_cpu_plan *p, uint32_t begin, uint32_t end)
{
    return p->starts[end] - p->starts[begin];
}

static double cost_ns(const struct rr_loaded *l, uint32_t tokens)
{
    const struct rr_cpu_cost *c = &l->cost;

    return (c->fixed + (c->linear + c->square * tokens) * tokens) / FLOP_PER_NS;
}

static double piece_ns(const struct rr_loaded *l, const struct rr_cpu_piece *piece)
{
    double sum = 0;

    for (uint32_t i = piece->begin; i < piece->end; i++)
        sum += cost_ns(l, tokens_of(&l->plan, i, i + 1));
    return sum;
}

static double team_ns(const struct rr_loaded *l, double work)
{
    return work == 0 ? 0
                     : work * TEAM_PRICE / l->device->threads + l->n_steps * BARRIER_NS +
                           (double)l->weight_bytes * WEIGHT_NS / l->device->threads;
}

/* Cuts sequences [begin, end) into pieces for the team, as large as there is room. */
static void add_team_pieces(struct rr_loaded *l, uint32_t begin, uint32_t end)
{
    struct rr_cpu_plan *p = &l->plan;
    uint32_t last;

    for (; begin < end; begin = last) {
        for (last = begin + 1; last < end; last++)
            if (tokens_of(p, begin, last + 1) > l->team_room.rows[RR_CPU_TOKENS] ||
                last + 1 - begin > l->team_room.rows[RR_CPU_SEQUENCES])
                break;
        p->pieces[p->n_pieces++] = (struct rr_cpu_piece){ begin, last };
    }
}

/* Cuts sequences [begin, end), of work ns, into chunks. */
static void add_chunks(struct rr_loaded *l, uint32_t begin, uint32_t end, double work)
{
    struct rr_cpu_plan *p = &l->plan;
    double most = l->tuning.chunk_tokens * l->cost.linear / FLOP_PER_NS;
    double fair = work / l->device->threads; /* nobody waits because others have large chunks */
    double least = RR_MIN(l->tuning.least_tokens * l->cost.linear / FLOP_PER_NS, fair);

    while (begin < end) {
        /* Half of a fair share of what is left: chunks get smaller towards the end, so that the
         * workers end together.  A single worker has nobody to wait for. */
        double aim = l->device->threads == 1 ? work : work / (2.0 * l->device->threads);
        double sum = cost_ns(l, tokens_of(p, begin, begin + 1));
        uint32_t last = begin + 1;

        aim = RR_MAX(RR_MIN(aim, most), least);
        for (; last < end; last++) {
            double next = cost_ns(l, tokens_of(p, last, last + 1));

            if (sum + next / 2 > aim) break;
            if (tokens_of(p, begin, last + 1) > l->chunk_room.rows[RR_CPU_TOKENS]) break;
            if (last + 1 - begin > l->chunk_room.rows[RR_CPU_SEQUENCES]) break;
            sum += next;
        }
        p->pieces[p->n_pieces++] = (struct rr_cpu_piece){ begin, last };
        work -= sum;
        begin = last;
    }
}

/* How many of the chunks [first, n_pieces) the workers should take before the team takes over:
 * follows the workers, each taking a chunk as soon as it is free. */
static uint32_t chunks_before_team(const struct rr_loaded *l, uint32_t first, double work)
{
    const struct rr_cpu_plan *p = &l->plan;
    double overhead = (double)l->weight_bytes * WEIGHT_NS, end = 0;
    double best = team_ns(l, work);
    uint32_t best_count = 0;

    for (uint32_t w = 0; w < l->device->threads; w++) p->load[w] = 0;
    for (uint32_t i = first; i < p->n_pieces; i++) {
        double ns = piece_ns(l, &p->pieces[i]), total;
        uint32_t free = 0;

        for (uint32_t w = 1; w < l->device->threads; w++)
            if (p->load[w] < p->load[free]) free = w;
        p->load[free] += ns + overhead;
        end = RR_MAX(end, p->load[free]);
        work -= ns;
        total = end + (i + 1 < p->n_pieces ? team_ns(l, work) : 0);
        if (total < best) {
            best = total;
            best_count = i + 1 - first;
        }
    }
    return best_count;
}

static double work_of(const struct rr_loaded *l, uint32_t begin, uint32_t end)
{
    struct rr_cpu_piece all = { begin, end };

    return piece_ns(l, &all);
}

static void cut_batch(struct rr_loaded *l, const struct rr_batch *batch)
{
    struct rr_cpu_plan *p = &l->plan;
    uint32_t n = batch->n_sequences, longs = 0, rest;
    double work;

    sort_sequences(p->order, batch);
    p->starts[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        p->starts[i + 1] = p->starts[i] + length_of(batch, p->order[i]);
    p->n_pieces = 0;

    while (longs < n && tokens_of(p, longs, longs + 1) > l->chunk_room.rows[RR_CPU_TOKENS]) longs++;
    if (l->tuning.mode == RR_CPU_TEAM) longs = n;
    add_team_pieces(l, 0, longs);
    p->solo_begin = p->n_pieces;

    work = work_of(l, longs, n);
    p->alone = longs == 0 && work < ALONE_NS;
    add_chunks(l, longs, n, work);
    p->solo_end = p->n_pieces;
    if (p->alone || l->tuning.mode != RR_CPU_AUTO || l->device->threads == 1) return;
    p->solo_end = p->solo_begin + chunks_before_team(l, p->solo_begin, work);
    if (p->solo_end == p->n_pieces) return;
    rest = p->pieces[p->solo_end].begin; /* the team takes the last chunks in larger pieces */
    p->n_pieces = p->solo_end;
    add_team_pieces(l, rest, n);
}

void rr_cpu_plan_batch(struct rr_loaded *l, const struct rr_batch *batch)
{
    struct rr_cpu_plan *p = &l->plan;

    cut_batch(l, batch);
    p->end = p->n_pieces > 1 && !p->alone ? l->tail.begin : l->n_steps;
}
