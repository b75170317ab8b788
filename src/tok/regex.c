/* SPDX-License-Identifier: Apache-2.0 */
/* regex.c - see regex.h.  Layer: tok (L1). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tok/regex.h"

#include <pcre2.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "tok/unidata.h"

struct rr_regex {
    pcre2_code *code;
    bool has_class; /* could tell characters apart by category: twins matter */
};

struct rr_matcher {
    pcre2_general_context *gc;
    pcre2_match_context *mc;
    pcre2_jit_stack *stack;
    pcre2_match_data *md;
};

static void *pcre_alloc(size_t n, void *user)
{
    (void)user;
    return rr_alloc(RR_MEM_TOKENIZER, n, 1);
}

static void pcre_free(void *p, void *user)
{
    (void)user;
    rr_free(p);
}

/* \p{name} from its brace: general categories are what the twins are made for.  Scripts and other
 * properties have other members there. */
static bool is_category(struct rr_text p)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const char *name = p.data + 1, *end = p.len ? memchr(p.data, '}', p.len) : NULL;

    if (!end || p.data[0] != '{') return false; /* \pL is no property there */
    if (*name == '^') name++;
    return (end - name == 1 || end - name == 2) && strspn(name, letters) >= (size_t)(end - name);
}

/* [:name:] from its bracket.  The others have other members there. */
static bool is_same_class(struct rr_text p)
{
    static const char *const same[] = { "digit", "space", "blank", "cntrl", "xdigit", "ascii" };

    size_t at = p.len > 2 && p.data[2] == '^' ? 3 : 2;

    for (size_t i = 0; i < RR_COUNT(same); i++) {
        size_t n = strlen(same[i]);

        if (p.len >= at + n + 2 && !memcmp(p.data + at, same[i], n) &&
            !memcmp(p.data + at + n, ":]", 2))
            return true;
    }
    return false;
}

/* Without case, "ss" is one with U+00DF there, "fi" with a ligature, and so on. */
static bool folds_to_several(struct rr_text p)
{
    static const char *const pairs[] = { "ss", "st", "ff", "fi", "fl" };

    for (size_t i = 0; i + 1 < p.len; i++) {
        unsigned char c = (unsigned char)p.data[i], next = (unsigned char)p.data[i + 1];

        if ((c >= 0xC2 && c <= 0xE1) || (c == 0xEF && next == 0xAC)) return true;
        for (size_t k = 0; k < RR_COUNT(pairs); k++)
            if ((c | 0x20) == pairs[k][0] && (next | 0x20) == pairs[k][1]) return true;
    }
    return false;
}

/* What Oniguruma (Ruby syntax) and PCRE2 read differently; NULL: nothing found. */
static const char *not_portable(struct rr_text p)
{
    size_t i;
    unsigned depth = 0; /* inside [ ] */
    bool caseless = false;

    for (i = 0; i < p.len; i++) {
        char c = p.data[i], next = i + 1 < p.len ? p.data[i + 1] : 0;
        struct rr_text here = { p.data + i, p.len - i };

        if (c == '\\') {
            if (next && strchr("hHRXKGyYONgkZzAeCQEcwWbBv", next))
                return "an escape that the two regex libraries read differently";
            i++;
            if (next != 'p' && next != 'P') continue;
            if (!is_category((struct rr_text){ here.data + 2, here.len - 2 }))
                return "a property that is no general category";
            while (p.data[i] != '}') i++;
        } else if (depth) {
            if (c == '[' && next != ':') return "a class inside a class";
            if (c == '[') { /* [:name:] */
                if (!is_same_class(here))
                    return "a named class that the two regex libraries read differently";
                for (i += 2; i < p.len && p.data[i] != ']'; i++) continue;
            } else if (c == '&' && next == '&') {
                return "an intersection of classes";
            } else if (c == ']') {
                depth = 0;
            }
        } else if (c == '[') {
            depth = 1;
            if (next == '^') i++;
            if (i + 1 < p.len && p.data[i + 1] == ']') return "']' as first member of a class";
        } else if (c == '(' && next == '?') {
            const char *rest = p.data + i + 2;
            size_t n = p.len - i - 2;

            if (n == 0 || !strchr(":=!<>i", rest[0])) return "a group option other than i";
            if (rest[0] == 'i' && !(n > 1 && (rest[1] == ':' || rest[1] == ')')))
                return "a group option other than i";
            if (rest[0] == '<' && !(n > 1 && (rest[1] == '=' || rest[1] == '!')))
                return "a named group";
            if (rest[0] == 'i' && rest[1] == ')' && i > 0) return "(?i) behind the start";
            caseless = caseless || rest[0] == 'i';
        } else if (c == '}' && (next == '+' || next == '?')) {
            return "a quantifier after {n,m}";
        } else if (c == '{' && next == ',') {
            return "a quantifier without a least number";
        }
    }
    return caseless && folds_to_several(p) ? "(?i) beside letters that are several in another case"
                                           : NULL;
}

int rr_regex_open(struct rr_regex **out, struct rr_text pattern, bool literal, const char *where,
                  struct rr_error *err)
{
    /* ^ and $ stand at every line, as in Ruby syntax. */
    uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL
                               : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    const char *problem = literal ? NULL : not_portable(pattern);
    struct rr_regex *re;
    pcre2_general_context *gc;
    pcre2_compile_context *cc = NULL;
    PCRE2_UCHAR text[120] = "";
    PCRE2_SIZE at;
    int code, rc = RR_ENOMEM;

    *out = NULL;
    if (problem)
        return rr_fail(err, RR_ENOTSUP, "%s: found %s, expected a pattern without it", where,
                       problem);
    re = rr_calloc(RR_MEM_TOKENIZER, 1, sizeof(*re));
    gc = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (gc) cc = pcre2_compile_context_create(gc);
    if (!re || !gc || !cc) {
        rr_fail(err, rc, "%s: out of memory", where);
        goto fail;
    }
    pcre2_set_max_pattern_length(cc, 1 << 16);
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    re->code = pcre2_compile((PCRE2_SPTR)pattern.data, pattern.len, options, &code, &at, cc);
    if (!re->code) {
        if (code == PCRE2_ERROR_NOMEMORY || code == 121) { /* 121: no heap while compiling */
            rr_fail(err, rc, "%s: out of memory", where);
            goto fail;
        }
        pcre2_get_error_message(code, text, sizeof(text));
        rc = rr_fail(err, RR_EFORMAT, "%s: the pattern is wrong at byte %zu: %s", where, (size_t)at,
                     (const char *)text);
        goto fail;
    }
    re->has_class = !literal;
    (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* without it, it is only slower */
    pcre2_compile_context_free(cc);
    pcre2_general_context_free(gc);
    *out = re;
    return RR_OK;
fail:
    if (cc) pcre2_compile_context_free(cc);
    if (gc) pcre2_general_context_free(gc);
    rr_regex_close(re);
    return rc;
}

void rr_regex_close(struct rr_regex *re)
{
    if (!re) return;
    if (re->code) pcre2_code_free(re->code);
    rr_free(re);
}

struct rr_matcher *rr_matcher_open(void)
{
    struct rr_matcher *m = rr_calloc(RR_MEM_TOKENIZER, 1, sizeof(*m));

    if (!m) return NULL;
    m->gc = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (m->gc) m->mc = pcre2_match_context_create(m->gc);
    if (m->mc) m->md = pcre2_match_data_create(16, m->gc);
    if (!m->md) {
        rr_matcher_close(m);
        return NULL;
    }
    /* 32 KiB at once, more only for patterns that need it; NULL (no JIT) is fine. */
    m->stack = pcre2_jit_stack_create(32 * 1024, 4 * 1024 * 1024, m->gc);
    if (m->stack) pcre2_jit_stack_assign(m->mc, NULL, m->stack);
    pcre2_set_match_limit(m->mc, UINT32_MAX);
    pcre2_set_heap_limit(m->mc, 256 * 1024); /* KiB */
    return m;
}

void rr_matcher_close(struct rr_matcher *m)
{
    if (!m) return;
    if (m->md) pcre2_match_data_free(m->md);
    if (m->stack) pcre2_jit_stack_free(m->stack);
    if (m->mc) pcre2_match_context_free(m->mc);
    if (m->gc) pcre2_general_context_free(m->gc);
    rr_free(m);
}

static uint32_t twin_of(uint32_t cp)
{
    unsigned lo = 0, hi = rr_uni_shadow_n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (rr_uni_shadow[mid].last < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < rr_uni_shadow_n && rr_uni_shadow[lo].first <= cp ? rr_uni_shadow[lo].twin : cp;
}

/* A copy of s in which each character that the libraries class differently is replaced by one of
 * the same length that both class alike; NULL with *failed false: s has none. */
static char *make_twin(const char *s, size_t len, bool *failed)
{
    char *copy = NULL;
    size_t i, n;
    uint32_t cp;

    *failed = false;
    for (i = 0; i < len; i += n) {
        if ((unsigned char)s[i] < 0xE0) { /* none below U+0800 */
            n = 1;
            continue;
        }
        n = rr_utf8_next(s + i, len - i, &cp);
        if (!(rr_uni(cp) & RR_UNI_SHADOW)) continue;
        if (!copy) {
            copy = rr_strndup(RR_MEM_TOKENIZER, s, len);
            if (!copy) {
                *failed = true;
                return NULL;
            }
        }
        rr_utf8_put(copy + i, twin_of(cp));
    }
    return copy;
}

int rr_match_begin(struct rr_match_iter *it, const struct rr_regex *re, struct rr_matcher *m,
                   const char *s, size_t len, struct rr_error *err)
{
    bool failed = false;

    *it = (struct rr_match_iter){ .re = re, .m = m, .s = s, .len = len };
    if (re->has_class) it->twin = make_twin(s, len, &failed);
    if (failed) return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
    if (it->twin) it->s = it->twin;
    return RR_OK;
}

int rr_match_next(struct rr_match_iter *it, size_t *from, size_t *to, struct rr_error *err)
{
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(it->m->md);
    uint32_t cp;
    int n;

    while (it->at <= it->len) {
        n = pcre2_match(it->re->code, (PCRE2_SPTR)it->s, it->len, it->at, PCRE2_NO_UTF_CHECK,
                        it->m->md, it->m->mc);
        if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter uses the heap */
            n = pcre2_match(it->re->code, (PCRE2_SPTR)it->s, it->len, it->at,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, it->m->md, it->m->mc);
        if (n == PCRE2_ERROR_NOMATCH) return 0;
        if (n < 0) {
            if (n == PCRE2_ERROR_NOMEMORY)
                it->rc = rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
            else
                it->rc = rr_fail(err, RR_ETOOBIG,
                                 "tokenizer: a pattern needs too much work here "
                                 "(PCRE2 error %d)",
                                 n);
            return -1;
        }
        *from = v[0];
        *to = v[1];
        if (v[0] == v[1] && it->has_last && it->last_end == v[1]) {
            /* Empty right after the last match: try one character further. */
            it->at = v[1] + (v[1] < it->len ? rr_utf8_next(it->s + v[1], it->len - v[1], &cp) : 1);
            continue;
        }
        it->at = it->last_end = v[1];
        it->has_last = true;
        return 1;
    }
    return 0;
}

void rr_match_end(struct rr_match_iter *it)
{
    rr_free(it->twin);
    it->twin = NULL;
}
