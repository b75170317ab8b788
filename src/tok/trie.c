/* SPDX-License-Identifier: Apache-2.0 */
/* trie.c - building the double array.  Layer: tok (L1).
 * Free slots are a bit map, so that 64 candidate bases are tried at once: a base is good when the
 * slots of all children are free, the AND of one shifted word per child. */
#include "tok/trie.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define WINDOW 512u /* slots before the end in which a free place is looked for */

struct job {                      /* one inner node whose children are to be placed */
    uint32_t slot, lo, hi, depth; /* keys lo .. hi - 1 share depth bytes */
};

struct build {
    struct rr_trie_unit *units;
    uint64_t *free_bits; /* 1 = free */
    uint32_t cap;        /* slots allocated, a multiple of 64 */
    uint32_t used_end;   /* largest slot in use + 1 */
    uint32_t first_free; /* no free slot lies below, rounded down to 64 */
    struct job *jobs;    /* a stack: depth first stays with the same keys */
    size_t n_jobs, jobs_cap;
    const struct rr_trie_key *keys;
    const char *blob;
};

static int compare_keys(const void *pa, const void *pb, void *blob)
{
    const struct rr_trie_key *a = pa, *b = pb;
    int c;

    if (a->head != b->head) return a->head < b->head ? -1 : 1;
    c = memcmp((const char *)blob + a->off, (const char *)blob + b->off, RR_MIN(a->len, b->len));
    if (c) return c;
    if (a->len != b->len) return a->len < b->len ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Least significant byte first on the 8-byte heads, then each group of equal heads by qsort. */
static int sort_keys(struct rr_trie_key *keys, uint32_t n, const char *blob)
{
    struct rr_trie_key *other = rr_alloc(RR_MEM_TOKENIZER, n, sizeof(*other)), *from = keys;
    struct rr_trie_key *to = other, *swap;
    uint32_t i, j;
    int shift;

    if (!other) return RR_ENOMEM;
    for (shift = 0; shift < 64; shift += 8) {
        uint32_t count[257] = { 0 };

        for (i = 0; i < n; i++) count[(from[i].head >> shift & 255) + 1]++;
        if (n && count[(from[0].head >> shift & 255) + 1] == n) continue; /* all alike */
        for (i = 0; i < 256; i++) count[i + 1] += count[i];
        for (i = 0; i < n; i++) to[count[from[i].head >> shift & 255]++] = from[i];
        swap = from;
        from = to;
        to = swap;
    }
    if (from != keys) memcpy(keys, from, n * sizeof(*keys));
    for (i = 0; i < n; i = j) {
        for (j = i + 1; j < n && keys[j].head == keys[i].head; j++) continue;
        if (j - i > 1)
            qsort_r(keys + i, j - i, sizeof(*keys), compare_keys, (void *)(uintptr_t)blob);
    }
    rr_free(other);
    return RR_OK;
}

/* Leaves out empty keys and, of equal keys, all but the last. */
static uint32_t unique_keys(struct rr_trie_key *keys, uint32_t n, const char *blob)
{
    uint32_t i, m = 0;

    for (i = 0; i < n; i++) {
        const struct rr_trie_key *k = &keys[i], *next = k + 1;

        if (k->len == 0) continue;
        if (i + 1 < n && next->head == k->head && next->len == k->len &&
            !memcmp(blob + k->off, blob + next->off, k->len))
            continue;
        keys[m++] = *k;
    }
    return m;
}

static int grow(struct build *b, uint32_t need)
{
    uint32_t cap = b->cap ? b->cap : 1024, i;
    struct rr_trie_unit *units;
    uint64_t *bits;

    while (cap < need) {
        if (cap > UINT32_MAX / 4) return RR_ENOMEM;
        cap *= 2;
    }
    if (cap == b->cap) return RR_OK;
    units = rr_realloc(RR_MEM_TOKENIZER, b->units, cap, sizeof(*units));
    if (!units) return RR_ENOMEM;
    b->units = units;
    /* 8 words of slack: a shifted load may reach past the last slot. */
    bits = rr_realloc(RR_MEM_TOKENIZER, b->free_bits, (size_t)cap / 64 + 8, sizeof(*bits));
    if (!bits) return RR_ENOMEM;
    b->free_bits = bits;
    for (i = b->cap; i < cap; i++) units[i] = (struct rr_trie_unit){ 0, RR_TRIE_FREE, -1, 0, 0 };
    for (i = b->cap / 64; i < cap / 64 + 8; i++) bits[i] = UINT64_MAX;
    b->cap = cap;
    return RR_OK;
}

static uint64_t free_at(const struct build *b, uint32_t slot)
{
    const uint64_t *w = &b->free_bits[slot / 64];
    unsigned r = slot % 64;

    return r ? w[0] >> r | w[1] << (64 - r) : w[0];
}

/* A base >= 1 with a free slot for each of the k labels; grows the arrays as needed. */
static int find_base(struct build *b, const unsigned char *labels, unsigned k, uint32_t *base)
{
    uint32_t start, block;
    uint64_t good = 0;
    unsigned i;

    while (b->first_free + 64 < b->cap && b->free_bits[b->first_free / 64] == 0)
        b->first_free += 64;
    start = b->first_free;
    /* Old holes are rarely filled; looking only near the end keeps the build linear. */
    if (b->used_end > WINDOW && start < b->used_end - WINDOW) start = b->used_end - WINDOW;
    start = start > labels[0] ? start - labels[0] : 0;
    for (block = start & ~63u;; block += 64) {
        if (grow(b, block + 64 + 256 + 64)) return RR_ENOMEM;
        good = UINT64_MAX;
        for (i = 0; i < k && good; i++) good &= free_at(b, block + labels[i]);
        if (block == 0) good &= ~UINT64_C(1); /* base 0 means "no children" */
        if (good) break;
    }
    *base = block + (uint32_t)__builtin_ctzll(good);
    return RR_OK;
}

static void take(struct build *b, uint32_t slot, uint32_t parent)
{
    b->free_bits[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    b->units[slot].check = parent;
    if (slot >= b->used_end) b->used_end = slot + 1;
}

static int push(struct build *b, struct job j)
{
    if (b->n_jobs == b->jobs_cap) {
        size_t cap = b->jobs_cap ? b->jobs_cap * 2 : 1024;
        struct job *q = rr_realloc(RR_MEM_TOKENIZER, b->jobs, cap, sizeof(*q));

        if (!q) return RR_ENOMEM;
        b->jobs = q;
        b->jobs_cap = cap;
    }
    b->jobs[b->n_jobs++] = j;
    return RR_OK;
}

/* Places the children of one node.  Keys lo .. hi - 1 are unique and share j.depth bytes. */
static int place(struct build *b, struct job j)
{
    unsigned char labels[256];
    uint32_t from[257], i, base;
    unsigned k = 0;

    if (b->keys[j.lo].len == j.depth) b->units[j.slot].id = b->keys[j.lo++].id;
    for (i = j.lo; i < j.hi; i++) {
        unsigned char c = (unsigned char)b->blob[b->keys[i].off + j.depth];

        if (k && labels[k - 1] == c) continue;
        labels[k] = c;
        from[k++] = i;
    }
    if (k == 0) return RR_OK;
    from[k] = j.hi;
    if (find_base(b, labels, k, &base)) return RR_ENOMEM;
    b->units[j.slot].base = base;
    for (i = 0; i < k; i++) {
        uint32_t slot = base + labels[i];
        const struct rr_trie_key *key = &b->keys[from[i]];

        take(b, slot, j.slot);
        if (from[i + 1] - from[i] == 1) { /* one piece below: keep its rest as a tail */
            b->units[slot].id = key->id;
            b->units[slot].tail = key->off + j.depth + 1;
            b->units[slot].tail_len = key->len - j.depth - 1;
        } else if (push(b, (struct job){ slot, from[i], from[i + 1], j.depth + 1 })) {
            return RR_ENOMEM;
        }
    }
    return RR_OK;
}

int rr_trie_build(struct rr_trie_unit **units, uint32_t *n_units, struct rr_trie_key *keys,
                  uint32_t n, const char *blob, struct rr_error *err)
{
    struct build b = { .keys = keys, .blob = blob };
    int rc = RR_ENOMEM;

    *units = NULL;
    *n_units = 0;
    if (sort_keys(keys, n, blob)) goto end;
    n = unique_keys(keys, n, blob);
    if (grow(&b, 1024)) goto end;
    take(&b, RR_TRIE_ROOT, RR_TRIE_ROOT);
    if (n && push(&b, (struct job){ RR_TRIE_ROOT, 0, n, 0 })) goto end;
    while (b.n_jobs > 0)
        if (place(&b, b.jobs[--b.n_jobs])) goto end;
    if (grow(&b, b.used_end + 256)) goto end;
    /* Slot 0 is the root: no step may lead there, although its check names itself. */
    b.units[RR_TRIE_ROOT].check = RR_TRIE_FREE;
    *units = b.units;
    *n_units = b.used_end + 256;
    b.units = NULL;
    rc = RR_OK;
end:
    rr_free(b.units);
    rr_free(b.free_bits);
    rr_free(b.jobs);
    if (rc) return rr_fail(err, rc, "tokenizer: out of memory for the piece index");
    return rc;
}

bool rr_trie_valid(const struct rr_trie *t, size_t blob_len, uint32_t n_ids)
{
    uint32_t i;

    if (t->n < 257) return false;
    for (i = 0; i < t->n; i++) {
        const struct rr_trie_unit *u = &t->units[i];

        if (u->base > t->n - 256) return false;
        if (u->id < -1 || (u->id >= 0 && (uint32_t)u->id >= n_ids)) return false;
        if (u->tail > blob_len || u->tail_len > blob_len - u->tail) return false;
    }
    return true;
}
