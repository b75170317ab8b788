/* SPDX-License-Identifier: Apache-2.0 */
/* err.h - filling in struct rr_error where a problem is found.  Layer: base (L0). */
#ifndef RR_BASE_ERR_H
#define RR_BASE_ERR_H

#include "base/attr.h"
#include "rerank_types.h"

/* Fills err (NULL is allowed) with code and a formatted message, cut to fit at a character
 * boundary, and returns code: "return rr_fail(err, RR_EFORMAT, ...)". */
int rr_fail(struct rr_error *err, int code, const char *fmt, ...) RR_PRINTF(3, 4);

/* The same with "path: what: text of the errno e". */
int rr_fail_errno(struct rr_error *err, int code, const char *path, const char *what, int e);

/* Puts "prefix: " before the message already in err; for callers that know the file or field. */
int rr_fail_prefix(struct rr_error *err, const char *fmt, ...) RR_PRINTF(2, 3);

#endif
