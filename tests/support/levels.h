/* SPDX-License-Identifier: Apache-2.0 */
/* levels.h - the instruction set levels that a test runs at: those of this processor, or of these
 * the one that RR_TEST_ISA names (make test-levels).  Included after cmocka.h.  Layer: tests. */
#ifndef RR_TEST_LEVELS_H
#define RR_TEST_LEVELS_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/features.h"
#include "cpu/kern.h"

static inline bool levels_wanted(const struct rr_kern *k)
{
    const char *only = getenv("RR_TEST_ISA");

    if (only && !rr_kern_pick(rr_cpu_flags(), only)) fail_msg("RR_TEST_ISA: there is no %s", only);
    return (k->needs & rr_cpu_flags()) == k->needs && (!only || strcmp(only, k->name) == 0);
}

#endif
