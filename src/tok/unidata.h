/* SPDX-License-Identifier: Apache-2.0 */
/* unidata.h - character properties exactly as the reference tokenizers see them.
 * Layer: tok (L1).  Threads: any, constant tables.
 * The reference library mixes Unicode versions (punctuation of Unicode 8, segmentation of 16, ...),
 * so the tables are its own answers, not those of one Unicode version; docs/internals/tokenizer.md
 * says where they differ. */
#ifndef RR_TOK_UNIDATA_H
#define RR_TOK_UNIDATA_H

#include <stdbool.h>
#include <stdint.h>

enum rr_uni_class { /* grapheme cluster break classes, low 4 bits of a value */
                    RR_GC_ANY,
                    RR_GC_CR,
                    RR_GC_LF,
                    RR_GC_CONTROL,
                    RR_GC_EXTEND,
                    RR_GC_ZWJ,
                    RR_GC_REGIONAL,
                    RR_GC_PREPEND,
                    RR_GC_SPACING,
                    RR_GC_L,
                    RR_GC_V,
                    RR_GC_T,
                    RR_GC_LV,
                    RR_GC_LVT,
                    RR_GC_PICTOGRAPHIC,
                    RR_GC_CONSONANT /* InCB=Consonant */
};

enum rr_uni_flag {
    RR_UNI_PUNCT = 1 << 4,   /* punctuation of the BERT and Punctuation pre-tokenizers */
    RR_UNI_NUMERIC = 1 << 5, /* Digits pre-tokenizer */
    RR_UNI_OTHER = 1 << 6,   /* removed by the BERT normalizer's clean_text */
    RR_UNI_MN = 1 << 7,      /* removed by the BERT normalizer's strip_accents (after NFD) */
    RR_UNI_COMB = 1 << 8,    /* removed by StripAccents */
    RR_UNI_WORD = 1 << 9,    /* \w of the Whitespace pre-tokenizer and of single_word */
    RR_UNI_NORM = 1 << 10,   /* the reference decomposes it or gives it a combining class */
    RR_UNI_INCB_EXTEND = 1 << 11,
    RR_UNI_INCB_LINKER = 1 << 12,
    RR_UNI_SHADOW = 1 << 13 /* the regex library of the reference and PCRE2 differ: rr_uni_shadow */
};

struct rr_uni_lower { /* first, first + stride, ..., last: lower case is the code point + delta */
    uint32_t first, last;
    int32_t stride, delta;
};

struct rr_uni_shadow { /* for regular expressions, first .. last behave like twin */
    uint32_t first, last, twin;
};

extern const uint16_t rr_uni_values[];
extern const uint16_t rr_uni_index[0x110000 / 64];
extern const uint8_t rr_uni_pages[][64];
extern const struct rr_uni_lower rr_uni_lower[];
extern const unsigned rr_uni_lower_n;
extern const struct rr_uni_shadow rr_uni_shadow[];
extern const unsigned rr_uni_shadow_n;

/* Class and flags of a code point; 0 for what is none. */
static inline unsigned rr_uni(uint32_t cp)
{
    return cp < 0x110000 ? rr_uni_values[rr_uni_pages[rr_uni_index[cp >> 6]][cp & 63]] : 0;
}

/* White_Space, as in every Unicode version since 6.3. */
static inline bool rr_uni_space(uint32_t cp)
{
    if (cp < 0x80) return cp == 0x20 || (cp >= 9 && cp <= 13);
    if (cp < 0x1680) return cp == 0x85 || cp == 0xA0;
    return cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static inline bool rr_uni_ascii_punct(uint32_t cp)
{
    return (cp >= 33 && cp <= 47) || (cp >= 58 && cp <= 64) || (cp >= 91 && cp <= 96) ||
           (cp >= 123 && cp <= 126);
}

#endif
