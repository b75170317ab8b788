/* SPDX-License-Identifier: Apache-2.0 */
/* extras.c - see extras.h. */
#include "server/extras.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/text.h"
#include "server/fields.h"

#define MAX_TIMEOUT_MS (24 * 3600 * 1000)

/* ---- requests ----------------------------------------------------------------------------- */

/* "high", "normal", "low"; or, as Cohere and vLLM have it, a number: 0 is usual, more is later. */
static int parse_priority(struct rr_fields *f, const json_t *obj, const char *where)
{
    static const struct {
        const char *word;
        enum rr_priority priority;
    } words[] = { { "high", RR_PRIORITY_HIGH },
                  { "normal", RR_PRIORITY_NORMAL },
                  { "low", RR_PRIORITY_LOW } };
    const json_t *v = rr_fields_get(obj, "priority");
    enum rr_priority *out = &f->ask->extras.priority;
    char path[RR_FIELD_PATH];
    size_t i;

    if (!v) return 0;
    rr_fields_path(path, where, "priority");
    if (json_is_integer(v)) {
        json_int_t n = json_integer_value(v);

        *out = n > 0 ? RR_PRIORITY_LOW : n < 0 ? RR_PRIORITY_HIGH : RR_PRIORITY_NORMAL;
        return 0;
    }
    if (!json_is_string(v)) return rr_fields_wrong_type(f, path, v, "a string or an integer");
    for (i = 0; i < RR_COUNT(words); i++) {
        if (strcasecmp(json_string_value(v), words[i].word) != 0) continue;
        *out = words[i].priority;
        return 0;
    }
    return rr_problem_field(f->problem, path, "enum",
                            "must be \"high\", \"normal\" or \"low\", or an integer");
}

static int parse_pooling(struct rr_fields *f, const json_t *window, const char *where)
{
    static const char *const words[] = {
        [RR_POOL_MAX_SCORE] = "max", [RR_POOL_MEAN] = "mean", [RR_POOL_FIRST] = "first"
    };
    struct rr_text word = { 0 };
    char path[RR_FIELD_PATH];
    size_t i;

    if (rr_fields_text(f, window, where, "pooling", false, &word)) return -1;
    if (!word.data) return 0;
    for (i = 0; i < RR_COUNT(words); i++) {
        if (!rr_text_is(word, words[i])) continue;
        f->ask->extras.window.pooling = (enum rr_pooling)i;
        return 0;
    }
    rr_fields_path(path, where, "pooling");
    return rr_problem_field(f->problem, path, "enum", "must be \"max\", \"mean\" or \"first\"");
}

static int parse_window(struct rr_fields *f, const json_t *obj, const char *where)
{
    const json_t *v = rr_fields_get(obj, "window");
    struct rr_window *w = &f->ask->extras.window;
    int64_t size = 0, stride = 0;
    char path[RR_FIELD_PATH], member[RR_FIELD_PATH];
    bool has = false;

    if (!v) return 0;
    rr_fields_path(path, where, "window");
    if (!json_is_object(v)) return rr_fields_wrong_type(f, path, v, "an object");
    if (rr_fields_int(f, v, path, "size", 1, INT32_MAX, &has, &size)) return -1;
    rr_fields_path(member, path, "size");
    if (!has) return rr_problem_field(f->problem, member, "missing", "Field required");
    if (rr_fields_int(f, v, path, "stride", 1, size, NULL, &stride)) return -1;
    *w = (struct rr_window){ .size = (uint32_t)size, .stride = (uint32_t)stride };
    return parse_pooling(f, v, path);
}

int rr_extras_parse(struct rr_fields *f, const json_t *obj, const char *where)
{
    struct rr_extras *e = &f->ask->extras;
    int64_t timeout_ms = 0, exact = (int64_t)e->exact_top_k;

    if (rr_fields_number(f, obj, where, "score_threshold", &e->has_threshold, &e->threshold) ||
        rr_fields_bool(f, obj, where, "return_logits", &e->logits) ||
        rr_fields_bool(f, obj, where, "explain", &e->explain) ||
        rr_fields_bool(f, obj, where, "no_cache", &e->no_cache) ||
        rr_fields_bool(f, obj, where, "allow_partial", &e->allow_partial) ||
        rr_fields_int(f, obj, where, "timeout_ms", 1, MAX_TIMEOUT_MS, NULL, &timeout_ms) ||
        rr_fields_int(f, obj, where, "exact_top_k", 0, INT32_MAX, NULL, &exact) ||
        parse_priority(f, obj, where) || parse_window(f, obj, where))
        return -1;
    if (timeout_ms) e->timeout_ns = (uint64_t)timeout_ms * RR_MILLISECOND;
    e->exact_top_k = (size_t)exact;
    return 0;
}

bool rr_timeout_parse(const char *text, uint64_t *ns)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = { { "", 1 }, { "s", 1 }, { "ms", 1e-3 }, { "m", 60 } };
    double value = 0, place = 1;
    const char *p = text;
    size_t i;

    for (; *p >= '0' && *p <= '9' && p - text < 10; p++) value = value * 10 + (*p - '0');
    if (p == text) return false;
    if (*p == '.') /* by hand: strtod would follow the locale */
        for (p++; *p >= '0' && *p <= '9'; p++) value += (*p - '0') * (place /= 10);
    for (i = 0; i < RR_COUNT(units); i++) {
        double seconds = value * units[i].seconds;

        if (strcmp(p, units[i].name) != 0) continue;
        *ns = (uint64_t)(fmin(seconds, MAX_TIMEOUT_MS * 1e-3) * 1e9);
        return *ns > 0;
    }
    return false;
}

/* ---- replies ------------------------------------------------------------------------------ */

bool rr_extras_any(const struct rr_ask *ask)
{
    return ask->extras.logits || ask->extras.window.size || ask->extras.explain;
}

static void put_key(struct rr_buf *out, bool spaced, bool first, const char *key)
{
    rr_buf_printf(out, "%s\"%s\":%s", first ? "" : spaced ? ", " : ",", key, spaced ? " " : "");
}

static void put_count(struct rr_buf *out, bool spaced, bool first, const char *key, uint64_t n)
{
    put_key(out, spaced, first, key);
    rr_buf_printf(out, "%llu", (unsigned long long)n);
}

static void put_bool(struct rr_buf *out, bool spaced, const char *key, bool yes)
{
    put_key(out, spaced, false, key);
    rr_buf_puts(out, yes ? "true" : "false");
}

/* Characters before the byte at end: what a language whose strings are Unicode calls the offset. */
static size_t characters(struct rr_text t, size_t end)
{
    size_t n = 0, i;

    for (i = 0; i < RR_MIN(end, t.len); i++) n += ((unsigned char)t.data[i] & 0xC0) != 0x80;
    return n;
}

/* The window whose score this is; a document in one piece is its own window. */
static void put_window(struct rr_buf *out, bool spaced, struct rr_text doc,
                       const struct rr_score *s)
{
    size_t start = s->n_windows ? s->window_start : 0;
    size_t end = s->n_windows ? s->window_end : doc.len;

    put_key(out, spaced, false, "window");
    rr_buf_putc(out, '{');
    put_count(out, spaced, true, "start", characters(doc, start));
    put_count(out, spaced, false, "end", characters(doc, end));
    put_count(out, spaced, false, "start_byte", start);
    put_count(out, spaced, false, "end_byte", end);
    put_count(out, spaced, false, "windows", RR_MAX(s->n_windows, 1));
    rr_buf_putc(out, '}');
}

void rr_extras_item(const struct rr_reply *r, size_t group, uint32_t at, bool spaced,
                    struct rr_buf *out)
{
    const struct rr_extras *e = &r->ask->extras;
    const struct rr_score *s = &r->results[group]->scores[at];

    if (e->logits) {
        put_key(out, spaced, false, "logit");
        rr_buf_json_double(out, (double)s->logit);
    }
    if (e->window.size) put_window(out, spaced, r->ask->groups[group].docs[at], s);
    if (!e->explain) return;
    put_key(out, spaced, false, "explain");
    rr_buf_putc(out, '{');
    put_count(out, spaced, true, "tokens", s->tokens);
    put_count(out, spaced, false, "full_tokens", s->full_tokens);
    put_bool(out, spaced, "truncated", s->truncated);
    put_bool(out, spaced, "rescored", s->rescored);
    rr_buf_putc(out, '}');
}

void rr_extras_totals(const struct rr_reply *r, struct rr_totals *t)
{
    size_t i, k;

    *t = (struct rr_totals){ .exact = true };
    for (i = 0; i < r->ask->n_groups; i++) {
        const struct rr_result *one = r->results[i];

        t->tokens += one->tokens;
        t->documents += one->n_documents;
        t->cached += one->n_cached;
        t->duplicates += one->n_duplicates;
        t->coalesced += one->n_coalesced;
        t->rescored += one->n_rescored;
        t->missing += one->n_missing;
        t->exact = t->exact && one->exact;
        for (k = 0; k < one->n_documents; k++) t->truncated += one->scores[k].truncated;
    }
}

/* Indices of the documents without a score; those of later groups count on. */
static void put_missing(const struct rr_reply *r, bool spaced, struct rr_buf *out)
{
    size_t i, k, index = 0;
    bool any = false;

    put_key(out, spaced, false, "missing");
    rr_buf_putc(out, '[');
    for (i = 0; i < r->ask->n_groups; i++) {
        for (k = 0; k < r->results[i]->n_documents; k++, index++) {
            if (!r->results[i]->scores[k].missing) continue;
            rr_buf_printf(out, "%s%zu", any ? spaced ? ", " : "," : "", index);
            any = true;
        }
    }
    rr_buf_putc(out, ']');
}

static void put_ms(struct rr_buf *out, bool spaced, bool first, const char *key, double ns)
{
    put_key(out, spaced, first, key);
    rr_buf_json_double(out, round(ns * 1e-3) / 1e3);
}

static void put_explain(const struct rr_reply *r, const struct rr_totals *t, bool spaced,
                        struct rr_buf *out)
{
    put_key(out, spaced, false, "explain");
    rr_buf_putc(out, '{');
    put_key(out, spaced, true, "dialect");
    rr_buf_json_string(out, rr_text(r->ask->dialect->name));
    put_count(out, spaced, false, "documents", t->documents);
    put_count(out, spaced, false, "tokens", t->tokens);
    put_count(out, spaced, false, "truncated", t->truncated);
    put_count(out, spaced, false, "cached", t->cached);
    put_count(out, spaced, false, "duplicates", t->duplicates);
    put_count(out, spaced, false, "coalesced", t->coalesced);
    put_count(out, spaced, false, "rescored", t->rescored);
    put_count(out, spaced, false, "replaced_characters", r->replaced);
    put_key(out, spaced, false, "ms");
    rr_buf_putc(out, '{');
    put_ms(out, spaced, true, "parse", (double)r->parse_ns);
    put_ms(out, spaced, false, "tokenize", (double)r->timings.tokenize_ns);
    put_ms(out, spaced, false, "queue", (double)r->timings.queue_ns);
    put_ms(out, spaced, false, "compute", (double)r->timings.compute_ns);
    put_ms(out, spaced, false, "total", r->seconds * 1e9);
    rr_buf_puts(out, "}}");
}

void rr_extras_reply(const struct rr_reply *r, bool spaced, struct rr_buf *out)
{
    const struct rr_extras *e = &r->ask->extras;
    struct rr_totals t;

    if (!e->allow_partial && !e->exact_top_k && !e->explain) return;
    rr_extras_totals(r, &t);
    if (e->allow_partial) {
        put_bool(out, spaced, "partial", t.missing > 0);
        if (t.missing) put_missing(r, spaced, out);
    }
    if (e->exact_top_k) {
        put_bool(out, spaced, "exact", t.exact);
        put_count(out, spaced, false, "rescored", t.rescored);
    }
    if (e->explain) put_explain(r, &t, spaced, out);
}
