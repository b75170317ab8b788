/* SPDX-License-Identifier: Apache-2.0 */
/* numa.h - memory that is nearer to some processors: which worker belongs to which node.
 * Layer: cpu (L1).  Threads: any.  Source: /sys/devices/system/node; mbind(2). */
#ifndef RR_CPU_NUMA_H
#define RR_CPU_NUMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RR_NUMA_CPUS 8192 /* the kernel's largest NR_CPUS on x86 */
#define RR_NUMA_NODES 64

/* The node of each processor, 0 for those that no node lists (machines without the files). */
struct rr_numa {
    uint8_t node[RR_NUMA_CPUS];
};
void rr_numa_read(struct rr_numa *out);

/* Tests: the files are looked for under root; NULL restores the real ones. */
void rr_numa_fake(const char *root);

/* Nodes of the processors that this process may use, at least 1. */
uint32_t rr_numa_count(void);

struct rr_numa_plan {
    uint32_t n_nodes; /* that have workers, at least 1 */
    uint8_t ids[RR_NUMA_NODES]; /* [n_nodes] the system's numbers, ascending */
};

/* Spreads workers over the nodes of cpus[n_cpus], the processors that may be used.  One worker for
 * each processor: worker i has cpus[i].  Fewer: the node of processor near is filled first, then
 * the others in their order, so that a small team stays on one node.  worker[n_workers] gets
 * indices into out->ids. */
void rr_numa_spread(struct rr_numa_plan *out, uint8_t *worker, uint32_t n_workers,
                    const struct rr_numa *numa, const int *cpus, uint32_t n_cpus, int near);

/* Asks for the pages of [p, p + bytes), whole pages that nobody has touched yet, on a node.  False:
 * the kernel refused, and they come from wherever the first to touch them runs. */
bool rr_numa_prefer(void *p, size_t bytes, uint32_t id);

#endif
