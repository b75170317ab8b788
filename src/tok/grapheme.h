/* SPDX-License-Identifier: Apache-2.0 */
/* grapheme.h - extended grapheme clusters (Unicode 16, UAX #29).  Layer: tok (L1).  Threads:
 * any. */
#ifndef RR_TOK_GRAPHEME_H
#define RR_TOK_GRAPHEME_H

#include <stddef.h>

/* Length in bytes of the cluster that starts s[0 .. len - 1]; s starts at a cluster boundary. */
size_t rr_grapheme_next(const char *s, size_t len);

#endif
