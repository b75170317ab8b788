/* SPDX-License-Identifier: Apache-2.0 */
/* topology.h - how many processors and how much memory this process may use.
 * Layer: cpu (L1).  Threads: any.  Sources: sched_getaffinity, cgroup v1 and v2, /proc. */
#ifndef RR_CPU_TOPOLOGY_H
#define RR_CPU_TOPOLOGY_H

#include <stdint.h>

struct rr_topology {
    uint32_t online;          /* processors of the machine */
    uint32_t allowed;         /* ... in our affinity mask */
    double quota;             /* CPUs by cgroup (cpu.max), 0: no limit */
    uint32_t threads;         /* what to use: see rr_topology_threads */
    uint64_t memory_total;    /* bytes */
    uint64_t memory_available; /* what can still be had: MemAvailable, or less by cgroup; 1:
                                  nothing, 0: not known */
    uint64_t memory_limit;    /* by cgroup, 0: none */
};

void rr_topology_get(struct rr_topology *out);

/* Threads that compute: min(allowed, quota rounded down), at least 1.  Down, because a team of more
 * threads than it may use processors is stopped by the kernel in the middle of a step, and all wait
 * for the one that is. */
uint32_t rr_topology_threads(uint32_t allowed, double quota);

/* The i-th processor of the affinity mask (i modulo their number), or -1. */
int rr_topology_cpu(uint32_t i);

/* The part of rr_topology_get that reads files: quota, memory_*.  The files are looked for under
 * root ("": the real ones; tests give a folder).  What cannot be read counts as no limit, 0 for
 * memory_total and memory_available. */
void rr_topology_read(struct rr_topology *out, const char *root);

#endif
