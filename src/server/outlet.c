/* SPDX-License-Identifier: Apache-2.0 */
/* outlet.c - see outlet.h. */
#include "server/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"

#define BURST_SECONDS 10

void rr_outlet_open(struct rr_outlet *o, int fd)
{
    char path[40];
    struct stat st;

    *o = (struct rr_outlet){ .fd = fd };
    pthread_mutex_init(&o->lock, NULL);
    if (fstat(fd, &st)) return;
    o->socket = S_ISSOCK(st.st_mode);
    if (!S_ISFIFO(st.st_mode) && !isatty(fd)) return;
    /* O_NONBLOCK belongs to the open file, which a shell may share: so it is opened once more.
     * Where that is not allowed, the original has to do. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return;
    o->fd = fd;
    o->ours = true;
}

void rr_outlet_close(struct rr_outlet *o)
{
    if (o->ours) close(o->fd);
    pthread_mutex_destroy(&o->lock);
    *o = (struct rr_outlet){ .fd = -1 };
}

static ssize_t put(const struct rr_outlet *o, const char *data, size_t len)
{
    ssize_t n;

    do {
        n = o->socket ? send(o->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                      : write(o->fd, data, len);
    } while (n < 0 && errno == EINTR);
    return n;
}

bool rr_outlet_write(struct rr_outlet *o, const char *line, size_t len)
{
    ssize_t n = 0;

    pthread_mutex_lock(&o->lock);
    /* The rest of a torn line is lost; what follows must begin a line. */
    if (o->torn && put(o, "\n", 1) == 1) o->torn = false;
    if (!o->torn) n = put(o, line, len);
    if (n > 0 && (size_t)n < len) o->torn = true;
    pthread_mutex_unlock(&o->lock);
    return n == (ssize_t)len;
}

bool rr_limit_take(struct rr_limit *l, uint32_t rate, uint64_t now_ns, uint64_t *missed)
{
    double most = (double)rate * BURST_SECONDS;

    *missed = 0;
    if (rate) {
        if (l->last_ns)
            l->tokens += (double)(now_ns - l->last_ns) / (double)RR_SECOND * rate;
        else
            l->tokens = most;
        l->last_ns = now_ns;
        l->tokens = RR_MIN(l->tokens, most);
        if (l->tokens < 1) {
            l->dropped++;
            return false;
        }
        l->tokens -= 1;
    }
    *missed = l->dropped;
    l->dropped = 0;
    return true;
}
