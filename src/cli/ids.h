/* SPDX-License-Identifier: Apache-2.0 */
/* ids.h - numbers for the ids of queries and documents: which were there before, and as which.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_IDS_H
#define RR_CLI_IDS_H

#include "base/arena.h"
#include "rerank_types.h"

struct rr_ids {           /* zeroed at first */
    struct rr_text *list; /* [n] by number: the order in which they came first */
    size_t n;
    uint32_t *slots; /* [n_slots] number + 1 by hash, 0: free; a power of two, twice n and more */
    size_t n_slots;
};

/* *number of id, which is added where it is new: then *number is what n was.  A new id is copied
 * into arena; NULL: it stays where it is, and must.  RR_ENOMEM. */
RR_NODISCARD int rr_ids_add(struct rr_ids *ids, struct rr_arena *arena, struct rr_text id,
                            uint32_t *number, struct rr_error *err);
void rr_ids_free(struct rr_ids *ids);

/* FNV-1a, mixed; for other tables of ids. */
uint64_t rr_id_hash(struct rr_text id);

#endif
