/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.c - rr_quantize: from a model folder to one in another precision.
 * Layer: engine (L5).  Threads: the caller's; work is shared by a pool and by the device.
 *
 * The f32 program is run with an observer on its linear layers (calibration), each layer is
 * smoothed and rounded alone (src/quant), candidates are programs with other tensors, and what is
 * written is the last candidate. */
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/features.h"
#include "cpu/kern.h"
#include "cpu/pool.h"
#include "cpu/weights.h"
#include "engine/calibrate.h"
#include "engine/quantize.h"
#include "quant/observe.h"
#include "quant/round.h"
#include "quant/smooth.h"

#define SAMPLE_BYTES ((size_t)512 << 20) /* of inputs, all layers together */
#define MIN_SAMPLE 128                   /* rows of a layer */
#define MAX_SAMPLE 4096

void rr_quant_progress(const struct rr_quant_job *j, const char *step, size_t done, size_t total)
{
    if (j->q->progress) j->q->progress(j->q->user, step, done, total);
}

static void free_form(struct rr_tensor i8[3], uint32_t n_parts)
{
    rr_free((void *)(uintptr_t)i8[0].smooth); /* shared by all */
    for (uint32_t p = 0; p < n_parts; p++) {
        rr_free((void *)(uintptr_t)i8[p].data);
        rr_free((void *)(uintptr_t)i8[p].scale);
    }
}

static void close_job(struct rr_quant_job *j)
{
    rr_export_drop(&j->out);
    for (uint32_t i = 0; i < j->n_layers; i++) {
        free_form(j->layers[i].i8, j->layers[i].n_parts);
        free_form(j->layers[i].plain, j->layers[i].n_parts);
        for (uint32_t p = 0; p < 3; p++) {
            rr_free(j->layers[i].bf16[p]);
            rr_free(j->layers[i].f32[p]);
        }
    }
    for (uint32_t i = 0; j->made && i < j->source->n_tensors; i++) rr_free(j->made[i]);
    rr_free(j->layers);
    rr_free(j->layer_of);
    rr_free(j->made);
    rr_free(j->tensors);
    rr_observer_close(j->observer);
    rr_texts_free(&j->texts);
    rr_texts_free(&j->check);
    rr_free(j->reference);
    rr_free(j->candidate);
    rr_pool_close(j->pool);
    if (j->net && j->net->backend) j->net->backend->close(j->int8);
    rr_setup_close(&j->s);
}

/* ---- layers --------------------------------------------------------------------------------- */

/* Can the weights of this LINEAR be replaced?  Not those that are parts of others or computed, and
 * not those that attention by distance reads, too. */
static bool replaceable(const struct rr_program *p, const struct rr_op_linear *l)
{
    for (uint32_t w = 0; w < l->n_parts; w++) {
        uint32_t t = l->weight[w];

        if (p->tensors[t].derived) return false;
        for (uint32_t i = 0; i < p->n_ops; i++) {
            const struct rr_relative *r = &p->ops[i].u.attention.relative;

            if (p->ops[i].kind == RR_OP_ATTENTION && r->on &&
                (r->key_weight == t || r->query_weight == t))
                return false;
        }
    }
    return true;
}

static bool is_kept(const struct rr_quant_job *j, const struct rr_quant_layer *l)
{
    for (uint32_t p = 0; p < l->n_parts && j->q->keep && *j->q->keep; p++)
        if (fnmatch(j->q->keep, j->source->tensors[l->tensor[p]].name, 0) == 0) return true;
    return false;
}

/* A pattern that fits nothing is a mistyped one: the layers that it was meant for would be rounded,
 * and nobody would know. */
static int check_keep(const struct rr_quant_job *j, struct rr_error *err)
{
    if (!j->q->keep || !*j->q->keep || strcmp(j->q->dtype, "int8")) return RR_OK;
    for (uint32_t i = 0; i < j->n_layers; i++)
        if (j->layers[i].as == RR_QUANT_BF16) return RR_OK;
    return rr_fail(err, RR_EINVAL, "keep: no layer has a weight whose name fits \"%.80s\"%s%s",
                   j->q->keep, j->n_layers ? "; one is " : "",
                   j->n_layers ? j->source->tensors[j->layers[0].tensor[0]].name : "");
}

static int find_layers(struct rr_quant_job *j, struct rr_error *err)
{
    const struct rr_program *p = j->source;

    j->layers = rr_calloc(RR_MEM_MISC, p->n_ops, sizeof(*j->layers));
    j->layer_of = rr_alloc(RR_MEM_MISC, p->n_ops, sizeof(*j->layer_of));
    j->tensors = rr_alloc(RR_MEM_MISC, p->n_tensors, sizeof(*j->tensors));
    j->made = rr_calloc(RR_MEM_MISC, p->n_tensors, sizeof(*j->made));
    if (!j->layers || !j->layer_of || !j->tensors || !j->made)
        return rr_fail(err, RR_ENOMEM, "out of memory for the list of layers");
    memcpy(j->tensors, p->tensors, p->n_tensors * sizeof(*j->tensors));
    j->p = *p;
    j->p.tensors = j->tensors;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct rr_op *op = &p->ops[i];
        struct rr_quant_layer *l = &j->layers[j->n_layers];

        j->layer_of[i] = RR_NONE;
        if (op->kind != RR_OP_LINEAR || p->registers[op->dst].rows != RR_ROWS_TOKENS ||
            !replaceable(p, &op->u.linear))
            continue;
        j->layer_of[i] = j->n_layers++;
        l->op = i;
        l->n = p->registers[op->dst].width;
        l->k = p->registers[op->src].width;
        l->n_parts = op->u.linear.n_parts;
        memcpy(l->tensor, op->u.linear.weight, sizeof(l->tensor));
        l->alpha = -1;
        l->error = NAN;
        for (int as = 0; as < RR_QUANT_F32; as++) l->variance[as] = NAN;
        l->as = is_kept(j, l) ? RR_QUANT_BF16 : RR_QUANT_I8;
    }
    return check_keep(j, err);
}

/* ---- calibration ---------------------------------------------------------------------------- */

static void see(void *user, uint32_t op, const float *x, size_t ldx, uint32_t rows)
{
    const struct rr_quant_job *j = user;
    uint32_t layer = j->layer_of[op];

    if (layer != RR_NONE) rr_observer_add(j->observer, layer, x, ldx, rows, j->layers[layer].k);
}

static int calibrate(struct rr_quant_job *j, struct rr_error *err)
{
    size_t width = 0, rows;
    int rc;

    for (uint32_t i = 0; i < j->n_layers; i++) width += j->layers[i].k;
    rows = SAMPLE_BYTES / (2 * sizeof(float)) / RR_MAX(width, 1u);
    rows = RR_MAX(RR_MIN(rows, (size_t)MAX_SAMPLE), (size_t)MIN_SAMPLE);
    rr_quant_progress(j, "calibrating", 0, 0);
    rc = rr_observer_open(&j->observer, j->n_layers, (uint32_t)rows, err);
    if (!rc) rc = rr_model_observe(j->model, see, j, err);
    if (!rc) rc = rr_texts_run(&j->texts, &j->s, j->texts.n_pairs, NULL, err);
    if (!rc) rc = rr_observer_finish(j->observer, err);
    return rc;
}

/* Runs the f32 model: the reference's logits, and what its layers see. */
static int run_reference(struct rr_quant_job *j, struct rr_error *err)
{
    const struct rr_quantize *q = j->q;
    int rc = RR_OK;

    if (q->n_calibration == 0 && q->n_check == 0) return RR_OK;
    rr_quant_progress(j, "tokenizing", 0, 0);
    if (q->n_calibration)
        rc = rr_texts_make(&j->texts, &j->s, j->tok_flags, q->calibration, q->n_calibration, err);
    if (!rc && q->n_check)
        rc = rr_texts_make(&j->check, &j->s, j->tok_flags, q->check, q->n_check, err);
    if (rc) return rc;
    j->reference = rr_alloc(RR_MEM_MISC, j->check.n_pairs, sizeof(float));
    j->candidate = rr_alloc(RR_MEM_MISC, j->check.n_pairs, sizeof(float));
    if (!j->reference || !j->candidate) return rr_fail(err, RR_ENOMEM, "out of memory for logits");
    rc = rr_model_load(j->model, j->net->backend, j->net->device, &j->s.lanes[0].limits, err);
    if (!rc) rr_quant_progress(j, "scoring in f32", 0, 0);
    if (!rc) rc = rr_texts_run(&j->check, &j->s, j->check.n_pairs, j->reference, err);
    if (!rc && j->texts.n_pairs) rc = calibrate(j, err);
    rr_model_unload(j->model);
    return rc;
}

/* ---- one layer in int8 ---------------------------------------------------------------------- */

/* The weights in f32, [n, k]. */
static void widen(const struct rr_quant_job *j, const struct rr_quant_layer *l, float *w)
{
    for (uint32_t p = 0; p < l->n_parts; p++) {
        const struct rr_tensor *t = &j->source->tensors[l->tensor[p]];
        size_t n = (size_t)t->shape[0] * t->shape[1];

        j->kern->convert(w, t->data, t->dtype, n);
        w += n;
    }
}

/* Room for the int8 tensors; factors: NULL, or ours from now on. */
static int make_tensors(const struct rr_quant_job *j, const struct rr_quant_layer *l,
                        struct rr_tensor i8[3], float *factors, struct rr_error *err)
{
    i8[0].smooth = factors;
    for (uint32_t p = 0; p < l->n_parts; p++) {
        const struct rr_tensor *t = &j->source->tensors[l->tensor[p]];
        struct rr_tensor *out = &i8[p];

        *out = *t;
        out->dtype = RR_I8;
        out->in_file = false;
        out->smooth = factors;
        out->data = rr_alloc(RR_MEM_WEIGHTS, (size_t)t->shape[0] * t->shape[1], 1);
        out->scale = rr_alloc(RR_MEM_WEIGHTS, t->shape[0], sizeof(float));
        if (!out->data || !out->scale)
            return rr_fail(err, RR_ENOMEM, "%s: out of memory for its int8 form", t->name);
    }
    return RR_OK;
}

/* w, divided by factors (NULL: none), becomes i8; *error: of the outputs, NaN without inputs. */
static int make_form(const struct rr_quant_job *j, const struct rr_quant_layer *l,
                     const struct rr_observed *in, float *w, float *factors, struct rr_tensor i8[3],
                     double *error, struct rr_error *err)
{
    struct rr_rounded rounded[3];
    const float *at = w;
    int rc = make_tensors(j, l, i8, factors, err);

    for (uint32_t p = 0; p < l->n_parts && !rc; p++) {
        uint32_t n = i8[p].shape[0];

        rc = rr_round_weights((int8_t *)(uintptr_t)i8[p].data, (float *)(uintptr_t)i8[p].scale, at,
                              n, l->k, j->kern->i8_wtop, in, factors, j->pool, err);
        for (uint32_t i = 0; i < n && !rc; i++)
            if (isnan(i8[p].scale[i]))
                rc = rr_fail(err, RR_ENONFINITE,
                             "%s has a value that is not finite in row %" PRIu32, i8[p].name, i);
        rounded[p] = (struct rr_rounded){ i8[p].data, i8[p].scale, factors, n };
        at += (size_t)n * l->k;
    }
    *error = NAN;
    if (!rc && in) rc = rr_smooth_error(error, in, w, rounded, l->n_parts, err);
    return rc;
}

/* With factors: kept if outputs come out nearer, beside the form without, which is the nearer one
 * where inputs are not rounded to 8 bits.  w is divided by them. */
static int smooth_layer(const struct rr_quant_job *j, struct rr_quant_layer *l,
                        const struct rr_observed *in, float *w, struct rr_error *err)
{
    struct rr_tensor smoothed[3] = { 0 };
    float *factors, alpha;
    double error;
    int rc = rr_smooth_search(&alpha, in, w, l->n, j->kern->i8_wtop, err);

    if (rc) return rc;
    factors = rr_alloc(RR_MEM_WEIGHTS, l->k, sizeof(*factors));
    if (!factors) return rr_fail(err, RR_ENOMEM, "out of memory for %" PRIu32 " factors", l->k);
    rr_smooth_factors(factors, in, w, l->n, alpha);
    for (size_t i = 0; i < (size_t)l->n * l->k; i++) w[i] /= factors[i % l->k];
    rc = make_form(j, l, in, w, factors, smoothed, &error, err);
    if (!rc && error < l->error) {
        memcpy(l->plain, l->i8, sizeof(l->plain));
        memcpy(l->i8, smoothed, sizeof(l->i8));
        memset(smoothed, 0, sizeof(smoothed));
        l->alpha = alpha;
        l->error = error;
    }
    free_form(smoothed, l->n_parts);
    if (rr_quant_may_be_fine(j)) return rc;
    free_form(l->plain, l->n_parts);
    memset(l->plain, 0, sizeof(l->plain));
    return rc;
}

static int quantize_layer(struct rr_quant_job *j, struct rr_quant_layer *l, struct rr_error *err)
{
    const struct rr_observed *in =
        j->observer ? rr_observer_layer(j->observer, (uint32_t)(l - j->layers)) : NULL;
    float *w = rr_alloc(RR_MEM_MISC, l->n, l->k * sizeof(*w));
    int rc;

    if (!w) return rr_fail(err, RR_ENOMEM, "out of memory for a layer of %" PRIu32, l->n);
    widen(j, l, w);
    if (in && !in->n_rows) in = NULL;
    rc = make_form(j, l, in, w, NULL, l->i8, &l->error, err);
    if (!rc && in) rc = smooth_layer(j, l, in, w, err);
    rr_free(w);
    return rc;
}

/* ---- the other precisions ------------------------------------------------------------------- */

/* Values of row become 16-bit ones.  False: one of them is too large. */
static bool narrow(char *out, const float *row, size_t k, enum rr_dtype dtype)
{
    uint16_t infinite = dtype == RR_BF16 ? 0x7F80 : 0x7C00;
    bool fits = true;

    for (size_t c = 0; c < k; c++) {
        uint16_t v =
            dtype == RR_BF16 ? rr_weights_round_bf16(row[c]) : rr_weights_round_f16(row[c]);

        fits = fits && ((v & 0x7FFF) != infinite || !isfinite(row[c]));
        memcpy(out + c * sizeof(v), &v, sizeof(v));
    }
    return fits;
}

int rr_quant_convert(void **out, const struct rr_quant_job *j, const struct rr_tensor *t,
                     enum rr_dtype dtype, struct rr_error *err)
{
    size_t rows = t->rank > 1 ? t->shape[0] : 1, k = t->shape[t->rank - 1];
    size_t bytes = dtype == RR_F32 ? 4 : 2, from = t->dtype == RR_F32 ? 4 : 2;
    char *made = rr_alloc(RR_MEM_WEIGHTS, rows, k * bytes);
    float *row = rr_alloc(RR_MEM_MISC, k, sizeof(*row));
    int rc = made && row ? RR_OK : rr_fail(err, RR_ENOMEM, "%s: out of memory", t->name);

    for (size_t i = 0; i < rows && !rc; i++) {
        j->kern->convert(row, (const char *)t->data + i * k * from, t->dtype, k);
        if (dtype == RR_F32)
            memcpy(made + i * k * bytes, row, k * bytes);
        else if (!narrow(made + i * k * bytes, row, k, dtype))
            rc = rr_fail(err, RR_ENOTSUP,
                         "%s has a value that is too large for %s: take another precision", t->name,
                         dtype == RR_F16 ? "f16" : "bf16");
    }
    rr_free(row);
    if (rc) rr_free(made);
    *out = rc ? NULL : made;
    return rc;
}

static bool is_table(const struct rr_program *p, uint32_t tensor)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct rr_op_embed *e = &p->ops[i].u.embed;

        if (p->ops[i].kind == RR_OP_EMBED &&
            (e->word == tensor || e->position == tensor || e->type == tensor))
            return true;
    }
    return false;
}

static int change_tensor(struct rr_quant_job *j, uint32_t i, enum rr_dtype dtype,
                         struct rr_error *err)
{
    struct rr_tensor *t = &j->tensors[i];
    void *data;
    int rc;

    if (t->dtype == dtype || t->derived) return RR_OK;
    rc = rr_quant_convert(&data, j, t, dtype, err);
    if (rc) return rc;
    rr_free(j->made[i]); /* of an earlier change */
    t->data = j->made[i] = data;
    t->dtype = dtype;
    t->in_file = false;
    return RR_OK;
}

/* f16, f32: every tensor.  bf16: the layers on tokens, which is what a device opened in bf16 does
 * with any folder. */
static int convert_all(struct rr_quant_job *j, struct rr_error *err)
{
    const char *dtype = j->q->dtype;
    int rc = RR_OK;

    if (strcmp(dtype, "bf16") == 0) {
        for (uint32_t i = 0; i < j->n_layers && !rc; i++)
            rc = rr_quant_use(j, &j->layers[i], RR_QUANT_BF16, err);
        return rc;
    }
    for (uint32_t i = 0; i < j->p.n_tensors && !rc; i++)
        rc = change_tensor(j, i, strcmp(dtype, "f16") == 0 ? RR_F16 : RR_F32, err);
    return rc;
}

/* ---- together ------------------------------------------------------------------------------- */

static int open_job(struct rr_quant_job *j, struct rr_error *err)
{
    static const char *const dtypes[] = { "int8", "bf16", "f16", "f32" };
    struct rr_options opt = *j->q->engine;
    struct rr_device_options dev = { .dtype = "int8" };
    bool known = false;
    int rc;

    for (size_t i = 0; i < RR_COUNT(dtypes); i++) known |= strcmp(j->q->dtype, dtypes[i]) == 0;
    if (!known)
        return rr_fail(err, RR_EINVAL, "dtype is \"%s\", expected int8, bf16, f16 or f32",
                       j->q->dtype);
    opt.device = "cpu";
    opt.devices = NULL;
    opt.rescore_dtype = NULL;
    opt.dtype = "f32";
    rc = rr_setup_open(&j->s, &opt, NULL, err);
    if (rc) return rc;
    j->tok_flags = opt.literal_specials ? RR_TOK_LITERAL_SPECIALS : 0;
    j->net = &j->s.lanes[0].nets[RR_PASS_MAIN];
    j->model = j->net->model;
    j->source = rr_model_program(j->model);
    if (j->source->mixed)
        return rr_fail(err, RR_EINVAL, "%s is in int8 already: start from the original folder",
                       opt.model);
    j->kern = rr_kern_pick(rr_cpu_flags(), j->s.info.isa);
    dev.threads = j->s.info.threads;
    dev.isa = opt.isa && strcmp(opt.isa, "auto") ? opt.isa : NULL;
    rc = rr_pool_open(&j->pool, dev.threads, err);
    if (!rc) rc = j->net->backend->open(&j->int8, &dev, err);
    if (!rc) rc = find_layers(j, err);
    return rc;
}

static int to_int8(struct rr_quant_job *j, struct rr_quantize_report *r, struct rr_error *err)
{
    int rc = run_reference(j, err);

    for (uint32_t i = 0; i < j->n_layers && !rc; i++) {
        rr_quant_progress(j, "rounding layers", i, j->n_layers);
        rc = quantize_layer(j, &j->layers[i], err);
    }
    if (!rc) rc = rr_quant_try(j, r, err);
    if (!rc && j->q->gate && !r->passed) rc = rr_quant_gate(j, r, err);
    if (!rc) rr_quant_cost(j, r);
    return rc;
}

int rr_quantize(const struct rr_quantize *q, struct rr_quantize_report *report,
                struct rr_error *err)
{
    struct rr_quant_job j = { .q = q };
    int rc;

    memset(report, 0, sizeof(*report));
    j.out = (struct rr_export){ .source = q->engine->model, .out = q->out, .dtype = q->dtype };
    rc = rr_export_open(&j.out, err);
    if (!rc) rc = open_job(&j, err);
    if (rc) goto done;
    report->n_layers = j.n_layers;
    report->passed = true;
    rc = strcmp(q->dtype, "int8") == 0 ? to_int8(&j, report, err) : convert_all(&j, err);
    for (uint32_t i = 0; i < j.p.n_tensors && q->tables_f16 && !rc; i++)
        if (is_table(&j.p, i)) rc = change_tensor(&j, i, RR_F16, err);
    if (!rc) rc = rr_quant_write(&j, err);
    if (!rc && q->cache) rc = rr_quant_pack(&j, err);
    if (!rc) rc = rr_export_close(&j.out, err);
done:
    close_job(&j);
    return rc;
}
