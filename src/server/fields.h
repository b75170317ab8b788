/* SPDX-License-Identifier: Apache-2.0 */
/* fields.h - reading the fields of a request: types, tolerated spellings, errors with their path.
 * Layer: server (L6).  Threads: pure.
 *
 * All return 0, or -1 with f->problem filled.  A missing key and an explicit null are the same, and
 * leave the output as it was. */
#ifndef RR_SERVER_FIELDS_H
#define RR_SERVER_FIELDS_H

#include "server/dialect.h"

/* where: path of obj, "" for the top level. */
int rr_fields_text(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                   bool required, struct rr_text *out);
/* Also "true" and "false" as strings, in any case of letters. */
int rr_fields_bool(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                   bool *out);
/* Is v a whole number?  Also a real without a fraction. */
bool rr_fields_whole(const json_t *v, int64_t *out);
int rr_fields_int(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                  int64_t min, int64_t max, bool *has, int64_t *out);

/* How many results are asked for, into f->ask; 0 is all. */
int rr_fields_limit(struct rr_fields *f, const json_t *obj, const char *where, const char *key);

/* A finite number. */
int rr_fields_number(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                     bool *has, double *out);

/* A string, or an object with a string "text"; images are refused. */
int rr_fields_query(struct rr_fields *f, const json_t *obj, const char *where, struct rr_text *out);

struct rr_doc_rules {
    bool objects;              /* objects with text or content are allowed beside strings */
    const json_t *rank_fields; /* array of keys whose values make the text; or NULL */
};

/* Keeps what the request calls a group's query: key inside where. */
int rr_fields_query_name(struct rr_fields *f, struct rr_group *g, const char *where,
                         const char *key);

/* A list of documents (a lone string is a list of one) into g->docs and g->source. */
int rr_fields_docs(struct rr_fields *f, json_t *list, const char *path,
                   const struct rr_doc_rules *rules, struct rr_group *g);

/* The options that every dialect knows, from the top level. */
int rr_fields_common(struct rr_fields *f);
/* The same from another object of the body, which wins; NULL is allowed. */
int rr_fields_options(struct rr_fields *f, const json_t *obj, const char *where);
/* truncate, truncation_direction and their synonyms alone. */
int rr_fields_cut(struct rr_fields *f, const json_t *obj, const char *where, struct rr_cut *cut);

/* The path of a key inside the object at where. */
#define RR_FIELD_PATH 96
void rr_fields_path(char out[RR_FIELD_PATH], const char *where, const char *key);
/* What the request calls document i of a group: "texts[3]", "inputs[7]". */
void rr_fields_doc_path(char out[RR_FIELD_PATH], const struct rr_group *g, size_t i);

/* One group whose query is to be filled in; NULL and a problem when memory is short. */
struct rr_group *rr_fields_group(struct rr_fields *f, size_t n);

/* The value of a key, NULL when missing or null. */
json_t *rr_fields_get(const json_t *obj, const char *key);

int rr_fields_no_memory(struct rr_fields *f);
int rr_fields_wrong_type(struct rr_fields *f, const char *path, const json_t *found,
                         const char *expected);

#endif
