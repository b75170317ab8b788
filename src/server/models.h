/* SPDX-License-Identifier: Apache-2.0 */
/* models.h - the models of the server: which are loaded, leases on their engines, and the change to
 * another engine while requests go on.  Layer: server (L6).  Threads: any, unless a comment says
 * otherwise.
 *
 * Models are numbered as in struct rr_settings; number 0 is the default, which stays loaded.  A
 * request takes a lease on its model's engine and keeps it to its end, so that all of its scores
 * are of one model.  An engine that was replaced or unloaded is closed after its last lease; until
 * then its memory counts. */
#ifndef RR_SERVER_MODELS_H
#define RR_SERVER_MODELS_H

#include "base/attr.h"
#include "options.h"
#include "rerank.h"

struct rr_models;

enum rr_model_state { RR_MODEL_IDLE, RR_MODEL_LOADING, RR_MODEL_LOADED, RR_MODEL_FAILED };

struct rr_model_view { /* what is told of one */
    const char *name;  /* as configured, or the last part of its path */
    enum rr_model_state state;
    uint32_t leases;          /* on its engine in service */
    uint64_t bytes;           /* weights and workspace, of all its engines that are open */
    uint64_t requests;        /* by rr_models_serve */
    uint64_t loads, failures; /* by rr_models_switch, by _failed and _kept */
    uint64_t unloads;         /* to make room */
    uint64_t load_ns;         /* of the last load */
    uint64_t retry_ns;        /* FAILED: not tried again before; monotonic */
    char why[512];            /* FAILED */
    char path[1024];          /* what is, or would be, loaded */
    struct rr_info info;      /* of the engine in service; zeros: there is none */
};

/* What counts of a model where memory for models is limited: with --model-memory its weights and
 * workspace wherever they are, else those in the machine's memory. */
uint64_t rr_models_bytes(const struct rr_settings *settings, const struct rr_info *info);

/* One for each of settings->models, none of them loaded. */
RR_NODISCARD int rr_models_open(struct rr_models **out, const struct rr_settings *settings,
                                struct rr_error *err);
/* Closes the engines.  No lease may be out.  NULL is allowed. */
void rr_models_close(struct rr_models *m);

size_t rr_models_count(const struct rr_models *m);
/* Constant. */
const char *rr_models_name(const struct rr_models *m, size_t i);
/* The name was given with the model, so that replies carry it; else they carry the engine's. */
bool rr_models_named(const struct rr_models *m, size_t i);
/* The model of that name, or that an alias of settings stands for; "": the default.  Without strict
 * it is also the default for what nothing is called.  false: there is none. */
bool rr_models_find(struct rr_models *m, const struct rr_settings *settings, const char *name,
                    size_t len, bool strict, size_t *i);

/* The engine in service, NULL while there is none; it stays open until rr_models_give. */
struct rr_engine *rr_models_take(struct rr_models *m, size_t i);
/* The same for a request: it counts, and the model has been used. */
struct rr_engine *rr_models_serve(struct rr_models *m, size_t i);
void rr_models_give(struct rr_models *m, struct rr_engine *engine); /* NULL is allowed */

/* Puts engine in service as model i, loaded from path within load_ns; on RR_OK it is m's.  The one
 * before gets no further leases. */
RR_NODISCARD int rr_models_switch(struct rr_models *m, size_t i, struct rr_engine *engine,
                                  uint64_t load_ns, struct rr_error *err);

/* ---- for the loader: one thread -------------------------------------------------------------- */

/* Options of model i as it is to be loaded now.  Views into settings, and into what stays as it is
 * until the next rr_models_switch of i. */
void rr_models_options(struct rr_models *m, const struct rr_settings *settings, size_t i,
                       struct rr_options *opt);

/* Its load is wanted: RR_OK, from now on it is LOADING (or is LOADED).  RR_EBUSY: the last one
 * failed a short time ago; *again_ns until the next try, err has the reason. */
RR_NODISCARD int rr_models_begin(struct rr_models *m, size_t i, uint64_t *again_ns,
                                 struct rr_error *err);
/* It came to nothing.  The next try comes after 1, 2, 4 ... 60 seconds. */
void rr_models_failed(struct rr_models *m, size_t i, const struct rr_error *why);
/* One that was to replace it came to nothing: it is what it was, loaded or to be loaded. */
void rr_models_kept(struct rr_models *m, size_t i);

/* Most bytes of all, as rr_models_bytes counts; 0: any number.  Until it is called: any. */
void rr_models_budget(struct rr_models *m, uint64_t bytes);

/* Unloads others until so many bytes more fit, and waits until their memory is free: first those
 * that nobody uses, the one used longest ago before others; then, since busy ones would never be
 * idle, those that have been loaded for ten times as long as it took to load them.  Never the
 * default, and never i.  said is called for each.  RR_ENOMEM: it does not fit. */
typedef void rr_unloaded_fn(void *user, const char *name);
RR_NODISCARD int rr_models_make_room(struct rr_models *m, size_t i, uint64_t bytes,
                                     rr_unloaded_fn *said, void *user, struct rr_error *err);
/* Unloads one that nobody uses, as above.  false: there is none. */
bool rr_models_unload_one(struct rr_models *m, size_t i, rr_unloaded_fn *said, void *user);

/* ---- closing --------------------------------------------------------------------------------- */

/* Closes the engines that were replaced or unloaded, each after its last lease, and returns when
 * there are none.  One thread at a time. */
void rr_models_settle(struct rr_models *m);
/* The same until rr_models_stop. */
void rr_models_tend(struct rr_models *m);
/* Makes waits here end, now and later: what is left is closed by rr_models_close. */
void rr_models_stop(struct rr_models *m);

/* ---- figures --------------------------------------------------------------------------------- */

/* Counters summed over all engines there ever were, so that they never fall; queues and caches of
 * those that are open.  False: there has been none. */
bool rr_models_stats(struct rr_models *m, struct rr_stats *out);
void rr_models_view(struct rr_models *m, size_t i, struct rr_model_view *out);
/* Models whose last load failed. */
size_t rr_models_n_failed(struct rr_models *m);

#endif
