/* SPDX-License-Identifier: Apache-2.0 */
/* timer.c - the thread that keeps time: ends jobs that are late or cancelled, even while their
 * pairs are in a batch, and notices a device that no longer answers.  Layer: engine (L5). */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine.h"

/* Deadlines are met within this; so many scans of the jobs in flight a second are the most. */
#define TICK (5 * RR_MILLISECOND)

/* A batch may take so many times what it should before it counts as hung. */
enum { PATIENCE = 10 };

void rr_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t when_ns)
{
    struct timespec ts = { (time_t)(when_ns / RR_SECOND), (long)(when_ns % RR_SECOND) };

    if (when_ns == UINT64_MAX)
        pthread_cond_wait(cond, lock);
    else
        pthread_cond_timedwait(cond, lock, &ts);
}

uint64_t rr_run_budget(const struct rr_lane *lane, uint32_t n_tokens)
{
    double ns = PATIENCE * rr_lane_ns_per_token(lane) * n_tokens;

    return RR_MAX(lane->engine->stall_ns, (uint64_t)ns);
}

/* Its time has come: the job gets its error, or is told to answer with what it has. */
static bool is_due(rr_job *job, uint64_t now)
{
    if (atomic_load_explicit(&job->quit, memory_order_relaxed)) return false; /* is ending */
    if (job->canceled)
        rr_job_fail(job, RR_ECANCELED, "the request was cancelled");
    else if (now >= job->deadline_ns && job->req.allow_partial)
        job->partial = true;
    else if (now >= job->deadline_ns)
        rr_job_fail(job, RR_ETIMEDOUT, "the request's deadline passed before it was done");
    else
        return false;
    return true;
}

/* Ends all that are due.  Lock held, released meanwhile. */
static void reap(struct rr_engine *e, uint64_t now)
{
    rr_job *job, *ending = NULL, *next;

    for (job = e->all; job; job = job->all_next) {
        if (!is_due(job, now)) continue;
        job->holds++; /* the lock is released while others end */
        job->ending_next = ending;
        ending = job;
    }
    for (job = ending; job; job = next) {
        next = job->ending_next;
        job->holds--;
        rr_job_end(e, job);
    }
}

uint64_t rr_run_end(const struct rr_lane *lane)
{
    uint64_t since = atomic_load_explicit(&lane->run_since, memory_order_acquire);

    if (!since || lane->state != RR_LANE_UP) return UINT64_MAX;
    return since + atomic_load_explicit(&lane->run_budget, memory_order_relaxed);
}

/* Lanes whose runs take too long leave service, and what they have in hand goes to others.  Lock
 * held, released meanwhile. */
static void check_lanes(struct rr_engine *e, uint64_t now)
{
    bool lost = false;
    char why[64];
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        struct rr_lane *lane = &e->lanes[i];
        uint64_t since = atomic_load_explicit(&lane->run_since, memory_order_acquire);

        if (!since || now < rr_run_end(lane)) continue;
        snprintf(why, sizeof(why), "the device has not answered for %" PRIu64 " ms",
                 (now - since) / RR_MILLISECOND);
        rr_log(RR_ERROR, "%s: %s", lane->name, why);
        rr_lane_lost(lane, RR_LANE_HUNG, why);
        rr_units_give_back(e, lane->batch, lane->in_hand);
        lane->in_hand = 0;
        rr_lanes_wake(e, lane->kind);
        lost = true;
    }
    if (lost) rr_jobs_rescue(e);
}

/* When to look again if nothing happens.  Lock held. */
static uint64_t next_look(const struct rr_engine *e, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    const rr_job *job;
    uint32_t i;

    for (i = 0; i < e->n_lanes; i++) {
        const struct rr_lane *lane = &e->lanes[i];
        uint64_t budget = atomic_load_explicit(&lane->run_budget, memory_order_relaxed);

        if (e->unfinished || lane->asked_ns) next = RR_MIN(next, now + budget);
        next = RR_MIN(next, rr_run_end(lane));
    }
    for (job = e->all; job; job = job->all_next) {
        if (atomic_load_explicit(&job->quit, memory_order_relaxed)) continue;
        next = RR_MIN(next, job->deadline_ns);
    }
    return next == UINT64_MAX ? next : RR_MAX(next, now + TICK);
}

void *rr_timer_main(void *arg)
{
    struct rr_engine *e = arg;

    pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        uint64_t now = rr_now_ns();

        check_lanes(e, now);
        if (e->cancels || now >= e->timer_next) {
            e->cancels = false;
            reap(e, now);
        }
        e->timer_next = next_look(e, now);
        if (!e->cancels && !e->stop) rr_wait_until(&e->timer_wake, &e->lock, e->timer_next);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
