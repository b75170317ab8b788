/* SPDX-License-Identifier: Apache-2.0 */
/* bench_svg.c - the rows of "rerankd bench" as a picture: a bar of latency (logarithmic, with the
 * 95th percentile) and a bar of the rate for each shape.  Layer: cli (L6).  Threads: one. */
#include <inttypes.h>
#include <math.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/bench.h"
#include "cli/cli.h"

enum { /* pixels */
       ROW = 24,
       TOP = 64,
       BOTTOM = 40,
       LABEL = 90,
       PANEL = 360,
       GAP = 70,
       BAR = 14,
       RATE = LABEL + PANEL + GAP,
       WIDTH = RATE + PANEL + 70
};
#define SVG_LIMIT ((size_t)1 << 20)

struct picture {
    struct rr_buf out;
    const struct rr_bench_host *h;
    const struct rr_shape *shapes;
    uint32_t n;
    int low, high; /* powers of ten of milliseconds */
    double most;   /* GOP/s at the right end */
};

static double gops(const struct rr_shape *s)
{
    return s->ops / s->times.median / 1e6;
}

static void find_scales(struct picture *p)
{
    double least = INFINITY, most = 0;
    uint32_t i;

    p->most = p->h->peak / 1e9;
    for (i = 0; i < p->n; i++) {
        least = fmin(least, p->shapes[i].times.median);
        most = fmax(most, p->shapes[i].times.p95);
        p->most = fmax(p->most, gops(&p->shapes[i]));
    }
    p->low = (int)floor(log10(fmax(least, 1e-3)) - 0.01);
    p->high = (int)ceil(log10(fmax(most, 1e-3)) + 0.01);
}

static double x_of_ms(const struct picture *p, double ms)
{
    return LABEL + PANEL * (log10(ms) - p->low) / (p->high - p->low);
}

static void text(struct picture *p, double x, double y, const char *anchor, const char *content)
{
    rr_buf_printf(&p->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    for (; *content; content++) {
        if (*content == '<' || *content == '&')
            rr_buf_printf(&p->out, "&#%d;", *content);
        else
            rr_buf_putc(&p->out, *content);
    }
    rr_buf_puts(&p->out, "</text>\n");
}

static void line(struct picture *p, double x, const char *color)
{
    rr_buf_printf(&p->out, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%u\" stroke=\"%s\"/>\n", x,
                  TOP - 4, x, TOP + p->n * ROW, color);
}

static void bar(struct picture *p, double x, double y, double width, const char *color)
{
    rr_buf_printf(&p->out,
                  "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x, y,
                  fmax(width, 1), BAR, color);
}

static void draw_axes(struct picture *p)
{
    const struct rr_info *m = p->h->info;
    unsigned foot = TOP + p->n * ROW + 16;
    char words[640];
    int e;

    snprintf(words, sizeof(words), "rerankd %s, %s, %s %s, %s, %" PRIu32 " threads", rr_version(),
             m->model, m->dtype, m->isa, m->device_name, m->threads);
    text(p, 10, 22, "start", words);
    text(p, LABEL, 46, "start", "latency, ms (bar: median, mark: 95th percentile)");
    text(p, RATE, 46, "start", p->h->peak > 0 ? "GOP/s (line: peak at the start)" : "GOP/s");
    for (e = p->low; e <= p->high; e++) {
        line(p, x_of_ms(p, pow(10, e)), "#ddd");
        snprintf(words, sizeof(words), "%g", pow(10, e));
        text(p, x_of_ms(p, pow(10, e)), foot, "middle", words);
    }
    line(p, RATE, "#ddd");
    text(p, RATE, foot, "middle", "0");
    if (p->h->peak <= 0) return;
    line(p, RATE + PANEL * p->h->peak / 1e9 / p->most, "#c33");
    snprintf(words, sizeof(words), "%.0f", p->h->peak / 1e9);
    text(p, RATE + PANEL * p->h->peak / 1e9 / p->most, foot, "middle", words);
}

static void draw_shape(struct picture *p, uint32_t i)
{
    const struct rr_shape *s = &p->shapes[i];
    double y = TOP + i * ROW + (ROW - BAR) / 2.0, end = x_of_ms(p, s->times.median);
    double rate = PANEL * gops(s) / p->most;
    char words[64];

    text(p, LABEL - 8, y + BAR - 3, "end", s->name);
    bar(p, LABEL, y, end - LABEL, "#48a");
    bar(p, x_of_ms(p, s->times.p95) - 1, y, 2, "#124");
    snprintf(words, sizeof(words), "%.4g", s->times.median);
    text(p, x_of_ms(p, s->times.p95) + 6, y + BAR - 3, "start", words);
    bar(p, RATE, y, rate, "#7a5");
    if (s->peak > 0)
        snprintf(words, sizeof(words), "%.0f, %.0f %%", gops(s), 100 * s->share);
    else
        snprintf(words, sizeof(words), "%.0f", gops(s));
    text(p, RATE + rate + 6, y + BAR - 3, "start", words);
}

int rr_bench_svg(const char *path, const struct rr_bench_host *h, const struct rr_shape *shapes,
                 uint32_t n, struct rr_error *err)
{
    struct picture p = { .h = h, .shapes = shapes, .n = n };
    int rc;
    uint32_t i;

    rr_buf_init(&p.out, RR_MEM_MISC, SVG_LIMIT);
    find_scales(&p);
    rr_buf_printf(&p.out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
                  "font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                  WIDTH, TOP + n * ROW + BOTTOM);
    draw_axes(&p);
    for (i = 0; i < n; i++) draw_shape(&p, i);
    rr_buf_puts(&p.out, "</svg>\n");
    if (p.out.failed)
        rc = rr_fail(err, RR_ENOMEM, "out of memory for the picture");
    else
        rc = rr_cli_write(path, &p.out, err);
    rr_buf_free(&p.out);
    return rc;
}
