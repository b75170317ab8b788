/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h - the one-pass reader of tokenizer.json's large part.
 * Layer: tok (L1).  Threads: any.
 * A vocabulary has hundreds of thousands of entries; a JSON tree of it costs most of a second.
 * This reader takes model.vocab and model.merges out of the text as it goes and leaves the rest, a
 * few kilobytes, to the ordinary JSON parser. */
#ifndef RR_TOK_SCAN_H
#define RR_TOK_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "rerank_types.h"

struct rr_draft_piece {
    uint32_t off, len; /* in draft.blob */
    uint32_t id;       /* of a map; the position in a list */
};

struct rr_draft_merge {
    uint32_t a, a_len, b, b_len; /* in draft.blob; b == UINT32_MAX: "a b" in one string */
};

enum rr_draft_form { RR_DRAFT_NONE, RR_DRAFT_LIST, RR_DRAFT_MAP };

struct rr_draft { /* what the file says, not yet checked for sense */
    enum rr_draft_form form;
    struct rr_draft_piece *pieces; /* [n] */
    double *scores;                /* [n] for a list, else NULL */
    uint32_t n, cap;
    struct rr_draft_merge *merges; /* [n_merges] */
    uint32_t n_merges, merges_cap;
    bool has_merges;
    char *blob;
    uint32_t blob_len, blob_cap;
};

/* Reads json (name is for messages) into draft; rest gets the same JSON with null in place of
 * model.vocab and model.merges.  The caller frees both, also after an error. */
RR_NODISCARD int rr_scan_tokenizer(struct rr_draft *draft, struct rr_buf *rest, struct rr_text json,
                                   const char *name, struct rr_error *err);
void rr_draft_free(struct rr_draft *d);

/* The reference's own reading of a decimal number: digits * 10^exp with one rounding too many for
 * more than 15 digits, so that scores have the same last bit.  False: out of range. */
bool rr_scan_decimal(uint64_t digits, int exp, bool negative, double *out);

#endif
