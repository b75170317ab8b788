/* SPDX-License-Identifier: Apache-2.0 */
/* normalize.h - the normalizers of tokenizer.json as a flat list of steps.
 * Layer: tok (L1).  Threads: a list is immutable, the work space belongs to one thread. */
#ifndef RR_TOK_NORMALIZE_H
#define RR_TOK_NORMALIZE_H

#include <stdbool.h>

#include "base/attr.h"
#include "rerank_types.h"
#include "tok/precompiled.h"
#include "tok/regex.h"
#include "tok/str.h"

enum rr_norm_kind {
    RR_NORM_PRECOMPILED,
    RR_NORM_STRIP,
    RR_NORM_REPLACE,
    RR_NORM_NFC,
    RR_NORM_NFD,
    RR_NORM_NFKC,
    RR_NORM_NFKD,
    RR_NORM_LOWERCASE,
    RR_NORM_STRIP_ACCENTS,
    RR_NORM_NMT,
    RR_NORM_PREPEND,
    RR_NORM_BYTE_LEVEL,
    RR_NORM_BERT_CLEAN, /* the four parts of BertNormalizer */
    RR_NORM_BERT_CHINESE,
    RR_NORM_BERT_ACCENTS
};

struct rr_norm_step {
    enum rr_norm_kind kind;
    bool left, right; /* STRIP */
    bool local;       /* REPLACE: a cut between words does not change what it matches */
    char *text;       /* REPLACE: content, PREPEND: prefix; owned */
    size_t text_len;
    struct rr_regex *re;     /* REPLACE; owned */
    struct rr_charsmap *map; /* PRECOMPILED; owned */
};

struct rr_norm {
    struct rr_norm_step *steps; /* [n] */
    unsigned n;
};

struct rr_norm_mark { /* one decomposed character that waits for its place */
    uint32_t cp;
    int32_t change;
    uint32_t ccc;
};

struct rr_norm_work {
    struct rr_str buf[2];
    struct rr_norm_mark *marks; /* [marks_cap], and as much again for sorting */
    size_t marks_cap;
    struct rr_matcher *matcher; /* the scratch's */
};

/* Normalizes in; *out lies in the work space (or is in itself when there is nothing to do).
 * first/last: this is the first/last part of a text that is normalized in parts. */
RR_NODISCARD int rr_norm_run(const struct rr_norm *n, struct rr_norm_work *w, struct rr_view in,
                             bool first, bool last, struct rr_view *out, struct rr_error *err);
void rr_norm_close(struct rr_norm *n);
void rr_norm_work_free(struct rr_norm_work *w);

/* True if a text may be cut before a single space between visible ASCII characters and its parts
 * normalized alone. */
bool rr_norm_local(const struct rr_norm *n);

/* unorm.c: the Unicode normalization forms; false: out of memory. */
RR_NODISCARD bool rr_norm_unicode(enum rr_norm_kind form, struct rr_norm_work *w,
                                  struct rr_view src, struct rr_str *dst);

/* The lower case of cp: one character, or for U+0130 two (second in *more, else 0). */
uint32_t rr_norm_lower(uint32_t cp, uint32_t *more);

/* The printable stand-in of a byte in byte-level vocabularies (U+0021 .. U+0143). */
uint32_t rr_byte_char(unsigned char byte);
/* The byte that cp stands for, -1: none. */
int rr_char_byte(uint32_t cp);

#endif
