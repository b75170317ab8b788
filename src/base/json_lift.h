/* SPDX-License-Identifier: Apache-2.0 */
/* json_lift.h - spares jansson the long strings of a text.  Its lexer takes strings apart byte by
 * byte, and a body of documents is nearly nothing else.  So each long string value is lifted out,
 * a short mark takes its place, jansson parses what is left, and then the strings are put back into
 * its tree.  The tree is the one that jansson would have made; a text with an error in whatever
 * part is left to jansson, whole.  Layer: base (L0).  Threads: one at a time. */
#ifndef RR_BASE_JSON_LIFT_H
#define RR_BASE_JSON_LIFT_H

#include <jansson.h>

#include "base/attr.h"
#include "base/buf.h"

struct rr_json_lift { /* zeroed at first, but for text, which has no NUL byte */
    struct rr_text text;
    struct rr_text *strings; /* [n] in the order of the text, without their quotation marks */
    size_t n, cap, bytes;    /* bytes: of all strings */
    bool unsafe;             /* memory was short, or a string could be taken for a mark */
};

/* Looks at the string of lift->text that begins at from, after its quotation mark: where it ends,
 * at a quotation mark or the end of the text. */
size_t rr_lift_string(struct rr_json_lift *lift, size_t from);

/* Is it worth it, and safe? */
bool rr_lift_worth(const struct rr_json_lift *lift);

/* The text with marks; out is initialised here and may have failed. */
void rr_lift_hollow(const struct rr_json_lift *lift, struct rr_buf *out);

/* Puts the strings back into the tree that was made of the hollow text.  0, or -1: memory is short,
 * or one of them is not what JSON allows. */
RR_NODISCARD int rr_lift_fill(const struct rr_json_lift *lift, json_t *tree);

void rr_lift_free(struct rr_json_lift *lift);

#endif
