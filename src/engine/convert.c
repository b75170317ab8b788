/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c - rr_convert and rr_supported of rerank.h.  Layer: engine (L5). */
#include "model/convert.h"
#include "model/model.h"

#include "rerank.h"
#include "tok/tok.h"

#define MAX_TOKENIZER ((size_t)512 << 20)

int rr_convert(const char *from, const char *to, const char *dtype, uint64_t shard_bytes,
               struct rr_error *err)
{
    struct rr_buf tokenizer; /* a GGUF file has none of the files beside it */
    int rc;

    rr_buf_init(&tokenizer, RR_MEM_TOKENIZER, MAX_TOKENIZER);
    rc = rr_gguf_named(to) ? rr_tok_json(&tokenizer, from, err) : RR_OK;
    if (!rc)
        rc = rr_model_convert(from, to, dtype, shard_bytes,
                              (struct rr_text){ tokenizer.data, tokenizer.len }, err);
    rr_buf_free(&tokenizer);
    return rc;
}

bool rr_supported(size_t i, struct rr_support *out)
{
    *out = (struct rr_support){ .safetensors_types = "F32, F16 and BF16",
                                .cpu_dtypes = "f32, bf16, int8",
                                .gpu_dtypes = "f32, f16, bf16, int8, fp8" };
    out->architecture = rr_model_supported(i, &out->gguf_types, &out->models);
    return out->architecture != NULL;
}
