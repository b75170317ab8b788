/* SPDX-License-Identifier: Apache-2.0 */
/* starter.c - see starter.h. */
#include "starter.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/file.h"

static char found[PATH_MAX];

static bool is_model(const char *dir)
{
    char path[PATH_MAX + 16];

    return rr_path_join(path, sizeof(path), dir, "config.json") && rr_file_exists(path);
}

/* The folder of the running program; "" when the system does not tell. */
static void program_folder(char *out, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    char *slash;

    out[n > 0 ? n : 0] = 0;
    slash = strrchr(out, '/');
    if (slash) *slash = 0;
}

static void look(void)
{
    static const char *const beside[] = {
        "../models/starter",               /* build/rerankd */
        "../../models/starter",            /* build/<kind>/rerankd */
        "../share/rerankd/models/starter", /* PREFIX/bin/rerankd */
    };
    static const char *const fixed[] = {
        RR_DATADIR "/models/starter", /* where make install puts it */
        "/usr/share/rerankd/models/starter",
        "models/starter",
    };
    char folder[2048], path[PATH_MAX];
    size_t i;

    program_folder(folder, sizeof(folder));
    for (i = 0; folder[0] && i < RR_COUNT(beside); i++)
        if (rr_path_join(path, sizeof(path), folder, beside[i]) && realpath(path, found) &&
            is_model(found))
            return;
    for (i = 0; i < RR_COUNT(fixed); i++) {
        snprintf(found, sizeof(found), "%s", fixed[i]);
        if (is_model(found)) return;
    }
}

const char *rr_starter_dir(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, look);
    return found;
}
