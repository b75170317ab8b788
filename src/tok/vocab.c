/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - from the draft of the file to arrays indexed by id.  Layer: tok (L1). */
#include "tok/vocab.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static int no_memory(const char *name, struct rr_error *err)
{
    return rr_fail(err, RR_ENOMEM, "%s: out of memory for the vocabulary", name);
}

/* pieces by id; every id at most once. */
static int place_pieces(struct rr_vocab *v, const struct rr_draft *d, const char *name,
                        struct rr_error *err)
{
    struct rr_piece *pieces;
    uint32_t i, n = 0;

    for (i = 0; i < d->n; i++)
        if (d->pieces[i].id >= n) n = d->pieces[i].id + 1;
    /* Holes are allowed, but a small file must not make us allocate much. */
    if (n / 4 > d->n && n > 1u << 20)
        return rr_fail(err, RR_EFORMAT,
                       "%s: model.vocab: found %u pieces and the id %u, expected "
                       "ids without such holes",
                       name, d->n, n - 1);
    pieces = rr_alloc(RR_MEM_TOKENIZER, n, sizeof(*pieces));
    if (!pieces) return no_memory(name, err);
    v->owned[0] = pieces;
    v->pieces = pieces;
    v->n = n;
    for (i = 0; i < n; i++) pieces[i] = (struct rr_piece){ 0, RR_NO_PIECE };
    for (i = 0; i < d->n; i++) {
        struct rr_piece *p = &pieces[d->pieces[i].id];

        if (p->len != RR_NO_PIECE)
            return rr_fail(err, RR_EFORMAT, "%s: model.vocab: found id %u twice, expected once",
                           name, d->pieces[i].id);
        *p = (struct rr_piece){ d->pieces[i].off, d->pieces[i].len };
    }
    return RR_OK;
}

/* A map must not name a piece twice; the index keeps one id per piece and shows it. */
static int check_unique(const struct rr_vocab *v, const char *name, struct rr_error *err)
{
    uint32_t id;

    for (id = 0; id < v->n; id++) {
        struct rr_text p = rr_vocab_piece(v, id);
        int32_t found = rr_vocab_find(v, p);

        if (p.len && found != (int32_t)id)
            return rr_fail(err, RR_EFORMAT,
                           "%s: model.vocab: ids %u and %d have the same piece, "
                           "expected each piece once",
                           name, id, (int)found);
    }
    return RR_OK;
}

static int index_pieces(struct rr_vocab *v, const char *name, struct rr_error *err)
{
    struct rr_trie_key *keys = rr_alloc(RR_MEM_TOKENIZER, v->n, sizeof(*keys));
    struct rr_trie_unit *units;
    uint32_t id, n = 0, i;
    int rc;

    if (!keys) return no_memory(name, err);
    for (id = 0; id < v->n; id++) {
        struct rr_trie_key *k = &keys[n];

        if (v->pieces[id].len == RR_NO_PIECE) continue;
        *k = (struct rr_trie_key){ 0, v->pieces[id].off, v->pieces[id].len, (int32_t)id };
        for (i = 0; i < 8; i++)
            k->head = k->head << 8 | (i < k->len ? (unsigned char)v->blob[k->off + i] : 0);
        n++;
    }
    v->count = n;
    rc = rr_trie_build(&units, &v->trie.n, keys, n, v->blob, err);
    rr_free(keys);
    v->owned[1] = units;
    v->trie.units = units;
    v->trie.blob = v->blob;
    return rc;
}

static int check_scores(struct rr_vocab *v, const struct rr_draft *d, const char *name,
                        struct rr_error *err)
{
    uint32_t i;

    v->min_score = INFINITY;
    for (i = 0; i < d->n; i++) {
        if (!isfinite(d->scores[i]))
            return rr_fail(err, RR_EFORMAT,
                           "%s: model.vocab[%u]: found score %g, expected a "
                           "finite number",
                           name, i, d->scores[i]);
        if (d->scores[i] < v->min_score) v->min_score = d->scores[i];
    }
    return RR_OK;
}

/* "a b" -> a, b: exactly one space.  False if there is not exactly one. */
static bool split_merge(const struct rr_draft *d, struct rr_draft_merge *m)
{
    const char *s = d->blob + m->a, *space = memchr(s, ' ', m->a_len);

    if (!space || memchr(space + 1, ' ', m->a_len - (size_t)(space + 1 - s))) return false;
    m->b = m->a + (uint32_t)(space + 1 - s);
    m->b_len = m->a_len - (uint32_t)(space + 1 - s);
    m->a_len = (uint32_t)(space - s);
    return true;
}

static int bad_merge(const char *name, uint32_t at, const char *found, struct rr_error *err)
{
    return rr_fail(err, RR_EFORMAT,
                   "%s: model.merges[%u]: %s, expected two pieces of the vocabulary that together "
                   "are a piece",
                   name, at, found);
}

/* Ids of one merge; the new piece is a + (b without the prefix of continuing pieces). */
static int resolve(const struct rr_vocab *v, const struct rr_draft *d, struct rr_draft_merge m,
                   uint32_t prefix_len, struct rr_merge *out)
{
    struct rr_trie_pos p = { RR_TRIE_ROOT, 0 };
    int32_t a = rr_trie_find(&v->trie, d->blob + m.a, m.a_len);
    int32_t b = rr_trie_find(&v->trie, d->blob + m.b, m.b_len), id;
    uint32_t i;

    if (a < 0 || b < 0 || m.b_len < prefix_len) return RR_EFORMAT;
    for (i = 0; i < m.a_len; i++)
        if (!rr_trie_step(&v->trie, &p, (unsigned char)d->blob[m.a + i])) return RR_EFORMAT;
    for (i = prefix_len; i < m.b_len; i++)
        if (!rr_trie_step(&v->trie, &p, (unsigned char)d->blob[m.b + i])) return RR_EFORMAT;
    id = rr_trie_id(&v->trie, &p);
    if (id < 0) return RR_EFORMAT;
    out->a = (uint32_t)a;
    out->b = (uint32_t)b;
    out->id = (uint32_t)id;
    return RR_OK;
}

static int place_merges(struct rr_vocab *v, struct rr_draft *d, uint32_t prefix_len,
                        const char *name, struct rr_error *err)
{
    struct rr_merge *table;
    uint32_t i, at, cap = 16, rank = 0;

    while (cap / 2 < d->n_merges) cap *= 2;
    table = rr_alloc(RR_MEM_TOKENIZER, cap, sizeof(*table));
    if (!table) return no_memory(name, err);
    v->owned[2] = table;
    v->merges = table;
    v->merge_cap = cap;
    for (i = 0; i < cap; i++) table[i] = (struct rr_merge){ RR_NO_PIECE, 0, 0, 0 };
    for (i = 0; i < d->n_merges; i++) {
        struct rr_draft_merge m = d->merges[i];
        struct rr_merge add = { 0 };

        if ((m.b == UINT32_MAX) != (d->merges[0].b == UINT32_MAX))
            return bad_merge(name, i, "strings and pairs are mixed", err);
        if (m.b == UINT32_MAX) {
            if (m.a_len >= 8 && !memcmp(d->blob + m.a, "#version", 8)) continue;
            if (!split_merge(d, &m)) return bad_merge(name, i, "not one space", err);
        }
        if (resolve(v, d, m, prefix_len, &add))
            return bad_merge(name, i, "a piece is not in the vocabulary", err);
        add.rank = rank++;
        for (at = rr_merge_hash(add.a, add.b) & (cap - 1); table[at].a != RR_NO_PIECE;
             at = (at + 1) & (cap - 1))
            if (table[at].a == add.a && table[at].b == add.b) break; /* the last one counts */
        table[at] = add;
    }
    v->n_merges = rank;
    return RR_OK;
}

int rr_vocab_build(struct rr_vocab *v, struct rr_draft *d, uint32_t prefix_len, const char *name,
                   struct rr_error *err)
{
    int rc;

    memset(v, 0, sizeof(*v));
    v->blob = v->owned[3] = d->blob;
    v->blob_len = d->blob_len;
    d->blob = NULL;
    rc = place_pieces(v, d, name, err);
    if (!rc) rc = index_pieces(v, name, err);
    if (!rc && d->form == RR_DRAFT_MAP) rc = check_unique(v, name, err);
    if (!rc && d->form == RR_DRAFT_LIST) {
        rc = check_scores(v, d, name, err);
        v->scores = v->owned[4] = d->scores;
        d->scores = NULL;
    }
    d->blob = v->owned[3]; /* lent for the merges' texts */
    if (!rc && d->has_merges) rc = place_merges(v, d, prefix_len, name, err);
    d->blob = NULL;
    if (rc) rr_vocab_close(v);
    return rc;
}

void rr_vocab_close(struct rr_vocab *v)
{
    size_t i;

    for (i = 0; i < RR_COUNT(v->owned); i++) rr_free(v->owned[i]);
    rr_file_unmap(&v->file);
    memset(v, 0, sizeof(*v));
}
