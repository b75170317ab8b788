/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.cc - the backend "cuda": which devices there are and why not, opening, the table.
 *
 * Devices are numbered as usable ones only: those that are new enough for this build. */
#include <algorithm>
#include <dlfcn.h>
#include <mutex>
#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#ifndef RR_CUDA_MIN_ARCH
#define RR_CUDA_MIN_ARCH 75 /* the oldest that this build has code for */
#endif
#define MAX_DEVICES 64
#define EXPORT __attribute__((visibility("default")))

namespace
{

std::mutex lock;
thread_local char reason[256];

/* Devices open on each ordinal, and whether one of them was lost: its context must be made anew,
 * which takes all of them with it. */
struct {
    unsigned open;
    bool lost;
    unsigned checked;  /* precisions whose self-check passed in this context, one bit each */
    unsigned compared; /* those that were right among others, in any context */
    std::vector<cudaStream_t> hung; /* left behind with work that had not ended */
} contexts[MAX_DEVICES];

uint32_t no_device(const char **why, const char *text)
{
    if (text != reason) snprintf(reason, sizeof(reason), "%s", text);
    if (why) *why = reason;
    return 0;
}

/* 75, 80, ... */
int capability(const cudaDeviceProp &prop)
{
    return prop.major * 10 + prop.minor;
}

/* Ordinals of usable devices.  0 with a reason in *why. */
uint32_t find_devices(int ordinals[MAX_DEVICES], const char **why)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int driver = 0, runtime = 0, n = 0, too_old = -1;
    cudaDeviceProp prop;
    uint32_t usable = 0;
    cudaError_t e;

    if (cudaDriverGetVersion(&driver) || driver == 0)
        return no_device(why, "no NVIDIA driver (libcuda.so.1): install one, and in a container "
                              "pass the GPU through");
    cudaRuntimeGetVersion(&runtime);
    e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver) {
        snprintf(reason, sizeof(reason),
                 "the NVIDIA driver is for CUDA %d.%d, this plugin needs one for %d.%d or newer: "
                 "update the driver, or build the plugin with an older CUDA",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        return no_device(why, reason);
    }
    if ((e == cudaErrorNoDevice || (!e && n == 0)) && visible) {
        snprintf(reason, sizeof(reason),
                 "CUDA_VISIBLE_DEVICES is \"%.100s\" and names no device that the driver has (see "
                 "nvidia-smi -L)",
                 visible);
        return no_device(why, reason);
    }
    if (e == cudaErrorNoDevice || (!e && n == 0))
        return no_device(why, "the driver finds no NVIDIA GPU (see nvidia-smi)");
    if (e) {
        snprintf(reason, sizeof(reason), "CUDA: %s (%s)", cudaGetErrorString(e),
                 cudaGetErrorName(e));
        return no_device(why, reason);
    }
    for (int i = 0; i < n && usable < MAX_DEVICES; i++) {
        if (cudaGetDeviceProperties(&prop, i)) continue;
        if (capability(prop) >= RR_CUDA_MIN_ARCH)
            ordinals[usable++] = i;
        else
            too_old = i;
    }
    if (usable || too_old < 0 || cudaGetDeviceProperties(&prop, too_old))
        return usable ? usable : no_device(why, "no GPU tells its properties (see nvidia-smi)");
    snprintf(reason, sizeof(reason), "%.64s has compute capability %d.%d, this plugin needs %d.%d",
             prop.name, prop.major, prop.minor, RR_CUDA_MIN_ARCH / 10, RR_CUDA_MIN_ARCH % 10);
    return no_device(why, reason);
}

uint32_t device_count(const char **why)
{
    int ordinals[MAX_DEVICES];

    return find_devices(ordinals, why);
}

/* The device is the current one.  A build for older ones runs by their instructions. */
int find_arch(struct rr_device *d, struct rr_error *err)
{
    cudaError_t e = code_arch(&d->arch);

    if (e == cudaErrorNoKernelImageForDevice) {
        cudaGetLastError();
        return rr_fail(err, RR_EDEVICE,
                       "GPU %d (%.64s) has compute capability %d.%d, for which this plugin has no "
                       "code: build it with CUDA_ARCHS=%d",
                       d->ordinal, d->prop.name, d->prop.major, d->prop.minor,
                       capability(d->prop));
    }
    if (e) return cuda_failed(d, e, "looking for code", err);
    d->arch = std::min(d->arch, capability(d->prop));
    return RR_OK;
}

int needs(const struct rr_device *d, const char *dtype, int arch, const char *instead,
          struct rr_error *err)
{
    if (d->arch >= arch) return RR_OK;
    return rr_fail(err, RR_ENOTSUP, "%s needs compute capability %d.%d, this %s %d.%d: use %s",
                   dtype, arch / 10, arch % 10,
                   d->arch < capability(d->prop) ? "build has code for" : "GPU has", d->arch / 10,
                   d->arch % 10, instead);
}

int find_precision(struct rr_device *d, const char *dtype, struct rr_error *err)
{
    Precision *out = &d->precision;

    if (!dtype || strcmp(dtype, "auto") == 0)
        *out = d->arch >= 70 ? Precision::F16 : Precision::F32;
    else if (strcmp(dtype, "f32") == 0)
        *out = Precision::F32;
    else if (strcmp(dtype, "f16") == 0)
        *out = Precision::F16;
    else if (strcmp(dtype, "bf16") == 0)
        *out = Precision::BF16;
    else if (strcmp(dtype, "int8") == 0)
        *out = Precision::I8;
    else if (strcmp(dtype, "fp8") == 0)
        *out = Precision::F8;
    else
        return rr_fail(err, RR_EINVAL,
                       "dtype is \"%s\", expected auto, f32, f16, bf16, int8 or fp8", dtype);
    if (*out == Precision::F8) return needs(d, dtype, 89, "int8", err);
    if (*out == Precision::BF16) return needs(d, dtype, 80, "f16", err);
    if (*out == Precision::I8) return needs(d, dtype, 75, "f16", err);
    return RR_OK;
}

/* Resetting a device waits for its kernels: only when those left behind have ended, well or not. */
int await_hung(const struct rr_device *d, struct rr_error *err)
{
    std::vector<cudaStream_t> &hung = contexts[d->ordinal].hung;

    for (; !hung.empty(); hung.pop_back()) {
        cudaError_t e = cudaStreamQuery(hung.back());

        cudaGetLastError();
        if (e == cudaErrorNotReady)
            return rr_fail(err, RR_EDEVICE,
                           "GPU %d still hangs in a kernel; if it stays so, restart the process, and "
                           "look for Xid in the kernel's log",
                           d->ordinal);
    }
    return RR_OK;
}

/* Makes the context anew if it was lost, which may show only now, and nobody uses it. */
int enter_context(struct rr_device *d, struct rr_error *err)
{
    std::lock_guard<std::mutex> guard(lock);
    cudaError_t e = cudaSetDevice(d->ordinal);

    if (contexts[d->ordinal].lost || e) {
        contexts[d->ordinal].lost = true;
        if (contexts[d->ordinal].open)
            return rr_fail(err, RR_EDEVICE,
                           "GPU %d was lost and %u of its users still hold it: close them first",
                           d->ordinal, contexts[d->ordinal].open);
        if (await_hung(d, err)) return RR_EDEVICE;
        cudaGetLastError();
        e = cudaDeviceReset();
        if (!e) e = cudaSetDevice(d->ordinal);
        if (!e) contexts[d->ordinal].lost = false;
        contexts[d->ordinal].checked = 0;
    }
    if (e) return cuda_failed(d, e, "opening", err);
    contexts[d->ordinal].open++;
    return RR_OK;
}

void close_device(struct rr_device *d)
{
    if (!d) return;
    {
        std::lock_guard<std::mutex> guard(lock);
        contexts[d->ordinal].open--;
        if (d->lost) contexts[d->ordinal].lost = true;
    }
    delete d;
}

int check_once(struct rr_device *d, struct rr_error *err)
{
    unsigned bit = 1u << (int)d->precision;
    bool copies_too;
    int rc;

    {
        std::lock_guard<std::mutex> guard(lock);
        if (contexts[d->ordinal].checked & bit) return RR_OK;
        copies_too = !(contexts[d->ordinal].compared & bit);
    }
    rc = check_golden(d, copies_too, err);
    if (rc) return rc;
    std::lock_guard<std::mutex> guard(lock);
    contexts[d->ordinal].checked |= bit;
    contexts[d->ordinal].compared |= bit;
    return RR_OK;
}

int open_device(struct rr_device **out, const struct rr_device_options *opt, struct rr_error *err)
{
    int ordinals[MAX_DEVICES], rc;
    const char *why = "";
    uint32_t n = find_devices(ordinals, &why);
    cudaError_t e;

    *out = nullptr;
    if (n == 0) return rr_fail(err, RR_EDEVICE, "no usable GPU: %s", why);
    if (opt->index >= n)
        return rr_fail(err, RR_EDEVICE, "there is no GPU %u: %u can be used, counted from 0",
                       opt->index, n);
    struct rr_device *d = new (std::nothrow) rr_device();
    if (!d) return rr_fail(err, RR_ENOMEM, "out of host memory");
    d->ordinal = ordinals[opt->index];
    d->hang_ns = opt->hang_ns;
    e = cudaGetDeviceProperties(&d->prop, d->ordinal);
    rc = e ? cuda_failed(d, e, "reading properties", err) : RR_OK;
    if (!rc) rc = enter_context(d, err);
    if (rc) {
        delete d;
        return rc;
    }
    rc = find_arch(d, err);
    if (!rc) rc = find_precision(d, opt->dtype, err);
    if (!rc) rc = check_once(d, err);
    if (rc)
        close_device(d);
    else
        *out = d;
    return rc;
}

void describe(const struct rr_device *d, struct rr_device_info *out)
{
    uint32_t tokens = (uint32_t)d->prop.multiProcessorCount * 128 / 1024 * 1024;

    memset(out, 0, sizeof(*out));
    snprintf(out->name, sizeof(out->name), "%.127s", d->prop.name);
    snprintf(out->isa, sizeof(out->isa), "sm_%d", d->arch);
    snprintf(out->dtype, sizeof(out->dtype), "%s", precision_name(d->precision));
    out->batch_tokens = std::min(16384u, std::max(4096u, tokens));
    out->memory_total = d->prop.totalGlobalMem;
}

/* C++ ends here: nothing is thrown to the caller. */
template <class F> int guarded(struct rr_error *err, F f)
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return rr_fail(err, RR_ENOMEM, "out of host memory");
    }
}

int plan(const struct rr_device *d, const struct rr_program *p, const struct rr_limits *l,
         struct rr_memory *out, struct rr_error *err)
{
    return guarded(err, [&] { return plan_program(d, p, l, out, err); });
}

int load(struct rr_device *d, const struct rr_program *p, const struct rr_limits *l,
         struct rr_loaded **out, struct rr_error *err)
{
    cudaError_t e = cudaSetDevice(d->ordinal);

    *out = nullptr;
    if (e) return cuda_failed(d, e, "choosing the device", err);
    return guarded(err, [&] { return load_program(d, p, l, out, err); });
}

int stats(const struct rr_device *d, struct rr_device_stats *out)
{
    char id[32] = "";

    *out = { 0, 0, -1, -1, -1, 0, d->repeated.load(std::memory_order_relaxed) };
    if (!cudaDeviceGetPCIBusId(id, sizeof(id), d->ordinal))
        nvml_stats(id, (const unsigned char *)d->prop.uuid.bytes, out);
    if (!out->memory_total) out->memory_total = d->prop.totalGlobalMem;
    return RR_OK;
}

} // namespace

void leave_behind(int ordinal, cudaStream_t stream)
{
    std::lock_guard<std::mutex> guard(lock);

    contexts[ordinal].hung.push_back(stream);
}

extern "C" EXPORT const struct rr_backend *rr_backend_entry(void)
{
    static const struct rr_backend backend = {
        RR_BACKEND_ABI, "cuda", device_count,   open_device, close_device, describe,
        plan,           load,   unload_program, run_batch, nullptr, stats,
    };

    return &backend;
}
