/* SPDX-License-Identifier: Apache-2.0 */
/* access.h - what is told of one rerank request: a line in the log, metrics, spans.
 * Layer: server (L6).  Threads: I/O threads. */
#ifndef RR_SERVER_ACCESS_H
#define RR_SERVER_ACCESS_H

#include "server/job.h"

struct rr_access {
    const char *dialect, *problem; /* problem: NULL when it was answered with 200 */
    const char *model;             /* that it was for */
    unsigned status;
    size_t documents, results, cached, coalesced, rescored, truncated;
    uint64_t tokens;
    struct rr_timings timings; /* the longest of the parts, which run side by side */
    uint64_t total_ns;         /* from the last byte of the request */
};

/* Takes from the results of the job what is counted there, and observes each pair's length. */
void rr_access_results(struct rr_access *a, const struct rr_job *job);

/* One line in the log and, when it is traced, its spans. */
void rr_access_log(struct rr_server *s, const struct rr_exchange *x, const struct rr_access *a);

/* The line alone, of a request that was refused before its body was read. */
void rr_access_refused(struct rr_server *s, const struct rr_exchange *x, const char *why);

#endif
