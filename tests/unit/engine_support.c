/* SPDX-License-Identifier: Apache-2.0 */
/* engine_support.c - see engine_support.h. */
#include "engine_support.h"

#include <dlfcn.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all requests */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct rr_options engine_options(const char *device)
{
    struct rr_options opt;

    rr_options_init(&opt);
    opt.model = TINY_MODEL;
    opt.device = device;
    opt.fallback = false;
    opt.prep_threads = 2;
    return opt;
}

struct rr_engine *engine_open(const struct rr_options *opt)
{
    struct rr_engine *e;
    struct rr_error err;

    if (rr_open(&e, opt, &err)) fail_msg("%s", err.msg);
    return e;
}

struct fault_control *engine_faults(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
    fault_control_fn *get;
    struct fault_control *c;
    void *handle, *symbol;

    assert_true(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/'), "/librerank_fault.so");
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* the same one that the engine will get */
    if (!handle) fail_msg("%s", dlerror());
    symbol = dlsym(handle, "fault_control");
    assert_non_null(symbol);
    memcpy(&get, &symbol, sizeof(get));
    c = get();
    for (size_t i = 0; i < FAULT_DEVICES; i++) c[i] = (struct fault_control){ 0 };
    return c;
}

static uint64_t hash(uint64_t h, uint64_t id)
{
    return (h ^ id) * UINT64_C(1099511628211);
}

float null_logit(struct rr_text query, struct rr_text document)
{
    uint64_t h = hash(UINT64_C(14695981039346656037), 256);
    size_t i;

    for (i = 0; i < query.len; i++) h = hash(h, (unsigned char)query.data[i]);
    h = hash(h, 257);
    for (i = 0; i < document.len; i++) h = hash(h, (unsigned char)document.data[i]);
    h = hash(h, 257);
    return (float)((double)(h >> 40) / 1048576.0 - 8.0);
}

double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

void sleep_ms(long ms)
{
    struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

    nanosleep(&ts, NULL);
}

struct rr_health health(struct rr_engine *e)
{
    struct rr_health h;

    rr_engine_health(e, &h);
    assert_int_equal(h.why[0] != 0, !h.ok || !h.device_ok);
    return h;
}

void wait_until_well(struct rr_engine *e, double most)
{
    double start = seconds();

    while (!health(e).device_ok && seconds() - start < most) sleep_ms(20);
    assert_true(health(e).device_ok);
}

struct documents documents_make(const char *tag, size_t n, size_t len)
{
    struct documents d = { calloc(n, sizeof(*d.texts)), n };
    size_t i;

    for (i = 0; i < n; i++) {
        char *text = malloc(len + 64);
        size_t at = (size_t)sprintf(text, "%s %zu ", tag, i);

        for (; at < len; at++) text[at] = "abcd efgh"[at % 9];
        d.texts[i] = (struct rr_text){ text, at };
    }
    return d;
}

void documents_free(struct documents *d)
{
    size_t i;

    for (i = 0; i < d->n; i++) free((void *)d->texts[i].data);
    free(d->texts);
    *d = (struct documents){ 0 };
}

void log_nothing(void *user, enum rr_log_level level, const char *line)
{
    (void)user, (void)level, (void)line;
}

static void on_done(void *user, struct rr_result *result, const struct rr_error *err)
{
    struct request *r = user;

    pthread_mutex_lock(&lock);
    r->result = result;
    r->code = err->code;
    r->ended = seconds();
    r->calls++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void request_start(struct rr_engine *e, struct request *r, const char *query,
                   const struct documents *d)
{
    struct rr_error err;

    r->req.query = (struct rr_text){ query, strlen(query) };
    r->req.documents = d->texts;
    r->req.n_documents = d->n;
    r->calls = 0;
    r->submitted = seconds();
    if (rr_submit(e, &r->req, on_done, r, &r->ticket, &err)) fail_msg("%s", err.msg);
}

void request_wait(struct request *r)
{
    pthread_mutex_lock(&lock);
    while (!r->calls) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

bool request_done(struct request *r)
{
    bool done;

    pthread_mutex_lock(&lock);
    done = r->calls > 0;
    pthread_mutex_unlock(&lock);
    return done;
}

void request_drop(struct request *r)
{
    request_wait(r);
    assert_int_equal(r->calls, 1);
    rr_result_free(r->result);
    r->result = NULL;
}
