/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_merges.c - merges for a vocabulary that has scores instead.  Layer: model (L4).
 * Threads: any.
 *
 * SentencePiece joins the two neighbours whose whole has the best score.  The reference's tokenizer
 * wants a list of pairs, best first: of each piece every cut into two pieces.  Equal scores are
 * ordered as transformers orders them, the longer left side first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/gguf_model.h"

#define LONGEST 256u /* bytes of a piece that texts are joined to; Gemma's longest has 93 */

struct merge {
    float score;
    uint32_t piece, left;         /* what is made; the left side's bytes */
    uint32_t left_len, right_len; /* in characters */
    uint32_t left_id, right_id;
};

struct merges {
    struct rr_text *pieces; /* [n] */
    uint32_t *slots;        /* ids by hash, UINT32_MAX: free; a power of two of them */
    uint32_t n, mask;
    struct merge *list;
    size_t n_list, cap;
};

static uint32_t find(const struct merges *m, const char *s, size_t len)
{
    for (uint32_t i = (uint32_t)XXH3_64bits(s, len) & m->mask;; i = (i + 1) & m->mask) {
        uint32_t id = m->slots[i];

        if (id == UINT32_MAX || rr_text_eq(m->pieces[id], (struct rr_text){ s, len })) return id;
    }
}

/* The first of equal pieces stays. */
static void insert(struct merges *m, uint32_t id)
{
    struct rr_text t = m->pieces[id];
    uint32_t i = (uint32_t)XXH3_64bits(t.data, t.len) & m->mask;

    for (; m->slots[i] != UINT32_MAX; i = (i + 1) & m->mask)
        if (rr_text_eq(m->pieces[m->slots[i]], t)) return;
    m->slots[i] = id;
}

static uint32_t characters(const char *s, size_t len)
{
    uint32_t n = 0;

    for (size_t i = 0; i < len; i++) n += ((unsigned char)s[i] & 0xC0) != 0x80;
    return n;
}

static bool add(struct merges *m, const struct merge *merge)
{
    if (m->n_list == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 1024;
        struct merge *p = rr_realloc(RR_MEM_MODEL, m->list, cap, sizeof(*p));

        if (!p) return false;
        m->list = p;
        m->cap = cap;
    }
    m->list[m->n_list++] = *merge;
    return true;
}

static bool add_cuts(struct merges *m, uint32_t id, float score)
{
    struct rr_text t = m->pieces[id];
    uint32_t all = characters(t.data, t.len);

    if (t.len > LONGEST || !isfinite(score)) return true;
    for (uint32_t at = 1; at < t.len; at++) {
        struct merge x = { .score = score, .piece = id, .left = at };

        if (((unsigned char)t.data[at] & 0xC0) == 0x80) continue; /* inside a character */
        x.left_id = find(m, t.data, at);
        x.right_id = find(m, t.data + at, t.len - at);
        if (x.left_id == UINT32_MAX || x.right_id == UINT32_MAX) continue;
        x.left_len = characters(t.data, at);
        x.right_len = all - x.left_len;
        if (!add(m, &x)) return false;
    }
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;

    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left_len != y->left_len) return x->left_len > y->left_len ? -1 : 1;
    if (x->right_len != y->right_len) return x->right_len > y->right_len ? -1 : 1;
    if (x->piece != y->piece) return x->piece < y->piece ? -1 : 1;
    if (x->left_id != y->left_id) return x->left_id < y->left_id ? -1 : 1;
    return 0;
}

static bool collect(struct merges *m, const struct rr_gguf_value *pieces,
                    const struct rr_gguf_value *scores)
{
    size_t at = 0, slots = 16;

    while (slots < 2 * pieces->n) slots *= 2; /* at most 2^24 pieces: see gguf_tok.c */
    m->n = (uint32_t)pieces->n;
    m->mask = (uint32_t)slots - 1;
    m->pieces = rr_calloc(RR_MEM_MODEL, m->n, sizeof(*m->pieces));
    m->slots = rr_alloc(RR_MEM_MODEL, slots, sizeof(*m->slots));
    if (!m->pieces || !m->slots) return false;
    memset(m->slots, 0xFF, slots * sizeof(*m->slots));
    for (uint32_t i = 0; i < m->n; i++) {
        m->pieces[i] = rr_gguf_next_text(pieces, &at);
        insert(m, i);
    }
    for (uint32_t i = 0; i < m->n; i++)
        if (!add_cuts(m, i, rr_gguf_f32_at(scores, i))) return false;
    return true;
}

int rr_gguf_merges(const struct rr_gguf_value *pieces, const struct rr_gguf_value *scores,
                   struct rr_buf *out)
{
    struct merges m = { .n_list = 0 };
    bool ok = collect(&m, pieces, scores);

    if (ok && m.n_list) qsort(m.list, m.n_list, sizeof(*m.list), compare);
    for (size_t i = 0; ok && i < m.n_list; i++) {
        struct rr_text t = m.pieces[m.list[i].piece];
        uint32_t left = m.list[i].left;

        rr_buf_puts(out, i ? ",[" : "[");
        rr_buf_json_string(out, (struct rr_text){ t.data, left });
        rr_buf_putc(out, ',');
        rr_buf_json_string(out, (struct rr_text){ t.data + left, t.len - left });
        rr_buf_putc(out, ']');
    }
    rr_free(m.pieces);
    rr_free(m.slots);
    rr_free(m.list);
    return ok ? RR_OK : RR_ENOMEM;
}
