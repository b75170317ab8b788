/* SPDX-License-Identifier: Apache-2.0 */
/* find.c - looks for a complete snapshot in the cache, without network.  Layer: hub (L5).
 * Threads: any. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "hub/cache.h"

#define MAX_INDEX ((size_t)64 << 20)
#define MAX_LIST ((size_t)1 << 20) /* of modules; config.json */

static const char *const needed[] = { "config.json", "tokenizer.json" };

/* Whether dir/name is there and leads to a place inside root. */
static int check_entry(const char *root, const char *dir, const char *name, struct rr_error *err)
{
    char path[RR_HUB_PATH], real[PATH_MAX];
    size_t len = strlen(root);

    if (!rr_path_join(path, sizeof(path), dir, name))
        return rr_fail(err, RR_EINVAL, "%.200s...: path is too long", dir);
    if (!realpath(path, real)) return rr_fail(err, RR_ENOENT, "%s: not there", path);
    if (strncmp(real, root, len) != 0 || real[len] != '/')
        return rr_fail(
            err, RR_EFORMAT,
            "%s: leads out of the cache %s; remove it, or give --model the folder itself", path,
            root);
    return RR_OK;
}

/* Every file that the index names. */
static int check_shards(const char *root, const char *dir, const json_t *index,
                        struct rr_error *err)
{
    const json_t *map = json_object_get(index, "weight_map");
    const char *tensor, *last = "", *name;
    json_t *value;

    if (!json_is_object(map) || json_object_size(map) == 0)
        return rr_fail(err, RR_EFORMAT, "%s/model.safetensors.index.json: found no weight_map",
                       dir);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value)
    {
        int rc;

        name = json_string_value(value);
        if (!name || strchr(name, '/'))
            return rr_fail(err, RR_EFORMAT,
                           "%s/model.safetensors.index.json: found a shard that is no file name",
                           dir);
        if (strcmp(name, last) == 0) continue;
        rc = check_entry(root, dir, name, err);
        if (rc) return rc;
        last = name;
    }
    return RR_OK;
}

static int check_weights(const char *root, const char *dir, struct rr_error *err)
{
    char path[RR_HUB_PATH], *text;
    json_t *index = NULL;
    size_t len;
    int rc = check_entry(root, dir, "model.safetensors", err);

    if (rc != RR_ENOENT) return rc;
    rc = check_entry(root, dir, "model.safetensors.index.json", err);
    if (rc == RR_ENOENT) return rr_fail(err, rc, "%s/model.safetensors: not there", dir);
    if (!rc && !rr_path_join(path, sizeof(path), dir, "model.safetensors.index.json"))
        rc = rr_fail(err, RR_EINVAL, "%.200s...: path is too long", dir);
    if (!rc) rc = rr_file_read_regular(&text, &len, path, MAX_INDEX, RR_MEM_MISC, err);
    if (rc) return rc;
    rc = rr_json_parse(&index, (struct rr_text){ text, len }, 0, RR_JSON_DUP_LAST, err);
    rr_free(text);
    if (rc) {
        rr_fail_prefix(err, "%s", path);
        return rc;
    }
    rc = check_shards(root, dir, index, err);
    json_decref(index);
    return rc;
}

static bool is_folder(const char *dir, const char *name, char path[RR_HUB_PATH])
{
    struct stat st;

    return name[0] != '.' && rr_path_join(path, RR_HUB_PATH, dir, name) && stat(path, &st) == 0 &&
           S_ISDIR(st.st_mode);
}

/* No link in the snapshot leads out, whether the file is needed or not; nor from the folders of
 * modules in it. */
static int check_links(const char *root, const char *dir, bool inner, struct rr_error *err)
{
    DIR *d = opendir(dir);
    char path[RR_HUB_PATH];
    struct dirent *e;
    int rc = RR_OK;

    if (!d) return rr_fail(err, RR_ENOENT, "%s: not there", dir);
    while (!rc && (e = readdir(d))) {
        rc = check_entry(root, dir, e->d_name, err);
        if (rc == RR_ENOENT) rc = RR_OK; /* leads nowhere */
        if (!rc && !inner && is_folder(dir, e->d_name, path))
            rc = check_links(root, path, true, err);
    }
    closedir(d);
    return rc;
}

static int find_root(const struct rr_hub *hub, char root[PATH_MAX], struct rr_error *err)
{
    if (!realpath(hub->cache, root)) return rr_fail(err, RR_ENOENT, "%s: not there", hub->cache);
    if (strcmp(root, "/") == 0) root[0] = 0;
    return RR_OK;
}

int rr_cache_check(const struct rr_hub *hub, const char *dir, struct rr_error *err)
{
    char root[PATH_MAX];
    size_t i;
    int rc = find_root(hub, root, err);

    if (!rc) rc = check_links(root, dir, false, err);
    for (i = 0; !rc && i < RR_COUNT(needed); i++) rc = check_entry(root, dir, needed[i], err);
    return rc ? rc : check_weights(root, dir, err);
}

/* ---- what makes the scores of a bare network ------------------------------------------------- */

/* *out is NULL where the file is not readable as JSON: opening the model has the words for that. */
static json_t *read_json(const char *dir, const char *name)
{
    char path[RR_HUB_PATH];
    json_t *out = NULL;

    if (!rr_path_join(path, sizeof(path), dir, name) ||
        rr_json_read(&out, path, MAX_LIST, RR_JSON_DUP_LAST, NULL))
        return NULL;
    return out;
}

/* "BertModel", whose head is what modules.json lists; not "BertForSequenceClassification". */
static bool is_bare(const char *dir)
{
    json_t *config = read_json(dir, "config.json");
    const char *name =
        json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    bool bare = name && rr_text_stem(name, "Model");

    json_decref(config);
    return bare;
}

static int check_inner(const char *root, const char *dir, const char *inner, const char *name,
                       struct rr_error *err)
{
    char path[RR_HUB_PATH];

    if (!rr_path_join(path, sizeof(path), inner, name))
        return rr_fail(err, RR_EINVAL, "%.200s...: path is too long", inner);
    return check_entry(root, dir, path, err);
}

/* The files that a module of this kind has in its folder; those of others are not known. */
static int check_module(const char *root, const char *dir, const json_t *entry,
                        struct rr_error *err)
{
    const char *path = json_string_value(json_object_get(entry, "path"));
    const char *type = json_string_value(json_object_get(entry, "type"));
    const char *kind = type && strrchr(type, '.') ? strrchr(type, '.') + 1 : "";
    bool weights = strcmp(kind, "Dense") == 0 || strcmp(kind, "LayerNorm") == 0;
    int rc;

    if (!path || !*path || (!weights && strcmp(kind, "Pooling") && strcmp(kind, "LogitScore")))
        return RR_OK;
    rc = check_inner(root, dir, path, "config.json", err);
    return rc || !weights ? rc : check_inner(root, dir, path, "model.safetensors", err);
}

/* Other programs fetch the files that they read: transformers no modules, and a download that was
 * interrupted some of them. */
static int check_modules(const struct rr_hub *hub, const char *dir, struct rr_error *err)
{
    char root[PATH_MAX];
    json_t *list;
    size_t i;
    int rc = find_root(hub, root, err);

    if (!rc) rc = check_entry(root, dir, "modules.json", err);
    if (rc) return rc == RR_ENOENT && !is_bare(dir) ? RR_OK : rc;
    list = read_json(dir, "modules.json");
    for (i = 0; !rc && i < json_array_size(list); i++)
        rc = check_module(root, dir, json_array_get(list, i), err);
    json_decref(list);
    return rc;
}

/* ---- revisions ------------------------------------------------------------------------------- */

/* The commit that the revision was when it was fetched. */
static int read_ref(const struct rr_hub *hub, const struct rr_hub_repo *repo, char commit[41],
                    struct rr_error *err)
{
    char path[RR_HUB_PATH], rest[RR_HUB_REVISION + 8], *text;
    size_t len;
    int rc;

    snprintf(rest, sizeof(rest), "refs/%s", repo->revision);
    rc = rr_cache_path(hub, repo, rest, path, err);
    if (!rc) rc = rr_file_read_regular(&text, &len, path, 256, RR_MEM_MISC, err);
    if (rc) return rc;
    text[strcspn(text, " \t\r\n")] = 0;
    if (rr_hub_is_commit(text))
        memcpy(commit, text, 41);
    else
        rc = rr_fail(err, RR_EFORMAT, "%s: found no commit of 40 digits; remove the file", path);
    rr_free(text);
    return rc;
}

int rr_hub_find(const struct rr_hub *hub, const struct rr_hub_repo *repo, char dir[RR_HUB_PATH],
                struct rr_error *err)
{
    char commit[41], rest[64];
    int rc = RR_OK;

    if (rr_hub_is_commit(repo->revision))
        memcpy(commit, repo->revision, 41);
    else
        rc = read_ref(hub, repo, commit, err);
    if (rc) return rc;
    snprintf(rest, sizeof(rest), "snapshots/%s", commit);
    rc = rr_cache_path(hub, repo, rest, dir, err);
    if (!rc) rc = rr_cache_check(hub, dir, err);
    return rc ? rc : check_modules(hub, dir, err);
}
