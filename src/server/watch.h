/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - notices clients that leave while their request is being computed.
 * Layer: server (L6).  Threads: add and remove from any; one thread of its own.
 *
 * The HTTP library does not look at a sleeping connection's socket, so it is watched here, from
 * before the sleep until just before the wake-up. */
#ifndef RR_SERVER_WATCH_H
#define RR_SERVER_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_watch;

struct rr_watched { /* part of what is watched; all fields are private */
    int fd;
    uint32_t generation;
    bool listed;
    uint64_t since_ns;
    struct rr_watched *next, *prev;
};

enum rr_gone { RR_GONE_CLIENT, RR_GONE_DRAIN };

/* Called with the watch's lock held, so that rr_watch_remove of the same entry waits for it.  Must
 * not call back into the watch. */
typedef void rr_gone_fn(void *user, struct rr_watched *entry, enum rr_gone why);

/* half_close: a client that shuts down its sending side only is still waiting for its answer.
 * Otherwise that counts as leaving, since the kernel does not tell the two apart. */
RR_NODISCARD int rr_watch_open(struct rr_watch **out, bool half_close, rr_gone_fn *gone, void *user,
                               struct rr_error *err);
void rr_watch_close(struct rr_watch *w); /* NULL is allowed; nothing may be listed any more */

/* fd stays the caller's and must stay open until rr_watch_remove.  gone may be called at once. */
void rr_watch_add(struct rr_watch *w, struct rr_watched *entry, int fd);

/* After it, gone is not running and will not run for this entry.  Not listed: nothing happens. */
void rr_watch_remove(struct rr_watch *w, struct rr_watched *entry);

/* How many are listed, and since when the oldest of them is (monotonic; 0: none is). */
size_t rr_watch_listed(struct rr_watch *w);
uint64_t rr_watch_oldest_ns(struct rr_watch *w);

/* Calls gone(..., RR_GONE_DRAIN) for all that is listed. */
void rr_watch_all_gone(struct rr_watch *w);

#endif
