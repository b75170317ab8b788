/* SPDX-License-Identifier: Apache-2.0 */
/* partial.h - a file while it is fetched, in parts that grow side by side.  Layer: hub (L5).
 * Threads: one at a time, under the blob's lock.
 *
 * It lies beside the blob as DIGEST.rerankd.incomplete: not DIGEST.incomplete, which older
 * huggingface_hub continue from its length, while ours has its full length from the start.  After
 * the file's bytes comes a record of how far each part is, which goes when the file is complete. */
#ifndef RR_HUB_PARTIAL_H
#define RR_HUB_PARTIAL_H

#include "hub/hub.h"

struct rr_part {
    uint64_t begin, end, next; /* offsets; bytes [begin, next) are there */
};

struct rr_partial {
    int fd;
    char path[RR_HUB_PATH + 32];
    char blob[RR_HUB_PATH];
    uint64_t size;
    unsigned n;
    struct rr_part parts[RR_HUB_CONNECTIONS]; /* one after the other, from 0 to size */
    char etag[160];                           /* of the server that sends it; "": none */
    uint64_t unsaved, saved_ns;
    int full; /* ENOSPC or EDQUOT: what stopped writing; 0: neither */
};

/* Opens what a former run has left at blob's path, or begins with n parts. */
RR_NODISCARD int rr_partial_open(struct rr_partial *p, const char *blob, uint64_t size, unsigned n,
                                 struct rr_error *err);
/* Writes the record and closes; the file stays for another run. */
void rr_partial_close(struct rr_partial *p);

/* From the start, with n parts. */
RR_NODISCARD int rr_partial_reset(struct rr_partial *p, unsigned n, struct rr_error *err);

/* Appends to a part; data must fit into it. */
RR_NODISCARD int rr_partial_write(struct rr_partial *p, unsigned part, const void *data, size_t len,
                                  struct rr_error *err);
uint64_t rr_partial_done(const struct rr_partial *p); /* bytes of all parts */

/* Complete and checked: becomes the blob, in one step. */
RR_NODISCARD int rr_partial_publish(struct rr_partial *p, struct rr_error *err);

/* Removes what a former run has left, if anything: somebody else has finished the blob. */
void rr_partial_drop(const char *blob);

/* Bytes that an unfinished file at blob's path has; 0: there is none. */
uint64_t rr_partial_have(const char *blob, uint64_t size);

#endif
