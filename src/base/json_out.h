/* SPDX-License-Identifier: Apache-2.0 */
/* json_out.h - JSON text written into a buffer, with the commas in their places.
 * Layer: base (L0).  Threads: one at a time.
 *
 *     struct rr_json_out o = { .buf = &reply };
 *     rr_out_object(&o, NULL);            {
 *     rr_out_string(&o, "name", "a");      "name":"a"
 *     rr_out_array(&o, "sizes");           ,"sizes":[
 *     rr_out_uint(&o, NULL, 3);             3
 *     rr_out_end(&o);                      ]
 *     rr_out_end(&o);                     }
 *
 * In the middle of an object that somebody else opened, begin with { .buf = ..., .more = true }.
 * The buffer stays the caller's, may hold text already and may be appended to between two calls; it
 * alone remembers failure (buf.failed).  Nothing is allocated here and nothing need be freed.  The
 * key is that of a member of an object, NULL for an element of an array or the outermost value;
 * that it is one or the other is the caller's to see to. */
#ifndef RR_BASE_JSON_OUT_H
#define RR_BASE_JSON_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define RR_JSON_OUT_DEPTH 64 /* objects and arrays open at once */

struct rr_json_out {
    struct rr_buf *buf;
    bool spaced;     /* ", " and ": " for "," and ":" */
    bool more;       /* a value stands before the next one, which therefore needs a comma */
    unsigned depth;  /* objects and arrays that are open */
    uint64_t arrays; /* which of them are arrays, the innermost in bit 0 */
};

/* The comma that is due and the key: what begins a value that the caller writes to buf. */
void rr_out_key(struct rr_json_out *o, const char *key);

/* Deeper than RR_JSON_OUT_DEPTH, and an end with nothing open, are failures of the buffer. */
void rr_out_object(struct rr_json_out *o, const char *key);
void rr_out_array(struct rr_json_out *o, const char *key);
void rr_out_end(struct rr_json_out *o); /* of the innermost object or array */

/* Strings are valid UTF-8 and are escaped, as keys are; value NULL is null. */
void rr_out_text(struct rr_json_out *o, const char *key, struct rr_text value);
void rr_out_string(struct rr_json_out *o, const char *key, const char *value);
void rr_out_uint(struct rr_json_out *o, const char *key, uint64_t value);
void rr_out_int(struct rr_json_out *o, const char *key, int64_t value);
void rr_out_hex(struct rr_json_out *o, const char *key, uint64_t value);  /* 16 digits in quotes */
void rr_out_double(struct rr_json_out *o, const char *key, double value); /* rr_buf_json_double */
void rr_out_bool(struct rr_json_out *o, const char *key, bool value);
void rr_out_null(struct rr_json_out *o, const char *key);

/* A value in a form of its own, such as a number of two decimals; nothing is escaped. */
void rr_out_printf(struct rr_json_out *o, const char *key, const char *fmt, ...) RR_PRINTF(3, 4);

#endif
