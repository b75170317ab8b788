/* SPDX-License-Identifier: Apache-2.0 */
/* route.h - which handler a method and path belong to.  Layer: server (L6).  Threads: pure. */
#ifndef RR_SERVER_ROUTE_H
#define RR_SERVER_ROUTE_H

#include "server/server.h"

/* Of a route. */
enum {
    RR_ROUTE_V2 = 1,
    RR_ROUTE_OPEN = 2 /* needs no key */
};

struct rr_route {
    const char *path; /* "/a/": and whatever is below it */
    unsigned methods; /* set of enum rr_method */
    enum rr_meter_handler handler;
    void (*answer)(struct rr_server *s, struct rr_exchange *x); /* NULL: a rerank route */
    const struct rr_dialect *dialect; /* that the path alone fixes; NULL: the body decides */
    unsigned flags;                   /* RR_ROUTE_ */
};

/* Sets x->route and x->pinned.  A first segment that is a dialect's name pins that dialect:
 * /tei/rerank.  0, or -1 with a problem: 404, 405 (and the header Allow), 414.  OPTIONS is answered
 * by a route of its own, a browser's question for any path. */
int rr_route_find(struct rr_exchange *x, struct rr_problem *problem);

/* The problem of a path that there is not: -1 and 404. */
int rr_route_none(struct rr_problem *problem);

#endif
