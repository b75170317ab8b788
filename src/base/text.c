/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - UTF-8 and words.  Layer: base (L0).  Threads: any. */
#include "base/text.h"

#include "base/attr.h"

/* Property White_Space of the Unicode character database (PropList.txt; the list is stable). */
static bool is_space(uint32_t cp)
{
    if (cp < 0x80) return cp == 0x20 || (cp >= 0x09 && cp <= 0x0D);
    if (cp == 0x85 || cp == 0xA0 || cp == 0x1680) return true;
    if (cp >= 0x2000 && cp <= 0x200A) return true;
    return cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool rr_text_blank(struct rr_text t)
{
    size_t i = 0;

    while (i < t.len) {
        uint32_t cp;

        i += rr_utf8_next(t.data + i, t.len - i, &cp);
        if (!is_space(cp)) return false;
    }
    return true;
}

/* Length of the well-formed character at p (n > 0 bytes), or 0: Unicode standard, table 3-7. */
static unsigned utf8_length(const unsigned char *p, size_t n)
{
    unsigned char low = 0x80, high = 0xBF;
    unsigned len, i;

    if (p[0] < 0x80) return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
    len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (n < len) return 0;
    if (p[0] == 0xE0) low = 0xA0;  /* shorter forms exist below */
    if (p[0] == 0xED) high = 0x9F; /* surrogates are above */
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F; /* U+10FFFF is the last one */
    if (p[1] < low || p[1] > high) return 0;
    for (i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
    }
    return len;
}

size_t rr_utf8_invalid(struct rr_text t)
{
    const unsigned char *p = (const unsigned char *)t.data;
    size_t i = 0;

    while (i < t.len) {
        uint64_t eight;
        unsigned n;

        while (t.len - i >= 8) { /* most text is ASCII for long stretches */
            memcpy(&eight, p + i, 8);
            if (eight & UINT64_C(0x8080808080808080)) break;
            i += 8;
        }
        if (i == t.len) break;
        n = utf8_length(p + i, t.len - i);
        if (n == 0) return i;
        i += n;
    }
    return SIZE_MAX;
}

/* Blocks of a fixed size without a branch inside: compilers make vector code of these loops. */
enum { BLOCK = 32 };

static bool plain_block(const unsigned char *p)
{
    unsigned char found = 0;
    int i;

    for (i = 0; i < BLOCK; i++) found |= (p[i] < 0x20) | (p[i] == '"') | (p[i] == '\\');
    return !found;
}

size_t rr_text_plain(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0;

    while (i + BLOCK <= n && plain_block(p + i)) i += BLOCK;
    while (i < n && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\') i++;
    return i;
}

size_t rr_text_string_end(const char *s, size_t n)
{
    const char *quote = s, *p;

    while ((quote = n ? memchr(quote, '"', n - (size_t)(quote - s)) : NULL)) {
        for (p = quote; p > s && p[-1] == '\\'; p--) continue;
        if ((quote - p) % 2 == 0) return (size_t)(quote - s);
        quote++; /* it belongs to an escape */
    }
    return n;
}

#define EIGHT(byte) ((byte)*UINT64_C(0x0101010101010101))

size_t rr_utf8_count(struct rr_text t)
{
    size_t n = t.len, i;
    uint64_t v;

    /* Bytes 10xxxxxx go on with a character; all others begin one. */
    for (i = 0; i + 8 <= t.len; i += 8) {
        memcpy(&v, t.data + i, 8);
        v = v >> 7 & ~(v >> 6) & EIGHT(1);
        n -= v * EIGHT(1) >> 56; /* the sum of eight bytes that are 0 or 1 */
    }
    for (; i < t.len; i++) n -= ((unsigned char)t.data[i] & 0xC0) == 0x80;
    return n;
}

unsigned rr_utf8_put(char out[4], uint32_t cp)
{
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) cp = 0xFFFD; /* not characters */
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool rr_text_word(const char **at, struct rr_text *word)
{
    static const char between[] = ", \t";

    word->data = *at + strspn(*at, between);
    word->len = strcspn(word->data, between);
    *at = word->data + word->len;
    return word->len > 0;
}

bool rr_text_listed(const char *list, const char *word)
{
    struct rr_text w;

    while (rr_text_word(&list, &w))
        if (rr_text_is(w, word)) return true;
    return false;
}

#define WORD_MAX 48 /* longer than any option or field name */

static char lower(char c)
{
    if (c == '_') return '-'; /* people mix them up */
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Optimal string alignment distance: insert, delete, replace, swap of neighbours, each 1. */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
    unsigned rows[3][WORD_MAX + 1]; /* of the table: the one before last, the last, this one */
    unsigned *prev2 = rows[0], *prev = rows[1], *cur = rows[2];
    size_t i, j;

    for (j = 0; j <= nb; j++) prev[j] = (unsigned)j;
    for (i = 1; i <= na; i++) {
        unsigned *spare = prev2;

        cur[0] = (unsigned)i;
        for (j = 1; j <= nb; j++) {
            char ca = lower(a[i - 1]), cb = lower(b[j - 1]);
            unsigned best = prev[j - 1] + (ca != cb);

            best = RR_MIN(best, RR_MIN(prev[j], cur[j - 1]) + 1);
            if (i > 1 && j > 1 && ca == lower(b[j - 2]) && lower(a[i - 2]) == cb) {
                best = RR_MIN(best, prev2[j - 2] + 1);
            }
            cur[j] = best;
        }
        prev2 = prev;
        prev = cur;
        cur = spare;
    }
    return prev[nb];
}

const char *rr_text_nearest(const char *word, const char *const *names, size_t n)
{
    size_t len = strlen(word), i;
    unsigned best = len < 6 ? 1 : (unsigned)(len / 3); /* how far "near" may be */
    const char *found = NULL;

    if (len == 0 || len > WORD_MAX) return NULL;
    for (i = 0; i < n; i++) {
        size_t nlen = strlen(names[i]);
        unsigned d;

        if (nlen > WORD_MAX) continue;
        d = distance(word, len, names[i], nlen);
        if (found ? d < best : d <= best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}
