/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h - what a request's head must look like beyond what the HTTP library insists on.
 * Layer: server (L6).  Threads: pure.
 *
 * Two readers of the same bytes must see the same requests in them, else one of them can be fooled
 * (request smuggling).  The library forgives bare line feeds, folded lines, blanks around names and
 * NULs; here they are errors. */
#ifndef RR_SERVER_FRAME_H
#define RR_SERVER_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#include "server/http.h"

#define RR_HEAD_MAX 16384  /* bytes of request line and headers */
#define RR_TARGET_MAX 8192 /* bytes of the request target */
#define RR_HEADERS_MAX 100 /* header lines */

struct rr_frame { /* what the headers say, collected by rr_frame_header */
    const char *length, *transfer, *expect, *request_id, *host;
    unsigned lengths, transfers, hosts, expects, n;
    bool bad_name, bad_value;
};

void rr_frame_header(struct rr_frame *f, const char *name, const char *value);

/* NULL, or what is wrong; *status is then 400, 431 or 501.  version: "HTTP/1.1". */
const char *rr_frame_problem(const struct rr_frame *f, const char *version, unsigned *status);

/* The head as the library leaves it in memory: [version] at its place in the request line, end one
 * past the empty line.  The library has put a 0 over the colon of each header and over each byte
 * of a line end, so a correct head ends every line with two, and anything else shows.  NULL, or
 * what is wrong. */
const char *rr_frame_lines(const char *version, const char *end);

/* The target as it came.  NULL, or what is wrong; *status is then 400 or 414. */
const char *rr_frame_target(const char *target, unsigned *status);

/* Is its path written as the path of a route is: no "http://host", no percent-encoding, no double
 * slash, none at the end? */
bool rr_frame_plain(const char *target);

/* X-Request-Id: [A-Za-z0-9._-]{1,128}. */
bool rr_frame_id(const char *id);

enum rr_method rr_frame_method(const char *name);

/* True for a token as in RFC 9110, section 5.6.2: what methods and names of headers are. */
bool rr_frame_token(const char *s);

/* The path of a decoded target: without "http://host", single slashes, none at the end.  False: it
 * does not fit. */
bool rr_frame_path(char out[RR_PATH_MAX], const char *target, enum rr_method method);

#endif
