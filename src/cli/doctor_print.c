/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_print.c - the findings of "rerankd doctor" as text or JSON.
 * Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "base/json_out.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doctor.h"

#define LABEL_COLUMNS 24
#define JSON_LIMIT ((size_t)1 << 20)

/* "11.3 MiB". */
static const char *size_text(uint64_t bytes, char out[32])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double v = (double)bytes;
    unsigned u = 0;

    while (v >= 1024.0 && u + 1 < RR_COUNT(units)) {
        v /= 1024.0;
        u++;
    }
    snprintf(out, 32, u && v < 100.0 ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}

static void label(FILE *out, bool fr, const char *english)
{
    const char *text = rr_tr(fr, english);

    fprintf(out, "  %s%*s", text, LABEL_COLUMNS - 2 - rr_cli_columns(text, strlen(text)), "");
}

static void print_gpus(FILE *out, const struct rr_findings *f)
{
    char a[32], b[32];
    unsigned i, k;

    for (i = 0; i < f->n_gpus; i++) {
        const struct rr_gpu *g = &f->gpus[i];

        if (!g->name[0]) continue; /* a remark says what is wrong */
        fprintf(out, "%*scuda:%u  %s, %s, %s / %s", LABEL_COLUMNS, "", i, g->name, g->isa,
                size_text(g->memory_used, a), size_text(g->memory_total, b));
        if (g->utilization >= 0) fprintf(out, ", %.0f %%", 100 * (double)g->utilization);
        if (g->celsius >= 0) fprintf(out, ", %.0f °C", (double)g->celsius);
        if (g->watts >= 0) fprintf(out, ", %.0f W", (double)g->watts);
        for (k = 0; k < RR_GPU_THROTTLES; k++)
            if (g->throttled >> k & 1) fprintf(out, ", throttled: %s", rr_gpu_throttle_name(k));
        fputc('\n', out);
    }
}

static void print_machine(FILE *out, const struct rr_findings *f, bool fr)
{
    const struct rr_host *h = &f->host;
    char a[32], b[32];

    fprintf(out, "%s\n", rr_tr(fr, "Machine"));
    label(out, fr, "Processor");
    fprintf(out, "%s\n", h->cpu);
    label(out, fr, "Features");
    fprintf(out, "%s\n", *h->features ? h->features : "-");
    label(out, fr, "Instruction set");
    fprintf(out, "%s  (--isa: %s)\n", h->isa, h->isas);
    label(out, fr, "Threads");
    fprintf(out, "%u  (online %u, affinity %u", h->threads, h->cpus_online, h->cpus_allowed);
    if (h->cpu_quota > 0.0) fprintf(out, ", cgroup %.2f", h->cpu_quota);
    fputs(")\n", out);
    if (h->memory_nodes > 1) {
        label(out, fr, "Memory nodes");
        fprintf(out, "%u\n", h->memory_nodes);
    }
    label(out, fr, "Memory");
    fprintf(out, "%s, %s %s", size_text(h->memory_total, a), size_text(h->memory_available, b),
            rr_tr(fr, "available"));
    if (h->memory_limit) fprintf(out, ", cgroup %s", size_text(h->memory_limit, a));
    fputc('\n', out);
    label(out, fr, "GPU");
    fprintf(out, "%s\n", h->cuda);
    print_gpus(out, f);
}

static void print_files(FILE *out, const struct rr_findings *f, bool fr)
{
    char a[32];
    unsigned i;

    fprintf(out, "\n%s\n", rr_tr(fr, "Files"));
    label(out, fr, "Cache folder");
    fprintf(out, f->cache[0] ? "%s  (%s)\n" : "%s%s\n", f->cache, rr_tr(fr, f->cache_state));
    label(out, fr, "Model folder");
    fprintf(out, "%s\n", f->model);
    for (i = 0; i < f->n_files; i++) {
        fprintf(out, "%*s%-28s %9s\n", LABEL_COLUMNS, "", f->files[i].name,
                size_text(f->files[i].bytes, a));
    }
    if (f->n_more_files) fprintf(out, "%*s+ %u\n", LABEL_COLUMNS, "", f->n_more_files);
}

static void print_model(FILE *out, const struct rr_findings *f, bool fr)
{
    const struct rr_info *m = &f->info;
    char a[32], b[32], c[32];

    fprintf(out, "\n%s\n", rr_tr(fr, "Model"));
    label(out, fr, "Architecture");
    fprintf(out, "%s\n%*slayers %u, hidden %u, heads %u, vocabulary %u\n", m->architecture,
            LABEL_COLUMNS, "", m->layers, m->hidden, m->heads, m->vocab);
    label(out, fr, "Parameters");
    fprintf(out, "%.1f M, %s -> %s\n", (double)m->parameters / 1e6, m->weights_dtype, m->dtype);
    label(out, fr, "Longest pair");
    fprintf(out, "%u tokens  (max. %u)\n", m->max_length, m->max_positions);
    label(out, fr, "Device");
    fprintf(out, "%s, %s, %s, %u threads\n", m->device, m->device_name, m->isa, m->threads);
    label(out, fr, "Memory plan");
    fprintf(out, "weights %s, mapped %s, workspace %s  (%u tokens)\n",
            size_text(m->weights_bytes, a), size_text(m->mapped_bytes, b),
            size_text(m->workspace_bytes, c), m->batch_tokens);
}

void rr_doctor_text(FILE *out, const struct rr_findings *f)
{
    bool fr = rr_settings_french(f->settings);
    bool colors = rr_cli_colors(out), ready = rr_doctor_ready(f);
    const char *red = colors ? "\033[31m" : "", *green = colors ? "\033[32m" : "";
    const char *yellow = colors ? "\033[33m" : "", *plain = colors ? "\033[0m" : "";
    unsigned i;

    print_machine(out, f, fr);
    print_files(out, f, fr);
    if (f->has_info) print_model(out, f, fr);
    fprintf(out, "\n%s\n", rr_tr(fr, "Service"));
    label(out, fr, "Port");
    fprintf(out, "%s  (%s)\n\n", f->address, rr_tr(fr, f->port_free ? "free" : "not free"));
    for (i = 0; i < f->n_remarks; i++) {
        if (f->remarks[i].problem) continue;
        fprintf(out, "%s%s%s %s\n  %s %s\n", yellow, rr_tr(fr, "warning:"), plain,
                f->remarks[i].what, rr_tr(fr, "remedy:"), f->remarks[i].remedy);
    }
    if (ready) {
        fprintf(out, "%s%s%s\n", green, rr_tr(fr, "ready to serve"), plain);
        return;
    }
    fprintf(out, "%s%s%s\n", red, rr_tr(fr, "not ready to serve:"), plain);
    for (i = 0; i < f->n_remarks; i++) {
        if (!f->remarks[i].problem) continue;
        fprintf(out, "- %s\n  %s %s\n", f->remarks[i].what, rr_tr(fr, "remedy:"),
                f->remarks[i].remedy);
    }
}

/* ---- JSON ----------------------------------------------------------------------------------- */

/* Names and paths come from outside: what is not UTF-8 cannot be in JSON. */
static void put_text(struct rr_json_out *o, const char *key, const char *text)
{
    rr_out_string(o, key, rr_utf8_invalid(rr_text(text)) == SIZE_MAX ? text : "?");
}

static void json_gpus(struct rr_json_out *o, const struct rr_findings *f)
{
    unsigned i, k;

    rr_out_array(o, "gpus");
    for (i = 0; i < f->n_gpus; i++) {
        const struct rr_gpu *g = &f->gpus[i];

        rr_out_object(o, NULL);
        put_text(o, "name", g->name);
        put_text(o, "isa", g->isa);
        rr_out_uint(o, "memory_used", g->memory_used);
        rr_out_uint(o, "memory_total", g->memory_total);
        if (g->utilization >= 0) rr_out_double(o, "utilization", (double)g->utilization);
        if (g->celsius >= 0) rr_out_double(o, "celsius", (double)g->celsius);
        if (g->watts >= 0) rr_out_double(o, "watts", (double)g->watts);
        rr_out_array(o, "throttled");
        for (k = 0; k < RR_GPU_THROTTLES; k++)
            if (g->throttled >> k & 1) rr_out_string(o, NULL, rr_gpu_throttle_name(k));
        rr_out_end(o);
        rr_out_end(o);
    }
    rr_out_end(o);
}

static void json_machine(struct rr_json_out *o, const struct rr_findings *f)
{
    const struct rr_host *h = &f->host;

    rr_out_object(o, "machine");
    put_text(o, "cpu", h->cpu);
    put_text(o, "features", h->features);
    put_text(o, "isa", h->isa);
    put_text(o, "isas", h->isas);
    rr_out_uint(o, "cpus_online", h->cpus_online);
    rr_out_uint(o, "cpus_allowed", h->cpus_allowed);
    rr_out_double(o, "cpu_quota", h->cpu_quota);
    rr_out_uint(o, "threads", h->threads);
    rr_out_uint(o, "runnable", h->runnable);
    if (h->waiting >= 0) rr_out_double(o, "waiting", h->waiting);
    if (h->steal >= 0) rr_out_double(o, "steal", h->steal);
    rr_out_uint(o, "memory_nodes", h->memory_nodes);
    rr_out_uint(o, "memory_total", h->memory_total);
    rr_out_uint(o, "memory_available", h->memory_available);
    rr_out_uint(o, "memory_limit", h->memory_limit);
    put_text(o, "cuda", h->cuda);
    json_gpus(o, f);
    rr_out_end(o);
}

static void json_model(struct rr_json_out *o, const struct rr_findings *f)
{
    const struct rr_info *m = &f->info;
    unsigned i;

    rr_out_object(o, "model");
    put_text(o, "path", f->model);
    rr_out_object(o, "files");
    for (i = 0; i < f->n_files; i++) rr_out_uint(o, f->files[i].name, f->files[i].bytes);
    rr_out_end(o);
    rr_out_bool(o, "usable", f->has_info);
    if (f->has_info) {
        put_text(o, "architecture", m->architecture);
        put_text(o, "device", m->device);
        put_text(o, "isa", m->isa);
        put_text(o, "dtype", m->dtype);
        put_text(o, "weights_dtype", m->weights_dtype);
        put_text(o, "activation", m->activation);
        rr_out_uint(o, "threads", m->threads);
        rr_out_uint(o, "layers", m->layers);
        rr_out_uint(o, "hidden", m->hidden);
        rr_out_uint(o, "heads", m->heads);
        rr_out_uint(o, "vocab", m->vocab);
        rr_out_uint(o, "parameters", m->parameters);
        rr_out_uint(o, "max_length", m->max_length);
        rr_out_uint(o, "max_positions", m->max_positions);
        rr_out_uint(o, "batch_tokens", m->batch_tokens);
        rr_out_uint(o, "weights_bytes", m->weights_bytes);
        rr_out_uint(o, "mapped_bytes", m->mapped_bytes);
        rr_out_uint(o, "workspace_bytes", m->workspace_bytes);
    }
    rr_out_end(o);
}

static void json_remarks(struct rr_json_out *o, const struct rr_findings *f, bool problems)
{
    unsigned i;

    rr_out_array(o, problems ? "problems" : "warnings");
    for (i = 0; i < f->n_remarks; i++) {
        if (f->remarks[i].problem != problems) continue;
        rr_out_object(o, NULL);
        put_text(o, "what", f->remarks[i].what);
        put_text(o, "remedy", f->remarks[i].remedy);
        rr_out_end(o);
    }
    rr_out_end(o);
}

void rr_doctor_json(FILE *out, const struct rr_findings *f)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    put_text(&o, "version", rr_version());
    json_machine(&o, f);
    rr_out_object(&o, "cache");
    put_text(&o, "path", f->cache);
    put_text(&o, "state", f->cache_state);
    rr_out_end(&o);
    json_model(&o, f);
    rr_out_object(&o, "service");
    put_text(&o, "address", f->address);
    rr_out_bool(&o, "port_free", f->port_free);
    rr_out_end(&o);
    json_remarks(&o, f, true);
    json_remarks(&o, f, false);
    rr_out_bool(&o, "ready", rr_doctor_ready(f));
    rr_out_end(&o);
    rr_buf_putc(&b, '\n');
    rr_cli_print(out, &b);
}
