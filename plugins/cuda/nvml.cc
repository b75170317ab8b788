/* SPDX-License-Identifier: Apache-2.0 */
/* nvml.cc - load, memory, temperature, power and throttling of a GPU, from NVML if the machine has it.  It comes
 * with the driver and is looked up when first asked for; without it the figures stay unknown. */
#include <dlfcn.h>
#include <mutex>

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
    int (*clocks)(nvml_device, unsigned long long *reasons); /* may be missing */
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
    if (nvml.ready) find(library, nvml.clocks, "nvmlDeviceGetCurrentClocksThrottleReasons");
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

} // namespace

void nvml_stats(const char *pci_bus_id, struct rr_device_stats *out)
{
    NvmlUtilization utilization;
    NvmlMemory memory;
    nvml_device device;
    unsigned long long reasons;
    unsigned value;

    std::call_once(nvml.once, open_library);
    if (!nvml.ready || nvml.handle(pci_bus_id, &device)) return;
    if (nvml.utilization(device, &utilization) == 0)
        out->utilization = (float)utilization.gpu / 100.0f;
    if (nvml.memory(device, &memory) == 0) {
        out->memory_used = memory.used;
        out->memory_total = memory.total;
    }
    if (nvml.temperature(device, NVML_GPU_SENSOR, &value) == 0) out->celsius = (float)value;
    if (nvml.power(device, &value) == 0) out->watts = (float)value / 1000.0f;
    if (nvml.clocks && nvml.clocks(device, &reasons) == 0) out->throttled = throttle(reasons);
}
