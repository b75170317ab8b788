/* SPDX-License-Identifier: Apache-2.0 */
/* body_attention_f32.h - one head of one sequence in f32.
 * Layer: cpu (L1).  Included by one level file, after body_linear_f32.h.
 *
 * K is packed like weights (its rows are output columns), V too (its columns are); then for MR
 * queries at a time: a full row of scores each, softmax, and the product with V.  A row of scores
 * is short enough for the cache at the lengths that encoders have, so no online softmax is needed,
 * and the order of every sum depends on n_kv and head_dim alone. */
#ifndef RR_CPU_BODY_ATTENTION_F32_H
#define RR_CPU_BODY_ATTENTION_F32_H

#include <float.h>

#include "cpu/body_linear_f32.h"

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

/* s[0 .. padded): scores, already scaled, with -FLT_MAX past the keys; becomes e^(s - max).
 * Returns 1 / sum. */
static float softmax_row(float *s, uint32_t padded)
{
    v m = v_set(-FLT_MAX), sum = v_set(0.0f);

    for (uint32_t j = 0; j < padded; j += VW)
        m = v_max(m, v_load(s + j));
    m = v_set(v_max_lane(m));
    for (uint32_t j = 0; j < padded; j += VW) {
        v e = v_exp_neg(v_sub(v_load(s + j), m));

        v_store(s + j, e);
        sum = v_add(sum, e);
    }
    return 1.0f / v_sum(sum);
}

static void add_bias(float *s, const float *bias, uint32_t n)
{
    uint32_t j = 0;

    for (; j + VW <= n; j += VW)
        v_store(s + j, v_add(v_load(s + j), v_load(bias + j)));
    if (j < n) v_store_n(s + j, v_add(v_load_n(s + j, n - j), v_load_n(bias + j, n - j)), n - j);
}

/* Scores of rows queries against all keys, softmax: s[rows][padded], inv[rows]. */
static void score_rows(const struct rr_attention_f32 *a, const float *keys, uint32_t row,
                       uint32_t rows, float *s, uint32_t padded, float *inv)
{
    float acc[MR * NR] RR_ALIGNED(64);
    v scale = v_set(a->scale);

    for (uint32_t o = 0; o < padded; o += NR) {
        memset(acc, 0, rows * NR * sizeof(*acc));
        tiles_f32(acc, a->q + row * a->ldq, a->ldq, keys + (size_t)o * a->head_dim, a->head_dim,
                  rows);
        for (uint32_t i = 0; i < rows; i++)
            for (uint32_t c = 0; c < NR; c += VW)
                v_store(s + (size_t)i * padded + o + c, v_mul(v_load(acc + i * NR + c), scale));
    }
    for (uint32_t i = 0; i < rows; i++) {
        if (a->bias) add_bias(s + (size_t)i * padded, a->bias + (row + i) * a->ldb, a->n_kv);
        for (uint32_t j = a->n_kv; j < padded; j++)
            s[(size_t)i * padded + j] = -FLT_MAX;
        inv[i] = softmax_row(s + (size_t)i * padded, padded);
    }
}

static void attention_f32(const struct rr_attention_f32 *a)
{
    uint32_t padded = (a->n_kv + NR - 1) / NR * NR, width = (a->head_dim + NR - 1) / NR * NR;
    float *keys = a->scratch, *values = keys + (size_t)padded * a->head_dim;
    float *s = values + (size_t)a->n_kv * width;
    float acc[MR * NR] RR_ALIGNED(64), inv[MR];

    memset(keys, 0, (size_t)padded * a->head_dim * sizeof(*keys));
    pack_rows(keys, a->k, a->ldk * sizeof(float), RR_F32, 0, a->n_kv, a->head_dim);
    pack_values(values, a->v, a->ldv, a->n_kv, a->head_dim);

    for (uint32_t row = 0; row < a->n_q; row += MR) {
        uint32_t rows = RR_MIN(a->n_q - row, (uint32_t)MR);

        score_rows(a, keys, row, rows, s, padded, inv);
        for (uint32_t d = 0; d < a->head_dim; d += NR) {
            memset(acc, 0, rows * NR * sizeof(*acc));
            tiles_f32(acc, s, padded, values + (size_t)d * a->n_kv, a->n_kv, rows);
            for (uint32_t i = 0; i < rows; i++) {
                float *y = a->y + (row + i) * a->ldy;
                uint32_t end = RR_MIN(d + NR, a->head_dim), c = d;

                for (; c + VW <= end; c += VW)
                    v_store(y + c, v_mul(v_load(acc + i * NR + (c - d)), v_set(inv[i])));
                if (c < end)
                    v_store_n(y + c, v_mul(v_load(acc + i * NR + (c - d)), v_set(inv[i])), end - c);
            }
        }
    }
}

#endif
