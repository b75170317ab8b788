/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - counters, gauges and histograms from a static table, as Prometheus text 0.0.4.
 * Layer: base (L0).  Threads: updates and rr_metrics_write from any; open and close from one.
 *
 * A table is best made from an X-macro file, so that ids and rows cannot drift apart:
 *
 *     enum { REQUESTS, LATENCY, N_METRICS };
 *     static const char *const paths[] = { "/rerank", "other" };
 *     static const char *const codes[] = { "200", "400" };
 *     static const double seconds[] = { 0.01, 0.1, 1 };
 *     static const struct rr_metric table[N_METRICS] = {
 *         [REQUESTS] = { .type = RR_METRIC_COUNTER, .name = "rerankd_requests_total",
 *                        .help = "Requests answered.",
 *                        .labels = { { "path", paths, 2 }, { "code", codes, 2 } } },
 *         [LATENCY] = { .type = RR_METRIC_HISTOGRAM, .name = "rerankd_request_seconds",
 *                       .help = "From the first byte to the last.", .scale = 1e-9,
 *                       .buckets = seconds, .n_buckets = 3 },
 *     };
 *     rr_metrics_add(m, REQUESTS, rr_metric_series(&table[REQUESTS], 0, 1), 1);
 *     rr_metrics_observe(m, LATENCY, 0, rr_now_ns() - start);
 *
 * Values are kept as integers of a small unit (nanoseconds, bytes, 1) so that an update is one
 * atomic addition; scale turns them into the unit that is shown. */
#ifndef RR_BASE_METRICS_H
#define RR_BASE_METRICS_H

#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "rerank_types.h"

enum rr_metric_type { RR_METRIC_COUNTER, RR_METRIC_GAUGE, RR_METRIC_HISTOGRAM };

struct rr_metric_label {
    const char *name;
    const char *const *values; /* [n] all values that it can have */
    uint32_t n;
};

struct rr_metric {
    enum rr_metric_type type;
    const char *name; /* [a-zA-Z_:][a-zA-Z0-9_:]*; counters end in _total by custom */
    const char *help;
    double scale;                     /* shown = stored * scale; 0: 1 */
    struct rr_metric_label labels[2]; /* n 0: not there; two make every combination a series */
    const double *buckets;            /* histograms: upper bounds as shown, ascending, no +Inf */
    uint32_t n_buckets;
};

/* Series number of the i-th value of the first label and the j-th of the second (0 where there is
 * no such label). */
static inline uint32_t rr_metric_series(const struct rr_metric *metric, uint32_t i, uint32_t j)
{
    return metric->labels[1].n ? i * metric->labels[1].n + j : i;
}

struct rr_metrics;

/* Makes the storage for table[n], which must live as long.  A malformed table is RR_EINTERNAL. */
RR_NODISCARD int rr_metrics_open(struct rr_metrics **out, const struct rr_metric *table, uint32_t n,
                                 struct rr_error *err);
void rr_metrics_close(struct rr_metrics *m); /* NULL is allowed */

/* id: row of the table.  An id or series that is not there changes nothing.
 * add: counters and gauges (to take from a gauge, add (uint64_t)-n).  set: gauges, and counters
 * that mirror a total kept elsewhere.  observe: histograms. */
void rr_metrics_add(struct rr_metrics *m, uint32_t id, uint32_t series, uint64_t value);
void rr_metrics_set(struct rr_metrics *m, uint32_t id, uint32_t series, int64_t value);
void rr_metrics_observe(struct rr_metrics *m, uint32_t id, uint32_t series, uint64_t value);

/* The stored value; of a histogram, how many observations. */
int64_t rr_metrics_value(const struct rr_metrics *m, uint32_t id, uint32_t series);

/* Appends the text of all metrics.  Series of two labels appear once they were touched, others from
 * the start.  A histogram's buckets, sum and count may be one update apart from each other. */
void rr_metrics_write(const struct rr_metrics *m, struct rr_buf *out);

/* Appends one gauge of value 1 whose labels say something, e.g. rerankd_info{version="0.1.0"} 1.
 * keys and values: [n]; values are escaped. */
void rr_metrics_write_info(struct rr_buf *out, const char *name, const char *help, uint32_t n,
                           const char *const *keys, const char *const *values);

#endif
