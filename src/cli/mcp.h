/* SPDX-License-Identifier: Apache-2.0 */
/* mcp.h - the Model Context Protocol without its transport: one message in, one reply out.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_MCP_H
#define RR_CLI_MCP_H

#include <stdint.h>

#include "base/buf.h"
#include "rerank.h"

struct rr_mcp {
    struct rr_engine *engine;
    uint32_t max_documents, max_depth;
    size_t max_query_bytes, max_document_bytes;
};

/* Answers one line, a JSON-RPC 2.0 message or a batch of them.  reply is cleared; it stays empty
 * for what is not to be answered (notifications, replies), and ends in a newline otherwise.  When
 * memory is short, reply->failed is set. */
void rr_mcp_answer(const struct rr_mcp *mcp, struct rr_text line, struct rr_buf *reply);

/* The answer to a line that was not read because it is too long. */
void rr_mcp_refuse_line(size_t max, struct rr_buf *reply);

#endif
