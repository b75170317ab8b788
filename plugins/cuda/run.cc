/* SPDX-License-Identifier: Apache-2.0 */
/* run.cc - a program on the device: memory, recorded graphs, batches.
 *
 * load reserves everything and records one graph for each bucket of tokens; run copies the batch up,
 * starts the graph of its bucket, copies the logits down and waits once.
 *
 * A pair whose logit is not finite is repeated: alone, in f32, over the weights as they lie there. */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <inttypes.h>
#include <new>
#include <string.h>
#include <thread>

#include "plan.h"

#define SMALLEST_BUCKET 64
/* A batch may take so many times what it should before it counts as hung. */
#define PATIENCE 10

namespace
{

struct Bucket {
    uint32_t tokens;
    cudaGraphExec_t graph;
};

} // namespace

struct rr_loaded {
    struct rr_device *device;
    struct rr_limits limits;
    Numbers numbers;
    std::vector<struct rr_op> ops;
    Layout layout, single; /* single: of one sequence in f32, in the same workspace */
    std::vector<OpWeights> weights;
    BatchLayout batch;
    char *weights_base, *workspace, *batch_base; /* device */
    char *staging;                               /* pinned: the batch */
    float *logits;                               /* pinned: rows of the output */
    cudaStream_t stream;
    std::vector<Bucket> buckets;
    bool early;          /* kernels may begin before the one before them has ended */
    double ns_per_token; /* least so far; 0: not known */
    bool warm;           /* the first batch is over, for which the driver loads code */
    bool hung;           /* the stream did not end: nothing that it uses may be freed */
};

int cuda_failed(struct rr_device *d, cudaError_t e, const char *what, struct rr_error *err)
{
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* this one is not sticky */
        return rr_fail(err, RR_ENOMEM, "GPU %d: out of memory (%s)", d->ordinal, what);
    }
    d->lost = true;
    return rr_fail(err, RR_EDEVICE, "GPU %d failed: %s (%s, %s)", d->ordinal, cudaGetErrorString(e),
                   cudaGetErrorName(e), what);
}

/* ---- one pass over the program ------------------------------------------------------------------- */

namespace
{

struct Pass {
    const struct rr_loaded &l;
    const Layout &layout; /* l.layout, or l.single: then all is f32 */
    LaunchContext c;

    Buffer buffer(size_t value) const
    {
        const Value &v = layout.values[value];

        return { v.f32 ? (float *)(l.workspace + v.f32_at) : nullptr,
                 v.narrow ? (uint16_t *)(l.workspace + v.narrow_at) : nullptr, v.ld, v.width };
    }
    template <class T = float> const T *weight(size_t at) const
    {
        return at == NOWHERE ? nullptr : (const T *)(l.weights_base + at);
    }
    enum rr_rows rows_of(size_t value) const
    {
        return layout.values[value].rows;
    }
    const uint32_t *rows(enum rr_rows kind) const
    {
        return &c.batch.dims->rows[kind];
    }

    /* What a LINEAR reads or a NORM writes. */
    Quantized quantized(const OpValues &o) const
    {
        if (o.quantized == NO_VALUE) return {};
        const QuantizedValue &v = layout.quantized[o.quantized];
        return { (uint8_t *)(l.workspace + v.at),
                 (float *)(l.workspace + v.scale_at),
                 (float *)(l.workspace + v.offset_at),
                 weight(l.weights[v.reader].smooth),
                 v.ld,
                 v.f8 };
    }

    cudaError_t linear(const struct rr_op &op, const OpValues &o, const OpWeights &w) const
    {
        enum rr_rows kind = rows_of(o.dst);
        Buffer src = buffer(o.src);
        GemmArgs g = {};

        g.rows = rows(kind);
        g.w = l.weights_base + w.weight;
        g.ld_bytes = w.ld_bytes;
        g.ld_a = src.ld;
        g.n = w.n;
        g.bias = weight(w.bias);
        g.act = op.u.linear.act;
        g.bf16 = c.bf16;
        g.dst = buffer(o.dst);
        if (o.other != NO_VALUE) {
            g.residual = buffer(o.other).f32;
            if (!g.residual) g.residual_narrow = buffer(o.other).narrow;
            g.ld_residual = layout.values[o.other].ld;
        }
        if (w.type == GEMM_F32 || &layout == &l.single) {
            g.a = src.f32;
            g.smooth = weight(w.smooth);
            g.w_scale = weight(w.scale);
            return launch_gemm_f32(c, kind, w.type, g);
        }
        g.a = src.narrow;
        if (o.quantized != NO_VALUE) {
            const QuantizedValue &v = layout.quantized[o.quantized];
            Quantized q = quantized(o);
            cudaError_t e = v.maker != v.reader ? cudaSuccess
                                                : launch_quantize(c, kind, { g.rows, src, q });
            if (e) return e;
            g.a = q.q;
            g.a_scale = q.scale;
            g.a_offset = q.offset;
            g.w_scale = weight(w.scale);
            g.w_sum = weight(w.sum);
        }
        return launch_gemm(c, kind, w.type, g);
    }

    cudaError_t rotary(const struct rr_op_rotary &r, const OpValues &o, const OpWeights &w) const
    {
        RotaryArgs a = {};

        a.batch = c.batch;
        a.cosines = weight(w.cosines);
        a.sines = weight(w.sines);
        a.gamma = weight(w.gamma);
        a.eps = r.eps;
        a.n = w.angles;
        a.col = r.col;
        a.heads = r.heads;
        a.head_dim = r.head_dim;
        a.sequences = rows_of(o.dst) == RR_ROWS_SEQUENCES;
        a.last = r.last;
        a.src = buffer(o.src);
        a.dst = buffer(o.dst);
        return launch_rotary(c, a);
    }

    cudaError_t attention(const struct rr_op_attention &op, const OpValues &o,
                          const OpWeights &w) const
    {
        AttentionArgs a = {};

        a.batch = c.batch;
        a.q = buffer(o.src);
        a.kv = buffer(o.other);
        a.dst = buffer(o.dst);
        a.q_col = op.q_col;
        a.k_col = op.k_col;
        a.v_col = op.v_col;
        a.heads = op.heads;
        a.kv_heads = op.kv_heads ? op.kv_heads : op.heads;
        a.head_dim = op.head_dim;
        a.window = op.window;
        a.scale = op.scale;
        a.causal = op.causal;
        a.sequences = rows_of(o.dst) == RR_ROWS_SEQUENCES;
        a.last = op.last;
        a.relative = { weight(w.relative_keys), weight(w.relative_queries),
                       weight<int32_t>(w.buckets), w.relative_ld, l.limits.max_length };
        return launch_attention(c, a);
    }

    cudaError_t op(size_t i) const
    {
        const struct rr_op &op = l.ops[i];
        const OpValues &o = layout.ops[i];
        const OpWeights &w = l.weights[i];
        Buffer src = o.src == NO_VALUE ? Buffer{} : buffer(o.src), dst = buffer(o.dst);
        enum rr_rows kind = rows_of(o.dst);

        switch (op.kind) {
        case RR_OP_EMBED:
            return launch_embed(c,
                                { c.batch, weight(w.word), weight(w.position), weight(w.type_table),
                                  weight(w.word_scale), w.word_type, w.position_type, w.type_type,
                                  op.u.embed.scale ? op.u.embed.scale : 1.0f, dst });
        case RR_OP_FIRST:
        case RR_OP_LAST:
        case RR_OP_MEAN: return launch_pool(c, { c.batch, op.kind, src, dst });
        case RR_OP_LINEAR: return linear(op, o, w);
        case RR_OP_NORM:
            return launch_norm(c, kind,
                               { rows(kind), weight(w.gamma), weight(w.beta), op.u.norm.eps,
                                 op.u.norm.rms, src, dst, quantized(o) });
        case RR_OP_GLU:
            return launch_glu(c, kind, { rows(kind), op.u.glu.act, op.u.glu.act_second, src, dst });
        case RR_OP_ROTARY: return rotary(op.u.rotary, o, w);
        case RR_OP_ATTENTION: return attention(op.u.attention, o, w);
        }
        return cudaErrorInvalidValue;
    }

    /* The first kernel waits for the copy of the batch. */
    cudaError_t all()
    {
        cudaError_t e = cudaSuccess;

        for (size_t i = 0; i < l.ops.size() && !e; i++) {
            c.early = l.early && i;
            e = op(i);
        }
        return e;
    }
};

/* 9.0 has kernels that begin early; CUDA 12.3 can record them. */
bool may_begin_early(int arch)
{
    int driver = 0, runtime = 0;

    return arch >= 90 && !cudaDriverGetVersion(&driver) && !cudaRuntimeGetVersion(&runtime) &&
           std::min(driver, runtime) >= 12030;
}

LaunchContext context_for(const struct rr_loaded &l, uint32_t tokens)
{
    LaunchContext c = {};

    c.stream = l.stream;
    c.batch = { (const Dims *)l.batch_base, (const uint32_t *)(l.batch_base + l.batch.cu_seqlens),
                (const uint2 *)(l.batch_base + l.batch.tiles),
                (const int4 *)(l.batch_base + l.batch.tokens) };
    c.rows[RR_ROWS_TOKENS] = tokens;
    c.rows[RR_ROWS_SEQUENCES] = std::min(l.limits.max_sequences, tokens);
    c.max_tiles = tokens / ATTENTION_TILE + c.rows[RR_ROWS_SEQUENCES];
    c.bf16 = l.numbers.bf16;
    c.arch = l.device->arch;
    c.processors = l.device->prop.multiProcessorCount;
    return c;
}

/* ---- load -------------------------------------------------------------------------------------- */

cudaError_t record_once(struct rr_loaded &l, uint32_t tokens)
{
    Pass pass = { l, l.layout, context_for(l, tokens) };
    cudaGraph_t graph = nullptr;
    Bucket b = { tokens, nullptr };
    /* relaxed: the driver may load a kernel's code when it is first recorded, allocating */
    cudaError_t e = cudaStreamBeginCapture(l.stream, cudaStreamCaptureModeRelaxed), failed;

    if (e) return e;
    e = pass.all();
    failed = cudaStreamEndCapture(l.stream, &graph); /* also after a failure: it ends the mode */
    if (!e) e = failed;
    if (!e) e = cudaGraphInstantiate(&b.graph, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (!e) l.buckets.push_back(b);
    return e;
}

/* Where the driver does not record kernels that begin early, they begin in turn. */
cudaError_t record(struct rr_loaded &l, uint32_t tokens)
{
    cudaError_t e = record_once(l, tokens);

    if (!e || e == cudaErrorMemoryAllocation || !l.early) return e;
    cudaGetLastError(); /* if the device is lost, the next call says so again */
    l.early = false;
    return record_once(l, tokens);
}

/* 64, 80, 96, 112, 128, 160, ...: at most a fifth of a batch's blocks have nothing to do. */
cudaError_t record_all(struct rr_loaded &l)
{
    cudaError_t e = cudaSuccess;
    uint32_t tokens, octave = SMALLEST_BUCKET;

    for (tokens = octave; tokens < l.limits.max_tokens && !e; tokens += octave / 4) {
        e = record(l, tokens);
        if (tokens == 2 * octave) octave = tokens;
    }
    return e ? e : record(l, l.limits.max_tokens);
}

int allocate(struct rr_loaded &l, const struct rr_memory &m, struct rr_error *err)
{
    cudaError_t e = cudaMalloc(&l.weights_base, m.weights);

    if (e) return cuda_failed(l.device, e, "weights", err);
    e = cudaMalloc(&l.workspace, std::max(l.layout.bytes, l.single.bytes));
    if (!e) e = cudaMalloc(&l.batch_base, l.batch.bytes);
    if (e) return cuda_failed(l.device, e, "workspace", err);
    e = cudaHostAlloc((void **)&l.staging, l.batch.bytes, cudaHostAllocDefault);
    if (!e)
        e = cudaHostAlloc((void **)&l.logits,
                          (size_t)l.limits.max_sequences * l.layout.values[l.layout.output].ld * 4,
                          cudaHostAllocDefault);
    if (e) return cuda_failed(l.device, e, "page-locked host memory", err);
    e = cudaStreamCreateWithFlags(&l.stream, cudaStreamNonBlocking);
    return e ? cuda_failed(l.device, e, "creating a stream", err) : RR_OK;
}

int fill(struct rr_loaded &l, const struct rr_program &p, struct rr_error *err)
{
    Packer packer(l.weights_base);
    cudaError_t e;

    l.weights = pack_weights(packer, l.numbers, p, l.limits);
    e = packer.error;
    if (!e) e = cudaDeviceSynchronize(); /* copies from pageable memory may still be under way */
    if (e) return cuda_failed(l.device, e, "copying weights", err);
    e = make_relative(context_for(l, l.limits.max_tokens), l.weights_base, p, l.weights);
    if (e) return cuda_failed(l.device, e, "tables of relative positions", err);
    e = record_all(l);
    return e ? cuda_failed(l.device, e, "recording", err) : RR_OK;
}

} // namespace

int load_program(struct rr_device *d, const struct rr_program *p, const struct rr_limits *limits,
                 struct rr_loaded **out, struct rr_error *err)
{
    struct rr_memory memory;
    int rc = plan_program(d, p, limits, &memory, err);

    *out = nullptr;
    if (!rc) rc = check_room(d, *p, *limits, memory, err);
    if (rc) return rc;
    struct rr_loaded *l = new rr_loaded();
    l->device = d;
    l->limits = *limits;
    l->early = may_begin_early(d->arch);
    try {
        l->ops.assign(p->ops, p->ops + p->n_ops);
        l->numbers = numbers_for(d->precision, d->arch, *p);
        l->layout = make_layout(l->numbers, *p, *limits);
        l->single = single_layout(l->numbers, *p, *limits);
        l->batch = batch_layout(*limits);
        rc = allocate(*l, memory, err);
        if (!rc) rc = fill(*l, *p, err);
    } catch (const std::bad_alloc &) {
        rc = rr_fail(err, RR_ENOMEM, "out of host memory while loading for GPU %d", d->ordinal);
    }
    if (rc)
        unload_program(l);
    else
        *out = l;
    return rc;
}

/* Also of what was loaded in part, and on a lost device, where every call fails. */
void unload_program(struct rr_loaded *l)
{
    if (!l) return;
    if (l->hung) { /* freeing would wait for the device, which may write there at any time */
        delete l;
        return;
    }
    cudaSetDevice(l->device->ordinal);
    for (Bucket &b : l->buckets) cudaGraphExecDestroy(b.graph);
    if (l->stream) cudaStreamDestroy(l->stream);
    cudaFree(l->weights_base);
    cudaFree(l->workspace);
    cudaFree(l->batch_base);
    if (l->staging) cudaFreeHost(l->staging);
    if (l->logits) cudaFreeHost(l->logits);
    delete l;
}

/* ---- run --------------------------------------------------------------------------------------- */

namespace
{

/* The model layer has checked the batch; this keeps a mistake there from reading wild memory. */
int check_lengths(const struct rr_limits &l, const struct rr_batch *b, struct rr_error *err)
{
    if (b->n_tokens > l.max_tokens || b->n_sequences > l.max_sequences)
        return rr_fail(err, RR_ETOOBIG,
                       "batch of %" PRIu32 " tokens in %" PRIu32 " sequences, loaded for %" PRIu32
                       " in %" PRIu32,
                       b->n_tokens, b->n_sequences, l.max_tokens, l.max_sequences);
    if (b->cu_seqlens[0] != 0 || b->cu_seqlens[b->n_sequences] != b->n_tokens)
        return rr_fail(err, RR_EINVAL,
                       "cu_seqlens begins with %" PRIu32 " and ends with %" PRIu32
                       ", expected 0 and %" PRIu32 " tokens",
                       b->cu_seqlens[0], b->cu_seqlens[b->n_sequences], b->n_tokens);
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        uint32_t begin = b->cu_seqlens[i], end = b->cu_seqlens[i + 1];

        if (end <= begin || end > b->n_tokens)
            return rr_fail(err, RR_EINVAL, "sequence %" PRIu32 " of the batch is empty", i);
        if (end - begin > l.max_length)
            return rr_fail(err, RR_ETOOBIG,
                           "sequence %" PRIu32 " has %" PRIu32 " tokens, loaded for %" PRIu32, i,
                           end - begin, l.max_length);
    }
    return RR_OK;
}

int check_table(const int32_t *rows, uint32_t n, size_t at, uint32_t limit, const char *what,
                struct rr_error *err)
{
    for (uint32_t i = 0; at != NOWHERE && i < n; i++)
        if (rows[i] < 0 || (uint32_t)rows[i] >= limit)
            return rr_fail(err, RR_EINVAL,
                           "token %" PRIu32 " of the batch is outside the %s table of %" PRIu32
                           " rows",
                           i, what, limit);
    return RR_OK;
}

int check_batch(const struct rr_loaded *l, const struct rr_batch *b, struct rr_error *err)
{
    int rc = check_lengths(l->limits, b, err);

    for (size_t i = 0; i < l->ops.size() && !rc; i++) {
        const OpWeights &w = l->weights[i];

        if (l->ops[i].kind == RR_OP_ROTARY)
            rc = check_table(b->positions, b->n_tokens, 0, l->limits.max_length, "angle", err);
        if (l->ops[i].kind != RR_OP_EMBED) continue;
        rc = check_table(b->ids, b->n_tokens, w.word, w.word_rows, "word", err);
        if (!rc)
            rc = check_table(b->positions, b->n_tokens, w.position, w.position_rows, "position",
                             err);
        if (!rc) rc = check_table(b->types, b->n_tokens, w.type_table, w.type_rows, "type", err);
    }
    return rc;
}

/* Returns how many bytes of the staging block to copy. */
size_t stage(const struct rr_loaded *l, const struct rr_batch *b)
{
    Dims *dims = (Dims *)l->staging;
    uint2 *tiles = (uint2 *)(l->staging + l->batch.tiles);
    int4 *tokens = (int4 *)(l->staging + l->batch.tokens);

    *dims = { { b->n_tokens, b->n_sequences }, 0, 0 };
    memcpy(l->staging + l->batch.cu_seqlens, b->cu_seqlens, ((size_t)b->n_sequences + 1) * 4);
    for (uint32_t s = 0; s < b->n_sequences; s++) {
        uint32_t begin = b->cu_seqlens[s], end = b->cu_seqlens[s + 1];

        for (uint32_t q = 0; q < end - begin; q += 2 * ATTENTION_TILE)
            tiles[dims->pairs++] = { s, q };
        for (uint32_t t = begin; t < end; t++)
            tokens[t] = { b->ids[t], b->positions[t], b->types[t], (int)s };
    }
    dims->tiles = dims->pairs;
    for (uint32_t s = 0; s < b->n_sequences; s++)
        for (uint32_t q = ATTENTION_TILE; q < b->cu_seqlens[s + 1] - b->cu_seqlens[s];
             q += 2 * ATTENTION_TILE)
            tiles[dims->tiles++] = { s, q };
    return l->batch.tokens + (size_t)b->n_tokens * sizeof(int4);
}

using Clock = std::chrono::steady_clock;

uint64_t ns_since(Clock::time_point begin)
{
    return (uint64_t)std::chrono::nanoseconds(Clock::now() - begin).count();
}

/* Until the stream has ended, at most budget_ns; 0: for ever.  Short batches are waited for without
 * sleeping; for the others a twentieth of a millisecond is little, and tokenizers need the
 * processor. */
cudaError_t wait(cudaStream_t stream, uint64_t budget_ns)
{
    Clock::time_point begin = Clock::now();
    cudaError_t e;

    while ((e = cudaStreamQuery(stream)) == cudaErrorNotReady) {
        uint64_t waited = ns_since(begin);

        cudaGetLastError(); /* it was noted like a failure */
        if (budget_ns && waited >= budget_ns) break;
        if (waited < 1000000)
            std::this_thread::yield();
        else
            std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return e;
}

/* Waits for what was queued for so many tokens. */
int finish(struct rr_loaded *l, uint64_t budget_ns, struct rr_error *err)
{
    struct rr_device *d = l->device;
    cudaError_t e = wait(l->stream, budget_ns);

    if (!e) return RR_OK;
    if (e != cudaErrorNotReady) return cuda_failed(d, e, "running a batch", err);
    d->lost = l->hung = true;
    leave_behind(d->ordinal, l->stream);
    return rr_fail(err, RR_EDEVICE, "GPU %d has not answered for %" PRIu64 " ms: a kernel hangs",
                   d->ordinal, budget_ns / 1000000);
}

/* Something could not be queued; what was queued before it may still read the staging block. */
int queue_failed(struct rr_loaded *l, cudaError_t e, struct rr_error *err)
{
    if (e == cudaErrorMemoryAllocation) {
        int rc = finish(l, l->device->hang_ns, err);
        if (rc) return rc;
    }
    return cuda_failed(l->device, e, "running a batch", err);
}

cudaError_t copy_up(struct rr_loaded *l, const struct rr_batch *b)
{
    return cudaMemcpyAsync(l->batch_base, l->staging, stage(l, b), cudaMemcpyHostToDevice,
                           l->stream);
}

cudaError_t copy_logits(struct rr_loaded *l, const Layout &layout, uint32_t n)
{
    const Value &out = layout.values[layout.output];

    return cudaMemcpyAsync(l->logits, l->workspace + out.f32_at, (size_t)n * out.ld * 4,
                           cudaMemcpyDeviceToHost, l->stream);
}

int run_all(struct rr_loaded *l, const struct rr_batch *b, float *logits, struct rr_error *err)
{
    double usual = PATIENCE * l->ns_per_token * b->n_tokens;
    uint64_t hang = l->device->hang_ns;
    uint32_t ld = l->layout.values[l->layout.output].ld;
    Clock::time_point begin = Clock::now();
    size_t bucket = 0;
    cudaError_t e;
    int rc;

    while (l->buckets[bucket].tokens < b->n_tokens) bucket++;
    e = copy_up(l, b);
    if (!e) e = cudaGraphLaunch(l->buckets[bucket].graph, l->stream);
    if (!e) e = copy_logits(l, l->layout, b->n_sequences);
    if (e) return queue_failed(l, e, err);
    rc = finish(l, hang ? std::max(hang, (uint64_t)usual) : 0, err);
    if (rc) return rc;
    for (uint32_t s = 0; s < b->n_sequences; s++) logits[s] = l->logits[(size_t)s * ld];
    double now = (double)ns_since(begin) / b->n_tokens;
    if (l->warm && (l->ns_per_token == 0 || now < l->ns_per_token)) l->ns_per_token = now;
    l->warm = true;
    return RR_OK;
}

/* Sequence s of the batch once more, alone and in f32. */
int repeat(struct rr_loaded *l, const struct rr_batch *b, uint32_t s, float *logit,
           struct rr_error *err)
{
    uint32_t begin = b->cu_seqlens[s], n = b->cu_seqlens[s + 1] - begin, cu[2] = { 0, n };
    struct rr_batch one = { n, 1, b->ids + begin, b->positions + begin, b->types + begin, cu };
    Pass pass = { *l, l->single, context_for(*l, n) };
    cudaError_t e = copy_up(l, &one);
    int rc;

    if (!e) e = pass.all();
    if (!e) e = copy_logits(l, l->single, 1);
    if (e) return queue_failed(l, e, err);
    rc = finish(l, l->device->hang_ns, err);
    if (!rc) *logit = l->logits[0];
    l->device->repeated.fetch_add(1, std::memory_order_relaxed);
    return rc;
}

} // namespace

int run_batch(struct rr_loaded *l, const struct rr_batch *b, float *logits, struct rr_error *err)
{
    cudaError_t e;
    int rc;

    if (b->n_sequences == 0 && b->n_tokens == 0) return RR_OK;
    rc = check_batch(l, b, err);
    if (rc) return rc;
    if (l->device->lost)
        return rr_fail(err, RR_EDEVICE, "GPU %d was lost: close it and open it again",
                       l->device->ordinal);
    e = cudaSetDevice(l->device->ordinal);
    if (e) return cuda_failed(l->device, e, "choosing the device", err);
    rc = run_all(l, b, logits, err);
    for (uint32_t s = 0; s < b->n_sequences && !rc && l->numbers.precision != Precision::F32; s++)
        if (!std::isfinite(logits[s])) rc = repeat(l, b, s, &logits[s], err);
    return rc;
}
