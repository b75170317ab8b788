/* SPDX-License-Identifier: Apache-2.0 */
/* nvml.cc - load, memory, temperature, power and throttling of a GPU, from NVML if the machine has it.  It comes
 * with the driver and is looked up when first asked for; without it the figures stay unknown.
 *
 * Of an instance of a partitioned card (MIG), CUDA tells the card's bus id and the instance's UUID.
 * NVML has no load of an instance; the memory is the instance's, temperature, power and clocks are the
 * card's. */
#include <dlfcn.h>
#include <mutex>
#include <stdio.h>

#include "plan.h"

namespace
{

/* The few declarations of NVML's stable interface that are used. */
typedef struct NvmlDevice *nvml_device;
struct NvmlUtilization {
    unsigned gpu, memory; /* percent */
};
struct NvmlMemory {
    unsigned long long total, free, used;
};
constexpr int NVML_GPU_SENSOR = 0;

struct {
    std::once_flag once;
    bool ready;
    int (*init)(void);
    int (*handle)(const char *bus_id, nvml_device *out);
    int (*utilization)(nvml_device, NvmlUtilization *out);
    int (*memory)(nvml_device, NvmlMemory *out);
    int (*temperature)(nvml_device, int sensor, unsigned *out);
    int (*power)(nvml_device, unsigned *milliwatts);
    /* may be missing */
    int (*clocks)(nvml_device, unsigned long long *reasons);
    int (*by_uuid)(const char *uuid, nvml_device *out);
    int (*partitioned)(nvml_device, unsigned *now, unsigned *after_reset);
} nvml;

template <class F> bool find(void *library, F &f, const char *name)
{
    f = reinterpret_cast<F>(dlsym(library, name));
    return f != nullptr;
}

void open_library()
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);

    nvml.ready = library && find(library, nvml.init, "nvmlInit_v2") &&
                 find(library, nvml.handle, "nvmlDeviceGetHandleByPciBusId_v2") &&
                 find(library, nvml.utilization, "nvmlDeviceGetUtilizationRates") &&
                 find(library, nvml.memory, "nvmlDeviceGetMemoryInfo") &&
                 find(library, nvml.temperature, "nvmlDeviceGetTemperature") &&
                 find(library, nvml.power, "nvmlDeviceGetPowerUsage") && nvml.init() == 0;
    if (!nvml.ready) return;
    if (!find(library, nvml.clocks, "nvmlDeviceGetCurrentClocksEventReasons"))
        find(library, nvml.clocks, "nvmlDeviceGetCurrentClocksThrottleReasons"); /* before 535 */
    find(library, nvml.by_uuid, "nvmlDeviceGetHandleByUUID");
    find(library, nvml.partitioned, "nvmlDeviceGetMigMode");
}

/* NVML's bits of reasons; that the device is idle is none of ours. */
uint32_t throttle(unsigned long long reasons)
{
    static const struct {
        unsigned long long bits;
        uint32_t reason;
    } table[] = {
        { 0x004 | 0x080, RR_THROTTLE_POWER },           /* cap by software, brake of the board */
        { 0x020 | 0x040, RR_THROTTLE_THERMAL },         /* by software, by the board */
        { 0x008, RR_THROTTLE_HARDWARE },                /* hardware slowdown */
        { 0x002 | 0x010 | 0x100, RR_THROTTLE_SETTING }, /* application clocks, sync, display */
    };
    uint32_t out = 0;

    for (auto &row : table)
        if (reasons & row.bits) out |= row.reason;
    return out;
}

bool is_partitioned(nvml_device card)
{
    unsigned now = 0, after_reset = 0;

    return nvml.partitioned && nvml.partitioned(card, &now, &after_reset) == 0 && now == 1;
}

/* False: NVML does not let us see it. */
bool find_instance(const unsigned char *u, nvml_device *out)
{
    char text[48];

    snprintf(text, sizeof(text),
             "MIG-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
             u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
             u[15]);
    return nvml.by_uuid && nvml.by_uuid(text, out) == 0;
}

} // namespace

void nvml_stats(const char *pci_bus_id, const unsigned char *uuid, struct rr_device_stats *out)
{
    NvmlUtilization utilization;
    NvmlMemory memory;
    nvml_device card, part;
    unsigned long long reasons;
    unsigned value;

    std::call_once(nvml.once, open_library);
    if (!nvml.ready || nvml.handle(pci_bus_id, &card)) return;
    bool whole = !is_partitioned(card), seen = whole || find_instance(uuid, &part);
    if (whole && nvml.utilization(card, &utilization) == 0)
        out->utilization = (float)utilization.gpu / 100.0f;
    if (seen && nvml.memory(whole ? card : part, &memory) == 0) {
        out->memory_used = memory.used;
        out->memory_total = memory.total;
    }
    if (nvml.temperature(card, NVML_GPU_SENSOR, &value) == 0) out->celsius = (float)value;
    if (nvml.power(card, &value) == 0) out->watts = (float)value / 1000.0f;
    if (nvml.clocks && nvml.clocks(card, &reasons) == 0) out->throttled = throttle(reasons);
}
