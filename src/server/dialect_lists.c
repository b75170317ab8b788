/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_lists.c - the APIs that differ from each other in names only: Voyage, Mixedbread,
 * Pinecone, Isaacus, NIM, Weaviate, DashScope, and vLLM's /score.  Layer: server (L6).
 * Threads: pure.
 *
 * Each is a row of words for the parser, one for the writer, and a few lines for its envelope. */
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "server/echo.h"
#include "server/extras.h"
#include "server/fields.h"

enum form {
    FORM_VOYAGE,
    FORM_MIXEDBREAD,
    FORM_PINECONE,
    FORM_ISAACUS,
    FORM_NIM,
    FORM_WEAVIATE,
    FORM_DASHSCOPE
};

/* How a request names things. */
static const struct words {
    const char *list;  /* the documents */
    const char *limit; /* how many to return; NULL: always all */
    const char *echo;  /* whether to return texts; NULL: never */
    bool echo_default;
    bool objects;
    bool rank_fields;
} words[] = {
    [FORM_VOYAGE] = { "documents", "top_k", "return_documents", false, true, false },
    [FORM_MIXEDBREAD] = { "input", "top_k", "return_input", false, true, true },
    [FORM_PINECONE] = { "documents", "top_n", "return_documents", true, true, true },
    [FORM_ISAACUS] = { "texts", "top_n", "return_documents", false, false, false },
    [FORM_NIM] = { "passages", NULL, NULL, false, true, false },
    [FORM_WEAVIATE] = { "documents", NULL, NULL, true, true, false },
    [FORM_DASHSCOPE] = { "documents", "top_n", "return_documents", false, true, false },
};

/* from: where query and list are; options: where limit and echo are. */
static int parse_form(struct rr_fields *f, enum form form, const json_t *from, const char *where,
                      const json_t *options, const char *options_where)
{
    const struct words *w = &words[form];
    struct rr_doc_rules rules = { .objects = w->objects };
    struct rr_group *g = rr_fields_group(f, 1);
    char path[48];

    if (!g || rr_fields_query(f, from, where, &g->query) ||
        rr_fields_query_name(f, g, where, "query"))
        return -1;
    if (w->rank_fields) rules.rank_fields = rr_fields_get(from, "rank_fields");
    if (rules.rank_fields && !json_is_array(rules.rank_fields))
        return rr_fields_wrong_type(f, "rank_fields", rules.rank_fields, "an array");
    snprintf(path, sizeof(path), "%s%s%s", where, *where ? "." : "", w->list);
    if (rr_fields_docs(f, json_object_get(from, w->list), path, &rules, g)) return -1;
    if (w->limit && rr_fields_limit(f, options, options_where, w->limit)) return -1;
    g->echo = w->echo_default;
    if (w->echo && rr_fields_bool(f, options, options_where, w->echo, &g->echo)) return -1;
    f->ask->form = (int)form;
    f->ask->n_pairs = g->n_docs;
    if (rr_fields_common(f) || (options != f->root && rr_fields_options(f, options, options_where)))
        return -1;
    g->raw_scores = f->ask->raw_scores || form == FORM_NIM;
    if (form == FORM_NIM) f->ask->extras.logits = false; /* they are the scores */
    return 0;
}

/* ---- replies ------------------------------------------------------------------------------ */

enum echo_as { AS_NOTHING, AS_STRING, AS_ITEM, AS_TEXT_OBJECT };

struct item_words {
    const char *index; /* NULL: not written */
    const char *score;
    const char *text;
    enum echo_as as;
    bool input_order;
};

static void put_text(struct rr_buf *out, const struct item_words *w, const struct rr_group *g,
                     uint32_t at)
{
    rr_buf_printf(out, "\"%s\":", w->text);
    if (w->as == AS_ITEM && json_is_array(g->source)) {
        rr_echo_json(out, json_array_get(g->source, at), false);
        return;
    }
    if (w->as == AS_TEXT_OBJECT) rr_buf_puts(out, "{\"text\":");
    rr_buf_json_string(out, g->docs[at]);
    if (w->as == AS_TEXT_OBJECT) rr_buf_putc(out, '}');
}

static void put_items(const struct rr_reply *r, struct rr_buf *out, const struct item_words *w)
{
    const struct rr_group *g = &r->ask->groups[0];
    struct rr_pick pick = { 0 };

    rr_buf_putc(out, '[');
    while (rr_reply_next(r, 0, w->input_order, &pick)) {
        rr_buf_puts(out, pick.count > 1 ? ",{" : "{");
        if (w->index) rr_buf_printf(out, "\"%s\":%u,", w->index, pick.at);
        if (w->as != AS_NOTHING && g->echo) {
            put_text(out, w, g, pick.at);
            rr_buf_putc(out, ',');
        }
        rr_buf_printf(out, "\"%s\":", w->score);
        rr_buf_json_double(out, rr_reply_score(g, &r->results[0]->scores[pick.at]));
        rr_extras_item(r, 0, pick.at, false, out);
        rr_buf_putc(out, '}');
    }
    rr_buf_putc(out, ']');
}

/* The last byte of a reply that is an object, after what only some requests ask for. */
static void put_end(const struct rr_reply *r, struct rr_buf *out)
{
    rr_extras_reply(r, false, out);
    rr_buf_putc(out, '}');
}

static void put_model(const struct rr_reply *r, struct rr_buf *out)
{
    rr_buf_puts(out, "\"model\":");
    rr_buf_json_string(out, rr_text(r->model));
}

/* ---- Voyage, Mixedbread, Pinecone --------------------------------------------------------- */

static int parse_voyage(struct rr_fields *f)
{
    return parse_form(f, FORM_VOYAGE, f->root, "", f->root, "");
}

static void render_voyage(const struct rr_reply *r, struct rr_buf *out)
{
    static const struct item_words w = { "index", "relevance_score", "document", AS_STRING, false };

    rr_buf_puts(out, "{\"object\":\"list\",\"data\":");
    put_items(r, out, &w);
    rr_buf_putc(out, ',');
    put_model(r, out);
    rr_buf_printf(out, ",\"usage\":{\"total_tokens\":%llu}",
                  (unsigned long long)rr_reply_tokens(r));
    put_end(r, out);
}

static int parse_mixedbread(struct rr_fields *f)
{
    return parse_form(f, FORM_MIXEDBREAD, f->root, "", f->root, "");
}

static void render_mixedbread(const struct rr_reply *r, struct rr_buf *out)
{
    static const struct item_words w = { "index", "score", "input", AS_ITEM, false };
    unsigned long long tokens = rr_reply_tokens(r);

    rr_buf_printf(out, "{\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu},", tokens,
                  tokens);
    put_model(r, out);
    rr_buf_puts(out, ",\"data\":");
    put_items(r, out, &w);
    rr_buf_printf(out, ",\"object\":\"list\",\"top_k\":%zu,\"return_input\":%s",
                  rr_reply_count(r, 0), r->ask->groups[0].echo ? "true" : "false");
    put_end(r, out);
}

static int parse_pinecone(struct rr_fields *f)
{
    const json_t *parameters = rr_fields_get(f->root, "parameters");

    if (parameters && !json_is_object(parameters))
        return rr_fields_wrong_type(f, "parameters", parameters, "an object");
    if (parse_form(f, FORM_PINECONE, f->root, "", f->root, "") ||
        rr_fields_options(f, parameters, "parameters"))
        return -1;
    f->ask->groups[0].raw_scores = f->ask->raw_scores;
    return 0;
}

static void render_pinecone(const struct rr_reply *r, struct rr_buf *out)
{
    static const struct item_words w = { "index", "score", "document", AS_ITEM, false };

    rr_buf_putc(out, '{');
    put_model(r, out);
    rr_buf_puts(out, ",\"data\":");
    put_items(r, out, &w);
    rr_buf_puts(out, ",\"usage\":{\"rerank_units\":1}");
    put_end(r, out);
}

/* ---- NIM, Weaviate, DashScope ------------------------------------------------------------- */

static int parse_isaacus(struct rr_fields *f)
{
    return parse_form(f, FORM_ISAACUS, f->root, "", f->root, "");
}

static void render_isaacus(const struct rr_reply *r, struct rr_buf *out)
{
    static const struct item_words w = { "index", "score", "document", AS_TEXT_OBJECT, false };

    rr_buf_puts(out, "{\"results\":");
    put_items(r, out, &w);
    rr_buf_printf(out, ",\"usage\":{\"input_tokens\":%llu}",
                  (unsigned long long)rr_reply_tokens(r));
    put_end(r, out);
}

static int parse_nim(struct rr_fields *f)
{
    return parse_form(f, FORM_NIM, f->root, "", f->root, "");
}

static void render_nim(const struct rr_reply *r, struct rr_buf *out)
{
    static const struct item_words w = { "index", "logit", NULL, AS_NOTHING, false };

    rr_buf_puts(out, "{\"rankings\":");
    put_items(r, out, &w);
    put_end(r, out);
}

static int parse_weaviate(struct rr_fields *f)
{
    return parse_form(f, FORM_WEAVIATE, f->root, "", f->root, "");
}

static void render_weaviate(const struct rr_reply *r, struct rr_buf *out)
{
    static const struct item_words w = { NULL, "score", "document", AS_STRING, true };

    rr_buf_puts(out, "{\"query\":");
    rr_buf_json_string(out, r->ask->groups[0].query);
    rr_buf_puts(out, ",\"scores\":");
    put_items(r, out, &w);
    put_end(r, out);
}

static int parse_dashscope(struct rr_fields *f)
{
    const json_t *input = json_object_get(f->root, "input");
    const json_t *parameters = rr_fields_get(f->root, "parameters");

    if (!json_is_object(input)) return rr_fields_wrong_type(f, "input", input, "an object");
    if (parameters && !json_is_object(parameters))
        return rr_fields_wrong_type(f, "parameters", parameters, "an object");
    return parse_form(f, FORM_DASHSCOPE, input, "input", parameters, "parameters");
}

static void render_dashscope(const struct rr_reply *r, struct rr_buf *out)
{
    static const struct item_words w = { "index", "relevance_score", "document", AS_TEXT_OBJECT,
                                         false };

    rr_buf_puts(out, "{\"output\":{\"results\":");
    put_items(r, out, &w);
    rr_buf_printf(out, "},\"usage\":{\"total_tokens\":%llu},\"request_id\":",
                  (unsigned long long)rr_reply_tokens(r));
    rr_buf_json_string(out, rr_text(r->request_id));
    put_end(r, out);
}

/* ---- vLLM's /score ------------------------------------------------------------------------ */

/* Left and right side of the pairs; each side is a string or a list of strings. */
static int score_side(struct rr_fields *f, const char *const *names, const char **name,
                      json_t **out)
{
    static const struct rr_doc_rules strings = { .objects = false };
    struct rr_group checked = { 0 };

    for (; *names; names++) {
        json_t *v = rr_fields_get(f->root, *names);

        if (!v) continue;
        *name = *names;
        *out = v;
        return rr_fields_docs(f, v, *names, &strings, &checked);
    }
    return rr_problem_field(f->problem, *name, "missing", "Field required");
}

static struct rr_text side_text(const json_t *side, size_t i)
{
    const json_t *v = json_is_array(side) ? json_array_get(side, i) : side;

    return (struct rr_text){ json_string_value(v), json_string_length(v) };
}

static size_t side_size(const json_t *side)
{
    return json_is_array(side) ? json_array_size(side) : 1;
}

/* One left text against all right ones, or the n-th against the n-th. */
static int parse_score(struct rr_fields *f)
{
    static const char *const lefts[] = { "queries", "text_1", "data_1", NULL };
    static const char *const rights[] = { "documents", "items", "text_2", "data_2", NULL };
    const char *left_name = "queries", *right_name = "documents";
    json_t *left = NULL, *right = NULL;
    size_t n_left, n_right, i;
    struct rr_group *g;

    if (score_side(f, lefts, &left_name, &left) || score_side(f, rights, &right_name, &right))
        return -1;
    n_left = side_size(left);
    n_right = side_size(right);
    if (n_left != 1 && n_left != n_right)
        return rr_problem_field(f->problem, left_name, "value_error",
                                "found %zu texts for %zu in %s: expected one, or as many", n_left,
                                n_right, right_name);
    g = rr_fields_group(f, n_left);
    if (!g || rr_fields_common(f)) return -1;
    for (i = 0; i < n_left; i++) {
        size_t n = n_left == 1 ? n_right : 1, k;
        char path[32];

        snprintf(path, sizeof(path), "%s[%zu]", left_name, i);
        if (rr_fields_query_name(f, &g[i], "", json_is_array(left) ? path : left_name)) return -1;
        g[i].name = right_name;
        g[i].lone = n_left > 1 || json_is_string(right);
        if (n_left > 1) {
            snprintf(path, sizeof(path), "%s[%zu]", right_name, i);
            g[i].name = rr_arena_strndup(f->arena, path, strlen(path));
        }
        g[i].query = side_text(left, i);
        g[i].raw_scores = f->ask->raw_scores;
        g[i].docs = rr_arena_alloc(f->arena, RR_MAX(n, 1), sizeof(*g[i].docs));
        if (!g[i].docs) return rr_fields_no_memory(f);
        for (k = 0; k < n; k++) g[i].docs[k] = side_text(right, n_left == 1 ? k : i);
        g[i].n_docs = n;
        f->ask->n_pairs += n;
    }
    return 0;
}

static void render_score(const struct rr_reply *r, struct rr_buf *out)
{
    unsigned long long tokens = rr_reply_tokens(r);
    size_t i, first = 0; /* index of the group's first pair in the whole list */
    bool any = false;

    rr_buf_puts(out, "{\"id\":");
    rr_buf_json_string(out, rr_text(r->request_id));
    rr_buf_printf(out, ",\"object\":\"list\",\"created\":%lld,", (long long)r->created);
    put_model(r, out);
    rr_buf_puts(out, ",\"data\":[");
    for (i = 0; i < r->ask->n_groups; first += r->ask->groups[i++].n_docs) {
        struct rr_pick pick = { 0 };

        for (; rr_reply_next(r, i, true, &pick); any = true) {
            rr_buf_printf(out, "%s{\"index\":%zu,\"object\":\"score\",\"score\":", any ? "," : "",
                          first + pick.at);
            rr_buf_json_double(out,
                               rr_reply_score(&r->ask->groups[i], &r->results[i]->scores[pick.at]));
            rr_extras_item(r, i, pick.at, false, out);
            rr_buf_putc(out, '}');
        }
    }
    rr_buf_printf(out, "],\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}", tokens,
                  tokens);
    put_end(r, out);
}

/* ---- table -------------------------------------------------------------------------------- */

RR_DIALECT(voyage, parse_voyage, render_voyage, rr_problem_union, 422);
RR_DIALECT(mixedbread, parse_mixedbread, render_mixedbread, rr_problem_union, 422);
RR_DIALECT(pinecone, parse_pinecone, render_pinecone, rr_problem_union, 422);
RR_DIALECT(isaacus, parse_isaacus, render_isaacus, rr_problem_union, 422);
RR_DIALECT(nim, parse_nim, render_nim, rr_problem_union, 422);
RR_DIALECT(weaviate, parse_weaviate, render_weaviate, rr_problem_union, 422);
RR_DIALECT(dashscope, parse_dashscope, render_dashscope, rr_problem_dashscope, 400);
RR_DIALECT(score, parse_score, render_score, rr_problem_openai, 400);
