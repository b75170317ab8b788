/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c - rr_convert and rr_supported of rerank.h.  Layer: engine (L5). */
#include "model/convert.h"
#include "model/model.h"

#include "rerank.h"

int rr_convert(const char *from, const char *to, const char *dtype, uint64_t shard_bytes,
               struct rr_error *err)
{
    return rr_model_convert(from, to, dtype, shard_bytes, err);
}

bool rr_supported(size_t i, struct rr_support *out)
{
    *out = (struct rr_support){ .safetensors_types = "F32, F16 and BF16",
                                .cpu_dtypes = "f32, bf16, int8",
                                .gpu_dtypes = "f32, f16, bf16, int8, fp8" };
    out->architecture = rr_model_supported(i, &out->gguf_types, &out->models);
    return out->architecture != NULL;
}
