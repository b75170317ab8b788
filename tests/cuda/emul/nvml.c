/* SPDX-License-Identifier: Apache-2.0 */
/* nvml.c - a libnvidia-ml.so.1 that knows one device, "0000:00:00.0", and says what
 * EMUL_THROTTLE has as reasons for lower clocks.  With EMUL_MIG the card is partitioned: it has no load,
 * its memory is that of all instances, and there is a handle of the one whose UUID is 0; with
 * EMUL_MIG=hidden there is none. */
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device);
EXPORT int nvmlDeviceGetUtilizationRates(void *device, unsigned out[2]);
EXPORT int nvmlDeviceGetMemoryInfo(void *device, unsigned long long out[3]);
EXPORT int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out);
EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *out);
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out);

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device);
EXPORT int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *after_reset);

static char instance; /* its address is the handle */

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
    const char *mig = getenv("EMUL_MIG");

    *device = &instance;
    if (!mig || strcmp(mig, "hidden") == 0) return 4; /* no permission */
    return strcmp(uuid, "MIG-00000000-0000-0000-0000-000000000000") == 0 ? 0 : 6;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *after_reset)
{
    (void)device;
    *now = *after_reset = getenv("EMUL_MIG") != NULL;
    return 0;
}
int nvmlInit_v2(void)
{
    return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device)
{
    *device = NULL;
    return strcmp(id, "0000:00:00.0") == 0 ? 0 : 6; /* not found */
}
int nvmlDeviceGetUtilizationRates(void *device, unsigned out[2])
{
    (void)device;
    out[0] = 25;
    out[1] = 10;
    if (!getenv("EMUL_MIG")) return 0;
    out[0] = out[1] = 0xFFFFFFFF;
    return 3; /* not supported */
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long out[3])
{
    unsigned long long whole = getenv("EMUL_MIG") && device != &instance ? 7 : 1;

    out[0] = whole * (512ull << 20); /* total, free, used */
    out[1] = whole * (412ull << 20);
    out[2] = whole * (100ull << 20);
    return 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out)
{
    (void)device;
    *out = sensor == 0 ? 41 : 0;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *out)
{
    (void)device;
    *out = 33500;
    return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out)
{
    const char *reasons = getenv("EMUL_THROTTLE");

    (void)device;
    *out = reasons ? strtoull(reasons, NULL, 0) : 1; /* idle */
    return 0;
}
