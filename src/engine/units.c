/* SPDX-License-Identifier: Apache-2.0 */
/* units.c - pairs in flight by key, so that equal ones are computed once, and the keys of pairs
 * that broke their batch.  Layer: engine (L5).  Threads: the caller holds the engine's lock. */
#include "base/attr.h"
#include "base/mem.h"
#include "engine/engine.h"

static struct rr_unit **bucket(struct rr_engine *e, struct rr_key key)
{
    return &e->units.buckets[rr_key_hash(key) % RR_UNIT_BUCKETS];
}

static struct rr_unit *find(struct rr_engine *e, const struct rr_unit *like)
{
    struct rr_unit *u = *bucket(e, like->key);

    while (u && !(rr_key_eq(u->key, like->key) && u->pass == like->pass)) u = u->sibling;
    return u;
}

bool rr_units_join(struct rr_engine *e, struct rr_want *want)
{
    struct rr_unit *mine = want->unit, *u = mine->shared ? find(e, mine) : NULL;
    bool alone = !u;

    if (u) {
        rr_free(mine);
    } else {
        u = mine;
        rr_kind_waits(u, 1);
        if (u->shared) {
            u->sibling = *bucket(e, u->key);
            *bucket(e, u->key) = u;
        }
    }
    want->unit = u;
    want->next = u->wants;
    want->link = &u->wants;
    if (want->next) want->next->link = &want->next;
    u->wants = want;
    return alone;
}

void rr_units_remove(struct rr_engine *e, struct rr_unit *unit)
{
    struct rr_unit **at = bucket(e, unit->key);

    if (!unit->shared) return;
    while (*at != unit) at = &(*at)->sibling;
    *at = unit->sibling;
    unit->shared = false;
}

void rr_units_leave(struct rr_engine *e, struct rr_want *want)
{
    struct rr_unit *u = want->unit;

    if (!u) return;
    want->unit = NULL;
    *want->link = want->next;
    if (want->next) want->next->link = want->link;
    if (u->wants || u->taken) return;
    rr_kind_waits(u, -1);
    rr_units_remove(e, u);
    rr_free(u);
}

int rr_poison_find(const struct rr_engine *e, struct rr_key key, uint64_t now)
{
    size_t i;

    for (i = 0; i < RR_MIN(e->units.n_poison, (uint32_t)RR_POISON); i++) {
        const struct rr_poison *p = &e->units.poison[i];

        if (p->code && now < p->until_ns && rr_key_eq(p->key, key)) return p->code;
    }
    return RR_OK;
}

void rr_poison_add(struct rr_engine *e, struct rr_key key, int code, uint64_t now)
{
    const uint64_t keep_ns = UINT64_C(60000000000); /* a minute: whoever retries stops by then */

    e->units.poison[e->units.n_poison++ % RR_POISON] =
        (struct rr_poison){ key, now + keep_ns, code };
}
