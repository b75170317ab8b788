/* SPDX-License-Identifier: Apache-2.0 */
/* team.h - what engines of one process share: compute threads, the turn on each device, and how
 * many of their prep threads work at once.  Layer: engine (L5).
 * Threads: any, unless a comment says otherwise.
 *
 * The team's lock is taken last: its holder takes no other one, and computes nothing. */
#ifndef RR_ENGINE_TEAM_H
#define RR_ENGINE_TEAM_H

#include "base/attr.h"
#include "engine/turns.h"
#include "rerank.h"

struct rr_pool;

struct rr_member; /* an engine's place in its team */

/* The team's compute threads, started when they are first asked for. */
RR_NODISCARD int rr_team_pool(struct rr_team *team, struct rr_pool **out, struct rr_error *err);

/* A place at the device of that name.  prep_threads: how many the engine has. */
RR_NODISCARD int rr_team_join(struct rr_member **out, struct rr_team *team, const char *device,
                              uint32_t prep_threads, struct rr_error *err);
/* The runner must have ended.  NULL is allowed. */
void rr_team_leave(struct rr_member *m);
/* Instead of it: the runner is caught in the device, so nothing of the team can be freed. */
void rr_team_abandon(struct rr_member *m);

/* What waits at the engine now.  From the first call until rr_team_done it waits for a turn, or has
 * one; further calls correct the claim. */
void rr_team_ask(struct rr_member *m, const struct rr_claim *claim);
/* The runner's: blocks until the turn that was asked for has come; *grant stays valid until
 * rr_team_done.  false: rr_team_quit came first. */
RR_NODISCARD bool rr_team_wait(struct rr_member *m, const struct rr_grant **grant);
/* The runner's: its turn is over.  next: what it asks the following one for; NULL: nothing. */
void rr_team_done(struct rr_member *m, const struct rr_claim *next);
/* Ends the runner's wait, now and later. */
void rr_team_quit(struct rr_member *m);
/* The runner's, as it ends: it has no turn and waits for none.  NULL is allowed. */
void rr_team_retire(struct rr_member *m);

/* The part of the device that the engine gets now: above 0, at most 1. */
double rr_team_share(struct rr_member *m);

/* Around each slice of a prep thread.  As many go on at once as the largest engine has prep
 * threads; the others wait, and go on in the order in which they came. */
void rr_team_prep_enter(struct rr_team *team);
void rr_team_prep_leave(struct rr_team *team);

#endif
