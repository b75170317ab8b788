/* SPDX-License-Identifier: Apache-2.0 */
/* texts.h - a file of texts with ids, read where it lies: corpora and queries of any size.
 * Layer: cli (L6).  Threads: one.
 *
 * JSONL: objects with "_id", "id" or "docid", a "text", "contents" or "document", and perhaps
 * a "title" that goes before it; else lines "id TAB text".  What stays in memory for a text is a
 * hash of its id and where its line begins. */
#ifndef RR_CLI_TEXTS_H
#define RR_CLI_TEXTS_H

#include <stdbool.h>

#include "base/arena.h"
#include "rerank_types.h"

struct rr_texts;

struct rr_named_text {
    struct rr_text id, text;
};

/* Indexes path.  RR_EFORMAT names the first line that has no id, or an id that was there before. */
RR_NODISCARD int rr_texts_open(struct rr_texts **out, const char *path, struct rr_error *err);
void rr_texts_close(struct rr_texts *t); /* NULL is allowed */

size_t rr_texts_count(const struct rr_texts *t);

/* The text of id, copied into arena; RR_ENOENT naming file and id when there is none.  with_title:
 * the title and a space go before it. */
RR_NODISCARD int rr_texts_find(const struct rr_texts *t, struct rr_text id, bool with_title,
                               struct rr_arena *arena, struct rr_text *text, struct rr_error *err);

/* RR_OK if there is a text of id, else the error of rr_texts_find. */
RR_NODISCARD int rr_texts_check(const struct rr_texts *t, struct rr_text id, struct rr_error *err);

/* The id at *cursor, 0 at first; a view into the file or the arena.  *got is false at the end. */
RR_NODISCARD int rr_texts_next_id(const struct rr_texts *t, size_t *cursor, struct rr_arena *arena,
                                  struct rr_text *id, bool *got, struct rr_error *err);

#endif
