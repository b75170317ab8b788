/* SPDX-License-Identifier: Apache-2.0 */
/* bench_print.c - see bench.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"

bool rr_bench_format_parse(const char *word, enum rr_bench_format *out)
{
    static const char *const names[] = { "table", "csv", "jsonl" };
    int i;

    for (i = 0; i < 3; i++) {
        if (strcmp(word, names[i])) continue;
        *out = (enum rr_bench_format)i;
        return true;
    }
    return false;
}

void rr_bench_head(enum rr_bench_format format, const struct rr_info *info)
{
    if (format == RR_BENCH_CSV)
        printf("version,model,device,isa,dtype,threads,shape,pairs,tokens,runs,best_ms,median_ms,"
               "p95_ms,pairs_per_s,tokens_per_s,gop_per_s\n");
    if (format != RR_BENCH_TABLE) return;
    printf("rerankd %s, %s, %s %s, %s, %" PRIu32 " threads\n", rr_version(), info->model,
           info->dtype, info->isa, info->device_name, info->threads);
    printf("%-10s %7s %9s %9s %9s %9s %9s %10s %8s\n", "shape", "tokens", "runs", "best ms",
           "median", "p95", "pairs/s", "tokens/s", "GOP/s");
}

void rr_bench_row(enum rr_bench_format format, const struct rr_info *info, const struct rr_shape *s)
{
    double seconds = s->median_ms / 1e3;
    double pairs = s->n / seconds, tokens = (double)s->total_tokens / seconds;
    double gops = s->ops / seconds / 1e9;

    if (format == RR_BENCH_TABLE)
        printf("%-10s %7" PRIu64 " %9" PRIu32 " %9.2f %9.2f %9.2f %9.1f %10.0f %8.1f\n", s->name,
               s->total_tokens, s->runs, s->best_ms, s->median_ms, s->p95_ms, pairs, tokens, gops);
    else if (format == RR_BENCH_CSV)
        printf("%s,%s,%s,%s,%s,%" PRIu32 ",%s,%" PRIu32 ",%" PRIu64 ",%" PRIu32
               ",%.3f,%.3f,%.3f,%.2f,%.1f,%.2f\n",
               rr_version(), info->model, info->device, info->isa, info->dtype, info->threads,
               s->name, s->n, s->total_tokens, s->runs, s->best_ms, s->median_ms, s->p95_ms, pairs,
               tokens, gops);
    else
        printf("{\"shape\": \"%s\", \"pairs\": %" PRIu32 ", \"tokens\": %" PRIu64
               ", \"runs\": %" PRIu32 ", \"best_ms\": %.3f, \"median_ms\": %.3f, \"p95_ms\": %.3f, "
               "\"pairs_per_s\": %.2f, \"tokens_per_s\": %.1f, \"gop_per_s\": %.2f, "
               "\"device\": \"%s\", \"isa\": \"%s\", \"dtype\": \"%s\", \"threads\": %" PRIu32
               "}\n",
               s->name, s->n, s->total_tokens, s->runs, s->best_ms, s->median_ms, s->p95_ms, pairs,
               tokens, gops, info->device, info->isa, info->dtype, info->threads);
    fflush(stdout);
}
