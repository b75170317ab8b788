/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - rows of "rerankd bench" and their output.  Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_BENCH_H
#define RR_CLI_BENCH_H

#include <stdbool.h>

#include "rerank.h"

#define RR_BENCH_MAX_DOCS 1000

struct rr_shape {
    char name[32];
    uint32_t n;                         /* documents */
    uint32_t tokens[RR_BENCH_MAX_DOCS]; /* of each pair */
    uint64_t total_tokens;
    double ops; /* multiplications and additions of a full pass */
    uint32_t runs;
    double best_ms, median_ms, p95_ms;
};

enum rr_bench_format { RR_BENCH_TABLE, RR_BENCH_CSV, RR_BENCH_JSONL };

bool rr_bench_format_parse(const char *word, enum rr_bench_format *out);

/* To stdout.  Rates are of the median. */
void rr_bench_head(enum rr_bench_format format, const struct rr_info *info);
void rr_bench_row(enum rr_bench_format format, const struct rr_info *info,
                  const struct rr_shape *s);

#endif
