/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_detect.c - the body alone decides the dialect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/json.h"
#include "base/text.h"
#include "server/dialect.h"

#define SEVEN                                                                                      \
    "{\"chunk_id\":\"c\",\"document_id\":\"d\",\"document_title\":\"t\",\"document_source\":\"s\"," \
    "\"chunk_index\":0,\"content\":\"x\",\"similarity\":0.5}"

static const struct {
    const char *body;
    const char *dialect; /* NULL: none */
    const char *why;
} cases[] = {
    { "{\"query\":\"q\",\"documents\":[" SEVEN "],\"top_k\":5}", "ragfab", "ragfab's web-api" },
    { "{\"query\":\"q\",\"documents\":[" SEVEN "," SEVEN "]}", "ragfab", "without top_k" },
    { "{\"query\":\"q\",\"documents\":[" SEVEN "],\"top_k\":null}", "ragfab", "null top_k" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"x\",\"metadata\":{}}]}", "ragfab",
      "the newer document shape" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"x\"}],\"truncation\":true}", "ragfab",
      "row 9 comes before row 10" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"x\"}],\"top_n\":null}", "union",
      "an explicit null is a key too" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"x\"}],\"return_documents\":false}", "union",
      "Cohere keys with content as the text" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"x\",\"text\":\"y\"}]}", "union",
      "text beside content" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":\"x\"},\"y\"]}", "union", "mixed" },
    { "{\"query\":\"q\",\"documents\":[{\"content\":5}]}", "union", "content is not a string" },
    { "{\"query\":\"q\",\"documents\":[]}", "union", "empty never means ragfab" },
    { "{\"query\":\"q\",\"documents\":null}", "union", "null counts as present" },
    { "{\"query\":\"q\",\"documents\":[],\"top_k\":3}", "voyage", "empty with top_k" },
    { "{\"query\":\"q\",\"texts\":[\"a\"]}", "tei", "LlamaIndex" },
    { "{\"query\":\"q\",\"texts\":[\"a\"],\"raw_scores\":false,\"truncate\":true}", "tei",
      "RAGFlow" },
    { "{\"query\":\"q\",\"texts\":[\"a\"],\"return_text\":true}", "tei", "Dify" },
    { "{\"model\":\"m\",\"query\":\"q\",\"texts\":[\"a\"],\"top_n\":1,\"return_text\":true}", "tei",
      "AnswerDotAI" },
    { "{\"query\":\"q\",\"texts\":[\"a\"],\"documents\":[\"b\"]}", "tei", "texts comes first" },
    { "{\"query\":\"q\",\"texts\":null}", "tei", "null counts as present" },
    { "{\"query\":\"q\",\"texts\":[]}", "tei", "empty" },
    { "{\"query\":\"q\",\"documents\":[\"a\"]}", "union", "the least" },
    { "{\"query\":\"q\",\"documents\":\"a\"}", "union", "vLLM allows a lone string" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"model\":\"m\",\"top_n\":3}", "union", "Cohere v2" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"max_chunks_per_doc\":null}", "union",
      "LangChain JS" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":null,\"model\":\"m\"}", "union",
      "Haystack's Jina ranker" },
    { "{\"query\":\"q\",\"documents\":[{\"text\":\"a\"}],\"return_documents\":true}", "union",
      "Jina, Dify's Cohere plug-in" },
    { "{\"query\":\"q\",\"documents\":[{\"title\":\"a\"}],\"rank_fields\":[\"title\"]}", "union",
      "Cohere v1 rank_fields" },
    { "{\"query\":\"q\",\"documents\":[{\"id\":\"1\",\"text\":\"a\"}],\"top_n\":1}", "union",
      "Pinecone: the known exception" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":1,\"top_k\":2}", "union",
      "top_n wins over top_k" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"return_documents\":\"true\",\"return_len\":\"true\"}",
      "union", "RAGFlow to Xinference" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"model\":\"m\",\"top_k\":null,\"truncation\":true}",
      "voyage", "voyage Python" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"model\":\"m\",\"top_k\":2}", "voyage", "voyage JS" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"truncation\":false}", "voyage", "truncation alone" },
    { "{\"model\":\"m\",\"query\":{\"text\":\"q\"},\"documents\":[{\"image\":\"x\"}]}", "union",
      "Jina, multimodal" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"doc_ids\":[1]}", "union", "MariaDB AI RAG" },
    { "{\"query\":\"q\",\"documents\":{\"content\":[]}}", "union", "vLLM, multimodal" },
    { "{\"query\":\"q\",\"documents\":[\"a\"],\"property\":\"\"}", "weaviate", "the Go client" },
    { "{\"query\":\"q\",\"property\":\"\"}", NULL, "property without documents" },
    { "{\"query\":{\"text\":\"q\"},\"passages\":[{\"text\":\"a\"}],\"truncate\":\"END\"}", "nim",
      "NIM" },
    { "{\"text_1\":\"q\",\"text_2\":[\"a\"]}", "score", "vLLM score" },
    { "{\"data_1\":\"q\",\"data_2\":[\"a\"]}", "score", "vLLM score, other names" },
    { "{\"queries\":[\"q\"],\"documents\":[\"a\"]}", "score", "vLLM score, newest names" },
    { "{\"instances\":[{\"query\":\"q\",\"texts\":[\"a\"]}]}", "vertex", "Vertex" },
    { "{\"inputs\":[[\"q\",\"a\"]]}", "predict", "TEI predict" },
    { "{\"inputs\":{\"text\":\"q\",\"text_pair\":\"a\"}}", "predict", "HF pipeline" },
    { "{\"model\":\"m\",\"input\":{\"query\":\"q\",\"documents\":[\"a\"]},\"parameters\":{}}",
      "dashscope", "DashScope" },
    { "{\"model\":\"m\",\"query\":\"q\",\"input\":[\"a\"],\"top_k\":1,\"return_input\":true}",
      "mixedbread", "Mixedbread" },
    { "{\"query\":\"q\",\"input\":\"a\",\"documents\":[\"b\"]}", "union",
      "input of another type means nothing" },
    { "{\"query\":\"q\"}", NULL, "no documents of any kind" },
    { "{}", NULL, "empty object" },
    { "[]", NULL, "an array" },
    { "\"texts\"", NULL, "a string" },
    { "null", NULL, "null" },
};

static void test_rule(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        struct rr_error err;
        json_t *root;
        const struct rr_dialect *d;

        assert_int_equal(
            rr_json_parse(&root, rr_text(cases[i].body), 32, RR_JSON_DUP_REJECT, &err), RR_OK);
        d = rr_detect(root);
        if ((d == NULL) != (cases[i].dialect == NULL) ||
            (d && strcmp(d->name, cases[i].dialect) != 0))
            fail_msg("%s: got %s, expected %s\n%s", cases[i].why, d ? d->name : "none",
                     cases[i].dialect ? cases[i].dialect : "none", cases[i].body);
        json_decref(root);
    }
}

static void test_names(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; rr_dialects[i]; i++) {
        const char *name = rr_dialects[i]->name;

        assert_ptr_equal(rr_dialect_find(name, strlen(name)), rr_dialects[i]);
    }
    assert_ptr_equal(rr_dialect_find("siliconflow", 11), &rr_dialect_union);
    assert_ptr_equal(rr_dialect_find("sagemaker", 9), &rr_dialect_tei);
    assert_null(rr_dialect_find("te", 2));
    assert_null(rr_dialect_find("teix", 4));
    assert_ptr_equal(rr_dialect_find("teix", 3), &rr_dialect_tei);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
