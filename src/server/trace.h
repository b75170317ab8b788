/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - W3C Trace Context: the ids that join our log lines and spans with the caller's.
 * Layer: server (L6).  Threads: any. */
#ifndef RR_SERVER_TRACE_H
#define RR_SERVER_TRACE_H

#include <stdbool.h>

struct rr_trace {
    char id[33];     /* 32 hexadecimal digits */
    char span[17];   /* ours, 16 digits */
    char parent[17]; /* the caller's span; "" when the trace begins here */
    bool sampled;    /* the caller records it; true when the trace begins here */
};

/* Continues the trace of a traceparent header ("00-<32 hex>-<16 hex>-<2 hex>"), or begins one when
 * header is NULL or anything about it is not as the recommendation says. */
void rr_trace_begin(struct rr_trace *t, const char *header);

/* 16 digits, new in this process: for a span, or a request that came without an id. */
void rr_trace_new_id(char out[17]);

#endif
