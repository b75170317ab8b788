/* SPDX-License-Identifier: Apache-2.0 */
/* body.h - the bytes of a request as a JSON tree: what is refused before and while they are read.
 * Layer: server (L6).  Threads: pure on what they are given. */
#ifndef RR_SERVER_BODY_H
#define RR_SERVER_BODY_H

#include <jansson.h>

#include "base/buf.h"
#include "server/problem.h"

struct rr_body_rules {
    unsigned max_depth;
    size_t max_documents;
    bool replace; /* what is not Unicode becomes U+FFFD; false: it is refused */
};

/* Values of the headers Content-Type and Content-Encoding, NULL when there was none: 0, or -1 with
 * 415 for what cannot be JSON in UTF-8.  A missing type, and those that clients send out of habit,
 * count as JSON. */
int rr_body_media(const char *type, const char *encoding, struct rr_problem *p);

/* Parses the body, an object with no key twice; its bytes are freed or changed on the way.  0:
 * *root is the caller's, and *replaced counts the characters that became U+FFFD.  -1 with a
 * problem. */
int rr_body_read(struct rr_buf *body, const struct rr_body_rules *rules, json_t **root,
                 size_t *replaced, struct rr_problem *p);

#endif
