/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.c - byte pair encoding by a heap of merges.  Layer: tok (L1).
 * Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016).  The merge
 * of the lowest rank is done first, of equal ranks the leftmost; each merge offers at most two new
 * ones, so a word of n bytes costs n log n. */
#include "base/err.h"
#include "tok/internal.h"

static bool heap_less(const struct rr_bpe_entry *a, const struct rr_bpe_entry *b)
{
    return a->key < b->key;
}

static bool heap_push(struct rr_tok_scratch *s, uint32_t rank, uint32_t pos, uint32_t id)
{
    struct rr_bpe_entry e = { (uint64_t)rank << 32 | pos, id }, *h;
    size_t i;

    if (s->heap_n == s->heap_cap) {
        size_t cap = s->heap_cap ? s->heap_cap * 2 : 256;

        h = rr_realloc(RR_MEM_TOKENIZER, s->heap, cap, sizeof(*h));
        if (!h) return false;
        s->heap = h;
        s->heap_cap = cap;
    }
    h = s->heap;
    for (i = s->heap_n++; i > 0 && heap_less(&e, &h[(i - 1) / 2]); i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = e;
    return true;
}

static struct rr_bpe_entry heap_pop(struct rr_tok_scratch *s)
{
    struct rr_bpe_entry *h = s->heap, top = h[0], e = h[--s->heap_n];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < s->heap_n) {
        if (child + 1 < s->heap_n && heap_less(&h[child + 1], &h[child])) child++;
        if (!heap_less(&h[child], &e)) break;
        h[i] = h[child];
        i = child;
    }
    h[i] = e;
    return top;
}

static bool offer(const struct rr_tok *tok, struct rr_tok_scratch *s, int32_t left, int32_t right)
{
    const struct rr_merge *m;

    if (left < 0 || right < 0) return true;
    m = rr_vocab_merge(&tok->vocab, s->symbols[left].id, s->symbols[right].id);
    return !m || heap_push(s, m->rank, (uint32_t)left, m->id);
}

static bool merge_all(const struct rr_tok *tok, struct rr_tok_scratch *s, size_t n)
{
    size_t i;

    s->heap_n = 0;
    for (i = 0; i + 1 < n; i++)
        if (!offer(tok, s, (int32_t)i, (int32_t)i + 1)) return false;
    while (s->heap_n > 0) {
        struct rr_bpe_entry top = heap_pop(s);
        int32_t at = (int32_t)(top.key & UINT32_MAX);
        struct rr_bpe_symbol *left = &s->symbols[at], *right;
        const struct rr_merge *m;

        if (left->len == 0 || left->next < 0) continue;
        right = &s->symbols[left->next];
        /* The offer may be stale: a neighbour has been merged since. */
        m = rr_vocab_merge(&tok->vocab, left->id, right->id);
        if (!m || m->id != top.id) continue;
        left->id = top.id;
        left->len += right->len;
        right->len = 0;
        left->next = right->next;
        if (left->next >= 0) s->symbols[left->next].prev = at;
        if (!offer(tok, s, left->prev, at) || !offer(tok, s, at, left->next)) return false;
    }
    return true;
}

struct build { /* the symbols of a word before merging */
    const struct rr_tok *tok;
    struct rr_tok_scratch *s;
    size_t n;
    bool has_unk;
    uint32_t unk_len;
};

static void add(struct build *b, uint32_t id, uint32_t len)
{
    struct rr_bpe_symbol *sym = &b->s->symbols[b->n];

    *sym = (struct rr_bpe_symbol){ id, (int32_t)b->n - 1, -1, len };
    if (b->n) sym[-1].next = (int32_t)b->n;
    b->n++;
}

/* A character that is not in the vocabulary; false: the file has no way to write it. */
static bool add_unknown(struct build *b, const char *text, size_t text_len, uint32_t len)
{
    const struct rr_model *m = &b->tok->model;
    size_t i;

    if (m->byte_fallback) {
        bool all = true;

        for (i = 0; i < text_len && all; i++) all = m->byte_id[(unsigned char)text[i]] >= 0;
        if (all) {
            for (i = 0; i < text_len; i++) add(b, (uint32_t)m->byte_id[(unsigned char)text[i]], 1);
            return true;
        }
    }
    if (!m->unk_token) return true; /* left out, as the reference does */
    if (m->unk < 0) return false;
    if (b->has_unk && m->fuse_unk) {
        b->unk_len += len;
        return true;
    }
    if (b->has_unk) add(b, (uint32_t)m->unk, b->unk_len);
    b->has_unk = true;
    b->unk_len = len;
    return true;
}

static void end_unknown(struct build *b)
{
    if (b->has_unk) add(b, (uint32_t)b->tok->model.unk, b->unk_len);
    b->has_unk = false;
}

/* The piece of one character with the prefix or suffix that its place asks for. */
static int32_t find_char(const struct rr_tok *tok, struct rr_str *tmp, const char *s, size_t n,
                         bool first, bool last, bool *failed)
{
    const struct rr_model *m = &tok->model;

    tmp->len = 0;
    if (!rr_str_grow(tmp, m->prefix_len + m->suffix_len + n, false)) {
        *failed = true;
        return -1;
    }
    if (!first && m->prefix) {
        memcpy(tmp->s, m->prefix, m->prefix_len);
        tmp->len = m->prefix_len;
    }
    memcpy(tmp->s + tmp->len, s, n);
    tmp->len += n;
    if (last && m->suffix) {
        memcpy(tmp->s + tmp->len, m->suffix, m->suffix_len);
        tmp->len += m->suffix_len;
    }
    return rr_trie_find(&tok->vocab.trie, tmp->s, tmp->len);
}

static int build_chars(struct build *b, struct rr_view v, struct rr_error *err)
{
    struct rr_str *tmp = &b->s->piece;
    size_t i, n;
    uint32_t cp;
    bool failed = false;

    for (i = 0; i < v.len; i += n) {
        int32_t id;

        n = rr_utf8_next(v.s + i, v.len - i, &cp);
        id = find_char(b->tok, tmp, v.s + i, n, i == 0, i + n == v.len, &failed);
        if (failed) return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
        if (id >= 0) {
            end_unknown(b);
            add(b, (uint32_t)id, (uint32_t)n);
        } else if (!add_unknown(b, tmp->s, tmp->len, (uint32_t)n)) {
            return rr_fail(err, RR_ENOTSUP,
                           "tokenizer: model.unk_token is not in the vocabulary, "
                           "and the text needs it");
        }
    }
    end_unknown(b);
    return RR_OK;
}

static int build_bytes(struct build *b, struct rr_view v, struct rr_error *err)
{
    size_t i;

    for (i = 0; i < v.len; i++) {
        int32_t id = b->tok->model.byte_id[(unsigned char)v.s[i]];

        if (id >= 0) {
            end_unknown(b);
            add(b, (uint32_t)id, 1);
        } else if (!add_unknown(b, v.s + i, 1, 1)) {
            return rr_fail(err, RR_ENOTSUP,
                           "tokenizer: model.unk_token is not in the vocabulary, "
                           "and the text needs it");
        }
    }
    end_unknown(b);
    return RR_OK;
}

/* The piece that is the whole word, -1: none. */
static int32_t whole_word(const struct rr_tok *tok, struct rr_view v)
{
    struct rr_trie_pos p = { RR_TRIE_ROOT, 0 };
    char utf8[4];
    size_t i;
    unsigned k, n;

    if (!tok->model.bytes) return rr_trie_find(&tok->vocab.trie, v.s, v.len);
    for (i = 0; i < v.len; i++) {
        n = rr_utf8_put(utf8, rr_byte_char((unsigned char)v.s[i]));
        for (k = 0; k < n; k++)
            if (!rr_trie_step(&tok->vocab.trie, &p, (unsigned char)utf8[k])) return -1;
    }
    return rr_trie_id(&tok->vocab.trie, &p);
}

int rr_bpe_word(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                struct rr_error *err)
{
    struct build b = { .tok = tok, .s = s };
    size_t i, from = 0;
    size_t most = v.len + 1;
    int rc;

    if (tok->model.ignore_merges) {
        int32_t id = whole_word(tok, v);

        if (id >= 0) {
            if (rr_scratch_piece(s, id, v, 0, v.len)) return RR_OK;
            return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
        }
    }
    if (tok->model.byte_fallback) /* the bytes of a prefix and suffix become symbols, too */
        most += (tok->model.prefix_len + tok->model.suffix_len) * v.len;
    if (most >= INT32_MAX)
        return rr_fail(err, RR_ETOOBIG, "tokenizer: a word of %zu bytes is too long", v.len);
    if (!rr_scratch_array((void **)&s->symbols, &s->symbols_cap, most, sizeof(*s->symbols)))
        return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory for a word of %zu bytes", v.len);
    rc = tok->model.bytes ? build_bytes(&b, v, err) : build_chars(&b, v, err);
    if (rc) return rc;
    if (!merge_all(tok, s, b.n)) return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
    for (i = 0; i < b.n; i++) {
        const struct rr_bpe_symbol *sym = &s->symbols[i];

        if (sym->len == 0) continue;
        if (!rr_scratch_piece(s, (int32_t)sym->id, v, from, from + sym->len))
            return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
        from += sym->len;
    }
    return RR_OK;
}
