/* SPDX-License-Identifier: Apache-2.0 */
/* detect.c - which API a body speaks, by its keys alone: the first row that fits wins.
 * Layer: server (L6).  Threads: pure.
 *
 * "Present" means that the key exists, even with the value null: clients do send explicit nulls.
 * Headers, user agents and the state of the server play no part, so that the same body always gets
 * the same shape of answer. */
#include <string.h>

#include "base/attr.h"
#include "server/dialect.h"
#include "server/fields.h"

const struct rr_dialect *const rr_dialects[] = {
    &rr_dialect_ragfab,     &rr_dialect_tei,     &rr_dialect_union,    &rr_dialect_cohere,
    &rr_dialect_jina,       &rr_dialect_vllm,    &rr_dialect_llamacpp, &rr_dialect_infinity,
    &rr_dialect_xinference, &rr_dialect_ollama,  &rr_dialect_voyage,   &rr_dialect_mixedbread,
    &rr_dialect_pinecone,   &rr_dialect_nim,     &rr_dialect_weaviate, &rr_dialect_dashscope,
    &rr_dialect_score,      &rr_dialect_predict, &rr_dialect_vertex,   &rr_dialect_isaacus,
    NULL,
};

/* APIs without a form of their own. */
static const struct {
    const char *name;
    const struct rr_dialect *dialect;
} aliases[] = {
    { "siliconflow", &rr_dialect_union }, { "openwebui", &rr_dialect_union },
    { "ovms", &rr_dialect_union },        { "trtllm", &rr_dialect_union },
    { "localai", &rr_dialect_union },     { "huggingface", &rr_dialect_predict },
    { "sagemaker", &rr_dialect_tei },
};

static bool is(const char *known, const char *name, size_t len)
{
    return strlen(known) == len && memcmp(known, name, len) == 0;
}

const struct rr_dialect *rr_dialect_find(const char *name, size_t len)
{
    size_t i;

    for (i = 0; rr_dialects[i]; i++)
        if (is(rr_dialects[i]->name, name, len)) return rr_dialects[i];
    for (i = 0; i < RR_COUNT(aliases); i++)
        if (is(aliases[i].name, name, len)) return aliases[i].dialect;
    return NULL;
}

static bool has(const json_t *root, const char *key)
{
    return json_object_get(root, key) != NULL;
}

/* The keys that mark a Cohere-like request even when its documents look like ragfab's. */
static bool has_cohere_key(const json_t *root)
{
    static const char *const keys[] = { "top_n", "rank_fields", "return_documents",
                                        "max_chunks_per_doc", "max_tokens_per_doc" };
    size_t i;

    for (i = 0; i < RR_COUNT(keys); i++)
        if (has(root, keys[i])) return true;
    return false;
}

static bool is_ragfab(const json_t *root)
{
    const json_t *documents = json_object_get(root, "documents"), *doc;
    size_t i;

    if (json_array_size(documents) == 0 || has_cohere_key(root)) return false;
    json_array_foreach(documents, i, doc)
    {
        if (!json_is_string(json_object_get(doc, "content")) || has(doc, "text")) return false;
    }
    return true;
}

const struct rr_dialect *rr_detect(const json_t *root)
{
    const json_t *input = json_object_get(root, "input");

    if (!json_is_object(root)) return NULL;
    if (has(root, "texts")) return &rr_dialect_tei;
    if (has(root, "passages")) return &rr_dialect_nim;
    if (has(root, "text_1") || has(root, "data_1") || has(root, "queries"))
        return &rr_dialect_score;
    if (has(root, "instances")) return &rr_dialect_vertex;
    if (has(root, "inputs")) return &rr_dialect_predict;
    if (json_is_object(input)) return &rr_dialect_dashscope;
    if (json_is_array(input)) return &rr_dialect_mixedbread;
    if (!has(root, "documents")) return NULL;
    if (has(root, "property")) return &rr_dialect_weaviate;
    if (is_ragfab(root)) return &rr_dialect_ragfab;
    if (!has(root, "top_n") && (has(root, "top_k") || has(root, "truncation")))
        return &rr_dialect_voyage;
    return &rr_dialect_union;
}
