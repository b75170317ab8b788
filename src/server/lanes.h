/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.h - what is told of each device of an engine: in /info, /debug/state and /metrics, and in
 * the log at start.  Layer: server (L6).  Threads: any. */
#ifndef RR_SERVER_LANES_H
#define RR_SERVER_LANES_H

#include "base/json_out.h"
#include "server/server.h"

/* The member "devices"; details: with what each has done and has to do. */
void rr_lanes_put(struct rr_engine *engine, bool details, struct rr_json_out *o);

/* Of all models that are loaded. */
void rr_lanes_metrics(struct rr_server *s, struct rr_buf *out);

/* A line for each device, where there are several. */
void rr_lanes_say(const struct rr_console *c, struct rr_engine *engine);

/* Does the CPU in reserve serve? */
bool rr_lanes_reserve_serves(struct rr_engine *engine);

#endif
