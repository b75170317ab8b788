/* SPDX-License-Identifier: Apache-2.0 */
/* health.c - see health.h. */
#include "server/health.h"

#include <string.h>

#include "base/json_out.h"
#include "server/lanes.h"
#include "server/models.h"

static bool saturated(const struct rr_settings *o, const struct rr_stats *stats)
{
    return stats->queue_tokens > o->queue_tokens / 10 * 9 ||
           stats->queue_requests > o->queue_requests / 10 * 9;
}

void rr_condition(struct rr_server *s, struct rr_engine *engine, struct rr_condition *out)
{
    int phase = atomic_load(&s->phase);
    struct rr_stats stats;

    *out = (struct rr_condition){ .word = "loading",
                                  .model_failed = rr_models_n_failed(s->models) > 0 };
    if (engine) {
        rr_engine_health(engine, &out->engine);
        rr_engine_stats(engine, &stats);
        out->cache_down = stats.shared_configured && !stats.shared_up;
        out->device_fallback = rr_engine_info(engine)->fallback_active ||
                               (out->engine.ok && !out->engine.device_ok); /* lost since */
        out->cpu_serves = rr_lanes_reserve_serves(engine) ||
                          (rr_engine_info(engine)->fallback_active &&
                           strcmp(rr_engine_info(engine)->device, "cpu") == 0);
    }
    if (phase == RR_PHASE_LEAVING || phase == RR_PHASE_DRAINING) {
        out->word = "draining";
    } else if (phase == RR_PHASE_READY && engine && !out->engine.ok) {
        out->word = "unhealthy";
    } else if (phase == RR_PHASE_READY && engine) {
        bool full = saturated(s->settings, &stats);

        out->word = full ? "saturated" : "healthy";
        out->ok = true;
        out->ready = !full || s->settings->ready_when_saturated;
    }
}

/* "degraded" and "why" where there is something to say. */
static void put_details(const struct rr_condition *c, struct rr_json_out *o)
{
    static const char *const words[] = { "device", "cache", "models" };
    const bool bad[] = { c->device_fallback, c->cache_down, c->model_failed };
    bool any = false;
    size_t i;

    for (i = 0; i < RR_COUNT(words); i++) {
        if (!bad[i]) continue;
        if (!any) rr_out_array(o, "degraded");
        rr_out_string(o, NULL, words[i]);
        any = true;
    }
    if (any) rr_out_end(o);
    if (c->engine.why[0]) rr_out_string(o, "why", c->engine.why);
}

static void set_status(struct rr_exchange *x, bool good)
{
    x->status = good ? 200 : 503;
    if (!good) rr_http_header(x, "Retry-After", "1");
}

void rr_admin_health(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };
    struct rr_condition c;

    rr_condition(s, x->engine, &c);
    set_status(x, c.ok);
    rr_out_object(&o, NULL);
    /* Clients of the first rerank services compare with this very word. */
    rr_out_string(&o, "status", c.ok ? "healthy" : c.word);
    rr_out_string(&o, "device",
                  x->engine ? rr_engine_info(x->engine)->device : s->settings->device);
    rr_out_string(&o, "model", rr_server_model(s, x));
    put_details(&c, &o);
    rr_out_end(&o);
}

void rr_admin_live(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    x->status = 200;
    rr_buf_puts(&x->reply, "{\"status\":\"alive\"}");
}

void rr_admin_ready(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };
    struct rr_condition c;

    rr_condition(s, x->engine, &c);
    set_status(x, c.ready);
    rr_out_object(&o, NULL);
    rr_out_string(&o, "status", c.ready ? "ready" : c.word);
    put_details(&c, &o);
    rr_out_end(&o);
}
