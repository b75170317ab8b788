/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - reading files.  Layer: base (L0).  Threads: any. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

static int fail_errno(struct rr_error *err, const char *path, const char *what, int e)
{
    int code = e == ENOENT || e == ENOTDIR ? RR_ENOENT : e == ENOMEM ? RR_ENOMEM : RR_EIO;

    return rr_fail_errno(err, code, path, what, e);
}

static const char *kind_name(mode_t mode)
{
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a pipe";
    if (S_ISSOCK(mode)) return "a socket";
    if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
    return "something else";
}

static int stat_regular(struct stat *st, int fd, const char *path, struct rr_error *err)
{
    if (fstat(fd, st)) return fail_errno(err, path, "cannot stat", errno);
    if (S_ISREG(st->st_mode)) return RR_OK;
    return rr_fail(err, RR_EIO, "%s: found %s, expected a regular file", path,
                   kind_name(st->st_mode));
}

/* What a clone of a repository without git-lfs has in place of a large file. */
static int refuse_pointer(const char *data, size_t len, const char *path, struct rr_error *err)
{
    static const char start[] = "version https://git-lfs.github.com/spec/";

    if (len >= 1024 || len < sizeof(start) || memcmp(data, start, sizeof(start) - 1) != 0)
        return RR_OK;
    return rr_fail(err, RR_EFORMAT,
                   "%s: found a pointer of Git LFS, expected the file itself: install git-lfs and "
                   "run \"git lfs pull\" in its folder, or fetch the file by other means",
                   path);
}

int rr_file_map(struct rr_file *out, const char *path, struct rr_error *err)
{
    struct stat st, again;
    void *p = MAP_FAILED;
    int fd, rc = RR_OK;

    *out = (struct rr_file){ "", 0 };
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not stop us here */
    if (fd < 0) return fail_errno(err, path, "cannot open", errno);
    rc = stat_regular(&st, fd, path, err);
    if (!rc && st.st_size > 0) {
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) rc = fail_errno(err, path, "cannot map", errno);
    }
    if (rc) goto done;
    if (fstat(fd, &again) || again.st_size != st.st_size) {
        if (p != MAP_FAILED) munmap(p, (size_t)st.st_size);
        rc = rr_fail(err, RR_EIO, "%s: the file is changing while it is opened", path);
        goto done;
    }
    if (p != MAP_FAILED) *out = (struct rr_file){ p, (size_t)st.st_size };
    rc = refuse_pointer(out->data, out->len, path, err);
    if (rc) rr_file_unmap(out);
done:
    close(fd); /* the map keeps the file */
    return rc;
}

void rr_file_unmap(struct rr_file *f)
{
    if (f->len) munmap((void *)(uintptr_t)f->data, f->len);
    *f = (struct rr_file){ "", 0 };
}

void rr_file_drop(const void *data, size_t len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)data + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)data + len) & ~(page - 1);

    /* Whole pages inside the range only: neighbours may still be in use. */
    if (begin < end) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* Reads fd to its end into b, whose limit is one byte above what is allowed. */
static int read_all(int fd, struct rr_buf *b, size_t limit, const char *path, struct rr_error *err)
{
    struct stat st;
    size_t room = 16384;

    /* A good guess saves growing; files of /proc say 0 and have content. */
    if (!fstat(fd, &st) && st.st_size > 0 && (uint64_t)st.st_size < limit) {
        room = (size_t)st.st_size + 1;
    }
    for (;;) {
        char *p;
        ssize_t n;

        room = RR_MIN(room, b->limit - b->len);
        if (room == 0) break;
        p = rr_buf_reserve(b, room);
        if (!p) return rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
        n = read(fd, p, room);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(err, path, "cannot read", errno);
        if (n == 0) break;
        b->len += (size_t)n;
        room = b->cap - b->len - 1; /* use up what there is before growing */
        if (room == 0) room = 16384;
    }
    if (b->len > limit) {
        return rr_fail(err, RR_ETOOBIG, "%s: larger than the limit of %zu bytes", path, limit);
    }
    b->data[b->len] = 0;
    return RR_OK;
}

static int read_file(char **out, size_t *len, const char *path, size_t limit, enum rr_mem_tag tag,
                     bool regular, struct rr_error *err)
{
    struct rr_buf b;
    struct stat st;
    int fd, rc;

    *out = NULL;
    *len = 0;
    rr_buf_init(&b, tag, limit < SIZE_MAX - 1 ? limit + 1 : limit);
    fd = open(path, O_RDONLY | O_CLOEXEC | (regular ? O_NONBLOCK : 0));
    if (fd < 0) return fail_errno(err, path, "cannot open", errno);
    rc = regular ? stat_regular(&st, fd, path, err) : RR_OK;
    if (!rc) rc = read_all(fd, &b, limit, path, err);
    close(fd);
    if (!rc) {
        *out = rr_buf_take(&b, len);
        if (!*out) rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    }
    rr_buf_free(&b);
    return rc;
}

int rr_file_read(char **out, size_t *len, const char *path, size_t limit, enum rr_mem_tag tag,
                 struct rr_error *err)
{
    return read_file(out, len, path, limit, tag, false, err);
}

int rr_file_read_regular(char **out, size_t *len, const char *path, size_t limit,
                         enum rr_mem_tag tag, struct rr_error *err)
{
    return read_file(out, len, path, limit, tag, true, err);
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        data += n;
        len -= (size_t)n;
    }
    return fsync(fd) ? errno : 0; /* rename must not overtake the content */
}

/* Temporary files are called PATH.<16 hexadecimal digits>.tmp. */
#define DIGITS 16
#define TAIL ".tmp"
#define TRIES 100 /* names: two by chance are equal once in 10^19 */

static bool is_temporary_of(const char *name, const char *of)
{
    size_t len = strlen(of);

    return strncmp(name, of, len) == 0 && name[len] == '.' &&
           strspn(name + len + 1, "0123456789abcdef") == DIGITS &&
           strcmp(name + len + 1 + DIGITS, TAIL) == 0;
}

/* Removes temporary files of path whose writers were killed: a living one holds a lock. */
static void remove_left(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char folder[PATH_MAX];
    const struct dirent *e;
    DIR *d;

    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    d = opendir(folder);
    while (d && (e = readdir(d))) {
        int fd;

        if (!is_temporary_of(e->d_name, name)) continue;
        fd = openat(dirfd(d), e->d_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) (void)unlinkat(dirfd(d), e->d_name, 0);
        close(fd);
    }
    if (d) closedir(d);
}

/* A new file beside path, locked.  Its name is chance: process ids come again, in containers that
 * share a folder even at the same time. */
static int open_temporary(int *out, char *name, size_t cap, const char *path, struct rr_error *err)
{
    struct stat st;
    uint64_t r;
    int fd, n;

    for (int tries = 0;; tries++) {
        if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
            r = rr_now_ns() ^ (uint64_t)getpid() << 40; /* early at boot */
        n = snprintf(name, cap, "%s.%016" PRIx64 TAIL, path, r);
        if (n < 0 || (size_t)n >= cap)
            return rr_fail(err, RR_EINVAL, "%.200s...: path is too long", path);
        fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0 && errno == EEXIST && tries < TRIES) continue;
        if (fd < 0) return fail_errno(err, path, "cannot create", errno);
        while (flock(fd, LOCK_EX) && errno == EINTR) continue;
        /* Where there are no locks, nobody removes what is left. */
        if (fstat(fd, &st) || st.st_nlink > 0) break;
        close(fd); /* somebody took it for one that was left, before it was locked */
    }
    *out = fd;
    return RR_OK;
}

int rr_file_write(const char *path, const void *data, size_t len, struct rr_error *err)
{
    char temporary[PATH_MAX];
    int fd = -1, e, rc;

    rc = open_temporary(&fd, temporary, sizeof(temporary), path, err);
    if (rc) return rc;
    remove_left(path);
    e = write_all(fd, data, len);
    if (!e && rename(temporary, path)) e = errno;
    if (e) unlink(temporary);
    close(fd); /* not before: the lock; it has nothing to tell that fsync has not told */
    return e ? fail_errno(err, path, "cannot write", e) : RR_OK;
}

void rr_folder_make(const char *path)
{
    char copy[PATH_MAX], *s;

    if (!*path || snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy)) return;
    for (s = copy + 1; *s; s++) {
        if (*s != '/') continue;
        *s = 0;
        (void)mkdir(copy, 0755);
        *s = '/';
    }
    (void)mkdir(copy, 0700);
}

bool rr_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool rr_path_join(char *out, size_t cap, const char *dir, const char *name)
{
    size_t len = strlen(dir);
    const char *slash = len == 0 || dir[len - 1] == '/' ? "" : "/";
    int n = snprintf(out, cap, "%s%s%s", dir, slash, name);

    return n >= 0 && (size_t)n < cap;
}
