/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c - see convert.h: what is written, and folders with safetensors.  Layer: model (L4). */
#include "model/convert.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/newdir.h"

#define CHUNK ((uint64_t)1 << 16) /* elements converted at once; a multiple of every block */
#define MAX_SIDE_FILE ((size_t)512 << 20)
#define MAX_WORDS_FILE 4096

/* ---- data ----------------------------------------------------------------------------------- */

/* n elements of src from the at-th on, as f32.  Calibrated int8 is multiplied out
 * (docs/internals/quant.md). */
static void widen(float *out, const struct rr_tensor *src, uint64_t at, uint64_t n)
{
    uint32_t columns = src->shape[1];
    size_t size = src->dtype == RR_F32 ? 4 : 2;

    if (src->dtype != RR_I8) {
        rr_gguf_widen(out, (const char *)src->data + at * size, src->dtype, n);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t o = (at + i) / columns, c = (at + i) % columns;

        out[i] = (float)((const int8_t *)src->data)[at + i] * src->scale[o];
        if (src->smooth) out[i] *= src->smooth[c];
    }
}

/* Whether none of n values becomes infinite: 65520 does in f16, in which are the scales of q8_0. */
static bool fits(const struct rr_gguf_type *type, const float *v, uint64_t n)
{
    float most = type->decode ? 127 * 65504.0f : 65519.996f;

    if (!type->decode && type->dtype != RR_F16) return true;
    for (uint64_t i = 0; i < n; i++)
        if (fabsf(v[i]) > most && isfinite(v[i])) return false;
    return true;
}

int rr_convert_put(FILE *out, const struct rr_convert_tensor *t, struct rr_error *err)
{
    float *wide = rr_alloc(RR_MEM_MODEL, CHUNK, sizeof(*wide));
    char *made = rr_alloc(RR_MEM_MODEL, CHUNK, sizeof(*wide)); /* no type takes more than f32 */
    int rc = wide && made ? RR_OK : rr_fail(err, RR_ENOMEM, "out of memory for a tensor");

    for (uint64_t at = 0; at < t->elements && !rc; at += CHUNK) {
        uint64_t n = RR_MIN(CHUNK, t->elements - at);

        widen(wide, t->src, t->skip + at, n);
        for (uint64_t i = 0; t->shift != 0 && i < n; i++) wide[i] += t->shift;
        if (!fits(t->type, wide, n))
            rc = rr_fail(err, RR_ENOTSUP,
                         "%s has a value that is too large for %s: take another precision", t->name,
                         t->type->name);
        else if (!rr_gguf_encode(t->type, made, wide, n))
            rc = rr_fail(err, RR_ENOTSUP, "%s cannot be written", t->type->name);
        else
            fwrite(made, t->type->bytes, (size_t)(n / t->type->block), out);
    }
    rr_free(wide);
    rr_free(made);
    return rc;
}

int rr_convert_read(const struct rr_convert *c, const char *name, struct rr_buf *out,
                    struct rr_error *err)
{
    char path[PATH_MAX], *text;
    size_t len;
    int rc;

    if (!rr_path_join(path, sizeof(path), c->from, name) || !rr_file_exists(path)) return RR_OK;
    rc = rr_file_read_regular(&text, &len, path, MAX_SIDE_FILE, RR_MEM_MODEL, err);
    if (rc) return rc;
    rr_buf_put(out, text, len);
    rr_free(text);
    return out->failed ? rr_fail(err, RR_ENOMEM, "%s: out of memory", path) : RR_OK;
}

/* The tensors of the program that come from the files; others were made and will be again. */
static int choose_tensors(struct rr_convert *c, struct rr_error *err)
{
    const struct rr_program *p = rr_model_program(c->model);
    const struct rr_checkpoint *checkpoint = rr_model_checkpoint(c->model);

    c->tensors = rr_calloc(RR_MEM_MODEL, p->n_tensors, sizeof(*c->tensors));
    if (!c->tensors) return rr_fail(err, RR_ENOMEM, "%s: out of memory", c->from);
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct rr_tensor *src = &p->tensors[i];
        const struct rr_safetensors_entry *e = rr_checkpoint_find(checkpoint, src->name);
        struct rr_convert_tensor *t = &c->tensors[c->n];
        bool again = false;

        for (size_t j = 0; j < c->n && e; j++)
            again = again || strcmp(c->tensors[j].name, src->name) == 0;
        /* rows of a tensor have its name, too */
        if (!e || again || rr_checkpoint_in_module(checkpoint, src->name)) continue;
        snprintf(t->name, sizeof(t->name), "%s", src->name);
        t->src = src;
        t->type = c->type;
        t->rank = e->rank;
        t->elements = 1;
        for (uint32_t d = 0; d < e->rank; d++) {
            t->shape[d] = e->shape[d];
            t->elements *= e->shape[d];
        }
        t->bytes = t->elements / t->type->block * t->type->bytes;
        c->n++;
    }
    return RR_OK;
}

/* ---- safetensors ---------------------------------------------------------------------------- */

static int write_error(const char *path, struct rr_error *err)
{
    return rr_fail_errno(err, RR_EIO, path, "cannot be written", errno ? errno : EIO);
}

/* tensors [from, to) as one file. */
static int write_shard(const struct rr_convert *c, const char *path, size_t from, size_t to,
                       struct rr_error *err)
{
    struct rr_buf header;
    struct rr_json_out o = { .buf = &header };
    unsigned char length[8];
    uint64_t at = 0;
    FILE *out;
    int rc = RR_OK;

    rr_buf_init(&header, RR_MEM_MODEL, RR_SAFETENSORS_MAX_HEADER);
    rr_safetensors_begin(&o, NULL);
    for (size_t i = from; i < to; i++) {
        const struct rr_convert_tensor *t = &c->tensors[i];

        rr_safetensors_put(&o, t->name, t->type->name, t->shape, t->rank, at, at + t->bytes);
        at += t->bytes;
    }
    rr_safetensors_end(&o, length);
    errno = 0;
    out = header.failed ? NULL : fopen(path, "wxe");
    if (!out) rc = write_error(path, err);
    if (out) {
        fwrite(length, 1, sizeof(length), out);
        fwrite(header.data, 1, header.len, out);
        for (size_t i = from; i < to && !rc; i++) rc = rr_convert_put(out, &c->tensors[i], err);
        if ((ferror(out) | fclose(out)) && !rc) rc = write_error(path, err);
    }
    rr_buf_free(&header);
    return rc;
}

/* How many shards, and in which each tensor is. */
static size_t plan_shards(const struct rr_convert *c, size_t *shard_of)
{
    uint64_t bytes = 0;
    size_t shard = 0;

    for (size_t i = 0; i < c->n; i++) {
        if (c->shard_bytes && bytes && bytes + c->tensors[i].bytes > c->shard_bytes) {
            shard++;
            bytes = 0;
        }
        bytes += c->tensors[i].bytes;
        shard_of[i] = shard;
    }
    return shard + 1;
}

static int write_side_file(const struct rr_convert *c, const char *name, struct rr_text text,
                           struct rr_error *err)
{
    char path[PATH_MAX];

    if (!rr_path_join(path, sizeof(path), c->to, name))
        return rr_fail(err, RR_EINVAL, "%.200s: the path is too long", c->to);
    return rr_file_write(path, text.data, text.len, err);
}

/* b, JSON without its last line feed, is the file; it is freed. */
static int write_json(const struct rr_convert *c, const char *name, struct rr_buf *b,
                      struct rr_error *err)
{
    int rc;

    rr_buf_putc(b, '\n');
    rc = b->failed ? rr_fail(err, RR_ENOMEM, "%s: out of memory", c->to)
                   : write_side_file(c, name, (struct rr_text){ b->data, b->len }, err);
    rr_buf_free(b);
    return rc;
}

static int write_index(const struct rr_convert *c, const size_t *shard_of, size_t n_shards,
                       struct rr_error *err)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b };
    uint64_t total = 0;

    rr_buf_init(&b, RR_MEM_MODEL, RR_CHECKPOINT_MAX_INDEX);
    for (size_t i = 0; i < c->n; i++) total += c->tensors[i].bytes;
    rr_out_object(&o, NULL);
    rr_out_object(&o, "metadata");
    rr_out_uint(&o, "total_size", total);
    rr_out_end(&o);
    rr_out_object(&o, "weight_map");
    for (size_t i = 0; i < c->n; i++)
        rr_out_printf(&o, c->tensors[i].name, "\"model-%05zu-of-%05zu.safetensors\"",
                      shard_of[i] + 1, n_shards);
    rr_out_end(&o);
    rr_out_end(&o);
    return write_json(c, "model.safetensors.index.json", &b, err);
}

static int write_shards(const struct rr_convert *c, struct rr_error *err)
{
    size_t *shard_of = rr_calloc(RR_MEM_MODEL, c->n, sizeof(*shard_of)), n, from, to;
    char path[PATH_MAX], name[64];
    int rc = RR_OK;

    if (!shard_of) return rr_fail(err, RR_ENOMEM, "%s: out of memory", c->to);
    n = plan_shards(c, shard_of);
    for (from = 0; from < c->n && !rc; from = to) {
        for (to = from; to < c->n && shard_of[to] == shard_of[from];) to++;
        if (n > 1)
            snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", shard_of[from] + 1, n);
        else
            snprintf(name, sizeof(name), "model.safetensors");
        rc = rr_path_join(path, sizeof(path), c->to, name)
                 ? write_shard(c, path, from, to, err)
                 : rr_fail(err, RR_EINVAL, "%.200s: the path is too long", c->to);
    }
    if (!rc && n > 1) rc = write_index(c, shard_of, n, err);
    rr_free(shard_of);
    return rc;
}

/* The other files of a model folder, from the source's folder or from inside its file. */
static int write_side_files(const struct rr_convert *c, struct rr_error *err)
{
    static const char *const names[] = {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "chat_template.jinja",
    };
    struct rr_text config = rr_checkpoint_config(rr_model_checkpoint(c->model));
    uint32_t most = rr_checkpoint_max_length(rr_model_checkpoint(c->model));
    struct rr_buf text;
    int rc = RR_OK;

    rr_buf_init(&text, RR_MEM_MODEL, MAX_SIDE_FILE);
    for (size_t i = 0; i < RR_COUNT(names) && !rc; i++) {
        rr_buf_clear(&text);
        if (!config.data)
            rc = rr_convert_read(c, names[i], &text, err);
        else if (i == 0)
            rr_buf_put(&text, config.data, config.len);
        else if (i == 1)
            rc = rr_model_tokenizer(c->model, &text, err);
        else if (most && strcmp(names[i], "sentence_bert_config.json") == 0)
            rr_buf_printf(&text, "{\"max_seq_length\":%" PRIu32 "}\n", most);
        if (!rc && text.len)
            rc = write_side_file(c, names[i], (struct rr_text){ text.data, text.len }, err);
    }
    rr_buf_free(&text);
    return rc;
}

static void put_module(struct rr_json_out *o, unsigned index, const char *path, const char *type)
{
    rr_out_object(o, NULL);
    rr_out_uint(o, "idx", index);
    rr_out_printf(o, "name", "\"%u\"", index);
    rr_out_string(o, "path", path);
    rr_out_string(o, "type", type);
    rr_out_end(o);
}

/* What a folder says with a modules.json, from a GGUF file. */
static int write_words(const struct rr_convert *c, const struct rr_words *words,
                       struct rr_error *err)
{
    struct rr_buf list, ids;
    struct rr_json_out o = { .buf = &list }, config = { .buf = &ids };
    char path[PATH_MAX];
    int rc;

    if (!rr_path_join(path, sizeof(path), c->to, "1_LogitScore"))
        return rr_fail(err, RR_EINVAL, "%.200s: the path is too long", c->to);
    if (mkdir(path, 0777) && errno != EEXIST) return write_error(path, err);
    rr_buf_init(&list, RR_MEM_MODEL, MAX_WORDS_FILE);
    rr_out_array(&o, NULL);
    put_module(&o, 0, "", "sentence_transformers.base.modules.transformer.Transformer");
    put_module(&o, 1, "1_LogitScore",
               "sentence_transformers.cross_encoder.modules.logit_score.LogitScore");
    rr_out_end(&o);
    rc = write_json(c, "modules.json", &list, err);
    if (rc) return rc;
    rr_buf_init(&ids, RR_MEM_MODEL, MAX_WORDS_FILE);
    rr_out_object(&config, NULL);
    rr_out_int(&config, "true_token_id", words->yes);
    if (words->no >= 0)
        rr_out_int(&config, "false_token_id", words->no);
    else
        rr_out_null(&config, "false_token_id");
    rr_out_end(&config);
    return write_json(c, "1_LogitScore/config.json", &ids, err);
}

static int write_folder(struct rr_convert *c, struct rr_error *err)
{
    const struct rr_model_info *info = rr_model_info(c->model);
    struct rr_newdir dir;
    int rc;

    if (c->type->decode)
        return rr_fail(
            err, RR_ENOTSUP,
            "%s is for GGUF files: give a name that ends with .gguf, or f32, f16 or bf16",
            c->type->name);
    rc = rr_newdir_open(&dir, c->to, err);
    if (rc) return rc;
    c->to = dir.path;
    rc = write_shards(c, err);
    if (!rc) rc = write_side_files(c, err);
    if (!rc && info->modules)
        rc = rr_modules_copy(c->from, c->to, err);
    else if (!rc && info->words.given)
        rc = write_words(c, &info->words, err);
    return rr_newdir_close(&dir, rc, err);
}

/* ---- the whole ------------------------------------------------------------------------------ */

int rr_model_convert(const char *from, const char *to, const char *dtype, uint64_t shard_bytes,
                     struct rr_text tokenizer, struct rr_error *err)
{
    struct rr_convert c = { .from = from,
                            .to = to,
                            .type = rr_gguf_type_named(dtype),
                            .shard_bytes = shard_bytes,
                            .tokenizer = tokenizer };
    bool gguf = rr_gguf_named(to);
    int rc;

    if (strcmp(dtype, "int8") == 0)
        return rr_fail(err, RR_ENOTSUP,
                       "int8 folders are made by rerankd quantize; convert reads them and "
                       "writes f32, f16, bf16 or q8_0");
    if (!c.type)
        return rr_fail(err, RR_EINVAL, "dtype is \"%.40s\", expected f32, f16, bf16 or q8_0",
                       dtype);
    if (gguf && rr_file_exists(to)) return rr_fail(err, RR_EINVAL, "%s is there already", to);
    rc = gguf ? RR_OK : rr_newdir_check(to, err);
    if (!rc) rc = rr_model_open(&c.model, from, err);
    if (!rc && gguf && rr_model_config(c.model)->modules.n)
        rc = rr_fail(err, RR_ENOTSUP,
                     "%s: its head is a list of modules (modules.json), which GGUF has not: give "
                     "--to a folder for safetensors",
                     from);
    if (!rc) rc = choose_tensors(&c, err);
    if (!rc) rc = gguf ? rr_convert_gguf(&c, err) : write_folder(&c, err);
    rr_free(c.tensors);
    rr_model_close(c.model);
    return rc;
}
