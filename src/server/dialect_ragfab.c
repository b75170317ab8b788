/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_ragfab.c - POST /rerank of ragfab's reranker-server, in its two shapes.
 * Layer: server (L6).  Threads: pure.
 *
 * Seven fields:  {"query", "documents": [{"chunk_id", "document_id", "document_title",
 *                "document_source", "chunk_index", "content", "similarity"}], "top_k": 5}
 * Free fields:   {"query", "documents": [{"content", ...}], "top_k"}
 * Reply:         {"documents": [...], "count", "model", "processing_time"}, best first.  A document
 *                is the caller's object with rerank_score (and, for free fields, score) added.
 * There is one space after colons: ragfab's test script searches for "count": 3. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "server/echo.h"
#include "server/extras.h"
#include "server/fields.h"

#define DEFAULT_TOP_K 5

enum form { FREE_FIELDS, SEVEN_FIELDS };

enum want { STRING, INTEGER, NUMBER };

static const struct {
    const char *key;
    enum want want;
} seven[] = {
    { "chunk_id", STRING },        { "document_id", STRING },  { "document_title", STRING },
    { "document_source", STRING }, { "chunk_index", INTEGER }, { "content", STRING },
    { "similarity", NUMBER },
};

static bool has_seven(const json_t *doc)
{
    size_t i;

    for (i = 0; i < RR_COUNT(seven); i++)
        if (!json_object_get(doc, seven[i].key)) return false;
    return true;
}

static bool all_seven(const json_t *documents)
{
    size_t i;
    const json_t *doc;

    json_array_foreach(documents, i, doc) if (!has_seven(doc)) return false;
    return true;
}

/* "+1_000.00", with white space around it: a text that pydantic takes for an integer. */
static bool text_int(struct rr_text t, int64_t *out)
{
    const char *p = t.data, *end = t.data + t.len, *digits;
    bool minus;
    uint64_t n = 0;

    while (p < end) {
        uint32_t cp;
        size_t len = rr_utf8_next(p, (size_t)(end - p), &cp);

        if (!rr_text_blank((struct rr_text){ p, len })) break;
        p += len;
    }
    minus = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    for (digits = p; p < end; p++) {
        if (*p == '_' && p > digits && p[-1] != '_' && end - p > 1 && p[1] >= '0' && p[1] <= '9')
            continue;
        if (*p < '0' || *p > '9') break;
        if (n > (INT64_MAX - (uint64_t)(*p - '0')) / 10) return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (p == digits) return false;
    if (end - p > 1 && p[0] == '.' && p[1] == '0')
        for (p++; p < end && *p == '0'; p++) continue;
    *out = minus ? -(int64_t)n : (int64_t)n;
    return rr_text_blank((struct rr_text){ p, (size_t)(end - p) });
}

/* The original reads with pydantic, whose integers may also be whole reals, booleans and texts, and
 * go on as integers.  What is no integer even so stays, and is refused later. */
static int lax_int(struct rr_fields *f, json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    double real = json_real_value(v);
    int64_t n = 0;

    if (json_is_boolean(v))
        n = json_is_true(v);
    else if (json_is_real(v) && floor(real) == real && fabs(real) < 0x1p63)
        n = (int64_t)real;
    else if (!json_is_string(v) ||
             !text_int((struct rr_text){ json_string_value(v), json_string_length(v) }, &n))
        return 0;
    return json_object_set_new(obj, key, json_integer(n)) ? rr_fields_no_memory(f) : 0;
}

static bool right_type(const json_t *v, enum want want)
{
    if (want == STRING) return json_is_string(v);
    if (want == NUMBER) return json_is_number(v);
    return json_is_integer(v);
}

static int check_seven(struct rr_fields *f, size_t i, json_t *doc)
{
    static const char *const names[] = { "a string", "an integer", "a number" };
    char path[96];
    size_t k;

    for (k = 0; k < RR_COUNT(seven); k++) {
        const json_t *v;

        if (seven[k].want == INTEGER && lax_int(f, doc, seven[k].key)) return -1;
        v = json_object_get(doc, seven[k].key);
        if (right_type(v, seven[k].want)) continue;
        snprintf(path, sizeof(path), "documents[%zu].%s", i, seven[k].key);
        return rr_fields_wrong_type(f, path, v, names[seven[k].want]);
    }
    return 0;
}

static int parse_documents(struct rr_fields *f, struct rr_group *g)
{
    static const struct rr_doc_rules rules = { .objects = true };
    json_t *documents = json_object_get(f->root, "documents"), *doc;
    char path[96];
    size_t i;

    if (documents && !json_is_array(documents))
        return rr_fields_wrong_type(f, "documents", documents, "an array");
    json_array_foreach(documents, i, doc)
    { /* reached with other things when pinned */
        snprintf(path, sizeof(path), "documents[%zu]", i);
        if (!json_is_object(doc)) return rr_fields_wrong_type(f, path, doc, "an object");
        if (rr_fields_text(f, doc, path, "content", true, &(struct rr_text){ 0 })) return -1;
    }
    f->ask->form = json_array_size(documents) && all_seven(documents) ? SEVEN_FIELDS : FREE_FIELDS;
    if (f->ask->form == SEVEN_FIELDS) {
        json_array_foreach(documents, i, doc) if (check_seven(f, i, doc)) return -1;
    }
    if (rr_fields_docs(f, documents, "documents", &rules, g)) return -1;
    json_array_foreach(documents, i, doc) /* content is the text, whatever else there is */
        g->docs[i] = (struct rr_text){ json_string_value(json_object_get(doc, "content")),
                                       json_string_length(json_object_get(doc, "content")) };
    return 0;
}

static int parse(struct rr_fields *f)
{
    struct rr_group *g = rr_fields_group(f, 1);
    int64_t n;

    if (!g || rr_fields_text(f, f->root, "", "query", true, &g->query)) return -1;
    if (parse_documents(f, g) || lax_int(f, f->root, "top_k")) return -1;
    f->ask->has_limit = !json_object_get(f->root, "top_k");
    f->ask->limit = DEFAULT_TOP_K; /* left out: 5; null: all */
    if (rr_fields_int(f, f->root, "", "top_k", INT64_MIN, INT64_MAX, &f->ask->has_limit,
                      &f->ask->limit))
        return -1;
    n = (int64_t)g->n_docs;
    if (f->ask->has_limit && f->ask->limit < 0) /* as a Python slice: drops from the end */
        f->ask->limit = f->ask->limit < -n ? 0 : n + f->ask->limit;
    f->ask->n_pairs = g->n_docs;
    if (rr_fields_common(f)) return -1;
    g->raw_scores = f->ask->raw_scores;
    return 0;
}

static void put_document(const struct rr_reply *r, struct rr_buf *out, uint32_t at)
{
    static const char *const plain[] = { "rerank_score", NULL };
    static const char *const extra[] = { "rerank_score", "logit", "window", "explain", NULL };
    const struct rr_group *g = &r->ask->groups[0];
    const json_t *doc = json_array_get(g->source, at);
    double score = rr_reply_score(g, &r->results[0]->scores[at]);

    rr_buf_putc(out, '{');
    if (rr_echo_members(out, doc, rr_extras_any(r->ask) ? extra : plain, true))
        rr_buf_puts(out, ", ");
    rr_buf_puts(out, "\"rerank_score\": ");
    rr_buf_json_double(out, score);
    if (r->ask->form == FREE_FIELDS && !json_object_get(doc, "score")) {
        rr_buf_puts(out, ", \"score\": ");
        rr_buf_json_double(out, score);
    }
    rr_extras_item(r, 0, at, true, out);
    rr_buf_putc(out, '}');
}

static void render(const struct rr_reply *r, struct rr_buf *out)
{
    struct rr_pick pick = { 0 };

    rr_buf_puts(out, "{\"documents\": [");
    while (rr_reply_next(r, 0, false, &pick)) {
        if (pick.count > 1) rr_buf_puts(out, ", ");
        put_document(r, out, pick.at);
    }
    rr_buf_printf(out, "], \"count\": %zu, \"model\": ", pick.count);
    rr_buf_json_string(out, rr_text(r->model));
    rr_buf_puts(out, ", \"processing_time\": ");
    rr_buf_json_double(out, round(r->seconds * 1e6) / 1e6);
    rr_extras_reply(r, true, out);
    rr_buf_putc(out, '}');
}

const struct rr_dialect rr_dialect_ragfab = {
    .name = "ragfab",
    .parse = parse,
    .render = render,
    .render_error = rr_problem_fastapi,
    .backend_status = 500,
    .invalid_status = 422,
    .blank_query = "La query ne peut pas \xc3\xaatre vide",
    .no_documents = "La liste de documents ne peut pas \xc3\xaatre vide",
    .not_loaded = "Mod\xc3\xa8le non charg\xc3\xa9",
};
