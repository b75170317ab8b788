/* SPDX-License-Identifier: Apache-2.0 */
/* hub_progress.h - progress of a download on stderr.  Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_HUB_PROGRESS_H
#define RR_CLI_HUB_PROGRESS_H

#include "cli/hub.h"

/* Between them h->hub.progress draws: a bar on a terminal, else a line for each tenth.  systemd is
 * asked for the time that it takes. */
void rr_hub_progress_begin(struct rr_cli_hub *h);
void rr_hub_progress_end(struct rr_cli_hub *h);

#endif
