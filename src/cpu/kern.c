/* SPDX-License-Identifier: Apache-2.0 */
/* kern.c - the ladder of kernel levels and the choice among them.
 * Layer: cpu (L1).  Threads: any; nothing is ever written. */
#include "cpu/kern.h"

#include <stdbool.h>
#include <string.h>

#include "base/attr.h"
#include "cpu/features.h"
#include "cpu/kern_levels.h"

static const struct rr_kern *const levels[] = {
    &rr_kern_ref,
#if defined(__x86_64__)
    &rr_kern_avx2,
    &rr_kern_avxvnni,
    &rr_kern_avx512,
    &rr_kern_avx512bf16, /* VDPBF16PS takes up to four times as long as VPDPWSSD */
    &rr_kern_avx512vnni,
    &rr_kern_amx,
#elif defined(__aarch64__)
    &rr_kern_neon,
    &rr_kern_dotprod,
    &rr_kern_i8mm,
#endif
};

const struct rr_kern *const *rr_kern_levels(uint32_t *n)
{
    *n = RR_COUNT(levels);
    return levels;
}

const struct rr_kern *rr_kern_pick(uint32_t flags, const char *name)
{
    const struct rr_kern *best = NULL;
    bool any = !name || strcmp(name, "auto") == 0;

    for (size_t i = 0; i < RR_COUNT(levels); i++) {
        if ((levels[i]->needs & flags) != levels[i]->needs) continue;
        if (any || strcmp(name, levels[i]->name) == 0) best = levels[i];
    }
    return best;
}
