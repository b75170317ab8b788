/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - the cache on disk: paths, folders, locks, links, refs.  Layer: hub (L5).
 * Threads: one at a time; other processes may use the same cache, huggingface_hub among them.
 *
 *     CACHE/models--ORG--NAME/blobs/DIGEST              the files
 *                            /snapshots/COMMIT/NAME     links to them: ../../blobs/DIGEST
 *                            /refs/REVISION             the commit
 *     CACHE/.locks/models--ORG--NAME/DIGEST.lock        held (flock) while DIGEST is fetched
 *
 * Where there are no links (SMB, FAT) the snapshot has the files themselves: see rr_cache_link. */
#ifndef RR_HUB_CACHE_H
#define RR_HUB_CACHE_H

#include "hub/hub.h"

/* CACHE/models--ORG--NAME/REST into out. */
RR_NODISCARD int rr_cache_path(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                               const char *rest, char out[RR_HUB_PATH], struct rr_error *err);

/* The path of a blob. */
RR_NODISCARD int rr_cache_blob(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                               const char *blob, char out[RR_HUB_PATH], struct rr_error *err);

/* Makes the folders of the repository: blobs, the snapshot, its locks.  A link among them is
 * refused. */
RR_NODISCARD int rr_cache_prepare(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                                  const char *commit, struct rr_error *err);

/* Takes the lock of a blob, waiting for whoever has it.  *fd is to be closed. */
RR_NODISCARD int rr_cache_lock(struct rr_hub *hub, const struct rr_hub_repo *repo, const char *blob,
                               int *fd, struct rr_error *err);

/* Bytes of the finished file, or of what a former run has left of it; 0: nothing. */
uint64_t rr_cache_have(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *commit,
                       const struct rr_hub_file *file);
bool rr_cache_complete(const struct rr_hub *hub, const struct rr_hub_repo *repo, const char *commit,
                       const struct rr_hub_file *file);

/* Puts the link to the file's blob, or the blob, into the snapshot, in one step. */
RR_NODISCARD int rr_cache_link(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                               const char *commit, const struct rr_hub_file *file,
                               struct rr_error *err);

/* Notes that the revision is this commit; a revision that is a commit needs no note. */
RR_NODISCARD int rr_cache_ref(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                              const char *commit, struct rr_error *err);

/* Whether the snapshot in dir has all that a model needs, inside the cache: see rr_hub_find. */
RR_NODISCARD int rr_cache_check(const struct rr_hub *hub, const char *dir, struct rr_error *err);

#endif
