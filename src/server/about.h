/* SPDX-License-Identifier: Apache-2.0 */
/* about.h - what clients of other servers look up before they ask, and the API's description.
 * Layer: server (L6).  Threads: I/O threads. */
#ifndef RR_SERVER_ABOUT_H
#define RR_SERVER_ABOUT_H

#include "server/server.h"

void rr_about_version(struct rr_server *s, struct rr_exchange *x); /* vLLM */
void rr_about_props(struct rr_server *s, struct rr_exchange *x);   /* llama.cpp */
void rr_about_meta(struct rr_server *s, struct rr_exchange *x);    /* Weaviate */
void rr_about_keys(struct rr_server *s, struct rr_exchange *x);    /* Xinference */
void rr_about_live(struct rr_server *s, struct rr_exchange *x);    /* Weaviate: 204 */
void rr_about_ready(struct rr_server *s, struct rr_exchange *x);   /* Weaviate: 204 or 503 */
void rr_about_openapi(struct rr_server *s, struct rr_exchange *x);
void rr_about_docs(struct rr_server *s, struct rr_exchange *x);
void rr_about_playground(struct rr_server *s, struct rr_exchange *x);
void rr_about_status(struct rr_server *s, struct rr_exchange *x);

#endif
