/* SPDX-License-Identifier: Apache-2.0 */
/* shared.c - see shared.h.
 *
 * Look-ups borrow a link from a small pool and speak on it themselves; they never connect.  One
 * thread, the keeper, connects, probes and stores.
 *
 * The circuit: any failure of a link opens it, and every look-up is a miss at once.  The keeper
 * then connects anew, after 100 ms and at last once a second, and closes the circuit when a probe
 * is answered within the deadline of a look-up.  Opening costs little, hence at the first failure:
 * a server that stands still costs each thread one deadline. */
#include "cache/shared.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/link.h"

enum {
    MAX_LINKS = 8,
    QUEUE = 16384, /* stores that wait; 28 bytes each */
    STORES_AT_ONCE = 128,
};

#define CONNECT_NS RR_SECOND
#define STORE_NS RR_SECOND
#define FIRST_RETRY_NS (100 * RR_MILLISECOND)
#define LAST_RETRY_NS RR_SECOND
#define CALM_NS (10 * RR_SECOND)    /* closed for so long: the next failure is a new story */
#define REFUSED_NS RR_SECOND        /* pause of stores after a refusal */
#define QUIET_NS (30 * RR_SECOND)   /* between two log lines about the same trouble */
#define FAREWELL_NS (RR_SECOND / 2) /* for what is queued at close */
#define ABANDON_NS (3 * RR_SECOND / 2)

struct slot {
    struct rr_link *link; /* NULL: free */
    bool busy;
    unsigned era;
};

struct rr_shared {
    /* constant after open */
    struct rr_address address;
    char name[300];
    char *password_file;
    struct rr_wire_tls *tls;
    uint32_t ttl_seconds;
    uint64_t deadline_ns;
    pthread_t keeper;

    pthread_mutex_t lock;
    pthread_cond_t wake;  /* for the keeper: something to store, a link is wanted, closing */
    pthread_cond_t freed; /* a link can be borrowed, or the circuit opened */
    pthread_cond_t ended; /* the keeper is done */

    /* under the lock */
    struct slot slots[MAX_LINKS];
    unsigned era; /* links of earlier eras are not used again */
    unsigned waiting;
    uint64_t changed_ns; /* when the circuit opened or closed */
    uint64_t retry_ns, backoff_ns;
    uint64_t store_after_ns;
    enum { SAID_NOTHING, SAID_UP, SAID_DOWN } said; /* by the last log line about the circuit */
    uint64_t said_down_ns, said_refused_ns;         /* 0: never */
    struct rr_key *keys;                            /* [QUEUE] ring of stores that wait */
    struct rr_cached *values;                       /* [QUEUE] */
    size_t head, count;
    struct rr_shared_stats stats;
    bool closing, done, abandoned;
};

/* ---- circuit: lock held -------------------------------------------------------------------- */

/* Up to a quarter less, so that many servers do not come back at the same moment. */
static uint64_t jitter(uint64_t ns, uint64_t now)
{
    return ns - ns / 4 * (now / 1000 % 64) / 64;
}

static void schedule_retry(struct rr_shared *s, bool again)
{
    uint64_t now = rr_now_ns();

    s->backoff_ns = again ? RR_MIN(s->backoff_ns * 2, LAST_RETRY_NS) : FIRST_RETRY_NS;
    s->retry_ns = now + jitter(s->backoff_ns, now);
}

/* A link failed.  True: somebody should hear of it. */
static bool circuit_open(struct rr_shared *s)
{
    uint64_t now = rr_now_ns();
    bool tell = s->said != SAID_DOWN && (!s->said_down_ns || now - s->said_down_ns > QUIET_NS);

    if (tell) {
        s->said = SAID_DOWN;
        s->said_down_ns = now;
    }
    if (!s->stats.up) return tell;
    schedule_retry(s, s->backoff_ns && now - s->changed_ns < CALM_NS);
    s->stats.up = false;
    s->changed_ns = now;
    s->era++;
    pthread_cond_broadcast(&s->freed);
    pthread_cond_signal(&s->wake);
    return tell;
}

static void tell_down(const struct rr_shared *s, const struct rr_error *err)
{
    rr_log(RR_WARN, "shared cache %s: %s; serving without it, trying again every second", s->name,
           err->msg);
}

/* ---- pool: lock held ------------------------------------------------------------------------ */

static struct slot *idle_slot(struct rr_shared *s)
{
    size_t i;

    for (i = 0; i < MAX_LINKS; i++)
        if (s->slots[i].link && !s->slots[i].busy && s->slots[i].era == s->era) return &s->slots[i];
    return NULL;
}

static struct slot *free_slot(struct rr_shared *s, size_t *links)
{
    struct slot *found = NULL;
    size_t i;

    *links = 0;
    for (i = 0; i < MAX_LINKS; i++) {
        if (!s->slots[i].link && !s->slots[i].busy) found = &s->slots[i];
        *links += s->slots[i].link != NULL;
    }
    return found;
}

/* Closes a link that the caller holds; the lock is released meanwhile. */
static void drop_link(struct rr_shared *s, struct slot *slot)
{
    struct rr_link *link = slot->link;

    slot->link = NULL;
    pthread_mutex_unlock(&s->lock);
    rr_link_close(link);
    pthread_mutex_lock(&s->lock);
    slot->busy = false;
    pthread_cond_signal(&s->wake);
}

/* An idle link that is alive, now busy, or NULL. */
static struct slot *borrow_now(struct rr_shared *s)
{
    struct slot *slot;

    while (s->stats.up && (slot = idle_slot(s))) {
        slot->busy = true;
        if (rr_link_quiet(slot->link)) return slot;
        drop_link(s, slot); /* the server closed it while nobody looked */
    }
    return NULL;
}

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){ (time_t)(ns / RR_SECOND), (long)(ns % RR_SECOND) };
}

static struct slot *borrow(struct rr_shared *s, uint64_t deadline)
{
    struct timespec until = to_timespec(deadline);
    struct slot *slot = borrow_now(s);
    int rc = 0;

    while (!slot && s->stats.up && !rc) {
        s->waiting++;
        pthread_cond_signal(&s->wake);
        rc = pthread_cond_timedwait(&s->freed, &s->lock, &until);
        s->waiting--;
        slot = borrow_now(s);
    }
    return slot;
}

static void give_back(struct rr_shared *s, struct slot *slot, bool good)
{
    if (!good || slot->era != s->era) {
        drop_link(s, slot);
        return;
    }
    slot->busy = false;
    pthread_cond_signal(&s->freed);
    if (s->count) pthread_cond_signal(&s->wake);
}

/* ---- keeper: lock held, released while it waits for the network ---------------------------- */

/* Two keys that no score has and that lie on different nodes of a cluster, so that a cluster shows
 * itself at once. */
static int probe(const struct rr_shared *s, struct rr_link *link, struct rr_error *err)
{
    static const struct rr_key keys[2] = { { 0, 0 }, { 1, 0 } };
    struct rr_cached out[2];
    struct rr_found found;
    bool hit[2];

    return rr_link_get(link, keys, 2, out, hit, &found, rr_now_ns() + s->deadline_ns, err);
}

static int connect_link(const struct rr_shared *s, struct rr_link **out, struct rr_error *err)
{
    struct rr_address a = s->address;
    int rc = rr_address_password(&a, s->password_file, err);

    *out = NULL;
    if (!rc) rc = rr_link_open(out, &a, s->tls, rr_now_ns() + CONNECT_NS, err);
    explicit_bzero(a.password, sizeof(a.password));
    if (!rc) rc = probe(s, *out, err);
    if (rc) {
        rr_link_close(*out);
        *out = NULL;
    }
    return rc;
}

static void came_up(struct rr_shared *s)
{
    uint64_t now = rr_now_ns(), down = now - s->changed_ns;

    s->stats.up = true;
    s->changed_ns = now;
    if (s->said == SAID_UP) return;
    s->said = SAID_UP;
    pthread_mutex_unlock(&s->lock);
    rr_log(RR_INFO, "shared cache %s: connected after %.1f s", s->name, (double)down / 1e9);
    pthread_mutex_lock(&s->lock);
}

/* Puts a new link into the slot, which closes the circuit, or opens the circuit. */
static void connect_slot(struct rr_shared *s, struct slot *slot)
{
    struct rr_error err = { 0 };
    struct rr_link *link;
    unsigned era = s->era;
    bool tell = false;
    int rc;

    slot->busy = true;
    pthread_mutex_unlock(&s->lock);
    rc = connect_link(s, &link, &err);
    pthread_mutex_lock(&s->lock);
    slot->link = link;
    slot->era = era;
    slot->busy = false;
    if (!rc) {
        if (!s->stats.up && era == s->era) came_up(s);
        pthread_cond_broadcast(&s->freed);
        return;
    }
    if (!s->stats.up) schedule_retry(s, true);
    tell = circuit_open(s);
    pthread_mutex_unlock(&s->lock);
    if (tell) tell_down(s, &err);
    pthread_mutex_lock(&s->lock);
}

/* Closes links that nobody uses and that belong to an earlier era. */
static void drop_old_links(struct rr_shared *s)
{
    size_t i;

    for (i = 0; i < MAX_LINKS; i++) {
        struct slot *slot = &s->slots[i];

        if (!slot->link || slot->busy || slot->era == s->era) continue;
        slot->busy = true;
        drop_link(s, slot);
    }
}

static size_t take_stores(struct rr_shared *s, struct rr_key *keys, struct rr_cached *values)
{
    size_t n = RR_MIN(s->count, (size_t)STORES_AT_ONCE), i;

    for (i = 0; i < n; i++) {
        keys[i] = s->keys[(s->head + i) % QUEUE];
        values[i] = s->values[(s->head + i) % QUEUE];
    }
    s->head = (s->head + n) % QUEUE;
    s->count -= n;
    return n;
}

/* A server that refuses stores is left alone with them for a while.  A replica where a primary was
 * means that names point elsewhere now: new links find the new one. */
static bool stores_refused(struct rr_shared *s, const struct rr_refusal *why)
{
    uint64_t now = rr_now_ns();
    bool tell = !s->said_refused_ns || now - s->said_refused_ns > QUIET_NS;

    s->store_after_ns = now + REFUSED_NS;
    if (strcmp(why->word, "READONLY") == 0) s->era++;
    if (tell) s->said_refused_ns = now;
    return tell;
}

static void store_some(struct rr_shared *s, struct slot *slot)
{
    struct rr_key keys[STORES_AT_ONCE];
    struct rr_cached values[STORES_AT_ONCE];
    struct rr_error err = { 0 };
    struct rr_refusal why = { "" };
    size_t n = take_stores(s, keys, values), refused;
    bool tell_refused = false, tell = false;
    int rc;

    pthread_mutex_unlock(&s->lock);
    rc = rr_link_set(slot->link, keys, values, n, s->ttl_seconds, &refused, &why,
                     rr_now_ns() + STORE_NS, &err);
    pthread_mutex_lock(&s->lock);
    s->stats.dropped += rc ? n : refused;
    s->stats.stored += rc ? 0 : n - refused;
    if (rc)
        tell = circuit_open(s);
    else if (refused)
        tell_refused = stores_refused(s, &why);
    give_back(s, slot, !rc);
    pthread_mutex_unlock(&s->lock);
    if (tell) tell_down(s, &err);
    if (tell_refused)
        rr_log(RR_WARN, "shared cache %s: the server takes no scores (%s), look-ups go on", s->name,
               why.word[0] ? why.word : "an error without a code");
    pthread_mutex_lock(&s->lock);
}

static void keeper_wait(struct rr_shared *s, uint64_t until_ns)
{
    struct timespec until = to_timespec(until_ns);

    if (until_ns == UINT64_MAX)
        pthread_cond_wait(&s->wake, &s->lock);
    else
        pthread_cond_timedwait(&s->wake, &s->lock, &until);
}

/* One thing that is due, or a wait until something may be. */
static void keeper_step(struct rr_shared *s)
{
    uint64_t now = rr_now_ns();
    bool store = s->count && now >= s->store_after_ns;
    struct slot *slot, *room;
    size_t links;

    drop_old_links(s);
    room = free_slot(s, &links);
    if (!s->stats.up) {
        if (room && now >= s->retry_ns)
            connect_slot(s, room);
        else
            keeper_wait(s, room ? s->retry_ns : UINT64_MAX);
        return;
    }
    if (!idle_slot(s) && room && (s->waiting || store || !links)) {
        connect_slot(s, room);
        return;
    }
    slot = store ? borrow_now(s) : NULL;
    if (slot)
        store_some(s, slot);
    else if (!store || !free_slot(s, &links)) /* else: what there was had gone, connect next */
        keeper_wait(s, s->count && !store ? s->store_after_ns : UINT64_MAX);
}

static void destroy(struct rr_shared *s)
{
    size_t i;

    for (i = 0; i < MAX_LINKS; i++) rr_link_close(s->slots[i].link);
    rr_wire_tls_close(s->tls);
    rr_free(s->keys);
    rr_free(s->values);
    rr_free(s->password_file);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->freed);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->lock);
    explicit_bzero(&s->address, sizeof(s->address));
    rr_free(s);
}

static void *keeper_main(void *arg)
{
    struct rr_shared *s = arg;
    struct slot *slot;
    uint64_t end;
    bool abandoned;

    pthread_mutex_lock(&s->lock);
    while (!s->closing) keeper_step(s);
    end = rr_now_ns() + FAREWELL_NS;
    while (s->count && rr_now_ns() < end && (slot = borrow_now(s))) store_some(s, slot);
    s->stats.dropped += s->count;
    s->done = true;
    abandoned = s->abandoned;
    pthread_cond_signal(&s->ended);
    pthread_mutex_unlock(&s->lock);
    if (abandoned) destroy(s);
    return NULL;
}

/* ---- open and close ------------------------------------------------------------------------- */

static int init_sync(struct rr_shared *s, struct rr_error *err)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (!rc) rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* the clock of rr_now_ns */
    if (!rc) rc = pthread_cond_init(&s->wake, &attr);
    if (!rc) rc = pthread_cond_init(&s->freed, &attr);
    if (!rc) rc = pthread_cond_init(&s->ended, &attr);
    if (!rc) rc = pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_destroy(&attr);
    return rc ? rr_fail(err, RR_ENOMEM, "out of memory for the shared cache") : RR_OK;
}

static int configure(struct rr_shared *s, const struct rr_shared_cache *config,
                     struct rr_error *err)
{
    struct rr_address tried;
    int rc;

    s->ttl_seconds = config->ttl_seconds ? config->ttl_seconds : 3600;
    s->deadline_ns = config->deadline_ns ? config->deadline_ns : 5 * RR_MILLISECOND;
    s->deadline_ns = RR_MIN(s->deadline_ns, RR_ENDLESS);
    s->keys = rr_calloc(RR_MEM_CACHE, QUEUE, sizeof(*s->keys));
    s->values = rr_calloc(RR_MEM_CACHE, QUEUE, sizeof(*s->values));
    if (config->password_file) s->password_file = rr_strdup(RR_MEM_CACHE, config->password_file);
    if (!s->keys || !s->values || (config->password_file && !s->password_file))
        return rr_fail(err, RR_ENOMEM, "out of memory for the shared cache");
    rc = rr_address_parse(&s->address, config->url ? config->url : "", err);
    if (rc) return rr_fail_prefix(err, "redis-url"), rc;
    rr_address_name(&s->address, s->name, sizeof(s->name));
    tried = s->address;
    rc = rr_address_password(&tried, s->password_file, err);
    explicit_bzero(&tried, sizeof(tried));
    if (rc || !s->address.tls) return rc;
    rc = rr_wire_tls_open(&s->tls, config->ca_file, err);
    if (rc) rr_fail_prefix(err, "redis-ca");
    return rc;
}

/* All but its thread. */
static int make(struct rr_shared **out, const struct rr_shared_cache *config, struct rr_error *err)
{
    struct rr_shared *s = rr_calloc(RR_MEM_CACHE, 1, sizeof(*s));
    int rc;

    *out = NULL;
    if (!s) return rr_fail(err, RR_ENOMEM, "out of memory for the shared cache");
    rc = init_sync(s, err);
    if (rc) {
        rr_free(s);
        return rc;
    }
    s->changed_ns = rr_now_ns();
    rc = configure(s, config, err);
    if (rc) {
        destroy(s);
        return rc;
    }
    *out = s;
    return RR_OK;
}

int rr_shared_check(const struct rr_shared_cache *config, struct rr_error *err)
{
    struct rr_shared *s;
    int rc = make(&s, config, err);

    if (!rc) destroy(s);
    return rc;
}

int rr_shared_open(struct rr_shared **out, const struct rr_shared_cache *config,
                   struct rr_error *err)
{
    struct rr_shared *s;
    int rc = make(&s, config, err);

    *out = NULL;
    if (rc) return rc;
    if (pthread_create(&s->keeper, NULL, keeper_main, s)) {
        destroy(s);
        return rr_fail(err, RR_ENOMEM, "no thread for the shared cache");
    }
    *out = s;
    return RR_OK;
}

/* Looking up a host's name can take long and cannot be interrupted: the keeper then stays behind
 * and frees everything when it comes back. */
void rr_shared_close(struct rr_shared *s)
{
    struct timespec until = to_timespec(rr_now_ns() + ABANDON_NS);
    bool done;

    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->wake);
    while (!s->done && !pthread_cond_timedwait(&s->ended, &s->lock, &until)) {
    }
    done = s->done;
    s->abandoned = !done;
    if (!done) pthread_detach(s->keeper);
    pthread_mutex_unlock(&s->lock);
    if (!done) return;
    pthread_join(s->keeper, NULL);
    destroy(s);
}

/* ---- look up and store ---------------------------------------------------------------------- */

size_t rr_shared_get(struct rr_shared *s, const struct rr_key *keys, size_t n,
                     struct rr_cached *out, bool *hit)
{
    uint64_t deadline = rr_now_ns() + s->deadline_ns;
    struct rr_found found = { 0 };
    struct rr_error err = { 0 };
    struct slot *slot;
    bool tell = false;
    int rc = RR_EBUSY;

    memset(hit, 0, n * sizeof(*hit));
    if (!n) return 0;
    pthread_mutex_lock(&s->lock);
    slot = borrow(s, deadline);
    if (slot) {
        pthread_mutex_unlock(&s->lock);
        rc = rr_link_get(slot->link, keys, n, out, hit, &found, deadline, &err);
        pthread_mutex_lock(&s->lock);
        if (rc) tell = circuit_open(s);
        give_back(s, slot, !rc);
    }
    if (rc) {
        found = (struct rr_found){ 0 };
        memset(hit, 0, n * sizeof(*hit));
        s->stats.errors += n;
    } else {
        s->stats.hits += found.hits;
        s->stats.invalid += found.invalid;
        s->stats.errors += found.invalid;
        s->stats.misses += n - found.hits - found.invalid;
    }
    pthread_mutex_unlock(&s->lock);
    if (tell) tell_down(s, &err);
    return found.hits;
}

void rr_shared_put(struct rr_shared *s, const struct rr_key *keys, const struct rr_cached *values,
                   size_t n)
{
    size_t i;

    pthread_mutex_lock(&s->lock);
    for (i = 0; i < n; i++) {
        size_t at = (s->head + s->count) % QUEUE;

        if (!isfinite(values[i].logit)) continue;
        if (s->count == QUEUE) { /* the oldest makes room */
            s->head = (s->head + 1) % QUEUE;
            s->count--;
            s->stats.dropped++;
        }
        s->keys[at] = keys[i];
        s->values[at] = values[i];
        s->count++;
    }
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

void rr_shared_stats(struct rr_shared *s, struct rr_shared_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->lock);
}
