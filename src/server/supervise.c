/* SPDX-License-Identifier: Apache-2.0 */
/* supervise.c - see supervise.h. */
#include "server/supervise.h"

#include "base/clock.h"
#include "base/err.h"
#include "server/models.h"
#include "server/parking.h"

#define MORE_TIME_US 30000000 /* asked of systemd at each look while the model loads */

void rr_supervisor_init(struct rr_supervisor *v, struct rr_server *s,
                        const struct rr_notify *notify)
{
    *v = (struct rr_supervisor){ .server = s, .notify = notify };
}

static int sick(struct rr_supervisor *v, const struct rr_health *health, uint64_t now,
                struct rr_error *err)
{
    struct rr_server *s = v->server;
    double seconds, patience = s->settings->stall_exit;

    if (!v->sick_since_ns) {
        v->sick_since_ns = now;
        RR_SAY(&s->console, RR_ERROR, UNHEALTHY, health->why);
        rr_notify_send(v->notify, "STATUS=unhealthy: %.400s", health->why);
    }
    seconds = (double)(now - v->sick_since_ns) * 1e-9;
    if (patience <= 0 || seconds < patience) return RR_OK;
    RR_SAY(&s->console, RR_ERROR, STALL_EXIT, rr_num1(seconds));
    return rr_fail(err, health->device_ok || health->stalled ? RR_EINTERNAL : RR_EDEVICE, "%s",
                   health->why); /* a device that hangs may work again in a new process */
}

static void well(struct rr_supervisor *v)
{
    if (v->sick_since_ns) {
        v->sick_since_ns = 0;
        RR_SAY(&v->server->console, RR_INFO, HEALTHY, "");
        rr_notify_send(v->notify, "STATUS=serving");
    }
    rr_notify_send(v->notify, "WATCHDOG=1");
}

int rr_supervise(struct rr_supervisor *v, struct rr_error *err)
{
    struct rr_server *s = v->server;
    uint64_t now = rr_now_ns();
    struct rr_engine *engine = rr_models_take(s->models, 0);
    struct rr_health health;
    int rc = RR_OK;

    atomic_store(&s->heartbeat_ns, now);
    rr_parking_look(s);
    if (!engine) {
        rr_notify_send(v->notify, "EXTEND_TIMEOUT_USEC=%d\nSTATUS=loading the model", MORE_TIME_US);
        return RR_OK;
    }
    rr_engine_health(engine, &health);
    if (health.ok)
        well(v);
    else
        rc = sick(v, &health, now, err);
    rr_models_give(s->models, engine);
    return rc;
}
