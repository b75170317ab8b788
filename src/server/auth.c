/* SPDX-License-Identifier: Apache-2.0 */
/* auth.c - see auth.h.
 * Limits are token buckets that hold what a second brings.  How long a request is becomes known
 * only when it is done, so its tokens are taken afterwards, and a bucket may go below zero. */
#include "server/auth.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "rerank.h"
#include "server/keys.h"
#include "server/secret.h"
#include "server/stamp.h"

_Static_assert(RR_KEY_NAME_MAX + 1 == sizeof(((struct rr_grant *)0)->name), "names fit");

#define MAX_SECRET 512 /* bytes of a key */
#define DAY 86400

enum file { API_KEY, API_KEYS, ADMIN_KEY, FILES };

struct account { /* what the key of the same index has used */
    uint64_t tenant;
    double requests, tokens; /* left; without a limit no number is used up: infinity */
    uint64_t filled_ns;
    uint64_t day, day_requests, day_tokens; /* day: since 1970 */
};

struct ring {                            /* one consistent set of keys */
    struct rr_keys named, single, admin; /* single, admin: at most one key each */
    struct account *accounts;            /* [named.n] */
};

struct rr_auth {
    struct rr_auth_config config;
    const char *paths[FILES];
    pthread_mutex_t lock; /* guards ring, stamps */
    struct ring ring;
    struct rr_stamp stamps[FILES];
};

/* ---- loading ------------------------------------------------------------------------------ */

static void drop(struct ring *r)
{
    rr_keys_free(&r->named);
    rr_keys_free(&r->single);
    rr_keys_free(&r->admin);
    rr_free(r->accounts);
    memset(r, 0, sizeof(*r));
}

/* A set of one key, which is hashed like the others. */
static int make_single(struct rr_keys *out, const char *name, const char *text, size_t len,
                       struct rr_error *err)
{
    int rc = rr_keys_init(out, err);

    if (rc) return rc;
    out->list = rr_calloc(RR_MEM_SERVER, 1, sizeof(*out->list));
    if (!out->list) return rr_fail(err, RR_ENOMEM, "keys: out of memory");
    out->n = out->cap = 1;
    snprintf(out->list[0].name, sizeof(out->list[0].name), "%s", name);
    if (!rr_secret_hash(out->list[0].hash, out->salt, RR_KEY_SALT, text, len))
        return rr_fail(err, RR_EINTERNAL, "HMAC-SHA-256 is not to be had");
    return RR_OK;
}

static int load_single(struct rr_keys *out, const char *option, const char *text, const char *path,
                       struct rr_error *err)
{
    char *content = NULL;
    size_t len = strlen(text);
    int rc = RR_OK;

    if (*path) {
        if (*text)
            return rr_fail(err, RR_EFORMAT, "%s and %s-file: give one of them", option, option);
        rc = rr_file_read(&content, &len, path, MAX_SECRET, RR_MEM_SERVER, err);
        if (rc) return rr_fail_prefix(err, "%s-file", option), rc;
        while (len && strchr("\r\n \t", content[len - 1])) len--;
        if (len == 0 || strcspn(content, "\r\n \t") < len)
            rc = rr_fail(err, RR_EFORMAT, "%s: expected one line with one key", path);
        text = content;
    }
    if (!rc && len) rc = make_single(out, option, text, len, err);
    if (content) explicit_bzero(content, len);
    rr_free(content);
    return rc;
}

/* What the same names had used before. */
static void carry_over(struct ring *fresh, const struct ring *old)
{
    size_t i, k;

    for (i = 0; i < fresh->named.n; i++) {
        struct account *a = &fresh->accounts[i];

        a->tenant = rr_keys_tenant(fresh->named.list[i].name);
        for (k = 0; k < old->named.n; k++)
            if (old->accounts[k].tenant == a->tenant) *a = old->accounts[k];
    }
}

static int load(const struct rr_auth *a, struct ring *r, struct rr_error *err)
{
    const struct rr_auth_config *o = &a->config;
    int rc = load_single(&r->single, "api-key", o->api_key, o->api_key_file, err);

    if (!rc) rc = load_single(&r->admin, "admin-key", o->admin_key, o->admin_key_file, err);
    if (!rc && *o->api_keys_file) rc = rr_keys_read(&r->named, o->api_keys_file, err);
    if (!rc) {
        r->accounts = rr_calloc(RR_MEM_SERVER, r->named.n, sizeof(*r->accounts));
        if (!r->accounts) rc = rr_fail(err, RR_ENOMEM, "keys: out of memory");
    }
    if (rc) drop(r);
    return rc;
}

int rr_auth_reload(struct rr_auth *a, struct rr_error *err)
{
    struct ring fresh = { 0 }, old;
    struct rr_stamp stamps[FILES] = { 0 };
    int rc, i;

    for (i = 0; i < FILES; i++) (void)rr_stamp_take(&stamps[i], a->paths[i]);
    rc = load(a, &fresh, err);
    pthread_mutex_lock(&a->lock);
    memcpy(a->stamps, stamps, sizeof(stamps)); /* a bad file is complained about once */
    if (!rc) {
        carry_over(&fresh, &a->ring);
        old = a->ring;
        a->ring = fresh;
    }
    pthread_mutex_unlock(&a->lock);
    if (!rc) drop(&old);
    return rc;
}

bool rr_auth_poll(struct rr_auth *a, struct rr_error *err)
{
    struct rr_stamp stamps[FILES];
    bool changed = false;
    int i;

    pthread_mutex_lock(&a->lock);
    memcpy(stamps, a->stamps, sizeof(stamps));
    pthread_mutex_unlock(&a->lock);
    for (i = 0; i < FILES; i++) changed |= rr_stamp_take(&stamps[i], a->paths[i]);
    if (!changed) return false;
    *err = (struct rr_error){ 0 };
    err->code = rr_auth_reload(a, err);
    return true;
}

int rr_auth_open(struct rr_auth **out, const struct rr_auth_config *config, struct rr_error *err)
{
    struct rr_auth *a = rr_calloc(RR_MEM_SERVER, 1, sizeof(*a));
    int rc;

    *out = NULL;
    if (!a) return rr_fail(err, RR_ENOMEM, "keys: out of memory");
    a->config = *config;
    a->paths[API_KEY] = config->api_key_file;
    a->paths[API_KEYS] = config->api_keys_file;
    a->paths[ADMIN_KEY] = config->admin_key_file;
    pthread_mutex_init(&a->lock, NULL);
    rc = rr_auth_reload(a, err);
    if (rc) {
        rr_auth_close(a);
        return rc;
    }
    *out = a;
    return RR_OK;
}

void rr_auth_close(struct rr_auth *a)
{
    if (!a) return;
    drop(&a->ring);
    pthread_mutex_destroy(&a->lock);
    rr_free(a);
}

/* ---- limits; the lock is held --------------------------------------------------------------- */

static void refill(struct account *a, const struct rr_key_limits *l)
{
    uint64_t now = rr_now_ns(), today = (uint64_t)rr_unix_time() / DAY;
    double seconds = (double)(now - a->filled_ns) * 1e-9;

    if (!a->filled_ns) seconds = 1e9; /* never used: full */
    a->filled_ns = now;
    a->requests = l->rate > 0 ? fmin(fmax(l->rate, 1), a->requests + seconds * l->rate) : INFINITY;
    a->tokens = l->tokens > 0 ? fmin(l->tokens, a->tokens + seconds * l->tokens) : INFINITY;
    if (a->day == today) return;
    a->day = today;
    a->day_requests = a->day_tokens = 0;
}

/* Seconds until something is left, at least 1. */
static uint32_t wait_for(double missing, double rate)
{
    return (uint32_t)fmin(fmax(ceil(missing / rate), 1), DAY);
}

static bool spend(struct account *a, const struct rr_key_limits *l, struct rr_grant *g)
{
    double now = rr_unix_time();
    uint32_t midnight = DAY - (uint32_t)((uint64_t)now % DAY);

    refill(a, l);
    if (l->day && a->day_requests >= l->day) {
        g->limit = "requests per day";
        g->retry_after = midnight;
    } else if (l->day_tokens && a->day_tokens >= l->day_tokens) {
        g->limit = "tokens per day";
        g->retry_after = midnight;
    } else if (l->rate > 0 && a->requests < 1) {
        g->limit = "requests per second";
        g->retry_after = wait_for(1 - a->requests, l->rate);
    } else if (l->tokens > 0 && a->tokens <= 0) {
        g->limit = "tokens per second";
        g->retry_after = wait_for(-a->tokens, l->tokens);
    } else {
        a->requests -= 1;
        a->day_requests++;
    }
    if (l->rate > 0 || l->day) {
        double burst = fmax(l->rate, 1);
        bool daily = !(l->rate > 0) || (g->limit && g->retry_after == midnight);

        g->rate.known = true;
        g->rate.daily = daily;
        g->rate.limit = daily ? l->day : (uint64_t)burst;
        g->rate.left =
            daily ? l->day - RR_MIN(l->day, a->day_requests) : (uint64_t)fmax(a->requests, 0);
        g->rate.reset = (uint64_t)ceil(now + (daily ? midnight : (burst - a->requests) / l->rate));
    }
    return !g->limit;
}

/* ---- asking ------------------------------------------------------------------------------- */

static enum rr_auth_answer check(struct rr_auth *a, const char *key, enum rr_auth_need need,
                                 bool counted, struct rr_grant *g)
{
    const struct ring *r = &a->ring;
    size_t len = key ? strlen(key) : 0, i;
    bool admin, single;

    if (need == RR_NEED_ADMIN && !r->admin.n) need = RR_NEED_KEY;
    if (need == RR_NEED_KEY && !r->named.n && !r->single.n && !*a->config.api_keys_file)
        return RR_AUTH_YES;
    if (!key) return RR_AUTH_MISSING;
    admin = rr_keys_find(&r->admin, key, len) != SIZE_MAX;
    single = rr_keys_find(&r->single, key, len) != SIZE_MAX;
    i = rr_keys_find(&r->named, key, len);
    if (admin) {
        snprintf(g->name, sizeof(g->name), "admin");
        return RR_AUTH_YES;
    }
    if (!single && i == SIZE_MAX) return RR_AUTH_WRONG;
    if (need == RR_NEED_ADMIN) return RR_AUTH_NOT_FOR_IT;
    if (i == SIZE_MAX) {
        snprintf(g->name, sizeof(g->name), "api-key");
        g->tenant = rr_keys_tenant(g->name);
        return RR_AUTH_YES;
    }
    memcpy(g->name, r->named.list[i].name, sizeof(g->name));
    g->tenant = r->accounts[i].tenant;
    g->max_priority = r->named.list[i].limits.max_priority;
    if (!counted || spend(&r->accounts[i], &r->named.list[i].limits, g)) return RR_AUTH_YES;
    return RR_AUTH_SPENT;
}

enum rr_auth_answer rr_auth_check(struct rr_auth *a, const char *key, enum rr_auth_need need,
                                  bool counted, struct rr_grant *grant)
{
    enum rr_auth_answer answer;

    memset(grant, 0, sizeof(*grant));
    grant->max_priority = RR_PRIORITY_HIGH;
    if (need == RR_NEED_NOTHING) return RR_AUTH_YES;
    pthread_mutex_lock(&a->lock);
    answer = check(a, key, need, counted, grant);
    pthread_mutex_unlock(&a->lock);
    return answer;
}

/* The lock is held.  NULL: it has none, or its key has been taken away. */
static struct account *account_of(struct rr_auth *a, uint64_t tenant)
{
    size_t i;

    for (i = 0; i < a->ring.named.n; i++)
        if (a->ring.accounts[i].tenant == tenant) return &a->ring.accounts[i];
    return NULL;
}

void rr_auth_charge(struct rr_auth *a, uint64_t tenant, uint64_t tokens)
{
    struct account *account;

    if (!tenant || !tokens) return;
    pthread_mutex_lock(&a->lock);
    account = account_of(a, tenant);
    if (account) {
        account->tokens -= (double)tokens;
        account->day_tokens += tokens;
    }
    pthread_mutex_unlock(&a->lock);
}

void rr_auth_forgive(struct rr_auth *a, uint64_t tenant)
{
    struct account *account;

    pthread_mutex_lock(&a->lock);
    account = account_of(a, tenant);
    if (account && account->day_requests) account->day_requests--;
    pthread_mutex_unlock(&a->lock);
}

bool rr_auth_has_keys(struct rr_auth *a)
{
    const struct rr_auth_config *o = &a->config;

    return *o->api_key || *o->api_key_file || *o->api_keys_file;
}

bool rr_auth_has_admin(struct rr_auth *a)
{
    return *a->config.admin_key || *a->config.admin_key_file;
}

bool rr_auth_extract(char *out, size_t cap, const char *authorization)
{
    size_t word = strcspn(authorization, " \t");
    const char *rest = authorization + word + strspn(authorization + word, " \t");
    char *colon;

    if (word == 5 && *rest && strncasecmp(authorization, "Basic", 5) == 0) {
        if (!rr_secret_base64(out, cap, rest)) return false;
        colon = strchr(out, ':');
        if (!colon) return false;
        if (colon[1])
            memmove(out, colon + 1, strlen(colon));
        else
            *colon = 0;
        return *out != 0;
    }
    if (word == 6 && strncasecmp(authorization, "Bearer", 6) == 0) authorization = rest;
    if (!*authorization || strpbrk(authorization, " \t")) return false;
    return snprintf(out, cap, "%s", authorization) < (int)cap;
}
