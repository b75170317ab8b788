/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what the files of this layer share: the tokenizer, the scratch, the stages.
 * Layer: tok (L1), private.
 *
 * One text walks: added.c finds added tokens in the raw text -> normalize.c -> added.c finds those
 * that match normalized text -> pretok.c splits into words -> model.c turns each word into ids.
 * The stages call each other downwards for one word at a time; ids are appended to the scratch. */
#ifndef RR_TOK_INTERNAL_H
#define RR_TOK_INTERNAL_H

#include "tok/field.h"
#include "tok/normalize.h"
#include "tok/regex.h"
#include "tok/str.h"
#include "tok/tok.h"
#include "tok/vocab.h"

#define RR_TOK_MAX_STEPS 32 /* of one list in the file; each pre-tokenizer step is a call level */
#define RR_TOK_STOP (-1)    /* enough tokens: unwinds the stages, never leaves rr_tok_encode */

/* ---- added tokens ---- */

struct rr_added {  /* one entry of added_tokens */
    char *content; /* owned */
    size_t len;
    uint32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool in_special_set; /* its content is that of a special token */
};

struct rr_added_set { /* patterns that are searched together */
    struct rr_trie_unit *units;
    char *blob;
    struct rr_trie trie;
    uint32_t *order; /* entry of each id of the trie */
    uint32_t n;
    bool first[256]; /* bytes that a pattern starts with */
};

struct rr_added_match {
    size_t from, to; /* white space taken by lstrip and rstrip included */
    const struct rr_added *token;
};

struct rr_added_iter { /* matches in s, left to right */
    const struct rr_added_set *set;
    const struct rr_tok *tok;
    const char *s;
    size_t len, at, done; /* done: end of the last match, with its rstrip */
    bool literal;         /* special tokens are text */
};

RR_NODISCARD int rr_added_build(struct rr_tok *tok, const char *name, struct rr_error *err);
void rr_added_close(struct rr_tok *tok);
void rr_added_begin(struct rr_added_iter *it, const struct rr_added_set *set,
                    const struct rr_tok *tok, const char *s, size_t len, bool literal);
bool rr_added_next(struct rr_added_iter *it, struct rr_added_match *m);
const struct rr_added *rr_added_by_id(const struct rr_tok *tok, uint32_t id);

/* ---- pre-tokenizers ---- */

enum rr_pretok_kind {
    RR_PRE_WHITESPACE_SPLIT,
    RR_PRE_WHITESPACE,
    RR_PRE_METASPACE,
    RR_PRE_BERT,
    RR_PRE_BYTE_LEVEL,
    RR_PRE_SPLIT,
    RR_PRE_PUNCTUATION,
    RR_PRE_DIGITS
};

enum rr_behavior { RR_REMOVED, RR_ISOLATED, RR_MERGED_PREV, RR_MERGED_NEXT, RR_CONTIGUOUS };
enum rr_prepend { RR_PREPEND_ALWAYS, RR_PREPEND_FIRST, RR_PREPEND_NEVER };

struct rr_pretok_step {
    enum rr_pretok_kind kind;
    enum rr_behavior behavior;
    bool invert;           /* SPLIT */
    bool split;            /* METASPACE */
    bool add_prefix_space; /* BYTE_LEVEL */
    bool individual;       /* DIGITS */
    enum rr_prepend prepend;
    char repl[4]; /* METASPACE */
    unsigned repl_len;
    struct rr_regex *re; /* SPLIT, BYTE_LEVEL with its pattern; owned */
    bool local;          /* SPLIT: a known pattern that starts a word at a single space */
};

/* Splits v by the steps from at on and hands the words to the model. */
RR_NODISCARD int rr_pretok_run(const struct rr_tok *tok, struct rr_tok_scratch *s, unsigned at,
                               struct rr_view v, struct rr_error *err);
bool rr_pretok_local(const struct rr_tok *tok);

/* ---- models ---- */

enum rr_model_kind { RR_MODEL_UNIGRAM, RR_MODEL_WORDPIECE, RR_MODEL_BPE };

struct rr_model {
    enum rr_model_kind kind;
    int32_t unk; /* -1: none */
    bool byte_fallback;
    double unk_score; /* UNIGRAM */
    char *prefix;     /* WORDPIECE, BPE: of continuing pieces; owned, NULL: none */
    size_t prefix_len;
    char *suffix; /* BPE: end of word; owned, NULL: none */
    size_t suffix_len;
    char *unk_token;                 /* owned; the text of unk, NULL: none */
    uint32_t max_chars;              /* WORDPIECE */
    bool fuse_unk, ignore_merges;    /* BPE */
    struct rr_trie_pos after_prefix; /* WORDPIECE: where continuing pieces start */
    bool has_prefix_pos;
    bool bytes;           /* the last pre-tokenizer is ByteLevel: words arrive as raw bytes */
    int32_t byte_id[256]; /* piece of one byte ("<0xAB>" with byte_fallback), -1: none */
};

/* One word to ids, appended to the scratch. */
RR_NODISCARD int rr_model_word(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                               struct rr_error *err);
RR_NODISCARD int rr_unigram_word(const struct rr_tok *tok, struct rr_tok_scratch *s,
                                 struct rr_view v, struct rr_error *err);
RR_NODISCARD int rr_wordpiece_word(const struct rr_tok *tok, struct rr_tok_scratch *s,
                                   struct rr_view v, struct rr_error *err);
RR_NODISCARD int rr_bpe_word(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_view v,
                             struct rr_error *err);

/* ---- templates and decoders ---- */

enum rr_template_what { RR_TPL_TOKEN, RR_TPL_A, RR_TPL_B };
struct rr_template_item {
    enum rr_template_what what;
    int32_t type, id; /* id: TOKEN */
};
struct rr_template {
    struct rr_template_item *items; /* [n] */
    unsigned n, specials;           /* specials: items that are tokens */
};

enum rr_decode_kind {
    RR_DEC_METASPACE,
    RR_DEC_WORDPIECE,
    RR_DEC_BYTE_LEVEL,
    RR_DEC_BYTE_FALLBACK,
    RR_DEC_FUSE,
    RR_DEC_STRIP,
    RR_DEC_REPLACE,
    RR_DEC_BPE
};
struct rr_decode_step {
    enum rr_decode_kind kind;
    char *text; /* WORDPIECE: prefix, REPLACE: content, BPE: suffix; owned */
    size_t text_len;
    struct rr_regex *re; /* REPLACE; owned */
    uint32_t ch;         /* STRIP, METASPACE */
    uint32_t start, stop;
    bool cleanup;    /* WORDPIECE */
    bool keep_first; /* METASPACE with prepend_scheme never */
};

/* ---- the tokenizer and the scratch ---- */

struct rr_tok {
    struct rr_vocab vocab;
    struct rr_model model;
    struct rr_norm norm;
    struct rr_pretok_step pre[RR_TOK_MAX_STEPS];
    unsigned n_pre;
    struct rr_added *added; /* [n_added] */
    uint32_t n_added;
    uint32_t *added_by_id; /* [n_added] indices, sorted by id */
    struct rr_added_set raw_set, norm_set;
    struct rr_template single, pair;
    struct rr_decode_step dec[RR_TOK_MAX_STEPS];
    unsigned n_dec;
    bool has_decoder;
    char *no_decoder; /* owned; why ids cannot be turned back into text, NULL: they can */
    bool trim_offsets, trim_prefix_space;
    bool need_align; /* a step depends on positions in the original text */
    bool from_cache; /* vocab is a compiled form: the file has been read in full before */
    bool local;      /* texts may be handled in parts: see encode.c */
    bool bytes;      /* ids are the bytes of the text: nothing of the above is looked at */
    bool literal;    /* special tokens in a text are text, whatever a call says */
    bool cuts_left;  /* long texts lose their start, unless a request says otherwise */
    uint32_t vocab_size, max_length;
    uint64_t fingerprint;
};

struct rr_viterbi { /* best way to reach one byte position */
    double score;
    uint32_t from; /* UINT32_MAX: none yet */
    int32_t id;
};

struct rr_bpe_symbol {
    uint32_t id;
    int32_t prev, next;
    uint32_t len; /* bytes of the word; 0: merged away */
};

struct rr_bpe_entry {
    uint64_t key; /* rank << 32 | position: the smallest comes first */
    uint32_t id;
};

struct rr_word { /* one line of the word cache */
    uint32_t hash;
    uint8_t len, n;
    char text[30];
    int32_t ids[7];
};
#define RR_WORDS 8192u /* 512 KiB: about the second-level cache */

struct rr_tok_scratch {
    const struct rr_tok *tok;
    /* the result */
    int32_t *ids;
    uint32_t *starts, *ends; /* only with offsets */
    size_t n, cap, offsets_cap;
    size_t limit; /* stop when more than this many ids are there; SIZE_MAX: none */
    bool offsets, literal;
    /* work space */
    struct rr_norm_work norm;
    struct rr_str raw;                     /* aligned copy of the text */
    struct rr_str level[RR_TOK_MAX_STEPS]; /* what a pre-tokenizer step rewrote */
    struct rr_str bytes[RR_TOK_MAX_STEPS]; /* byte-level form of a word, for each step */
    struct rr_str piece;                   /* one character with prefix and suffix */
    struct rr_viterbi *viterbi;
    size_t viterbi_cap;
    struct rr_bpe_symbol *symbols;
    size_t symbols_cap;
    struct rr_bpe_entry *heap;
    size_t heap_n, heap_cap;
    struct rr_matcher *matcher;
    struct rr_word *words; /* [RR_WORDS] */
};

/* scratch.c */
RR_NODISCARD bool rr_scratch_grow(struct rr_tok_scratch *s, size_t extra);
/* At least need elements in *p; the old contents are lost when it grows. */
RR_NODISCARD bool rr_scratch_array(void **p, size_t *cap, size_t need, size_t size);
void rr_scratch_shrink(struct rr_tok_scratch *s); /* after a call: gives very large arrays back */

/* One id; from and to are offsets in the original text. */
static inline bool rr_scratch_put(struct rr_tok_scratch *s, int32_t id, uint32_t from, uint32_t to)
{
    if (RR_UNLIKELY(s->n == s->cap) && !rr_scratch_grow(s, 1)) return false;
    if (s->offsets) {
        s->starts[s->n] = from;
        s->ends[s->n] = to;
    }
    s->ids[s->n++] = id;
    return true;
}

/* The same for bytes from .. to of a word.  Byte fallback of a BPE suffix makes symbols beyond the
 * word (the reference's offsets mean nothing there): they lie at its end. */
static inline bool rr_scratch_piece(struct rr_tok_scratch *s, int32_t id, struct rr_view v,
                                    size_t from, size_t to)
{
    if (!s->offsets || v.len == 0) return rr_scratch_put(s, id, 0, 0);
    if (from >= v.len) from = v.len - 1;
    if (to > v.len || to <= from) to = from + 1;
    return rr_scratch_put(s, id, v.a[from], v.b[to - 1]);
}

/* The small part of the file.  load.c calls the others, each of which reads one section. */
RR_NODISCARD int rr_load_config(struct rr_tok *tok, const struct rr_field *root);
RR_NODISCARD int rr_load_model(struct rr_tok *tok, const struct rr_field *root); /* needs vocab */
RR_NODISCARD int rr_load_normalizer(struct rr_tok *tok, const struct rr_field *root);
RR_NODISCARD int rr_load_pretok(struct rr_tok *tok, const struct rr_field *root);
RR_NODISCARD int rr_load_post(struct rr_tok *tok, const struct rr_field *root);
RR_NODISCARD int rr_load_decoder(struct rr_tok *tok, const struct rr_field *root);
RR_NODISCARD int rr_load_added(struct rr_tok *tok, const struct rr_field *root);
void rr_decode_close(struct rr_tok *tok);

#endif
