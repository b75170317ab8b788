/* SPDX-License-Identifier: Apache-2.0 */
/* failing.c - a library to preload (libfailing.so) that makes calls of a whole process fail on demand:
 * memory, files, sockets, threads.  The switches are in a file that RR_FAILING names, mapped by both
 * sides; tests/load/failing.py sets them.  Not for builds with a sanitizer, which replaces malloc
 * itself.
 *
 * Reads and writes of sockets fail with EINTR only: the server's library waits by edge-triggered
 * epoll, where a short read means that nothing more is there. */
/* The checked variants in the headers would be definitions of what is defined here. */
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

struct switches {
    _Atomic int64_t memory_ppm;    /* of allocations fail */
    _Atomic int64_t interrupt_ppm; /* of reads and writes of sockets are interrupted */
    _Atomic int64_t first, count;  /* calls first, ..., first + count - 1 fail; first 0: none */
    _Atomic int64_t calls, failed; /* so far */
};

static struct switches *switches;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("RR_FAILING");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map;

    if (fd < 0) return;
    map = mmap(NULL, sizeof(*switches), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) switches = map;
}

static int by_chance(int64_t ppm)
{
    static _Thread_local uint32_t state;

    if (!ppm) return 0;
    if (!state) state = (uint32_t)(uintptr_t)&state | 1;
    state = state * 1664525u + 1013904223u;
    return (int64_t)(state >> 8) % 1000000 < ppm;
}

/* Counts the call; true: it is to fail. */
static int fails(int64_t ppm)
{
    int64_t first, n;

    if (!switches) return 0;
    n = atomic_fetch_add(&switches->calls, 1) + 1;
    first = atomic_load(&switches->first);
    if (!(first && n >= first && n - first < atomic_load(&switches->count)) && !by_chance(ppm))
        return 0;
    atomic_fetch_add(&switches->failed, 1);
    return 1;
}

static int memory_fails(void)
{
    return switches && fails(atomic_load(&switches->memory_ppm));
}

static int interrupted(void)
{
    return switches && by_chance(atomic_load(&switches->interrupt_ppm));
}

EXPORT void *malloc(size_t n)
{
    if (!memory_fails()) return __libc_malloc(n);
    errno = ENOMEM;
    return NULL;
}

EXPORT void *calloc(size_t n, size_t size)
{
    if (!memory_fails()) return __libc_calloc(n, size);
    errno = ENOMEM;
    return NULL;
}

EXPORT void *realloc(void *p, size_t n)
{
    if (!memory_fails()) return __libc_realloc(p, n);
    errno = ENOMEM;
    return NULL;
}

/* type NAME(params) that fails with code and value, else calls the real one. */
#define CALL(type, name, params, args, value, code) \
    EXPORT type name params; \
    EXPORT type name params \
    { \
        static type(*_Atomic real) params; \
        if (!real) real = (type(*) params)dlsym(RTLD_NEXT, #name); \
        if (fails(0)) { \
            errno = code; \
            return value; \
        } \
        return real args; \
    }

#define SOCKET_CALL(name, params, args) \
    EXPORT ssize_t name params; \
    EXPORT ssize_t name params \
    { \
        static ssize_t(*_Atomic real) params; \
        if (!real) real = (ssize_t(*) params)dlsym(RTLD_NEXT, #name); \
        if (interrupted()) { \
            errno = EINTR; \
            return -1; \
        } \
        return real args; \
    }

CALL(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t offset),
     (at, n, prot, flags, fd, offset), MAP_FAILED, ENOMEM)
CALL(ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), -1, EIO)
CALL(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n), -1, EIO)
CALL(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n), -1, ENOSPC)
CALL(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1, EMFILE)
CALL(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags), -1,
     ECONNABORTED)
CALL(int, epoll_ctl, (int fd, int op, int what, struct epoll_event *e), (fd, op, what, e), -1,
     ENOSPC)
CALL(int, eventfd, (unsigned n, int flags), (n, flags), -1, EMFILE)
CALL(int, fsync, (int fd), (fd), -1, EIO)
CALL(int, rename, (const char *from, const char *to), (from, to), -1, ENOSPC)
CALL(int, pthread_create,
     (pthread_t *restrict out, const pthread_attr_t *restrict a, void *(*run)(void *),
      void *restrict arg),
     (out, a, run, arg), EAGAIN, EAGAIN)
SOCKET_CALL(recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags))
SOCKET_CALL(send, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags))
SOCKET_CALL(sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))

EXPORT int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list list;

        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    if (!fails(0)) return openat(AT_FDCWD, path, flags, mode);
    errno = EMFILE;
    return -1;
}
