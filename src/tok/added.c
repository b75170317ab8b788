/* SPDX-License-Identifier: Apache-2.0 */
/* added.c - finding added tokens ("<s>", "[MASK]", ...) in a text.  Layer: tok (L1).
 * Leftmost longest match, then the rules for single_word, lstrip and rstrip in the order in which
 * the reference applies them: a match that single_word refuses is still used up. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "tok/internal.h"
#include "tok/unidata.h"

const struct rr_added *rr_added_by_id(const struct rr_tok *tok, uint32_t id)
{
    uint32_t lo = 0, hi = tok->n_added;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (tok->added[tok->added_by_id[mid]].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == tok->n_added || tok->added[tok->added_by_id[lo]].id != id) return NULL;
    /* Entries with one id are sorted by place in the file; the last of them counts. */
    while (lo + 1 < tok->n_added && tok->added[tok->added_by_id[lo + 1]].id == id) lo++;
    return &tok->added[tok->added_by_id[lo]];
}

static int compare_ids(const void *pa, const void *pb, void *user)
{
    const struct rr_tok *tok = user;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;

    if (tok->added[a].id != tok->added[b].id) return tok->added[a].id < tok->added[b].id ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* The text that an entry is searched as: its content, normalized if it asks for it. */
static int pattern_of(const struct rr_tok *tok, const struct rr_added *a, struct rr_norm_work *w,
                      struct rr_view *out, struct rr_error *err)
{
    struct rr_view content = { a->content, a->len, NULL, NULL };

    *out = content;
    return a->normalized ? rr_norm_run(&tok->norm, w, content, true, true, out, err) : RR_OK;
}

/* A trie of the patterns whose "normalized" is as asked.  Of equal patterns the first special, else
 * the first one is found, so ids in the trie run backwards: the largest wins there. */
static int build_set(struct rr_tok *tok, struct rr_added_set *set, bool normalized,
                     struct rr_norm_work *w, const char *name, struct rr_error *err)
{
    struct rr_trie_key *keys = rr_calloc(RR_MEM_TOKENIZER, tok->n_added, sizeof(*keys));
    struct rr_buf blob;
    uint32_t i, k, n = 0;
    size_t blob_len;
    int rc = RR_OK, pass;

    rr_buf_init(&blob, RR_MEM_TOKENIZER, 64u << 20);
    if (!keys) rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", name);
    for (pass = 0; pass < 2 && !rc; pass++) {
        for (i = 0; i < tok->n_added && !rc; i++) {
            const struct rr_added *a = &tok->added[i];
            struct rr_view p;

            if (a->normalized != normalized || a->special != (pass == 0)) continue;
            rc = pattern_of(tok, a, w, &p, err);
            if (rc) break;
            if (p.len == 0) {
                rc = rr_fail(err, RR_ENOTSUP,
                             "%s: added_tokens: the token with id %u normalizes to "
                             "nothing, expected at least one character",
                             name, a->id);
                break;
            }
            keys[n] = (struct rr_trie_key){ 0, (uint32_t)blob.len, (uint32_t)p.len,
                                            (int32_t)(tok->n_added - 1 - n) };
            for (k = 0; k < 8; k++)
                keys[n].head = keys[n].head << 8 | (k < p.len ? (unsigned char)p.s[k] : 0);
            set->first[(unsigned char)p.s[0]] = true;
            set->order[keys[n].id] = i;
            n++;
            rr_buf_put(&blob, p.s, p.len);
        }
    }
    if (!rc && blob.failed) rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", name);
    if (!rc && n) {
        set->blob = rr_buf_take(&blob, &blob_len);
        rc = rr_trie_build(&set->units, &set->trie.n, keys, n, set->blob, err);
        set->trie.units = set->units;
        set->trie.blob = set->blob;
        set->n = n;
    }
    rr_buf_free(&blob);
    rr_free(keys);
    return rc;
}

int rr_added_build(struct rr_tok *tok, const char *name, struct rr_error *err)
{
    struct rr_norm_work w = { 0 };
    uint32_t i, j;
    int rc = RR_ENOMEM;

    tok->added_by_id = rr_calloc(RR_MEM_TOKENIZER, tok->n_added, sizeof(uint32_t));
    tok->raw_set.order = rr_calloc(RR_MEM_TOKENIZER, tok->n_added, sizeof(uint32_t));
    tok->norm_set.order = rr_calloc(RR_MEM_TOKENIZER, tok->n_added, sizeof(uint32_t));
    w.matcher = rr_matcher_open();
    if (!tok->added_by_id || !tok->raw_set.order || !tok->norm_set.order || !w.matcher) {
        rr_fail(err, rc, "%s: out of memory", name);
        goto end;
    }
    for (i = 0; i < tok->n_added; i++) tok->added_by_id[i] = i;
    qsort_r(tok->added_by_id, tok->n_added, sizeof(uint32_t), compare_ids, tok);
    for (i = 0; i < tok->n_added; i = j) { /* same id = same content */
        bool special = false;

        for (j = i; j < tok->n_added; j++) {
            if (tok->added[tok->added_by_id[j]].id != tok->added[tok->added_by_id[i]].id) break;
            special |= tok->added[tok->added_by_id[j]].special;
        }
        for (; i < j; i++) tok->added[tok->added_by_id[i]].in_special_set = special;
    }
    rc = build_set(tok, &tok->raw_set, false, &w, name, err);
    if (!rc) rc = build_set(tok, &tok->norm_set, true, &w, name, err);
end:
    rr_matcher_close(w.matcher);
    rr_norm_work_free(&w);
    return rc;
}

static void close_set(struct rr_added_set *set)
{
    rr_free(set->units);
    rr_free(set->blob);
    rr_free(set->order);
}

void rr_added_close(struct rr_tok *tok)
{
    uint32_t i;

    for (i = 0; i < tok->n_added; i++) rr_free(tok->added[i].content);
    rr_free(tok->added);
    rr_free(tok->added_by_id);
    close_set(&tok->raw_set);
    close_set(&tok->norm_set);
}

void rr_added_begin(struct rr_added_iter *it, const struct rr_added_set *set,
                    const struct rr_tok *tok, const char *s, size_t len, bool literal)
{
    *it = (struct rr_added_iter){ set, tok, s, len, 0, 0, literal };
}

/* The longest pattern that starts at s, NULL: none. */
static const struct rr_added *longest(const struct rr_added_iter *it, size_t at, size_t *end)
{
    struct rr_trie_pos p = { RR_TRIE_ROOT, 0 };
    int32_t id, best = -1;
    size_t i;

    for (i = at; i < it->len && rr_trie_step(&it->set->trie, &p, (unsigned char)it->s[i]); i++) {
        id = rr_trie_id(&it->set->trie, &p);
        if (id < 0) continue;
        best = id;
        *end = i + 1;
    }
    return best < 0 ? NULL : &it->tok->added[it->set->order[best]];
}

static uint32_t char_before(const char *s, size_t at)
{
    size_t i = at;
    uint32_t cp;

    while (i > 0 && ((unsigned char)s[--i] & 0xC0) == 0x80) continue;
    rr_utf8_next(s + i, at - i, &cp);
    return cp;
}

static bool is_word(uint32_t cp)
{
    return (rr_uni(cp) & RR_UNI_WORD) != 0;
}

static bool stands_alone(const struct rr_added_iter *it, size_t from, size_t to)
{
    uint32_t cp;

    if (from > 0 && is_word(char_before(it->s, from))) return false;
    if (to == it->len) return true;
    rr_utf8_next(it->s + to, it->len - to, &cp);
    return !is_word(cp);
}

static size_t space_before(const char *s, size_t at)
{
    while (at > 0) {
        uint32_t cp = char_before(s, at);

        if (!rr_uni_space(cp)) break;
        at--;
        while (at > 0 && ((unsigned char)s[at] & 0xC0) == 0x80) at--;
    }
    return at;
}

static size_t space_after(const char *s, size_t at, size_t len)
{
    while (at < len) {
        uint32_t cp;
        size_t n = rr_utf8_next(s + at, len - at, &cp);

        if (!rr_uni_space(cp)) break;
        at += n;
    }
    return at;
}

bool rr_added_next(struct rr_added_iter *it, struct rr_added_match *m)
{
    const struct rr_added *found, *flags;
    size_t end = 0, from;

    if (it->set->n == 0) return false;
    while (it->at < it->len) {
        if (!it->set->first[(unsigned char)it->s[it->at]]) {
            it->at++;
            continue;
        }
        found = longest(it, it->at, &end);
        if (!found) {
            it->at++;
            continue;
        }
        from = it->at;
        it->at = end;
        flags = rr_added_by_id(it->tok, found->id);
        if (it->literal && flags->in_special_set) continue;
        if (flags->single_word && !stands_alone(it, from, end)) continue;
        if (flags->lstrip) from = RR_MAX(space_before(it->s, from), it->done);
        if (flags->rstrip) end = space_after(it->s, end, it->len);
        if (from >= end) continue; /* white space that the token before it took: no token */
        *m = (struct rr_added_match){ from, end, flags };
        return true;
    }
    return false;
}
