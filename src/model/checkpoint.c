/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c - see checkpoint.h.  Layer: model (L4). */
#include "model/checkpoint.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/gguf_model.h"
#include "model/modules.h"
#include "model/samples.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define INDEX_DEPTH 8 /* weight_map and some metadata */

struct shard {
    char *name; /* in the folder */
    struct rr_file file;
    struct rr_safetensors *st;
};

struct rr_checkpoint {
    char path[PATH_MAX]; /* of the single file or the index */
    struct shard *shards;
    size_t n_shards;
    json_t *weight_map;                   /* tensor name to shard name; NULL: a single file */
    struct rr_gguf_model *gguf;           /* then there are no shards; NULL: a folder */
    struct shard modules[RR_MODULES_MAX]; /* in folders of their own; name: the folder's */
    size_t n_modules;
};

/* The next of *n shards: folder/name, called so or, if given, as something else. */
static int open_shard(struct shard *s, size_t *n, const char *folder, const char *name,
                      const char *called, struct rr_error *err)
{
    char path[PATH_MAX];
    int rc;

    if (!rr_path_join(path, sizeof(path), folder, name))
        return rr_fail(err, RR_EINVAL, "%s: the path is longer than %d bytes", folder, PATH_MAX);
    s += *n;
    s->name = rr_strdup(RR_MEM_MODEL, called);
    if (!s->name) return rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    ++*n; /* from here on, close knows it */
    rc = rr_file_map(&s->file, path, err);
    if (rc) return rc;
    return rr_safetensors_parse(&s->st, (struct rr_text){ s->file.data, s->file.len }, path, err);
}

static const struct shard *find_shard(const struct rr_checkpoint *c, const char *name)
{
    for (size_t i = c->n_shards; i-- > 0;) { /* newest first: neighbours in an index share it */
        if (strcmp(c->shards[i].name, name) == 0) return &c->shards[i];
    }
    return NULL;
}

/* A shard lies beside the index.  Anything that could name another folder is refused, so that a
 * model folder cannot make us read elsewhere.  Links are the user's own: hub caches have them. */
static int check_shard_name(const char *where, const json_t *v, struct rr_error *err)
{
    struct rr_text name = { json_string_value(v), json_string_length(v) };

    if (!json_is_string(v))
        return rr_fail(err, RR_EFORMAT, "%s: weight_map has %s as a value, expected file names",
                       where, rr_json_type_name(v));
    if (name.len == 0 || name.len > NAME_MAX || memchr(name.data, 0, name.len) ||
        memchr(name.data, '/', name.len) || memchr(name.data, '\\', name.len) ||
        rr_text_is(name, ".") || rr_text_is(name, ".."))
        return rr_fail(err, RR_EFORMAT,
                       "%s: weight_map names the file \"%.60s\", expected a plain "
                       "file name in the same folder",
                       where, name.data);
    return RR_OK;
}

static int open_listed(struct rr_checkpoint *c, const char *folder, struct rr_error *err)
{
    const char *tensor;
    json_t *v;
    int rc;

    c->shards = rr_calloc(RR_MEM_MODEL, RR_CHECKPOINT_MAX_SHARDS, sizeof(*c->shards));
    if (!c->shards) return rr_fail(err, RR_ENOMEM, "%s: out of memory", c->path);
    json_object_foreach(c->weight_map, tensor, v)
    {
        const struct shard *s;

        rc = check_shard_name(c->path, v, err);
        if (rc) return rc;
        s = find_shard(c, json_string_value(v));
        if (!s) {
            if (c->n_shards == RR_CHECKPOINT_MAX_SHARDS)
                return rr_fail(err, RR_ETOOBIG, "%s: weight_map names more than %d files", c->path,
                               RR_CHECKPOINT_MAX_SHARDS);
            rc = open_shard(c->shards, &c->n_shards, folder, json_string_value(v),
                            json_string_value(v), err);
            if (rc) return rc;
            s = &c->shards[c->n_shards - 1];
        }
        if (!rr_safetensors_find(s->st, tensor))
            return rr_fail(err, RR_EFORMAT,
                           "%s: weight_map says that %s has tensor %.200s, but it has not", c->path,
                           s->name, tensor);
    }
    return RR_OK;
}

static int open_sharded(struct rr_checkpoint *c, const char *folder, struct rr_error *err)
{
    json_t *root = NULL;
    char *text = NULL;
    size_t len;
    int rc = rr_file_read_regular(&text, &len, c->path, RR_CHECKPOINT_MAX_INDEX, RR_MEM_JSON, err);

    if (rc) return rc;
    rc = rr_json_parse(&root, (struct rr_text){ text, len }, INDEX_DEPTH, RR_JSON_DUP_REJECT, err);
    rr_free(text);
    if (rc) {
        rr_fail_prefix(err, "%s", c->path);
        return rc;
    }
    c->weight_map = json_incref(json_object_get(root, "weight_map"));
    if (!json_is_object(c->weight_map) || json_object_size(c->weight_map) == 0)
        rc = rr_fail(err, RR_EFORMAT,
                     "%s: weight_map is %s, expected an object from tensor names to file names",
                     c->path,
                     !c->weight_map                  ? "missing"
                     : json_is_object(c->weight_map) ? "empty"
                                                     : rr_json_type_name(c->weight_map));
    json_decref(root);
    return rc ? rc : open_listed(c, folder, err);
}

static bool has(const char *folder, const char *name)
{
    char path[PATH_MAX];

    return rr_path_join(path, sizeof(path), folder, name) && rr_file_exists(path);
}

static int fail_without_weights(const char *folder, struct rr_error *err)
{
    static const char convert[] = "convert it: load the model with transformers and call "
                                  "save_pretrained(folder, safe_serialization=True)";
    static const char exported[] = "ONNX is not read: fetch " SINGLE " from where the model came "
                                   "from, or use the folder that it was exported from";
    static const struct {
        const char *file, *remedy;
    } others[] = {
        { "pytorch_model.bin", convert }, { "pytorch_model.bin.index.json", convert },
        { "tf_model.h5", convert },       { "flax_model.msgpack", convert },
        { "model.onnx", exported },       { "onnx/model.onnx", exported },
    };

    for (size_t i = 0; i < RR_COUNT(others); i++) {
        if (has(folder, others[i].file))
            return rr_fail(err, RR_ENOTSUP, "%s: has %s but no " SINGLE "; %s", folder,
                           others[i].file, others[i].remedy);
    }
    return rr_fail(err, RR_ENOENT,
                   "%s: no weights: looked for " SINGLE " and " INDEX "; copy them here, or let "
                   "rerankd pull ORG/NAME fetch the model",
                   folder);
}

int rr_checkpoint_open(struct rr_checkpoint **out, const char *folder, struct rr_error *err)
{
    struct rr_checkpoint *c = rr_calloc(RR_MEM_MODEL, 1, sizeof(*c));
    bool single = has(folder, SINGLE); /* wins over an index, as in the reference */
    int rc;

    *out = NULL;
    if (!c) return rr_fail(err, RR_ENOMEM, "%s: out of memory", folder);
    if (rr_gguf_is(folder)) {
        rc = rr_gguf_model_open(&c->gguf, folder, err);
        if (rc) goto fail;
        snprintf(c->path, sizeof(c->path), "%s", folder);
        *out = c;
        return RR_OK;
    }
    if (!single && !has(folder, INDEX)) {
        rc = fail_without_weights(folder, err);
        goto fail;
    }
    if (!rr_path_join(c->path, sizeof(c->path), folder, single ? SINGLE : INDEX)) {
        rc = rr_fail(err, RR_EINVAL, "%s: the path is longer than %d bytes", folder, PATH_MAX);
        goto fail;
    }
    if (single) {
        c->shards = rr_calloc(RR_MEM_MODEL, 1, sizeof(*c->shards));
        rc = c->shards ? open_shard(c->shards, &c->n_shards, folder, SINGLE, SINGLE, err)
                       : rr_fail(err, RR_ENOMEM, "%s: out of memory", folder);
    } else {
        rc = open_sharded(c, folder, err);
    }
    if (rc) goto fail;
    *out = c;
    return RR_OK;
fail:
    rr_checkpoint_close(c);
    return rc;
}

int rr_checkpoint_add(struct rr_checkpoint *c, const char *folder, const char *module,
                      struct rr_error *err)
{
    char path[PATH_MAX];

    if (c->n_modules == RR_MODULES_MAX)
        return rr_fail(err, RR_ETOOBIG, "%s: more than %d modules", folder, RR_MODULES_MAX);
    if (!rr_path_join(path, sizeof(path), folder, module))
        return rr_fail(err, RR_EINVAL, "%s: the path is longer than %d bytes", folder, PATH_MAX);
    return open_shard(c->modules, &c->n_modules, path, SINGLE, module, err);
}

static void close_shards(struct shard *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rr_safetensors_close(s[i].st);
        rr_file_unmap(&s[i].file);
        rr_free(s[i].name);
    }
}

void rr_checkpoint_close(struct rr_checkpoint *c)
{
    if (!c) return;
    close_shards(c->shards, c->n_shards);
    close_shards(c->modules, c->n_modules);
    rr_free(c->shards);
    rr_gguf_model_close(c->gguf);
    json_decref(c->weight_map);
    rr_free(c);
}

const char *rr_checkpoint_path(const struct rr_checkpoint *c)
{
    return c->path;
}

/* "module/NAME"; NULL: no such module or tensor. */
static const struct rr_safetensors_entry *find_in_module(const struct rr_checkpoint *c,
                                                         const char *name)
{
    for (size_t i = 0; i < c->n_modules; i++) {
        const struct shard *s = &c->modules[i];
        size_t n = strlen(s->name);

        if (strncmp(name, s->name, n) == 0 && name[n] == '/')
            return rr_safetensors_find(s->st, name + n + 1);
    }
    return NULL;
}

const struct rr_safetensors_entry *rr_checkpoint_find(const struct rr_checkpoint *c,
                                                      const char *name)
{
    const struct shard *s = c->shards;

    if (c->n_modules && strchr(name, '/')) return find_in_module(c, name);

    if (c->gguf) return rr_gguf_model_find(c->gguf, name);
    if (c->weight_map) {
        const json_t *v = json_object_get(c->weight_map, name);

        s = v ? find_shard(c, json_string_value(v)) : NULL;
    }
    return s ? rr_safetensors_find(s->st, name) : NULL;
}

bool rr_checkpoint_in_module(const struct rr_checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->n_modules; i++) {
        const struct rr_safetensors_entry *e = rr_safetensors_find(c->modules[i].st, name);

        if (e && e->name == name) return true;
    }
    return false;
}

/* One more than the number behind "layer." or "layers."; 0: the tensor is of no layer. */
static uint32_t layers_with(const char *name)
{
    for (const char *p = strstr(name, "layer"); p; p = strstr(p, "layer")) {
        p += strlen("layer");
        if (*p == 's') p++;
        if (p[0] == '.' && p[1] >= '0' && p[1] <= '9')
            return 1 + (uint32_t)strtoul(p + 1, NULL, 10);
    }
    return 0;
}

uint32_t rr_checkpoint_layers(const struct rr_checkpoint *c)
{
    uint32_t most = 0;

    for (size_t i = 0; i < c->n_shards; i++) {
        size_t n;
        const struct rr_safetensors_entry *e = rr_safetensors_entries(c->shards[i].st, &n);

        for (; n > 0; n--, e++) most = RR_MAX(most, layers_with(e->name));
    }
    return most;
}

const char *rr_checkpoint_made_for(const struct rr_checkpoint *c)
{
    if (c->gguf) return ""; /* GGUF files do not say */
    return rr_safetensors_made_for(c->shards[0].st);
}

uint64_t rr_checkpoint_bytes(const struct rr_checkpoint *c)
{
    uint64_t sum = c->gguf ? rr_gguf_model_bytes(c->gguf) : 0;

    for (size_t i = 0; i < c->n_shards; i++) sum += c->shards[i].file.len;
    for (size_t i = 0; i < c->n_modules; i++) sum += c->modules[i].file.len;
    return sum;
}

static uint64_t hash_file(const struct shard *s, uint64_t h)
{
    size_t n;
    const struct rr_safetensors_entry *e = rr_safetensors_entries(s->st, &n);

    h = rr_sample_file(s->file.data, s->file.len, rr_safetensors_header_bytes(s->st), h);
    for (; n > 0; n--, e++) h = rr_sample_tensor(e->data, (size_t)(e->end - e->begin), h);
    return h;
}

uint64_t rr_checkpoint_fingerprint(const struct rr_checkpoint *c, uint64_t seed)
{
    if (c->gguf) return rr_gguf_model_fingerprint(c->gguf, seed);
    for (size_t i = 0; i < c->n_shards; i++) seed = hash_file(&c->shards[i], seed);
    for (size_t i = 0; i < c->n_modules; i++) seed = hash_file(&c->modules[i], seed);
    return seed;
}

struct rr_text rr_checkpoint_config(const struct rr_checkpoint *c)
{
    return c->gguf ? rr_gguf_model_config(c->gguf) : (struct rr_text){ NULL, 0 };
}

bool rr_checkpoint_identity(const struct rr_checkpoint *c)
{
    return c->gguf && rr_gguf_model_identity(c->gguf);
}

uint32_t rr_checkpoint_max_length(const struct rr_checkpoint *c)
{
    return c->gguf ? rr_gguf_model_max_length(c->gguf) : 0;
}

struct rr_words rr_checkpoint_words(const struct rr_checkpoint *c)
{
    return c->gguf ? rr_gguf_model_words(c->gguf) : (struct rr_words){ .yes = -1, .no = -1 };
}

int rr_checkpoint_tokenizer(const struct rr_checkpoint *c, struct rr_buf *out, struct rr_error *err)
{
    return c->gguf ? rr_gguf_model_tokenizer(c->gguf, out, err) : RR_OK;
}
