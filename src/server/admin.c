/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c - see admin.h. */
#include "server/admin.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "server/catalog.h"
#include "server/health.h"
#include "server/lanes.h"
#include "server/models.h"

static void put_string(struct rr_buf *out, const char *key, const char *value)
{
    rr_buf_printf(out, "\"%s\":", key);
    rr_buf_json_string(out, rr_text(value));
}

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

    x->status = 200;
    rr_buf_puts(&x->reply, "{\"service\":\"Serveur de reranking\",");
    put_string(&x->reply, "model", rr_server_model(s, x));
    rr_buf_puts(&x->reply, ready ? ",\"status\":\"ready\"}" : ",\"status\":\"loading\"}");
}

/* ---- /info -------------------------------------------------------------------------------- */

static void put_device(const struct rr_info *info, struct rr_buf *out)
{
    rr_buf_puts(out, ",\"device\":{");
    put_string(out, "name", info->device);
    rr_buf_putc(out, ',');
    put_string(out, "hardware", info->device_name);
    rr_buf_putc(out, ',');
    put_string(out, "isa", info->isa);
    rr_buf_printf(out, ",\"threads\":%u,\"tokenizing_threads\":%u,\"fallback_active\":%s}",
                  info->threads, info->prep_threads, info->fallback_active ? "true" : "false");
    rr_buf_printf(out,
                  ",\"memory\":{\"weights_bytes\":%llu,\"mapped_bytes\":%llu,"
                  "\"workspace_bytes\":%llu}",
                  (unsigned long long)info->weights_bytes, (unsigned long long)info->mapped_bytes,
                  (unsigned long long)info->workspace_bytes);
}

/* Only where a GPU serves; what it does not tell is left out. */
static void put_gpu(struct rr_engine *engine, struct rr_buf *out)
{
    static const char *const reasons[] = { "power", "thermal", "hardware", "setting" };
    struct rr_gpu g;
    uint32_t i, n = 0;

    if (!engine || !rr_engine_gpu(engine, &g)) return;
    rr_buf_printf(out, ",\"gpu\":{\"memory_used_bytes\":%llu,\"memory_bytes\":%llu",
                  (unsigned long long)g.memory_used, (unsigned long long)g.memory_total);
    if (g.utilization >= 0)
        rr_buf_printf(out, ",\"utilization\":%.2f", (double)g.utilization);
    if (g.celsius >= 0) rr_buf_printf(out, ",\"celsius\":%.0f", (double)g.celsius);
    if (g.watts >= 0) rr_buf_printf(out, ",\"watts\":%.1f", (double)g.watts);
    rr_buf_printf(out, ",\"repeated_pairs\":%llu", (unsigned long long)g.repeated);
    rr_buf_puts(out, ",\"throttled\":[");
    for (i = 0; i < RR_COUNT(reasons); i++)
        if (g.throttled >> i & 1) rr_buf_printf(out, "%s\"%s\"", n++ ? "," : "", reasons[i]);
    rr_buf_puts(out, "]}");
}

static void put_limits(struct rr_server *server, struct rr_buf *out)
{
    const struct rr_settings *s = server->settings;

    rr_buf_printf(out,
                  ",\"limits\":{\"body_bytes\":%zu,\"documents\":%u,\"document_bytes\":%zu,"
                  "\"query_bytes\":%zu,\"json_depth\":%u,\"queue_requests\":%u,"
                  "\"queue_tokens\":%zu,\"connections\":%u,\"request_timeout_seconds\":",
                  s->max_body, s->max_documents, s->max_document_bytes, s->max_query_bytes,
                  s->max_json_depth, s->queue_requests, s->queue_tokens, s->max_connections);
    rr_buf_json_double(out, s->request_timeout);
    rr_buf_printf(out, ",\"inflight_bytes\":%zu}", atomic_load(&server->max_inflight));
}

static const char *tei_dtype(const char *dtype)
{
    if (strcmp(dtype, "f32") == 0) return "float32";
    if (strcmp(dtype, "f16") == 0) return "float16";
    if (strcmp(dtype, "bf16") == 0) return "bfloat16";
    return dtype;
}

/* What text-embeddings-inference's readers look for. */
static void put_tei(const struct rr_settings *s, const struct rr_info *info, struct rr_buf *out)
{
    rr_buf_putc(out, ',');
    put_string(out, "model_id", info->model);
    rr_buf_puts(out, ",\"model_sha\":null,");
    put_string(out, "model_dtype", tei_dtype(info->dtype));
    rr_buf_putc(out, ',');
    put_string(out, "served_model_name", info->model);
    rr_buf_puts(out, ",\"model_type\":{\"reranker\":{\"id2label\":{\"0\":\"LABEL_0\"},"
                     "\"label2id\":{\"LABEL_0\":0}}}");
    rr_buf_printf(out,
                  ",\"max_concurrent_requests\":%u,\"max_input_length\":%u,"
                  "\"max_batch_tokens\":%u,\"max_batch_requests\":null,"
                  "\"max_client_batch_size\":%u,\"auto_truncate\":true,"
                  "\"tokenization_workers\":%u,\"version\":\"%s\",\"sha\":null,"
                  "\"docker_label\":null",
                  s->queue_requests, info->max_length, info->batch_tokens, s->max_documents,
                  info->prep_threads, rr_version());
}

void rr_admin_info(struct rr_server *s, struct rr_exchange *x)
{
    const struct rr_info *info;

    if (!x->engine || atomic_load(&s->phase) == RR_PHASE_LOADING) {
        not_ready(s, x);
        return;
    }
    info = rr_engine_info(x->engine);
    x->status = 200;
    rr_buf_putc(&x->reply, '{');
    put_string(&x->reply, "model_name", info->model);
    rr_buf_printf(&x->reply, ",\"max_length\":%u,", info->max_length);
    put_string(&x->reply, "description", "Cross-encoder reranker");
    put_tei(s->settings, info, &x->reply);
    rr_buf_putc(&x->reply, ',');
    put_string(&x->reply, "architecture", info->architecture);
    rr_buf_putc(&x->reply, ',');
    put_string(&x->reply, "dtype", info->dtype);
    rr_buf_putc(&x->reply, ',');
    put_string(&x->reply, "rescore_dtype", info->rescore_dtype);
    rr_buf_printf(&x->reply, ",\"parameters\":%llu,\"fingerprint\":\"%016llx\"",
                  (unsigned long long)info->parameters, (unsigned long long)info->fingerprint);
    put_device(info, &x->reply);
    put_gpu(x->engine, &x->reply);
    rr_lanes_put(x->engine, false, &x->reply);
    put_limits(s, &x->reply);
    rr_catalog_put(s, false, &x->reply);
    rr_buf_putc(&x->reply, '}');
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
