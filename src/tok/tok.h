/* SPDX-License-Identifier: Apache-2.0 */
/* tok.h - text to token ids, byte-exact with the reference tokenizers of the model's file.
 * Layer: tok (L1).  Knows nothing about models.
 * Threads: a tokenizer is immutable after open and shared without locks; each thread that encodes
 * has its own scratch.
 *
 * A pair is made in two steps, so that a query is encoded once for all its documents:
 *     rr_tok_encode(tok, scratch, query, ...)    -> ids of the query
 *     rr_tok_encode(tok, scratch, document, ...) -> ids of one document
 *     rr_tok_pair(tok, query ids, document ids, max_length, ...) -> what the model reads */
#ifndef RR_TOK_TOK_H
#define RR_TOK_TOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "rerank_types.h"

struct rr_tok;
struct rr_tok_scratch;

/* Reads folder/tokenizer.json and what the files beside it change in it (beside.h).
 * A kind that the file asks for and that we do not have is RR_ENOTSUP naming the field.  cache_dir:
 * where a compiled form may be kept, NULL: none. */
RR_NODISCARD int rr_tok_open(struct rr_tok **out, const char *folder, const char *cache_dir,
                             struct rr_error *err);
void rr_tok_close(struct rr_tok *tok); /* NULL is allowed */

/* Same, from the bytes of a tokenizer.json; name is for messages.  For tests and fuzzing. */
RR_NODISCARD int rr_tok_parse(struct rr_tok **out, struct rr_text json, const char *name,
                              struct rr_error *err);

/* folder/tokenizer.json with what the files beside it change written into it; out stays empty where
 * they change nothing, or there is none. */
RR_NODISCARD int rr_tok_json(struct rr_buf *out, const char *folder, struct rr_error *err);

/* From now on each byte is its own token, whatever the file says, template and decoder excepted:
 * for measuring everything but the tokenizer.  Before the first scratch is opened. */
void rr_tok_take_bytes(struct rr_tok *tok);

RR_NODISCARD int rr_tok_scratch_open(struct rr_tok_scratch **out, const struct rr_tok *tok,
                                     struct rr_error *err);
void rr_tok_scratch_close(struct rr_tok_scratch *s); /* NULL is allowed */

struct rr_tok_ids {                /* a view into the scratch or the caller's memory */
    const int32_t *ids;            /* [n] */
    const uint32_t *starts, *ends; /* [n] byte offsets into the input, NULL unless asked for */
    uint32_t n;
    bool cut; /* the text had more tokens than max_tokens */
};

enum rr_tok_flags {
    RR_TOK_LITERAL_SPECIALS = 1, /* "</s>" in the text is text, not the special token */
    RR_TOK_OFFSETS = 2,          /* fill starts and ends */
    RR_TOK_KEEP_END = 4          /* when cutting, keep the end of the text (left truncation) */
};

/* Encodes one text without the template's special tokens.  text must be valid UTF-8 (NUL is fine).
 * Work stops soon after max_tokens (0: no limit) where the model allows it; the ids that come back
 * are the first (or last) max_tokens of the full encoding.  The view is valid until the next call
 * with this scratch. */
RR_NODISCARD int rr_tok_encode(const struct rr_tok *tok, struct rr_tok_scratch *s,
                               struct rr_text text, uint32_t max_tokens, unsigned flags,
                               struct rr_tok_ids *out, struct rr_error *err);

/* Puts the file's pair template around a and b, cutting longest_first (as the reference does,
 * including who loses a token on a tie) to max_length.  It depends on which of the two is longer:
 * encode a without a limit and b with max_tokens >= max_length and >= a->n, then the result is that
 * of the whole texts.  ids and types have room for max_length
 * entries.  *n: entries written; *dropped: tokens cut (at least; the inputs may have been cut). */
RR_NODISCARD int rr_tok_pair(const struct rr_tok *tok, const struct rr_tok_ids *a,
                             const struct rr_tok_ids *b, uint32_t max_length, unsigned flags,
                             int32_t *ids, int32_t *types, uint32_t *n, uint32_t *dropped,
                             struct rr_error *err);

/* The same for one sequence with the single template. */
RR_NODISCARD int rr_tok_single(const struct rr_tok *tok, const struct rr_tok_ids *a,
                               uint32_t max_length, unsigned flags, int32_t *ids, int32_t *types,
                               uint32_t *n, uint32_t *dropped, struct rr_error *err);

uint32_t rr_tok_pair_specials(const struct rr_tok *tok); /* special tokens that a pair gains */
uint32_t rr_tok_vocab_size(const struct rr_tok *tok);    /* largest id + 1 */
uint32_t rr_tok_max_length(const struct rr_tok *tok); /* model_max_length of the config; 0: none */
bool rr_tok_cuts_left(const struct rr_tok *tok); /* truncation_side of the config, or of the file */
uint64_t rr_tok_fingerprint(const struct rr_tok *tok); /* of the file, and what changes it */
const char *rr_tok_kind(const struct rr_tok *tok);     /* "Unigram", "WordPiece", "BPE" */

struct rr_text rr_tok_piece(const struct rr_tok *tok, int32_t id); /* empty: no such id */
bool rr_tok_is_special(const struct rr_tok *tok, int32_t id);

/* Appends the text of ids[n] to out, by the decoder that the file asks for (none: pieces with a
 * space between them, as the reference does).  Ids that are no token are left out; skip_special:
 * special tokens, too.  A decoder that is not supported is RR_ENOTSUP, here and not at open.  The
 * result is valid UTF-8. */
RR_NODISCARD int rr_tok_decode(const struct rr_tok *tok, const int32_t *ids, size_t n,
                               bool skip_special, struct rr_buf *out, struct rr_error *err);

#endif
