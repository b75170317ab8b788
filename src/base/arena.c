/* SPDX-License-Identifier: Apache-2.0 */
/* arena.c - bump allocator: a list of blocks, the newest in front, each filled from its start.
 * Layer: base (L0).  Threads: one at a time. */
#include "base/arena.h"

#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n) ((void)0)
#define UNPOISON(p, n) ((void)0)
#endif

#define FIRST_BLOCK ((size_t)4096)
#define LARGEST_BLOCK ((size_t)256 << 10) /* larger only for a single object that is larger */

struct rr_arena_block {
    struct rr_arena_block *next;
    size_t cap, used;
    size_t unused; /* makes the header 32 bytes, so that data stay 16-byte aligned */
};

static char *block_data(struct rr_arena_block *b)
{
    return (char *)(b + 1);
}

void rr_arena_init(struct rr_arena *a, enum rr_mem_tag tag, size_t limit)
{
    *a = (struct rr_arena){ .limit = limit, .tag = tag };
}

void rr_arena_reset(struct rr_arena *a)
{
    while (a->blocks) {
        struct rr_arena_block *b = a->blocks;

        a->blocks = b->next;
        UNPOISON(block_data(b), b->cap);
        rr_free(b);
    }
    a->used = 0;
}

static struct rr_arena_block *add_block(struct rr_arena *a, size_t need)
{
    size_t cap = a->blocks ? RR_MIN(a->blocks->cap * 2, LARGEST_BLOCK) : FIRST_BLOCK;
    size_t total;
    struct rr_arena_block *b;

    if (cap < need) cap = need;
    if (!rr_add(cap, sizeof(*b), &total)) return NULL;
    b = rr_calloc(a->tag, 1, total);
    if (!b) return NULL;
    b->cap = cap;
    b->next = a->blocks;
    a->blocks = b;
    POISON(block_data(b), b->cap);
    return b;
}

void *rr_arena_alloc(struct rr_arena *a, size_t n, size_t size)
{
    struct rr_arena_block *b = a->blocks;
    size_t bytes, padded, used;
    char *p;

    if (!rr_mul(n, size, &bytes) || !rr_add(bytes, 15, &padded)) return NULL;
    padded &= ~(size_t)15;
    if (padded == 0) padded = 16; /* even nothing gets an address of its own */
    if (!rr_add(a->used, padded, &used) || used > a->limit) return NULL;
    if (!b || b->cap - b->used < padded) b = add_block(a, padded);
    if (!b) return NULL;
    p = block_data(b) + b->used;
    b->used += padded;
    a->used = used;
    UNPOISON(p, bytes);
    return p;
}

char *rr_arena_strndup(struct rr_arena *a, const char *s, size_t len)
{
    size_t bytes;
    char *copy;

    if (!rr_add(len, 1, &bytes)) return NULL;
    copy = rr_arena_alloc(a, bytes, 1);
    if (copy && len) memcpy(copy, s, len);
    return copy;
}
