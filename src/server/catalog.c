/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.c - see catalog.h. */
#include "server/catalog.h"

#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "server/handle.h"
#include "server/models.h"
#include "server/route.h"

static const char *const states[] = { "idle", "loading", "loaded", "failed" };

/* The name that replies carry. */
static const char *name_of(struct rr_server *s, size_t i, const struct rr_model_view *v)
{
    return !rr_models_named(s->models, i) && v->info.model[0] ? v->info.model : v->name;
}

static void put_aliases(struct rr_server *s, size_t i, struct rr_json_out *o)
{
    const struct rr_settings *settings = s->settings;
    size_t k;

    rr_out_array(o, "aliases");
    for (k = 0; k < settings->n_aliases; k++) {
        const struct rr_model_alias *a = &settings->aliases[k];
        bool own = strcmp(a->name, "default") == 0
                       ? i == 0
                       : strcmp(a->name, rr_models_name(s->models, i)) == 0;

        if (own) rr_out_string(o, NULL, a->alias);
    }
    rr_out_end(o);
}

/* The state, and what is known of a model that is, or was, loaded. */
static void put_state(const struct rr_model_view *v, struct rr_json_out *o)
{
    rr_out_string(o, "state", states[v->state]);
    if (v->bytes) rr_out_uint(o, "bytes", v->bytes);
    if (!v->info.max_length) return;
    rr_out_uint(o, "max_length", v->info.max_length);
    rr_out_hex(o, "fingerprint", v->info.fingerprint);
    rr_out_string(o, "dtype", v->info.dtype);
    rr_out_string(o, "device", v->info.device);
}

static void put_details(const struct rr_model_view *v, struct rr_json_out *o)
{
    uint64_t now = rr_now_ns();

    rr_out_string(o, "path", v->path);
    rr_out_uint(o, "leases", v->leases);
    rr_out_uint(o, "requests", v->requests);
    rr_out_uint(o, "loads", v->loads);
    rr_out_uint(o, "failures", v->failures);
    rr_out_uint(o, "unloads", v->unloads);
    rr_out_uint(o, "load_ms", v->load_ns / RR_MILLISECOND);
    if (v->state != RR_MODEL_FAILED) return;
    rr_out_uint(o, "retry_ms", v->retry_ns > now ? (v->retry_ns - now) / RR_MILLISECOND : 0);
    rr_out_string(o, "why", v->why);
}

static void put_model(struct rr_server *s, size_t i, struct rr_json_out *o)
{
    struct rr_model_view v;

    rr_models_view(s->models, i, &v);
    rr_out_object(o, NULL);
    rr_out_string(o, "id", name_of(s, i, &v));
    rr_out_string(o, "object", "model");
    rr_out_int(o, "created", s->started);
    rr_out_string(o, "owned_by", "rerankd");
    rr_out_string(o, "model_type", "rerank"); /* Xinference's client asks before it ranks */
    rr_out_bool(o, "default", i == 0);
    put_aliases(s, i, o);
    put_state(&v, o);
    rr_out_end(o);
}

void rr_catalog_models(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };
    size_t i;

    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "object", "list");
    rr_out_array(&o, "data");
    for (i = 0; i < rr_models_count(s->models); i++) put_model(s, i, &o);
    rr_out_end(&o);
    rr_out_end(&o);
}

void rr_catalog_model(struct rr_server *s, struct rr_exchange *x)
{
    const char *name = strstr(x->path, x->route->path) + strlen(x->route->path);
    const struct rr_settings *settings = s->settings;
    struct rr_json_out o = { .buf = &x->reply };
    struct rr_problem problem = { 0 };
    size_t i;

    if (!rr_models_find(s->models, settings, name, strlen(name), settings->strict_model, &i)) {
        rr_problem_set(&problem, 404, "there is no model of this name; GET /v1/models lists them");
        rr_reply_problem(x, x->pinned ? x->pinned : &rr_dialect_union, &problem);
        return;
    }
    x->status = 200;
    put_model(s, i, &o);
}

void rr_catalog_put(struct rr_server *s, bool details, struct rr_json_out *o)
{
    struct rr_model_view v;
    size_t i;

    rr_out_array(o, "models");
    for (i = 0; i < rr_models_count(s->models); i++) {
        rr_models_view(s->models, i, &v);
        rr_out_object(o, NULL);
        rr_out_string(o, "name", name_of(s, i, &v));
        put_aliases(s, i, o);
        put_state(&v, o);
        if (details) put_details(&v, o);
        rr_out_end(o);
    }
    rr_out_end(o);
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
