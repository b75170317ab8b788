/* SPDX-License-Identifier: Apache-2.0 */
/* replies.c - see replies.h.
 *
 * hiredis builds objects through functions that we give it; ours write what they see into the
 * struct and return it as the "object".  Returning NULL makes the reader refuse the reply. */
#include "cache/replies.h"

#include <hiredis/hiredis.h>
#include <hiredis/read.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#if HIREDIS_MAJOR < 1
typedef int length; /* of an array */
#else
typedef size_t length;
#endif

struct rr_replies {
    redisReader *reader;
    struct rr_reply now; /* the reply being read */
    size_t expected, limit, fed;
    rr_reply_value_fn *on_value;
    void *user;
};

/* The first word of an error, when it looks like one of the server's codes.  The rest may quote
 * what was sent, and goes nowhere. */
static void keep_word(struct rr_reply *out, const char *s, size_t len)
{
    size_t i;

    for (i = 0; i < len && i + 1 < sizeof(out->word); i++) {
        if (!(s[i] >= 'A' && s[i] <= 'Z')) break;
        out->word[i] = s[i];
    }
    out->word[i] = 0;
}

static void *on_element(const redisReadTask *task, const char *data, size_t len)
{
    struct rr_replies *r = task->privdata;

    if (task->type == REDIS_REPLY_STRING)
        r->on_value(r->user, (size_t)task->idx, data, len);
    else
        r->on_value(r->user, (size_t)task->idx, NULL, 0);
    return r;
}

static void *on_string(const redisReadTask *task, char *data, size_t len)
{
    struct rr_replies *r = task->privdata;

    if (task->parent) return on_element(task, data, len);
    r->now.kind = RR_REPLY_OTHER;
    if (task->type == REDIS_REPLY_STATUS) r->now.kind = RR_REPLY_STATUS;
    if (task->type == REDIS_REPLY_ERROR) {
        r->now.kind = RR_REPLY_ERROR;
        keep_word(&r->now, data, len);
    }
    return r;
}

static void *on_array(const redisReadTask *task, length elements)
{
    struct rr_replies *r = task->privdata;

    if (task->type != REDIS_REPLY_ARRAY) return NULL; /* a map, a set: nobody asked for RESP3 */
    if (task->parent || (size_t)elements != r->expected || !elements) return NULL;
    r->now.kind = RR_REPLY_ARRAY;
    return r;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    struct rr_replies *r = task->privdata;

    (void)value;
    if (task->parent) return on_element(task, NULL, 0);
    r->now.kind = RR_REPLY_OTHER;
    return r;
}

static void *on_nil(const redisReadTask *task)
{
    struct rr_replies *r = task->privdata;

    if (!task->parent) r->now.kind = RR_REPLY_OTHER;
    return r;
}

int rr_replies_open(struct rr_replies **out, struct rr_error *err)
{
    static redisReplyObjectFunctions functions = { .createString = on_string,
                                                   .createArray = on_array,
                                                   .createInteger = on_integer,
                                                   .createNil = on_nil };
    struct rr_replies *r = rr_calloc(RR_MEM_CACHE, 1, sizeof(*r));

    *out = r;
    if (r) r->reader = redisReaderCreateWithFunctions(&functions);
    if (!r || !r->reader) {
        rr_replies_close(r);
        *out = NULL;
        return rr_fail(err, RR_ENOMEM, "out of memory for a connection to Redis");
    }
    r->reader->privdata = r;
    return RR_OK;
}

void rr_replies_close(struct rr_replies *r)
{
    if (!r) return;
    if (r->reader) redisReaderFree(r->reader);
    rr_free(r);
}

void rr_replies_expect(struct rr_replies *r, size_t n, size_t limit, rr_reply_value_fn *on_value,
                       void *user)
{
    r->expected = n;
    r->limit = limit;
    r->fed = r->reader->len - r->reader->pos;
    r->on_value = on_value;
    r->user = user;
}

int rr_replies_feed(struct rr_replies *r, const char *data, size_t len, struct rr_error *err)
{
    r->fed += len;
    if (r->fed > r->limit)
        return rr_fail(err, RR_EFORMAT, "a reply of over %zu bytes, more than was asked for",
                       r->limit);
    if (redisReaderFeed(r->reader, data, len) != REDIS_OK)
        return rr_fail(err, RR_ENOMEM, "out of memory for a reply");
    return RR_OK;
}

int rr_replies_next(struct rr_replies *r, struct rr_reply *out, bool *done, struct rr_error *err)
{
    void *object = NULL;

    *done = false;
    if (redisReaderGetReply(r->reader, &object) != REDIS_OK)
        return rr_fail(err, RR_EFORMAT, "a reply that is malformed or answers something else");
    if (!object) return RR_OK;
    *done = true;
    *out = r->now;
    memset(&r->now, 0, sizeof(r->now));
    return RR_OK;
}

bool rr_replies_idle(const struct rr_replies *r)
{
    return r->reader->pos == r->reader->len;
}
