/* SPDX-License-Identifier: Apache-2.0 */
/* verify.c - see verify.h. */
#include "cli/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static const size_t tops[RR_VERIFY_TOPS] = { 1, 5, 10 };

void rr_verify_init(struct rr_verify *v)
{
    memset(v, 0, sizeof(*v));
}

void rr_verify_free(struct rr_verify *v)
{
    rr_free(v->diffs);
    rr_verify_init(v);
}

/* Place of document i, from 0; ties go to the lower index, as in every reply. */
static size_t rank_of(const float *logits, size_t n, size_t i)
{
    size_t rank = 0, j;

    for (j = 0; j < n; j++)
        if (logits[j] > logits[i] || (logits[j] == logits[i] && j < i)) rank++;
    return rank;
}

/* Kendall 1945. */
double rr_kendall(const float *a, const float *b, size_t n)
{
    double agree = 0, pairs_a = 0, pairs_b = 0;
    size_t i, j;

    for (i = 0; i < n; i++) {
        for (j = 0; j < i; j++) {
            int x = (a[i] > a[j]) - (a[i] < a[j]), y = (b[i] > b[j]) - (b[i] < b[j]);

            agree += x * y;
            pairs_a += x != 0;
            pairs_b += y != 0;
        }
    }
    if (pairs_a == 0 || pairs_b == 0) return pairs_a == pairs_b ? 1 : 0;
    return agree / sqrt(pairs_a * pairs_b);
}

static bool same_top(const float *a, const float *b, size_t n, size_t k)
{
    size_t i;

    for (i = 0; i < n; i++)
        if ((rank_of(a, n, i) < k) != (rank_of(b, n, i) < k)) return false;
    return true;
}

static int keep_diffs(struct rr_verify *v, const float *a, const float *b, size_t n,
                      struct rr_error *err)
{
    size_t i;

    if (v->n_pairs + n > v->cap_pairs) {
        size_t cap = (v->n_pairs + n) * 2;
        float *bigger = v->diffs ? rr_realloc(RR_MEM_MISC, v->diffs, cap, sizeof(*bigger))
                                 : rr_alloc(RR_MEM_MISC, cap, sizeof(*bigger));

        if (!bigger) return rr_fail(err, RR_ENOMEM, "out of memory for %zu pairs", cap);
        v->diffs = bigger;
        v->cap_pairs = cap;
    }
    for (i = 0; i < n; i++) v->diffs[v->n_pairs++] = fabsf(a[i] - b[i]);
    return RR_OK;
}

/* Discounted gain of the ten best (Jarvelin and Kekalainen 2002), gains 2^grade - 1; and one by the
 * rank of the first that is relevant at all. */
static void rank_gains(const float *logits, const float *grades, size_t n, double *dcg, double *rr)
{
    size_t i;

    *dcg = *rr = 0;
    for (i = 0; i < n; i++) {
        size_t rank = grades[i] > 0 ? rank_of(logits, n, i) : 10;

        if (rank >= 10) continue;
        *dcg += (exp2((double)grades[i]) - 1) / log2((double)rank + 2);
        *rr = fmax(*rr, 1 / ((double)rank + 1));
    }
}

int rr_verify_add(struct rr_verify *v, const float *reference, const float *candidate, size_t n,
                  const float *grades, struct rr_error *err)
{
    const float *sides[2] = { reference, candidate };
    int rc = keep_diffs(v, reference, candidate, n, err);
    double ideal, unused;
    size_t k, s;

    if (rc) return rc;
    v->n_lists++;
    if (n > 1) {
        v->n_tau++;
        v->tau += rr_kendall(reference, candidate, n);
    }
    for (k = 0; k < RR_VERIFY_TOPS; k++) {
        if (n <= tops[k]) continue;
        v->n_tops[k]++;
        v->tops[k] += same_top(reference, candidate, n, tops[k]);
    }
    if (!grades) return RR_OK;
    rank_gains(grades, grades, n, &ideal, &unused); /* the grades themselves are the best order */
    if (!(ideal > 0)) return RR_OK;                 /* zeros, or as good as */
    v->n_labelled++;
    for (s = 0; s < 2; s++) {
        double dcg, rr;

        rank_gains(sides[s], grades, n, &dcg, &rr);
        v->ndcg[s] += dcg / ideal;
        v->mrr[s] += rr;
    }
    return RR_OK;
}

void rr_verify_add_exact(struct rr_verify *v, const float *reference, const uint32_t *order,
                         size_t n, size_t k, size_t n_rescored, bool promised)
{
    bool equal = true;
    size_t i;

    for (i = 0; i < k && i < n; i++) equal = equal && rank_of(reference, n, order[i]) == i;
    v->exact_k = k;
    v->n_exact += equal;
    v->n_promised += promised;
    v->n_rescored += n_rescored;
    v->n_considered += n;
}

static int by_value(const void *pa, const void *pb)
{
    float a = *(const float *)pa, b = *(const float *)pb;

    return a < b ? -1 : a > b;
}

void rr_verify_report(struct rr_verify *v, struct rr_verify_report *out)
{
    size_t i;

    memset(out, 0, sizeof(*out));
    out->lists = v->n_lists;
    out->pairs = v->n_pairs;
    if (v->n_pairs) {
        qsort(v->diffs, v->n_pairs, sizeof(*v->diffs), by_value);
        out->max_diff = v->diffs[v->n_pairs - 1];
        out->p99_diff = v->diffs[(v->n_pairs * 99 + 99) / 100 - 1];
        for (i = 0; i < v->n_pairs; i++) out->mean_diff += v->diffs[i];
        out->mean_diff /= (double)v->n_pairs;
    }
    out->tau = v->n_tau ? v->tau / (double)v->n_tau : 1;
    for (i = 0; i < RR_VERIFY_TOPS; i++) {
        out->top_lists[i] = v->n_tops[i];
        out->top_equal[i] = v->n_tops[i] ? (double)v->tops[i] / (double)v->n_tops[i] : 1;
    }
    out->labelled = v->n_labelled;
    for (i = 0; i < 2 && v->n_labelled; i++) {
        out->ndcg[i] = v->ndcg[i] / (double)v->n_labelled;
        out->mrr[i] = v->mrr[i] / (double)v->n_labelled;
    }
    out->exact_k = v->exact_k;
    if (!v->exact_k) return;
    out->exact_equal = (double)v->n_exact / (double)v->n_lists;
    out->exact_promised = (double)v->n_promised / (double)v->n_lists;
    out->rescored = (double)v->n_rescored / (double)v->n_considered;
}

double rr_verify_drift(const struct rr_verify_report *r)
{
    return 1.5 * r->max_diff;
}

const char *rr_verify_gate(const struct rr_verify_report *r, double least_top5, double least_tau,
                           char *line, size_t cap)
{
    if (r->top_lists[1] == 0)
        snprintf(line, cap, "no list has more than five documents: the five best prove nothing");
    else if (r->top_equal[1] < least_top5)
        snprintf(line, cap,
                 "the five best are equal in %.2f %% of the lists, asked for are %.2f %%",
                 100 * r->top_equal[1], 100 * least_top5);
    else if (r->tau < least_tau)
        snprintf(line, cap, "Kendall's tau is %.4f, asked for is %.4f", r->tau, least_tau);
    else if (r->exact_k && r->exact_equal < 1)
        snprintf(line, cap, "with exact top %zu the order was f32's in %.2f %% of the lists only",
                 r->exact_k, 100 * r->exact_equal);
    else
        return NULL;
    return line;
}
