/* SPDX-License-Identifier: Apache-2.0 */
/* golden.h - is a model that is to replace another one fit for it?
 * Layer: server (L6).  Threads: any; blocks while it computes. */
#ifndef RR_SERVER_GOLDEN_H
#define RR_SERVER_GOLDEN_H

#include "base/attr.h"
#include "rerank.h"

/* RR_ENOMEM, with the numbers, when an engine of so many bytes does not fit beside what is in
 * memory now. */
RR_NODISCARD int rr_golden_memory(uint64_t need, struct rr_error *err);

/* Scores the first lines of the folder's reference.jsonl, if there is one, and compares the logits
 * with those in the file.  RR_EFORMAT names the line, what was computed and what was expected.
 * RR_ECANCELED: stopped, which is asked now and then, said so. */
RR_NODISCARD int rr_golden_check(struct rr_engine *engine, bool (*stopped)(void *user), void *user,
                                 struct rr_error *err);

#endif
