/* SPDX-License-Identifier: Apache-2.0 */
/* dispatch.h - which of several lanes computes what, by when each would be done: pure policy, no
 * threads, no clock.  Layer: engine (L5).  Threads: the caller holds the engine's lock.
 *
 * Two questions, one rule, least estimated finish time:
 *  - a request that may be computed by several kinds of lanes goes to the kind that would end it
 *    first, behind what that kind has in hand (rr_finish_ns);
 *  - a lane that is free takes the next batch of its kind unless the others would have computed
 *    all that waits before it had done that one batch (rr_lane_takes).
 * So a slow device beside fast ones is overflow: it works when that ends work earlier than waiting
 * for them, and never otherwise. */
#ifndef RR_ENGINE_DISPATCH_H
#define RR_ENGINE_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What batches take on a device: (base + tokens * each) * now.  The first two are measured when it
 * is opened, the last one follows what it does.  Zero: not measured, everything takes no time. */
struct rr_speed {
    double base_ns, token_ns;
    double now; /* 1: as when it was opened */
};

/* From a small batch and a larger one. */
void rr_speed_init(struct rr_speed *s, uint32_t small, uint64_t small_ns, uint32_t large,
                   uint64_t large_ns);
/* One more batch was computed. */
void rr_speed_learn(struct rr_speed *s, uint32_t tokens, uint64_t ns);
/* A probe took ns.  If that is less than expected, what had slowed the device down is over: a lane
 * that was slow once gets no batches to learn that from. */
void rr_speed_hope(struct rr_speed *s, uint32_t tokens, uint64_t ns);
double rr_speed_ns(const struct rr_speed *s, double tokens);

struct rr_hand { /* a lane, and what it has in hand */
    const struct rr_speed *speed;
    double batch_tokens; /* the most in one batch */
    double busy_ns;      /* from now until it is free; 0: it is */
    double share;        /* of the device: above 0, at most 1 */
};

/* Nanoseconds until lanes hands[n] of one kind would have computed `tokens` more, behind `waiting`
 * tokens.  HUGE_VAL when n is 0. */
double rr_finish_ns(const struct rr_hand *hands, size_t n, double waiting, double tokens);

/* Should a free lane take a batch of what waits, in pairs of so many tokens?  others [n]: those of
 * its kind. */
bool rr_lane_takes(const struct rr_hand *me, const struct rr_hand *others, size_t n,
                   double waiting, double pair);

/* The most tokens that it should take then: its part, where others are free as well and the work is
 * large enough to gain from being cut. */
double rr_lane_part(const struct rr_hand *me, const struct rr_hand *others, size_t n,
                    double waiting, double pair);

#endif
