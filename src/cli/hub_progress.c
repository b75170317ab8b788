/* SPDX-License-Identifier: Apache-2.0 */
/* hub_progress.c - see hub_progress.h.  Layer: cli (L6). */
#include "cli/hub_progress.h"

#include <string.h>

#include "base/clock.h"

#define REDRAW_NS (150 * RR_MILLISECOND)
#define PATIENCE_NS RR_SECOND /* what is shorter is not worth a word */
#define BAR_COLUMNS 20
#define MORE_TIME_US 300000000 /* writing gigabytes back to a slow disk is silent for so long */

const char *rr_cli_size(uint64_t bytes, char out[24])
{
    static const char *const units[] = { "kB", "MB", "GB", "TB" };
    double v = (double)bytes / 1000.0;
    unsigned i = 0;

    if (bytes < 1000) {
        snprintf(out, 24, "%u B", (unsigned)bytes);
        return out;
    }
    while (v >= 999.95 && i + 1 < RR_COUNT(units)) {
        v /= 1000.0;
        i++;
    }
    snprintf(out, 24, v < 99.95 ? "%.1f %s" : "%.0f %s", v, units[i]);
    return out;
}

/* " 45 %  1.0 GB / 2.3 GB, 35.1 MB/s, 0:37 left". */
static void describe(const struct rr_cli_hub *h, const struct rr_hub_progress *p, char *out,
                     size_t cap)
{
    double elapsed = (double)(rr_now_ns() - h->start_ns) * 1e-9;
    double rate = elapsed > 0.0 ? (double)p->received / elapsed : 0.0;
    double share = p->total ? (double)p->done / (double)p->total : 1.0;
    char done[24], total[24], speed[24];
    int n = snprintf(out, cap, "%3.0f %%  %s / %s", 100.0 * share, rr_cli_size(p->done, done),
                     rr_cli_size(p->total, total));

    if (p->checking) {
        snprintf(out + n, cap - (size_t)n, ", %s", rr_tr(h->french, "checking"));
    } else if (rate > 0.0) {
        unsigned long long left = (unsigned long long)((double)(p->total - p->done) / rate + 0.5);

        snprintf(out + n, cap - (size_t)n, ", %s/s, %llu:%02llu %s",
                 rr_cli_size((uint64_t)rate, speed), left / 60, left % 60,
                 rr_tr(h->french, "left"));
    }
}

static void draw_bar(struct rr_cli_hub *h, const struct rr_hub_progress *p, const char *text)
{
    char bar[BAR_COLUMNS + 1], line[400];
    double share = p->total ? (double)p->done / (double)p->total : 1.0;
    int full = (int)(share * BAR_COLUMNS), i;

    for (i = 0; i < BAR_COLUMNS; i++) bar[i] = i < full ? '#' : '-';
    bar[BAR_COLUMNS] = 0;
    if (p->waiting)
        snprintf(line, sizeof(line), "%s %s", rr_tr(h->french, "waiting:"),
                 rr_tr(h->french, p->waiting));
    else
        snprintf(line, sizeof(line), "[%s] %s  %s", bar, text, p->file);
    fprintf(stderr, "\r%.*s\033[K", (int)rr_cli_fit(line, strlen(line), rr_cli_width(stderr) - 1),
            line);
    fflush(stderr);
    h->drawn = true;
}

/* Once for each reason. */
static void say_waiting(struct rr_cli_hub *h, const char *why)
{
    if (strncmp(h->waiting, why, sizeof(h->waiting) - 1) == 0) return;
    snprintf(h->waiting, sizeof(h->waiting), "%s", why);
    fprintf(stderr, "%s %s\n", rr_tr(h->french, "waiting:"), rr_tr(h->french, why));
}

/* A start may take longer than the unit allows.  What brings nothing is ended by the hub's own
 * limits, so this goes on while it waits, too. */
static void tell_systemd(struct rr_cli_hub *h, const struct rr_hub_progress *p, uint64_t now)
{
    if (h->notified_ns && now - h->notified_ns < RR_SECOND) return;
    h->notified_ns = now;
    if (p->waiting)
        rr_notify_send(&h->notify, "EXTEND_TIMEOUT_USEC=%d\nSTATUS=fetching %s, waiting: %.200s",
                       MORE_TIME_US, h->id, p->waiting);
    else
        rr_notify_send(&h->notify, "EXTEND_TIMEOUT_USEC=%d\nSTATUS=fetching %s: %.0f %%",
                       MORE_TIME_US, h->id,
                       p->total ? 100.0 * (double)p->done / (double)p->total : 100.0);
}

static void update(void *user, const struct rr_hub_progress *p)
{
    struct rr_cli_hub *h = user;
    uint64_t now = rr_now_ns();
    unsigned tenths = p->total ? (unsigned)(p->done * 10 / p->total) : 0;
    char text[160];

    tell_systemd(h, p, now);
    if (h->bar) {
        if (now - h->last_ns < REDRAW_NS || (p->waiting && now - h->start_ns < PATIENCE_NS)) return;
        describe(h, p, text, sizeof(text));
        draw_bar(h, p, text);
        h->last_ns = now;
    } else if (p->waiting) {
        say_waiting(h, p->waiting);
    } else if (tenths > h->tenths && now - h->start_ns >= PATIENCE_NS) {
        describe(h, p, text, sizeof(text));
        fprintf(stderr, "%s: %s\n", h->id, text);
        h->tenths = tenths;
    }
}

void rr_hub_progress_begin(struct rr_cli_hub *h)
{
    h->hub.progress = update;
    rr_notify_open(&h->notify);
    h->notified_ns = 0;
    h->bar = rr_cli_is_terminal(stderr);
    h->start_ns = rr_now_ns();
    h->last_ns = 0;
    h->tenths = 0;
    h->waiting[0] = 0;
}

void rr_hub_progress_end(struct rr_cli_hub *h)
{
    if (h->drawn) fputs("\r\033[K", stderr);
    h->drawn = false;
    h->hub.progress = NULL;
    rr_notify_close(&h->notify);
}
