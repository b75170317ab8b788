/* SPDX-License-Identifier: Apache-2.0 */
/* tokens.h - text to ids and back, in the forms of text-embeddings-inference, vLLM and llama.cpp.
 * Layer: server (L6).  Threads: I/O threads. */
#ifndef RR_SERVER_TOKENS_H
#define RR_SERVER_TOKENS_H

#include "server/server.h"

void rr_tokens_tokenize(struct rr_server *s, struct rr_exchange *x);
void rr_tokens_decode(struct rr_server *s, struct rr_exchange *x);
void rr_tokens_detokenize(struct rr_server *s, struct rr_exchange *x);

#endif
