/* SPDX-License-Identifier: Apache-2.0 */
/* outlet.h - a descriptor that log lines go to, whatever happens at its other end.
 * Layer: server (L6).  Threads: write from any. */
#ifndef RR_SERVER_OUTLET_H
#define RR_SERVER_OUTLET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A reader that stops reading must not stop the server: pipes, terminals and sockets are written
 * without waiting, and a line that does not fit is dropped.  The descriptor's own flags are left
 * alone, since others may share it. */
struct rr_outlet { /* fields are private */
    pthread_mutex_t lock;
    int fd;
    bool ours;   /* fd is to be closed */
    bool socket; /* send() can be told not to wait */
    bool torn;   /* lock; a line has gone out in part */
};

void rr_outlet_open(struct rr_outlet *o, int fd);
void rr_outlet_close(struct rr_outlet *o);

/* One line, newline included.  False: it was dropped, or cut. */
bool rr_outlet_write(struct rr_outlet *o, const char *line, size_t len);

/* How many lines of a kind go out in a second. */
struct rr_limit {
    double tokens;
    uint64_t last_ns; /* 0: not used yet */
    uint64_t dropped; /* since the last one that went through */
};

/* May a line go out?  rate: a second, 0: any number; ten seconds' worth may come at once.  When one
 * may again after others could not, *missed is how many those were. */
bool rr_limit_take(struct rr_limit *l, uint32_t rate, uint64_t now_ns, uint64_t *missed);

#endif
