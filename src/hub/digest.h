/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h - SHA-256 of a file, or git's name for it.  Layer: hub (L5).  Threads: any. */
#ifndef RR_HUB_DIGEST_H
#define RR_HUB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

/* Whether the first size bytes of fd have this digest: 64 digits are SHA-256, 40 are the SHA-1 of
 * "blob SIZE", a NUL and the bytes.  tick(user) is called for each piece and ends the work with
 * RR_ECANCELED by returning false; NULL: never. */
RR_NODISCARD int rr_digest_check(int fd, uint64_t size, const char *blob, bool *same,
                                 bool (*tick)(void *user), void *user, struct rr_error *err);

#endif
