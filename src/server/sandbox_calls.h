/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_calls.h - whether there is to be a sandbox at all.
 * Layer: server (L6).  Threads: pure. */
#ifndef RR_SERVER_SANDBOX_CALLS_H
#define RR_SERVER_SANDBOX_CALLS_H

#include <stdbool.h>

#include "options.h"

/* Not with --sandbox off; with auto not in builds with sanitizers, which trace themselves. */
bool rr_sandbox_wanted(const struct rr_settings *s);

#endif
