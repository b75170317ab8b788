/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_gate.c - see quantize.h: which layer in which precision.
 *
 * What a layer in int8 or bf16 adds to the logits is measured for each alone, as a variance.  The
 * gate starts from all in int8 and widens the layer whose step takes away the most variance for
 * what it costs, until the judge is content.  Variances of layers add up nearly, which is why
 * several steps are taken at once and the whole is measured after them. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/weights.h"
#include "engine/quantize.h"

#define PROBE_PAIRS 240 /* about; that tell how much logits depend on a layer */
#define STEP 0.75       /* of the variance that is left before the next look */

/* ---- candidates ----------------------------------------------------------------------------- */

static int use_bf16(struct rr_quant_job *j, struct rr_quant_layer *l, struct rr_error *err)
{
    for (uint32_t p = 0; p < l->n_parts; p++) {
        struct rr_tensor *t = &j->tensors[l->tensor[p]];

        *t = j->source->tensors[l->tensor[p]];
        if (t->dtype == RR_BF16) continue;
        if (!l->bf16[p]) l->bf16[p] = rr_quant_convert(j, t, RR_BF16);
        if (!l->bf16[p]) return rr_fail(err, RR_ENOMEM, "%s: out of memory", t->name);
        t->dtype = RR_BF16;
        t->data = l->bf16[p];
        t->in_file = false;
    }
    return RR_OK;
}

/* bf16 weights would be multiplied in bf16: they are made f32. */
static int use_f32(struct rr_quant_job *j, struct rr_quant_layer *l, struct rr_error *err)
{
    for (uint32_t p = 0; p < l->n_parts; p++) {
        struct rr_tensor *t = &j->tensors[l->tensor[p]];

        *t = j->source->tensors[l->tensor[p]];
        if (t->dtype != RR_BF16) continue;
        if (!l->f32[p]) l->f32[p] = rr_quant_convert(j, t, RR_F32);
        if (!l->f32[p]) return rr_fail(err, RR_ENOMEM, "%s: out of memory", t->name);
        t->dtype = RR_F32;
        t->data = l->f32[p];
        t->in_file = false;
    }
    return RR_OK;
}

int rr_quant_use(struct rr_quant_job *j, struct rr_quant_layer *l, enum rr_quant_as as,
                 struct rr_error *err)
{
    if (as == RR_QUANT_F32) return use_f32(j, l, err);
    if (as == RR_QUANT_BF16) return use_bf16(j, l, err);
    for (uint32_t p = 0; p < l->n_parts; p++) j->tensors[l->tensor[p]] = l->i8[p];
    return RR_OK;
}

/* Logits of the first n_pairs of check with the tensors as they are now. */
static int score(struct rr_quant_job *j, size_t n_pairs, struct rr_error *err)
{
    int rc;

    j->p.mixed = true;
    rr_model_replace(j->model, &j->p);
    rc = rr_model_load(j->model, j->net->backend, j->int8, &j->s.lanes[0].limits, err);
    if (!rc) rc = rr_texts_run(&j->check, &j->s, n_pairs, j->candidate, err);
    rr_model_unload(j->model);
    rr_model_replace(j->model, NULL);
    return rc;
}

/* Every layer as it is meant to be, and whether that will do. */
int rr_quant_try(struct rr_quant_job *j, struct rr_quantize_report *r, struct rr_error *err)
{
    int rc = RR_OK;

    r->n_int8 = 0;
    for (uint32_t i = 0; i < j->n_layers && !rc; i++) {
        rc = rr_quant_use(j, &j->layers[i], j->layers[i].as, err);
        r->n_int8 += j->layers[i].as == RR_QUANT_I8;
    }
    r->passed = true;
    if (rc || j->check.n_pairs == 0 || !j->q->judge) return rc;
    rc = score(j, j->check.n_pairs, err);
    if (!rc) r->passed = j->q->judge(j->q->user, j->reference, j->candidate, r->n_int8);
    return rc;
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* Lists to probe with; *n_pairs: in them. */
static size_t probe_lists(const struct rr_quant_job *j, size_t *n_pairs)
{
    size_t n = 0;

    *n_pairs = 0;
    while (n < j->q->n_check && *n_pairs < PROBE_PAIRS) *n_pairs += j->q->check[n++].n_documents;
    return n;
}

/* Variance of candidate - reference apart from what moves all documents of a list alike, which
 * changes no order. */
static double variance(const struct rr_quant_job *j, size_t n_lists)
{
    const float *a = j->reference, *b = j->candidate;
    double sum = 0;
    size_t degrees = 0;

    for (size_t i = 0; i < n_lists; i++) {
        size_t n = j->q->check[i].n_documents;
        double d = 0, dd = 0;

        for (size_t k = 0; k < n; k++) {
            double e = (double)*b++ - (double)*a++;

            d += e;
            dd += e * e;
        }
        if (n < 2) continue;
        sum += dd - d * d / (double)n;
        degrees += n - 1;
    }
    return degrees ? RR_MAX(sum, 0.0) / (double)degrees : 0;
}

/* Whether bf16 changes nothing: the weights fit, and inputs stay f32. */
static bool is_exact(const struct rr_quant_job *j, const struct rr_quant_layer *l)
{
    if (j->kern->bf16_x != RR_F32) return false;
    for (uint32_t p = 0; p < l->n_parts; p++) {
        const struct rr_tensor *t = &j->source->tensors[l->tensor[p]];
        size_t n = (size_t)t->shape[0] * t->shape[1], size = t->dtype == RR_F32 ? 4 : 2;
        float v;

        for (size_t i = 0; i < n && t->dtype != RR_BF16; i++) {
            uint32_t bits;

            j->kern->convert(&v, (const char *)t->data + i * size, t->dtype, 1);
            memcpy(&bits, &v, sizeof(bits));
            if (bits & 0xFFFF) return false;
        }
    }
    return true;
}

static int measure(struct rr_quant_job *j, struct rr_error *err)
{
    size_t n_pairs, n_lists = probe_lists(j, &n_pairs);
    int rc = RR_OK;

    for (uint32_t i = 0; i < j->n_layers && !rc; i++)
        rc = rr_quant_use(j, &j->layers[i], RR_QUANT_F32, err);
    for (uint32_t i = 0; i < j->n_layers && !rc; i++) {
        struct rr_quant_layer *l = &j->layers[i];

        rr_quant_progress(j, "measuring layers", i, j->n_layers);
        for (enum rr_quant_as as = l->as; as < RR_QUANT_F32 && !rc; as++) {
            l->variance[as] = 0;
            if (as == RR_QUANT_BF16 && is_exact(j, l)) continue;
            rc = rr_quant_use(j, l, as, err);
            if (!rc) rc = score(j, n_pairs, err);
            if (!rc) l->variance[as] = variance(j, n_lists);
        }
        if (!rc) rc = rr_quant_use(j, l, RR_QUANT_F32, err);
    }
    return rc;
}

/* ---- the gate ------------------------------------------------------------------------------- */

/* Time of a multiplication in units of one in int8, and a little for memory.  Fixed for each kind
 * of instructions, so that the same choice is made again. */
static double price(const struct rr_kern *kern, enum rr_quant_as as)
{
    bool limited = kern->i8_wtop < RR_I8_WFREE; /* no VPDPBUSD: int8 gains less */

    if (as == RR_QUANT_I8) return 1;
    if (kern->bf16_x == RR_BF16) return as == RR_QUANT_BF16 ? 2 : 8;
    return (limited ? 2.4 : 4) + (as == RR_QUANT_BF16 ? 0 : 0.5);
}

static double variance_of(const struct rr_quant_layer *l, enum rr_quant_as as)
{
    return as == RR_QUANT_F32 ? 0 : l->variance[as];
}

/* Widens the layer that pays most; false: all are in f32.  *left: variance of all, predicted. */
static bool widen_one(struct rr_quant_job *j, double *left)
{
    struct rr_quant_layer *best = NULL;
    enum rr_quant_as to = RR_QUANT_F32;
    double most = -INFINITY;

    for (uint32_t i = 0; i < j->n_layers; i++) {
        struct rr_quant_layer *l = &j->layers[i];

        for (int as = (int)l->as + 1; as <= RR_QUANT_F32; as++) {
            double gain = variance_of(l, l->as) - variance_of(l, (enum rr_quant_as)as);
            double cost =
                (price(j->kern, (enum rr_quant_as)as) - price(j->kern, l->as)) * l->n * l->k;

            if (gain / cost <= most) continue;
            most = gain / cost;
            best = l;
            to = (enum rr_quant_as)as;
        }
    }
    if (!best) return false;
    *left -= variance_of(best, best->as) - variance_of(best, to);
    best->as = to;
    return true;
}

int rr_quant_gate(struct rr_quant_job *j, struct rr_quantize_report *r, struct rr_error *err)
{
    double left = 0;
    int rc = measure(j, err);

    for (uint32_t i = 0; i < j->n_layers; i++) left += variance_of(&j->layers[i], j->layers[i].as);
    while (!rc && !r->passed) {
        double aim = STEP * left;
        bool any = false;

        while ((left > aim || !any) && widen_one(j, &left)) any = true;
        if (!any)
            return rr_fail(err, RR_ENOTSUP,
                           "the gate is not met even with every layer in f32: nothing was written");
        rc = rr_quant_try(j, r, err);
    }
    return rc;
}
