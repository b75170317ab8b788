/* SPDX-License-Identifier: Apache-2.0 */
/* program.c - random programs and batches.  See program.h; the evaluation is in evaluate.c. */
#include "program.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/mem.h"

#define FILE_BYTES (256u << 20) /* a hole, but for what is written */

uint64_t random_u64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

double random_unit(uint64_t *state)
{
    return (double)(random_u64(state) >> 11) * 0x1p-52 - 1.0;
}

uint32_t random_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(random_u64(state) % n);
}

/* ---- programs ---------------------------------------------------------------------------------- */

void program_init(struct program *b, uint64_t seed, bool in_file)
{
    int fd = in_file ? memfd_create("program", MFD_CLOEXEC) : -1;
    int flags = in_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    memset(b, 0, sizeof(*b));
    b->seed = seed;
    b->dtype = RR_F32;
    b->p.tensors = b->tensors;
    b->p.registers = b->registers;
    b->p.ops = b->ops;
    b->p.output = RR_NONE;
    b->in_file = in_file;
    assert(!in_file || (fd >= 0 && ftruncate(fd, FILE_BYTES) == 0));
    b->data = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);
    assert(b->data != MAP_FAILED);
    if (in_file) close(fd);
}

void program_free(struct program *b)
{
    munmap(b->data, FILE_BYTES);
}

/* Truncated, not rounded: the value is read back from the tensor anyway. */
static uint16_t to_half(double v, enum rr_dtype dtype)
{
    float f = (float)v;
    uint32_t bits, exponent;

    memcpy(&bits, &f, 4);
    if (dtype == RR_BF16) return (uint16_t)(bits >> 16);
    exponent = bits >> 23 & 255;
    if (exponent < 113) return (uint16_t)(bits >> 16 & 0x8000); /* too small: zero */
    assert(exponent < 143);
    return (uint16_t)((bits >> 16 & 0x8000) | (exponent - 112) << 10 | (bits >> 13 & 0x3FF));
}

double tensor_value(const struct rr_tensor *t, size_t i)
{
    uint32_t bits, h;
    float f;

    if (t->dtype == RR_F32) return ((const float *)t->data)[i];
    if (t->dtype == RR_I8)
        return (double)((const int8_t *)t->data)[i] * (double)t->scale[i / t->shape[1]] *
               (t->smooth ? (double)t->smooth[i % t->shape[1]] : 1);
    h = ((const uint16_t *)t->data)[i];
    if (t->dtype == RR_F16) {
        double v = (h >> 10 & 31) == 0 ? (h & 1023) * 0x1p-24
                                       : ldexp(1.0 + (h & 1023) / 1024.0, (int)(h >> 10 & 31) - 15);

        return h & 0x8000 ? -v : v;
    }
    bits = h << 16;
    memcpy(&f, &bits, 4);
    return f;
}

uint32_t program_tensor(struct program *b, const char *name, uint32_t rows, uint32_t columns,
                        double size, double centre)
{
    size_t n = (size_t)(rows ? rows : 1) * columns;
    struct rr_tensor *t = &b->tensors[b->p.n_tensors];
    void *data = b->data + b->used;

    b->used += (n * (b->dtype == RR_F32 ? 4 : 2) + 63) / 64 * 64;
    assert(b->used <= FILE_BYTES && b->p.n_tensors < PROGRAM_MAX);
    for (size_t i = 0; i < n; i++) {
        double v = centre + size * random_unit(&b->seed);

        if (b->dtype == RR_F32)
            ((float *)data)[i] = (float)v;
        else
            ((uint16_t *)data)[i] = to_half(v, b->dtype);
    }
    *t = (struct rr_tensor){ .name = name, .dtype = b->dtype, .rank = rows ? 2 : 1,
                             .shape = { rows ? rows : columns, columns }, .data = data,
                             .in_file = b->in_file };
    if (!rows) t->shape[1] = 0;
    return b->p.n_tensors++;
}

uint32_t program_register(struct program *b, uint32_t width, enum rr_rows rows)
{
    assert(b->p.n_registers < PROGRAM_MAX);
    b->registers[b->p.n_registers] = (struct rr_register){ width, rows };
    return b->p.n_registers++;
}

struct rr_op *program_op(struct program *b, enum rr_op_kind kind, uint32_t dst, uint32_t src)
{
    struct rr_op *op = &b->ops[b->p.n_ops++];

    assert(b->p.n_ops <= PROGRAM_MAX);
    op->kind = kind;
    op->dst = dst;
    op->src = src;
    return op;
}

uint32_t program_embed(struct program *b, uint32_t words, uint32_t positions, uint32_t types,
                       uint32_t width)
{
    uint32_t dst = program_register(b, width, RR_ROWS_TOKENS);
    struct rr_op *op = program_op(b, RR_OP_EMBED, dst, RR_NONE);

    op->u.embed.word = program_tensor(b, "word", words, width, 1, 0);
    op->u.embed.position = program_tensor(b, "position", positions, width, 1, 0);
    op->u.embed.type = types ? program_tensor(b, "type", types, width, 1, 0) : RR_NONE;
    return dst;
}

static uint32_t width_of(const struct program *b, uint32_t reg)
{
    return b->registers[reg].width;
}

uint32_t program_linear(struct program *b, uint32_t src, uint32_t n_parts, const uint32_t *out,
                        enum rr_act act, uint32_t residual, bool bias)
{
    uint32_t width = 0, dst;
    struct rr_op *op;

    for (uint32_t i = 0; i < n_parts; i++) width += out[i];
    dst = program_register(b, width, b->registers[src].rows);
    op = program_op(b, RR_OP_LINEAR, dst, src);
    op->u.linear.n_parts = n_parts;
    op->u.linear.act = act;
    op->u.linear.residual = residual;
    for (uint32_t i = 0; i < n_parts; i++) {
        op->u.linear.weight[i] = program_tensor(b, "weight", out[i], width_of(b, src),
                                                sqrt(3.0 / width_of(b, src)), 0);
        op->u.linear.bias[i] = bias ? program_tensor(b, "bias", 0, out[i], 0.5, 0) : RR_NONE;
    }
    return dst;
}

uint32_t program_norm(struct program *b, uint32_t src, float eps, bool in_place)
{
    uint32_t width = width_of(b, src);
    uint32_t dst = in_place ? src : program_register(b, width, b->registers[src].rows);
    struct rr_op *op = program_op(b, RR_OP_NORM, dst, src);

    op->u.norm.gamma = program_tensor(b, "gamma", 0, width, 0.3, 1);
    op->u.norm.beta = program_tensor(b, "beta", 0, width, 0.3, 0);
    op->u.norm.eps = eps;
    return dst;
}

uint32_t program_attention(struct program *b, uint32_t src, uint32_t kv, uint32_t q_col,
                           uint32_t k_col, uint32_t v_col, uint32_t heads, uint32_t head_dim)
{
    uint32_t dst = program_register(b, heads * head_dim, b->registers[src].rows);
    struct rr_op *op = program_op(b, RR_OP_ATTENTION, dst, src);

    op->u.attention = (struct rr_op_attention){ .kv = kv, .q_col = q_col, .k_col = k_col,
                                                .v_col = v_col, .heads = heads,
                                                .head_dim = head_dim,
                                                .scale = 1.0f / sqrtf((float)head_dim) };
    return dst;
}

uint32_t program_pool(struct program *b, enum rr_op_kind kind, uint32_t src)
{
    uint32_t dst = program_register(b, width_of(b, src), RR_ROWS_SEQUENCES);

    program_op(b, kind, dst, src);
    return dst;
}

uint32_t program_first(struct program *b, uint32_t src)
{
    return program_pool(b, RR_OP_FIRST, src);
}

uint32_t program_glu(struct program *b, uint32_t src, enum rr_act act, bool act_second)
{
    uint32_t dst = program_register(b, width_of(b, src) / 2, b->registers[src].rows);
    struct rr_op *op = program_op(b, RR_OP_GLU, dst, src);

    op->u.glu = (struct rr_op_glu){ .act = act, .act_second = act_second };
    return dst;
}

struct rr_op_rotary *program_rotary(struct program *b, uint32_t reg, uint32_t col, uint32_t heads,
                                    uint32_t head_dim, uint32_t angles)
{
    struct rr_op *op = program_op(b, RR_OP_ROTARY, reg, reg);

    op->u.rotary = (struct rr_op_rotary){ .col = col, .heads = heads, .head_dim = head_dim,
                                          .gamma = RR_NONE, .eps = 1e-6f };
    op->u.rotary.frequencies = program_tensor(b, "frequencies", 0, angles, 0.5, 0.5);
    return &op->u.rotary;
}

void program_probe(struct program *b, uint32_t src)
{
    uint32_t width = width_of(b, src), one = 1, first, mean, joined;

    if (b->registers[src].rows == RR_ROWS_TOKENS) {
        /* Queries are the first rows, keys and values all rows: every element of src takes part. */
        first = program_first(b, src);
        mean = program_attention(b, first, src, 0, 0, 0, 1, width);
        joined = program_linear(b, first, 1, &width, RR_ACT_NONE, mean, true);
        src = joined;
    }
    b->p.output = program_linear(b, src, 1, &one, RR_ACT_NONE, RR_NONE, true);
}

void program_view(struct program *b, const struct attention_view *v, uint32_t words,
                  uint32_t positions, uint32_t types)
{
    uint32_t kv = (v->kv_heads ? v->kv_heads : v->heads) * v->head_dim, q = v->heads * v->head_dim;
    uint32_t x = program_embed(b, words, positions, types, q + 2 * kv), src = x;
    struct rr_op_attention *a;

    if (v->sequences) src = program_pool(b, v->last ? RR_OP_LAST : RR_OP_FIRST, x);
    x = program_attention(b, src, x, 0, q, q + kv, v->heads, v->head_dim);
    a = &b->ops[b->p.n_ops - 1].u.attention;
    a->kv_heads = v->kv_heads;
    a->window = v->window;
    a->causal = v->causal;
    a->last = v->last;
    program_probe(b, x);
}

static uint32_t program_layer(struct program *b, const struct encoder_shape *s, uint32_t x,
                              bool last)
{
    uint32_t h = s->hidden, head_dim = h / s->heads, three[] = { h, h, h }, q, context, y;

    if (last) {
        uint32_t kv = program_linear(b, x, 2, three, RR_ACT_NONE, RR_NONE, true);

        x = program_first(b, x);
        q = program_linear(b, x, 1, three, RR_ACT_NONE, RR_NONE, true);
        context = program_attention(b, q, kv, 0, 0, h, s->heads, head_dim);
    } else {
        q = program_linear(b, x, 3, three, RR_ACT_NONE, RR_NONE, true);
        context = program_attention(b, q, q, 0, h, 2 * h, s->heads, head_dim);
    }
    y = program_linear(b, context, 1, three, RR_ACT_NONE, x, true);
    x = program_norm(b, y, 1e-5f, true);
    y = program_linear(b, x, 1, &s->intermediate, RR_ACT_GELU, RR_NONE, true);
    y = program_linear(b, y, 1, three, RR_ACT_NONE, x, true);
    return program_norm(b, y, 1e-5f, false);
}

void program_encoder(struct program *b, const struct encoder_shape *s)
{
    uint32_t one = 1, x = program_embed(b, s->words, s->positions, s->types, s->hidden);

    x = program_norm(b, x, 1e-5f, true);
    for (uint32_t i = 0; i < s->layers; i++) x = program_layer(b, s, x, i + 1 == s->layers);
    x = program_linear(b, x, 1, &s->hidden, RR_ACT_TANH, RR_NONE, true);
    b->p.output = program_linear(b, x, 1, &one, RR_ACT_NONE, RR_NONE, true);
}

/* ---- batches ----------------------------------------------------------------------------------- */

void batch_init(struct batch *b, uint32_t max_tokens, uint32_t max_sequences)
{
    memset(b, 0, sizeof(*b));
    b->capacity_tokens = max_tokens;
    b->capacity_sequences = max_sequences;
    b->ids = rr_calloc(RR_MEM_MISC, max_tokens, sizeof(*b->ids));
    b->positions = rr_calloc(RR_MEM_MISC, max_tokens, sizeof(*b->positions));
    b->types = rr_calloc(RR_MEM_MISC, max_tokens, sizeof(*b->types));
    b->cu = rr_calloc(RR_MEM_MISC, (size_t)max_sequences + 1, sizeof(*b->cu));
    assert(b->ids && b->positions && b->types && b->cu);
    b->b = (struct rr_batch){ 0, 0, b->ids, b->positions, b->types, b->cu };
}

void batch_free(struct batch *b)
{
    rr_free(b->ids);
    rr_free(b->positions);
    rr_free(b->types);
    rr_free(b->cu);
}

void batch_clear(struct batch *b)
{
    b->b.n_tokens = b->b.n_sequences = 0;
}

static uint32_t extend(struct batch *b, uint32_t length)
{
    uint32_t at = b->b.n_tokens;

    assert(at + length <= b->capacity_tokens && b->b.n_sequences < b->capacity_sequences);
    b->b.n_tokens += length;
    b->cu[++b->b.n_sequences] = b->b.n_tokens;
    return at;
}

void batch_add(struct batch *b, uint32_t length, uint32_t words, uint32_t first_position,
               uint32_t types, uint64_t *seed)
{
    uint32_t at = extend(b, length);

    for (uint32_t i = 0; i < length; i++) {
        b->ids[at + i] = (int32_t)random_below(seed, words);
        b->positions[at + i] = (int32_t)(first_position + i);
        b->types[at + i] = types ? (int32_t)random_below(seed, types) : 0;
    }
}

void batch_add_from(struct batch *b, const struct batch *other, uint32_t sequence)
{
    uint32_t from = other->cu[sequence], length = other->cu[sequence + 1] - from;
    uint32_t at = extend(b, length);

    memcpy(b->ids + at, other->ids + from, length * sizeof(*b->ids));
    memcpy(b->positions + at, other->positions + from, length * sizeof(*b->positions));
    memcpy(b->types + at, other->types + from, length * sizeof(*b->types));
}
