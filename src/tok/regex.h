/* SPDX-License-Identifier: Apache-2.0 */
/* regex.h - the patterns of tokenizer.json, through PCRE2.
 * Layer: tok (L1).  Threads: a pattern is immutable and shared, a matcher belongs to one thread.
 * The reference uses Oniguruma; constructs that the two libraries read differently are refused, and
 * characters that they classify differently are matched by a twin (rr_uni_shadow). */
#ifndef RR_TOK_REGEX_H
#define RR_TOK_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_regex;

/* literal: pattern is text, not an expression.  where: file and field, for messages. */
RR_NODISCARD int rr_regex_open(struct rr_regex **out, struct rr_text pattern, bool literal,
                               const char *where, struct rr_error *err);
void rr_regex_close(struct rr_regex *re); /* NULL is allowed */

struct rr_matcher;
RR_NODISCARD struct rr_matcher *rr_matcher_open(void); /* NULL: out of memory */
void rr_matcher_close(struct rr_matcher *m);           /* NULL is allowed */

struct rr_match_iter { /* the matches in s, left to right */
    const struct rr_regex *re;
    struct rr_matcher *m;
    const char *s; /* what is matched: the text or its twin */
    char *twin;    /* owned, NULL: none needed */
    size_t len, at;
    size_t last_end;
    bool has_last;
    int rc; /* of a failure */
};

RR_NODISCARD int rr_match_begin(struct rr_match_iter *it, const struct rr_regex *re,
                                struct rr_matcher *m, const char *s, size_t len,
                                struct rr_error *err);
/* 1: *from, *to is the next match; 0: no more; -1: failed, it->rc and err are filled. */
RR_NODISCARD int rr_match_next(struct rr_match_iter *it, size_t *from, size_t *to,
                               struct rr_error *err);
void rr_match_end(struct rr_match_iter *it);

#endif
