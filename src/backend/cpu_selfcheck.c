/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_selfcheck.c - checks, in a few milliseconds at start, that every kernel of a level computes
 * what the reference computes: a wrong bit here would be wrong scores everywhere.
 * Layer: backend (L3).  Threads: any. */
#include <math.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/err.h"
#include "cpu/weights.h"

/* Odd sizes, so that tails of rows, columns and panels are part of the check. */
enum { M = 13, N = 75, K = 67, KV = 37, DIM = 64, HEADS = 2 };
enum {
    COLUMNS = 128, /* N in panels of at most 64 */
    DEPTH = 128,   /* rr_i8_depth(K) */
    ROWS = 2 * M * (DEPTH + RR_I8_DEPTH), /* two a value's row: fine */
    PAIRS = 34 /* of K in bf16 */
};

#define TOLERANCE 1e-4f /* of values near 1: far above rounding, far below a wrong lane */
#define GELU_TOLERANCE 2e-4f /* int8: its GELU is that of 8-bit results, kern.h */
#define TIE_TOLERANCE 5e-4f /* where one of KV weights near a tie may be rounded the other way */

struct data { /* what both levels compute from */
    float x[M * K], w[N * K], bias[N], residual[M * N], gamma[K], beta[K];
    float qkv[KV * 3 * HEADS * DIM];
    uint16_t half[K];
};

struct results {
    float linear[4][M * N]; /* of each activation */
    float attention[KV * HEADS * DIM], attention_bf16[KV * HEADS * DIM];
    float attention_i16[KV * HEADS * DIM];
    float norm[M * K], rms[M * K];
    float rows[2][K];
    float glu[4][M * K]; /* of each activation that gates */
    float rotary[HEADS * DIM];
    float int8[4][M * N], fine[4][M * N];
    uint16_t half[M * N];     /* of int8[RR_ACT_NONE] */
    bool int8_norm, int8_f16; /* is the level's own norm, and the rows of half, quantized */
    bool attention_kept;      /* of rows in bf16, it has the same bits */
    bool attention_unlike;    /* in 16 bits, it is not what it is in f32, rounded */
    float bf16[4][M * N];
    float i16[4][M * N]; /* of layers; zeros without linear_i16 */
};

struct room { /* what the kernels work in; zero at first */
    float panels[COLUMNS * K] RR_ALIGNED(64);
    int8_t i8_panels[COLUMNS * DEPTH] RR_ALIGNED(64);
    int8_t i8_rows[2][ROWS] RR_ALIGNED(64);
    uint16_t bf16_panels[COLUMNS * 2 * PAIRS] RR_ALIGNED(64);
    uint16_t bf16_rows[M * 2 * PAIRS];
    uint16_t i16_rows[M * DEPTH] RR_ALIGNED(64);
    int16_t p[K];
    uint16_t qkv[KV * 3 * HEADS * DIM]; /* in bf16 */
    float bias[COLUMNS], w_scale[COLUMNS], w_sum[COLUMNS];
    float scale[2][M], offset[2][M], norm[M * K];
    int8_t q[K];
    float scratch[] RR_ALIGNED(64); /* of attention */
};

/* splitmix64 (Steele, Lea, Flood 2014), to [-1, 1): the same numbers on every machine. */
static float random_float(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (float)((double)(z >> 11) * 0x1p-52 - 1.0);
}

static void fill(float *v, size_t n, float size, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) v[i] = size * random_float(state);
}

static void make_data(struct data *d)
{
    uint64_t state = 1;

    fill(d->x, RR_COUNT(d->x), 1.0f, &state);
    fill(d->w, RR_COUNT(d->w), 0.3f, &state);
    fill(d->bias, RR_COUNT(d->bias), 1.0f, &state);
    fill(d->residual, RR_COUNT(d->residual), 1.0f, &state);
    fill(d->gamma, RR_COUNT(d->gamma), 1.0f, &state);
    fill(d->beta, RR_COUNT(d->beta), 1.0f, &state);
    fill(d->qkv, RR_COUNT(d->qkv), 1.0f, &state);
    /* Halves of size 2^-7 to 2, of both signs: 1 sign, 5 exponent, 10 fraction bits. */
    for (uint32_t i = 0; i < K; i++) d->half[i] = (uint16_t)(i << 15 | (8 + i % 8) << 10 | i * 15);
}

static void compute_linear(const struct rr_kern *kern, const struct data *d, struct room *room,
                           struct results *r)
{
    kern->pack_f32(room->panels, d->w, RR_F32, 0, N, K);
    for (int act = RR_ACT_NONE; act <= RR_ACT_TANH; act++) {
        struct rr_linear_f32 a = { .y = r->linear[act], .x = d->x, .panels = room->panels,
                                   .bias = room->bias, .residual = act % 2 ? d->residual : NULL,
                                   .ldy = N, .ldx = K, .ldr = N, .m = M, .n = N, .k = K,
                                   .n_end = N, .act = (enum rr_act)act };

        kern->linear_f32(&a);
    }
}

static void compute_attention(rr_attention_f32_fn *attend, const struct data *d, struct room *room,
                              float *y, struct results *r)
{
    uint16_t half[DIM];

    for (uint32_t h = 0; h < HEADS; h++) {
        struct rr_attention_f32 a = { .y = y + h * DIM, .q = d->qkv + h * DIM,
                                      .k = d->qkv + (HEADS + h) * DIM,
                                      .v = d->qkv + (2 * HEADS + h) * DIM, .ldy = HEADS * DIM,
                                      .ldq = 3 * HEADS * DIM, .ldk = 3 * HEADS * DIM,
                                      .ldv = 3 * HEADS * DIM, .n_q = KV, .n_kv = KV,
                                      .head_dim = DIM, .scale = 0.5f, .scratch = room->scratch };

        attend(&a);
        a.half = (struct rr_half){ half, RR_BF16 };
        a.n_q = 1;
        attend(&a);
        for (uint32_t i = 0; i < DIM; i++)
            if (half[i] != rr_weights_round_bf16(a.y[i])) r->attention_unlike = true;
    }
}

static void compute_rows(const struct rr_kern *kern, const struct data *d, struct results *r)
{
    static const enum rr_act gates[] = { RR_ACT_GELU, RR_ACT_GELU_TANH, RR_ACT_SILU, RR_ACT_RELU };

    kern->layernorm_f32(r->norm, K, d->x, K, d->gamma, d->beta, M, K, 1e-5f);
    kern->rmsnorm_f32(r->rms, K, d->x, K, d->gamma, M, K, 1e-5f);
    for (size_t i = 0; i < RR_COUNT(gates); i++)
        kern->glu_f32(r->glu[i], K, d->x, d->w, K, M, K, gates[i]);
    memcpy(r->rotary, d->qkv, sizeof(r->rotary));
    kern->rotary_f32(r->rotary, HEADS, DIM, d->gamma, d->beta, DIM / 2 - 1);
    kern->convert(r->rows[0], d->half, RR_F16, K);
    kern->convert(r->rows[1], d->half, RR_BF16, K);
    kern->add_convert(r->rows[0], d->half, RR_BF16, K);
    kern->add_convert(r->rows[1], d->x, RR_F32, K);
}

static struct rr_rows_i8 rows_of(struct room *room, int i)
{
    return (struct rr_rows_i8){ room->i8_rows[i], room->scale[i], room->offset[i],
                                DEPTH + RR_I8_DEPTH, false };
}

/* Of rows of 8 bits. */
static bool rows_equal(const struct room *room)
{
    return memcmp(room->i8_rows[0], room->i8_rows[1], ROWS / 2) == 0 &&
           memcmp(room->scale[0], room->scale[1], sizeof(room->scale[0])) == 0 &&
           memcmp(room->offset[0], room->offset[1], sizeof(room->offset[0])) == 0;
}

/* Weights as `like` needs them, so that both levels multiply the same. */
static void compute_int8(const struct rr_kern *kern, const struct rr_kern *like,
                         const struct data *d, struct room *room, struct results *r)
{
    struct rr_rows_i8 rows = rows_of(room, 0), fine = rows_of(room, 1);
    struct rr_linear_i8 a = { .panels = room->i8_panels, .w_scale = room->w_scale,
                              .w_sum = room->w_sum, .bias = room->bias, .ldy = N, .ldr = N, .m = M,
                              .n = N, .k = K, .n_end = N };

    for (uint32_t o = 0; o < N; o++) {
        room->w_scale[o] = rr_weights_quantize_row(room->q, d->w + o * K, K, like->i8_wtop);
        rr_weights_pack_i8(room->i8_panels, kern->packed_nr, room->w_sum, room->q, o, 1, K);
    }
    fine.fine = true;
    kern->quantize_i8(&rows, d->x, RR_F32, K, NULL, M, K);
    kern->quantize_i8(&fine, d->x, RR_F32, K, NULL, M, K);
    for (int act = RR_ACT_NONE; act <= RR_ACT_TANH; act++) {
        a.residual = act % 2 ? d->residual : NULL;
        a.act = (enum rr_act)act;
        a.x = rows;
        a.y = r->int8[act];
        kern->linear_i8(&a);
        a.x = fine;
        a.y = r->fine[act];
        kern->linear_i8(&a);
    }
    a.x = rows;
    a.half = (struct rr_half){ r->half, RR_F16 };
    a.residual = NULL;
    a.act = RR_ACT_NONE;
    kern->linear_i8(&a);
}

/* Rows of f16 and the same rows in f32. */
static void compute_int8_f16(const struct rr_kern *kern, struct room *room, struct results *r)
{
    struct rr_rows_i8 rows[2] = { rows_of(room, 0), rows_of(room, 1) };

    kern->convert(room->norm, r->half, RR_F16, M * K);
    kern->quantize_i8(&rows[0], r->half, RR_F16, K, NULL, M, K);
    kern->quantize_i8(&rows[1], room->norm, RR_F32, K, NULL, M, K);
    r->int8_f16 = rows_equal(room);
}

static void compute_attention_kept(const struct rr_kern *kern, const struct data *d,
                                   struct room *room, struct results *r)
{
    float y[KV * DIM];
    struct rr_attention_f32 a = { .y = y, .q16 = room->qkv, .k16 = room->qkv + HEADS * DIM,
                                  .v16 = room->qkv + 2 * HEADS * DIM, .ldy = DIM,
                                  .ldq = 3 * HEADS * DIM, .ldk = 3 * HEADS * DIM,
                                  .ldv = 3 * HEADS * DIM, .n_q = KV, .n_kv = KV, .head_dim = DIM,
                                  .scale = 0.5f, .scratch = room->scratch };

    kern->round_bf16(room->qkv, 3 * HEADS * DIM, d->qkv, 3 * HEADS * DIM, KV, 3 * HEADS * DIM);
    kern->attention_bf16(&a);
    r->attention_kept = true;
    for (uint32_t i = 0; i < KV; i++)
        if (memcmp(y + i * DIM, r->attention_bf16 + i * HEADS * DIM, DIM * sizeof(float)) != 0)
            r->attention_kept = false;
}

/* Against the level's own norm: from another's, some values would be rounded to the next level. */
static void compute_int8_norm(const struct rr_kern *kern, const struct data *d, struct room *room,
                              struct results *r)
{
    struct rr_rows_i8 rows[2] = { rows_of(room, 0), rows_of(room, 1) };
    struct rr_layernorm_i8 a = { .y = room->norm, .x = d->x, .ldy = K, .ldx = K,
                                 .gamma = d->gamma, .beta = d->beta, .m = M, .n = K,
                                 .eps = 1e-5f };

    a.out = rows[0];
    kern->layernorm_i8(&a);
    kern->quantize_i8(&rows[1], r->norm, RR_F32, K, NULL, M, K);
    r->int8_norm = memcmp(room->norm, r->norm, sizeof(r->norm)) == 0 && rows_equal(room);
}

static void compute_bf16(const struct rr_kern *kern, const struct rr_kern *like,
                         const struct data *d, struct room *room, struct results *r)
{
    bool narrow = like->bf16_x == RR_BF16;
    struct rr_linear_bf16 a = { .x = d->x, .x_dtype = like->bf16_x, .panels = room->bf16_panels,
                                .bias = room->bias, .ldy = N, .ldx = K, .ldr = N, .m = M, .n = N,
                                .k = K, .n_end = N };

    rr_weights_pack_bf16(room->bf16_panels, kern->packed_nr, d->w, 0, N, K);
    if (narrow) {
        kern->round_bf16(room->bf16_rows, (size_t)2 * PAIRS, d->x, K, M, K);
        a.x = room->bf16_rows;
        a.ldx = (size_t)2 * PAIRS;
    }
    for (int act = RR_ACT_NONE; act <= RR_ACT_TANH; act++) {
        a.y = r->bf16[act];
        a.residual = act % 2 ? d->residual : NULL;
        a.act = (enum rr_act)act;
        kern->linear_bf16(&a);
    }
}

static void compute_i16(const struct rr_kern *kern, const struct data *d, struct room *room,
                        struct results *r)
{
    struct rr_linear_i16 a = { .x = { room->i16_rows, room->scale[0], DEPTH },
                               .panels = room->bf16_panels, .w_scale = room->w_scale,
                               .bias = room->bias, .ldy = N, .ldr = N, .m = M, .n = N, .k = K,
                               .n_end = N };

    for (uint32_t o = 0; o < N; o++) {
        room->w_scale[o] = rr_weights_quantize_i16(room->p, &room->w_sum[o], d->w + o * K, K);
        rr_weights_pack_i16(room->bf16_panels, kern->packed_nr, room->p, o, 1, K);
    }
    kern->quantize_i16(&a.x, d->x, K, RR_I16_ROW, M, K);
    for (int act = RR_ACT_NONE; act <= RR_ACT_TANH; act++) {
        a.y = r->i16[act];
        a.residual = act % 2 ? d->residual : NULL;
        a.act = (enum rr_act)act;
        kern->linear_i16(&a);
    }
}

/* Everything that kern has, of weights and inputs in the form that `like` takes. */
static bool compute(const struct rr_kern *kern, const struct rr_kern *like, const struct data *d,
                    struct results *r)
{
    size_t bytes = sizeof(struct room) + rr_attention_f32_scratch(KV, DIM) * sizeof(float);
    struct room *room = rr_pages_alloc(RR_MEM_WORKSPACE, bytes);

    if (!room) return false;
    memcpy(room->bias, d->bias, sizeof(d->bias));
    compute_linear(kern, d, room, r);
    compute_attention(kern->attention_f32, d, room, r->attention, r);
    if (like->attention_bf16)
        compute_attention(kern->attention_bf16, d, room, r->attention_bf16, r);
    if (like->attention_i16) compute_attention(kern->attention_i16, d, room, r->attention_i16, r);
    compute_rows(kern, d, r);
    compute_int8(kern, like, d, room, r);
    compute_int8_norm(kern, d, room, r);
    compute_int8_f16(kern, room, r);
    if (like->attention_bf16) compute_attention_kept(kern, d, room, r);
    if (like->linear_bf16) compute_bf16(kern, like, d, room, r);
    if (like->linear_i16) compute_i16(kern, d, room, r);
    rr_pages_free(RR_MEM_WORKSPACE, room, bytes);
    return true;
}

static bool within(const float *a, const float *b, size_t n, float tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= tolerance * (1.0f + fabsf(b[i])))) return false; /* NaN too */
    return true;
}

static bool close_to(const float *a, const float *b, size_t n)
{
    return within(a, b, n, TOLERANCE);
}

/* NULL: agrees.  Otherwise the name of the kernel that does not. */
static const char *differing(const struct results *a, const struct results *b)
{
    if (!close_to(a->linear[0], b->linear[0], RR_COUNT(a->linear) * M * N)) return "linear";
    if (!close_to(a->attention, b->attention, RR_COUNT(a->attention))) return "attention";
    if (!within(a->attention_bf16, b->attention_bf16, RR_COUNT(a->attention_bf16), TIE_TOLERANCE))
        return "attention bf16";
    if (!within(a->attention_i16, b->attention_i16, RR_COUNT(a->attention_i16), TIE_TOLERANCE))
        return "attention i16";
    if (!close_to(a->norm, b->norm, RR_COUNT(a->norm))) return "layernorm";
    if (!close_to(a->rms, b->rms, RR_COUNT(a->rms))) return "rmsnorm";
    if (!close_to(a->glu[0], b->glu[0], RR_COUNT(a->glu) * M * K)) return "glu";
    if (!close_to(a->rotary, b->rotary, RR_COUNT(a->rotary))) return "rotary";
    if (!close_to(a->rows[0], b->rows[0], RR_COUNT(a->rows) * K)) return "convert";
    if (memcmp(a->int8[RR_ACT_NONE], b->int8[RR_ACT_NONE], sizeof(a->int8[0])) || /* exact */
        !within(a->int8[0], b->int8[0], RR_COUNT(a->int8) * M * N, GELU_TOLERANCE))
        return "linear int8";
    if (memcmp(a->fine[RR_ACT_NONE], b->fine[RR_ACT_NONE], sizeof(a->fine[0])) || /* exact */
        !within(a->fine[0], b->fine[0], RR_COUNT(a->fine) * M * N, GELU_TOLERANCE))
        return "linear int8 of 16-bit inputs";
    if (memcmp(a->half, b->half, sizeof(a->half)) != 0) return "linear int8 in f16";
    if (!a->int8_norm) return "layernorm int8";
    if (!a->int8_f16) return "quantize int8 of f16";
    if (!close_to(a->bf16[0], b->bf16[0], RR_COUNT(a->bf16) * M * N)) return "linear bf16";
    if (memcmp(a->i16[RR_ACT_NONE], b->i16[RR_ACT_NONE], sizeof(a->i16[0])) || /* exact */
        !close_to(a->i16[0], b->i16[0], RR_COUNT(a->i16) * M * N))
        return "linear i16";
    if (a->attention_kept != b->attention_kept) return "attention of bf16";
    if (a->attention_unlike) return "attention in bf16";
    return NULL;
}

int rr_cpu_self_check(const char **wrong, const struct rr_kern *level, const struct rr_kern *ref,
                      struct rr_error *err)
{
    struct data *d = rr_alloc(RR_MEM_WORKSPACE, 1, sizeof(*d));
    struct results *r = rr_calloc(RR_MEM_WORKSPACE, 2, sizeof(*r)); /* a level may lack some */
    int rc = RR_OK;

    *wrong = NULL;
    if (d && r) {
        make_data(d);
        if (compute(level, level, d, &r[0]) && compute(ref, level, d, &r[1]))
            *wrong = differing(&r[0], &r[1]);
        else
            rc = RR_ENOMEM;
    } else {
        rc = RR_ENOMEM;
    }
    if (rc) rr_fail(err, rc, "out of memory checking instruction set level %s", level->name);
    rr_free(r);
    rr_free(d);
    return rc;
}
