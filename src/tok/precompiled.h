/* SPDX-License-Identifier: Apache-2.0 */
/* precompiled.h - the "Precompiled" normalizer: sentencepiece's character map, as the reference
 * applies it (per grapheme cluster).  Layer: tok (L1).  Threads: immutable once open. */
#ifndef RR_TOK_PRECOMPILED_H
#define RR_TOK_PRECOMPILED_H

#include "base/attr.h"
#include "rerank_types.h"
#include "tok/str.h"

struct rr_charsmap;

/* base64: the field precompiled_charsmap.  checked: these bytes have been opened before, their
 * states need not be walked through again (look-ups stay inside in any case).  where: file and
 * field, for messages. */
RR_NODISCARD int rr_charsmap_open(struct rr_charsmap **out, struct rr_text base64, bool checked,
                                  const char *where, struct rr_error *err);
void rr_charsmap_close(struct rr_charsmap *m); /* NULL is allowed */

/* True if every ASCII character from U+0020 to U+007E maps to itself. */
bool rr_charsmap_keeps_ascii(const struct rr_charsmap *m);

/* Normalizes src into dst; false: out of memory. */
RR_NODISCARD bool rr_charsmap_run(const struct rr_charsmap *m, struct rr_view src,
                                  struct rr_str *dst);

#endif
