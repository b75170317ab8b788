/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_dialect.c - each dialect's parser and writer, as tables of bodies and replies.
 * Scores are made up: document i of a group of n has the logit SCORES[i]. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/dialect.h"

/* Halves and quarters, so that logits print short; sigmoid(0) is 0.5. */
static const float SCORES[] = { -1.5f, 2.25f, 0.0f, 2.25f, -3.0f };

struct request {
    struct rr_arena arena;
    struct rr_ask ask;
    struct rr_problem problem;
    struct rr_parse_config config;
    json_t *root;
    int rc;
};

static void parse(struct request *r, const struct rr_dialect *pinned, const char *body, bool v2)
{
    struct rr_fields f = { &r->config, &r->arena, NULL, &r->ask, &r->problem };
    struct rr_error err;

    memset(r, 0, sizeof(*r));
    r->config = (struct rr_parse_config){ .max_documents = 5, .max_document_bytes = 100,
                                          .max_query_bytes = 50, .max_length = 512, .v2 = v2 };
    rr_arena_init(&r->arena, RR_MEM_REQUEST, 1 << 20);
    assert_int_equal(rr_json_parse(&r->root, rr_text(body), 32, RR_JSON_DUP_REJECT, &err), RR_OK);
    r->ask.dialect = pinned ? pinned : rr_detect(r->root);
    assert_non_null(r->ask.dialect);
    f.root = r->root;
    r->rc = r->ask.dialect->parse(&f);
    if (!r->rc) r->rc = rr_ask_check(&r->ask, &r->config, &r->problem);
}

static void done(struct request *r)
{
    json_decref(r->root);
    rr_arena_reset(&r->arena);
}

/* ---- results ------------------------------------------------------------------------------ */

#define MAX_GROUPS 8

struct results {
    struct rr_result result[MAX_GROUPS];
    struct rr_result *list[MAX_GROUPS];
    struct rr_score scores[MAX_GROUPS][8];
    uint32_t order[MAX_GROUPS][8];
};

static void make_results(struct results *s, const struct rr_ask *ask)
{
    size_t g, i, k;

    memset(s, 0, sizeof(*s));
    assert_true(ask->n_groups <= MAX_GROUPS);
    for (g = 0; g < ask->n_groups; g++) {
        size_t n = ask->groups[g].n_docs;

        assert_true(n <= RR_COUNT(SCORES));
        s->list[g] = &s->result[g];
        s->result[g] = (struct rr_result){ .n_documents = n, .scores = s->scores[g],
                                           .order = s->order[g], .tokens = 10 * n };
        for (i = 0; i < n; i++) {
            s->scores[g][i].logit = SCORES[(i + g) % RR_COUNT(SCORES)];
            s->scores[g][i].score = 1 / (1 + exp(-(double)s->scores[g][i].logit));
            for (k = i; k > 0 && s->scores[g][s->order[g][k - 1]].logit < s->scores[g][i].logit; k--)
                s->order[g][k] = s->order[g][k - 1];
            s->order[g][k] = (uint32_t)i;
        }
    }
}

static void render(const struct request *r, struct rr_buf *out)
{
    struct results results;
    struct rr_reply reply = { .ask = &r->ask, .results = results.list, .model = "m",
                              .request_id = "id", .created = 1000.5, .seconds = 0.0251234567 };
    json_t *check;
    struct rr_error err;

    make_results(&results, &r->ask);
    rr_buf_init(out, RR_MEM_REQUEST, 1 << 20);
    r->ask.dialect->render(&reply, out);
    assert_false(out->failed);
    assert_int_equal(rr_json_parse(&check, (struct rr_text){ out->data, out->len }, 32,
                                   RR_JSON_DUP_REJECT, &err), RR_OK);
    json_decref(check);
}

/* ---- replies ------------------------------------------------------------------------------ */

#define S0 "0.18242552380635635" /* sigmoid(-1.5) */
#define S1 "0.9046505351008906"  /* sigmoid(2.25) */
#define UNION_HEAD "{\"id\":\"id\",\"object\":\"rerank\",\"model\":\"m\",\"created\":1000,\"results\":["
#define UNION_TAIL(v, tokens)                                                                      \
    "],\"usage\":{\"prompt_tokens\":" tokens ",\"total_tokens\":" tokens "},\"meta\":{"            \
    "\"api_version\":{\"version\":\"" v "\"},\"billed_units\":{\"search_units\":1},\"tokens\":{"   \
    "\"input_tokens\":" tokens "}}}"

static const struct {
    const struct rr_dialect *pinned;
    bool v2;
    const char *body, *reply, *why;
} replies[] = {
    { NULL, false, "{\"query\":\"q\",\"texts\":[\"a\",\"b\",\"c\",\"d\"]}",
      "[{\"index\":1,\"score\":" S1 "},{\"index\":3,\"score\":" S1 "},{\"index\":2,\"score\":0.5},"
      "{\"index\":0,\"score\":" S0 "}]",
      "tei: best first, equal scores in input order" },
    { NULL, false, "{\"query\":\"q\",\"texts\":[\"a\",\"b\"],\"raw_scores\":true,\"return_text\":true}",
      "[{\"index\":1,\"text\":\"b\",\"score\":2.25},{\"index\":0,\"text\":\"a\",\"score\":-1.5}]",
      "tei: logits and texts" },
    { NULL, false, "{\"query\":\"q\",\"texts\":[\"a\",\"b\"],\"top_n\":1,\"truncate\":null}",
      "[{\"index\":1,\"score\":" S1 "}]", "tei: a positive top_n is obeyed" },
    { NULL, false, "{\"query\":\"q\",\"texts\":[\"a\"],\"top_n\":0}",
      "[{\"index\":0,\"score\":" S0 "}]", "tei: top_n 0 is all" },
    { NULL, false, "{\"query\":\"q\",\"documents\":[\"a\",\"b\"]}",
      UNION_HEAD "{\"index\":1,\"relevance_score\":" S1 ",\"document\":{\"text\":\"b\"}},"
      "{\"index\":0,\"relevance_score\":" S0 ",\"document\":{\"text\":\"a\"}}" UNION_TAIL("1", "20"),
      "union: documents unless told otherwise" },
    { &rr_dialect_union, true, "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"top_n\":1}",
      UNION_HEAD "{\"index\":1,\"relevance_score\":" S1 "}" UNION_TAIL("2", "20"),
      "Cohere v2: no documents" },
    { &rr_dialect_cohere, false, "{\"query\":\"q\",\"documents\":[\"a\"]}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0 "}" UNION_TAIL("1", "10"),
      "Cohere pinned: no documents" },
    { NULL, false, "{\"query\":\"q\",\"documents\":[\"a\"],\"return_documents\":\"False\",\"top_n\":0}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0 "}" UNION_TAIL("1", "10"),
      "booleans as strings; top_n 0 is all" },
    { NULL, false, "{\"query\":\"q\",\"documents\":[{\"text\":\"a\",\"id\":7},\"b\"],\"top_n\":9}",
      UNION_HEAD "{\"index\":1,\"relevance_score\":" S1 ",\"document\":{\"text\":\"b\"}},"
      "{\"index\":0,\"relevance_score\":" S0 ",\"document\":{\"text\":\"a\",\"id\":7}}"
      UNION_TAIL("1", "20"),
      "other keys of a document come back; top_n above the list is all" },
    { NULL, false, "{\"query\":\"q\",\"documents\":[{\"content\":\"a\",\"x\":0.85}],\"top_n\":null}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0
      ",\"document\":{\"text\":\"a\",\"content\":\"a\",\"x\":0.85}}" UNION_TAIL("1", "10"),
      "content is a synonym of text" },
    { NULL, false,
      "{\"query\":\"q\",\"documents\":[{\"t\":\"a\",\"b\":\"c\"}],\"rank_fields\":[\"b\",\"t\",\"no\"]}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0
      ",\"document\":{\"text\":\"c\\na\",\"t\":\"a\",\"b\":\"c\"}}" UNION_TAIL("1", "10"),
      "rank_fields joined in their own order" },
    { NULL, false, "{\"query\":\"q\",\"documents\":\"a\",\"use_activation\":false}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":-1.5,\"document\":{\"text\":\"a\"}}"
      UNION_TAIL("1", "10"),
      "vLLM: a lone string, and logits" },
    { NULL, false,
      "{\"query\":\"q\",\"documents\":[{\"content\":\"a\",\"metadata\":{\"p\":[1,null]}},"
      "{\"content\":\"b\",\"score\":3}]}",
      "{\"documents\": [{\"content\": \"b\", \"score\": 3, \"rerank_score\": " S1
      "}, {\"content\": \"a\", \"metadata\": {\"p\": [1, null]}, \"rerank_score\": " S0
      ", \"score\": " S0 "}], \"count\": 2, \"model\": \"m\", \"processing_time\": 0.025123}",
      "ragfab, free fields: echoed unchanged, a score of the caller's stays" },
    { NULL, false,
      "{\"query\":\"q\",\"documents\":[{\"chunk_id\":\"c\",\"document_id\":\"d\","
      "\"document_title\":\"t\",\"document_source\":\"s\",\"chunk_index\":3,\"content\":\"x\","
      "\"similarity\":0.87,\"extra\":true}],\"top_k\":5}",
      "{\"documents\": [{\"chunk_id\": \"c\", \"document_id\": \"d\", \"document_title\": \"t\", "
      "\"document_source\": \"s\", \"chunk_index\": 3, \"content\": \"x\", \"similarity\": 0.87, "
      "\"extra\": true, \"rerank_score\": " S0 "}], \"count\": 1, \"model\": \"m\", "
      "\"processing_time\": 0.025123}",
      "ragfab, seven fields: similarity is the caller's, only rerank_score is added" },
    { NULL, false, "{\"query\":\"q\",\"documents\":[{\"content\":\"a\"}],\"top_k\":0}",
      "{\"documents\": [], \"count\": 0, \"model\": \"m\", \"processing_time\": 0.025123}",
      "ragfab: top_k 0 is none" },
    { NULL, false, "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"top_k\":1,\"return_documents\":true}",
      "{\"object\":\"list\",\"data\":[{\"index\":1,\"document\":\"b\",\"relevance_score\":" S1
      "}],\"model\":\"m\",\"usage\":{\"total_tokens\":20}}",
      "voyage" },
    { NULL, false, "{\"query\":\"q\",\"input\":[\"a\"],\"top_k\":2,\"return_input\":true}",
      "{\"usage\":{\"prompt_tokens\":10,\"total_tokens\":10},\"model\":\"m\",\"data\":[{\"index\":0,"
      "\"input\":\"a\",\"score\":" S0 "}],\"object\":\"list\",\"top_k\":1,\"return_input\":true}",
      "mixedbread" },
    { &rr_dialect_pinecone, false, "{\"query\":\"q\",\"documents\":[{\"id\":\"1\",\"text\":\"a\"}]}",
      "{\"model\":\"m\",\"data\":[{\"index\":0,\"document\":{\"id\":\"1\",\"text\":\"a\"},\"score\":"
      S0 "}],\"usage\":{\"rerank_units\":1}}",
      "pinecone, pinned" },
    { NULL, false, "{\"query\":{\"text\":\"q\"},\"passages\":[{\"text\":\"a\"},{\"text\":\"b\"}]}",
      "{\"rankings\":[{\"index\":1,\"logit\":2.25},{\"index\":0,\"logit\":-1.5}]}",
      "nim: always logits" },
    { NULL, false, "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"property\":\"\"}",
      "{\"query\":\"q\",\"scores\":[{\"document\":\"a\",\"score\":" S0
      "},{\"document\":\"b\",\"score\":" S1 "}]}",
      "weaviate: input order" },
    { NULL, false,
      "{\"input\":{\"query\":\"q\",\"documents\":[\"a\",\"b\"]},\"parameters\":{\"top_n\":1,"
      "\"return_documents\":true}}",
      "{\"output\":{\"results\":[{\"index\":1,\"document\":{\"text\":\"b\"},\"relevance_score\":" S1
      "}]},\"usage\":{\"total_tokens\":20},\"request_id\":\"id\"}",
      "dashscope" },
    { NULL, false, "{\"text_1\":\"q\",\"text_2\":[\"a\",\"b\"]}",
      "{\"id\":\"id\",\"object\":\"list\",\"created\":1000,\"model\":\"m\",\"data\":[{\"index\":0,"
      "\"object\":\"score\",\"score\":" S0 "},{\"index\":1,\"object\":\"score\",\"score\":" S1
      "}],\"usage\":{\"prompt_tokens\":20,\"total_tokens\":20}}",
      "vLLM score: one against many" },
    { NULL, false, "{\"queries\":[\"q\",\"r\"],\"documents\":[\"a\",\"b\"]}",
      "{\"id\":\"id\",\"object\":\"list\",\"created\":1000,\"model\":\"m\",\"data\":[{\"index\":0,"
      "\"object\":\"score\",\"score\":" S0 "},{\"index\":1,\"object\":\"score\",\"score\":" S1
      "}],\"usage\":{\"prompt_tokens\":20,\"total_tokens\":20}}",
      "vLLM score: pair by pair" },
    { NULL, false, "{\"inputs\":[\"q\",\"a\"]}", "[{\"score\":" S0 ",\"label\":\"LABEL_0\"}]",
      "predict: one pair" },
    { NULL, false, "{\"inputs\":[[\"q\",\"a\"],[\"q\",\"b\"]],\"raw_scores\":true}",
      "[[{\"score\":-1.5,\"label\":\"LABEL_0\"}],[{\"score\":2.25,\"label\":\"LABEL_0\"}]]",
      "predict: many pairs" },
    { NULL, false,
      "{\"inputs\":[{\"text\":\"q\",\"text_pair\":\"a\"}],\"parameters\":{\"function_to_apply\":"
      "\"none\"}}",
      "[[{\"score\":-1.5,\"label\":\"LABEL_0\"}]]", "Hugging Face pipeline" },
    { NULL, false,
      "{\"instances\":[{\"query\":\"q\",\"texts\":[\"a\"]},{\"query\":\"r\",\"texts\":[\"b\",\"c\"],"
      "\"raw_scores\":true}]}",
      "{\"predictions\":[[{\"index\":0,\"score\":" S0 "}],[{\"index\":0,\"score\":2.25},{\"index\":1,"
      "\"score\":0.0}]]}",
      "vertex: each instance by its own options" },
    { NULL, false, "{\"query\":\"q\",\"texts\":[\"a\\u0000b\\\"\"],\"return_text\":true}",
      "[{\"index\":0,\"text\":\"a\\u0000b\\\"\",\"score\":" S0 "}]", "NUL inside a text" },
};

static void test_replies(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(replies); i++) {
        struct request r;
        struct rr_buf out;

        parse(&r, replies[i].pinned, replies[i].body, replies[i].v2);
        if (r.rc) fail_msg("%s: %s", replies[i].why, r.problem.msg);
        render(&r, &out);
        if (strcmp(out.data, replies[i].reply) != 0)
            fail_msg("%s\n got      %s\n expected %s", replies[i].why, out.data, replies[i].reply);
        rr_buf_free(&out);
        done(&r);
    }
}

/* ---- slices ------------------------------------------------------------------------------- */

static const struct {
    const char *top_k;
    size_t count;
    const char *why;
} slices[] = {
    { "", 4, "the default of 5 is more than there are" },
    { ",\"top_k\":null", 4, "null is all" },
    { ",\"top_k\":2", 2, "the first two" },
    { ",\"top_k\":2.0", 2, "a real without a fraction" },
    { ",\"top_k\":9223372036854775807", 4, "the largest number" },
    { ",\"top_k\":0", 0, "none" },
    { ",\"top_k\":-1", 3, "without the last, as a Python slice" },
    { ",\"top_k\":-4", 0, "without all four" },
    { ",\"top_k\":-9223372036854775808", 0, "the smallest number" },
};

static void test_slices(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(slices); i++) {
        struct request r;
        char body[256];
        struct rr_reply reply = { .ask = &r.ask };

        snprintf(body, sizeof(body),
                 "{\"query\":\"q\",\"documents\":[{\"content\":\"a\"},{\"content\":\"b\"},"
                 "{\"content\":\"c\"},{\"content\":\"d\"}]%s}", slices[i].top_k);
        parse(&r, NULL, body, false);
        assert_int_equal(r.rc, 0);
        if (rr_reply_count(&reply, &r.ask.groups[0]) != slices[i].count)
            fail_msg("%s: %zu", slices[i].why, rr_reply_count(&reply, &r.ask.groups[0]));
        done(&r);
    }
}

/* ---- errors ------------------------------------------------------------------------------- */

#define MSG(text) "{\"error\":\"" text "\",\"error_type\":\"Validation\",\"message\":\"" text "\","
#define BOTH(text) MSG(text) "\"detail\":\"" text "\"}"

static const struct {
    const struct rr_dialect *pinned;
    const char *body;
    unsigned status;
    const char *error; /* the whole body; NULL: only the status counts */
    const char *why;
} errors[] = {
    { NULL, "{\"query\":\" \\t\",\"documents\":[\"a\"]}", 400, BOTH("query must not be blank"),
      "blank query" },
    { NULL, "{\"query\":\"\\u00a0\\u2003\",\"documents\":[\"a\"]}", 400, NULL,
      "Unicode white space is blank too" },
    { NULL, "{\"query\":\"q\",\"documents\":[]}", 400,
      "{\"error\":\"documents must not be empty\",\"error_type\":\"Empty\",\"message\":"
      "\"documents must not be empty\",\"detail\":\"documents must not be empty\"}",
      "empty documents" },
    { NULL, "{\"query\":\"q\",\"texts\":[]}", 400,
      "{\"error\":\"`texts` cannot be empty\",\"error_type\":\"Empty\",\"message\":"
      "\"`texts` cannot be empty\",\"detail\":\"`texts` cannot be empty\"}",
      "empty texts" },
    { NULL, "{\"query\":\"\",\"documents\":[{\"content\":\"a\"}]}", 400,
      BOTH("La query ne peut pas \xc3\xaatre vide"), "ragfab's own words" },
    { &rr_dialect_ragfab, "{\"query\":\"q\",\"documents\":[]}", 400,
      "{\"error\":\"La liste de documents ne peut pas \xc3\xaatre vide\",\"error_type\":\"Empty\","
      "\"message\":\"La liste de documents ne peut pas \xc3\xaatre vide\",\"detail\":"
      "\"La liste de documents ne peut pas \xc3\xaatre vide\"}",
      "ragfab's own words for no documents" },
    { NULL, "{\"documents\":[\"a\"]}", 422, BOTH("query: Field required"), "no query" },
    { NULL, "{\"query\":null,\"documents\":[\"a\"]}", 422,
      BOTH("query: expected a string, found null"), "null is not a query" },
    { NULL, "{\"query\":5,\"documents\":[\"a\"]}", 422,
      BOTH("query: expected a string, found an integer"), "a number is not a query" },
    { NULL, "{\"query\":\"q\",\"documents\":{\"a\":1}}", 422,
      BOTH("documents: expected an array, found an object"), "documents as an object" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\",null]}", 422,
      BOTH("documents[1]: expected a string or an object, found null"), "a null document" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\",{\"content\":\"b\"},{\"content\":\"c\"},"
      "{\"content\":4}]}", 422,
      BOTH("documents[3].content: expected a string, found an integer"), "the path of the field" },
    { NULL, "{\"query\":\"q\",\"documents\":[{\"title\":\"b\"}]}", 422, NULL,
      "neither text nor content" },
    { NULL, "{\"query\":\"q\",\"documents\":[{\"image\":\"b\"}]}", 422,
      BOTH("documents[0]: images are not supported"), "an image" },
    { NULL, "{\"query\":\"q\",\"documents\":[{\"t\":1}],\"rank_fields\":[\"t\"]}", 422, NULL,
      "rank_fields that are no strings" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"rank_fields\":\"t\"}", 422, NULL,
      "rank_fields as a string" },
    { NULL, "{\"query\":\"q\",\"texts\":[{\"text\":\"a\"}]}", 422,
      BOTH("texts[0]: expected a string, found an object"), "tei takes strings only" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":-1}", 422,
      BOTH("top_n: found -1, must be at least 0"), "negative top_n" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":1.5}", 422, NULL, "half a document" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":\"3\"}", 422, NULL, "a string" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":true}", 422, NULL, "a boolean" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":1e300}", 422, NULL, "a huge real" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"return_documents\":1}", 422, NULL,
      "a number as a boolean" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"max_length\":513}", 422,
      BOTH("max_length: found 513, must be at most 512"), "longer than the engine takes" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"truncation_direction\":\"up\"}", 422, NULL,
      "a direction that there is not" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]}", 422,
      BOTH("documents: found 6, at most 5 are allowed (--max-documents)"), "one too many" },
    { NULL, "{\"query\":\"123456789012345678901234567890123456789012345678901\","
      "\"documents\":[\"a\"]}", 422,
      BOTH("query: 51 bytes, at most 50 are allowed (--max-query-bytes)"), "query too long" },
    { NULL, "{\"query\":\"q\",\"documents\":[\"a\",\"12345678901234567890123456789012345678901234567"
      "890123456789012345678901234567890123456789012345678901\"]}", 422,
      BOTH("documents[1]: 101 bytes, at most 100 are allowed (--max-document-bytes)"),
      "document too long" },
    { NULL, "{\"query\":\"q\",\"documents\":[{\"chunk_id\":1,\"document_id\":\"d\","
      "\"document_title\":\"t\",\"document_source\":\"s\",\"chunk_index\":3,\"content\":\"x\","
      "\"similarity\":0.87}]}", 422,
      MSG("documents[0].chunk_id: expected a string, found an integer")
      "\"detail\":[{\"type\":\"string_type\",\"loc\":[\"body\",\"documents\",0,\"chunk_id\"],"
      "\"msg\":\"expected a string, found an integer\",\"input\":null}]}",
      "ragfab's schema errors are FastAPI's list" },
    { NULL, "{\"documents\":[{\"content\":\"x\"}]}", 422,
      MSG("query: Field required")
      "\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"query\"],\"msg\":\"Field required\","
      "\"input\":null}]}",
      "ragfab without a query" },
    { NULL, "{\"query\":\"q\",\"documents\":[{\"content\":\"x\"}],\"top_k\":\"5\"}", 422, NULL,
      "ragfab with a string as top_k" },
    { &rr_dialect_ragfab, "{\"query\":\"q\",\"documents\":[\"x\"]}", 422, NULL,
      "ragfab pinned wants objects" },
    { NULL, "{\"inputs\":\"alone\"}", 422, NULL, "a reranker scores pairs" },
    { NULL, "{\"inputs\":[[\"q\"]]}", 422, NULL, "half a pair" },
    { NULL, "{\"inputs\":[]}", 400, NULL, "no pairs" },
    { NULL, "{\"inputs\":[[\"q\",\"a\"]],\"parameters\":{\"function_to_apply\":\"softmax\"}}", 422,
      NULL, "softmax of one label is always 1" },
    { NULL, "{\"instances\":[5]}", 422, NULL, "an instance that is no object" },
    { NULL, "{\"instances\":[{\"query\":\"q\"}]}", 422,
      BOTH("instances[0].texts: Field required"), "the path inside an instance" },
    { NULL, "{\"text_1\":[\"a\",\"b\"],\"text_2\":[\"c\",\"d\",\"e\"]}", 422,
      "{\"error\":{\"message\":\"text_1: found 2 texts for 3 in text_2: expected one, or as many\","
      "\"type\":\"BadRequestError\",\"param\":\"text_1\",\"code\":422}}",
      "two against three" },
    { NULL, "{\"input\":{\"documents\":[\"a\"]}}", 422, BOTH("input.query: Field required"),
      "dashscope without a query" },
    { NULL, "{\"query\":{\"text\":3},\"passages\":[{\"text\":\"a\"}]}", 422,
      BOTH("query.text: expected a string, found an integer"), "nim with a number as query" },
};

static void test_errors(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(errors); i++) {
        struct request r;
        struct rr_buf out;

        parse(&r, errors[i].pinned, errors[i].body, false);
        if (r.rc == 0) fail_msg("%s: accepted", errors[i].why);
        if (r.problem.status != errors[i].status)
            fail_msg("%s: %u, expected %u (%s)", errors[i].why, r.problem.status, errors[i].status,
                     r.problem.msg);
        rr_buf_init(&out, RR_MEM_REQUEST, 1 << 20);
        r.ask.dialect->render_error(&r.problem, &out);
        assert_false(out.failed);
        if (errors[i].error && strcmp(out.data, errors[i].error) != 0)
            fail_msg("%s\n got      %s\n expected %s", errors[i].why, out.data, errors[i].error);
        rr_buf_free(&out);
        done(&r);
    }
}

/* ---- options ------------------------------------------------------------------------------ */

static void test_options(void **state)
{
    struct request r;

    (void)state;
    parse(&r, NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"truncate\":false,"
                    "\"truncation_direction\":\"Left\",\"max_length\":64}", false);
    assert_int_equal(r.rc, 0);
    assert_true(r.ask.no_truncate);
    assert_true(r.ask.truncate_left);
    assert_int_equal(r.ask.max_length, 64);
    done(&r);

    parse(&r, NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"truncate\":null,\"max_length\":null,"
                    "\"truncation_direction\":null,\"raw_scores\":null,\"return_text\":null}", false);
    assert_int_equal(r.rc, 0);
    assert_false(r.ask.no_truncate);
    assert_int_equal(r.ask.max_length, 0);
    done(&r);

    parse(&r, NULL, "{\"query\":{\"text\":\"q\"},\"passages\":[{\"text\":\"a\"}],"
                    "\"truncate\":\"NONE\"}", false);
    assert_int_equal(r.rc, 0);
    assert_true(r.ask.no_truncate);
    assert_true(r.ask.groups[0].raw_scores);
    done(&r);

    parse(&r, NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"truncate_prompt_tokens\":-1,"
                    "\"truncation_side\":\"left\"}", false);
    assert_int_equal(r.rc, 0);
    assert_true(r.ask.truncate_left);
    assert_int_equal(r.ask.max_length, 0);
    done(&r);
}

static void test_engine_errors(void **state)
{
    static const struct {
        int code;
        unsigned status;
        const char *type;
    } rows[] = {
        { RR_EBUSY, 429, "Overloaded" },   { RR_ETIMEDOUT, 504, "Backend" },
        { RR_ETOOBIG, 422, "Validation" }, { RR_EINVAL, 422, "Validation" },
        { RR_ECLOSED, 503, "Unhealthy" },  { RR_EDEVICE, 503, "Unhealthy" },
        { RR_ENONFINITE, 500, "Backend" }, { RR_EINTERNAL, 500, "Backend" },
        { RR_ECANCELED, 499, "Unhealthy" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        struct rr_error err = { rows[i].code, "message" };
        struct rr_problem p = { 0 };

        rr_problem_engine(&p, &err, 429);
        assert_int_equal(p.status, rows[i].status);
        assert_string_equal(p.type, rows[i].type);
        assert_string_equal(p.msg, "message");
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),  cmocka_unit_test(test_slices),
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_options),
        cmocka_unit_test(test_engine_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
