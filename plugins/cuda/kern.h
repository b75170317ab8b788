/* SPDX-License-Identifier: Apache-2.0 */
/* kern.h - the kernels: one struct of arguments and one launcher each.
 *
 * Grids are sized for a bucket of tokens; the true numbers are in device memory (Dims), and blocks
 * beyond them leave at once.  So one recorded graph serves every batch of its bucket.
 *
 * Every result row is a function of its own inputs, in an order of operations that depends neither
 * on the bucket nor on the tile: the bits of a score do not depend on its neighbours.
 *
 * Buffers have rows of ld elements, a multiple of 64 bytes; columns from the width to ld hold 0. */
#ifndef RR_CUDA_KERN_H
#define RR_CUDA_KERN_H

#include <cuda_runtime.h>
#include <stdint.h>

#include "rerank_backend.h"

struct Dims {
    uint32_t rows[2]; /* [enum rr_rows]: tokens, sequences */
    uint32_t tiles;   /* of attention */
    uint32_t pairs;   /* of them, the first ones: each begins one or two of its sequence */
};

/* The batch as it lies in device memory. */
struct BatchView {
    const Dims *dims;
    const uint32_t *cu_seqlens; /* [sequences + 1] */
    const uint2 *tiles;         /* [tiles] sequence, first query of the tile: even tiles, then odd */
    const int4 *tokens;         /* [tokens] id, position, type, sequence */
};

/* A value of the program: f32, 16 bits, or both where both are read. */
struct Buffer {
    float *f32;
    uint16_t *narrow;
    uint32_t ld; /* elements, of both */
    uint32_t width;
};

struct LaunchContext {
    cudaStream_t stream;
    BatchView batch;
    uint32_t rows[2];   /* upper bounds of Dims.rows for this bucket */
    uint32_t max_tiles; /* of Dims.tiles */
    bool bf16;          /* what narrow buffers hold */
    int arch;           /* 75, 80, ...: of the code */
    bool early;         /* kernels may begin before the one before them has ended (device.h) */
    int processors;     /* multiprocessors of the device */
};

struct EmbedArgs {
    BatchView batch;
    const void *word, *position, *type; /* position and type may be NULL */
    const float *word_scale;            /* [words] of a table in int8, which only this one may be */
    enum rr_dtype word_type, position_type, type_type;
    float scale;
    Buffer dst;
};
struct PoolArgs {
    BatchView batch;
    enum rr_op_kind kind; /* FIRST, LAST, MEAN */
    Buffer src, dst;
};
/* Rows of bytes for a quantized LINEAR: int8, x * smooth = offset + scale * q, or fp8 e4m3, x *
 * smooth = scale * q. */
struct Quantized {
    uint8_t *q;            /* [rows, ld]; NULL: none are wanted */
    float *scale, *offset; /* [rows]; offset of int8 only */
    const float *smooth;   /* [width] or NULL: 1 */
    uint32_t ld;           /* bytes, a multiple of 64 */
    bool f8;
};
struct NormArgs {
    const uint32_t *rows;
    const float *gamma, *beta; /* beta may be NULL */
    float eps;
    bool rms;
    Buffer src, dst; /* dst may have no form at all */
    Quantized q;     /* of dst */
};
struct GluArgs {
    const uint32_t *rows;
    enum rr_act act;
    bool act_second;
    Buffer src, dst;
};
struct RotaryArgs {
    BatchView batch;
    const float *cosines, *sines; /* [positions, n] */
    const float *gamma;           /* [head_dim] or NULL */
    float eps;
    uint32_t n, col, heads, head_dim;
    bool sequences, last;
    Buffer src, dst;
};

struct QuantizeArgs {
    const uint32_t *rows;
    Buffer src;
    Quantized dst;
};

enum GemmType { GEMM_F32, GEMM_F16, GEMM_BF16, GEMM_I8, GEMM_F8 };

struct GemmArgs {
    const uint32_t *rows;
    const void *a, *w; /* [rows, k], [n to the next 128, k], rows of 64-byte multiples */
    uint32_t ld_bytes; /* of both; of w alone where the product is in f32 */
    uint32_t ld_a;     /* elements; products in f32 only */
    uint32_t n;
    const float *bias;               /* [n to the next 128] */
    const float *a_scale, *w_scale;  /* int8 and fp8 */
    const float *a_offset, *w_sum;   /* int8 */
    const float *smooth;             /* [ld_a] factors of a for a product in f32, or NULL: 1 */
    const float *residual;           /* or NULL */
    const uint16_t *residual_narrow; /* f16, where residual is NULL; or NULL */
    uint32_t ld_residual;
    enum rr_act act;
    bool bf16; /* what dst.narrow holds */
    Buffer dst;
};

struct RelativeArgs {
    const float *keys, *queries; /* [2 span, ld], NULL: that term is off */
    const int32_t *buckets;      /* [2 max_length - 1], index of distance 0 is max_length - 1 */
    uint32_t ld, max_length;
};
struct AttentionArgs {
    BatchView batch;
    Buffer q, kv, dst;
    uint32_t q_col, k_col, v_col, heads, kv_heads, head_dim;
    uint32_t window; /* 0: all */
    float scale;
    bool causal, sequences, last;
    RelativeArgs relative;
};

#define ATTENTION_TILE 64 /* queries */

cudaError_t launch_embed(const LaunchContext &c, const EmbedArgs &a);
cudaError_t launch_pool(const LaunchContext &c, const PoolArgs &a);
cudaError_t launch_norm(const LaunchContext &c, enum rr_rows rows, const NormArgs &a);
cudaError_t launch_glu(const LaunchContext &c, enum rr_rows rows, const GluArgs &a);
cudaError_t launch_rotary(const LaunchContext &c, const RotaryArgs &a);
cudaError_t launch_quantize(const LaunchContext &c, enum rr_rows rows, const QuantizeArgs &a);
cudaError_t launch_gemm(const LaunchContext &c, enum rr_rows rows, GemmType type,
                        const GemmArgs &a);
/* In f32, of weights in any form; w_scale where they are bytes. */
cudaError_t launch_gemm_f32(const LaunchContext &c, enum rr_rows rows, GemmType stored,
                            const GemmArgs &a);
/* On tensor cores if the operands are narrow and the head fits, else by plain arithmetic. */
cudaError_t launch_attention(const LaunchContext &c, const AttentionArgs &a);

/* The architecture that this build's code for the current device was compiled for: the device's own, or
 * an older one where the driver compiled PTX. */
cudaError_t code_arch(int *arch);

/* Whether attention of this shape runs on tensor cores. */
static inline bool attention_on_tensor_cores(const AttentionArgs &a)
{
    return a.q.narrow && a.kv.narrow && a.head_dim <= 128 && a.head_dim % 4 == 0 &&
           !a.relative.buckets;
}

#endif
