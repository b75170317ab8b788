/* SPDX-License-Identifier: Apache-2.0 */
/* convert_gguf.c - writes a model as a GGUF file.  Layer: model (L4).  Threads: one. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/convert.h"

#define ALIGNMENT 32u
#define HEAD_LIMIT ((size_t)1 << 30)

/* ---- bytes ---------------------------------------------------------------------------------- */

void rr_gguf_put_raw(struct rr_gguf_head *h, const void *data, size_t len)
{
    rr_buf_put(&h->bytes, data, len);
}

static void put_number(struct rr_buf *b, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) rr_buf_putc(b, (char)(v >> (8 * i)));
}

void rr_gguf_put_string(struct rr_gguf_head *h, struct rr_text v)
{
    put_number(&h->bytes, v.len, 8);
    rr_buf_put(&h->bytes, v.data, v.len);
}

void rr_gguf_put_key(struct rr_gguf_head *h, const char *key, enum rr_gguf_kind kind)
{
    rr_gguf_put_string(h, rr_text(key));
    put_number(&h->bytes, kind, 4);
    h->n++;
}

void rr_gguf_put_u32(struct rr_gguf_head *h, const char *key, uint32_t v)
{
    rr_gguf_put_key(h, key, RR_GGUF_U32);
    put_number(&h->bytes, v, 4);
}

void rr_gguf_put_f32(struct rr_gguf_head *h, const char *key, float v)
{
    rr_gguf_put_key(h, key, RR_GGUF_F32);
    rr_buf_put(&h->bytes, &v, sizeof(v));
}

void rr_gguf_put_bool(struct rr_gguf_head *h, const char *key, bool v)
{
    rr_gguf_put_key(h, key, RR_GGUF_BOOL);
    rr_buf_putc(&h->bytes, v);
}

void rr_gguf_put_text(struct rr_gguf_head *h, const char *key, struct rr_text v)
{
    rr_gguf_put_key(h, key, RR_GGUF_TEXT);
    rr_gguf_put_string(h, v);
}

void rr_gguf_put_array(struct rr_gguf_head *h, const char *key, enum rr_gguf_kind element,
                       uint64_t n)
{
    rr_gguf_put_key(h, key, RR_GGUF_ARRAY);
    put_number(&h->bytes, element, 4);
    put_number(&h->bytes, n, 8);
}

/* ---- metadata ------------------------------------------------------------------------------- */

static const char *arch_of(const struct rr_model_config *config)
{
    if (config->family == RR_FAMILY_MODERNBERT) return "modern-bert";
    if (config->family != RR_FAMILY_DECODER) return "bert";
    if (config->decoder.gamma_plus_one) return "gemma";
    return config->decoder.qk_norm ? "qwen3" : "qwen2";
}

/* "ARCH.NAME" */
static const char *key_of(char key[96], const char *arch, const char *name)
{
    snprintf(key, 96, "%s.%s", arch, name);
    return key;
}

/* The first layer is global, then each of how many?  0: they follow no such rule. */
static uint32_t global_every(const struct rr_model_config *c)
{
    uint32_t every = 1;

    while (every < c->layers && c->is_local[every]) every++;
    for (uint32_t i = 0; i < c->layers; i++)
        if (c->is_local[i] != (i % every != 0)) return 0;
    return every;
}

static void put_encoder(struct rr_gguf_head *h, const struct rr_model_config *c, const char *arch)
{
    char key[96];

    rr_gguf_put_f32(h, key_of(key, arch, "attention.layer_norm_epsilon"), c->norm_eps);
    rr_gguf_put_bool(h, key_of(key, arch, "attention.causal"), false);
    rr_gguf_put_u32(h, key_of(key, arch, "pooling_type"), RR_GGUF_POOL_RANK);
    if (c->family != RR_FAMILY_MODERNBERT) {
        rr_gguf_put_u32(h, "tokenizer.ggml.token_type_count", c->types);
        return;
    }
    rr_gguf_put_u32(h, key_of(key, arch, "classifier.pooling_type"),
                    c->pool == RR_OP_MEAN ? RR_GGUF_POOL_MEAN : RR_GGUF_POOL_FIRST);
    rr_gguf_put_u32(h, key_of(key, arch, "attention.sliding_window"), 2 * c->window);
    rr_gguf_put_u32(h, key_of(key, arch, "attention.sliding_window_pattern"), global_every(c));
    rr_gguf_put_f32(h, key_of(key, arch, "rope.freq_base"), c->theta);
    rr_gguf_put_f32(h, key_of(key, arch, "rope.freq_base_swa"), c->local_theta);
    rr_gguf_put_text(h, key_of(key, arch, "hidden_activation"),
                     rr_text(c->act == RR_ACT_SILU ? "silu" : "gelu"));
}

static void put_decoder(struct rr_gguf_head *h, const struct rr_model_config *c, const char *arch)
{
    char key[96];

    rr_gguf_put_u32(h, key_of(key, arch, "attention.head_count_kv"), c->kv_heads);
    rr_gguf_put_u32(h, key_of(key, arch, "attention.key_length"), c->head_dim);
    rr_gguf_put_u32(h, key_of(key, arch, "attention.value_length"), c->head_dim);
    rr_gguf_put_f32(h, key_of(key, arch, "attention.layer_norm_rms_epsilon"), c->norm_eps);
    rr_gguf_put_f32(h, key_of(key, arch, "rope.freq_base"), c->theta);
}

static void put_sizes(struct rr_gguf_head *h, const struct rr_model_config *c, const char *arch)
{
    char key[96];

    rr_gguf_put_u32(h, key_of(key, arch, "context_length"), c->max_length);
    rr_gguf_put_u32(h, key_of(key, arch, "embedding_length"), c->hidden);
    rr_gguf_put_u32(h, key_of(key, arch, "block_count"), c->layers);
    rr_gguf_put_u32(h, key_of(key, arch, "feed_forward_length"), c->intermediate);
    rr_gguf_put_u32(h, key_of(key, arch, "attention.head_count"), c->heads);
    if (c->family == RR_FAMILY_DECODER)
        put_decoder(h, c, arch);
    else
        put_encoder(h, c, arch);
}

/* The network's variants that the format, or llama.cpp behind it, knows. */
static int check_network(const struct rr_convert *c, const struct rr_model_config *config,
                         struct rr_error *err)
{
    bool modern = config->family == RR_FAMILY_MODERNBERT;
    enum rr_act act = config->decoder.gamma_plus_one        ? RR_ACT_GELU_TANH
                      : config->family == RR_FAMILY_DECODER ? RR_ACT_SILU
                                                            : RR_ACT_GELU;

    if (!rr_gguf_names(config->family, false))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: %s cannot be written as GGUF, which has no such network; supported "
                       "are BERT, RoBERTa, XLM-RoBERTa, ModernBERT, Qwen3, Qwen2 and Gemma; "
                       "give --to a folder for safetensors",
                       c->from, config->architecture);
    if (rr_model_info(c->model)->query_prompt[0])
        return rr_fail(err, RR_ENOTSUP,
                       "%s: default_prompt_name chooses a prompt, which GGUF cannot say; give --to "
                       "a folder for safetensors",
                       c->from);
    if (config->act != act && !(modern && config->act == RR_ACT_SILU))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: hidden_act is one that GGUF cannot say, expected that of the "
                       "published models",
                       c->from);
    if (modern && (!global_every(config) || config->head_act != RR_ACT_GELU))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: layer_types or classifier_activation is one that GGUF cannot say, "
                       "expected a global layer first and after equal numbers of others, and gelu",
                       c->from);
    return RR_OK;
}

/* Where long pairs are cut: the least of what sentence-transformers and the tokenizer say.  Nothing
 * is written where the network itself ends there. */
static int put_max_length(const struct rr_convert *c, struct rr_gguf_head *h, struct rr_error *err)
{
    const struct rr_model_info *info = rr_model_info(c->model);
    uint32_t most = info->preferred_length ? info->preferred_length : UINT32_MAX;
    json_t *root = NULL;
    struct rr_buf text;
    double said;
    int rc;

    rr_buf_init(&text, RR_MEM_MODEL, HEAD_LIMIT);
    rc = rr_convert_read(c, "tokenizer_config.json", &text, err);
    if (!rc && text.len)
        rc = rr_json_parse(&root, (struct rr_text){ text.data, text.len }, 0, RR_JSON_REALS, err);
    said = json_number_value(json_object_get(root, "model_max_length")); /* 0: none */
    if (said >= 1 && said < most) most = (uint32_t)said;
    if (!rc && most < info->max_length) rr_gguf_put_u32(h, RR_GGUF_MAX_LENGTH, most);
    json_decref(root);
    rr_buf_free(&text);
    return rc;
}

static int put_metadata(const struct rr_convert *c, struct rr_gguf_head *h, struct rr_error *err)
{
    const struct rr_model_config *config = rr_model_config(c->model);
    const struct rr_words *words = &rr_model_info(c->model)->words;
    const char *arch = arch_of(config);
    struct rr_buf tok;
    int rc;

    rr_gguf_put_text(h, "general.architecture", rr_text(arch));
    rr_gguf_put_text(h, "general.type", rr_text("model"));
    rr_gguf_put_u32(h, "general.quantization_version", 2);
    if (rr_model_info(c->model)->identity) rr_gguf_put_bool(h, RR_GGUF_IDENTITY, true);
    if (words->given) rr_gguf_put_u32(h, RR_GGUF_YES, (uint32_t)words->yes);
    if (words->given && words->no >= 0) rr_gguf_put_u32(h, RR_GGUF_NO, (uint32_t)words->no);
    put_sizes(h, config, arch);
    rr_buf_init(&tok, RR_MEM_MODEL, HEAD_LIMIT);
    rc = put_max_length(c, h, err);
    if (c->tokenizer.len) rr_buf_put(&tok, c->tokenizer.data, c->tokenizer.len);
    if (!rc && tok.failed) rc = rr_fail(err, RR_ENOMEM, "out of memory for the tokenizer");
    if (!rc && tok.len == 0) rc = rr_model_tokenizer(c->model, &tok, err);
    if (!rc && tok.len == 0) rc = rr_convert_read(c, "tokenizer.json", &tok, err);
    if (!rc && tok.len == 0) rc = rr_fail(err, RR_ENOENT, "%s: has no tokenizer.json", c->from);
    if (!rc) rc = rr_convert_vocab(h, (struct rr_text){ tok.data, tok.len }, c->from, config, err);
    if (!rc)
        rr_gguf_put_text(h, "tokenizer.huggingface.json", (struct rr_text){ tok.data, tok.len });
    rr_buf_free(&tok);
    return rc;
}

/* ---- tensors -------------------------------------------------------------------------------- */

/* The rows in front of the format's table, unless they are the zeros that its reader puts there. */
static int put_first_positions(struct rr_gguf_head *h, const struct rr_convert_tensor *t,
                               struct rr_error *err)
{
    float *rows = rr_alloc(RR_MEM_MODEL, t->skip, sizeof(*rows));
    bool zero = true;

    if (!rows) return rr_fail(err, RR_ENOMEM, "out of memory for a tensor");
    rr_gguf_widen(rows, t->src->data, t->src->dtype, t->skip);
    for (uint64_t i = 0; i < t->skip; i++) zero = zero && rows[i] == 0;
    if (!zero) {
        rr_gguf_put_array(h, RR_GGUF_FIRST_POSITIONS, RR_GGUF_F32, t->skip);
        rr_gguf_put_raw(h, rows, (size_t)t->skip * sizeof(*rows));
    }
    rr_free(rows);
    return RR_OK;
}

/* llama.cpp wants vectors and the small tables in f32, and the head is worth it. */
static bool stays_f32(const struct rr_convert_tensor *t)
{
    return t->rank == 1 || strncmp(t->name, "cls", 3) == 0 ||
           strcmp(t->name, "token_types.weight") == 0 ||
           strcmp(t->name, "position_embd.weight") == 0;
}

static int describe(struct rr_convert *c, struct rr_gguf_head *h, struct rr_error *err)
{
    const struct rr_model_config *config = rr_model_config(c->model);
    bool stacked = false;
    const struct rr_gguf_names *names;

    for (size_t i = 0; i < c->n; i++)
        stacked = stacked || strstr(c->tensors[i].name, ".Wqkv.weight");
    names = rr_gguf_names(config->family, stacked);
    for (size_t i = 0; i < c->n; i++) {
        struct rr_convert_tensor *t = &c->tensors[i];
        char hf[sizeof(t->name)];

        memcpy(hf, t->name, sizeof(hf));
        for (char *old = strstr(hf, ".gamma"); old; old = NULL) memcpy(old, ".weight", 8);
        for (char *old = strstr(hf, ".beta"); old; old = NULL) memcpy(old, ".bias", 6);
        if (!rr_gguf_from_hf(names, hf, t->name, sizeof(t->name)))
            return rr_fail(err, RR_ENOTSUP, "%s: tensor %s has no name in GGUF", c->from, hf);
        t->shift = rr_gguf_shift(config->architecture, rr_text(t->name));
        if (stays_f32(t) || t->shape[t->rank - 1] % t->type->block) t->type = rr_gguf_type(0);
        if (config->family == RR_FAMILY_ROBERTA && strcmp(t->name, "position_embd.weight") == 0) {
            uint32_t cut = config->pad_id + 1; /* rows that no token has */

            t->skip = (uint64_t)cut * t->shape[1];
            t->shape[0] -= cut;
            t->elements -= t->skip;
            if (put_first_positions(h, t, err)) return RR_ENOMEM;
        }
        t->bytes = t->elements / t->type->block * t->type->bytes;
    }
    return RR_OK;
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_directory(const struct rr_convert *c, struct rr_gguf_head *h)
{
    uint64_t at = 0;

    for (size_t i = 0; i < c->n; i++) {
        const struct rr_convert_tensor *t = &c->tensors[i];

        rr_gguf_put_string(h, rr_text(t->name));
        put_number(&h->bytes, t->rank, 4);
        for (uint32_t d = t->rank; d-- > 0;) put_number(&h->bytes, t->shape[d], 8);
        put_number(&h->bytes, t->type->id, 4);
        put_number(&h->bytes, at, 8);
        at += padded(t->bytes);
    }
}

static int write_all(const struct rr_convert *c, const struct rr_gguf_head *h, FILE *out,
                     struct rr_error *err)
{
    static const char zeros[ALIGNMENT];
    struct rr_buf head;
    int rc = RR_OK;

    rr_buf_init(&head, RR_MEM_MODEL, 64);
    rr_buf_puts(&head, "GGUF");
    put_number(&head, 3, 4);
    put_number(&head, c->n, 8);
    put_number(&head, h->n, 8);
    fwrite(head.data, 1, head.len, out);
    fwrite(h->bytes.data, 1, h->bytes.len, out);
    fwrite(zeros, 1, (size_t)(padded(head.len + h->bytes.len) - head.len - h->bytes.len), out);
    rr_buf_free(&head);
    for (size_t i = 0; i < c->n && !rc; i++) {
        rc = rr_convert_put(out, &c->tensors[i], err);
        fwrite(zeros, 1, (size_t)(padded(c->tensors[i].bytes) - c->tensors[i].bytes), out);
    }
    return rc;
}

/* Through a temporary name: half a model is never seen. */
static int write_file(const struct rr_convert *c, const struct rr_gguf_head *h,
                      struct rr_error *err)
{
    char path[PATH_MAX], text[128];
    FILE *out;
    int rc;

    if ((size_t)snprintf(path, sizeof(path), "%s.part", c->to) >= sizeof(path))
        return rr_fail(err, RR_EINVAL, "%.200s: the path is too long", c->to);
    out = fopen(path, "we");
    if (!out)
        return rr_fail(err, RR_EIO, "%s: cannot be written: %s", path,
                       strerror_r(errno, text, sizeof(text)));
    rc = write_all(c, h, out, err);
    if ((ferror(out) | fclose(out)) && !rc)
        rc = rr_fail(err, RR_EIO, "%s: cannot be written: %s", path,
                     strerror_r(errno, text, sizeof(text)));
    if (!rc && rename(path, c->to))
        rc = rr_fail(err, RR_EIO, "%s: cannot be written: %s", c->to,
                     strerror_r(errno, text, sizeof(text)));
    if (rc) unlink(path);
    return rc;
}

int rr_convert_gguf(struct rr_convert *c, struct rr_error *err)
{
    struct rr_gguf_head h = { .n = 0 };
    int rc = check_network(c, rr_model_config(c->model), err);

    rr_buf_init(&h.bytes, RR_MEM_MODEL, HEAD_LIMIT);
    if (!rc) rc = put_metadata(c, &h, err);
    if (!rc) rc = describe(c, &h, err);
    if (!rc) put_directory(c, &h);
    if (!rc && h.bytes.failed) rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", c->from);
    if (!rc) rc = write_file(c, &h, err);
    rr_buf_free(&h.bytes);
    return rc;
}
