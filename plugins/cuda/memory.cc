/* SPDX-License-Identifier: Apache-2.0 */
/* memory.cc - what a program needs on a device, whether it fits, and what would. */
#include <algorithm>
#include <inttypes.h>
#include <stdio.h>

#include "plan.h"

/* What a graph and the runtime may take beyond the plan. */
#define RESERVE_BYTES ((uint64_t)96 << 20)
/* Batches are offered in steps of so many tokens. */
#define STEP 64u

namespace
{

uint64_t mib(uint64_t bytes)
{
    return (bytes + (1 << 20) - 1) >> 20;
}

struct rr_memory count_memory(Precision precision, int arch, const struct rr_program &p,
                              const struct rr_limits &limits)
{
    Packer counter(nullptr);
    Numbers n = numbers_for(precision, arch, p);
    struct rr_memory m = {};

    pack_weights(counter, n, p, limits);
    m.weights = counter.used;
    m.workspace = std::max(make_layout(n, p, limits).bytes, single_layout(n, p, limits).bytes) +
                  batch_layout(limits).bytes;
    return m;
}

uint64_t need(const struct rr_memory &m)
{
    return m.weights + m.workspace + RESERVE_BYTES;
}

struct rr_limits limits_for(const struct rr_limits &l, uint32_t tokens)
{
    return { tokens, std::min(l.max_sequences, tokens), l.max_length };
}

/* The largest batch that fits, and one pair of full length at least; 0: none does. */
uint32_t largest_batch(const struct rr_device *d, const struct rr_program &p,
                       const struct rr_limits &l, uint64_t bytes)
{
    uint32_t least = 0, most = (l.max_tokens - l.max_length) / STEP; /* steps above max_length */
    auto fits = [&](uint32_t steps) {
        return need(count_memory(d->precision, d->arch, p,
                                 limits_for(l, l.max_length + steps * STEP))) <= bytes;
    };

    if (!fits(0)) return 0;
    while (least < most) {
        uint32_t middle = least + (most - least + 1) / 2;

        if (fits(middle))
            least = middle;
        else
            most = middle - 1;
    }
    return l.max_length + least * STEP;
}

} // namespace

BatchLayout batch_layout(const struct rr_limits &l)
{
    BatchLayout b = {};

    b.max_tiles = l.max_tokens / ATTENTION_TILE + std::min(l.max_sequences, l.max_tokens);
    b.cu_seqlens = sizeof(Dims);
    b.tiles = round_up(b.cu_seqlens + ((size_t)l.max_sequences + 1) * 4, 16);
    b.tokens = round_up(b.tiles + (size_t)b.max_tiles * sizeof(uint2), 16);
    b.bytes = b.tokens + (size_t)l.max_tokens * sizeof(int4);
    return b;
}

Layout single_layout(const Numbers &n, const struct rr_program &p, const struct rr_limits &l)
{
    if (n.precision == Precision::F32) return {}; /* it would compute the same again */
    return make_layout({ Precision::F32, false }, p, limits_for(l, std::min(l.max_length, l.max_tokens)));
}

int plan_program(const struct rr_device *d, const struct rr_program *p, const struct rr_limits *l,
                 struct rr_memory *out, struct rr_error *err)
{
    size_t free_bytes, total;
    int rc = rr_cpu_check(p, l, err);

    if (rc) return rc;
    *out = count_memory(d->precision, d->arch, *p, *l);
    if (!cudaSetDevice(d->ordinal) && !cudaMemGetInfo(&free_bytes, &total))
        out->available = free_bytes - std::min((uint64_t)free_bytes, RESERVE_BYTES);
    return RR_OK;
}

int check_room(struct rr_device *d, const struct rr_program &p, const struct rr_limits &l,
               const struct rr_memory &m, struct rr_error *err)
{
    bool bytes = d->precision == Precision::I8 || d->precision == Precision::F8;
    char batch[64], precision[64] = "";
    size_t free_bytes, total;
    cudaError_t e = cudaMemGetInfo(&free_bytes, &total);

    if (e) return cuda_failed(d, e, "asking for free memory", err);
    if (need(m) <= free_bytes) return RR_OK;
    uint32_t tokens = largest_batch(d, p, l, free_bytes);
    if (tokens)
        snprintf(batch, sizeof(batch), "--batch-tokens %" PRIu32 " fits", tokens);
    else
        snprintf(batch, sizeof(batch), "not even one pair of %" PRIu32 " tokens fits",
                 l.max_length);
    if (!bytes && d->arch >= 75)
        snprintf(precision, sizeof(precision), ", --dtype int8 needs %" PRIu64 " MiB",
                 mib(need(count_memory(Precision::I8, d->arch, p, l))));
    return rr_fail(err, RR_ENOMEM,
                   "the model needs %" PRIu64 " MiB on GPU %d (%" PRIu64 " weights as %s, %" PRIu64
                   " workspace, %" PRIu64 " reserve) and %" PRIu64 " of %" PRIu64
                   " MiB are free: %s%s; or stop other programs on it",
                   mib(need(m)), d->ordinal, mib(m.weights), precision_name(d->precision),
                   mib(m.workspace), mib(RESERVE_BYTES), mib(free_bytes), mib(total), batch,
                   precision);
}
