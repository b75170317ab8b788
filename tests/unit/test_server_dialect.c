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
#include "server/extras.h"

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

typedef void change_fn(struct results *s);

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
            s->scores[g][i].tokens = 10;
            s->scores[g][i].full_tokens = i == 0 ? 12 : 10;
            s->scores[g][i].truncated = i == 0;
            for (k = i; k > 0 && s->scores[g][s->order[g][k - 1]].logit < s->scores[g][i].logit; k--)
                s->order[g][k] = s->order[g][k - 1];
            s->order[g][k] = (uint32_t)i;
        }
    }
}

static void render(const struct request *r, change_fn *change, struct rr_buf *out)
{
    struct results results;
    struct rr_reply reply = { .ask = &r->ask, .results = results.list, .model = "m",
                              .request_id = "id", .created = 1000.5, .seconds = 0.0251234567,
                              .timings = { 1500000, 2000, 10000000, 0 }, .parse_ns = 70000,
                              .replaced = 3 };
    json_t *check;
    struct rr_error err;

    make_results(&results, &r->ask);
    if (change) change(&results);
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
    { NULL, false,
      "{\"query\":\"q\",\"input\":[{\"t\":\"a\",\"b\":\"c\"}],\"rank_fields\":[\"b\",\"t\"],"
      "\"return_input\":true}",
      "{\"usage\":{\"prompt_tokens\":10,\"total_tokens\":10},\"model\":\"m\",\"data\":[{\"index\":0,"
      "\"input\":{\"t\":\"a\",\"b\":\"c\"},\"score\":" S0 "}],\"object\":\"list\",\"top_k\":1,"
      "\"return_input\":true}",
      "mixedbread's objects have no text of their own" },
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
    { &rr_dialect_vllm, false, "{\"query\":\"q\",\"documents\":[\"a\"]}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0
      ",\"document\":{\"text\":\"a\",\"multi_modal\":null}}" UNION_TAIL("1", "10"),
      "vLLM pinned: its document" },
    { &rr_dialect_infinity, false, "{\"query\":\"q\",\"documents\":[\"a\"]}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0 ",\"document\":null}" UNION_TAIL("1", "10"),
      "Infinity pinned: null unless asked for" },
    { &rr_dialect_infinity, false,
      "{\"query\":\"q\",\"documents\":[\"a\"],\"return_documents\":true,\"raw_scores\":true}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":-1.5,\"document\":\"a\"}" UNION_TAIL("1", "10"),
      "Infinity pinned: a plain string, and logits" },
    { &rr_dialect_xinference, false,
      "{\"query\":\"q\",\"documents\":[\"a\"],\"return_documents\":\"False\",\"return_len\":\"true\","
      "\"kwargs\":\"{}\"}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0 ",\"document\":null}" UNION_TAIL("1", "10"),
      "Xinference pinned" },
    { &rr_dialect_ollama, false, "{\"query\":\"q\",\"documents\":[{\"text\":\"a\"}]}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0 ",\"document\":\"a\"}" UNION_TAIL("1", "10"),
      "/api/rerank: a plain string" },
    { &rr_dialect_llamacpp, false, "{\"query\":\"q\",\"documents\":[\"a\"]}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0 "}" UNION_TAIL("1", "10"),
      "llama.cpp pinned: no documents" },
    { &rr_dialect_llamacpp, false, "{\"query\":\"q\",\"texts\":[\"a\"],\"return_text\":true}",
      "[{\"index\":0,\"text\":\"a\",\"score\":" S0 "}]", "llama.cpp pinned: texts get a list" },
    { &rr_dialect_jina, false, "{\"model\":\"m\",\"query\":{\"text\":\"q\"},\"documents\":[\"a\"]}",
      UNION_HEAD "{\"index\":0,\"relevance_score\":" S0 ",\"document\":{\"text\":\"a\"}}"
      UNION_TAIL("1", "10"),
      "Jina: the query as an object" },
    { NULL, false,
      "{\"instances\":[{\"query\":\"q\",\"texts\":[\"a\"],\"truncate\":false},{\"query\":\"r\","
      "\"texts\":[\"b\"]}],\"parameters\":{\"raw_scores\":true}}",
      "{\"predictions\":[[{\"index\":0,\"score\":-1.5}],[{\"index\":0,\"score\":2.25}]]}",
      "vertex: options beside the instances count for all" },
    { NULL, false, "{\"inputs\":[\"q\",\"a\"],\"score_threshold\":0.5}", "[]",
      "predict: below the threshold there is no label" },
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
        render(&r, NULL, &out);
        if (strcmp(out.data, replies[i].reply) != 0)
            fail_msg("%s\n got      %s\n expected %s", replies[i].why, out.data, replies[i].reply);
        rr_buf_free(&out);
        done(&r);
    }
}

/* ---- what only some ask for --------------------------------------------------------------- */

static void lose_the_second(struct results *s)
{
    s->scores[0][1] = (struct rr_score){ .missing = true };
    s->order[0][0] = 0; /* missing ones come last */
    s->order[0][1] = 1;
    s->result[0].n_missing = 1;
}

static void rescore(struct results *s)
{
    s->scores[0][1].rescored = true;
    s->result[0].n_rescored = 1;
    s->result[0].exact = true;
}

static void cut_into_windows(struct results *s)
{
    s->scores[0][0].n_windows = 3;
    s->scores[0][0].window_start = 3; /* behind an e with an accent and a blank */
    s->scores[0][0].window_end = 5;
}

static void count_sources(struct results *s)
{
    s->result[0].n_cached = 1;
    s->result[0].n_duplicates = 2;
    s->result[0].n_coalesced = 3;
}

static const struct {
    const char *body;
    change_fn *change;
    const char *reply, *why;
} asked[] = {
    { "{\"query\":\"q\",\"texts\":[\"a\",\"b\",\"c\"],\"score_threshold\":0.5}", NULL,
      "[{\"index\":1,\"score\":" S1 "},{\"index\":2,\"score\":0.5}]",
      "the threshold itself is not below the threshold" },
    { "{\"query\":\"q\",\"texts\":[\"a\",\"b\",\"c\"],\"score_threshold\":1,\"raw_scores\":true}", NULL,
      "[{\"index\":1,\"score\":2.25}]", "the threshold is of what the client sees" },
    { "{\"query\":\"q\",\"texts\":[\"a\",\"b\",\"c\"],\"score_threshold\":0.1,\"top_n\":2}", NULL,
      "[{\"index\":1,\"score\":" S1 "},{\"index\":2,\"score\":0.5}]", "threshold and limit" },
    { "{\"query\":\"q\",\"texts\":[\"a\",\"b\"],\"return_logits\":true}", NULL,
      "[{\"index\":1,\"score\":" S1 ",\"logit\":2.25},{\"index\":0,\"score\":" S0 ",\"logit\":-1.5}]",
      "both scales" },
    { "{\"query\":{\"text\":\"q\"},\"passages\":[{\"text\":\"a\"}],\"return_logits\":true}", NULL,
      "{\"rankings\":[{\"index\":0,\"logit\":-1.5}]}", "nim has them already, and no key twice" },
    { "{\"query\":\"q\",\"texts\":[\"a\",\"b\"],\"explain\":true}", NULL,
      "[{\"index\":1,\"score\":" S1 ",\"explain\":{\"tokens\":10,\"full_tokens\":10,"
      "\"truncated\":false,\"rescored\":false}},{\"index\":0,\"score\":" S0 ",\"explain\":{"
      "\"tokens\":10,\"full_tokens\":12,\"truncated\":true,\"rescored\":false}}]",
      "a list explains its items only" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"a\",\"logit\":1,\"explain\":2,\"window\":3}],"
      "\"return_logits\":true}", NULL,
      "{\"documents\": [{\"content\": \"a\", \"rerank_score\": " S0 ", \"score\": " S0
      ", \"logit\": -1.5}], \"count\": 1, \"model\": \"m\", \"processing_time\": 0.025123}",
      "ragfab: what is asked for takes the place of the caller's members" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"a\",\"logit\":1}]}", NULL,
      "{\"documents\": [{\"content\": \"a\", \"logit\": 1, \"rerank_score\": " S0 ", \"score\": " S0
      "}], \"count\": 1, \"model\": \"m\", \"processing_time\": 0.025123}",
      "ragfab: and only then" },
    { "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"property\":\"\",\"allow_partial\":true}",
      lose_the_second,
      "{\"query\":\"q\",\"scores\":[{\"document\":\"a\",\"score\":" S0
      "}],\"partial\":true,\"missing\":[1]}", "a part of the answer" },
    { "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"property\":\"\",\"allow_partial\":true}", NULL,
      "{\"query\":\"q\",\"scores\":[{\"document\":\"a\",\"score\":" S0
      "},{\"document\":\"b\",\"score\":" S1 "}],\"partial\":false}", "all of it" },
    { "{\"text_1\":\"q\",\"text_2\":[\"a\",\"b\",\"c\"],\"allow_partial\":true}", lose_the_second,
      "{\"id\":\"id\",\"object\":\"list\",\"created\":1000,\"model\":\"m\",\"data\":[{\"index\":0,"
      "\"object\":\"score\",\"score\":" S0 "},{\"index\":2,\"object\":\"score\",\"score\":0.5}],"
      "\"usage\":{\"prompt_tokens\":30,\"total_tokens\":30},\"partial\":true,\"missing\":[1]}",
      "score keeps the indices" },
    { "{\"query\":\"q\",\"documents\":[\"a\",\"b\"],\"top_k\":1,\"exact_top_k\":1}", rescore,
      "{\"object\":\"list\",\"data\":[{\"index\":1,\"relevance_score\":" S1
      "}],\"model\":\"m\",\"usage\":{\"total_tokens\":20},\"exact\":true,\"rescored\":1}",
      "exact" },
    { "{\"query\":\"q\",\"texts\":[\"\\u00e9 texte\"],\"window\":{\"size\":4,\"stride\":2}}",
      cut_into_windows,
      "[{\"index\":0,\"score\":" S0 ",\"window\":{\"start\":2,\"end\":4,\"start_byte\":3,"
      "\"end_byte\":5,\"windows\":3}}]", "the best window, in characters and in bytes" },
    { "{\"query\":\"q\",\"texts\":[\"\\u00e9t\\u00e9\"],\"window\":{\"size\":4}}", NULL,
      "[{\"index\":0,\"score\":" S0 ",\"window\":{\"start\":0,\"end\":3,\"start_byte\":0,"
      "\"end_byte\":5,\"windows\":1}}]", "a document that fits is one window" },
    { "{\"input\":{\"query\":\"q\",\"documents\":[\"a\"]},\"parameters\":{\"explain\":true}}",
      count_sources,
      "{\"output\":{\"results\":[{\"index\":0,\"relevance_score\":" S0
      ",\"explain\":{\"tokens\":10,\"full_tokens\":12,\"truncated\":true,\"rescored\":false}}]},"
      "\"usage\":{\"total_tokens\":10},\"request_id\":\"id\",\"explain\":{\"dialect\":\"dashscope\","
      "\"documents\":1,\"tokens\":10,\"truncated\":1,\"cached\":1,\"duplicates\":2,\"coalesced\":3,"
      "\"rescored\":0,\"replaced_characters\":3,\"ms\":{\"parse\":0.07,\"tokenize\":1.5,"
      "\"queue\":0.002,\"compute\":10.0,\"total\":25.123}}}",
      "dashscope's options may be among its parameters" },
};

static void test_asked(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(asked); i++) {
        struct request r;
        struct rr_buf out;

        parse(&r, NULL, asked[i].body, false);
        if (r.rc) fail_msg("%s: %s", asked[i].why, r.problem.msg);
        render(&r, asked[i].change, &out);
        if (strcmp(out.data, asked[i].reply) != 0)
            fail_msg("%s\n got      %s\n expected %s", asked[i].why, out.data, asked[i].reply);
        rr_buf_free(&out);
        done(&r);
    }
}

/* Every dialect with every option: the keys are the same everywhere, and the reply stays JSON. */
static void test_asked_everywhere(void **state)
{
    static const char *const bodies[] = {
        "\"query\":\"q\",\"texts\":[\"a\",\"b\"]", "\"query\":\"q\",\"documents\":[\"a\",\"b\"]",
        "\"query\":\"q\",\"documents\":[{\"content\":\"a\"},{\"content\":\"b\"}]",
        "\"query\":\"q\",\"documents\":[\"a\"],\"top_k\":2", "\"query\":\"q\",\"input\":[\"a\"]",
        "\"query\":{\"text\":\"q\"},\"passages\":[{\"text\":\"a\"}]",
        "\"query\":\"q\",\"documents\":[\"a\"],\"property\":\"\"",
        "\"input\":{\"query\":\"q\",\"documents\":[\"a\"]}", "\"text_1\":\"q\",\"text_2\":[\"a\",\"b\"]",
        "\"inputs\":[\"q\",\"a\"]", "\"instances\":[{\"query\":\"q\",\"texts\":[\"a\"]}]",
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(bodies); i++) {
        struct request r;
        struct rr_buf out;
        char body[512];

        snprintf(body, sizeof(body),
                 "{%s,\"score_threshold\":-9,\"return_logits\":true,\"explain\":true,\"no_cache\":true,"
                 "\"allow_partial\":true,\"timeout_ms\":250,\"exact_top_k\":3,\"priority\":\"high\","
                 "\"max_length\":64,\"truncate\":false,\"truncation_direction\":\"left\","
                 "\"window\":{\"size\":32,\"stride\":16,\"pooling\":\"mean\"}}", bodies[i]);
        parse(&r, NULL, body, false);
        if (r.rc) fail_msg("%s: %s", bodies[i], r.problem.msg);
        assert_true(r.ask.extras.explain && r.ask.extras.no_cache && r.ask.extras.allow_partial);
        assert_true(r.ask.extras.timeout_ns == 250000000 && r.ask.extras.exact_top_k == 3);
        assert_int_equal(r.ask.extras.priority, RR_PRIORITY_HIGH);
        assert_int_equal(r.ask.extras.window.size, 32);
        assert_int_equal(r.ask.extras.window.stride, 16);
        assert_int_equal(r.ask.extras.window.pooling, RR_POOL_MEAN);
        assert_true(r.ask.max_length == 64 && r.ask.cut.never &&
                    r.ask.cut.side == RR_TRUNCATE_LEFT);
        render(&r, NULL, &out);
        if (!strstr(out.data, "\"window\":") && !strstr(out.data, "\"window\": "))
            fail_msg("%s: %s", bodies[i], out.data);
        rr_buf_free(&out);
        done(&r);
    }
}

static void test_timeouts(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns; /* 0: refused */
    } rows[] = {
        { "2", 2000000000 },   { "1.5", 1500000000 },  { "1.5s", 1500000000 }, { "500ms", 500000000 },
        { "1m", 60000000000 }, { "0.25", 250000000 },  { "99999999", 86400000000000 },
        { "", 0 },             { "0", 0 },             { "0.0s", 0 },          { "-1", 0 },
        { "1h", 0 },           { "1 s", 0 },           { "s", 0 },             { "1e3", 0 },
        { ".5", 0 },           { "12345678901", 0 },   { "nan", 0 },           { "1,5", 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        uint64_t ns = 0;
        bool ok = rr_timeout_parse(rows[i].text, &ns);

        if (ok != (rows[i].ns > 0) || (ok && ns != rows[i].ns))
            fail_msg("%s: %d %llu", rows[i].text, ok, (unsigned long long)ns);
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

static size_t slice_count(const struct request *r)
{
    struct results results;
    struct rr_reply reply = { .ask = &r->ask, .results = results.list };

    make_results(&results, &r->ask);
    return rr_reply_count(&reply, 0);
}

static void test_slices(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(slices); i++) {
        struct request r;
        char body[256];

        snprintf(body, sizeof(body),
                 "{\"query\":\"q\",\"documents\":[{\"content\":\"a\"},{\"content\":\"b\"},"
                 "{\"content\":\"c\"},{\"content\":\"d\"}]%s}", slices[i].top_k);
        parse(&r, NULL, body, false);
        assert_int_equal(r.rc, 0);
        if (slice_count(&r) != slices[i].count)
            fail_msg("%s: %zu", slices[i].why, slice_count(&r));
        done(&r);
    }
}

/* ---- errors ------------------------------------------------------------------------------- */

#define MSG(text) "{\"error\":\"" text "\",\"error_type\":\"Validation\",\"message\":\"" text "\","
#define BOTH(text) MSG(text) "\"detail\":\"" text "\"}"
#define DASHSCOPE(type, text) \
    "{\"code\":\"InvalidParameter\",\"error\":\"" text "\",\"error_type\":\"" type "\"," \
    "\"message\":\"" text "\",\"detail\":\"" text "\"}"
#define LONG_TEXT \
    "\"12345678901234567890123456789012345678901234567890" \
    "123456789012345678901234567890123456789012345678901\""
#define TOO_LONG " bytes, at most 100 are allowed (--max-document-bytes)"

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
    { NULL, "{\"query\":\"q\",\"input\":[\"a\"],\"rank_fields\":\"t\"}", 422, NULL,
      "mixedbread's, too" },
    { &rr_dialect_pinecone, "{\"query\":\"q\",\"documents\":[\"a\"],\"rank_fields\":\"t\"}", 422,
      NULL, "and pinecone's" },
    { &rr_dialect_pinecone, "{\"query\":\"q\",\"documents\":[\"a\"],\"parameters\":\"END\"}", 422,
      BOTH("parameters: expected an object, found a string"), "nor its parameters" },
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
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"," LONG_TEXT "]}", 422,
      BOTH("texts[1]: 101" TOO_LONG), "named as the request does" },
    { NULL, "{\"query\":\"q\",\"documents\":" LONG_TEXT "}", 422, BOTH("documents: 101" TOO_LONG),
      "a lone one" },
    { NULL, "{\"query\":{\"text\":\"q\"},\"passages\":[{\"text\":" LONG_TEXT "}]}", 422,
      BOTH("passages[0]: 101" TOO_LONG), "nim's" },
    { NULL, "{\"instances\":[{\"query\":\"q\",\"texts\":[\"a\"]},{\"query\":\"q\",\"texts\":["
      LONG_TEXT "]}]}", 422, BOTH("instances[1].texts[0]: 101" TOO_LONG), "an instance's" },
    { NULL, "{\"inputs\":[[\"q\",\"a\"],[\"q\"," LONG_TEXT "]]}", 422,
      BOTH("inputs[1]: 101" TOO_LONG), "a pair's" },
    { NULL, "{\"text_1\":[\"q\",\"r\"],\"text_2\":[\"a\"," LONG_TEXT "]}", 400,
      "{\"error\":{\"message\":\"text_2[1]: 101" TOO_LONG "\",\"type\":\"BadRequestError\","
      "\"param\":\"text_2[1]\",\"code\":400}}", "of a list of pairs" },
    { NULL, "{\"text_1\":[\"q\",\" \"],\"text_2\":[\"a\",\"b\"]}", 400,
      "{\"error\":{\"message\":\"text_1[1] must not be blank\",\"type\":\"BadRequestError\","
      "\"param\":null,\"code\":400}}", "a query by its own name" },
    { NULL, "{\"queries\":" LONG_TEXT ",\"items\":[\"a\"]}", 400,
      "{\"error\":{\"message\":\"queries: 101 bytes, at most 50 are allowed (--max-query-bytes)\","
      "\"type\":\"BadRequestError\",\"param\":\"queries\",\"code\":400}}", "and one that is too long" },
    { NULL, "{\"input\":{\"query\":\"\",\"documents\":[\"a\"]}}", 400,
      DASHSCOPE("Validation", "input.query must not be blank"), "dashscope's" },
    { NULL, "{\"instances\":[{\"query\":" LONG_TEXT ",\"texts\":[\"a\"]}]}", 422,
      BOTH("instances[0].query: 101 bytes, at most 50 are allowed (--max-query-bytes)"), "vertex's" },
    { NULL, "{\"inputs\":[[\"q\",\"a\"],[\"\",\"a\"]]}", 400, BOTH("inputs[1][0] must not be blank"),
      "a pair's" },
    { NULL, "{\"inputs\":{\"text\":\"\",\"text_pair\":\"a\"}}", 400, BOTH("inputs.text must not be blank"),
      "a lone pair's" },
    { NULL, "{\"text_1\":\"q\",\"text_2\":[]}", 400,
      "{\"error\":{\"message\":\"text_2 must not be empty\",\"type\":\"BadRequestError\","
      "\"param\":null,\"code\":400}}", "nothing on the right" },
    { NULL, "{\"query\":\"q\",\"input\":[]}", 400,
      "{\"error\":\"input must not be empty\",\"error_type\":\"Empty\",\"message\":"
      "\"input must not be empty\",\"detail\":\"input must not be empty\"}",
      "mixedbread's list" },
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
    { NULL, "{\"query\":\"q\",\"documents\":[{\"content\":\"x\"}],\"top_k\":\"five\"}", 422, NULL,
      "ragfab with a word as top_k" },
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
    { NULL, "{\"text_1\":[\"a\",\"b\"],\"text_2\":[\"c\",\"d\",\"e\"]}", 400,
      "{\"error\":{\"message\":\"text_1: found 2 texts for 3 in text_2: expected one, or as many\","
      "\"type\":\"BadRequestError\",\"param\":\"text_1\",\"code\":400}}",
      "two against three" },
    { NULL, "{\"input\":{\"documents\":[\"a\"]}}", 400,
      DASHSCOPE("Validation", "input.query: Field required"), "dashscope without a query" },
    { NULL, "{\"input\":{\"query\":\"q\",\"documents\":[]}}", 400,
      DASHSCOPE("Empty", "input.documents must not be empty"), "dashscope without documents" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"priority\":\"urgent\"}", 422,
      BOTH("priority: must be \\\"high\\\", \\\"normal\\\" or \\\"low\\\", or an integer"), "no such priority" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"priority\":[]}", 422, NULL, "priority of another type" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"score_threshold\":\"0.5\"}", 422,
      BOTH("score_threshold: expected a number, found a string"), "a threshold as a string" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"timeout_ms\":0}", 422,
      BOTH("timeout_ms: found 0, must be at least 1"), "no time at all" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"exact_top_k\":-1}", 422, NULL, "less than none" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"explain\":\"yes\"}", 422, NULL, "not a boolean" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"window\":true}", 422,
      BOTH("window: expected an object, found a boolean"), "a window without a size" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"window\":{}}", 422,
      BOTH("window.size: Field required"), "an empty window" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"window\":{\"size\":8,\"stride\":9}}", 422,
      BOTH("window.stride: found 9, must be at most 8"), "gaps between windows" },
    { NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"window\":{\"size\":8,\"pooling\":\"min\"}}", 422,
      BOTH("window.pooling: must be \\\"max\\\", \\\"mean\\\" or \\\"first\\\""), "no such pooling" },
    { NULL, "{\"input\":{\"query\":\"q\",\"documents\":[\"a\"]},\"parameters\":{\"explain\":3}}", 400,
      DASHSCOPE("Validation", "parameters.explain: expected a boolean, found an integer"),
      "the path of an option" },
    { NULL, "{\"instances\":[{\"query\":\"q\",\"texts\":[\"a\"],\"truncate\":5}]}", 422,
      BOTH("instances[0].truncate: expected a boolean, found an integer"), "and inside an instance" },
    { NULL, "{\"query\":{\"image\":\"x\"},\"documents\":[\"a\"]}", 422,
      BOTH("query: images are not supported"), "an image as the query" },
    { &rr_dialect_vllm, "{\"query\":\"q\",\"documents\":[5]}", 400,
      "{\"error\":{\"message\":\"documents[0]: expected a string or an object, found an integer\","
      "\"type\":\"BadRequestError\",\"param\":\"documents[0]\",\"code\":400}}", "vLLM's form" },
    { &rr_dialect_llamacpp, "{\"query\":\"\",\"documents\":[\"a\"]}", 400,
      "{\"error\":{\"code\":400,\"message\":\"query must not be blank\","
      "\"type\":\"invalid_request_error\"}}", "llama.cpp's form" },
    { &rr_dialect_vllm, "{\"documents\":[\"a\"]}", 400,
      "{\"error\":{\"message\":\"query: Field required\",\"type\":\"BadRequestError\","
      "\"param\":\"query\",\"code\":400}}", "vLLM knows no 422" },
    { &rr_dialect_llamacpp, "{\"query\":\"q\",\"documents\":[1,2,3]}", 400,
      "{\"error\":{\"code\":400,\"message\":\"documents[0]: expected a string or an object, found "
      "an integer\",\"type\":\"invalid_request_error\"}}", "nor does llama.cpp" },
    { &rr_dialect_llamacpp, "{\"query\":\"q\",\"documents\":null}", 400, NULL, "llama.cpp: no list" },
    { &rr_dialect_infinity, "{\"query\":\"q\",\"documents\":[]}", 400,
      "{\"error\":{\"message\":\"documents must not be empty\",\"type\":\"BadRequestError\","
      "\"param\":null,\"code\":400}}", "Infinity's own errors" },
    { &rr_dialect_infinity, "{\"documents\":[\"a\"]}", 422,
      MSG("query: Field required")
      "\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"query\"],\"msg\":\"Field required\","
      "\"input\":null}]}", "Infinity's schema errors" },
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
        r.problem.status = rr_dialect_status(r.ask.dialect, r.problem.status);
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
    assert_true(r.ask.cut.never);
    assert_int_equal(r.ask.cut.side, RR_TRUNCATE_LEFT);
    assert_int_equal(r.ask.max_length, 64);
    done(&r);

    parse(&r, NULL, "{\"query\":\"q\",\"texts\":[\"a\"],\"truncate\":null,\"max_length\":null,"
                    "\"truncation_direction\":null,\"raw_scores\":null,\"return_text\":null}", false);
    assert_int_equal(r.rc, 0);
    assert_false(r.ask.cut.never);
    assert_int_equal(r.ask.cut.side, RR_TRUNCATE_MODEL);
    assert_int_equal(r.ask.max_length, 0);
    done(&r);

    parse(&r, NULL, "{\"query\":{\"text\":\"q\"},\"passages\":[{\"text\":\"a\"}],"
                    "\"truncate\":\"NONE\"}", false);
    assert_int_equal(r.rc, 0);
    assert_true(r.ask.cut.never);
    assert_true(r.ask.groups[0].raw_scores);
    done(&r);

    parse(&r, &rr_dialect_pinecone, "{\"query\":\"q\",\"documents\":[{\"text\":\"a\"}],"
                                    "\"parameters\":{\"truncate\":\"NONE\",\"raw_scores\":true}}", false);
    assert_int_equal(r.rc, 0);
    assert_true(r.ask.cut.never);
    assert_true(r.ask.groups[0].raw_scores);
    done(&r);

    parse(&r, NULL, "{\"query\":\"q\",\"documents\":[\"a\"],\"truncate_prompt_tokens\":-1,"
                    "\"truncation_side\":\"left\"}", false);
    assert_int_equal(r.rc, 0);
    assert_int_equal(r.ask.cut.side, RR_TRUNCATE_LEFT);
    assert_int_equal(r.ask.max_length, 0);
    done(&r);
}

/* What pydantic 2's lax mode makes of each, as it said itself. */
static void test_lax_integers(void **state)
{
    static const struct {
        const char *value;
        bool taken;
        int64_t n;
    } rows[] = {
        { "\"3\"", true, 3 },
        { "\" +3\\t\"", true, 3 },
        { "\"\\u00a0-3\\u2003\"", true, -3 },
        { "\"0003.000\"", true, 3 },
        { "\"1_000\"", true, 1000 },
        { "\"3_0.0\"", true, 30 },
        { "\"9223372036854775807\"", true, INT64_MAX },
        { "\"-0\"", true, 0 },
        { "true", true, 1 },
        { "false", true, 0 },
        { "3.0", true, 3 },
        { "1e18", true, 1000000000000000000 },
        { "\"\"", false, 0 },
        { "\" \"", false, 0 },
        { "\"+\"", false, 0 },
        { "\"+ 3\"", false, 0 },
        { "\"--3\"", false, 0 },
        { "\"_1\"", false, 0 },
        { "\"1_\"", false, 0 },
        { "\"1__0\"", false, 0 },
        { "\"3.\"", false, 0 },
        { "\".0\"", false, 0 },
        { "\"3.5\"", false, 0 },
        { "\"3.0_0\"", false, 0 },
        { "\"1e3\"", false, 0 },
        { "\"0x3\"", false, 0 },
        { "\"3\\u0000\"", false, 0 },
        { "\"\\uff13\"", false, 0 },
        { "\"3 4\"", false, 0 },
        { "3.5", false, 0 },
        { "1e300", false, 0 },
        { "[3]", false, 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        struct request r;
        struct rr_buf out;
        char body[512], echo[64];

        snprintf(body, sizeof(body),
                 "{\"query\":\"q\",\"documents\":[{\"chunk_id\":\"c\",\"document_id\":\"d\","
                 "\"document_title\":\"t\",\"document_source\":\"s\",\"chunk_index\":%s,"
                 "\"content\":\"x\",\"similarity\":1}]}", rows[i].value);
        parse(&r, NULL, body, false);
        if (!r.rc != rows[i].taken) fail_msg("chunk_index %s: %s", rows[i].value, r.problem.msg);
        if (rows[i].taken) { /* it comes back as an integer, in its place */
            render(&r, NULL, &out);
            snprintf(echo, sizeof(echo), "\"chunk_index\": %lld, \"content\"", (long long)rows[i].n);
            if (!strstr(out.data, echo)) fail_msg("%s: no %s in %s", rows[i].value, echo, out.data);
            rr_buf_free(&out);
        }
        done(&r);
        snprintf(body, sizeof(body), "{\"query\":\"q\",\"documents\":[{\"content\":\"x\"}],\"top_k\":%s}",
                 rows[i].value);
        parse(&r, &rr_dialect_ragfab, body, false);
        if (!r.rc != rows[i].taken) fail_msg("top_k %s: %s", rows[i].value, r.problem.msg);
        if (rows[i].n > 0) assert_true(r.ask.limit == rows[i].n);
        done(&r);
    }
}

static void test_priorities(void **state)
{
    static const struct {
        const char *value;
        enum rr_priority priority;
    } rows[] = {
        { "\"high\"", RR_PRIORITY_HIGH },     { "\"LOW\"", RR_PRIORITY_LOW },
        { "\"normal\"", RR_PRIORITY_NORMAL }, { "null", RR_PRIORITY_NORMAL },
        { "0", RR_PRIORITY_NORMAL },          { "999", RR_PRIORITY_LOW },
        { "-1", RR_PRIORITY_HIGH },           { "1.0", RR_PRIORITY_LOW },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        struct request r;
        char body[128];

        snprintf(body, sizeof(body), "{\"query\":\"q\",\"texts\":[\"a\"],\"priority\":%s}",
                 rows[i].value);
        parse(&r, NULL, body, false);
        assert_int_equal(r.rc, 0);
        assert_int_equal(r.ask.extras.priority, rows[i].priority);
        done(&r);
    }
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
        cmocka_unit_test(test_asked),    cmocka_unit_test(test_asked_everywhere),
        cmocka_unit_test(test_timeouts), cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_engine_errors), cmocka_unit_test(test_lax_integers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
