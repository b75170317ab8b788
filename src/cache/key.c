/* SPDX-License-Identifier: Apache-2.0 */
/* key.c - see key.h. */
#include "cache/key.h"

#include <pthread.h>
#include <sys/random.h>

#include "base/clock.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static struct rr_key to_key(XXH128_hash_t h)
{
    return (struct rr_key){ h.low64, h.high64 };
}

/* The query's hash is hashed again with the context, instead of streaming both: equal strength, and
 * no state to allocate. */
struct rr_key rr_key_prefix(const struct rr_key_context *context, struct rr_text query)
{
    XXH128_hash_t q = XXH3_128bits(query.data, query.len);
    uint64_t words[5] = { context->fingerprint,
                          (uint64_t)context->max_length << 32 | context->flags, query.len, q.low64,
                          q.high64 };

    return to_key(XXH3_128bits(words, sizeof(words)));
}

struct rr_key rr_key_pair(struct rr_key prefix, struct rr_text document)
{
    XXH128_hash_t d = XXH3_128bits(document.data, document.len);
    uint64_t words[5] = { prefix.lo, prefix.hi, document.len, d.low64, d.high64 };

    return to_key(XXH3_128bits(words, sizeof(words)));
}

/* ---- places in tables ---------------------------------------------------------------------- */

static uint64_t secret[2]; /* odd; constant after secret_once */
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
    if (getrandom(secret, sizeof(secret), GRND_NONBLOCK) != sizeof(secret))
        secret[0] = secret[1] = rr_now_ns(); /* early at boot: better than nothing */
    secret[0] |= 1;
    secret[1] |= 1;
}

/* Both halves of the 128-bit product of the key's halves, each under a secret. */
uint64_t rr_key_hash(struct rr_key key)
{
    unsigned __int128 p;
    uint64_t folded;

    pthread_once(&secret_once, make_secret);
    p = (unsigned __int128)(key.lo ^ secret[0]) * (key.hi ^ secret[1]);
    folded = (uint64_t)p ^ (uint64_t)(p >> 64);
    return (folded ^ folded >> 32) * secret[0];
}
