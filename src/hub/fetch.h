/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.h - one file over several connections.  Layer: hub (L5).  Threads: one at a time. */
#ifndef RR_HUB_FETCH_H
#define RR_HUB_FETCH_H

#include "hub/partial.h"

struct rr_fetch {
    struct rr_hub *hub;
    const char *url;  /* of the hub; redirects are followed from it */
    const char *what; /* for messages */
    const struct rr_hub_file *file;
    struct rr_hub_progress *progress; /* done and received are kept up to date */
};

/* Brings all parts of p to their ends.  Does not check the digest. */
RR_NODISCARD int rr_fetch_parts(const struct rr_fetch *f, struct rr_partial *p,
                                struct rr_error *err);

#endif
