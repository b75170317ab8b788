/* SPDX-License-Identifier: Apache-2.0 */
/* http_get.h - asks an HTTP/1.1 server one question.  Layer: cli (L6).  Threads: any. */
#ifndef RR_CLI_HTTP_GET_H
#define RR_CLI_HTTP_GET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_url {
    char host[256]; /* without the brackets of IPv6 */
    char port[8];
    char path[1024]; /* begins with '/' */
};

/* Takes "http://HOST[:PORT][/PATH]" apart; RR_EINVAL says what is wrong with another text. */
RR_NODISCARD int rr_url_parse(struct rr_url *out, const char *text, struct rr_error *err);

/* A connected, non-blocking socket for the caller to close, or -1.  All addresses are tried. */
RR_NODISCARD int rr_http_connect(const struct rr_url *url, uint64_t deadline_ns, int *fd,
                                 struct rr_error *err);

/* Waits until fd is ready for events (of poll); false when the deadline has passed. */
bool rr_http_wait(int fd, short events, uint64_t deadline_ns);

/* Sends all of it. */
RR_NODISCARD int rr_http_send(int fd, const char *data, size_t len, uint64_t deadline_ns,
                              struct rr_error *err);

/* GETs url and gives the status of the answer; the rest of the answer is not read.  All addresses
 * of the host are tried.  deadline_ns is a time of rr_now_ns; looking up a name may pass it.
 * RR_EIO: not reachable; RR_ETIMEDOUT; RR_EFORMAT: what came is not HTTP. */
RR_NODISCARD int rr_http_get(const struct rr_url *url, uint64_t deadline_ns, int *status,
                             struct rr_error *err);

#endif
