/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h - runs a piece of code once for each of its allocations, letting that one fail. */
#ifndef TESTS_SUPPORT_FAULT_H
#define TESTS_SUPPORT_FAULT_H

#include <stddef.h>
#include <stdint.h>

/* Does something from start to end, frees everything, returns a status. */
typedef int fault_fn(void *user);

struct fault_report {
    uint64_t allocations; /* that fn makes when nothing fails */
    uint64_t survived;    /* runs that gave RR_OK although an allocation failed */
};

/* Fails the running cmocka test when a run with a failed allocation gives anything but RR_ENOMEM or
 * RR_OK, leaves memory behind, or when the run without failure does not give RR_OK. */
struct fault_report fault_each(fault_fn *fn, void *user);

/* Bytes in use, all tags. */
size_t fault_memory_in_use(void);

#endif
