/* SPDX-License-Identifier: Apache-2.0 */
/* http_post.c - see http_post.h.  Source: RFC 9112, sections 6 (length of a body) and 7.1
 * (chunks). */
#include "cli/http_post.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#define ANSWER_LIMIT ((size_t)256 << 20)
#define MAX_KEY_BYTES 4096
#define READ_BYTES 65536

int rr_http_key(char **out, const char *path, struct rr_error *err)
{
    size_t len;
    int rc = RR_OK;

    *out = NULL;
    if (*path) rc = rr_file_read(out, &len, path, MAX_KEY_BYTES, RR_MEM_MISC, err);
    if (*out) (*out)[strcspn(*out, " \t\r\n")] = 0;
    return rc;
}

void rr_http_post_init(struct rr_http_post *c, const struct rr_url *url)
{
    memset(c, 0, sizeof(*c));
    c->url = url;
    rr_buf_init(&c->in, RR_MEM_MISC, ANSWER_LIMIT);
    rr_buf_init(&c->out, RR_MEM_MISC, ANSWER_LIMIT);
}

static void disconnect(struct rr_http_post *c)
{
    if (c->open) close(c->fd);
    c->open = false;
}

void rr_http_post_close(struct rr_http_post *c)
{
    disconnect(c);
    rr_buf_free(&c->in);
    rr_buf_free(&c->out);
}

/* More of the answer: RR_OK, or RR_ECLOSED at the end of the connection. */
static int read_more(struct rr_http_post *c, uint64_t deadline_ns, struct rr_error *err)
{
    char reason[128];

    for (;;) {
        char *room = rr_buf_reserve(&c->in, READ_BYTES + 1);
        ssize_t n;

        if (!room) return rr_fail(err, RR_ENOMEM, "out of memory for the answer");
        n = recv(c->fd, room, READ_BYTES, 0);
        if (n > 0) {
            c->in.len += (size_t)n;
            c->in.data[c->in.len] = 0;
            return RR_OK;
        }
        if (n == 0) return rr_fail(err, RR_ECLOSED, "the connection was closed within the answer");
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            return rr_fail(err, RR_EIO, "%s", strerror_r(errno, reason, sizeof(reason)));
        if (!rr_http_wait(c->fd, POLLIN, deadline_ns))
            return rr_fail(err, RR_ETIMEDOUT, "no answer in time");
    }
}

/* The value of a header of the head in[0 .. head), NULL if it is not there. */
static const char *header(const struct rr_http_post *c, size_t head, const char *name)
{
    const char *line = c->in.data, *end = line + head;
    size_t len = strlen(name);

    while ((line = memchr(line, '\n', (size_t)(end - line))) && ++line < end) {
        if (strncasecmp(line, name, len) != 0 || line[len] != ':') continue;
        line += len + 1;
        return line + strspn(line, " \t");
    }
    return NULL;
}

static int read_length(struct rr_http_post *c, size_t head, const char *value, uint64_t deadline_ns,
                       struct rr_text *reply, struct rr_error *err)
{
    size_t length = strtoul(value, NULL, 10);
    int rc = RR_OK;

    if (!isdigit((unsigned char)*value) || length > ANSWER_LIMIT)
        return rr_fail(err, RR_EFORMAT, "Content-Length: found \"%.20s\"", value);
    while (!rc && c->in.len < head + length) rc = read_more(c, deadline_ns, err);
    *reply = (struct rr_text){ c->in.data + head, length };
    return rc;
}

/* Chunks are moved together where they lie. */
static int read_chunks(struct rr_http_post *c, size_t head, uint64_t deadline_ns,
                       struct rr_text *reply, struct rr_error *err)
{
    size_t at = head, len = 0; /* next byte to look at; bytes of the body so far */

    for (;;) {
        const char *end;
        size_t size;
        int rc = RR_OK;

        while (!rc && !(at <= c->in.len && (end = strstr(c->in.data + at, "\r\n"))))
            rc = read_more(c, deadline_ns, err);
        if (rc) return rc;
        if (!isxdigit((unsigned char)c->in.data[at]))
            return rr_fail(err, RR_EFORMAT, "the answer has a chunk without a size");
        size = strtoul(c->in.data + at, NULL, 16);
        at = (size_t)(end - c->in.data) + 2;
        if (size > ANSWER_LIMIT) return rr_fail(err, RR_EFORMAT, "the answer is too long");
        while (!rc && c->in.len < at + size + 2) rc = read_more(c, deadline_ns, err);
        if (rc) return rc;
        memmove(c->in.data + head + len, c->in.data + at, size);
        len += size;
        at += size + 2;
        if (size == 0) break;
    }
    *reply = (struct rr_text){ c->in.data + head, len };
    return RR_OK;
}

static int read_answer(struct rr_http_post *c, uint64_t deadline_ns, int *status,
                       struct rr_text *reply, struct rr_error *err)
{
    const char *end = NULL, *value;
    size_t head;
    int rc = RR_OK;

    rr_buf_clear(&c->in);
    do {
        rc = read_more(c, deadline_ns, err);
        if (rc) return rc;
        end = strstr(c->in.data, "\r\n\r\n");
    } while (!end);
    head = (size_t)(end - c->in.data) + 4;
    if (strncmp(c->in.data, "HTTP/1.", 7) != 0 || head < 16)
        return rr_fail(err, RR_EFORMAT, "the answer is not HTTP/1.1");
    *status = (int)strtol(c->in.data + 9, NULL, 10);
    if ((value = header(c, head, "Content-Length")))
        rc = read_length(c, head, value, deadline_ns, reply, err);
    else if ((value = header(c, head, "Transfer-Encoding")))
        rc = read_chunks(c, head, deadline_ns, reply, err);
    else
        return rr_fail(err, RR_EFORMAT, "the answer has no length");
    value = header(c, head, "Connection");
    if (rc || (value && strncasecmp(value, "close", 5) == 0)) disconnect(c);
    return rc;
}

static int exchange(struct rr_http_post *c, uint64_t deadline_ns, int *status,
                    struct rr_text *reply, struct rr_error *err)
{
    int rc = RR_OK;

    if (!c->open) {
        rc = rr_http_connect(c->url, deadline_ns, &c->fd, err);
        c->open = rc == RR_OK;
    }
    if (!rc) rc = rr_http_send(c->fd, c->out.data, c->out.len, deadline_ns, err);
    if (!rc) rc = read_answer(c, deadline_ns, status, reply, err);
    if (rc) disconnect(c);
    return rc;
}

static void put_head(struct rr_http_post *c, const char *method, const char *path)
{
    const struct rr_url *u = c->url;
    bool v6 = strchr(u->host, ':') != NULL;

    rr_buf_clear(&c->out);
    rr_buf_printf(&c->out, "%s %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nUser-Agent: rerankd-bench\r\n",
                  method, path, v6 ? "[" : "", u->host, v6 ? "]" : "", u->port);
    if (c->key) rr_buf_printf(&c->out, "Authorization: Bearer %s\r\n", c->key);
}

static int ask(struct rr_http_post *c, uint64_t deadline_ns, int *status, struct rr_text *reply,
               struct rr_error *err)
{
    bool kept = c->open;
    struct rr_text unused;
    int rc;

    *status = 0;
    if (c->out.failed) return rr_fail(err, RR_ENOMEM, "out of memory for the request");
    rc = exchange(c, deadline_ns, status, reply ? reply : &unused, err);
    /* A server may close a connection that was idle, just when we begin to use it again. */
    if ((rc == RR_EIO || rc == RR_ECLOSED) && kept && c->in.len == 0)
        rc = exchange(c, deadline_ns, status, reply ? reply : &unused, err);
    if (rc == RR_ECLOSED) err->code = rc = RR_EIO;
    return rc;
}

int rr_http_post(struct rr_http_post *c, struct rr_text body, uint64_t deadline_ns, int *status,
                 struct rr_text *reply, struct rr_error *err)
{
    put_head(c, "POST", c->url->path);
    rr_buf_printf(&c->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                  body.len);
    rr_buf_put(&c->out, body.data, body.len);
    return ask(c, deadline_ns, status, reply, err);
}

int rr_http_fetch(struct rr_http_post *c, const char *path, uint64_t deadline_ns, int *status,
                  struct rr_text *reply, struct rr_error *err)
{
    put_head(c, "GET", path);
    rr_buf_puts(&c->out, "\r\n");
    return ask(c, deadline_ns, status, reply, err);
}
