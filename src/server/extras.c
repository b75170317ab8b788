/* SPDX-License-Identifier: Apache-2.0 */
/* extras.c - see extras.h. */
#include "server/extras.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/json_out.h"
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
    int64_t n;
    size_t i;

    if (!v) return 0;
    rr_fields_path(path, where, "priority");
    if (rr_fields_whole(v, &n)) {
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
        rr_fields_int(f, obj, where, "exact_top_k", 0, INT32_MAX, &e->has_exact, &exact) ||
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

/* Characters before the byte at end: what a language whose strings are Unicode calls the offset. */
static size_t characters(struct rr_text t, size_t end)
{
    size_t n = 0, i;

    for (i = 0; i < RR_MIN(end, t.len); i++) n += ((unsigned char)t.data[i] & 0xC0) != 0x80;
    return n;
}

/* The window whose score this is; a document in one piece is its own window. */
static void put_window(struct rr_json_out *o, struct rr_text doc, const struct rr_score *s)
{
    size_t start = s->n_windows ? s->window_start : 0;
    size_t end = s->n_windows ? s->window_end : doc.len;

    rr_out_object(o, "window");
    rr_out_uint(o, "start", characters(doc, start));
    rr_out_uint(o, "end", characters(doc, end));
    rr_out_uint(o, "start_byte", start);
    rr_out_uint(o, "end_byte", end);
    rr_out_uint(o, "windows", RR_MAX(s->n_windows, 1));
    rr_out_end(o);
}

void rr_extras_item(const struct rr_reply *r, size_t group, uint32_t at, bool spaced,
                    struct rr_buf *out)
{
    const struct rr_extras *e = &r->ask->extras;
    const struct rr_score *s = &r->results[group]->scores[at];
    struct rr_json_out o = { .buf = out, .spaced = spaced, .more = true };

    if (e->logits) rr_out_double(&o, "logit", (double)s->logit);
    if (e->window.size) put_window(&o, r->ask->groups[group].docs[at], s);
    if (!e->explain) return;
    rr_out_object(&o, "explain");
    rr_out_uint(&o, "tokens", s->tokens);
    rr_out_uint(&o, "full_tokens", s->full_tokens);
    rr_out_bool(&o, "truncated", s->truncated);
    rr_out_bool(&o, "rescored", s->rescored);
    rr_out_end(&o);
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
static void put_missing(const struct rr_reply *r, struct rr_json_out *o)
{
    size_t i, k, index = 0;

    rr_out_array(o, "missing");
    for (i = 0; i < r->ask->n_groups; i++)
        for (k = 0; k < r->results[i]->n_documents; k++, index++)
            if (r->results[i]->scores[k].missing) rr_out_uint(o, NULL, index);
    rr_out_end(o);
}

static void put_ms(struct rr_json_out *o, const char *key, double ns)
{
    rr_out_double(o, key, round(ns * 1e-3) / 1e3);
}

static void put_explain(const struct rr_reply *r, const struct rr_totals *t, struct rr_json_out *o)
{
    rr_out_object(o, "explain");
    rr_out_string(o, "dialect", r->ask->dialect->name);
    rr_out_uint(o, "documents", t->documents);
    rr_out_uint(o, "tokens", t->tokens);
    rr_out_uint(o, "truncated", t->truncated);
    rr_out_uint(o, "cached", t->cached);
    rr_out_uint(o, "duplicates", t->duplicates);
    rr_out_uint(o, "coalesced", t->coalesced);
    rr_out_uint(o, "rescored", t->rescored);
    rr_out_uint(o, "replaced_characters", r->replaced);
    rr_out_object(o, "ms");
    put_ms(o, "parse", (double)r->parse_ns);
    put_ms(o, "tokenize", (double)r->timings.tokenize_ns);
    put_ms(o, "queue", (double)r->timings.queue_ns);
    put_ms(o, "compute", (double)r->timings.compute_ns);
    put_ms(o, "total", r->seconds * 1e9);
    rr_out_end(o);
    rr_out_end(o);
}

void rr_extras_reply(const struct rr_reply *r, bool spaced, struct rr_buf *out)
{
    const struct rr_extras *e = &r->ask->extras;
    struct rr_json_out o = { .buf = out, .spaced = spaced, .more = true };
    struct rr_totals t;

    if (!e->allow_partial && !e->exact_top_k && !e->explain) return;
    rr_extras_totals(r, &t);
    if (e->allow_partial) {
        rr_out_bool(&o, "partial", t.missing > 0);
        if (t.missing) put_missing(r, &o);
    }
    if (e->exact_top_k) {
        rr_out_bool(&o, "exact", t.exact);
        rr_out_uint(&o, "rescored", t.rescored);
    }
    if (e->explain) put_explain(r, &t, &o);
}
