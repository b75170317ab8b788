/* SPDX-License-Identifier: Apache-2.0 */
/* rerank_types.h - the few types that every layer shares: status codes, errors, text views.
 * Needs the C standard library only; usable from C++. */
#ifndef RERANK_TYPES_H
#define RERANK_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Every function that can fail returns one of these; 0 is success. */
enum rr_status {
    RR_OK = 0,
    RR_EINVAL,     /* the caller passed something that can never work */
    RR_EFORMAT,    /* a file or message is malformed */
    RR_ENOTSUP,    /* well-formed, but a kind that is not supported */
    RR_ENOENT,     /* file or folder not found */
    RR_EIO,        /* the operating system reported an error */
    RR_ENOMEM,     /* out of memory, or the memory plan does not fit */
    RR_ETOOBIG,    /* a documented limit was passed */
    RR_EBUSY,      /* the queue is full; try again later */
    RR_ETIMEDOUT,  /* the deadline passed */
    RR_ECANCELED,  /* the caller cancelled */
    RR_ECLOSED,    /* the engine is shutting down */
    RR_EDEVICE,    /* the compute device failed */
    RR_ENONFINITE, /* a score was NaN or infinite; no score is ever invented */
    RR_EINTERNAL   /* a bug: an invariant did not hold */
};

/* An error as filled in at the place where it was found.  msg is one line of UTF-8 that says what
 * was found, what was expected and, where it helps, what to do; it never contains request text. */
struct rr_error {
    int code; /* enum rr_status */
    char msg[508];
};

/* A view of UTF-8 text.  Not zero-terminated; NUL bytes are ordinary content.  Owns nothing. */
struct rr_text {
    const char *data;
    size_t len; /* bytes */
};

/* Where scores are shared between servers (Redis, Valkey).  It never makes a request fail or wait
 * longer than its deadline. */
struct rr_shared_cache {
    const char *url;           /* redis://[[user:]password@]host[:port][/db], rediss://..., or
                                  unix:/path[?db=N] */
    const char *password_file; /* its first line replaces the URL's password; read again at each
                                  connection; NULL: none */
    const char *ca_file;       /* PEM, for rediss://; NULL: the system's authorities */
    uint32_t ttl_seconds;      /* 0: 3600 */
    uint64_t deadline_ns;      /* for one look-up of a request; 0: 5 ms */
};

#ifdef __cplusplus
}
#endif
#endif
