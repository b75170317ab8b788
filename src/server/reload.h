/* SPDX-License-Identifier: Apache-2.0 */
/* reload.h - SIGHUP: reads the configuration and other files again while requests go on.
 * Layer: server (L6).  Threads: the main one; readers need no lock (server.h). */
#ifndef RR_SERVER_RELOAD_H
#define RR_SERVER_RELOAD_H

#include "server/server.h"

/* A thing that follows a reload: reads what it needs for the new settings, and only if all of it is
 * good takes it into use; otherwise it stays as it was.  A row of the table in reload.c. */
struct rr_reloadable {
    const char *name; /* for messages */
    int (*reload)(struct rr_server *s, const struct rr_settings *settings, struct rr_error *err);
};

struct rr_reload; /* the settings in force, and older ones that somebody may still be reading */

/* Puts first into force; it stays the caller's and must outlive *out. */
RR_NODISCARD int rr_reload_open(struct rr_reload **out, struct rr_server *s,
                                const struct rr_settings *first, struct rr_error *err);
void rr_reload_close(struct rr_reload *r); /* nobody may read settings any more; NULL is allowed */

/* Reads all again.  Any failure is logged and counted, and what failed stays as it was. */
void rr_reload_run(struct rr_reload *r);

#endif
