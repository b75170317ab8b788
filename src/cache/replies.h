/* SPDX-License-Identifier: Apache-2.0 */
/* replies.h - bytes from a Redis server in, replies out; nothing is allocated for a reply.
 * Layer: cache (L1).  Threads: one at a time.
 *
 * The only place that knows hiredis.  It accepts the replies that our commands can have: a status,
 * an error, a nil, a number, a string, or one flat array as long as was asked for.  Anything else
 * is malformed, and so is a reply longer than it may be. */
#ifndef RR_CACHE_REPLIES_H
#define RR_CACHE_REPLIES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_replies;

struct rr_reply {
    enum { RR_REPLY_OTHER, RR_REPLY_STATUS, RR_REPLY_ERROR, RR_REPLY_ARRAY } kind;
    char word[24]; /* of an error: its first word, capitals only, such as LOADING */
};

/* One string of an array: data is valid during the call.  Nil elements are not reported; elements
 * of other types are, with data NULL. */
typedef void rr_reply_value_fn(void *user, size_t index, const char *data, size_t len);

RR_NODISCARD int rr_replies_open(struct rr_replies **out, struct rr_error *err);
void rr_replies_close(struct rr_replies *r); /* NULL is allowed */

/* The next reply, if it is an array, has n elements, and the reply at most limit bytes. */
void rr_replies_expect(struct rr_replies *r, size_t n, size_t limit, rr_reply_value_fn *on_value,
                       void *user);
/* Takes bytes from the server. */
RR_NODISCARD int rr_replies_feed(struct rr_replies *r, const char *data, size_t len,
                                 struct rr_error *err);
/* *done: a whole reply was there and is in *out.  RR_EFORMAT: nothing after it can be trusted. */
RR_NODISCARD int rr_replies_next(struct rr_replies *r, struct rr_reply *out, bool *done,
                                 struct rr_error *err);
/* After a whole reply: no byte is left over. */
bool rr_replies_idle(const struct rr_replies *r);

#endif
