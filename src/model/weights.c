/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - see weights.h.  Layer: model (L4). */
#include "model/weights.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/gguf.h"

#define NAME_BYTES 256 /* ours: prefix, scope and row are short */

/* "weight" and "bias" of a LayerNorm were "gamma" and "beta" in the first checkpoints. */
static const struct {
    const char *now, *old;
} old_names[] = {
    { "LayerNorm.weight", "LayerNorm.gamma" },
    { "LayerNorm.bias", "LayerNorm.beta" },
};

static const struct rr_safetensors_entry *find_either(const struct rr_weights *w, char *name)
{
    const struct rr_safetensors_entry *e = rr_checkpoint_find(w->checkpoint, name);
    size_t len = strlen(name);

    for (size_t i = 0; !e && i < RR_COUNT(old_names); i++) {
        size_t n = strlen(old_names[i].now);

        if (len < n || strcmp(name + len - n, old_names[i].now) != 0) continue;
        memcpy(name + len - n, old_names[i].old, strlen(old_names[i].old) + 1); /* never longer */
        e = rr_checkpoint_find(w->checkpoint, name);
    }
    return e;
}

static const struct rr_safetensors_entry *find(const struct rr_weights *w, const char *prefix,
                                               const char *scope, const char *row)
{
    const struct rr_safetensors_entry *e;
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "%s%s%s", prefix, scope, row);
    e = find_either(w, name);
    if (e || !*prefix) return e;
    snprintf(name, sizeof(name), "%s%s", scope, row);
    return find_either(w, name);
}

static void shape_text(char *out, size_t cap, const uint32_t *shape, uint32_t rank)
{
    size_t len = (size_t)snprintf(out, cap, "[");

    for (uint32_t i = 0; i < rank; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%" PRIu32, i ? ", " : "", shape[i]);
    snprintf(out + len, cap - len, "]");
}

static uint32_t row_shape(const struct rr_weights *w, const struct rr_weight_row *row,
                          uint32_t shape[2])
{
    uint32_t rank = 0;

    while (rank < 2 && row->dim[rank] != RR_DIM_END) {
        shape[rank] = w->dim[row->dim[rank]];
        rank++;
    }
    return rank;
}

/* A matrix that multiplies, not a table of rows. */
static bool multiplies(const struct rr_weight_row *row)
{
    return row->dim[1] != RR_DIM_END && row->dim[0] != RR_DIM_VOCAB &&
           row->dim[0] != RR_DIM_POSITIONS && row->dim[0] != RR_DIM_TYPES;
}

/* row: NULL for factors. */
static int check_entry(const struct rr_weights *w, const struct rr_weight_row *row,
                       const struct rr_safetensors_entry *e, const uint32_t *shape, uint32_t rank,
                       struct rr_error *err)
{
    char found[64], expected[64];

    if (!e->type->usable || (e->type->dtype == RR_I8 && !(row && multiplies(row))))
        return rr_fail(err, RR_ENOTSUP, "%s: tensor %s: dtype is %s, expected F32, F16 or BF16",
                       rr_checkpoint_path(w->checkpoint), e->name, e->type->name);
    if (e->rank == rank && memcmp(e->shape, shape, rank * sizeof(*shape)) == 0) return RR_OK;
    shape_text(found, sizeof(found), e->shape, e->rank);
    shape_text(expected, sizeof(expected), shape, rank);
    return rr_fail(err, RR_EFORMAT, "%s: tensor %s: shape is %s, expected %s by config.json",
                   rr_checkpoint_path(w->checkpoint), e->name, found, expected);
}

/* Memory that lives as long as w; NULL when it is short. */
static void *own(struct rr_weights *w, size_t bytes)
{
    struct rr_weight_copy *list;
    void *p;

    list = rr_realloc(RR_MEM_MODEL, w->copies, (size_t)w->n_copies + 1, sizeof(*list));
    if (list) w->copies = list;
    p = list ? rr_pages_alloc(RR_MEM_WEIGHTS, bytes) : NULL;
    if (p) w->copies[w->n_copies++] = (struct rr_weight_copy){ p, bytes };
    return p;
}

static int copy_aligned(struct rr_weights *w, const struct rr_safetensors_entry *e,
                        const void **data, struct rr_error *err)
{
    size_t bytes = (size_t)(e->end - e->begin);
    void *p = own(w, bytes);

    if (!p)
        return rr_fail(err, RR_ENOMEM,
                       "%s: tensor %s: out of memory for an aligned copy of %zu bytes",
                       rr_checkpoint_path(w->checkpoint), e->name, bytes);
    memcpy(p, e->data, bytes);
    *data = p;
    return RR_OK;
}

/* F32 factors of an I8 weight, in a tensor named after it; NULL if there is none. */
static int bind_factors(struct rr_weights *w, const char *weight, const char *suffix, uint32_t n,
                        const float **out, struct rr_error *err)
{
    const struct rr_safetensors_entry *e;
    const void *data;
    char name[NAME_BYTES + 16];
    int rc;

    *out = NULL;
    snprintf(name, sizeof(name), "%.*s%s", NAME_BYTES - 1, weight, suffix);
    e = rr_checkpoint_find(w->checkpoint, name);
    if (!e) return RR_OK;
    if (e->type->dtype != RR_F32 || !e->type->usable)
        return rr_fail(err, RR_ENOTSUP, "%s: tensor %s: dtype is %s, expected F32",
                       rr_checkpoint_path(w->checkpoint), e->name, e->type->name);
    rc = check_entry(w, NULL, e, &n, 1, err);
    data = e->data;
    if (!rc && (uintptr_t)data % sizeof(float) != 0) rc = copy_aligned(w, e, &data, err);
    if (rc) return rc;
    *out = data;
    for (uint32_t i = 0; i < n; i++)
        if (!((*out)[i] >= 0 && (*out)[i] < 1e30f))
            return rr_fail(err, RR_EFORMAT, "%s: tensor %s: value %" PRIu32 " is %g, expected a "
                           "factor of 0 or more", rr_checkpoint_path(w->checkpoint), e->name, i,
                           (double)(*out)[i]);
    return RR_OK;
}

static int bind_i8(struct rr_weights *w, struct rr_tensor *t, struct rr_error *err)
{
    const float *bits;
    int rc = bind_factors(w, t->name, "_scale", t->shape[0], &t->scale, err);

    if (!rc) rc = bind_factors(w, t->name, "_smooth", t->shape[1], &t->smooth, err);
    if (!rc) rc = bind_factors(w, t->name, "_input_bits", 1, &bits, err);
    if (!rc && !t->scale)
        rc = rr_fail(err, RR_EFORMAT, "%s: tensor %s is I8, but there is no %s_scale",
                     rr_checkpoint_path(w->checkpoint), t->name, t->name);
    if (!rc && bits && *bits != 8 && *bits != 16)
        rc = rr_fail(err, RR_EFORMAT, "%s: tensor %s_input_bits is %g, expected 8 or 16",
                     rr_checkpoint_path(w->checkpoint), t->name, (double)*bits);
    t->fine = !rc && bits && *bits == 16;
    return rc;
}

static int bind(struct rr_weights *w, const struct rr_safetensors_entry *e, const uint32_t *shape,
                uint32_t rank, uint32_t *index, struct rr_error *err)
{
    struct rr_tensor t = { .name = e->name, .dtype = e->type->dtype, .rank = rank };
    uint64_t elements = 1;

    t.data = e->data;
    t.in_file = !e->made;
    if ((uintptr_t)e->data % (e->type->bits / 8) != 0) {
        int rc = copy_aligned(w, e, &t.data, err);

        if (rc) return rc;
        t.in_file = false;
    }
    for (uint32_t i = 0; i < rank; i++) {
        t.shape[i] = shape[i];
        elements *= shape[i];
    }
    if (t.dtype == RR_I8) {
        int rc = bind_i8(w, &t, err);

        if (rc) return rc;
    }
    w->parameters += elements;
    w->dtypes |= 1u << t.dtype;
    *index = rr_builder_tensor(w->builder, &t);
    return RR_OK;
}

int rr_weights_bind(struct rr_weights *w, const char *prefix, const char *scope,
                    const struct rr_weight_row *rows, size_t n, void *fields, struct rr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct rr_safetensors_entry *e = find(w, prefix, scope, rows[i].name);
        uint32_t *index = (uint32_t *)(void *)((char *)fields + rows[i].field);
        uint32_t shape[2] = { 0, 0 };
        uint32_t rank = row_shape(w, &rows[i], shape);
        char expected[64];
        int rc;

        if (!e && rows[i].optional) {
            *index = RR_NONE;
            continue;
        }
        if (!e) {
            shape_text(expected, sizeof(expected), shape, rank);
            return rr_fail(err, RR_EFORMAT, "%s: tensor %s%s%s is missing, expected with shape %s",
                           rr_checkpoint_path(w->checkpoint), prefix, scope, rows[i].name,
                           expected);
        }
        rc = check_entry(w, &rows[i], e, shape, rank, err);
        if (!rc) rc = bind(w, e, shape, rank, index, err);
        if (rc) return rc;
    }
    return RR_OK;
}

static size_t element_bytes(const struct rr_tensor *t)
{
    return t->dtype == RR_F32 ? 4 : t->dtype == RR_I8 ? 1 : 2;
}

uint32_t rr_weights_rows(struct rr_weights *w, uint32_t tensor, uint32_t row0, uint32_t rows)
{
    struct rr_tensor t;

    if (w->builder->failed || tensor == RR_NONE) return RR_NONE;
    t = w->builder->tensors[tensor];
    t.data =
        (const char *)t.data + (size_t)row0 * (t.rank == 2 ? t.shape[1] : 1) * element_bytes(&t);
    if (t.scale) t.scale += row0;
    t.shape[0] = rows;
    t.derived = true;
    return rr_builder_tensor(w->builder, &t);
}

int rr_weights_make(struct rr_weights *w, const char *name, uint32_t rows, uint32_t columns,
                    uint32_t *index, float **data, struct rr_error *err)
{
    struct rr_tensor t = { .name = name, .dtype = RR_F32, .rank = rows ? 2 : 1,
                           .derived = true };

    t.shape[0] = rows ? rows : columns;
    t.shape[1] = rows ? columns : 0;
    *data = own(w, (size_t)(rows ? rows : 1) * columns * sizeof(float));
    if (!*data)
        return rr_fail(err, RR_ENOMEM, "%s: out of memory for %s",
                       rr_checkpoint_path(w->checkpoint), name);
    t.data = *data;
    *index = rr_builder_tensor(w->builder, &t);
    return RR_OK;
}

void rr_weights_read(const struct rr_weights *w, uint32_t tensor, uint32_t row, float *out)
{
    const struct rr_tensor *t = &w->builder->tensors[tensor];
    uint32_t n = t->rank == 2 ? t->shape[1] : t->shape[0];

    rr_gguf_widen(out, (const char *)t->data + (size_t)row * n * element_bytes(t), t->dtype, n);
}

void rr_weights_free(struct rr_weights *w)
{
    for (uint32_t i = 0; i < w->n_copies; i++)
        rr_pages_free(RR_MEM_WEIGHTS, w->copies[i].data, w->copies[i].bytes);
    rr_free(w->copies);
    w->copies = NULL;
    w->n_copies = 0;
}
