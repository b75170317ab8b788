/* SPDX-License-Identifier: Apache-2.0 */
/* body_linear_f32.h - packed f32 matrix product with its epilogue.
 * Layer: cpu (L1).  Included by one level file, after body_rows.h; needs NR, the panel width (a
 * multiple of VW), MR, the rows of a full tile, and KC, the depth of a block along k.
 *
 * A tile is mr x NR sums in registers.  It starts from 0 or from where it left off in memory, and
 * ends there, so that the inner loop is alone in its function: compilers keep every sum in a
 * register (check_spills), a row of sums is the same chain of multiply-adds along k whatever mr and
 * KC are, and the epilogue is ordinary code.  The traffic is one load and store per KC
 * multiply-adds. */
#ifndef RR_CPU_BODY_LINEAR_F32_H
#define RR_CPU_BODY_LINEAR_F32_H

#include "cpu/body_rows.h"
#include "cpu/body_math.h"

#define NV (NR / VW) /* vectors in a row of a tile */
#if !defined(NARROW_NR)
#define NARROW_NR NR        /* columns of int8, bf16 or 16-bit weights that rows meet at once */
#define PACKED_NR NARROW_NR /* columns of their panels, of which one or more are met at once */
#endif
#define NARROW_NV (NARROW_NR / VW)
#if !defined(MB)
#define MB 144 /* rows that share a block of weights while it is in the caches */
#endif
#if !defined(SUMS)
#define SUMS MB /* rows whose sums with a panel of narrow weights are finished together */
#endif
#define GROUP (128 / NR) /* panels that share a block of rows while it is in the L2 cache */

/* Rows that a panel of narrow weights meets before the next one does, at most, and their bytes,
 * which leave room in an L2 cache of 1 MiB. */
#if !defined(PANEL_ROWS)
#define PANEL_ROWS 288
#define PANEL_BYTES (3u << 18)
#endif

/* Of m rows, row_bytes each, those that a panel of narrow weights meets before the next does: about
 * as many each time, as all weights are fetched for the last few, too. */
RR_INLINE uint32_t rows_a_panel(uint32_t m, size_t row_bytes)
{
    uint32_t most = RR_MIN(PANEL_ROWS, (uint32_t)(PANEL_BYTES / row_bytes)) / SUMS * SUMS;
    uint32_t times = (m + RR_MAX(most, SUMS) - 1) / RR_MAX(most, SUMS);

    return ((m + times - 1) / times + SUMS - 1) / SUMS * SUMS;
}

/* What the tiles fetch ahead: the weights after the block at hand, spread evenly over all its
 * tiles. Without it the first tile of each block waits for memory while the others wait for
 * nothing; worth a fifth of the time when the weights come from the L3 cache. */
struct ahead {
    const char *at;
    size_t step; /* bytes per turn of the inner loop */
};

/* Rows of results that are written soon, and what is added to them.  Their pieces lie so far apart
 * that no processor looks ahead by itself: a line that is fetched when it is written to takes 20 ns
 * where it comes from the L3 cache, longer than its products on AMX. */
struct results {
    const char *y, *residual; /* residual NULL: nothing is added, or it is y */
    size_t ldy, ldr;          /* bytes */
    uint32_t bytes;           /* of a row; 0: fetch nothing */
};

RR_INLINE void fetch_rows(const char *row, size_t ld, uint32_t bytes, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++, row += ld)
        for (uint32_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + b, 0, 2);
}

/* The first rows of them; those after these are next. */
RR_INLINE void fetch_results(struct results *r, uint32_t rows)
{
    fetch_rows(r->y, r->ldy, r->bytes, rows);
    r->y += rows * r->ldy;
    if (!r->residual) return;
    fetch_rows(r->residual, r->ldr, r->bytes, rows);
    r->residual += rows * r->ldr;
}

/* Of rows from `row` on, columns from o on, at most nr, which end at n. */
RR_INLINE struct results results(const float *y, const struct rr_half *half, size_t ldy,
                                 const float *residual, size_t ldr, uint32_t row, uint32_t o,
                                 uint32_t n, uint32_t nr)
{
    uint32_t size = half->y ? sizeof(*half->y) : sizeof(*y);
    const char *first = half->y ? (const char *)half->y : (const char *)y;

    return (struct results){
        .y = first + (row * ldy + o) * size,
        .residual = residual && residual != y ? (const char *)(residual + row * ldr + o) : NULL,
        .ldy = ldy * size,
        .ldr = ldr * sizeof(*residual),
        .bytes = RR_MIN(n - o, nr) * size,
    };
}

/* What some of the rows that a panel meets fetch: of the panel after it, and their results. */
struct fetch {
    const char *at;
    size_t bytes;
    struct results results;
};

/* For all rows at once; a panel is so many bytes. */
RR_INLINE struct fetch fetch_whole(const void *panel, size_t bytes)
{
    return (struct fetch){ .at = (const char *)panel + bytes, .bytes = bytes };
}

/* For rows [row, row + rows) of `all` rows. */
RR_INLINE struct fetch fetch_part(const void *panel, size_t bytes, uint32_t row, uint32_t rows,
                                  uint32_t all, struct results results)
{
    return (struct fetch){ (const char *)panel + bytes + bytes * row / all, bytes * rows / all,
                           results };
}

/* The same, spread over so many tiles of so many turns. */
RR_INLINE struct ahead spread(struct fetch part, size_t tiles, size_t turns)
{
    size_t all = RR_MAX(tiles * turns, 1);

    return (struct ahead){ part.at, (part.bytes + all - 1) / all };
}

struct tile_f32 {
    float *acc; /* [rows, lda]: NR sums in each row */
    size_t lda;
    bool add;       /* go on with acc; otherwise it is written only */
    const float *x; /* [rows, ldx], k of each */
    size_t ldx;
    const float *b; /* [k, NR] */
    uint32_t k;
    struct ahead next;
    struct results results; /* of the rows, if these are their last products */
};

/* acc[i][c] = or += sum over j < k of x[i][j] * b[j][c], in the order of j. */
RR_INLINE void tile_f32(const struct tile_f32 *t, const int mr)
{
    const float *x = t->x, *b = t->b;
    struct ahead next = t->next;
    v s[MR][NV];

    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NV; c++)
            s[i][c] = t->add ? v_load(t->acc + i * t->lda + c * VW) : v_set(0.0f);
    for (uint32_t j = 0; j < t->k; j++) {
        v w[NV];

        RR_UNROLL
        for (int c = 0; c < NV; c++)
            w[c] = v_load(b + c * VW);
        RR_UNROLL
        for (int i = 0; i < mr; i++) {
            v a = v_set(x[(size_t)i * t->ldx + j]);

            RR_UNROLL
            for (int c = 0; c < NV; c++)
                s[i][c] = v_fma(a, w[c], s[i][c]);
        }
        __builtin_prefetch(next.at, 0, 2);
        next.at += next.step;
        b += NR;
    }
    RR_UNROLL
    for (int i = 0; i < mr; i++)
        RR_UNROLL
        for (int c = 0; c < NV; c++)
            v_store(t->acc + i * t->lda + c * VW, s[i][c]);
}

#define TILE(mr)                                                                                   \
    static RR_NOINLINE void tile_f32_##mr(const struct tile_f32 *t) { tile_f32(t, mr); }
TILE(6)
TILE(5)
TILE(4)
TILE(3)
TILE(2)
TILE(1)
#undef TILE

/* Rows of the next tile: six, unless that would leave one or two, which cost as much as four. */
RR_INLINE uint32_t tile_rows(uint32_t left)
{
    return left > 9 ? 6 : left > 6 ? (left + 1) / 2 : left;
}

/* Any number of rows; after is the block of weights that will be needed next.  Moves acc and x
 * behind the rows: a copy of the arguments for each call would be read before its parts are
 * stored. */
static void tiles_f32(struct tile_f32 *t, uint32_t rows, const float *after)
{
    static void (*const tile[])(const struct tile_f32 *t) = {
        tile_f32_1, tile_f32_2, tile_f32_3, tile_f32_4, tile_f32_5, tile_f32_6,
    };

    t->next = (struct ahead){ (const char *)after, NR * sizeof(float) / ((rows + 5) / 6) };
    while (rows > 0) {
        uint32_t n = tile_rows(rows);

        fetch_results(&t->results, n);
        tile[n - 1](t);
        t->acc += n * t->lda;
        t->x += n * t->ldx;
        t->next.at += t->next.step * t->k;
        rows -= n;
    }
}

/* n values, at most VW, to nearest even. */
RR_INLINE void store_half(uint16_t *y, v a, enum rr_dtype dtype, uint32_t n)
{
    uint16_t t[VW], *to = n < VW ? t : y;

    if (dtype == RR_F16)
        v_store_f16(to, a);
    else
        store_bf16(to, a);
    if (n < VW) memcpy(y, t, n * sizeof(*y));
}

/* The first n of VW values at x, or all; zeros after them. */
RR_INLINE v load_upto(const float *x, uint32_t n)
{
    return n >= VW ? v_load(x) : v_load_n(x, n);
}

/* n values, at most VW, become y, with res added if there is one. */
RR_INLINE void store_columns(float *y, v s, const float *res, uint32_t n)
{
    if (n < VW) {
        if (res) s = v_add(s, v_load_n(res, n));
        v_store_n(y, s, n);
    } else {
        if (res) s = v_add(s, v_load(res));
        v_store(y, s);
    }
}

RR_INLINE v activate(v a, enum rr_act act)
{
    float t[VW];

    if (act == RR_ACT_GELU) return v_gelu(a);
    if (act == RR_ACT_RELU) return v_max(v_set(0.0f), a);
    if (act == RR_ACT_TANH) { /* the head only: one row per sequence */
        v_store(t, a);
        for (int i = 0; i < VW; i++)
            t[i] = tanhf(t[i]);
        return v_load(t);
    }
    return a;
}

/* Rows of nr finished sums become rows of y, or of half: n of the columns from o on, which is nr
 * or, at the end, less.  Nothing is read through a inside the loop: stores of y would have it read
 * anew. */
RR_INLINE void finish_columns(const struct rr_linear_f32 *a, const struct rr_half *half,
                              const float *acc, const uint32_t nr, uint32_t row, uint32_t rows,
                              uint32_t o, const uint32_t n, enum rr_act act)
{
    const float *res = a->residual ? a->residual + row * a->ldr + o : NULL;
    const size_t ldy = a->ldy, ldr = a->ldr;
    const enum rr_dtype dtype = half->dtype;
    uint16_t *y16 = half->y ? half->y + row * ldy + o : NULL;
    float *y = y16 ? NULL : a->y + row * ldy + o;
    v bias[NV];

    RR_UNROLL
    for (uint32_t c = 0; c < nr; c += VW)
        bias[c / VW] = c < n ? load_upto(a->bias + o + c, n - c) : v_set(0.0f);
    for (uint32_t i = 0; i < rows; i++, acc += nr) {
        RR_UNROLL
        for (uint32_t c = 0; c < nr; c += VW) {
            v s = activate(v_add(v_load(acc + c), bias[c / VW]), act);

            if (c < n && y16)
                store_half(y16 + c, s, dtype, n - c);
            else if (c < n)
                store_columns(y + c, s, res ? res + c : NULL, n - c);
        }
        if (y16)
            y16 += ldy;
        else
            y += ldy;
        if (res) res += ldr;
    }
}

/* The same for columns [o, end), nr at a time, whose sums lie rows x nr apart. */
RR_INLINE void finish_panels(const struct rr_linear_f32 *a, const struct rr_half *half,
                             const float *acc, const uint32_t nr, uint32_t row, uint32_t rows,
                             uint32_t o, uint32_t end, enum rr_act act)
{
    for (; o < end; o += nr, acc += (size_t)rows * nr) {
        if (a->n_end - o >= nr)
            finish_columns(a, half, acc, nr, row, rows, o, nr, act);
        else
            finish_columns(a, half, acc, nr, row, rows, o, a->n_end - o, act);
    }
}

RR_INLINE void finish_f32(const struct rr_linear_f32 *a, const struct rr_half *half,
                          const float *acc, const uint32_t nr, uint32_t row, uint32_t rows,
                          uint32_t o, uint32_t end)
{
    switch (a->act) {
    case RR_ACT_NONE: finish_panels(a, half, acc, nr, row, rows, o, end, RR_ACT_NONE); break;
    case RR_ACT_GELU: finish_panels(a, half, acc, nr, row, rows, o, end, RR_ACT_GELU); break;
    case RR_ACT_RELU: finish_panels(a, half, acc, nr, row, rows, o, end, RR_ACT_RELU); break;
    case RR_ACT_TANH: finish_panels(a, half, acc, nr, row, rows, o, end, RR_ACT_TANH); break;
    case RR_ACT_SILU:
    case RR_ACT_GELU_TANH: break; /* of gated units only */
    }
}

/* Rows [row, row + rows), at most MB, times columns [o, end), at most GROUP panels.  A block of
 * rows, KC deep, comes from the L2 cache for each panel and from memory once a group; a block of
 * weights is read once for all rows. */
static void group_f32(const struct rr_linear_f32 *a, uint32_t row, uint32_t rows, uint32_t o,
                      uint32_t end)
{
    float acc[GROUP * MB * NR] RR_ALIGNED(64);
    uint32_t panels = (end - o + NR - 1) / NR;
    size_t panel = (size_t)a->k * NR;
    const struct rr_half f32 = { .y = NULL };

    for (uint32_t k = 0; k < a->k; k += KC) {
        uint32_t depth = RR_MIN(a->k - k, (uint32_t)KC);
        const float *first = a->panels + (size_t)o * a->k + (size_t)k * NR;
        struct tile_f32 t = { .acc = acc, .lda = NR, .add = k > 0, .ldx = a->ldx, .b = first,
                              .k = depth };

        for (uint32_t p = 1; p <= panels; p++) {
            const float *after = p < panels ? t.b + panel : first + (size_t)depth * NR;

            t.x = a->x + row * a->ldx + k;
            if (k + depth == a->k)
                t.results = results(a->y, &f32, a->ldy, a->residual, a->ldr, row, o + (p - 1) * NR,
                                    end, NR);
            tiles_f32(&t, rows, after); /* acc moves on to the next panel's sums */
            t.b = after;
        }
    }
    finish_f32(a, &f32, acc, NR, row, rows, o, end);
}

static void linear_f32(const struct rr_linear_f32 *a)
{
    for (uint32_t row = 0; row < a->m; row += MB)
        for (uint32_t o = a->n_begin; o < a->n_end; o += GROUP * NR)
            group_f32(a, row, RR_MIN(a->m - row, (uint32_t)MB), o,
                      RR_MIN(o + GROUP * NR, a->n_end));
}

#endif
