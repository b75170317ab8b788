/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - a word to ids, through the word cache.  Layer: tok (L1).
 * Words repeat; what a word becomes depends on nothing else, so the cache (direct mapped, one per
 * scratch, whole word compared) cannot change a result. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/err.h"
#include "tok/internal.h"

static int by_kind(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                   struct rr_error *err)
{
    switch (tok->model.kind) {
    case RR_MODEL_UNIGRAM: return rr_unigram_word(tok, s, v, err);
    case RR_MODEL_WORDPIECE: return rr_wordpiece_word(tok, s, v, err);
    case RR_MODEL_BPE: return rr_bpe_word(tok, s, v, err);
    }
    return rr_fail(err, RR_EINTERNAL, "tokenizer: unknown model");
}

static int cached(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                  struct rr_error *err)
{
    uint64_t h = XXH3_64bits(v.s, v.len);
    struct rr_word *w = &s->words[h & (RR_WORDS - 1)];
    size_t before = s->n, made;
    int rc;

    if (w->hash == (uint32_t)(h >> 32) && w->len == v.len && !memcmp(w->text, v.s, v.len)) {
        if (s->cap - s->n < RR_COUNT(w->ids) && !rr_scratch_grow(s, RR_COUNT(w->ids)))
            return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
        memcpy(s->ids + s->n, w->ids, sizeof(w->ids));
        s->n += w->n;
        return RR_OK;
    }
    rc = by_kind(tok, s, v, err);
    if (rc) return rc;
    made = s->n - before;
    if (made > RR_COUNT(w->ids)) return RR_OK;
    w->hash = (uint32_t)(h >> 32);
    w->len = (uint8_t)v.len;
    w->n = (uint8_t)made;
    memcpy(w->text, v.s, v.len);
    memcpy(w->ids, s->ids + before, made * sizeof(*w->ids));
    return RR_OK;
}

int rr_model_word(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                  struct rr_error *err)
{
    int rc;

    if (!s->offsets && v.len <= sizeof(s->words->text))
        rc = cached(tok, s, v, err);
    else
        rc = by_kind(tok, s, v, err);
    if (rc) return rc;
    return s->n > s->limit ? RR_TOK_STOP : RR_OK;
}
