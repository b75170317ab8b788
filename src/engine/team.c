/* SPDX-License-Identifier: Apache-2.0 */
/* team.c - see team.h. */
#include "engine/team.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cpu/pool.h"
#include "cpu/topology.h"

/* A device, and who is at it.  Kept until the team ends. */
struct place {
    struct place *next;
    char device[32];
    struct rr_turns turns;
    struct rr_member *busy; /* whose turn it is; NULL: nobody's */
};

struct rr_member {
    struct rr_stake stake; /* first: a stake is its member */
    struct rr_team *team;
    struct place *place;
    pthread_cond_t wake; /* its turn has come, or quit */
    struct rr_grant grant;
    uint64_t begun_ns; /* when its runner came for the turn */
    bool quit;
};

struct rr_team {
    uint32_t threads; /* as asked: 0: automatic */
    pthread_mutex_t lock;
    pthread_cond_t prep_moved;
    /* under the lock */
    struct rr_pool *pool;
    struct place *places;
    bool abandoned;
    uint32_t prep_slots, prep_busy;
    uint64_t prep_next, prep_serving; /* tickets: the one to be drawn next, the one that may go */
};

int rr_team_open(struct rr_team **out, uint32_t threads, struct rr_error *err)
{
    struct rr_team *team;

    *out = NULL;
    if (threads > RR_POOL_MAX)
        return rr_fail(err, RR_EINVAL, "%u compute threads asked for, possible are 0 to %d",
                       threads, RR_POOL_MAX);
    team = rr_calloc(RR_MEM_MISC, 1, sizeof(*team));
    if (!team) return rr_fail(err, RR_ENOMEM, "out of memory for a team of engines");
    team->threads = threads;
    team->prep_slots = 1;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->prep_moved, NULL);
    *out = team;
    return RR_OK;
}

void rr_team_close(struct rr_team *team)
{
    if (!team) return;
    if (team->abandoned) {
        rr_log(RR_ERROR, "a device hangs: the compute threads are left behind");
        return;
    }
    rr_pool_close(team->pool);
    while (team->places) {
        struct place *next = team->places->next;

        rr_free(team->places);
        team->places = next;
    }
    pthread_cond_destroy(&team->prep_moved);
    pthread_mutex_destroy(&team->lock);
    rr_free(team);
}

int rr_team_pool(struct rr_team *team, struct rr_pool **out, struct rr_error *err)
{
    struct rr_topology topo;
    uint32_t threads = team->threads;
    int rc = RR_OK;

    if (!threads) {
        rr_topology_get(&topo);
        threads = RR_MIN(topo.threads, (uint32_t)RR_POOL_MAX);
    }
    pthread_mutex_lock(&team->lock);
    if (!team->pool) rc = rr_pool_open(&team->pool, threads, err);
    *out = team->pool;
    pthread_mutex_unlock(&team->lock);
    return rc;
}

/* ---- members -------------------------------------------------------------------------------- */

/* Lock held.  NULL: out of memory. */
static struct place *find_place(struct rr_team *team, const char *device)
{
    struct place *p;

    for (p = team->places; p; p = p->next)
        if (strcmp(p->device, device) == 0) return p;
    p = rr_calloc(RR_MEM_MISC, 1, sizeof(*p));
    if (!p) return NULL;
    snprintf(p->device, sizeof(p->device), "%s", device);
    p->next = team->places;
    team->places = p;
    return p;
}

int rr_team_join(struct rr_member **out, struct rr_team *team, const char *device,
                 uint32_t prep_threads, struct rr_error *err)
{
    struct rr_member *m = rr_calloc(RR_MEM_MISC, 1, sizeof(*m));

    *out = NULL;
    if (!m) return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    m->team = team;
    pthread_mutex_lock(&team->lock);
    m->place = find_place(team, device);
    team->prep_slots = RR_MAX(team->prep_slots, prep_threads);
    pthread_mutex_unlock(&team->lock);
    if (!m->place) {
        rr_free(m);
        return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
    }
    pthread_cond_init(&m->wake, NULL);
    *out = m;
    return RR_OK;
}

/* Gives the device to the next one, if it is free.  Lock held. */
static void pass_on(struct place *p)
{
    struct rr_grant grant;
    struct rr_member *m;

    if (p->busy) return;
    m = (struct rr_member *)rr_turns_next(&p->turns, &grant);
    if (!m) return;
    m->grant = grant;
    p->busy = m;
    pthread_cond_signal(&m->wake);
}

void rr_team_retire(struct rr_member *m)
{
    if (!m) return;
    pthread_mutex_lock(&m->team->lock);
    rr_turns_claim(&m->place->turns, &m->stake, NULL);
    if (m->place->busy == m) m->place->busy = NULL;
    pass_on(m->place);
    pthread_mutex_unlock(&m->team->lock);
}

void rr_team_leave(struct rr_member *m)
{
    if (!m) return;
    rr_team_retire(m); /* its runner may never have started */
    pthread_cond_destroy(&m->wake);
    rr_free(m);
}

void rr_team_abandon(struct rr_member *m)
{
    if (!m) return;
    pthread_mutex_lock(&m->team->lock);
    m->team->abandoned = true;
    pthread_mutex_unlock(&m->team->lock);
}

/* ---- turns ---------------------------------------------------------------------------------- */

void rr_team_ask(struct rr_member *m, const struct rr_claim *claim)
{
    pthread_mutex_lock(&m->team->lock);
    if (m->place->busy != m) {
        rr_turns_claim(&m->place->turns, &m->stake, claim);
        pass_on(m->place);
    }
    pthread_mutex_unlock(&m->team->lock);
}

bool rr_team_wait(struct rr_member *m, const struct rr_grant **grant)
{
    bool ours;

    pthread_mutex_lock(&m->team->lock);
    while (m->place->busy != m && !m->quit) pthread_cond_wait(&m->wake, &m->team->lock);
    ours = m->place->busy == m;
    /* Not as it was given: on a busy machine a thread waits for a processor, and that would be
     * charged to whoever takes over from another, most to who has single turns between many. */
    m->begun_ns = rr_now_ns();
    pthread_mutex_unlock(&m->team->lock);
    *grant = &m->grant;
    return ours;
}

void rr_team_done(struct rr_member *m, const struct rr_claim *next)
{
    struct place *p = m->place;

    pthread_mutex_lock(&m->team->lock);
    rr_turns_charge(&m->stake, rr_now_ns() - m->begun_ns);
    p->busy = NULL;
    rr_turns_claim(&p->turns, &m->stake, next);
    pass_on(p);
    pthread_mutex_unlock(&m->team->lock);
}

void rr_team_quit(struct rr_member *m)
{
    pthread_mutex_lock(&m->team->lock);
    m->quit = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->team->lock);
}

double rr_team_share(struct rr_member *m)
{
    double share;

    pthread_mutex_lock(&m->team->lock);
    share = rr_turns_share(&m->place->turns, &m->stake);
    pthread_mutex_unlock(&m->team->lock);
    return share;
}

/* ---- prep ----------------------------------------------------------------------------------- */

void rr_team_prep_enter(struct rr_team *team)
{
    uint64_t mine;

    pthread_mutex_lock(&team->lock);
    mine = team->prep_next++;
    while (team->prep_serving != mine || team->prep_busy >= team->prep_slots)
        pthread_cond_wait(&team->prep_moved, &team->lock);
    team->prep_serving++;
    team->prep_busy++;
    pthread_cond_broadcast(&team->prep_moved); /* there may be room for the next one, too */
    pthread_mutex_unlock(&team->lock);
}

void rr_team_prep_leave(struct rr_team *team)
{
    pthread_mutex_lock(&team->lock);
    team->prep_busy--;
    pthread_cond_broadcast(&team->prep_moved);
    pthread_mutex_unlock(&team->lock);
}
