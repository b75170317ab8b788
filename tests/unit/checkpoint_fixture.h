/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint_fixture.h - makes safetensors bytes, temporary model folders and variants of them.
 * Used by test_safetensors, test_model and test_parity; a failed step fails the running test. */
#ifndef RR_TESTS_CHECKPOINT_FIXTURE_H
#define RR_TESTS_CHECKPOINT_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "rerank_types.h"

struct fixture_bytes {
    char *data;
    size_t len;
};

/* Length field, header as it is, data_len bytes of 1, 2, 3, ... */
static inline struct fixture_bytes fixture_safetensors(const char *header, size_t data_len)
{
    size_t n = strlen(header);
    struct fixture_bytes b = { malloc(8 + n + data_len), 8 + n + data_len };

    assert_non_null(b.data);
    for (int i = 0; i < 8; i++) b.data[i] = (char)((uint64_t)n >> (8 * i));
    memcpy(b.data + 8, header, n);
    for (size_t i = 0; i < data_len; i++) b.data[8 + n + i] = (char)(i + 1);
    return b;
}

struct fixture_folder {
    char path[256];
};

static inline struct fixture_folder fixture_folder(void)
{
    struct fixture_folder f;
    const char *tmp = getenv("TMPDIR");

    snprintf(f.path, sizeof(f.path), "%s/rerankd-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(f.path));
    return f;
}

/* The folder holds plain files only. */
static inline void fixture_remove(const struct fixture_folder *f)
{
    DIR *d = opendir(f->path);
    struct dirent *e;
    char path[1024];

    assert_non_null(d);
    while ((e = readdir(d))) {
        snprintf(path, sizeof(path), "%s/%s", f->path, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    closedir(d);
    assert_int_equal(rmdir(f->path), 0);
}

static inline void fixture_write(const struct fixture_folder *f, const char *name, const void *data,
                                 size_t len)
{
    char path[512];
    FILE *out;

    snprintf(path, sizeof(path), "%s/%s", f->path, name);
    out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

static inline struct fixture_bytes fixture_read(const char *folder, const char *name)
{
    struct fixture_bytes b;
    struct rr_error err;
    char path[1024], *data;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (rr_file_read(&data, &b.len, path, SIZE_MAX / 2, RR_MEM_MISC, &err)) fail_msg("%s", err.msg);
    b.data = malloc(b.len + 1);
    assert_non_null(b.data);
    memcpy(b.data, data, b.len + 1);
    rr_free(data);
    return b;
}

/* The tiny models lie in the repository, or beside it where the copy is missing.  NULL: neither. */
static inline const char *fixture_model(const char *name, char *out, size_t cap)
{
    const char *shared = getenv("RR_SHARED");
    struct stat st;

    snprintf(out, cap, "tests/golden/models/%s", name);
    if (stat(out, &st) == 0) return out;
    snprintf(out, cap, "%s/data/models/%s", shared && *shared ? shared : "../shared", name);
    return stat(out, &st) == 0 ? out : NULL;
}

/* For free(): json_dumps would take its memory from wherever jansson was told to. */
static inline char *fixture_dump(const json_t *root, size_t flags)
{
    size_t n = json_dumpb(root, NULL, 0, flags);
    char *text = malloc(n + 1);

    assert_non_null(text);
    assert_int_equal(json_dumpb(root, text, n, flags), n);
    text[n] = 0;
    return text;
}

/* ---- rewriting a checkpoint --------------------------------------------------------------- */

struct fixture_tensor {
    char name[128];
    const char *dtype; /* "F32", "F16", "BF16" */
    uint32_t rank, shape[4];
    size_t elements;
    float *values; /* [elements] */
};

struct fixture_weights {
    struct fixture_tensor *tensors;
    size_t n;
};

/* All tensors of an f32 model.safetensors, in the order of its header. */
static inline struct fixture_weights fixture_weights(const char *folder)
{
    struct fixture_bytes b = fixture_read(folder, "model.safetensors");
    struct fixture_weights w = { NULL, 0 };
    uint64_t n;
    json_t *root, *v;
    const char *key;

    memcpy(&n, b.data, 8);
    root = json_loadb(b.data + 8, n, 0, NULL);
    assert_non_null(root);
    w.tensors = calloc(json_object_size(root), sizeof(*w.tensors));
    assert_non_null(w.tensors);
    json_object_foreach(root, key, v)
    {
        struct fixture_tensor *t = &w.tensors[w.n];
        const json_t *shape = json_object_get(v, "shape");
        size_t begin, i;

        if (strcmp(key, "__metadata__") == 0) continue;
        assert_string_equal(json_string_value(json_object_get(v, "dtype")), "F32");
        snprintf(t->name, sizeof(t->name), "%s", key);
        t->dtype = "F32";
        t->rank = (uint32_t)json_array_size(shape);
        t->elements = 1;
        for (i = 0; i < t->rank; i++) {
            t->shape[i] = (uint32_t)json_integer_value(json_array_get(shape, i));
            t->elements *= t->shape[i];
        }
        begin = (size_t)json_integer_value(json_array_get(json_object_get(v, "data_offsets"), 0));
        t->values = malloc(t->elements * 4);
        assert_non_null(t->values);
        memcpy(t->values, b.data + 8 + n + begin, t->elements * 4);
        w.n++;
    }
    json_decref(root);
    free(b.data);
    return w;
}

static inline void fixture_weights_free(struct fixture_weights *w)
{
    for (size_t i = 0; i < w->n; i++) free(w->tensors[i].values);
    free(w->tensors);
}

static inline struct fixture_tensor *fixture_find(struct fixture_weights *w, const char *name)
{
    for (size_t i = 0; i < w->n; i++) {
        if (strcmp(w->tensors[i].name, name) == 0) return &w->tensors[i];
    }
    fail_msg("the fixture has no tensor %s", name);
    return NULL;
}

static inline size_t fixture_element_bytes(const char *dtype)
{
    return strcmp(dtype, "F32") == 0 || strcmp(dtype, "I32") == 0 ? 4 : 2;
}

/* Round to nearest even.  Overflow and NaN do not occur in the fixtures. */
static inline uint16_t fixture_bf16(float x)
{
    uint32_t u;

    memcpy(&u, &x, 4);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static inline uint16_t fixture_f16(float x)
{
    uint32_t u, sign, mantissa, shift;
    int exponent;

    memcpy(&u, &x, 4);
    sign = u >> 16 & 0x8000;
    exponent = (int)(u >> 23 & 0xFF) - 127 + 15;
    mantissa = (u & 0x7FFFFF) | 0x800000;
    if ((u & 0x7FFFFFFF) == 0 || exponent < -10) return (uint16_t)sign;
    assert_true(exponent < 31);
    shift = exponent > 0 ? 13 : (uint32_t)(14 - exponent); /* subnormals lose more bits */
    u = mantissa >> shift;
    mantissa &= (1u << shift) - 1;
    if (mantissa > 1u << (shift - 1) || (mantissa == 1u << (shift - 1) && (u & 1))) u++;
    if (exponent > 0) u += (uint32_t)(exponent - 1) << 10; /* u has the leading 1 */
    return (uint16_t)(sign | u);
}

static inline float fixture_from_f16(uint16_t h)
{
    int exponent = h >> 10 & 31;
    float m = (float)(h & 0x3FF), x;

    x = exponent ? (1024 + m) / 1024 : m / 512;
    for (; exponent > 15; exponent--) x *= 2;
    for (; exponent < 15; exponent++) x /= 2;
    return h & 0x8000 ? -x : x;
}

static inline float fixture_from_bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float x;

    memcpy(&x, &u, 4);
    return x;
}

/* Writes tensors [first, last) as one safetensors file.  pad: spaces after the header's JSON. */
static inline void fixture_save(const struct fixture_folder *f, const char *name,
                                const struct fixture_weights *w, size_t first, size_t last,
                                size_t pad)
{
    json_t *root = json_object();
    size_t bytes = 0, at, len;
    struct fixture_bytes b;
    char *header, *padded;

    for (size_t i = first; i < last; i++) {
        const struct fixture_tensor *t = &w->tensors[i];
        size_t size = t->elements * fixture_element_bytes(t->dtype);
        json_t *shape = json_array();

        for (uint32_t d = 0; d < t->rank; d++)
            json_array_append_new(shape, json_integer(t->shape[d]));
        json_object_set_new(root, t->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->dtype, "shape", shape,
                                      "data_offsets", (json_int_t)bytes,
                                      (json_int_t)(bytes + size)));
        bytes += size;
    }
    header = fixture_dump(root, JSON_COMPACT);
    len = strlen(header);
    padded = malloc(len + 8 + pad);
    assert_non_null(padded);
    memset(padded, ' ', len + 8 + pad);
    memcpy(padded, header, len);
    padded[(len + 7) / 8 * 8 + pad] = 0;
    b = fixture_safetensors(padded, bytes);
    at = b.len - bytes;
    for (size_t i = first; i < last; i++) {
        const struct fixture_tensor *t = &w->tensors[i];

        for (size_t k = 0; k < t->elements; k++) {
            uint16_t h = t->dtype[0] == 'B'             ? fixture_bf16(t->values[k])
                         : strcmp(t->dtype, "F16") == 0 ? fixture_f16(t->values[k])
                                                        : 0;

            if (fixture_element_bytes(t->dtype) == 4)
                memcpy(b.data + at, &t->values[k], 4);
            else
                memcpy(b.data + at, &h, 2);
            at += fixture_element_bytes(t->dtype);
        }
    }
    fixture_write(f, name, b.data, b.len);
    free(b.data);
    free(padded);
    free(header);
    json_decref(root);
}

/* Writes all of w as n shards with their index. */
static inline void fixture_save_shards(const struct fixture_folder *f,
                                       const struct fixture_weights *w, size_t n)
{
    json_t *map = json_object();
    json_t *root = json_pack("{s:{s:i}, s:O}", "metadata", "total_size", 1, "weight_map", map);
    char name[64], *text;

    for (size_t s = 0; s < n; s++) {
        size_t first = w->n * s / n, last = w->n * (s + 1) / n;

        snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", s + 1, n);
        fixture_save(f, name, w, first, last, 0);
        for (size_t i = first; i < last; i++)
            json_object_set_new(map, w->tensors[i].name, json_string(name));
    }
    text = fixture_dump(root, JSON_INDENT(2));
    fixture_write(f, "model.safetensors.index.json", text, strlen(text));
    free(text);
    json_decref(root);
    json_decref(map);
}

static inline void fixture_copy(const struct fixture_folder *f, const char *folder,
                                const char *name)
{
    struct fixture_bytes b = fixture_read(folder, name);

    fixture_write(f, name, b.data, b.len);
    free(b.data);
}

#endif
