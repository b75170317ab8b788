/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c - see admin.h. */
#include "server/admin.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_out.h"
#include "server/catalog.h"
#include "server/health.h"
#include "server/lanes.h"
#include "server/models.h"

/* 503 with the union error, for what cannot be told while there is no model. */
static void not_ready(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_problem p = { 0 };
    bool draining = atomic_load(&s->phase) > RR_PHASE_READY;

    rr_problem_set(&p, 503, "%s",
                   draining ? "the server is shutting down" : rr_dialect_ragfab.not_loaded);
    x->status = 503;
    rr_problem_union(&p, &x->reply);
    rr_http_header(x, "Retry-After", "1");
}

void rr_admin_root(struct rr_server *s, struct rr_exchange *x)
{
    bool ready = rr_phase_serves(atomic_load(&s->phase));
    struct rr_json_out o = { .buf = &x->reply };

    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "service", "Serveur de reranking");
    rr_out_string(&o, "model", rr_server_model(s, x));
    rr_out_string(&o, "status", ready ? "ready" : "loading");
    rr_out_end(&o);
}

/* ---- /info -------------------------------------------------------------------------------- */

static void put_device(const struct rr_info *info, struct rr_json_out *o)
{
    rr_out_object(o, "device");
    rr_out_string(o, "name", info->device);
    rr_out_string(o, "hardware", info->device_name);
    rr_out_string(o, "isa", info->isa);
    rr_out_uint(o, "threads", info->threads);
    rr_out_uint(o, "tokenizing_threads", info->prep_threads);
    rr_out_bool(o, "fallback_active", info->fallback_active);
    rr_out_end(o);
    rr_out_object(o, "memory");
    rr_out_uint(o, "weights_bytes", info->weights_bytes);
    rr_out_uint(o, "mapped_bytes", info->mapped_bytes);
    rr_out_uint(o, "workspace_bytes", info->workspace_bytes);
    rr_out_end(o);
}

/* Only where a GPU serves; what it does not tell is left out. */
static void put_gpu(struct rr_engine *engine, struct rr_json_out *o)
{
    struct rr_gpu g;
    uint32_t i;

    if (!engine || !rr_engine_gpu(engine, &g)) return;
    rr_out_object(o, "gpu");
    rr_out_uint(o, "memory_used_bytes", g.memory_used);
    rr_out_uint(o, "memory_bytes", g.memory_total);
    if (g.utilization >= 0) rr_out_printf(o, "utilization", "%.2f", (double)g.utilization);
    if (g.celsius >= 0) rr_out_printf(o, "celsius", "%.0f", (double)g.celsius);
    if (g.watts >= 0) rr_out_printf(o, "watts", "%.1f", (double)g.watts);
    rr_out_uint(o, "repeated_pairs", g.repeated);
    rr_out_array(o, "throttled");
    for (i = 0; i < RR_GPU_THROTTLES; i++)
        if (g.throttled >> i & 1) rr_out_string(o, NULL, rr_gpu_throttle_name(i));
    rr_out_end(o);
    rr_out_end(o);
}

static void put_limits(struct rr_server *server, struct rr_json_out *o)
{
    const struct rr_settings *s = server->settings;

    rr_out_object(o, "limits");
    rr_out_uint(o, "body_bytes", s->max_body);
    rr_out_uint(o, "documents", s->max_documents);
    rr_out_uint(o, "document_bytes", s->max_document_bytes);
    rr_out_uint(o, "query_bytes", s->max_query_bytes);
    rr_out_uint(o, "json_depth", s->max_json_depth);
    rr_out_uint(o, "queue_requests", s->queue_requests);
    rr_out_uint(o, "queue_tokens", s->queue_tokens);
    rr_out_uint(o, "connections", s->max_connections);
    rr_out_double(o, "request_timeout_seconds", s->request_timeout);
    rr_out_uint(o, "inflight_bytes", atomic_load(&server->max_inflight));
    rr_out_end(o);
}

static const char *tei_dtype(const char *dtype)
{
    if (strcmp(dtype, "f32") == 0) return "float32";
    if (strcmp(dtype, "f16") == 0) return "float16";
    if (strcmp(dtype, "bf16") == 0) return "bfloat16";
    return dtype;
}

/* What text-embeddings-inference's readers look for. */
static void put_tei(const struct rr_settings *s, const struct rr_info *info, struct rr_json_out *o)
{
    rr_out_string(o, "model_id", info->model);
    rr_out_null(o, "model_sha");
    rr_out_string(o, "model_dtype", tei_dtype(info->dtype));
    rr_out_string(o, "served_model_name", info->model);
    rr_out_key(o, "model_type");
    rr_buf_puts(o->buf, "{\"reranker\":{\"id2label\":{\"0\":\"LABEL_0\"},"
                        "\"label2id\":{\"LABEL_0\":0}}}");
    rr_out_uint(o, "max_concurrent_requests", s->queue_requests);
    rr_out_uint(o, "max_input_length", info->max_length);
    rr_out_uint(o, "max_batch_tokens", info->batch_tokens);
    rr_out_null(o, "max_batch_requests");
    rr_out_uint(o, "max_client_batch_size", s->max_documents);
    rr_out_bool(o, "auto_truncate", true);
    rr_out_uint(o, "tokenization_workers", info->prep_threads);
    rr_out_string(o, "version", rr_version());
    rr_out_null(o, "sha");
    rr_out_null(o, "docker_label");
}

void rr_admin_info(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };
    const struct rr_info *info;

    if (!x->engine || atomic_load(&s->phase) == RR_PHASE_LOADING) {
        not_ready(s, x);
        return;
    }
    info = rr_engine_info(x->engine);
    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "model_name", info->model);
    rr_out_uint(&o, "max_length", info->max_length);
    rr_out_string(&o, "description", "Cross-encoder reranker");
    put_tei(s->settings, info, &o);
    rr_out_string(&o, "architecture", info->architecture);
    rr_out_string(&o, "dtype", info->dtype);
    rr_out_string(&o, "rescore_dtype", info->rescore_dtype);
    rr_out_uint(&o, "parameters", info->parameters);
    rr_out_hex(&o, "fingerprint", info->fingerprint);
    put_device(info, &o);
    put_gpu(x->engine, &o);
    rr_lanes_put(x->engine, false, &o);
    put_limits(s, &o);
    rr_catalog_put(s, false, &o);
    rr_out_end(&o);
}

/* ---- /metrics ----------------------------------------------------------------------------- */

static void put_info_metrics(const struct rr_info *info, struct rr_buf *out)
{
    static const char *const build_keys[] = { "version", "compiler", "isa" };
    static const char *const model_keys[] = { "model", "dtype", "max_length", "fingerprint" };
    static const char *const device_keys[] = { "device", "name", "isa" };
    const char *const build[] = { rr_version(), __VERSION__, info->isa };
    const char *const device[] = { info->device, info->device_name, info->isa };
    char fingerprint[24];
    const char *const model[] = { info->model, info->dtype, rr_num(info->max_length), fingerprint };

    snprintf(fingerprint, sizeof(fingerprint), "%016llx", (unsigned long long)info->fingerprint);
    rr_metrics_write_info(out, "rerank_build_info", "What was built.", 3, build_keys, build);
    rr_metrics_write_info(out, "rerank_model_info", "What is served.", 4, model_keys, model);
    rr_metrics_write_info(out, "rerank_device_info", "What computes.", 3, device_keys, device);
}

/* Wall-clock milliseconds of a moment of the monotonic clock; 0: never. */
static int64_t wall_ms(uint64_t ns)
{
    uint64_t now = rr_now_ns();

    if (!ns) return 0;
    return (int64_t)(rr_unix_time() * 1e3) - (int64_t)((now - RR_MIN(ns, now)) / RR_MILLISECOND);
}

void rr_admin_metrics(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_metrics *m = s->metrics;
    struct rr_condition c;
    struct rr_stats stats;
    struct rr_gpu gpu;
    int phase = atomic_load(&s->phase);
    bool any = rr_models_stats(s->models, &stats);

    rr_condition(s, x->engine, &c);
    rr_meters_refresh(m, any ? &stats : NULL);
    rr_meters_gpu(m, x->engine && rr_engine_gpu(x->engine, &gpu) ? &gpu : NULL);
    rr_metrics_set(m, RR_M_CONNECTIONS, 0, rr_http_connections(s->http));
    rr_metrics_set(m, RR_M_READY, 0, c.ready);
    rr_metrics_set(m, RR_M_DEVICE_UP, 0, c.engine.device_ok);
    rr_metrics_set(m, RR_M_FALLBACK, 0, c.cpu_serves);
    rr_metrics_set(m, RR_M_DRAINING, 0, phase > RR_PHASE_READY);
    rr_metrics_set(m, RR_M_QUEUE_BYTES, 0, (int64_t)atomic_load(&s->inflight));
    rr_metrics_set(m, RR_M_QUEUE_BYTES_LIMIT, 0, (int64_t)atomic_load(&s->max_inflight));
    rr_metrics_set(m, RR_M_QUEUE_OLDEST, 0, wall_ms(rr_watch_oldest_ns(s->watch)));
    rr_metrics_set(m, RR_M_HEARTBEAT, 0, wall_ms(atomic_load(&s->heartbeat_ns)));
    x->status = 200;
    x->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (x->engine) put_info_metrics(rr_engine_info(x->engine), &x->reply);
    rr_metrics_write(m, &x->reply);
    rr_catalog_metrics(s, &x->reply);
    rr_lanes_metrics(s, &x->reply);
    if (s->settings->metrics_te) rr_meters_write_tei(m, &x->reply);
}

void rr_admin_options(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    x->status = 204;
}
