/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.h - is there more work than processors?  Layer: cpu (L1).  Threads: any. */
#ifndef RR_CPU_PRESSURE_H
#define RR_CPU_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

/* Of the machine.  Files are looked for under root ("": the real ones; tests give a folder). */
struct rr_pressure {
    double waiting; /* share of the last ten seconds in which a task waited for a processor; < 0:
                       not known */
    double steal;   /* share of the processors' time since the machine started that went to other
                       virtual machines; < 0: not known */
    uint32_t runnable; /* threads of the machine that run or wait for it; 0: not known */
};
void rr_pressure_read(struct rr_pressure *out, const char *root);

/* What a thread of this process has run, and waited while it could have run, in ns.  False: the
 * kernel does not count. */
bool rr_pressure_thread(int tid, uint64_t *run_ns, uint64_t *wait_ns);

/* Watches such sums of a team.  Crowded: it waited more than a tenth of the time; not any more:
 * less than a thirtieth.  Too little time since the last look says nothing. */
struct rr_crowd {
    uint64_t run_ns, wait_ns;
    bool crowded;
    double share; /* that was waited, at the last look */
};
void rr_crowd_look(struct rr_crowd *c, uint64_t run_ns, uint64_t wait_ns);

#endif
