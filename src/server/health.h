/* SPDX-License-Identifier: Apache-2.0 */
/* health.h - can this server answer?  Layer: server (L6).  Threads: any.
 *
 *   state                       /live   /ready            /health           new work
 *   loading                     200     503 loading       503 loading       503
 *   ready                       200     200               200               yes
 *   queue more than 90 % full   200     200, or 503 with  200               what fits
 *                                       --no-ready-when-saturated
 *   shared cache down           200     200 degraded      200 degraded      yes
 *   GPU lost, CPU serves        200     200 degraded      200 degraded      yes
 *   one of several devices lost 200     200 degraded      200 degraded      yes
 *   device lost, or stalled     200     503 unhealthy     503 unhealthy     503 by the engine
 *   SIGTERM came                200     503 draining      503 draining      yes, then 503 */
#ifndef RR_SERVER_HEALTH_H
#define RR_SERVER_HEALTH_H

#include "server/server.h"

struct rr_condition {
    bool ok;          /* /health is 200 */
    bool ready;       /* /ready is 200 */
    const char *word; /* "loading", "healthy", "saturated", "unhealthy", "draining" */
    bool cache_down;
    bool device_fallback; /* some device is missing, others or the CPU serve */
    bool cpu_serves;      /* the CPU does, where something else was asked for */
    bool model_failed;       /* one of the others cannot be loaded */
    struct rr_health engine; /* of the engine; zeros while there is none */
};

/* engine: leased, or NULL. */
void rr_condition(struct rr_server *s, struct rr_engine *engine, struct rr_condition *out);

void rr_admin_health(struct rr_server *s, struct rr_exchange *x);
void rr_admin_live(struct rr_server *s, struct rr_exchange *x);
void rr_admin_ready(struct rr_server *s, struct rr_exchange *x);

#endif
