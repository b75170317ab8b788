/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.cc - a CUDA runtime over the block emulator.  Work on a stream happens when the stream is
 * synchronised, not before: a result that is read too early is stale, and a staging buffer that is
 * overwritten too early spoils the batch before it.
 *
 * Device memory has guards at both ends, checked at every synchronisation, and begins as 0xFF bytes.
 * What goes wrong is up to the environment, read at each call:
 *   EMUL_DRIVER    version of the driver; 0: none (13000)
 *   EMUL_DEVICES   how many (1)
 *   EMUL_CC        compute capability of all, as 80 (RR_EMUL_ARCH)
 *   EMUL_CODE      architecture that the plugin's code was compiled for; 0: it has none for the device
 *                  (RR_EMUL_ARCH)
 *   EMUL_MEMORY    MiB of each device (512)
 *   EMUL_PROCESSORS  multiprocessors of each device (4)
 *   EMUL_FAIL_ALLOC  the n-th allocation since this was set fails, and all after it
 *   EMUL_FAIL_ONE  the n-th allocation since this was set fails, and no other
 *   EMUL_STICKY    the n-th synchronisation from now fails and everything after it until a reset
 *   EMUL_STICKY_CALL  the same, counting every call
 *   EMUL_HANG      the n-th synchronisation from now does not end, for EMUL_HANG_MS (for ever); only
 *                  cudaStreamQuery may be asked meanwhile
 *   EMUL_WRONG     copies of so many bytes and more to the host are of numbers that are 0.25 too large
 *   EMUL_NO_EARLY  no kernel may begin before the one before it has ended
 *   EMUL_MIG       the devices are instances of partitioned cards
 * A recorded graph, its start and a stream count as allocations, too: the driver makes room for them.
 * Device i has the UUID 00000000-0000-0000-0000-0000000000ii. */
#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

#include <cuda.h>

#include "emul.h"

using Work = std::function<bool()>;

using Clock = std::chrono::steady_clock;

struct EmulStream {
    int device;
    std::vector<Work> work;
    bool capturing, hung;
    Clock::time_point hung_since;
};
struct EmulGraph {
    int device;
    std::vector<Work> work;
};

namespace
{

constexpr size_t GUARD = 256;
constexpr unsigned char GUARD_BYTE = 0xA5;

/* Several threads may each use a device: one of them works at a time. */
std::recursive_mutex one;
using Lock = std::lock_guard<std::recursive_mutex>;

struct Block {
    size_t size;
    int device;
};
std::map<unsigned char *, Block> blocks; /* by what the caller has */
std::map<void *, int> pinned; /* device */
std::set<EmulStream *> streams;
std::set<EmulGraph *> graphs;
thread_local int device_now;
bool lost[64];
thread_local cudaError_t last_error;
std::map<const void *, size_t> allowed; /* shared memory beyond the usual, by kernel */

long setting(const char *name, long otherwise)
{
    const char *v = getenv(name);

    return v && *v ? atol(v) : otherwise;
}

/* Counts a variable down; true: now. */
bool due(const char *name)
{
    long n = setting(name, 0);
    char text[32];

    if (!n) return false;
    snprintf(text, sizeof(text), "%ld", n - 1);
    setenv(name, text, 1);
    return n == 1;
}

cudaError_t result(cudaError_t e)
{
    if (due("EMUL_STICKY_CALL")) lost[device_now] = true;
    if (e == cudaSuccess && lost[device_now]) e = cudaErrorIllegalAddress;
    if (e) last_error = e;
    return e;
}

size_t in_use(int device)
{
    size_t n = 0;

    for (auto &b : blocks)
        if (b.second.device == device) n += b.second.size;
    return n;
}

bool allocation_fails()
{
    static long last, allocations; /* since EMUL_FAIL_ALLOC changed */
    long n = setting("EMUL_FAIL_ALLOC", 0);

    if (n != last) allocations = 0;
    last = n;
    return due("EMUL_FAIL_ONE") || (n && ++allocations >= n);
}

/* What CUDA_VISIBLE_DEVICES leaves: numbers and beginnings of UUIDs, up to the first that is neither. */
std::vector<int> visible_devices()
{
    const char *names = getenv("CUDA_VISIBLE_DEVICES");
    int n = (int)setting("EMUL_DEVICES", 1);
    std::vector<int> all;

    for (int i = 0; i < n && !names; i++) all.push_back(i);
    for (std::string rest = names ? names : ""; !rest.empty();) {
        std::string name = rest.substr(0, rest.find(','));
        int found = -1;

        rest = rest.size() > name.size() ? rest.substr(name.size() + 1) : "";
        for (int i = 0; i < n; i++) {
            char uuid[64];
            snprintf(uuid, sizeof(uuid), "%s-00000000-0000-0000-0000-%012x",
                     getenv("EMUL_MIG") ? "MIG" : "GPU", i);
            if (name == std::to_string(i) ||
                (name.size() > 4 && strncmp(uuid, name.c_str(), name.size()) == 0))
                found = i;
        }
        if (found < 0) break;
        all.push_back(found);
    }
    return all;
}

bool guards_hold()
{
    for (auto &b : blocks)
        for (size_t i = 0; i < GUARD; i++)
            if (b.first[-(long)GUARD + (long)i] != GUARD_BYTE ||
                b.first[b.second.size + i] != GUARD_BYTE) {
                fprintf(stderr, "emulated device memory: a kernel wrote outside its buffer\n");
                return false;
            }
    return true;
}

void release(unsigned char *p)
{
    free(p - GUARD);
    blocks.erase(p);
}

/* What a stream has to do, as far as the device lives. */
void settle(cudaStream_t s)
{
    bool good = true;

    if (due("EMUL_STICKY")) lost[device_now] = true;
    if (!lost[device_now])
        for (Work &w : s->work) good = good && w() && guards_hold();
    s->work.clear();
    if (!good) lost[device_now] = true;
}

} // namespace

/* For tests: what the plugin holds, of all devices. */
extern "C" __attribute__((visibility("default"))) size_t emul_held(void)
{
    Lock lock(one);

    return blocks.size() + pinned.size() + streams.size() + graphs.size();
}

bool emul::refuses(bool early)
{
    return early && setting("EMUL_NO_EARLY", 0);
}
cudaError_t emul::launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t s,
                         std::function<void()> run, dim3 cluster)
{
    Lock lock(one);
    size_t most = allowed.count(kernel) ? allowed[kernel] : 48 * 1024;

    if (!grid.x || !grid.y || grid.y > 65535 || block.x > 1024 || shared > most)
        return result(cudaErrorInvalidValue);
    s->work.push_back([=] { return emul::run_grid(grid, block, shared, run, cluster); });
    return result(cudaSuccess);
}

extern "C" {

cudaError_t cudaDriverGetVersion(int *v)
{
    Lock lock(one);
    *v = (int)setting("EMUL_DRIVER", 13000);
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    Lock lock(one);
    *v = 13000;
    return cudaSuccess;
}
/* Drivers from 570 on name threads by their files in /proc, and take it ill if they cannot. */
bool name_thread()
{
    FILE *f = fopen("/proc/thread-self/comm", "r+");
    char name[32];
    bool done = f && fgets(name, sizeof(name), f) && fseek(f, 0, SEEK_SET) == 0 && fputs(name, f) >= 0;

    return (!f || fclose(f) == 0) && done;
}
cudaError_t cudaGetDeviceCount(int *n)
{
    Lock lock(one);
    *n = 0;
    if (!name_thread()) return result(cudaErrorOperatingSystem);
    if (setting("EMUL_DRIVER", 13000) < 13000) return cudaErrorInsufficientDriver;
    *n = (int)visible_devices().size();
    return *n ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    Lock lock(one);
    long cc = setting("EMUL_CC", RR_EMUL_ARCH);
    std::vector<int> visible = visible_devices();

    if (device >= (int)visible.size()) return result(cudaErrorInvalidValue);
    memset(p, 0, sizeof(*p));
    snprintf(p->name, sizeof(p->name), "Emulated GPU %d", visible[(size_t)device]);
    p->uuid.bytes[15] = (char)visible[(size_t)device];
    p->major = (int)cc / 10;
    p->minor = (int)cc % 10;
    p->multiProcessorCount = (int)setting("EMUL_PROCESSORS", 4);
    p->totalGlobalMem = (size_t)setting("EMUL_MEMORY", 512) << 20;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    Lock lock(one);
    if (device < 0 || device >= (int)visible_devices().size())
        return result(cudaErrorInvalidValue);
    device_now = device;
    return result(cudaSuccess);
}
cudaError_t cudaDeviceReset(void)
{
    Lock lock(one);
    for (auto it = blocks.begin(); it != blocks.end();) {
        auto at = it++;
        if (at->second.device == device_now) release(at->first);
    }
    for (auto it = pinned.begin(); it != pinned.end();) {
        auto at = it++;
        if (at->second == device_now) cudaFreeHost(at->first);
    }
    for (auto it = streams.begin(); it != streams.end();) {
        auto at = it++;
        if ((*at)->device == device_now) cudaStreamDestroy(*at);
    }
    for (auto it = graphs.begin(); it != graphs.end();) {
        auto at = it++;
        if ((*at)->device == device_now) cudaGraphDestroy(*at);
    }
    lost[device_now] = false;
    last_error = cudaSuccess;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    Lock lock(one);
    return result(cudaSuccess);
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int cap, int device)
{
    Lock lock(one);
    snprintf(id, (size_t)cap, "0000:%02X:00.0", visible_devices()[(size_t)device]);
    return result(cudaSuccess);
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    Lock lock(one);
    *total = (size_t)setting("EMUL_MEMORY", 512) << 20;
    *free_bytes = *total - in_use(device_now);
    return result(cudaSuccess);
}
cudaError_t emul_malloc(void **p, size_t n)
{
    Lock lock(one);
    size_t free_bytes, total;
    unsigned char *memory;

    *p = nullptr;
    if (result(cudaSuccess)) return cudaErrorIllegalAddress;
    cudaMemGetInfo(&free_bytes, &total);
    if (allocation_fails() || n > free_bytes) return result(cudaErrorMemoryAllocation);
    memory = (unsigned char *)aligned_alloc(256, (n + 2 * GUARD + 255) / 256 * 256);
    if (!memory) abort();
    memset(memory, GUARD_BYTE, GUARD);
    memset(memory + GUARD, 0xFF, n);
    memset(memory + GUARD + n, GUARD_BYTE, GUARD);
    blocks[memory + GUARD] = { n, device_now };
    *p = memory + GUARD;
    return cudaSuccess;
}
cudaError_t emul_allow_shared(const void *kernel, int bytes)
{
    Lock lock(one);
    if (bytes > (RR_EMUL_ARCH >= 90 ? 227 : RR_EMUL_ARCH >= 80 ? 99 : 64) * 1024)
        return result(cudaErrorInvalidValue);
    allowed[kernel] = (size_t)bytes;
    return cudaSuccess;
}
cudaError_t emul_attributes(cudaFuncAttributes *a)
{
    Lock lock(one);
    a->ptxVersion = (int)setting("EMUL_CODE", RR_EMUL_ARCH);
    return result(a->ptxVersion ? cudaSuccess : cudaErrorNoKernelImageForDevice);
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult *found)
{
    Lock lock(one);
    if (strcmp(name, "cuTensorMapEncodeTiled") != 0) return result(cudaErrorInvalidValue);
    *out = (void *)cuTensorMapEncodeTiled;
    *found = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    Lock lock(one);
    if (!p) return result(cudaSuccess);
    if (!blocks.count((unsigned char *)p)) return result(cudaErrorInvalidValue);
    release((unsigned char *)p);
    return result(cudaSuccess);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    Lock lock(one);
    *p = nullptr;
    if (result(cudaSuccess)) return cudaErrorIllegalAddress;
    if (allocation_fails()) return result(cudaErrorMemoryAllocation);
    *p = aligned_alloc(64, (n + 63) / 64 * 64);
    if (!*p) abort();
    memset(*p, 0xFF, n);
    pinned[*p] = device_now;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p)
{
    Lock lock(one);
    if (pinned.erase(p)) free(p);
    return result(cudaSuccess);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, cudaMemcpyKind)
{
    Lock lock(one);
    if (!lost[device_now]) memcpy(dst, src, n);
    return result(cudaSuccess);
}
cudaError_t cudaMemset(void *p, int value, size_t n)
{
    Lock lock(one);
    if (!lost[device_now]) memset(p, value, n);
    return result(cudaSuccess);
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, cudaMemcpyKind kind, cudaStream_t s)
{
    size_t wrong = (size_t)setting("EMUL_WRONG", 0);
    Lock lock(one);

    s->work.push_back([=] {
        memcpy(dst, src, n);
        if (wrong && kind == cudaMemcpyDeviceToHost && n >= wrong)
            for (size_t i = 0; i < n / 4; i++) ((float *)dst)[i] += 0.25f;
        return true;
    });
    return result(cudaSuccess);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    Lock lock(one);
    *s = nullptr;
    if (result(cudaSuccess)) return cudaErrorIllegalAddress;
    if (allocation_fails()) return result(cudaErrorMemoryAllocation);
    *s = new EmulStream();
    (*s)->device = device_now;
    streams.insert(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    Lock lock(one);
    streams.erase(s);
    delete s;
    return result(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    Lock lock(one);
    if (s->capturing || s->hung) return result(cudaErrorInvalidValue);
    settle(s);
    return result(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    Lock lock(one);
    long ms = setting("EMUL_HANG_MS", 0);

    if (s->capturing) return result(cudaErrorInvalidValue);
    if (!s->hung && due("EMUL_HANG")) {
        s->hung = true;
        s->hung_since = Clock::now();
        s->work.clear();
    }
    if (s->hung && (!ms || Clock::now() - s->hung_since < std::chrono::milliseconds(ms)))
        return last_error = cudaErrorNotReady;
    s->hung = false;
    settle(s);
    return result(cudaSuccess);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    Lock lock(one);
    if (!s->work.empty()) return result(cudaErrorInvalidValue);
    s->capturing = true;
    return result(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    Lock lock(one);
    *g = new EmulGraph{ device_now, s->work };
    graphs.insert(*g);
    s->work.clear();
    s->capturing = false;
    return result(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    Lock lock(one);
    *e = nullptr;
    if (allocation_fails()) return result(cudaErrorMemoryAllocation);
    *e = new EmulGraph{ device_now, g->work };
    graphs.insert(*e);
    return result(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    Lock lock(one);
    graphs.erase(g);
    delete g;
    return result(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    Lock lock(one);
    graphs.erase(e);
    delete e;
    return result(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    Lock lock(one);
    if (allocation_fails()) return result(cudaErrorMemoryAllocation);
    s->work.insert(s->work.end(), e->work.begin(), e->work.end());
    return result(cudaSuccess);
}
cudaError_t cudaGetLastError(void)
{
    Lock lock(one);
    cudaError_t e = last_error;

    last_error = lost[device_now] ? cudaErrorIllegalAddress : cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    Lock lock(one);
    return last_error;
}
const char *cudaGetErrorString(cudaError_t e)
{
    Lock lock(one);
    return e == cudaErrorMemoryAllocation ? "out of memory"
           : e == cudaErrorIllegalAddress ? "an illegal memory access was encountered"
                                          : "error of the emulated runtime";
}
const char *cudaGetErrorName(cudaError_t e)
{
    Lock lock(one);
    return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : e == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress"
                                          : "cudaErrorEmulated";
}
}
