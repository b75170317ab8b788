/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_names.c - names of tensors in GGUF files and in Hugging Face checkpoints.
 * Layer: model (L4).  Threads: any. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "model/gguf_model.h"

static const struct rr_gguf_name encoder[] = {
    { "token_embd", "embeddings.word_embeddings", true },
    { "position_embd", "embeddings.position_embeddings", true },
    { "token_types", "embeddings.token_type_embeddings", true },
    { "token_embd_norm", "embeddings.LayerNorm", false },
    { "blk.%u.attn_q", "encoder.layer.%u.attention.self.query", true },
    { "blk.%u.attn_k", "encoder.layer.%u.attention.self.key", true },
    { "blk.%u.attn_v", "encoder.layer.%u.attention.self.value", true },
    { "blk.%u.attn_output", "encoder.layer.%u.attention.output.dense", true },
    { "blk.%u.attn_output_norm", "encoder.layer.%u.attention.output.LayerNorm", false },
    { "blk.%u.ffn_up", "encoder.layer.%u.intermediate.dense", true },
    { "blk.%u.ffn_down", "encoder.layer.%u.output.dense", true },
    { "blk.%u.layer_output_norm", "encoder.layer.%u.output.LayerNorm", false },
    { NULL, NULL, false },
};

/* llama.cpp computes tanh of "cls" and then "cls.output": what BERT's pooler and classifier do. */
static const struct rr_gguf_name bert_head[] = {
    { "cls", "bert.pooler.dense", true },
    { "cls.output", "classifier", true },
    { NULL, NULL, false },
};

static const struct rr_gguf_name roberta_head[] = {
    { "cls", "classifier.dense", true },
    { "cls.output", "classifier.out_proj", true },
    { NULL, NULL, false },
};

/* The "flash" form of XLM-RoBERTa (Jina): queries, keys and values in one. */
static const struct rr_gguf_name flash[] = {
    { "token_embd", "embeddings.word_embeddings", true },
    { "position_embd", "embeddings.position_embeddings", true },
    { "token_types", "embeddings.token_type_embeddings", true },
    { "token_embd_norm", "emb_ln", false },
    { "blk.%u.attn_qkv", "encoder.layers.%u.mixer.Wqkv", true },
    { "blk.%u.attn_output", "encoder.layers.%u.mixer.out_proj", true },
    { "blk.%u.attn_output_norm", "encoder.layers.%u.norm1", false },
    { "blk.%u.ffn_up", "encoder.layers.%u.mlp.fc1", true },
    { "blk.%u.ffn_down", "encoder.layers.%u.mlp.fc2", true },
    { "blk.%u.layer_output_norm", "encoder.layers.%u.norm2", false },
    { NULL, NULL, false },
};

static const struct rr_gguf_name modernbert[] = {
    { "token_embd", "embeddings.tok_embeddings", true },
    { "token_embd_norm", "embeddings.norm", false },
    { "output_norm", "final_norm", false },
    { "blk.%u.attn_norm", "layers.%u.attn_norm", false },
    { "blk.%u.attn_qkv", "layers.%u.attn.Wqkv", true },
    { "blk.%u.attn_output", "layers.%u.attn.Wo", true },
    { "blk.%u.ffn_norm", "layers.%u.mlp_norm", false },
    { "blk.%u.ffn_up", "layers.%u.mlp.Wi", true },
    { "blk.%u.ffn_down", "layers.%u.mlp.Wo", true },
    { NULL, NULL, false },
};

static const struct rr_gguf_name modernbert_head[] = {
    { "cls", "head.dense", true },
    { "cls.norm", "head.norm", false },
    { "cls.output", "classifier", true },
    { NULL, NULL, false },
};

static const struct rr_gguf_name decoder[] = {
    { "token_embd", "embed_tokens", true },
    { "output_norm", "norm", false },
    { "blk.%u.attn_norm", "layers.%u.input_layernorm", false },
    { "blk.%u.attn_q", "layers.%u.self_attn.q_proj", true },
    { "blk.%u.attn_k", "layers.%u.self_attn.k_proj", true },
    { "blk.%u.attn_v", "layers.%u.self_attn.v_proj", true },
    { "blk.%u.attn_output", "layers.%u.self_attn.o_proj", true },
    { "blk.%u.attn_q_norm", "layers.%u.self_attn.q_norm", false },
    { "blk.%u.attn_k_norm", "layers.%u.self_attn.k_norm", false },
    { "blk.%u.ffn_norm", "layers.%u.post_attention_layernorm", false },
    { "blk.%u.ffn_gate", "layers.%u.mlp.gate_proj", true },
    { "blk.%u.ffn_up", "layers.%u.mlp.up_proj", true },
    { "blk.%u.ffn_down", "layers.%u.mlp.down_proj", true },
    { NULL, NULL, false },
};

static const struct rr_gguf_name decoder_head[] = {
    { "output", "lm_head", true },
    { "cls.output", "score", true },
    { NULL, NULL, false },
};

const struct rr_gguf_names *rr_gguf_names(enum rr_family family, bool stacked)
{
    static const struct rr_gguf_names bert = { "bert.", encoder, bert_head };
    static const struct rr_gguf_names roberta = { "roberta.", encoder, roberta_head };
    static const struct rr_gguf_names jina = { "roberta.", flash, roberta_head };
    static const struct rr_gguf_names modern = { "model.", modernbert, modernbert_head };
    static const struct rr_gguf_names causal = { "model.", decoder, decoder_head };

    switch (family) {
    case RR_FAMILY_BERT: return &bert;
    case RR_FAMILY_ROBERTA: return stacked ? &jina : &roberta;
    case RR_FAMILY_MODERNBERT: return &modern;
    case RR_FAMILY_DECODER: return &causal;
    default: return NULL;
    }
}

float rr_gguf_shift(const char *architecture, struct rr_text gguf)
{
    static const char norm[] = "norm.weight";
    size_t n = sizeof(norm) - 1;

    return strncmp(architecture, "Gemma", 5) == 0 && gguf.len >= n &&
                   memcmp(gguf.data + gguf.len - n, norm, n) == 0
               ? 1.0f
               : 0.0f;
}

/* name against a pattern with at most one %u, whose number goes to *layer. */
static bool matches(const char *pattern, struct rr_text name, unsigned *layer)
{
    const char *mark = strstr(pattern, "%u");
    size_t head = mark ? (size_t)(mark - pattern) : strlen(pattern), at = head;
    unsigned n = 0;

    if (!mark) return rr_text_is(name, pattern);
    if (name.len <= head || memcmp(name.data, pattern, head) != 0) return false;
    for (; at < name.len && at < head + 5 && name.data[at] >= '0' && name.data[at] <= '9'; at++)
        n = 10 * n + (unsigned)(name.data[at] - '0');
    *layer = n;
    return at > head && rr_text_is((struct rr_text){ name.data + at, name.len - at }, mark + 2);
}

/* The pattern, with the layer in the place of %u, between prefix and suffix. */
static bool put(char *out, size_t cap, const char *prefix, const char *pattern, unsigned layer,
                struct rr_text suffix)
{
    const char *mark = strstr(pattern, "%u");
    char number[16];
    int n;

    snprintf(number, sizeof(number), "%u", layer);
    n = snprintf(out, cap, "%s%.*s%s%s%.*s", prefix,
                 (int)(mark ? (size_t)(mark - pattern) : strlen(pattern)), pattern,
                 mark ? number : "", mark ? mark + 2 : "", (int)suffix.len, suffix.data);
    return n > 0 && (size_t)n < cap;
}

/* Cuts ".weight" or ".bias" off; false: it ends with neither. */
static bool split(struct rr_text name, struct rr_text *base, struct rr_text *suffix)
{
    size_t n = name.len;

    while (n > 0 && name.data[n - 1] != '.') n--;
    if (n == 0) return false;
    *base = (struct rr_text){ name.data, n - 1 };
    *suffix = (struct rr_text){ name.data + n - 1, name.len - n + 1 };
    return rr_text_is(*suffix, ".weight") || rr_text_is(*suffix, ".bias");
}

bool rr_gguf_to_hf(const struct rr_gguf_names *names, struct rr_text gguf, char *out, size_t cap,
                   bool *matrix)
{
    const struct rr_gguf_name *lists[2] = { names->body, names->head };
    struct rr_text base, suffix;
    unsigned layer = 0;

    if (!split(gguf, &base, &suffix)) return false;
    for (int i = 0; i < 2; i++) {
        for (const struct rr_gguf_name *n = lists[i]; n->gguf; n++) {
            if (!matches(n->gguf, base, &layer)) continue;
            *matrix = n->matrix && rr_text_is(suffix, ".weight");
            return put(out, cap, i ? "" : names->prefix, n->hf, layer, suffix);
        }
    }
    return false;
}

bool rr_gguf_from_hf(const struct rr_gguf_names *names, const char *hf, char *out, size_t cap)
{
    const struct rr_gguf_name *lists[2] = { names->body, names->head };
    size_t prefix = strlen(names->prefix);
    struct rr_text base, suffix, bare;
    unsigned layer = 0;

    if (!split(rr_text(hf), &base, &suffix)) return false;
    for (int i = 0; i < 2; i++) {
        for (const struct rr_gguf_name *n = lists[i]; n->gguf; n++) {
            bare = base; /* files saved from the bare network have no prefix */
            if (i == 0 && base.len > prefix && memcmp(base.data, names->prefix, prefix) == 0)
                bare = (struct rr_text){ base.data + prefix, base.len - prefix };
            if (matches(n->hf, bare, &layer)) return put(out, cap, "", n->gguf, layer, suffix);
        }
    }
    return false;
}
