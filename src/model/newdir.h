/* SPDX-License-Identifier: Apache-2.0 */
/* newdir.h - a folder that appears whole or not at all: it is filled beside its place, under
 * another name, OUT's own, so that the next run clears away what a killed one has left.
 * Layer: model (L4).  Threads: one for each. */
#ifndef RR_MODEL_NEWDIR_H
#define RR_MODEL_NEWDIR_H

#include <limits.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_newdir {
    const char *out;     /* the caller's, kept */
    char path[PATH_MAX]; /* what is to be filled: .OUT.rerankd-part */
    int fd;              /* its lock; -1: not open */
};

/* The folder that out is to lie in, as realpath has it; it can be written. */
RR_NODISCARD int rr_newdir_parent(char parent[PATH_MAX], const char *out, struct rr_error *err);

/* Whether out could be made, before long work for it.  RR_EINVAL: something is there already; an
 * empty folder is nothing, unless it is a link or something is mounted there. */
RR_NODISCARD int rr_newdir_check(const char *out, struct rr_error *err);

/* After rr_newdir_check.  To be closed if it was opened.  RR_EBUSY: another run is writing out. */
RR_NODISCARD int rr_newdir_open(struct rr_newdir *d, const char *out, struct rr_error *err);

/* filled RR_OK: the folder gets its name.  Else, or if that fails, it is removed with all that is
 * in it.  The code of either. */
RR_NODISCARD int rr_newdir_close(struct rr_newdir *d, int filled, struct rr_error *err);

/* It is removed with all that is in it.  Nothing happens when it is not open. */
void rr_newdir_drop(struct rr_newdir *d);

#endif
