/* SPDX-License-Identifier: Apache-2.0 */
/* features.c - cpuid and xgetbv on x86-64, the auxiliary vector on aarch64.
 * Layer: cpu (L1).  Threads: any; the flags are found once and kept in an atomic word.
 * Sources: Intel SDM volume 2 (CPUID), volume 1 chapter 13 (XSAVE) and 18 (AMX); Linux
 * Documentation/x86/xstate.rst (permission for tile data); arch/arm64/include/uapi/asm/hwcap.h. */
#include "cpu/features.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <fcntl.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>
#endif

#define KNOWN (UINT32_C(1) << 31) /* not a flag: says that detection is done */

static const struct {
    uint32_t flag;
    const char *name;
} flag_names[] = {
    { RR_CPU_AVX2, "avx2" },
    { RR_CPU_AVX_VNNI, "avx-vnni" },
    { RR_CPU_AVX512, "avx512" },
    { RR_CPU_AVX512_VNNI, "avx512-vnni" },
    { RR_CPU_AVX512_BF16, "avx512-bf16" },
    { RR_CPU_AMX_INT8, "amx-int8" },
    { RR_CPU_AMX_BF16, "amx-bf16" },
    { RR_CPU_NEON, "neon" },
    { RR_CPU_DOTPROD, "dotprod" },
    { RR_CPU_I8MM, "i8mm" },
    { RR_CPU_BF16, "bf16" },
};

#if defined(__x86_64__)

/* Which register files the operating system saves: XCR0. */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Tile data are 8 KiB per thread; Linux gives them to a process on request only. */
static int tiles_permitted(void)
{
    const long req_xcomp_perm = 0x1023, tile_data = 18;

    return syscall(SYS_arch_prctl, req_xcomp_perm, tile_data) == 0;
}

static uint32_t detect(void)
{
    const uint64_t ymm = 0x6, zmm = 0xE6, tiles = 0x60000;
    uint32_t a, b, c, d, b7, d7, sub, flags = 0;
    uint64_t saved;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    saved = saved_state();
    if ((saved & ymm) != ymm || !(c & bit_AVX) || !(c & bit_FMA) || !(c & bit_F16C)) return 0;
    if (!__get_cpuid_count(7, 0, &sub, &b7, &c, &d7) || !(b7 & bit_AVX2)) return 0;

    flags |= RR_CPU_AVX2;
    if (!sub || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) a = 0;
    if (a & 1u << 4) flags |= RR_CPU_AVX_VNNI;
    if ((saved & zmm) != zmm) return flags;
    if (!(b7 & bit_AVX512F) || !(b7 & bit_AVX512BW) || !(b7 & bit_AVX512DQ) || !(b7 & bit_AVX512VL))
        return flags;

    flags |= RR_CPU_AVX512;
    __get_cpuid_count(7, 0, &sub, &b, &c, &d);
    if (c & 1u << 11) flags |= RR_CPU_AVX512_VNNI;
    if (a & 1u << 5) flags |= RR_CPU_AVX512_BF16;
    if ((saved & tiles) != tiles || !(d7 & 1u << 24) || !tiles_permitted()) return flags;

    if (d7 & 1u << 25) flags |= RR_CPU_AMX_INT8;
    if (d7 & 1u << 22) flags |= RR_CPU_AMX_BF16;
    return flags;
}

void rr_cpu_brand(char *out, size_t cap)
{
    uint32_t r[13] = { 0 };
    const char *s = (const char *)r;

    if ((uint32_t)__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
        for (uint32_t i = 0; i < 3; i++)
            __cpuid(0x80000002u + i, r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
    }
    while (*s == ' ')
        s++;
    snprintf(out, cap, "%s", *s ? s : "unknown");
}

#elif defined(__aarch64__)

static uint32_t detect(void)
{
    /* hwcap bits by number: older kernel headers lack some of the names. */
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    uint32_t flags = 0;

    if (cap & 1ul << 1) flags |= RR_CPU_NEON;
    if (cap & 1ul << 20) flags |= RR_CPU_DOTPROD;
    if (cap2 & 1ul << 13) flags |= RR_CPU_I8MM;
    if (cap2 & 1ul << 14) flags |= RR_CPU_BF16;
    return flags;
}

/* The number after "key ... :" in cpuinfo, or 0. */
static unsigned long cpuinfo_number(const char *text, const char *key)
{
    const char *p = strstr(text, key);

    p = p ? strchr(p, ':') : NULL;
    return p ? strtoul(p + 1, NULL, 0) : 0;
}

void rr_cpu_brand(char *out, size_t cap)
{
    char text[2048];
    int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
    if (cpuinfo_number(text, "CPU implementer"))
        snprintf(out, cap, "Arm implementer 0x%02lx part 0x%03lx",
                 cpuinfo_number(text, "CPU implementer"), cpuinfo_number(text, "CPU part"));
    else
        snprintf(out, cap, "unknown");
}

#else

static uint32_t detect(void)
{
    return 0;
}

void rr_cpu_brand(char *out, size_t cap)
{
    snprintf(out, cap, "unknown");
}

#endif

uint32_t rr_cpu_flags(void)
{
    static _Atomic uint32_t cached; /* two first callers both detect and store the same word */
    uint32_t flags = atomic_load_explicit(&cached, memory_order_relaxed);

    if (!(flags & KNOWN)) {
        flags = detect() | KNOWN;
        atomic_store_explicit(&cached, flags, memory_order_relaxed);
    }
    return flags & ~KNOWN;
}

void rr_cpu_flag_names(uint32_t flags, char *out, size_t cap)
{
    size_t len = 0;

    if (cap) out[0] = 0;
    for (size_t i = 0; i < RR_COUNT(flag_names); i++) {
        if (!(flags & flag_names[i].flag) || len >= cap) continue;
        len += (size_t)snprintf(out + len, cap - len, "%s%s", len ? " " : "", flag_names[i].name);
    }
}
