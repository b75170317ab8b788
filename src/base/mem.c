/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c - the allocator's door.  Each block has a 16-byte header in front with its size and tag:
 *
 *     malloc's pointer -> | size (8) | tag (4) | unused (4) | the caller's bytes ...
 *
 * 16 keeps the alignment that malloc gives.  Pages come from mmap and have no header, their size is
 * given back by the caller.  Layer: base (L0).  Threads: any. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_FROM ((size_t)4 << 20) /* below, rounding to 2 MiB would waste too large a part */
#define PAGE ((size_t)4096)

struct header {
    size_t size;
    uint32_t tag;
    uint32_t unused;
};
_Static_assert(sizeof(struct header) == 16, "keeps malloc's alignment");

/* All relaxed: the counters order nothing and are read for reports only. */
static struct {
    atomic_size_t now, peak;
} usage[RR_MEM_TAGS];

static atomic_uint_fast64_t fault_nth, fault_count;
static atomic_bool fault_repeat;

static bool fails(void)
{
    uint64_t n = atomic_fetch_add_explicit(&fault_count, 1, memory_order_relaxed) + 1;
    uint64_t nth = atomic_load_explicit(&fault_nth, memory_order_relaxed);

    if (RR_UNLIKELY(nth != 0)) {
        if (n == nth) return true;
        return n > nth && atomic_load_explicit(&fault_repeat, memory_order_relaxed);
    }
    return false;
}

static void count_up(uint32_t tag, size_t bytes)
{
    size_t now = atomic_fetch_add_explicit(&usage[tag].now, bytes, memory_order_relaxed) + bytes;
    size_t peak = atomic_load_explicit(&usage[tag].peak, memory_order_relaxed);

    while (now > peak &&
           !atomic_compare_exchange_weak_explicit(&usage[tag].peak, &peak, now,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

static void count_down(uint32_t tag, size_t bytes)
{
    atomic_fetch_sub_explicit(&usage[tag].now, bytes, memory_order_relaxed);
}

static void *new_block(enum rr_mem_tag tag, size_t n, size_t size, bool zero)
{
    struct header *h;
    size_t bytes, total;

    if (!rr_mul(n, size, &bytes) || !rr_add(bytes, sizeof(*h), &total)) return NULL;
    if (fails()) return NULL;
    h = zero ? calloc(1, total) : malloc(total);
    if (!h) return NULL;
    h->size = bytes;
    h->tag = (uint32_t)tag;
    count_up(h->tag, bytes);
    return h + 1;
}

void *rr_alloc(enum rr_mem_tag tag, size_t n, size_t size)
{
    return new_block(tag, n, size, false);
}

void *rr_calloc(enum rr_mem_tag tag, size_t n, size_t size)
{
    return new_block(tag, n, size, true);
}

void *rr_realloc(enum rr_mem_tag tag, void *p, size_t n, size_t size)
{
    struct header *h;
    size_t bytes, total, old;

    if (!p) return rr_calloc(tag, n, size);
    if (!rr_mul(n, size, &bytes) || !rr_add(bytes, sizeof(*h), &total)) return NULL;
    if (fails()) return NULL;
    h = (struct header *)p - 1;
    old = h->size;
    h = realloc(h, total);
    if (!h) return NULL;
    h->size = bytes;
    if (bytes > old) {
        memset((char *)(h + 1) + old, 0, bytes - old);
        count_up(h->tag, bytes - old);
    } else {
        count_down(h->tag, old - bytes);
    }
    return h + 1;
}

char *rr_strndup(enum rr_mem_tag tag, const char *s, size_t len)
{
    size_t bytes;
    char *copy;

    if (!rr_add(len, 1, &bytes)) return NULL;
    copy = rr_alloc(tag, bytes, 1);
    if (!copy) return NULL;
    if (len) memcpy(copy, s, len);
    copy[len] = 0;
    return copy;
}

char *rr_strdup(enum rr_mem_tag tag, const char *s)
{
    return rr_strndup(tag, s, strlen(s));
}

void rr_free(void *p)
{
    struct header *h;

    if (!p) return;
    h = (struct header *)p - 1;
    count_down(h->tag, h->size);
    free(h);
}

/* What a request for bytes takes from the system; 0 on overflow. */
static size_t pages_size(size_t bytes)
{
    size_t unit = bytes >= HUGE_FROM ? HUGE_PAGE : PAGE;
    size_t total;

    if (bytes == 0) return PAGE;
    if (!rr_add(bytes, unit - 1, &total)) return 0;
    return total / unit * unit;
}

/* Maps size bytes at a multiple of 2 MiB: maps more, then gives back what sticks out. */
static void *map_aligned(size_t size)
{
    size_t more, head, tail;
    char *p;

    if (!rr_add(size, HUGE_PAGE, &more)) return MAP_FAILED;
    p = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return MAP_FAILED;
    head = (HUGE_PAGE - ((uintptr_t)p & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    tail = more - head - size;
    if (head) munmap(p, head);
    if (tail) munmap(p + head + size, tail);
    /* A hint: without it the pages are small and everything still works. */
    (void)madvise(p + head, size, MADV_HUGEPAGE);
    return p + head;
}

void *rr_pages_alloc(enum rr_mem_tag tag, size_t bytes)
{
    size_t size = pages_size(bytes);
    void *p;

    if (size == 0 || fails()) return NULL;
    if (size >= HUGE_FROM) {
        p = map_aligned(size);
    } else {
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (p == MAP_FAILED) return NULL;
    count_up((uint32_t)tag, size);
    return p;
}

void rr_pages_free(enum rr_mem_tag tag, void *p, size_t bytes)
{
    size_t size = pages_size(bytes);

    if (!p) return;
    munmap(p, size);
    count_down((uint32_t)tag, size);
}

void rr_mem_usage(enum rr_mem_tag tag, size_t *now, size_t *peak)
{
    *now = atomic_load_explicit(&usage[tag].now, memory_order_relaxed);
    *peak = atomic_load_explicit(&usage[tag].peak, memory_order_relaxed);
}

const char *rr_mem_tag_name(enum rr_mem_tag tag)
{
    static const char *const names[RR_MEM_TAGS] = {
        [RR_MEM_MISC] = "misc",           [RR_MEM_JSON] = "json",
        [RR_MEM_TOKENIZER] = "tokenizer", [RR_MEM_MODEL] = "model",
        [RR_MEM_WEIGHTS] = "weights",     [RR_MEM_WORKSPACE] = "workspace",
        [RR_MEM_REQUEST] = "request",     [RR_MEM_SERVER] = "server",
        [RR_MEM_CACHE] = "cache",
    };

    return (unsigned)tag < RR_MEM_TAGS ? names[tag] : "unknown";
}

void rr_mem_fault(uint64_t nth, bool repeat)
{
    atomic_store(&fault_nth, 0);
    atomic_store(&fault_repeat, repeat);
    atomic_store(&fault_count, 0);
    atomic_store(&fault_nth, nth);
}

uint64_t rr_mem_fault_count(void)
{
    return atomic_load_explicit(&fault_count, memory_order_relaxed);
}
