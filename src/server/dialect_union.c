/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_union.c - one shape for Cohere v1 and v2, Jina, vLLM, Infinity, Xinference and the many
 * that copy them.  Layer: server (L6).  Threads: pure.
 *
 * {"query", "documents": [string | {"text", ...}], "top_n", "return_documents", "rank_fields"}
 * -> {"id", "object", "model", "created", "results": [{"index", "relevance_score", "document"}],
 *     "usage", "meta"}
 * What readers insist on: meta (Vercel's SDK refuses a reply without it), usage of plain integers
 * and model (Haystack, LiteLLM), document as an object or not there at all, never null (Dify). */
#include "base/attr.h"
#include "base/text.h"
#include "server/echo.h"
#include "server/fields.h"

/* Documents a search unit pays for, by Cohere's price list. */
#define DOCUMENTS_PER_UNIT 100

enum form { V1, V2 };

static int parse_limit(struct rr_fields *f)
{
    bool has = false;
    int64_t n = 0;

    if (rr_fields_int(f, f->root, "", "top_n", 0, INT64_MAX, &has, &n)) return -1;
    f->ask->has_limit = has && n > 0; /* 0 is vLLM's "all" */
    f->ask->limit = n;
    return 0;
}

static int parse_rank_fields(struct rr_fields *f, const json_t **out)
{
    const json_t *v = rr_fields_get(f->root, "rank_fields");

    if (v && !json_is_array(v)) return rr_fields_wrong_type(f, "rank_fields", v, "an array");
    *out = v;
    return 0;
}

static int parse_union(struct rr_fields *f, bool echo)
{
    struct rr_group *g = rr_fields_group(f, 1);
    struct rr_doc_rules rules = { .objects = true };

    if (!g || rr_fields_text(f, f->root, "", "query", true, &g->query)) return -1;
    if (parse_rank_fields(f, &rules.rank_fields)) return -1;
    if (rr_fields_docs(f, json_object_get(f->root, "documents"), "documents", &rules, g)) return -1;
    f->ask->n_pairs = g->n_docs;
    g->echo = f->config->echo == RR_ECHO_AUTO ? echo : f->config->echo == RR_ECHO_YES;
    if (rr_fields_bool(f, f->root, "", "return_documents", &g->echo)) return -1;
    if (parse_limit(f) || rr_fields_common(f)) return -1;
    f->ask->form = f->config->v2 ? V2 : V1;
    g->raw_scores = f->ask->raw_scores;
    return 0;
}

static int parse_any(struct rr_fields *f)
{
    return parse_union(f, !f->config->v2);
}

static int parse_cohere(struct rr_fields *f)
{
    return parse_union(f, false);
}

/* The caller's object as it came, with "text" if it had none; a string becomes {"text": string}. */
static void put_document(struct rr_buf *out, const json_t *doc, struct rr_text text)
{
    static const char *const text_key[] = { "text", NULL };
    bool object = json_is_object(doc);

    rr_buf_puts(out, ",\"document\":{");
    if (!object || !json_is_string(json_object_get(doc, "text"))) {
        rr_buf_puts(out, "\"text\":");
        rr_buf_json_string(out, text);
        if (object && json_object_size(doc) > (json_object_get(doc, "text") ? 1u : 0u)) {
            rr_buf_putc(out, ',');
            rr_echo_members(out, doc, text_key, false);
        }
    } else {
        rr_echo_members(out, doc, NULL, false);
    }
    rr_buf_putc(out, '}');
}

static void put_results(const struct rr_reply *r, struct rr_buf *out)
{
    const struct rr_group *g = &r->ask->groups[0];
    const struct rr_result *result = r->results[0];
    size_t n = rr_reply_count(r, g), i;

    for (i = 0; i < n; i++) {
        uint32_t at = result->order[i];
        const json_t *doc = json_is_array(g->source) ? json_array_get(g->source, at) : g->source;

        rr_buf_printf(out, "%s{\"index\":%u,\"relevance_score\":", i ? "," : "", at);
        rr_buf_json_double(out, rr_reply_score(g, &result->scores[at]));
        if (g->echo) put_document(out, doc, g->docs[at]);
        rr_buf_putc(out, '}');
    }
}

static void render(const struct rr_reply *r, struct rr_buf *out)
{
    unsigned long long tokens = rr_reply_tokens(r);
    size_t units = (r->ask->n_pairs + DOCUMENTS_PER_UNIT - 1) / DOCUMENTS_PER_UNIT;

    rr_buf_puts(out, "{\"id\":");
    rr_buf_json_string(out, rr_text(r->request_id));
    rr_buf_puts(out, ",\"object\":\"rerank\",\"model\":");
    rr_buf_json_string(out, rr_text(r->model));
    rr_buf_printf(out, ",\"created\":%lld,\"results\":[", (long long)r->created);
    put_results(r, out);
    rr_buf_printf(out, "],\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu},", tokens,
                  tokens);
    rr_buf_printf(out,
                  "\"meta\":{\"api_version\":{\"version\":\"%s\"},\"billed_units\":{"
                  "\"search_units\":%zu},\"tokens\":{\"input_tokens\":%llu}}}",
                  r->ask->form == V2 ? "2" : "1", units, tokens);
}

const struct rr_dialect rr_dialect_union = {
    .name = "union",
    .parse = parse_any,
    .render = render,
    .render_error = rr_problem_union,
    .backend_status = 500,
};

const struct rr_dialect rr_dialect_cohere = {
    .name = "cohere",
    .parse = parse_cohere,
    .render = render,
    .render_error = rr_problem_union,
    .backend_status = 500,
};

const struct rr_dialect rr_dialect_jina = {
    .name = "jina",
    .parse = parse_any,
    .render = render,
    .render_error = rr_problem_union,
    .backend_status = 500,
};
