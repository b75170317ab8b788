/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - see model.h.  Layer: model (L4). */
#include "model/model.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/arch.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/gguf_model.h"
#include "model/sentence.h"

#define MAX_CONFIG (4u * 1024 * 1024) /* bytes */

struct rr_model {
    struct rr_model_config config;
    struct rr_model_info info;
    struct rr_checkpoint *checkpoint;
    struct rr_builder builder;
    struct rr_weights weights;
    struct rr_program program;
    bool judged;
    const struct rr_program *replaced; /* NULL: program is loaded */

    const struct rr_backend *backend; /* of loaded */
    struct rr_loaded *loaded;
    struct rr_limits limits;
    int32_t *positions; /* [limits.max_tokens] */
    int32_t *types;     /* [limits.max_tokens]; zeros where the network has one type only */
};

/* ---- open --------------------------------------------------------------------------------- */

/* A file where a folder is expected, in a format that we know by its name. */
static int check_file(const char *path, struct rr_error *err)
{
    static const char torch[] =
        "PyTorch's format can run code when it is read: load the model with "
        "transformers and call save_pretrained(folder, "
        "safe_serialization=True)";
    static const struct {
        const char *suffix, *hint;
    } kinds[] = {
        { ".safetensors", "give the folder that it is in, with config.json and tokenizer.json" },
        { ".bin", torch },
        { ".pt", torch },
        { ".pth", torch },
        { ".onnx", "ONNX is not read: use the folder that it was exported from, with "
                   "model.safetensors" },
    };
    struct stat st;

    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return RR_OK;
    for (size_t i = 0; i < RR_COUNT(kinds); i++) {
        if (rr_text_stem(path, kinds[i].suffix))
            return rr_fail(err, RR_ENOTSUP, "%s: %s", path, kinds[i].hint);
    }
    return rr_fail(err, RR_ENOTSUP, "%s: expected a model folder, or a GGUF file", path);
}

/* Of a folder without a config.json: perhaps its one file is the model. */
static int fail_without_config(const char *folder, const char *path, struct rr_error *err)
{
    DIR *dir = opendir(folder);
    char name[NAME_MAX + 1] = "";
    struct dirent *e;

    if (!dir && errno == ENOENT)
        return rr_fail(err, RR_ENOENT,
                       "%s: there is no such folder; expected a model folder in Hugging Face "
                       "layout (config.json, tokenizer.json, model.safetensors) or a GGUF file; "
                       "rerankd pull ORG/NAME fetches one from the hub",
                       folder);
    while (dir && (e = readdir(dir))) {
        if (rr_gguf_named(e->d_name)) memcpy(name, e->d_name, strlen(e->d_name) + 1);
    }
    if (dir) closedir(dir);
    if (*name)
        return rr_fail(err, RR_ENOENT, "%s: not found, but there is %.100s: give that file", path,
                       name);
    return rr_fail(err, RR_ENOENT,
                   "%s: not found; expected a model folder in Hugging Face "
                   "layout: config.json, tokenizer.json, model.safetensors; rerankd pull ORG/NAME "
                   "fetches one",
                   path);
}

static int read_config(struct rr_model *m, const char *folder, struct rr_error *err)
{
    struct rr_text inside =
        m->checkpoint ? rr_checkpoint_config(m->checkpoint) : (struct rr_text){ NULL, 0 };
    char path[PATH_MAX];
    char *text = NULL;
    size_t len;
    int rc;

    if (inside.data) {
        m->info.fingerprint = XXH3_64bits(inside.data, inside.len);
        return rr_config_parse(&m->config, inside, folder, err);
    }
    if (!rr_path_join(path, sizeof(path), folder, "config.json"))
        return rr_fail(err, RR_EINVAL, "%s: the path is longer than %d bytes", folder, PATH_MAX);
    rc = check_file(folder, err);
    if (rc) return rc;
    if (!rr_file_exists(path)) return fail_without_config(folder, path, err);
    rc = rr_file_read_regular(&text, &len, path, MAX_CONFIG, RR_MEM_MODEL, err);
    if (rc) return rc;
    rc = rr_config_parse(&m->config, (struct rr_text){ text, len }, path, err);
    m->info.fingerprint = XXH3_64bits(text, len);
    rr_free(text);
    return rc;
}

/* The head of a network that has none in its own files. */
static int read_modules(struct rr_model *m, const char *folder, struct rr_error *err)
{
    struct rr_modules *list = &m->config.modules;
    int rc = rr_modules_read(list, folder, m->config.hidden, err);

    if (rc == RR_ENOENT && !rr_modules_listed(folder))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: %s has no head and there is no modules.json that says what makes "
                       "scores: this is an embedding model, not a reranker",
                       folder, m->config.architecture);
    for (uint32_t i = 0; i < list->n && !rc; i++)
        rc = rr_checkpoint_add(m->checkpoint, folder, list->list[i].path, err);
    m->config.pool = list->pool;
    return rc;
}

/* The tokens that make a causal network's score, where its folder or file says them. */
static int read_words(struct rr_model *m, const char *folder, struct rr_error *err)
{
    if (!rr_checkpoint_config(m->checkpoint).data)
        return rr_modules_words(&m->config.words, folder, m->config.vocab, err);
    m->config.words = rr_checkpoint_words(m->checkpoint);
    return RR_OK;
}

static const char *dtype_name(unsigned seen)
{
    switch (seen) {
    case 1u << RR_F32: return "f32";
    case 1u << RR_F16: return "f16";
    case 1u << RR_BF16: return "bf16";
    default: return seen & 1u << RR_I8 ? "int8" : "mixed";
    }
}

/* What sentence-transformers would do with the model; a GGUF file has two words of it. */
static int read_sentence(struct rr_model *m, const char *path, struct rr_error *err)
{
    struct rr_sentence s = { 0 };
    int rc = RR_OK;

    if (rr_checkpoint_config(m->checkpoint).data) {
        s.identity = rr_checkpoint_identity(m->checkpoint);
        s.max_length = rr_checkpoint_max_length(m->checkpoint);
    } else {
        rc = rr_sentence_read(&s, path, err);
    }
    m->info.identity = s.identity;
    m->info.preferred_length = s.max_length;
    if (!rc && s.prompt[0] && m->config.modules.skips_prompt)
        rc = rr_fail(err, RR_ENOTSUP,
                     "%s: a default prompt that its Pooling leaves out (include_prompt false), "
                     "supported is true",
                     path);
    if (s.prompt[0] && m->config.family == RR_FAMILY_DECODER)
        rr_log(RR_WARN, "%s: its default prompt is not used: a causal network has a wording", path);
    else
        memcpy(m->info.query_prompt, s.prompt, sizeof(s.prompt));
    return rc;
}

/* Scores of a network that was meant to be deeper look like any others. */
static void warn_of_unused_layers(const struct rr_model *m)
{
    uint32_t found = rr_checkpoint_layers(m->checkpoint);

    if (found > m->config.layers)
        rr_log(RR_WARN,
               "%s: has weights of %" PRIu32 " layers, but num_hidden_layers in config.json is "
               "%" PRIu32 ": the others are not used",
               rr_checkpoint_path(m->checkpoint), found, m->config.layers);
}

static void fill_info(struct rr_model *m)
{
    struct rr_model_info *i = &m->info;
    const struct rr_model_config *c = &m->config;

    memcpy(i->architecture, c->architecture, sizeof(i->architecture));
    snprintf(i->weights_dtype, sizeof(i->weights_dtype), "%s", dtype_name(m->weights.dtypes));
    m->program.mixed = m->weights.dtypes & 1u << RR_I8;
    snprintf(i->dtype, sizeof(i->dtype), "%s",
             m->program.mixed                                             ? "int8"
             : strcmp(rr_checkpoint_made_for(m->checkpoint), "bf16") == 0 ? "bf16"
                                                                          : "f32");
    i->layers = c->layers;
    i->hidden = c->hidden;
    i->heads = c->heads;
    i->intermediate = c->intermediate;
    i->vocab = c->vocab;
    i->types = c->types;
    i->max_length = c->max_length;
    i->parameters = m->weights.parameters;
    i->words = c->words;
    i->modules = c->modules.n > 0 || (c->words.given && !rr_checkpoint_config(m->checkpoint).data);
    i->judge = m->weights.judge.row != NULL;
    i->file_bytes = rr_checkpoint_bytes(m->checkpoint);
    i->fingerprint = rr_checkpoint_fingerprint(m->checkpoint, i->fingerprint);
    if (c->modules.n) /* all of it was zeroed once, so that its bytes say what it is */
        i->fingerprint = XXH3_64bits_withSeed(&c->modules, sizeof(c->modules), i->fingerprint);
    if (c->words.given) {
        const int32_t ids[2] = { c->words.yes, c->words.no };

        i->fingerprint = XXH3_64bits_withSeed(ids, sizeof(ids), i->fingerprint);
    }
    m->program.fingerprint = i->fingerprint; /* of the weights: what follows is text */
    if (i->query_prompt[0])
        i->fingerprint =
            XXH3_64bits_withSeed(i->query_prompt, strlen(i->query_prompt), i->fingerprint);
}

int rr_model_open(struct rr_model **out, const char *folder, struct rr_error *err)
{
    struct rr_model *m = rr_calloc(RR_MEM_MODEL, 1, sizeof(*m));
    const struct rr_arch *arch;
    uint32_t output = RR_NONE;
    int rc;

    *out = NULL;
    if (!m) return rr_fail(err, RR_ENOMEM, "%s: out of memory", folder);
    rr_builder_init(&m->builder);
    if (rr_gguf_is(folder)) {
        rc = rr_checkpoint_open(&m->checkpoint, folder, err);
        if (!rc) rc = read_config(m, folder, err);
    } else {
        rc = read_config(m, folder, err);
        if (!rc) rc = rr_checkpoint_open(&m->checkpoint, folder, err);
    }
    if (rc) goto fail;
    m->weights.checkpoint = m->checkpoint;
    m->weights.builder = &m->builder;
    arch = rr_arch_find(m->config.architecture, strlen(m->config.architecture));
    if (arch->ending == RR_END_MODULES) rc = read_modules(m, folder, err);
    if (arch->ending == RR_END_WORD) rc = read_words(m, folder, err);
    if (!rc) rc = arch->build(&m->weights, &m->config, &output, err);
    if (!rc) rc = rr_builder_done(&m->builder, output, &m->program, err);
    if (!rc) rc = read_sentence(m, folder, err);
    if (rc) goto fail;
    warn_of_unused_layers(m);
    fill_info(m);
    *out = m;
    return RR_OK;
fail:
    rr_model_close(m);
    return rc;
}

void rr_model_close(struct rr_model *m)
{
    if (!m) return;
    rr_model_unload(m);
    rr_weights_free(&m->weights);
    rr_builder_free(&m->builder);
    rr_checkpoint_close(m->checkpoint);
    rr_free(m);
}

const struct rr_model_info *rr_model_info(const struct rr_model *m)
{
    return &m->info;
}

const struct rr_model_config *rr_model_config(const struct rr_model *m)
{
    return &m->config;
}

const struct rr_checkpoint *rr_model_checkpoint(const struct rr_model *m)
{
    return m->checkpoint;
}

int rr_model_tokenizer(const struct rr_model *m, struct rr_buf *out, struct rr_error *err)
{
    return rr_checkpoint_tokenizer(m->checkpoint, out, err);
}

const struct rr_program *rr_model_program(const struct rr_model *m)
{
    return &m->program;
}

int rr_model_judge(struct rr_model *m, int32_t yes, int32_t no, struct rr_error *err)
{
    float *row = m->weights.judge.row;
    uint32_t n = m->config.hidden;
    float *less;

    if (!row) return rr_fail(err, RR_EINVAL, "%s has a head of its own", m->config.architecture);
    if (yes < 0 || (uint32_t)yes >= m->config.vocab || (no >= 0 && (uint32_t)no >= m->config.vocab))
        return rr_fail(err, RR_EINVAL,
                       "the words that judge a pair are tokens %" PRId32 " and %" PRId32
                       ", expected below %" PRIu32,
                       yes, no, m->config.vocab);
    less = rr_calloc(RR_MEM_MODEL, n, sizeof(*less));
    if (!less) return rr_fail(err, RR_ENOMEM, "out of memory for %" PRIu32 " weights", n);
    rr_weights_read(&m->weights, m->weights.judge.table, (uint32_t)yes, row);
    if (no >= 0) rr_weights_read(&m->weights, m->weights.judge.table, (uint32_t)no, less);
    for (uint32_t i = 0; i < n; i++) row[i] -= less[i];
    rr_free(less);
    m->judged = true;
    return RR_OK;
}

/* ---- load --------------------------------------------------------------------------------- */

int rr_model_load(struct rr_model *m, const struct rr_backend *backend, struct rr_device *device,
                  const struct rr_limits *limits, struct rr_error *err)
{
    int rc;

    if (m->loaded) return rr_fail(err, RR_EINVAL, "the model is loaded already");
    if (m->info.judge && !m->judged)
        return rr_fail(err, RR_EINVAL, "the words that judge a pair are not known");
    if (limits->max_length == 0 || limits->max_length > m->config.max_length)
        return rr_fail(err, RR_EINVAL,
                       "sequences of up to %" PRIu32 " tokens asked for, the model "
                       "takes 1 to %" PRIu32,
                       limits->max_length, m->config.max_length);
    if (limits->max_tokens < limits->max_length || limits->max_sequences == 0)
        return rr_fail(err, RR_EINVAL,
                       "a batch of %" PRIu32 " tokens and %" PRIu32 " sequences "
                       "asked for, expected room for a sequence of %" PRIu32 " tokens",
                       limits->max_tokens, limits->max_sequences, limits->max_length);
    m->limits = *limits;
    m->positions = rr_calloc(RR_MEM_WORKSPACE, limits->max_tokens, sizeof(*m->positions));
    m->types = rr_calloc(RR_MEM_WORKSPACE, limits->max_tokens, sizeof(*m->types));
    if (!m->positions || !m->types) {
        rc = rr_fail(err, RR_ENOMEM, "out of memory for a batch of %" PRIu32 " tokens",
                     limits->max_tokens);
        goto fail;
    }
    rc = backend->load(device, m->replaced ? m->replaced : &m->program, limits, &m->loaded, err);
    if (rc) goto fail;
    m->backend = backend;
    return RR_OK;
fail:
    rr_model_unload(m);
    return rc;
}

void rr_model_unload(struct rr_model *m)
{
    if (m->backend) m->backend->unload(m->loaded);
    m->loaded = NULL;
    m->backend = NULL;
    rr_free(m->positions);
    rr_free(m->types);
    m->positions = NULL;
    m->types = NULL;
}

void rr_model_replace(struct rr_model *m, const struct rr_program *p)
{
    m->replaced = p;
}

int rr_model_observe(struct rr_model *m, rr_observe_fn *fn, void *user, struct rr_error *err)
{
    if (!m->loaded || !m->backend->observe)
        return rr_fail(err, RR_ENOTSUP, "backend %s does not show the inputs of its layers",
                       m->loaded ? m->backend->name : "none");
    m->backend->observe(m->loaded, fn, user);
    return RR_OK;
}

/* ---- forward ------------------------------------------------------------------------------ */

static int check_shape(const struct rr_model *m, const struct rr_sequences *s, struct rr_error *err)
{
    if (!m->loaded) return rr_fail(err, RR_EINVAL, "the model is not loaded on a device");
    if (s->n_sequences == 0 || s->n_sequences > m->limits.max_sequences ||
        s->n_tokens > m->limits.max_tokens)
        return rr_fail(err, RR_EINVAL,
                       "a batch of %" PRIu32 " sequences and %" PRIu32 " tokens, "
                       "expected at least 1 and at most %" PRIu32 " and %" PRIu32,
                       s->n_sequences, s->n_tokens, m->limits.max_sequences, m->limits.max_tokens);
    if (s->cu_seqlens[0] != 0 || s->cu_seqlens[s->n_sequences] != s->n_tokens)
        return rr_fail(err, RR_EINVAL,
                       "the sequences span %" PRIu32 " to %" PRIu32 ", expected 0 to %" PRIu32,
                       s->cu_seqlens[0], s->cu_seqlens[s->n_sequences], s->n_tokens);
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        uint32_t begin = s->cu_seqlens[i], end = s->cu_seqlens[i + 1];

        if (end <= begin || end > s->n_tokens || end - begin > m->limits.max_length)
            return rr_fail(err, RR_EINVAL,
                           "sequence %" PRIu32 " spans %" PRIu32 " to %" PRIu32
                           ", expected 1 to %" PRIu32 " tokens within %" PRIu32,
                           i, begin, end, m->limits.max_length, s->n_tokens);
    }
    return RR_OK;
}

/* A network without types takes none.  The tokenizer of a RoBERTa-like model, or of GTE, returns no
 * token types to the reference, which then takes zeros, whatever types the template in
 * tokenizer.json writes down.  With a table of one row there is no other valid reading. */
static bool ignores_types(const struct rr_model *m)
{
    enum rr_family f = m->config.family;

    return m->config.types == 0 ||
           (m->config.types == 1 && (f == RR_FAMILY_ROBERTA || f == RR_FAMILY_GTE));
}

static int check_values(const struct rr_model *m, const struct rr_sequences *s,
                        struct rr_error *err)
{
    bool types = !ignores_types(m);

    for (uint32_t i = 0; i < s->n_tokens; i++) {
        if (s->ids[i] < 0 || (uint32_t)s->ids[i] >= m->config.vocab)
            return rr_fail(err, RR_EINVAL,
                           "token id %" PRId32 " is outside of the model's "
                           "vocabulary of %" PRIu32 ": does tokenizer.json belong to it?",
                           s->ids[i], m->config.vocab);
        if (types && (s->types[i] < 0 || (uint32_t)s->types[i] >= m->config.types))
            return rr_fail(err, RR_EINVAL,
                           "token type %" PRId32 " is outside of the model's "
                           "%" PRIu32 ": does tokenizer.json belong to it?",
                           s->types[i], m->config.types);
    }
    return RR_OK;
}

/* BERT counts from 0.  The RoBERTa family counts from pad_id + 1 the tokens that are not the
 * padding token; a padding token inside a text takes position pad_id and no number.  (Only a text
 * that spells "<pad>" has one: sequences are not padded here.) */
static void fill_positions(const struct rr_model *m, const struct rr_sequences *s)
{
    bool roberta = m->config.family == RR_FAMILY_ROBERTA;
    int32_t pad = (int32_t)m->config.pad_id;

    for (uint32_t i = 0; i < s->n_sequences; i++) {
        int32_t next = roberta ? pad + 1 : 0;

        for (uint32_t t = s->cu_seqlens[i]; t < s->cu_seqlens[i + 1]; t++)
            m->positions[t] = roberta && s->ids[t] == pad ? pad : next++;
    }
}

int rr_model_forward(struct rr_model *m, const struct rr_sequences *seqs, float *logits,
                     struct rr_error *err)
{
    struct rr_batch batch;
    int rc = check_shape(m, seqs, err);

    if (!rc) rc = check_values(m, seqs, err);
    if (rc) return rc;
    fill_positions(m, seqs);
    batch = (struct rr_batch){
        .n_tokens = seqs->n_tokens,
        .n_sequences = seqs->n_sequences,
        .ids = seqs->ids,
        .positions = m->positions,
        .types = ignores_types(m) ? m->types : seqs->types,
        .cu_seqlens = seqs->cu_seqlens,
    };
    return m->backend->run(m->loaded, &batch, logits, err);
}
