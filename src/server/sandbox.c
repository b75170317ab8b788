/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.c - see sandbox.h: the user, and files by Landlock; sandbox_calls.c has the calls. */
#include "server/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "rerank.h"
#include "server/sandbox_calls.h"

#define GPU_FILES "/dev/nvidia*"

static bool has_gpu(void)
{
    glob_t found;
    bool any = glob(GPU_FILES, 0, NULL, &found) == 0;

    if (any) globfree(&found);
    return any;
}

/* ---- the user ----------------------------------------------------------------------------- */

#define USER_TEXT 8192 /* bytes for the strings of an entry */

static int find_user(struct passwd *entry, char text[USER_TEXT], const char *user,
                     struct rr_error *err)
{
    struct passwd *found = NULL;

    if (getpwnam_r(user, entry, text, USER_TEXT, &found) || !found)
        return rr_fail(err, RR_EFORMAT, "user: there is no user \"%.60s\"", user);
    return RR_OK;
}

int rr_sandbox_check(const struct rr_settings *s, struct rr_error *err)
{
    struct passwd entry;
    char text[USER_TEXT];

    return *s->user ? find_user(&entry, text, s->user, err) : RR_OK;
}

int rr_sandbox_user(const char *user, const char *socket_path, struct rr_error *err)
{
    struct passwd entry;
    char text[USER_TEXT];

    if (!*user) return RR_OK;
    if (find_user(&entry, text, user, err)) return err->code;
    if (geteuid() == entry.pw_uid) return RR_OK;
    if (geteuid() != 0) return rr_fail(err, RR_EFORMAT, "user: only root can become %.60s", user);
    if (socket_path && lchown(socket_path, entry.pw_uid, entry.pw_gid))
        return rr_fail(err, RR_EIO, "%s: %s", socket_path, strerror(errno));
    if (initgroups(entry.pw_name, entry.pw_gid) || setgid(entry.pw_gid) || setuid(entry.pw_uid))
        return rr_fail(err, RR_EIO, "cannot become %.60s: %s", user, strerror(errno));
    if (entry.pw_uid != 0 && setuid(0) == 0)
        return rr_fail(err, RR_EINTERNAL, "the user could be changed back");
    /* The change has made the files of this process in /proc root's; CUDA's driver writes there. */
    if (has_gpu()) (void)prctl(PR_SET_DUMPABLE, 1);
    return RR_OK;
}

/* ---- files -------------------------------------------------------------------------------- */

#define READ ((uint64_t)(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR))
#define FILE_RIGHTS \
    ((uint64_t)(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
                LANDLOCK_ACCESS_FS_EXECUTE | RIGHT_TRUNCATE))
#define RIGHT_REFER ((uint64_t)1 << 13)    /* kernel 5.19 */
#define RIGHT_TRUNCATE ((uint64_t)1 << 14) /* kernel 6.2 */
#define RIGHTS_ALL (((uint64_t)1 << 13) - 1)

/* What libraries, name look-ups, kernel information and devices need. */
static const char *const readable[] = {
    "/usr",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/resolv.conf",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/run/systemd/resolve",
    "/run/nvidia-persistenced",
};
static const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                       "/dev/urandom" };

struct rules {
    int fd;
    uint64_t handled;
};

/* A path that is not there needs no rule.  The path, open; -1: it is not there. */
static int allow_open(const struct rules *r, const char *path, uint64_t rights)
{
    struct landlock_path_beneath_attr rule = { .allowed_access = rights & r->handled };
    struct stat st;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0) return -1;
    if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode)) rule.allowed_access &= FILE_RIGHTS;
    (void)syscall(SYS_landlock_add_rule, r->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    return rule.parent_fd;
}

static void allow(const struct rules *r, const char *path, uint64_t rights)
{
    int fd = allow_open(r, path, rights);

    if (fd >= 0) close(fd);
}

/* The folder that the path, links followed, is in; where that is too much, the file alone. */
static void allow_folder_of(const struct rules *r, const char *path, uint64_t rights)
{
    char real[PATH_MAX], *slash;

    if (!realpath(path, real)) return;
    slash = strrchr(real, '/');
    if (slash == real || strncmp(real, "/etc", RR_MAX(4, (size_t)(slash - real))) == 0) {
        allow(r, real, rights);
        return;
    }
    *slash = 0;
    allow(r, real, rights);
}

/* Downloaded models are folders of links to where the bytes are.  The folder around the model's is
 * allowed too, so that another version can take its place. */
static void allow_model(const struct rules *r, const char *model)
{
    DIR *dir = opendir(model);
    struct dirent *entry;
    char path[PATH_MAX];

    allow(r, model, READ);
    allow_folder_of(r, model, READ);
    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || entry->d_type == DT_REG || entry->d_type == DT_DIR) continue;
        if (snprintf(path, sizeof(path), "%s/%s", model, entry->d_name) < (int)sizeof(path))
            allow_folder_of(r, path, READ);
    }
    if (dir) closedir(dir);
}

/* Every setting that names a file or a folder. */
static void allow_settings(const struct rules *r, const struct rr_settings *s)
{
    size_t n, i;
    const struct rr_option *table = rr_settings_table(&n);

    for (i = 0; i < n; i++) {
        const char *value;
        bool written;

        if (table[i].type != RR_OPTION_STR) continue;
        value = *(const char *const *)(const void *)((const char *)s + table[i].offset);
        if (!value || !*value) continue;
        written = strcmp(table[i].name, "cache-dir") == 0 || strncmp(table[i].name, "log-", 4) == 0;
        if (strcmp(table[i].arg, "DIR") == 0) {
            if (written) rr_folder_make(value);
            allow(r, value, written ? RIGHTS_ALL | RIGHT_REFER | RIGHT_TRUNCATE : READ);
        } else if (strcmp(table[i].arg, "FILE") == 0) {
            allow_folder_of(r, value, written ? RIGHTS_ALL | RIGHT_REFER | RIGHT_TRUNCATE : READ);
        }
    }
}

/* "/a:/b" */
static void allow_list(const struct rules *r, const char *paths)
{
    char path[PATH_MAX];

    while (*paths) {
        size_t len = strcspn(paths, ":");

        if (len && snprintf(path, sizeof(path), "%.*s", (int)RR_MIN(len, sizeof(path)), paths) <
                       (int)sizeof(path))
            allow(r, path, READ);
        paths += len + (paths[len] != 0);
    }
}

/* Threads get their names by writing there, which CUDA's driver insists on.  The folder stays open:
 * the rule is for the kernel's present object of it, which a new look-up could replace. */
static void allow_thread_names(const struct rules *r)
{
    (void)allow_open(r, "/proc/self/task", READ | LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE);
}

static void allow_devices(const struct rules *r)
{
    glob_t found;
    size_t i;

    for (i = 0; i < RR_COUNT(devices); i++) allow(r, devices[i], RIGHTS_ALL);
    if (glob(GPU_FILES, 0, NULL, &found) == 0) {
        for (i = 0; i < found.gl_pathc; i++) allow(r, found.gl_pathv[i], RIGHTS_ALL);
        globfree(&found);
    }
}

static int make_rules(struct rules *r, const struct rr_settings *s)
{
    struct landlock_ruleset_attr attr = { 0 };
    struct rr_options engine;
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    size_t i;

    if (version < 1) return -1;
    r->handled =
        RIGHTS_ALL | (version >= 2 ? RIGHT_REFER : 0) | (version >= 3 ? RIGHT_TRUNCATE : 0);
    attr.handled_access_fs = r->handled;
    r->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (r->fd < 0) return -1;
    for (i = 0; i < RR_COUNT(readable); i++) allow(r, readable[i], READ);
    allow_devices(r);
    allow_thread_names(r);
    allow_folder_of(r, "/proc/self/exe", READ); /* plugins may lie beside the program */
    allow_settings(r, s);
    allow_list(r, s->sandbox_read);
    if (rr_env("LD_LIBRARY_PATH")) allow_list(r, rr_env("LD_LIBRARY_PATH")); /* or there */
    if (rr_settings_config(s)) allow_folder_of(r, rr_settings_config(s), READ); /* for reloads */
    for (i = 0; i < s->n_models; i++) {
        rr_settings_model(s, i, &engine);
        allow_model(r, engine.model);
    }
    return 0;
}

int rr_sandbox_files(const struct rr_settings *s, bool *on, struct rr_error *err)
{
    struct rules r = { -1, 0 };
    int bad;

    *on = false;
    if (!rr_sandbox_wanted(s)) return RR_OK;
    bad = make_rules(&r, s) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
          syscall(SYS_landlock_restrict_self, r.fd, 0);
    if (r.fd >= 0) close(r.fd);
    *on = !bad;
    if (bad && strcmp(s->sandbox, "on") == 0)
        return rr_fail(err, RR_ENOTSUP,
                       "sandbox: this kernel has no Landlock (--sandbox auto does without)");
    return RR_OK;
}
