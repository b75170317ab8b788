/* SPDX-License-Identifier: Apache-2.0 */
/* test_topology.c - cgroup v1 and v2 limits and memory from file trees that the test writes, and
 * the real machine's plausibility. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/attr.h"
#include "cpu/topology.h"

#define GIB (UINT64_C(1) << 30)

struct tree_file {
    const char *path, *text;
};

#define MEMINFO { "/proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\n" \
                                   "MemAvailable:   4194304 kB\n" }
#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNTS "22 1 0:21 / /proc rw - proc proc rw\n" \
    "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n" \
    "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

static const struct {
    const char *why;
    struct tree_file files[10];
    double quota;
    uint64_t limit, available; /* available 0: MemAvailable, 4 GiB */
} cases[] = {
    { "no cgroup files at all", { MEMINFO }, 0, 0, 0 },
    { "v2, no limits at our group",
      { MEMINFO, { "/proc/self/cgroup", "0::/\n" }, { "/proc/self/mountinfo", V2_MOUNT } }, 0, 0,
      0 },
    { "v2, limits in a container with its own cgroup namespace",
      { MEMINFO, { "/proc/self/cgroup", "0::/\n" }, { "/proc/self/mountinfo", V2_MOUNT },
        { "/sys/fs/cgroup/cpu.max", "150000 100000\n" },
        { "/sys/fs/cgroup/memory.max", "2147483648\n" } },
      1.5, 2 * GIB, 2 * GIB },
    { "v2, \"max\" is no limit",
      { MEMINFO, { "/proc/self/cgroup", "0::/a\n" }, { "/proc/self/mountinfo", V2_MOUNT },
        { "/sys/fs/cgroup/a/cpu.max", "max 100000\n" },
        { "/sys/fs/cgroup/a/memory.max", "max\n" } },
      0, 0, 0 },
    { "v2, the tightest group on the way up counts, whichever it is",
      { MEMINFO, { "/proc/self/cgroup", "0::/pod/box/app\n" },
        { "/proc/self/mountinfo", V2_MOUNT }, { "/sys/fs/cgroup/pod/cpu.max", "50000 100000\n" },
        { "/sys/fs/cgroup/pod/box/cpu.max", "300000 100000\n" },
        { "/sys/fs/cgroup/pod/box/app/cpu.max", "max 100000\n" },
        { "/sys/fs/cgroup/pod/memory.max", "3221225472\n" },
        { "/sys/fs/cgroup/pod/box/app/memory.max", "1073741824\n" } },
      0.5, GIB, GIB },
    { "v2, what is used counts against the limit, but not files in memory, used lately or not",
      { MEMINFO, { "/proc/self/cgroup", "0::/a\n" }, { "/proc/self/mountinfo", V2_MOUNT },
        { "/sys/fs/cgroup/a/memory.max", "3221225472\n" },
        { "/sys/fs/cgroup/a/memory.current", "2147483648\n" },
        { "/sys/fs/cgroup/a/memory.stat",
          "anon 5\ninactive_file_other 7\ninactive_file 805306368\nactive_file 268435456\n" } },
      0, 3 * GIB, 2 * GIB },
    { "v2, over the limit leaves nothing rather than a huge number",
      { MEMINFO, { "/proc/self/cgroup", "0::/a\n" }, { "/proc/self/mountinfo", V2_MOUNT },
        { "/sys/fs/cgroup/a/memory.max", "1073741824\n" },
        { "/sys/fs/cgroup/a/memory.current", "1073750000\n" } },
      0, GIB, 1 },
    { "v2, container that sees the whole path but a part of the mount",
      { MEMINFO, { "/proc/self/cgroup", "0::/docker/abc/sub\n" },
        { "/proc/self/mountinfo",
          "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n" },
        { "/sys/fs/cgroup/sub/cpu.max", "400000 100000\n" },
        { "/sys/fs/cgroup/cpu.max", "200000 100000\n" } },
      2, 0, 0 },
    { "v1, quota and limit",
      { MEMINFO, { "/proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/c\n1:name=systemd:/\n" },
        { "/proc/self/mountinfo", V1_MOUNTS },
        { "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "250000\n" },
        { "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n" },
        { "/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "2147483648\n" },
        { "/sys/fs/cgroup/memory/m/memory.usage_in_bytes", "1610612736\n" },
        { "/sys/fs/cgroup/memory/m/memory.stat", "cache 3\ntotal_inactive_file 536870000\ntotal_active_file 912\n" } },
      2.5, 2 * GIB, GIB },
    { "v1, -1 and the largest number are no limits",
      { MEMINFO, { "/proc/self/cgroup", "5:memory:/\n4:cpu,cpuacct:/\n" },
        { "/proc/self/mountinfo", V1_MOUNTS },
        { "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n" },
        { "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n" },
        { "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n" } },
      0, 0, 0 },
    { "v1 memory and v2 mounted together",
      { MEMINFO, { "/proc/self/cgroup", "4:memory:/m\n0::/\n" },
        { "/proc/self/mountinfo",
          V1_MOUNTS "33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" },
        { "/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "1073741824\n" } },
      0, GIB, GIB },
    { "a controller whose name contains another's is not that other",
      { MEMINFO, { "/proc/self/cgroup", "4:cpuset:/c\n" }, { "/proc/self/mountinfo", V1_MOUNTS },
        { "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "100000\n" },
        { "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n" } },
      0, 0, 0 },
    { "garbage is no limit",
      { MEMINFO, { "/proc/self/cgroup", "0::/a\nrubbish\n::::\n" },
        { "/proc/self/mountinfo", "rubbish - x\n - \n" V2_MOUNT },
        { "/sys/fs/cgroup/a/cpu.max", "12x 100000\n" },
        { "/sys/fs/cgroup/a/memory.max", "" },
        { "/sys/fs/cgroup/cpu.max", "0 0\n" } },
      0, 0, 0 },
    { "a path that leaves the mount is not followed",
      { MEMINFO, { "/proc/self/cgroup", "0::/../../other\n" },
        { "/proc/self/mountinfo", V2_MOUNT },
        { "/sys/other/cpu.max", "100000 100000\n" } },
      0, 0, 0 },
};

static void make_folders(char *path)
{
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *p = '/';
    }
}

static void write_file(const char *root, const struct tree_file *f)
{
    char path[PATH_MAX];
    FILE *out;

    snprintf(path, sizeof(path), "%s%s", root, f->path);
    make_folders(path);
    out = fopen(path, "w");
    assert_non_null(out);
    fputs(f->text, out);
    assert_int_equal(fclose(out), 0);
}

static void remove_tree(const char *root)
{
    char command[PATH_MAX + 16];

    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

static void test_trees(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        char root[] = "/tmp/test_topology.XXXXXX";
        struct rr_topology t = { 0 };
        uint64_t available = cases[i].available;

        assert_non_null(mkdtemp(root));
        for (size_t f = 0; f < RR_COUNT(cases[i].files) && cases[i].files[f].path; f++)
            write_file(root, &cases[i].files[f]);
        rr_topology_read(&t, root);
        remove_tree(root);
        if (available == 0) available = 4 * GIB;
        if (t.quota != cases[i].quota || t.memory_limit != cases[i].limit ||
            t.memory_available != available || t.memory_total != 8 * GIB)
            fail_msg("%s: quota %g, limit %llu, available %llu, total %llu", cases[i].why, t.quota,
                     (unsigned long long)t.memory_limit, (unsigned long long)t.memory_available,
                     (unsigned long long)t.memory_total);
    }
}

static void test_threads(void **state)
{
    static const struct {
        double quota;
        uint32_t allowed, threads;
        const char *why;
    } quotas[] = {
        { 0, 4, 4, "no limit" },
        { 0.5, 4, 1, "half a processor is still one thread" },
        { 1, 4, 1, "one" },
        { 1.5, 4, 1, "one and a half: two threads would wait for each other" },
        { 2.5, 4, 2, "rounded down" },
        { 4, 4, 4, "all" },
        { 8, 4, 4, "more than the mask allows" },
        { 2.5, 1, 1, "the mask counts too" },
        { 0, 0, 1, "never none" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(quotas); i++)
        if (rr_topology_threads(quotas[i].allowed, quotas[i].quota) != quotas[i].threads)
            fail_msg("%s: %u", quotas[i].why,
                     rr_topology_threads(quotas[i].allowed, quotas[i].quota));
}

/* The quotas of the table above, as both versions of cgroups write them. */
static void test_quota_files(void **state)
{
    static const struct {
        const char *v2, *v1;
        uint32_t threads;
    } quotas[] = {
        { "50000 100000\n", "50000\n", 1 },
        { "100000 100000\n", "100000\n", 1 },
        { "250000 100000\n", "250000\n", 2 },
        { "max 100000\n", "-1\n", 8 },
    };

    (void)state;
    for (size_t i = 0; i < 2 * RR_COUNT(quotas); i++) {
        bool v2 = i % 2;
        struct tree_file files[] = {
            MEMINFO,
            { "/proc/self/cgroup", v2 ? "0::/\n" : "4:cpu,cpuacct:/c\n" },
            { "/proc/self/mountinfo", v2 ? V2_MOUNT : V1_MOUNTS },
            { "/sys/fs/cgroup/cpu.max", quotas[i / 2].v2 },
            { "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", quotas[i / 2].v1 },
            { "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n" },
        };
        char root[] = "/tmp/test_topology.XXXXXX";
        struct rr_topology t = { 0 };

        assert_non_null(mkdtemp(root));
        for (size_t f = 0; f < RR_COUNT(files); f++) write_file(root, &files[f]);
        rr_topology_read(&t, root);
        remove_tree(root);
        assert_int_equal(rr_topology_threads(8, t.quota), quotas[i / 2].threads);
    }
}

/* Hosts with many containers have lines of many kilobytes before the one that matters. */
static void test_long_lines(void **state)
{
    static char mounts[20000];
    struct tree_file files[] = { MEMINFO,
                                 { "/proc/self/cgroup", "0::/\n" },
                                 { "/proc/self/mountinfo", mounts },
                                 { "/sys/fs/cgroup/cpu.max", "700000 100000\n" } };
    char root[] = "/tmp/test_topology.XXXXXX";
    struct rr_topology t = { 0 };

    (void)state;
    memset(mounts, 'x', 10000);
    /* A fragment of the long line that looks like a mount must not be taken for one. */
    strcpy(mounts + 10000, "\n" V2_MOUNT);
    memcpy(mounts + 4095, "1 2 0:1 / /wrong rw - cgroup2 x rw ", 35);
    assert_non_null(mkdtemp(root));
    for (size_t f = 0; f < RR_COUNT(files); f++) write_file(root, &files[f]);
    rr_topology_read(&t, root);
    remove_tree(root);
    assert_true(t.quota == 7.0);
}

static void test_this_machine(void **state)
{
    struct rr_topology t;
    int first = rr_topology_cpu(0);

    (void)state;
    rr_topology_get(&t);
    assert_true(t.online >= 1 && t.allowed >= 1 && t.allowed <= 8192);
    assert_true(t.threads >= 1 && t.threads <= t.allowed);
    assert_true(t.memory_total > 64u << 20);
    assert_true(t.memory_available > 0 && t.memory_available <= t.memory_total);
    assert_true(first >= 0);
    for (uint32_t i = 1; i < t.allowed; i++) /* ascending, so all different */
        assert_true(rr_topology_cpu(i) > rr_topology_cpu(i - 1));
    assert_int_equal(rr_topology_cpu(t.allowed), first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_quota_files),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
