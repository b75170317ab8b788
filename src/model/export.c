/* SPDX-License-Identifier: Apache-2.0 */
/* export.c - see export.h. */
#include "model/export.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "model/modules.h"
#include "model/safetensors.h"

#define MAX_COPY (256u << 20)  /* bytes of a file beside the weights */
#define MAX_HEADER (64u << 20) /* of JSON */

static const char *const copied[] = {
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config_sentence_transformers.json", /* what scores are, and a prompt */
    "sentence_bert_config.json",
    "modules.json",
    "chat_template.jinja",
    "vocab.txt",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "README.md",
    "sentencepiece.bpe.model",
    "spiece.model",
    "LICENSE",
};

/* ---- where ---------------------------------------------------------------------------------- */

static int check_place(const struct rr_export *e, struct rr_error *err)
{
    char source[PATH_MAX], parent[PATH_MAX], out[PATH_MAX];
    struct stat st;
    size_t len;
    int rc = rr_newdir_parent(parent, e->out, err);

    if (rc) return rc;
    if (!realpath(e->source, source) || stat(source, &st))
        return rr_fail(err, RR_ENOENT, "%s: %s", e->source, strerror(errno));
    if (!S_ISDIR(st.st_mode)) /* what is beside the weights would be missing */
        return rr_fail(err, RR_ENOTSUP,
                       "%s: found a file, expected a model folder; rerankd convert makes one of a "
                       "GGUF file",
                       e->source);
    len = strlen(source);
    if ((strncmp(parent, source, len) == 0 && (parent[len] == '/' || parent[len] == 0)) ||
        (realpath(e->out, out) && strcmp(out, source) == 0))
        return rr_fail(err, RR_EINVAL,
                       "%s is the model's own folder or lies in it: name another "
                       "one, the source is never changed",
                       e->out);
    return rr_newdir_check(e->out, err);
}

/* ---- safetensors ---------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t bytes;
} types[] = { [RR_F32] = { "F32", 4 },
              [RR_F16] = { "F16", 2 },
              [RR_BF16] = { "BF16", 2 },
              [RR_I8] = { "I8", 1 } };

struct writer {
    const struct rr_export *e;
    FILE *file;
    struct rr_buf header;
    struct rr_json_out json; /* into header */
    uint64_t offset;         /* of the next tensor */
};

static uint64_t elements(const struct rr_tensor *t)
{
    uint64_t n = 1;

    for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

static void describe(struct writer *w, const struct rr_tensor *t, const char *suffix)
{
    uint64_t bytes = elements(t) * types[t->dtype].bytes;
    char name[600];

    snprintf(name, sizeof(name), "%s%s", t->name, suffix);
    rr_safetensors_put(&w->json, name, types[t->dtype].name, t->shape, t->rank, w->offset,
                       w->offset + bytes);
    w->offset += bytes;
}

static void put(struct writer *w, const struct rr_tensor *t, const char *suffix)
{
    (void)suffix;
    (void)fwrite(t->data, types[t->dtype].bytes, (size_t)elements(t), w->file); /* ferror tells */
}

/* Tensors in the order of the program, but those of wider types first: all stay aligned.  Those of
 * modules stay in the files of the modules. */
static void each(struct writer *w,
                 void (*fn)(struct writer *, const struct rr_tensor *, const char *))
{
    static const float sixteen = 16;
    const struct rr_program *p = w->e->p;

    for (uint32_t bytes = 4; bytes; bytes /= 2) {
        for (uint32_t i = 0; i < p->n_tensors; i++) {
            const struct rr_tensor *t = &p->tensors[i];
            struct rr_tensor factors = { .name = t->name, .dtype = RR_F32, .rank = 1 };

            if (t->derived || rr_checkpoint_in_module(w->e->checkpoint, t->name)) continue;
            if (types[t->dtype].bytes == bytes) fn(w, t, "");
            if (t->dtype != RR_I8 || bytes != 4) continue;
            factors.shape[0] = t->shape[0];
            factors.data = t->scale;
            fn(w, &factors, "_scale");
            factors.shape[0] = t->shape[1];
            factors.data = t->smooth;
            if (t->smooth) fn(w, &factors, "_smooth");
            factors.shape[0] = 1;
            factors.data = &sixteen;
            if (t->fine) fn(w, &factors, "_input_bits");
        }
    }
}

static int write_tensors(struct writer *w, const char *path, struct rr_error *err)
{
    unsigned char length[8];

    w->json.buf = &w->header;
    rr_safetensors_begin(&w->json, w->e->dtype);
    each(w, describe);
    rr_safetensors_end(&w->json, length);
    if (w->header.failed) return rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    w->file = fopen(path, "wbxe");
    if (!w->file) return rr_fail(err, RR_EIO, "%s: cannot create: %s", path, strerror(errno));
    (void)fwrite(length, 1, sizeof(length), w->file);
    (void)fwrite(w->header.data, 1, w->header.len, w->file);
    each(w, put);
    if (fflush(w->file) || ferror(w->file) || fsync(fileno(w->file)))
        return rr_fail(err, RR_EIO, "%s: cannot write: %s", path, strerror(errno ? errno : EIO));
    return RR_OK;
}

/* ---- the folder ----------------------------------------------------------------------------- */

static int join(char path[PATH_MAX], const char *dir, const char *name, struct rr_error *err)
{
    if (rr_path_join(path, PATH_MAX, dir, name)) return RR_OK;
    return rr_fail(err, RR_EINVAL, "%s: the path is longer than %d bytes", dir, PATH_MAX);
}

int rr_export_copy(const char *from, const char *to, const char *name, struct rr_error *err)
{
    char path[PATH_MAX], *data;
    size_t len;
    int rc = join(path, from, name, err);

    if (rc || !rr_file_exists(path)) return rc;
    rc = rr_file_read_regular(&data, &len, path, MAX_COPY, RR_MEM_MISC, err);
    if (rc) return rc;
    rc = join(path, to, name, err);
    if (!rc) rc = rr_file_write(path, data, len, err);
    rr_free(data);
    return rc;
}

int rr_export_write(const struct rr_export *e, struct rr_error *err)
{
    struct writer w = { .e = e };
    const char *dir = e->dir.path;
    char path[PATH_MAX];
    int rc = RR_OK;

    rr_buf_init(&w.header, RR_MEM_MISC, MAX_HEADER);
    for (size_t i = 0; i < RR_COUNT(copied) && !rc; i++)
        rc = rr_export_copy(e->source, dir, copied[i], err);
    if (!rc && e->modules) rc = rr_modules_copy(e->source, dir, err);
    if (!rc) rc = join(path, dir, "quantize.json", err);
    if (!rc) rc = rr_file_write(path, e->report, strlen(e->report), err);
    if (!rc) rc = join(path, dir, "model.safetensors", err);
    if (!rc) rc = write_tensors(&w, path, err);
    if (w.file && fclose(w.file) && !rc)
        rc = rr_fail(err, RR_EIO, "%s: cannot write: %s", path, strerror(errno));
    rr_buf_free(&w.header);
    return rc;
}

int rr_export_open(struct rr_export *e, struct rr_error *err)
{
    int rc = check_place(e, err);

    e->dir.fd = -1;
    return rc ? rc : rr_newdir_open(&e->dir, e->out, err);
}

void rr_export_drop(struct rr_export *e)
{
    rr_newdir_drop(&e->dir);
}

int rr_export_close(struct rr_export *e, struct rr_error *err)
{
    return rr_newdir_close(&e->dir, RR_OK, err);
}
