/* SPDX-License-Identifier: Apache-2.0 */
/* bench_print.c - see bench.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/bench.h"
#include "cli/cli.h"

#define MIB 1048576.0
#define JSON_LIMIT 65536 /* of a row, of what stands around the rows */

bool rr_bench_format_parse(const char *word, enum rr_bench_format *out)
{
    static const char *const names[] = { "table", "csv", "json", "jsonl" };
    size_t i;

    for (i = 0; i < RR_COUNT(names); i++) {
        if (strcmp(word, names[i])) continue;
        *out = (enum rr_bench_format)i;
        return true;
    }
    return false;
}

uint64_t rr_bench_rss(void)
{
    struct rr_error err;
    uint64_t size = 0, resident = 0;
    char *text;
    size_t len;

    if (rr_file_read(&text, &len, "/proc/self/statm", 4096, RR_MEM_MISC, &err)) return 0;
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &size, &resident) != 2) resident = 0;
    rr_free(text);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct rates { /* of the median */
    double pairs, tokens, gops, percent;
};

static struct rates rates_of(const struct rr_shape *s)
{
    double seconds = s->times.median / 1e3;

    return (struct rates){ s->n / seconds, (double)s->total_tokens / seconds,
                           s->ops / seconds / 1e9, 100 * s->share };
}

static void table_head(const struct rr_bench_host *h)
{
    const struct rr_info *m = h->info;

    printf("rerankd %s, %s, %s %s, %s, %" PRIu32 " threads\n", rr_version(), m->model, m->dtype,
           m->isa, m->device_name, m->threads);
    if (h->peak > 0)
        printf("peak %.1f GOP/s, measured: %s on %" PRIu32 " threads, registers only\n",
               h->peak / 1e9, m->dtype, m->threads);
    printf("%-10s %7s %5s %9s %9s %9s %9s %9s %8s %6s\n", "shape", "tokens", "runs", "best ms",
           "median", "p95", "pairs/s", "tokens/s", "GOP/s", "peak");
}

/* Up to its rows, which follow one by one. */
static void json_host(const struct rr_bench_host *h)
{
    const struct rr_info *m = h->info;
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    rr_out_string(&o, "version", rr_version());
    rr_out_string(&o, "model", m->model);
    rr_out_string(&o, "device", m->device);
    rr_out_string(&o, "device_name", m->device_name);
    rr_out_string(&o, "isa", m->isa);
    rr_out_string(&o, "dtype", m->dtype);
    rr_out_uint(&o, "threads", m->threads);
    rr_out_printf(&o, "peak_gop_per_s", "%.2f", h->peak / 1e9);
    rr_out_array(&o, "shapes");
    rr_cli_print(stdout, &b);
}

void rr_bench_head(enum rr_bench_format format, const struct rr_bench_host *h)
{
    if (format == RR_BENCH_TABLE)
        table_head(h);
    else if (format == RR_BENCH_JSON)
        json_host(h);
    else if (format == RR_BENCH_CSV)
        printf("version,model,device,isa,dtype,threads,shape,pairs,tokens,runs,best_ms,median_ms,"
               "mean_ms,p95_ms,pairs_per_s,tokens_per_s,gop_per_s,peak_percent,rss_bytes\n");
    fflush(stdout);
}

static void json_row(const struct rr_bench_host *h, const struct rr_shape *s, bool whole)
{
    const struct rr_info *m = h->info;
    struct rates r = rates_of(s);
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    rr_out_string(&o, "shape", s->name);
    rr_out_uint(&o, "pairs", s->n);
    rr_out_uint(&o, "tokens", s->total_tokens);
    rr_out_uint(&o, "runs", s->times.runs);
    rr_out_printf(&o, "best_ms", "%.3f", s->times.best);
    rr_out_printf(&o, "median_ms", "%.3f", s->times.median);
    rr_out_printf(&o, "mean_ms", "%.3f", s->times.mean);
    rr_out_printf(&o, "p95_ms", "%.3f", s->times.p95);
    rr_out_printf(&o, "pairs_per_s", "%.2f", r.pairs);
    rr_out_printf(&o, "tokens_per_s", "%.1f", r.tokens);
    rr_out_printf(&o, "gop_per_s", "%.2f", r.gops);
    rr_out_printf(&o, "peak_gop_per_s", "%.2f", s->peak / 1e9);
    rr_out_printf(&o, "peak_percent", "%.2f", r.percent);
    if (whole) {
        rr_out_string(&o, "device", m->device);
        rr_out_string(&o, "isa", m->isa);
        rr_out_string(&o, "dtype", m->dtype);
        rr_out_uint(&o, "threads", m->threads);
    }
    rr_out_end(&o);
    rr_cli_print(stdout, &b);
}

/* A name that anybody chose, as RFC 4180 has it. */
static void csv_name(const char *name)
{
    if (!strpbrk(name, ",\"")) {
        printf("%s", name);
        return;
    }
    putchar('"');
    for (; *name; name++) printf(*name == '"' ? "\"\"" : "%c", *name);
    putchar('"');
}

void rr_bench_row(enum rr_bench_format format, const struct rr_bench_host *h,
                  const struct rr_shape *s, bool first)
{
    const struct rr_info *m = h->info;
    struct rates r = rates_of(s);

    switch (format) {
    case RR_BENCH_TABLE:
        printf("%-10s %7" PRIu64 " %5" PRIu32 " %9.2f %9.2f %9.2f %9.1f %9.0f %8.1f", s->name,
               s->total_tokens, s->times.runs, s->times.best, s->times.median, s->times.p95,
               r.pairs, r.tokens, r.gops);
        printf(s->peak > 0 ? " %4.0f %%\n" : "\n", r.percent);
        break;
    case RR_BENCH_CSV:
        printf("%s,", rr_version());
        csv_name(m->model);
        printf(",%s,%s,%s,%" PRIu32 ",%s,%" PRIu32 ",%" PRIu64 ",%" PRIu32
               ",%.3f,%.3f,%.3f,%.3f,%.2f,%.1f,%.2f,%.2f,%" PRIu64 "\n",
               m->device, m->isa, m->dtype, m->threads, s->name, s->n, s->total_tokens,
               s->times.runs, s->times.best, s->times.median, s->times.mean, s->times.p95, r.pairs,
               r.tokens, r.gops, r.percent, rr_bench_rss());
        break;
    case RR_BENCH_JSON:
        if (!first) printf(", ");
        json_row(h, s, false);
        break;
    case RR_BENCH_JSONL:
        json_row(h, s, true);
        printf("\n");
        break;
    }
    fflush(stdout);
}

static void json_tail(const struct rr_bench_host *h)
{
    const struct rr_info *m = h->info;
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true, .more = true };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_buf_putc(&b, ']');
    rr_out_object(&o, "memory");
    rr_out_uint(&o, "rss_bytes", rr_bench_rss());
    rr_out_uint(&o, "weights_bytes", m->weights_bytes);
    rr_out_uint(&o, "workspace_bytes", m->workspace_bytes);
    rr_out_uint(&o, "mapped_bytes", m->mapped_bytes);
    rr_out_end(&o);
    rr_out_printf(&o, "open_ms", "%.1f", h->open_ms);
    rr_buf_puts(&b, "}\n");
    rr_cli_print(stdout, &b);
}

void rr_bench_tail(enum rr_bench_format format, const struct rr_bench_host *h)
{
    const struct rr_info *m = h->info;

    if (format == RR_BENCH_TABLE)
        printf("memory: resident %.1f MiB, of it weights %.1f, workspace %.1f; mapped from the "
               "model's files %.1f; open in %.0f ms\n",
               (double)rr_bench_rss() / MIB, (double)m->weights_bytes / MIB,
               (double)m->workspace_bytes / MIB, (double)m->mapped_bytes / MIB, h->open_ms);
    else if (format == RR_BENCH_JSON)
        json_tail(h);
    fflush(stdout);
}
