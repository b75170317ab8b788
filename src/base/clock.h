/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - time.  Layer: base (L0).  Threads: any. */
#ifndef RR_BASE_CLOCK_H
#define RR_BASE_CLOCK_H

#include <stdint.h>

#define RR_SECOND UINT64_C(1000000000)
#define RR_MILLISECOND UINT64_C(1000000)
#define RR_ENDLESS (UINT64_MAX / 4) /* 146 years: the longest time that may be added to any other */

uint64_t rr_now_ns(void);  /* monotonic */
double rr_unix_time(void); /* wall clock, seconds */

/* Tests: replaces rr_now_ns; NULL restores it. */
void rr_clock_fake(uint64_t (*now)(void));

#endif
