/* SPDX-License-Identifier: Apache-2.0 */
/* conns.c - see conns.h.
 * What a client has sent or read is known from the kernel (TCP_INFO), so it costs a request next to
 * nothing to be watched.  Of Unix sockets it is not known; there only bodies are measured. */
#include "server/conns.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#define SWEEP_MS 1000
#define SLICE 256                  /* descriptors looked at without letting others in */
#define BODY_GRACE (5 * RR_SECOND) /* also how often the rate of a body is measured */

struct rr_conns {
    struct rr_conns_config config;
    pthread_mutex_t lock;   /* guards all below but wakeup and thread */
    struct rr_conn **by_fd; /* [cap] */
    size_t cap;
    struct {
        unsigned n, leaving; /* leaving: of n, told to go */
    } of[2];                 /* [is_admin] */
    struct rr_conn *oldest, *newest;
    bool stop;
    int wakeup; /* eventfd */
    pthread_t thread;
};

static bool is_admin(enum rr_door door)
{
    return door == RR_DOOR_ADMIN;
}

/* ---- what the kernel counts --------------------------------------------------------------- */

/* False where the kernel does not say: not TCP, or a kernel before 4.1. */
static bool tcp_bytes(int fd, uint64_t *received, uint64_t *acked)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    memset(&info, 0, sizeof(info));
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len)) return false;
    *received = info.tcpi_bytes_received;
    *acked = info.tcpi_bytes_acked;
    return len >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(uint64_t);
}

/* ---- idle ones, in order; the lock is held --------------------------------------------------- */

static void unlist(struct rr_conns *c, struct rr_conn *conn)
{
    if (conn->prev)
        conn->prev->next = conn->next;
    else if (c->oldest == conn)
        c->oldest = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    else if (c->newest == conn)
        c->newest = conn->prev;
    conn->prev = conn->next = NULL;
}

static void list_newest(struct rr_conns *c, struct rr_conn *conn)
{
    conn->prev = c->newest;
    conn->next = NULL;
    if (c->newest)
        c->newest->next = conn;
    else
        c->oldest = conn;
    c->newest = conn;
}

/* Makes the library close it.  reset: what the client has not read is thrown away. */
static void tell_to_go(struct rr_conns *c, struct rr_conn *conn, enum rr_conn_end why)
{
    static const char slow[] =
        "HTTP/1.1 408 Request Timeout\r\n"
        "Content-Type: application/json\r\nContent-Length: 67\r\n"
        "Connection: close\r\n\r\n"
        "{\"error\":\"the request came too slowly\",\"error_type\":\"Validation\"}\r\n";
    struct linger reset = { 1, 0 };

    if (conn->end != RR_END_NONE) return;
    conn->end = why;
    c->of[is_admin(conn->door)].leaving++;
    if (conn->phase == RR_CONN_IDLE) unlist(c, conn);
    if (why == RR_END_SLOW_READER)
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if ((why == RR_END_SLOW_HEADER || why == RR_END_SLOW_BODY) && !conn->tls)
        (void)!send(conn->fd, slow, sizeof(slow) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(conn->fd, SHUT_RDWR);
    c->config.ended(c->config.user, why);
}

static bool evict(struct rr_conns *c, bool admin)
{
    struct rr_conn *conn;
    int unread;

    for (conn = c->oldest; conn; conn = conn->next) {
        if (is_admin(conn->door) != admin) continue;
        if (ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > 0) continue; /* a request came */
        tell_to_go(c, conn, RR_END_EVICTED);
        return true;
    }
    return false;
}

/* ---- the table ---------------------------------------------------------------------------- */

static bool grow(struct rr_conns *c, size_t fd)
{
    size_t cap = c->cap ? c->cap : 64;
    struct rr_conn **bigger;

    while (cap <= fd) cap *= 2;
    if (cap == c->cap) return true;
    bigger = rr_realloc(RR_MEM_SERVER, c->by_fd, cap, sizeof(struct rr_conn *));
    if (!bigger) return false;
    memset(bigger + c->cap, 0, (cap - c->cap) * sizeof(struct rr_conn *));
    c->by_fd = bigger;
    c->cap = cap;
    return true;
}

/* Walks over all: the limit is meant for small numbers, and is off unless asked for. */
static bool too_many_of(struct rr_conns *c, const struct rr_addr *peer, bool admin)
{
    uint32_t n = 0;
    size_t i;

    if (!c->config.per_ip || peer->kind != RR_ADDR_IP) return false;
    if (rr_nets_has(c->config.trusted, peer)) return false;
    for (i = 0; i < c->cap && n < c->config.per_ip; i++)
        if (c->by_fd[i] && c->by_fd[i]->end == RR_END_NONE &&
            is_admin(c->by_fd[i]->door) == admin &&
            memcmp(c->by_fd[i]->peer.ip, peer->ip, sizeof(peer->ip)) == 0)
            n++;
    return n >= c->config.per_ip;
}

static void drop(struct rr_conns *c, struct rr_conn *conn)
{
    if (conn->end == RR_END_NONE) {
        if (conn->phase == RR_CONN_IDLE) unlist(c, conn);
    } else {
        c->of[is_admin(conn->door)].leaving--;
    }
    c->by_fd[conn->fd] = NULL;
    c->of[is_admin(conn->door)].n--;
    rr_free(conn);
}

struct rr_conn *rr_conns_add(struct rr_conns *c, int fd, const struct rr_addr *peer,
                             enum rr_door door, bool tls)
{
    struct rr_conn *conn = rr_calloc(RR_MEM_SERVER, 1, sizeof(*conn));
    enum rr_conn_end refused = RR_END_NONE;
    bool admin = is_admin(door);
    uint32_t max = admin ? RR_CONNS_ADMIN : c->config.max;

    if (!conn) return NULL;
    pthread_mutex_lock(&c->lock);
    if (!grow(c, (size_t)fd))
        refused = RR_END_FULL;
    else if (too_many_of(c, peer, admin))
        refused = RR_END_PER_IP;
    else if (c->of[admin].n - c->of[admin].leaving >= max && !evict(c, admin))
        refused = RR_END_FULL;
    if (refused == RR_END_NONE) {
        if (c->by_fd[fd]) drop(c, c->by_fd[fd]); /* one the library never told us the end of */
        *conn = (struct rr_conn){ .fd = fd, .door = door, .tls = tls, .peer = *peer };
        conn->since_ns = conn->mark_ns = rr_now_ns();
        conn->measured = true; /* nothing has been read of it */
        c->by_fd[fd] = conn;
        c->of[admin].n++;
        list_newest(c, conn);
    } else {
        c->config.ended(c->config.user, refused);
        rr_free(conn);
        conn = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    return conn;
}

struct rr_conn *rr_conns_find(struct rr_conns *c, int fd)
{
    struct rr_conn *conn = NULL;

    pthread_mutex_lock(&c->lock);
    if (fd >= 0 && (size_t)fd < c->cap) conn = c->by_fd[fd];
    pthread_mutex_unlock(&c->lock);
    return conn;
}

void rr_conns_remove(struct rr_conns *c, struct rr_conn *conn)
{
    pthread_mutex_lock(&c->lock);
    drop(c, conn);
    pthread_mutex_unlock(&c->lock);
}

unsigned rr_conns_count(struct rr_conns *c)
{
    unsigned n;

    pthread_mutex_lock(&c->lock);
    n = c->of[0].n + c->of[1].n;
    pthread_mutex_unlock(&c->lock);
    return n;
}

void rr_conns_relieve(struct rr_conns *c)
{
    pthread_mutex_lock(&c->lock);
    if (!evict(c, false)) (void)evict(c, true);
    pthread_mutex_unlock(&c->lock);
}

/* Data and the end of what the client sends may come in one event.  The library reads the data, and
 * is told of news only: it would wait for an end that has come.  This says it once more and changes
 * nothing else, as what has arrived can still be read. */
static void repeat_end(int fd)
{
    struct pollfd look = { .fd = fd, .events = POLLRDHUP };

    if (poll(&look, 1, 0) == 1 && look.revents & POLLRDHUP) (void)shutdown(fd, SHUT_RD);
}

bool rr_conns_move(struct rr_conns *c, struct rr_conn *conn, enum rr_conn_phase phase)
{
    uint64_t now = rr_now_ns(), received = 0, acked = 0;
    /* When the reply begins, not when it is over: then the client may have sent the next head. */
    bool counted = phase == RR_CONN_WRITE && tcp_bytes(conn->fd, &received, &acked), may;

    pthread_mutex_lock(&c->lock);
    may = conn->end == RR_END_NONE;
    if (may) {
        if (conn->phase == RR_CONN_IDLE) unlist(c, conn);
        conn->phase = phase;
        conn->since_ns = conn->mark_ns = now;
        conn->mark = atomic_load_explicit(&conn->received, memory_order_relaxed);
        if (phase != RR_CONN_IDLE) conn->measured = counted;
        if (counted) {
            conn->base = received;
            conn->mark = acked;
        }
        if (phase == RR_CONN_IDLE) list_newest(c, conn);
    }
    pthread_mutex_unlock(&c->lock);
    if (phase == RR_CONN_IDLE) repeat_end(conn->fd); /* at once; elsewhere the sweep does */
    return may;
}

enum rr_conn_end rr_conns_end(struct rr_conns *c, struct rr_conn *conn)
{
    enum rr_conn_end end;

    pthread_mutex_lock(&c->lock);
    end = conn->end;
    pthread_mutex_unlock(&c->lock);
    return end;
}

/* ---- time ----------------------------------------------------------------------------------- */

/* A head begins with the first byte after the last request.  mark_ns: when it was seen. */
static void check_idle(struct rr_conns *c, struct rr_conn *conn, uint64_t now)
{
    uint64_t received, acked;

    if (!conn->measured || !tcp_bytes(conn->fd, &received, &acked)) return;
    if (received == conn->base) {
        conn->mark_ns = now;
    } else if (now - conn->mark_ns > c->config.header_ns) {
        tell_to_go(c, conn, RR_END_SLOW_HEADER);
    }
}

static void check_body(struct rr_conns *c, struct rr_conn *conn, uint64_t now)
{
    uint64_t received = atomic_load_explicit(&conn->received, memory_order_relaxed);
    uint64_t due = c->config.min_rate * (BODY_GRACE / RR_SECOND);

    if (now - conn->mark_ns < BODY_GRACE) return;
    if (received - conn->mark < due) {
        tell_to_go(c, conn, RR_END_SLOW_BODY);
        return;
    }
    conn->mark = received;
    conn->mark_ns = now;
}

/* While the library still has something to write the socket's buffer is full, so a reader at work
 * shows. */
static void check_write(struct rr_conns *c, struct rr_conn *conn, uint64_t now)
{
    uint64_t received, acked,
        due = (uint64_t)((double)c->config.min_rate * ((double)c->config.write_ns * 1e-9));

    if (now - conn->mark_ns < c->config.write_ns || !conn->measured) return;
    if (!tcp_bytes(conn->fd, &received, &acked)) return;
    if (acked - conn->mark < due) {
        tell_to_go(c, conn, RR_END_SLOW_READER);
        return;
    }
    conn->mark = acked;
    conn->mark_ns = now;
}

static void check(struct rr_conns *c, struct rr_conn *conn, uint64_t now)
{
    if (conn->end != RR_END_NONE) return;
    switch (conn->phase) {
    case RR_CONN_IDLE:
        repeat_end(conn->fd);
        check_idle(c, conn, now);
        break;
    case RR_CONN_BODY:
        repeat_end(conn->fd);
        check_body(c, conn, now);
        break;
    case RR_CONN_WRITE: check_write(c, conn, now); break;
    default: break;
    }
}

/* False: stop. */
static bool sweep(struct rr_conns *c)
{
    size_t at = 0, end;
    bool more = true, stop = false;

    while (more) {
        uint64_t now;

        pthread_mutex_lock(&c->lock);
        now = rr_now_ns(); /* not before: no mark of a connection may be later */
        for (end = RR_MIN(c->cap, at + SLICE); at < end; at++)
            if (c->by_fd[at]) check(c, c->by_fd[at], now);
        stop = c->stop;
        more = at < c->cap && !stop;
        pthread_mutex_unlock(&c->lock);
    }
    return !stop;
}

static void *run(void *arg)
{
    struct rr_conns *c = arg;
    struct pollfd fd = { c->wakeup, POLLIN, 0 };

    while (poll(&fd, 1, SWEEP_MS) <= 0) {
        if (!sweep(c)) break;
        c->config.tick(c->config.user);
    }
    return NULL;
}

int rr_conns_open(struct rr_conns **out, const struct rr_conns_config *config, struct rr_error *err)
{
    struct rr_conns *c = rr_calloc(RR_MEM_SERVER, 1, sizeof(*c));

    *out = NULL;
    if (!c) return rr_fail(err, RR_ENOMEM, "connections: out of memory");
    c->config = *config;
    c->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wakeup < 0) {
        rr_free(c);
        return rr_fail(err, RR_EIO, "eventfd: %s", strerror(errno));
    }
    pthread_mutex_init(&c->lock, NULL);
    if (pthread_create(&c->thread, NULL, run, c)) {
        close(c->wakeup);
        pthread_mutex_destroy(&c->lock);
        rr_free(c);
        return rr_fail(err, RR_EIO, "cannot start a thread");
    }
    *out = c;
    return RR_OK;
}

void rr_conns_close(struct rr_conns *c)
{
    uint64_t one = 1;
    size_t i;

    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_mutex_unlock(&c->lock);
    if (write(c->wakeup, &one, sizeof(one)) == (ssize_t)sizeof(one)) pthread_join(c->thread, NULL);
    for (i = 0; i < c->cap; i++) rr_free(c->by_fd[i]); /* those the library never began */
    close(c->wakeup);
    pthread_mutex_destroy(&c->lock);
    rr_free(c->by_fd);
    rr_free(c);
}
