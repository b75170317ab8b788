/* SPDX-License-Identifier: Apache-2.0 */
/* body_attention_pairs.h - where attention keeps its operands when they are pairs of 16-bit values.
 * Layer: cpu (L1).  Included by body_attention_bf16.h and body_attention_i16.h.
 *
 * K and V become packed panels, then PAIR_QUERIES queries at a time have a full row of scores each.
 * Scores stay as the tiles leave them, panel by panel, so nothing is copied: those of a query
 * are NR at a time, rows x NR apart. */
#ifndef RR_CPU_BODY_ATTENTION_PAIRS_H
#define RR_CPU_BODY_ATTENTION_PAIRS_H

#include "cpu/body_attention_f32.h"

#if !defined(PAIR_QUERIES)
#define PAIR_QUERIES 12 /* at most 32, see rr_attention_f32_scratch */
#endif

struct room_pairs {   /* parts of the scratch, each 64-byte aligned */
    uint16_t *keys;   /* [padded / NR][pairs][NR][2] */
    uint16_t *values; /* [ceil(head_dim / NR)][even / 2][NR][2] */
    float *s;         /* [padded / NR][PAIR_QUERIES][NR] scores */
    uint16_t *p;      /* [PAIR_QUERIES, ldp] weights */
    uint16_t *x;      /* [max(NR, PAIR_QUERIES), ldx] rounded rows */
    size_t ldp, ldx;
    uint32_t padded, even, pairs; /* keys in whole panels, in whole pairs; pairs of head_dim */
};

static struct room_pairs lay_out(const struct rr_attention_f32 *a)
{
    struct room_pairs r = { .padded = (a->n_kv + NR - 1) / NR * NR,
                            .even = (a->n_kv + 1) / 2 * 2,
                            .pairs = (a->head_dim + 1) / 2 };
    size_t width = (a->head_dim + NR - 1) / NR * NR;

    r.ldp = (size_t)r.padded + 32;
    r.ldx = ((size_t)r.pairs + 15) / 16 * 32;
    r.keys = (uint16_t *)a->scratch;
    r.values = r.keys + (size_t)r.padded * r.pairs * 2;
    r.s = (float *)(r.values + width * r.even);
    r.p = (uint16_t *)(r.s + (size_t)PAIR_QUERIES * r.padded);
    r.x = r.p + PAIR_QUERIES * r.ldp;
    return r;
}

#endif
