/* SPDX-License-Identifier: Apache-2.0 */
/* field.h - reading fields of tokenizer.json with errors that name the path.
 * Layer: tok (L1), private.  Threads: any.
 * Unlike configuration files, a field here is either required or has the reference's default; a
 * wrong type is always an error. */
#ifndef RR_TOK_FIELD_H
#define RR_TOK_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

#define RR_FIELD_WHERE 448 /* room for a file name, a path and a key */

struct rr_field { /* an object of the file and where it stands */
    const json_t *obj;
    const char *file;
    char path[192]; /* "normalizer.normalizers[0]" */
    struct rr_error *err;
};

enum rr_need { RR_OPTIONAL, RR_REQUIRED };

/* The value at key as a field of its own: an object.  Optional and absent or null: obj NULL. */
RR_NODISCARD int rr_field_object(const struct rr_field *f, const char *key, enum rr_need need,
                                 struct rr_field *out);
RR_NODISCARD int rr_field_array(const struct rr_field *f, const char *key, enum rr_need need,
                                const json_t **out);
/* Element i of an array at key, as an object. */
RR_NODISCARD int rr_field_element(const struct rr_field *f, const char *key, const json_t *array,
                                  size_t i, struct rr_field *out);

/* For an object with a "type": step(user, f, type).  For one of type "Sequence": the same for each
 * element of its array at key, in order, until one is not RR_OK; nested at most 8 deep, what is
 * deeper is given to step. */
typedef int rr_field_step_fn(void *user, const struct rr_field *f, struct rr_text type);
RR_NODISCARD int rr_field_steps(const struct rr_field *f, const char *key, rr_field_step_fn *step,
                                void *user);

/* Optional and absent or null: *out stays. */
RR_NODISCARD int rr_field_bool(const struct rr_field *f, const char *key, enum rr_need need,
                               bool *out);
RR_NODISCARD int rr_field_text(const struct rr_field *f, const char *key, enum rr_need need,
                               struct rr_text *out);
RR_NODISCARD int rr_field_u32(const struct rr_field *f, const char *key, enum rr_need need,
                              uint32_t max, uint32_t *out);
/* A string of exactly one character. */
RR_NODISCARD int rr_field_char(const struct rr_field *f, const char *key, uint32_t *out);

/* The text at key in memory of its own; absent: NULL. */
RR_NODISCARD int rr_field_copy(const struct rr_field *f, const char *key, enum rr_need need,
                               char **out, size_t *len);

/* "file: path.key: found X, expected ..." */
int rr_field_wrong(const struct rr_field *f, const char *key, const char *expected);
/* A kind that is not supported. */
int rr_field_unknown(const struct rr_field *f, const char *key, struct rr_text found,
                     const char *known);

/* "file: path.key" for functions that take a place; valid while out lives. */
const char *rr_field_where(const struct rr_field *f, const char *key, char out[RR_FIELD_WHERE]);

#endif
