/* SPDX-License-Identifier: Apache-2.0 */
/* lists.h - queries with their documents, from a JSONL file.  Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_LISTS_H
#define RR_CLI_LISTS_H

#include <jansson.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank.h"

struct rr_list_line {
    json_t *tree;    /* what is in it */
    uint64_t number; /* from 1 */
};

struct rr_lists {
    struct rr_list *lists;      /* [n] views into the trees */
    struct rr_list_line *lines; /* [n] where each came from */
    size_t n, cap;
};

/* Lines of {"query": text, "documents": [texts]}; other members and blank lines are skipped.
 * limit 0: all.  RR_EFORMAT names file and line; an empty file is one, too. */
RR_NODISCARD int rr_lists_read(struct rr_lists *out, const char *path, size_t limit,
                               struct rr_error *err);
void rr_lists_free(struct rr_lists *l);

#endif
