/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - writes to the cache; see cache.h.  Layer: hub (L5). */
#include "hub/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "hub/partial.h"

/* What backup programs take for "leave this out": bford.info/cachedir. */
static const char cachedir_tag[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                                   "# This folder is a cache of model files.\n";

/* ---- paths ---------------------------------------------------------------------------------- */

static void folder_name(const struct rr_hub_repo *repo, char *out, size_t cap)
{
    int len = (int)strcspn(repo->id, "/");

    snprintf(out, cap, "models--%.*s--%s", len, repo->id, repo->id + len + 1);
}

int rr_cache_path(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *rest,
                  char out[RR_HUB_PATH], struct rr_error *err)
{
    char name[2 * RR_HUB_NAME + 16];

    folder_name(repo, name, sizeof(name));
    if ((size_t)snprintf(out, RR_HUB_PATH, "%s/%s%s%s", hub->cache, name, *rest ? "/" : "", rest) <
        RR_HUB_PATH)
        return RR_OK;
    return rr_fail(err, RR_EINVAL, "%.200s...: the cache's path is too long", hub->cache);
}

int rr_cache_blob(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *blob,
                  char out[RR_HUB_PATH], struct rr_error *err)
{
    char rest[80];

    snprintf(rest, sizeof(rest), "blobs/%s", blob);
    return rr_cache_path(hub, repo, rest, out, err);
}

/* ---- folders -------------------------------------------------------------------------------- */

/* Makes path and what is missing above it.  The parts from the byte "from" on must be folders
 * themselves; those before it, the user's choice of a cache, may be links. */
static int make_folders(char *path, size_t from, struct rr_error *err)
{
    struct stat st;
    char *end = path;
    int rc = RR_OK;

    while (!rc && *end) {
        char kept;

        end += strspn(end, "/");
        end += strcspn(end, "/");
        kept = *end;
        *end = 0;
        if (mkdir(path, 0777) && errno != EEXIST)
            rc = rr_fail_errno(err, RR_EIO, path, "cannot make the folder", errno);
        else if ((size_t)(end - path) > from && (lstat(path, &st) || !S_ISDIR(st.st_mode)))
            rc = rr_fail(err, RR_EFORMAT,
                         "%s: found a link or a file, expected a folder; nothing outside the cache "
                         "is written: remove it",
                         path);
        *end = kept;
    }
    return rc;
}

/* The folders that the file path lies in. */
static int make_parent(char *path, size_t from, struct rr_error *err)
{
    char *name = strrchr(path, '/');
    int rc;

    *name = 0;
    rc = make_folders(path, from, err);
    *name = '/';
    return rc;
}

int rr_cache_prepare(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *commit,
                     struct rr_error *err)
{
    char path[RR_HUB_PATH], rest[64], name[2 * RR_HUB_NAME + 16];
    size_t from = strlen(hub->cache);
    int rc = rr_cache_path(hub, repo, "blobs", path, err);

    if (!rc) rc = make_folders(path, from, err);
    snprintf(rest, sizeof(rest), "snapshots/%s", commit);
    if (!rc) rc = rr_cache_path(hub, repo, rest, path, err);
    if (!rc) rc = make_folders(path, from, err);
    folder_name(repo, name, sizeof(name));
    if (!rc &&
        (size_t)snprintf(path, sizeof(path), "%s/.locks/%s", hub->cache, name) >= sizeof(path))
        rc = rr_fail(err, RR_EINVAL, "%.200s...: the cache's path is too long", hub->cache);
    if (!rc) rc = make_folders(path, from, err);
    if (!rc && rr_path_join(path, sizeof(path), hub->cache, "CACHEDIR.TAG") &&
        !rr_file_exists(path))
        rc = rr_file_write(path, cachedir_tag, sizeof(cachedir_tag) - 1, err);
    return rc;
}

/* ---- locks ---------------------------------------------------------------------------------- */

/* The lock is worth something only while the file is the one of that name: some unlink theirs. */
static bool still_there(int fd, const char *path)
{
    struct stat ours, named;

    return !fstat(fd, &ours) && !stat(path, &named) && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

/* 0, EAGAIN when another has it, or what open or flock says. */
static int try_lock(const char *path, int *fd)
{
    int e = EAGAIN;

    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
    if (*fd < 0) return errno;
    if (flock(*fd, LOCK_EX | LOCK_NB))
        e = errno == EWOULDBLOCK || errno == EINTR ? EAGAIN : errno;
    else if (still_there(*fd, path))
        return 0;
    close(*fd);
    *fd = -1;
    return e;
}

int rr_cache_lock(struct rr_hub *hub, const struct rr_hub_repo *repo, const char *blob, int *fd,
                  struct rr_error *err)
{
    const struct timespec pause = { .tv_nsec = 100 * 1000 * 1000 };
    const struct rr_hub_progress waiting = { .file = blob, .waiting = "another download" };
    char path[RR_HUB_PATH], name[2 * RR_HUB_NAME + 16];
    int e;

    folder_name(repo, name, sizeof(name));
    if ((size_t)snprintf(path, sizeof(path), "%s/.locks/%s/%s.lock", hub->cache, name, blob) >=
        sizeof(path))
        return rr_fail(err, RR_EINVAL, "%.200s...: the cache's path is too long", hub->cache);
    while ((e = try_lock(path, fd)) == EAGAIN) {
        if (hub->stopped && hub->stopped(hub->user))
            return rr_fail(err, RR_ECANCELED, "interrupted while another download had the lock");
        if (hub->progress) hub->progress(hub->user, &waiting);
        (void)nanosleep(&pause, NULL);
    }
    return e ? rr_fail_errno(err, RR_EIO, path, "cannot lock", e) : RR_OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

static bool has_blob(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                     const struct rr_hub_file *file)
{
    char path[RR_HUB_PATH];
    struct stat st;

    return !rr_cache_blob(hub, repo, file->blob, path, NULL) && !stat(path, &st) &&
           S_ISREG(st.st_mode) && (uint64_t)st.st_size == file->size;
}

/* Where the file is in the snapshot, as a link or itself. */
static int snapshot_path(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                         const char *commit, const struct rr_hub_file *file, char path[RR_HUB_PATH],
                         struct rr_error *err)
{
    char rest[192];

    snprintf(rest, sizeof(rest), "snapshots/%s/%s", commit, file->name);
    return rr_cache_path(hub, repo, rest, path, err);
}

static bool is_itself(const char *path, uint64_t size)
{
    struct stat st;

    return !lstat(path, &st) && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

bool rr_cache_complete(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *commit,
                       const struct rr_hub_file *file)
{
    char path[RR_HUB_PATH];

    return has_blob(hub, repo, file) ||
           (!snapshot_path(hub, repo, commit, file, path, NULL) && is_itself(path, file->size));
}

uint64_t rr_cache_have(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *commit,
                       const struct rr_hub_file *file)
{
    char path[RR_HUB_PATH];

    if (rr_cache_complete(hub, repo, commit, file)) return file->size;
    if (rr_cache_blob(hub, repo, file->blob, path, NULL)) return 0;
    return rr_partial_have(path, file->size);
}

int rr_cache_link(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *commit,
                  const struct rr_hub_file *file, struct rr_error *err)
{
    char path[RR_HUB_PATH], temporary[RR_HUB_PATH + 32], target[96], now[96], blob[RR_HUB_PATH];
    const char *slash = strchr(file->name, '/');
    ssize_t n;
    int rc = snapshot_path(hub, repo, commit, file, path, err);

    if (!rc) rc = rr_cache_blob(hub, repo, file->blob, blob, err);
    if (!rc && slash) rc = make_parent(path, strlen(hub->cache), err);
    if (rc || (is_itself(path, file->size) && !has_blob(hub, repo, file))) return rc;
    snprintf(target, sizeof(target), "%s../../blobs/%s", slash ? "../" : "", file->blob);
    n = readlink(path, now, sizeof(now));
    if (n == (ssize_t)strlen(target) && memcmp(now, target, (size_t)n) == 0) return RR_OK;
    snprintf(temporary, sizeof(temporary), "%s.%ld.tmp", path, (long)getpid());
    (void)unlink(temporary); /* of a process that had our number */
    if (symlink(target, temporary) == 0 && rename(temporary, path) == 0) return RR_OK;
    rc = errno;
    (void)unlink(temporary);
    if ((rc == EPERM || rc == EOPNOTSUPP || rc == ENOSYS) && rename(blob, path) == 0) return RR_OK;
    return rr_fail_errno(err, RR_EIO, path, "cannot make the link", rc);
}

int rr_cache_ref(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *commit,
                 struct rr_error *err)
{
    char path[RR_HUB_PATH], rest[RR_HUB_REVISION + 8];
    int rc;

    if (strcmp(repo->revision, commit) == 0) return RR_OK;
    snprintf(rest, sizeof(rest), "refs/%s", repo->revision);
    rc = rr_cache_path(hub, repo, rest, path, err);
    if (!rc) rc = make_parent(path, strlen(hub->cache), err);
    return rc ? rc : rr_file_write(path, commit, strlen(commit), err);
}
