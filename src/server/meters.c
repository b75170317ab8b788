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

static const char *const handlers[] = { "rerank",  "root",   "health", "info",   "live", "ready",
                                        "metrics", "models", "about",  "tokens", "none" };
static const char *const statuses[] = { "200", "204", "400", "404", "405",  "413",
                                        "414", "415", "417", "422", "424",  "429",
                                        "499", "500", "503", "504", "other" };
static const char *const dialects[] = { "ragfab",     "tei",     "union",    "cohere",
                                        "jina",       "vllm",    "llamacpp", "infinity",
                                        "xinference", "ollama",  "voyage",   "mixedbread",
                                        "pinecone",   "nim",     "weaviate", "dashscope",
                                        "score",      "predict", "vertex",   "none" };
static const char *const outcomes[] = { "ok", "error", "cancelled" };
static const char *const stages[] = { "parse", "tokenize", "queue", "inference", "serialize" };
static const char *const reasons[] = { "queue_full", "deadline",  "invalid", "too_large",
                                       "draining",   "not_ready", "error" };
static const char *const sources[] = { "model" };
static const char *const kinds[] = { "real" };
static const char *const levels[] = { "error", "warning", "info", "debug" };
static const char *memory_names[RR_MEM_TAGS]; /* filled by open, always with the same names */

static const double seconds[] = { .001, .0025, .005, .01, .025, .05, .075, .1, .15, .2,
                                  .3,   .5,    .75,  1,   1.5,  2.5, 5,    10, 30 };
static const double bytes[] = { 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216 };
static const double counts[] = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000 };

#define LABELS_NONE \
    { \
        { 0 }, \
        { \
            0 \
        } \
    }
#define LABELS_HANDLER_STATUS \
    { \
        { "handler", handlers, RR_COUNT(handlers) }, \
        { \
            "status", statuses, RR_COUNT(statuses) \
        } \
    }
#define LABELS_DIALECT \
    { \
        { "dialect", dialects, RR_COUNT(dialects) }, \
        { \
            0 \
        } \
    }
#define LABELS_OUTCOME \
    { \
        { "status", outcomes, RR_COUNT(outcomes) }, \
        { \
            0 \
        } \
    }
#define LABELS_STAGE \
    { \
        { "stage", stages, RR_COUNT(stages) }, \
        { \
            0 \
        } \
    }
#define LABELS_REASON \
    { \
        { "reason", reasons, RR_COUNT(reasons) }, \
        { \
            0 \
        } \
    }
#define LABELS_SOURCE \
    { \
        { "source", sources, RR_COUNT(sources) }, \
        { \
            0 \
        } \
    }
#define LABELS_KIND \
    { \
        { "kind", kinds, RR_COUNT(kinds) }, \
        { \
            0 \
        } \
    }
#define LABELS_LEVEL \
    { \
        { "level", levels, RR_COUNT(levels) }, \
        { \
            0 \
        } \
    }
#define LABELS_MEMORY \
    { \
        { "use", memory_names, RR_MEM_TAGS }, \
        { \
            0 \
        } \
    }

#define BUCKETS_NONE NULL, 0
#define BUCKETS_SECONDS seconds, RR_COUNT(seconds)
#define BUCKETS_BYTES bytes, RR_COUNT(bytes)
#define BUCKETS_COUNTS counts, RR_COUNT(counts)

static const struct rr_metric table[RR_METERS] = {
#define RR_METRIC(id, type, name, help, scale, labels, buckets) \
    [RR_M_##id] = { RR_METRIC_##type, name, help, scale, LABELS_##labels, BUCKETS_##buckets },
#include "server/metrics.def"
#undef RR_METRIC
};

int rr_meters_open(struct rr_metrics **out, struct rr_error *err)
{
    int i;

    for (i = 0; i < RR_MEM_TAGS; i++) memory_names[i] = rr_mem_tag_name((enum rr_mem_tag)i);
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

static void refresh_engine(struct rr_metrics *m, struct rr_engine *engine)
{
    struct rr_stats s;
    uint64_t now = rr_now_ns();

    rr_engine_stats(engine, &s);
    rr_metrics_set(m, RR_M_DOCUMENTS, 0, (int64_t)s.pairs_done);
    rr_metrics_set(m, RR_M_TRUNCATED, 0, (int64_t)s.truncated_pairs);
    rr_metrics_set(m, RR_M_TOKENS, 0, (int64_t)s.tokens_done);
    rr_metrics_set(m, RR_M_NONFINITE, 0, (int64_t)s.nonfinite);
    rr_metrics_set(m, RR_M_QUEUE_REQUESTS, 0, (int64_t)s.queue_requests);
    rr_metrics_set(m, RR_M_QUEUE_PAIRS, 0, (int64_t)s.queue_pairs);
    rr_metrics_set(m, RR_M_QUEUE_TOKENS, 0, (int64_t)s.queue_tokens);
    rr_metrics_set(m, RR_M_BATCHES, 0, (int64_t)s.batches_done);
    rr_metrics_set(m, RR_M_BUSY, 0, (int64_t)s.compute_ns);
    if (s.last_batch_ns) {
        double age = now > s.last_batch_ns ? (double)(now - s.last_batch_ns) * 1e-9 : 0;

        rr_metrics_set(m, RR_M_LAST_BATCH, 0, (int64_t)((rr_unix_time() - age) * 1e3));
    }
}

void rr_meters_refresh(struct rr_metrics *m, struct rr_engine *engine)
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
    if (engine) refresh_engine(m, engine);
}
