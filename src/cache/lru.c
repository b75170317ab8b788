/* SPDX-License-Identifier: Apache-2.0 */
/* lru.c - see lru.h.
 *
 * A shard is two arrays: slots with the entries, doubly linked in order of use, and buckets with
 * the first slot of each hash chain.  Indices are 32-bit, 0 means none (slot 0 is the list's head).
 * Nothing is allocated after open.
 *
 * Keys are hashes that a client can compute, so it could choose texts whose keys agree in some
 * bits.  Shard and bucket come from rr_key_hash, which nobody outside can foresee. */
#include "cache/lru.h"

#include <pthread.h>

#include "base/err.h"
#include "base/mem.h"

enum { SHARDS = 16 };

struct slot {
    struct rr_key key;
    struct rr_cached value;
    uint32_t newer, older; /* list in order of use; circular through slot 0 */
    uint32_t chain;        /* next slot of the same bucket */
};

struct shard {
    pthread_mutex_t lock;
    struct slot *slots; /* [n_slots + 1] */
    uint32_t *buckets;  /* [mask + 1] */
    uint32_t n_slots, used, mask;
    uint64_t hits, misses, evictions;
};

struct rr_lru {
    struct shard shards[SHARDS];
    uint32_t n_open; /* shards whose lock exists */
};

static size_t slots_bytes(const struct shard *s)
{
    return ((size_t)s->n_slots + 1) * sizeof(*s->slots);
}

static size_t buckets_bytes(const struct shard *s)
{
    return ((size_t)s->mask + 1) * sizeof(*s->buckets);
}

static int shard_open(struct shard *s, size_t bytes)
{
    size_t per_entry = sizeof(struct slot) + 2 * sizeof(uint32_t); /* load factor 1/2 to 1 */
    size_t n = bytes / per_entry;

    n = RR_MIN(n, (size_t)UINT32_MAX / 2);
    s->n_slots = (uint32_t)n;
    for (s->mask = 1; s->mask + 1 < s->n_slots; s->mask = s->mask * 2 + 1) {
    }
    s->slots = rr_pages_alloc(RR_MEM_CACHE, slots_bytes(s));
    s->buckets = rr_pages_alloc(RR_MEM_CACHE, buckets_bytes(s));
    return s->slots && s->buckets ? RR_OK : RR_ENOMEM;
}

static void shard_close(struct shard *s)
{
    rr_pages_free(RR_MEM_CACHE, s->slots, slots_bytes(s));
    rr_pages_free(RR_MEM_CACHE, s->buckets, buckets_bytes(s));
    pthread_mutex_destroy(&s->lock);
}

int rr_lru_open(struct rr_lru **out, size_t bytes, struct rr_error *err)
{
    size_t least = SHARDS * 2 * sizeof(struct slot);
    struct rr_lru *c;

    *out = NULL;
    if (bytes < least)
        return rr_fail(err, RR_EINVAL, "a cache of %zu bytes, at least %zu are needed", bytes,
                       least);
    c = rr_calloc(RR_MEM_CACHE, 1, sizeof(*c));
    if (!c) return rr_fail(err, RR_ENOMEM, "out of memory for the cache");
    for (c->n_open = 0; c->n_open < SHARDS;) {
        struct shard *s = &c->shards[c->n_open++];

        pthread_mutex_init(&s->lock, NULL);
        if (shard_open(s, bytes / SHARDS)) {
            rr_lru_close(c);
            return rr_fail(err, RR_ENOMEM, "out of memory for a cache of %zu MiB: lower cache-size",
                           bytes >> 20);
        }
    }
    *out = c;
    return RR_OK;
}

void rr_lru_close(struct rr_lru *c)
{
    if (!c) return;
    while (c->n_open) shard_close(&c->shards[--c->n_open]);
    rr_free(c);
}

static struct shard *shard_of(struct rr_lru *c, uint64_t hash)
{
    return &c->shards[hash >> 60];
}

static uint32_t *bucket_of(const struct shard *s, uint64_t hash)
{
    return &s->buckets[hash >> 24 & s->mask];
}

static void list_remove(struct shard *s, uint32_t i)
{
    s->slots[s->slots[i].newer].older = s->slots[i].older;
    s->slots[s->slots[i].older].newer = s->slots[i].newer;
}

/* As the most recently used. */
static void list_add(struct shard *s, uint32_t i)
{
    struct slot *head = &s->slots[0];

    s->slots[i].newer = 0;
    s->slots[i].older = head->older;
    s->slots[head->older].newer = i;
    head->older = i;
}

static uint32_t find(const struct shard *s, struct rr_key key, uint64_t hash)
{
    uint32_t i = *bucket_of(s, hash);

    while (i && !rr_key_eq(s->slots[i].key, key)) i = s->slots[i].chain;
    return i;
}

static void unchain(struct shard *s, uint32_t victim)
{
    uint32_t *at = bucket_of(s, rr_key_hash(s->slots[victim].key));

    while (*at != victim) at = &s->slots[*at].chain;
    *at = s->slots[victim].chain;
}

bool rr_lru_get(struct rr_lru *c, struct rr_key key, struct rr_cached *out)
{
    uint64_t hash = rr_key_hash(key);
    struct shard *s = shard_of(c, hash);
    uint32_t i;

    pthread_mutex_lock(&s->lock);
    i = find(s, key, hash);
    if (i) {
        *out = s->slots[i].value;
        list_remove(s, i);
        list_add(s, i);
        s->hits++;
    } else {
        s->misses++;
    }
    pthread_mutex_unlock(&s->lock);
    return i != 0;
}

/* A free slot, or the one of the least recently used entry. */
static uint32_t take_slot(struct shard *s)
{
    uint32_t i;

    if (s->used < s->n_slots) return ++s->used;
    i = s->slots[0].newer;
    unchain(s, i);
    list_remove(s, i);
    s->evictions++;
    return i;
}

void rr_lru_put(struct rr_lru *c, struct rr_key key, struct rr_cached value)
{
    uint64_t hash = rr_key_hash(key);
    struct shard *s = shard_of(c, hash);
    uint32_t i, *bucket;

    pthread_mutex_lock(&s->lock);
    i = find(s, key, hash);
    if (i) {
        list_remove(s, i);
    } else {
        i = take_slot(s);
        s->slots[i].key = key;
        bucket = bucket_of(s, hash);
        s->slots[i].chain = *bucket;
        *bucket = i;
    }
    s->slots[i].value = value;
    list_add(s, i);
    pthread_mutex_unlock(&s->lock);
}

void rr_lru_stats(struct rr_lru *c, struct rr_lru_stats *out)
{
    uint32_t i;

    *out = (struct rr_lru_stats){ 0 };
    for (i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];

        pthread_mutex_lock(&s->lock);
        out->hits += s->hits;
        out->misses += s->misses;
        out->evictions += s->evictions;
        out->entries += s->used;
        pthread_mutex_unlock(&s->lock);
    }
    out->bytes = out->entries * (sizeof(struct slot) + 2 * sizeof(uint32_t));
}
