/* SPDX-License-Identifier: Apache-2.0 */
/* body_attention_bf16.h - one head of one sequence, both products in bf16, softmax in f32.
 * Layer: cpu (L1).  Included by one level file, after body_attention_f32.h and
 * body_linear_bf16.h, where BF16_X is RR_BF16: tiles_bf16 and v_store_bf16 are there.
 *
 * As body_attention_pairs.h says; the weights of the softmax are rounded to bf16 where they are
 * computed, in rows. */
#ifndef RR_CPU_BODY_ATTENTION_BF16_H
#define RR_CPU_BODY_ATTENTION_BF16_H

#include "cpu/body_attention_pairs.h"
#include "cpu/body_linear_bf16.h"

struct rows_bf16 {
    const uint16_t *at;
    size_t ld;
};

/* n rows of queries or keys from `row` on.  x16, if there is one, has them rounded already, and
 * where a row is whole steps of every tile they stay where they are. */
static struct rows_bf16 rows_bf16(const struct room_pairs *r, const float *x, const uint16_t *x16,
                                  size_t ldx, uint32_t row, uint32_t n, uint32_t head_dim)
{
    if (x16 && head_dim % 32 == 0) return (struct rows_bf16){ x16 + row * ldx, ldx };
    if (!x16) round_bf16(r->x, r->ldx, x + row * ldx, ldx, n, head_dim);
    for (uint32_t i = 0; x16 && i < n; i++) {
        memcpy(r->x + i * r->ldx, x16 + (row + i) * ldx, head_dim * sizeof(*x16));
        if (head_dim % 2) r->x[i * r->ldx + head_dim] = 0;
    }
    return (struct rows_bf16){ r->x, r->ldx };
}

/* Pairs of bf16 are moved as the floats that they have the size of. */
static void pack_keys_bf16(const struct rr_attention_f32 *a, const struct room_pairs *r)
{
    size_t last = (size_t)(r->padded - NARROW_NR) * r->pairs * 2;

    memset(r->keys + last, 0, (size_t)NARROW_NR * r->pairs * 4);
    for (uint32_t o = 0; o < a->n_kv; o += NARROW_NR) {
        uint32_t n = RR_MIN(a->n_kv - o, (uint32_t)NARROW_NR);
        struct rows_bf16 rows = rows_bf16(r, a->k, a->k16, a->ldk, o, n, a->head_dim);

        pack_rows((float *)r->keys, PACKED_NR, rows.at, rows.ld * 2, RR_F32, o, n, r->pairs);
    }
}

static void pack_values_bf16(const struct rr_attention_f32 *a, const struct room_pairs *r)
{
    uint32_t *dst = (uint32_t *)r->values;

    for (uint32_t d = 0; d < r->width; d += PACKED_NR)
        for (uint32_t j = 0; j < a->n_kv; j += 2, dst += PACKED_NR) {
            bool both = j + 1 < a->n_kv;
            size_t at = j * a->ldv + d, after = both ? at + a->ldv : at;
            uint32_t left = d < a->head_dim ? a->head_dim - d : 0;
            uint32_t here = RR_MIN(left, (uint32_t)PACKED_NR), mask = both ? 0xFFFF0000 : 0;

            if (a->v16)
                for (uint32_t c = 0; c < here; c++)
                    dst[c] = a->v16[at + c] | ((uint32_t)a->v16[after + c] << 16 & mask);
            else
                for (uint32_t c = 0; c < here; c++)
                    dst[c] = to_bf16(a->v[at + c]) | (to_bf16(a->v[after + c]) << 16 & mask);
            memset(dst + here, 0, (PACKED_NR - here) * sizeof(*dst));
        }
}

/* The scores of one query, NARROW_NR of every step floats from s on.  Those past the keys become
 * FLT_MAX or its negative.  Returns the largest of factor s, negative. */
static float lowest_shift(float *s, size_t step, uint32_t n_kv, uint32_t padded, float factor)
{
    float *last = s + (size_t)(padded / NARROW_NR - 1) * step;
    v most0, most1;

    for (uint32_t j = n_kv; j < padded; j++)
        last[j - (padded - NARROW_NR)] = factor < 0 ? FLT_MAX : -FLT_MAX;
    most0 = v_load(s);
    most1 = v_load(s + VW);
    for (const float *t = s; t <= last; t += step)
        for (uint32_t c = 0; c < NARROW_NR; c += 2 * VW) { /* NARROW_NR is a multiple of 2 VW */
            v a = v_load(t + c), b = v_load(t + c + VW);

            most0 = factor < 0 ? v_min(most0, a) : v_max(most0, a);
            most1 = factor < 0 ? v_min(most1, b) : v_max(most1, b);
        }
    return -factor *
           (factor < 0 ? v_min_lane(v_min(most0, most1)) : v_max_lane(v_max(most0, most1)));
}

/* They become 2^(factor s + shift) in p, about 0 past the keys.  Returns 1 / sum. */
static float weights_bf16(uint16_t *p, const float *s, size_t step, uint32_t padded, float factor,
                          float shift)
{
    v times = v_set(factor), plus = v_set(shift), sum0 = v_set(0.0f), sum1 = sum0;

    for (uint32_t o = 0; o < padded; o += NARROW_NR, s += step, p += NARROW_NR)
        for (uint32_t c = 0; c < NARROW_NR; c += 2 * VW) {
            v e0 = v_exp2_bf16(v_fma(v_load(s + c), times, plus));
            v e1 = v_exp2_bf16(v_fma(v_load(s + c + VW), times, plus));

            v_store_bf16(p + c, e0);
            v_store_bf16(p + c + VW, e1);
            sum0 = v_add(sum0, e0);
            sum1 = v_add(sum1, e1);
        }
    return 1.0f / v_sum(v_add(sum0, sum1));
}

#if !defined(OWN_SCORES)
RR_INLINE bool own_scores(float *s, size_t step, const bf16_in *x, size_t ldx,
                          const uint16_t *keys, uint32_t pairs, uint32_t panels, uint32_t rows)
{
    (void)s, (void)step, (void)x, (void)ldx, (void)keys, (void)pairs, (void)panels, (void)rows;
    return false;
}
#endif

/* Scores of rows queries against all keys, softmax: r->p, inv[rows]. */
static void score_rows_bf16(const struct rr_attention_f32 *a, const struct room_pairs *r,
                            uint32_t row, uint32_t rows, float *inv)
{
    struct rows_bf16 x = rows_bf16(r, a->q, a->q16, a->ldq, row, rows, a->head_dim);
    float factor = (a->bias ? 1.0f : a->scale) * LOG2E, shift;
    uint32_t panels = r->padded / NARROW_NR;

    if (!own_scores(r->s, r->step, x.at, x.ld, r->keys, r->pairs, panels, rows))
        for (uint32_t i = 0; i < panels; i++) {
            const uint16_t *keys = r->keys + (size_t)i * NARROW_NR * r->pairs * 2;

            tiles_bf16(r->s + i * r->step, x.at, x.ld, keys, 2 * r->pairs, rows,
                       fetch_whole(keys, (size_t)4 * r->pairs * NARROW_NR));
        }
    for (uint32_t i = 0; i < rows && a->bias; i++)
        for (uint32_t o = 0; o < a->n_kv; o += NARROW_NR)
            add_bias(r->s + o / NARROW_NR * r->step + (size_t)i * NARROW_NR, a->scale,
                     a->bias + (row + i) * a->ldb + o, RR_MIN(a->n_kv - o, (uint32_t)NARROW_NR));
    shift = lowest_shift(r->s, r->step, a->n_kv, r->padded, factor);
    for (uint32_t i = 0; i < rows; i++) { /* the next row's largest: this one's is there by then */
        float *s = r->s + (size_t)i * NARROW_NR, now = shift;

        if (i + 1 < rows)
            shift = lowest_shift(s + NARROW_NR, r->step, a->n_kv, r->padded, factor);
        inv[i] = weights_bf16(r->p + i * r->ldp, s, r->step, r->padded, factor, now);
    }
}

/* y = inv p V for rows queries. */
static void mix_rows_bf16(const struct rr_attention_f32 *a, const struct room_pairs *r,
                          uint32_t row, uint32_t rows, const float *inv)
{
    float acc[PAIR_QUERIES * NARROW_NR] RR_ALIGNED(64);

    for (uint32_t d = 0; d < a->head_dim; d += NARROW_NR) {
        const uint16_t *values = r->values + (size_t)d * r->even;

        tiles_bf16(acc, r->p, r->ldp, values, r->even, rows,
                   fetch_whole(values, (size_t)2 * r->even * NARROW_NR));
        for (uint32_t i = 0; i < rows; i++)
            store_scaled(a, (row + i) * a->ldy + d, acc + i * NARROW_NR, inv[i], a->head_dim - d,
                         NARROW_NR);
    }
}

static void attention_bf16(const struct rr_attention_f32 *a)
{
    struct room_pairs r = lay_out(a);
    float inv[PAIR_QUERIES];

    pack_keys_bf16(a, &r);
    pack_values_bf16(a, &r);
    for (uint32_t row = 0; row < a->n_q; row += PAIR_QUERIES) {
        uint32_t rows = RR_MIN(a->n_q - row, (uint32_t)PAIR_QUERIES);

        score_rows_bf16(a, &r, row, rows, inv);
        fetch_next_head(a, row, rows);
        mix_rows_bf16(a, &r, row, rows, inv);
    }
    tiles_end();
}

#endif
