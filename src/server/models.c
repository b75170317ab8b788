/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - see models.h. */
#include "server/models.h"

#include <pthread.h>

#include "base/err.h"
#include "base/mem.h"

struct slot { /* an open engine */
    struct rr_engine *engine;
    uint32_t leases;
    struct slot *older;
};

struct rr_models {
    pthread_mutex_t lock;
    pthread_cond_t given; /* a lease on a replaced engine has ended, or stop */
    bool stop;            /* lock */
    struct slot *current; /* lock; the others are being left */
    struct rr_stats past; /* lock; counters of the engines that were closed */
};

int rr_models_open(struct rr_models **out, struct rr_error *err)
{
    struct rr_models *m = rr_calloc(RR_MEM_SERVER, 1, sizeof(*m));

    *out = m;
    if (!m) return rr_fail(err, RR_ENOMEM, "out of memory");
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->given, NULL);
    return RR_OK;
}

static void close_slot(struct slot *s)
{
    rr_close(s->engine);
    rr_free(s);
}

void rr_models_close(struct rr_models *m)
{
    if (!m) return;
    while (m->current) {
        struct slot *older = m->current->older;

        close_slot(m->current);
        m->current = older;
    }
    pthread_cond_destroy(&m->given);
    pthread_mutex_destroy(&m->lock);
    rr_free(m);
}

struct rr_engine *rr_models_take(struct rr_models *m)
{
    struct rr_engine *engine = NULL;

    pthread_mutex_lock(&m->lock);
    if (m->current) {
        m->current->leases++;
        engine = m->current->engine;
    }
    pthread_mutex_unlock(&m->lock);
    return engine;
}

void rr_models_give(struct rr_models *m, struct rr_engine *engine)
{
    struct slot *s;

    if (!engine) return;
    pthread_mutex_lock(&m->lock);
    for (s = m->current; s->engine != engine; s = s->older) continue;
    if (--s->leases == 0 && s != m->current) pthread_cond_broadcast(&m->given);
    pthread_mutex_unlock(&m->lock);
}

int rr_models_switch(struct rr_models *m, struct rr_engine *engine, struct rr_error *err)
{
    struct slot *s = rr_calloc(RR_MEM_SERVER, 1, sizeof(*s));

    if (!s) return rr_fail(err, RR_ENOMEM, "out of memory");
    s->engine = engine;
    pthread_mutex_lock(&m->lock);
    s->older = m->current;
    m->current = s;
    pthread_mutex_unlock(&m->lock);
    return RR_OK;
}

/* The counters of b are added to a; what is a state and not a count is left alone. */
static void add_counters(struct rr_stats *a, const struct rr_stats *b)
{
    a->requests_done += b->requests_done;
    a->requests_failed += b->requests_failed;
    a->requests_canceled += b->requests_canceled;
    a->pairs_done += b->pairs_done;
    a->tokens_done += b->tokens_done;
    a->batches_done += b->batches_done;
    a->nonfinite += b->nonfinite;
    a->truncated_pairs += b->truncated_pairs;
    a->duplicate_pairs += b->duplicate_pairs;
    a->coalesced_pairs += b->coalesced_pairs;
    a->rescored_pairs += b->rescored_pairs;
    a->partial_requests += b->partial_requests;
    a->cache_hits += b->cache_hits;
    a->cache_misses += b->cache_misses;
    a->cache_evictions += b->cache_evictions;
    a->shared_hits += b->shared_hits;
    a->shared_misses += b->shared_misses;
    a->shared_errors += b->shared_errors;
    a->shared_dropped += b->shared_dropped;
    a->device_errors += b->device_errors;
    a->device_retries += b->device_retries;
    a->compute_ns += b->compute_ns;
    a->last_batch_ns = RR_MAX(a->last_batch_ns, b->last_batch_ns);
}

static void add_state(struct rr_stats *a, const struct rr_stats *b)
{
    a->cache_entries += b->cache_entries;
    a->cache_bytes += b->cache_bytes;
    a->queue_requests += b->queue_requests;
    a->queue_pairs += b->queue_pairs;
    a->queue_tokens += b->queue_tokens;
}

/* Takes a replaced engine without leases out of the list, or gives NULL when none is replaced;
 * waits while all of them are in use. */
static struct slot *take_left(struct rr_models *m)
{
    struct slot **at, *s;

    pthread_mutex_lock(&m->lock);
    for (;;) {
        at = m->current ? &m->current->older : &m->current;
        if (!*at || m->stop) break;
        while (*at && (*at)->leases) at = &(*at)->older;
        if (*at) break;
        pthread_cond_wait(&m->given, &m->lock);
    }
    s = m->stop ? NULL : *at;
    if (s) {
        struct rr_stats stats;

        rr_engine_stats(s->engine, &stats); /* nobody uses it any more: these are its last */
        add_counters(&m->past, &stats);
        *at = s->older;
    }
    pthread_mutex_unlock(&m->lock);
    return s;
}

void rr_models_settle(struct rr_models *m)
{
    struct slot *s;

    while ((s = take_left(m))) close_slot(s);
}

void rr_models_stop(struct rr_models *m)
{
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_broadcast(&m->given);
    pthread_mutex_unlock(&m->lock);
}

bool rr_models_stats(struct rr_models *m, struct rr_stats *out)
{
    struct slot *s;
    bool any;

    pthread_mutex_lock(&m->lock);
    *out = m->past;
    any = m->current != NULL;
    for (s = m->current; s; s = s->older) {
        struct rr_stats one;

        rr_engine_stats(s->engine, &one);
        add_counters(out, &one);
        add_state(out, &one);
        if (s != m->current) continue;
        out->shared_configured = one.shared_configured;
        out->shared_up = one.shared_up;
    }
    pthread_mutex_unlock(&m->lock);
    return any;
}
