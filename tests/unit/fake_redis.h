/* SPDX-License-Identifier: Apache-2.0 */
/* fake_redis.h - a small Redis on a thread that can misbehave on command.  It knows MGET, SET, AUTH
 * and SELECT, and keeps what SET stores. */
#ifndef FAKE_REDIS_H
#define FAKE_REDIS_H

#include <stdbool.h>
#include <stddef.h>

enum fake_mode {
    FAKE_GOOD,
    FAKE_SILENT,       /* reads, never answers */
    FAKE_LATE,         /* answers MGET when the mode is another one */
    FAKE_CUT,          /* closes in the middle of the answer to MGET */
    FAKE_BYTEWISE,     /* answers byte by byte */
    FAKE_GARBAGE,      /* answers what is no RESP */
    FAKE_HUGE_BULK,    /* announces a string of 2 GB */
    FAKE_HUGE_ARRAY,   /* announces 2^31 elements */
    FAKE_FLOOD,        /* sends elements without end */
    FAKE_SHORT_ARRAY,  /* one element less than keys */
    FAKE_NESTED,       /* arrays in the array */
    FAKE_NUMBERS,      /* integers in the array */
    FAKE_NOT_ARRAY,    /* a status */
    FAKE_RESP3,        /* a map */
    FAKE_EXTRA,        /* a second reply that nobody asked for */
    FAKE_WRONG_LENGTH, /* values are one byte short */
    FAKE_FLIPPED,      /* one bit of each value is wrong */
    FAKE_SWAPPED,      /* each value is that of the next key */
    FAKE_ERROR         /* answers everything with the error text */
};

struct fake_redis;

/* port 0: any.  password NULL: none is wanted.  NULL: the port is taken. */
struct fake_redis *fake_redis_start(int port, const char *password);
void fake_redis_stop(struct fake_redis *f);
int fake_redis_port(const struct fake_redis *f);
/* error: for FAKE_ERROR, a literal such as "-LOADING ..." */
void fake_redis_mode(struct fake_redis *f, enum fake_mode mode, const char *error);
unsigned fake_redis_connections(struct fake_redis *f); /* accepted so far */
size_t fake_redis_stored(struct fake_redis *f);        /* different keys */
unsigned fake_redis_db(struct fake_redis *f);          /* last SELECT */

#endif
