/* SPDX-License-Identifier: Apache-2.0 */
/* unorm.c - NFD, NFKD, NFC and NFKC through utf8proc's tables.
 * Layer: tok (L1).
 * Only characters that the reference's (older) tables know are decomposed, reordered or composed:
 * the flag RR_UNI_NORM.  Decompositions never change once published, so the version of utf8proc
 * does not matter. */
#include <utf8proc.h>

#include "tok/normalize.h"
#include "tok/unidata.h"

struct form {
    struct rr_norm_work *w;
    struct rr_emit e;
    size_t n, ready; /* marks; the first ready of them are in canonical order */
    bool compat, compose;
    /* Composition: the last starter and the marks that did not join it. */
    bool has_base, blocked;
    uint32_t last_ccc;
    struct rr_norm_mark base;
    size_t held; /* marks[0 .. held - 1] wait behind base */
};

static uint32_t combining_class(uint32_t cp)
{
    if (cp < 0x300 || !(rr_uni(cp) & RR_UNI_NORM)) return 0;
    return (uint32_t)utf8proc_get_property((utf8proc_int32_t)cp)->combining_class;
}

static uint32_t compose_pair(uint32_t a, uint32_t b)
{
    utf8proc_int32_t pair[2] = { (utf8proc_int32_t)a, (utf8proc_int32_t)b };

    if (b < 0x300) return 0;
    if (utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE) != 1) return 0;
    return rr_uni((uint32_t)pair[0]) & RR_UNI_NORM ? (uint32_t)pair[0] : 0;
}

static bool grow_marks(struct form *f)
{
    size_t cap = f->w->marks_cap ? f->w->marks_cap * 2 : 64;
    struct rr_norm_mark *m;

    if (f->n < f->w->marks_cap) return true;
    m = rr_alloc(RR_MEM_TOKENIZER, cap * 2, sizeof(*m)); /* second half: for sorting */
    if (!m) {
        f->e.failed = true;
        return false;
    }
    if (f->n) memcpy(m, f->w->marks, f->n * sizeof(*m));
    rr_free(f->w->marks);
    f->w->marks = m;
    f->w->marks_cap = cap;
    return true;
}

/* Stable, by class: insertion for the usual two or three marks, counting for a flood of them. */
static void sort_marks(struct rr_norm_mark *m, struct rr_norm_mark *spare, size_t n)
{
    size_t i, j, count[257] = { 0 };

    if (n <= 32) {
        for (i = 1; i < n; i++) {
            struct rr_norm_mark x = m[i];

            for (j = i; j > 0 && m[j - 1].ccc > x.ccc; j--) m[j] = m[j - 1];
            m[j] = x;
        }
        return;
    }
    for (i = 0; i < n; i++) count[(m[i].ccc & 255) + 1]++;
    for (i = 0; i < 256; i++) count[i + 1] += count[i];
    for (i = 0; i < n; i++) spare[count[m[i].ccc & 255]++] = m[i];
    memcpy(m, spare, n * sizeof(*m));
}

static void release_base(struct form *f)
{
    size_t i;

    if (f->has_base) rr_emit(&f->e, f->base.cp, f->base.change);
    for (i = 0; i < f->held; i++) rr_emit(&f->e, f->w->marks[i].cp, f->w->marks[i].change);
    f->held = 0;
    f->blocked = false;
}

/* One character in canonical order, to be joined with the base before it where that is allowed.
 * Held marks overwrite marks[] from the start; they never overtake the reading position. */
static void compose(struct form *f, struct rr_norm_mark m)
{
    uint32_t joined;

    if (!f->has_base) {
        if (m.ccc == 0) {
            f->base = m;
            f->has_base = true;
        } else {
            rr_emit(&f->e, m.cp, m.change);
        }
        return;
    }
    if (f->blocked && f->last_ccc >= m.ccc) {
        joined = 0;
    } else {
        joined = compose_pair(f->base.cp, m.cp);
    }
    if (joined) {
        f->base.cp = joined;
        f->base.change += m.change - 1;
        return;
    }
    if (m.ccc == 0) {
        release_base(f);
        f->base = m;
        f->has_base = true;
        return;
    }
    f->w->marks[f->held++] = m;
    f->blocked = true;
    f->last_ccc = m.ccc;
}

/* Hands on all waiting marks: called before each starter. */
static void flush_marks(struct form *f)
{
    size_t from = f->ready, i;

    if (f->n > from) sort_marks(f->w->marks + from, f->w->marks + f->w->marks_cap, f->n - from);
    for (i = from; i < f->n; i++) {
        if (f->compose)
            compose(f, f->w->marks[i]);
        else
            rr_emit(&f->e, f->w->marks[i].cp, f->w->marks[i].change);
    }
    f->n = f->ready = f->held;
}

static void push_char(struct form *f, uint32_t cp, int32_t change)
{
    struct rr_norm_mark m = { cp, change, combining_class(cp) };

    if (m.ccc == 0) {
        flush_marks(f);
        if (f->compose) {
            compose(f, m);
            f->n = f->ready = f->held;
        } else {
            rr_emit(&f->e, cp, change);
        }
        return;
    }
    if (grow_marks(f)) f->w->marks[f->n++] = m;
}

static void decompose(struct form *f, uint32_t cp)
{
    utf8proc_int32_t parts[32];
    utf8proc_ssize_t n, i;
    int bound = 0, options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE;

    if (cp < 0x80 || !(rr_uni(cp) & RR_UNI_NORM)) {
        push_char(f, cp, 0);
        return;
    }
    if (f->compat) options |= UTF8PROC_COMPAT;
    n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32, (utf8proc_option_t)options,
                                &bound);
    if (n < 1 || n > 32) {
        push_char(f, cp, 0);
        return;
    }
    for (i = 0; i < n; i++) push_char(f, (uint32_t)parts[i], i > 0);
}

/* Characters below this limit are left alone by the form when nothing else is near. */
static uint32_t inert_below(enum rr_norm_kind form)
{
    switch (form) {
    case RR_NORM_NFC: return 0x300;
    case RR_NORM_NFD: return 0xC0;
    default: return 0xA0;
    }
}

/* First byte of a character at or after the limit; len if none. */
static size_t skip_inert(const char *s, size_t i, size_t len, uint32_t limit)
{
    uint32_t cp;
    size_t n;

    while (i < len) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        n = rr_utf8_next(s + i, len - i, &cp);
        if (cp >= limit) break;
        i += n;
    }
    return i;
}

bool rr_norm_unicode(enum rr_norm_kind form, struct rr_norm_work *w, struct rr_view src,
                     struct rr_str *dst)
{
    struct form f = { .w = w };
    uint32_t limit = inert_below(form), cp;
    size_t i = 0, n;

    f.compat = form == RR_NORM_NFKC || form == RR_NORM_NFKD;
    f.compose = form == RR_NORM_NFC || form == RR_NORM_NFKC;
    rr_emit_begin(&f.e, src, dst);
    if (skip_inert(src.s, 0, src.len, limit) == src.len) {
        rr_emit_same(&f.e, 0, src.len);
        return !f.e.failed;
    }
    while (i < src.len && !f.e.failed) {
        if (!src.a && f.n == 0 && !f.has_base) {
            /* Nothing pending: copy up to the last inert character, which may be a base. */
            n = skip_inert(src.s, i, src.len, limit);
            if (n < src.len)
                while (n > i && ((unsigned char)src.s[--n] & 0xC0) == 0x80) continue;
            if (n > i) {
                rr_emit_raw(&f.e, src.s + i, n - i);
                i = n;
                continue;
            }
        }
        i += rr_utf8_next(src.s + i, src.len - i, &cp);
        decompose(&f, cp);
        if (f.compose && f.has_base && f.n == 0 && f.base.cp < limit && i < src.len &&
            (unsigned char)src.s[i] < 0x80) {
            release_base(&f); /* ASCII follows and joins nothing: the fast copy may go on */
            f.has_base = false;
        }
    }
    flush_marks(&f);
    release_base(&f);
    return !f.e.failed;
}
