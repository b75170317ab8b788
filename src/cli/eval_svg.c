/* SPDX-License-Identifier: Apache-2.0 */
/* eval_svg.c - the measures of "rerankd eval" as a picture: a group of bars per measure.
 * Layer: cli (L6).  Threads: one. */
#include "base/buf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/eval.h"

#define LIMIT ((size_t)1 << 20)

enum { /* pixels */
       WIDTH = 720,
       HEIGHT = 360,
       LEFT = 50,
       TOP = 30,
       PLOT = 250, /* height of a bar of 1 */
       GROUP = 160,
       GAP = 20
};

static const char *const colors[RR_EVAL_SYSTEMS] = { "#9aa5b1", "#1f77b4", "#ff7f0e" };

/* Text of an element: &, < and > would be markup. */
static void put_text(struct rr_buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '&')
            rr_buf_puts(b, "&amp;");
        else if (*s == '<')
            rr_buf_puts(b, "&lt;");
        else if (*s == '>')
            rr_buf_puts(b, "&gt;");
        else if ((unsigned char)*s >= 0x20)
            rr_buf_putc(b, *s);
    }
}

static void put_axis(struct rr_buf *b, const struct rr_eval_report *r)
{
    static const char *const labels[RR_MEASURES] = { "nDCG", "MRR", "recall", "MAP" };
    unsigned i;

    for (i = 0; i <= 5; i++) {
        int y = TOP + PLOT - (int)i * PLOT / 5;

        rr_buf_printf(b, "<path d=\"M%d %dH%d\" stroke=\"#ddd\"/>\n", LEFT, y, WIDTH - 20);
        rr_buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.1f</text>\n", LEFT - 6,
                      y + 4, i / 5.0);
    }
    for (i = 0; i < RR_MEASURES; i++) {
        rr_buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s",
                      LEFT + (int)i * GROUP + GROUP / 2, TOP + PLOT + 18, labels[i]);
        if (i + 1 < RR_MEASURES) rr_buf_printf(b, "@%u", (unsigned)r->k); /* MAP has none */
        rr_buf_puts(b, "</text>\n");
    }
}

static void put_bars(struct rr_buf *b, const struct rr_eval_report *r, size_t system)
{
    int width = (GROUP - GAP) / (int)r->n_systems;
    size_t m;

    for (m = 0; m < RR_MEASURES; m++) {
        double value = r->systems[system].mean[m], height = value * PLOT;
        int x = LEFT + (int)m * GROUP + GAP / 2 + (int)system * width;

        rr_buf_printf(b,
                      "<rect x=\"%d\" y=\"%.2f\" width=\"%d\" height=\"%.2f\" fill=\"%s\"/>\n"
                      "<text x=\"%d\" y=\"%.2f\" text-anchor=\"middle\" font-size=\"11\">%.3f"
                      "</text>\n",
                      x + 1, TOP + PLOT - height, width - 2, height, colors[system], x + width / 2,
                      TOP + PLOT - height - 4, value);
    }
    rr_buf_printf(b, "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/>\n",
                  LEFT + (int)system * 220, HEIGHT - 34, colors[system]);
    rr_buf_printf(b, "<text x=\"%d\" y=\"%d\">", LEFT + (int)system * 220 + 18, HEIGHT - 24);
    put_text(b, r->systems[system].name);
    rr_buf_puts(b, "</text>\n");
}

int rr_eval_write_svg(const char *path, const struct rr_eval_report *r, struct rr_error *err)
{
    struct rr_buf b;
    size_t i;
    int rc;

    rr_buf_init(&b, RR_MEM_MISC, LIMIT);
    rr_buf_printf(
        &b,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
        "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n"
        "<title>Measures over %zu queries</title>\n"
        "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, r->data->n_queries, WIDTH, HEIGHT);
    put_axis(&b, r);
    for (i = 0; i < r->n_systems; i++) put_bars(&b, r, i);
    rr_buf_puts(&b, "</svg>\n");
    rc =
        b.failed ? rr_fail(err, RR_ENOMEM, "%s: out of memory", path) : rr_cli_write(path, &b, err);
    rr_buf_free(&b);
    return rc;
}
