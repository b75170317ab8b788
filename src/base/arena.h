/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h - bump allocator whose content dies at once.  Layer: base (L0).  Threads: one at a time.
 * Under AddressSanitizer the unused part of each block is poisoned. */
#ifndef RR_BASE_ARENA_H
#define RR_BASE_ARENA_H

#include <stddef.h>

#include "base/attr.h"
#include "base/mem.h"

struct rr_arena_block;

struct rr_arena { /* fields are private */
    struct rr_arena_block *blocks;
    size_t used;  /* bytes handed out, all blocks */
    size_t limit; /* never hand out more than this: what a client can make us allocate */
    enum rr_mem_tag tag;
};

/* limit: most bytes that the arena may hand out until reset. */
void rr_arena_init(struct rr_arena *a, enum rr_mem_tag tag, size_t limit);
void rr_arena_reset(struct rr_arena *a); /* forgets everything, frees all memory */

/* Zeroed, 16-byte aligned; NULL when memory is short, the limit is passed or n * size overflows. */
RR_NODISCARD void *rr_arena_alloc(struct rr_arena *a, size_t n, size_t size);
RR_NODISCARD char *rr_arena_strndup(struct rr_arena *a, const char *s, size_t len); /* adds a 0 */

#endif
