/* SPDX-License-Identifier: Apache-2.0 */
/* ids.c - see ids.h.  Layer: cli (L6). */
#include "cli/ids.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"

#define FIRST_SLOTS 64

uint64_t rr_id_hash(struct rr_text id)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    size_t i;

    for (i = 0; i < id.len; i++) h = (h ^ (unsigned char)id.data[i]) * UINT64_C(0x100000001B3);
    h ^= h >> 32;
    return h * UINT64_C(0x9E3779B97F4A7C15);
}

/* The slot of id: taken by it, or free. */
static uint32_t *slot_of(const struct rr_ids *ids, struct rr_text id)
{
    size_t i = (size_t)rr_id_hash(id) & (ids->n_slots - 1);

    while (ids->slots[i] && !rr_text_eq(ids->list[ids->slots[i] - 1], id))
        i = (i + 1) & (ids->n_slots - 1);
    return &ids->slots[i];
}

static int grow(struct rr_ids *ids, struct rr_error *err)
{
    size_t n = ids->n_slots ? 2 * ids->n_slots : FIRST_SLOTS, i;
    struct rr_text *list = rr_realloc(RR_MEM_MISC, ids->list, n / 2, sizeof(*list));
    uint32_t *slots = rr_calloc(RR_MEM_MISC, n, sizeof(*slots));

    if (list) ids->list = list;
    if (!list || !slots) {
        rr_free(slots);
        return rr_fail(err, RR_ENOMEM, "out of memory for %zu ids", n / 2);
    }
    rr_free(ids->slots);
    ids->slots = slots;
    ids->n_slots = n;
    for (i = 0; i < ids->n; i++) *slot_of(ids, list[i]) = (uint32_t)i + 1;
    return RR_OK;
}

int rr_ids_add(struct rr_ids *ids, struct rr_arena *arena, struct rr_text id, uint32_t *number,
               struct rr_error *err)
{
    uint32_t *slot;
    int rc = ids->n >= ids->n_slots / 2 ? grow(ids, err) : RR_OK;

    if (rc) return rc;
    slot = slot_of(ids, id);
    if (!*slot) {
        if (arena && !(id.data = rr_arena_strndup(arena, id.data, id.len)))
            return rr_fail(err, RR_ENOMEM, "out of memory for the ids");
        ids->list[ids->n++] = id;
        *slot = (uint32_t)ids->n;
    }
    *number = *slot - 1;
    return RR_OK;
}

void rr_ids_free(struct rr_ids *ids)
{
    rr_free(ids->list);
    rr_free(ids->slots);
    memset(ids, 0, sizeof(*ids));
}
