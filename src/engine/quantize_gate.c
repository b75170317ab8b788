/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_gate.c - see quantize.h: which layer in which precision.
 *
 * What a layer in int8, with inputs of 8 or 16 bits, or in bf16 adds to the logits is measured for
 * each alone, as a variance.  From all in int8 the steps that widen one layer are put in order,
 * those first that take away the most variance for the time they cost, and as few of them are taken
 * as make the judge content: found by halving, since what each would do to the whole is predicted
 * less well than measured. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/weights.h"
#include "engine/quantize.h"

/* What tells how much logits depend on a layer: a few documents of many lists tell more than all
 * of a few lists. */
#define PROBE_LISTS 40
#define PROBE_DOCUMENTS 6

/* ---- candidates ----------------------------------------------------------------------------- */

static int use_bf16(struct rr_quant_job *j, struct rr_quant_layer *l, struct rr_error *err)
{
    for (uint32_t p = 0; p < l->n_parts; p++) {
        struct rr_tensor *t = &j->tensors[l->tensor[p]];
        int rc = RR_OK;

        *t = j->source->tensors[l->tensor[p]];
        if (t->dtype == RR_BF16) continue;
        if (!l->bf16[p]) rc = rr_quant_convert(&l->bf16[p], j, t, RR_BF16, err);
        if (rc) return rc;
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
        int rc = RR_OK;

        *t = j->source->tensors[l->tensor[p]];
        if (t->dtype != RR_BF16) continue;
        if (!l->f32[p]) rc = rr_quant_convert(&l->f32[p], j, t, RR_F32, err);
        if (rc) return rc;
        t->dtype = RR_F32;
        t->data = l->f32[p];
        t->in_file = false;
    }
    return RR_OK;
}

static void use_i8(struct rr_quant_job *j, const struct rr_quant_layer *l, bool fine)
{
    const struct rr_tensor *form = fine && l->plain[0].data ? l->plain : l->i8;

    for (uint32_t p = 0; p < l->n_parts; p++) {
        j->tensors[l->tensor[p]] = form[p];
        j->tensors[l->tensor[p]].fine = fine;
    }
}

int rr_quant_use(struct rr_quant_job *j, struct rr_quant_layer *l, enum rr_quant_as as,
                 struct rr_error *err)
{
    if (as == RR_QUANT_F32) return use_f32(j, l, err);
    if (as == RR_QUANT_BF16) return use_bf16(j, l, err);
    use_i8(j, l, as == RR_QUANT_FINE);
    return RR_OK;
}

/* Logits of texts, to candidate, with the tensors as they are now. */
static int score(struct rr_quant_job *j, const struct rr_texts *texts, struct rr_error *err)
{
    int rc;

    j->p.mixed = true;
    rr_model_replace(j->model, &j->p);
    rc = rr_model_load(j->model, j->net->backend, j->int8, &j->s.lanes[0].limits, err);
    if (!rc) rc = rr_texts_run(texts, &j->s, texts->n_pairs, j->candidate, err);
    rr_model_unload(j->model);
    rr_model_replace(j->model, NULL);
    return rc;
}

/* Every layer as it is meant to be, and whether that will do. */
int rr_quant_try(struct rr_quant_job *j, struct rr_quantize_report *r, struct rr_error *err)
{
    int rc = RR_OK;

    r->n_int8 = r->n_fine = 0;
    for (uint32_t i = 0; i < j->n_layers && !rc; i++) {
        rc = rr_quant_use(j, &j->layers[i], j->layers[i].as, err);
        r->n_int8 += j->layers[i].as == RR_QUANT_I8;
        r->n_fine += j->layers[i].as == RR_QUANT_FINE;
    }
    r->passed = true;
    if (rc || j->check.n_pairs == 0 || !j->q->judge) return rc;
    rc = score(j, &j->check, err);
    return rc ? rc
              : j->q->judge(j->q->user, j->reference, j->candidate, r->n_int8, &r->passed, err);
}

/* ---- measuring ------------------------------------------------------------------------------ */

struct probe {
    struct rr_list lists[PROBE_LISTS];
    struct rr_text documents[PROBE_LISTS * PROBE_DOCUMENTS];
    size_t n_lists;
    /* Logits with every layer in f32, beside which the device's int8 may still round: attention. */
    float reference[PROBE_LISTS * PROBE_DOCUMENTS];
    struct rr_texts texts;
};

/* Of the first lists of check documents from all over the list. */
static int open_probe(struct probe *p, const struct rr_quant_job *j, struct rr_error *err)
{
    size_t n = 0;

    p->n_lists = RR_MIN(j->q->n_check, (size_t)PROBE_LISTS);
    for (size_t i = 0; i < p->n_lists; i++) {
        const struct rr_list *from = &j->q->check[i];
        size_t take = RR_MIN(from->n_documents, (size_t)PROBE_DOCUMENTS);

        p->lists[i] = (struct rr_list){ from->query, &p->documents[n], take };
        for (size_t k = 0; k < take; k++)
            p->documents[n++] = from->documents[k * from->n_documents / take];
    }
    return rr_texts_make(&p->texts, &j->s, j->tok_flags, p->lists, p->n_lists, err);
}

/* Variance of candidate - reference apart from what moves all documents of a list alike, which
 * changes no order. */
static double variance(const struct probe *p, const float *candidate)
{
    const float *a = p->reference, *b = candidate;
    double sum = 0;
    size_t degrees = 0;

    for (size_t i = 0; i < p->n_lists; i++) {
        size_t n = p->lists[i].n_documents;
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
    if (j->kern->bf16_x != RR_F32 || j->kern->linear_i16) return false;
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

/* Time of a multiplication beside int8 in units of one in int8, and a little for memory.  Fixed for
 * each kind of instructions, so that the same choice is made again. */
static double price(const struct rr_kern *kern, enum rr_quant_as as)
{
    bool limited = kern->i8_wtop < RR_I8_WFREE; /* no VPDPBUSD: int8 gains less */

    if (as == RR_QUANT_I8) return 1;
    if (as == RR_QUANT_FINE) return 2;
    if (kern->bf16_x == RR_BF16) return as == RR_QUANT_F32 ? 8 : kern->i16 ? 4 : 2;
    if (as == RR_QUANT_BF16 && kern->linear_i16) return limited ? 1.4 : 2;
    return (limited ? 2.4 : 4) + (as == RR_QUANT_BF16 ? 0 : 0.5);
}

bool rr_quant_may_be_fine(const struct rr_quant_job *j)
{
    return j->q->gate && price(j->kern, RR_QUANT_FINE) < price(j->kern, RR_QUANT_BF16);
}

static int measure_layers(struct rr_quant_job *j, struct probe *p, struct rr_error *err)
{
    int rc = RR_OK;

    for (uint32_t i = 0; i < j->n_layers && !rc; i++)
        rc = rr_quant_use(j, &j->layers[i], RR_QUANT_F32, err);
    if (!rc) rc = score(j, &p->texts, err);
    if (!rc) memcpy(p->reference, j->candidate, p->texts.n_pairs * sizeof(float));
    for (uint32_t i = 0; i < j->n_layers && !rc; i++) {
        struct rr_quant_layer *l = &j->layers[i];

        rr_quant_progress(j, "measuring layers", i, j->n_layers);
        for (enum rr_quant_as as = l->as; as < RR_QUANT_F32 && !rc; as++) {
            if (as == RR_QUANT_FINE && !rr_quant_may_be_fine(j)) continue;
            l->variance[as] = 0;
            if (as == RR_QUANT_BF16 && is_exact(j, l)) continue;
            rc = rr_quant_use(j, l, as, err);
            if (!rc) rc = score(j, &p->texts, err);
            if (!rc) l->variance[as] = variance(p, j->candidate);
        }
        if (!rc) rc = rr_quant_use(j, l, RR_QUANT_F32, err);
    }
    return rc;
}

static int measure(struct rr_quant_job *j, struct rr_error *err)
{
    struct probe *p = rr_calloc(RR_MEM_MISC, 1, sizeof(*p));
    int rc = p ? open_probe(p, j, err) : rr_fail(err, RR_ENOMEM, "out of memory for a probe");

    if (!rc) rc = measure_layers(j, p, err);
    if (p) rr_texts_free(&p->texts);
    rr_free(p);
    return rc;
}

/* ---- the gate ------------------------------------------------------------------------------- */

static double variance_of(const struct rr_quant_layer *l, enum rr_quant_as as)
{
    return as == RR_QUANT_F32 ? 0 : l->variance[as];
}

struct step {
    struct rr_quant_layer *layer; /* NULL: all are in f32 */
    enum rr_quant_as from, to;
};

/* What pays most next. */
static struct step next_step(const struct rr_quant_job *j)
{
    struct step best = { 0 };
    double most = -INFINITY;

    for (uint32_t i = 0; i < j->n_layers; i++) {
        struct rr_quant_layer *l = &j->layers[i];

        for (enum rr_quant_as as = l->as + 1; as <= RR_QUANT_F32; as++) {
            double gain = variance_of(l, l->as) - variance_of(l, as);
            double cost = (price(j->kern, as) - price(j->kern, l->as)) * l->n * l->k;

            if (as == RR_QUANT_FINE && !rr_quant_may_be_fine(j)) continue;
            if (gain / cost <= most) continue;
            most = gain / cost;
            best = (struct step){ l, l->as, as };
        }
    }
    return best;
}

/* Takes all steps.  How many leave a layer's weights in int8: those after them are of no use. */
static size_t plan(struct rr_quant_job *j, struct step *path)
{
    size_t n = 0, n_int8 = 0;

    for (uint32_t i = 0; i < j->n_layers; i++) n_int8 += j->layers[i].as <= RR_QUANT_FINE;
    for (;;) {
        struct step s = next_step(j);

        n_int8 -= s.layer && s.from <= RR_QUANT_FINE && s.to > RR_QUANT_FINE;
        if (!s.layer || n_int8 == 0) return n;
        s.layer->as = s.to;
        path[n++] = s;
    }
}

/* The fewest of n steps that make the judge content, of which at first all are taken. */
static int search(struct rr_quant_job *j, const struct step *path, size_t n,
                  struct rr_quantize_report *r, struct rr_error *err)
{
    size_t taken = n, low = 0, high = n + 1; /* low do not, high do, n + 1 is not to be had */
    int rc = RR_OK;

    while (!rc && (high - low > 1 || (taken != high && high <= n))) {
        size_t next = high - low > 1 ? low + (high - low) / 2 : high;

        for (; taken < next; taken++) path[taken].layer->as = path[taken].to;
        for (; taken > next; taken--) path[taken - 1].layer->as = path[taken - 1].from;
        rc = rr_quant_try(j, r, err);
        if (next == high) break; /* its second time: it is what is to be written */
        *(r->passed ? &high : &low) = next;
    }
    if (rc || high <= n) return rc;
    return rr_fail(err, RR_ENOTSUP,
                   "the gate is not met with any layer in int8: nothing was written. Take dtype "
                   "bf16, or int8 with a rescore-dtype, where exact_top_k has the best as f32 "
                   "orders them");
}

int rr_quant_gate(struct rr_quant_job *j, struct rr_quantize_report *r, struct rr_error *err)
{
    size_t most = RR_QUANT_F32 * (size_t)j->n_layers + 1;
    struct step *path = rr_alloc(RR_MEM_MISC, most, sizeof(*path));
    int rc = path ? measure(j, err) : rr_fail(err, RR_ENOMEM, "out of memory for steps");

    if (!rc) rc = search(j, path, plan(j, path), r, err);
    rr_free(path);
    return rc;
}

void rr_quant_cost(const struct rr_quant_job *j, struct rr_quantize_report *r)
{
    double work = 0;

    r->int8_share = r->time = 0;
    for (uint32_t i = 0; i < j->n_layers; i++) {
        const struct rr_quant_layer *l = &j->layers[i];
        double w = (double)l->n * l->k;

        work += w;
        r->int8_share += l->as == RR_QUANT_I8 ? w : 0;
        r->time += price(j->kern, l->as) * w;
    }
    r->int8_share /= RR_MAX(work, 1.0);
    r->time /= RR_MAX(work, 1.0);
    r->time_bf16 = j->kern->bf16_x == RR_BF16 ? 2 : price(j->kern, RR_QUANT_BF16);
}
