/* SPDX-License-Identifier: Apache-2.0 */
/* newdir.c - see newdir.h. */
#include "model/newdir.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
        return rr_fail(err, RR_ENOENT, "%s: cannot write there: %s", path, strerror(errno));
    if (access(parent, W_OK | X_OK))
        return rr_fail(err, RR_EIO, "%s: cannot write there: %s", parent, strerror(errno));
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

int rr_newdir_check(const char *out, struct rr_error *err)
{
    char parent[PATH_MAX];
    int rc = rr_newdir_parent(parent, out, err);

    if (rc || !rr_file_exists(out) || is_empty(out)) return rc;
    return rr_fail(err, RR_EINVAL, "%s is there already: remove it or name another folder", out);
}

int rr_newdir_open(struct rr_newdir *d, const char *out, struct rr_error *err)
{
    char parent[PATH_MAX];
    int rc = rr_newdir_parent(parent, out, err);

    d->out = out;
    if (rc) return rc;
    if (!rr_path_join(d->path, sizeof(d->path), parent, ".rerankd-XXXXXX"))
        return rr_fail(err, RR_EINVAL, "%s: the path is longer than %d bytes", parent, PATH_MAX);
    if (!mkdtemp(d->path))
        return rr_fail(err, RR_EIO, "%s: cannot create a folder: %s", parent, strerror(errno));
    return RR_OK;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

int rr_newdir_close(struct rr_newdir *d, int filled, struct rr_error *err)
{
    int rc = filled;

    if (!rc && (chmod(d->path, 0755) || rename(d->path, d->out)))
        rc = rr_fail(err, RR_EIO, "%s: cannot create: %s", d->out, strerror(errno));
    if (rc) (void)nftw(d->path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
    return rc;
}
