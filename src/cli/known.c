/* SPDX-License-Identifier: Apache-2.0 */
/* known.c - see known.h.  Layer: cli (L6). */
#include "cli/known.h"

#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "base/err.h"

/* Half precision has 11 bits: its last one is 1/128 at 8, and a network's roundings add up. */
#define HALF 0.05

/* Text-embeddings-inference computes in float32, GELU by its tanh approximation. */
#define TEI 0.02
#define TEI_SOURCE "text-embeddings-inference, backends/candle/tests, float32"
#define DEEP "What is Deep Learning?"
#define DEEP_NOT "Deep Learning is not..."

#define PANDA "what is panda?"
#define GIANT_PANDA \
    "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, " \
    "is a bear species endemic to China."
#define M3 "BAAI/bge-reranker-v2-m3"
#define M3_SOURCE "the model's card, FlagEmbedding with use_fp16"
#define GTE "Alibaba-NLP/gte-multilingual-reranker-base"
#define GTE_SOURCE "the model's card, torch.float16"
#define MODERN "Alibaba-NLP/gte-reranker-modernbert-base"
#define MODERN_SOURCE "vllm-project/vllm pull request 16648, in half precision"
#define ETTIN "cross-encoder/ettin-reranker-32m-v1"
#define ETTIN_SOURCE "Hugging Face's blog, Introducing the Ettin Reranker Family"
#define APPLE "Where was Apple founded?"
#define MINILM "cross-encoder/ms-marco-MiniLM-L6-v2"
#define BERLIN "How many people live in Berlin?"
#define BERLIN_SOURCE "sbert.net, pretrained CrossEncoder models"
#define TINY "rerankd/tiny-bert"
#define TINY_SOURCE "rerankd's tests/golden, transformers in float32"

static const struct rr_known table[] = {
    { M3, "query", "passage", -5.65234375, HALF, false, M3_SOURCE },
    { M3, PANDA, "hi", -8.1875, HALF, false, M3_SOURCE },
    { M3, PANDA, GIANT_PANDA, 5.26171875, HALF, false, M3_SOURCE },
    { GTE, "中国的首都在哪儿", "北京", 1.2315, HALF, false, GTE_SOURCE },
    { GTE, "what is the capital of China?", "北京", 0.5923, HALF, false, GTE_SOURCE },
    { GTE, "how to implement quick sort in python?", "Introduction of quick sort", 0.3041, HALF,
      false, GTE_SOURCE },
    { GTE, DEEP, DEEP_NOT, -0.74173266, HALF, false, TEI_SOURCE },
    { MODERN, DEEP, DEEP_NOT, 2.2585099, TEI, false, TEI_SOURCE },
    { MODERN, "what is the capital of China?", "Beijing", 0.89453125, 0.005, true, MODERN_SOURCE },
    { MODERN, "how to implement quick sort in python?", "Introduction of quick sort", 0.92138671875,
      0.005, true, MODERN_SOURCE },
    { MODERN, "how to implement quick sort in python?", "The weather is nice today", 0.1572265625,
      0.005, true, MODERN_SOURCE },
    { "tomaarsen/reranker-ModernBERT-large-gooaq-bce", DEEP, DEEP_NOT, -0.30617672, TEI, false,
      TEI_SOURCE },
    { "cross-encoder/ettin-reranker-17m-v1", DEEP, DEEP_NOT, 5.553596, TEI, false, TEI_SOURCE },
    { ETTIN, APPLE,
      "Apple Inc. was founded in Cupertino, California in 1976 by Steve Jobs, Steve Wozniak, and "
      "Ronald Wayne.",
      11.393298, 0.005, false, ETTIN_SOURCE },
    { ETTIN, APPLE,
      "The Fuji apple is an apple cultivar developed in the late 1930s and brought to market in "
      "1962.",
      2.968891, 0.005, false, ETTIN_SOURCE },
    { MINILM, BERLIN,
      "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square "
      "kilometers.",
      0.9998173, 2e-5, true, BERLIN_SOURCE },
    { MINILM, BERLIN, "Berlin is well known for its museums.", 0.01312432, 2e-5, true,
      BERLIN_SOURCE },
    { TINY, "complété avec %d objet local",
      "Perché il caffè è così amaro? Dipende dalla tostatura e dall'acqua.", -2.065363, 2e-4, false,
      TINY_SOURCE },
    { TINY, "complété avec %d objet local",
      "Wie hoch ist die Kündigungsfrist bei einem unbefristeten Arbeitsvertrag?", 1.850862, 2e-4,
      false, TINY_SOURCE },
};

/* "models--ORG--NAME" as a part of a path stands for ORG/NAME. */
static bool is_model(const char *given, const char *model)
{
    static const char mark[] = "models--";
    const char *slash = strchr(model, '/'), *at;
    size_t org = (size_t)(slash - model), name = strlen(slash + 1);

    if (strcmp(given, model) == 0) return true;
    at = strstr(given, mark);
    if (!at || (at > given && at[-1] != '/')) return false;
    at += sizeof(mark) - 1;
    return strncmp(at, model, org) == 0 && strncmp(at + org, "--", 2) == 0 &&
           strncmp(at + org + 2, slash + 1, name) == 0 &&
           (at[org + 2 + name] == '/' || at[org + 2 + name] == 0);
}

const struct rr_known *rr_known_find(const char *model, size_t *n)
{
    const struct rr_known *first = NULL;

    *n = 0;
    for (size_t i = 0; i < RR_COUNT(table); i++) {
        if (!is_model(model, table[i].model)) continue;
        if (!first) first = &table[i];
        ++*n;
    }
    return first;
}

int rr_known_check(struct rr_engine *engine, const struct rr_known *rows, size_t n,
                   double tolerance, struct rr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct rr_known *k = &rows[i];
        struct rr_text document = { k->document, strlen(k->document) };
        struct rr_request request = { .query = { k->query, strlen(k->query) },
                                      .documents = &document,
                                      .n_documents = 1 };
        double most = RR_MAX(k->tolerance, tolerance), found;
        struct rr_result *result;
        int rc = rr_score(engine, &request, &result, err);

        if (rc) return rc;
        found = (double)result->scores[0].logit;
        rr_result_free(result);
        if (k->sigmoid) found = 1 / (1 + exp(-found));
        if (fabs(found - k->value) <= most) continue;
        return rr_fail(err, RR_EFORMAT,
                       "%s: known pair %zu has the %s %.6g, expected %.6g within %.1g (%s): these "
                       "are other weights, or they are read wrongly",
                       k->model, i + 1, k->sigmoid ? "score" : "logit", found, k->value, most,
                       k->source);
    }
    return RR_OK;
}
