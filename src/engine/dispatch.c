/* SPDX-License-Identifier: Apache-2.0 */
/* dispatch.c - see dispatch.h. */
#include "engine/dispatch.h"

#include <math.h>

#include "base/attr.h"

void rr_speed_init(struct rr_speed *s, uint32_t small, uint64_t small_ns, uint32_t large,
                   uint64_t large_ns)
{
    double each = 0;

    if (large > small && large_ns > small_ns)
        each = (double)(large_ns - small_ns) / (large - small);
    if (each * small > (double)small_ns) each = (double)small_ns / small;
    *s = (struct rr_speed){ (double)small_ns - each * small, each, 1 };
}

void rr_speed_learn(struct rr_speed *s, uint32_t tokens, uint64_t ns)
{
    double expected = s->base_ns + s->token_ns * tokens;

    if (expected > 0) s->now += ((double)ns / expected - s->now) / 8; /* of the last few */
}

void rr_speed_hope(struct rr_speed *s, uint32_t tokens, uint64_t ns)
{
    double expected = s->base_ns + s->token_ns * tokens;

    if (expected > 0) s->now = RR_MIN(s->now, (double)ns / expected);
}

double rr_speed_ns(const struct rr_speed *s, double tokens)
{
    return (s->base_ns + s->token_ns * tokens) * s->now;
}

/* Tokens a nanosecond in full batches. */
static double rate(const struct rr_hand *h)
{
    double ns = rr_speed_ns(h->speed, h->batch_tokens);

    return h->share * h->batch_tokens / RR_MAX(ns, 1e-3);
}

static double batch_ns(const struct rr_hand *h, double tokens)
{
    return rr_speed_ns(h->speed, RR_MIN(tokens, h->batch_tokens)) / h->share;
}

double rr_finish_ns(const struct rr_hand *hands, size_t n, double waiting, double tokens)
{
    double sum = 0, first = HUGE_VAL, head_start = 0, all;
    size_t i;

    for (i = 0; i < n; i++) {
        sum += rate(&hands[i]);
        head_start += rate(&hands[i]) * hands[i].busy_ns;
        first = RR_MIN(first, hands[i].busy_ns + batch_ns(&hands[i], waiting + tokens));
    }
    if (!n) return HUGE_VAL;
    all = (waiting + tokens + head_start) / sum; /* if it could be cut as one likes */
    return RR_MAX(all, first);                   /* which no batch can be */
}

bool rr_lane_takes(const struct rr_hand *me, const struct rr_hand *others, size_t n, double waiting,
                   double pair)
{
    return batch_ns(me, rr_lane_part(me, others, n, waiting, pair)) <=
           rr_finish_ns(others, n, 0, waiting);
}

double rr_lane_part(const struct rr_hand *me, const struct rr_hand *others, size_t n,
                    double waiting, double pair)
{
    double own = rate(me), sum = own, part;
    size_t i;

    for (i = 0; i < n; i++)
        if (others[i].busy_ns <= 0) sum += rate(&others[i]);
    part = RR_MAX(waiting * own / sum, pair);
    /* Cut, it takes one more base of each. */
    if ((waiting - part) * me->speed->token_ns <= me->speed->base_ns) part = waiting;
    return RR_MIN(part, me->batch_tokens);
}
