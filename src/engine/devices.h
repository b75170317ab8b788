/* SPDX-License-Identifier: Apache-2.0 */
/* devices.h - the list of devices that an engine computes on, from text.
 * Layer: engine (L5).  Threads: any. */
#ifndef RR_ENGINE_DEVICES_H
#define RR_ENGINE_DEVICES_H

#include <stdint.h>

#include "base/attr.h"
#include "rerank.h"

enum { RR_MAX_DEVICES = 16, RR_DEVICE_NAME = 64 };

struct rr_devices {
    char names[RR_MAX_DEVICES][RR_DEVICE_NAME]; /* "cuda:0", "cpu", "null:per_token_ns=5" */
    uint32_t n;
};

/* "cuda:0,cuda:1,cpu": names with commas between them; "cuda:*" is every usable device of the
 * backend.  Each once, but for null, which is a stand-in. */
RR_NODISCARD int rr_devices_parse(struct rr_devices *out, const char *text, struct rr_error *err);

#endif
