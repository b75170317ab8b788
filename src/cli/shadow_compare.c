/* SPDX-License-Identifier: Apache-2.0 */
/* shadow_compare.c - see shadow.h: sums of differences, the report, the gate.
 * Layer: cli (L6).  Threads: one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/shadow.h"
#include "cli/verify.h"

void rr_shadow_init(struct rr_shadow *s, size_t top_k)
{
    memset(s, 0, sizeof(*s));
    s->top_k = top_k;
    s->least_tau = 1;
}

void rr_shadow_free(struct rr_shadow *s)
{
    size_t i;

    for (i = 0; i < RR_SIDES; i++) {
        rr_free(s->ms[i].data);
        rr_free(s->scores[i].data);
    }
    rr_shadow_init(s, s->top_k);
}

static int push(struct rr_floats *f, float value, struct rr_error *err)
{
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 1024;
        float *bigger = f->data ? rr_realloc(RR_MEM_MISC, f->data, cap, sizeof(*bigger))
                                : rr_alloc(RR_MEM_MISC, cap, sizeof(*bigger));

        if (!bigger) return rr_fail(err, RR_ENOMEM, "out of memory for %zu figures", cap);
        f->data = bigger;
        f->cap = cap;
    }
    f->data[f->n++] = value;
    return RR_OK;
}

/* ---- one request ---------------------------------------------------------------------------- */

/* Documents that are better than i, and those that are not worse, i left out. */
static void around(const struct rr_ranking *r, size_t i, size_t *better, size_t *not_worse)
{
    size_t j;

    *better = *not_worse = 0;
    for (j = 0; j < r->n; j++) {
        *better += r->key[j] > r->key[i];
        *not_worse += j != i && r->key[j] >= r->key[i];
    }
}

/* No document is surely among the k best of one and surely not of the other. */
static bool same_best(const struct rr_ranking *a, const struct rr_ranking *b, size_t k)
{
    size_t i, better[2], not_worse[2];

    for (i = 0; i < a->n; i++) {
        around(a, i, &better[0], &not_worse[0]);
        around(b, i, &better[1], &not_worse[1]);
        if ((not_worse[0] < k && better[1] >= k) || (not_worse[1] < k && better[0] >= k))
            return false;
    }
    return true;
}

static void add_top(const struct rr_ranking *a, const struct rr_ranking *b, size_t k, size_t *equal,
                    size_t *n)
{
    k = RR_MIN(k, RR_MIN(a->n_returned, b->n_returned));
    if (k == 0 || a->n <= k) return;
    ++*n;
    *equal += same_best(a, b, k);
}

static void keep_worst(struct rr_shadow *s, uint64_t line, double tau)
{
    size_t at = s->n_worst;

    if (tau >= 1) return;
    while (at > 0 && tau < s->worst[at - 1].tau) at--;
    if (at == RR_SHADOW_WORST) return;
    if (s->n_worst < RR_SHADOW_WORST) s->n_worst++;
    memmove(&s->worst[at + 1], &s->worst[at], (s->n_worst - 1 - at) * sizeof(s->worst[0]));
    s->worst[at].line = line;
    s->worst[at].tau = tau;
}

static void add_order(struct rr_shadow *s, uint64_t line, const struct rr_ranking *a,
                      const struct rr_ranking *b)
{
    s->counts_differ += a->n_returned != b->n_returned;
    add_top(a, b, 1, &s->top1, &s->n_top1);
    add_top(a, b, s->top_k, &s->top, &s->n_top);
    if (a->n > 1) {
        double tau = rr_kendall(a->key, b->key, a->n);

        s->n_tau++;
        s->tau += tau;
        s->least_tau = fmin(s->least_tau, tau);
        keep_worst(s, line, tau);
    }
}

int rr_shadow_add(struct rr_shadow *s, uint64_t line, const bool answered[RR_SIDES],
                  const double ms[RR_SIDES], const struct rr_ranking rankings[RR_SIDES],
                  struct rr_error *err)
{
    const struct rr_ranking *a = &rankings[RR_PRIMARY], *b = &rankings[RR_CANDIDATE];
    size_t i;
    int rc = RR_OK;

    s->asked++;
    if (!answered[RR_PRIMARY] || !answered[RR_CANDIDATE]) {
        if (!answered[RR_PRIMARY] && !answered[RR_CANDIDATE])
            s->neither++;
        else
            s->only[answered[RR_PRIMARY] ? RR_CANDIDATE : RR_PRIMARY]++;
        return RR_OK;
    }
    s->both++;
    for (i = 0; i < RR_SIDES && !rc; i++) rc = push(&s->ms[i], (float)ms[i], err);
    for (; a && b && !rc; a = a->next, b = b->next) { /* as many: it is the same request */
        for (i = 0; i < a->n && !rc; i++) {
            if (isnan(a->score[i]) || isnan(b->score[i])) continue;
            rc = push(&s->scores[RR_PRIMARY], a->score[i], err);
            if (!rc) rc = push(&s->scores[RR_CANDIDATE], b->score[i], err);
        }
        if (!rc) add_order(s, line, a, b);
    }
    return rc;
}

/* ---- report --------------------------------------------------------------------------------- */

static int by_value(const void *pa, const void *pb)
{
    float a = *(const float *)pa, b = *(const float *)pb;

    return a < b ? -1 : a > b;
}

/* The smallest value that percent of the n sorted ones do not exceed. */
static double percentile(const float *sorted, size_t n, unsigned percent)
{
    return (double)sorted[(n * percent + 99) / 100 - 1];
}

static void report_latency(struct rr_floats *f, struct rr_shadow_latency *out)
{
    size_t i;

    if (!f->n) return;
    qsort(f->data, f->n, sizeof(*f->data), by_value);
    for (i = 0; i < f->n; i++) out->mean += (double)f->data[i];
    out->mean /= (double)f->n;
    out->p50 = percentile(f->data, f->n, 50);
    out->p90 = percentile(f->data, f->n, 90);
    out->p95 = percentile(f->data, f->n, 95);
    out->p99 = percentile(f->data, f->n, 99);
    out->max = (double)f->data[f->n - 1];
}

static bool is_logits(const struct rr_floats *f)
{
    size_t i;

    for (i = 0; i < f->n; i++)
        if (f->data[i] < 0 || f->data[i] > 1) return true;
    return false;
}

/* One server may give logits and the other probabilities; differences of logits are not those of
 * probabilities, so the former are converted.  After this the primary's scores are differences. */
static void report_scores(struct rr_shadow *s, struct rr_shadow_report *out)
{
    bool logits[RR_SIDES] = { is_logits(&s->scores[0]), is_logits(&s->scores[1]) };
    float *diff = s->scores[RR_PRIMARY].data;
    size_t i, n = s->scores[RR_PRIMARY].n;

    out->n_scores = n;
    out->converted = -1;
    if (!n) return;
    if (logits[RR_PRIMARY] != logits[RR_CANDIDATE]) {
        float *x = s->scores[logits[RR_PRIMARY] ? RR_PRIMARY : RR_CANDIDATE].data;

        out->converted = logits[RR_PRIMARY] ? RR_PRIMARY : RR_CANDIDATE;
        for (i = 0; i < n; i++) x[i] = 1 / (1 + expf(-x[i]));
    }
    for (i = 0; i < n; i++) {
        diff[i] = fabsf(diff[i] - s->scores[RR_CANDIDATE].data[i]);
        out->mean_diff += (double)diff[i];
    }
    out->mean_diff /= (double)n;
    qsort(diff, n, sizeof(*diff), by_value);
    out->p99_diff = percentile(diff, n, 99);
    out->max_diff = (double)diff[n - 1];
}

static double share(size_t part, size_t n)
{
    return n ? (double)part / (double)n : 1;
}

void rr_shadow_report(struct rr_shadow *s, struct rr_shadow_report *out)
{
    size_t i;

    memset(out, 0, sizeof(*out));
    out->asked = s->asked;
    out->both = s->both;
    out->neither = s->neither;
    out->counts_differ = s->counts_differ;
    out->tau = s->n_tau ? s->tau / (double)s->n_tau : 1;
    out->least_tau = s->least_tau;
    out->n_tau = s->n_tau;
    out->top_k = s->top_k;
    out->n_top1 = s->n_top1;
    out->n_top = s->n_top;
    out->top1_equal = share(s->top1, s->n_top1);
    out->top_equal = share(s->top, s->n_top);
    for (i = 0; i < RR_SIDES; i++) {
        out->only[i] = s->only[i];
        report_latency(&s->ms[i], &out->ms[i]);
    }
    report_scores(s, out);
}

/* ---- gate ----------------------------------------------------------------------------------- */

const char *rr_shadow_gate(const struct rr_shadow_report *r, const struct rr_shadow_gate *g,
                           char *line, size_t cap)
{
    double errors = r->asked ? (double)r->only[RR_CANDIDATE] / (double)r->asked : 0;
    double slow = r->ms[RR_PRIMARY].p95 > 0 ? r->ms[RR_CANDIDATE].p95 / r->ms[RR_PRIMARY].p95 : 0;

    if (r->both == 0)
        snprintf(line, cap, "no request was answered by both");
    else if (errors > g->errors)
        snprintf(line, cap, "%zu of %zu requests fail at the candidate only, allowed are %.2f %%",
                 r->only[RR_CANDIDATE], r->asked, 100 * g->errors);
    else if (r->n_top == 0)
        snprintf(line, cap, "no list has more than %zu documents: the best prove nothing",
                 r->top_k);
    else if (r->top_equal < g->top)
        snprintf(line, cap, "the %zu best are equal in %.2f %% of the lists, asked for are %.2f %%",
                 r->top_k, 100 * r->top_equal, 100 * g->top);
    else if (r->tau < g->tau)
        snprintf(line, cap, "Kendall's tau is %.4f, asked for is %.4f", r->tau, g->tau);
    else if (g->score > 0 && r->n_scores == 0)
        snprintf(line, cap, "no document was scored by both: scores cannot be compared");
    else if (g->score > 0 && r->max_diff > g->score)
        snprintf(line, cap, "scores differ by up to %.3g, allowed is %.3g", r->max_diff, g->score);
    else if (g->slowdown > 0 && slow > g->slowdown)
        snprintf(line, cap, "the candidate's p95 is %.2f times the primary's, allowed is %.2f",
                 slow, g->slowdown);
    else
        return NULL;
    return line;
}
