/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c - rr_convert of rerank.h.  Layer: engine (L5). */
#include "model/convert.h"

#include "rerank.h"

int rr_convert(const char *from, const char *to, const char *dtype, uint64_t shard_bytes,
               struct rr_error *err)
{
    return rr_model_convert(from, to, dtype, shard_bytes, err);
}
