/* SPDX-License-Identifier: Apache-2.0 */
/* normalize.c - the simple normalizers and the list of steps.  Layer: tok (L1). */
#include "tok/normalize.h"

#include "base/err.h"
#include "tok/unidata.h"

uint32_t rr_byte_char(unsigned char b)
{
    if ((b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD)) return b;
    if (b <= 0x20) return 0x100u + b;
    if (b == 0xAD) return 0x143;
    return 0x121u + (b - 0x7Fu); /* 0x7F .. 0xA0 */
}

int rr_char_byte(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xFF && cp != 0xAD)) return (int)cp;
    if (cp >= 0x100 && cp <= 0x120) return (int)(cp - 0x100);
    if (cp >= 0x121 && cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

uint32_t rr_norm_lower(uint32_t cp, uint32_t *more)
{
    unsigned lo = 0, hi = rr_uni_lower_n;
    const struct rr_uni_lower *r;

    *more = 0;
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    if (cp == 0x130) {
        *more = 0x307;
        return 'i';
    }
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (rr_uni_lower[mid].last < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == rr_uni_lower_n) return cp;
    r = &rr_uni_lower[lo];
    if (cp < r->first || (cp - r->first) % (uint32_t)r->stride) return cp;
    return (uint32_t)((int32_t)cp + r->delta);
}

static bool bert_chinese(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool nmt_removes(uint32_t c)
{
    return (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
           c == 0x9F;
}

static bool nmt_space(uint32_t c)
{
    return c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
           c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
}

static bool keeps(enum rr_norm_kind kind, uint32_t cp)
{
    switch (kind) {
    case RR_NORM_NMT: return !nmt_removes(cp);
    case RR_NORM_BERT_CLEAN:
        if (cp < 0x80) return (cp >= 0x20 && cp != 0x7F) || cp == 9 || cp == 10 || cp == 13;
        return !(rr_uni(cp) & RR_UNI_OTHER);
    case RR_NORM_BERT_ACCENTS: return !(rr_uni(cp) & RR_UNI_MN);
    case RR_NORM_STRIP_ACCENTS: return !(rr_uni(cp) & RR_UNI_COMB);
    default: return true;
    }
}

static uint32_t mapped(enum rr_norm_kind kind, uint32_t cp)
{
    if (kind == RR_NORM_NMT) return nmt_space(cp) ? ' ' : cp;
    if (kind == RR_NORM_BERT_CLEAN) return rr_uni_space(cp) ? ' ' : cp;
    return cp;
}

/* Leaves characters out and maps the others one to one. */
static bool filter(enum rr_norm_kind kind, struct rr_view src, struct rr_str *dst)
{
    struct rr_emit e;
    size_t i, n;
    uint32_t cp, held = 0;
    long removed = 0;
    bool has_held = false;

    rr_emit_begin(&e, src, dst);
    for (i = 0; i < src.len && !e.failed; i += n) {
        n = rr_utf8_next(src.s + i, src.len - i, &cp);
        if (!keeps(kind, cp)) {
            removed++;
            continue;
        }
        if (!src.a) {
            rr_emit(&e, mapped(kind, cp), 0);
            continue;
        }
        if (has_held)
            rr_emit(&e, held, -removed);
        else
            e.at = i; /* what was removed before the first character kept */
        held = mapped(kind, cp);
        has_held = true;
        removed = 0;
    }
    if (has_held) rr_emit(&e, held, -removed);
    return !e.failed;
}

static bool lowercase(struct rr_view src, struct rr_str *dst)
{
    struct rr_emit e;
    size_t i, n;
    uint32_t cp, more;

    rr_emit_begin(&e, src, dst);
    for (i = 0; i < src.len && !e.failed; i += n) {
        n = rr_utf8_next(src.s + i, src.len - i, &cp);
        rr_emit(&e, rr_norm_lower(cp, &more), 0);
        if (more) rr_emit(&e, more, 1);
    }
    return !e.failed;
}

static bool chinese(struct rr_view src, struct rr_str *dst)
{
    struct rr_emit e;
    size_t i, n;
    uint32_t cp;

    rr_emit_begin(&e, src, dst);
    for (i = 0; i < src.len && !e.failed; i += n) {
        n = rr_utf8_next(src.s + i, src.len - i, &cp);
        if (cp < 0x3400 || !bert_chinese(cp)) {
            rr_emit(&e, cp, 0);
            continue;
        }
        rr_emit(&e, ' ', 0);
        rr_emit(&e, cp, 1);
        rr_emit(&e, ' ', 1);
    }
    return !e.failed;
}

static bool byte_level(struct rr_view src, struct rr_str *dst)
{
    struct rr_emit e;
    size_t i, n, k;
    uint32_t cp;

    rr_emit_begin(&e, src, dst);
    for (i = 0; i < src.len && !e.failed; i += n) {
        n = rr_utf8_next(src.s + i, src.len - i, &cp);
        for (k = 0; k < n; k++) rr_emit(&e, rr_byte_char((unsigned char)src.s[i + k]), k > 0);
    }
    return !e.failed;
}

/* White space off the ends: a cut needs no copy. */
static struct rr_view strip(struct rr_view v, bool left, bool right)
{
    uint32_t cp;
    size_t n;

    while (left && v.len) {
        n = rr_utf8_next(v.s, v.len, &cp);
        if (!rr_uni_space(cp)) break;
        v = rr_view_cut(v, n, v.len);
    }
    while (right && v.len) {
        for (n = v.len - 1; n > 0 && ((unsigned char)v.s[n] & 0xC0) == 0x80; n--) continue;
        rr_utf8_next(v.s + n, v.len - n, &cp);
        if (!rr_uni_space(cp)) break;
        v = rr_view_cut(v, 0, n);
    }
    return v;
}

static bool prepend(const struct rr_norm_step *step, struct rr_view src, struct rr_str *dst)
{
    struct rr_emit e;
    size_t i, n;
    uint32_t cp;

    rr_emit_begin(&e, src, dst);
    if (!src.a) {
        rr_emit_raw(&e, step->text, step->text_len);
        rr_emit_raw(&e, src.s, src.len);
        return !e.failed;
    }
    for (i = 0; i < step->text_len; i += n) {
        n = rr_utf8_next(step->text + i, step->text_len - i, &cp);
        rr_emit(&e, cp, i > 0);
    }
    n = rr_utf8_next(src.s, src.len, &cp);
    rr_emit(&e, cp, step->text_len > 0);
    rr_emit_same(&e, n, src.len);
    return !e.failed;
}

static int replace(const struct rr_norm_step *step, struct rr_norm_work *w, struct rr_view src,
                   struct rr_str *dst, struct rr_error *err)
{
    struct rr_match_iter it;
    struct rr_emit e;
    size_t from, to, done = 0, i, n;
    uint32_t cp;
    int rc, more;

    rr_emit_begin(&e, src, dst);
    rc = rr_match_begin(&it, step->re, w->matcher, src.s, src.len, err);
    if (rc) return rc;
    while ((more = rr_match_next(&it, &from, &to, err)) > 0) {
        e.at = done;
        rr_emit_same(&e, done, from);
        e.at = to; /* new text shares the place of the last character that it replaces */
        if (!src.a) rr_emit_raw(&e, step->text, step->text_len);
        for (i = 0; src.a && i < step->text_len; i += n) {
            n = rr_utf8_next(step->text + i, step->text_len - i, &cp);
            rr_emit(&e, cp, 1);
        }
        done = to;
    }
    rr_match_end(&it);
    if (more < 0) return it.rc;
    e.at = done;
    rr_emit_same(&e, done, src.len);
    return e.failed ? rr_fail(err, RR_ENOMEM, "tokenizer: out of memory") : RR_OK;
}

static int run_step(const struct rr_norm_step *st, struct rr_norm_work *w, struct rr_view in,
                    struct rr_str *dst, struct rr_error *err)
{
    bool good = true;

    switch (st->kind) {
    case RR_NORM_PRECOMPILED: good = rr_charsmap_run(st->map, in, dst); break;
    case RR_NORM_REPLACE: return replace(st, w, in, dst, err);
    case RR_NORM_NFC:
    case RR_NORM_NFD:
    case RR_NORM_NFKC:
    case RR_NORM_NFKD: good = rr_norm_unicode(st->kind, w, in, dst); break;
    case RR_NORM_LOWERCASE: good = lowercase(in, dst); break;
    case RR_NORM_PREPEND: good = prepend(st, in, dst); break;
    case RR_NORM_BYTE_LEVEL: good = byte_level(in, dst); break;
    case RR_NORM_BERT_CHINESE: good = chinese(in, dst); break;
    case RR_NORM_STRIP_ACCENTS:
    case RR_NORM_NMT:
    case RR_NORM_BERT_CLEAN:
    case RR_NORM_BERT_ACCENTS: good = filter(st->kind, in, dst); break;
    case RR_NORM_STRIP: break; /* in rr_norm_run */
    }
    return good ? RR_OK : rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
}

int rr_norm_run(const struct rr_norm *n, struct rr_norm_work *w, struct rr_view in, bool first,
                bool last, struct rr_view *out, struct rr_error *err)
{
    unsigned i, turn = 0;
    int rc;

    for (i = 0; i < n->n; i++) {
        const struct rr_norm_step *st = &n->steps[i];

        if (st->kind == RR_NORM_STRIP) {
            in = strip(in, st->left && first, st->right && last);
            continue;
        }
        if (in.len == 0) break; /* no step makes something of nothing */
        rc = run_step(st, w, in, &w->buf[turn], err);
        if (rc) return rc;
        in = rr_str_view(&w->buf[turn], in.a != NULL);
        turn ^= 1;
    }
    *out = in;
    return RR_OK;
}

bool rr_norm_local(const struct rr_norm *n)
{
    unsigned i;

    for (i = 0; i < n->n; i++) {
        const struct rr_norm_step *st = &n->steps[i];

        if (st->kind == RR_NORM_PREPEND || st->kind == RR_NORM_BYTE_LEVEL) return false;
        if (st->kind == RR_NORM_PRECOMPILED && !rr_charsmap_keeps_ascii(st->map)) return false;
        if (st->kind == RR_NORM_REPLACE && !st->local) return false;
    }
    return true;
}

void rr_norm_close(struct rr_norm *n)
{
    unsigned i;

    for (i = 0; i < n->n; i++) {
        rr_free(n->steps[i].text);
        rr_regex_close(n->steps[i].re);
        rr_charsmap_close(n->steps[i].map);
    }
    rr_free(n->steps);
    *n = (struct rr_norm){ NULL, 0 };
}

void rr_norm_work_free(struct rr_norm_work *w)
{
    rr_str_free(&w->buf[0]);
    rr_str_free(&w->buf[1]);
    rr_free(w->marks);
    w->marks = NULL;
    w->marks_cap = 0;
}
