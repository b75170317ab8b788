/* SPDX-License-Identifier: Apache-2.0 */
/* mcp_tool.c - the tool "rerank": arguments in, ranked passages out.
 * Layer: cli (L6).  Threads: one. */
#include "cli/mcp_tool.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_out.h"
#include "base/text.h"

#define TEXT_LIMIT ((size_t)1 << 30) /* of one reply, which holds every text twice */

const char rr_mcp_tool_description[] =
    "{\"name\":\"" RR_MCP_TOOL "\",\"title\":\"Rank passages\","
    "\"description\":\"Ranks passages by how well each one answers a query, with a cross-encoder "
    "model. Use it to choose among search results or other candidates. Scores are from 0 (does not "
    "answer) to 1 (answers); the best comes first.\","
    "\"inputSchema\":{\"type\":\"object\",\"properties\":{"
    "\"query\":{\"type\":\"string\",\"description\":\"The question or search phrase\"},"
    "\"documents\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1,"
    "\"description\":\"The passages to rank\"},"
    "\"top_n\":{\"type\":\"integer\",\"minimum\":1,"
    "\"description\":\"How many of the best to return; left out: all\"},"
    "\"score_threshold\":{\"type\":\"number\","
    "\"description\":\"Leave out passages with a lower score\"},"
    "\"return_documents\":{\"type\":\"boolean\",\"default\":true,"
    "\"description\":\"false: indices and scores only, without the texts\"}},"
    "\"required\":[\"query\",\"documents\"],\"additionalProperties\":false},"
    "\"outputSchema\":{\"type\":\"object\",\"properties\":{"
    "\"model\":{\"type\":\"string\"},"
    "\"results\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
    "\"index\":{\"type\":\"integer\",\"description\":\"Place in documents, from 0\"},"
    "\"score\":{\"type\":\"number\"},\"text\":{\"type\":\"string\"}},"
    "\"required\":[\"index\",\"score\"]}}},\"required\":[\"model\",\"results\"]},"
    "\"annotations\":{\"readOnlyHint\":true,\"destructiveHint\":false,\"idempotentHint\":true,"
    "\"openWorldHint\":false}}";

struct call {
    struct rr_request request;
    struct rr_text *documents; /* [n_documents], views into the arguments */
    size_t top;
    double threshold;
    bool with_text;
};

static struct rr_text view(const json_t *s)
{
    return (struct rr_text){ json_string_value(s), json_string_length(s) };
}

static int wrong_type(const char *key, const json_t *found, const char *expected,
                      struct rr_error *err)
{
    return rr_fail(err, RR_EINVAL, "%s: found %s, expected %s", key, rr_json_type_name(found),
                   expected);
}

static int read_documents(const struct rr_mcp *mcp, const json_t *list, struct call *c,
                          struct rr_error *err)
{
    size_t i, n = json_array_size(list);

    if (!json_is_array(list)) return wrong_type("documents", list, "an array of strings", err);
    if (n < 1 || n > mcp->max_documents) {
        return rr_fail(err, RR_EINVAL, "documents: found %zu, expected 1 to %u", n,
                       mcp->max_documents);
    }
    c->documents = rr_calloc(RR_MEM_REQUEST, n, sizeof(*c->documents));
    if (!c->documents) return rr_fail(err, RR_ENOMEM, "out of memory");
    for (i = 0; i < n; i++) {
        const json_t *d = json_array_get(list, i);

        if (!json_is_string(d))
            return rr_fail(err, RR_EINVAL, "documents[%zu]: found %s, expected a string", i,
                           rr_json_type_name(d));
        c->documents[i] = view(d);
        if (c->documents[i].len > mcp->max_document_bytes)
            return rr_fail(err, RR_EINVAL, "documents[%zu]: found %zu bytes, expected at most %zu",
                           i, c->documents[i].len, mcp->max_document_bytes);
    }
    c->request.documents = c->documents;
    c->request.n_documents = n;
    return RR_OK;
}

static int read_query(const struct rr_mcp *mcp, const json_t *query, struct call *c,
                      struct rr_error *err)
{
    if (!json_is_string(query)) return wrong_type("query", query, "a string", err);
    c->request.query = view(query);
    if (rr_text_blank(c->request.query))
        return rr_fail(err, RR_EINVAL, "query: found only white space, expected a text");
    if (c->request.query.len > mcp->max_query_bytes)
        return rr_fail(err, RR_EINVAL, "query: found %zu bytes, expected at most %zu",
                       c->request.query.len, mcp->max_query_bytes);
    return RR_OK;
}

/* The optional ones; null counts as left out. */
static int read_choices(const json_t *arguments, struct call *c, struct rr_error *err)
{
    const json_t *top = json_object_get(arguments, "top_n");
    const json_t *threshold = json_object_get(arguments, "score_threshold");
    const json_t *with_text = json_object_get(arguments, "return_documents");

    if (top && !json_is_null(top)) {
        if (!json_is_integer(top)) return wrong_type("top_n", top, "an integer", err);
        if (json_integer_value(top) < 1)
            return rr_fail(err, RR_EINVAL,
                           "top_n: found %" JSON_INTEGER_FORMAT ", expected at least 1",
                           json_integer_value(top));
        c->top = (size_t)json_integer_value(top);
    }
    if (threshold && !json_is_null(threshold)) {
        if (!json_is_number(threshold))
            return wrong_type("score_threshold", threshold, "a number", err);
        c->threshold = json_number_value(threshold);
    }
    if (with_text && !json_is_null(with_text)) {
        if (!json_is_boolean(with_text))
            return wrong_type("return_documents", with_text, "a boolean", err);
        c->with_text = json_is_true(with_text);
    }
    return RR_OK;
}

static int read_arguments(const struct rr_mcp *mcp, const json_t *arguments, struct call *c,
                          struct rr_error *err)
{
    static const char *const known[] = { "query", "documents", "top_n", "score_threshold",
                                         "return_documents" };
    const char *key, *near;
    json_t *value;
    size_t i;
    int rc;

    if (!json_is_object(arguments)) return wrong_type("arguments", arguments, "an object", err);
    json_object_foreach((json_t *)arguments, key, value)
    {
        for (i = 0; i < RR_COUNT(known) && strcmp(known[i], key) != 0; i++) continue;
        if (i < RR_COUNT(known)) continue;
        near = rr_text_nearest(key, known, RR_COUNT(known)); /* the key itself is not quoted */
        return rr_fail(err, RR_EINVAL,
                       "found an unknown argument, expected query, documents, "
                       "top_n, score_threshold or return_documents%s%s%s",
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    rc = read_query(mcp, json_object_get(arguments, "query"), c, err);
    if (!rc) rc = read_documents(mcp, json_object_get(arguments, "documents"), c, err);
    return rc ? rc : read_choices(arguments, c, err);
}

static void put_results(const struct rr_mcp *mcp, const struct call *c,
                        const struct rr_result *result, struct rr_buf *out)
{
    struct rr_json_out o = { .buf = out };
    size_t i, n = 0;

    rr_out_object(&o, NULL);
    rr_out_string(&o, "model", rr_engine_info(mcp->engine)->model);
    rr_out_array(&o, "results");
    for (i = 0; i < result->n_documents && n < c->top; i++) {
        uint32_t best = result->order[i];

        if (result->scores[best].score < c->threshold) continue;
        n++;
        rr_out_object(&o, NULL);
        rr_out_uint(&o, "index", best);
        rr_out_double(&o, "score", result->scores[best].score);
        if (c->with_text) rr_out_text(&o, "text", c->documents[best]);
        rr_out_end(&o);
    }
    rr_out_end(&o);
    rr_out_end(&o);
}

/* Older clients read the text, newer ones the structure: both say the same. */
static void put_content(struct rr_buf *out, struct rr_text text, bool is_error)
{
    struct rr_json_out o = { .buf = out };

    rr_out_object(&o, NULL);
    rr_out_array(&o, "content");
    rr_out_object(&o, NULL);
    rr_out_string(&o, "type", "text");
    rr_out_text(&o, "text", text);
    rr_out_end(&o);
    rr_out_end(&o);
    if (!is_error) {
        rr_out_key(&o, "structuredContent");
        rr_buf_put(out, text.data, text.len);
    }
    rr_out_bool(&o, "isError", is_error);
    rr_out_end(&o);
}

void rr_mcp_tool_call(const struct rr_mcp *mcp, const json_t *arguments, struct rr_buf *out)
{
    struct call c = { .top = SIZE_MAX, .threshold = -1.0, .with_text = true };
    struct rr_error err = { 0 };
    struct rr_result *result = NULL;
    struct rr_buf text;
    int rc = read_arguments(mcp, arguments, &c, &err);

    if (!rc) rc = rr_score(mcp->engine, &c.request, &result, &err);
    if (rc) {
        put_content(out, rr_text(err.msg), true);
    } else {
        rr_buf_init(&text, RR_MEM_REQUEST, TEXT_LIMIT);
        put_results(mcp, &c, result, &text);
        if (text.failed)
            put_content(out, rr_text("out of memory"), true);
        else
            put_content(out, (struct rr_text){ text.data, text.len }, false);
        rr_buf_free(&text);
    }
    rr_result_free(result);
    rr_free(c.documents);
}
