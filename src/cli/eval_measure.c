/* SPDX-License-Identifier: Apache-2.0 */
/* eval_measure.c - measures of rankings and the significance of their differences; pure.
 * Layer: cli (L6).  Threads: one.
 * Sources: Järvelin and Kekäläinen 2002 (nDCG); the measures' descriptions in trec_eval. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/eval.h"

#define SAMPLES 10000
#define SEED UINT64_C(20260729)

const char *const rr_measure_keys[RR_MEASURES] = { "ndcg", "mrr", "recall", "map" };

void rr_measure(double out[RR_MEASURES], const int32_t *labels, size_t n, const int32_t *gains,
                size_t n_gains, uint32_t k)
{
    double gain = 0, ideal = 0, precision = 0;
    size_t found = 0, in_k = 0, i;

    memset(out, 0, RR_MEASURES * sizeof(*out));
    if (n_gains == 0) return;
    for (i = 0; i < n_gains && i < k; i++) ideal += gains[i] / log2((double)i + 2);
    for (i = 0; i < n; i++) {
        if (labels[i] <= 0) continue;
        found++;
        precision += (double)found / (double)(i + 1);
        if (i >= k) continue;
        in_k++;
        gain += labels[i] / log2((double)i + 2);
        if (found == 1) out[1] = 1 / (double)(i + 1);
    }
    out[0] = gain / ideal;
    out[2] = (double)in_k / (double)n_gains;
    out[3] = precision / (double)n_gains;
}

/* ---- order ---------------------------------------------------------------------------------- */

struct sorted { /* what qsort needs at hand */
    float score;
    uint32_t index;
    struct rr_text id;
};

static int by_score(const void *pa, const void *pb)
{
    const struct sorted *a = pa, *b = pb;
    size_t n = RR_MIN(a->id.len, b->id.len);
    int c;

    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    c = n ? memcmp(b->id.data, a->id.data, n) : 0;
    if (c) return c;
    if (a->id.len != b->id.len) return a->id.len > b->id.len ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

int rr_eval_order(uint32_t *order, const struct rr_eval_data *d, const struct rr_eval_query *q,
                  const float *scores, struct rr_error *err)
{
    struct sorted *s = rr_alloc(RR_MEM_MISC, q->n, sizeof(*s));
    size_t i;

    if (!s) return rr_fail(err, RR_ENOMEM, "out of memory for %zu candidates", q->n);
    for (i = 0; i < q->n; i++)
        s[i] = (struct sorted){ scores[q->first + i], (uint32_t)i,
                                d->docs[d->candidates[q->first + i].doc].id };
    qsort(s, q->n, sizeof(*s), by_score);
    for (i = 0; i < q->n; i++) order[i] = s[i].index;
    rr_free(s);
    return RR_OK;
}

/* ---- significance --------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state) /* splitmix64, Steele et al. 2014 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static int by_value(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;

    return a < b ? -1 : a > b;
}

struct rr_difference rr_bootstrap(const double *a, const double *b, size_t n, size_t stride)
{
    static double means[SAMPLES]; /* the command has one thread */
    struct rr_difference d = { 0, 0, 0, 1 };
    uint64_t state = SEED;
    size_t extreme = 0, s, i;

    if (n == 0) return d;
    for (i = 0; i < n; i++) d.mean += b[i * stride] - a[i * stride];
    d.mean /= (double)n;
    for (s = 0; s < SAMPLES; s++) {
        double sum = 0;

        for (i = 0; i < n; i++) {
            size_t j = (size_t)(next_random(&state) >> 32) % n * stride; /* n is far below 2^32 */

            sum += b[j] - a[j];
        }
        means[s] = sum / (double)n;
        /* Under the null hypothesis the differences are centred on 0.  The margin: sums of the same
         * terms in another order are the same difference. */
        extreme += fabs(means[s] - d.mean) >= fabs(d.mean) - 1e-12;
    }
    qsort(means, SAMPLES, sizeof(*means), by_value);
    d.low = means[SAMPLES / 40];
    d.high = means[SAMPLES - 1 - SAMPLES / 40];
    d.p = (double)(extreme + 1) / (SAMPLES + 1);
    return d;
}
