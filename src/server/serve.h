/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - the HTTP server.  Layer: server (L6). */
#ifndef RR_SERVER_SERVE_H
#define RR_SERVER_SERVE_H

#include "options.h"

/* Runs until SIGTERM or SIGINT: binds the port, answers 503 while the model loads, serves, drains.
 * Returns the exit code of the process (enum rr_exit). */
int rr_serve(const struct rr_settings *settings);

#endif
