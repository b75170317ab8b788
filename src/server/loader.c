/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c - see loader.h. */
#include "server/loader.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/golden.h"
#include "server/handle.h"
#include "server/models.h"

struct rr_loader {
    struct rr_server *server;
    pthread_mutex_t lock;
    pthread_t thread;
    bool joinable;      /* lock; thread was started and not joined */
    bool busy;          /* lock; its outcome is not known yet */
    pthread_t previous; /* the new thread joins the one before, which may still be closing a model,
                           so that there never are three */
    bool has_previous;
    int finished; /* eventfd: the first model is open, or is not */
    char model[1024];
    struct rr_exchange *x; /* who waits for the outcome; NULL: the start of the server */
    uint64_t took_ns;
    struct rr_error err;
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
    *out = l;
    return RR_OK;
}

void rr_loader_close(struct rr_loader *l)
{
    if (!l) return;
    if (l->joinable) pthread_join(l->thread, NULL);
    close(l->finished);
    pthread_mutex_destroy(&l->lock);
    rr_free(l);
}

static void join_previous(struct rr_loader *l)
{
    if (l->has_previous) pthread_join(l->previous, NULL);
    l->has_previous = false;
}

static void outcome_known(struct rr_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->busy = false;
    pthread_mutex_unlock(&l->lock);
}

/* Opens l->model and puts it into service. */
static int open_and_switch(struct rr_loader *l, bool check, struct rr_error *err)
{
    struct rr_server *s = l->server;
    struct rr_engine *engine = NULL;
    struct rr_options options;
    uint64_t start = rr_now_ns();
    int rc;

    rr_settings_engine(s->settings, &options);
    if (l->model[0]) options.model = l->model;
    rc = check ? rr_golden_memory(&options, err) : RR_OK;
    if (!rc) rc = rr_open(&engine, &options, err);
    if (!rc && check) rc = rr_golden_check(engine, err);
    if (!rc) rc = rr_models_switch(s->models, engine, err);
    if (rc) {
        rr_close(engine);
        return rc;
    }
    l->took_ns = rr_now_ns() - start;
    rr_metrics_set(s->metrics, RR_M_LOAD, 0, (int64_t)l->took_ns);
    return RR_OK;
}

/* ---- the first model ------------------------------------------------------------------------ */

static void *load_first(void *arg)
{
    struct rr_loader *l = arg;
    uint64_t one = 1;

    (void)open_and_switch(l, false, &l->err); /* l->err.code has the outcome */
    outcome_known(l);
    /* Cannot fail: the counter is far from its end. */
    if (write(l->finished, &one, sizeof(one)) < 0) return NULL;
    return NULL;
}

/* Lock held. */
static int start(struct rr_loader *l, void *(*run)(void *), struct rr_error *err)
{
    int rc;

    if (l->joinable) l->previous = l->thread;
    l->has_previous = l->joinable;
    l->err = (struct rr_error){ 0 };
    l->busy = true;
    rc = pthread_create(&l->thread, NULL, run, l);
    l->busy = rc == 0;
    if (rc && l->has_previous) l->thread = l->previous; /* still to be joined, by whoever is next */
    l->joinable = rc == 0 || l->has_previous;
    return rc ? rr_fail(err, RR_EIO, "cannot start a thread: %s", strerror(rc)) : RR_OK;
}

int rr_loader_start(struct rr_loader *l, struct rr_error *err)
{
    int rc;

    pthread_mutex_lock(&l->lock);
    rc = start(l, load_first, err);
    pthread_mutex_unlock(&l->lock);
    return rc;
}

int rr_loader_finished(const struct rr_loader *l)
{
    return l->finished;
}

int rr_loader_first(struct rr_loader *l, uint64_t *took_ns, struct rr_error *err)
{
    pthread_mutex_lock(&l->lock);
    if (l->joinable) pthread_join(l->thread, NULL);
    l->joinable = false;
    pthread_mutex_unlock(&l->lock);
    *took_ns = l->took_ns;
    *err = l->err;
    return l->err.code;
}

/* ---- another model -------------------------------------------------------------------------- */

static void reply_replaced(const struct rr_loader *l, struct rr_exchange *x)
{
    struct rr_engine *engine = rr_models_take(l->server->models);
    const struct rr_info *info = rr_engine_info(engine);

    x->status = 200;
    rr_buf_puts(&x->reply, "{\"status\":\"reloaded\",\"model\":");
    rr_buf_json_string(&x->reply, rr_text(info->model));
    rr_buf_printf(&x->reply, ",\"fingerprint\":\"%016llx\",\"seconds\":%.3f}",
                  (unsigned long long)info->fingerprint, (double)l->took_ns * 1e-9);
    rr_models_give(l->server->models, engine);
}

static void reply_kept(const struct rr_loader *l, struct rr_exchange *x)
{
    struct rr_problem p = { 0 };

    rr_problem_engine(&p, &l->err, 503);
    if (p.status == 500) p.status = 422; /* a folder that is no model is the caller's mistake */
    rr_reply_problem(x, &rr_dialect_union, &p);
}

static void *replace(void *arg)
{
    struct rr_loader *l = arg;
    struct rr_server *s = l->server;
    struct rr_exchange *x = l->x;
    int rc;

    join_previous(l);
    rc = open_and_switch(l, true, &l->err);
    rr_metrics_add(s->metrics, RR_M_RELOADS, rc ? 1 : 0, 1);
    if (rc) {
        RR_SAY(&s->console, RR_ERROR, MODEL_KEPT, l->err.msg);
        reply_kept(l, x);
    } else {
        RR_SAY(&s->console, RR_INFO, MODEL_REPLACED, l->model, rr_num1((double)l->took_ns * 1e-9));
        reply_replaced(l, x);
    }
    outcome_known(l); /* from here on l may be loading another one */
    rr_http_wake(x);
    rr_models_settle(s->models);
    return NULL;
}

int rr_loader_replace(struct rr_loader *l, const char *model, struct rr_exchange *x,
                      struct rr_error *err)
{
    struct rr_server *s = l->server;
    struct rr_engine *engine;
    int rc;

    pthread_mutex_lock(&l->lock);
    if (l->busy) {
        rc = rr_fail(err, RR_EBUSY, "a model is being loaded already");
    } else if (strlen(model) >= sizeof(l->model)) {
        rc = rr_fail(err, RR_EINVAL, "model: the path is longer than %zu bytes",
                     sizeof(l->model) - 1);
    } else {
        engine = rr_models_take(s->models);
        snprintf(l->model, sizeof(l->model), "%s",
                 model[0] ? model
                 : engine ? rr_engine_info(engine)->path
                          : "");
        rr_models_give(s->models, engine);
        l->x = x;
        rc = start(l, replace, err);
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}
