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
    struct fault_control *control;
};

struct rr_loaded {
    struct rr_device *device;
};

static struct fault_control controls[FAULT_DEVICES];

EXPORT fault_control_fn fault_control;
EXPORT rr_backend_entry_fn rr_backend_entry;

struct fault_control *fault_control(void)
{
    return controls;
}

/* ---- switches ------------------------------------------------------------------------------ */

static void set(struct fault_control *c, const char *name, size_t len, int value)
{
    const struct {
        const char *name;
        _Atomic int *value;
    } switches[] = {
        { "fail_next", &c->fail_next }, { "fail", &c->fail },
        { "code", &c->code },           { "hang", &c->hang },
        { "slow_us", &c->slow_us },     { "poison_id", &c->poison_id },
        { "nan_id", &c->nan_id },       { "missing", &c->missing },
        { "wrong", &c->wrong },         { "open_code", &c->open_code },
        { "load_code", &c->load_code }, { "noise_ppm", &c->noise_ppm },
        { "other", &c->other },         { "token_us", &c->token_us },
        { "held_run", &c->held_run },
    };
    size_t i;

    for (i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
        if (strlen(switches[i].name) == len && strncmp(switches[i].name, name, len) == 0)
            atomic_store(switches[i].value, value);
}

/* "name=1,name2=1", any separators; 2: of device 2 alone. */
static void set_all(const char *text)
{
    while (text && *text) {
        size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz_"), digits, i;

        digits = len ? strspn(text + len, "0123456789") : 0;
        if (len && text[len + digits] == '=')
            for (i = 0; i < FAULT_DEVICES; i++)
                if (!digits || (size_t)atoi(text + len) == i)
                    set(&controls[i], text, len, atoi(text + len + digits + 1));
        text += len ? len + digits : 1;
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
    return FAULT_DEVICES;
}

static int open_device(struct rr_device **out, const struct rr_device_options *opt,
                       struct rr_error *err)
{
    struct fault_control *c = &controls[opt->index];

    *out = NULL;
    set_all(getenv("RR_FAULT"));
    read_file();
    c->opens++;
    if (c->open_code) return fail(err, c->open_code, "open");
    *out = calloc(1, sizeof(**out));
    if (!*out) return fail(err, RR_ENOMEM, "open");
    snprintf((*out)->dtype, sizeof((*out)->dtype), "%s",
             strcmp(opt->dtype, "auto") ? opt->dtype : "f32");
    (*out)->control = c;
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
    snprintf(out->isa, sizeof(out->isa), d->control->other ? "other" : "none");
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
    if (d->control->load_code) return fail(err, d->control->load_code, "load");
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
    const struct fault_control *c = l->device->control;
    float logit;

    for (uint32_t i = 0; i < n; i++) h = (h ^ (uint64_t)ids[i]) * UINT64_C(1099511628211);
    logit = (float)(h >> 40) / 1048576.0f - 8.0f;
    if (strcmp(l->device->dtype, "f32") != 0) {
        float unit = (float)(int)(h & 0xFFFF) / 32768.0f - 1; /* [-1, 1) */

        logit += unit * (float)c->noise_ppm * 1e-6f;
    }
    if (c->other) logit = -logit;
    return c->wrong ? logit + 1 : logit;
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
    struct fault_control *c = l->device->control;
    int code = c->code ? c->code : RR_EDEVICE;

    read_file();
    c->runs++;
    c->pairs += (int)b->n_sequences;
    if (c->slow_us) pause_us(c->slow_us);
    if (c->token_us) pause_us(c->token_us * (long)b->n_tokens);
    if (c->runs == c->held_run) pause_us(300000);
    while (c->hang) {
        pause_us(1000);
        read_file();
    }
    if (c->fail) return fail(err, code, "told to fail");
    if (c->fail_next > 0) {
        c->fail_next--;
        return fail(err, code, "told to fail for a while");
    }
    if (contains(b->ids, b->n_tokens, c->poison_id))
        return fail(err, code, "a token that it cannot bear");
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        const int32_t *ids = b->ids + b->cu_seqlens[i];
        uint32_t n = b->cu_seqlens[i + 1] - b->cu_seqlens[i];

        if (i + (uint32_t)c->missing >= b->n_sequences) break;
        logits[i] = contains(ids, n, c->nan_id) ? NAN : logit_of(l, ids, n);
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
