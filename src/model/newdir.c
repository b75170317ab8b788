/* SPDX-License-Identifier: Apache-2.0 */
/* newdir.c - see newdir.h. */
#include "model/newdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

enum { OPEN_FOLDERS = 8 }; /* of nftw; those of modules are not nested deeper */

int rr_newdir_parent(char parent[PATH_MAX], const char *out, struct rr_error *err)
{
    char path[PATH_MAX];
    size_t len = strlen(out);
    char *slash;

    if (len == 0 || len >= sizeof(path))
        return rr_fail(err, RR_EINVAL, "the output folder's name has %zu bytes, expected 1 to %d",
                       len, PATH_MAX - 1);
    memcpy(path, out, len + 1);
    while (len > 1 && path[len - 1] == '/') path[--len] = 0;
    slash = strrchr(path, '/');
    if (!slash)
        memcpy(path, ".", 2);
    else
        slash[slash == path] = 0;
    if (!realpath(path, parent))
        return rr_fail_errno(err, RR_ENOENT, path, "cannot write there", errno);
    if (access(parent, W_OK | X_OK))
        return rr_fail_errno(err, RR_EIO, parent, "cannot write there", errno);
    return RR_OK;
}

static bool is_empty(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    bool empty = d != NULL;

    while (d && (e = readdir(d)))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) empty = false;
    if (d) closedir(d);
    return empty;
}

/* An empty folder is replaced, which does not work where it is a link or something is mounted. */
static int check_replaceable(const char *out, struct rr_error *err)
{
    char path[PATH_MAX];
    size_t len = strlen(out);
    struct statx st;

    memcpy(path, out, len + 1); /* rr_newdir_parent has looked at its length */
    while (len > 1 && path[len - 1] == '/') path[--len] = 0;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st)) return RR_OK;
    if (S_ISLNK(st.stx_mode))
        return rr_fail(err, RR_EINVAL, "%s is a symbolic link: name a folder, there or elsewhere",
                       out);
    if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT)
        return rr_fail(err, RR_EINVAL,
                       "%s is a mount point, which cannot be replaced: name a folder in it", out);
    return RR_OK;
}

int rr_newdir_check(const char *out, struct rr_error *err)
{
    char parent[PATH_MAX];
    int rc = rr_newdir_parent(parent, out, err);

    if (rc) return rc;
    if (!rr_file_exists(out) || is_empty(out)) return check_replaceable(out, err);
    return rr_fail(err, RR_EINVAL, "%s is there already: remove it or name another folder", out);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void remove_all(const char *path)
{
    (void)nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
}

/* Opens and locks the folder: what somebody left there whose run was interrupted is not locked. */
static int lock(struct rr_newdir *d, struct rr_error *err)
{
    struct stat st;

    d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->fd < 0 || fstat(d->fd, &st))
        return rr_fail_errno(err, RR_EIO, d->path, "cannot open", errno);
    if (st.st_uid != geteuid())
        return rr_fail(err, RR_EIO, "%s: the folder is somebody else's: name another one than %s",
                       d->path, d->out);
    if (flock(d->fd, LOCK_EX | LOCK_NB))
        return rr_fail(err, RR_EBUSY, "%s: another run is writing it", d->out);
    return RR_OK;
}

static int make(struct rr_newdir *d, struct rr_error *err)
{
    int rc;

    if (mkdir(d->path, 0700) == 0) return lock(d, err);
    if (errno == EEXIST) {
        rc = lock(d, err);
        if (rc) return rc;
        close(d->fd);
        remove_all(d->path);
        if (mkdir(d->path, 0700) == 0) return lock(d, err);
    }
    return rr_fail_errno(err, RR_EIO, d->path, "cannot create the folder", errno);
}

int rr_newdir_open(struct rr_newdir *d, const char *out, struct rr_error *err)
{
    char parent[PATH_MAX], name[NAME_MAX + 1];
    int rc = rr_newdir_parent(parent, out, err), len = (int)strlen(out), from;

    *d = (struct rr_newdir){ .out = out, .fd = -1 };
    if (rc) return rc;
    while (len > 1 && out[len - 1] == '/') len--;
    for (from = len; from > 0 && out[from - 1] != '/'; from--) continue;
    if (snprintf(name, sizeof(name), ".%.*s.rerankd-part", len - from, out + from) > NAME_MAX ||
        !rr_path_join(d->path, sizeof(d->path), parent, name))
        return rr_fail(err, RR_EINVAL, "%.200s: the name is too long", out);
    rc = make(d, err);
    if (rc && d->fd >= 0) close(d->fd);
    if (rc) d->fd = -1;
    return rc;
}

void rr_newdir_drop(struct rr_newdir *d)
{
    if (d->fd < 0) return;
    remove_all(d->path);
    close(d->fd);
    d->fd = -1;
}

int rr_newdir_close(struct rr_newdir *d, int filled, struct rr_error *err)
{
    int rc = filled;

    if (!rc && (chmod(d->path, 0755) || rename(d->path, d->out)))
        rc = rr_fail_errno(err, RR_EIO, d->out, "cannot create", errno);
    if (rc) {
        rr_newdir_drop(d);
        return rc;
    }
    close(d->fd);
    d->fd = -1;
    return RR_OK;
}
