/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - what all handlers share.  Layer: server (L6).
 * Threads: everything but the atomics is written before the first request and then only read.
 *
 * settings and parse change on SIGHUP: read the pointer once where several values must fit
 * together.  What an older pointer leads to stays readable until the server ends. */
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

struct rr_gate;

/* LEAVING: SIGTERM has come, balancers are being told, but who still asks is served. */
enum rr_phase { RR_PHASE_LOADING, RR_PHASE_READY, RR_PHASE_LEAVING, RR_PHASE_DRAINING };

struct rr_models;
struct rr_otlp;
struct rr_loader;
struct rr_parking;

struct rr_server {
    _Atomic(const struct rr_settings *) settings;
    _Atomic(const struct rr_parse_config *) parse; /* max_length is filled in per request */
    struct rr_console console;
    const struct rr_dialect *pinned; /* --dialect; NULL: chosen by each body */
    struct rr_http *http;
    struct rr_gate *gate;
    struct rr_watch *watch;
    struct rr_metrics *metrics;
    char model[256];          /* name while the engine is not there yet */
    double started;           /* seconds since 1970 */
    uint64_t started_ns;      /* the same, of the monotonic clock */
    struct rr_team *team;     /* of all engines */
    struct rr_models *models; /* exchanges hold a lease on one's engine (exchange->engine) */
    struct rr_loader *loader;
    struct rr_parking *parking;
    struct rr_otlp *otlp;        /* NULL: traces go nowhere */
    _Atomic size_t max_inflight; /* bytes of bodies */
    _Atomic int phase;
    _Atomic size_t inflight;       /* bytes of the bodies of open exchanges */
    _Atomic uint32_t accepted;     /* exchanges begun before the drain and not over */
    _Atomic uint32_t in_flight;    /* rerank requests accepted and not answered */
    _Atomic uint64_t answered;     /* rerank requests */
    _Atomic uint64_t last_seen_ns; /* a request of any kind; 0: none yet */
    _Atomic uint64_t heartbeat_ns; /* the supervisor's last round */
};

/* Is new work taken? */
static inline bool rr_phase_serves(int phase)
{
    return phase == RR_PHASE_READY || phase == RR_PHASE_LEAVING;
}

/* The name that replies of this exchange carry. */
const char *rr_server_model(const struct rr_server *s, const struct rr_exchange *x);
/* Seconds after which a refused client should come back: what waits, at the measured rate, with
 * some scatter so that those refused together do not return together. */
unsigned rr_server_retry_after(const struct rr_server *s, const struct rr_exchange *x);

/* The callbacks for http.h; user is the server. */
void rr_server_app(struct rr_server *s, struct rr_http_app *app);

#endif
