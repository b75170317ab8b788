/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_redis.c - any bytes as the reply of a Redis server to MGET, in pieces, and as its URL.
 *
 * Byte 0 chooses the number of keys, byte 1 the size of the pieces (0: the rest is a URL).  A score
 * may come out only where the right value for this key went in, and nothing read after an error. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cache/address.h"
#include "cache/replies.h"
#include "cache/value.h"

enum { LIMIT = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct asked {
    size_t n, answered;
};

static struct rr_key key_of(size_t i)
{
    return (struct rr_key){ i, ~(uint64_t)i };
}

static void on_value(void *user, size_t index, const char *data, size_t len)
{
    struct asked *a = user;
    unsigned char again[RR_VALUE_BYTES];
    struct rr_cached v;

    if (index >= a->n || ++a->answered > a->n || len > LIMIT) abort();
    if (!data || !rr_value_decode(&v, key_of(index), data, len)) return;
    if (!isfinite(v.logit)) abort();
    rr_value_encode(again, key_of(index), v);
    if (memcmp(again, data, len) != 0) abort();
}

static void fuzz_reply(const uint8_t *data, size_t size, size_t n, size_t piece)
{
    struct asked asked = { n, 0 };
    struct rr_replies *r;
    struct rr_reply reply;
    struct rr_error err;
    bool done = false;
    size_t at = 0;
    int rc = rr_replies_open(&r, &err);

    if (rc) abort();
    rr_replies_expect(r, n, LIMIT, on_value, &asked);
    while (!rc && at < size) {
        size_t step = RR_MIN(piece, size - at);

        rc = rr_replies_feed(r, (const char *)data + at, step, &err);
        at += step;
        for (done = true; !rc && done;) {
            rc = rr_replies_next(r, &reply, &done, &err);
            if (rc || !done) break;
            if (reply.kind > RR_REPLY_ARRAY || strlen(reply.word) >= sizeof(reply.word)) abort();
            asked.answered = 0;
        }
    }
    if (rc && (rc != RR_EFORMAT || !err.msg[0])) abort();
    rr_replies_close(r);
}

static void fuzz_address(const uint8_t *data, size_t size)
{
    char *url = malloc(size + 1), name[300];
    struct rr_address a;
    struct rr_error err;

    if (!url) return;
    memcpy(url, data, size);
    url[size] = 0;
    if (!rr_address_parse(&a, url, &err)) {
        rr_address_name(&a, name, sizeof(name));
        if (!a.host[0] || (!a.local && (atoi(a.port) < 1 || atoi(a.port) > 65535))) abort();
    } else if (err.code != RR_EINVAL || strchr(err.msg, '\n')) {
        abort();
    }
    free(url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    if (data[1] == 0)
        fuzz_address(data + 2, size - 2);
    else
        fuzz_reply(data + 2, size - 2, data[0] % 33, data[1]);
    return 0;
}
