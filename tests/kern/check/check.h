/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - what the kernel checks share: random numbers, guarded memory, counting.  Layer: tests.
 *
 * A check function runs one kernel of one level against the reference on many random and some
 * hand-picked shapes; every case prints nothing when it is right. */
#ifndef RR_TESTS_KERN_CHECK_H
#define RR_TESTS_KERN_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/kern.h"

struct check {
    const struct rr_kern *kern; /* the level under test */
    const struct rr_kern *ref;
    const char *function; /* of the kernel, for messages */
    uint64_t rng;
    uint32_t cases; /* how many random cases to try */
    uint32_t passed, failed;
};

typedef void check_fn(struct check *c);

struct check_entry {
    const char *function;
    check_fn *run;
    bool (*has)(const struct rr_kern *k); /* NULL: every level has it */
};

/* All checks; each list ends with an entry without function. */
extern const struct check_entry check_f32_entries[];
extern const struct check_entry check_rotary_entries[];
extern const struct check_entry check_i8_entries[];
extern const struct check_entry check_bf16_entries[];
extern const struct check_entry check_i16_entries[];

/* Levels compiled against emulated instructions; ends with NULL. */
extern const struct rr_kern *const check_emulated[];

/* ---- random -------------------------------------------------------------------------------- */

uint32_t check_random(struct check *c, uint32_t n);              /* in [0, n) */
uint32_t check_between(struct check *c, uint32_t a, uint32_t b); /* in [a, b] */
float check_normal(struct check *c);                             /* about N(0, 1) */
void check_fill(struct check *c, float *p, size_t n, float scale);
uint32_t check_pick(struct check *c, const uint32_t *list, size_t n);
#define CHECK_PICK(c, ...) \
    check_pick(c, (const uint32_t[]){ __VA_ARGS__ }, \
               sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

/* ---- memory -------------------------------------------------------------------------------- */

/* Zeroed memory that ends where a page begins that may not be touched: a read or write past its
 * last byte kills the program.  Aligned to 64 bytes if aligned is set (then up to 60 bytes lie
 * between its end and the page) and to 4 otherwise.  Freed, all at once, by check_free. */
void *check_alloc(size_t bytes, bool aligned);
void check_free(void);

/* Fills memory with a value that no kernel computes, to see afterwards what was written. */
#define CHECK_UNTOUCHED 0xA5
void check_mark(void *p, size_t bytes);

/* ---- judging ------------------------------------------------------------------------------- */

/* One case: counts, and says what is wrong in one line.  Returns ok. */
bool check_case(struct check *c, bool ok, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* True if the columns [from, to) of each row of a [m, ld] matrix of elements of size bytes are as
 * check_mark left them (the last row ends at to). */
bool check_columns_untouched(const void *p, size_t size, uint32_t m, size_t ld, uint32_t from,
                             uint32_t to);

/* True if the columns [from, to) of two [m, ld] matrices have the same bits. */
bool check_columns_equal(const void *a, const void *b, size_t size, uint32_t m, size_t ld,
                         uint32_t from, uint32_t to);

/* One case: whether [m, n] values of row stride ld are those of want, rounded, and nothing else was
 * written. */
void check_halves(struct check *c, const uint16_t *half, enum rr_dtype dtype, const float *want,
                  uint32_t m, size_t ld, uint32_t n);

/* ---- benchmark ----------------------------------------------------------------------------- */

/* Prints speeds of every kernel of the level whose name contains function. */
void check_bench(const struct rr_kern *k, const char *function);

#endif
