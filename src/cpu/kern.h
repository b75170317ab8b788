/* SPDX-License-Identifier: Apache-2.0 */
/* kern.h - the kernels: one typedef per kernel with its contract, one table per instruction set.
 * Layer: cpu (L1).  Threads: kernels are pure functions of their arguments.
 *
 * kern_ref.c is the specification: plain C in the plainest order.  Every other level is checked
 * against it within the tolerance that tests/kern/checkkern.c gives for the kernel.
 *
 * Every result row depends on its own inputs alone, in an order of operations that does not depend
 * on how many rows or columns a call covers: cutting the work differently never changes a bit. */
#ifndef RR_CPU_KERN_H
#define RR_CPU_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rerank_backend.h"

/* ---- linear, f32 ---------------------------------------------------------------------------
 * Weights are packed in panels of nr output columns: [ceil(n / nr)][k][nr], zero-filled past n.
 * nr is a property of the level (rr_kern.f32_nr). */

/* Packs rows [row0, row0 + rows) of a stacked weight matrix: src is [rows, k] of dtype, packed as
 * columns row0 ... of the result.  The caller zeroes the panels first. */
typedef void rr_pack_f32_fn(float *panels, const void *src, enum rr_dtype dtype, uint32_t row0,
                            uint32_t rows, uint32_t k);

/* y[i, o] = act(bias[o] + sum_k x[i, k] * w[o, k]) + residual[i, o] for i < m and o in
 * [n_begin, n_end).  n_begin is a multiple of nr; n_end is one too or equals n.
 * y must not alias x; residual may be y.  ld* are row strides in floats. */
struct rr_linear_f32 {
    float *y;              /* [m, n] */
    const float *x;        /* [m, k] */
    const float *panels;   /* packed weights, 64-byte aligned */
    const float *bias;     /* [n] */
    const float *residual; /* [m, n] or NULL */
    size_t ldy, ldx, ldr;
    uint32_t m, n, k;
    uint32_t n_begin, n_end;
    enum rr_act act;
};
typedef void rr_linear_f32_fn(const struct rr_linear_f32 *a);

/* ---- attention, f32 ------------------------------------------------------------------------
 * One head of one sequence: y[i] = sum_j softmax_j(scale * q[i] . k[j]) * v[j], all rows of
 * head_dim floats.  scratch: at least rr_attention_f32_scratch(n_kv, head_dim) floats, 64-byte
 * aligned.  The max is subtracted before exp.  y may not alias the inputs. */
struct rr_attention_f32 {
    float *y;       /* [n_q, head_dim] */
    const float *q; /* [n_q, head_dim] */
    const float *k; /* [n_kv, head_dim] */
    const float *v; /* [n_kv, head_dim] */
    size_t ldy, ldq, ldk, ldv;
    uint32_t n_q, n_kv, head_dim;
    float scale;
    float *scratch;
};
typedef void rr_attention_f32_fn(const struct rr_attention_f32 *a);

/* Floats of scratch that any level's attention_f32 may use. */
static inline size_t rr_attention_f32_scratch(uint32_t n_kv, uint32_t head_dim)
{
    size_t kv = ((size_t)n_kv + 63) & ~(size_t)63, width = ((size_t)head_dim + 63) & ~(size_t)63;

    return kv * (head_dim + width + 16) + 1024; /* K and V repacked, 16 rows of scores */
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* y[i] = (x[i] - mean) * rsqrt(var + eps) * gamma + beta over n floats; y may be x. */
typedef void rr_layernorm_f32_fn(float *y, size_t ldy, const float *x, size_t ldx,
                                 const float *gamma, const float *beta, uint32_t m, uint32_t n,
                                 float eps);

/* y[i] = float(src[i]), n values. */
typedef void rr_convert_fn(float *y, const void *src, enum rr_dtype dtype, size_t n);

/* y[i] += float(src[i]), n values: embedding rows. */
typedef void rr_add_convert_fn(float *y, const void *src, enum rr_dtype dtype, size_t n);

/* ---- the table ----------------------------------------------------------------------------- */

struct rr_kern {
    const char *name;  /* "ref", "avx2", "avx512", "neon" */
    uint32_t needs;    /* rr_cpu_flag bits */
    uint32_t f32_nr;   /* columns per panel */
    rr_pack_f32_fn *pack_f32;
    rr_linear_f32_fn *linear_f32;
    rr_attention_f32_fn *attention_f32;
    rr_layernorm_f32_fn *layernorm_f32;
    rr_convert_fn *convert;
    rr_add_convert_fn *add_convert;
};

/* Levels that are compiled in, worst first; the first is always "ref". */
const struct rr_kern *const *rr_kern_levels(uint32_t *n);

/* The best level for flags, or the one called name if it is compiled in and flags allow it (NULL
 * otherwise).  name NULL or "auto": the best. */
const struct rr_kern *rr_kern_pick(uint32_t flags, const char *name);

#endif
