/* SPDX-License-Identifier: Apache-2.0 */
/* parking.h - requests whose model is being loaded.  Layer: server (L6).  Threads: any.
 *
 * Their connections sleep, and no thread waits.  They go on when the load has come to an end, one
 * way or the other; they are refused with 503 when that takes too long, and dropped when the client
 * leaves. */
#ifndef RR_SERVER_PARKING_H
#define RR_SERVER_PARKING_H

#include "server/job.h"

struct rr_parking; /* in struct rr_server */

RR_NODISCARD int rr_parking_new(struct rr_parking **out, struct rr_error *err);
void rr_parking_free(struct rr_parking *p); /* nobody may be parked; NULL is allowed */

/* Has the model of a job without an engine loaded.  RR_HTTP_WAIT: the job goes on by itself.
 * RR_HTTP_REPLY: job->problem says why not. */
enum rr_http_next rr_parking_enter(struct rr_job *job);

/* Model i is loaded, or is not: its jobs go on. */
void rr_parking_open(struct rr_server *s, size_t i);

/* Ends those whose client left or whose time is over.  To be called twice a second or so. */
void rr_parking_look(struct rr_server *s);

#endif
