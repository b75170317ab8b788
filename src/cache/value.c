/* SPDX-License-Identifier: Apache-2.0 */
/* value.c - see value.h. */
#include "cache/value.h"

#include <math.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { VERSION = 1, TRUNCATED = 1, CHECK_AT = 16 };

static void put_le(unsigned char *out, uint64_t v, int bytes)
{
    int i;

    for (i = 0; i < bytes; i++) out[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get_le(const unsigned char *in, int bytes)
{
    uint64_t v = 0;

    while (bytes) v = v << 8 | in[--bytes];
    return v;
}

void rr_value_key(char out[RR_KEY_CHARS], struct rr_key key)
{
    static const char digits[] = "0123456789abcdef";
    int i;

    memcpy(out, "rr:1:", 5);
    for (i = 0; i < 16; i++) {
        out[5 + i] = digits[key.hi >> (60 - 4 * i) & 15];
        out[21 + i] = digits[key.lo >> (60 - 4 * i) & 15];
    }
}

static uint64_t check_of(struct rr_key key, const unsigned char *value)
{
    unsigned char bytes[16 + CHECK_AT];

    put_le(bytes, key.lo, 8);
    put_le(bytes + 8, key.hi, 8);
    memcpy(bytes + 16, value, CHECK_AT);
    return XXH3_64bits(bytes, sizeof(bytes));
}

void rr_value_encode(unsigned char out[RR_VALUE_BYTES], struct rr_key key, struct rr_cached value)
{
    uint32_t bits;

    memcpy(&bits, &value.logit, sizeof(bits));
    put_le(out, VERSION | (uint32_t)(value.truncated ? TRUNCATED : 0) << 8, 4);
    put_le(out + 4, bits, 4);
    put_le(out + 8, value.tokens, 4);
    put_le(out + 12, value.full_tokens, 4);
    put_le(out + CHECK_AT, check_of(key, out), 8);
}

bool rr_value_decode(struct rr_cached *out, struct rr_key key, const char *data, size_t len)
{
    const unsigned char *in = (const unsigned char *)data;
    uint32_t bits;
    float logit;

    if (len != RR_VALUE_BYTES || get_le(in + CHECK_AT, 8) != check_of(key, in)) return false;
    if (in[0] != VERSION || in[1] > TRUNCATED || in[2] || in[3] || in[11] > 0x7F) return false;
    bits = (uint32_t)get_le(in + 4, 4);
    memcpy(&logit, &bits, sizeof(logit));
    if (!isfinite(logit)) return false;
    *out = (struct rr_cached){ .logit = logit,
                               .tokens = get_le(in + 8, 4) & INT32_MAX,
                               .truncated = in[1] & TRUNCATED,
                               .full_tokens = (uint32_t)get_le(in + 12, 4) };
    return true;
}
