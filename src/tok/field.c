/* SPDX-License-Identifier: Apache-2.0 */
/* field.c - see field.h.  Layer: tok (L1). */
#include "tok/field.h"

#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

const char *rr_field_where(const struct rr_field *f, const char *key, char out[RR_FIELD_WHERE])
{
    const char *dot = f->path[0] && key[0] ? "." : "";
    int n = snprintf(out, RR_FIELD_WHERE, "%.220s: %s%s%.30s", f->file, f->path, dot, key);

    if (n < 0) out[0] = 0;
    return out;
}

int rr_field_wrong(const struct rr_field *f, const char *key, const char *expected)
{
    const json_t *v = json_object_get(f->obj, key);
    char where[RR_FIELD_WHERE];

    return rr_fail(f->err, RR_EFORMAT, "%s: found %s, expected %s", rr_field_where(f, key, where),
                   v ? rr_json_type_name(v) : "nothing", expected);
}

int rr_field_unknown(const struct rr_field *f, const char *key, struct rr_text found,
                     const char *known)
{
    char where[RR_FIELD_WHERE];

    return rr_fail(f->err, RR_ENOTSUP, "%s: found \"%.*s\", which is not supported; expected %s",
                   rr_field_where(f, key, where), (int)RR_MIN(found.len, (size_t)60), found.data,
                   known);
}

/* 1: present, 0: absent and optional, -1: absent and required (err is filled). */
static int present(const struct rr_field *f, const char *key, enum rr_need need,
                   const char *expected, const json_t **v)
{
    *v = json_object_get(f->obj, key);
    if (*v && !json_is_null(*v)) return 1;
    if (need == RR_OPTIONAL) return 0;
    rr_field_wrong(f, key, expected);
    return -1;
}

static void child_path(const struct rr_field *f, const char *key, long index, struct rr_field *out)
{
    char path[192];

    if (index < 0)
        snprintf(path, sizeof(path), "%.120s%s%.30s", f->path, f->path[0] ? "." : "", key);
    else
        snprintf(path, sizeof(path), "%.110s%s%.30s[%ld]", f->path, f->path[0] ? "." : "", key,
                 index);
    out->file = f->file;
    out->err = f->err;
    memcpy(out->path, path, sizeof(path));
}

int rr_field_object(const struct rr_field *f, const char *key, enum rr_need need,
                    struct rr_field *out)
{
    const json_t *v;
    int rc = present(f, key, need, "an object", &v);

    child_path(f, key, -1, out);
    out->obj = NULL;
    if (rc <= 0) return rc ? RR_EFORMAT : RR_OK;
    if (!json_is_object(v)) return rr_field_wrong(f, key, "an object");
    out->obj = v;
    return RR_OK;
}

int rr_field_array(const struct rr_field *f, const char *key, enum rr_need need, const json_t **out)
{
    const json_t *v;
    int rc = present(f, key, need, "an array", &v);

    *out = NULL;
    if (rc <= 0) return rc ? RR_EFORMAT : RR_OK;
    if (!json_is_array(v)) return rr_field_wrong(f, key, "an array");
    *out = v;
    return RR_OK;
}

int rr_field_element(const struct rr_field *f, const char *key, const json_t *array, size_t i,
                     struct rr_field *out)
{
    const json_t *v = json_array_get(array, i);

    child_path(f, key, (long)i, out);
    out->obj = v;
    if (json_is_object(v)) return RR_OK;
    return rr_fail(f->err, RR_EFORMAT, "%s: %s: found %s, expected an object", f->file, out->path,
                   v ? rr_json_type_name(v) : "nothing");
}

static int steps(const struct rr_field *f, const char *key, unsigned depth, rr_field_step_fn *step,
                 void *user)
{
    struct rr_text type = { "", 0 };
    const json_t *list;
    struct rr_field child;
    size_t i;
    int rc = rr_field_text(f, "type", RR_REQUIRED, &type);

    if (rc) return rc;
    if (!rr_text_is(type, "Sequence") || depth == 8) return step(user, f, type);
    rc = rr_field_array(f, key, RR_REQUIRED, &list);
    for (i = 0; !rc && i < json_array_size(list); i++) {
        rc = rr_field_element(f, key, list, i, &child);
        if (!rc) rc = steps(&child, key, depth + 1, step, user);
    }
    return rc;
}

int rr_field_steps(const struct rr_field *f, const char *key, rr_field_step_fn *step, void *user)
{
    return steps(f, key, 0, step, user);
}

int rr_field_bool(const struct rr_field *f, const char *key, enum rr_need need, bool *out)
{
    const json_t *v;
    int rc = present(f, key, need, "true or false", &v);

    if (rc <= 0) return rc ? RR_EFORMAT : RR_OK;
    if (!json_is_boolean(v)) return rr_field_wrong(f, key, "true or false");
    *out = json_is_true(v);
    return RR_OK;
}

int rr_field_text(const struct rr_field *f, const char *key, enum rr_need need, struct rr_text *out)
{
    const json_t *v;
    int rc = present(f, key, need, "a string", &v);

    if (rc <= 0) return rc ? RR_EFORMAT : RR_OK;
    if (!json_is_string(v)) return rr_field_wrong(f, key, "a string");
    *out = (struct rr_text){ json_string_value(v), json_string_length(v) };
    return RR_OK;
}

int rr_field_u32(const struct rr_field *f, const char *key, enum rr_need need, uint32_t max,
                 uint32_t *out)
{
    const json_t *v;
    int rc = present(f, key, need, "an integer", &v);
    char where[RR_FIELD_WHERE];

    if (rc <= 0) return rc ? RR_EFORMAT : RR_OK;
    if (!json_is_integer(v)) return rr_field_wrong(f, key, "an integer");
    if (json_integer_value(v) < 0 || json_integer_value(v) > (json_int_t)max)
        return rr_fail(f->err, RR_EFORMAT, "%s: found %lld, expected 0 to %u",
                       rr_field_where(f, key, where), (long long)json_integer_value(v), max);
    *out = (uint32_t)json_integer_value(v);
    return RR_OK;
}

int rr_field_char(const struct rr_field *f, const char *key, uint32_t *out)
{
    struct rr_text t = { "", 0 };
    int rc = rr_field_text(f, key, RR_REQUIRED, &t);

    if (rc) return rc;
    if (t.len == 0 || rr_utf8_next(t.data, t.len, out) != t.len)
        return rr_field_wrong(f, key, "a string of one character");
    return RR_OK;
}

int rr_field_copy(const struct rr_field *f, const char *key, enum rr_need need, char **out,
                  size_t *len)
{
    struct rr_text t = { NULL, 0 };
    int rc = rr_field_text(f, key, need, &t);

    if (rc || !t.data) return rc;
    rr_free(*out);
    *len = t.len;
    *out = rr_strndup(RR_MEM_TOKENIZER, t.data, t.len);
    return *out ? RR_OK : rr_fail(f->err, RR_ENOMEM, "%s: out of memory", f->file);
}
