/* SPDX-License-Identifier: Apache-2.0 */
/* body_attention_i16.h - one head of one sequence, both products in whole numbers of 16 bits,
 * softmax in f32: for models in int8 and bf16 on levels that cannot multiply bf16.
 * Layer: cpu (L1).  Included by one level file, after body_linear_i16.h, which gives, beside what
 * that needs, vi_pairs(a, b): VW pairs of whole numbers of 16 bits.
 *
 * As body_attention_pairs.h says.  kern.h has the roundings; integer sums are exact, so their order
 * is free. */
#ifndef RR_CPU_BODY_ATTENTION_I16_H
#define RR_CPU_BODY_ATTENTION_I16_H

#include "cpu/body_attention_pairs.h"
#include "cpu/body_linear_i16.h"

/* ---- keys and values ----------------------------------------------------------------------- */

/* Pairs are moved as the floats that they have the size of. */
static void pack_keys_i16(const struct rr_attention_f32 *a, const struct room_pairs *r, float inv)
{
    memset(r->keys + (size_t)(r->padded - NARROW_NR) * r->pairs * 2, 0,
           (size_t)NARROW_NR * r->pairs * 4);
    for (uint32_t o = 0; o < a->n_kv; o += NARROW_NR) {
        uint32_t n = RR_MIN(a->n_kv - o, (uint32_t)NARROW_NR);

        round_i16(r->x, r->ldx, a->k + o * a->ldk, a->ldk, n, a->head_dim, inv);
        pack_rows((float *)r->keys, NARROW_NR, r->x, r->ldx * 2, RR_F32, o, n, r->pairs);
    }
}

static void pack_values_i16(const struct rr_attention_f32 *a, const struct room_pairs *r, float inv)
{
    uint16_t *dst = r->values;
    v factor = v_set(inv);

    for (uint32_t d = 0; d < a->head_dim; d += NARROW_NR)
        for (uint32_t j = 0; j < a->n_kv; j += 2, dst += 2 * NARROW_NR) {
            const float *first = a->v + j * a->ldv, *second = first + a->ldv;

            for (uint32_t c = d; c < d + NARROW_NR; c += VW) {
                uint32_t left = c < a->head_dim ? a->head_dim - c : 0;
                v t = load_upto(first + c, left), u = v_set(0.0f);

                if (j + 1 < a->n_kv) u = load_upto(second + c, left);
                vi_store(dst + 2 * (c - d), vi_pairs(v_mul(t, factor), v_mul(u, factor)));
            }
        }
}

/* ---- softmax ------------------------------------------------------------------------------- */

/* A panel's sums of one query become scores in units of log 2: scale s + bias, which may be NULL.
 * Those past the first n keys are -FLT_MAX.  Returns the larger of most and each. */
RR_INLINE v scores_i16(float *s, float scale, const float *bias, const uint32_t n, v most)
{
    v factor = v_set(bias ? scale : scale * LOG2E), low = v_set(-FLT_MAX);
    float limits[2 * VW]; /* from VW - n on: of n keys and of what is past them */

    v_store(limits, v_set(FLT_MAX));
    v_store(limits + VW, low);
    RR_UNROLL
    for (uint32_t c = 0; c < NARROW_NR; c += VW) {
        uint32_t left = c < n ? RR_MIN(n - c, (uint32_t)VW) : 0;
        v x = v_mul(v_from_i32(vi_load(s + c)), factor);

        if (bias) x = v_mul(v_add(x, load_upto(bias + c, left)), v_set(LOG2E));
        if (left < VW) x = v_min(v_load(limits + VW - left), x);
        v_store(s + c, x);
        most = v_max(most, x);
    }
    return most;
}

/* All sums of one query, NARROW_NR of every step values from s on.  Returns the largest score. */
static float all_scores_i16(float *s, size_t step, const float *bias, uint32_t n_kv, float scale)
{
    v most = v_set(-FLT_MAX);
    uint32_t o = 0;

    for (; !bias && o + NARROW_NR <= n_kv; o += NARROW_NR, s += step)
        most = scores_i16(s, scale, NULL, NARROW_NR, most);
    for (; o < n_kv; o += NARROW_NR, s += step)
        most = scores_i16(s, scale, bias ? bias + o : NULL, n_kv - o, most);
    return v_max_lane(most);
}

/* Scores become weights p, as many to the largest score's as their sum and the keys allow.
 * Returns 1 / the sum of all. */
static float weights_i16(uint16_t *p, float *s, size_t step, float most, uint32_t n_kv,
                         uint32_t padded)
{
    v shift = v_set(most), sum0 = v_set(0.0f), sum1 = sum0;
    float *last = s + (size_t)(padded / NARROW_NR - 1) * step, sum, unit;

    for (float *t = s; t <= last; t += step)
        for (uint32_t c = 0; c < NARROW_NR; c += 2 * VW) { /* NARROW_NR is a multiple of 2 VW */
            v e0 = v_exp2_neg(v_sub(v_load(t + c), shift));
            v e1 = v_exp2_neg(v_sub(v_load(t + c + VW), shift));

            v_store(t + c, e0);
            v_store(t + c + VW, e1);
            sum0 = v_add(sum0, e0);
            sum1 = v_add(sum1, e1);
        }
    sum = v_sum(v_add(sum0, sum1));
    unit = rr_i16_unit(sum, n_kv);
    for (const float *t = s; t <= last; t += step, p += NARROW_NR)
        for (uint32_t c = 0; c < NARROW_NR; c += 2 * VW)
            v_store_i16(p + c, v_mul(v_load(t + c), v_set(unit)),
                        v_mul(v_load(t + c + VW), v_set(unit)));
    return 1.0f / (unit * sum);
}

/* ---- both products ------------------------------------------------------------------------- */

struct head_i16 {
    const struct rr_attention_f32 *a;
    struct room_pairs r;
    struct steps k, v;
    float top; /* of queries and keys */
};

/* Weights of rows queries for all keys: r.p, inv[rows]. */
static void score_rows_i16(const struct head_i16 *h, uint32_t row, uint32_t rows, float *inv)
{
    const struct rr_attention_f32 *a = h->a;
    const struct room_pairs *r = &h->r;
    float most[PAIR_QUERIES];

    for (uint32_t i = 0; i < rows; i++) {
        const float *q = a->q + (row + i) * a->ldq;
        struct steps steps = steps_of(q, 0, 1, a->head_dim, h->top);

        round_i16(r->x + i * r->ldx, 0, q, 0, 1, a->head_dim, steps.inv);
        inv[i] = steps.size * h->k.size * a->scale;
    }
    for (uint32_t o = 0; o < r->padded; o += NARROW_NR)
        tiles_i16(
            (int32_t *)(r->s + o / NARROW_NR * r->step), r->x, r->ldx,
            r->keys + (size_t)o * r->pairs * 2, r->pairs, rows,
            fetch_whole(r->keys + (size_t)o * r->pairs * 2, (size_t)4 * r->pairs * NARROW_NR));
    for (uint32_t i = 0; i < rows; i++)
        most[i] = all_scores_i16(r->s + (size_t)i * NARROW_NR, r->step,
                                 a->bias ? a->bias + (row + i) * a->ldb : NULL, a->n_kv, inv[i]);
    for (uint32_t i = 0; i < rows; i++)
        inv[i] = weights_i16(r->p + i * r->ldp, r->s + (size_t)i * NARROW_NR, r->step, most[i],
                             a->n_kv, r->padded);
}

/* y = inv v.size p V for rows queries. */
static void mix_rows_i16(const struct head_i16 *h, uint32_t row, uint32_t rows, const float *inv)
{
    const struct room_pairs *r = &h->r;
    uint32_t dim = h->a->head_dim;
    int32_t acc[PAIR_QUERIES * NARROW_NR] RR_ALIGNED(64);

    for (uint32_t d = 0; d < dim; d += NARROW_NR) {
        tiles_i16(acc, r->p, r->ldp, r->values + (size_t)d * r->even, r->even / 2, rows,
                  fetch_whole(r->values + (size_t)d * r->even, (size_t)2 * r->even * NARROW_NR));
        for (uint32_t i = 0; i < rows; i++) {
            v factor = v_set(inv[i] * h->v.size);

            for (uint32_t c = d; c < RR_MIN(d + NARROW_NR, dim); c += VW)
                store_result(h->a, (row + i) * h->a->ldy + c,
                             v_mul(v_from_i32(vi_load(acc + i * NARROW_NR + (c - d))), factor),
                             dim - c);
        }
    }
}

static void attention_i16(const struct rr_attention_f32 *a)
{
    struct head_i16 h = { .a = a, .r = lay_out(a), .top = rr_i16_top(a->head_dim) };
    float inv[PAIR_QUERIES];

    if (a->n_kv > RR_I16_KEYS) {
        attention_f32(a);
        return;
    }
    h.k = steps_of(a->k, a->ldk, a->n_kv, a->head_dim, h.top);
    h.v = steps_of(a->v, a->ldv, a->n_kv, a->head_dim, RR_I16_VALUES);
    pack_keys_i16(a, &h.r, h.k.inv);
    pack_values_i16(a, &h.r, h.v.inv);
    for (uint32_t row = 0; row < a->n_q; row += PAIR_QUERIES) {
        uint32_t rows = RR_MIN(a->n_q - row, (uint32_t)PAIR_QUERIES);

        score_rows_i16(&h, row, rows, inv);
        fetch_next_head(a, row, rows);
        mix_rows_i16(&h, row, rows, inv);
    }
}

#endif
