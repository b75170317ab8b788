/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - the parts of rerank.h that need no engine: host, log.  Layer: engine (L5). */
#include <stdio.h>
#include <string.h>

#include "backend/registry.h"
#include "base/log.h"
#include "cpu/features.h"
#include "cpu/kern.h"
#include "cpu/numa.h"
#include "cpu/peak.h"
#include "cpu/pressure.h"
#include "cpu/topology.h"
#include "rerank.h"

/* The names of the levels that need no flags but these. */
static void list_isas(uint32_t flags, char *out, size_t cap)
{
    uint32_t n, i;
    const struct rr_kern *const *levels = rr_kern_levels(&n);
    size_t at = 0;

    out[0] = 0;
    for (i = 0; i < n; i++) {
        if ((levels[i]->needs & flags) != levels[i]->needs) continue;
        at += (size_t)snprintf(out + at, cap - at, "%s%s", at ? " " : "", levels[i]->name);
        if (at >= cap) return;
    }
}

static void fill_isas(struct rr_host *out)
{
    uint32_t flags = rr_cpu_flags();

    snprintf(out->isa, sizeof(out->isa), "%s", rr_kern_pick(flags, NULL)->name);
    list_isas(flags, out->isas, sizeof(out->isas));
    list_isas(UINT32_MAX, out->isas_built, sizeof(out->isas_built));
}

static void fill_cuda(struct rr_host *out)
{
    const struct rr_backend *cuda;
    struct rr_error err = { 0 };
    const char *why = "";
    uint32_t n;

    if (rr_backend_find(&cuda, "cuda", &err)) {
        snprintf(out->cuda, sizeof(out->cuda), "%.*s", (int)sizeof(out->cuda) - 1, err.msg);
        return;
    }
    n = cuda->device_count(&why);
    if (n)
        snprintf(out->cuda, sizeof(out->cuda), "usable, %u device%s", n, n == 1 ? "" : "s");
    else
        snprintf(out->cuda, sizeof(out->cuda), "%s", why);
}

void rr_host_info(struct rr_host *out)
{
    struct rr_pressure pressure;
    struct rr_topology t;

    memset(out, 0, sizeof(*out));
    rr_cpu_brand(out->cpu, sizeof(out->cpu));
    rr_cpu_flag_names(rr_cpu_flags(), out->features, sizeof(out->features));
    fill_isas(out);
    rr_topology_get(&t);
    out->cpus_online = t.online;
    out->cpus_allowed = t.allowed;
    out->cpu_quota = t.quota;
    out->threads = t.threads;
    rr_pressure_read(&pressure, "");
    out->waiting = pressure.waiting;
    out->steal = pressure.steal;
    out->runnable = pressure.runnable;
    out->memory_nodes = rr_numa_count();
    out->memory_total = t.memory_total;
    out->memory_available = t.memory_available;
    out->memory_limit = t.memory_limit;
    fill_cuda(out);
}

double rr_host_peak(const char *isa, const char *dtype, uint32_t threads)
{
    return rr_peak(isa, dtype, threads).mean;
}

/* ---- log ----------------------------------------------------------------------------------- */

_Static_assert((int)RR_LOG_ERROR == (int)RR_ERROR && (int)RR_LOG_DEBUG == (int)RR_DEBUG,
               "public and internal log levels are the same numbers");

static rr_log_fn *user_log; /* written by rr_set_log, before any engine exists */

static void to_user(void *user, int level, const char *line)
{
    user_log(user, (enum rr_log_level)level, line);
}

void rr_set_log(rr_log_fn *fn, void *user, enum rr_log_level max_level)
{
    user_log = fn;
    rr_log_set(fn ? to_user : NULL, user, (int)max_level);
}
