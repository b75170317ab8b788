/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - see control.h. */
#include "server/control.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_out.h"
#include "base/text.h"
#include "server/catalog.h"
#include "server/handle.h"
#include "server/health.h"
#include "server/lanes.h"
#include "server/loader.h"
#include "server/models.h"

/* ---- reload ------------------------------------------------------------------------------- */

#define MAX_PATH_BYTES 1024

struct wish { /* what is to be reloaded */
    size_t model;
    char path[MAX_PATH_BYTES]; /* "": what is in service */
};

static int read_string(const json_t *root, const char *key, struct rr_text *out,
                       struct rr_problem *problem)
{
    struct rr_error err = { 0 };

    if (rr_json_text(root, "body", key, out, &err))
        return rr_problem_set(problem, 422, "%s", err.msg);
    if (out->len >= MAX_PATH_BYTES || memchr(out->data, 0, out->len))
        return rr_problem_field(problem, key, "string_too_long", "at most %d bytes, no NUL",
                                MAX_PATH_BYTES - 1);
    return 0;
}

/* {"model": name, "path": folder}.  Without a path, model is the name of one that has one, else a
 * folder for the default, as it was when there was but one. */
static int read_wish(struct rr_server *s, const json_t *root, struct wish *w,
                     struct rr_problem *problem)
{
    struct rr_text model = { "", 0 }, path = { "", 0 };
    bool known;

    if (read_string(root, "model", &model, problem) || read_string(root, "path", &path, problem))
        return -1;
    known = rr_models_find(s->models, s->settings, model.data, model.len, true, &w->model);
    if (!known && path.len)
        return rr_problem_field(problem, "model", "value_error",
                                "there is no model of this name; GET /v1/models lists them");
    if (!path.len && (!known || (w->model == 0 && !rr_models_named(s->models, 0)))) path = model;
    snprintf(w->path, sizeof(w->path), "%.*s", (int)path.len, path.data);
    return 0;
}

static int read_body(struct rr_server *s, const struct rr_exchange *x, struct wish *w,
                     struct rr_problem *problem)
{
    struct rr_text body = { x->body.data, x->body.len };
    struct rr_error err = { 0 };
    json_t *root = NULL;
    int rc = 0;

    *w = (struct wish){ 0 };
    if (rr_text_blank(body)) return 0;
    if (rr_json_parse(&root, body, 4, RR_JSON_DUP_REJECT, &err))
        return rr_problem_set(problem, 400, "%s", err.msg);
    if (!json_is_object(root))
        rc = rr_problem_set(problem, 400, "the body is %s, expected a JSON object",
                            rr_json_type_name(root));
    else
        rc = read_wish(s, root, w, problem);
    json_decref(root);
    return rc;
}

void rr_control_reload(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_problem problem = { 0 };
    struct rr_error err = { 0 };
    struct wish w;
    int rc;

    if (read_body(s, x, &w, &problem)) {
        rr_reply_problem(x, &rr_dialect_union, &problem);
        return;
    }
    if (atomic_load(&s->phase) != RR_PHASE_READY)
        rr_problem_set(&problem, 409, "the server is loading its model or shutting down");
    if (!problem.status) {
        x->waits = true; /* from the next line on, x may be woken */
        rc = rr_loader_replace(s->loader, w.model, w.path, x, &err);
        if (rc == RR_OK) return;
        x->waits = false;
        rr_problem_set(&problem, rc == RR_EBUSY ? 409 : 500, "%s", err.msg);
    }
    rr_reply_problem(x, &rr_dialect_union, &problem);
}

/* ---- state -------------------------------------------------------------------------------- */

static void put_engine(const struct rr_info *info, struct rr_json_out *o)
{
    rr_out_object(o, "model");
    rr_out_string(o, "name", info->model);
    rr_out_string(o, "path", info->path);
    rr_out_hex(o, "fingerprint", info->fingerprint);
    rr_out_string(o, "dtype", info->dtype);
    rr_out_end(o);
    rr_out_object(o, "device");
    rr_out_string(o, "name", info->device);
    rr_out_string(o, "isa", info->isa);
    rr_out_uint(o, "threads", info->threads);
    rr_out_uint(o, "prep_threads", info->prep_threads);
    rr_out_uint(o, "weights_bytes", info->weights_bytes);
    rr_out_uint(o, "mapped_bytes", info->mapped_bytes);
    rr_out_uint(o, "workspace_bytes", info->workspace_bytes);
    rr_out_end(o);
}

static void put_work(struct rr_server *s, const struct rr_stats *t, struct rr_json_out *o)
{
    uint64_t oldest = rr_watch_oldest_ns(s->watch), now = rr_now_ns();

    rr_out_object(o, "queue");
    rr_out_uint(o, "requests", t->queue_requests);
    rr_out_uint(o, "pairs", t->queue_pairs);
    rr_out_uint(o, "tokens", t->queue_tokens);
    rr_out_uint(o, "tokens_limit", s->settings->queue_tokens);
    rr_out_uint(o, "oldest_ms", oldest && now > oldest ? (now - oldest) / RR_MILLISECOND : 0);
    rr_out_end(o);
    rr_out_object(o, "batches");
    rr_out_uint(o, "done", t->batches_done);
    rr_out_uint(o, "pairs", t->pairs_done);
    rr_out_uint(o, "tokens", t->tokens_done);
    rr_out_uint(o, "compute_ms", t->compute_ns / RR_MILLISECOND);
    rr_out_uint(o, "device_errors", t->device_errors);
    rr_out_uint(o, "device_retries", t->device_retries);
    rr_out_end(o);
}

static void put_caches(const struct rr_stats *t, struct rr_json_out *o)
{
    rr_out_object(o, "cache");
    rr_out_uint(o, "entries", t->cache_entries);
    rr_out_uint(o, "bytes", t->cache_bytes);
    rr_out_uint(o, "hits", t->cache_hits);
    rr_out_uint(o, "misses", t->cache_misses);
    rr_out_uint(o, "evictions", t->cache_evictions);
    rr_out_uint(o, "coalesced", t->coalesced_pairs);
    rr_out_end(o);
    rr_out_object(o, "shared_cache");
    rr_out_bool(o, "configured", t->shared_configured);
    rr_out_bool(o, "up", t->shared_up);
    rr_out_uint(o, "hits", t->shared_hits);
    rr_out_uint(o, "misses", t->shared_misses);
    rr_out_uint(o, "errors", t->shared_errors);
    rr_out_uint(o, "dropped", t->shared_dropped);
    rr_out_end(o);
}

static void put_http(struct rr_server *s, struct rr_json_out *o)
{
    rr_out_object(o, "http");
    rr_out_uint(o, "connections", rr_http_connections(s->http));
    rr_out_uint(o, "waiting", rr_http_asleep(s->http));
    rr_out_uint(o, "in_flight", (unsigned)atomic_load(&s->in_flight));
    rr_out_uint(o, "answered", atomic_load(&s->answered));
    rr_out_end(o);
}

static void put_memory(struct rr_server *s, struct rr_json_out *o)
{
    size_t now, peak;
    int i;

    rr_out_object(o, "memory");
    rr_out_uint(o, "resident", rr_meters_resident());
    for (i = 0; i < RR_MEM_TAGS; i++) {
        rr_mem_usage((enum rr_mem_tag)i, &now, &peak);
        rr_out_object(o, rr_mem_tag_name((enum rr_mem_tag)i));
        rr_out_uint(o, "now", now);
        rr_out_uint(o, "peak", peak);
        rr_out_end(o);
    }
    rr_out_uint(o, "bodies", atomic_load(&s->inflight));
    rr_out_uint(o, "bodies_limit", atomic_load(&s->max_inflight));
    rr_out_end(o);
}

void rr_control_state(struct rr_server *s, struct rr_exchange *x)
{
    static const char *const phases[] = { "loading", "ready", "leaving", "draining" };
    struct rr_json_out o = { .buf = &x->reply };
    struct rr_condition c;
    struct rr_stats stats;

    rr_condition(s, x->engine, &c);
    (void)rr_models_stats(s->models, &stats);
    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "phase", phases[atomic_load(&s->phase)]);
    rr_out_string(&o, "condition", c.word);
    rr_out_string(&o, "why", c.engine.why);
    rr_out_double(&o, "uptime_seconds", (double)(rr_now_ns() - s->started_ns) * 1e-9);
    rr_out_uint(&o, "probe_age_ms", c.engine.probe_age_ns / RR_MILLISECOND);
    rr_out_uint(&o, "progress_age_ms", c.engine.progress_age_ns / RR_MILLISECOND);
    if (x->engine) {
        put_engine(rr_engine_info(x->engine), &o);
        rr_lanes_put(x->engine, true, &o);
    }
    rr_catalog_put(s, true, &o);
    put_work(s, &stats, &o);
    put_caches(&stats, &o);
    put_http(s, &o);
    put_memory(s, &o);
    rr_out_end(&o);
}
