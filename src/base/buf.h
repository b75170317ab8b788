/* SPDX-License-Identifier: Apache-2.0 */
/* buf.h - growable bytes with a ceiling given at init.  Layer: base (L0).  Threads: one at a time.
 * The first failure (memory or ceiling) is remembered, later appends do nothing, so that a writer
 * checks once at the end: if (buf.failed) ... */
#ifndef RR_BASE_BUF_H
#define RR_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/mem.h"
#include "rerank_types.h"

struct rr_buf {
    char *data; /* always zero-terminated once anything was appended */
    size_t len, cap, limit;
    enum rr_mem_tag tag;
    bool failed;
};

void rr_buf_init(struct rr_buf *b, enum rr_mem_tag tag, size_t limit);
void rr_buf_free(struct rr_buf *b);  /* leaves an empty, usable buffer */
void rr_buf_clear(struct rr_buf *b); /* len 0, failed false, memory kept */

void rr_buf_put(struct rr_buf *b, const void *data, size_t len);
void rr_buf_puts(struct rr_buf *b, const char *s);
void rr_buf_putc(struct rr_buf *b, char c);
void rr_buf_printf(struct rr_buf *b, const char *fmt, ...) RR_PRINTF(2, 3);
void rr_buf_vprintf(struct rr_buf *b, const char *fmt, va_list args) RR_PRINTF(2, 0);

/* Room for n more bytes at data + len; NULL on failure.  The caller then adds to len. */
char *rr_buf_reserve(struct rr_buf *b, size_t n);

/* The bytes move to the caller, to be freed with rr_free; the buffer is empty again.  NULL after a
 * failure; nothing appended gives an empty string. */
char *rr_buf_take(struct rr_buf *b, size_t *len);

/* JSON: a quoted string with escapes; text must be valid UTF-8.  A double in the shortest form that
 * reads back the same, "null" never: the caller checks isfinite first. */
void rr_buf_json_string(struct rr_buf *b, struct rr_text s);
void rr_buf_json_double(struct rr_buf *b, double v);
/* In nine digits, which read back the same; null where it is not finite. */
void rr_buf_json_float(struct rr_buf *b, float v);

#endif
