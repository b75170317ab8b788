/* SPDX-License-Identifier: Apache-2.0 */
/* mcp_tool.h - the tool "rerank" of the Model Context Protocol.  Layer: cli (L6). */
#ifndef RR_CLI_MCP_TOOL_H
#define RR_CLI_MCP_TOOL_H

#include <jansson.h>

#include "cli/mcp.h"

#define RR_MCP_TOOL "rerank"

extern const char rr_mcp_tool_description[]; /* a JSON object, as tools/list gives it */

/* Runs the tool.  Puts the result of tools/call into out; what is wrong with the arguments or went
 * wrong with the scoring is a result, too, with isError, so that a model can read why. */
void rr_mcp_tool_call(const struct rr_mcp *mcp, const json_t *arguments, struct rr_buf *out);

#endif
