/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.h - what is told of the server's models: lists and metrics.
 * Layer: server (L6).  Threads: I/O threads. */
#ifndef RR_SERVER_CATALOG_H
#define RR_SERVER_CATALOG_H

#include "base/json_out.h"
#include "server/server.h"

void rr_catalog_models(struct rr_server *s, struct rr_exchange *x); /* GET /v1/models */
/* GET /v1/models/NAME: the one that a request with this name would get. */
void rr_catalog_model(struct rr_server *s, struct rr_exchange *x);

/* The member "models" with everything there is, for /debug/state; for /info, where details is
 * false, without paths, counts and errors. */
void rr_catalog_put(struct rr_server *s, bool details, struct rr_json_out *o);

/* Metrics of each model.  Their label has configured names only. */
void rr_catalog_metrics(struct rr_server *s, struct rr_buf *out);

#endif
