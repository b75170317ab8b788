/* SPDX-License-Identifier: Apache-2.0 */
/* peak.h - what the processor can do at most, measured.  Layer: cpu (L1).  Threads: any. */
#ifndef RR_CPU_PEAK_H
#define RR_CPU_PEAK_H

#include <stdint.h>

/* Multiplications and additions a second that threads (1 to RR_POOL_MAX) reach together with the
 * instructions that the products of a kernel level are made of, in loops that touch registers only:
 * what 100 % means for a kernel.  dtype: "f32", "bf16", "int8".  Takes about 50 ms: best is of the
 * best moment, mean of all, which on a shared machine is what the next run gets.  Both 0: this
 * processor lacks the level, or no such loop is known. */
struct rr_peak {
    double best, mean;
};

struct rr_peak rr_peak(const char *level, const char *dtype, uint32_t threads);

#endif
