/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.c - see catalog.h. */
#include "server/catalog.h"

#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "server/models.h"

static const char *const states[] = { "idle", "loading", "loaded", "failed" };

static void put_string(struct rr_buf *out, const char *key, const char *value)
{
    rr_buf_printf(out, "\"%s\":", key);
    rr_buf_json_string(out, rr_text(value));
}

/* The name that replies carry. */
static const char *name_of(struct rr_server *s, size_t i, const struct rr_model_view *v)
{
    return !rr_models_named(s->models, i) && v->info.model[0] ? v->info.model : v->name;
}

static void put_aliases(struct rr_server *s, size_t i, struct rr_buf *out)
{
    const struct rr_settings *settings = s->settings;
    const char *gap = "";
    size_t k;

    rr_buf_puts(out, ",\"aliases\":[");
    for (k = 0; k < settings->n_aliases; k++) {
        const struct rr_model_alias *a = &settings->aliases[k];

        if (strcmp(a->name, "default") == 0 ? i != 0
                                            : strcmp(a->name, rr_models_name(s->models, i)) != 0)
            continue;
        rr_buf_puts(out, gap);
        rr_buf_json_string(out, rr_text(a->alias));
        gap = ",";
    }
    rr_buf_putc(out, ']');
}

/* ,"state":..., and what is known of a model that is, or was, loaded. */
static void put_state(const struct rr_model_view *v, struct rr_buf *out)
{
    rr_buf_printf(out, ",\"state\":\"%s\"", states[v->state]);
    if (v->bytes) rr_buf_printf(out, ",\"bytes\":%llu", (unsigned long long)v->bytes);
    if (!v->info.max_length) return;
    rr_buf_printf(out, ",\"max_length\":%u,\"fingerprint\":\"%016llx\",", v->info.max_length,
                  (unsigned long long)v->info.fingerprint);
    put_string(out, "dtype", v->info.dtype);
    rr_buf_putc(out, ',');
    put_string(out, "device", v->info.device);
}

static void put_details(const struct rr_model_view *v, struct rr_buf *out)
{
    uint64_t now = rr_now_ns();

    rr_buf_putc(out, ',');
    put_string(out, "path", v->path);
    rr_buf_printf(out,
                  ",\"leases\":%u,\"requests\":%llu,\"loads\":%llu,\"failures\":%llu,"
                  "\"unloads\":%llu,\"load_ms\":%llu",
                  v->leases, (unsigned long long)v->requests, (unsigned long long)v->loads,
                  (unsigned long long)v->failures, (unsigned long long)v->unloads,
                  (unsigned long long)(v->load_ns / RR_MILLISECOND));
    if (v->state != RR_MODEL_FAILED) return;
    rr_buf_printf(
        out, ",\"retry_ms\":%llu,",
        (unsigned long long)(v->retry_ns > now ? (v->retry_ns - now) / RR_MILLISECOND : 0));
    put_string(out, "why", v->why);
}

void rr_catalog_models(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_model_view v;
    size_t i;

    x->status = 200;
    rr_buf_puts(&x->reply, "{\"object\":\"list\",\"data\":[");
    for (i = 0; i < rr_models_count(s->models); i++) {
        rr_models_view(s->models, i, &v);
        rr_buf_puts(&x->reply, i ? ",{" : "{");
        put_string(&x->reply, "id", name_of(s, i, &v));
        rr_buf_printf(&x->reply,
                      ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"rerankd\","
                      "\"default\":%s",
                      (long long)s->started, i ? "false" : "true");
        put_aliases(s, i, &x->reply);
        put_state(&v, &x->reply);
        rr_buf_putc(&x->reply, '}');
    }
    rr_buf_puts(&x->reply, "]}");
}

void rr_catalog_put(struct rr_server *s, bool details, struct rr_buf *out)
{
    struct rr_model_view v;
    size_t i;

    rr_buf_puts(out, ",\"models\":[");
    for (i = 0; i < rr_models_count(s->models); i++) {
        rr_models_view(s->models, i, &v);
        rr_buf_puts(out, i ? ",{" : "{");
        put_string(out, "name", name_of(s, i, &v));
        put_aliases(s, i, out);
        put_state(&v, out);
        if (details) put_details(&v, out);
        rr_buf_putc(out, '}');
    }
    rr_buf_putc(out, ']');
}

/* ---- metrics --------------------------------------------------------------------------------- */

static uint64_t is_loaded(const struct rr_model_view *v)
{
    return v->info.max_length != 0;
}

static uint64_t has_failed(const struct rr_model_view *v)
{
    return v->state == RR_MODEL_FAILED;
}

static uint64_t bytes_of(const struct rr_model_view *v)
{
    return v->bytes;
}

static uint64_t requests_of(const struct rr_model_view *v)
{
    return v->requests;
}

static uint64_t loads_of(const struct rr_model_view *v)
{
    return v->loads;
}

static uint64_t failures_of(const struct rr_model_view *v)
{
    return v->failures;
}

static uint64_t unloads_of(const struct rr_model_view *v)
{
    return v->unloads;
}

static const struct {
    const char *name, *type, *help;
    uint64_t (*value)(const struct rr_model_view *v);
} meters[] = {
#define RR_MODEL_METRIC(name, type, help, value) { name, type, help, value },
#include "server/model_metrics.def"
#undef RR_MODEL_METRIC
};

void rr_catalog_metrics(struct rr_server *s, struct rr_buf *out)
{
    struct rr_model_view v;
    size_t i, k;

    for (k = 0; k < RR_COUNT(meters); k++) {
        rr_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", meters[k].name, meters[k].help,
                      meters[k].name, meters[k].type);
        for (i = 0; i < rr_models_count(s->models); i++) {
            rr_models_view(s->models, i, &v);
            rr_buf_printf(out, "%s{model=", meters[k].name);
            rr_buf_json_string(out, rr_text(v.name)); /* escapes as the format wants it */
            rr_buf_printf(out, "} %llu\n", (unsigned long long)meters[k].value(&v));
        }
    }
}
