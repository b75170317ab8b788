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

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rerank_backend.h"

/* ---- results in 16 bits ------------------------------------------------------------------------
 * What only kernels read that round it anyway is written in half the bytes: rows of a product are
 * too many for the L2 cache, and beyond it their way there and back takes as long as the product.
 * As bf16, for bf16 products and attention_bf16, no bit of a score is another; as f16, for
 * quantize_i8, what is finite but above 65504 becomes infinite, and so an error. */
struct rr_half {
    uint16_t *y; /* [m, n] instead of f32, row stride ldy, to nearest even; NULL: f32.  There is no
                  * residual then. */
    enum rr_dtype dtype; /* RR_BF16 or RR_F16 */
};

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
    float *y;            /* [n_q, head_dim] */
    struct rr_half half; /* of y */
    const float *q;      /* [n_q, head_dim] */
    const float *k;      /* [n_kv, head_dim] */
    const float *v;      /* [n_kv, head_dim] */
    const uint16_t *q16, *k16, *v16; /* not NULL: these, in bf16, instead; attention_bf16 only */
    size_t ldy, ldq, ldk, ldv;
    uint32_t n_q, n_kv, head_dim;
    float scale;
    const float *bias; /* [n_q, n_kv] added to scaled scores, -FLT_MAX hides a key; NULL: none */
    size_t ldb;
    float *scratch;
};
typedef void rr_attention_f32_fn(const struct rr_attention_f32 *a);

/* Floats of scratch that any level's attention may use. */
static inline size_t rr_attention_f32_scratch(uint32_t n_kv, uint32_t head_dim)
{
    size_t kv = ((size_t)n_kv + 63) & ~(size_t)63, width = ((size_t)head_dim + 63) & ~(size_t)63;

    /* K and V repacked, up to 32 rows of scores and of weights of half the size, rounded rows */
    return kv * (head_dim + width + 48) + (size_t)64 * head_dim + 2048;
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* y[i] = (x[i] - mean) * rsqrt(var + eps) * gamma + beta over n floats; y may be x.  beta NULL:
 * 0. */
typedef void rr_layernorm_f32_fn(float *y, size_t ldy, const float *x, size_t ldx,
                                 const float *gamma, const float *beta, uint32_t m, uint32_t n,
                                 float eps);

/* y[i] = x[i] / sqrt(mean(x[i]^2) + eps) * gamma over n floats; y may be x. */
typedef void rr_rmsnorm_f32_fn(float *y, size_t ldy, const float *x, size_t ldx,
                               const float *gamma, uint32_t m, uint32_t n, float eps);

/* y[i, j] = act(a[i, j]) * b[i, j], j < n; act is one of GELU, GELU_TANH, SILU, RELU.  a and b have
 * row stride ldx. */
typedef void rr_glu_f32_fn(float *y, size_t ldy, const float *a, const float *b, size_t ldx,
                           uint32_t m, uint32_t n, enum rr_act act);

/* In each of heads groups of head_dim columns of one row: (x[j], x[j + n]), j < n, is turned by the
 * angle whose cosine and sine are given: [n] each. */
typedef void rr_rotary_f32_fn(float *x, uint32_t heads, uint32_t head_dim, const float *cosines,
                              const float *sines, uint32_t n);

/* y[i] = float(src[i]), n values. */
typedef void rr_convert_fn(float *y, const void *src, enum rr_dtype dtype, size_t n);

/* y[i] += float(src[i]), n values: embedding rows. */
typedef void rr_add_convert_fn(float *y, const void *src, enum rr_dtype dtype, size_t n);

/* ---- int8 ------------------------------------------------------------------------------------
 * Activations: one byte per value, one scale and one offset per row, found from the row alone:
 *     x[j] = offset + scale * q[j],  0 <= q[j] <= i8_top
 * Weights: one scale per output channel, w[o, j] = w_scale[o] * p[o, j], -127 <= p <= 127, and no
 * four of them that i8_wtop speaks of add up to more.  Then
 *     sum_j x[j] w[o, j] = w_scale[o] * (scale * sum_j q[j] p[o, j] + offset * sum_j p[o, j])
 * with an exact integer sum.  The rest is a fixed chain of roundings (kern_ref.c, finish_i8), so
 * that without an activation function all levels give the same bits for the same weights.
 *
 * A byte of a row holds q - i8_zero: 0 for levels whose instruction takes unsigned activations, 127
 * for those that take signed ones.  Rows are only exchanged between kernels of one level.
 *
 * Packed weights: panels of packed_nr columns, groups of four along k, [panels][depth / 4][nr][4]
 * with depth = rr_i8_depth(k), as many as make n a multiple of i8_nr, zero-filled past n and k.
 * Every instruction that multiplies groups of four bytes reads this layout: VPMADDUBSW, VPDPBUSD,
 * SDOT and, with panels of 16, whose 64 bytes of k are a tile in one piece, TDPBUSD; SMMLA after
 * one interleave. */

#define RR_I8_DEPTH 64 /* bytes of k that one step of the deepest instruction takes */

/* i8_wtop: the most that the positive weights of a set of four of one channel may add up to, and
 * the negative ones without their signs.  The sets are j, j + 1, j + 4 and j + 5 for every j that
 * is a multiple of 8, or one plus 2: what an instruction set without VPDPBUSD adds in 16 bits,
 * where i8_top * i8_wtop must fit. */
#define RR_I8_WFREE 508 /* 4 * 127: no limit */

static inline uint32_t rr_i8_depth(uint32_t k)
{
    return (k + RR_I8_DEPTH - 1) / RR_I8_DEPTH * RR_I8_DEPTH;
}

/* Row stride in bytes for rows of k values: never a multiple of 4096, or rows would evict each
 * other from the L1 cache. */
static inline size_t rr_i8_stride(uint32_t k)
{
    return (size_t)rr_i8_depth(k) + RR_I8_DEPTH;
}

/* fine: two bytes for each value, the digits of 0 <= q[j] < RR_I8_BASE^2 to that base, the upper
 * one in row 2 i of the m at q, the lower in row 2 i + 1.  A layer whose scores 8 bits of inputs
 * would move is multiplied so: its weights stay as they are, and each kernel sees twice the rows.
 * Instead of a row's sum there is upper sum * RR_I8_BASE + lower sum, each exact and made f32
 * first, with one rounding. */
#define RR_I8_BASE 255 /* i8_top + 1 of every level */

struct rr_rows_i8 {
    int8_t *q;     /* [m or, fine, 2 m, ld], 64-byte aligned; ld is a multiple of 64, at least
                    * rr_i8_depth(k) */
    float *scale;  /* [m] */
    float *offset; /* [m] */
    size_t ld;
    bool fine;
};

/* Bytes' rows of m rows of values. */
static inline uint32_t rr_i8_rows(const struct rr_rows_i8 *x, uint32_t m)
{
    return x->fine ? 2 * m : m;
}

/* Quantizes m rows of k values of dtype, RR_F32 or RR_F16; with smooth (not NULL), x[i, j] *
 * smooth[j] instead.  Bytes from k to rr_i8_depth(k) are written as 0.  A row with NaN or infinity
 * gets offset NaN. */
typedef void rr_quantize_i8_fn(const struct rr_rows_i8 *out, const void *x, enum rr_dtype dtype,
                               size_t ldx, const float *smooth, uint32_t m, uint32_t k);

/* layernorm_f32 and quantize_i8 of its result, row by row. */
struct rr_layernorm_i8 {
    float *y;       /* [m, n], the result itself; may be x */
    const float *x; /* [m, n] */
    size_t ldy, ldx;
    const float *gamma, *beta;
    const float *smooth; /* [n] or NULL */
    struct rr_rows_i8 out;
    uint32_t m, n;
    float eps;
};
typedef void rr_layernorm_i8_fn(const struct rr_layernorm_i8 *a);

/* As linear_f32, of rows and panels as above.  GELU may be off by 1.2e-4: its results are rounded
 * to 8 bits before they are used again. */
struct rr_linear_i8 {
    float *y;              /* [m, n]; not used if half.y is not NULL */
    struct rr_half half;
    struct rr_rows_i8 x;   /* [m, k] */
    const int8_t *panels;  /* 64-byte aligned */
    const float *w_scale;  /* [n] */
    const float *w_sum;    /* [n] sum_j p[o, j]: whole numbers */
    const float *bias;     /* [n] */
    const float *residual; /* [m, n] or NULL; may be y */
    size_t ldy, ldr;
    uint32_t m, n, k;
    uint32_t n_begin, n_end;
    enum rr_act act;
};
typedef void rr_linear_i8_fn(const struct rr_linear_i8 *a);

/* ---- bf16 ------------------------------------------------------------------------------------
 * Weights: panels of packed_nr columns, pairs along k, [panels][ceil(k / 2)][nr][2], as many as
 * make n a multiple of bf16_nr, zero-filled.  Activations: of type bf16_x, which a level chooses:
 * f32 where the weights are widened and the arithmetic is f32, bf16 where an instruction multiplies
 * bf16.  Sums are f32. */

/* y[i, j] = bf16(x[i, j]) to nearest even, NaN stays NaN; columns k .. up to the next even are
 * 0. */
typedef void rr_round_bf16_fn(uint16_t *y, size_t ldy, const float *x, size_t ldx, uint32_t m,
                              uint32_t k);

struct rr_linear_bf16 {
    float *y;               /* [m, n]; not used if half.y is not NULL */
    struct rr_half half;
    const void *x;          /* [m, k] of x_dtype; for bf16 an even ldx, 0 in column k if k is odd */
    enum rr_dtype x_dtype;  /* the level's bf16_x; "ref" takes both */
    const uint16_t *panels; /* 64-byte aligned */
    const float *bias;      /* [n] */
    const float *residual;  /* [m, n] or NULL; may be y */
    size_t ldy, ldx, ldr;   /* in elements */
    uint32_t m, n, k;
    uint32_t n_begin, n_end;
    enum rr_act act;
};
typedef void rr_linear_bf16_fn(const struct rr_linear_bf16 *a);

/* attention_f32 (rr_attention_f32_fn) of q, k, v and e^(score - max) rounded to bf16; scores, their
 * softmax with its sum, and y are f32. */

/* ---- linear, i16 -------------------------------------------------------------------------------
 * For layers in bf16 where no instruction multiplies bf16: twice as fast as f32, and as near to it
 * as inputs rounded to bf16, unless a row has outliers.  Activations: one scale per row,
 *     x[j] = scale * q[j], |q[j]| <= top, as rint(x * (top / max |x|))
 * Weights: one scale per output channel, w[o, j] = w_scale[o] * p[o, j], packed as those in bf16.
 * A channel's root mean square is RR_I16_STEPS steps, which is as fine as bf16; the more are left
 * for inputs, of which a few may be much larger than the others: top times the sum of a channel's
 * |p| is below 2^31, so every sum is exact.  Then
 *     y = act(fma(sum, scale * w_scale, bias)) + residual
 * of which all but the activation gives the same bits on all levels. */
#define RR_I16_ROW 4095       /* top at least */
#define RR_I16_STEPS 256
#define RR_I16_CHANNEL 524288 /* at most, what the |p| of a channel add up to; 4095 times it is
                               * below 2^31 */

struct rr_rows_i16 {
    uint16_t *q;  /* [m, ld] whole numbers, 64-byte aligned; ld a multiple of 32, at least k */
    float *scale; /* [m] */
    size_t ld;
};

/* Quantizes m rows of k values; those from k to the next multiple of 32 may be written as 0.  A row
 * with NaN or infinity gets scale NaN. */
typedef void rr_quantize_i16_fn(const struct rr_rows_i16 *out, const float *x, size_t ldx,
                                float top, uint32_t m, uint32_t k);

struct rr_linear_i16 {
    float *y; /* [m, n] */
    struct rr_rows_i16 x;
    const uint16_t *panels; /* as those of bf16 */
    const float *w_scale;   /* [n] */
    const float *bias;      /* [n] */
    const float *residual;  /* [m, n] or NULL; may be y */
    size_t ldy, ldr;
    uint32_t m, n, k;
    uint32_t n_begin, n_end;
    enum rr_act act;
};
typedef void rr_linear_i16_fn(const struct rr_linear_i16 *a);

/* ---- attention, i16 ----------------------------------------------------------------------------
 * attention_f32 of whole numbers of 16 bits, whose products are summed up exactly in 32:
 *     q[i] in rr_i16_top steps to max |q[i]|, k in as many to the largest |k| of all keys,
 *     v in RR_I16_VALUES to the largest |v|, e^(score - max) in rr_i16_unit
 * each x as rint(x * (steps / max)); scores, their softmax with its sum, and y are f32.  A row with
 * NaN or infinity, or keys or values with one, give NaN.  Of more than RR_I16_KEYS keys it is
 * attention_f32: too many of small weight would be rounded to 0. */
#define RR_I16_KEYS 1024
#define RR_I16_VALUES 8191

/* The most that head_dim products of two may have, to be added up in 31 bits. */
static inline float rr_i16_top(uint32_t head_dim)
{
    double top = floor(sqrt((double)INT32_MAX / head_dim));

    return top < INT16_MAX ? (float)top : INT16_MAX;
}

/* Steps of the largest of n weights, 1, when they add up to sum: together at most 2^18, whatever
 * each is rounded to. */
static inline float rr_i16_unit(float sum, uint32_t n)
{
    float unit = (float)((INT32_MAX >> 13) - n) / sum;

    return unit < INT16_MAX ? unit : INT16_MAX;
}

/* ---- the table ----------------------------------------------------------------------------- */

struct rr_kern {
    const char *name; /* see kern.c */
    uint32_t needs;   /* rr_cpu_flag bits */

    uint32_t f32_nr; /* columns per panel */
    rr_pack_f32_fn *pack_f32;
    rr_linear_f32_fn *linear_f32;
    rr_attention_f32_fn *attention_f32;
    rr_layernorm_f32_fn *layernorm_f32;
    rr_rmsnorm_f32_fn *rmsnorm_f32;
    rr_glu_f32_fn *glu_f32;
    rr_rotary_f32_fn *rotary_f32;
    rr_convert_fn *convert;
    rr_add_convert_fn *add_convert;

    uint32_t packed_nr; /* columns per panel of int8, bf16 or i16; whole panels are as many as
                         * i8_nr or bf16_nr, columns that are multiplied at once */

    uint32_t i8_nr;   /* a multiple of packed_nr */
    uint32_t i8_top;  /* largest q */
    uint32_t i8_wtop; /* what sets of four weights may add up to; RR_I8_WFREE: anything */
    int32_t i8_zero;  /* what is taken off q to make a byte */
    rr_quantize_i8_fn *quantize_i8;
    rr_layernorm_i8_fn *layernorm_i8;
    rr_linear_i8_fn *linear_i8;

    uint32_t bf16_nr;     /* as i8_nr */
    enum rr_dtype bf16_x; /* RR_F32 or RR_BF16 */
    rr_round_bf16_fn *round_bf16;
    rr_linear_bf16_fn *linear_bf16; /* NULL where linear_i16 does it */
    rr_attention_f32_fn *attention_bf16; /* NULL where no instruction multiplies bf16 */

    rr_attention_f32_fn *attention_i16; /* NULL where another one is as fast */
    rr_quantize_i16_fn *quantize_i16;   /* NULL as linear_i16 */
    rr_linear_i16_fn *linear_i16;       /* NULL where linear_bf16 does it */

    /* The level with linear_i16, attention_i16 and their panels for processors of this one: itself,
     * or one below, whose whole numbers are nearer to f32 than this one's bf16, and slower.  NULL:
     * none. */
    const struct rr_kern *i16;
};

/* Levels that are compiled in, worst first; the first is always "ref". */
const struct rr_kern *const *rr_kern_levels(uint32_t *n);

/* The best level for flags, or the one called name if it is compiled in and flags allow it (NULL
 * otherwise).  name NULL or "auto": the best. */
const struct rr_kern *rr_kern_pick(uint32_t flags, const char *name);

#endif
