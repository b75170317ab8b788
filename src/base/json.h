/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - a thin layer on jansson: limits before the parse, errors with their place, getters that
 * name the path.  Layer: base (L0).  Threads: any (a tree belongs to one thread at a time). */
#ifndef RR_BASE_JSON_H
#define RR_BASE_JSON_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

#define RR_JSON_DEPTH 64 /* nesting; stops "[[[[..." long before any stack is in danger */

enum rr_json_duplicates {
    RR_JSON_DUP_LAST,
    RR_JSON_DUP_REJECT,
    RR_JSON_REALS /* as DUP_LAST; integers are reals, so that none has too many digits */
};

/* Parses one JSON value and nothing after it.  NUL in strings (\u0000) is allowed, invalid UTF-8
 * and lone surrogates are RR_EFORMAT.  max_depth 0: RR_JSON_DEPTH.  Nesting deeper than that is
 * RR_ETOOBIG, found by a byte scan before the parse.  Messages give line and column, or the column
 * of text that is one line.  *out is the caller's, to be freed with json_decref. */
RR_NODISCARD int rr_json_parse(json_t **out, struct rr_text text, unsigned max_depth,
                               enum rr_json_duplicates dup, struct rr_error *err);

/* The same of a regular file of at most limit bytes; messages begin with its path. */
RR_NODISCARD int rr_json_read(json_t **out, const char *path, size_t limit,
                              enum rr_json_duplicates dup, struct rr_error *err);

/* The same of folder/name, whose path is written to path.  *out is NULL where there is no such
 * file. */
RR_NODISCARD int rr_json_read_beside(json_t **out, char path[PATH_MAX], const char *folder,
                                     const char *name, size_t limit, enum rr_json_duplicates dup,
                                     struct rr_error *err);

/* Getters for configuration files.  A missing key, or null, leaves *out as it is (the default) and
 * is RR_OK; another type or a value out of range is RR_EFORMAT naming "where: key", found and
 * expected.  where is a file name. */
RR_NODISCARD int rr_json_u32(const json_t *obj, const char *where, const char *key, uint32_t min,
                             uint32_t max, uint32_t *out, struct rr_error *err);
RR_NODISCARD int rr_json_f32(const json_t *obj, const char *where, const char *key, float *out,
                             struct rr_error *err);
RR_NODISCARD int rr_json_bool(const json_t *obj, const char *where, const char *key, bool *out,
                              struct rr_error *err);
/* *out is a view into the tree. */
RR_NODISCARD int rr_json_text(const json_t *obj, const char *where, const char *key,
                              struct rr_text *out, struct rr_error *err);

/* The code unit of a "\uXXXX" at p, n bytes left, or -1: it is none. */
int rr_json_code_unit(const char *p, size_t n);

/* "a string", "an array", ...: for messages. */
const char *rr_json_type_name(const json_t *v);

/* Routes jansson's allocations through base/mem.  Called once by whoever starts the process; a
 * library leaves that to its program, whose functions are kept. */
void rr_json_init(void);

#endif
