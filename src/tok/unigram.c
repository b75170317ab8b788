/* SPDX-License-Identifier: Apache-2.0 */
/* unigram.c - the best segmentation by Viterbi.  Layer: tok (L1).
 * Kudo, "Subword Regularization" (2018).  As in the reference: scores are added left to right in
 * double precision, a later way of the same score does not replace an earlier one, a character
 * without a piece of its own may be unknown at the smallest score - 10, and unknown characters in a
 * row become one token. */
#include "base/err.h"
#include "tok/internal.h"

static size_t char_len(const struct rr_view *v, size_t at)
{
    unsigned char c = (unsigned char)v->s[at];
    size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;

    return RR_MIN(n, v->len - at);
}

static void forward(const struct rr_tok *tok, struct rr_viterbi *best, struct rr_view v)
{
    const struct rr_trie *trie = &tok->vocab.trie;
    const double *scores = tok->vocab.scores;
    size_t at, end, n;

    for (at = 0; at < v.len; at += n) {
        struct rr_trie_pos p = { RR_TRIE_ROOT, 0 };
        double here = best[at].score;
        bool single = false;

        n = char_len(&v, at);
        for (end = at; end < v.len && rr_trie_step(trie, &p, (unsigned char)v.s[end]); end++) {
            int32_t id = rr_trie_id(trie, &p);
            struct rr_viterbi *to = &best[end + 1];
            double score;

            if (id < 0) continue;
            score = scores[id] + here;
            if (to->from == UINT32_MAX || score > to->score)
                *to = (struct rr_viterbi){ score, (uint32_t)at, id };
            if (end + 1 - at == n) single = true;
        }
        if (!single) {
            struct rr_viterbi *to = &best[at + n];
            double score = tok->model.unk_score + here;

            if (to->from == UINT32_MAX || score > to->score)
                *to = (struct rr_viterbi){ score, (uint32_t)at, tok->model.unk };
        }
    }
}

/* A stretch of unknown characters: usually one unknown token; a piece if the whole stretch is one;
 * its bytes if the model falls back to them and has them all.  Ids are written backwards. */
static bool put_unknown(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                        size_t from, size_t to)
{
    const struct rr_model *m = &tok->model;
    int32_t id = rr_trie_find(&tok->vocab.trie, v.s + from, to - from);
    bool bytes = m->byte_fallback;
    size_t i;

    if (id >= 0) return rr_scratch_piece(s, id, v, from, to);
    for (i = from; i < to && bytes; i++) bytes = m->byte_id[(unsigned char)v.s[i]] >= 0;
    if (!bytes) return rr_scratch_piece(s, m->unk, v, from, to);
    for (i = to; i > from; i--)
        if (!rr_scratch_piece(s, m->byte_id[(unsigned char)v.s[i - 1]], v, from, to)) return false;
    return true;
}

static void reverse_u32(uint32_t *a, size_t n)
{
    size_t i;

    for (i = 0; i < n / 2; i++) {
        uint32_t t = a[i];

        a[i] = a[n - 1 - i];
        a[n - 1 - i] = t;
    }
}

static bool backward(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v)
{
    const struct rr_viterbi *best = s->viterbi;
    size_t first = s->n, at = v.len;

    while (at > 0) {
        size_t end = at;

        if (best[at].id == tok->model.unk) {
            while (at > 0 && best[at].id == tok->model.unk) at = best[at].from;
            if (!put_unknown(tok, s, v, at, end)) return false;
            continue;
        }
        at = best[at].from;
        if (!rr_scratch_piece(s, best[end].id, v, at, end)) return false;
    }
    reverse_u32((uint32_t *)s->ids + first, s->n - first);
    if (s->offsets) {
        reverse_u32(s->starts + first, s->n - first);
        reverse_u32(s->ends + first, s->n - first);
    }
    return true;
}

int rr_unigram_word(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                    struct rr_error *err)
{
    size_t i, first = s->n;

    if (!rr_scratch_array((void **)&s->viterbi, &s->viterbi_cap, v.len + 5, sizeof(*s->viterbi)))
        return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory for a word of %zu bytes", v.len);
    s->viterbi[0] = (struct rr_viterbi){ 0, UINT32_MAX, -1 };
    for (i = 1; i <= v.len; i++) s->viterbi[i].from = UINT32_MAX;
    forward(tok, s->viterbi, v);
    if (!backward(tok, s, v))
        return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory for a word of %zu bytes", v.len);
    if (tok->model.unk >= 0) return RR_OK;
    for (i = first; i < s->n; i++)
        if (s->ids[i] < 0)
            return rr_fail(err, RR_ENOTSUP,
                           "tokenizer: the text has a character that no piece "
                           "covers, and model.unk_id is missing");
    return RR_OK;
}
