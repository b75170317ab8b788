/* SPDX-License-Identifier: Apache-2.0 */
/* arch.c - the table of networks.  Layer: model (L4). */
#include "model/arch.h"

#include <string.h>

#include "model/arch_bert.h"
#include "model/arch_deberta.h"
#include "model/arch_decoder.h"
#include "model/arch_gte.h"
#include "model/arch_modernbert.h"
#include "model/gguf_model.h"
#include "model/model.h"

#define BERT rr_arch_bert_read, rr_arch_bert_build, false
#define MODERNBERT rr_arch_modernbert_read, rr_arch_modernbert_build, false
#define DEBERTA rr_arch_deberta_read, rr_arch_deberta_build, false
#define GTE rr_arch_gte_read, rr_arch_gte_build, false
#define DECODER rr_arch_decoder_read, rr_arch_decoder_build

const struct rr_arch rr_archs[] = {
    { "XLMRobertaForSequenceClassification", RR_FAMILY_ROBERTA, 1, BERT },
    { "RobertaForSequenceClassification", RR_FAMILY_ROBERTA, 1, BERT },
    { "CamembertForSequenceClassification", RR_FAMILY_ROBERTA, 1, BERT }, /* the same network */
    { "BertForSequenceClassification", RR_FAMILY_BERT, 0, BERT },
    { "ElectraForSequenceClassification", RR_FAMILY_ELECTRA, 0, BERT },
    { "ModernBertForSequenceClassification", RR_FAMILY_MODERNBERT, 50283, MODERNBERT },
    { "DebertaV2ForSequenceClassification", RR_FAMILY_DEBERTA, 0, DEBERTA },
    { "NewForSequenceClassification", RR_FAMILY_GTE, 0, GTE },
    { "Qwen3ForCausalLM", RR_FAMILY_DECODER, 0, DECODER, true },
    { "Qwen2ForCausalLM", RR_FAMILY_DECODER, 0, DECODER, true },
    { "GemmaForCausalLM", RR_FAMILY_DECODER, 0, DECODER, true },
    { "Qwen3ForSequenceClassification", RR_FAMILY_DECODER, 0, DECODER, false },
    { "Qwen2ForSequenceClassification", RR_FAMILY_DECODER, 0, DECODER, false },
    { 0 },
};

/* CamemBERT is XLM-RoBERTa in GGUF. */
const char *rr_model_supported(size_t i, const char **gguf_types)
{
    const char *name = rr_archs[i].name;
    bool gguf = name && rr_gguf_names(rr_archs[i].family, false);

    *gguf_types = gguf ? rr_gguf_type_names() : "";
    return name;
}

const struct rr_arch *rr_arch_find(const char *name, size_t len)
{
    for (const struct rr_arch *a = rr_archs; a->name; a++)
        if (strlen(a->name) == len && memcmp(a->name, name, len) == 0) return a;
    return NULL;
}
