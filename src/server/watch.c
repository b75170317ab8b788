/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c - see watch.h.
 * An event may be read from epoll just before its entry is removed and the descriptor used again.
 * So events carry descriptor and generation, and are matched under the lock. */
#include "server/watch.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#define STOP UINT64_MAX

struct rr_watch {
    pthread_mutex_t lock;      /* guards all below but epoll, wakeup, events, gone, user, thread */
    struct rr_watched **by_fd; /* [cap] */
    size_t cap;
    struct rr_watched *first, *last; /* newest and oldest */
    size_t listed;
    uint32_t generation;
    int epoll, wakeup;
    uint32_t events;
    rr_gone_fn *gone;
    void *user;
    pthread_t thread;
};

static void handle(struct rr_watch *w, uint64_t data)
{
    size_t fd = (size_t)(data & UINT32_MAX);
    struct rr_watched *entry;

    pthread_mutex_lock(&w->lock);
    entry = fd < w->cap ? w->by_fd[fd] : NULL;
    if (entry && entry->generation == (uint32_t)(data >> 32))
        w->gone(w->user, entry, RR_GONE_CLIENT);
    pthread_mutex_unlock(&w->lock);
}

static void *run(void *arg)
{
    struct rr_watch *w = arg;
    struct epoll_event events[64];
    int n, i;

    for (;;) {
        n = epoll_wait(w->epoll, events, (int)RR_COUNT(events), -1);
        if (n < 0 && errno != EINTR) return NULL;
        for (i = 0; i < n; i++) {
            if (events[i].data.u64 == STOP) return NULL;
            handle(w, events[i].data.u64);
        }
    }
}

static int open_descriptors(struct rr_watch *w, struct rr_error *err)
{
    struct epoll_event stop = { .events = EPOLLIN, .data.u64 = STOP };

    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll < 0) return rr_fail(err, RR_EIO, "epoll_create: %s", strerror(errno));
    w->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wakeup < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wakeup, &stop))
        return rr_fail(err, RR_EIO, "eventfd: %s", strerror(errno));
    return RR_OK;
}

static void free_watch(struct rr_watch *w)
{
    if (w->epoll >= 0) close(w->epoll);
    if (w->wakeup >= 0) close(w->wakeup);
    pthread_mutex_destroy(&w->lock);
    rr_free(w->by_fd);
    rr_free(w);
}

int rr_watch_open(struct rr_watch **out, bool half_close, rr_gone_fn *gone, void *user,
                  struct rr_error *err)
{
    struct rr_watch *w = rr_calloc(RR_MEM_SERVER, 1, sizeof(*w));
    int rc;

    *out = NULL;
    if (!w) return rr_fail(err, RR_ENOMEM, "watch: out of memory");
    w->epoll = w->wakeup = -1;
    w->gone = gone;
    w->user = user;
    /* EPOLLHUP and EPOLLERR (a reset) come unasked.  An entry is told only once. */
    w->events = EPOLLONESHOT | (half_close ? 0 : EPOLLRDHUP);
    pthread_mutex_init(&w->lock, NULL);
    rc = open_descriptors(w, err);
    if (!rc && pthread_create(&w->thread, NULL, run, w))
        rc = rr_fail(err, RR_EIO, "cannot start a thread");
    if (rc) {
        free_watch(w);
        return rc;
    }
    *out = w;
    return RR_OK;
}

void rr_watch_close(struct rr_watch *w)
{
    uint64_t one = 1;

    if (!w) return;
    if (write(w->wakeup, &one, sizeof(one)) == (ssize_t)sizeof(one)) pthread_join(w->thread, NULL);
    free_watch(w);
}

/* w->lock is held. */
static bool grow(struct rr_watch *w, size_t fd)
{
    size_t cap = w->cap ? w->cap : 64;
    struct rr_watched **bigger;

    while (cap <= fd) cap *= 2;
    if (cap == w->cap) return true;
    bigger = rr_realloc(RR_MEM_SERVER, w->by_fd, cap, sizeof(struct rr_watched *));
    if (!bigger) return false;
    memset(bigger + w->cap, 0, (cap - w->cap) * sizeof(struct rr_watched *));
    w->by_fd = bigger;
    w->cap = cap;
    return true;
}

void rr_watch_add(struct rr_watch *w, struct rr_watched *entry, int fd)
{
    struct epoll_event event = { .events = w->events };

    pthread_mutex_lock(&w->lock);
    entry->fd = fd;
    entry->listed = true;
    entry->since_ns = rr_now_ns();
    entry->prev = NULL;
    entry->next = w->first;
    if (w->first)
        w->first->prev = entry;
    else
        w->last = entry;
    w->first = entry;
    w->listed++;
    entry->generation = ++w->generation;
    /* Without memory or a socket the request is computed to its end, as if nobody had looked. */
    if (fd >= 0 && grow(w, (size_t)fd)) {
        w->by_fd[fd] = entry;
        event.data.u64 = (uint64_t)entry->generation << 32 | (uint32_t)fd;
        (void)epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event);
    }
    pthread_mutex_unlock(&w->lock);
}

void rr_watch_remove(struct rr_watch *w, struct rr_watched *entry)
{
    pthread_mutex_lock(&w->lock);
    if (entry->listed) {
        entry->listed = false;
        w->listed--;
        if (entry->next)
            entry->next->prev = entry->prev;
        else
            w->last = entry->prev;
        if (entry->prev)
            entry->prev->next = entry->next;
        else
            w->first = entry->next;
        if (entry->fd >= 0 && (size_t)entry->fd < w->cap && w->by_fd[entry->fd] == entry) {
            w->by_fd[entry->fd] = NULL;
            (void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, entry->fd, NULL);
        }
    }
    pthread_mutex_unlock(&w->lock);
}

size_t rr_watch_listed(struct rr_watch *w)
{
    size_t n;

    pthread_mutex_lock(&w->lock);
    n = w->listed;
    pthread_mutex_unlock(&w->lock);
    return n;
}

uint64_t rr_watch_oldest_ns(struct rr_watch *w)
{
    uint64_t ns;

    pthread_mutex_lock(&w->lock);
    ns = w->last ? w->last->since_ns : 0;
    pthread_mutex_unlock(&w->lock);
    return ns;
}

void rr_watch_all_gone(struct rr_watch *w)
{
    struct rr_watched *entry;

    pthread_mutex_lock(&w->lock);
    for (entry = w->first; entry; entry = entry->next) w->gone(w->user, entry, RR_GONE_DRAIN);
    pthread_mutex_unlock(&w->lock);
}
