/* SPDX-License-Identifier: Apache-2.0 */
/* doors.c - see doors.h. */
#include "server/doors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"

#define BACKLOG 1024
#define MAX_DOORS 16
#define BURST 64    /* connections taken from one socket before the others have their turn */
#define PAUSE_MS 50 /* when no descriptors are left */
#define MAX_ADDRESS 256

struct rr_doors {
    struct rr_doors_config config;
    int fds[MAX_DOORS];
    enum rr_door kinds[MAX_DOORS];
    unsigned n;
    uint32_t ports[RR_DOORS];
    _Atomic bool held; /* nobody is let in at the first config.n_listeners */
    _Atomic bool stop;
    int wakeup; /* eventfd: one of them has changed */
    pthread_t thread;
    bool running;
    bool dry; /* only look whether it could be opened */
};

/* ---- sockets ------------------------------------------------------------------------------ */

static int add(struct rr_doors *d, int fd, enum rr_door kind, struct rr_error *err)
{
    if (d->n == MAX_DOORS) {
        close(fd);
        return rr_fail(err, RR_EIO, "more than %d addresses to listen on", MAX_DOORS);
    }
    d->kinds[d->n] = kind;
    d->fds[d->n++] = fd;
    return RR_OK;
}

static const char *remedy(int reason)
{
    switch (reason) {
    case EADDRINUSE: return "; another program uses it (try another --port; 0 takes a free one)";
    case EADDRNOTAVAIL:
        return "; this machine does not have that address (127.0.0.1: for this machine only, "
               "0.0.0.0: all its addresses)";
    case EACCES: return "; ports below 1024 are root's (try --port 8002)";
    default: return "";
    }
}

static int listen_at(struct rr_doors *d, const struct addrinfo *a, const char *host, uint32_t port,
                     enum rr_door kind, int *reason, struct rr_error *err)
{
    bool any_v6 = a->ai_family == AF_INET6 && strcmp(host, "::") == 0;
    int on = 1, v6_only = !any_v6, fd;

    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *reason = errno;
    if (fd < 0) return rr_fail(err, RR_EIO, "socket: %s", strerror(*reason));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6) /* "::" alone serves IPv4 clients as well */
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only));
    if (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, BACKLOG)) {
        *reason = errno;
        close(fd);
        return rr_fail(err, RR_EIO, "cannot listen on %s port %u: %s%s", host, port,
                       strerror(*reason), remedy(*reason));
    }
    return add(d, fd, kind, err);
}

static uint32_t port_of(int fd)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);

    if (getsockname(fd, (struct sockaddr *)&bound, &len) || bound.ss_family == AF_UNIX) return 0;
    return bound.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)(void *)&bound)->sin6_port)
                                       : ntohs(((struct sockaddr_in *)(void *)&bound)->sin_port);
}

static int resolve(struct addrinfo **list, const char *host, uint32_t port, struct rr_error *err)
{
    struct addrinfo hints = { 0 };
    char service[16];
    int rc;

    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    snprintf(service, sizeof(service), "%u", port);
    rc = getaddrinfo(host, service, &hints, list);
    if (!rc) return RR_OK;
    return rr_fail(err, RR_EIO,
                   "cannot listen on %s: %s; expected an address of this machine, such as "
                   "127.0.0.1, or 0.0.0.0 for all",
                   host, gai_strerror(rc));
}

/* The port that was free for the first is that of all. */
static void set_ports(struct addrinfo *list, uint32_t port)
{
    for (; list; list = list->ai_next) {
        if (list->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)(void *)list->ai_addr)->sin6_port = htons((uint16_t)port);
        else
            ((struct sockaddr_in *)(void *)list->ai_addr)->sin_port = htons((uint16_t)port);
    }
}

/* An address may be there twice. */
static bool repeats(const struct addrinfo *list, const struct addrinfo *a)
{
    for (; list != a; list = list->ai_next)
        if (list->ai_addrlen == a->ai_addrlen &&
            memcmp(list->ai_addr, a->ai_addr, a->ai_addrlen) == 0)
            return true;
    return false;
}

/* All that a name stands for, but for what this machine does not have: localhost is ::1, too, also
 * where there is no IPv6. */
static int listen_at_each(struct rr_doors *d, struct addrinfo *list, const char *host,
                          uint32_t port, enum rr_door kind, struct rr_error *err)
{
    const struct addrinfo *a;
    bool any = false;
    int rc = RR_EIO, reason;

    for (a = list; a; a = a->ai_next) {
        if (repeats(list, a)) continue;
        rc = listen_at(d, a, host, port, kind, &reason, err);
        if (rc && reason != EADDRNOTAVAIL && reason != EAFNOSUPPORT) return rc;
        if (rc) continue;
        if (!any) set_ports(list, port_of(d->fds[d->n - 1]));
        any = true;
        d->ports[kind] = port = port_of(d->fds[d->n - 1]);
    }
    return any ? RR_OK : rc;
}

static int open_tcp(struct rr_doors *d, const char *host, uint32_t port, enum rr_door kind,
                    struct rr_error *err)
{
    struct addrinfo *list = NULL;
    int rc;

    if (d->ports[kind]) port = d->ports[kind];
    rc = resolve(&list, host, port, err);
    if (rc) return rc;
    if (d->dry) {
        freeaddrinfo(list);
        return RR_OK;
    }
    rc = listen_at_each(d, list, host, port, kind, err);
    freeaddrinfo(list);
    return rc;
}

static int open_hosts(struct rr_doors *d, struct rr_error *err)
{
    const char *s = d->config.host;
    char host[MAX_ADDRESS];
    struct rr_text word;
    int rc = RR_OK;

    while (!rc && rr_text_word(&s, &word)) {
        snprintf(host, sizeof(host), "%.*s", (int)RR_MIN(word.len, sizeof(host) - 1), word.data);
        rc = open_tcp(d, host, d->config.port, RR_DOOR_MAIN, err);
    }
    return rc;
}

/* Those of a supervisor. */
static int take_listeners(struct rr_doors *d, struct rr_error *err)
{
    unsigned i;
    int rc = RR_OK;

    for (i = 0; i < d->config.n_listeners && !rc; i++) {
        rc = add(d, d->config.listener + (int)i, RR_DOOR_MAIN, err);
        if (!rc && !d->ports[RR_DOOR_MAIN]) d->ports[RR_DOOR_MAIN] = port_of(d->fds[i]);
    }
    return rc;
}

static int open_admin(struct rr_doors *d, struct rr_error *err)
{
    const char *text = d->config.admin, *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    char host[MAX_ADDRESS];
    uint32_t port = 0;
    const char *p;

    if (!*text) return RR_OK;
    for (p = colon ? colon + 1 : ""; *p >= '0' && *p <= '9' && port < 65536; p++)
        port = port * 10 + (uint32_t)(*p - '0');
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') text++, len -= 2;
    if (!colon || p == colon + 1 || *p || port > 65535 || len == 0 || len >= sizeof(host))
        return rr_fail(err, RR_EFORMAT,
                       "admin-listen: found \"%.60s\", expected ADDRESS:PORT, for example "
                       "127.0.0.1:9102",
                       d->config.admin);
    snprintf(host, sizeof(host), "%.*s", (int)len, text);
    return open_tcp(d, host, port, RR_DOOR_ADMIN, err);
}

/* A socket file that nobody listens on is what a killed server leaves behind. */
static void remove_stale(const struct sockaddr_un *at)
{
    struct stat st;
    int fd;

    if (lstat(at->sun_path, &st) || !S_ISSOCK(st.st_mode)) return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    if (connect(fd, (const struct sockaddr *)(const void *)at, sizeof(*at)) &&
        errno == ECONNREFUSED)
        (void)unlink(at->sun_path);
    close(fd);
}

static const char *unix_remedy(const char *path, int reason)
{
    struct stat st;

    if (reason != EADDRINUSE) return "";
    if (!lstat(path, &st) && !S_ISSOCK(st.st_mode))
        return "; a file is there that is no socket (remove it, or try another --listen-unix)";
    return "; another program listens there (try another --listen-unix)";
}

static int open_unix(struct rr_doors *d, struct rr_error *err)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    const char *path = d->config.unix_path;
    mode_t before;
    int fd, bad;

    if (!*path) return RR_OK;
    if (strlen(path) >= sizeof(at.sun_path))
        return rr_fail(err, RR_EFORMAT, "listen-unix: found %zu bytes, expected at most %zu",
                       strlen(path), sizeof(at.sun_path) - 1);
    if (d->dry) return RR_OK;
    memcpy(at.sun_path, path, strlen(path) + 1);
    remove_stale(&at);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return rr_fail(err, RR_EIO, "socket: %s", strerror(errno));
    before = umask(0777); /* nobody gets in before the mode is set */
    bad = bind(fd, (struct sockaddr *)(void *)&at, sizeof(at));
    umask(before);
    if (bad || chmod(path, d->config.unix_mode) || listen(fd, BACKLOG)) {
        bad = errno;
        close(fd);
        return rr_fail(err, RR_EIO, "cannot listen on %s: %s%s", path, strerror(bad),
                       unix_remedy(path, bad));
    }
    return add(d, fd, RR_DOOR_UNIX, err);
}

/* ---- accepting ---------------------------------------------------------------------------- */

/* False: there are no descriptors or no memory left. */
static bool accept_some(struct rr_doors *d, unsigned i)
{
    struct sockaddr_storage from;
    socklen_t len;
    int fd, n;

    for (n = 0; n < BURST; n++) {
        len = sizeof(from);
        memset(&from, 0, sizeof(from));
        fd = accept4(d->fds[i], (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) /* other errors belong to one connection, which is gone */
            return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
        if (d->kinds[i] == RR_DOOR_UNIX) from.ss_family = AF_UNIX;
        d->config.take(d->config.user, fd, (struct sockaddr *)&from, len, d->kinds[i]);
    }
    return true;
}

static void *run(void *arg)
{
    struct rr_doors *d = arg;
    struct pollfd fds[MAX_DOORS + 1];
    unsigned i;

    fds[d->n] = (struct pollfd){ d->wakeup, POLLIN, 0 };
    while (!atomic_load(&d->stop)) {
        bool full = false, held = atomic_load(&d->held);
        uint64_t count;

        for (i = 0; i < d->n; i++)
            fds[i] =
                (struct pollfd){ held && i < d->config.n_listeners ? -1 : d->fds[i], POLLIN, 0 };
        if (poll(fds, d->n + 1, -1) < 0 && errno != EINTR) return NULL;
        if (fds[d->n].revents && read(d->wakeup, &count, sizeof(count)) > 0) continue;
        for (i = 0; i < d->n && !full; i++)
            if (fds[i].revents) full = !accept_some(d, i);
        if (!full) continue;
        d->config.relieve(d->config.user);
        /* The waiting connection would wake us at once: sleep, but not past the end. */
        (void)poll(&fds[d->n], 1, PAUSE_MS);
    }
    return NULL;
}

static void wake(struct rr_doors *d)
{
    uint64_t one = 1;

    (void)!write(d->wakeup, &one, sizeof(one)); /* full: it is awake */
}

/* ---- interface ---------------------------------------------------------------------------- */

int rr_doors_open(struct rr_doors **out, const struct rr_doors_config *config, struct rr_error *err)
{
    struct rr_doors *d = rr_calloc(RR_MEM_SERVER, 1, sizeof(*d));
    int rc;

    *out = NULL;
    if (!d) return rr_fail(err, RR_ENOMEM, "doors: out of memory");
    d->config = *config;
    d->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = d->wakeup < 0 ? rr_fail(err, RR_EIO, "eventfd: %s", strerror(errno)) : RR_OK;
    atomic_store(&d->held, config->n_listeners > 0);
    if (!rc) rc = config->n_listeners ? take_listeners(d, err) : open_hosts(d, err);
    if (!rc) rc = open_admin(d, err);
    if (!rc) rc = open_unix(d, err);
    if (!rc && d->n == 0) rc = rr_fail(err, RR_EFORMAT, "host: no address to listen on");
    if (rc) {
        rr_doors_close(d);
        return rc;
    }
    *out = d;
    return RR_OK;
}

int rr_doors_check(const struct rr_doors_config *config, struct rr_error *err)
{
    struct rr_doors d = { .config = *config, .dry = true };
    const char *host = config->host;
    struct rr_text word;
    int rc = open_hosts(&d, err);

    if (!rc && !rr_text_word(&host, &word))
        rc = rr_fail(err, RR_EFORMAT, "host: no address to listen on");
    if (!rc) rc = open_admin(&d, err);
    return rc ? rc : open_unix(&d, err);
}

int rr_doors_start(struct rr_doors *d, struct rr_error *err)
{
    if (pthread_create(&d->thread, NULL, run, d))
        return rr_fail(err, RR_EIO, "cannot start a thread");
    d->running = true;
    return RR_OK;
}

uint32_t rr_doors_port(const struct rr_doors *d, enum rr_door door)
{
    return d->ports[door];
}

static bool is_local(const struct sockaddr_storage *a)
{
    const struct sockaddr_in *v4 = (const void *)a;
    const struct sockaddr_in6 *v6 = (const void *)a;

    switch (a->ss_family) {
    case AF_INET: return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    case AF_INET6: return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    default: return true; /* a Unix socket, given by a supervisor */
    }
}

bool rr_doors_open_to_others(const struct rr_doors *d)
{
    struct sockaddr_storage bound;
    socklen_t len;
    unsigned i;

    for (i = 0; i < d->n; i++) {
        len = sizeof(bound);
        if (d->kinds[i] != RR_DOOR_MAIN) continue;
        if (getsockname(d->fds[i], (struct sockaddr *)&bound, &len) == 0 && !is_local(&bound))
            return true;
    }
    return false;
}

void rr_doors_hold(struct rr_doors *d, bool hold)
{
    if (!d->config.n_listeners) return;
    atomic_store(&d->held, hold);
    wake(d);
}

void rr_doors_shut(struct rr_doors *d)
{
    atomic_store(&d->stop, true);
    wake(d);
    if (d->running) pthread_join(d->thread, NULL);
    d->running = false;
    while (d->n) close(d->fds[--d->n]);
}

void rr_doors_close(struct rr_doors *d)
{
    if (!d) return;
    rr_doors_shut(d);
    if (d->wakeup >= 0) close(d->wakeup);
    rr_free(d);
}
