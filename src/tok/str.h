/* SPDX-License-Identifier: Apache-2.0 */
/* str.h - growable text that can remember where each byte came from.
 * Layer: tok (L1).  Threads: one at a time (lives in a scratch).
 *
 * Alignment: a[i], b[i] are the start and end, in the caller's text, of what byte i stands for.  It
 * is kept only when offsets are asked for; without it a and b are NULL and cost nothing.  The rules
 * for inserted, replaced and removed characters are those of the reference's NormalizedString. */
#ifndef RR_TOK_STR_H
#define RR_TOK_STR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"
#include "base/mem.h"
#include "base/text.h"
#include "rerank_types.h"

struct rr_view { /* a text, perhaps aligned */
    const char *s;
    size_t len;
    const uint32_t *a, *b; /* [len] or NULL */
};

struct rr_str {
    char *s;
    size_t len, cap;
    uint32_t *a, *b; /* [acap] */
    size_t acap;
};

static inline struct rr_view rr_view_cut(struct rr_view v, size_t from, size_t to)
{
    return (struct rr_view){ v.s + from, to - from, v.a ? v.a + from : NULL,
                             v.a ? v.b + from : NULL };
}

static inline struct rr_view rr_str_view(const struct rr_str *t, bool aligned)
{
    return (struct rr_view){ t->s, t->len, aligned ? t->a : NULL, aligned ? t->b : NULL };
}

/* Room for extra more bytes (and their alignment); false: out of memory. */
RR_NODISCARD bool rr_str_grow(struct rr_str *t, size_t extra, bool aligned);
void rr_str_free(struct rr_str *t);

struct rr_emit { /* writes dst from src, one character after the other */
    struct rr_view src;
    struct rr_str *dst;
    size_t at; /* aligned only: the source byte that comes next */
    bool failed;
};

static inline void rr_emit_begin(struct rr_emit *e, struct rr_view src, struct rr_str *dst)
{
    *e = (struct rr_emit){ src, dst, 0, false };
    dst->len = 0;
    e->failed = !rr_str_grow(dst, src.len + 16, src.a != NULL);
}

/* Appends bytes as they are; not for aligned text. */
static inline void rr_emit_raw(struct rr_emit *e, const char *s, size_t n)
{
    struct rr_str *d = e->dst;

    if (RR_UNLIKELY(d->cap - d->len < n) && !rr_str_grow(d, n, false)) {
        e->failed = true;
        return;
    }
    memcpy(d->s + d->len, s, n);
    d->len += n;
}

/* Aligned text: see rr_emit. */
void rr_emit_aligned(struct rr_emit *e, uint32_t cp, long change);

/* Appends cp.  change 0: it stands for the next character of the source; -n: and n more are left
 * out after that; 1: it is an extra character that shares the place of the one before. */
static inline void rr_emit(struct rr_emit *e, uint32_t cp, long change)
{
    struct rr_str *d = e->dst;

    if (e->src.a) {
        rr_emit_aligned(e, cp, change);
        return;
    }
    if (RR_UNLIKELY(d->cap - d->len < 4) && !rr_str_grow(d, 4, false)) {
        e->failed = true;
        return;
    }
    if (cp < 0x80)
        d->s[d->len++] = (char)cp;
    else
        d->len += rr_utf8_put(d->s + d->len, cp);
}

/* Bytes from .. to of the source, unchanged. */
void rr_emit_same(struct rr_emit *e, size_t from, size_t to);

#endif
