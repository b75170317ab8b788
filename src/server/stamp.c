/* SPDX-License-Identifier: Apache-2.0 */
/* stamp.c - see stamp.h. */
#include "server/stamp.h"

#include <string.h>
#include <sys/stat.h>

bool rr_stamp_take(struct rr_stamp *s, const char *path)
{
    struct rr_stamp now = { 0 };
    struct stat st;
    bool differs;

    if (*path && stat(path, &st) == 0) {
        now.device = st.st_dev;
        now.inode = st.st_ino;
        now.size = (uint64_t)st.st_size;
        now.changed_ns = (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec;
    }
    differs = memcmp(s, &now, sizeof(now)) != 0;
    *s = now;
    return differs;
}
