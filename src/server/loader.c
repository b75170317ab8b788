/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c - see loader.h. */
#include "server/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "server/golden.h"
#include "server/handle.h"
#include "server/models.h"
#include "server/parking.h"

struct replacement {
    size_t model;
    char path[1024];       /* "": the one in service */
    struct rr_exchange *x; /* who waits for the outcome */
};

struct rr_loader {
    struct rr_server *server;
    pthread_t thread, closer;
    bool started, closing;
    int finished; /* eventfd: the first model is open, or is not */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* there is work, or stop; the first outcome is known */
    /* under the lock */
    bool stop, first_known;
    uint64_t first_took_ns;
    struct rr_error first_err;
    bool replacing; /* replacement is set, or in work */
    bool has_replacement;
    bool refusing; /* replacements */
    struct replacement replacement;
    size_t queue[RR_MAX_MODELS], n_queue; /* models that are wanted, each once */
};

int rr_loader_open(struct rr_loader **out, struct rr_server *s, struct rr_error *err)
{
    struct rr_loader *l = rr_calloc(RR_MEM_SERVER, 1, sizeof(*l));

    *out = NULL;
    if (!l) return rr_fail(err, RR_ENOMEM, "out of memory");
    l->server = s;
    l->finished = eventfd(0, EFD_CLOEXEC);
    if (l->finished < 0) {
        rr_free(l);
        return rr_fail(err, RR_EIO, "eventfd: %s", strerror(errno));
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
    *out = l;
    return RR_OK;
}

void rr_loader_close(struct rr_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->wake);
    pthread_mutex_unlock(&l->lock);
    if (l->started) pthread_join(l->thread, NULL);
    if (l->closing) pthread_join(l->closer, NULL);
    close(l->finished);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    rr_free(l);
}

/* ---- one load ------------------------------------------------------------------------------- */

static void say_unloaded(void *user, const char *name)
{
    struct rr_server *s = user;

    RR_SAY(&s->console, RR_INFO, MODEL_UNLOADED, name);
}

/* Room for model i: within what models may have, and in the machine's memory as it is now. */
static int make_room(struct rr_server *s, size_t i, const struct rr_options *options, bool beside,
                     struct rr_error *err)
{
    struct rr_info info;
    uint64_t here;
    int rc = rr_inspect(options, &info, err);

    if (rc) return rc;
    here = info.host_weights_bytes + info.host_workspace_bytes + options->cache_bytes;
    if (!beside || s->settings->model_memory)
        rc = rr_models_make_room(s->models, i, rr_models_bytes(s->settings, &info), say_unloaded, s,
                                 err);
    if (rc) return rc;
    do {
        rc = rr_golden_memory(here, err);
    } while (rc == RR_ENOMEM && rr_models_unload_one(s->models, i, say_unloaded, s));
    return rc;
}

static bool stopped(void *user)
{
    struct rr_loader *l = user;
    bool yes;

    pthread_mutex_lock(&l->lock);
    yes = l->stop;
    pthread_mutex_unlock(&l->lock);
    return yes;
}

enum kind { FIRST, WANTED, REPLACING };

/* make_room: others are unloaded, too, where it is a GPU that turns out to have no room. */
static int open_engine(struct rr_server *s, size_t i, const struct rr_options *options,
                       bool make_room, struct rr_engine **out, struct rr_error *err)
{
    int rc;

    do {
        rc = rr_open_in(out, s->team, options, err);
    } while (rc == RR_ENOMEM && make_room && rr_models_unload_one(s->models, i, say_unloaded, s));
    return rc;
}

/* Whether path is closed to the process though its permissions let it in: the sandbox. */
static bool is_hidden(const char *path)
{
    int fd;

    if (access(path, R_OK)) return false; /* does not ask Landlock */
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd < 0 && errno == EACCES;
}

/* Opens path ("": as configured) and puts it into service as model i. */
static int open_and_switch(struct rr_loader *l, size_t i, const char *path, enum kind kind,
                           uint64_t *took_ns, struct rr_error *err)
{
    struct rr_server *s = l->server;
    struct rr_engine *engine = NULL;
    struct rr_options options;
    uint64_t start;
    int rc = RR_OK;

    rr_models_options(s->models, s->settings, i, &options);
    if (path[0]) options.model = path;
    if (kind != FIRST) rc = make_room(s, i, &options, kind == REPLACING, err);
    start = rr_now_ns();
    if (!rc) rc = open_engine(s, i, &options, kind != FIRST, &engine, err);
    if (!rc && kind != FIRST) rc = rr_golden_check(engine, stopped, l, err);
    *took_ns = rr_now_ns() - start;
    if (!rc) rc = rr_models_switch(s->models, i, engine, *took_ns, err);
    if (rc && path[0] && is_hidden(path))
        rr_fail(err, rc,
                "%.300s: the server's sandbox keeps it closed: name its folder, or one above, with "
                "--sandbox-read at the start",
                path);
    if (rc) {
        rr_close(engine);
        return rc;
    }
    if (i == 0) rr_metrics_set(s->metrics, RR_M_LOAD, 0, (int64_t)*took_ns);
    return RR_OK;
}

static void load_first(struct rr_loader *l)
{
    struct rr_error err = { 0 };
    uint64_t one = 1, took_ns = 0;

    (void)open_and_switch(l, 0, "", FIRST, &took_ns, &err); /* err.code has the outcome */
    pthread_mutex_lock(&l->lock);
    l->first_err = err;
    l->first_took_ns = took_ns;
    l->first_known = true;
    pthread_cond_broadcast(&l->wake);
    pthread_mutex_unlock(&l->lock);
    /* Cannot fail: the counter is far from its end. */
    if (write(l->finished, &one, sizeof(one)) < 0) return;
}

static void load_wanted(struct rr_loader *l, size_t i)
{
    struct rr_server *s = l->server;
    struct rr_engine *there = rr_models_take(s->models, i);
    const char *name = rr_models_name(s->models, i);
    struct rr_error err = { 0 };
    uint64_t took_ns;

    rr_models_give(s->models, there);
    if (!there && open_and_switch(l, i, "", WANTED, &took_ns, &err)) {
        rr_models_failed(s->models, i, &err);
        RR_SAY(&s->console, RR_ERROR, MODEL_FAILED, name, err.msg);
    } else if (!there) {
        RR_SAY(&s->console, RR_INFO, MODEL_LOADED, name, rr_num1((double)took_ns * 1e-9));
    }
    rr_parking_open(s, i);
}

/* ---- another model -------------------------------------------------------------------------- */

static void reply_replaced(struct rr_server *s, const struct replacement *r, uint64_t took_ns)
{
    struct rr_engine *engine = rr_models_take(s->models, r->model);
    const struct rr_info *info = rr_engine_info(engine);
    struct rr_exchange *x = r->x;
    struct rr_json_out o = { .buf = &x->reply };

    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "status", "reloaded");
    rr_out_string(&o, "model",
                  rr_models_named(s->models, r->model) ? rr_models_name(s->models, r->model)
                                                       : info->model);
    rr_out_hex(&o, "fingerprint", info->fingerprint);
    rr_out_printf(&o, "seconds", "%.3f", (double)took_ns * 1e-9);
    rr_out_end(&o);
    rr_models_give(s->models, engine);
}

static void reply_kept(struct rr_exchange *x, const struct rr_error *err)
{
    struct rr_problem p = { 0 };

    rr_problem_engine(&p, err, 503);
    if (p.status == 500) /* a folder that is no model is the caller's mistake */
        rr_problem_set(&p, 422, "%s", err->msg);
    rr_reply_problem(x, &rr_dialect_union, &p);
}

static void replace(struct rr_loader *l, struct replacement *r)
{
    struct rr_server *s = l->server;
    struct rr_error err = { 0 };
    struct rr_options now;
    uint64_t took_ns;
    int rc;

    rr_models_options(s->models, s->settings, r->model, &now);
    if (!r->path[0]) snprintf(r->path, sizeof(r->path), "%s", now.model);
    rc = open_and_switch(l, r->model, r->path, REPLACING, &took_ns, &err);
    rr_metrics_add(s->metrics, RR_M_RELOADS, rc ? 1 : 0, 1);
    if (rc) {
        rr_models_kept(s->models, r->model);
        RR_SAY(&s->console, RR_ERROR, MODEL_KEPT, err.msg);
        reply_kept(r->x, &err);
    } else {
        RR_SAY(&s->console, RR_INFO, MODEL_REPLACED, r->path, rr_num1((double)took_ns * 1e-9));
        reply_replaced(s, r, took_ns);
    }
    pthread_mutex_lock(&l->lock);
    l->replacing = false;
    pthread_mutex_unlock(&l->lock);
    rr_http_wake(r->x);
    if (!rc) rr_parking_open(s, r->model); /* else who waits is served by the load that it wants */
}

/* ---- the threads ---------------------------------------------------------------------------- */

/* Takes what is to be done next; false: the end has come. */
static bool next_job(struct rr_loader *l, bool *is_replacement, struct replacement *r, size_t *i)
{
    bool go;

    pthread_mutex_lock(&l->lock);
    while (!l->stop && !l->has_replacement && !l->n_queue) pthread_cond_wait(&l->wake, &l->lock);
    go = !l->stop;
    *is_replacement = l->has_replacement;
    if (l->has_replacement) {
        *r = l->replacement;
        l->has_replacement = false;
    } else if (l->n_queue) {
        *i = l->queue[0];
        memmove(&l->queue[0], &l->queue[1], --l->n_queue * sizeof(l->queue[0]));
    }
    pthread_mutex_unlock(&l->lock);
    return go;
}

static void *load(void *arg)
{
    struct rr_loader *l = arg;
    struct replacement r;
    bool is_replacement;
    size_t i = 0;

    load_first(l);
    while (next_job(l, &is_replacement, &r, &i)) {
        if (is_replacement)
            replace(l, &r);
        else
            load_wanted(l, i);
    }
    return NULL;
}

static void *tend(void *arg)
{
    struct rr_loader *l = arg;

    rr_models_tend(l->server->models);
    return NULL;
}

/* ---- interface ------------------------------------------------------------------------------ */

int rr_loader_start(struct rr_loader *l, struct rr_error *err)
{
    int rc = pthread_create(&l->thread, NULL, load, l);

    l->started = rc == 0;
    if (!rc) rc = pthread_create(&l->closer, NULL, tend, l);
    l->closing = rc == 0;
    return rc ? rr_fail(err, RR_EIO, "cannot start a thread: %s", strerror(rc)) : RR_OK;
}

int rr_loader_finished(const struct rr_loader *l)
{
    return l->finished;
}

int rr_loader_first(struct rr_loader *l, uint64_t *took_ns, struct rr_error *err)
{
    pthread_mutex_lock(&l->lock);
    while (!l->first_known) pthread_cond_wait(&l->wake, &l->lock);
    *took_ns = l->first_took_ns;
    *err = l->first_err;
    pthread_mutex_unlock(&l->lock);
    return err->code;
}

int rr_loader_want(struct rr_loader *l, size_t i, uint64_t *again_ns, struct rr_error *err)
{
    int rc = rr_models_begin(l->server->models, i, again_ns, err);
    size_t k;

    if (rc) return rc;
    pthread_mutex_lock(&l->lock);
    for (k = 0; k < l->n_queue && l->queue[k] != i; k++) continue;
    if (k == l->n_queue) l->queue[l->n_queue++] = i;
    pthread_cond_broadcast(&l->wake);
    pthread_mutex_unlock(&l->lock);
    return RR_OK;
}

int rr_loader_replace(struct rr_loader *l, size_t i, const char *path, struct rr_exchange *x,
                      struct rr_error *err)
{
    int rc = RR_OK;

    if (strlen(path) >= sizeof(l->replacement.path))
        return rr_fail(err, RR_EINVAL, "model: the path is longer than %zu bytes",
                       sizeof(l->replacement.path) - 1);
    pthread_mutex_lock(&l->lock);
    if (l->refusing) {
        rc = rr_fail(err, RR_EBUSY, "the server is shutting down");
    } else if (l->replacing) {
        rc = rr_fail(err, RR_EBUSY, "a model is being loaded already");
    } else {
        l->replacing = l->has_replacement = true;
        l->replacement.model = i;
        l->replacement.x = x;
        snprintf(l->replacement.path, sizeof(l->replacement.path), "%s", path);
        pthread_cond_broadcast(&l->wake);
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

void rr_loader_refuse(struct rr_loader *l)
{
    struct rr_error err;
    struct rr_exchange *x = NULL;

    pthread_mutex_lock(&l->lock);
    l->refusing = true;
    if (l->has_replacement) x = l->replacement.x;
    l->has_replacement = false;
    pthread_mutex_unlock(&l->lock);
    if (!x) return;
    (void)rr_fail(&err, RR_ECLOSED, "the server is shutting down");
    reply_kept(x, &err);
    rr_http_wake(x);
}
