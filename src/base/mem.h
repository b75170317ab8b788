/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h - the only door to the allocator: purpose tags, checked sizes, fault points for tests.
 * Layer: base (L0).  Threads: any. */
#ifndef RR_BASE_MEM_H
#define RR_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/* What memory is used for: reported by rr_mem_usage. */
enum rr_mem_tag {
    RR_MEM_MISC,
    RR_MEM_JSON,
    RR_MEM_TOKENIZER,
    RR_MEM_MODEL,
    RR_MEM_WEIGHTS,
    RR_MEM_WORKSPACE,
    RR_MEM_REQUEST,
    RR_MEM_SERVER,
    RR_MEM_CACHE,
    RR_MEM_TAGS
};

/* All return NULL when memory is short or n * size overflows.  Memory is 16-byte aligned.
 * n == 0 gives a unique pointer that rr_free takes.  All but _alloc give zeroed memory where it is
 * new; rr_realloc keeps the tag of p and, on failure, p itself. */
RR_NODISCARD void *rr_alloc(enum rr_mem_tag tag, size_t n, size_t size);
RR_NODISCARD void *rr_calloc(enum rr_mem_tag tag, size_t n, size_t size);
RR_NODISCARD void *rr_realloc(enum rr_mem_tag tag, void *p, size_t n, size_t size);
RR_NODISCARD char *rr_strdup(enum rr_mem_tag tag, const char *s);
RR_NODISCARD char *rr_strndup(enum rr_mem_tag tag, const char *s, size_t len);
void rr_free(void *p); /* NULL is allowed */

/* Zeroed pages for weights and workspaces: 2 MiB aligned with a hint for huge pages when large,
 * 64-byte aligned always.  Freed with rr_pages_free and the same size. */
RR_NODISCARD void *rr_pages_alloc(enum rr_mem_tag tag, size_t bytes);
void rr_pages_free(enum rr_mem_tag tag, void *p, size_t bytes); /* NULL is allowed */

/* Bytes in use and their peak for one tag.  Relaxed counters: exact when nothing runs. */
void rr_mem_usage(enum rr_mem_tag tag, size_t *now, size_t *peak);
const char *rr_mem_tag_name(enum rr_mem_tag tag);

/* Tests: make the n-th allocation from now fail (1 = the next), 0 = none; with repeat, all after it
 * too.  rr_mem_fault_count tells how many allocations were made since. */
void rr_mem_fault(uint64_t nth, bool repeat);
uint64_t rr_mem_fault_count(void);

/* *out = a * b or a + b; false on overflow. */
static inline bool rr_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool rr_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

#endif
