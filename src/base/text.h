/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - text views and UTF-8.  Layer: base (L0).  Threads: any. */
#ifndef RR_BASE_TEXT_H
#define RR_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "rerank_types.h"

static inline struct rr_text rr_text(const char *s)
{
    return (struct rr_text){ s, strlen(s) };
}
static inline bool rr_text_eq(struct rr_text a, struct rr_text b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
static inline bool rr_text_is(struct rr_text a, const char *s)
{
    return rr_text_eq(a, rr_text(s));
}

/* Without the byte order mark that some editors put first. */
static inline struct rr_text rr_text_unmarked(struct rr_text t)
{
    size_t n = t.len >= 3 && memcmp(t.data, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;

    return (struct rr_text){ t.data + n, t.len - n };
}

/* The length of s without end, with which it ends; 0: it does not, or is nothing else. */
static inline size_t rr_text_stem(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && strcmp(s + n - m, end) == 0 ? n - m : 0;
}

/* True for only white space (Unicode White_Space) or nothing. */
bool rr_text_blank(struct rr_text t);

/* Offset of the first byte that is not valid UTF-8 (surrogates and overlong forms are not), or
 * SIZE_MAX. */
size_t rr_utf8_invalid(struct rr_text t);

/* Length of the stretch at s that a JSON string may hold as it is: it ends before the first
 * quotation mark, backslash or control character. */
size_t rr_text_plain(const char *s, size_t n);

/* Length of the JSON string that begins at s, after its quotation mark: up to the one that ends it,
 * or n when there is none. */
size_t rr_text_string_end(const char *s, size_t n);

/* Characters of valid UTF-8. */
size_t rr_utf8_count(struct rr_text t);

/* Decodes the character at s (n > 0 bytes left, valid UTF-8): its length, and the code point. */
static inline unsigned rr_utf8_next(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *p = (const unsigned char *)s;

    if (p[0] < 0x80 || n < 2) {
        *cp = p[0];
        return 1;
    }
    if (p[0] < 0xE0 || n < 3) {
        *cp = (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
        return 2;
    }
    if (p[0] < 0xF0 || n < 4) {
        *cp = (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
        return 3;
    }
    *cp = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
          (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
    return 4;
}

/* Writes cp as UTF-8 to out[4]; returns the length. */
unsigned rr_utf8_put(char out[4], uint32_t cp);

/* The next word of a list whose words have commas, spaces and tabs between them: *at, its start at
 * first, moves behind the word.  False: there are no more, and *word is empty. */
bool rr_text_word(const char **at, struct rr_text *word);
/* Whether such a list has the word. */
bool rr_text_listed(const char *list, const char *word);

/* Case-insensitive (ASCII) similarity for "did you mean": the nearest of n names, or NULL when none
 * is near. */
const char *rr_text_nearest(const char *word, const char *const *names, size_t n);

#endif
