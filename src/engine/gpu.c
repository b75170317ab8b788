/* SPDX-License-Identifier: Apache-2.0 */
/* gpu.c - what GPUs are doing: the one that an engine computes on, and those of the machine.
 * Layer: engine (L5). */
#include <stdio.h>
#include <string.h>

#include "backend/registry.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/text.h"
#include "engine/choice.h"
#include "engine/engine.h"

_Static_assert((int)RR_THROTTLE_POWER == (int)RR_GPU_POWER &&
                   (int)RR_THROTTLE_THERMAL == (int)RR_GPU_THERMAL &&
                   (int)RR_THROTTLE_HARDWARE == (int)RR_GPU_HARDWARE &&
                   (int)RR_THROTTLE_SETTING == (int)RR_GPU_SETTING,
               "public and backend's reasons for lower clocks are the same bits");

static bool ask(const struct rr_backend *backend, const struct rr_device *device,
                const struct rr_device_info *info, struct rr_gpu *out)
{
    struct rr_device_stats stats;

    if (!backend->stats || backend->stats(device, &stats)) return false;
    *out = (struct rr_gpu){
        .memory_used = stats.memory_used,
        .memory_total = stats.memory_total,
        .utilization = stats.utilization,
        .celsius = stats.celsius,
        .watts = stats.watts,
        .throttled = stats.throttled,
        .repeated = stats.repeated,
    };
    snprintf(out->name, sizeof(out->name), "%s", info->name);
    snprintf(out->isa, sizeof(out->isa), "%s", info->isa);
    return true;
}

bool rr_engine_gpu(struct rr_engine *e, struct rr_gpu *out)
{
    uint32_t i = 0;

    while (i < e->n_devices && !rr_device_gpu(e, i, out)) i++;
    return i < e->n_devices;
}

bool rr_device_gpu(struct rr_engine *e, uint32_t index, struct rr_gpu *out)
{
    const struct rr_lane *lane = &e->lanes[index];
    const struct rr_net *net = &lane->nets[RR_PASS_MAIN];
    bool ok;

    if (index >= e->n_lanes) return false;
    pthread_mutex_lock(&e->device_lock); /* its runner does not close it meanwhile */
    pthread_mutex_lock(&e->lock);
    ok = lane->state == RR_LANE_UP;
    pthread_mutex_unlock(&e->lock);
    ok = ok && net->backend && ask(net->backend, net->device, &net->info, out);
    pthread_mutex_unlock(&e->device_lock);
    return ok;
}

bool rr_host_gpu(uint32_t index, struct rr_gpu *out, struct rr_error *err)
{
    struct rr_device_options opt = { .index = index, .dtype = "auto", .hang_ns = 30 * RR_SECOND };
    struct rr_device_info info;
    const struct rr_backend *cuda;
    struct rr_device *device;
    bool ok;

    memset(out, 0, sizeof(*out));
    if (rr_backend_find(&cuda, "cuda", err) || index >= cuda->device_count(NULL)) return false;
    if (cuda->open(&device, &opt, err)) return true; /* it is there, and err says what is wrong */
    cuda->describe(device, &info);
    ok = ask(cuda, device, &info, out);
    cuda->close(device);
    return ok;
}

/* Whether engines on the net's device can be opened with it. */
static bool can_compute(const struct rr_net *net, const char *dtype)
{
    struct rr_support s;

    rr_supported(0, &s);
    return rr_text_listed(rr_net_is_cpu(net) ? s.cpu_dtypes : s.gpu_dtypes, dtype);
}

int rr_choose_dtype(struct rr_engine *e, const char *cache_dir, const char *dtype, const char *why,
                    struct rr_error *err)
{
    const struct rr_net *net = &e->lanes[0].nets[RR_PASS_MAIN];
    struct rr_choice choice;

    if (!net->model) return rr_fail(err, RR_EINVAL, "the null network has no precision");
    if (!cache_dir || !*cache_dir)
        return rr_fail(err, RR_EINVAL, "no cache folder was given, which is to keep the choice");
    if (!can_compute(net, dtype))
        return rr_fail(err, RR_EINVAL,
                       "dtype: found \"%.20s\", expected f32, bf16 or int8, on a GPU also f16 or "
                       "fp8", dtype);
    snprintf(choice.dtype, sizeof(choice.dtype), "%s", dtype);
    snprintf(choice.why, sizeof(choice.why), "%s", why);
    return rr_choice_store(&choice, cache_dir, rr_model_info(net->model)->fingerprint, &net->info,
                           err);
}
