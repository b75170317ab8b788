/* SPDX-License-Identifier: Apache-2.0 */
/* stamp.h - has a file been replaced or written to?  Layer: server (L6).  Threads: pure. */
#ifndef RR_SERVER_STAMP_H
#define RR_SERVER_STAMP_H

#include <stdbool.h>
#include <stdint.h>

struct rr_stamp { /* all 0: there is no such file */
    uint64_t device, inode, size, changed_ns;
};

/* Takes the file's stamp; true when it differs from the one in *s.  "": never differs. */
bool rr_stamp_take(struct rr_stamp *s, const char *path);

#endif
