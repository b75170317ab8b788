/* SPDX-License-Identifier: Apache-2.0 */
/* listing.c - which of a repository's files are needed, from the hub's description of a revision.
 * Nothing in it is trusted: names are compared with those that are known, digests and sizes are
 * checked for their form.  Layer: hub (L5).  Threads: any. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "hub/hub.h"

#define MAX_SIZE ((json_int_t)1 << 42) /* of a file: 4 TiB */

enum kind { OTHER, NEEDED, OPTIONAL, WEIGHTS, INDEX, SHARD, PICKLE };

/* What the engine reads; what sentence-transformers needs to load the same snapshot as a
 * CrossEncoder; scores to check the download against. */
static const struct {
    const char *name;
    enum kind kind;
} known[] = {
    { "config.json", NEEDED },
    { "tokenizer.json", NEEDED },
    { "tokenizer_config.json", OPTIONAL },
    { "special_tokens_map.json", OPTIONAL },
    { "config_sentence_transformers.json", OPTIONAL },
    { "sentence_bert_config.json", OPTIONAL },
    { "modules.json", OPTIONAL },
    { "chat_template.jinja", OPTIONAL }, /* of a LogitScore */
    { "reference.jsonl", OPTIONAL },
    { "model.safetensors", WEIGHTS },
    { "model.safetensors.index.json", INDEX },
    { "pytorch_model.bin", PICKLE },
    { "pytorch_model.bin.index.json", PICKLE },
};

struct reader {
    struct rr_hub_listing *out;
    const char *where;
    struct rr_error *err;
    bool seen[OPTIONAL]; /* config.json, tokenizer.json */
    bool has[PICKLE + 1];
};

/* "model-00001-of-00003.safetensors", and whatever stands between the dashes. */
static bool is_shard(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t len = strlen(name);

    return len > 18 && len < sizeof(((struct rr_hub_file *)0)->name) &&
           strspn(name, allowed) == len && strncmp(name, "model-", 6) == 0 &&
           rr_text_stem(name, ".safetensors");
}

/* "2_Dense/config.json", "2_Dense/model.safetensors": the modules of sentence-transformers. */
static bool is_module(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t digits = strspn(name, "0123456789"), n;

    if (digits == 0 || digits > 2 || name[digits] != '_') return false;
    n = strspn(name + digits + 1, letters);
    name += digits + 1 + n;
    return n > 0 && n < 48 &&
           (strcmp(name, "/config.json") == 0 || strcmp(name, "/model.safetensors") == 0);
}

static enum kind kind_of(const char *name)
{
    size_t i;

    for (i = 0; i < RR_COUNT(known); i++) {
        if (strcmp(name, known[i].name) == 0) return known[i].kind;
    }
    return is_shard(name) ? SHARD : is_module(name) ? OPTIONAL : OTHER;
}

static bool is_hex(const char *s, size_t len)
{
    return s && strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

/* Reads one entry of "siblings" that is needed. */
static int read_file(struct reader *r, const json_t *entry, const char *name)
{
    const json_t *lfs = json_object_get(entry, "lfs");
    const json_t *size = json_object_get(entry, "size");
    const char *blob = json_string_value(json_object_get(entry, "blobId"));
    struct rr_hub_file *f = &r->out->files[r->out->n_files];
    bool big = json_is_object(lfs);

    if (big) {
        blob = json_string_value(json_object_get(lfs, "sha256"));
        size = json_object_get(lfs, "size");
    }
    if (!is_hex(blob, big ? 64 : 40))
        return rr_fail(r->err, RR_EFORMAT,
                       "%s: %s: found no digest, expected \"%s\"; is HF_ENDPOINT a hub?", r->where,
                       name, big ? "lfs\": {\"sha256" : "blobId");
    if (!json_is_integer(size) || json_integer_value(size) < 0 ||
        json_integer_value(size) > MAX_SIZE)
        return rr_fail(r->err, RR_EFORMAT, "%s: %s: found no sensible \"size\"", r->where, name);
    if (r->out->n_files == RR_HUB_FILES)
        return rr_fail(r->err, RR_ETOOBIG, "%s: more than %d files are needed", r->where,
                       RR_HUB_FILES);
    snprintf(f->name, sizeof(f->name), "%s", name);
    snprintf(f->blob, sizeof(f->blob), "%s", blob);
    f->size = (uint64_t)json_integer_value(size);
    r->out->n_files++;
    return RR_OK;
}

static int read_files(struct reader *r, const json_t *siblings)
{
    size_t i, n = json_array_size(siblings);
    int rc = RR_OK;

    for (i = 0; !rc && i < n; i++) {
        const json_t *entry = json_array_get(siblings, i);
        const char *name = json_string_value(json_object_get(entry, "rfilename"));
        enum kind kind = name ? kind_of(name) : OTHER;

        r->has[kind] = true;
        if (kind == OTHER || kind == PICKLE) continue;
        if (kind == NEEDED) r->seen[name[0] == 'c' ? 0 : 1] = true;
        rc = read_file(r, entry, name);
    }
    return rc;
}

/* One file of weights makes index and shards superfluous; shards need their index. */
static void drop_superfluous(struct reader *r)
{
    struct rr_hub_listing *l = r->out;
    unsigned i, n = 0;

    for (i = 0; i < l->n_files; i++) {
        enum kind kind = kind_of(l->files[i].name);

        if ((kind == SHARD || kind == INDEX) && (r->has[WEIGHTS] || !r->has[INDEX])) continue;
        l->files[n++] = l->files[i];
    }
    l->n_files = n;
}

static int check_needed(struct reader *r)
{
    if (!r->seen[0])
        return rr_fail(r->err, RR_ENOTSUP, "%s: no config.json, so it is no model for rerankd",
                       r->where);
    if (!r->has[WEIGHTS] && !(r->has[INDEX] && r->has[SHARD]))
        return rr_fail(r->err, RR_ENOTSUP,
                       "%s: no model.safetensors%s; look on the hub for a revision that has it "
                       "(often refs/pr/1: give --revision), or load the model with transformers, "
                       "save_pretrained it to a folder and give --model that folder",
                       r->where, r->has[PICKLE] ? ", its weights are PyTorch's .bin" : "");
    if (!r->seen[1])
        return rr_fail(
            r->err, RR_ENOTSUP,
            "%s: no tokenizer.json; load the tokenizer with transformers' AutoTokenizer, "
            "save_pretrained it beside the model in a folder and give --model that "
            "folder",
            r->where);
    return RR_OK;
}

static int listed_twice(const struct rr_hub_file *f, unsigned n)
{
    unsigned i, j;

    for (i = 0; i < n; i++) {
        for (j = i + 1; j < n; j++) {
            if (strcmp(f[i].name, f[j].name) == 0) return (int)j;
        }
    }
    return -1;
}

static int read_tree(struct reader *r, const json_t *tree)
{
    const char *sha = json_string_value(json_object_get(tree, "sha"));
    const json_t *siblings = json_object_get(tree, "siblings");
    int rc, twice;

    if (!is_hex(sha, 40))
        return rr_fail(r->err, RR_EFORMAT,
                       "%s: found no \"sha\" of 40 digits; is HF_ENDPOINT a hub?", r->where);
    if (!json_is_array(siblings))
        return rr_fail(r->err, RR_EFORMAT, "%s: siblings: found %s, expected an array", r->where,
                       rr_json_type_name(siblings));
    memcpy(r->out->commit, sha, 41);
    r->out->files = rr_calloc(RR_MEM_MISC, RR_HUB_FILES, sizeof(*r->out->files));
    if (!r->out->files) return rr_fail(r->err, RR_ENOMEM, "%s: out of memory", r->where);
    rc = read_files(r, siblings);
    if (rc) return rc;
    drop_superfluous(r);
    twice = listed_twice(r->out->files, r->out->n_files);
    if (twice >= 0)
        return rr_fail(r->err, RR_EFORMAT, "%s: %s is listed twice", r->where,
                       r->out->files[twice].name);
    return check_needed(r);
}

int rr_hub_listing_parse(struct rr_hub_listing *out, struct rr_text json, const char *where,
                         struct rr_error *err)
{
    struct reader r = { .out = out, .where = where, .err = err };
    json_t *tree = NULL;
    int rc;

    memset(out, 0, sizeof(*out));
    rc = rr_json_parse(&tree, json, 0, RR_JSON_DUP_LAST, err);
    if (rc) {
        rr_fail_prefix(err, "%s", where);
        return rc;
    }
    rc = read_tree(&r, tree);
    json_decref(tree);
    return rc;
}

void rr_hub_listing_free(struct rr_hub_listing *l)
{
    rr_free(l->files);
    memset(l, 0, sizeof(*l));
}
