/* SPDX-License-Identifier: Apache-2.0 */
/* export.h - writes a model folder: the tensors of a program, and a source folder's other files.
 * Layer: model (L4).  Threads: one. */
#ifndef RR_MODEL_EXPORT_H
#define RR_MODEL_EXPORT_H

#include "base/attr.h"
#include "model/checkpoint.h"
#include "model/newdir.h"
#include "rerank_backend.h"

struct rr_export {
    const char *source;         /* folder: config.json, tokenizer files are copied from it */
    const char *out;            /* folder, must not exist or be empty; not in source */
    const struct rr_program *p; /* its tensors but derived ones; those in I8 with their factors */
    const struct rr_checkpoint *checkpoint; /* that they came from */
    bool modules;         /* source has a modules.json that is used: its files are copied, too */
    const char *dtype;    /* the precision that the folder is made for: "int8", ... */
    const char *report;   /* content of quantize.json, JSON text */
    struct rr_newdir dir; /* dir.path is filled; the rest is private: from open to close or drop */
};

/* Before the work whose outcome is to be written: needs source and out alone.  RR_EINVAL if out is
 * or lies in source, or is there already with something in it; RR_EBUSY: another run is to write
 * it.  What was opened is to be closed or dropped. */
RR_NODISCARD int rr_export_open(struct rr_export *e, struct rr_error *err);
/* Gives up what was opened; nothing is left behind.  Nothing happens after close, or a failure. */
void rr_export_drop(struct rr_export *e);

/* from/name becomes to/name; nothing happens when it is not there. */
RR_NODISCARD int rr_export_copy(const char *from, const char *to, const char *name,
                                struct rr_error *err);

/* Fills the folder beside out that open made, dir.path, to which the caller may add. */
RR_NODISCARD int rr_export_write(const struct rr_export *e, struct rr_error *err);
/* Renames it, so that out is there whole or not at all.  On failure nothing is left behind. */
RR_NODISCARD int rr_export_close(struct rr_export *e, struct rr_error *err);

#endif
