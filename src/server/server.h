/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - what all handlers share.  Layer: server (L6).
 * Threads: everything but the atomics is written before the first request and then only read. */
#ifndef RR_SERVER_SERVER_H
#define RR_SERVER_SERVER_H

#include <stdatomic.h>

#include "options.h"
#include "rerank.h"
#include "server/dialect.h"
#include "server/http.h"
#include "server/messages.h"
#include "server/meters.h"
#include "server/watch.h"

enum rr_phase { RR_PHASE_LOADING, RR_PHASE_READY, RR_PHASE_DRAINING };

struct rr_server {
    const struct rr_settings *settings;
    struct rr_console console;
    struct rr_parse_config parse;    /* max_length is filled in per request */
    const struct rr_dialect *pinned; /* --dialect; NULL: chosen by each body */
    struct rr_http *http;
    struct rr_watch *watch;
    struct rr_metrics *metrics;
    char model[256]; /* name while the engine is not there yet */
    double started;  /* seconds since 1970 */
    _Atomic int phase;
    _Atomic(struct rr_engine *) engine; /* NULL until loaded; stays until the HTTP threads ended */
    _Atomic uint32_t in_flight;         /* accepted and not answered */
    _Atomic uint64_t answered;          /* rerank requests */
};

/* The name that replies carry. */
const char *rr_server_model(const struct rr_server *s);
/* Seconds after which a refused client should come back: what waits, at the measured rate. */
unsigned rr_server_retry_after(const struct rr_server *s);

/* The callbacks for http.h; user is the server. */
void rr_server_app(struct rr_server *s, struct rr_http_app *app);

#endif
