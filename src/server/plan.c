/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - see plan.h. */
#include "server/plan.h"

#include <string.h>

#include "base/err.h"
#include "server/models.h"

#define CONNECTION_BYTES (32u << 10) /* what the HTTP library keeps for one in use */
#define BODY_COPIES 2                /* as sent, and the tree with its strings */
#define MOST_INFLIGHT ((uint64_t)256 << 20)

/* A quarter of what is left, since trees of small values are larger than their text. */
static size_t choose_inflight(const struct rr_settings *o, uint64_t fixed, uint64_t limit)
{
    uint64_t bytes = MOST_INFLIGHT;

    if (limit) bytes = RR_MIN(bytes, limit > fixed ? (limit - fixed) / 4 : 0);
    return (size_t)RR_MAX(bytes, (uint64_t)o->max_body);
}

int rr_plan_make(struct rr_plan *p, const struct rr_settings *settings, const struct rr_info *info,
                 const struct rr_host *host, size_t *max_inflight, struct rr_error *err)
{
    uint64_t model = rr_models_bytes(settings, info);
    uint64_t fixed = info->host_weights_bytes + info->host_workspace_bytes + settings->cache_size;

    *p = (struct rr_plan){
        .weights = info->host_weights_bytes,
        .mapped = info->mapped_bytes,
        .workspace = info->host_workspace_bytes,
        .cache = settings->cache_size,
        .connections = (uint64_t)settings->max_connections * CONNECTION_BYTES,
        .limit = host->memory_limit ? host->memory_limit : host->memory_total,
    };
    *max_inflight = settings->max_inflight_bytes
                        ? RR_MAX(settings->max_inflight_bytes, settings->max_body)
                        : choose_inflight(settings, fixed, p->limit);
    p->bodies = (uint64_t)*max_inflight * BODY_COPIES;
    p->need = fixed + p->bodies;
    p->models = settings->model_memory;
    if (!p->models && p->limit)
        p->models = p->limit - RR_MIN(p->limit - 1, settings->cache_size + p->bodies);
    if (settings->model_memory && model > settings->model_memory)
        return rr_fail(err, RR_ENOMEM,
                       "memory: the default model needs %llu MiB, --model-memory allows %llu MiB",
                       (unsigned long long)model >> 20,
                       (unsigned long long)settings->model_memory >> 20);
    if (!p->limit || p->need <= p->limit) return RR_OK;
    return rr_fail(err, RR_ENOMEM,
                   "memory: the plan needs %llu MiB (weights %llu, workspace %llu, cache %llu, "
                   "request bodies %llu) and the limit is %llu MiB; lower --cache-size, "
                   "--max-inflight-bytes or --batch-tokens",
                   (unsigned long long)p->need >> 20, (unsigned long long)p->weights >> 20,
                   (unsigned long long)p->workspace >> 20, (unsigned long long)p->cache >> 20,
                   (unsigned long long)p->bodies >> 20, (unsigned long long)p->limit >> 20);
}

static const char *mib(uint64_t bytes)
{
    return rr_num1((double)bytes / (1 << 20));
}

void rr_plan_say(const struct rr_console *c, const struct rr_plan *p, struct rr_engine *engine)
{
    uint64_t most = p->need + p->connections;
    struct rr_device_state d;
    uint32_t i;

    RR_SAY(c, RR_INFO, MEMORY, mib(p->weights), mib(p->mapped), mib(p->workspace), mib(p->cache),
           mib(p->bodies), mib(p->connections), mib(most), mib(p->limit));
    for (i = 0; rr_engine_device(engine, i, &d); i++)
        if (strcmp(d.name, "cpu") && d.weights_bytes) /* in memory of its own */
            RR_SAY(c, RR_INFO, MEMORY_DEVICE, d.name, mib(d.weights_bytes), mib(d.workspace_bytes),
                   mib(d.memory_bytes));
    if (p->limit && most > p->limit / 10 * 9)
        RR_SAY(c, RR_WARN, MEMORY_TIGHT, mib(most), mib(p->limit));
}
