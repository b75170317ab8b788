/* SPDX-License-Identifier: Apache-2.0 */
/* arch.c - the table of networks.  Layer: model (L4). */
#include "model/arch.h"

#include <string.h>

#include "base/attr.h"
#include "model/arch_bert.h"
#include "model/arch_deberta.h"
#include "model/arch_decoder.h"
#include "model/arch_gte.h"
#include "model/arch_modernbert.h"
#include "model/gguf_model.h"
#include "model/model.h"

#define BERT rr_arch_bert_read, rr_arch_bert_build
#define MODERNBERT rr_arch_modernbert_read, rr_arch_modernbert_build
#define DEBERTA rr_arch_deberta_read, rr_arch_deberta_build
#define GTE rr_arch_gte_read, rr_arch_gte_build
#define MODULES "sentence-transformers' cross-encoders with modules.json"
#define DECODER rr_arch_decoder_read, rr_arch_decoder_build

const struct rr_arch rr_archs[] = {
    { "XLMRobertaForSequenceClassification", RR_FAMILY_ROBERTA, 1, BERT, RR_END_HEAD,
      "bge-reranker-v2-m3, -base, -large, jina-reranker-v2-base-multilingual, the starter model" },
    { "RobertaForSequenceClassification", RR_FAMILY_ROBERTA, 1, BERT, RR_END_HEAD,
      "RoBERTa cross-encoders" },
    { "CamembertForSequenceClassification", RR_FAMILY_ROBERTA, 1, BERT, RR_END_HEAD,
      "CamemBERT cross-encoders" }, /* the same network */
    { "BertForSequenceClassification", RR_FAMILY_BERT, 0, BERT, RR_END_HEAD,
      "ms-marco-MiniLM and -TinyBERT cross-encoders" },
    { "ElectraForSequenceClassification", RR_FAMILY_ELECTRA, 0, BERT, RR_END_HEAD,
      "ms-marco-electra-base" },
    { "ModernBertForSequenceClassification", RR_FAMILY_MODERNBERT, 50283, MODERNBERT, RR_END_HEAD,
      "gte-reranker-modernbert-base" },
    { "DebertaV2ForSequenceClassification", RR_FAMILY_DEBERTA, 0, DEBERTA, RR_END_HEAD,
      "mxbai-rerank-xsmall-v1 to -large-v1" },
    { "NewForSequenceClassification", RR_FAMILY_GTE, 0, GTE, RR_END_HEAD,
      "gte-multilingual-reranker-base" },
    { "Qwen3ForCausalLM", RR_FAMILY_DECODER, 0, DECODER, RR_END_WORD, "Qwen3-Reranker" },
    { "Qwen2ForCausalLM", RR_FAMILY_DECODER, 0, DECODER, RR_END_WORD,
      "mxbai-rerank-base-v2, -large-v2" },
    { "GemmaForCausalLM", RR_FAMILY_DECODER, 0, DECODER, RR_END_WORD, "bge-reranker-v2-gemma" },
    { "Qwen3ForSequenceClassification", RR_FAMILY_DECODER, 0, DECODER, RR_END_HEAD,
      "Qwen3-Reranker, converted" },
    { "Qwen2ForSequenceClassification", RR_FAMILY_DECODER, 0, DECODER, RR_END_HEAD,
      "rerankers on Qwen2 with a classifier" },
    { "ModernBertModel", RR_FAMILY_MODERNBERT, 50283, MODERNBERT, RR_END_MODULES,
      "ettin-reranker-17m-v1 to -1b-v1 (modules.json)" },
    { "XLMRobertaModel", RR_FAMILY_ROBERTA, 1, BERT, RR_END_MODULES, MODULES },
    { "RobertaModel", RR_FAMILY_ROBERTA, 1, BERT, RR_END_MODULES, MODULES },
    { "BertModel", RR_FAMILY_BERT, 0, BERT, RR_END_MODULES, MODULES },
    { "ElectraModel", RR_FAMILY_ELECTRA, 0, BERT, RR_END_MODULES, MODULES },
    { "DebertaV2Model", RR_FAMILY_DEBERTA, 0, DEBERTA, RR_END_MODULES, MODULES },
    { 0 },
};

/* CamemBERT is XLM-RoBERTa in GGUF. */
const char *rr_model_supported(size_t i, const char **gguf_types, const char **models)
{
    const struct rr_arch *a = &rr_archs[RR_MIN(i, RR_COUNT(rr_archs) - 1)]; /* or the end */
    bool gguf = a->name && a->ending != RR_END_MODULES && rr_gguf_names(a->family, false);

    *models = a->models;
    *gguf_types = gguf ? rr_gguf_type_names() : "";
    return a->name;
}

const struct rr_arch *rr_arch_find(const char *name, size_t len)
{
    for (const struct rr_arch *a = rr_archs; a->name; a++)
        if (strlen(a->name) == len && memcmp(a->name, name, len) == 0) return a;
    return NULL;
}
