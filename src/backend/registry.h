/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h - which backends there are: the built-in CPU one, and plugins loaded on demand.
 * Layer: backend (L3).  Threads: any. */
#ifndef RR_BACKEND_REGISTRY_H
#define RR_BACKEND_REGISTRY_H

#include "base/attr.h"
#include "rerank_backend.h"

const struct rr_backend *rr_backend_cpu(void);

/* Its open, with workers that several devices share in place of its own; pool must outlive the
 * device.  NULL: its own.  Scores do not depend on it. */
struct rr_pool;
RR_NODISCARD int rr_backend_cpu_open(struct rr_device **out, const struct rr_device_options *opt,
                                     struct rr_pool *pool, struct rr_error *err);

/* Finds a backend by name ("cpu", "cuda").  A plugin librerank_NAME.so is looked for beside the
 * running program, then in ../lib beside it, then where the dynamic linker looks.  Not found, wrong
 * ABI (message has both numbers) or no usable device: an error with one clear line. */
RR_NODISCARD int rr_backend_find(const struct rr_backend **out, const char *name,
                                 struct rr_error *err);

#endif
