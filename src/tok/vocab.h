/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h - pieces, scores and merges in flat arrays: built from a draft or mapped from a cache.
 * Layer: tok (L1).  Threads: immutable once open. */
#ifndef RR_TOK_VOCAB_H
#define RR_TOK_VOCAB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/file.h"
#include "rerank_types.h"
#include "tok/scan.h"
#include "tok/trie.h"

struct rr_piece {
    uint32_t off, len; /* in blob; len RR_NO_PIECE: this id has no piece */
};
#define RR_NO_PIECE UINT32_MAX

struct rr_merge { /* open addressing by (a, b); a == RR_NO_PIECE: empty */
    uint32_t a, b, rank, id;
};

struct rr_vocab {
    const char *blob;
    const struct rr_piece *pieces; /* [n] by id */
    const double *scores;          /* [n], Unigram only, else NULL */
    const struct rr_merge *merges; /* [merge_cap], merge_cap a power of two or 0 */
    uint32_t blob_len, n, count;   /* count: pieces that exist */
    uint32_t merge_cap, n_merges;
    struct rr_trie trie; /* over all pieces */
    double min_score;
    void *owned[5];      /* what close frees */
    struct rr_file file; /* or what it unmaps */
};

/* Takes what it needs out of d.  prefix_len: bytes of continuing_subword_prefix (BPE).  name is for
 * messages. */
RR_NODISCARD int rr_vocab_build(struct rr_vocab *v, struct rr_draft *d, uint32_t prefix_len,
                                const char *name, struct rr_error *err);
void rr_vocab_close(struct rr_vocab *v);

static inline struct rr_text rr_vocab_piece(const struct rr_vocab *v, uint32_t id)
{
    if (id >= v->n || v->pieces[id].len == RR_NO_PIECE) return (struct rr_text){ NULL, 0 };
    return (struct rr_text){ v->blob + v->pieces[id].off, v->pieces[id].len };
}

static inline int32_t rr_vocab_find(const struct rr_vocab *v, struct rr_text s)
{
    return rr_trie_find(&v->trie, s.data, s.len);
}

static inline uint32_t rr_merge_hash(uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * UINT64_C(0x9E3779B97F4A7C15);

    return (uint32_t)(h >> 32);
}

/* NULL: a and b do not merge. */
static inline const struct rr_merge *rr_vocab_merge(const struct rr_vocab *v, uint32_t a,
                                                    uint32_t b)
{
    uint32_t i;

    if (v->merge_cap == 0) return NULL;
    for (i = rr_merge_hash(a, b) & (v->merge_cap - 1);; i = (i + 1) & (v->merge_cap - 1)) {
        const struct rr_merge *m = &v->merges[i];

        if (m->a == RR_NO_PIECE) return NULL;
        if (m->a == a && m->b == b) return m;
    }
}

/* cache.c: the compiled form of one file.  name: the tokenizer.json (for the cache's file name),
 * fingerprint: its XXH3.  load: false when there is none that fits. */
bool rr_vocab_load(struct rr_vocab *v, struct rr_text *rest, const char *cache_dir,
                   uint64_t fingerprint);
/* The same of bytes in memory, at a multiple of 16, which must stay; *v is zeros. */
bool rr_vocab_view(struct rr_vocab *v, struct rr_text *rest, struct rr_text file,
                   uint64_t fingerprint);
void rr_vocab_save(const struct rr_vocab *v, struct rr_text rest, const char *cache_dir,
                   uint64_t fingerprint);

#endif
