/* SPDX-License-Identifier: Apache-2.0 */
/* body_attention_pairs.h - where attention keeps its operands when they are pairs of 16-bit values.
 * Layer: cpu (L1).  Included by body_attention_bf16.h and body_attention_i16.h.
 *
 * K and V become packed panels, then PAIR_QUERIES queries at a time have a full row of scores each.
 * Scores stay as the tiles leave them, panel by panel, so nothing is copied: those of a query
 * are NARROW_NR at a time, step apart. */
#ifndef RR_CPU_BODY_ATTENTION_PAIRS_H
#define RR_CPU_BODY_ATTENTION_PAIRS_H

#include "cpu/body_attention_f32.h"

#if !defined(PAIR_QUERIES)
#define PAIR_QUERIES 12 /* at most 32, see rr_attention_f32_scratch */
#endif

struct room_pairs {   /* parts of the scratch, each 64-byte aligned */
    uint16_t *keys;   /* [padded / nr][pairs][nr][2]; nr of bf16 is PACKED_NR, of i16 NARROW_NR */
    uint16_t *values; /* [width / nr][even / 2][nr][2] */
    float *s;         /* [padded / NARROW_NR][step] scores: PAIR_QUERIES rows of NARROW_NR */
    uint16_t *p;      /* [PAIR_QUERIES, ldp] weights */
    uint16_t *x;      /* [max(NARROW_NR, PAIR_QUERIES), ldx] rounded rows */
    size_t ldp, ldx, step;
    uint32_t padded, even; /* keys in whole NARROW_NR, in whole pairs */
    uint32_t width, pairs; /* head_dim in whole NARROW_NR, its pairs */
};

static struct room_pairs lay_out(const struct rr_attention_f32 *a)
{
    struct room_pairs r = { .padded = (a->n_kv + NARROW_NR - 1) / NARROW_NR * NARROW_NR,
                            .even = (a->n_kv + 1) / 2 * 2,
                            .width = (a->head_dim + NARROW_NR - 1) / NARROW_NR * NARROW_NR,
                            .pairs = (a->head_dim + 1) / 2 };

    r.ldp = (size_t)r.padded + 32;
    r.step = PAIR_QUERIES * NARROW_NR + 16; /* else all of a row would share a set of the cache */
    r.ldx = ((size_t)r.pairs + 15) / 16 * 32;
    r.keys = (uint16_t *)a->scratch;
    r.values = r.keys + (size_t)r.padded * r.pairs * 2;
    r.s = (float *)(r.values + (size_t)r.width * r.even);
    r.p = (uint16_t *)(r.s + r.padded / NARROW_NR * r.step);
    r.x = r.p + PAIR_QUERIES * r.ldp;
    return r;
}

#endif
