/* SPDX-License-Identifier: Apache-2.0 */
/* bench_texts.c - pairs of exactly known lengths, and the time that scoring them takes.
 * Layer: cli (L6).  Threads: one.
 *
 * Texts are made of words that the model's tokenizer keeps whole. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "cli/bench.h"

enum { QUERY_WORDS = 8, RAGGED_PAIRS = 20, RAGGED_MEAN = 128, LEAST_RUNS = 3 };

/* ---- texts ---------------------------------------------------------------------------------- */

static uint32_t next_random(struct rr_bench_texts *t)
{
    t->random = t->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(t->random >> 33);
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
static int find_words(struct rr_bench_texts *t, struct rr_error *err)
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
        rc = count_tokens(t->engine, text, &one, err);
        snprintf(text, sizeof(text), "%s %s %s %s", candidates[i], candidates[i], candidates[i],
                 candidates[i]);
        if (!rc) rc = count_tokens(t->engine, text, &four, err);
        if (rc) return rc;
        if (one == 1 && four == 4) t->words[t->n_words++] = candidates[i];
    }
    if (t->n_words) return RR_OK;
    return rr_fail(err, RR_ENOTSUP,
                   "the tokenizer of %s splits every common French and English "
                   "word: no text of a known length can be made",
                   t->info->model);
}

static char *make_text(struct rr_bench_texts *t, uint32_t words)
{
    struct rr_buf text;
    size_t len;
    uint32_t i;

    rr_buf_init(&text, RR_MEM_MISC, (size_t)1 << 24);
    for (i = 0; i < words; i++)
        rr_buf_printf(&text, "%s%s", i ? " " : "", t->words[next_random(t) % t->n_words]);
    rr_buf_put(&text, "", 1); /* also an empty text is a string */
    if (text.failed) {
        rr_buf_free(&text);
        return NULL;
    }
    return rr_buf_take(&text, &len);
}

int rr_bench_texts_init(struct rr_bench_texts *t, struct rr_engine *engine, struct rr_error *err)
{
    struct rr_text doc = { "", 0 };
    struct rr_request req = { .documents = &doc, .n_documents = 1 };
    struct rr_result *result;
    char *query;
    int rc;

    memset(t, 0, sizeof(*t));
    t->engine = engine;
    t->info = rr_engine_info(engine);
    t->random = 1;
    rc = find_words(t, err);
    if (rc) return rc;
    query = make_text(t, QUERY_WORDS);
    if (!query) return rr_fail(err, RR_ENOMEM, "out of memory");
    snprintf(t->query, sizeof(t->query), "%s", query);
    rr_free(query);
    req.query = rr_text(t->query);
    rc = rr_score(engine, &req, &result, err);
    if (rc) return rc;
    t->fixed = result->scores[0].tokens;
    rr_result_free(result);
    return RR_OK;
}

/* ---- shapes --------------------------------------------------------------------------------- */

/* The z that a standard normal variable is below with probability p, by bisection. */
static double normal_quantile(double p)
{
    double low = -8, high = 8;
    int i;

    for (i = 0; i < 60; i++) {
        double z = (low + high) / 2;

        if (0.5 * erfc(-z / sqrt(2)) < p)
            low = z;
        else
            high = z;
    }
    return low;
}

/* Quantiles instead of draws: a typical list, and the same for every engine it is compared with. */
static void ragged(const struct rr_bench_texts *t, double sigma, struct rr_shape *s)
{
    uint32_t i;

    s->n = RAGGED_PAIRS;
    for (i = 0; i < s->n; i++) {
        double z = normal_quantile((i + 0.5) / s->n);
        double len = floor(RAGGED_MEAN * exp(sigma * z - sigma * sigma / 2) + 0.5);

        s->tokens[i] = (uint32_t)fmin(fmax(len, t->fixed + 1), t->info->max_length);
    }
}

int rr_bench_shape_parse(const struct rr_bench_texts *t, const char *word, struct rr_shape *s,
                         struct rr_error *err)
{
    unsigned long n, tokens;
    char *end;
    uint32_t i;

    memset(s, 0, sizeof(*s));
    snprintf(s->name, sizeof(s->name), "%.31s", word);
    if (strncmp(word, "ragged", 6) == 0) {
        double sigma = word[6] ? strtod(word + 6, &end) / 10 : 0.4;

        if (sigma > 0 && sigma < 1.5 && (!word[6] || !*end)) {
            ragged(t, sigma, s);
            return RR_OK;
        }
    }
    n = strtoul(word, &end, 10);
    tokens = *end == 'x' ? strtoul(end + 1, &end, 10) : 0;
    if (*end || n < 1 || n > RR_BENCH_MAX_DOCS || tokens <= t->fixed ||
        tokens > t->info->max_length)
        return rr_fail(err, RR_EINVAL,
                       "shape \"%.40s\": expected ragged, or NxT with 1 to %d documents of %" PRIu32
                       " to %" PRIu32 " tokens",
                       word, RR_BENCH_MAX_DOCS, t->fixed + 1, t->info->max_length);
    s->n = (uint32_t)n;
    for (i = 0; i < s->n; i++) s->tokens[i] = (uint32_t)tokens;
    return RR_OK;
}

/* ---- measuring ------------------------------------------------------------------------------ */

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

/* Of n values, n >= 1, which are sorted. */
static double median(double *values, uint32_t n)
{
    qsort(values, n, sizeof(*values), by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void rr_times_of(struct rr_times *out, double *ms, uint32_t n)
{
    double sum = 0;
    uint32_t i;

    out->median = median(ms, n);
    for (i = 0; i < n; i++) sum += ms[i];
    out->runs = n;
    out->mean = sum / n;
    out->best = ms[0];
    out->p95 = ms[(n * 95 + 99) / 100 - 1];
}

/* Another machine's work may take half of the processor at any time, from a run as from the loops
 * that measure the peak: a run is compared with the mean of right before and right after. */
static void note_peak(const struct rr_shape *s, const struct rr_bench_runs *how, double ms,
                      double *before, double *peak, double *share)
{
    double after = how->peak ? how->peak(how->user) : 0;

    *peak = (*before + after) / 2;
    *share = *peak > 0 ? s->ops / (ms / 1e3) / *peak : 0;
    *before = after;
}

static int repeat(struct rr_bench_texts *t, const struct rr_request *req, struct rr_shape *s,
                  const struct rr_bench_runs *how, struct rr_error *err)
{
    static double ms[RR_BENCH_MAX_RUNS], peak[RR_BENCH_MAX_RUNS], share[RR_BENCH_MAX_RUNS];
    uint64_t begin = rr_now_ns();
    uint32_t runs = 0, i;
    double before = 0;

    s->ops = 0;
    for (i = 0; i < s->n; i++) s->ops += pair_ops(t->info, s->tokens[i]);

    for (i = how->warm ? 0 : 1; i <= how->runs; i++) {
        struct rr_result *result;
        uint64_t start;
        int rc;

        if (how->tick) how->tick(how->user, s, i);
        if (i && !runs && how->peak) before = how->peak(how->user);
        start = rr_now_ns();
        rc = rr_score(t->engine, req, &result, err);
        if (rc) return rc;
        if (i) {
            ms[runs] = (double)(rr_now_ns() - start) / 1e6;
            note_peak(s, how, ms[runs], &before, &peak[runs], &share[runs]);
            runs++;
        }
        s->total_tokens = result->tokens;
        rr_result_free(result);
        if (runs >= LEAST_RUNS && (double)(rr_now_ns() - begin) / 1e9 > how->seconds) break;
    }
    rr_times_of(&s->times, ms, runs);
    s->peak = median(peak, runs);
    s->share = median(share, runs);
    return RR_OK;
}

int rr_bench_measure(struct rr_bench_texts *t, struct rr_shape *s, const struct rr_bench_runs *how,
                     struct rr_error *err)
{
    struct rr_text docs[RR_BENCH_MAX_DOCS];
    struct rr_request req = {
        .query = rr_text(t->query), .documents = docs, .n_documents = s->n, .no_cache = true
    };
    uint32_t i, made = 0;
    int rc = RR_OK;

    for (; made < s->n && !rc; made++) {
        char *text = make_text(t, s->tokens[made] - t->fixed);

        docs[made] = (struct rr_text){ text, text ? strlen(text) : 0 };
        if (!text) rc = rr_fail(err, RR_ENOMEM, "out of memory");
    }
    if (!rc) rc = repeat(t, &req, s, how, err);
    for (i = 0; i < made; i++) rr_free((char *)(uintptr_t)docs[i].data);
    return rc;
}
