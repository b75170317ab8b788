/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - the HTTP server.  Layer: server (L6). */
#ifndef RR_SERVER_SERVE_H
#define RR_SERVER_SERVE_H

#include "base/buf.h"
#include "options.h"

/* Runs until SIGTERM or SIGINT: binds the port, answers 503 while the model loads, serves, drains.
 * Returns the exit code of the process (enum rr_exit). */
int rr_serve(const struct rr_settings *settings);

/* Would rr_serve come up with these settings?  Reads what it would read except the weights, binds
 * nothing, says what is wrong.  Exit code. */
int rr_serve_check(const struct rr_settings *settings);

/* Descriptors that it needs beside those of max-connections. */
uint32_t rr_serve_spare_files(const struct rr_settings *settings);

/* docs/METRICS.md. */
void rr_serve_metrics_page(struct rr_buf *out);

#endif
