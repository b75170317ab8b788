/* SPDX-License-Identifier: Apache-2.0 */
/* keys.h - the file of named API keys: reading, changing, writing.
 * Layer: server (L6).  Threads: pure.
 *
 *     salt 0f1e...                                   16 bytes, in hexadecimal
 *     key NAME HASH [rate=N] [tokens=N] [day=N] [day-tokens=N] [priority=low|normal|high]
 *
 * Only hashes are kept: HMAC-SHA-256 of the key, with the salt.  Keys made here have 192 random
 * bits, so nothing slower is needed. */
#ifndef RR_SERVER_KEYS_H
#define RR_SERVER_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "rerank_types.h"

#define RR_KEY_NAME_MAX 63
#define RR_KEY_HASH 32
#define RR_KEY_SALT 16
#define RR_KEY_TEXT (3 + 48 + 1) /* "rk_", 24 bytes in hexadecimal, 0 */
#define RR_KEYS_MAX 2000

struct rr_key_limits {        /* 0: none */
    double rate, tokens;      /* requests and tokens in a second */
    uint64_t day, day_tokens; /* requests and tokens in a day, by UTC */
    int max_priority;         /* enum rr_priority */
};

struct rr_key {
    char name[RR_KEY_NAME_MAX + 1];
    uint8_t hash[RR_KEY_HASH];
    struct rr_key_limits limits;
};

struct rr_keys {
    uint8_t salt[RR_KEY_SALT];
    struct rr_key *list; /* [n] */
    size_t n, cap;
};

/* Reads text, or the file.  RR_EFORMAT with "where:line: found, expected"; a missing file is
 * RR_ENOENT.  *out is to be freed with rr_keys_free, also after an error. */
RR_NODISCARD int rr_keys_parse(struct rr_keys *out, const char *text, size_t len, const char *where,
                               struct rr_error *err);
RR_NODISCARD int rr_keys_read(struct rr_keys *out, const char *path, struct rr_error *err);
void rr_keys_free(struct rr_keys *keys);

/* A set without keys and with a fresh salt. */
RR_NODISCARD int rr_keys_init(struct rr_keys *out, struct rr_error *err);

/* "rate=10": one limit.  RR_EFORMAT with where in front. */
RR_NODISCARD int rr_keys_limit(struct rr_key_limits *limits, const char *word, size_t len,
                               const char *where, struct rr_error *err);

/* Makes a key; text gets it, this one time.  RR_EINVAL: the name is bad or taken. */
RR_NODISCARD int rr_keys_add(struct rr_keys *keys, const char *name,
                             const struct rr_key_limits *limits, char text[RR_KEY_TEXT],
                             struct rr_error *err);
bool rr_keys_remove(struct rr_keys *keys, const char *name); /* false: no such name */

void rr_keys_put(const struct rr_keys *keys, struct rr_buf *out); /* as the file has it */
void rr_keys_put_limits(const struct rr_key_limits *limits, struct rr_buf *out); /* " rate=10" */

/* Writes the file with mode 0600: all of it or nothing. */
RR_NODISCARD int rr_keys_write(const struct rr_keys *keys, const char *path, struct rr_error *err);

/* Stands for whoever has a key of that name; never 0. */
uint64_t rr_keys_tenant(const char *name);

/* The key among them, or SIZE_MAX.  Takes the same time for any text of that length. */
size_t rr_keys_find(const struct rr_keys *keys, const char *text, size_t len);

#endif
