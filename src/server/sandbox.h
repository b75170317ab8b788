/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.h - gives away what a server does not need.  Layer: server (L6).
 * Threads: the one that starts the server. */
#ifndef RR_SERVER_SANDBOX_H
#define RR_SERVER_SANDBOX_H

#include <stdbool.h>

#include "base/attr.h"
#include "options.h"

/* Is there the user whom the settings name?  Changes nothing. */
RR_NODISCARD int rr_sandbox_check(const struct rr_settings *s, struct rr_error *err);

/* Becomes that user, with its groups, for good; "": stays who it is.  socket_path: handed over to
 * the user; NULL: none. */
RR_NODISCARD int rr_sandbox_user(const char *user, const char *socket_path, struct rr_error *err);

/* Landlock: from now on this thread and those it starts can open only the model's folder, the files
 * of the settings, the system's libraries and the cache.  *on: whether it is so; with --sandbox
 * auto a kernel without Landlock is no error, with "on" it is RR_ENOTSUP. */
RR_NODISCARD int rr_sandbox_files(const struct rr_settings *s, bool *on, struct rr_error *err);

/* Seccomp: from now on all threads can make only the system calls that serving needs. */
RR_NODISCARD int rr_sandbox_calls(const struct rr_settings *s, bool *on, struct rr_error *err);

#endif
