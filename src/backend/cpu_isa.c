/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_isa.c - chooses the kernel level.  Layer: backend (L3).  Threads: any. */
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/err.h"
#include "base/log.h"

static bool usable(const struct rr_kern *k, uint32_t flags)
{
    return (k->needs & flags) == k->needs;
}

static int not_available(const struct rr_kern *const *levels, uint32_t n_levels, uint32_t flags,
                         const char *name, struct rr_error *err)
{
    char list[200] = "auto";
    size_t len = strlen(list);
    const char *why = "is not known";

    for (uint32_t i = 0; i < n_levels; i++) {
        size_t add = strlen(levels[i]->name);

        if (strcmp(levels[i]->name, name) == 0) why = "is not offered by this processor";
        if (!usable(levels[i], flags) || len + 2 + add >= sizeof(list)) continue;
        memcpy(list + len, ", ", 2);
        memcpy(list + len + 2, levels[i]->name, add + 1);
        len += 2 + add;
    }
    return rr_fail(err, RR_ENOTSUP, "instruction set level '%s' %s; this machine has: %s", name,
                   why, list);
}

int rr_cpu_isa(const struct rr_kern **out, const struct rr_kern *const *levels, uint32_t n_levels,
               uint32_t flags, const char *name, struct rr_error *err)
{
    bool any = !name || strcmp(name, "auto") == 0;
    const char *wrong;
    int rc;

    *out = NULL;
    for (uint32_t i = n_levels; i-- > 0;) {
        if (!usable(levels[i], flags) || (!any && strcmp(levels[i]->name, name) != 0)) continue;
        *out = levels[i];
        if (i == 0) return RR_OK; /* the reference is what the others are checked against */
        rc = rr_cpu_self_check(&wrong, levels[i], levels[0], err);
        if (!rc && !wrong && levels[i]->i16 && levels[i]->i16 != levels[i])
            rc = rr_cpu_self_check(&wrong, levels[i]->i16, levels[0], err);
        if (!rc && !wrong) return RR_OK;
        *out = NULL;
        if (rc) return rc;
        if (!any)
            return rr_fail(err, RR_EDEVICE,
                           "instruction set level %s computes wrong results on this processor "
                           "(%s differs from the reference)", name, wrong);
        rr_log(RR_WARN, "instruction set level %s computes wrong results on this processor (%s "
               "differs from the reference) and is not used", levels[i]->name, wrong);
    }
    return not_available(levels, n_levels, flags, name ? name : "auto", err);
}
