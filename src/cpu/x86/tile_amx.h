/* SPDX-License-Identifier: Apache-2.0 */
/* tile_amx.h - int8 and bf16 tiles on AMX: TDPBUSD and TDPBF16PS.  Layer: cpu (L1).
 * Included by one level file, after vec_avx512.h and body_linear_f32.h; it defines tiles_i8 and
 * tiles_bf16.  Source: Intel SDM volume 1 chapter 18.
 *
 * A step multiplies 32 rows by 32 columns with four tiles of sums (0 to 3), two of rows (4, 5) and
 * two of weights (6, 7).  16 groups of a packed panel are a tile of weights as they lie: 16 rows of
 * 16 columns x 4 bytes, one row of the panel, 4 NR bytes, apart. */
#ifndef RR_CPU_X86_TILE_AMX_H
#define RR_CPU_X86_TILE_AMX_H

#include "cpu/body_linear_f32.h"

#if defined(RR_EMULATE_AVX512)
#include "emul_amx.h"
#endif

#define I8_TOP 254
#define I8_WTOP RR_I8_WFREE
#define I8_ZERO 0
#define I8_OWN_TILES
#define BF16_X RR_BF16
#define BF16_OWN_TILES
#define OWN_TILES_END

typedef uint16_t bf16_in;

#define TILE_BYTES 64 /* of a row of a tile */
#define TILE_ROWS 16

/* Shapes that this thread's tiles have.  To set and clear them takes as long as 16 products: they
 * stay until others are needed or the kernel ends (tiles_end). */
static _Thread_local struct {
    uint32_t upper, lower, bytes; /* all 0: none */
} tiles_now;

/* Shapes of the tiles: rows of sums and inputs in the upper and lower half; bytes in a row of
 * inputs, a quarter of which is the number of groups of weights. */
static void tiles_shape(uint32_t upper, uint32_t lower, uint32_t bytes)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = { .palette = 1 };

    if (tiles_now.upper == upper && tiles_now.lower == lower && tiles_now.bytes == bytes) return;
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

/* So that a context switch need not save the tiles. */
static void tiles_end(void)
{
    if (tiles_now.upper) _tile_release();
    tiles_now.upper = 0;
}

/* What each step fetches of the weights that come next: the processor by itself has too few lines
 * on their way for products this fast, where weights come from the L3 cache.  And what each of the
 * first steps fetches of results that are written soon: two lines of a row. */
#define ROW_BYTES 128
struct lines {
    const char *at, *end;
    size_t a_step;
    const char *y;
    size_t ldy;
    uint32_t rows;
};

/* Products of two tiles of rows, or of one, a step each; moves what it is given on. */
#define STEPS(name, product)                                                                       \
    RR_INLINE void name##_steps(const char **x, size_t ldx, const char **w, uint32_t steps,        \
                                struct lines *next, const bool two, const bool results)            \
    {                                                                                              \
        for (uint32_t j = 0; j < steps; j++) {                                                     \
            _tile_loadd(6, *w, 4 * NR);                                                            \
            _tile_loadd(4, *x, ldx);                                                               \
            product(0, 4, 6);                                                                      \
            _tile_loadd(7, *w + TILE_BYTES, 4 * NR);                                               \
            product(1, 4, 7);                                                                      \
            if (two) _tile_loadd(5, *x + TILE_ROWS * ldx, ldx);                                    \
            for (next->end += next->a_step; next->at < next->end; next->at += 64)                  \
                __builtin_prefetch(next->at, 0, 2);                                                \
            if (results) {                                                                         \
                fetch_rows(next->y, next->ldy, ROW_BYTES, 1);                                      \
                next->y += next->ldy;                                                              \
            }                                                                                      \
            if (two) {                                                                             \
                product(2, 5, 6);                                                                  \
                product(3, 5, 7);                                                                  \
            }                                                                                      \
            *x += TILE_BYTES;                                                                      \
            *w += (size_t)TILE_ROWS * 4 * NR;                                                      \
        }                                                                                          \
    }
STEPS(tile_i8, _tile_dpbusd)
STEPS(tile_bf16, _tile_dpbf16ps)
#undef STEPS

/* acc: [up to 32][NR] sums, which begin with zero if fresh is set.  x: rows ldx bytes apart, 64
 * bytes a step.  b: 16 groups a step. */
#define TILE(name, walk, two)                                                                      \
    static RR_NOINLINE void name(void *acc, const void *x, size_t ldx, const void *b,              \
                                 uint32_t steps, bool fresh, struct lines next)                    \
    {                                                                                              \
        const char *in = (const char *)x, *w = (const char *)b;                                    \
        char *s = (char *)acc, *t = s + TILE_ROWS * 4 * NR;                                        \
        uint32_t first = RR_MIN(steps, next.rows);                                                 \
                                                                                                   \
        if (fresh) {                                                                               \
            _tile_zero(0);                                                                         \
            _tile_zero(1);                                                                         \
            if (two) {                                                                             \
                _tile_zero(2);                                                                     \
                _tile_zero(3);                                                                     \
            }                                                                                      \
        } else {                                                                                   \
            _tile_loadd(0, s, 4 * NR);                                                             \
            _tile_loadd(1, s + TILE_BYTES, 4 * NR);                                                \
            if (two) {                                                                             \
                _tile_loadd(2, t, 4 * NR);                                                         \
                _tile_loadd(3, t + TILE_BYTES, 4 * NR);                                            \
            }                                                                                      \
        }                                                                                          \
        walk(&in, ldx, &w, first, &next, two, true);                                               \
        walk(&in, ldx, &w, steps - first, &next, two, false);                                      \
        _tile_stored(0, s, 4 * NR);                                                                \
        _tile_stored(1, s + TILE_BYTES, 4 * NR);                                                   \
        if (two) {                                                                                 \
            _tile_stored(2, t, 4 * NR);                                                            \
            _tile_stored(3, t + TILE_BYTES, 4 * NR);                                               \
        }                                                                                          \
    }
TILE(tile_i8_2, tile_i8_steps, true)
TILE(tile_i8_1, tile_i8_steps, false)
TILE(tile_bf16_2, tile_bf16_steps, true)
TILE(tile_bf16_1, tile_bf16_steps, false)
#undef TILE

/* What a tile of `here` rows from row i on, columns from c on, fetches of the results: its own
 * lines, or, where a panel's columns fit in ROW_BYTES, all lines of half of the rows. */
static void next_results(struct lines *next, const struct results *r, uint32_t i, uint32_t here,
                         uint32_t c, uint32_t steps)
{
    bool halves = r->bytes <= ROW_BYTES;
    uint32_t row = halves && c ? here / 2 : 0, end = halves && !c ? here / 2 : here;
    size_t column = halves || !c ? 0 : ROW_BYTES;

    next->rows = column < r->bytes ? end - row : 0;
    next->y = r->y + (i + row) * r->ldy + column;
    if (next->rows <= steps) return;
    fetch_rows(next->y + steps * next->ldy, next->ldy, ROW_BYTES, next->rows - steps);
    next->rows = steps;
}

/* All rows, all columns of a panel; a step takes bytes of a row (64, or fewer for a remainder). */
static void tiles(bool bf16, bool fresh, void *acc, const void *x, size_t ldx, const void *b,
                  uint32_t steps, uint32_t bytes, uint32_t rows, struct fetch part)
{
    const uint32_t columns = 2 * TILE_BYTES / 4;
    uint32_t turns = (rows + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS) * (NR / columns) * steps;
    struct lines next = { .at = part.at,
                          .end = part.at,
                          .a_step = (part.bytes + turns - 1) / turns,
                          .ldy = part.results.ldy };

    if (part.results.residual)
        fetch_rows(part.results.residual, part.results.ldr, part.results.bytes, rows);
    for (uint32_t i = 0; i < rows; i += 2 * TILE_ROWS) {
        uint32_t here = RR_MIN(rows - i, 2u * TILE_ROWS), upper = RR_MIN(here, (uint32_t)TILE_ROWS);
        const char *in = (const char *)x + i * ldx;

        tiles_shape(upper, here - upper, bytes);
        for (uint32_t c = 0; c < NR; c += columns) {
            char *s = (char *)acc + (size_t)4 * (i * NR + c);
            const char *w = (const char *)b + (size_t)4 * c;

            next_results(&next, &part.results, i, here, c, steps);
            if (here > TILE_ROWS)
                (bf16 ? tile_bf16_2 : tile_i8_2)(s, in, ldx, w, steps, fresh, next);
            else
                (bf16 ? tile_bf16_1 : tile_i8_1)(s, in, ldx, w, steps, fresh, next);
            next.at = next.end += steps * next.a_step;
        }
    }
}

static void tiles_i8(int32_t *acc, const int32_t *first, const int8_t *x, size_t ldx,
                     const int8_t *b, uint32_t k, uint32_t rows, struct fetch part)
{
    (void)first; /* zeros: bytes are what they stand for */
    tiles(false, true, acc, x, ldx, b, rr_i8_depth(k) / TILE_BYTES, TILE_BYTES, rows, part);
}

static void tiles_bf16(float *acc, const bf16_in *x, size_t ldx, const uint16_t *b, uint32_t k,
                       uint32_t rows, struct fetch part)
{
    uint32_t pairs = (k + 1) / 2, steps = pairs / TILE_ROWS, rest = pairs % TILE_ROWS;

    if (steps) tiles(true, true, acc, x, 2 * ldx, b, steps, TILE_BYTES, rows, part);
    if (rest)
        tiles(true, steps == 0, acc, x + (size_t)steps * 2 * TILE_ROWS, 2 * ldx,
              b + (size_t)steps * TILE_ROWS * 2 * NR, 1, 4 * rest, rows,
              (struct fetch){ .at = (const char *)b });
}

#endif
