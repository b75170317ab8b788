/* SPDX-License-Identifier: Apache-2.0 */
/* tiers.c - see tiers.h. */
#include "cache/tiers.h"

#include <string.h>

enum { AT_ONCE = 256 }; /* keys of one look-up in the shared cache; more are several */

static void get_shared(const struct rr_tiers *t, const struct rr_key *keys, size_t n,
                       struct rr_cached *out, bool *hit)
{
    struct rr_key missing[AT_ONCE];
    struct rr_cached found[AT_ONCE];
    bool is_found[AT_ONCE];
    size_t i, m = 0;

    for (i = 0; i < n; i++)
        if (!hit[i]) missing[m++] = keys[i];
    if (!m || !rr_shared_get(t->shared, missing, m, found, is_found)) return;
    for (i = n; i-- > 0;) {
        if (hit[i] || !is_found[--m]) continue; /* m counts the misses down */
        hit[i] = true;
        out[i] = found[m];
        if (t->memory) rr_lru_put(t->memory, keys[i], found[m]);
    }
}

void rr_tiers_get(const struct rr_tiers *t, const struct rr_key *keys, size_t n,
                  struct rr_cached *out, bool *hit)
{
    size_t i, at;

    memset(hit, 0, n * sizeof(*hit));
    for (i = 0; t->memory && i < n; i++) hit[i] = rr_lru_get(t->memory, keys[i], &out[i]);
    for (at = 0; t->shared && at < n; at += AT_ONCE)
        get_shared(t, keys + at, RR_MIN(n - at, (size_t)AT_ONCE), out + at, hit + at);
}

void rr_tiers_put(const struct rr_tiers *t, const struct rr_key *keys,
                  const struct rr_cached *values, size_t n)
{
    size_t i;

    for (i = 0; t->memory && i < n; i++) rr_lru_put(t->memory, keys[i], values[i]);
    if (t->shared) rr_shared_put(t->shared, keys, values, n);
}
