/* SPDX-License-Identifier: Apache-2.0 */
/* numa.c - see numa.h. */
#include "cpu/numa.h"

#include <limits.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/attr.h"
#include "cpu/topology.h"

#define LIST_BYTES 4096

static const char *fake_root; /* tests only, before any pool exists */

void rr_numa_fake(const char *root)
{
    fake_root = root;
}

/* "0-3,8,10-11" */
static void read_list(struct rr_numa *out, const char *list, uint8_t node)
{
    while (*list >= '0' && *list <= '9') {
        char *end;
        unsigned long first = strtoul(list, &end, 10), last = first;

        if (*end == '-') last = strtoul(end + 1, &end, 10);
        for (unsigned long cpu = first; cpu <= last && cpu < RR_NUMA_CPUS; cpu++)
            out->node[cpu] = node;
        if (*end != ',') return;
        list = end + 1;
    }
}

void rr_numa_read(struct rr_numa *out)
{
    memset(out, 0, sizeof(*out));
    for (int node = 0; node < RR_NUMA_NODES; node++) {
        char path[PATH_MAX], list[LIST_BYTES];
        FILE *f;

        snprintf(path, sizeof(path), "%s/sys/devices/system/node/node%d/cpulist",
                 fake_root ? fake_root : "", node);
        f = fopen(path, "re");
        if (!f) continue; /* numbers may have holes */
        if (fgets(list, sizeof(list), f)) read_list(out, list, (uint8_t)node);
        fclose(f);
    }
}

uint32_t rr_numa_count(void)
{
    bool seen[RR_NUMA_NODES] = { false };
    struct rr_topology topo;
    struct rr_numa numa;
    uint32_t n = 0;

    rr_numa_read(&numa);
    rr_topology_get(&topo);
    for (uint32_t i = 0; i < topo.allowed; i++) {
        int cpu = rr_topology_cpu(i);

        if (cpu < 0 || cpu >= RR_NUMA_CPUS || seen[numa.node[cpu]]) continue;
        seen[numa.node[cpu]] = true;
        n++;
    }
    return RR_MAX(n, 1);
}

static uint8_t node_of(const struct rr_numa *numa, int cpu)
{
    return cpu >= 0 && cpu < RR_NUMA_CPUS ? numa->node[cpu] : 0;
}

/* Node of each worker, by the system's numbers. */
static void choose(uint8_t *worker, uint32_t n_workers, const struct rr_numa *numa, const int *cpus,
                   uint32_t n_cpus, int near)
{
    uint32_t room[RR_NUMA_NODES] = { 0 }, n = 0;
    uint8_t first = node_of(numa, near);

    for (uint32_t i = 0; i < n_cpus; i++) room[node_of(numa, cpus[i])]++;
    if (n_workers == n_cpus) {
        for (uint32_t i = 0; i < n_workers; i++) worker[i] = node_of(numa, cpus[i]);
        return;
    }
    if (n_cpus == 0) room[first] = 1; /* no processor known at all */
    while (n < n_workers) { /* round after round, should there be more workers than processors */
        for (uint32_t k = 0; k < room[first] && n < n_workers; k++) worker[n++] = first;
        for (uint8_t node = 0; node < RR_NUMA_NODES; node++)
            for (uint32_t k = 0; node != first && k < room[node] && n < n_workers; k++)
                worker[n++] = node;
    }
}

void rr_numa_spread(struct rr_numa_plan *out, uint8_t *worker, uint32_t n_workers,
                    const struct rr_numa *numa, const int *cpus, uint32_t n_cpus, int near)
{
    uint8_t index[RR_NUMA_NODES];
    bool used[RR_NUMA_NODES] = { false };

    choose(worker, n_workers, numa, cpus, n_cpus, near);
    for (uint32_t i = 0; i < n_workers; i++) used[worker[i]] = true;
    out->n_nodes = 0;
    for (uint8_t node = 0; node < RR_NUMA_NODES; node++) {
        index[node] = (uint8_t)out->n_nodes;
        if (used[node]) out->ids[out->n_nodes++] = node;
    }
    for (uint32_t i = 0; i < n_workers; i++) worker[i] = index[worker[i]];
}

bool rr_numa_prefer(void *p, size_t bytes, uint32_t id)
{
    unsigned long mask[RR_NUMA_NODES / (8 * sizeof(unsigned long)) + 1] = { 0 };
    unsigned bits = 8 * sizeof(mask[0]);

    if (id >= RR_NUMA_NODES) return false;
    mask[id / bits] |= 1ul << id % bits;
    /* The kernel reads one bit less than it is told. */
    return syscall(SYS_mbind, p, bytes, MPOL_PREFERRED, mask, RR_NUMA_NODES + 1ul, 0) == 0;
}
