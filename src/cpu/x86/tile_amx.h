/* SPDX-License-Identifier: Apache-2.0 */
/* tile_amx.h - int8 and bf16 tiles on AMX: TDPBUSD and TDPBF16PS.  Layer: cpu (L1).
 * Included by one level file, after vec_avx512.h; it defines linear_i8, linear_bf16 and, for
 * attention, tiles_bf16.  Source: Intel SDM volume 1 chapter 18.
 *
 * A step multiplies 32 rows by 32 columns with four tiles of sums (0 to 3), two of rows (4, 5) and
 * two of weights (6, 7).  16 groups of a packed panel, 16 columns wide, are a tile of weights as
 * they lie: 1 KB in one piece.  Tiles of rows are loaded 64 bytes a row.
 *
 * Weights of up to 16 steps stay in the L1 cache for all rows that meet them: rows come by loads
 * that leave them there.
 *
 * Each tile is loaded for the next step as soon as its last product of this one has begun.  Where
 * another thread has the same core, a load takes four times as long, and nothing overlaps that does
 * not stand apart: this order takes 104 ns a step then, all loads before all products 139. */
#ifndef RR_CPU_X86_TILE_AMX_H
#define RR_CPU_X86_TILE_AMX_H

#if defined(RR_EMULATE_AVX512)
#include "emul_amx.h"
#endif

#define I8_TOP 254
#define I8_WTOP RR_I8_WFREE
#define I8_ZERO 0
#define I8_OWN_LINEAR
#define BF16_X RR_BF16
#define BF16_OWN_LINEAR
#define OWN_TILES_END
#define OWN_SCORES

typedef uint16_t bf16_in;

#include "cpu/body_linear_i8.h"

#define TILE_BYTES 64 /* of a row of a tile */
#define TILE_ROWS 16
_Static_assert(SUMS == 2 * TILE_ROWS && PAIR_QUERIES <= SUMS && NARROW_NR == 2 * PACKED_NR &&
                   4 * PACKED_NR == TILE_BYTES,
               "a block is two tiles of rows by two of weights");

/* Shapes that this thread's tiles have.  To set and clear them takes as long as 16 products: they
 * stay until others are needed or the kernel ends (tiles_end). */
static _Thread_local struct {
    uint32_t upper, lower, bytes; /* all 0: none */
} tiles_now;

static RR_NOINLINE void set_shape(uint32_t upper, uint32_t lower, uint32_t bytes)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = { .palette = 1 };

    tiles_now.upper = upper;
    tiles_now.lower = lower;
    tiles_now.bytes = bytes;
    for (int t = 0; t < 8; t++) {
        bool low = t == 2 || t == 3 || t == 5;

        shape.rows[t] = (uint8_t)(t >= 6 ? bytes / 4 : low && lower ? lower : upper);
        shape.row_bytes[t] = (uint16_t)(t == 4 || t == 5 ? bytes : TILE_BYTES);
    }
    /* gcc's intrinsic declares that it reads 8 of the 64 bytes: the others must be stored too. */
    __asm__ volatile("" : : "r"(&shape) : "memory");
    _tile_loadconfig(&shape);
}

/* Shapes of the tiles: rows of sums and inputs in the upper and lower half; bytes in a row of
 * inputs, a quarter of which is the number of groups of weights. */
static inline void tiles_shape(uint32_t upper, uint32_t lower, uint32_t bytes)
{
    if (tiles_now.upper != upper || tiles_now.lower != lower || tiles_now.bytes != bytes)
        set_shape(upper, lower, bytes);
}

/* So that a context switch need not save the tiles. */
static void tiles_end(void)
{
    if (tiles_now.upper) _tile_release();
    tiles_now.upper = 0;
}

/* ---- what is done beside the products ------------------------------------------------------- */

/* What becomes of sums: floats, alone or added to others; bf16; or, through GELU, f16 or bf16. */
enum form { NOTHING, TO_F32, TO_F32_SUM, TO_BF16, TO_F16_GELU, TO_BF16_GELU, FORMS };

/* Sums that are complete, but not yet results: they become those row by row beside the next block's
 * products, which use neither the vector units nor their registers. */
struct rest {
    struct columns_i8 columns[NARROW_NV]; /* bf16: with a bias only */
    const char *acc;                      /* [rows][NARROW_NR] sums, i32 or, of bf16, f32 */
    const float *scale, *offset;          /* int8: of each row */
    char *y;
    size_t ldy;         /* bytes to the next row */
    ptrdiff_t residual; /* bytes from y to what is added */
    uint32_t rows;
    bool fine;      /* int8: two rows of sums make one */
    enum form form; /* NOTHING: no rows, and nothing else is set */
};

RR_INLINE void finish_row(struct rest *r, const bool bf16, const enum form form)
{
    RR_UNROLL
    for (uint32_t c = 0; c < NARROW_NR; c += VW) {
        const struct columns_i8 *columns = &r->columns[c / VW];
        const float *residual = (const float *)(const void *)(r->y + r->residual);
        v s = bf16 ? v_add(v_load((const float *)(const void *)r->acc + c), columns->bias)
                   : finish_sums((const int32_t *)(const void *)r->acc + c, r->fine, *r->offset,
                                 *r->scale, columns);

        if (form == TO_F16_GELU || form == TO_BF16_GELU) s = bf16 ? v_gelu(s) : v_gelu_i8(s);
        if (form == TO_F32_SUM) s = v_add(s, v_load(residual + c));
        if (form == TO_F32 || form == TO_F32_SUM)
            v_store((float *)(void *)r->y + c, s);
        else
            store_half((uint16_t *)(void *)r->y + c, s, form == TO_F16_GELU ? RR_F16 : RR_BF16, VW);
    }
    r->acc += 4 * NARROW_NR;
    if (!bf16) {
        if (r->fine) r->acc += 4 * NARROW_NR;
        r->scale++;
        r->offset++;
    }
    r->y += r->ldy;
    r->rows--;
}

/* What is fetched during a block: so many lines a step of the weights that come next, since the
 * processor by itself has too few on their way for products this fast, where weights come from the
 * L3 cache; and, with each row of the rest, one that this block's sums will be. */
struct ahead_amx {
    const char *weights;
    uint32_t lines;
    ptrdiff_t y; /* bytes from the rest's rows to this block's */
};

/* ---- blocks --------------------------------------------------------------------------------- */

/* Where a block's operands are: rows ldx bytes apart, 64 bytes a step; weights of its left and
 * right 16 columns, a tile a step. */
struct operands {
    const char *x, *left, *right;
    size_t ldx;
};

#define PRODUCT(sums, rows, weights)                                                               \
    do {                                                                                           \
        if (bf16)                                                                                  \
            _tile_dpbf16ps(sums, rows, weights);                                                   \
        else                                                                                       \
            _tile_dpbusd(sums, rows, weights);                                                     \
    } while (0)

#define LOAD_ROWS(tile, at)                                                                        \
    do {                                                                                           \
        if (stream)                                                                                \
            _tile_stream_loadd(tile, at, o.ldx);                                                   \
        else                                                                                       \
            _tile_loadd(tile, at, o.ldx);                                                          \
    } while (0)

/* Sums of the upper and lower tile of rows, [16][NARROW_NR] each, zeros if they are fresh. */
RR_INLINE void begin_sums(const char *upper, const char *lower, bool fresh, const bool two)
{
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        if (!two) return;
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, upper, 4 * NARROW_NR);
        _tile_loadd(1, upper + TILE_BYTES, 4 * NARROW_NR);
        if (!two) return;
        _tile_loadd(2, lower, 4 * NARROW_NR);
        _tile_loadd(3, lower + TILE_BYTES, 4 * NARROW_NR);
    }
}

RR_INLINE void store_sums(char *upper, char *lower, const bool two)
{
    _tile_stored(0, upper, 4 * NARROW_NR);
    _tile_stored(1, upper + TILE_BYTES, 4 * NARROW_NR);
    if (!two) return;
    _tile_stored(2, lower, 4 * NARROW_NR);
    _tile_stored(3, lower + TILE_BYTES, 4 * NARROW_NR);
}

/* acc: [up to 32][NARROW_NR] sums of one block, two tiles of rows or one, which begin with zero if
 * fresh is set.  Meanwhile all of the rest is finished: a row every few steps, or a few every
 * step.  Arguments come by address: copied to the stack as a whole, they would be read before their
 * parts, which were just stored, are there, for as long as half a step takes. */
RR_INLINE void block(void *acc, const struct operands *from, uint32_t steps, bool fresh,
                     const struct ahead_amx *ahead, const struct rest *before, const bool bf16,
                     const bool two, const bool stream, const enum form form)
{
    const struct operands o = *from;
    struct ahead_amx next = *ahead;
    char *upper = acc, *lower = upper + 4 * TILE_ROWS * NARROW_NR;
    const char *x = o.x, *x2 = x + TILE_ROWS * o.ldx, *left = o.left, *right = o.right;
    struct rest rest = { .rows = 0 };
    uint32_t each = 0, pause = 1;

    if (form != NOTHING) {
        rest = *before;
        each = (rest.rows + steps - 1) / steps;
        while (2 * pause * rest.rows <= steps) pause *= 2;
    }
    LOAD_ROWS(4, x);
    _tile_loadd(6, left, TILE_BYTES);
    _tile_loadd(7, right, TILE_BYTES);
    if (two) LOAD_ROWS(5, x2);
    begin_sums(upper, lower, fresh, two);
    while (--steps) {
        x += TILE_BYTES;
        x2 += TILE_BYTES;
        left += TILE_ROWS * TILE_BYTES;
        right += TILE_ROWS * TILE_BYTES;
        PRODUCT(0, 4, 6);
        PRODUCT(1, 4, 7);
        LOAD_ROWS(4, x);
        if (two) PRODUCT(2, 5, 6);
        _tile_loadd(6, left, TILE_BYTES);
        if (two) PRODUCT(3, 5, 7);
        _tile_loadd(7, right, TILE_BYTES);
        if (two) LOAD_ROWS(5, x2);
        for (uint32_t i = 0; i < next.lines; i++, next.weights += 64)
            __builtin_prefetch(next.weights, 0, 2);
        if (form == NOTHING || (!stream && steps & (pause - 1))) continue;
        for (uint32_t i = 0; i < (stream ? each : 1) && rest.rows; i++) {
            __builtin_prefetch(rest.y + next.y, 0, 2);
            if (form == TO_F32 || form == TO_F32_SUM)
                __builtin_prefetch(rest.y + next.y + 64, 0, 2);
            if (form == TO_F32_SUM) {
                __builtin_prefetch(rest.y + rest.residual + next.y, 0, 2);
                __builtin_prefetch(rest.y + rest.residual + next.y + 64, 0, 2);
            }
            finish_row(&rest, bf16, form);
        }
    }
    PRODUCT(0, 4, 6);
    PRODUCT(1, 4, 7);
    if (two) {
        PRODUCT(2, 5, 6);
        PRODUCT(3, 5, 7);
    }
    while (form != NOTHING && rest.rows) finish_row(&rest, bf16, form);
    store_sums(upper, lower, two);
}

#define BLOCK(name, bf16, two, stream, form)                                                       \
    static RR_NOINLINE void name(void *acc, const struct operands *o, uint32_t steps, bool fresh,  \
                                 const struct ahead_amx *next, const struct rest *before)          \
    {                                                                                              \
        block(acc, o, steps, fresh, next, before, bf16, two, stream, form);                        \
    }
#define BLOCKS(name, bf16, two, stream)                                                            \
    BLOCK(name, bf16, two, stream, NOTHING)                                                        \
    BLOCK(name##_f32, bf16, two, stream, TO_F32)                                                   \
    BLOCK(name##_sum, bf16, two, stream, TO_F32_SUM)                                               \
    BLOCK(name##_bf16, bf16, two, stream, TO_BF16)                                                 \
    BLOCK(name##_f16_gelu, bf16, two, stream, TO_F16_GELU)                                         \
    BLOCK(name##_bf16_gelu, bf16, two, stream, TO_BF16_GELU)
BLOCKS(tile_i8_1, false, false, false)
BLOCKS(tile_i8_2, false, true, false)
BLOCKS(tile_i8_2_stream, false, true, true)
BLOCKS(tile_bf16_1, true, false, false)
BLOCKS(tile_bf16_2, true, true, false)
BLOCKS(tile_bf16_2_stream, true, true, true)
#undef BLOCKS
#undef BLOCK
#undef LOAD_ROWS
#undef PRODUCT

#define ROW(name)                                                                                  \
    {                                                                                              \
        name, name##_f32, name##_sum, name##_bf16, name##_f16_gelu, name##_bf16_gelu               \
    }
static void (*const blocks[2][3][FORMS])(void *acc, const struct operands *o, uint32_t steps,
                                         bool fresh, const struct ahead_amx *next,
                                         const struct rest *before) = {
    { ROW(tile_i8_1), ROW(tile_i8_2), ROW(tile_i8_2_stream) },
    { ROW(tile_bf16_1), ROW(tile_bf16_2), ROW(tile_bf16_2_stream) },
};
#undef ROW

static void finish_rest(struct rest *rest, const bool bf16)
{
    if (rest->form == NOTHING) return;
    while (rest->rows) switch (rest->form) {
        case TO_F32: finish_row(rest, bf16, TO_F32); break;
        case TO_F32_SUM: finish_row(rest, bf16, TO_F32_SUM); break;
        case TO_BF16: finish_row(rest, bf16, TO_BF16); break;
        case TO_F16_GELU: finish_row(rest, bf16, TO_F16_GELU); break;
        case TO_BF16_GELU: finish_row(rest, bf16, TO_BF16_GELU); break;
        case NOTHING:
        case FORMS: return;
        }
}

/* ---- products of any size ------------------------------------------------------------------- */

#define L1_STEPS 16 /* whose weights, NARROW_NR columns, fill two thirds of the L1 cache */

/* Rows of x and columns of weights, in bytes. */
struct factors {
    const char *x, *weights; /* weights: NARROW_NR / PACKED_NR panels */
    size_t ldx, panel;
    uint32_t steps, left; /* along k: of 64 bytes of a row, and bytes of one more, or 0 */
};

static const struct ahead_amx nothing_ahead;

/* Whole steps, or the one that is left, of up to SUMS rows. */
static void multiply(const struct factors *f, bool bf16, bool left, void *acc, uint32_t row,
                     uint32_t rows, const struct ahead_amx *next, struct rest *rest)
{
    uint32_t from = left ? f->steps : 0, steps = left ? 1 : f->steps;
    uint32_t upper = RR_MIN(rows, (uint32_t)TILE_ROWS);
    size_t at = (size_t)from * TILE_ROWS * TILE_BYTES;
    struct operands o = { f->x + row * f->ldx + from * TILE_BYTES, f->weights + at,
                          f->weights + at + f->panel, f->ldx };
    int kind = rows <= TILE_ROWS ? 0 : steps > L1_STEPS ? 1 : 2;

    tiles_shape(upper, rows - upper, left ? f->left : TILE_BYTES);
    blocks[bf16][kind][rest->form](acc, &o, steps, from == 0, next, rest);
    rest->form = NOTHING;
}

/* acc: sums of rows [row, row + rows), at most SUMS.  Finishes the rest, if it has rows. */
static void all_steps(const struct factors *f, bool bf16, void *acc, uint32_t row, uint32_t rows,
                      const struct ahead_amx *next, struct rest *rest)
{
    if (f->steps) multiply(f, bf16, false, acc, row, rows, next, rest);
    if (f->left) multiply(f, bf16, true, acc, row, rows, &nothing_ahead, rest);
}

/* ---- the linear layers ---------------------------------------------------------------------- */

/* NOTHING: what becomes of n columns is not worth a form of its own. */
static enum form form_of(const struct rr_linear_i8 *a, uint32_t n)
{
    bool f16 = a->half.dtype == RR_F16, as_y = a->ldr == a->ldy;

    if (n < NARROW_NR) return NOTHING;
    if (a->act == RR_ACT_NONE && !a->half.y)
        return !a->residual ? TO_F32 : as_y ? TO_F32_SUM : NOTHING;
    if (a->act == RR_ACT_NONE && !f16) return TO_BF16;
    if (a->act == RR_ACT_GELU && a->half.y) return f16 ? TO_F16_GELU : TO_BF16_GELU;
    return NOTHING;
}

/* Sums acc of rows [row, row + rows) of results, columns from o on, are the rest. */
static void set_rest(struct rest *rest, const struct rr_linear_i8 *a, bool bf16, const int32_t *acc,
                     uint32_t row, uint32_t rows, uint32_t o, enum form form)
{
    size_t size = a->half.y ? sizeof(*a->half.y) : sizeof(*a->y), at = row * a->ldy + o;

    rest->form = form;
    if (form == NOTHING) return;
    rest->acc = (const char *)acc;
    rest->y = a->half.y ? (char *)(a->half.y + at) : (char *)(a->y + at);
    rest->ldy = a->ldy * size;
    rest->rows = rows;
    rest->residual = a->residual ? (ptrdiff_t)((uintptr_t)a->residual - (uintptr_t)a->y) : 0;
    for (uint32_t c = 0; c < NARROW_NR; c += VW)
        if (bf16)
            rest->columns[c / VW].bias = a->bias ? v_load(a->bias + o + c) : v_set(0.0f);
        else
            rest->columns[c / VW] = columns_i8(a, o + c, VW);
    if (bf16) return;
    rest->fine = a->x.fine;
    rest->scale = a->x.scale + row;
    rest->offset = a->x.offset + row;
}

/* At once.  a->bias NULL, as in set_rest: 0. */
static void finish(const struct rr_linear_i8 *a, bool bf16, const int32_t *acc, uint32_t row,
                   uint32_t rows, uint32_t o)
{
    static const float none[NARROW_NR];
    struct rr_half half = { a->half.y ? a->half.y + o : NULL, a->half.dtype };
    struct rr_linear_f32 f = { .y = a->half.y ? NULL : a->y + o,
                               .bias = a->bias ? a->bias + o : none,
                               .residual = a->residual ? a->residual + o : NULL,
                               .ldy = a->ldy,
                               .ldr = a->ldr,
                               .n_end = a->n_end - o,
                               .act = a->act };

    if (bf16)
        finish_f32(&f, &half, (const float *)acc, NARROW_NR, row, rows, 0, 1);
    else
        finish_i8(a, acc, row, rows, o);
}

/* Two blocks' sums, of which one waits to become results. */
struct sums {
    int32_t acc[2][SUMS * NARROW_NR] RR_ALIGNED(64);
    struct rest rest[2];
    uint32_t turn;
};

/* Rows [begin, end) of a layer, or of one of its parts along k; f: its factors from the first
 * column on. */
static void all_columns(struct sums *s, const struct rr_linear_i8 *a, struct factors f, bool bf16,
                        uint32_t begin, uint32_t end)
{
    const char *weights = f.weights;
    uint32_t each = rr_i8_rows(&a->x, 1), times = (end - begin + SUMS - 1) / SUMS;

    for (uint32_t o = a->n_begin; o < a->n_end; o += NARROW_NR) {
        enum form form = form_of(a, a->n_end - o);
        struct ahead_amx next = { .lines = (2 * TILE_ROWS + times - 1) / times };

        f.weights = weights + o / PACKED_NR * f.panel;
        next.weights = f.weights + 2 * f.panel;
        for (uint32_t row = begin; row < end; row += SUMS, s->turn ^= 1) {
            uint32_t rows = RR_MIN(end - row, (uint32_t)SUMS);
            struct rest *mine = &s->rest[s->turn], *before = &s->rest[s->turn ^ 1];
            int32_t *acc = s->acc[s->turn];

            set_rest(mine, a, bf16, acc, row / each, rows / each, o, form);
            if (form != NOTHING && before->form != NOTHING)
                next.y = (ptrdiff_t)((uintptr_t)mine->y - (uintptr_t)before->y);
            all_steps(&f, bf16, acc, row, rows, &next, before);
            if (form == NOTHING) finish(a, bf16, acc, row / each, rows / each, o);
            next.weights += 2 * f.panel / times;
        }
    }
}

/* All of a layer, along k in parts of `most` steps, whose results are added up in y.  Of one in
 * bf16, a says what concerns neither inputs nor weights. */
static void linear(const struct rr_linear_i8 *a, const struct factors *f, bool bf16, uint32_t most)
{
    uint32_t m = rr_i8_rows(&a->x, a->m);
    uint32_t block = rows_a_panel(m, most < f->steps ? (size_t)most * TILE_BYTES : f->ldx);
    struct sums s;

    s.rest[0].form = s.rest[1].form = NOTHING;
    s.turn = 0;
    for (uint32_t begin = 0; begin < m; begin += block) {
        struct rr_linear_i8 part = *a;
        uint32_t from = 0;

        do {
            struct factors g = *f;

            g.x += (size_t)from * TILE_BYTES;
            g.weights += (size_t)from * TILE_ROWS * TILE_BYTES;
            g.steps = RR_MIN(f->steps - from, most);
            from += g.steps;
            if (from < f->steps) g.left = 0;
            all_columns(&s, &part, g, bf16, begin, RR_MIN(begin + block, m));
            part.bias = NULL;
            part.residual = part.y;
            part.ldr = part.ldy;
        } while (from < f->steps);
    }
    finish_rest(&s.rest[s.turn ^ 1], bf16);
    tiles_end();
}

static void linear_i8(const struct rr_linear_i8 *a)
{
    uint32_t depth = rr_i8_depth(a->k);

    linear(a,
           &(struct factors){ .x = (const char *)a->x.q,
                              .weights = (const char *)a->panels,
                              .ldx = a->x.ld,
                              .panel = (size_t)depth * PACKED_NR,
                              .steps = depth / TILE_BYTES },
           false, depth / TILE_BYTES);
}

/* x: rows of k values. */
static struct factors factors_bf16(const void *x, size_t ldx, const uint16_t *panels, uint32_t k)
{
    uint32_t pairs = (k + 1) / 2;

    return (struct factors){ .x = x,
                             .weights = (const char *)panels,
                             .ldx = ldx * sizeof(bf16_in),
                             .panel = (size_t)pairs * 4 * PACKED_NR,
                             .steps = pairs / TILE_ROWS,
                             .left = pairs % TILE_ROWS * 4 };
}

/* A deep layer that adds to its residual goes in about equal parts of at most DEEPEST steps: as so
 * many more rows fit the L2 cache, weights come from beyond it half as often.  4096 to 1024 on an
 * idle machine: 173 ns for 32 x 32 x 64, 145 by parts. */
#define DEEPEST 64

static void linear_bf16(const struct rr_linear_bf16 *a)
{
    struct rr_linear_i8 l = { .y = a->y,
                              .half = a->half,
                              .bias = a->bias,
                              .residual = a->residual,
                              .ldy = a->ldy,
                              .ldr = a->ldr,
                              .m = a->m,
                              .n = a->n,
                              .n_begin = a->n_begin,
                              .n_end = a->n_end,
                              .act = a->act };
    struct factors f = factors_bf16(a->x, a->ldx, a->panels, a->k);
    uint32_t parts = a->residual && a->act == RR_ACT_NONE ? (f.steps + DEEPEST - 1) / DEEPEST : 1;

    linear(&l, &f, true, parts > 1 ? (f.steps + parts - 1) / parts : f.steps);
}

/* For attention: acc[rows][NARROW_NR] = at most SUMS rows of x times NARROW_NR columns. */
static void tiles_bf16(float *acc, const bf16_in *x, size_t ldx, const uint16_t *b, uint32_t k,
                       uint32_t rows, struct fetch fetch)
{
    struct factors f = factors_bf16(x, ldx, b, k);
    struct rest none;

    none.form = NOTHING;
    (void)fetch; /* all of it has just been packed */
    all_steps(&f, true, acc, 0, rows, &nothing_ahead, &none);
}

/* For attention: scores of at most SUMS queries, if they have two steps, as most heads do.  All of
 * them stay in tiles: 1 and 4 the first 16, 3 and 5 the others, so two loads of keys serve four
 * products. */
static bool own_scores(float *s, size_t step, const bf16_in *x, size_t ldx, const uint16_t *keys,
                       uint32_t pairs, uint32_t panels, uint32_t rows)
{
    uint32_t upper = RR_MIN(rows, (uint32_t)TILE_ROWS), lower = rows - upper;
    const char *q = (const char *)x, *next = (const char *)keys;

    if (pairs != 2 * TILE_ROWS) return false;
    ldx *= sizeof(*x);
    tiles_shape(upper, lower, TILE_BYTES);
    _tile_loadd(1, q, ldx);
    _tile_loadd(4, q + TILE_BYTES, ldx);
    if (lower) _tile_loadd(3, q + TILE_ROWS * ldx, ldx);
    if (lower) _tile_loadd(5, q + TILE_ROWS * ldx + TILE_BYTES, ldx);
    for (uint32_t i = 0; i < panels; i++, s += step)
        for (uint32_t c = 0; c < NARROW_NR; c += PACKED_NR, next += 2 * TILE_ROWS * TILE_BYTES) {
            _tile_loadd(6, next, TILE_BYTES);
            _tile_loadd(7, next + TILE_ROWS * TILE_BYTES, TILE_BYTES);
            _tile_zero(0);
            _tile_zero(2);
            _tile_dpbf16ps(0, 1, 6);
            if (lower) _tile_dpbf16ps(2, 3, 6);
            _tile_dpbf16ps(0, 4, 7);
            if (lower) _tile_dpbf16ps(2, 5, 7);
            _tile_stored(0, s + c, 4 * NARROW_NR);
            if (lower) _tile_stored(2, s + c + TILE_ROWS * NARROW_NR, 4 * NARROW_NR);
        }
    return true;
}

#endif
