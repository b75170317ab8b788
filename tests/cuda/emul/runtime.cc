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
 *   EMUL_MEMORY    MiB of each device (512)
 *   EMUL_FAIL_ALLOC  the n-th allocation since this was set fails, and all after it
 *   EMUL_STICKY    the n-th synchronisation from now fails and everything after it until a reset */
#include <functional>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

#include <cuda.h>

#include "emul.h"

using Work = std::function<bool()>;

struct EmulStream {
    std::vector<Work> work;
    bool capturing;
};
struct EmulGraph {
    std::vector<Work> work;
};

namespace
{

constexpr size_t GUARD = 256;
constexpr unsigned char GUARD_BYTE = 0xA5;

struct Block {
    size_t size;
    int device;
};
std::map<unsigned char *, Block> blocks; /* by what the caller has */
std::map<void *, size_t> pinned;
int device_now;
bool lost[64];
cudaError_t last_error;
long allocations; /* since EMUL_FAIL_ALLOC changed */
std::map<const void *, size_t> allowed; /* shared memory beyond the usual, by kernel */

long setting(const char *name, long otherwise)
{
    const char *v = getenv(name);

    return v && *v ? atol(v) : otherwise;
}

cudaError_t result(cudaError_t e)
{
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
    static long last;
    long n = setting("EMUL_FAIL_ALLOC", 0);

    if (n != last) allocations = 0;
    last = n;
    return n && ++allocations >= n;
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

bool sticky_now()
{
    long n = setting("EMUL_STICKY", 0);
    char text[32];

    if (!n) return false;
    snprintf(text, sizeof(text), "%ld", n - 1);
    setenv("EMUL_STICKY", text, 1);
    return n == 1;
}

} // namespace

cudaError_t emul::launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t s,
                         std::function<void()> run)
{
    size_t most = allowed.count(kernel) ? allowed[kernel] : 48 * 1024;

    if (!grid.x || !grid.y || grid.y > 65535 || block.x > 1024 || shared > most)
        return result(cudaErrorInvalidValue);
    s->work.push_back([=] { return emul::run_grid(grid, block, shared, run); });
    return result(cudaSuccess);
}

extern "C" {

cudaError_t cudaDriverGetVersion(int *v)
{
    *v = (int)setting("EMUL_DRIVER", 13000);
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = 13000;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *n)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");

    *n = 0;
    if (setting("EMUL_DRIVER", 13000) < 13000) return cudaErrorInsufficientDriver;
    if (!(visible && !*visible)) *n = (int)setting("EMUL_DEVICES", 1);
    return *n ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    long cc = setting("EMUL_CC", RR_EMUL_ARCH);

    if (device >= setting("EMUL_DEVICES", 1)) return result(cudaErrorInvalidValue);
    memset(p, 0, sizeof(*p));
    snprintf(p->name, sizeof(p->name), "Emulated GPU %d", device);
    p->major = (int)cc / 10;
    p->minor = (int)cc % 10;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = (size_t)setting("EMUL_MEMORY", 512) << 20;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= setting("EMUL_DEVICES", 1)) return result(cudaErrorInvalidValue);
    device_now = device;
    return cudaSuccess;
}
cudaError_t cudaDeviceReset(void)
{
    for (auto it = blocks.begin(); it != blocks.end();) {
        auto at = it++;
        if (at->second.device == device_now) release(at->first);
    }
    lost[device_now] = false;
    last_error = cudaSuccess;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    return result(cudaSuccess);
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int cap, int device)
{
    snprintf(id, (size_t)cap, "0000:%02X:00.0", device);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = (size_t)setting("EMUL_MEMORY", 512) << 20;
    *free_bytes = *total - in_use(device_now);
    return result(cudaSuccess);
}
cudaError_t emul_malloc(void **p, size_t n)
{
    size_t free_bytes, total;
    unsigned char *memory;

    *p = nullptr;
    if (lost[device_now]) return result(cudaErrorIllegalAddress);
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
    if (bytes > (RR_EMUL_ARCH >= 90 ? 227 : RR_EMUL_ARCH >= 80 ? 99 : 64) * 1024)
        return result(cudaErrorInvalidValue);
    allowed[kernel] = (size_t)bytes;
    return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult *found)
{
    if (strcmp(name, "cuTensorMapEncodeTiled") != 0) return result(cudaErrorInvalidValue);
    *out = (void *)cuTensorMapEncodeTiled;
    *found = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    if (!p) return result(cudaSuccess);
    if (!blocks.count((unsigned char *)p)) return result(cudaErrorInvalidValue);
    release((unsigned char *)p);
    return result(cudaSuccess);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    *p = nullptr;
    if (lost[device_now]) return result(cudaErrorIllegalAddress);
    if (allocation_fails()) return result(cudaErrorMemoryAllocation);
    *p = aligned_alloc(64, (n + 63) / 64 * 64);
    if (!*p) abort();
    memset(*p, 0xFF, n);
    pinned[*p] = n;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p)
{
    if (pinned.erase(p)) free(p);
    return result(cudaSuccess);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, cudaMemcpyKind)
{
    if (!lost[device_now]) memcpy(dst, src, n);
    return result(cudaSuccess);
}
cudaError_t cudaMemset(void *p, int value, size_t n)
{
    if (!lost[device_now]) memset(p, value, n);
    return result(cudaSuccess);
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, cudaMemcpyKind, cudaStream_t s)
{
    s->work.push_back([=] {
        memcpy(dst, src, n);
        return true;
    });
    return result(cudaSuccess);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = nullptr;
    if (lost[device_now]) return result(cudaErrorIllegalAddress);
    *s = new EmulStream();
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    delete s;
    return result(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    bool good = true;

    if (s->capturing) return result(cudaErrorInvalidValue);
    if (sticky_now()) lost[device_now] = true;
    if (!lost[device_now])
        for (Work &w : s->work) good = good && w() && guards_hold();
    s->work.clear();
    if (!good) lost[device_now] = true;
    return result(cudaSuccess);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (!s->work.empty()) return result(cudaErrorInvalidValue);
    s->capturing = true;
    return result(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    *g = new EmulGraph{ s->work };
    s->work.clear();
    s->capturing = false;
    return result(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    *e = nullptr;
    if (allocation_fails()) return result(cudaErrorMemoryAllocation);
    *e = new EmulGraph{ g->work };
    return result(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return result(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return result(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    s->work.insert(s->work.end(), e->work.begin(), e->work.end());
    return result(cudaSuccess);
}
cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;

    last_error = lost[device_now] ? cudaErrorIllegalAddress : cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}
const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "out of memory"
           : e == cudaErrorIllegalAddress ? "an illegal memory access was encountered"
                                          : "error of the emulated runtime";
}
const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : e == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress"
                                          : "cudaErrorEmulated";
}
}
