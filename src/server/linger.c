/* SPDX-License-Identifier: Apache-2.0 */
/* linger.c - see linger.h. */
#include "server/linger.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#define MAX_LINGERING 64 /* a flood of refused uploads must not eat the descriptors */
#define LINGER_NS (2 * RR_SECOND)

struct rr_linger {
    pthread_mutex_t lock; /* guards sockets, ends, n, stop */
    int sockets[MAX_LINGERING];
    uint64_t ends[MAX_LINGERING];
    unsigned n;
    bool stop;
    int wakeup; /* eventfd */
    pthread_t thread;
};

static void drop(struct rr_linger *l, unsigned i)
{
    close(l->sockets[i]);
    l->n--;
    l->sockets[i] = l->sockets[l->n];
    l->ends[i] = l->ends[l->n];
}

/* True when the socket has nothing more to say. */
static bool drained(int fd)
{
    char waste[16384];
    ssize_t got;
    int round;

    for (round = 0; round < 16; round++) { /* bounded, so that one fast sender cannot hold us */
        got = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);
        if (got > 0) continue;
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
        return true;
    }
    return false;
}

/* Drops the sockets that are through; l->lock is held.  Returns the time until the next end. */
static int sweep(struct rr_linger *l)
{
    uint64_t now = rr_now_ns(), next = UINT64_MAX;
    unsigned i = 0;

    while (i < l->n) {
        if (l->ends[i] <= now || drained(l->sockets[i])) {
            drop(l, i);
            continue;
        }
        next = RR_MIN(next, l->ends[i]);
        i++;
    }
    return l->n ? (int)((next - now) / RR_MILLISECOND) + 1 : -1;
}

static void *run(void *arg)
{
    struct rr_linger *l = arg;
    struct pollfd fds[MAX_LINGERING + 1];
    int timeout = -1;
    uint64_t count;
    unsigned i, n;

    for (;;) {
        pthread_mutex_lock(&l->lock);
        timeout = sweep(l);
        n = l->n;
        for (i = 0; i < n; i++) fds[i + 1] = (struct pollfd){ l->sockets[i], POLLIN, 0 };
        if (l->stop) break;
        pthread_mutex_unlock(&l->lock);
        fds[0] = (struct pollfd){ l->wakeup, POLLIN, 0 };
        if (poll(fds, n + 1, timeout) > 0 && fds[0].revents &&
            read(l->wakeup, &count, sizeof(count)) < 0)
            continue; /* only a spurious wake-up */
    }
    while (l->n) drop(l, 0);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void poke(struct rr_linger *l)
{
    uint64_t one = 1;

    if (write(l->wakeup, &one, sizeof(one)) < 0) return; /* full: it will wake up anyway */
}

int rr_linger_open(struct rr_linger **out, struct rr_error *err)
{
    struct rr_linger *l = rr_calloc(RR_MEM_SERVER, 1, sizeof(*l));

    *out = NULL;
    if (!l) return rr_fail(err, RR_ENOMEM, "linger: out of memory");
    l->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wakeup < 0) {
        rr_free(l);
        return rr_fail(err, RR_EIO, "eventfd: %s", strerror(errno));
    }
    pthread_mutex_init(&l->lock, NULL);
    if (pthread_create(&l->thread, NULL, run, l)) {
        close(l->wakeup);
        rr_free(l);
        return rr_fail(err, RR_EIO, "cannot start a thread: %s", strerror(errno));
    }
    *out = l;
    return RR_OK;
}

void rr_linger_close(struct rr_linger *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_mutex_unlock(&l->lock);
    poke(l);
    pthread_join(l->thread, NULL);
    pthread_mutex_destroy(&l->lock);
    close(l->wakeup);
    rr_free(l);
}

void rr_linger_add(struct rr_linger *l, int fd)
{
    int copy = -1;

    pthread_mutex_lock(&l->lock);
    if (l->n < MAX_LINGERING) copy = dup(fd);
    if (copy >= 0) {
        l->sockets[l->n] = copy;
        l->ends[l->n++] = rr_now_ns() + LINGER_NS;
    }
    pthread_mutex_unlock(&l->lock);
    if (copy >= 0) poke(l);
}
