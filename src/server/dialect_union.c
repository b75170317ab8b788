/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_union.c - one shape for Cohere v1 and v2, Jina, vLLM, Infinity, Xinference and the many
 * that copy them, and the small differences of those that were asked for by name.
 * Layer: server (L6).  Threads: pure.
 *
 * {"query", "documents": [string | {"text", ...}], "top_n", "return_documents", "rank_fields"}
 * -> {"id", "object", "model", "created", "results": [{"index", "relevance_score", "document"}],
 *     "usage", "meta"}
 * What readers insist on: meta (Vercel's SDK refuses a reply without it), usage of plain integers
 * and model (Haystack, LiteLLM), document as an object or not there at all, never null (Dify). */
#include "base/attr.h"
#include "base/text.h"
#include "server/echo.h"
#include "server/extras.h"
#include "server/fields.h"

/* Documents a search unit pays for, by Cohere's price list. */
#define DOCUMENTS_PER_UNIT 100

enum document {
    AS_OBJECT, /* the caller's, or {"text"} */
    AS_STRING,
    AS_VLLM, /* {"text", "multi_modal": null} */
};

static const struct style {
    const struct rr_dialect *dialect;
    bool echo; /* when the request does not say */
    bool null; /* a document that is left out is null */
    enum document document;
} styles[] = {
    { &rr_dialect_union, true, false, AS_OBJECT },
    { &rr_dialect_cohere, false, false, AS_OBJECT },
    { &rr_dialect_jina, true, false, AS_OBJECT },
    { &rr_dialect_vllm, true, false, AS_VLLM },
    { &rr_dialect_llamacpp, false, false, AS_OBJECT },
    { &rr_dialect_infinity, false, true, AS_STRING },
    { &rr_dialect_xinference, false, true, AS_OBJECT },
    { &rr_dialect_ollama, true, false, AS_STRING },
};

static const struct style *style_of(const struct rr_ask *ask)
{
    size_t i;

    for (i = 0; i < RR_COUNT(styles); i++)
        if (styles[i].dialect == ask->dialect) return &styles[i];
    return &styles[0];
}

enum form { V1, V2 };

/* ---- requests ----------------------------------------------------------------------------- */

static int parse_rank_fields(struct rr_fields *f, const json_t **out)
{
    const json_t *v = rr_fields_get(f->root, "rank_fields");

    if (v && !json_is_array(v)) return rr_fields_wrong_type(f, "rank_fields", v, "an array");
    *out = v;
    return 0;
}

static int parse_echo(struct rr_fields *f, struct rr_group *g)
{
    bool echo = style_of(f->ask)->echo && !f->config->v2;

    g->echo = f->config->echo == RR_ECHO_AUTO ? echo : f->config->echo == RR_ECHO_YES;
    return rr_fields_bool(f, f->root, "", "return_documents", &g->echo);
}

static int parse(struct rr_fields *f)
{
    struct rr_group *g = rr_fields_group(f, 1);
    struct rr_doc_rules rules = { .objects = true };

    if (!g || rr_fields_query(f, f->root, "", &g->query)) return -1;
    if (parse_rank_fields(f, &rules.rank_fields)) return -1;
    if (rr_fields_docs(f, json_object_get(f->root, "documents"), "documents", &rules, g)) return -1;
    f->ask->n_pairs = g->n_docs;
    if (parse_echo(f, g) || rr_fields_limit(f, f->root, "", "top_n") || rr_fields_common(f))
        return -1;
    f->ask->form = f->config->v2 ? V2 : V1;
    g->raw_scores = f->ask->raw_scores;
    return 0;
}

/* ---- replies ------------------------------------------------------------------------------ */

/* The caller's object as it came, with "text" if it had none; a string becomes {"text": string}. */
static void put_object(struct rr_buf *out, const json_t *doc, struct rr_text text)
{
    static const char *const text_key[] = { "text", NULL };
    bool object = json_is_object(doc);

    rr_buf_putc(out, '{');
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

static void put_document(const struct rr_reply *r, struct rr_buf *out, uint32_t at)
{
    const struct style *style = style_of(r->ask);
    const struct rr_group *g = &r->ask->groups[0];
    const json_t *doc = json_is_array(g->source) ? json_array_get(g->source, at) : g->source;

    if (!g->echo) {
        if (style->null) rr_buf_puts(out, ",\"document\":null");
        return;
    }
    rr_buf_puts(out, ",\"document\":");
    if (style->document == AS_OBJECT) {
        put_object(out, doc, g->docs[at]);
        return;
    }
    if (style->document == AS_VLLM) rr_buf_puts(out, "{\"text\":");
    rr_buf_json_string(out, g->docs[at]);
    if (style->document == AS_VLLM) rr_buf_puts(out, ",\"multi_modal\":null}");
}

static void put_results(const struct rr_reply *r, struct rr_buf *out)
{
    struct rr_pick pick = { 0 };

    while (rr_reply_next(r, 0, false, &pick)) {
        rr_buf_printf(out, "%s{\"index\":%u,\"relevance_score\":", pick.count > 1 ? "," : "",
                      pick.at);
        rr_buf_json_double(out,
                           rr_reply_score(&r->ask->groups[0], &r->results[0]->scores[pick.at]));
        put_document(r, out, pick.at);
        rr_extras_item(r, 0, pick.at, false, out);
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
                  "\"search_units\":%zu},\"tokens\":{\"input_tokens\":%llu}}",
                  r->ask->form == V2 ? "2" : "1", units, tokens);
    rr_extras_reply(r, false, out);
    rr_buf_putc(out, '}');
}

RR_DIALECT(union, parse, render, rr_problem_union, 422);
RR_DIALECT(cohere, parse, render, rr_problem_union, 422);
RR_DIALECT(jina, parse, render, rr_problem_union, 422);
RR_DIALECT(vllm, parse, render, rr_problem_openai, 400);
RR_DIALECT(infinity, parse, render, rr_problem_infinity, 422);
RR_DIALECT(xinference, parse, render, rr_problem_union, 422);
RR_DIALECT(ollama, parse, render, rr_problem_union, 422);

/* llama.cpp answers a body with "texts" as text-embeddings-inference does. */
static int parse_llamacpp(struct rr_fields *f)
{
    if (!json_object_get(f->root, "texts")) return parse(f);
    f->ask->dialect = &rr_dialect_tei;
    return rr_dialect_tei.parse(f);
}

RR_DIALECT(llamacpp, parse_llamacpp, render, rr_problem_llamacpp, 400);
