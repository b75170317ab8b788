/* SPDX-License-Identifier: Apache-2.0 */
/* wordpiece.c - greedy longest match from the left.  Layer: tok (L1).
 * Pieces inside a word carry a prefix ("##"); their search starts in the trie where the prefix
 * ends, so no text is copied.  A word that cannot be covered is unknown as a whole. */
#include "base/err.h"
#include "tok/internal.h"

static bool too_long(const struct rr_tok *tok, struct rr_view v)
{
    size_t i, n = 0;

    if (v.len <= tok->model.max_chars) return false;
    for (i = 0; i < v.len && n <= tok->model.max_chars; i++)
        n += ((unsigned char)v.s[i] & 0xC0) != 0x80;
    return n > tok->model.max_chars;
}

/* The longest piece from at on; *end is where it ends.  -1: none. */
static int32_t longest(const struct rr_tok *tok, struct rr_view v, size_t at, size_t *end)
{
    struct rr_trie_pos p = { RR_TRIE_ROOT, 0 };
    int32_t id, best = -1;
    size_t i;

    if (at > 0) {
        if (!tok->model.has_prefix_pos) return -1;
        p = tok->model.after_prefix;
    }
    for (i = at; i < v.len && rr_trie_step(&tok->vocab.trie, &p, (unsigned char)v.s[i]); i++) {
        id = rr_trie_id(&tok->vocab.trie, &p);
        if (id < 0) continue;
        best = id;
        *end = i + 1;
    }
    return best;
}

int rr_wordpiece_word(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                      struct rr_error *err)
{
    size_t first = s->n, at = 0, end = 0;
    int32_t id = -1;
    bool good = true;

    if (!too_long(tok, v)) {
        while (at < v.len && good) {
            id = longest(tok, v, at, &end);
            if (id < 0) break;
            good = rr_scratch_piece(s, id, v, at, end);
            at = end;
        }
    }
    if (good && at < v.len) {
        s->n = first;
        if (tok->model.unk < 0)
            return rr_fail(err, RR_ENOTSUP,
                           "tokenizer: the text has a word that no pieces cover, "
                           "and model.unk_token is not in the vocabulary");
        good = rr_scratch_piece(s, tok->model.unk, v, 0, v.len);
    }
    return good ? RR_OK : rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
}
