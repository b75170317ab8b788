/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c - finds backends: the built-in one by name, others as plugins.
 * Layer: backend (L3).  Threads: any; the dynamic linker has its own locks. */
#include "backend/registry.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"

/* A name becomes part of a path: nothing but lower-case letters, digits and "_". */
static bool good_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return len > 0 && len < 32 && name[len] == 0;
}

/* Folder of the running program, without the slash. */
static bool program_folder(char *out, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", out, cap);
    char *slash;

    if (n <= 0 || (size_t)n >= cap) return false;
    out[n] = 0;
    slash = strrchr(out, '/');
    if (!slash) return false;
    *slash = 0;
    return true;
}

/* Opens dir/sub/file if it exists.  *path says what was tried. */
static void *open_in(const char *dir, const char *sub, const char *file, char path[PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/%s%s", dir, sub, file);

    if (n < 0 || n >= PATH_MAX || !rr_file_exists(path)) return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

/* The handle stays open for ever: a backend may have threads and exit handlers of its own. */
static int open_plugin(void **out, const char *name, char path[PATH_MAX], struct rr_error *err)
{
    static const char *const folders[] = { "", "../lib/rerankd/", "../lib/" };
    char file[64], dir[PATH_MAX];
    const char *why;
    size_t i;

    *out = NULL;
    snprintf(file, sizeof(file), "librerank_%s.so", name);
    if (program_folder(dir, sizeof(dir))) {
        for (i = 0; i < RR_COUNT(folders); i++) {
            *out = open_in(dir, folders[i], file, path);
            if (*out || rr_file_exists(path)) break;
        }
        if (*out) return RR_OK;
        if (rr_file_exists(path)) { /* it is there, but cannot be loaded: do not look further */
            why = dlerror();
            return rr_fail(err, RR_EDEVICE, "backend '%s': %s", name, why ? why : path);
        }
    }
    snprintf(path, PATH_MAX, "%s", file);
    *out = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (*out) return RR_OK;
    why = dlerror();
    if (why && strstr(why, "No such file"))
        return rr_fail(err, RR_ENOENT,
                       "backend '%s' is not installed: no %s beside the program, in ../lib or "
                       "../lib/rerankd beside it, or where the dynamic linker looks%s",
                       name, file,
                       strcmp(name, "cuda") == 0
                           ? "; make cuda builds it, see docs/GPU.md; --device cpu does without"
                           : "");
    return rr_fail(err, RR_EDEVICE, "backend '%s': %s", name, why ? why : file);
}

static int find_plugin(const struct rr_backend **out, const char *name, struct rr_error *err)
{
    rr_backend_entry_fn *entry;
    const struct rr_backend *b;
    char path[PATH_MAX] = "";
    void *handle, *symbol;
    int rc = open_plugin(&handle, name, path, err);

    if (rc) return rc;
    symbol = dlsym(handle, RR_BACKEND_ENTRY);
    if (!symbol)
        return rr_fail(err, RR_ENOTSUP, "%s is not a backend of rerank: it has no symbol %s", path,
                       RR_BACKEND_ENTRY);
    memcpy(&entry, &symbol, sizeof(entry)); /* ISO C has no cast from data to function pointers */
    b = entry();
    if (!b || b->abi != RR_BACKEND_ABI) /* nothing behind abi may be read before this */
        return rr_fail(err, RR_ENOTSUP,
                       "%s was built for backend ABI %u, this program has %d: use the plugin that "
                       "was built with this program",
                       path, b ? b->abi : 0, RR_BACKEND_ABI);
    *out = b;
    return RR_OK;
}

int rr_backend_find(const struct rr_backend **out, const char *name, struct rr_error *err)
{
    const struct rr_backend *b = NULL;
    const char *why = NULL;
    int rc = RR_OK;

    *out = NULL;
    if (!good_name(name))
        return rr_fail(err, RR_EINVAL,
                       "'%.40s' cannot be a backend: expected a name like cpu or cuda", name);
    if (strcmp(name, "cpu") == 0)
        b = rr_backend_cpu();
    else
        rc = find_plugin(&b, name, err);
    if (rc) return rc;
    if (b->device_count(&why) == 0)
        return rr_fail(err, RR_EDEVICE, "backend '%s' has no usable device: %s", name,
                       why ? why : "no reason given");
    *out = b;
    return RR_OK;
}
