/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench.c - "rerankd bench": how fast a model is on this machine, without HTTP and without the
 * cache.  Layer: cli (L6).  Threads: one.
 *
 * A shape is N documents of T tokens a pair.  Texts are made of words that the model's tokenizer
 * keeps whole, so that every pair has exactly the length asked for. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "rerank.h"

enum { QUERY_WORDS = 8, MAX_RUNS = 1000, MAX_SHAPES = 64 };

struct own {
    const char *shapes, *format;
    uint32_t runs;
    double seconds;
};

#define OWN(name, def, type, field, min, max, arg, help) \
    { \
        name, "", def, RR_OPTION_##type, offsetof(struct own, field), min, max, "BENCH", arg, help \
    }

static const struct rr_option own_options[] = {
    OWN("shapes", "1x128,20x64,20x128,20x256,20x512,50x128,ragged", STR, shapes, 0, 0, "LIST",
        "NxT: N documents of T tokens; ragged: 20 documents, lognormal lengths of mean 128 and "
        "sigma 0.4; raggedX: with sigma 0.X."),
    OWN("runs", "7", U32, runs, 1, MAX_RUNS, "N",
        "Measured runs of each shape, after one that is not."),
    OWN("seconds", "60", SECONDS, seconds, 0, 86400, "SECONDS",
        "Stop repeating a shape after so long, three runs at least."),
    OWN("format", "table", STR, format, 0, 0, "table|csv|jsonl", "Form of the output."),
};

struct bench {
    const struct own *own;
    struct rr_engine *engine;
    const struct rr_info *info;
    const char *words[32]; /* one token each */
    size_t n_words;
    uint32_t fixed; /* tokens of a pair without its document */
    char query[512];
    uint64_t random; /* state of a small generator: the same texts in every run */
};

/* ---- texts ---------------------------------------------------------------------------------- */

static uint32_t next_random(struct bench *b)
{
    b->random = b->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(b->random >> 33);
}

static int count_tokens(struct rr_engine *e, const char *text, size_t *n, struct rr_error *err)
{
    struct rr_tokens *tokens;
    int rc = rr_tokenize(e, rr_text(text), false, &tokens, err);

    if (rc) return rc;
    *n = tokens->n;
    rr_tokens_free(tokens);
    return RR_OK;
}

/* Keeps the candidates of which three in a row, after another one, are three tokens. */
static int find_words(struct bench *b, struct rr_error *err)
{
    static const char *const candidates[] = {
        "de",  "la",   "le",  "et",  "les",  "des", "en",   "un", "du",  "une",
        "est", "pour", "que", "qui", "dans", "par", "sur",  "au", "the", "of",
        "and", "to",   "in",  "is",  "for",  "a",   "with", "on",
    };
    size_t i;

    for (i = 0; i < RR_COUNT(candidates); i++) {
        char text[64];
        size_t one, four;
        int rc;

        snprintf(text, sizeof(text), "%s", candidates[i]);
        rc = count_tokens(b->engine, text, &one, err);
        snprintf(text, sizeof(text), "%s %s %s %s", candidates[i], candidates[i], candidates[i],
                 candidates[i]);
        if (!rc) rc = count_tokens(b->engine, text, &four, err);
        if (rc) return rc;
        if (one == 1 && four == 4) b->words[b->n_words++] = candidates[i];
    }
    if (b->n_words) return RR_OK;
    return rr_fail(err, RR_ENOTSUP,
                   "the tokenizer of %s splits every common French and English "
                   "word: no text of a known length can be made",
                   b->info->model);
}

static char *make_text(struct bench *b, uint32_t words)
{
    struct rr_buf text;
    size_t len;
    uint32_t i;

    rr_buf_init(&text, RR_MEM_MISC, (size_t)1 << 24);
    for (i = 0; i < words; i++)
        rr_buf_printf(&text, "%s%s", i ? " " : "", b->words[next_random(b) % b->n_words]);
    rr_buf_put(&text, "", 1); /* also an empty text is a string */
    if (text.failed) {
        rr_buf_free(&text);
        return NULL;
    }
    return rr_buf_take(&text, &len);
}

/* Query, and how many tokens a pair has besides its document. */
static int prepare(struct bench *b, struct rr_error *err)
{
    struct rr_text doc = { "", 0 };
    struct rr_request req = { .documents = &doc, .n_documents = 1 };
    struct rr_result *result;
    char *query;
    int rc = find_words(b, err);

    if (rc) return rc;
    query = make_text(b, QUERY_WORDS);
    if (!query) return rr_fail(err, RR_ENOMEM, "out of memory");
    snprintf(b->query, sizeof(b->query), "%s", query);
    rr_free(query);
    req.query = rr_text(b->query);
    rc = rr_score(b->engine, &req, &result, err);
    if (rc) return rc;
    b->fixed = result->scores[0].tokens;
    rr_result_free(result);
    return RR_OK;
}

/* ---- shapes --------------------------------------------------------------------------------- */

/* A normal deviate by the sum of twelve uniform ones: enough for lengths. */
static double normal(struct bench *b)
{
    double sum = -6;
    int i;

    for (i = 0; i < 12; i++) sum += next_random(b) / 2147483648.0;
    return sum;
}

static int parse_shape(struct bench *b, const char *word, struct rr_shape *s, struct rr_error *err)
{
    unsigned long n, t;
    char *end;
    uint32_t i;

    memset(s, 0, sizeof(*s));
    snprintf(s->name, sizeof(s->name), "%.31s", word);
    if (strncmp(word, "ragged", 6) == 0) {
        double sigma = word[6] ? strtod(word + 6, &end) / 10 : 0.4;

        if (sigma > 0 && sigma < 1.5 && (!word[6] || !*end)) {
            s->n = 20;
            for (i = 0; i < s->n; i++) {
                double len = 128 * exp(sigma * normal(b) - sigma * sigma / 2);

                s->tokens[i] = (uint32_t)fmin(fmax(len, b->fixed + 1), b->info->max_length);
            }
            return RR_OK;
        }
    }
    n = strtoul(word, &end, 10);
    t = *end == 'x' ? strtoul(end + 1, &end, 10) : 0;
    if (*end || n < 1 || n > RR_BENCH_MAX_DOCS || t <= b->fixed || t > b->info->max_length)
        return rr_fail(err, RR_EINVAL,
                       "shape \"%.40s\": expected ragged, or NxT with 1 to %d documents of %" PRIu32
                       " to %" PRIu32 " tokens",
                       word, RR_BENCH_MAX_DOCS, b->fixed + 1, b->info->max_length);
    s->n = (uint32_t)n;
    for (i = 0; i < s->n; i++) s->tokens[i] = (uint32_t)t;
    return RR_OK;
}

/* Multiplications and additions of one pair of t tokens, as a full pass over all rows would make
 * them: the field's usual count, whatever is saved. */
static double pair_ops(const struct rr_info *m, double t)
{
    double h = m->hidden, i = m->intermediate;

    return m->layers * (t * 2 * (4 * h * h + 2 * h * i) + 4 * h * t * t);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static int measure(struct bench *b, const struct rr_request *req, struct rr_shape *s,
                   struct rr_error *err)
{
    static double ms[MAX_RUNS];
    uint64_t begin = rr_now_ns();
    uint32_t runs = 0, i;

    for (i = 0; i <= b->own->runs; i++) {
        struct rr_result *result;
        uint64_t start = rr_now_ns();
        int rc = rr_score(b->engine, req, &result, err);

        if (rc) return rc;
        if (i) ms[runs++] = (double)(rr_now_ns() - start) / 1e6; /* the first warms up */
        s->total_tokens = result->tokens;
        rr_result_free(result);
        if (runs >= 3 && (double)(rr_now_ns() - begin) / 1e9 > b->own->seconds) break;
    }
    qsort(ms, runs, sizeof(*ms), by_value);
    s->runs = runs;
    s->best_ms = ms[0];
    s->median_ms = runs % 2 ? ms[runs / 2] : (ms[runs / 2 - 1] + ms[runs / 2]) / 2;
    s->p95_ms = ms[(runs * 95 + 99) / 100 - 1];
    for (i = 0; i < s->n; i++) s->ops += pair_ops(b->info, s->tokens[i]);
    return RR_OK;
}

static int run_shape(struct bench *b, struct rr_shape *s, struct rr_error *err)
{
    struct rr_text docs[RR_BENCH_MAX_DOCS];
    struct rr_request req = {
        .query = rr_text(b->query), .documents = docs, .n_documents = s->n, .no_cache = true
    };
    uint32_t i, made = 0;
    int rc = RR_OK;

    for (; made < s->n && !rc; made++) {
        char *text = make_text(b, s->tokens[made] - b->fixed);

        docs[made] = (struct rr_text){ text, text ? strlen(text) : 0 };
        if (!text) rc = rr_fail(err, RR_ENOMEM, "out of memory");
    }
    if (!rc) rc = measure(b, &req, s, err);
    for (i = 0; i < made; i++) rr_free((char *)(uintptr_t)docs[i].data);
    return rc;
}

static int run_shapes(struct bench *b, enum rr_bench_format format, struct rr_error *err)
{
    static struct rr_shape shapes[MAX_SHAPES];
    const char *p = b->own->shapes;
    uint32_t n = 0, i;

    while (*p) {
        size_t len = strcspn(p, ",");
        char word[64];
        int rc;

        if (len >= sizeof(word) || n == MAX_SHAPES)
            return rr_fail(err, RR_EINVAL, "--shapes: a word is too long, or more than %d shapes",
                           MAX_SHAPES);
        memcpy(word, p, len);
        word[len] = 0;
        rc = parse_shape(b, word, &shapes[n++], err);
        if (rc) return rc;
        p += len + (p[len] == ',');
    }
    rr_bench_head(format, b->info);
    for (i = 0; i < n; i++) {
        int rc = run_shape(b, &shapes[i], err);

        if (rc) return rc;
        rr_bench_row(format, b->info, &shapes[i]);
    }
    return RR_OK;
}

/* ---- command -------------------------------------------------------------------------------- */

static int run_bench(const struct rr_settings *settings, const void *fields, char **words,
                     int n_words)
{
    struct bench b = { .own = fields, .random = 1 };
    enum rr_bench_format format;
    struct rr_options opt;
    struct rr_error err = { 0 };
    int rc;

    (void)words;
    (void)n_words;
    if (!rr_bench_format_parse(b.own->format, &format)) {
        rr_cli_complain("bench", "--format: found \"%.40s\", expected table, csv or jsonl",
                        b.own->format);
        return RR_EXIT_USAGE;
    }
    rr_settings_engine(settings, &opt);
    opt.cache_bytes = 0;
    rc = rr_open(&b.engine, &opt, &err);
    if (!rc) {
        b.info = rr_engine_info(b.engine);
        rc = prepare(&b, &err);
        if (!rc) rc = run_shapes(&b, format, &err);
        rr_close(b.engine);
    }
    if (!rc) return RR_EXIT_OK;
    rr_cli_complain("bench", "%s", err.msg);
    return rr_exit_code(rc);
}

const struct rr_command rr_cmd_bench = {
    .name = "bench",
    .args = "",
    .summary = "measure latency and throughput of a model on this machine",
    .about = "Scores made-up pairs of exact lengths, without HTTP and without the cache, and\n"
             "prints best, median and 95th percentile. Leave the machine idle meanwhile.",
    .sections = "MODEL DEVICE",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .run = run_bench,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
