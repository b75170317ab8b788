/* SPDX-License-Identifier: Apache-2.0 */
/* score.h - the parts of "rerankd score": input records, results, progress.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_SCORE_H
#define RR_CLI_SCORE_H

#include <stdbool.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "rerank.h"

/* ---- input ---------------------------------------------------------------------------------- */

enum rr_format { RR_FORMAT_AUTO, RR_FORMAT_LINES, RR_FORMAT_JSONL };

#define RR_SOURCE_LIST ((size_t)1 << 30)

struct rr_source {         /* a file or pipe, read line by line; fields are private but for these */
    enum rr_format format; /* never AUTO once the first record was looked for */
    uint64_t lines;        /* read so far */
    uint64_t bytes;        /* read so far */
    uint64_t total;        /* bytes of the file, 0 when not known */
    size_t max_line;       /* bytes; of one record, for a list set it to RR_SOURCE_LIST */
    int fd;
    char *data; /* [cap], of which begin to end are not used yet */
    size_t cap, begin, end;
    bool eof;
    char name[256]; /* for messages */
};

struct rr_record {
    uint64_t index;       /* number of its line, from 0 */
    struct rr_text text;  /* views into the arena given to rr_source_next */
    struct rr_text query; /* data NULL: the record has none of its own */
};

/* path "-" or NULL: standard input.  Close in any case. */
RR_NODISCARD int rr_source_open(struct rr_source *s, const char *path, enum rr_format format,
                                struct rr_error *err);
void rr_source_close(struct rr_source *s);

/* The next record whose line is not blank; *got false at the end.  RR_EFORMAT names the line. */
RR_NODISCARD int rr_source_next(struct rr_source *s, struct rr_arena *arena, struct rr_record *out,
                                bool *got, struct rr_error *err);

/* The next line, blank or not, without its end, not checked for UTF-8: a view until the next call.
 * *got false at the end. */
RR_NODISCARD int rr_source_line(struct rr_source *s, struct rr_text *line, bool *got,
                                struct rr_error *err);

/* ---- results -------------------------------------------------------------------------------- */

struct rr_row {
    uint64_t index;
    struct rr_score score;
    char *text; /* owned; NULL when texts are not shown */
    size_t text_len;
};

struct rr_results {
    /* What is wanted; set by the caller. */
    bool table;  /* else JSONL */
    bool sorted; /* best first, else in input order */
    bool with_text;
    bool french;
    uint32_t top; /* 0: all */
    /* Private. */
    struct rr_row *rows;
    size_t n, cap, n_printed;
    struct rr_buf line;
    int width;
    bool colors;
};

void rr_results_init(struct rr_results *r);
void rr_results_free(struct rr_results *r);

/* Takes one result; prints it at once if neither order nor top needs the others.  text is
 * copied. */
RR_NODISCARD int rr_results_add(struct rr_results *r, uint64_t index, const struct rr_score *score,
                                struct rr_text text, struct rr_error *err);
void rr_results_finish(struct rr_results *r); /* prints what was held back */

/* ---- progress ------------------------------------------------------------------------------- */

struct rr_progress { /* on stderr */
    bool bar;        /* a bar that is redrawn, for terminals */
    bool lines;      /* a line per 10 %, or per 10 s where the length is not known */
    bool drawn, french;
    uint64_t start_ns, last_ns, pairs;
    unsigned tenths;
};

/* forced: lines even when stderr is no terminal. */
void rr_progress_init(struct rr_progress *p, bool forced, bool french);
/* done and total in bytes of input; total 0: not known. */
void rr_progress_update(struct rr_progress *p, uint64_t pairs, uint64_t done, uint64_t total);
void rr_progress_clear(struct rr_progress *p); /* before other output, and at the end */

/* ---- re-scoring a reference ----------------------------------------------------------------- */

struct rr_reference_report {
    uint64_t requests, pairs;
    double logit, score; /* largest differences */
};

/* Opens the engine anew, with opt, if the lines of a reference.jsonl, the first limit of them (0:
 * all), were made with a longer window than its own; each line is scored with that which it names.
 * *engine is NULL after a failure. */
RR_NODISCARD int rr_reference_fit(struct rr_engine **engine, struct rr_options *opt,
                                  const char *path, uint32_t limit, struct rr_error *err);

/* Scores every line of a reference.jsonl. */
RR_NODISCARD int rr_reference_compare(struct rr_engine *engine, const char *path,
                                      struct rr_reference_report *out, struct rr_error *err);

/* Scores the first limit lines of a reference.jsonl, 0: all, and prints the largest differences.
 * Exit code; complains in the name of command. */
int rr_score_reference(const char *command, struct rr_engine *engine, const char *path,
                       uint32_t limit, double tolerance, bool json);

#endif
