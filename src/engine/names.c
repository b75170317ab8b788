/* SPDX-License-Identifier: Apache-2.0 */
/* names.c - the words of rerank.h: version, status codes, reasons.  Layer: engine (L5). */
#include "base/attr.h"
#include "rerank.h"

const char *rr_version(void)
{
    return RR_VERSION;
}

const char *rr_status_name(int code)
{
    static const char *const names[] = {
        "RR_OK",        "RR_EINVAL",  "RR_EFORMAT", "RR_ENOTSUP",    "RR_ENOENT",
        "RR_EIO",       "RR_ENOMEM",  "RR_ETOOBIG", "RR_EBUSY",      "RR_ETIMEDOUT",
        "RR_ECANCELED", "RR_ECLOSED", "RR_EDEVICE", "RR_ENONFINITE", "RR_EINTERNAL",
    };

    return code >= 0 && code <= RR_EINTERNAL ? names[code] : "unknown status";
}

_Static_assert(1 << (RR_GPU_THROTTLES - 1) == RR_GPU_SETTING, "a name for each bit");

const char *rr_gpu_throttle_name(uint32_t bit)
{
    static const char *const names[RR_GPU_THROTTLES] = { "power", "thermal", "hardware",
                                                         "setting" };

    return bit < RR_COUNT(names) ? names[bit] : NULL;
}
