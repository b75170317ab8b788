/* SPDX-License-Identifier: Apache-2.0 */
/* cascade.c - see cascade.h. */
#include "engine/cascade.h"

#include <math.h>
#include <stdlib.h>

static int by_cheap(const void *pa, const void *pb, void *candidates)
{
    const struct rr_candidate *c = candidates;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;

    if (c[a].cheap != c[b].cheap) return c[a].cheap > c[b].cheap ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int by_exact(const void *pa, const void *pb, void *candidates)
{
    const struct rr_candidate *c = candidates;
    float a = c[*(const uint32_t *)pa].exact, b = c[*(const uint32_t *)pb].exact;

    return a > b ? -1 : a < b;
}

static size_t collect(const struct rr_candidate *c, size_t n, bool rescored, uint32_t *out)
{
    size_t m = 0, i;

    for (i = 0; i < n; i++)
        if (!c[i].ignored && c[i].rescored == rescored) out[m++] = (uint32_t)i;
    return m;
}

/* Too few exact ones to have a k-th: the best of the others by their cheap logits. */
static size_t pick_best(const struct rr_candidate *c, size_t n, size_t missing, uint32_t *picks)
{
    size_t m = collect(c, n, false, picks);

    qsort_r(picks, m, sizeof(*picks), by_cheap, (void *)c);
    return m < missing ? m : missing;
}

size_t rr_cascade_pick(const struct rr_candidate *c, size_t n, size_t k, float drift,
                       uint32_t *picks)
{
    size_t known = collect(c, n, true, picks), m = 0, i;
    double least;

    if (known < k) return pick_best(c, n, k - known, picks);
    if (k == 0) return 0;
    qsort_r(picks, known, sizeof(*picks), by_exact, (void *)c);
    least = c[picks[k - 1]].exact;
    /* >=: one that could be equal could come first by its index. */
    for (i = 0; i < n; i++)
        if (!c[i].ignored && !c[i].rescored && (double)c[i].cheap + drift >= least)
            picks[m++] = (uint32_t)i;
    return m;
}

float rr_cascade_drift(const struct rr_candidate *c, size_t n)
{
    double most = 0;
    size_t i;

    for (i = 0; i < n; i++)
        if (c[i].rescored) most = fmax(most, fabs((double)c[i].exact - (double)c[i].cheap));
    return nextafterf((float)most, INFINITY) * (most > 0);
}
