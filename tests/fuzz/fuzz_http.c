/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_http.c - any bytes over a Unix socket to http.h, with an application that answers at once.
 * Whatever comes, the application sees well-formed requests only, and the connection ends. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "server/frame.h"
#include "server/http.h"

#define MAX_BODY 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/tmp/fuzz_http.XXXXXX";
static struct sockaddr_un at = { .sun_family = AF_UNIX };
static struct rr_http *http;
static const struct rr_nets everybody;

static int begin(void *user, struct rr_exchange *x)
{
    (void)user;
    if (!rr_frame_id(x->request_id) || strlen(x->path) >= RR_PATH_MAX || x->body.len) abort();
    if (rr_http_given(x, "Host", 1) || rr_http_given(x, "Content-Length", 1)) abort();
    return 0;
}

static void refuse(void *user, struct rr_exchange *x, unsigned status, const char *why)
{
    (void)user;
    (void)why;
    if (status < 400) abort();
    x->status = status;
}

static enum rr_http_next request(void *user, struct rr_exchange *x)
{
    (void)user;
    if (x->body.len > MAX_BODY) abort();
    x->status = 200;
    rr_buf_puts(&x->reply, "{}");
    return RR_HTTP_REPLY;
}

static void finish(void *user, struct rr_exchange *x)
{
    (void)user;
    (void)x;
}

static void end(void *user, struct rr_exchange *x, bool sent)
{
    (void)user;
    (void)x;
    (void)sent;
}

static void ended(void *user, enum rr_conn_end why)
{
    (void)user;
    (void)why;
}

static void tick(void *user)
{
    (void)user;
}

static void stop(void)
{
    rr_http_close(http);
    unlink(at.sun_path);
    rmdir(folder);
}

static void start(void)
{
    struct rr_http_app app = { NULL, begin, refuse, request, finish, end, ended, tick };
    struct rr_http_config config = { .host = "127.0.0.1",
                                     .unix_path = at.sun_path,
                                     .unix_mode = 0600,
                                     .admin = "",
                                     .threads = 1,
                                     .max_connections = 100,
                                     .idle_seconds = 10,
                                     .header_ns = 10000000000u,
                                     .write_ns = 10000000000u,
                                     .min_rate = 1,
                                     .max_body = MAX_BODY,
                                     .allow = &everybody,
                                     .trusted = &everybody };
    struct rr_error err;

    if (!mkdtemp(folder)) abort();
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/s", folder);
    if (rr_http_open(&http, &config, &app, &err) || rr_http_start(http, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    atexit(stop);
}

/* Reads until the other side closes, or for so long.  False: it did not. */
static bool drain(int fd, time_t seconds, suseconds_t micros)
{
    struct timeval limit = { seconds, micros };
    char waste[4096];
    ssize_t n;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    while ((n = recv(fd, waste, sizeof(waste), 0)) > 0) continue;
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd;

    if (size > 60000) return 0; /* fits into the socket's buffer: nobody waits for the other */
    if (!http) start();
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)(const void *)&at, sizeof(at))) abort();
    (void)!send(fd, data, size, MSG_NOSIGNAL);
    if (!drain(fd, 0, 1000)) { /* it waits for more: there is none */
        (void)shutdown(fd, SHUT_WR);
        if (!drain(fd, 15, 0)) abort(); /* it hangs */
    }
    close(fd);
    return 0;
}
