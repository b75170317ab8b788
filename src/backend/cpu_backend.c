/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_backend.c - the built-in backend: its table of functions, opening and describing a device.
 * Layer: backend (L3).  Threads: see rerank_backend.h. */
#include "backend/cpu_backend.h"

#include <stdio.h>
#include <string.h>

#include "backend/registry.h"
#include "base/err.h"
#include "base/mem.h"
#include "cpu/features.h"
#include "cpu/topology.h"

/* The reasons for the numbers are in docs/internals/backend.md. */
static const struct rr_cpu_tuning vectors = {
    .chunk_tokens = 256,
    .solo_tokens = 512,
    .team_tokens = 1024,
    .block_rows = 144,
    .least_tokens = 32,
    .batch_tokens = 512,
};
/* Tiles are done with 144 rows before the next weights are there. */
static const struct rr_cpu_tuning tiles = {
    .chunk_tokens = 640,
    .solo_tokens = 640,
    .team_tokens = 1024,
    .block_rows = 576,
    .least_tokens = 256,
    .batch_tokens = 1280,
};

static const struct rr_cpu_tuning *tuning_of(const struct rr_kern *kern,
                                             enum rr_cpu_packing packing)
{
    return kern->needs & RR_CPU_AMX_INT8 && packing != RR_CPU_PACK_F32 ? &tiles : &vectors;
}

static uint32_t device_count(const char **why)
{
    *why = NULL;
    return 1;
}

static void close_device(struct rr_device *d)
{
    if (!d) return;
    if (!d->borrowed) rr_pool_close(d->pool);
    rr_free(d->packed_dirs[0]);
    rr_free(d->packed_dirs[1]);
    rr_free(d);
}

static const char *const dtypes[] = { [RR_CPU_PACK_F32] = "f32", [RR_CPU_PACK_BF16] = "bf16",
                                      [RR_CPU_PACK_I8] = "int8" };

static int check_options(const struct rr_device_options *opt, enum rr_cpu_packing *packing,
                         struct rr_error *err)
{
    if (opt->index != 0)
        return rr_fail(err, RR_ENOENT, "no CPU device %u, there is one: 0", opt->index);
    *packing = RR_CPU_PACK_F32;
    if (!opt->dtype || strcmp(opt->dtype, "auto") == 0) return RR_OK;
    for (size_t i = 0; i < RR_COUNT(dtypes); i++) {
        if (strcmp(opt->dtype, dtypes[i])) continue;
        *packing = (enum rr_cpu_packing)i;
        return RR_OK;
    }
    return rr_fail(err, RR_ENOTSUP,
                   "the CPU backend does not compute in '%s', it has: auto, f32, bf16, int8",
                   opt->dtype);
}

static int keep_dirs(struct rr_device *d, const struct rr_device_options *opt,
                     struct rr_error *err)
{
    for (int i = 0; i < 2; i++) {
        if (!opt->packed_dirs[i]) continue;
        d->packed_dirs[i] = rr_strdup(RR_MEM_MISC, opt->packed_dirs[i]);
        if (!d->packed_dirs[i]) return rr_fail(err, RR_ENOMEM, "out of memory for a device");
    }
    return RR_OK;
}

/* How many threads "automatic" means. */
static uint32_t choose_threads(uint32_t asked)
{
    struct rr_topology topo;

    if (asked) return asked;
    rr_topology_get(&topo);
    return RR_MIN(topo.threads, RR_POOL_MAX);
}

int rr_backend_cpu_open(struct rr_device **out, const struct rr_device_options *opt,
                        struct rr_pool *pool, struct rr_error *err)
{
    const struct rr_kern *const *levels;
    enum rr_cpu_packing packing;
    struct rr_device *d;
    uint32_t n_levels;
    int rc;

    *out = NULL;
    rc = check_options(opt, &packing, err);
    if (rc) return rc;
    d = rr_calloc(RR_MEM_MISC, 1, sizeof(*d));
    if (!d) return rr_fail(err, RR_ENOMEM, "out of memory for a device");
    d->packing = packing;
    d->pool = pool;
    d->borrowed = pool != NULL;
    d->threads = pool ? rr_pool_size(pool) : choose_threads(opt->threads);
    levels = rr_kern_levels(&n_levels);
    rc = keep_dirs(d, opt, err);
    if (!rc) rc = rr_cpu_isa(&d->kern, levels, n_levels, rr_cpu_flags(), opt->isa, err);
    if (!rc) d->tuning = *tuning_of(d->kern, packing);
    if (!rc && !pool) rc = rr_pool_open(&d->pool, d->threads, err);
    if (rc) {
        close_device(d);
        return rc;
    }
    *out = d;
    return RR_OK;
}

static int open_device(struct rr_device **out, const struct rr_device_options *opt,
                       struct rr_error *err)
{
    return rr_backend_cpu_open(out, opt, NULL, err);
}

static void describe(const struct rr_device *d, struct rr_device_info *out)
{
    struct rr_topology topo;

    memset(out, 0, sizeof(*out));
    rr_topology_get(&topo);
    rr_cpu_brand(out->name, sizeof(out->name));
    snprintf(out->isa, sizeof(out->isa), "%s", d->kern->name);
    snprintf(out->dtype, sizeof(out->dtype), "%s", dtypes[d->packing]);
    out->threads = d->threads;
    out->batch_tokens = d->tuning.batch_tokens * d->threads;
    out->memory_total = topo.memory_total;
    if (topo.memory_limit && topo.memory_limit < out->memory_total)
        out->memory_total = topo.memory_limit;
}

struct rr_cpu_tuning *rr_cpu_tuning(struct rr_device *d)
{
    return &d->tuning;
}

const struct rr_backend *rr_backend_cpu(void)
{
    static const struct rr_backend backend = {
        .abi = RR_BACKEND_ABI,
        .name = "cpu",
        .device_count = device_count,
        .open = open_device,
        .close = close_device,
        .describe = describe,
        .plan = rr_cpu_plan_memory,
        .load = rr_cpu_load,
        .unload = rr_cpu_unload,
        .run = rr_cpu_run,
        .observe = rr_cpu_observe,
    };

    return &backend;
}
