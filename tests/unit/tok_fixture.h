/* SPDX-License-Identifier: Apache-2.0 */
/* tok_fixture.h - a tokenizer with its scratches, and golden lines, for the tests of src/tok. */
#ifndef TESTS_UNIT_TOK_FIXTURE_H
#define TESTS_UNIT_TOK_FIXTURE_H

#include <jansson.h>

#include "base/text.h"
#include "tok/tok.h"

struct tok_fixture {
    struct rr_tok *tok;
    struct rr_tok_scratch *a, *b; /* of a pair's two texts */
};

/* Fails the test with the message if it cannot be opened. */
void tok_fixture_open(struct tok_fixture *f, const char *folder);
void tok_fixture_parse(struct tok_fixture *f, struct rr_text json, const char *name);
void tok_fixture_close(struct tok_fixture *f);

/* Calls fn with each line of a file of JSON objects; returns their number. */
typedef void tok_line_fn(void *user, const json_t *line);
unsigned tok_each_line(const char *path, tok_line_fn *fn, void *user);

/* The string at key; fails the test if there is none. */
struct rr_text tok_text(const json_t *obj, const char *key);

/* ids with the single template, to be freed with free(); *n: how many. */
int32_t *tok_single(struct tok_fixture *f, struct rr_text text, uint32_t *n);
/* ids and types of a pair; the document is cut at max_tokens before (0: not). */
int32_t *tok_pair(struct tok_fixture *f, struct rr_text a, struct rr_text b, uint32_t max_length,
                  unsigned flags, uint32_t max_tokens, int32_t **types, uint32_t *n);

/* Fails the test, naming the case, if ids differ from the array of integers. */
void tok_compare(const char *what, const char *which, const json_t *expected, const int32_t *ids,
                 uint32_t n);

/* A whole file. */
char *tok_read(const char *path, size_t *len);

/* $RR_SHARED or ../shared, and name in it; NULL if it is not there. */
const char *tok_shared(const char *name, char out[1024]);

#endif
