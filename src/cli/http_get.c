/* SPDX-License-Identifier: Apache-2.0 */
/* http_get.c - a GET over plain sockets, with a deadline.  Layer: cli (L6).  Threads: any.
 * Source: RFC 9112, sections 3 and 4. */
#include "cli/http_get.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define STATUS_LINE_BYTES 512 /* more than any server sends before the first line's end */

/* ---- URL ------------------------------------------------------------------------------------ */

static bool copy_part(char *out, size_t cap, const char *from, size_t len)
{
    if (len >= cap) return false;
    memcpy(out, from, len);
    out[len] = 0;
    return true;
}

static bool is_port(const char *s, size_t len)
{
    size_t i;

    for (i = 0; i < len && isdigit((unsigned char)s[i]); i++) continue;
    return len > 0 && len <= 5 && i == len && strtol(s, NULL, 10) <= 65535;
}

int rr_url_parse(struct rr_url *out, const char *text, struct rr_error *err)
{
    static const char form[] = "expected http://HOST[:PORT][/PATH]";
    const char *host, *end, *rest;
    size_t i, len;

    for (i = 0; text[i]; i++) {
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7F)
            return rr_fail(err, RR_EINVAL, "URL: found a space or control character, %s", form);
    }
    if (strncasecmp(text, "https://", 8) == 0)
        return rr_fail(err, RR_EINVAL,
                       "URL: https is not supported; ask the server itself, "
                       "behind whatever adds TLS, by http://");
    if (strncasecmp(text, "http://", 7) != 0)
        return rr_fail(err, RR_EINVAL, "URL: found \"%.100s\", %s", text, form);
    host = text + 7;
    end = host + strcspn(host, "/?#");
    if (memchr(host, '@', (size_t)(end - host)))
        return rr_fail(err, RR_EINVAL, "URL: user names are not supported, %s", form);
    if (*host == '[') { /* [::1]:8002 */
        len = strcspn(++host, "]");
        rest = host + len + 1;
        if (rest > end) return rr_fail(err, RR_EINVAL, "URL: a [ without ], %s", form);
    } else {
        len = RR_MIN(strcspn(host, ":"), (size_t)(end - host));
        rest = host + len;
    }
    if (len == 0 || !copy_part(out->host, sizeof(out->host), host, len))
        return rr_fail(err, RR_EINVAL, "URL: no host, or one that is too long, %s", form);
    if (rest == end) {
        snprintf(out->port, sizeof(out->port), "80");
    } else if (*rest != ':' || !is_port(rest + 1, (size_t)(end - rest) - 1) ||
               !copy_part(out->port, sizeof(out->port), rest + 1, (size_t)(end - rest) - 1)) {
        return rr_fail(err, RR_EINVAL, "URL: found port \"%.*s\", expected 0 to 65535",
                       (int)RR_MIN(end - rest, 20), rest);
    }
    len = strcspn(end, "#"); /* a fragment is not sent */
    if ((size_t)snprintf(out->path, sizeof(out->path), "%s%.*s", *end == '/' ? "" : "/", (int)len,
                         end) >= sizeof(out->path))
        return rr_fail(err, RR_EINVAL, "URL: longer than 1000 bytes");
    return RR_OK;
}

/* ---- exchange ------------------------------------------------------------------------------- */

bool rr_http_wait(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd p = { .fd = fd, .events = events };
    uint64_t now, left_ms;
    int n;

    do {
        now = rr_now_ns();
        if (now >= deadline_ns) return false;
        left_ms = (deadline_ns - now) / RR_MILLISECOND + 1;
        n = poll(&p, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

/* A connected socket, or -1 with errno. */
static int connect_to(const struct addrinfo *a, uint64_t deadline_ns)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    int e = 0;
    socklen_t size = sizeof(e);

    if (fd < 0) return -1;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) return fd;
    e = errno;
    if (e == EINPROGRESS) {
        e = ETIMEDOUT;
        if (rr_http_wait(fd, POLLOUT, deadline_ns) &&
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &size) != 0)
            e = errno;
    }
    if (!e) return fd;
    close(fd);
    errno = e;
    return -1;
}

int rr_http_connect(const struct rr_url *url, uint64_t deadline_ns, int *fd, struct rr_error *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
    int rc = getaddrinfo(url->host, url->port, &hints, &list);
    char text[128];
    int e = 0;

    *fd = -1;
    if (rc) return rr_fail(err, RR_EIO, "cannot find host %.100s: %s", url->host, gai_strerror(rc));
    for (a = list; a && *fd < 0; a = a->ai_next) {
        *fd = connect_to(a, deadline_ns);
        if (*fd < 0) e = errno;
    }
    freeaddrinfo(list);
    if (*fd >= 0) return RR_OK;
    if (e == ETIMEDOUT) return rr_fail(err, RR_ETIMEDOUT, "no connection in time");
    if (e == ECONNREFUSED)
        return rr_fail(err, RR_EIO,
                       "Connection refused: nothing listens on port %s there; start rerankd serve, "
                       "or give the port that it prints at start",
                       url->port);
    return rr_fail(err, RR_EIO, "%s", strerror_r(e, text, sizeof(text)));
}

int rr_http_send(int fd, const char *data, size_t len, uint64_t deadline_ns, struct rr_error *err)
{
    char reason[128];
    size_t at = 0;

    while (at < len) {
        ssize_t n = send(fd, data + at, len - at, MSG_NOSIGNAL);

        if (n > 0) {
            at += (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
            if (!rr_http_wait(fd, POLLOUT, deadline_ns))
                return rr_fail(err, RR_ETIMEDOUT, "the request was not taken in time");
        } else {
            return rr_fail(err, RR_EIO, "%s", strerror_r(errno, reason, sizeof(reason)));
        }
    }
    return RR_OK;
}

static int send_request(int fd, const struct rr_url *url, uint64_t deadline_ns,
                        struct rr_error *err)
{
    char text[1600];
    bool v6 = strchr(url->host, ':') != NULL;
    size_t len = (size_t)snprintf(text, sizeof(text),
                                  "GET %s HTTP/1.1\r\nHost: %s%s%s:%s\r\n"
                                  "User-Agent: rerankd-healthcheck\r\nConnection: close\r\n\r\n",
                                  url->path, v6 ? "[" : "", url->host, v6 ? "]" : "", url->port);

    return rr_http_send(fd, text, len, deadline_ns, err);
}

/* "HTTP/1.1 200 OK". */
static int parse_status(const char *line, int *status, struct rr_error *err)
{
    if (strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) || line[8] != ' ' ||
        line[9] < '1' || line[9] > '5' || !isdigit((unsigned char)line[10]) ||
        !isdigit((unsigned char)line[11]) || (line[12] != ' ' && line[12] != '\r'))
        return rr_fail(err, RR_EFORMAT, "the answer is not HTTP/1.1");
    *status = (int)strtol(line + 9, NULL, 10);
    return RR_OK;
}

static int read_status(int fd, uint64_t deadline_ns, int *status, struct rr_error *err)
{
    char line[STATUS_LINE_BYTES + 1], reason[128];
    size_t len = 0;

    for (;;) {
        ssize_t n = recv(fd, line + len, STATUS_LINE_BYTES - len, 0);

        if (n > 0) {
            len += (size_t)n;
            line[len] = 0;
            if (strstr(line, "\r\n")) return parse_status(line, status, err);
            if (len == STATUS_LINE_BYTES || strlen(line) < len)
                return rr_fail(err, RR_EFORMAT, "the answer is not HTTP/1.1");
        } else if (n == 0) {
            return rr_fail(err, RR_EFORMAT,
                           len ? "the answer is not HTTP/1.1"
                               : "the connection was closed without an answer");
        } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
            if (!rr_http_wait(fd, POLLIN, deadline_ns))
                return rr_fail(err, RR_ETIMEDOUT, "no answer in time");
        } else {
            return rr_fail(err, RR_EIO, "%s", strerror_r(errno, reason, sizeof(reason)));
        }
    }
}

int rr_http_get(const struct rr_url *url, uint64_t deadline_ns, int *status, struct rr_error *err)
{
    int fd, rc = rr_http_connect(url, deadline_ns, &fd, err);

    *status = 0;
    if (!rc) rc = send_request(fd, url, deadline_ns, err);
    if (!rc) rc = read_status(fd, deadline_ns, status, err);
    if (fd >= 0) close(fd);
    return rc;
}
