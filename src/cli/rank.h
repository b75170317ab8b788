/* SPDX-License-Identifier: Apache-2.0 */
/* rank.h - the parts of "rerankd rank": lists read one after the other, results written likewise.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_RANK_H
#define RR_CLI_RANK_H

#include <stdbool.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "cli/ids.h"
#include "cli/score.h"
#include "cli/texts.h"

struct rr_rank_list {     /* a query and what is ranked for it; all in the arena given to next */
    uint64_t line;        /* where it begins, from 1 */
    struct rr_text id;    /* of the query; its line's number where the input has none */
    struct rr_text query; /* text */
    size_t n;             /* documents */
    const struct rr_text *ids;   /* [n]; NULL: they have none */
    const struct rr_text *texts; /* [n] */
};

/* ---- input (rank_input.c) ------------------------------------------------------------------- */

struct rr_rank_input { /* fields are private */
    struct rr_source source;
    struct rr_texts *queries, *corpus; /* NULL: the input is JSONL */
    bool with_title;
    bool unique; /* JSONL: no id may come twice; the caller's to set, like depth */
    uint32_t depth;
    char *query;    /* TREC: of the line that was read ahead, and its document */
    char *document; /* NULL: none was */
    uint64_t ahead_line;
    struct rr_ids seen; /* of queries that were there, in seen_arena */
    struct rr_arena seen_arena;
};

/* Queries and corpus NULL: JSONL, {"query", "documents": [...], "id", "ids": [...]}; else a TREC
 * run whose lines are grouped by query.  depth: documents of each query, the first ones; 0: all. */
RR_NODISCARD int rr_rank_input_open(struct rr_rank_input *l, const char *path, const char *queries,
                                    const char *corpus, struct rr_error *err);
void rr_rank_input_close(struct rr_rank_input *l);

/* The next list; *got is false at the end.  skip: only id and number of documents are wanted. */
RR_NODISCARD int rr_rank_input_next(struct rr_rank_input *l, bool skip, struct rr_arena *arena,
                                    struct rr_rank_list *out, bool *got, struct rr_error *err);

/* ---- output (rank_output.c) ----------------------------------------------------------------- */

struct rr_ranking { /* fields are private but for these */
    bool trec;      /* else JSONL */
    uint32_t top;   /* 0: all */
    const char *tag;
    bool told;         /* rr_ranking_add has failed and said so, if it was worth it */
    bool cannot_write; /* what failed is the output */
    FILE *file;
    const char *path; /* NULL: standard output */
    struct rr_buf line;
    struct rr_source done; /* what an earlier run has written */
    uint64_t whole, lines; /* bytes of it that hold whole lists, whole lines */
    bool resuming;
    char *next;    /* query of the line of done that was read ahead, */
    size_t n_next; /* and its results: 1, but all of a line of JSONL */
    char *last;    /* query that rr_ranking_done gave last */
};

/* path NULL: standard output.  A file that is there is refused unless resume is set: then
 * rr_ranking_done tells which lists are in it.  Nothing is changed yet. */
RR_NODISCARD int rr_ranking_open(struct rr_ranking *r, const char *path, bool resume,
                                 struct rr_error *err);
/* Once all that is done is known to be this run's: cuts off what is incomplete at the file's end.
 * rr_ranking_add may follow. */
RR_NODISCARD int rr_ranking_begin(struct rr_ranking *r, struct rr_error *err);
RR_NODISCARD int rr_ranking_close(struct rr_ranking *r, struct rr_error *err);

/* The query of the next list that the file has already, and how many results; *id is NULL when
 * there are no more, else valid until the next call.  RR_EFORMAT: the line is none of a ranking of
 * this form and tag. */
RR_NODISCARD int rr_ranking_done(struct rr_ranking *r, const char **id, size_t *n,
                                 struct rr_error *err);
/* Results that are written of n documents. */
size_t rr_ranking_count(const struct rr_ranking *r, size_t n);
/* Whether the list's results can be written, before they are computed. */
RR_NODISCARD int rr_ranking_check(const struct rr_ranking *r, const struct rr_rank_list *list,
                                  struct rr_error *err);
RR_NODISCARD int rr_ranking_add(struct rr_ranking *r, const struct rr_rank_list *list,
                                const struct rr_result *result, struct rr_error *err);

#endif
