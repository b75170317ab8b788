/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c - see gguf.h.  Layer: model (L4). */
#include "model/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"

#define DEFAULT_ALIGNMENT 32u
#define MIN_ENTRY 13 /* bytes of the smallest key-value pair: no key, one byte */
#define SHOWN 80     /* bytes of a key in a message */

struct rr_gguf {
    struct rr_gguf_value *values; /* [n_values], in the order of the file */
    struct rr_gguf_tensor *tensors;
    size_t n_values, n_tensors;
    size_t header_bytes;
    char *where;
};

struct parse { /* what the steps share */
    struct rr_gguf *g;
    const char *where;
    struct rr_text file;
    size_t at;
    const char *part; /* what is being read, for messages */
    struct rr_error *err;
};

static const struct {
    const char *name;
    unsigned bytes; /* 0: it varies */
} kinds[RR_GGUF_KINDS] = {
    { "u8", 1 },  { "i8", 1 },  { "u16", 2 },  { "i16", 2 },    { "u32", 4 },
    { "i32", 4 }, { "f32", 4 }, { "bool", 1 }, { "string", 0 }, { "array", 0 },
    { "u64", 8 }, { "i64", 8 }, { "f64", 8 },
};

/* ---- bytes ---------------------------------------------------------------------------------- */

static uint64_t little_endian(const char *p, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes-- > 0) v = v << 8 | (unsigned char)p[bytes];
    return v;
}

static int cut_off(const struct parse *p, uint64_t wanted)
{
    return rr_fail(p->err, RR_EFORMAT,
                   "%s: %s: %" PRIu64 " bytes expected at byte %zu, but the file has %zu: it is "
                   "cut off or damaged",
                   p->where, p->part, wanted, p->at, p->file.len);
}

static int read_number(struct parse *p, unsigned bytes, uint64_t *out)
{
    if (p->file.len - p->at < bytes) return cut_off(p, bytes);
    *out = little_endian(p->file.data + p->at, bytes);
    p->at += bytes;
    return RR_OK;
}

static int read_text(struct parse *p, struct rr_text *out)
{
    uint64_t len = 0;
    int rc = read_number(p, 8, &len);

    if (rc) return rc;
    if (len > RR_GGUF_MAX_TEXT)
        return rr_fail(p->err, RR_ETOOBIG,
                       "%s: %s: a string of %" PRIu64 " bytes, at most %" PRIu64 " are allowed",
                       p->where, p->part, len, RR_GGUF_MAX_TEXT);
    if (len > p->file.len - p->at) return cut_off(p, len);
    *out = (struct rr_text){ p->file.data + p->at, (size_t)len };
    p->at += (size_t)len;
    return RR_OK;
}

/* ---- key-value pairs ------------------------------------------------------------------------ */

static int read_kind(struct parse *p, enum rr_gguf_kind *out)
{
    uint64_t kind = 0;
    int rc = read_number(p, 4, &kind);

    if (rc) return rc;
    if (kind >= RR_GGUF_KINDS)
        return rr_fail(p->err, RR_EFORMAT, "%s: %s: value type %" PRIu64 ", expected 0 to %d",
                       p->where, p->part, kind, RR_GGUF_KINDS - 1);
    *out = (enum rr_gguf_kind)kind;
    return RR_OK;
}

static int read_array(struct parse *p, struct rr_gguf_value *v)
{
    struct rr_text skipped;
    int rc = read_kind(p, &v->element);
    uint64_t i;

    if (!rc) rc = read_number(p, 8, &v->n);
    if (rc) return rc;
    if (v->element == RR_GGUF_ARRAY)
        return rr_fail(p->err, RR_ENOTSUP, "%s: %s: an array of arrays", p->where, p->part);
    v->data = p->file.data + p->at;
    if (v->element == RR_GGUF_TEXT) {
        for (i = 0; i < v->n && !rc; i++) rc = read_text(p, &skipped); /* each takes 8 bytes */
    } else if (v->n > (p->file.len - p->at) / kinds[v->element].bytes) {
        rc = cut_off(p, v->n);
    } else {
        p->at += (size_t)v->n * kinds[v->element].bytes;
    }
    v->len = (size_t)(p->file.data + p->at - v->data);
    return rc;
}

static int read_value(struct parse *p, struct rr_gguf_value *v)
{
    struct rr_text text;
    uint64_t number;
    int rc = read_kind(p, &v->kind);

    if (rc) return rc;
    v->n = 1;
    v->data = p->file.data + p->at;
    if (v->kind == RR_GGUF_ARRAY) return read_array(p, v);
    if (v->kind == RR_GGUF_TEXT) {
        rc = read_text(p, &text);
        v->data = text.data;
        v->len = text.len;
        return rc;
    }
    v->len = kinds[v->kind].bytes;
    return read_number(p, kinds[v->kind].bytes, &number);
}

static int check_name(const struct parse *p, struct rr_text name)
{
    if (name.len && rr_utf8_invalid(name) == SIZE_MAX && !memchr(name.data, 0, name.len))
        return RR_OK;
    return rr_fail(p->err, RR_EFORMAT, "%s: %s is %s, expected a name in UTF-8", p->where, p->part,
                   name.len ? "not a name" : "empty");
}

static int read_values(struct parse *p)
{
    char part[SHOWN + 16];
    size_t i, j;
    int rc;

    for (i = 0; i < p->g->n_values; i++) {
        struct rr_gguf_value *v = &p->g->values[i];

        snprintf(part, sizeof(part), "key %zu", i);
        p->part = part;
        rc = read_text(p, &v->key);
        if (!rc) rc = check_name(p, v->key);
        if (rc) return rc;
        snprintf(part, sizeof(part), "%.*s", (int)RR_MIN(v->key.len, SHOWN), v->key.data);
        for (j = 0; j < i; j++) {
            if (rr_text_eq(p->g->values[j].key, v->key))
                return rr_fail(p->err, RR_EFORMAT, "%s: %s is there twice", p->where, part);
        }
        rc = read_value(p, v);
        if (rc) return rc;
    }
    return RR_OK;
}

/* ---- tensors -------------------------------------------------------------------------------- */

static int read_shape(struct parse *p, struct rr_gguf_tensor *t)
{
    uint64_t rank = 0, n = 0;
    uint32_t i;
    int rc = read_number(p, 4, &rank);

    if (rc) return rc;
    if (rank == 0 || rank > RR_GGUF_MAX_RANK)
        return rr_fail(p->err, RR_ETOOBIG, "%s: %s: %" PRIu64 " dimensions, expected 1 to %d",
                       p->where, p->part, rank, RR_GGUF_MAX_RANK);
    t->rank = (uint32_t)rank;
    t->elements = 1;
    for (i = 0; i < t->rank; i++) {
        rc = read_number(p, 8, &n);
        if (rc) return rc;
        if (n == 0 || n > UINT32_MAX || __builtin_mul_overflow(t->elements, n, &t->elements) ||
            t->elements > (uint64_t)1 << 48)
            return rr_fail(p->err, RR_EFORMAT,
                           "%s: %s: dimension %" PRIu32 " is %" PRIu64 ", expected 1 to %" PRIu32
                           " and at most 2^48 elements in all",
                           p->where, p->part, i, n, UINT32_MAX);
        t->shape[t->rank - 1 - i] = (uint32_t)n;
    }
    return RR_OK;
}

static int read_type(struct parse *p, struct rr_gguf_tensor *t)
{
    uint64_t id = 0, row = t->shape[t->rank - 1];
    int rc = read_number(p, 4, &id);

    if (rc) return rc;
    t->type = rr_gguf_type((uint32_t)id);
    if (!t->type)
        return rr_fail(p->err, RR_ENOTSUP,
                       "%s: %s: type %" PRIu64 ", supported are %s: convert the model to one of "
                       "them, for example with llama-quantize",
                       p->where, p->part, id, rr_gguf_type_names());
    if (row % t->type->block)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: %s: rows of %" PRIu64 " elements, expected a multiple of %u for %s",
                       p->where, p->part, row, t->type->block, t->type->name);
    t->bytes = (size_t)(t->elements / t->type->block * t->type->bytes); /* < 2^51 */
    return RR_OK;
}

/* offsets[i]: where the file says that the data begin. */
static int read_tensors(struct parse *p, uint64_t *offsets)
{
    char part[SHOWN + 16];
    size_t i;
    int rc;

    for (i = 0; i < p->g->n_tensors; i++) {
        struct rr_gguf_tensor *t = &p->g->tensors[i];

        snprintf(part, sizeof(part), "tensor %zu", i);
        p->part = part;
        rc = read_text(p, &t->name);
        if (!rc) rc = check_name(p, t->name);
        if (rc) return rc;
        snprintf(part, sizeof(part), "tensor %.*s", (int)RR_MIN(t->name.len, SHOWN), t->name.data);
        rc = read_shape(p, t);
        if (!rc) rc = read_type(p, t);
        if (!rc) rc = read_number(p, 8, &offsets[i]);
        if (rc) return rc;
    }
    return RR_OK;
}

static int by_name(const void *pa, const void *pb)
{
    const struct rr_gguf_tensor *a = *(const struct rr_gguf_tensor *const *)pa;
    const struct rr_gguf_tensor *b = *(const struct rr_gguf_tensor *const *)pb;
    int c = memcmp(a->name.data, b->name.data, RR_MIN(a->name.len, b->name.len));

    return c ? c : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

static int check_unique(const struct parse *p)
{
    const struct rr_gguf_tensor **sorted = rr_alloc(RR_MEM_MODEL, p->g->n_tensors, sizeof(*sorted));
    int rc = RR_OK;
    size_t i;

    if (!sorted) return rr_fail(p->err, RR_ENOMEM, "%s: out of memory", p->where);
    for (i = 0; i < p->g->n_tensors; i++) sorted[i] = &p->g->tensors[i];
    if (p->g->n_tensors) qsort(sorted, p->g->n_tensors, sizeof(*sorted), by_name);
    for (i = 1; i < p->g->n_tensors && !rc; i++) {
        if (by_name(&sorted[i - 1], &sorted[i]) == 0)
            rc = rr_fail(p->err, RR_EFORMAT, "%s: tensor %.*s is there twice", p->where,
                         (int)RR_MIN(sorted[i]->name.len, SHOWN), sorted[i]->name.data);
    }
    rr_free(sorted);
    return rc;
}

/* The tensors lie one after the other: no overlap, no hole but the padding. */
static int place(struct parse *p, const uint64_t *offsets, uint32_t alignment)
{
    uint64_t start = (p->at + (uint64_t)alignment - 1) / alignment * alignment, expected = 0;
    size_t i;

    for (i = 0; i < p->g->n_tensors; i++) {
        struct rr_gguf_tensor *t = &p->g->tensors[i];

        if (offsets[i] != expected)
            return rr_fail(p->err, RR_EFORMAT,
                           "%s: tensor %.*s: data at offset %" PRIu64 ", expected %" PRIu64
                           ", right behind the tensor before it",
                           p->where, (int)RR_MIN(t->name.len, SHOWN), t->name.data, offsets[i],
                           expected);
        if (start + expected > p->file.len || t->bytes > p->file.len - start - expected)
            return rr_fail(p->err, RR_EFORMAT,
                           "%s: tensor %.*s: %zu bytes of data at byte %" PRIu64
                           ", but the file has %zu: it is cut off",
                           p->where, (int)RR_MIN(t->name.len, SHOWN), t->name.data, t->bytes,
                           start + expected, p->file.len);
        t->data = p->file.data + start + expected;
        expected += (t->bytes + (uint64_t)alignment - 1) / alignment * alignment;
    }
    p->g->header_bytes = (size_t)RR_MIN(start, (uint64_t)p->file.len);
    return RR_OK;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int read_head(struct parse *p, uint64_t *n_tensors, uint64_t *n_values)
{
    uint64_t version = 0;
    int rc;

    if (p->file.len < 24 || memcmp(p->file.data, "GGUF", 4) != 0)
        return rr_fail(p->err, RR_EFORMAT, "%s: does not begin with GGUF: not a GGUF file",
                       p->where);
    p->at = 4;
    p->part = "head";
    rc = read_number(p, 4, &version);
    if (rc) return rc;
    if (version != 2 && version != 3)
        return rr_fail(p->err, RR_ENOTSUP, "%s: version %" PRIu64 "%s, supported are 2 and 3",
                       p->where, version, version & 0xFFFF ? "" : " (a big-endian file)");
    rc = read_number(p, 8, n_tensors);
    if (!rc) rc = read_number(p, 8, n_values);
    if (rc) return rc;
    if (*n_tensors > RR_GGUF_MAX_TENSORS || *n_values > RR_GGUF_MAX_KEYS)
        return rr_fail(p->err, RR_ETOOBIG,
                       "%s: %" PRIu64 " tensors and %" PRIu64
                       " keys, at most %d and %d are allowed",
                       p->where, *n_tensors, *n_values, RR_GGUF_MAX_TENSORS, RR_GGUF_MAX_KEYS);
    if ((*n_tensors + *n_values) * MIN_ENTRY > p->file.len)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: %" PRIu64 " tensors and %" PRIu64 " keys in %zu bytes: it is cut off",
                       p->where, *n_tensors, *n_values, p->file.len);
    return RR_OK;
}

static int parse_all(struct parse *p)
{
    uint64_t n_tensors = 0, n_values = 0, *offsets;
    uint32_t alignment = DEFAULT_ALIGNMENT;
    int rc = read_head(p, &n_tensors, &n_values);

    if (rc) return rc;
    p->g->values = rr_calloc(RR_MEM_MODEL, (size_t)n_values, sizeof(*p->g->values));
    p->g->tensors = rr_calloc(RR_MEM_MODEL, (size_t)n_tensors, sizeof(*p->g->tensors));
    offsets = rr_calloc(RR_MEM_MODEL, (size_t)n_tensors, sizeof(*offsets));
    p->g->n_values = (size_t)n_values;
    p->g->n_tensors = (size_t)n_tensors;
    rc = p->g->values && p->g->tensors && offsets
             ? RR_OK
             : rr_fail(p->err, RR_ENOMEM, "%s: out of memory", p->where);
    if (!rc) rc = read_values(p);
    if (!rc)
        rc = rr_gguf_u32(p->g, "general.alignment", false, 8, RR_GGUF_MAX_ALIGNMENT, &alignment,
                         p->err);
    if (!rc && (alignment & (alignment - 1)))
        rc = rr_fail(p->err, RR_EFORMAT,
                     "%s: general.alignment is %" PRIu32 ", expected a power of two", p->where,
                     alignment);
    if (!rc) rc = read_tensors(p, offsets);
    if (!rc) rc = check_unique(p);
    if (!rc) rc = place(p, offsets, alignment);
    rr_free(offsets);
    return rc;
}

int rr_gguf_parse(struct rr_gguf **out, struct rr_text file, const char *where,
                  struct rr_error *err)
{
    struct parse p = { .where = where, .file = file, .err = err };
    int rc;

    *out = NULL;
    p.g = rr_calloc(RR_MEM_MODEL, 1, sizeof(*p.g));
    if (p.g) p.g->where = rr_strdup(RR_MEM_MODEL, where);
    if (!p.g || !p.g->where) {
        rr_gguf_close(p.g);
        return rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
    }
    rc = parse_all(&p);
    if (rc)
        rr_gguf_close(p.g);
    else
        *out = p.g;
    return rc;
}

void rr_gguf_close(struct rr_gguf *g)
{
    if (!g) return;
    rr_free(g->values);
    rr_free(g->tensors);
    rr_free(g->where);
    rr_free(g);
}

const struct rr_gguf_value *rr_gguf_values(const struct rr_gguf *g, size_t *n)
{
    *n = g->n_values;
    return g->values;
}

const struct rr_gguf_tensor *rr_gguf_tensors(const struct rr_gguf *g, size_t *n)
{
    *n = g->n_tensors;
    return g->tensors;
}

size_t rr_gguf_header_bytes(const struct rr_gguf *g)
{
    return g->header_bytes;
}

/* ---- values by key -------------------------------------------------------------------------- */

const struct rr_gguf_value *rr_gguf_find(const struct rr_gguf *g, const char *key)
{
    size_t i;

    for (i = 0; i < g->n_values; i++) {
        if (rr_text_is(g->values[i].key, key)) return &g->values[i];
    }
    return NULL;
}

static int missing(const struct rr_gguf *g, const char *key, bool needed, const char *expected,
                   struct rr_error *err)
{
    if (!needed) return RR_OK;
    return rr_fail(err, RR_EFORMAT, "%s: %s is missing, expected %s", g->where, key, expected);
}

static int wrong(const struct rr_gguf *g, const struct rr_gguf_value *v, const char *key,
                 const char *expected, struct rr_error *err)
{
    return rr_fail(err, RR_EFORMAT, "%s: %s is %s%s, expected %s", g->where, key,
                   v->kind == RR_GGUF_ARRAY ? "an array of " : "",
                   kinds[v->kind == RR_GGUF_ARRAY ? v->element : v->kind].name, expected);
}

/* False: not an integer, or below zero. */
static bool integer(const struct rr_gguf_value *v, uint64_t *out)
{
    unsigned bytes = kinds[v->kind].bytes;

    switch (v->kind) {
    case RR_GGUF_I8:
    case RR_GGUF_I16:
    case RR_GGUF_I32:
    case RR_GGUF_I64: *out = little_endian(v->data, bytes); return *out >> (8 * bytes - 1) == 0;
    case RR_GGUF_U8:
    case RR_GGUF_U16:
    case RR_GGUF_U32:
    case RR_GGUF_U64: *out = little_endian(v->data, bytes); return true;
    default: return false;
    }
}

int rr_gguf_u32(const struct rr_gguf *g, const char *key, bool needed, uint32_t min, uint32_t max,
                uint32_t *out, struct rr_error *err)
{
    const struct rr_gguf_value *v = rr_gguf_find(g, key);
    uint64_t n;

    if (!v) return missing(g, key, needed, "an integer", err);
    if (!integer(v, &n)) return wrong(g, v, key, "an integer of 0 or more", err);
    if (n < min || n > max)
        return rr_fail(err, RR_EFORMAT, "%s: %s is %" PRIu64 ", expected %" PRIu32 " to %" PRIu32,
                       g->where, key, n, min, max);
    *out = (uint32_t)n;
    return RR_OK;
}

float rr_gguf_f32_at(const struct rr_gguf_value *v, uint64_t i)
{
    float f;

    memcpy(&f, v->data + 4 * i, sizeof(f));
    return f;
}

uint32_t rr_gguf_u32_at(const struct rr_gguf_value *v, uint64_t i)
{
    return (uint32_t)little_endian(v->data + 4 * i, 4);
}

int rr_gguf_f32(const struct rr_gguf *g, const char *key, bool needed, float *out,
                struct rr_error *err)
{
    const struct rr_gguf_value *v = rr_gguf_find(g, key);

    if (!v) return missing(g, key, needed, "a number", err);
    if (v->kind != RR_GGUF_F32) return wrong(g, v, key, "f32", err);
    if (!isfinite(rr_gguf_f32_at(v, 0)))
        return rr_fail(err, RR_EFORMAT, "%s: %s is not finite", g->where, key);
    *out = rr_gguf_f32_at(v, 0);
    return RR_OK;
}

int rr_gguf_bool(const struct rr_gguf *g, const char *key, bool *out, struct rr_error *err)
{
    const struct rr_gguf_value *v = rr_gguf_find(g, key);

    if (!v) return RR_OK;
    if (v->kind != RR_GGUF_BOOL) return wrong(g, v, key, "bool", err);
    *out = v->data[0] != 0;
    return RR_OK;
}

int rr_gguf_text(const struct rr_gguf *g, const char *key, bool needed, struct rr_text *out,
                 struct rr_error *err)
{
    const struct rr_gguf_value *v = rr_gguf_find(g, key);

    if (!v) return missing(g, key, needed, "a string", err);
    if (v->kind != RR_GGUF_TEXT) return wrong(g, v, key, "a string", err);
    if (rr_utf8_invalid((struct rr_text){ v->data, v->len }) != SIZE_MAX)
        return rr_fail(err, RR_EFORMAT, "%s: %s is not UTF-8", g->where, key);
    *out = (struct rr_text){ v->data, v->len };
    return RR_OK;
}

int rr_gguf_array(const struct rr_gguf *g, const char *key, bool needed, enum rr_gguf_kind element,
                  const struct rr_gguf_value **out, struct rr_error *err)
{
    const struct rr_gguf_value *v = rr_gguf_find(g, key);
    char expected[32];

    *out = NULL;
    snprintf(expected, sizeof(expected), "an array of %s", kinds[element].name);
    if (!v) return missing(g, key, needed, expected, err);
    if (v->kind != RR_GGUF_ARRAY || v->element != element) return wrong(g, v, key, expected, err);
    *out = v;
    return RR_OK;
}

struct rr_text rr_gguf_next_text(const struct rr_gguf_value *v, size_t *at)
{
    struct rr_text t = { v->data + *at + 8, (size_t)little_endian(v->data + *at, 8) };

    *at += 8 + t.len;
    return t;
}
