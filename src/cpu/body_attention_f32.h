/* SPDX-License-Identifier: Apache-2.0 */
/* body_attention_f32.h - one head of one sequence in f32.
 * Layer: cpu (L1).  Included by one level file, after body_linear_f32.h.
 *
 * K is packed like weights (its rows are output columns), V too (its columns are); then for QUERIES
 * queries at a time: a full row of scores each, softmax, and the product with V.  A row of scores
 * is short enough for the cache at the lengths that encoders have, so no online softmax is needed,
 * and the order of every sum depends on n_kv and head_dim alone. */
#ifndef RR_CPU_BODY_ATTENTION_F32_H
#define RR_CPU_BODY_ATTENTION_F32_H

#include <float.h>

#include "cpu/body_linear_f32.h"

#if !defined(QUERIES)
#define QUERIES 12 /* at most 16: rows of scores that the scratch has room for */
#endif
_Static_assert(NR % (2 * VW) == 0, "softmax_rows takes two vectors at a time");

/* V, [n_kv, head_dim], into panels [ceil(head_dim / NR)][n_kv][NR]. */
static void pack_values(float *dst, const float *src, size_t ld, uint32_t n_kv, uint32_t head_dim)
{
    for (uint32_t d = 0; d < head_dim; d += NR)
        for (uint32_t j = 0; j < n_kv; j++, dst += NR) {
            const float *in = src + j * ld;

            for (uint32_t c = d; c < d + NR; c += VW) {
                if (c + VW <= head_dim)
                    v_store(dst + (c - d), v_load(in + c));
                else
                    v_store(dst + (c - d), c < head_dim ? v_load_n(in + c, head_dim - c)
                                                        : v_set(0.0f));
            }
        }
}

/* s[0 .. padded): products, with anything past the n_kv keys, where FLT_MAX or its negative is
 * left.  Returns the largest of scale s. */
static float largest_score(float *s, uint32_t n_kv, uint32_t padded, float scale)
{
    v factor = v_set(scale), most0 = v_set(-FLT_MAX), most1 = most0;

    for (uint32_t j = n_kv; j < padded; j++)
        s[j] = scale < 0 ? FLT_MAX : -FLT_MAX;
    for (uint32_t j = 0; j < padded; j += 2 * VW) { /* NR is a multiple of 2 VW */
        most0 = v_max(most0, v_mul(v_load(s + j), factor));
        most1 = v_max(most1, v_mul(v_load(s + j + VW), factor));
    }
    return v_max_lane(v_max(most0, most1));
}

/* s becomes 2^(scale s - most), about 0 past the keys.  Returns 1 / sum. */
static float exp_scores(float *s, uint32_t padded, float scale, float most)
{
    v factor = v_set(scale), shift = v_set(-most), sum0 = v_set(0.0f), sum1 = sum0;

    for (uint32_t j = 0; j < padded; j += 2 * VW) {
        v e0 = v_exp2_neg(v_fma(v_load(s + j), factor, shift));
        v e1 = v_exp2_neg(v_fma(v_load(s + j + VW), factor, shift));

        v_store(s + j, e0);
        v_store(s + j + VW, e1);
        sum0 = v_add(sum0, e0);
        sum1 = v_add(sum1, e1);
    }
    return 1.0f / v_sum(v_add(sum0, sum1));
}

/* e^(scale s) / sum in each row, but for the factor 1 / sum, which goes to inv[rows].  The largest
 * of all rows first: then no row waits for the end of its own search. */
static void softmax_rows(float *s, uint32_t rows, uint32_t n_kv, uint32_t padded, float scale,
                         float *inv)
{
    for (uint32_t i = 0; i < rows; i++)
        inv[i] = largest_score(s + i * padded, n_kv, padded, scale * LOG2E);
    for (uint32_t i = 0; i < rows; i++)
        inv[i] = exp_scores(s + i * padded, padded, scale * LOG2E, inv[i]);
}

/* s = scale s + bias, n of each. */
static void add_bias(float *s, float scale, const float *bias, uint32_t n)
{
    v factor = v_set(scale);
    uint32_t j = 0;

    for (; j + VW <= n; j += VW)
        v_store(s + j, v_fma(v_load(s + j), factor, v_load(bias + j)));
    if (j < n)
        v_store_n(s + j, v_fma(v_load_n(s + j, n - j), factor, v_load_n(bias + j, n - j)), n - j);
}

/* Scores of rows queries against all keys, softmax: s[rows][padded], inv[rows]. */
static void score_rows(const struct rr_attention_f32 *a, const float *keys, uint32_t row,
                       uint32_t rows, float *s, uint32_t padded, float *inv)
{
    struct tile_f32 t = { .lda = padded, .ldx = a->ldq, .b = keys, .k = a->head_dim };

    for (uint32_t o = 0; o < padded; o += NR) {
        const float *after = t.b + (size_t)NR * a->head_dim;

        t.acc = s + o;
        t.x = a->q + row * a->ldq;
        tiles_f32(&t, rows, after);
        t.b = after;
    }
    for (uint32_t i = 0; a->bias && i < rows; i++)
        add_bias(s + i * padded, a->scale, a->bias + (row + i) * a->ldb, a->n_kv);
    softmax_rows(s, rows, a->n_kv, padded, a->bias ? 1.0f : a->scale, inv);
}

/* n values, at most VW, of y from `at` on. */
RR_INLINE void store_result(const struct rr_attention_f32 *a, size_t at, v t, uint32_t n)
{
    if (a->half.y)
        store_half(a->half.y + at, t, a->half.dtype, n);
    else
        store_columns(a->y + at, t, NULL, n);
}

/* y = factor s from `at` on, n values or, if that is less, nr. */
RR_INLINE void store_scaled(const struct rr_attention_f32 *a, size_t at, const float *s,
                            float factor, uint32_t n, const uint32_t nr)
{
    for (uint32_t c = 0; c < nr && c < n; c += VW)
        store_result(a, at + c, v_mul(v_load(s + c), v_set(factor)), n - c);
}

/* y = inv s V for rows queries. */
static void mix_rows(const struct rr_attention_f32 *a, const float *values, uint32_t row,
                     uint32_t rows, const float *s, uint32_t padded, const float *inv)
{
    float acc[QUERIES * NR] RR_ALIGNED(64);
    struct tile_f32 t = { .lda = NR, .ldx = padded, .b = values, .k = a->n_kv };

    for (uint32_t d = 0; d < a->head_dim; d += NR) {
        const float *after = t.b + (size_t)NR * a->n_kv;

        t.acc = acc;
        t.x = s;
        tiles_f32(&t, rows, after);
        t.b = after;
        for (uint32_t i = 0; i < rows; i++)
            store_scaled(a, (row + i) * a->ldy + d, acc + i * NR, inv[i], a->head_dim - d, NR);
    }
}

/* Rows [row, row + rows) of the next head, which lie right behind this one's, while this one is
 * computed: see struct results. */
static void fetch_next_head(const struct rr_attention_f32 *a, uint32_t row, uint32_t rows)
{
    size_t size = a->q16 ? sizeof(*a->q16) : sizeof(*a->q), width = a->head_dim * size;
    size_t y_size = a->half.y ? sizeof(*a->half.y) : sizeof(*a->y), y_width = a->head_dim * y_size;
    const char *y = a->half.y ? (const char *)a->half.y : (const char *)a->y;
    const char *queries = a->q16 ? (const char *)a->q16 : (const char *)a->q;
    const char *keys = a->k16 ? (const char *)a->k16 : (const char *)a->k;
    const char *values = a->v16 ? (const char *)a->v16 : (const char *)a->v;

    for (uint32_t i = row; i < row + rows; i++) {
        for (size_t b = y_width; b < 2 * y_width; b += 64)
            __builtin_prefetch(y + i * a->ldy * y_size + b, 0, 2);
        for (size_t b = width; b < 2 * width; b += 64) {
            __builtin_prefetch(queries + i * a->ldq * size + b, 0, 2);
            if (i >= a->n_kv) continue;
            __builtin_prefetch(keys + i * a->ldk * size + b, 0, 2);
            __builtin_prefetch(values + i * a->ldv * size + b, 0, 2);
        }
    }
}

static void attention_f32(const struct rr_attention_f32 *a)
{
    uint32_t padded = (a->n_kv + NR - 1) / NR * NR, width = (a->head_dim + NR - 1) / NR * NR;
    float *keys = a->scratch, *values = keys + (size_t)padded * a->head_dim;
    float *s = values + (size_t)a->n_kv * width, inv[QUERIES];

    memset(keys + (size_t)(padded - NR) * a->head_dim, 0, (size_t)NR * a->head_dim * sizeof(*keys));
    pack_rows(keys, NR, a->k, a->ldk * sizeof(float), RR_F32, 0, a->n_kv, a->head_dim);
    pack_values(values, a->v, a->ldv, a->n_kv, a->head_dim);

    for (uint32_t row = 0; row < a->n_q; row += QUERIES) {
        uint32_t rows = RR_MIN(a->n_q - row, (uint32_t)QUERIES);

        score_rows(a, keys, row, rows, s, padded, inv);
        fetch_next_head(a, row, rows);
        mix_rows(a, values, row, rows, s, padded, inv);
    }
}

#endif
