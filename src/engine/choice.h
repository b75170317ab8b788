/* SPDX-License-Identifier: Apache-2.0 */
/* choice.h - the precision that was found best for a model on a device, kept in the cache folder
 * for later starts with dtype "auto".  Layer: engine (L5).  Threads: any. */
#ifndef RR_ENGINE_CHOICE_H
#define RR_ENGINE_CHOICE_H

#include "base/attr.h"
#include "rerank_backend.h"

struct rr_choice {
    char dtype[16];
    char why[256]; /* one line */
};

/* fingerprint: of the model's files.  A choice belongs to a product's name and level, and to this
 * version of the program.  false: there is none, or it cannot be read, which is logged. */
bool rr_choice_find(struct rr_choice *out, const char *dir, uint64_t fingerprint,
                    const struct rr_device_info *info);
RR_NODISCARD int rr_choice_store(const struct rr_choice *choice, const char *dir,
                                 uint64_t fingerprint, const struct rr_device_info *info,
                                 struct rr_error *err);

#endif
