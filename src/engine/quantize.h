/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.h - what the two halves of rr_quantize share: choosing (quantize.c) and writing
 * (quantize_write.c).  Layer: engine (L5).  Threads: one. */
#ifndef RR_ENGINE_QUANTIZE_H
#define RR_ENGINE_QUANTIZE_H

#include "cpu/pool.h"
#include "engine/calibrate.h"
#include "quant/observe.h"

struct rr_quant_layer { /* a LINEAR on tokens, with up to three weights */
    uint32_t op, n, k, n_parts;
    uint32_t tensor[3];
    struct rr_tensor i8[3]; /* data, scale, smooth are ours */
    void *bf16[3];          /* NULL until it is needed */
    float alpha;            /* negative: inputs as they are */
    double error;           /* of the outputs on the sample, relative; NaN: not measured */
    double sensitivity;     /* mean |logit difference| with this layer alone in int8 */
    bool kept;              /* in bf16 */
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
    struct rr_texts texts, check;
    float *reference, *candidate; /* [check.n_pairs] */
};

void rr_quant_progress(const struct rr_quant_job *j, const char *step, size_t done, size_t total);

/* Writes the folder with j's tensors and a report of its layers. */
RR_NODISCARD int rr_quant_write(const struct rr_quant_job *j, struct rr_error *err);
/* Loads what was written, which leaves the packed weights there. */
RR_NODISCARD int rr_quant_pack(const struct rr_quant_job *j, struct rr_error *err);

#endif
