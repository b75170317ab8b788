/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.c - see safetensors.h.  Layer: model (L4). */
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#define LENGTH_BYTES 8
#define HEADER_DEPTH 4 /* the header, a tensor, a list, and one to spare */
#define MAX_NAME 512   /* bytes of a tensor's name: keeps messages readable */

struct rr_safetensors {
    struct rr_safetensors_entry *entries; /* [n], by begin */
    size_t n;
    uint32_t *slots; /* [n_slots] open addressing: 1 + index into entries, 0 is free */
    size_t n_slots;  /* a power of two */
    char *names;     /* all names, zero-terminated, one after the other */
    size_t header_bytes;
    char made_for[8]; /* "" if no precision is written down */
};

struct parse { /* what the steps of one parse share */
    struct rr_safetensors *st;
    const char *where;
    const char *data;
    uint64_t data_bytes;
    struct rr_error *err;
};

static const struct rr_safetensors_dtype dtypes[] = {
    { "F32", 32, true, RR_F32 },     { "F16", 16, true, RR_F16 },
    { "BF16", 16, true, RR_BF16 },   { "F64", 64, false, RR_F32 },
    { "I64", 64, false, RR_F32 },    { "U64", 64, false, RR_F32 },
    { "I32", 32, false, RR_F32 },    { "U32", 32, false, RR_F32 },
    { "I16", 16, false, RR_F32 },    { "U16", 16, false, RR_F32 },
    { "I8", 8, true, RR_I8 },        { "U8", 8, false, RR_F32 },
    { "BOOL", 8, false, RR_F32 },    { "C64", 64, false, RR_F32 },
    { "F8_E4M3", 8, false, RR_F32 }, { "F8_E5M2", 8, false, RR_F32 },
    { "F8_E8M0", 8, false, RR_F32 }, { "F6_E2M3", 6, false, RR_F32 },
    { "F6_E3M2", 6, false, RR_F32 }, { "F4", 4, false, RR_F32 },
};

static int read_dtype(const struct parse *p, const char *name, const json_t *v,
                      struct rr_safetensors_entry *e)
{
    struct rr_text found = { json_string_value(v), json_string_length(v) };

    if (!json_is_string(v))
        return rr_fail(p->err, RR_EFORMAT, "%s: tensor %s: dtype is %s, expected a string",
                       p->where, name, v ? rr_json_type_name(v) : "missing");
    for (size_t i = 0; i < RR_COUNT(dtypes); i++) {
        if (rr_text_is(found, dtypes[i].name)) {
            e->type = &dtypes[i];
            return RR_OK;
        }
    }
    return rr_fail(p->err, RR_ENOTSUP,
                   "%s: tensor %s: dtype is \"%.60s\", expected F32, F16, BF16 "
                   "or another one of the format",
                   p->where, name, found.data);
}

static int read_shape(const struct parse *p, const char *name, const json_t *v,
                      struct rr_safetensors_entry *e)
{
    size_t rank = json_array_size(v); /* 0 for anything but an array */

    if (!json_is_array(v))
        return rr_fail(p->err, RR_EFORMAT, "%s: tensor %s: shape is %s, expected an array",
                       p->where, name, v ? rr_json_type_name(v) : "missing");
    if (rank > RR_SAFETENSORS_MAX_RANK)
        return rr_fail(p->err, RR_ETOOBIG,
                       "%s: tensor %s: shape has %zu dimensions, at most %d are supported",
                       p->where, name, rank, RR_SAFETENSORS_MAX_RANK);
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(v, i);

        if (!json_is_integer(d))
            return rr_fail(p->err, RR_EFORMAT,
                           "%s: tensor %s: shape[%zu] is %s, expected an integer", p->where, name,
                           i, rr_json_type_name(d));
        if (json_integer_value(d) < 0 || json_integer_value(d) > UINT32_MAX)
            return rr_fail(p->err, RR_EFORMAT,
                           "%s: tensor %s: shape[%zu] is %" JSON_INTEGER_FORMAT
                           ", expected 0 to %" PRIu32,
                           p->where, name, i, json_integer_value(d), UINT32_MAX);
        e->shape[i] = (uint32_t)json_integer_value(d);
    }
    e->rank = (uint32_t)rank;
    return RR_OK;
}

static int read_offsets(const struct parse *p, const char *name, const json_t *v,
                        struct rr_safetensors_entry *e)
{
    uint64_t at[2];

    if (!json_is_array(v) || json_array_size(v) != 2)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: tensor %s: data_offsets is %s, expected [begin, end]", p->where, name,
                       !v                 ? "missing"
                       : json_is_array(v) ? "of another length"
                                          : rr_json_type_name(v));
    for (size_t i = 0; i < 2; i++) {
        const json_t *x = json_array_get(v, i);

        if (!json_is_integer(x) || json_integer_value(x) < 0)
            return rr_fail(p->err, RR_EFORMAT,
                           "%s: tensor %s: data_offsets[%zu] is not an integer of 0 or more",
                           p->where, name, i);
        at[i] = (uint64_t)json_integer_value(x);
    }
    if (at[0] > at[1])
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: tensor %s: data_offsets begin at %" PRIu64
                       " after their end at %" PRIu64,
                       p->where, name, at[0], at[1]);
    if (at[1] > p->data_bytes)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: tensor %s: data end at byte %" PRIu64 ", but the file has %" PRIu64
                       " bytes of data: it is cut off; copy or fetch it again",
                       p->where, name, at[1], p->data_bytes);
    e->begin = at[0];
    e->end = at[1];
    e->data = p->data + at[0];
    return RR_OK;
}

static int check_size(const struct parse *p, const struct rr_safetensors_entry *e)
{
    uint64_t bits = e->type->bits;
    bool fits = true;

    for (uint32_t i = 0; i < e->rank; i++)
        fits = fits && !__builtin_mul_overflow(bits, (uint64_t)e->shape[i], &bits);
    if (!fits)
        return rr_fail(p->err, RR_EFORMAT, "%s: tensor %s: the product of its shape overflows",
                       p->where, e->name);
    if (bits % 8 != 0 || bits / 8 != e->end - e->begin)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: tensor %s: %" PRIu64 " bytes of data, expected %" PRIu64
                       " for its shape and dtype %s",
                       p->where, e->name, e->end - e->begin, bits / 8, e->type->name);
    return RR_OK;
}

static int read_entry(const struct parse *p, const char *name, const json_t *v,
                      struct rr_safetensors_entry *e)
{
    int rc;

    if (strlen(name) > MAX_NAME)
        return rr_fail(p->err, RR_ETOOBIG,
                       "%s: a tensor's name has %zu bytes, at most %d are supported", p->where,
                       strlen(name), MAX_NAME);
    if (!json_is_object(v))
        return rr_fail(p->err, RR_EFORMAT, "%s: tensor %s is %s, expected an object", p->where,
                       name, rr_json_type_name(v));
    rc = read_dtype(p, name, json_object_get(v, "dtype"), e);
    if (!rc) rc = read_shape(p, name, json_object_get(v, "shape"), e);
    if (!rc) rc = read_offsets(p, name, json_object_get(v, "data_offsets"), e);
    if (!rc) rc = check_size(p, e);
    return rc;
}

static int check_metadata(const struct parse *p, const json_t *v)
{
    const char *key;
    json_t *x;

    if (!json_is_object(v))
        return rr_fail(p->err, RR_EFORMAT, "%s: __metadata__ is %s, expected an object", p->where,
                       rr_json_type_name(v));
    json_object_foreach((json_t *)v, key, x)
    {
        if (json_is_string(x) && strcmp(key, RR_SAFETENSORS_MADE_FOR) == 0)
            snprintf(p->st->made_for, sizeof(p->st->made_for), "%s", json_string_value(x));
        if (!json_is_string(x))
            return rr_fail(p->err, RR_EFORMAT,
                           "%s: __metadata__ has %s as a value, expected strings", p->where,
                           rr_json_type_name(x));
    }
    return RR_OK;
}

static int by_begin(const void *a, const void *b)
{
    const struct rr_safetensors_entry *x = a, *y = b;

    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1; /* empty tensors first */
    return strcmp(x->name, y->name);                       /* the same order everywhere */
}

/* The reference refuses gaps too: bytes that no tensor owns could hide anything. */
static int check_tiling(const struct parse *p)
{
    uint64_t at = 0;

    for (size_t i = 0; i < p->st->n; i++) {
        const struct rr_safetensors_entry *e = &p->st->entries[i];

        if (e->begin < at)
            return rr_fail(p->err, RR_EFORMAT, "%s: tensor %s overlaps tensor %s", p->where,
                           e->name, p->st->entries[i - 1].name);
        if (e->begin > at)
            return rr_fail(p->err, RR_EFORMAT, "%s: a hole of %" PRIu64 " bytes before tensor %s",
                           p->where, e->begin - at, e->name);
        at = e->end;
    }
    if (at != p->data_bytes)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: a hole at the end: tensors take %" PRIu64
                       " bytes, the file has %" PRIu64 " bytes of data",
                       p->where, at, p->data_bytes);
    return RR_OK;
}

static size_t first_slot(const struct rr_safetensors *st, const char *name)
{
    return (size_t)XXH3_64bits(name, strlen(name)) & (st->n_slots - 1);
}

static int build_slots(const struct parse *p)
{
    struct rr_safetensors *st = p->st;

    st->n_slots = 8;
    while (st->n_slots < 2 * st->n) st->n_slots *= 2;
    st->slots = rr_calloc(RR_MEM_MODEL, st->n_slots, sizeof(*st->slots));
    if (!st->slots) return rr_fail(p->err, RR_ENOMEM, "%s: out of memory", p->where);
    for (size_t i = 0; i < st->n; i++) {
        size_t s = first_slot(st, st->entries[i].name);

        while (st->slots[s]) s = (s + 1) & (st->n_slots - 1);
        st->slots[s] = (uint32_t)i + 1;
    }
    return RR_OK;
}

/* Where the JSON is: the length field against the limits and the file. */
static int find_header(struct parse *p, struct rr_text file, struct rr_text *json)
{
    uint64_t n = 0;

    if (file.len < LENGTH_BYTES)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: %zu bytes, expected at least %d: not a safetensors file", p->where,
                       file.len, LENGTH_BYTES);
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) n = n << 8 | (unsigned char)file.data[i];
    if (n > RR_SAFETENSORS_MAX_HEADER)
        return rr_fail(p->err, RR_ETOOBIG,
                       "%s: a header of %" PRIu64 " bytes, at most %d are "
                       "allowed: not a safetensors file",
                       p->where, n, RR_SAFETENSORS_MAX_HEADER);
    if (n > file.len - LENGTH_BYTES)
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: a header of %" PRIu64 " bytes in a file of %zu: it "
                       "is cut off or not a safetensors file",
                       p->where, n, file.len);
    *json = (struct rr_text){ file.data + LENGTH_BYTES, (size_t)n };
    if (n == 0 || json->data[0] != '{')
        return rr_fail(p->err, RR_EFORMAT,
                       "%s: the header does not begin with {: not a safetensors file", p->where);
    p->data = json->data + n;
    p->data_bytes = file.len - LENGTH_BYTES - n;
    p->st->header_bytes = LENGTH_BYTES + (size_t)n;
    return RR_OK;
}

static int read_entries(const struct parse *p, const json_t *root, size_t header_len)
{
    struct rr_safetensors *st = p->st;
    size_t used = 0, size;
    const char *key;
    json_t *v;
    int rc;

    st->entries = rr_calloc(RR_MEM_MODEL, json_object_size(root), sizeof(*st->entries));
    st->names = rr_alloc(RR_MEM_MODEL, header_len, 1); /* each is there with its two quotes */
    if (!st->entries || !st->names)
        return rr_fail(p->err, RR_ENOMEM, "%s: out of memory", p->where);
    json_object_foreach((json_t *)root, key, v)
    {
        struct rr_safetensors_entry *e = &st->entries[st->n];

        if (strcmp(key, "__metadata__") == 0) {
            rc = check_metadata(p, v);
            if (rc) return rc;
            continue;
        }
        size = strlen(key) + 1;
        e->name = memcpy(st->names + used, key, size);
        used += size;
        rc = read_entry(p, e->name, v, e);
        if (rc) return rc;
        st->n++;
    }
    qsort(st->entries, st->n, sizeof(*st->entries), by_begin);
    return RR_OK;
}

int rr_safetensors_parse(struct rr_safetensors **out, struct rr_text file, const char *where,
                         struct rr_error *err)
{
    struct parse p = { .where = where, .err = err };
    struct rr_text text = { NULL, 0 };
    json_t *root = NULL;
    int rc;

    *out = NULL;
    p.st = rr_calloc(RR_MEM_MODEL, 1, sizeof(*p.st));
    if (!p.st) return rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
    rc = find_header(&p, file, &text);
    if (rc) goto fail;
    rc = rr_json_parse(&root, text, HEADER_DEPTH, RR_JSON_DUP_REJECT, err);
    if (rc) {
        rr_fail_prefix(err, "%s: header", where);
        goto fail;
    }
    rc = read_entries(&p, root, text.len);
    if (!rc) rc = check_tiling(&p);
    if (!rc) rc = build_slots(&p);
    if (rc) goto fail;
    json_decref(root);
    *out = p.st;
    return RR_OK;
fail:
    json_decref(root);
    rr_safetensors_close(p.st);
    return rc;
}

void rr_safetensors_close(struct rr_safetensors *st)
{
    if (!st) return;
    rr_free(st->entries);
    rr_free(st->slots);
    rr_free(st->names);
    rr_free(st);
}

const struct rr_safetensors_entry *rr_safetensors_find(const struct rr_safetensors *st,
                                                       const char *name)
{
    size_t s = first_slot(st, name);

    for (; st->slots[s]; s = (s + 1) & (st->n_slots - 1)) {
        const struct rr_safetensors_entry *e = &st->entries[st->slots[s] - 1];

        if (strcmp(e->name, name) == 0) return e;
    }
    return NULL;
}

const struct rr_safetensors_entry *rr_safetensors_entries(const struct rr_safetensors *st,
                                                          size_t *n)
{
    *n = st->n;
    return st->entries;
}

size_t rr_safetensors_header_bytes(const struct rr_safetensors *st)
{
    return st->header_bytes;
}

const char *rr_safetensors_made_for(const struct rr_safetensors *st)
{
    return st->made_for;
}

/* ---- writing -------------------------------------------------------------------------------- */

void rr_safetensors_begin(struct rr_json_out *o, const char *made_for)
{
    rr_out_object(o, NULL);
    rr_out_object(o, "__metadata__");
    rr_out_string(o, "format", "pt");
    if (made_for) rr_out_string(o, RR_SAFETENSORS_MADE_FOR, made_for);
    rr_out_end(o);
}

void rr_safetensors_put(struct rr_json_out *o, const char *name, const char *dtype,
                        const uint32_t *shape, uint32_t rank, uint64_t begin, uint64_t end)
{
    rr_out_object(o, name);
    rr_out_string(o, "dtype", dtype);
    rr_out_array(o, "shape");
    for (uint32_t i = 0; i < rank; i++) rr_out_uint(o, NULL, shape[i]);
    rr_out_end(o);
    rr_out_array(o, "data_offsets");
    rr_out_uint(o, NULL, begin);
    rr_out_uint(o, NULL, end);
    rr_out_end(o);
    rr_out_end(o);
}

void rr_safetensors_end(struct rr_json_out *o, unsigned char length[8])
{
    rr_out_end(o);
    while ((8 + o->buf->len) % 64 && !o->buf->failed) rr_buf_putc(o->buf, ' ');
    for (unsigned i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)o->buf->len >> 8 * i);
}
