/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.c - see pressure.h.  Sources: the kernel's accounting/psi and scheduler/sched-stats,
 * proc(5). */
#include "cpu/pressure.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define LEAST_NS UINT64_C(50000000) /* a share of less than 50 ms is chance */
#define CROWDED 0.1
#define FREE 0.033

static bool first_line(const char *path, char *line, size_t cap)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(line, (int)cap, f);

    if (f) fclose(f);
    return ok;
}

static bool line_under(const char *root, const char *path, char *line, size_t cap)
{
    char full[PATH_MAX];

    snprintf(full, sizeof(full), "%s%s", root, path);
    return first_line(full, line, cap);
}

void rr_pressure_read(struct rr_pressure *out, const char *root)
{
    uint64_t t[8]; /* user nice system idle iowait irq softirq steal */
    uint64_t sum = 0;
    char line[512];
    unsigned percent, hundredths; /* not "%lf": a host's locale may have another decimal point */

    *out = (struct rr_pressure){ -1, -1, 0 };
    if (line_under(root, "/proc/pressure/cpu", line, sizeof(line)) &&
        sscanf(line, "some avg10=%u.%2u", &percent, &hundredths) == 2)
        out->waiting = (percent + hundredths / 100.0) / 100;
    if (line_under(root, "/proc/stat", line, sizeof(line)) &&
        sscanf(line,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) == 8) {
        for (int i = 0; i < 8; i++) sum += t[i];
        if (sum) out->steal = (double)t[7] / (double)sum;
    }
    if (!line_under(root, "/proc/loadavg", line, sizeof(line)) ||
        sscanf(line, "%*s %*s %*s %" SCNu32 "/", &out->runnable) != 1)
        out->runnable = 0;
}

bool rr_pressure_thread(int tid, uint64_t *run_ns, uint64_t *wait_ns)
{
    char path[64], line[128];

    snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
    return first_line(path, line, sizeof(line)) &&
           sscanf(line, "%" SCNu64 " %" SCNu64, run_ns, wait_ns) == 2;
}

void rr_crowd_look(struct rr_crowd *c, uint64_t run_ns, uint64_t wait_ns)
{
    uint64_t run = run_ns - c->run_ns, wait = wait_ns - c->wait_ns;
    bool first = c->run_ns == 0;

    if (run_ns < c->run_ns || wait_ns < c->wait_ns) /* another thread than the last time */
        first = true;
    else if (!first && run + wait < LEAST_NS)
        return;
    c->run_ns = run_ns;
    c->wait_ns = wait_ns;
    if (first) return;
    c->share = (double)wait / (double)(run + wait);
    if (c->share > CROWDED) c->crowded = true;
    if (c->share < FREE) c->crowded = false;
}
