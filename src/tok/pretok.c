/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.c - pre-tokenizers: one call level per step, one word at a time down to the model.
 * Layer: tok (L1).
 * The reference runs each step over all words before the next step starts; no step looks at its
 * neighbours, so going depth first gives the same words in the same order and lets the work stop as
 * soon as there are enough tokens. */
#include "base/err.h"
#include "tok/internal.h"
#include "tok/unidata.h"

struct sink { /* takes alternating stretches and makes words of them */
    const struct rr_tok *tok;
    struct rr_tok_scratch *s;
    unsigned next;
    struct rr_view v;
    enum rr_behavior behavior;
    struct rr_error *err;
    bool pending, last_match;
    size_t from, to; /* the pending word */
};

static int word(struct sink *k, size_t from, size_t to)
{
    if (from == to) return RR_OK;
    return rr_pretok_run(k->tok, k->s, k->next, rr_view_cut(k->v, from, to), k->err);
}

static int flush(struct sink *k)
{
    if (!k->pending) return RR_OK;
    k->pending = false;
    return word(k, k->from, k->to);
}

static int replace_pending(struct sink *k, size_t from, size_t to)
{
    int rc = flush(k);

    k->pending = true;
    k->from = from;
    k->to = to;
    return rc;
}

/* One stretch; match: it is what the pattern looks for. */
static int stretch(struct sink *k, size_t from, size_t to, bool match)
{
    bool last = k->last_match;

    k->last_match = match;
    switch (k->behavior) {
    case RR_REMOVED: return match ? RR_OK : word(k, from, to);
    case RR_ISOLATED: return word(k, from, to);
    case RR_CONTIGUOUS:
        if (k->pending && match == last) {
            k->to = to;
            return RR_OK;
        }
        return replace_pending(k, from, to);
    case RR_MERGED_PREV:
        if (k->pending && match && !last) {
            k->to = to;
            return RR_OK;
        }
        return replace_pending(k, from, to);
    case RR_MERGED_NEXT:
        if (k->pending && last && !match) { /* the delimiter before joins this */
            k->to = to;
            return flush(k);
        }
        return replace_pending(k, from, to);
    }
    return RR_OK;
}

static int split_regex(struct sink *k, const struct rr_regex *re, bool invert)
{
    struct rr_match_iter it;
    size_t from, to, done = 0;
    int rc, more;

    rc = rr_match_begin(&it, re, k->s->matcher, k->v.s, k->v.len, k->err);
    if (rc) return rc;
    while (!rc && (more = rr_match_next(&it, &from, &to, k->err)) != 0) {
        if (more < 0) rc = it.rc;
        if (!rc && from > done) rc = stretch(k, done, from, invert);
        if (!rc) rc = stretch(k, from, to, !invert);
        done = to;
    }
    rr_match_end(&it);
    if (!rc && done < k->v.len) rc = stretch(k, done, k->v.len, invert);
    return rc ? rc : flush(k);
}

static bool is_punct(uint32_t cp)
{
    return cp < 0x80 ? rr_uni_ascii_punct(cp) : (rr_uni(cp) & RR_UNI_PUNCT) != 0;
}

static bool is_numeric(uint32_t cp)
{
    return cp < 0x80 ? cp >= '0' && cp <= '9' : (rr_uni(cp) & RR_UNI_NUMERIC) != 0;
}

static int split_chars(struct sink *k, bool (*matches)(uint32_t cp))
{
    size_t i, n, done = 0;
    uint32_t cp;
    int rc = RR_OK;

    for (i = 0; i < k->v.len && !rc; i += n) {
        n = rr_utf8_next(k->v.s + i, k->v.len - i, &cp);
        if (!matches(cp)) continue;
        if (done < i) rc = stretch(k, done, i, false);
        if (!rc) rc = stretch(k, i, i + n, true);
        done = i + n;
    }
    if (!rc && done < k->v.len) rc = stretch(k, done, k->v.len, false);
    return rc ? rc : flush(k);
}

/* True if a white space character starts at i; *n is its length. */
static inline bool space_at(struct rr_view v, size_t i, size_t *n)
{
    unsigned char c = (unsigned char)v.s[i];
    uint32_t cp;

    *n = 1;
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    if (c != 0xC2 && (c < 0xE1 || c > 0xE3)) return false; /* no white space starts so */
    *n = rr_utf8_next(v.s + i, v.len - i, &cp);
    return rr_uni_space(cp);
}

static int split_spaces(struct sink *k)
{
    size_t i = 0, n, from;
    int rc;

    while (i < k->v.len) {
        if (space_at(k->v, i, &n)) {
            i += n;
            continue;
        }
        for (from = i; i < k->v.len && !space_at(k->v, i, &n); i += n) continue;
        rc = word(k, from, i);
        if (rc) return rc;
    }
    return RR_OK;
}

/* Runs of word characters and runs of what is neither word nor space: \w+|[^\w\s]+ */
static int split_words(struct sink *k)
{
    size_t i, n, from = 0;
    uint32_t cp;
    int kind = 0, now, rc = RR_OK; /* 0: space, 1: word, 2: other */

    for (i = 0; i < k->v.len && !rc; i += n) {
        n = rr_utf8_next(k->v.s + i, k->v.len - i, &cp);
        now = rr_uni(cp) & RR_UNI_WORD ? 1 : rr_uni_space(cp) ? 0 : 2;
        if (now == kind) continue;
        if (kind) rc = word(k, from, i);
        kind = now;
        from = i;
    }
    if (!rc && kind) rc = word(k, from, k->v.len);
    return rc;
}

/* White space removed, punctuation alone. */
static int split_bert(struct sink *k)
{
    size_t i, n, from = 0;
    uint32_t cp;
    int rc = RR_OK;

    for (i = 0; i < k->v.len && !rc; i += n) {
        bool space, punct;

        n = rr_utf8_next(k->v.s + i, k->v.len - i, &cp);
        space = rr_uni_space(cp);
        punct = !space && is_punct(cp);
        if (!space && !punct) continue;
        rc = word(k, from, i);
        if (!rc && punct) rc = word(k, i, i + n);
        from = i + n;
    }
    return rc ? rc : word(k, from, k->v.len);
}

static int no_memory(struct rr_error *err)
{
    return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
}

/* dst = prefix + v with every space replaced by repl (0 bytes: kept).  The prefix shares the place
 * of the first character. */
static bool rewrite(struct rr_str *dst, struct rr_view v, const char *prefix, size_t prefix_len,
                    const char *repl, size_t repl_len)
{
    size_t i, k;

    dst->len = 0;
    if (!rr_str_grow(dst, prefix_len + v.len * RR_MAX(repl_len, (size_t)1) + 4, v.a != NULL))
        return false;
    for (k = 0; k < prefix_len; k++, dst->len++) {
        dst->s[dst->len] = prefix[k];
        if (v.a) dst->a[dst->len] = v.a[0], dst->b[dst->len] = v.b[0];
    }
    for (i = 0; i < v.len; i++) {
        bool swap = repl_len && v.s[i] == ' ';

        for (k = 0; k < (swap ? repl_len : 1); k++, dst->len++) {
            dst->s[dst->len] = swap ? repl[k] : v.s[i];
            if (v.a) dst->a[dst->len] = v.a[i], dst->b[dst->len] = v.b[i];
        }
    }
    return true;
}

/* Words start at each replacement character. */
static int split_at(struct sink *k, const char *repl, size_t len)
{
    const char *s = k->v.s;
    size_t from = 0, at = 1;
    int rc;

    while (at + len <= k->v.len) {
        const char *hit = memchr(s + at, repl[0], k->v.len - len + 1 - at);

        if (!hit) break;
        at = (size_t)(hit - s);
        if (memcmp(hit, repl, len) != 0) {
            at++;
            continue;
        }
        rc = word(k, from, at);
        if (rc) return rc;
        from = at;
        at += len;
    }
    return word(k, from, k->v.len);
}

static int metaspace(struct sink *k, const struct rr_pretok_step *st, struct rr_str *buf)
{
    struct rr_view v = k->v;
    bool starts = v.s[0] == ' ' || (v.len >= st->repl_len && !memcmp(v.s, st->repl, st->repl_len));
    bool add = !starts && (st->prepend == RR_PREPEND_ALWAYS ||
                           (st->prepend == RR_PREPEND_FIRST && v.a && v.a[0] == 0));

    if (add || memchr(v.s, ' ', v.len)) {
        /* A text of spaces grows by the replacement: the worst case is asked for only if needed. */
        if (!rewrite(buf, v, st->repl, add ? st->repl_len : 0, st->repl,
                     memchr(v.s, ' ', v.len) ? st->repl_len : 0))
            return no_memory(k->err);
        k->v = rr_str_view(buf, v.a != NULL);
    }
    return st->split ? split_at(k, st->repl, st->repl_len) : word(k, 0, k->v.len);
}

/* The byte-level characters of v, for models that cannot take bytes. */
static int map_bytes(struct sink *k, size_t from, size_t to, struct rr_str *buf)
{
    struct rr_view v = rr_view_cut(k->v, from, to);
    size_t i;

    buf->len = 0;
    if (!rr_str_grow(buf, v.len * 2 + 4, v.a != NULL)) return no_memory(k->err);
    for (i = 0; i < v.len; i++) {
        unsigned n = rr_utf8_put(buf->s + buf->len, rr_byte_char((unsigned char)v.s[i]));

        for (; n > 0; n--, buf->len++)
            if (v.a) buf->a[buf->len] = v.a[i], buf->b[buf->len] = v.b[i];
    }
    return rr_pretok_run(k->tok, k->s, k->next, rr_str_view(buf, v.a != NULL), k->err);
}

static int byte_level(struct sink *k, const struct rr_pretok_step *st, struct rr_str *buf)
{
    struct rr_str *bytes = &k->s->bytes[k->next - 1]; /* another such step may have made k->v */
    bool raw = k->tok->model.bytes && k->next == k->tok->n_pre;
    struct rr_match_iter it;
    size_t from, to, done = 0;
    int rc, more;

    if (st->add_prefix_space && k->v.s[0] != ' ') {
        if (!rewrite(buf, k->v, " ", 1, "", 0)) return no_memory(k->err);
        k->v = rr_str_view(buf, k->v.a != NULL);
    }
    if (!st->re) return raw ? word(k, 0, k->v.len) : map_bytes(k, 0, k->v.len, bytes);
    rc = rr_match_begin(&it, st->re, k->s->matcher, k->v.s, k->v.len, k->err);
    if (rc) return rc;
    while (!rc && done < k->v.len) {
        more = rr_match_next(&it, &from, &to, k->err);
        if (more < 0) rc = it.rc;
        if (more == 0) from = to = k->v.len;
        if (!rc && from > done) rc = raw ? word(k, done, from) : map_bytes(k, done, from, bytes);
        if (!rc && to > from) rc = raw ? word(k, from, to) : map_bytes(k, from, to, bytes);
        done = to;
    }
    rr_match_end(&it);
    return rc;
}

int rr_pretok_run(const struct rr_tok *tok, struct rr_tok_scratch *s, unsigned at, struct rr_view v,
                  struct rr_error *err)
{
    const struct rr_pretok_step *st = &tok->pre[at];
    struct sink k = {
        .tok = tok, .s = s, .next = at + 1, .v = v, .behavior = RR_REMOVED, .err = err
    };

    if (v.len == 0) return RR_OK;
    if (at == tok->n_pre) return rr_model_word(tok, s, v, err);
    k.behavior = st->behavior;
    switch (st->kind) {
    case RR_PRE_WHITESPACE_SPLIT: return split_spaces(&k);
    case RR_PRE_WHITESPACE: return split_words(&k);
    case RR_PRE_BERT: return split_bert(&k);
    case RR_PRE_METASPACE: return metaspace(&k, st, &s->level[at]);
    case RR_PRE_BYTE_LEVEL: return byte_level(&k, st, &s->level[at]);
    case RR_PRE_SPLIT: return split_regex(&k, st->re, st->invert);
    case RR_PRE_PUNCTUATION: return split_chars(&k, is_punct);
    case RR_PRE_DIGITS: return split_chars(&k, is_numeric);
    }
    return rr_fail(err, RR_EINTERNAL, "tokenizer: unknown pre-tokenizer");
}

bool rr_pretok_local(const struct rr_tok *tok)
{
    unsigned i;

    for (i = 0; i < tok->n_pre; i++) {
        const struct rr_pretok_step *st = &tok->pre[i];

        switch (st->kind) {
        case RR_PRE_WHITESPACE_SPLIT:
        case RR_PRE_WHITESPACE:
        case RR_PRE_BERT: return true;
        case RR_PRE_METASPACE: return st->split && st->repl[0] != ' ';
        case RR_PRE_BYTE_LEVEL: return st->re != NULL;
        case RR_PRE_SPLIT: return st->local;
        case RR_PRE_PUNCTUATION:
        case RR_PRE_DIGITS: break; /* they only add boundaries: the next step decides */
        }
    }
    return false;
}
