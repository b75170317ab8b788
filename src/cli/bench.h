/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - the parts of "rerankd bench": shapes and their texts, measuring, output.
 * Layer: cli (L6).  Threads: one, but where a comment says otherwise. */
#ifndef RR_CLI_BENCH_H
#define RR_CLI_BENCH_H

#include <stdbool.h>
#include <stdio.h>

#include "base/attr.h"
#include "rerank.h"

#define RR_BENCH_MAX_DOCS 1000
#define RR_BENCH_MAX_RUNS 1000

/* ---- figures -------------------------------------------------------------------------------- */

struct rr_times { /* of some runs, milliseconds */
    uint32_t runs;
    double best, median, mean, p95;
};

/* Sorts ms[n], n >= 1. */
void rr_times_of(struct rr_times *out, double *ms, uint32_t n);

struct rr_shape {
    char name[32];
    uint32_t n;                         /* documents */
    uint32_t tokens[RR_BENCH_MAX_DOCS]; /* of each pair */
    uint64_t total_tokens;
    double ops; /* multiplications and additions of a full pass */
    struct rr_times times;
    double peak;  /* operations a second of all threads beside the runs, median; 0: not known */
    double share; /* of it that the runs reached, median */
};

struct rr_bench_host { /* what all rows have in common */
    const struct rr_info *info;
    double peak;    /* operations a second of all threads when it was opened; 0: not known */
    double open_ms; /* from rr_open to ready */
};

/* Bytes of this process that are in memory, 0 if the system does not say. */
uint64_t rr_bench_rss(void);

/* ---- texts (bench_texts.c) ------------------------------------------------------------------ */

struct rr_bench_texts { /* makes pairs of exact lengths; fields are private */
    struct rr_engine *engine;
    const struct rr_info *info;
    const char *words[32]; /* one token each */
    size_t n_words;
    uint32_t fixed; /* tokens of a pair without its document */
    char query[512];
    uint64_t random; /* state of a small generator: the same texts in every run */
};

/* Finds words of the model's tokenizer; RR_ENOTSUP: it has none of ours. */
RR_NODISCARD int rr_bench_texts_init(struct rr_bench_texts *t, struct rr_engine *engine,
                                     struct rr_error *err);

/* "20x128": 20 pairs of 128 tokens.  "ragged": 20 pairs, the mid-quantiles of a lognormal
 * distribution of mean 128 and sigma 0.4, at most max_length; "raggedX": sigma 0.X. */
RR_NODISCARD int rr_bench_shape_parse(const struct rr_bench_texts *t, const char *word,
                                      struct rr_shape *s, struct rr_error *err);

/* Scores the shape's pairs up to runs times (at most RR_BENCH_MAX_RUNS), fewer, but three at least,
 * once seconds have passed; warm: once more before, not measured.  tick is called before each. */
struct rr_bench_runs {
    uint32_t runs;
    double seconds;
    bool warm;
    void (*tick)(void *user, const struct rr_shape *s, uint32_t run);
    double (*peak)(void *user); /* NULL: not known; called before and after each measured run */
    void *user;
};
RR_NODISCARD int rr_bench_measure(struct rr_bench_texts *t, struct rr_shape *s,
                                  const struct rr_bench_runs *how, struct rr_error *err);

/* ---- output (bench_print.c, bench_svg.c) ---------------------------------------------------- */

enum rr_bench_format { RR_BENCH_TABLE, RR_BENCH_CSV, RR_BENCH_JSON, RR_BENCH_JSONL };

bool rr_bench_format_parse(const char *word, enum rr_bench_format *out);

/* To stdout, in this order.  Rates are of the median. */
void rr_bench_head(enum rr_bench_format format, const struct rr_bench_host *h);
void rr_bench_row(enum rr_bench_format format, const struct rr_bench_host *h,
                  const struct rr_shape *s, bool first);
void rr_bench_tail(enum rr_bench_format format, const struct rr_bench_host *h);

/* A picture of n shapes: latency on the left, share of the peak on the right. */
RR_NODISCARD int rr_bench_svg(const char *path, const struct rr_bench_host *h,
                              const struct rr_shape *shapes, uint32_t n, struct rr_error *err);

/* ---- a running server (bench_url.c) --------------------------------------------------------- */

struct rr_bench_url {
    const char *url;
    const char *requests;    /* JSON or JSONL file of bodies; "": built in */
    const char *concurrency; /* "1,4,16" */
    enum rr_bench_format format;
    uint32_t runs;
    double seconds;       /* of each row */
    bool as_is;           /* send bodies unchanged: a cache may answer */
    const char *key_file; /* with the server's API key; "": none */
};

/* An exit code; complains itself. */
int rr_bench_url(const struct rr_bench_url *b);

/* ---- plan (cmd_plan.c) ---------------------------------------------------------------------- */

struct rr_bench_plan { /* options, as they were written */
    const char *rate, *users, *think, *requests, *day, *candidates, *peak, *hits, *goal, *most_use,
        *price, *budget, *offers;
    bool json;
};

/* Gives the pairs a second of this machine, whether a GPU computes them, and a line that says how
 * it was measured. */
typedef int rr_bench_rate_fn(void *user, double *pairs_per_s, bool *gpu, char *how, size_t cap,
                             struct rr_error *err);

/* An exit code; complains itself.  measure is called when no rate is given. */
int rr_bench_plan(const struct rr_bench_plan *p, rr_bench_rate_fn *measure, void *user);

#endif
