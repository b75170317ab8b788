/* SPDX-License-Identifier: Apache-2.0 */
/* verify_choose.c - see verify_choose.h. */
#include "cli/verify_choose.h"

#include <string.h>
#include <time.h>

#include "base/json_out.h"
#include "cli/cli.h"

#define JSON_LIMIT 65536

size_t rr_choose(const struct rr_candidate *rows, size_t n)
{
    size_t best = n, i;

    for (i = 0; i < n; i++)
        if (rows[i].ran && rows[i].holds &&
            (best == n || rows[i].per_second > rows[best].per_second))
            best = i;
    return best;
}

void rr_choose_why(const struct rr_candidate *rows, size_t chosen, double unix_time, char *out,
                   size_t cap)
{
    const struct rr_candidate *c = &rows[chosen];
    time_t seconds = (time_t)unix_time;
    char day[16];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(day, sizeof(day), "%Y-%m-%d", &tm);
    if (chosen == 0)
        snprintf(out, cap, "chosen by verify on %s, nothing quicker was good enough", day);
    else
        snprintf(out, cap,
                 "chosen by verify on %s, 5 best equal in %.1f %% of %zu lists, %.1f times as fast "
                 "as f32",
                 day, 100 * c->report.top_equal[1], c->report.top_lists[1],
                 c->per_second / rows[0].per_second);
}

void rr_choose_text(FILE *out, const struct rr_info *info, const char *against,
                    const struct rr_candidate *rows, size_t n, size_t chosen)
{
    size_t i;

    fprintf(out, "%s on %s (%s), against %s%sf32\n", info->model, info->device_name, info->isa,
            against ? against : "", against ? " in " : "");
    fprintf(out, "%-6s %10s  %12s  %8s  %10s  %s\n", "", "pairs/s", "5 best equal", "tau",
            "difference", "good enough");
    for (i = 0; i < n; i++) {
        const struct rr_candidate *c = &rows[i];

        if (!c->ran)
            fprintf(out, "%-6s %10s  %s\n", c->dtype, "-", c->why);
        else if (i == 0 && !against)
            fprintf(out, "%-6s %10.1f\n", c->dtype, c->per_second);
        else
            fprintf(out, "%-6s %10.1f  %10.2f %%  %8.4f  %10.4g  %s%s\n", c->dtype, c->per_second,
                    100 * c->report.top_equal[1], c->report.tau, c->report.max_diff,
                    c->holds ? "yes" : "no: ", c->holds ? "" : c->why);
    }
    if (chosen < n)
        fprintf(out, "%s is the quickest that is good enough\n", rows[chosen].dtype);
    else
        fprintf(out, "none is good enough\n");
}

static void put_row(struct rr_json_out *o, const struct rr_candidate *c, bool reference)
{
    rr_out_object(o, NULL);
    rr_out_string(o, "dtype", c->dtype);
    rr_out_bool(o, "ran", c->ran);
    if (c->ran) rr_out_printf(o, "pairs_per_second", "%.1f", c->per_second);
    if (c->ran && !reference) {
        rr_out_printf(o, "top5_equal", "%.6f", c->report.top_equal[1]);
        rr_out_printf(o, "kendall_tau", "%.6f", c->report.tau);
        rr_out_printf(o, "max_logit_difference", "%.6g", c->report.max_diff);
        rr_out_bool(o, "good_enough", c->holds);
    }
    if (c->why[0]) rr_out_string(o, "why", c->why);
    rr_out_end(o);
}

void rr_choose_json(FILE *out, const struct rr_info *info, const char *against,
                    const struct rr_candidate *rows, size_t n, size_t chosen)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b };
    size_t i;

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    rr_out_string(&o, "model", info->model);
    rr_out_string(&o, "device", info->device_name);
    rr_out_string(&o, "isa", info->isa);
    rr_out_string(&o, "reference", against ? against : "own weights");
    rr_out_string(&o, "chosen", chosen < n ? rows[chosen].dtype : NULL);
    rr_out_array(&o, "precisions");
    for (i = 0; i < n; i++) put_row(&o, &rows[i], i == 0 && !against);
    rr_out_end(&o);
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    rr_cli_print(out, &b);
}
