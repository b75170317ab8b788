/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.h - pairs for causal networks: query and document inside a fixed text, instead of a
 * template of special tokens.  Layer: tok (L1).
 * Threads: a prompt is immutable after open and shared; each thread has its own scratch. */
#ifndef RR_TOK_PROMPT_H
#define RR_TOK_PROMPT_H

#include "tok/tok.h"

enum rr_prompt_what { RR_PROMPT_END, RR_PROMPT_TEXT, RR_PROMPT_QUERY, RR_PROMPT_DOCUMENT };

/* Pieces that are joined and tokenized as one text.  With a query or a document among them its
 * tokens give way to the limit, from their end; others are always whole. */
struct rr_prompt_segment {
    struct rr_prompt_piece {
        enum rr_prompt_what what;
        const char *text; /* TEXT; special tokens in it are read as such */
    } pieces[5];          /* ended by END */
    uint32_t most;        /* of four parts of the room for query and document; 0: all of it */
};

#define RR_PROMPT_SEGMENTS 8

struct rr_prompt_form {
    struct rr_prompt_segment segments[RR_PROMPT_SEGMENTS]; /* ended by one without pieces */
};

struct rr_prompt; /* a form with its fixed texts as ids */

RR_NODISCARD int rr_prompt_open(struct rr_prompt **out, const struct rr_tok *tok,
                                const struct rr_prompt_form *form, struct rr_error *err);
void rr_prompt_close(struct rr_prompt *p); /* NULL is allowed */

uint32_t rr_prompt_fixed(const struct rr_prompt *p); /* tokens of a pair of empty texts */

/* ids has room for max_length entries, of which *n are written; *full is what they would be
 * without a limit, at least. flags as for rr_tok_encode; RR_TOK_KEEP_END is not possible. */
RR_NODISCARD int rr_prompt_pair(const struct rr_prompt *p, struct rr_tok_scratch *s,
                                struct rr_text query, struct rr_text document, uint32_t max_length,
                                unsigned flags, int32_t *ids, uint32_t *n, uint32_t *full,
                                struct rr_error *err);

#endif
