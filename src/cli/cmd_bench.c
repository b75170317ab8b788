/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench.c - "rerankd bench": how fast a model is on this machine, without HTTP and without the
 * cache; with --url, how fast a running server is.  Layer: cli (L6).  Threads: one. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "rerank.h"

enum { MAX_SHAPES = 64, QUICK_RUNS = 3, QUICK_SECONDS = 5 };

#define ALL_SHAPES \
    "1x64,1x128,1x256,1x512,20x64,20x128,20x256,20x512,50x64,50x128,50x256,50x512," \
    "ragged2,ragged4,ragged6"
#define QUICK_SHAPES "1x128,20x64,20x128,ragged4"

struct own {
    const char *shapes, *format, *svg, *url, *requests, *concurrency, *key_file;
    uint32_t runs;
    double seconds;
    bool quick, as_is, plan;
    struct rr_bench_plan p;
};

static const struct rr_option own_options[] = {
    RR_OWN(
        "shapes", "", STR, shapes, "LIST",
        "NxT: N documents of T tokens; ragged: 20 documents, lognormal lengths of mean 128 and "
        "sigma 0.4; raggedX: with sigma 0.X. Empty: 1, 20 and 50 documents of 64 to 512 tokens and "
        "three ragged ones. -: one a line from standard input, each measured once, at once."),
    RR_OWN("quick", "false", BOOL, quick, "",
           "Four shapes, three runs each, unless --shapes, --runs or --seconds say otherwise."),
    RR_OWN_BETWEEN(
        "runs", "0", U32, runs, 0, RR_BENCH_MAX_RUNS, "N",
        "Measured runs of each shape, after one that is not; 0: 7. With --url: requests, 0: 40."),
    RR_OWN_BETWEEN("seconds", "0", SECONDS, seconds, 0, 86400, "SECONDS",
                   "Stop repeating a shape after so long, three runs at least; 0: 30."),
    RR_OWN("format", "table", STR, format, "table|csv|json|jsonl", "Form of the output."),
    RR_OWN("svg", "", STR, svg, "FILE", "Also draw latency and share of the peak."),
    RR_OWN("url", "", STR, url, "URL",
           "Measure the running server at URL (with its path, http://HOST:PORT/rerank) instead."),
    RR_OWN("requests", "", STR, requests, "FILE",
           "With --url: a JSON body, or one a line; empty: built-in queries and documents."),
    RR_OWN("concurrency", "1,4,16", STR, concurrency, "LIST",
           "With --url: how many requests are under way at once."),
    RR_OWN(
        "as-is", "false", BOOL, as_is, "",
        "With --url: send the bodies unchanged, so that a cache may answer; otherwise each query "
        "gets a number."),
    RR_OWN("key-file", "", STR, key_file, "FILE",
           "With --url: the server's API key, sent as a bearer token."),
    RR_OWN("plan", "false", BOOL, plan, "",
           "Instead: how many machines a load needs and what they cost; the options below."),
    RR_OWN(
        "pairs-per-s", "0", STR, p.rate, "X",
        "What this machine computes; 0: measure it now, with lists of 20 and 128 tokens a pair."),
    RR_OWN("users", "0", STR, p.users, "N", "Load: people at the same time, at the peak."),
    RR_OWN("think", "30", STR, p.think, "SECONDS", "Each of them asks once in so long."),
    RR_OWN("requests-per-s", "0", STR, p.requests, "X", "Or the load on average."),
    RR_OWN("pairs-per-day", "0", STR, p.day, "X", "Or in pairs."),
    RR_OWN("candidates", "20", STR, p.candidates, "N", "Documents of a request."),
    RR_OWN("peak", "3", STR, p.peak, "X", "The busiest hour by the average."),
    RR_OWN("hits", "0", STR, p.hits, "SHARE", "Share of the pairs that a cache answers."),
    RR_OWN("goal", "500", STR, p.goal, "MS", "95th percentile of the latency, at the peak."),
    RR_OWN("most-use", "0.8", STR, p.most_use, "SHARE", "Of the machines' time, at the peak."),
    RR_OWN("price", "0", STR, p.price, "X", "This machine's a month; 0: it is there anyway."),
    RR_OWN("budget", "0", STR, p.budget, "X", "Most money a month; 0: any."),
    RR_OWN("offers", "", STR, p.offers, "FILE",
           "JSON, machines to choose from with prices and rates; empty: five with GPUs."),
};

struct bench {
    enum rr_bench_format format;
    struct rr_engine *engine;
    struct rr_bench_host host;
    struct rr_bench_texts texts;
    struct rr_bench_runs how;
    bool progress;
    bool drawn;     /* what failed is the picture */
    uint32_t at, n; /* shape in hand, from 1, of so many */
};

static void show_progress(void *user, const struct rr_shape *s, uint32_t run)
{
    const struct bench *b = user;

    if (!b->progress) return;
    fprintf(stderr, "\r[%u/%u] %s  %u/%u\033[K", b->at, b->n, s->name, run, b->how.runs);
    fflush(stderr);
}

static double measure_peak(void *user)
{
    const struct bench *b = user;
    const struct rr_info *m = b->host.info;

    return rr_host_peak(m->isa, m->dtype, m->threads);
}

static int measure_shape(struct bench *b, struct rr_shape *s, struct rr_error *err)
{
    int rc;

    b->at++;
    rc = rr_bench_measure(&b->texts, s, &b->how, err);
    if (b->progress) fputs("\r\033[K", stderr);
    if (!rc) rr_bench_row(b->format, &b->host, s, b->at == 1);
    return rc;
}

/* lenient: a shape that the model cannot take is left out. */
static int parse_shapes(struct bench *b, const char *list, bool lenient, struct rr_shape *shapes,
                        struct rr_error *err)
{
    const char *p = list;

    while (*p) {
        size_t len = strcspn(p, ",");
        char word[64];
        int rc;

        if (len >= sizeof(word) || b->n == MAX_SHAPES)
            return rr_fail(err, RR_EINVAL, "--shapes: a word is too long, or more than %d shapes",
                           MAX_SHAPES);
        memcpy(word, p, len);
        word[len] = 0;
        rc = rr_bench_shape_parse(&b->texts, word, &shapes[b->n], err);
        if (rc && !lenient) return rc;
        b->n += rc == RR_OK;
        p += len + (p[len] == ',');
    }
    return RR_OK;
}

static int run_list(struct bench *b, const struct own *own, struct rr_error *err)
{
    const char *list = *own->shapes ? own->shapes : own->quick ? QUICK_SHAPES : ALL_SHAPES;
    struct rr_shape *shapes = rr_calloc(RR_MEM_MISC, MAX_SHAPES, sizeof(*shapes));
    int rc;
    uint32_t i;

    if (!shapes) return rr_fail(err, RR_ENOMEM, "out of memory");
    if (b->host.peak > 0) b->how.peak = measure_peak;
    rc = parse_shapes(b, list, !*own->shapes, shapes, err);
    if (!rc) {
        rr_bench_head(b->format, &b->host);
        for (i = 0; i < b->n && !rc; i++) rc = measure_shape(b, &shapes[i], err);
        if (!rc) rr_bench_tail(b->format, &b->host);
    }
    if (!rc && *own->svg) {
        rc = rr_bench_svg(own->svg, &b->host, shapes, b->n, err);
        b->drawn = true;
    }
    rr_free(shapes);
    return rc;
}

/* Answers each line at once: for comparisons with others that take turns on the same machine. */
static int run_turns(struct bench *b, struct rr_error *err)
{
    static struct rr_shape shape;
    char line[64];
    int rc = RR_OK;

    b->how.runs = 1;
    b->how.warm = false;
    b->progress = false;
    rr_bench_head(b->format, &b->host);
    while (!rc && fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        rc = rr_bench_shape_parse(&b->texts, line, &shape, err);
        if (!rc) rc = measure_shape(b, &shape, err);
    }
    if (!rc) rr_bench_tail(b->format, &b->host);
    return rc;
}

static int open_engine(struct bench *b, const struct rr_settings *settings, struct rr_error *err)
{
    struct rr_options opt;
    uint64_t start = rr_now_ns();
    int rc;

    rr_settings_engine(settings, &opt);
    opt.cache_bytes = 0;
    opt.shared_cache = NULL;
    rc = rr_open(&b->engine, &opt, err);
    if (rc) return rc;
    b->host.open_ms = (double)(rr_now_ns() - start) / 1e6;
    b->host.info = rr_engine_info(b->engine);
    if (strcmp(b->host.info->device, "cpu") == 0) b->host.peak = measure_peak(b);
    return rr_bench_texts_init(&b->texts, b->engine, err);
}

static int run_local(const struct rr_settings *settings, const struct own *own,
                     enum rr_bench_format format)
{
    struct bench b = { .format = format };
    struct rr_error err = { 0 };
    int rc;

    b.how = (struct rr_bench_runs){ .warm = true, .tick = show_progress, .user = &b };
    b.how.runs = own->runs ? own->runs : own->quick ? QUICK_RUNS : 7;
    b.how.seconds = own->seconds > 0 ? own->seconds : own->quick ? QUICK_SECONDS : 30;
    b.progress = rr_cli_is_terminal(stderr);
    rc = open_engine(&b, settings, &err);
    if (!rc && strcmp(own->shapes, "-") == 0)
        rc = run_turns(&b, &err);
    else if (!rc)
        rc = run_list(&b, own, &err);
    rr_close(b.engine);
    if (!rc) return RR_EXIT_OK;
    rr_cli_complain("bench", "%s", err.msg);
    return b.drawn ? rr_exit_code_of_output(rc) : rr_exit_code(rc);
}

/* ---- plan ----------------------------------------------------------------------------------- */

#define PLAN_SHAPE "ragged4" /* 20 documents, 128 tokens a pair on average, of unequal lengths */

struct plan_run {
    const struct rr_settings *settings;
    const struct own *own;
};

static int measure_rate(void *user, double *pairs_per_s, bool *gpu, char *how, size_t cap,
                        struct rr_error *err)
{
    const struct plan_run *run = user;
    static struct rr_shape shape;
    struct bench b = { .how = { .runs = run->own->runs ? run->own->runs : 7,
                                .seconds = 30,
                                .warm = true,
                                .tick = show_progress,
                                .user = &b } };
    int rc = open_engine(&b, run->settings, err);

    if (!rc) rc = rr_bench_shape_parse(&b.texts, PLAN_SHAPE, &shape, err);
    if (!rc) rc = rr_bench_measure(&b.texts, &shape, &b.how, err);
    if (!rc) {
        *pairs_per_s = shape.n / (shape.times.median / 1e3);
        *gpu = strcmp(b.host.info->device, "cpu") != 0;
        snprintf(how, cap, "measured: %.60s, %s, %s, %" PRIu32 " threads", b.host.info->model,
                 b.host.info->dtype, b.host.info->device_name, b.host.info->threads);
    }
    rr_close(b.engine);
    return rc;
}

static int run_plan(const struct rr_settings *settings, const struct own *own,
                    enum rr_bench_format format)
{
    struct plan_run run = { settings, own };
    struct rr_bench_plan plan = own->p;

    if (format != RR_BENCH_TABLE && format != RR_BENCH_JSON) {
        rr_cli_complain("bench", "--plan: --format is table or json");
        return RR_EXIT_USAGE;
    }
    plan.json = format == RR_BENCH_JSON;
    return rr_bench_plan(&plan, measure_rate, &run);
}

/* ---- command -------------------------------------------------------------------------------- */

static int run_bench(const struct rr_settings *settings, const void *fields, char **words,
                     int n_words)
{
    const struct own *own = fields;
    enum rr_bench_format format;

    (void)words;
    (void)n_words;
    if (!rr_bench_format_parse(own->format, &format)) {
        rr_cli_complain("bench", "--format: found \"%.40s\", expected table, csv, json or jsonl",
                        own->format);
        return RR_EXIT_USAGE;
    }
    if (own->plan) return run_plan(settings, own, format);
    if (*own->url) {
        struct rr_bench_url url = { own->url,
                                    own->requests,
                                    own->concurrency,
                                    format,
                                    own->runs ? own->runs : 40,
                                    own->seconds > 0 ? own->seconds : 30,
                                    own->as_is,
                                    own->key_file };

        return rr_bench_url(&url);
    }
    return run_local(settings, own, format);
}

const struct rr_command rr_cmd_bench = {
    .name = "bench",
    .args = "",
    .summary = "measure latency and throughput of a model on this machine",
    .about = "Scores made-up pairs of exact lengths, without HTTP and without the cache, and\n"
             "prints best, median and 95th percentile, rates, and the share of the processor's\n"
             "peak, which it measures itself, before and after each run, since others may have\n"
             "a share of a processor. Leave the machine idle meanwhile. With --url it\n"
             "measures a running server over HTTP instead: latency for 20 and 50 documents,\n"
             "and throughput.  Exit status 1: some requests failed.  With --plan it says how many\n"
             "machines a load needs.",
    .sections = "MODEL DEVICE",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .run = run_bench,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
