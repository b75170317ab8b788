/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h - queries and documents that are always at hand, French and English.
 * Layer: cli (L6).  Threads: any. */
#ifndef RR_CLI_SAMPLE_H
#define RR_CLI_SAMPLE_H

#include "rerank_types.h"

enum { RR_SAMPLE_LISTS = 24, RR_SAMPLE_DOCS = 20 };

/* List i (below RR_SAMPLE_LISTS): a query, documents of which one answers it, and its index. */
void rr_sample_list(uint32_t i, struct rr_text *query, struct rr_text docs[RR_SAMPLE_DOCS],
                    long *relevant);

#endif
