/* SPDX-License-Identifier: Apache-2.0 */
/* http_post.h - sends one request after the other over one kept connection.  Layer: cli (L6).
 * Threads: one for each connection. */
#ifndef RR_CLI_HTTP_POST_H
#define RR_CLI_HTTP_POST_H

#include "base/buf.h"
#include "cli/http_get.h"

struct rr_http_post { /* zero-initialized: not connected */
    const struct rr_url *url;
    const char *key; /* sent as a bearer token; NULL: none.  The caller's */
    int fd;          /* valid while open */
    bool open;
    struct rr_buf in;  /* what has come of the answer */
    struct rr_buf out; /* the request */
};

/* The first word of a file, for key; path "": NULL, none.  *out is the caller's, to be freed with
 * rr_free. */
RR_NODISCARD int rr_http_key(char **out, const char *path, struct rr_error *err);

void rr_http_post_init(struct rr_http_post *c, const struct rr_url *url);
void rr_http_post_close(struct rr_http_post *c);

/* Sends a JSON body and reads the whole answer; connects when needed, once more when the server has
 * closed a kept connection.  reply (may be NULL) is valid until the next call.
 * RR_EIO, RR_ETIMEDOUT, RR_EFORMAT: no answer. */
RR_NODISCARD int rr_http_post(struct rr_http_post *c, struct rr_text body, uint64_t deadline_ns,
                              int *status, struct rr_text *reply, struct rr_error *err);

/* The same for a GET of path, an absolute one, at the host of the URL. */
RR_NODISCARD int rr_http_fetch(struct rr_http_post *c, const char *path, uint64_t deadline_ns,
                               int *status, struct rr_text *reply, struct rr_error *err);

#endif
