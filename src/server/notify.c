/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c - see notify.h.  The protocols are those of sd_notify(3) and sd_listen_fds(3). */
#include "server/notify.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "options.h"

#define FIRST_FD 3 /* where systemd puts the sockets it hands over */

static unsigned long long number_of(const char *name)
{
    const char *v = rr_env(name);

    return v ? strtoull(v, NULL, 10) : 0;
}

/* The variable names a process; absent, it is for whoever reads it. */
static bool for_us(const char *name)
{
    return !rr_env(name) || number_of(name) == (unsigned long long)getpid();
}

void rr_notify_open(struct rr_notify *n)
{
    const char *path = rr_env("NOTIFY_SOCKET");
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t len = path ? strlen(path) : 0;

    *n = (struct rr_notify){ .fd = -1 };
    if (len < 2 || len >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@')) return;
    memcpy(to.sun_path, path, len);
    if (path[0] == '@') to.sun_path[0] = 0; /* the abstract name space */
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd < 0) return;
    if (connect(n->fd, (struct sockaddr *)&to,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len))) {
        rr_notify_close(n);
        return;
    }
    if (for_us("WATCHDOG_PID")) n->watchdog_ns = number_of("WATCHDOG_USEC") * 1000;
}

void rr_notify_close(struct rr_notify *n)
{
    if (n->fd >= 0) close(n->fd);
    n->fd = -1;
}

void rr_notify_send(const struct rr_notify *n, const char *fmt, ...)
{
    char text[512];
    va_list args;
    int len;

    if (n->fd < 0) return;
    va_start(args, fmt);
    len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (len < 0) return;
    /* Lost when systemd does not read: the next one says the same or more. */
    (void)!send(n->fd, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1,
                MSG_NOSIGNAL);
}

static bool listens(int fd)
{
    int on = 0;
    socklen_t len = sizeof(on);

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

unsigned rr_notify_listeners(int *first)
{
    unsigned long long given = number_of("LISTEN_FDS");
    unsigned n;

    *first = FIRST_FD;
    if (!rr_env("LISTEN_PID") || !for_us("LISTEN_PID")) return 0;
    for (n = 0; n < given && listens(FIRST_FD + (int)n); n++) {
        (void)fcntl(FIRST_FD + (int)n, F_SETFD, FD_CLOEXEC);
        (void)fcntl(FIRST_FD + (int)n, F_SETFL, O_NONBLOCK);
    }
    return n;
}
