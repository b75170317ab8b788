/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - reading files.  Layer: base (L0).  Threads: any. */
#ifndef RR_BASE_FILE_H
#define RR_BASE_FILE_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/mem.h"
#include "rerank_types.h"

struct rr_file { /* a read-only map of a regular file */
    const char *data;
    size_t len;
};

/* Maps path read-only.  Not a regular file, unreadable, or changed under our eyes: an error that
 * names the path.  So is a pointer of Git LFS in the file's place. */
RR_NODISCARD int rr_file_map(struct rr_file *out, const char *path, struct rr_error *err);
void rr_file_unmap(struct rr_file *f); /* an empty one is allowed */

/* Tells the kernel that the pages of [data, data + len) need not stay resident. */
void rr_file_drop(const void *data, size_t len);

/* Reads at most limit bytes; larger is RR_ETOOBIG.  *out gets a 0 after its len bytes and is to be
 * freed with rr_free. */
RR_NODISCARD int rr_file_read(char **out, size_t *len, const char *path, size_t limit,
                              enum rr_mem_tag tag, struct rr_error *err);

/* The same of a regular file only, without waiting: for files of a folder that may be anybody's,
 * where a pipe would stop us for ever. */
RR_NODISCARD int rr_file_read_regular(char **out, size_t *len, const char *path, size_t limit,
                                      enum rr_mem_tag tag, struct rr_error *err);

/* Writes path through a temporary file and rename, so that readers see all of it or nothing.  What
 * a writer of the same path left that was killed is removed. */
RR_NODISCARD int rr_file_write(const char *path, const void *data, size_t len,
                               struct rr_error *err);

/* Makes the folder and those above it; what fails shows when it is used. */
void rr_folder_make(const char *path);

bool rr_file_exists(const char *path);

/* dir + "/" + name into out; false when it does not fit. */
RR_NODISCARD bool rr_path_join(char *out, size_t cap, const char *dir, const char *name);

#endif
