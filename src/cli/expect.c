/* SPDX-License-Identifier: Apache-2.0 */
/* expect.c - see expect.h. */
#include "cli/expect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define ANCHOR 0.1 /* share of lists that is lost to the errors that gaps are measured with */
#define REACH 7    /* deviations, beyond which an error is not met */
#define ALPHA 0.05

struct cut {               /* of one list */
    double *above, *below; /* scores from high to low; below without twins of the last above */
    size_t n_above, n_below;
    size_t n_free; /* above, those higher than the last one if it has twins below; or 0 */
};

struct sample {
    struct cut *cuts;
    size_t n;
    double *values; /* of all cuts */
};

/* ---- one list ------------------------------------------------------------------------------- */

struct scored {
    float reference, candidate;
    size_t index;
};

/* Ties go to the lower index, as in every reply. */
static int by_score(const void *pa, const void *pb)
{
    const struct scored *a = pa, *b = pb;

    if (a->reference != b->reference) return a->reference > b->reference ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* Equal texts have equal scores and errors: they may change places across the cut. */
static bool has_twin(const struct scored *s, size_t top, size_t i)
{
    for (size_t a = top; a-- > 0 && s[a].reference == s[i].reference;)
        if (s[a].candidate == s[i].candidate) return true;
    return false;
}

/* values: room for n.  s: the list's n documents, sorted here. */
static void make_cut(struct cut *c, double *values, struct scored *s, size_t n, size_t top)
{
    qsort(s, n, sizeof(*s), by_score);
    *c = (struct cut){ .above = values, .below = values + top, .n_above = top };
    for (size_t i = 0; i < top; i++) c->above[i] = (double)s[i].reference;
    for (size_t i = top; i < n; i++)
        if (!has_twin(s, top, i)) c->below[c->n_below++] = (double)s[i].reference;
    if (c->n_below == n - top) return;
    while (c->above[c->n_free] > c->above[top - 1]) c->n_free++;
}

/* The chance that errors of deviation s leave every one of a above every one of b, both sorted: the
 * density of the best of b at t times the chance that all of a are higher, summed over t.  Steps of
 * half a deviation are exact to nine digits for functions as smooth as these. */
static double stay_apart(const double *a, size_t n_a, const double *b, size_t n_b, double s)
{
    double sum = 0;

    if (n_a == 0 || n_b == 0 || a[n_a - 1] - b[0] > 2 * REACH * s) return 1;
    for (int step = -2 * REACH; step <= 2 * REACH; step++) {
        double t = b[0] + step * s / 2, chance = 1, density = 0;

        for (size_t i = 0; i < n_b && b[0] - b[i] < 2 * REACH * s; i++) {
            double x = (t - b[i]) / s, lower = 0.5 * erfc(-x * M_SQRT1_2);

            chance *= lower;
            density += exp(-x * x / 2) / sqrt(2 * M_PI) / lower;
        }
        for (size_t i = n_a; i-- > 0 && a[i] - t < REACH * s;)
            chance *= 0.5 * erfc((t - a[i]) / s * M_SQRT1_2);
        sum += chance * density / 2;
    }
    return RR_MIN(sum, 1.0);
}

static double loss(const struct cut *c, double s)
{
    double stays = stay_apart(c->above, c->n_above, c->below, c->n_below, s);

    return 1 - stays * stay_apart(c->above, c->n_free, &c->above[c->n_above - 1], 1, s);
}

/* ---- all lists ------------------------------------------------------------------------------ */

static double mean_loss(const struct sample *cuts, double s, double *error)
{
    double sum = 0, squares = 0, n = (double)cuts->n, mean;

    for (size_t i = 0; i < cuts->n; i++) {
        double l = loss(&cuts->cuts[i], s);

        sum += l;
        squares += l * l;
    }
    mean = sum / n;
    *error = n > 1 ? sqrt(RR_MAX(squares / n - mean * mean, 0.0) / (n - 1)) : mean;
    return mean;
}

/* The deviation that loses a share of ANCHOR; 0: none does. */
static double find_anchor(const struct sample *cuts, double s)
{
    double low = s, high = s, unused;

    for (int i = 0; i < 64 && mean_loss(cuts, high, &unused) < ANCHOR; i++) {
        low = high;
        high *= 2;
    }
    if (mean_loss(cuts, high, &unused) < ANCHOR) return 0;
    for (int i = 0; i < 24; i++) {
        double middle = (low + high) / 2;

        *(mean_loss(cuts, middle, &unused) < ANCHOR ? &low : &high) = middle;
    }
    return high;
}

/* Deviation of candidate - reference, apart from what moves all documents of a list alike, which
 * changes no order.  *relative: its standard error, a share of it; errors differ between lists. */
static double deviation(const float *reference, const float *candidate, const struct rr_list *lists,
                        size_t n_lists, double *relative)
{
    double sum = 0, degrees = 0, squares = 0, cross = 0, degrees2 = 0, variance;

    for (size_t i = 0; i < n_lists; i++) {
        double n = (double)lists[i].n_documents, d = 0, dd = 0;

        for (size_t j = 0; j < lists[i].n_documents; j++) {
            double e = (double)*candidate++ - (double)*reference++;

            d += e;
            dd += e * e;
        }
        if (n < 2) continue;
        dd -= d * d / n;
        sum += dd;
        degrees += n - 1;
        squares += dd * dd;
        cross += dd * (n - 1);
        degrees2 += (n - 1) * (n - 1);
    }
    *relative = 0;
    if (degrees == 0) return 0;
    variance = sum / degrees;
    if (variance > 0)
        *relative =
            sqrt(RR_MAX(squares - 2 * variance * cross + variance * variance * degrees2, 0.0)) /
            (2 * sum);
    return sqrt(variance < 0 ? 0 : variance); /* NaN goes through */
}

static int open_sample(struct sample *out, const float *reference, const float *candidate,
                       const struct rr_list *lists, size_t n_lists, size_t top,
                       struct rr_error *err)
{
    size_t pairs = 0, longest = 0;
    struct scored *s;
    double *values;

    for (size_t i = 0; i < n_lists; i++) {
        pairs += lists[i].n_documents;
        longest = RR_MAX(longest, lists[i].n_documents);
    }
    s = rr_alloc(RR_MEM_MISC, longest + 1, sizeof(*s));
    out->cuts = rr_alloc(RR_MEM_MISC, n_lists + 1, sizeof(*out->cuts));
    out->values = values = rr_alloc(RR_MEM_MISC, pairs + 1, sizeof(*values));
    out->n = 0;
    for (size_t i = 0; i < n_lists && s && values && out->cuts; i++) {
        size_t n = lists[i].n_documents;

        for (size_t j = 0; j < n; j++) s[j] = (struct scored){ reference[j], candidate[j], j };
        if (n > top) make_cut(&out->cuts[out->n++], values, s, n, top);
        values += n;
        reference += n;
        candidate += n;
    }
    rr_free(s);
    if (s && out->values && out->cuts) return RR_OK;
    return rr_fail(err, RR_ENOMEM, "out of memory for %zu pairs", pairs);
}

int rr_expect(struct rr_expected *out, const float *reference, const float *candidate,
              const struct rr_list *lists, size_t n_lists, size_t n_errors, size_t top,
              struct rr_error *err)
{
    double relative, s = deviation(reference, candidate, lists, n_errors, &relative), lost, error;
    struct sample cuts;
    int rc = RR_OK;

    memset(out, 0, sizeof(*out));
    if (!isfinite(s)) return RR_OK;
    rc = open_sample(&cuts, reference, candidate, lists, n_lists, top, err);
    out->lists = cuts.n;
    out->share = cuts.n > 0;
    if (!rc && cuts.n && s > 0) {
        double anchor = 0, scale = 1;

        lost = mean_loss(&cuts, s, &error);
        if (lost < ANCHOR) anchor = find_anchor(&cuts, s);
        if (anchor > 0) {
            lost = mean_loss(&cuts, anchor, &error);
            scale = s / anchor;
        }
        out->share = 1 - scale * lost;
        out->error = scale * hypot(error, lost * relative);
    }
    rr_free(cuts.values);
    rr_free(cuts.cuts);
    return rc;
}

bool rr_expect_refuted(size_t lost, size_t n, double kept)
{
    double fewer = 0; /* chance of fewer than lost: a sum of binomial terms */

    if (kept >= 1) return lost > 0;
    for (size_t k = 0; k < lost; k++)
        fewer += exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) +
                     (double)k * log(1 - kept) + (double)(n - k) * log(kept));
    return lost > 0 && 1 - fewer < ALPHA;
}
