/* SPDX-License-Identifier: Apache-2.0 */
/* precompiled.c - see precompiled.h.  Layer: tok (L1).
 *
 * The map is a Darts double array (u32 units: bit 31 leaf value, bit 8 has_leaf, low 8 bits label,
 * bits 10.. offset, bit 9 offset scale) and a pool of zero-terminated replacements.  What the
 * reference does with it, and what therefore is right here: a cluster of less than 6 bytes of which
 * any prefix is in the map becomes the replacement of the shortest such prefix, all of it; any
 * other cluster is looked up character by character. */
#include "tok/precompiled.h"

#include "base/err.h"
#include "tok/grapheme.h"
#include "tok/unidata.h"

#define SMALL 0x300 /* below, no character extends a cluster: looked up in a table */

struct rr_charsmap {
    unsigned char *bytes;  /* the decoded field */
    const uint32_t *units; /* [n_units] */
    uint32_t n_units;
    const char *pool; /* [pool_len] */
    uint32_t pool_len;
    int32_t small[SMALL]; /* replacement of a character, -1: none */
};

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

/* Standard alphabet with padding; SIZE_MAX: not base64. */
static size_t base64_decode(unsigned char *out, struct rr_text t)
{
    size_t i, n = 0, pad = 0;
    uint32_t bits = 0;

    if (t.len % 4) return SIZE_MAX;
    while (pad < 2 && pad < t.len && t.data[t.len - 1 - pad] == '=') pad++;
    for (i = 0; i < t.len - pad; i++) {
        int v = base64_value((unsigned char)t.data[i]);

        if (v < 0) return SIZE_MAX;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4 == 0) continue;
        out[n++] = (unsigned char)(bits >> (6 - i % 4 * 2));
    }
    return n;
}

static uint32_t unit_offset(uint32_t u)
{
    return u >> 10 << ((u & 1u << 9) >> 6);
}

/* The replacement of the shortest prefix of s that is in the map, -1: none. */
static int64_t shortest(const struct rr_charsmap *m, const char *s, size_t len)
{
    uint32_t pos = 0, u;
    size_t i;

    pos ^= unit_offset(m->units[0]);
    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c == 0) break;
        pos ^= c;
        if (pos >= m->n_units) return -1;
        u = m->units[pos];
        if ((u & (1u << 31 | 0xFF)) != c) return -1;
        pos ^= unit_offset(u);
        if (u >> 8 & 1) {
            if (pos >= m->n_units) return -1;
            u = m->units[pos] & ~(1u << 31);
            return u < m->pool_len ? (int64_t)u : -1;
        }
    }
    return -1;
}

/* All states that a text can reach lie inside and their values point to whole characters.  work has
 * room for 3 * n_units + 1024: for each base the list of its children, and a stack.  A unit tells
 * whose child it can be: its position is the base XOR its label. */
static bool map_valid(const struct rr_charsmap *m, uint32_t *work)
{
    uint32_t n = m->n_units, top = 0, pos, base;
    uint32_t *first = work, *next = first + n + 512, *stack = next + n;

    for (pos = 1; pos < n; pos++) {
        uint32_t label = m->units[pos] & 0xFF;

        if (label == 0 || m->units[pos] >> 31) continue;
        next[pos] = first[pos ^ label];
        first[pos ^ label] = pos;
    }
    base = unit_offset(m->units[0]);
    stack[top++] = base;
    while (top > 0) {
        base = stack[--top];
        if (base >= n + 256) continue; /* no child lies inside: look-ups end there */
        pos = first[base];
        first[base] = 0; /* visited */
        for (; pos; pos = next[pos]) {
            uint32_t u = m->units[pos], child = pos ^ unit_offset(u);

            if (child >= n) return false;
            if (u >> 8 & 1) {
                uint32_t value = m->units[child] & ~(1u << 31);

                if (value >= m->pool_len || ((unsigned char)m->pool[value] & 0xC0) == 0x80)
                    return false;
            }
            stack[top++] = child;
        }
    }
    return true;
}

static int check(struct rr_charsmap *m, const char *where, struct rr_error *err)
{
    uint32_t *work = rr_calloc(RR_MEM_TOKENIZER, (size_t)m->n_units * 3 + 1024, sizeof(*work));
    bool good;

    if (!work) return rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
    good = map_valid(m, work);
    rr_free(work);
    if (!good)
        return rr_fail(err, RR_EFORMAT,
                       "%s: an entry of the map points outside, expected states "
                       "below %u and texts below %u",
                       where, m->n_units, m->pool_len);
    if (rr_utf8_invalid((struct rr_text){ m->pool, m->pool_len }) != SIZE_MAX)
        return rr_fail(err, RR_EFORMAT, "%s: the replacements are not valid UTF-8", where);
    return RR_OK;
}

int rr_charsmap_open(struct rr_charsmap **out, struct rr_text base64, bool checked,
                     const char *where, struct rr_error *err)
{
    struct rr_charsmap *m = rr_calloc(RR_MEM_TOKENIZER, 1, sizeof(*m));
    uint32_t trie_bytes = 0, cp;
    size_t len;
    char utf8[4];
    int rc = RR_EFORMAT;

    *out = NULL;
    if (m) m->bytes = rr_alloc(RR_MEM_TOKENIZER, base64.len / 4 * 3 + 4, 1);
    if (!m || !m->bytes) {
        rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
        goto fail;
    }
    len = base64_decode(m->bytes, base64);
    if (len == SIZE_MAX) {
        rr_fail(err, rc, "%s: found text that is not base64", where);
        goto fail;
    }
    if (len >= 4) memcpy(&trie_bytes, m->bytes, 4);
    if (len < 8 || trie_bytes < 4 || trie_bytes > len - 4) {
        rr_fail(err, rc, "%s: found %zu bytes with a map of %u, expected the map to fit", where,
                len, trie_bytes);
        goto fail;
    }
    m->units = (const uint32_t *)(const void *)(m->bytes + 4);
    m->n_units = trie_bytes / 4;
    /* As the reference reads it: what is left of the last incomplete unit belongs to the pool. */
    m->pool = (const char *)m->bytes + 4 + (size_t)m->n_units * 4;
    m->pool_len = (uint32_t)(len - 4 - (size_t)m->n_units * 4);
    rc = checked ? RR_OK : check(m, where, err);
    if (rc) goto fail;
    for (cp = 0; cp < SMALL; cp++) m->small[cp] = (int32_t)shortest(m, utf8, rr_utf8_put(utf8, cp));
    *out = m;
    return RR_OK;
fail:
    rr_charsmap_close(m);
    return rc;
}

void rr_charsmap_close(struct rr_charsmap *m)
{
    if (!m) return;
    rr_free(m->bytes);
    rr_free(m);
}

bool rr_charsmap_keeps_ascii(const struct rr_charsmap *m)
{
    uint32_t cp;

    for (cp = 0x20; cp < 0x7F; cp++)
        if (m->small[cp] >= 0) return false;
    return true;
}

struct run {
    const struct rr_charsmap *m;
    struct rr_emit e;
    bool
        waiting; /* aligned text: the last character waits, since what is removed after it counts */
    uint32_t cp;
    long change;
};

static void put(struct run *r, uint32_t cp, long change)
{
    if (!r->e.src.a) {
        rr_emit(&r->e, cp, 0);
        return;
    }
    if (r->waiting) rr_emit(&r->e, r->cp, r->change);
    r->waiting = true;
    r->cp = cp;
    r->change = change;
}

/* n_old characters become the replacement at offset value. */
static void put_replacement(struct run *r, int64_t value, long n_old)
{
    const char *s = r->m->pool + value;
    size_t len = strnlen(s, r->m->pool_len - (size_t)value), i, n;
    long n_new = 0, k = 0;
    uint32_t cp;

    if (!r->e.src.a) {
        rr_emit_raw(&r->e, s, len);
        return;
    }
    for (i = 0; i < len; i++) n_new += ((unsigned char)s[i] & 0xC0) != 0x80;
    for (i = 0; i < len; i += n, k++) {
        n = rr_utf8_next(s + i, len - i, &cp);
        put(r, cp, k >= n_old ? 1 : 0);
    }
    if (n_new < n_old && r->waiting) r->change += n_new - n_old;
}

static void put_char(struct run *r, const char *s, size_t n, uint32_t cp)
{
    int64_t value = shortest(r->m, s, n);

    if (value >= 0)
        put_replacement(r, value, 1);
    else
        put(r, cp, 0);
}

static void put_cluster(struct run *r, const char *s, size_t len)
{
    size_t i, n;
    uint32_t cp;

    if (len < 6) {
        int64_t value = shortest(r->m, s, len);
        long chars = 0;

        if (value >= 0) {
            for (i = 0; i < len; i++) chars += ((unsigned char)s[i] & 0xC0) != 0x80;
            put_replacement(r, value, chars);
            return;
        }
    }
    for (i = 0; i < len; i += n) {
        n = rr_utf8_next(s + i, len - i, &cp);
        put_char(r, s + i, n, cp);
    }
}

/* Bytes from i on that the map leaves alone and that are clusters of their own: ASCII without
 * controls, up to a byte before something else. */
static size_t plain_run(const struct rr_charsmap *m, const char *s, size_t i, size_t len)
{
    size_t from = i;

    while (i < len && (unsigned char)(s[i] - 0x20) < 0x5F && m->small[(unsigned char)s[i]] < 0) i++;
    if (i < len && (unsigned char)s[i] >= 0xCC && i > from) i--; /* U+0300 on may extend it */
    return i;
}

bool rr_charsmap_run(const struct rr_charsmap *m, struct rr_view src, struct rr_str *dst)
{
    struct run r = { .m = m };
    const char *s = src.s;
    size_t i = 0, n, len = src.len;
    uint32_t cp;

    rr_emit_begin(&r.e, src, dst);
    while (i < len && !r.e.failed) {
        if (!src.a) {
            n = plain_run(m, s, i, len);
            rr_emit_raw(&r.e, s + i, n - i);
            i = n;
            if (i == len) break;
        }
        n = rr_utf8_next(s + i, len - i, &cp);
        if (cp < SMALL && cp != '\r' && (i + n == len || (unsigned char)s[i + n] < 0xCC)) {
            if (m->small[cp] >= 0)
                put_replacement(&r, m->small[cp], 1);
            else
                put(&r, cp, 0);
        } else {
            n = rr_grapheme_next(s + i, len - i);
            put_cluster(&r, s + i, n);
        }
        i += n;
    }
    if (r.waiting) rr_emit(&r.e, r.cp, r.change);
    return !r.e.failed;
}
