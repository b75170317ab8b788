/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - reading files.  Layer: base (L0).  Threads: any. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
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

int rr_file_write(const char *path, const void *data, size_t len, struct rr_error *err)
{
    static atomic_uint counter; /* two threads may write the same path */
    char temporary[4096];
    int fd, e, n;

    n = snprintf(temporary, sizeof(temporary), "%s.%ld.%u.tmp", path, (long)getpid(),
                 atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed));
    if (n < 0 || (size_t)n >= sizeof(temporary)) {
        return rr_fail(err, RR_EINVAL, "%.200s...: path is too long", path);
    }
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return fail_errno(err, path, "cannot create", errno);
    e = write_all(fd, data, len);
    if (close(fd) && !e) e = errno;
    if (!e && rename(temporary, path)) e = errno;
    if (!e) return RR_OK;
    unlink(temporary);
    return fail_errno(err, path, "cannot write", e);
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
