/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.h - what the parts of rr_quantize share: rounding layers (quantize.c), choosing their
 * precisions (quantize_gate.c) and writing (quantize_write.c).  Layer: engine (L5).  Threads:
 * one. */
#ifndef RR_ENGINE_QUANTIZE_H
#define RR_ENGINE_QUANTIZE_H

#include "cpu/pool.h"
#include "engine/calibrate.h"
#include "model/export.h"
#include "quant/observe.h"

/* RR_QUANT_FINE: weights in int8, inputs in 16 bits. */
enum rr_quant_as { RR_QUANT_I8, RR_QUANT_FINE, RR_QUANT_BF16, RR_QUANT_F32 };

struct rr_quant_layer { /* a LINEAR on tokens, with up to three weights */
    uint32_t op, n, k, n_parts;
    uint32_t tensor[3];
    struct rr_tensor i8[3];    /* data, scale, smooth are ours */
    struct rr_tensor plain[3]; /* the same without factors, if i8 has some and it may be needed */
    void *bf16[3], *f32[3];    /* NULL until needed */
    float alpha;               /* negative: inputs as they are */
    double error;              /* of the outputs on the sample, relative; NaN: not measured */
    double variance[RR_QUANT_F32]; /* of logits, this layer alone so; NaN: not measured */
    enum rr_quant_as as;       /* what it is to be */
};

struct rr_quant_job {
    const struct rr_quantize *q;
    struct rr_setup s;
    struct rr_net *net;     /* of s, in f32 */
    struct rr_model *model; /* of net */
    struct rr_device *int8; /* of net->backend */
    struct rr_pool *pool;
    const struct rr_kern *kern;
    const struct rr_program *source;
    struct rr_program p; /* source with these tensors */
    struct rr_tensor *tensors;
    void **made; /* [n_tensors] data of converted tensors */
    struct rr_quant_layer *layers;
    uint32_t n_layers;
    uint32_t *layer_of; /* [n_ops], RR_NONE: no layer */
    struct rr_observer *observer;
    unsigned tok_flags;
    struct rr_texts texts, check;
    float *reference, *candidate; /* [check.n_pairs] */
    struct rr_export out;         /* open */
};

void rr_quant_progress(const struct rr_quant_job *j, const char *step, size_t done, size_t total);

/* *out: a copy of tensor t in a 16-bit or 32-bit type.  RR_ENOTSUP: a value would become
 * infinite. */
RR_NODISCARD int rr_quant_convert(void **out, const struct rr_quant_job *j,
                                  const struct rr_tensor *t, enum rr_dtype dtype,
                                  struct rr_error *err);

/* Whether layers may be RR_QUANT_FINE: where a gate chooses and that is cheaper than bf16. */
bool rr_quant_may_be_fine(const struct rr_quant_job *j);
/* j's tensors of layer l become those of a precision. */
RR_NODISCARD int rr_quant_use(struct rr_quant_job *j, struct rr_quant_layer *l, enum rr_quant_as as,
                              struct rr_error *err);
/* All layers as they are meant to be; r says whether the judge is content with them. */
RR_NODISCARD int rr_quant_try(struct rr_quant_job *j, struct rr_quantize_report *r,
                              struct rr_error *err);
/* Widens as few layers as make it so, after a try that was not.  RR_ENOTSUP: it never is. */
RR_NODISCARD int rr_quant_gate(struct rr_quant_job *j, struct rr_quantize_report *r,
                               struct rr_error *err);
/* What the layers cost as they are meant to be. */
void rr_quant_cost(const struct rr_quant_job *j, struct rr_quantize_report *r);

/* Fills the new folder with j's tensors and a report of its layers. */
RR_NODISCARD int rr_quant_write(struct rr_quant_job *j, struct rr_error *err);
/* Loads it, which leaves the packed weights there. */
RR_NODISCARD int rr_quant_pack(const struct rr_quant_job *j, struct rr_error *err);

#endif
