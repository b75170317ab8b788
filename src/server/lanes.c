/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.c - see lanes.h. */
#include "server/lanes.h"

#include "base/clock.h"
#include "base/text.h"
#include "server/models.h"

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_work(const struct rr_device_state *d, struct rr_json_out *o)
{
    rr_out_uint(o, "queue_tokens", d->queue_tokens);
    rr_out_uint(o, "in_flight_tokens", d->in_hand_tokens);
    rr_out_uint(o, "batches", d->batches_done);
    rr_out_uint(o, "pairs", d->pairs_done);
    rr_out_uint(o, "tokens", d->tokens_done);
    rr_out_uint(o, "errors", d->errors);
    rr_out_uint(o, "compute_ms", d->compute_ns / RR_MILLISECOND);
    rr_out_double(o, "ns_per_token", d->ns_per_token);
}

static void put_gpu(struct rr_engine *engine, uint32_t i, struct rr_json_out *o)
{
    struct rr_gpu g;

    if (!rr_device_gpu(engine, i, &g)) return;
    rr_out_uint(o, "memory_used_bytes", g.memory_used);
    if (g.utilization >= 0) rr_out_printf(o, "utilization", "%.2f", (double)g.utilization);
    if (g.celsius >= 0) rr_out_printf(o, "celsius", "%.0f", (double)g.celsius);
}

static void put_device(struct rr_engine *engine, uint32_t i, const struct rr_device_state *d,
                       bool details, struct rr_json_out *o)
{
    rr_out_object(o, NULL);
    rr_out_string(o, "name", d->name);
    rr_out_string(o, "hardware", d->hardware);
    rr_out_string(o, "isa", d->isa);
    rr_out_string(o, "dtype", d->dtype);
    rr_out_bool(o, "up", d->up);
    rr_out_bool(o, "reserve", d->reserve);
    if (d->why[0]) rr_out_string(o, "why", d->why);
    rr_out_uint(o, "memory_bytes", d->memory_bytes);
    put_gpu(engine, i, o);
    rr_out_uint(o, "weights_bytes", d->weights_bytes);
    rr_out_uint(o, "workspace_bytes", d->workspace_bytes);
    rr_out_uint(o, "batch_tokens", d->batch_tokens);
    if (details) put_work(d, o);
    rr_out_end(o);
}

void rr_lanes_put(struct rr_engine *engine, bool details, struct rr_json_out *o)
{
    struct rr_device_state d;
    uint32_t i;

    rr_out_array(o, "devices");
    for (i = 0; rr_engine_device(engine, i, &d); i++) put_device(engine, i, &d, details, o);
    rr_out_end(o);
}

/* ---- metrics --------------------------------------------------------------------------------- */

static double is_up(const struct rr_device_state *d)
{
    return d->up;
}

static double queue_of(const struct rr_device_state *d)
{
    return (double)d->queue_tokens;
}

static double in_flight_of(const struct rr_device_state *d)
{
    return (double)d->in_hand_tokens;
}

static double batches_of(const struct rr_device_state *d)
{
    return (double)d->batches_done;
}

static double pairs_of(const struct rr_device_state *d)
{
    return (double)d->pairs_done;
}

static double tokens_of(const struct rr_device_state *d)
{
    return (double)d->tokens_done;
}

static double errors_of(const struct rr_device_state *d)
{
    return (double)d->errors;
}

static double busy_of(const struct rr_device_state *d)
{
    return (double)d->compute_ns * 1e-9;
}

static const struct meter {
    const char *name, *type, *help;
    double (*value)(const struct rr_device_state *d);
} meters[] = {
#define RR_LANE_METRIC(name, type, help, value) { name, type, help, value },
#include "server/lane_metrics.def"
#undef RR_LANE_METRIC
};

static void put_series(const struct meter *m, const char *model, struct rr_engine *engine,
                       struct rr_buf *out)
{
    struct rr_device_state d;
    uint32_t i;

    for (i = 0; rr_engine_device(engine, i, &d); i++) {
        rr_buf_printf(out, "%s{model=", m->name);
        rr_buf_json_string(out, rr_text(model)); /* escapes as the format wants it */
        rr_buf_printf(out, ",device=\"%s\"} %.15g\n", d.name, m->value(&d));
    }
}

void rr_lanes_metrics(struct rr_server *s, struct rr_buf *out)
{
    size_t i, k;

    for (k = 0; k < RR_COUNT(meters); k++) {
        const struct meter *m = &meters[k];

        rr_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
        for (i = 0; i < rr_models_count(s->models); i++) {
            struct rr_engine *engine = rr_models_take(s->models, i);

            if (!engine) continue;
            put_series(m, rr_models_name(s->models, i), engine, out);
            rr_models_give(s->models, engine);
        }
    }
}

/* ---- the log at start, and health ------------------------------------------------------------ */

void rr_lanes_say(const struct rr_console *c, struct rr_engine *engine)
{
    struct rr_device_state d;
    uint32_t i;

    if (!rr_engine_device(engine, 1, &d) || d.reserve) return;
    for (i = 0; rr_engine_device(engine, i, &d); i++)
        if (!d.reserve)
            RR_SAY(c, RR_INFO, LANE, d.name, d.hardware, d.isa, d.dtype,
                   rr_num(d.memory_bytes >> 20),
                   rr_num((d.weights_bytes + d.workspace_bytes) >> 20), rr_num(d.batch_tokens));
}

bool rr_lanes_reserve_serves(struct rr_engine *engine)
{
    struct rr_device_state d;
    bool serves = false;
    uint32_t i;

    for (i = 0; rr_engine_device(engine, i, &d); i++) {
        if (!d.reserve && d.up) return false;
        serves = d.reserve && d.up;
    }
    return serves;
}
