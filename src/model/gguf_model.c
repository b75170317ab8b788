/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_model.c - see gguf_model.h.  Layer: model (L4). */
#include "model/gguf_model.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/samples.h"

#define NAME_BYTES 160
#define CONFIG_LIMIT ((size_t)64 << 10)

struct made { /* memory of tensors that are not in the file as they are needed */
    void *data;
    size_t bytes;
};

struct rr_gguf_model {
    char path[PATH_MAX];
    struct rr_file file;  /* mapped by us, or empty */
    struct rr_text bytes; /* of the file */
    struct rr_gguf *g;
    enum rr_family family;
    const char *architecture; /* as config.json names it */
    struct rr_text arch;      /* as the file names it, e.g. "bert" */
    uint32_t pad_id, max_length;
    struct rr_words words;
    const struct rr_gguf_names *list;
    struct rr_safetensors_entry *entries;
    char (*names)[NAME_BYTES];
    struct made *made;
    size_t n_entries, n_made;
    struct rr_buf config;
    struct rr_json_out json; /* into config, while it is written */
};

static const struct rr_safetensors_dtype dtypes[] = {
    { "F32", 32, true, RR_F32 },
    { "F16", 16, true, RR_F16 },
    { "BF16", 16, true, RR_BF16 },
};

bool rr_gguf_named(const char *path)
{
    return rr_text_stem(path, ".gguf") > 0;
}

bool rr_gguf_is(const char *path)
{
    struct rr_file file;
    struct rr_error err;
    bool is;

    if (!rr_file_exists(path)) return false;
    if (rr_gguf_named(path)) return true;
    if (rr_file_map(&file, path, &err)) return false; /* a folder */
    is = file.len >= 4 && memcmp(file.data, "GGUF", 4) == 0;
    rr_file_unmap(&file);
    return is;
}

/* ---- which network -------------------------------------------------------------------------- */

static const struct rr_gguf_tensor *tensor(const struct rr_gguf_model *m, const char *name)
{
    size_t n, i;
    const struct rr_gguf_tensor *t = rr_gguf_tensors(m->g, &n);

    for (i = 0; i < n; i++) {
        if (rr_text_is(t[i].name, name)) return &t[i];
    }
    return NULL;
}

/* One of the vocabulary: rows are made up to it. */
static int read_pad_id(struct rr_gguf_model *m, struct rr_error *err)
{
    const struct rr_gguf_tensor *t = tensor(m, "token_embd.weight");

    if (!t) return rr_fail(err, RR_EFORMAT, "%s: tensor token_embd.weight is missing", m->path);
    return rr_gguf_u32(m->g, "tokenizer.ggml.padding_token_id", false, 0, t->shape[0] - 1,
                       &m->pad_id, err);
}

/* llama.cpp calls BERT, RoBERTa and XLM-RoBERTa the same: they differ by their tokenizers. */
static int find_encoder(struct rr_gguf_model *m, struct rr_error *err)
{
    struct rr_text tok = { "", 0 };
    int rc = rr_gguf_text(m->g, "tokenizer.ggml.model", true, &tok, err);

    if (rc) return rc;
    m->family = RR_FAMILY_ROBERTA;
    m->pad_id = 1;
    if (rr_text_is(tok, "t5")) {
        m->architecture = "XLMRobertaForSequenceClassification";
    } else if (rr_text_is(tok, "gpt2")) {
        m->architecture = "RobertaForSequenceClassification";
    } else if (rr_text_is(tok, "bert")) {
        m->architecture = "BertForSequenceClassification";
        m->family = RR_FAMILY_BERT;
        m->pad_id = 0;
    } else {
        return rr_fail(err, RR_ENOTSUP,
                       "%s: tokenizer.ggml.model is \"%.*s\", supported are bert, t5 and gpt2",
                       m->path, (int)RR_MIN(tok.len, 60), tok.data);
    }
    if (!tensor(m, "cls.output.weight"))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: tensor cls.output.weight is missing: this is an embedding model, not a "
                       "reranker",
                       m->path);
    if (!tensor(m, "cls.weight"))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: tensor cls.weight is missing, expected the pooler, a matrix of hidden "
                       "by hidden: llama.cpp's converter leaves out the pooler of BERT, without "
                       "which scores are wrong; convert the original folder, with safetensors, "
                       "with rerankd convert",
                       m->path);
    if (!tensor(m, "token_types.weight"))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: tensor token_types.weight is missing, expected a row for each type of "
                       "token: DistilBERT has none, and its head is another than BERT's, so that "
                       "scores would be wrong",
                       m->path);
    return read_pad_id(m, err);
}

/* The converters of llama.cpp that know nothing of classifiers leave head and norm out. */
static int find_modernbert(struct rr_gguf_model *m, struct rr_error *err)
{
    static const char *const head[] = { "cls.output.weight", "cls.weight", "cls.norm.weight" };

    m->family = RR_FAMILY_MODERNBERT;
    m->architecture = "ModernBertForSequenceClassification";
    for (size_t i = 0; i < RR_COUNT(head); i++)
        if (!tensor(m, head[i]))
            return rr_fail(err, RR_ENOTSUP,
                           "%s: tensor %s is missing: this is an embedding model, or was made by "
                           "an old converter; convert the original folder with rerankd convert",
                           m->path, head[i]);
    return read_pad_id(m, err);
}

/* One of several parts has not all tensors. */
static int check_whole(const struct rr_gguf_model *m, struct rr_error *err)
{
    uint32_t parts = 0;
    int rc = rr_gguf_u32(m->g, "split.count", false, 0, UINT32_MAX, &parts, err);

    if (rc || parts <= 1) return rc;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: split.count is %" PRIu32 ", expected a model in one file: join the parts "
                   "with llama-gguf-split --merge",
                   m->path, parts);
}

static int find_network(struct rr_gguf_model *m, struct rr_error *err)
{
    bool head = tensor(m, "cls.output.weight") != NULL;
    int rc = rr_gguf_text(m->g, "general.architecture", true, &m->arch, err);

    if (!rc) rc = check_whole(m, err);
    if (rc) return rc;
    if (rr_text_is(m->arch, "bert")) return find_encoder(m, err);
    if (rr_text_is(m->arch, "modern-bert")) return find_modernbert(m, err);
    m->family = RR_FAMILY_DECODER;
    if (tensor(m, "blk.0.attn_qkv.weight"))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: tensor blk.0.attn_qkv.weight, expected attn_q, attn_k and attn_v: "
                       "convert the folder without --fuse-qkv, or with rerankd convert",
                       m->path);
    if (rr_text_is(m->arch, "qwen3"))
        m->architecture = head ? "Qwen3ForSequenceClassification" : "Qwen3ForCausalLM";
    else if (rr_text_is(m->arch, "qwen2"))
        m->architecture = head ? "Qwen2ForSequenceClassification" : "Qwen2ForCausalLM";
    else if (rr_text_is(m->arch, "gemma"))
        m->architecture = "GemmaForCausalLM";
    else
        return rr_fail(err, RR_ENOTSUP,
                       "%s: general.architecture is \"%.*s\", supported are bert, modern-bert, "
                       "qwen3, qwen2 and gemma",
                       m->path, (int)RR_MIN(m->arch.len, 60), m->arch.data);
    return RR_OK;
}

/* ---- tensors -------------------------------------------------------------------------------- */

static float *make(struct rr_gguf_model *m, uint64_t elements)
{
    size_t bytes = (size_t)elements * sizeof(float);
    void *data = rr_pages_alloc(RR_MEM_WEIGHTS, bytes);

    if (data) m->made[m->n_made++] = (struct made){ data, bytes };
    return data;
}

static int no_memory(const struct rr_gguf_model *m, const char *name, struct rr_error *err)
{
    return rr_fail(err, RR_ENOMEM, "%s: tensor %s: out of memory for its weights", m->path, name);
}

/* Rows that the converter cut off: positions of the RoBERTa family begin behind the padding id.
 * Only the padding token has one of them, which is zero unless someone changed it. */
static uint32_t rows_before(const struct rr_gguf_model *m, const struct rr_gguf_tensor *t)
{
    return m->family == RR_FAMILY_ROBERTA && rr_text_is(t->name, "position_embd.weight")
               ? m->pad_id + 1
               : 0;
}

/* Qwen3-Reranker's head in llama.cpp: the output layer's rows of "yes" and "no". */
static bool is_two_rows(const struct rr_gguf_model *m, const struct rr_gguf_tensor *t)
{
    return m->family == RR_FAMILY_DECODER && rr_text_is(t->name, "cls.output.weight") &&
           t->rank == 2 && t->shape[0] == 2;
}

static int fill_first_rows(const struct rr_gguf_model *m, float *data, uint64_t n,
                           struct rr_error *err)
{
    const struct rr_gguf_value *v;
    int rc = rr_gguf_array(m->g, RR_GGUF_FIRST_POSITIONS, false, RR_GGUF_F32, &v, err);

    if (rc || !v || n == 0) return rc;
    if (v->n != n)
        return rr_fail(err, RR_EFORMAT, "%s: %s has %" PRIu64 " numbers, expected %" PRIu64,
                       m->path, RR_GGUF_FIRST_POSITIONS, v->n, n);
    memcpy(data, v->data, v->len);
    return RR_OK;
}

static int fill(struct rr_gguf_model *m, const struct rr_gguf_tensor *t,
                struct rr_safetensors_entry *e, struct rr_error *err)
{
    uint32_t before = rows_before(m, t), columns = t->shape[t->rank - 1], i;
    float shift = rr_gguf_shift(m->architecture, t->name);
    bool two = is_two_rows(m, t);
    float *data;

    e->type = &dtypes[t->type->dtype == RR_F16 ? 1 : t->type->dtype == RR_BF16 ? 2 : 0];
    e->data = t->data;
    e->end = t->bytes;
    if (!t->type->decode && !before && !two && shift == 0) return RR_OK;
    data = make(m, t->elements + (uint64_t)before * columns);
    if (!data) return no_memory(m, e->name, err);
    rr_gguf_decode(t->type, data + (size_t)before * columns, t->data, t->elements);
    for (uint64_t j = 0; shift != 0 && j < t->elements; j++) data[j] -= shift;
    for (i = 0; two && i < columns; i++) data[i] -= data[columns + i];
    if (two) e->shape[0] = 1;
    e->shape[0] += before;
    e->type = &dtypes[0];
    e->data = data;
    e->end = (t->elements + (uint64_t)before * columns) * sizeof(*data);
    if (two) e->end /= 2;
    e->made = true;
    return fill_first_rows(m, data, (uint64_t)before * columns, err);
}

static int add_tensor(struct rr_gguf_model *m, const struct rr_gguf_tensor *t, struct rr_error *err)
{
    struct rr_safetensors_entry *e = &m->entries[m->n_entries];
    bool matrix = false;

    if (!rr_gguf_to_hf(m->list, t->name, m->names[m->n_entries], NAME_BYTES, &matrix))
        return RR_OK; /* nothing that the network needs */
    e->name = m->names[m->n_entries];
    e->rank = t->rank;
    memcpy(e->shape, t->shape, sizeof(e->shape));
    if (matrix && t->rank == 1) { /* llama-quantize drops dimensions of 1 */
        e->rank = 2;
        e->shape[0] = 1;
        e->shape[1] = t->shape[0];
    }
    m->n_entries++;
    return fill(m, t, e, err);
}

static int add_tensors(struct rr_gguf_model *m, struct rr_error *err)
{
    size_t n, i;
    const struct rr_gguf_tensor *t = rr_gguf_tensors(m->g, &n);
    int rc = RR_OK;

    m->list = rr_gguf_names(m->family, tensor(m, "blk.0.attn_qkv.weight") != NULL);
    m->entries = rr_calloc(RR_MEM_MODEL, n, sizeof(*m->entries));
    m->names = rr_calloc(RR_MEM_MODEL, n, sizeof(*m->names));
    m->made = rr_calloc(RR_MEM_MODEL, n, sizeof(*m->made));
    if (!m->entries || !m->names || !m->made)
        return rr_fail(err, RR_ENOMEM, "%s: out of memory", m->path);
    for (i = 0; i < n && !rc; i++) rc = add_tensor(m, &t[i], err);
    return rc;
}

/* ---- config.json ---------------------------------------------------------------------------- */

/* Metadata of the network: "ARCH.KEY". */
static const char *key_of(const struct rr_gguf_model *m, char key[96], const char *name)
{
    snprintf(key, 96, "%.*s.%s", (int)RR_MIN(m->arch.len, 20), m->arch.data, name);
    return key;
}

static int put_u32(struct rr_gguf_model *m, const char *field, const char *name, uint32_t fallback,
                   struct rr_error *err)
{
    uint32_t v = fallback;
    char key[96];
    int rc = rr_gguf_u32(m->g, key_of(m, key, name), fallback == 0, 1, UINT32_MAX, &v, err);

    rr_out_uint(&m->json, field, v);
    return rc;
}

static int put_f32(struct rr_gguf_model *m, const char *field, const char *name, bool needed,
                   float fallback, struct rr_error *err)
{
    float v = fallback;
    char key[96];
    int rc = rr_gguf_f32(m->g, key_of(m, key, name), needed, &v, err);

    rr_out_key(&m->json, field);
    rr_buf_json_float(m->json.buf, v);
    return rc;
}

/* A size that a tensor tells. */
static int put_rows(struct rr_gguf_model *m, const char *field, const char *name,
                    struct rr_error *err)
{
    const struct rr_gguf_tensor *t = tensor(m, name);

    if (!t) return rr_fail(err, RR_EFORMAT, "%s: tensor %s is missing", m->path, name);
    rr_out_uint(&m->json, field, (t->rank == 1 ? 1 : t->shape[0]) + rows_before(m, t));
    return RR_OK;
}

/* Of a network whose head must be a classifier of one label. */
static int check_labels(const struct rr_gguf_model *m, struct rr_error *err)
{
    const struct rr_gguf_tensor *out = tensor(m, "cls.output.weight");

    if (m->family == RR_FAMILY_DECODER || out->rank == 1 || out->shape[0] == 1) return RR_OK;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: cls.output.weight has %" PRIu32
                   " rows, expected 1: a classifier of several labels does not give one "
                   "relevance score",
                   m->path, out->shape[0]);
}

static int put_encoder(struct rr_gguf_model *m, struct rr_error *err)
{
    int rc = put_rows(m, "max_position_embeddings", "position_embd.weight", err);
    if (!rc) rc = put_rows(m, "type_vocab_size", "token_types.weight", err);
    if (!rc) rc = put_f32(m, "layer_norm_eps", "attention.layer_norm_epsilon", true, 0, err);
    rr_out_uint(&m->json, "pad_token_id", m->pad_id);
    rr_out_string(&m->json, "hidden_act", "gelu");
    return rc;
}

/* Local and global layers; what a classifier reads is in files of new converters only, and the mean
 * in those before them. */
static int put_modernbert(struct rr_gguf_model *m, struct rr_error *err)
{
    struct rr_text act = { "gelu", 4 };
    uint32_t pool = RR_GGUF_POOL_MEAN;
    float theta = 10000.0f, eps = 1e-5f;
    char key[96];
    int rc = rr_gguf_f32(m->g, key_of(m, key, "rope.freq_base"), false, &theta, err);

    if (!rc) rc = put_u32(m, "max_position_embeddings", "context_length", 0, err);
    if (!rc) rc = put_u32(m, "local_attention", "attention.sliding_window", 0, err);
    if (!rc)
        rc = put_u32(m, "global_attn_every_n_layers", "attention.sliding_window_pattern", 3, err);
    /* llama.cpp's converter takes norm_eps, as transformers 5 calls it, for an RMSNorm's */
    if (!rc)
        rc =
            rr_gguf_f32(m->g, key_of(m, key, "attention.layer_norm_rms_epsilon"), false, &eps, err);
    if (!rc) rc = put_f32(m, "norm_eps", "attention.layer_norm_epsilon", false, eps, err);
    if (!rc) rc = put_f32(m, "global_rope_theta", "rope.freq_base", false, theta, err);
    if (!rc) rc = put_f32(m, "local_rope_theta", "rope.freq_base_swa", false, theta, err);
    if (!rc) rc = rr_gguf_text(m->g, key_of(m, key, "hidden_activation"), false, &act, err);
    if (!rc)
        rc = rr_gguf_u32(m->g, key_of(m, key, "classifier.pooling_type"), false, RR_GGUF_POOL_MEAN,
                         RR_GGUF_POOL_FIRST, &pool, err);
    rr_out_text(&m->json, "hidden_activation", act);
    rr_out_string(&m->json, "classifier_pooling", pool == RR_GGUF_POOL_MEAN ? "mean" : "cls");
    rr_out_uint(&m->json, "pad_token_id", m->pad_id);
    return rc;
}

static int read_words(struct rr_gguf_model *m, struct rr_error *err)
{
    uint32_t last = tensor(m, "token_embd.weight")->shape[0] - 1, yes = UINT32_MAX, no = UINT32_MAX;
    int rc = rr_gguf_u32(m->g, RR_GGUF_YES, false, 0, last, &yes, err);

    if (!rc) rc = rr_gguf_u32(m->g, RR_GGUF_NO, false, 0, last, &no, err);
    m->words = (struct rr_words){ yes != UINT32_MAX, yes == UINT32_MAX ? -1 : (int32_t)yes,
                                  no == UINT32_MAX ? -1 : (int32_t)no };
    return rc;
}

static int put_decoder(struct rr_gguf_model *m, struct rr_error *err)
{
    struct rr_text scaling = { "none", 4 };
    uint32_t heads = 1, hidden = 1;
    char key[96];
    int rc = rr_gguf_text(m->g, key_of(m, key, "rope.scaling.type"), false, &scaling, err);

    if (!rc && !rr_text_is(scaling, "none"))
        rc = rr_fail(err, RR_ENOTSUP, "%s: %s is \"%.*s\", supported is none", m->path, key,
                     (int)RR_MIN(scaling.len, 60), scaling.data);
    if (!rc) rc = put_u32(m, "max_position_embeddings", "context_length", 0, err);
    if (!rc)
        rc = rr_gguf_u32(m->g, key_of(m, key, "attention.head_count"), true, 1, UINT32_MAX, &heads,
                         err);
    if (!rc) rc = put_u32(m, "num_key_value_heads", "attention.head_count_kv", heads, err);
    if (!rc)
        rc = rr_gguf_u32(m->g, key_of(m, key, "embedding_length"), true, 1, UINT32_MAX, &hidden,
                         err);
    if (!rc) /* 0 would mean that the key is needed */
        rc = put_u32(m, "head_dim", "attention.key_length", RR_MAX(hidden / heads, 1), err);
    if (!rc) rc = put_f32(m, "rms_norm_eps", "attention.layer_norm_rms_epsilon", true, 0, err);
    if (!rc) rc = put_f32(m, "rope_theta", "rope.freq_base", false, 10000.0f, err);
    if (!rc) rc = read_words(m, err); /* vocab_size has found the table */
    rr_out_string(&m->json, "hidden_act",
                  rr_text_is(m->arch, "gemma") ? "gelu_pytorch_tanh" : "silu");
    return rc;
}

static int write_config(struct rr_gguf_model *m, struct rr_error *err)
{
    int rc = check_labels(m, err);

    m->json = (struct rr_json_out){ .buf = &m->config };
    rr_out_object(&m->json, NULL);
    rr_out_array(&m->json, "architectures");
    rr_out_string(&m->json, NULL, m->architecture);
    rr_out_end(&m->json);
    rr_out_object(&m->json, "id2label");
    rr_out_string(&m->json, "0", "LABEL_0");
    rr_out_end(&m->json);
    if (rr_gguf_model_identity(m)) {
        rr_out_object(&m->json, "sentence_transformers");
        rr_out_string(&m->json, "activation_fn", "torch.nn.modules.linear.Identity");
        rr_out_end(&m->json);
    }
    if (!rc) rc = put_rows(m, "vocab_size", "token_embd.weight", err);
    if (!rc) rc = put_u32(m, "hidden_size", "embedding_length", 0, err);
    if (!rc) rc = put_u32(m, "num_hidden_layers", "block_count", 0, err);
    if (!rc) rc = put_u32(m, "num_attention_heads", "attention.head_count", 0, err);
    if (!rc) rc = put_u32(m, "intermediate_size", "feed_forward_length", 0, err);
    if (!rc)
        rc = m->family == RR_FAMILY_DECODER      ? put_decoder(m, err)
             : m->family == RR_FAMILY_MODERNBERT ? put_modernbert(m, err)
                                                 : put_encoder(m, err);
    rr_out_end(&m->json);
    if (!rc && m->config.failed) rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", m->path);
    return rc;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int parse(struct rr_gguf_model *m, struct rr_error *err)
{
    int rc = rr_gguf_parse(&m->g, m->bytes, m->path, err);

    if (!rc) rc = find_network(m, err);
    if (!rc) rc = rr_gguf_u32(m->g, RR_GGUF_MAX_LENGTH, false, 1, UINT32_MAX, &m->max_length, err);
    if (!rc) rc = write_config(m, err); /* before the tensors: it costs nothing */
    return rc ? rc : add_tensors(m, err);
}

/* path: of a file to map, or the name of bytes in messages. */
static int open_model(struct rr_gguf_model **out, const char *path, const struct rr_text *bytes,
                      struct rr_error *err)
{
    struct rr_gguf_model *m = rr_calloc(RR_MEM_MODEL, 1, sizeof(*m));
    int rc = RR_OK;

    *out = NULL;
    if (!m) return rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    rr_buf_init(&m->config, RR_MEM_MODEL, CONFIG_LIMIT);
    if (strlen(path) >= sizeof(m->path))
        rc = rr_fail(err, RR_EINVAL, "%.100s: the path is longer than %d bytes", path, PATH_MAX);
    else
        memcpy(m->path, path, strlen(path) + 1);
    if (!rc && !bytes) rc = rr_file_map(&m->file, path, err);
    m->bytes = bytes ? *bytes : (struct rr_text){ m->file.data, m->file.len };
    if (!rc) rc = parse(m, err);
    if (rc)
        rr_gguf_model_close(m);
    else
        *out = m;
    return rc;
}

int rr_gguf_model_open(struct rr_gguf_model **out, const char *path, struct rr_error *err)
{
    return open_model(out, path, NULL, err);
}

int rr_gguf_model_parse(struct rr_gguf_model **out, struct rr_text bytes, const char *name,
                        struct rr_error *err)
{
    return open_model(out, name, &bytes, err);
}

void rr_gguf_model_close(struct rr_gguf_model *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n_made; i++)
        rr_pages_free(RR_MEM_WEIGHTS, m->made[i].data, m->made[i].bytes);
    rr_free(m->made);
    rr_free(m->entries);
    rr_free(m->names);
    rr_buf_free(&m->config);
    rr_gguf_close(m->g);
    rr_file_unmap(&m->file);
    rr_free(m);
}

bool rr_gguf_model_identity(const struct rr_gguf_model *m)
{
    bool identity = false;

    (void)!rr_gguf_bool(m->g, RR_GGUF_IDENTITY, &identity, NULL); /* another kind says nothing */
    return identity;
}

uint32_t rr_gguf_model_max_length(const struct rr_gguf_model *m)
{
    return m->max_length;
}

struct rr_words rr_gguf_model_words(const struct rr_gguf_model *m)
{
    return m->words;
}

struct rr_text rr_gguf_model_config(const struct rr_gguf_model *m)
{
    return (struct rr_text){ m->config.data, m->config.len };
}

const struct rr_safetensors_entry *rr_gguf_model_entries(const struct rr_gguf_model *m, size_t *n)
{
    *n = m->n_entries;
    return m->entries;
}

/* A few hundred tensors, each looked for once or twice. */
const struct rr_safetensors_entry *rr_gguf_model_find(const struct rr_gguf_model *m,
                                                      const char *name)
{
    for (size_t i = 0; i < m->n_entries; i++)
        if (strcmp(m->names[i], name) == 0) return &m->entries[i];
    return NULL;
}

size_t rr_gguf_model_bytes(const struct rr_gguf_model *m)
{
    return m->bytes.len;
}

uint64_t rr_gguf_model_fingerprint(const struct rr_gguf_model *m, uint64_t seed)
{
    size_t n;
    const struct rr_gguf_tensor *t = rr_gguf_tensors(m->g, &n);
    uint64_t h = rr_sample_file(m->bytes.data, m->bytes.len, rr_gguf_header_bytes(m->g), seed);

    for (; n > 0; n--, t++) h = rr_sample_tensor(t->data, t->bytes, h);
    return h;
}

int rr_gguf_model_tokenizer(const struct rr_gguf_model *m, struct rr_buf *out, struct rr_error *err)
{
    return rr_gguf_tokenizer(m->g, m->path, out, err);
}
