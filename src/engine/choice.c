/* SPDX-License-Identifier: Apache-2.0 */
/* choice.c - see choice.h: "dtype-<key>.json", an object with "dtype" and "why", and for people
 * what it belongs to. */
#include "engine/choice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_out.h"
#include "base/log.h"
#include "base/text.h"
#include "cache/key.h"
#include "rerank.h"

#define MAX_BYTES 4096

static bool path_of(char out[4096], const char *dir, uint64_t fingerprint,
                    const struct rr_device_info *info)
{
    struct rr_key_context c = { fingerprint, 0, 0 };
    struct rr_key key = rr_key_pair(rr_key_prefix(&c, rr_text(info->name)), rr_text(info->isa));
    char name[64];

    key = rr_key_pair(key, rr_text(RR_VERSION));
    snprintf(name, sizeof(name), "dtype-%016" PRIx64 ".json", key.lo);
    return rr_path_join(out, 4096, dir, name);
}

/* A member that is a line of text for cap bytes. */
static int take(const json_t *root, const char *path, const char *name, char *out, size_t cap,
                struct rr_error *err)
{
    const json_t *v = json_object_get(root, name);
    size_t n = json_string_length(v);

    if (n == 0 || n >= cap || strpbrk(json_string_value(v), "\r\n"))
        return rr_fail(err, RR_EFORMAT, "%s: \"%s\" is no line of text", path, name);
    memcpy(out, json_string_value(v), n + 1);
    return RR_OK;
}

static int read_choice(struct rr_choice *out, const char *path, struct rr_error *err)
{
    json_t *root;
    int rc = rr_json_read(&root, path, MAX_BYTES, RR_JSON_DUP_REJECT, err);

    if (rc) return rc;
    rc = take(root, path, "dtype", out->dtype, sizeof(out->dtype), err);
    if (!rc) rc = take(root, path, "why", out->why, sizeof(out->why), err);
    json_decref(root);
    return rc;
}

bool rr_choice_find(struct rr_choice *out, const char *dir, uint64_t fingerprint,
                    const struct rr_device_info *info)
{
    struct rr_error err = { 0 };
    char path[4096];

    if (!dir || !path_of(path, dir, fingerprint, info) || !rr_file_exists(path)) return false;
    if (!read_choice(out, path, &err)) return true;
    rr_log(RR_WARN, "the precision that verify chose cannot be read: %s", err.msg);
    return false;
}

int rr_choice_store(const struct rr_choice *choice, const char *dir, uint64_t fingerprint,
                    const struct rr_device_info *info, struct rr_error *err)
{
    const char *const members[][2] = { { "dtype", choice->dtype },
                                       { "why", choice->why },
                                       { "device", info->name },
                                       { "isa", info->isa },
                                       { "version", RR_VERSION } };
    char path[4096];
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };
    size_t i;
    int rc;

    if (!path_of(path, dir, fingerprint, info))
        return rr_fail(err, RR_EINVAL, "the path of the cache folder is too long");
    rr_buf_init(&b, RR_MEM_MISC, MAX_BYTES);
    rr_out_object(&o, NULL);
    for (i = 0; i < RR_COUNT(members); i++) rr_out_string(&o, members[i][0], members[i][1]);
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    rr_folder_make(dir);
    rc = b.failed ? rr_fail(err, RR_ENOMEM, "out of memory")
                  : rr_file_write(path, b.data, b.len, err);
    rr_buf_free(&b);
    return rc;
}
