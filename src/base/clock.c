/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - time, replaceable by tests.  Layer: base (L0).  Threads: any. */
#include "base/clock.h"

#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

static uint64_t (*_Atomic fake)(void);

uint64_t rr_now_ns(void)
{
    /* Acquire pairs with the release in rr_clock_fake: what the fake reads is set up. */
    uint64_t (*now)(void) = atomic_load_explicit(&fake, memory_order_acquire);
    struct timespec ts;

    if (now) return now();
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * RR_SECOND + (uint64_t)ts.tv_nsec;
}

double rr_unix_time(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

void rr_clock_fake(uint64_t (*now)(void))
{
    atomic_store_explicit(&fake, now, memory_order_release);
}
