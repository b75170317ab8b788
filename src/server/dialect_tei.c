/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_tei.c - text-embeddings-inference: /rerank, /predict, and its form for Vertex.
 * Layer: server (L6).  Threads: pure.
 *
 * rerank:   {"query", "texts": [string], "return_text", "raw_scores", "truncate"}
 *           -> [{index, score}]
 * predict:  {"inputs": ["query", "text"] | [["query", "text"], ...] | [{"text", "text_pair"}, ...]}
 *           -> [{score, label}] for one pair, a list of those for many; in input order
 * vertex:   {"instances": [rerank bodies]} -> {"predictions": [lists of rerank]} */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/attr.h"
#include "base/text.h"
#include "server/extras.h"
#include "server/fields.h"

/* ---- rerank ------------------------------------------------------------------------------- */

static int parse_body(struct rr_fields *f, const json_t *body, const char *where,
                      struct rr_group *g)
{
    static const struct rr_doc_rules strings = { .objects = false };
    char path[64];

    snprintf(path, sizeof(path), "%s%stexts", where, *where ? "." : "");
    if (rr_fields_text(f, body, where, "query", true, &g->query) ||
        rr_fields_query_name(f, g, where, "query"))
        return -1;
    if (rr_fields_docs(f, json_object_get(body, "texts"), path, &strings, g)) return -1;
    if (rr_fields_bool(f, body, where, "return_text", &g->echo)) return -1;
    if (rr_fields_bool(f, body, where, "raw_scores", &g->raw_scores)) return -1;
    if (rr_fields_cut(f, body, where, &g->cut)) return -1;
    f->ask->n_pairs += g->n_docs;
    g->probability = true;
    return 0;
}

static int parse_rerank(struct rr_fields *f)
{
    struct rr_group *g = rr_fields_group(f, 1);

    if (!g || parse_body(f, f->root, "", g)) return -1;
    /* TEI knows no limit and llama.cpp's form of this body does; a positive one suits both. */
    if (rr_fields_limit(f, f->root, "", "top_n") || rr_fields_common(f)) return -1;
    g->raw_scores = f->ask->raw_scores;
    return 0;
}

static void put_list(const struct rr_reply *r, size_t group, struct rr_buf *out)
{
    const struct rr_group *g = &r->ask->groups[group];
    struct rr_pick pick = { 0 };

    rr_buf_putc(out, '[');
    while (rr_reply_next(r, group, false, &pick)) {
        rr_buf_printf(out, "%s{\"index\":%u", pick.count > 1 ? "," : "", pick.at);
        if (g->echo) {
            rr_buf_puts(out, ",\"text\":");
            rr_buf_json_string(out, g->docs[pick.at]);
        }
        rr_buf_puts(out, ",\"score\":");
        rr_buf_json_double(out, rr_reply_score(g, &r->results[group]->scores[pick.at]));
        rr_extras_item(r, group, pick.at, false, out);
        rr_buf_putc(out, '}');
    }
    rr_buf_putc(out, ']');
}

static void render_rerank(const struct rr_reply *r, struct rr_buf *out)
{
    put_list(r, 0, out);
}

const struct rr_dialect rr_dialect_tei = {
    .name = "tei",
    .parse = parse_rerank,
    .render = render_rerank,
    .render_error = rr_problem_union,
    .backend_status = 424,
    .invalid_status = 422,
    .no_documents = "`texts` cannot be empty",
};

/* ---- vertex ------------------------------------------------------------------------------- */

/* Options count for all instances when they are beside them or in "parameters". */
static int vertex_options(struct rr_fields *f)
{
    const json_t *parameters = rr_fields_get(f->root, "parameters");
    size_t i;

    if (parameters && !json_is_object(parameters))
        return rr_fields_wrong_type(f, "parameters", parameters, "an object");
    if (rr_fields_common(f) || rr_fields_options(f, parameters, "parameters")) return -1;
    for (i = 0; i < f->ask->n_groups; i++) f->ask->groups[i].raw_scores |= f->ask->raw_scores;
    return 0;
}

static int parse_vertex(struct rr_fields *f)
{
    json_t *instances = json_object_get(f->root, "instances"), *body;
    struct rr_group *g;
    char where[48];
    size_t i;

    if (!json_is_array(instances))
        return rr_fields_wrong_type(f, "instances", instances, "an array");
    if (json_array_size(instances) > f->config->max_documents)
        return rr_problem_field(f->problem, "instances", "too_long",
                                "found %zu, at most %zu are allowed (--max-documents)",
                                json_array_size(instances), f->config->max_documents);
    g = rr_fields_group(f, json_array_size(instances));
    if (!g) return -1;
    json_array_foreach(instances, i, body)
    {
        snprintf(where, sizeof(where), "instances[%zu]", i);
        if (!json_is_object(body)) return rr_fields_wrong_type(f, where, body, "an object");
        if (parse_body(f, body, where, &g[i])) return -1;
    }
    return vertex_options(f);
}

static void render_vertex(const struct rr_reply *r, struct rr_buf *out)
{
    size_t i;

    rr_buf_puts(out, "{\"predictions\":[");
    for (i = 0; i < r->ask->n_groups; i++) {
        if (i) rr_buf_putc(out, ',');
        put_list(r, i, out);
    }
    rr_buf_putc(out, ']');
    rr_extras_reply(r, false, out);
    rr_buf_putc(out, '}');
}

const struct rr_dialect rr_dialect_vertex = {
    .name = "vertex",
    .parse = parse_vertex,
    .render = render_vertex,
    .render_error = rr_problem_union,
    .backend_status = 424,
    .invalid_status = 422,
    .no_documents = "`texts` cannot be empty",
};

/* ---- predict ------------------------------------------------------------------------------ */

enum predict_form { ONE_PAIR, MANY_PAIRS };

static bool is_pair(const json_t *v)
{
    return json_array_size(v) == 2 && json_is_string(json_array_get(v, 0)) &&
           json_is_string(json_array_get(v, 1));
}

static struct rr_text text_of(const json_t *v)
{
    return (struct rr_text){ json_string_value(v), json_string_length(v) };
}

static int set_pair(struct rr_fields *f, const char *path, struct rr_group *g, const json_t *a,
                    const json_t *b)
{
    g->query = text_of(a);
    g->name = rr_arena_strndup(f->arena, path, strlen(path));
    g->lone = true;
    g->n_docs = 1;
    g->docs = rr_arena_alloc(f->arena, 1, sizeof(*g->docs));
    if (!g->docs) return rr_fields_no_memory(f);
    g->docs[0] = text_of(b);
    f->ask->n_pairs++;
    return 0;
}

static int parse_pair(struct rr_fields *f, const char *path, const json_t *v, struct rr_group *g)
{
    char first[RR_FIELD_PATH];

    if (is_pair(v)) {
        snprintf(first, sizeof(first), "%s[0]", path);
        if (rr_fields_query_name(f, g, "", first)) return -1;
        return set_pair(f, path, g, json_array_get(v, 0), json_array_get(v, 1));
    }
    if (json_is_object(v) && json_is_string(json_object_get(v, "text")) &&
        json_is_string(json_object_get(v, "text_pair"))) {
        if (rr_fields_query_name(f, g, path, "text")) return -1;
        return set_pair(f, path, g, json_object_get(v, "text"), json_object_get(v, "text_pair"));
    }
    return rr_problem_field(f->problem, path, "value_error",
                            "a reranker scores pairs: expected [\"query\", \"text\"] or "
                            "{\"text\", \"text_pair\"}");
}

static int parse_function(struct rr_fields *f)
{
    const json_t *parameters = rr_fields_get(f->root, "parameters");
    struct rr_text name = { 0 };

    if (!parameters) return 0;
    if (!json_is_object(parameters))
        return rr_fields_wrong_type(f, "parameters", parameters, "an object");
    if (rr_fields_options(f, parameters, "parameters")) return -1;
    if (rr_fields_text(f, parameters, "parameters", "function_to_apply", false, &name)) return -1;
    if (name.data && rr_text_is(name, "none"))
        f->ask->raw_scores = true;
    else if (name.data && !rr_text_is(name, "sigmoid"))
        return rr_problem_field(f->problem, "parameters.function_to_apply", "enum",
                                "must be \"sigmoid\" or \"none\"");
    return 0;
}

static int parse_predict(struct rr_fields *f)
{
    json_t *inputs = json_object_get(f->root, "inputs");
    bool one = is_pair(inputs) || json_is_object(inputs);
    size_t n = one ? 1 : json_array_size(inputs), i;
    struct rr_group *g;
    char path[48];

    if (!inputs) return rr_problem_field(f->problem, "inputs", "missing", "Field required");
    if (!one && !json_is_array(inputs)) return parse_pair(f, "inputs", inputs, NULL);
    if (n > f->config->max_documents)
        return rr_problem_field(f->problem, "inputs", "too_long",
                                "found %zu, at most %zu are allowed (--max-documents)", n,
                                f->config->max_documents);
    g = rr_fields_group(f, n);
    if (!g) return -1;
    f->ask->form = one ? ONE_PAIR : MANY_PAIRS;
    for (i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "inputs[%zu]", i);
        if (parse_pair(f, one ? "inputs" : path, one ? inputs : json_array_get(inputs, i), &g[i]))
            return -1;
    }
    if (rr_fields_common(f) || parse_function(f)) return -1;
    for (i = 0; i < n; i++) {
        g[i].raw_scores = f->ask->raw_scores;
        g[i].probability = true;
    }
    return 0;
}

/* A pair without a score, or below the threshold, has no label. */
static void put_labels(const struct rr_reply *r, size_t group, struct rr_buf *out)
{
    struct rr_pick pick = { 0 };

    rr_buf_putc(out, '[');
    if (rr_reply_next(r, group, true, &pick)) {
        rr_buf_puts(out, "{\"score\":");
        rr_buf_json_double(out,
                           rr_reply_score(&r->ask->groups[group], &r->results[group]->scores[0]));
        rr_buf_puts(out, ",\"label\":\"LABEL_0\"");
        rr_extras_item(r, group, 0, false, out);
        rr_buf_putc(out, '}');
    }
    rr_buf_putc(out, ']');
}

static void render_predict(const struct rr_reply *r, struct rr_buf *out)
{
    bool many = r->ask->form == MANY_PAIRS;
    size_t i;

    if (many) rr_buf_putc(out, '[');
    for (i = 0; i < r->ask->n_groups; i++) {
        if (i) rr_buf_putc(out, ',');
        put_labels(r, i, out);
    }
    if (many) rr_buf_putc(out, ']');
}

const struct rr_dialect rr_dialect_predict = {
    .name = "predict",
    .parse = parse_predict,
    .render = render_predict,
    .render_error = rr_problem_union,
    .backend_status = 424,
    .invalid_status = 422,
};
