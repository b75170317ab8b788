/* SPDX-License-Identifier: Apache-2.0 */
/* topology.c - affinity mask, cgroup limits, memory.  Layer: cpu (L1).  Threads: any.
 *
 * A cgroup's limits are those of the group itself and of all groups above it that we can see: the
 * smallest counts.  Where the groups are mounted is read from /proc/self/mountinfo, because a
 * container may see its own group as the root (cgroup namespace) or may not (the path in
 * /proc/self/cgroup then begins with the root of the mount).
 * Sources: cgroups(7), the kernel's admin-guide/cgroup-v1 and cgroup-v2, proc(5). */
#include "cpu/topology.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"

#define MASK_CPUS 8192 /* the kernel's largest NR_CPUS on x86 */
#define LINE_MAX_LEN 4096
#define V1_NO_LIMIT (UINT64_C(1) << 62) /* v1 writes "no limit" as a number near 2^63 */

/* ---- affinity ------------------------------------------------------------------------------ */

struct mask {
    cpu_set_t part[MASK_CPUS / CPU_SETSIZE];
};

static bool get_mask(struct mask *m)
{
    memset(m, 0, sizeof(*m));
    return sched_getaffinity(0, sizeof(*m), m->part) == 0;
}

int rr_topology_cpu(uint32_t i)
{
    struct mask m;
    int count;

    if (!get_mask(&m)) return -1;
    count = CPU_COUNT_S(sizeof(m), m.part);
    if (count <= 0) return -1;
    i %= (uint32_t)count;
    for (int cpu = 0; cpu < MASK_CPUS; cpu++)
        if (CPU_ISSET_S((unsigned)cpu, sizeof(m), m.part) && i-- == 0) return cpu;
    return -1;
}

/* ---- small files ----------------------------------------------------------------------------- */

static FILE *open_under(const char *root, const char *path)
{
    char full[PATH_MAX];
    int n = snprintf(full, sizeof(full), "%s%s", root, path);

    return n < 0 || (size_t)n >= sizeof(full) ? NULL : fopen(full, "re");
}

/* The next line without its end; a line that is too long for buf is skipped. */
static bool next_line(FILE *f, char buf[LINE_MAX_LEN])
{
    while (fgets(buf, LINE_MAX_LEN, f)) {
        size_t len = strlen(buf);
        bool whole = len > 0 && buf[len - 1] == '\n';

        if (whole) buf[len - 1] = 0;
        if (whole || feof(f)) return true;
        while (fgets(buf, LINE_MAX_LEN, f) && !strchr(buf, '\n')) continue;
    }
    return false;
}

/* First line of dir/name under root. */
static bool read_line(const char *root, const char *dir, const char *name, char buf[LINE_MAX_LEN])
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f;
    bool ok;

    if (n < 0 || (size_t)n >= sizeof(path)) return false;
    f = open_under(root, path);
    if (!f) return false;
    ok = next_line(f, buf);
    fclose(f);
    return ok;
}

/* Decimal digits and then the end or white space; "max" and "-1" are not numbers. */
static bool parse_u64(const char *s, uint64_t *out)
{
    char *end;

    if (*s < '0' || *s > '9') return false;
    *out = strtoull(s, &end, 10);
    return *end == 0 || *end == ' ' || *end == '\t' || *end == '\n';
}

static bool read_u64(const char *root, const char *dir, const char *name, uint64_t *out)
{
    char buf[LINE_MAX_LEN];

    return read_line(root, dir, name, buf) && parse_u64(buf, out);
}

/* The value after "key " or "key:" in a file of such lines. */
static bool read_key(const char *root, const char *path, const char *key, uint64_t *out)
{
    FILE *f = open_under(root, path);
    char buf[LINE_MAX_LEN];
    size_t len = strlen(key);
    bool found = false;

    if (!f) return false;
    while (!found && next_line(f, buf)) {
        if (strncmp(buf, key, len) != 0 || (buf[len] != ' ' && buf[len] != ':')) continue;
        found = parse_u64(buf + len + 1 + strspn(buf + len + 1, " \t"), out);
        break;
    }
    fclose(f);
    return found;
}

/* ---- where our cgroup is --------------------------------------------------------------------- */

struct cgroup {
    char dir[PATH_MAX];   /* of our group */
    size_t top;           /* length of the part of dir that is the mount point */
    bool v2;
};

/* True when the comma-separated list has the word. */
static bool list_has(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, word, len) == 0 && (p[len] == ',' || p[len] == 0)) return true;
    return false;
}

/* Path of our group in the hierarchy of a v1 controller, or of v2 when controller is "". */
static bool group_path(const char *root, const char *controller, char out[LINE_MAX_LEN])
{
    FILE *f = open_under(root, "/proc/self/cgroup");
    char buf[LINE_MAX_LEN], *list, *path;
    bool found = false;

    if (!f) return false;
    while (!found && next_line(f, buf)) { /* "id:controllers:path" */
        list = strchr(buf, ':');
        path = list ? strchr(list + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        list++;
        found = *controller ? list_has(list, controller) : *list == 0;
        if (found) memmove(out, path, strlen(path) + 1);
    }
    fclose(f);
    return found;
}

/* mountinfo(5): id parent dev root point options [tags] - type source super-options */
static bool mount_point(const char *root, const char *controller, char *top, char *point)
{
    FILE *f = open_under(root, "/proc/self/mountinfo");
    char buf[LINE_MAX_LEN], type[32], super[LINE_MAX_LEN];
    const char *tail;
    bool found = false;

    if (!f) return false;
    while (!found && next_line(f, buf)) {
        tail = strstr(buf, " - ");
        if (!tail || sscanf(tail, " - %31s %*s %4095s", type, super) != 2) continue;
        if (sscanf(buf, "%*s %*s %*s %4095s %4095s", top, point) != 2) continue;
        found = *controller ? strcmp(type, "cgroup") == 0 && list_has(super, controller)
                            : strcmp(type, "cgroup2") == 0;
    }
    fclose(f);
    return found;
}

static bool find_group(struct cgroup *g, const char *root, const char *controller)
{
    char path[LINE_MAX_LEN], top[LINE_MAX_LEN], point[LINE_MAX_LEN];
    const char *below = path;
    size_t len;
    int n;

    if (!group_path(root, controller, path)) return false;
    if (!mount_point(root, controller, top, point)) return false;
    len = strlen(top);
    if (len > 1) { /* only a part of the hierarchy is mounted: our path counts from its root */
        if (strncmp(path, top, len) == 0 && (path[len] == '/' || path[len] == 0))
            below = path + len;
        else
            below = ""; /* the mount shows somebody else's view: its own root is all we know */
    }
    if (strcmp(below, "/") == 0 || strstr(below, "/..")) below = "";
    n = snprintf(g->dir, sizeof(g->dir), "%s%s", point, below);
    g->top = strlen(point);
    g->v2 = *controller == 0;
    return n > 0 && (size_t)n < sizeof(g->dir);
}

/* From our group to the one above; false at the mount point. */
static bool go_up(struct cgroup *g)
{
    char *slash = strrchr(g->dir, '/');

    if (!slash || (size_t)(slash - g->dir) < g->top) return false;
    *slash = 0;
    return true;
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void cpu_limit(struct rr_topology *t, const char *root, const struct cgroup *g)
{
    char buf[LINE_MAX_LEN];
    uint64_t quota, period = 0;
    double cpus;

    if (g->v2) {
        char *space;

        if (!read_line(root, g->dir, "cpu.max", buf)) return; /* "max 100000", "150000 100000" */
        space = strchr(buf, ' ');
        if (!parse_u64(buf, &quota) || !space || !parse_u64(space + 1, &period)) return;
    } else {
        if (!read_u64(root, g->dir, "cpu.cfs_quota_us", &quota)) return; /* -1: none */
        if (!read_u64(root, g->dir, "cpu.cfs_period_us", &period)) return;
    }
    if (quota == 0 || period == 0) return;
    cpus = (double)quota / (double)period;
    if (t->quota == 0 || cpus < t->quota) t->quota = cpus;
}

/* Bytes of the group in files: they are given up before anybody is killed, used lately or not, as
 * MemAvailable counts them for the machine. */
static uint64_t file_pages(const char *root, const struct cgroup *g)
{
    static const char *const keys[2][2] = { { "total_inactive_file", "total_active_file" },
                                            { "inactive_file", "active_file" } };
    char stat[PATH_MAX + 16];
    uint64_t sum = 0, v;

    snprintf(stat, sizeof(stat), "%s/memory.stat", g->dir);
    for (int i = 0; i < 2; i++)
        if (read_key(root, stat, keys[g->v2][i], &v)) sum += v;
    return sum;
}

static void memory_limit(struct rr_topology *t, const char *root, const struct cgroup *g)
{
    uint64_t limit, used, left;

    if (!read_u64(root, g->dir, g->v2 ? "memory.max" : "memory.limit_in_bytes", &limit)) return;
    if (limit >= V1_NO_LIMIT) return;
    if (t->memory_limit == 0 || limit < t->memory_limit) t->memory_limit = limit;
    t->memory_available = RR_MIN(t->memory_available, limit);

    if (!read_u64(root, g->dir, g->v2 ? "memory.current" : "memory.usage_in_bytes", &used)) return;
    used -= RR_MIN(file_pages(root, g), used);
    left = limit > used ? limit - used : 1; /* 0 would be "not known" */
    t->memory_available = RR_MIN(t->memory_available, left);
}

void rr_topology_read(struct rr_topology *t, const char *root)
{
    struct cgroup g;
    uint64_t kib;

    t->quota = 0;
    t->memory_limit = 0;
    t->memory_total = read_key(root, "/proc/meminfo", "MemTotal", &kib) ? kib * 1024 : 0;
    t->memory_available = read_key(root, "/proc/meminfo", "MemAvailable", &kib) ? kib * 1024 : 0;

    /* A machine may have both versions mounted; a controller lives in one of them. */
    if (find_group(&g, root, "cpu"))
        do cpu_limit(t, root, &g);
        while (go_up(&g));
    if (find_group(&g, root, "memory"))
        do memory_limit(t, root, &g);
        while (go_up(&g));
    if (find_group(&g, root, "")) {
        do {
            cpu_limit(t, root, &g);
            memory_limit(t, root, &g);
        } while (go_up(&g));
    }
}

uint32_t rr_topology_threads(uint32_t allowed, double quota)
{
    if (quota <= 0 || quota >= allowed) return RR_MAX(allowed, 1);
    return quota < 1 ? 1 : (uint32_t)quota;
}

void rr_topology_get(struct rr_topology *out)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    struct mask m;
    int allowed = get_mask(&m) ? CPU_COUNT_S(sizeof(m), m.part) : 0;

    memset(out, 0, sizeof(*out));
    out->online = online > 0 ? (uint32_t)online : 1;
    out->allowed = allowed > 0 ? (uint32_t)allowed : out->online;
    rr_topology_read(out, "");
    out->threads = rr_topology_threads(out->allowed, out->quota);
}
