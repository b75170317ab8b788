/* SPDX-License-Identifier: Apache-2.0 */
/* meters.c - see meters.h. */
#include "server/meters.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "server/dialect.h"

static const char *const handlers[] = { "rerank", "root",    "health", "info",  "live",
                                        "ready",  "metrics", "models", "admin", "about",
                                        "tokens", "ui",      "none" };
static const char *const statuses[] = { "200", "204", "304", "400", "401", "403", "404", "405",
                                        "408", "409", "413", "414", "415", "417", "422", "424",
                                        "429", "431", "499", "500", "501", "503", "504", "other" };
static const char *const dialects[] = { "ragfab",     "tei",     "union",    "cohere",
                                        "jina",       "vllm",    "llamacpp", "infinity",
                                        "xinference", "ollama",  "voyage",   "mixedbread",
                                        "pinecone",   "nim",     "weaviate", "dashscope",
                                        "score",      "predict", "vertex",   "isaacus",
                                        "none" };
static const char *const outcomes[] = { "ok", "error", "cancelled" };
static const char *const stages[] = { "parse", "tokenize", "queue", "inference", "serialize" };
static const char *const reasons[] = { "queue_full", "deadline",  "invalid", "too_large",
                                       "draining",   "not_ready", "error",   "memory",
                                       "unauthorized", "rate_limit" };
/* in the order of enum rr_conn_end */
static const char *const conn_ends[] = { "full",        "per_ip",    "network",    "evicted",
                                         "slow_header", "slow_body", "slow_reader" };
static const char *const leaves[] = { "reading", "waiting", "writing" };
static const char *const sources[] = { "model", "cache_local", "cache_shared", "deduplicated",
                                       "coalesced" };
static const char *const tiers[] = { "local", "shared" };
static const char *const lookups[] = { "hit", "miss", "error" };
static const char *const reloads[] = { "ok", "failed" };
static const char *const traces[] = { "sent", "lost" };
static const char *const kinds[] = { "real" };
static const char *const levels[] = { "error", "warning", "info", "debug" };
/* filled by fill_names, always with the same names */
static const char *memory_names[RR_MEM_TAGS], *throttles[RR_GPU_THROTTLES];

static const double seconds[] = { .001, .0025, .005, .01, .025, .05, .075, .1, .15, .2,
                                  .3,   .5,    .75,  1,   1.5,  2.5, 5,    10, 30 };
static const double bytes[] = { 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216 };
static const double tokens[] = { 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192 };
static const double shares[] = { .01, .02, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, .95, .98, .99 };
static const double counts[] = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000 };

/* clang-format off */
#define LABEL(name, list) { name, list, RR_COUNT(list) }
#define NO_LABEL { 0 }
#define LABELS_NONE { NO_LABEL, NO_LABEL }
#define LABELS_HANDLER_STATUS { LABEL("handler", handlers), LABEL("status", statuses) }
#define LABELS_DIALECT { LABEL("dialect", dialects), NO_LABEL }
#define LABELS_OUTCOME { LABEL("status", outcomes), NO_LABEL }
#define LABELS_STAGE { LABEL("stage", stages), NO_LABEL }
#define LABELS_REASON { LABEL("reason", reasons), NO_LABEL }
#define LABELS_CONN_END { LABEL("reason", conn_ends), NO_LABEL }
#define LABELS_LEAVE { LABEL("stage", leaves), NO_LABEL }
#define LABELS_SOURCE { LABEL("source", sources), NO_LABEL }
#define LABELS_KIND { LABEL("kind", kinds), NO_LABEL }
#define LABELS_LEVEL { LABEL("level", levels), NO_LABEL }
#define LABELS_MEMORY { LABEL("use", memory_names), NO_LABEL }
#define LABELS_TIER_RESULT { LABEL("tier", tiers), LABEL("result", lookups) }
#define LABELS_THROTTLE { LABEL("reason", throttles), NO_LABEL }
#define LABELS_RELOAD { LABEL("result", reloads), NO_LABEL }
#define LABELS_TRACE { LABEL("result", traces), NO_LABEL }
/* clang-format on */

#define BUCKETS_NONE NULL, 0
#define BUCKETS_SECONDS seconds, RR_COUNT(seconds)
#define BUCKETS_BYTES bytes, RR_COUNT(bytes)
#define BUCKETS_COUNTS counts, RR_COUNT(counts)
#define BUCKETS_TOKENS tokens, RR_COUNT(tokens)
#define BUCKETS_SHARES shares, RR_COUNT(shares)

static const struct rr_metric table[RR_METERS] = {
#define RR_METRIC(id, type, name, help, scale, labels, buckets) \
    [RR_M_##id] = { RR_METRIC_##type, name, help, scale, LABELS_##labels, BUCKETS_##buckets },
#include "server/metrics.def"
#undef RR_METRIC
};

static void fill_names(void)
{
    uint32_t i;

    for (i = 0; i < RR_MEM_TAGS; i++) memory_names[i] = rr_mem_tag_name((enum rr_mem_tag)i);
    for (i = 0; i < RR_GPU_THROTTLES; i++) throttles[i] = rr_gpu_throttle_name(i);
}

int rr_meters_open(struct rr_metrics **out, struct rr_error *err)
{
    fill_names();
    return rr_metrics_open(out, table, RR_METERS, err);
}

static uint32_t find(const char *const *list, uint32_t n, const char *word)
{
    uint32_t i;

    for (i = 0; i + 1 < n; i++)
        if (strcmp(list[i], word) == 0) return i;
    return n - 1; /* the last one stands for all others */
}

void rr_meters_answer(struct rr_metrics *m, enum rr_meter_handler handler, unsigned status)
{
    char word[16];

    snprintf(word, sizeof(word), "%u", status);
    rr_metrics_add(m, RR_M_HTTP_REQUESTS,
                   rr_metric_series(&table[RR_M_HTTP_REQUESTS], handler,
                                    find(statuses, RR_COUNT(statuses), word)),
                   1);
}

void rr_meters_dialect(struct rr_metrics *m, const char *name)
{
    rr_metrics_add(m, RR_M_REQUESTS, find(dialects, RR_COUNT(dialects), name), 1);
}

/* ---- what others count -------------------------------------------------------------------- */

/* Bytes, from /proc; false when it cannot be read. */
static bool read_memory(uint64_t *virtual_bytes, uint64_t *resident)
{
    char text[256];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    unsigned long long pages_virtual = 0, pages_resident = 0;
    ssize_t n = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
    }
    text[n > 0 ? n : 0] = 0;
    if (sscanf(text, "%llu %llu", &pages_virtual, &pages_resident) != 2) return false;
    *virtual_bytes = pages_virtual * page;
    *resident = pages_resident * page;
    return true;
}

uint64_t rr_meters_resident(void)
{
    uint64_t virtual_bytes, resident;

    return read_memory(&virtual_bytes, &resident) ? resident : 0;
}

static void refresh_process(struct rr_metrics *m)
{
    struct rlimit limit;
    struct timespec cpu;
    uint64_t virtual_bytes, resident;

    if (read_memory(&virtual_bytes, &resident)) {
        rr_metrics_set(m, RR_M_VIRTUAL, 0, (int64_t)virtual_bytes);
        rr_metrics_set(m, RR_M_RESIDENT, 0, (int64_t)resident);
    }
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        rr_metrics_set(m, RR_M_CPU, 0, (int64_t)cpu.tv_sec * (int64_t)RR_SECOND + cpu.tv_nsec);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        rr_metrics_set(m, RR_M_MAX_FDS, 0, (int64_t)limit.rlim_cur);
}

static int64_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int64_t n = 0;

    if (!dir) return 0;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') n++;
    closedir(dir);
    return n;
}

static void refresh_cache(struct rr_metrics *m, const struct rr_stats *s)
{
    const uint64_t lookups_of[2][3] = { { s->cache_hits, s->cache_misses, 0 },
                                        { s->shared_hits, s->shared_misses, s->shared_errors } };
    uint32_t i, k;

    for (i = 0; i < 2; i++)
        for (k = 0; k < 3; k++)
            rr_metrics_set(m, RR_M_CACHE, rr_metric_series(&table[RR_M_CACHE], i, k),
                           (int64_t)lookups_of[i][k]);
    rr_metrics_set(m, RR_M_CACHE_ENTRIES, 0, (int64_t)s->cache_entries);
    rr_metrics_set(m, RR_M_CACHE_BYTES, 0, (int64_t)s->cache_bytes);
    rr_metrics_set(m, RR_M_CACHE_EVICTIONS, 0, (int64_t)s->cache_evictions);
    rr_metrics_set(m, RR_M_CACHE_UP, 0, !s->shared_configured || s->shared_up);
    rr_metrics_set(m, RR_M_CACHE_DROPPED, 0, (int64_t)s->shared_dropped);
}

static void refresh_engine(struct rr_metrics *m, const struct rr_stats *s)
{
    const uint64_t sources_of[] = { s->pairs_done, s->cache_hits, s->shared_hits,
                                    s->duplicate_pairs, s->coalesced_pairs };
    uint64_t now = rr_now_ns();
    uint32_t i;

    for (i = 0; i < RR_COUNT(sources_of); i++)
        rr_metrics_set(m, RR_M_DOCUMENTS, i, (int64_t)sources_of[i]);
    rr_metrics_set(m, RR_M_TRUNCATED, 0, (int64_t)s->truncated_pairs);
    rr_metrics_set(m, RR_M_TOKENS, 0, (int64_t)s->tokens_done);
    rr_metrics_set(m, RR_M_NONFINITE, 0, (int64_t)s->nonfinite);
    rr_metrics_set(m, RR_M_COALESCED, 0, (int64_t)s->coalesced_pairs);
    rr_metrics_set(m, RR_M_RESCORED, 0, (int64_t)s->rescored_pairs);
    rr_metrics_set(m, RR_M_PARTIAL, 0, (int64_t)s->partial_requests);
    rr_metrics_set(m, RR_M_QUEUE_REQUESTS, 0, (int64_t)s->queue_requests);
    rr_metrics_set(m, RR_M_QUEUE_PAIRS, 0, (int64_t)s->queue_pairs);
    rr_metrics_set(m, RR_M_QUEUE_TOKENS, 0, (int64_t)s->queue_tokens);
    rr_metrics_set(m, RR_M_BATCHES, 0, (int64_t)s->batches_done);
    rr_metrics_set(m, RR_M_BUSY, 0, (int64_t)s->compute_ns);
    rr_metrics_set(m, RR_M_DEVICE_ERRORS, 0, (int64_t)s->device_errors);
    rr_metrics_set(m, RR_M_DEVICE_RETRIES, 0, (int64_t)s->device_retries);
    refresh_cache(m, s);
    if (s->last_batch_ns) {
        double age = now > s->last_batch_ns ? (double)(now - s->last_batch_ns) * 1e-9 : 0;

        rr_metrics_set(m, RR_M_LAST_BATCH, 0, (int64_t)((rr_unix_time() - age) * 1e3));
    }
}

void rr_meters_gpu(struct rr_metrics *m, const struct rr_gpu *gpu)
{
    static const struct rr_gpu none;
    const struct rr_gpu *g = gpu ? gpu : &none;
    uint32_t i;

    rr_metrics_set(m, RR_M_GPU_UTILIZATION, 0, (int64_t)(RR_MAX(g->utilization, 0) * 1e4f));
    rr_metrics_set(m, RR_M_GPU_MEMORY_USED, 0, (int64_t)g->memory_used);
    rr_metrics_set(m, RR_M_GPU_MEMORY, 0, (int64_t)g->memory_total);
    rr_metrics_set(m, RR_M_GPU_TEMPERATURE, 0, (int64_t)RR_MAX(g->celsius, 0));
    rr_metrics_set(m, RR_M_GPU_POWER, 0, (int64_t)(RR_MAX(g->watts, 0) * 1e3f));
    rr_metrics_set(m, RR_M_GPU_REPEATED, 0, (int64_t)g->repeated);
    for (i = 0; i < RR_GPU_THROTTLES; i++)
        rr_metrics_set(m, RR_M_GPU_THROTTLED, i, g->throttled >> i & 1);
}

void rr_meters_refresh(struct rr_metrics *m, const struct rr_stats *stats)
{
    size_t now, peak;
    int i;

    refresh_process(m);
    rr_metrics_set(m, RR_M_FDS, 0, count_entries("/proc/self/fd"));
    rr_metrics_set(m, RR_M_THREADS, 0, count_entries("/proc/self/task"));
    for (i = 0; i < RR_MEM_TAGS; i++) {
        rr_mem_usage((enum rr_mem_tag)i, &now, &peak);
        rr_metrics_set(m, RR_M_MEMORY, (uint32_t)i, (int64_t)now);
    }
    if (stats) refresh_engine(m, stats);
}

/* ---- other forms -------------------------------------------------------------------------- */

static void put_labels(struct rr_buf *out, const struct rr_metric *d)
{
    uint32_t i, k;

    for (i = 0; i < 2 && d->labels[i].n; i++) {
        rr_buf_printf(out, "%s`%s`: ", i ? "; " : "", d->labels[i].name);
        for (k = 0; k < d->labels[i].n; k++)
            rr_buf_printf(out, "%s%s", k ? ", " : "", d->labels[i].values[k]);
    }
}

/* Their labels have the names of the configuration. */
static void put_model_metrics(struct rr_buf *out)
{
#define RR_MODEL_METRIC(name, type, help, value) \
    rr_buf_puts(out, "| `" name "` | " type " | `model`: the names of `--model` | " help " |\n");
#include "server/model_metrics.def"
#undef RR_MODEL_METRIC
#define RR_LANE_METRIC(name, type, help, value) \
    rr_buf_puts(out, "| `" name "` | " type " | `model`, `device` | " help " |\n");
#include "server/lane_metrics.def"
#undef RR_LANE_METRIC
}

void rr_meters_markdown(struct rr_buf *out)
{
    static const char *const types[] = { "counter", "gauge", "histogram" };
    uint32_t i, k;

    fill_names();
    rr_buf_puts(out, "# Metrics of rerankd\n\n"
                     "Made by `rerankd --markdown=metrics` from `src/server/metrics.def`; do not "
                     "edit.\n\n`GET /metrics` gives them as Prometheus text. No label has values "
                     "that clients choose.\n\nBesides these, `rerank_build_info`, "
                     "`rerank_model_info` and `rerank_device_info` are 1 and say in\ntheir labels "
                     "what runs. `--metrics-te` adds the main ones once more under the names of\n"
                     "text-embeddings-inference (`te_request_count` and so on).\n\n"
                     "| Name | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for (i = 0; i < RR_METERS; i++) {
        rr_buf_printf(out, "| `%s` | %s | ", table[i].name, types[table[i].type]);
        put_labels(out, &table[i]);
        rr_buf_printf(out, " | %s |\n", table[i].help);
    }
    put_model_metrics(out);
    rr_buf_puts(out, "\n## Buckets\n\n| Name | Upper bounds |\n|---|---|\n");
    for (i = 0; i < RR_METERS; i++) {
        if (table[i].type != RR_METRIC_HISTOGRAM) continue;
        rr_buf_printf(out, "| `%s` |", table[i].name);
        for (k = 0; k < table[i].n_buckets; k++) rr_buf_printf(out, " %g", table[i].buckets[k]);
        rr_buf_puts(out, " |\n");
    }
}

static void put_tei(struct rr_buf *out, const char *name, const char *type, const char *labels,
                    int64_t value)
{
    rr_buf_printf(out, "# HELP %s As in text-embeddings-inference.\n# TYPE %s %s\n%s%s %lld\n",
                  name, name, type, name, labels, (long long)value);
}

/* Its histograms are left out: they have other bounds, which cannot be made from ours. */
void rr_meters_write_tei(const struct rr_metrics *m, struct rr_buf *out)
{
    static const struct {
        const char *err;
        enum rr_meter_reason reason;
    } failures[] = { { "overloaded", RR_REJECT_QUEUE_FULL },
                     { "validation", RR_REJECT_INVALID },
                     { "batch_size", RR_REJECT_TOO_LARGE },
                     { "inference", RR_REJECT_ERROR } };
    int64_t ok = rr_metrics_value(m, RR_M_DURATION, RR_OUTCOME_OK);
    size_t i;

    put_tei(out, "te_request_count", "counter", "{method=\"batch\"}",
            ok + rr_metrics_value(m, RR_M_DURATION, RR_OUTCOME_ERROR));
    put_tei(out, "te_request_success", "counter", "{method=\"batch\"}", ok);
    rr_buf_puts(out, "# HELP te_request_failure As in text-embeddings-inference.\n"
                     "# TYPE te_request_failure counter\n");
    for (i = 0; i < RR_COUNT(failures); i++)
        rr_buf_printf(out, "te_request_failure{err=\"%s\"} %lld\n", failures[i].err,
                      (long long)rr_metrics_value(m, RR_M_REJECTED, failures[i].reason));
    put_tei(out, "te_predict_count", "counter", "", rr_metrics_value(m, RR_M_DOCUMENTS, 0));
    put_tei(out, "te_queue_size", "gauge", "", rr_metrics_value(m, RR_M_QUEUE_REQUESTS, 0));
}
