/* SPDX-License-Identifier: Apache-2.0 */
/* trie.h - a double array over byte strings: all prefixes of a text that are pieces, one walk.
 * Layer: tok (L1).  Threads: immutable once built.
 *
 * A state is a slot.  From state s, byte c leads to t = base[s] + c if check[t] == s.  A slot whose
 * sub-tree holds one piece only keeps the rest of that piece as a tail (compared in the blob),
 * which halves the number of slots.  The unit array ends in 256 unused slots, so t is always
 * inside. */
#ifndef RR_TOK_TRIE_H
#define RR_TOK_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_trie_unit {
    uint32_t base;     /* children at base + byte; 0: none */
    uint32_t check;    /* parent slot; RR_TRIE_FREE: unused */
    int32_t id;        /* piece that ends here (or, with a tail, after it); -1: none */
    uint32_t tail_len; /* bytes still to be matched, at tail in the blob */
    uint32_t tail;
};

#define RR_TRIE_FREE UINT32_MAX
#define RR_TRIE_ROOT 0u

struct rr_trie_key {
    uint64_t head; /* first 8 bytes, big-endian, zero-filled: cheap comparison */
    uint32_t off, len;
    int32_t id;
};

struct rr_trie {
    const struct rr_trie_unit *units; /* [n] */
    uint32_t n;
    const char *blob;
};

/* Builds units from n keys (bytes at blob + off).  Keys are sorted in place; of equal keys the one
 * with the largest id wins.  Empty keys are left out.  *units is the caller's, to be freed with
 * rr_free. */
RR_NODISCARD int rr_trie_build(struct rr_trie_unit **units, uint32_t *n_units,
                               struct rr_trie_key *keys, uint32_t n, const char *blob,
                               struct rr_error *err);

struct rr_trie_pos { /* where a walk stands */
    uint32_t slot;
    uint32_t tail_at; /* bytes of the tail already matched */
};

/* One byte further; false: no piece continues so. */
static inline bool rr_trie_step(const struct rr_trie *t, struct rr_trie_pos *p, unsigned char c)
{
    const struct rr_trie_unit *u = &t->units[p->slot];
    uint32_t next;

    if (u->tail_len) {
        if (p->tail_at == u->tail_len || (unsigned char)t->blob[u->tail + p->tail_at] != c)
            return false;
        p->tail_at++;
        return true;
    }
    next = u->base + c;
    if (u->base == 0 || t->units[next].check != p->slot) return false;
    p->slot = next;
    return true;
}

/* The piece that ends exactly here, -1: none. */
static inline int32_t rr_trie_id(const struct rr_trie *t, const struct rr_trie_pos *p)
{
    const struct rr_trie_unit *u = &t->units[p->slot];

    return p->tail_at == u->tail_len ? u->id : -1;
}

/* The piece that is exactly s, -1: none. */
static inline int32_t rr_trie_find(const struct rr_trie *t, const char *s, size_t len)
{
    struct rr_trie_pos p = { RR_TRIE_ROOT, 0 };
    size_t i;

    if (len == 0) return -1;
    for (i = 0; i < len; i++)
        if (!rr_trie_step(t, &p, (unsigned char)s[i])) return -1;
    return rr_trie_id(t, &p);
}

/* True if all indices are inside: for arrays that come from a file. */
bool rr_trie_valid(const struct rr_trie *t, size_t blob_len, uint32_t n_ids);

#endif
