/* SPDX-License-Identifier: Apache-2.0 */
/* score_progress.c - progress of "rerankd score" on stderr.  Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/score.h"

#define QUIET_NS RR_SECOND /* shorter runs show nothing */
#define REDRAW_NS (100 * RR_MILLISECOND)
#define LINE_NS (10 * RR_SECOND) /* between lines where the length is not known */
#define BAR_COLUMNS 20

void rr_progress_init(struct rr_progress *p, bool forced, bool french)
{
    bool terminal = rr_cli_is_terminal(stderr);

    memset(p, 0, sizeof(*p));
    p->bar = terminal;
    p->lines = forced && !terminal;
    p->french = french;
    p->start_ns = p->last_ns = rr_now_ns();
}

/* " 45 %  1234 pairs, 120/s, 0:12 left". */
static void describe(const struct rr_progress *p, double share, double elapsed, char *out,
                     size_t cap)
{
    double rate = elapsed > 0.0 ? (double)p->pairs / elapsed : 0.0;
    double left = share > 0.0 ? elapsed * (1.0 - share) / share : 0.0;
    unsigned long long seconds = (unsigned long long)(left + 0.5);
    int n = 0;

    if (share > 0.0) n = snprintf(out, cap, "%3.0f %%  ", 100.0 * share);
    n += snprintf(out + n, cap - (size_t)n, rate < 10.0 ? "%llu %s, %.1f/s" : "%llu %s, %.0f/s",
                  (unsigned long long)p->pairs, rr_tr(p->french, "pairs"), rate);
    if (share > 0.0 && share < 1.0 && (size_t)n < cap)
        snprintf(out + n, cap - (size_t)n, ", %llu:%02llu %s", seconds / 60, seconds % 60,
                 rr_tr(p->french, "left"));
}

static void draw_bar(struct rr_progress *p, double share, const char *text)
{
    char bar[BAR_COLUMNS + 1];
    int full = (int)(share * BAR_COLUMNS), i;

    for (i = 0; i < BAR_COLUMNS; i++) bar[i] = i < full ? '#' : '-';
    bar[BAR_COLUMNS] = 0;
    if (share > 0.0)
        fprintf(stderr, "\r[%s] %s\033[K", bar, text);
    else
        fprintf(stderr, "\r%s\033[K", text);
    fflush(stderr);
    p->drawn = true;
}

void rr_progress_update(struct rr_progress *p, uint64_t pairs, uint64_t done, uint64_t total)
{
    uint64_t now = rr_now_ns();
    double share = total ? (double)done / (double)total : 0.0;
    unsigned tenths = (unsigned)(share * 10.0);
    char text[120];

    p->pairs = pairs;
    if (share > 1.0) share = 1.0; /* the file has grown */
    describe(p, share, (double)(now - p->start_ns) * 1e-9, text, sizeof(text));
    if (p->bar && now - p->start_ns >= QUIET_NS && now - p->last_ns >= REDRAW_NS) {
        draw_bar(p, share, text);
        p->last_ns = now;
    } else if (p->lines && (total ? tenths > p->tenths : now - p->last_ns >= LINE_NS)) {
        fprintf(stderr, "%s\n", text);
        p->tenths = tenths;
        p->last_ns = now;
    }
}

void rr_progress_clear(struct rr_progress *p)
{
    if (p->drawn) fputs("\r\033[K", stderr);
    p->drawn = false;
}
