/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h - opens models beside the requests: the first one, those that are asked for, and others
 * to replace one.  Layer: server (L6).  Threads: any; one of its own loads, one model at a time,
 * and one closes what was replaced or unloaded. */
#ifndef RR_SERVER_LOADER_H
#define RR_SERVER_LOADER_H

#include "server/server.h"

RR_NODISCARD int rr_loader_open(struct rr_loader **out, struct rr_server *s, struct rr_error *err);
/* Waits for what is being loaded; after rr_models_stop.  NULL is allowed. */
void rr_loader_close(struct rr_loader *l);

/* Begins to load the default model, which goes into service when it is open.  Whoever polls
 * rr_loader_finished learns when rr_loader_first has the outcome. */
RR_NODISCARD int rr_loader_start(struct rr_loader *l, struct rr_error *err);
int rr_loader_finished(const struct rr_loader *l); /* a descriptor that becomes readable */
/* The outcome of rr_loader_start; waits for it. */
RR_NODISCARD int rr_loader_first(struct rr_loader *l, uint64_t *took_ns, struct rr_error *err);

/* Model i is wanted: it is loaded when its turn comes, others are unloaded for it if need be, and
 * then, whatever came of it, rr_parking_open is called.  Also if it is loaded already.  RR_EBUSY:
 * not now, its last load failed; *again_ns until the next try. */
RR_NODISCARD int rr_loader_want(struct rr_loader *l, size_t i, uint64_t *again_ns,
                                struct rr_error *err);

/* Begins to load path ("": what is in service, read again) in the place of model i: opened beside
 * it, checked against the folder's reference.jsonl, then switched.  x sleeps meanwhile, is filled
 * in with the outcome and woken.  RR_EBUSY while another one is being replaced; then, and on other
 * errors, x is untouched. */
RR_NODISCARD int rr_loader_replace(struct rr_loader *l, size_t i, const char *path,
                                   struct rr_exchange *x, struct rr_error *err);
/* The end is near: a replacement that waits for its turn is refused, and so is any other. */
void rr_loader_refuse(struct rr_loader *l);

#endif
