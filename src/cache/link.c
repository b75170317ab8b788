/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - see link.h. */
#include "cache/link.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "cache/replies.h"
#include "cache/value.h"

enum {
    MAX_REQUEST = 8 << 20,  /* bytes of one command or pipeline; our callers stay far below */
    REPLY_PER_KEY = 64,     /* bytes: ours are 27 */
    REPLY_SLACK = 64 << 10, /* for foreign values and long error messages */
};

struct rr_link {
    struct rr_wire *wire;
    struct rr_replies *replies;
    struct rr_buf request;
};

/* ---- commands and replies ------------------------------------------------------------------- */

static void start_command(struct rr_link *l, size_t words)
{
    rr_buf_printf(&l->request, "*%zu\r\n", words);
}

static void add_word(struct rr_link *l, const void *data, size_t len)
{
    rr_buf_printf(&l->request, "$%zu\r\n", len);
    rr_buf_put(&l->request, data, len);
    rr_buf_put(&l->request, "\r\n", 2);
}

static void add_text(struct rr_link *l, const char *word)
{
    add_word(l, word, strlen(word));
}

static int send_request(struct rr_link *l, uint64_t deadline, struct rr_error *err)
{
    int rc =
        l->request.failed ? rr_fail(err, RR_ENOMEM, "out of memory for a request to Redis") : RR_OK;

    if (!rc) rc = rr_wire_send(l->wire, l->request.data, l->request.len, deadline, err);
    rr_buf_clear(&l->request);
    return rc;
}

static int receive_reply(struct rr_link *l, struct rr_reply *out, uint64_t deadline,
                         struct rr_error *err)
{
    char bytes[16384];
    size_t len;
    bool done;
    int rc;

    for (;;) {
        rc = rr_replies_next(l->replies, out, &done, err);
        if (rc || done) return rc;
        rc = rr_wire_receive(l->wire, bytes, sizeof(bytes), &len, deadline, err);
        if (!rc) rc = rr_replies_feed(l->replies, bytes, len, err);
        if (rc) return rc;
    }
}

static int leftover(struct rr_link *l, struct rr_error *err)
{
    if (rr_replies_idle(l->replies)) return RR_OK;
    return rr_fail(err, RR_EFORMAT, "more replies than questions");
}

/* What a server's refusal means for people; the words are those of Redis.  doubt: what an error
 * without a word of its own mostly means. */
static int refuse(const struct rr_reply *reply, const char *command, const char *doubt,
                  struct rr_error *err)
{
    static const struct {
        const char *word, *meaning;
    } known[] = {
        { "LOADING", "the server is still loading its data" },
        { "MOVED", "the server is part of a cluster; a single server or a proxy is expected" },
        { "CROSSSLOT", "the server is part of a cluster; a single server or a proxy is expected" },
        { "CLUSTERDOWN",
          "the server is part of a cluster; a single server or a proxy is expected" },
        { "NOAUTH", "the server wants a password and none was given" },
        { "WRONGPASS", "user or password are wrong, or the user is disabled" },
        { "NOPERM", "the user may not use MGET, SET or SELECT, or not on keys rr:*" },
        { "OOM", "the server's memory is full and its policy evicts nothing" },
        { "READONLY", "the server is a replica that takes no writes" },
        { "MASTERDOWN", "the server is a replica without its primary" },
        { "BUSY", "the server is busy with a script" },
    };
    size_t i;

    for (i = 0; i < RR_COUNT(known); i++)
        if (strcmp(reply->word, known[i].word) == 0)
            return rr_fail(err, RR_EBUSY, "%s: %s", reply->word, known[i].meaning);
    return rr_fail(err, RR_EBUSY, "the server answered %s with an error (%s)%s", command,
                   reply->word[0] ? reply->word : "no code", doubt);
}

static void ignore_value(void *user, size_t index, const char *data, size_t len)
{
    (void)user, (void)index, (void)data, (void)len;
}

/* ---- open ----------------------------------------------------------------------------------- */

static int expect_ok(struct rr_link *l, const char *command, const char *doubt, uint64_t deadline,
                     struct rr_error *err)
{
    struct rr_reply reply;
    int rc = receive_reply(l, &reply, deadline, err);

    if (rc || reply.kind == RR_REPLY_STATUS) return rc;
    if (reply.kind == RR_REPLY_ERROR) return refuse(&reply, command, doubt, err);
    return rr_fail(err, RR_EFORMAT, "a reply of another kind than was asked for");
}

static int log_in(struct rr_link *l, const struct rr_address *to, uint64_t deadline,
                  struct rr_error *err)
{
    char db[16];
    int rc = RR_OK;

    rr_replies_expect(l->replies, 0, REPLY_SLACK, ignore_value, NULL);
    if (to->password[0]) {
        start_command(l, to->user[0] ? 3 : 2);
        add_text(l, "AUTH");
        if (to->user[0]) add_text(l, to->user);
        add_text(l, to->password);
        rc = send_request(l, deadline, err);
        if (!rc) rc = expect_ok(l, "AUTH", ": it wants no password, or another one", deadline, err);
    }
    if (!rc && to->db) {
        (void)snprintf(db, sizeof(db), "%u", (unsigned)to->db);
        start_command(l, 2);
        add_text(l, "SELECT");
        add_text(l, db);
        rc = send_request(l, deadline, err);
        if (!rc) rc = expect_ok(l, "SELECT", ": it has no database of that number", deadline, err);
    }
    return rc ? rc : leftover(l, err);
}

int rr_link_open(struct rr_link **out, const struct rr_address *to, struct rr_wire_tls *tls,
                 uint64_t deadline, struct rr_error *err)
{
    struct rr_link *l = rr_calloc(RR_MEM_CACHE, 1, sizeof(*l));
    int rc;

    *out = NULL;
    if (!l) return rr_fail(err, RR_ENOMEM, "out of memory for a connection to Redis");
    rr_buf_init(&l->request, RR_MEM_CACHE, MAX_REQUEST);
    rc = rr_replies_open(&l->replies, err);
    if (!rc) rc = rr_wire_open(&l->wire, to, tls, deadline, err);
    if (!rc) rc = log_in(l, to, deadline, err);
    if (rc) {
        rr_link_close(l);
        return rc;
    }
    *out = l;
    return RR_OK;
}

void rr_link_close(struct rr_link *l)
{
    if (!l) return;
    rr_wire_close(l->wire);
    rr_replies_close(l->replies);
    rr_buf_free(&l->request);
    rr_free(l);
}

bool rr_link_quiet(const struct rr_link *l)
{
    return rr_wire_quiet(l->wire);
}

/* ---- look up -------------------------------------------------------------------------------- */

struct look_up {
    const struct rr_key *keys;
    struct rr_cached *out;
    bool *hit;
    struct rr_found *found;
};

static void take_value(void *user, size_t i, const char *data, size_t len)
{
    struct look_up *u = user;

    u->hit[i] = data && rr_value_decode(&u->out[i], u->keys[i], data, len);
    if (u->hit[i])
        u->found->hits++;
    else
        u->found->invalid++;
}

int rr_link_get(struct rr_link *l, const struct rr_key *keys, size_t n, struct rr_cached *out,
                bool *hit, struct rr_found *found, uint64_t deadline, struct rr_error *err)
{
    struct look_up u = { keys, out, hit, found };
    struct rr_reply reply = { 0 };
    char name[RR_KEY_CHARS];
    size_t i;
    int rc;

    *found = (struct rr_found){ 0 };
    start_command(l, n + 1);
    add_text(l, "MGET");
    for (i = 0; i < n; i++) {
        hit[i] = false;
        rr_value_key(name, keys[i]);
        add_word(l, name, sizeof(name));
    }
    rr_replies_expect(l->replies, n, n * REPLY_PER_KEY + REPLY_SLACK, take_value, &u);
    rc = send_request(l, deadline, err);
    if (!rc) rc = receive_reply(l, &reply, deadline, err);
    if (!rc) rc = leftover(l, err);
    if (!rc && reply.kind == RR_REPLY_ERROR) rc = refuse(&reply, "MGET", "", err);
    if (!rc && reply.kind != RR_REPLY_ARRAY)
        rc = rr_fail(err, RR_EFORMAT, "a reply of another kind than was asked for");
    return rc;
}

/* ---- store ---------------------------------------------------------------------------------- */

int rr_link_set(struct rr_link *l, const struct rr_key *keys, const struct rr_cached *values,
                size_t n, uint32_t ttl_seconds, size_t *refused, struct rr_refusal *why,
                uint64_t deadline, struct rr_error *err)
{
    unsigned char value[RR_VALUE_BYTES];
    char name[RR_KEY_CHARS], ttl[16];
    struct rr_reply reply;
    size_t i;
    int rc;

    *refused = 0;
    (void)snprintf(ttl, sizeof(ttl), "%u", (unsigned)ttl_seconds);
    for (i = 0; i < n; i++) {
        rr_value_key(name, keys[i]);
        rr_value_encode(value, keys[i], values[i]);
        start_command(l, 5);
        add_text(l, "SET");
        add_word(l, name, sizeof(name));
        add_word(l, value, sizeof(value));
        add_text(l, "EX");
        add_text(l, ttl);
    }
    rr_replies_expect(l->replies, 0, n * 4 * REPLY_PER_KEY + REPLY_SLACK, ignore_value, NULL);
    rc = send_request(l, deadline, err);
    for (i = 0; i < n && !rc; i++) {
        rc = receive_reply(l, &reply, deadline, err);
        if (!rc && reply.kind == RR_REPLY_ERROR) {
            ++*refused;
            memcpy(why->word, reply.word, sizeof(why->word));
        } else if (!rc && reply.kind != RR_REPLY_STATUS) {
            rc = rr_fail(err, RR_EFORMAT, "a reply of another kind than was asked for");
        }
    }
    return rc ? rc : leftover(l, err);
}
