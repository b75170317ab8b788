/* SPDX-License-Identifier: Apache-2.0 */
/* eval.h - the parts of "rerankd eval": labelled data, measures, their comparison, output.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_EVAL_H
#define RR_CLI_EVAL_H

#include <stdbool.h>
#include <stdio.h>

#include "base/arena.h"
#include "cli/texts.h"
#include "cli/verify.h"
#include "rerank_types.h"

/* ---- labelled data (eval_data.c, eval_lists.c) ---------------------------------------------- */

struct rr_eval_candidate {
    uint32_t doc;  /* of the data's documents */
    int32_t label; /* relevance; 0 also when nobody judged it */
    float first;   /* score of the first stage */
};

struct rr_eval_query {
    struct rr_text id, text;
    size_t first, n;       /* its candidates */
    size_t gains, n_gains; /* its positive labels, of candidates or not, best first */
};

struct rr_eval_data {
    struct rr_arena arena; /* ids and, for lists, texts */
    struct rr_eval_query *queries;
    struct rr_eval_candidate *candidates;
    int32_t *gains;
    struct rr_named_text *docs; /* text is empty where corpus has it */
    size_t n_queries, n_candidates, n_gains, n_docs;
    size_t cap_queries, cap_candidates, cap_gains, cap_docs;
    struct rr_texts *corpus; /* NULL: lists */
    bool has_first;          /* candidates come from a run with scores */
    bool with_title;
    size_t n_left_out; /* judged queries without candidates: not measured, as in trec_eval */
};

enum rr_eval_pool { RR_POOL_RUN, RR_POOL_JUDGED, RR_POOL_ALL };

struct rr_eval_sources {
    const char *corpus, *queries, *qrels, *run; /* files; corpus NULL: no texts are needed */
    enum rr_eval_pool pool;
    uint32_t depth; /* candidates of the run for each query; 0: all */
    uint32_t limit; /* queries; 0: all */
    bool with_title;
};

void rr_eval_data_init(struct rr_eval_data *d);
void rr_eval_data_free(struct rr_eval_data *d);

/* Both leave d to be freed on error, too. */
RR_NODISCARD int rr_eval_read_files(struct rr_eval_data *d, const struct rr_eval_sources *s,
                                    struct rr_error *err);
/* JSONL: {"query", "documents": [...], "labels": [...] or "positive": index or indices}. */
RR_NODISCARD int rr_eval_read_lists(struct rr_eval_data *d, const char *path, uint32_t limit,
                                    struct rr_error *err);

/* For the readers: one more, zeroed; NULL when memory is short. */
struct rr_eval_query *rr_eval_add_query(struct rr_eval_data *d);
struct rr_eval_candidate *rr_eval_add_candidate(struct rr_eval_data *d);
struct rr_named_text *rr_eval_add_doc(struct rr_eval_data *d);
int32_t *rr_eval_add_gain(struct rr_eval_data *d);
/* Ends a query's gains, which begin at from: sorts them. */
void rr_eval_end_gains(struct rr_eval_data *d, struct rr_eval_query *q, size_t from);

/* ---- measures (eval_measure.c) -------------------------------------------------------------- */

enum { RR_MEASURES = 4 }; /* nDCG@k, MRR@k, recall@k, MAP */
extern const char *const rr_measure_keys[RR_MEASURES];

/* Of one query, from the labels of its candidates, best first.  As trec_eval: gains are the labels,
 * discounts log2(rank + 1), relevant is a label above 0; 0 when nothing is relevant. */
void rr_measure(double out[RR_MEASURES], const int32_t *labels, size_t n, const int32_t *gains,
                size_t n_gains, uint32_t k);

/* order[q->n]: q's candidates, counted from its first one, by score, best first.  Ties as trec_eval
 * breaks them: the greater id first.  Where documents have no ids, the earlier one. */
RR_NODISCARD int rr_eval_order(uint32_t *order, const struct rr_eval_data *d,
                               const struct rr_eval_query *q, const float *scores,
                               struct rr_error *err);

struct rr_difference {      /* mean over queries of b - a */
    double mean, low, high; /* with its 95 % interval */
    double p;               /* two-sided */
};

/* Paired bootstrap over the queries (Efron and Tibshirani 1993, chapter 16; Sakai 2006), 10000
 * samples from a fixed seed.  a[n], b[n] with a stride, e.g. RR_MEASURES. */
struct rr_difference rr_bootstrap(const double *a, const double *b, size_t n, size_t stride);

/* ---- results -------------------------------------------------------------------------------- */

enum { RR_EVAL_SYSTEMS = 3 };

struct rr_eval_system {
    char name[80];
    float *scores;                   /* [n_candidates] */
    double (*measures)[RR_MEASURES]; /* [n_queries] */
    double mean[RR_MEASURES];
};

struct rr_eval_report {
    const struct rr_eval_data *data;
    uint32_t k;
    struct rr_eval_system *systems;
    size_t n_systems, subject; /* which of them the others are compared with */
    struct rr_difference versus[RR_EVAL_SYSTEMS][RR_MEASURES]; /* subject less that system */
    struct rr_verify_report agreement[RR_EVAL_SYSTEMS];        /* of the subject with that system */
};

void rr_eval_print_table(FILE *out, const struct rr_eval_report *r);
void rr_eval_print_json(FILE *out, const struct rr_eval_report *r, bool per_query);
RR_NODISCARD int rr_eval_write_svg(const char *path, const struct rr_eval_report *r,
                                   struct rr_error *err);

#endif
