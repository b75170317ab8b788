/* SPDX-License-Identifier: Apache-2.0 */
/* observe.c - see observe.h. */
#include "quant/observe.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/err.h"
#include "base/mem.h"

struct rr_observer {
    pthread_mutex_t lock; /* of everything below */
    struct rr_observed *layers;
    uint32_t n_layers, max_rows;
    bool failed;
};

int rr_observer_open(struct rr_observer **out, uint32_t n_layers, uint32_t max_rows,
                     struct rr_error *err)
{
    struct rr_observer *o = rr_calloc(RR_MEM_MISC, 1, sizeof(*o));

    *out = NULL;
    if (o) o->layers = rr_calloc(RR_MEM_MISC, n_layers, sizeof(*o->layers));
    if (!o || !o->layers) {
        rr_free(o);
        return rr_fail(err, RR_ENOMEM, "out of memory for observing %u layers", n_layers);
    }
    pthread_mutex_init(&o->lock, NULL);
    o->n_layers = n_layers;
    o->max_rows = max_rows;
    *out = o;
    return RR_OK;
}

void rr_observer_close(struct rr_observer *o)
{
    if (!o) return;
    for (uint32_t i = 0; i < o->n_layers; i++) {
        rr_free(o->layers[i].absmax);
        rr_free(o->layers[i].rows);
        rr_free(o->layers[i].marks);
    }
    rr_free(o->layers);
    pthread_mutex_destroy(&o->lock);
    rr_free(o);
}

struct ranked {
    uint64_t mark;
    uint32_t row;
};

static int by_mark(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;

    if (a->mark != b->mark) return a->mark < b->mark ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row; /* equal hashes: equal rows */
}

/* Sorts the rows by hash and keeps the first max_rows. */
static bool cut(struct rr_observed *l, uint32_t max_rows)
{
    uint32_t n = RR_MIN(l->n_rows, max_rows);
    struct ranked *order = rr_alloc(RR_MEM_MISC, l->n_rows, sizeof(*order));
    float *rows = rr_alloc(RR_MEM_MISC, 2 * (size_t)max_rows, l->width * sizeof(*rows));
    bool ok = order && rows;

    for (uint32_t i = 0; ok && i < l->n_rows; i++) order[i] = (struct ranked){ l->marks[i], i };
    if (ok) qsort(order, l->n_rows, sizeof(*order), by_mark);
    for (uint32_t i = 0; ok && i < n; i++) {
        memcpy(rows + (size_t)i * l->width, l->rows + (size_t)order[i].row * l->width,
               l->width * sizeof(*rows));
        l->marks[i] = order[i].mark;
    }
    rr_free(order);
    if (!ok) {
        rr_free(rows);
        return false;
    }
    rr_free(l->rows);
    l->rows = rows;
    l->n_rows = n;
    if (n == max_rows) l->limit = l->marks[n - 1];
    return true;
}

static bool begin_layer(struct rr_observed *l, uint32_t width, uint32_t max_rows)
{
    l->width = width;
    l->limit = UINT64_MAX;
    l->absmax = rr_calloc(RR_MEM_MISC, width, sizeof(*l->absmax));
    l->rows = rr_alloc(RR_MEM_MISC, 2 * (size_t)max_rows, width * sizeof(*l->rows));
    l->marks = rr_alloc(RR_MEM_MISC, 2 * (size_t)max_rows, sizeof(*l->marks));
    return l->absmax && l->rows && l->marks;
}

static bool add_row(struct rr_observed *l, const float *x, uint32_t max_rows)
{
    uint64_t mark = XXH3_64bits(x, l->width * sizeof(*x));

    for (uint32_t j = 0; j < l->width; j++) {
        float a = fabsf(x[j]);

        l->absmax[j] = a > l->absmax[j] ? a : l->absmax[j];
    }
    if (mark > l->limit) return true;
    if (l->n_rows == 2 * max_rows && !cut(l, max_rows)) return false;
    memcpy(l->rows + (size_t)l->n_rows * l->width, x, l->width * sizeof(*x));
    l->marks[l->n_rows++] = mark;
    return true;
}

void rr_observer_add(struct rr_observer *o, uint32_t layer, const float *x, size_t ldx,
                     uint32_t rows, uint32_t width)
{
    struct rr_observed *l = &o->layers[layer];

    pthread_mutex_lock(&o->lock);
    if (!o->failed && !l->absmax) o->failed = !begin_layer(l, width, o->max_rows);
    for (uint32_t i = 0; i < rows && !o->failed; i++)
        o->failed = !add_row(l, x + i * ldx, o->max_rows);
    pthread_mutex_unlock(&o->lock);
}

int rr_observer_finish(struct rr_observer *o, struct rr_error *err)
{
    for (uint32_t i = 0; i < o->n_layers && !o->failed; i++)
        if (o->layers[i].n_rows) o->failed = !cut(&o->layers[i], o->max_rows);
    if (o->failed) return rr_fail(err, RR_ENOMEM, "out of memory for a sample of inputs");
    return RR_OK;
}

const struct rr_observed *rr_observer_layer(const struct rr_observer *o, uint32_t layer)
{
    return &o->layers[layer];
}
