/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - see models.h. */
#include "server/models.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/stats.h"

#define FIRST_BACKOFF RR_SECOND
#define LAST_BACKOFF (60 * RR_SECOND)
/* A busy model stays so many times as long as it took to load: swapping costs a tenth at most. */
#define STAY 10

struct slot { /* an open engine */
    struct rr_engine *engine;
    struct entry *entry;
    uint32_t leases;
    uint64_t bytes, counted; /* of weights and workspace; by rr_models_bytes */
    struct slot *next; /* among those that are being left */
    bool closing;      /* last has what engine can no longer be asked for */
    struct rr_stats last;
};

struct entry { /* a model */
    char name[RR_MODEL_NAME_MAX + 1];
    bool named;
    char
        path[1024]; /* as in the settings, later what was put in its place; "": too long for here */
    enum rr_model_state state;
    struct slot *current;
    uint64_t used_ns, loaded_ns; /* last lease, last switch; monotonic */
    uint64_t backoff_ns;
    struct rr_model_view view; /* counters and reasons alone */
};

struct rr_models {
    size_t n;      /* constant */
    bool anywhere; /* constant: what lies on GPUs counts, too */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* an engine was left or closed, its last lease has ended, or stop */
    /* under the lock */
    bool stop, making_room;
    struct slot *left;
    struct rr_stats past; /* counters of the engines that were closed */
    uint64_t budget;
    bool any; /* there has been an engine */
    struct entry entries[];
};

/* ---- open and close -------------------------------------------------------------------------- */

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static uint64_t bytes_of(const struct rr_info *info, bool anywhere)
{
    return anywhere ? info->weights_bytes + info->workspace_bytes
                    : info->host_weights_bytes + info->host_workspace_bytes;
}

uint64_t rr_models_bytes(const struct rr_settings *settings, const struct rr_info *info)
{
    return bytes_of(info, settings->model_memory != 0);
}

/* "BAAI/bge-reranker-v2-m3@main" of a hub, or the last part of a path. */
static void name_of(char *out, size_t cap, const char *path, bool hub)
{
    size_t end = hub ? strcspn(path, "@") : strlen(path), start = end;

    while (end && path[end - 1] == '/') end--;
    for (start = hub ? 0 : end; start && path[start - 1] != '/'; start--) continue;
    snprintf(out, cap, "%.*s", (int)(end - start), path + start);
}

int rr_models_open(struct rr_models **out, const struct rr_settings *settings, struct rr_error *err)
{
    size_t n = settings->n_models, i;
    struct rr_models *m = rr_calloc(RR_MEM_SERVER, 1, sizeof(*m) + n * sizeof(m->entries[0]));

    *out = m;
    if (!m) return rr_fail(err, RR_ENOMEM, "out of memory");
    m->n = n;
    m->anywhere = settings->model_memory != 0;
    pthread_mutex_init(&m->lock, NULL);
    init_cond(&m->changed);
    for (i = 0; i < n; i++) {
        const struct rr_model_spec *spec = &settings->models[i];
        struct entry *e = &m->entries[i];
        struct rr_options opt;

        rr_settings_model(settings, i, &opt);
        e->named = spec->name[0] != 0;
        if (e->named)
            snprintf(e->name, sizeof(e->name), "%s", spec->name);
        else
            name_of(e->name, sizeof(e->name), spec->dir ? spec->path : opt.model,
                    spec->dir != NULL);
        if (strlen(opt.model) < sizeof(e->path))
            snprintf(e->path, sizeof(e->path), "%s", opt.model);
    }
    return RR_OK;
}

static void close_slot(struct slot *s)
{
    rr_close(s->engine);
    rr_free(s);
}

void rr_models_close(struct rr_models *m)
{
    size_t i;

    if (!m) return;
    while (m->left) {
        struct slot *next = m->left->next;

        close_slot(m->left);
        m->left = next;
    }
    for (i = 0; i < m->n; i++)
        if (m->entries[i].current) close_slot(m->entries[i].current);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    rr_free(m);
}

/* ---- names ----------------------------------------------------------------------------------- */

size_t rr_models_count(const struct rr_models *m)
{
    return m->n;
}

const char *rr_models_name(const struct rr_models *m, size_t i)
{
    return m->entries[i].name;
}

bool rr_models_named(const struct rr_models *m, size_t i)
{
    return m->entries[i].named;
}

static bool equal(const char *a, const char *s, size_t len)
{
    return strlen(a) == len && memcmp(a, s, len) == 0;
}

/* The default also has the name that its replies carry. */
static bool is_called(struct rr_models *m, size_t i, const char *name, size_t len)
{
    struct rr_engine *engine;
    bool yes;

    if (equal(m->entries[i].name, name, len)) return true;
    if (m->entries[i].named) return false;
    pthread_mutex_lock(&m->lock);
    engine = m->entries[i].current ? m->entries[i].current->engine : NULL;
    yes = engine && equal(rr_engine_info(engine)->model, name, len);
    pthread_mutex_unlock(&m->lock);
    return yes;
}

bool rr_models_find(struct rr_models *m, const struct rr_settings *settings, const char *name,
                    size_t len, bool strict, size_t *i)
{
    size_t k;

    *i = 0;
    if (!len) return true;
    for (k = 0; k < settings->n_aliases; k++) {
        if (!equal(settings->aliases[k].alias, name, len)) continue;
        name = settings->aliases[k].name;
        len = strlen(name);
        if (strcmp(name, "default") == 0) return true;
        break;
    }
    for (*i = 0; *i < m->n; ++*i)
        if (is_called(m, *i, name, len)) return true;
    *i = 0;
    return !strict;
}

/* ---- leases ---------------------------------------------------------------------------------- */

static struct rr_engine *take(struct rr_models *m, size_t i, bool request)
{
    struct entry *e = &m->entries[i];
    struct rr_engine *engine = NULL;

    pthread_mutex_lock(&m->lock);
    if (e->current) {
        e->current->leases++;
        if (request) {
            e->used_ns = rr_now_ns();
            e->view.requests++;
        }
        engine = e->current->engine;
    }
    pthread_mutex_unlock(&m->lock);
    return engine;
}

struct rr_engine *rr_models_take(struct rr_models *m, size_t i)
{
    return take(m, i, false);
}

struct rr_engine *rr_models_serve(struct rr_models *m, size_t i)
{
    return take(m, i, true);
}

/* Lock held. */
static struct slot *find_slot(struct rr_models *m, const struct rr_engine *engine)
{
    struct slot *s;
    size_t i;

    for (i = 0; i < m->n; i++) {
        s = m->entries[i].current;
        if (s && s->engine == engine) return s;
    }
    for (s = m->left; s->engine != engine || s->closing; s = s->next) continue;
    return s;
}

void rr_models_give(struct rr_models *m, struct rr_engine *engine)
{
    struct slot *s;

    if (!engine) return;
    pthread_mutex_lock(&m->lock);
    s = find_slot(m, engine);
    if (--s->leases == 0 && (s != s->entry->current || m->making_room))
        pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

/* Its engine gets no further leases.  Lock held. */
static void leave(struct rr_models *m, struct entry *e)
{
    struct slot *s = e->current;

    if (!s) return;
    e->current = NULL;
    s->next = m->left;
    m->left = s;
    pthread_cond_broadcast(&m->changed);
}

int rr_models_switch(struct rr_models *m, size_t i, struct rr_engine *engine, uint64_t load_ns,
                     struct rr_error *err)
{
    const struct rr_info *info = rr_engine_info(engine);
    struct slot *s = rr_calloc(RR_MEM_SERVER, 1, sizeof(*s));
    struct entry *e = &m->entries[i];

    if (!s) return rr_fail(err, RR_ENOMEM, "out of memory");
    s->engine = engine;
    s->entry = e;
    s->bytes = bytes_of(info, true);
    s->counted = bytes_of(info, m->anywhere);
    pthread_mutex_lock(&m->lock);
    leave(m, e);
    e->current = s;
    e->state = RR_MODEL_LOADED;
    e->used_ns = e->loaded_ns = rr_now_ns();
    e->backoff_ns = 0;
    e->view.loads++;
    e->view.load_ns = load_ns;
    m->any = true;
    if (info->path[0]) snprintf(e->path, sizeof(e->path), "%s", info->path);
    pthread_mutex_unlock(&m->lock);
    return RR_OK;
}

/* ---- loading --------------------------------------------------------------------------------- */

void rr_models_options(struct rr_models *m, const struct rr_settings *settings, size_t i,
                       struct rr_options *opt)
{
    rr_settings_model(settings, i, opt);
    opt->cache_bytes = settings->cache_size / m->n;             /* each has its own */
    if (m->entries[i].path[0]) opt->model = m->entries[i].path; /* only the loader changes it */
}

int rr_models_begin(struct rr_models *m, size_t i, uint64_t *again_ns, struct rr_error *err)
{
    struct entry *e = &m->entries[i];
    uint64_t now = rr_now_ns();
    int rc = RR_OK;

    pthread_mutex_lock(&m->lock);
    *again_ns = 0;
    if (e->state == RR_MODEL_FAILED && now < e->view.retry_ns) {
        *again_ns = e->view.retry_ns - now;
        rc = rr_fail(err, RR_EBUSY, "%s", e->view.why);
    } else if (e->state != RR_MODEL_LOADED) {
        e->state = RR_MODEL_LOADING;
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

void rr_models_failed(struct rr_models *m, size_t i, const struct rr_error *why)
{
    struct entry *e = &m->entries[i];

    pthread_mutex_lock(&m->lock);
    e->view.failures++;
    e->state = RR_MODEL_FAILED;
    e->backoff_ns = e->backoff_ns ? RR_MIN(2 * e->backoff_ns, LAST_BACKOFF) : FIRST_BACKOFF;
    e->view.retry_ns = rr_now_ns() + e->backoff_ns;
    snprintf(e->view.why, sizeof(e->view.why), "%s", why->msg);
    pthread_mutex_unlock(&m->lock);
}

void rr_models_kept(struct rr_models *m, size_t i)
{
    pthread_mutex_lock(&m->lock);
    m->entries[i].view.failures++;
    pthread_mutex_unlock(&m->lock);
}

/* ---- room ------------------------------------------------------------------------------------ */

void rr_models_budget(struct rr_models *m, uint64_t bytes)
{
    pthread_mutex_lock(&m->lock);
    m->budget = bytes;
    pthread_mutex_unlock(&m->lock);
}

/* Of all engines that are open.  Lock held. */
static uint64_t in_use(const struct rr_models *m)
{
    const struct slot *s;
    uint64_t sum = 0;
    size_t i;

    for (i = 0; i < m->n; i++)
        if (m->entries[i].current) sum += m->entries[i].current->counted;
    for (s = m->left; s; s = s->next) sum += s->counted;
    return sum;
}

/* The one that nobody uses and that was used longest ago; NULL: there is none.  Lock held. */
static struct entry *idle_one(struct rr_models *m, size_t except)
{
    struct entry *best = NULL;
    size_t i;

    for (i = 1; i < m->n; i++) {
        struct entry *e = &m->entries[i];

        if (i == except || !e->current || e->current->leases) continue;
        if (!best || e->used_ns < best->used_ns) best = e;
    }
    return best;
}

/* Of the busy ones, the one whose time is over first; NULL: there is none.  Lock held. */
static struct entry *busy_one(struct rr_models *m, size_t except, uint64_t *until)
{
    struct entry *best = NULL;
    size_t i;

    for (i = 1; i < m->n; i++) {
        struct entry *e = &m->entries[i];
        uint64_t end = e->loaded_ns + STAY * e->view.load_ns;

        if (i == except || !e->current || (best && *until <= end)) continue;
        best = e;
        *until = end;
    }
    return best;
}

static void wait_until(struct rr_models *m, uint64_t ns)
{
    struct timespec ts = { (time_t)(ns / RR_SECOND), (long)(ns % RR_SECOND) };

    pthread_cond_timedwait(&m->changed, &m->lock, &ts);
}

/* Lock held; released while it is told. */
static void unload(struct rr_models *m, struct entry *e, rr_unloaded_fn *said, void *user)
{
    leave(m, e);
    e->state = RR_MODEL_IDLE;
    e->view.unloads++;
    pthread_mutex_unlock(&m->lock);
    said(user, e->name);
    pthread_mutex_lock(&m->lock);
}

bool rr_models_unload_one(struct rr_models *m, size_t i, rr_unloaded_fn *said, void *user)
{
    struct entry *e;

    pthread_mutex_lock(&m->lock);
    e = idle_one(m, i);
    if (e) unload(m, e, said, user);
    while (e && m->left && !m->stop) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    return e != NULL;
}

/* One step towards room: an engine that is being left is waited for, else one is unloaded, now or
 * when its time is over.  false: nothing is left that could be.  Lock held, released meanwhile. */
static bool gain(struct rr_models *m, size_t i, rr_unloaded_fn *said, void *user)
{
    struct entry *e = m->left ? NULL : idle_one(m, i);
    uint64_t until = 0;

    if (m->left) {
        pthread_cond_wait(&m->changed, &m->lock);
        return true;
    }
    if (!e) {
        e = busy_one(m, i, &until);
        if (!e) return false;
        if (rr_now_ns() < until) {
            wait_until(m, until);
            return true;
        }
    }
    unload(m, e, said, user);
    return true;
}

int rr_models_make_room(struct rr_models *m, size_t i, uint64_t bytes, rr_unloaded_fn *said,
                        void *user, struct rr_error *err)
{
    int rc = RR_OK;
    uint64_t now;

    pthread_mutex_lock(&m->lock);
    m->making_room = true;
    while (m->budget && !rc && in_use(m) + bytes > m->budget) {
        if (m->stop) rc = rr_fail(err, RR_ECLOSED, "the server is shutting down");
        if (rc || (bytes <= m->budget && gain(m, i, said, user))) continue;
        now = in_use(m);
        rc = rr_fail(err, RR_ENOMEM,
                     "%s needs %.1f MiB, %.1f of %.1f MiB for models are free (--model-memory)",
                     m->entries[i].name, (double)bytes / (1 << 20),
                     (double)(m->budget - RR_MIN(now, m->budget)) / (1 << 20),
                     (double)m->budget / (1 << 20));
    }
    m->making_room = false;
    pthread_mutex_unlock(&m->lock);
    return rc;
}

/* ---- figures --------------------------------------------------------------------------------- */

bool rr_models_stats(struct rr_models *m, struct rr_stats *out)
{
    struct rr_stats one;
    struct slot *s;
    size_t i;
    bool any;

    pthread_mutex_lock(&m->lock);
    *out = m->past;
    any = m->any;
    for (s = m->left; s; s = s->next) {
        if (s->closing)
            one = s->last;
        else
            rr_engine_stats(s->engine, &one);
        rr_stats_add_counters(out, &one);
        rr_stats_add_state(out, &one);
    }
    for (i = 0; i < m->n; i++) {
        if (!m->entries[i].current) continue;
        rr_engine_stats(m->entries[i].current->engine, &one);
        rr_stats_add_counters(out, &one);
        rr_stats_add_state(out, &one);
        if (i) continue;
        out->shared_configured = one.shared_configured;
        out->shared_up = one.shared_up;
    }
    pthread_mutex_unlock(&m->lock);
    return any;
}

void rr_models_view(struct rr_models *m, size_t i, struct rr_model_view *out)
{
    struct entry *e = &m->entries[i];
    struct slot *s;

    pthread_mutex_lock(&m->lock);
    *out = e->view;
    out->name = e->name;
    out->state = e->state;
    if (e->current) {
        out->leases = e->current->leases;
        out->bytes = e->current->bytes;
        out->info = *rr_engine_info(e->current->engine);
    }
    for (s = m->left; s; s = s->next)
        if (s->entry == e) out->bytes += s->bytes;
    snprintf(out->path, sizeof(out->path), "%s", e->path);
    pthread_mutex_unlock(&m->lock);
}

size_t rr_models_n_failed(struct rr_models *m)
{
    size_t i, n = 0;

    pthread_mutex_lock(&m->lock);
    for (i = 0; i < m->n; i++) n += m->entries[i].state == RR_MODEL_FAILED;
    pthread_mutex_unlock(&m->lock);
    return n;
}

/* ---- closing --------------------------------------------------------------------------------- */

/* An engine that was left and has no leases, to be closed; waits while all of those are in use,
 * with wait also while there are none.  NULL: there are none, or stop. */
static struct slot *next_to_close(struct rr_models *m, bool wait)
{
    struct slot *s;

    pthread_mutex_lock(&m->lock);
    for (;;) {
        for (s = m->left; s && s->leases; s = s->next) continue;
        if (s || m->stop || (!m->left && !wait)) break;
        pthread_cond_wait(&m->changed, &m->lock);
    }
    if (m->stop) s = NULL;
    if (s) {
        rr_engine_stats(s->engine, &s->last); /* nobody uses it any more: these are its last */
        s->closing = true;
    }
    pthread_mutex_unlock(&m->lock);
    return s;
}

static bool close_one(struct rr_models *m, bool wait)
{
    struct slot *s = next_to_close(m, wait), **at;

    if (!s) return false;
    rr_close(s->engine);
    pthread_mutex_lock(&m->lock); /* only now is its memory free */
    for (at = &m->left; *at != s; at = &(*at)->next) continue;
    *at = s->next;
    rr_stats_add_counters(&m->past, &s->last);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    rr_free(s);
    return true;
}

void rr_models_settle(struct rr_models *m)
{
    while (close_one(m, false)) continue;
}

void rr_models_tend(struct rr_models *m)
{
    while (close_one(m, true)) continue;
}

void rr_models_stop(struct rr_models *m)
{
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}
