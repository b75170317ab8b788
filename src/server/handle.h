/* SPDX-License-Identifier: Apache-2.0 */
/* handle.h - answers rerank requests.  Layer: server (L6).  Threads: I/O threads. */
#ifndef RR_SERVER_HANDLE_H
#define RR_SERVER_HANDLE_H

#include "server/server.h"

/* pinned: the dialect that path or settings fix; NULL: the body decides. */
enum rr_http_next rr_rerank_request(struct rr_server *s, struct rr_exchange *x,
                                    const struct rr_dialect *pinned, bool v2);
void rr_rerank_finish(struct rr_server *s, struct rr_exchange *x);
void rr_rerank_end(struct rr_server *s, struct rr_exchange *x);

/* Takes a lease on the engine of the model that the tree's key "model" names, if it is loaded, for
 * x.  -1 with a problem: there is no such model. */
int rr_request_model(struct rr_server *s, struct rr_exchange *x, const json_t *root,
                     struct rr_problem *problem);

/* The body of a request as a tree (body.h) by the server's settings; what was replaced is
 * counted. */
int rr_request_json(struct rr_server *s, struct rr_exchange *x, json_t **root, size_t *replaced,
                    struct rr_problem *problem);

/* Fills in the reply for a problem, in the words of the dialect. */
void rr_reply_problem(struct rr_exchange *x, const struct rr_dialect *dialect,
                      const struct rr_problem *problem);

#endif
