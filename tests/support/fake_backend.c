/* SPDX-License-Identifier: Apache-2.0 */
/* fake_backend.c - the plugin librerank_fault.so: device "fault".  It ignores the model; the logit of
 * a sequence is FNV-1a over its token ids, as for the device "null".  What fails is up to the switches
 * of fake_backend.h. */
#include "support/fake_backend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rerank_backend.h"

#define EXPORT __attribute__((visibility("default")))

struct rr_device {
    char dtype[16];
};

struct rr_loaded {
    struct rr_device *device;
};

static struct fault_control control;

EXPORT fault_control_fn fault_control;
EXPORT rr_backend_entry_fn rr_backend_entry;

struct fault_control *fault_control(void)
{
    return &control;
}

/* ---- switches ------------------------------------------------------------------------------ */

static void set(const char *name, size_t len, int value)
{
    static const struct {
        const char *name;
        _Atomic int *value;
    } switches[] = {
        { "fail_next", &control.fail_next }, { "fail", &control.fail },
        { "code", &control.code },           { "hang", &control.hang },
        { "slow_us", &control.slow_us },     { "poison_id", &control.poison_id },
        { "nan_id", &control.nan_id },       { "missing", &control.missing },
        { "wrong", &control.wrong },         { "open_code", &control.open_code },
        { "load_code", &control.load_code }, { "noise_ppm", &control.noise_ppm },
    };
    size_t i;

    for (i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
        if (strlen(switches[i].name) == len && strncmp(switches[i].name, name, len) == 0)
            atomic_store(switches[i].value, value);
}

/* "name=1,name=2", any separators. */
static void set_all(const char *text)
{
    while (text && *text) {
        size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz_");

        if (len && text[len] == '=') set(text, len, atoi(text + len + 1));
        text += len ? len : 1;
    }
}

static void read_file(void)
{
    const char *path = getenv("RR_FAULT_FILE");
    FILE *f = path ? fopen(path, "r") : NULL;
    char text[512];
    size_t n;

    if (!f) return;
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = 0;
    fclose(f);
    set_all(text);
}

/* ---- backend ------------------------------------------------------------------------------- */

static int fail(struct rr_error *err, int code, const char *what)
{
    err->code = code;
    snprintf(err->msg, sizeof(err->msg), "fault device: %s", what);
    return code;
}

static uint32_t device_count(const char **why)
{
    *why = NULL;
    return 1;
}

static int open_device(struct rr_device **out, const struct rr_device_options *opt,
                       struct rr_error *err)
{
    *out = NULL;
    set_all(getenv("RR_FAULT"));
    read_file();
    control.opens++;
    if (control.open_code) return fail(err, control.open_code, "open");
    *out = calloc(1, sizeof(**out));
    if (!*out) return fail(err, RR_ENOMEM, "open");
    snprintf((*out)->dtype, sizeof((*out)->dtype), "%s",
             strcmp(opt->dtype, "auto") ? opt->dtype : "f32");
    return RR_OK;
}

static void close_device(struct rr_device *d)
{
    free(d);
}

static void describe(const struct rr_device *d, struct rr_device_info *out)
{
    memset(out, 0, sizeof(*out));
    snprintf(out->name, sizeof(out->name), "device that fails on demand");
    snprintf(out->isa, sizeof(out->isa), "none");
    memcpy(out->dtype, d->dtype, sizeof(out->dtype));
    out->threads = 1;
    out->batch_tokens = 1024;
}

static int plan(const struct rr_device *d, const struct rr_program *p, const struct rr_limits *l,
                struct rr_memory *out, struct rr_error *err)
{
    (void)d, (void)p, (void)l, (void)err;
    memset(out, 0, sizeof(*out));
    return RR_OK;
}

static int load(struct rr_device *d, const struct rr_program *p, const struct rr_limits *l,
                struct rr_loaded **out, struct rr_error *err)
{
    (void)p, (void)l;
    *out = NULL;
    if (control.load_code) return fail(err, control.load_code, "load");
    *out = calloc(1, sizeof(**out));
    if (!*out) return fail(err, RR_ENOMEM, "load");
    (*out)->device = d;
    return RR_OK;
}

static void unload(struct rr_loaded *l)
{
    free(l);
}

static float logit_of(const struct rr_loaded *l, const int32_t *ids, uint32_t n)
{
    uint64_t h = UINT64_C(14695981039346656037);
    float logit;

    for (uint32_t i = 0; i < n; i++) h = (h ^ (uint64_t)ids[i]) * UINT64_C(1099511628211);
    logit = (float)(h >> 40) / 1048576.0f - 8.0f;
    if (strcmp(l->device->dtype, "f32") != 0) {
        float unit = (float)(int)(h & 0xFFFF) / 32768.0f - 1; /* [-1, 1) */

        logit += unit * (float)control.noise_ppm * 1e-6f;
    }
    return control.wrong ? logit + 1 : logit;
}

static bool contains(const int32_t *ids, uint32_t n, int id)
{
    for (uint32_t i = 0; i < n && id; i++)
        if (ids[i] == id) return true;
    return false;
}

static void pause_us(long us)
{
    struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

    nanosleep(&ts, NULL);
}

static int run(struct rr_loaded *l, const struct rr_batch *b, float *logits, struct rr_error *err)
{
    int code = control.code ? control.code : RR_EDEVICE;

    read_file();
    control.runs++;
    control.pairs += (int)b->n_sequences;
    if (control.slow_us) pause_us(control.slow_us);
    while (control.hang) {
        pause_us(1000);
        read_file();
    }
    if (control.fail) return fail(err, code, "told to fail");
    if (control.fail_next > 0) {
        control.fail_next--;
        return fail(err, code, "told to fail for a while");
    }
    if (contains(b->ids, b->n_tokens, control.poison_id))
        return fail(err, code, "a token that it cannot bear");
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        const int32_t *ids = b->ids + b->cu_seqlens[i];
        uint32_t n = b->cu_seqlens[i + 1] - b->cu_seqlens[i];

        if (i + (uint32_t)control.missing >= b->n_sequences) break;
        logits[i] = contains(ids, n, control.nan_id) ? NAN : logit_of(l, ids, n);
    }
    return RR_OK;
}

const struct rr_backend *rr_backend_entry(void)
{
    static const struct rr_backend backend = {
        .abi = RR_BACKEND_ABI,
        .name = "fault",
        .device_count = device_count,
        .open = open_device,
        .close = close_device,
        .describe = describe,
        .plan = plan,
        .load = load,
        .unload = unload,
        .run = run,
    };

    return &backend;
}
