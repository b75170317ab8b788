/* SPDX-License-Identifier: Apache-2.0 */
/* partial.c - see partial.h.  Layer: hub (L5). */
#include "hub/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define MIN_PART ((uint64_t)8 << 20) /* bytes; smaller files come in one piece */
#define SAVE_BYTES ((uint64_t)16 << 20)
#define SAVE_NS (RR_SECOND / 2)

static const char magic[8] = "RRPART1";

struct record { /* after the file's bytes; of this machine, so in its byte order */
    char magic[8];
    uint64_t size, n;
    struct rr_part parts[RR_HUB_CONNECTIONS];
    char etag[160];
};

static int fail_errno(struct rr_partial *p, const char *what, int e, struct rr_error *err)
{
    if (e == ENOSPC || e == EDQUOT) p->full = e;
    return rr_fail_errno(err, RR_EIO, p->path, what, e);
}

static int write_at(int fd, const void *data, size_t len, uint64_t at)
{
    const char *bytes = data;

    while (len) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        bytes += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int save(struct rr_partial *p)
{
    struct record r = { .size = p->size, .n = p->n };

    memcpy(r.magic, magic, sizeof(magic));
    memcpy(r.parts, p->parts, sizeof(r.parts));
    memcpy(r.etag, p->etag, sizeof(r.etag));
    p->unsaved = 0;
    p->saved_ns = rr_now_ns();
    return write_at(p->fd, &r, sizeof(r), p->size);
}

/* The parts of the record at the end of fd, when it is one for this size. */
static bool load(int fd, uint64_t size, struct record *r)
{
    struct stat st;
    uint64_t at = 0, i;

    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != size + sizeof(*r) ||
        pread(fd, r, sizeof(*r), (off_t)size) != (ssize_t)sizeof(*r) ||
        memcmp(r->magic, magic, sizeof(magic)) != 0 || r->size != size || r->n < 1 ||
        r->n > RR_HUB_CONNECTIONS || !memchr(r->etag, 0, sizeof(r->etag)))
        return false;
    for (i = 0; i < r->n; i++) {
        const struct rr_part *part = &r->parts[i];

        if (part->begin != at || part->next < at || part->end < part->next) return false;
        at = part->end;
    }
    return at == size;
}

static bool name_of(const char *blob, char *out, size_t cap)
{
    return (size_t)snprintf(out, cap, "%s.rerankd.incomplete", blob) < cap;
}

int rr_partial_open(struct rr_partial *p, const char *blob, uint64_t size, unsigned n,
                    struct rr_error *err)
{
    struct record r;

    *p = (struct rr_partial){ .fd = -1, .size = size };
    snprintf(p->blob, sizeof(p->blob), "%s", blob);
    if (!name_of(blob, p->path, sizeof(p->path)))
        return rr_fail(err, RR_EINVAL, "%.200s...: path is too long", blob);
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (p->fd < 0) return fail_errno(p, "cannot open", errno, err);
    if (!load(p->fd, size, &r)) return rr_partial_reset(p, n, err);
    p->n = (unsigned)r.n;
    memcpy(p->parts, r.parts, sizeof(p->parts));
    memcpy(p->etag, r.etag, sizeof(p->etag));
    return RR_OK;
}

int rr_partial_reset(struct rr_partial *p, unsigned n, struct rr_error *err)
{
    uint64_t most = p->size / MIN_PART;
    unsigned i;
    int e = 0;

    p->n = (unsigned)RR_MAX(RR_MIN((uint64_t)n, most), (uint64_t)1);
    p->etag[0] = 0;
    for (i = 0; i < p->n; i++) {
        p->parts[i].begin = p->parts[i].next = p->size / p->n * i;
        p->parts[i].end = i + 1 == p->n ? p->size : p->size / p->n * (i + 1);
    }
    if (ftruncate(p->fd, 0) || ftruncate(p->fd, (off_t)p->size)) e = errno;
    if (!e) e = save(p);
    return e ? fail_errno(p, "cannot write", e, err) : RR_OK;
}

void rr_partial_close(struct rr_partial *p)
{
    if (p->fd < 0) return;
    (void)save(p); /* in vain on a full disk: the record before it is valid too */
    close(p->fd);
    p->fd = -1;
}

int rr_partial_write(struct rr_partial *p, unsigned part, const void *data, size_t len,
                     struct rr_error *err)
{
    struct rr_part *at = &p->parts[part];
    int e = write_at(p->fd, data, len, at->next);

    if (!e) {
        at->next += len;
        p->unsaved += len;
        /* After the bytes it speaks of: a killed process has lost nothing that it says is there. */
        if (p->unsaved > SAVE_BYTES || rr_now_ns() - p->saved_ns > SAVE_NS) e = save(p);
    }
    return e ? fail_errno(p, "cannot write", e, err) : RR_OK;
}

uint64_t rr_partial_done(const struct rr_partial *p)
{
    uint64_t sum = 0;
    unsigned i;

    for (i = 0; i < p->n; i++) sum += p->parts[i].next - p->parts[i].begin;
    return sum;
}

int rr_partial_publish(struct rr_partial *p, struct rr_error *err)
{
    int e = 0;

    if (ftruncate(p->fd, (off_t)p->size) || fsync(p->fd)) e = errno;
    if (close(p->fd) && !e) e = errno;
    p->fd = -1;
    if (!e && rename(p->path, p->blob)) e = errno;
    return e ? fail_errno(p, "cannot finish", e, err) : RR_OK;
}

uint64_t rr_partial_have(const char *blob, uint64_t size)
{
    char path[RR_HUB_PATH + 32];
    struct record r;
    uint64_t sum = 0, i;
    int fd;

    if (!name_of(blob, path, sizeof(path))) return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return 0;
    if (load(fd, size, &r)) {
        for (i = 0; i < r.n; i++) sum += r.parts[i].next - r.parts[i].begin;
    }
    close(fd);
    return sum;
}

void rr_partial_drop(const char *blob)
{
    char path[RR_HUB_PATH + 32];

    if (name_of(blob, path, sizeof(path))) (void)unlink(path);
}
