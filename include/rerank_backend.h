/* SPDX-License-Identifier: Apache-2.0 */
/* rerank_backend.h - what a compute backend is: the CPU backend is built in, others are plugins.
 *
 * A model reaches a backend as a *program*: a short list of coarse, fused operations on virtual
 * registers, together with views of the weights in the model files.  load() sees the whole program
 * at once, packs the weights as it likes, plans its memory and reserves it; run() executes the
 * program on one packed batch.  So every architecture is written once (src/model/arch_*.c), every
 * backend is written once, and a backend is free to fuse neighbours, to cut the batch among threads
 * or to record a graph.
 *
 * Rules:  a backend never calls back; it allocates in open and load only; one thread at a time uses
 * a device and what is loaded on it; rows of different sequences never influence each other, and
 * the bits of a sequence's result do not depend on its neighbours in the batch.
 *
 * The registers hold f32 values by contract.  A backend may store them in a narrower type where the
 * precision it was opened with says so. */
#ifndef RERANK_BACKEND_H
#define RERANK_BACKEND_H

#include <stdbool.h>

#include "rerank_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RR_BACKEND_ABI 7 /* raised by every change of this file */

#define RR_NONE UINT32_MAX /* "no register", "no tensor" */

enum rr_dtype { RR_F32, RR_F16, RR_BF16, RR_I8 };

/* A view of one tensor of a model, row-major, native little-endian, aligned to its type.  The data
 * stay valid until unload() returns. */
struct rr_tensor {
    const char *name; /* for messages */
    enum rr_dtype dtype;
    uint32_t rank;
    uint32_t shape[4];
    const void *data;
    /* RR_I8, weights of LINEAR only: w[o, i] = data[o, i] * scale[o] * smooth[i].  The factors
     * smooth belong to the inputs: an integer product takes (src[i] * smooth[i]) and data. */
    const float *scale;  /* [shape[0]] */
    const float *smooth; /* [shape[1]], or NULL: 1; the same values in all parts of a LINEAR */
    bool fine;    /* inputs rounded to 8 bits would move scores too much: take them in 16; the same
                   * in all parts of a LINEAR */
    bool derived; /* made at open from other tensors, or a part of one: in no file by this name */
    bool in_file; /* data are in the map of a file: the backend may have their pages dropped once it
                   * has its own copy, which would empty any other memory */
};

/* ---- program ------------------------------------------------------------------------------ */

enum rr_rows {
    RR_ROWS_TOKENS,   /* one row for each token of the batch */
    RR_ROWS_SEQUENCES /* one row for each sequence */
};

struct rr_register {
    uint32_t width; /* f32 values per row */
    enum rr_rows rows;
};

enum rr_act {
    RR_ACT_NONE,
    RR_ACT_GELU, /* erf form */
    RR_ACT_RELU,
    RR_ACT_TANH,
    RR_ACT_SILU,     /* GLU only */
    RR_ACT_GELU_TANH /* GLU only: the approximation by tanh */
};

enum rr_op_kind {
    RR_OP_EMBED,     /* token rows from embedding tables */
    RR_OP_FIRST,     /* the first token's row of every sequence */
    RR_OP_LAST,      /* the last token's row of every sequence */
    RR_OP_MEAN,      /* the mean of the token rows of every sequence */
    RR_OP_LINEAR,    /* y = act(x W^T + b) + residual */
    RR_OP_NORM,      /* y = LayerNorm(x) or RMSNorm(x) */
    RR_OP_GLU,       /* y = act(one half of x) * the other half */
    RR_OP_ROTARY,    /* turns pairs of columns by an angle that grows with the position */
    RR_OP_ATTENTION  /* softmax(q k^T * scale) v inside each sequence */
};

/* dst[t] = scale * word[ids[t]] + position[positions[t]] + type[types[t]].  Tables: [n, width of
 * dst]. */
struct rr_op_embed {
    uint32_t word;
    uint32_t position; /* RR_NONE: no positions here */
    uint32_t type;     /* RR_NONE: no token types */
    float scale;       /* 0 means 1 */
};

/* dst[r, o] = act(sum_i src[r, i] * W[o, i] + b[o]) + residual[r, o].
 * W is n_parts tensors [out_p, in] stacked along the outputs (Q, K and V become one matrix). */
struct rr_op_linear {
    uint32_t n_parts;   /* 1 to 3 */
    uint32_t weight[3]; /* [out_p, in] */
    uint32_t bias[3];   /* [out_p], or RR_NONE */
    uint32_t residual;  /* register of dst's shape, or RR_NONE; may be dst itself */
    enum rr_act act;
};

/* dst[r] = (src[r] - mean) / sqrt(var + eps) * gamma + beta over the row; var is the biased one.
 * rms: dst[r] = src[r] / sqrt(mean of squares + eps) * gamma (Zhang and Sennrich, 2019).  dst may
 * be src. */
struct rr_op_norm {
    uint32_t gamma; /* [width] */
    uint32_t beta;  /* [width], or RR_NONE; rms has none */
    float eps;
    bool rms;
};

/* dst[r, j] = act(src[r, a + j]) * src[r, b + j]; src is twice as wide as dst; a is 0 and b the
 * width of dst, or the other way round with act_second. */
struct rr_op_glu {
    enum rr_act act;
    bool act_second;
};

/* Rotary position embedding (Su et al., 2021), in place: dst is src.  In each of heads groups of
 * head_dim columns from col on: first, if gamma is there, an RMSNorm over the group; then columns j
 * and j + n of it, j < n, are turned by the angle positions[row] * frequencies[j].  Positions are
 * below rr_limits.max_length. */
struct rr_op_rotary {
    uint32_t col, heads, head_dim;
    uint32_t frequencies; /* f32 [n], 2 n <= head_dim: radians for each position */
    uint32_t gamma;       /* [head_dim], or RR_NONE */
    float eps;
    bool last; /* rows of sequences stand for the last token, not the first */
};

/* Disentangled attention (He et al., 2021): scores get content-to-position and position-to-content
 * terms.  With R = LayerNorm(table), K = R Wk^T + bk and Q = R Wq^T + bq, [2 span, heads *
 * head_dim]:
 *     score(i, j) = scale * (q_i . k_j + q_i . K[span + d(i - j)] + k_j . Q[span + d(i - j)])
 * where d is the distance in logarithmic buckets: for |x| > buckets / 2 = m, sign(x) *
 * (m + ceil(log(|x| / m) / log((max_distance - 1) / m) * (m - 1))), else x itself; then limited to
 * [-span, span - 1].  buckets 0: no buckets. */
struct rr_relative {
    bool on;
    bool content_position, position_content; /* which of the two terms */
    uint32_t table;                          /* [2 span, columns of Wk] */
    uint32_t gamma, beta;                    /* of the LayerNorm; RR_NONE: none */
    float eps;
    uint32_t key_weight, key_bias, query_weight, query_bias; /* biases may be RR_NONE */
    uint32_t span, buckets, max_distance;
};

/* Multi-head attention inside each sequence.  Query head h reads columns q_col + h * head_dim of
 * register src; its keys and values are the columns k_col + g * head_dim and v_col + g * head_dim
 * of register kv, g = h * kv_heads / heads, all rows of the sequence that it may see.  If src has
 * one row per sequence, that row is its first token's, or its last one's (last layer for one token
 * only).  dst: [rows of src, heads * head_dim]. */
struct rr_op_attention {
    uint32_t kv; /* register */
    uint32_t q_col, k_col, v_col;
    uint32_t heads, head_dim;
    uint32_t kv_heads; /* divides heads; 0: as many */
    float scale;
    bool causal;     /* row i sees rows up to i */
    uint32_t window; /* row i sees rows at most so far away; 0: all */
    bool last;       /* rows of sequences stand for the last token, not the first */
    struct rr_relative relative;
};

struct rr_op {
    enum rr_op_kind kind;
    uint32_t dst, src; /* registers; EMBED has no src (RR_NONE) */
    union {
        struct rr_op_embed embed;
        struct rr_op_linear linear;
        struct rr_op_norm norm;
        struct rr_op_glu glu;
        struct rr_op_rotary rotary;
        struct rr_op_attention attention;
    } u;
};

struct rr_program {
    const struct rr_tensor *tensors;
    uint32_t n_tensors;
    const struct rr_register *registers;
    uint32_t n_registers;
    const struct rr_op *ops;
    uint32_t n_ops;
    uint32_t output; /* register, one row per sequence, width 1: the logits */
    bool mixed; /* on an int8 device, the weights' types choose the arithmetic of each LINEAR: I8
                 * in int8, BF16 in bf16, others in f32.  false: all as the device was opened */
    uint64_t fingerprint; /* of the weights' content; 0: unknown, nothing of it may be kept */
};

/* ---- batch -------------------------------------------------------------------------------- */

/* Sequences back to back without padding.  All values were checked by the model layer. */
struct rr_batch {
    uint32_t n_tokens, n_sequences;
    const int32_t *ids;         /* [n_tokens] */
    const int32_t *positions;   /* [n_tokens] rows of the position table */
    const int32_t *types;       /* [n_tokens] */
    const uint32_t *cu_seqlens; /* [n_sequences + 1], cu_seqlens[0] == 0 */
};

struct rr_limits {          /* the largest batch that run() will see */
    uint32_t max_tokens;    /* in a batch */
    uint32_t max_sequences; /* in a batch */
    uint32_t max_length;    /* tokens in one sequence */
};

/* ---- backend ------------------------------------------------------------------------------ */

struct rr_device; /* opaque: one opened device */
struct rr_loaded; /* opaque: one program with its weights on a device */

struct rr_device_options {
    uint32_t index;    /* which device of the backend */
    uint32_t threads;  /* CPU: compute threads including the caller's; 0: automatic */
    const char *isa;   /* CPU: level to force; NULL: the best */
    const char *dtype; /* "auto", "f32", ... */
    /* Accelerators: a run() that takes longer, and much longer than usual, is given up as
     * RR_EDEVICE, so that another device can take over; 0: never. */
    uint64_t hang_ns;
    /* CPU: folders with files of packed weights, NULL: none.  One that fits is mapped instead of
     * packing again, from the first or the second; the second gets a file that it lacks. */
    const char *packed_dirs[2];
};

struct rr_device_info {
    char name[128]; /* product name */
    char isa[32];
    char dtype[16];
    uint32_t threads;
    uint32_t batch_tokens; /* the batch size that serves this device best */
    uint64_t memory_total;
};

struct rr_memory {      /* bytes */
    uint64_t weights;   /* packed or copied for the device */
    uint64_t mapped;    /* used in place from the model files */
    uint64_t workspace; /* reserved for limits */
    uint64_t available; /* for both on the device, now; 0: not known */
};

/* The inputs of LINEAR number op of the program: x is [rows, width of its src]. */
typedef void rr_observe_fn(void *user, uint32_t op, const float *x, size_t ldx, uint32_t rows);

enum rr_throttle { /* why a device's clocks are lower than they could be */
    RR_THROTTLE_POWER = 1,
    RR_THROTTLE_THERMAL = 2,
    RR_THROTTLE_HARDWARE = 4, /* the board says so: power supply, heat or a fault */
    RR_THROTTLE_SETTING = 8   /* somebody limited them */
};

struct rr_device_stats {   /* of the whole device, whoever uses it */
    uint64_t memory_used;  /* bytes; 0: not known */
    uint64_t memory_total; /* bytes; 0: not known */
    float utilization;     /* 0 to 1 of the time of late; below 0: not known */
    float celsius;         /* below 0: not known */
    float watts;           /* below 0: not known */
    uint32_t throttled;    /* bits of enum rr_throttle, now; 0: none, or not known */
    uint64_t repeated;     /* pairs that this opened device computed again in f32, because their
                            * logits were not finite */
};

struct rr_backend {
    uint32_t abi; /* RR_BACKEND_ABI */
    const char *name;

    /* How many devices can be used now; 0 with *why (static or thread-local text) saying why. */
    uint32_t (*device_count)(const char **why);

    int (*open)(struct rr_device **out, const struct rr_device_options *opt, struct rr_error *err);
    void (*close)(struct rr_device *device); /* NULL is allowed; unload everything first */
    void (*describe)(const struct rr_device *device, struct rr_device_info *out);

    /* What load would need.  Checks the program too: ranks, shapes, register indices. */
    int (*plan)(const struct rr_device *device, const struct rr_program *program,
                const struct rr_limits *limits, struct rr_memory *out, struct rr_error *err);
    /* The program's arrays need not outlive the call; the tensors' data must. */
    int (*load)(struct rr_device *device, const struct rr_program *program,
                const struct rr_limits *limits, struct rr_loaded **out, struct rr_error *err);
    void (*unload)(struct rr_loaded *loaded); /* NULL is allowed */

    /* logits[s] for each sequence of batch, which must be within the limits given to load. */
    int (*run)(struct rr_loaded *loaded, const struct rr_batch *batch, float *logits,
               struct rr_error *err);

    /* Optional (may be NULL), for calibration: from now on fn sees the inputs of every LINEAR, each
     * row once, from any of the device's threads and several at a time.  fn NULL: no more.  (The
     * one exception to "never calls back".) */
    void (*observe)(struct rr_loaded *loaded, rr_observe_fn *fn, void *user);

    /* What the device is doing; the one function for any thread at any time while the device is
     * open.  NULL: this backend has nothing to tell. */
    int (*stats)(const struct rr_device *device, struct rr_device_stats *out);
};

/* The one symbol that a plugin exports. */
typedef const struct rr_backend *rr_backend_entry_fn(void);
#define RR_BACKEND_ENTRY "rr_backend_entry"

#ifdef __cplusplus
}
#endif
#endif
