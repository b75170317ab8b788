/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - see control.h. */
#include "server/control.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
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
        return rr_problem_field(problem, key, "string_type", "%s", err.msg);
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

static void put_string(struct rr_buf *out, const char *key, const char *value)
{
    rr_buf_printf(out, "\"%s\":", key);
    rr_buf_json_string(out, rr_text(value));
}

static void put_number(struct rr_buf *out, const char *key, uint64_t value)
{
    rr_buf_printf(out, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void put_engine(const struct rr_info *info, struct rr_buf *out)
{
    rr_buf_puts(out, ",\"model\":{");
    put_string(out, "name", info->model);
    rr_buf_putc(out, ',');
    put_string(out, "path", info->path);
    rr_buf_printf(out, ",\"fingerprint\":\"%016llx\",", (unsigned long long)info->fingerprint);
    put_string(out, "dtype", info->dtype);
    rr_buf_puts(out, "},\"device\":{");
    put_string(out, "name", info->device);
    rr_buf_putc(out, ',');
    put_string(out, "isa", info->isa);
    put_number(out, "threads", info->threads);
    put_number(out, "prep_threads", info->prep_threads);
    put_number(out, "weights_bytes", info->weights_bytes);
    put_number(out, "mapped_bytes", info->mapped_bytes);
    put_number(out, "workspace_bytes", info->workspace_bytes);
    rr_buf_putc(out, '}');
}

static void put_stats(struct rr_server *s, const struct rr_stats *t, struct rr_buf *out)
{
    uint64_t oldest = rr_watch_oldest_ns(s->watch), now = rr_now_ns();

    rr_buf_printf(out, ",\"queue\":{\"requests\":%zu", t->queue_requests);
    put_number(out, "pairs", t->queue_pairs);
    put_number(out, "tokens", t->queue_tokens);
    put_number(out, "tokens_limit", s->settings->queue_tokens);
    put_number(out, "oldest_ms", oldest && now > oldest ? (now - oldest) / RR_MILLISECOND : 0);
    rr_buf_printf(out, "},\"batches\":{\"done\":%llu", (unsigned long long)t->batches_done);
    put_number(out, "pairs", t->pairs_done);
    put_number(out, "tokens", t->tokens_done);
    put_number(out, "compute_ms", t->compute_ns / RR_MILLISECOND);
    put_number(out, "device_errors", t->device_errors);
    put_number(out, "device_retries", t->device_retries);
    rr_buf_printf(out, "},\"cache\":{\"entries\":%zu", t->cache_entries);
    put_number(out, "bytes", t->cache_bytes);
    put_number(out, "hits", t->cache_hits);
    put_number(out, "misses", t->cache_misses);
    put_number(out, "evictions", t->cache_evictions);
    put_number(out, "coalesced", t->coalesced_pairs);
    rr_buf_printf(out, "},\"shared_cache\":{\"configured\":%s,\"up\":%s",
                  t->shared_configured ? "true" : "false", t->shared_up ? "true" : "false");
    put_number(out, "hits", t->shared_hits);
    put_number(out, "misses", t->shared_misses);
    put_number(out, "errors", t->shared_errors);
    put_number(out, "dropped", t->shared_dropped);
    rr_buf_putc(out, '}');
}

static void put_memory(struct rr_server *s, struct rr_buf *out)
{
    size_t now, peak;
    int i;

    rr_buf_printf(out, ",\"memory\":{\"resident\":%llu", (unsigned long long)rr_meters_resident());
    for (i = 0; i < RR_MEM_TAGS; i++) {
        rr_mem_usage((enum rr_mem_tag)i, &now, &peak);
        rr_buf_printf(out, ",\"%s\":{\"now\":%zu,\"peak\":%zu}",
                      rr_mem_tag_name((enum rr_mem_tag)i), now, peak);
    }
    put_number(out, "bodies", atomic_load(&s->inflight));
    put_number(out, "bodies_limit", atomic_load(&s->max_inflight));
    rr_buf_putc(out, '}');
}

void rr_control_state(struct rr_server *s, struct rr_exchange *x)
{
    static const char *const phases[] = { "loading", "ready", "leaving", "draining" };
    struct rr_condition c;
    struct rr_stats stats;

    rr_condition(s, x->engine, &c);
    (void)rr_models_stats(s->models, &stats);
    x->status = 200;
    rr_buf_printf(&x->reply, "{\"phase\":\"%s\",\"condition\":\"%s\",",
                  phases[atomic_load(&s->phase)], c.word);
    put_string(&x->reply, "why", c.engine.why);
    rr_buf_puts(&x->reply, ",\"uptime_seconds\":");
    rr_buf_json_double(&x->reply, (double)(rr_now_ns() - s->started_ns) * 1e-9);
    rr_buf_printf(&x->reply, ",\"probe_age_ms\":%llu,\"progress_age_ms\":%llu",
                  (unsigned long long)(c.engine.probe_age_ns / RR_MILLISECOND),
                  (unsigned long long)(c.engine.progress_age_ns / RR_MILLISECOND));
    if (x->engine) {
        put_engine(rr_engine_info(x->engine), &x->reply);
        rr_lanes_put(x->engine, true, &x->reply);
    }
    rr_catalog_put(s, true, &x->reply);
    put_stats(s, &stats, &x->reply);
    rr_buf_printf(&x->reply, ",\"http\":{\"connections\":%u,\"waiting\":%u,\"in_flight\":%u",
                  rr_http_connections(s->http), rr_http_asleep(s->http),
                  (unsigned)atomic_load(&s->in_flight));
    put_number(&x->reply, "answered", atomic_load(&s->answered));
    rr_buf_putc(&x->reply, '}');
    put_memory(s, &x->reply);
    rr_buf_putc(&x->reply, '}');
}
