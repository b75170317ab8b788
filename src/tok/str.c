/* SPDX-License-Identifier: Apache-2.0 */
/* str.c - see str.h.  Layer: tok (L1). */
#include "tok/str.h"

bool rr_str_grow(struct rr_str *t, size_t extra, bool aligned)
{
    size_t need, cap;

    if (!rr_add(t->len, extra, &need)) return false;
    if (need > t->cap) {
        char *s;

        cap = RR_MAX(need, t->cap + t->cap / 2 + 256);
        s = rr_realloc(RR_MEM_TOKENIZER, t->s, cap, 1);
        if (!s) return false;
        t->s = s;
        t->cap = cap;
    }
    if (aligned && t->acap < t->cap) {
        uint32_t *a = rr_realloc(RR_MEM_TOKENIZER, t->a, t->cap, sizeof(*a)), *b;

        if (!a) return false;
        t->a = a;
        b = rr_realloc(RR_MEM_TOKENIZER, t->b, t->cap, sizeof(*b));
        if (!b) return false;
        t->b = b;
        t->acap = t->cap;
    }
    return true;
}

void rr_str_free(struct rr_str *t)
{
    rr_free(t->s);
    rr_free(t->a);
    rr_free(t->b);
    memset(t, 0, sizeof(*t));
}

/* Over the next source character. */
static void consume(struct rr_emit *e)
{
    uint32_t cp;

    if (e->at < e->src.len) e->at += rr_utf8_next(e->src.s + e->at, e->src.len - e->at, &cp);
}

void rr_emit_aligned(struct rr_emit *e, uint32_t cp, long change)
{
    struct rr_str *d = e->dst;
    const struct rr_view *src = &e->src;
    uint32_t a, b;
    unsigned n;

    if (!rr_str_grow(d, 4, true)) {
        e->failed = true;
        return;
    }
    if (src->len == 0) {
        a = b = 0;
    } else if (change > 0) {
        a = e->at ? src->a[e->at - 1] : src->a[0];
        b = e->at ? src->b[e->at - 1] : src->a[0];
    } else {
        size_t at = RR_MIN(e->at, src->len - 1);

        a = src->a[at];
        b = src->b[at];
        for (consume(e); change < 0; change++) consume(e);
    }
    n = rr_utf8_put(d->s + d->len, cp);
    for (; n > 0; n--) {
        d->a[d->len] = a;
        d->b[d->len++] = b;
    }
}

void rr_emit_same(struct rr_emit *e, size_t from, size_t to)
{
    uint32_t cp;

    if (!e->src.a) {
        rr_emit_raw(e, e->src.s + from, to - from);
        return;
    }
    while (from < to) {
        from += rr_utf8_next(e->src.s + from, e->src.len - from, &cp);
        rr_emit_aligned(e, cp, 0);
    }
}
