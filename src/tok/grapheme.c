/* SPDX-License-Identifier: Apache-2.0 */
/* grapheme.c - the cluster rules of UAX #29 as one forward pass.  Layer: tok (L1).
 * The rules that look back (GB9c, GB11, GB12) never look beyond the cluster, so three small states
 * that start anew with each cluster are enough. */
#include "tok/grapheme.h"

#include <stdbool.h>

#include "base/text.h"
#include "tok/unidata.h"

struct state {
    unsigned before;  /* class of the last character */
    unsigned picto;   /* GB11: 1 = pictographic Extend*, 2 = the same and a ZWJ */
    unsigned indic;   /* GB9c: 1 = consonant and extenders, 2 = with a linker among them */
    unsigned regions; /* regional indicators that end here */
};

static void advance(struct state *st, unsigned value)
{
    unsigned c = value & 15;

    if (c == RR_GC_PICTOGRAPHIC)
        st->picto = 1;
    else if (c == RR_GC_ZWJ)
        st->picto = st->picto == 1 ? 2 : 0;
    else if (c != RR_GC_EXTEND)
        st->picto = 0;
    else if (st->picto == 2)
        st->picto = 0;

    if (c == RR_GC_CONSONANT)
        st->indic = 1;
    else if (value & RR_UNI_INCB_LINKER)
        st->indic = st->indic ? 2 : 0;
    else if (!(value & RR_UNI_INCB_EXTEND))
        st->indic = 0;

    st->regions = c == RR_GC_REGIONAL ? st->regions + 1 : 0;
    st->before = c;
}

static bool hangul_joins(unsigned before, unsigned after)
{
    switch (before) {
    case RR_GC_L:
        return after == RR_GC_L || after == RR_GC_V || after == RR_GC_LV || after == RR_GC_LVT;
    case RR_GC_LV:
    case RR_GC_V: return after == RR_GC_V || after == RR_GC_T;
    case RR_GC_LVT:
    case RR_GC_T: return after == RR_GC_T;
    default: return false;
    }
}

static bool joins(const struct state *st, unsigned after)
{
    unsigned before = st->before;

    if (before == RR_GC_CR && after == RR_GC_LF) return true;                              /* GB3 */
    if (before == RR_GC_CONTROL || before == RR_GC_CR || before == RR_GC_LF) return false; /* GB4 */
    if (after == RR_GC_CONTROL || after == RR_GC_CR || after == RR_GC_LF) return false;    /* GB5 */
    if (hangul_joins(before, after)) return true;                                       /* GB6-8 */
    if (after == RR_GC_EXTEND || after == RR_GC_ZWJ) return true;                       /* GB9 */
    if (after == RR_GC_SPACING) return true;                                            /* GB9a */
    if (before == RR_GC_PREPEND) return true;                                           /* GB9b */
    if (after == RR_GC_CONSONANT) return st->indic == 2;                                /* GB9c */
    if (after == RR_GC_PICTOGRAPHIC) return st->picto == 2;                             /* GB11 */
    return before == RR_GC_REGIONAL && after == RR_GC_REGIONAL && st->regions % 2 == 1; /* GB12 */
}

size_t rr_grapheme_next(const char *s, size_t len)
{
    struct state st = { 0, 0, 0, 0 };
    size_t at, n;
    uint32_t cp;
    unsigned v;

    if (len == 0) return 0;
    at = rr_utf8_next(s, len, &cp);
    advance(&st, rr_uni(cp));
    while (at < len) {
        n = rr_utf8_next(s + at, len - at, &cp);
        v = rr_uni(cp);
        if (!joins(&st, v & 15)) break;
        advance(&st, v);
        at += n;
    }
    return at;
}
