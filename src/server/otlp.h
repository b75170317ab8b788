/* SPDX-License-Identifier: Apache-2.0 */
/* otlp.h - sends spans of requests to an OpenTelemetry collector, over HTTP as JSON.
 * Layer: server (L6).  Threads: rr_otlp_add from any; one of its own sends.
 *
 * Serving never waits for it: a full queue or a collector that does not answer loses spans, which
 * are counted. */
#ifndef RR_SERVER_OTLP_H
#define RR_SERVER_OTLP_H

#include "base/attr.h"
#include "base/metrics.h"
#include "rerank_types.h"

struct rr_otlp;
struct rr_access;
struct rr_exchange;

/* Is it a URL that spans can be sent to? */
RR_NODISCARD int rr_otlp_check(const char *endpoint, struct rr_error *err);
/* endpoint: "http://collector:4318"; /v1/traces is added. */
RR_NODISCARD int rr_otlp_open(struct rr_otlp **out, const char *endpoint, struct rr_metrics *m,
                              struct rr_error *err);
/* Sends what is queued, for a moment.  NULL is allowed. */
void rr_otlp_close(struct rr_otlp *o);

/* Queues a request's span with its children prep, queue and compute, if the caller samples it or
 * if it began here and falls among the sampled percent.  Never blocks. */
void rr_otlp_add(struct rr_otlp *o, const struct rr_exchange *x, const struct rr_access *a,
                 uint32_t percent);

#endif
