/* SPDX-License-Identifier: Apache-2.0 */
/* test_ops.c - every operation of a backend, and a whole small encoder, against an evaluation in
 * double precision.
 *
 * test_ops [BACKEND]: default cpu, at every instruction set level that the processor has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "backend/registry.h"
#include "base/attr.h"
#include "base/mem.h"
#include "cpu/features.h"
#include "cpu/kern.h"
#include "../support/program.h"

#define TOLERANCE 5e-5 /* of values near 1, f32 */
#define WORDS 50
#define POSITIONS 300
#define TYPES 2
#define FIRST_POSITION 2

static const char *backend_name = "cpu";

/* ---- devices to try ---------------------------------------------------------------------------- */

static const struct rr_backend *backend(void)
{
    const struct rr_backend *b;
    struct rr_error err = { 0 };

    if (rr_backend_find(&b, backend_name, &err)) fail_msg("%s: %s", backend_name, err.msg);
    return b;
}

/* Names of instruction set levels to force; NULL is the automatic choice. */
static const char *level(uint32_t i)
{
    uint32_t n, found = 0;
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    if (strcmp(backend_name, "cpu") != 0) return NULL;
    for (uint32_t j = 0; j < n; j++)
        if ((levels[j]->needs & rr_cpu_flags()) == levels[j]->needs && found++ == i)
            return levels[j]->name;
    return NULL;
}

static struct rr_device *open_device(const char *isa, uint32_t threads)
{
    struct rr_device_options opt = { .threads = threads, .isa = isa, .dtype = "f32" };
    struct rr_error err = { 0 };
    struct rr_device *d;

    if (backend()->open(&d, &opt, &err)) fail_msg("open: %s", err.msg);
    return d;
}

static struct rr_limits limits_of(const struct batch *b)
{
    struct rr_limits l = { b->b.n_tokens, b->b.n_sequences, 0 };

    for (uint32_t i = 0; i < b->b.n_sequences; i++)
        l.max_length = RR_MAX(l.max_length, b->cu[i + 1] - b->cu[i]);
    l.max_length += FIRST_POSITION; /* angles are there for positions below it */
    return l;
}

/* ---- values ------------------------------------------------------------------------------------ */

static void compare_on(struct rr_device *d, const struct program *p, const struct batch *b,
                       const double *expected, const char *what)
{
    struct rr_limits limits = limits_of(b);
    struct rr_error err = { 0 };
    struct rr_loaded *l;
    float *logits = rr_calloc(RR_MEM_MISC, b->b.n_sequences, sizeof(*logits));

    assert_non_null(logits);
    if (backend()->load(d, &p->p, &limits, &l, &err)) fail_msg("%s: load: %s", what, err.msg);
    for (int repeat = 0; repeat < 2; repeat++) { /* the second time on memory that was used */
        memset(logits, 0xFF, b->b.n_sequences * sizeof(*logits));
        if (backend()->run(l, &b->b, logits, &err)) fail_msg("%s: run: %s", what, err.msg);
        for (uint32_t s = 0; s < b->b.n_sequences; s++)
            if (!(fabs(logits[s] - expected[s]) <= TOLERANCE * (1 + fabs(expected[s]))))
                fail_msg("%s: sequence %u of %u (%u tokens), run %d: %.9g, expected %.9g", what, s,
                         b->b.n_sequences, b->cu[s + 1] - b->cu[s], repeat, (double)logits[s],
                         expected[s]);
    }
    backend()->unload(l);
    rr_free(logits);
}

static void compare(const struct program *p, const struct batch *b, const char *why)
{
    static const uint32_t threads[] = { 1, 3 };
    size_t n_threads = strcmp(backend_name, "cpu") == 0 ? RR_COUNT(threads) : 1;
    double *expected = rr_calloc(RR_MEM_MISC, b->b.n_sequences, sizeof(*expected));
    char what[128];
    uint32_t i = 0;

    assert_non_null(expected);
    program_evaluate(&p->p, &b->b, expected);
    do {
        for (size_t t = 0; t < n_threads; t++) {
            struct rr_device *d = open_device(level(i), threads[t]);

            snprintf(what, sizeof(what), "%s, isa %s, %u threads", why,
                     level(i) ? level(i) : "auto", threads[t]);
            compare_on(d, p, b, expected, what);
            backend()->close(d);
        }
    } while (level(++i));
    rr_free(expected);
}

static const uint32_t lengths[][8] = { /* zero-terminated */
    { 1 }, { 2, 1, 1 }, { 5, 3, 17, 1, 64, 33, 16 }, { 3, 200 },
};

static void add_lengths(struct batch *b, size_t set, uint64_t *seed)
{
    batch_clear(b);
    for (size_t i = 0; i < RR_COUNT(lengths[0]) && lengths[set][i]; i++)
        batch_add(b, lengths[set][i], WORDS, FIRST_POSITION, TYPES, seed);
}

/* Builds the program with make(), then runs it on every set of lengths. */
typedef void make_fn(struct program *p, const void *param);

static void run_case(make_fn *make, const void *param, const char *why)
{
    struct program p;
    struct batch b;
    uint64_t seed = 77;

    program_init(&p, 4711, true);
    make(&p, param);
    batch_init(&b, 256, 8);
    for (size_t set = 0; set < RR_COUNT(lengths); set++) {
        add_lengths(&b, set, &seed);
        compare(&p, &b, why);
    }
    batch_free(&b);
    program_free(&p);
}

/* ---- EMBED, FIRST -------------------------------------------------------------------------------- */

struct embed_case {
    uint32_t width, types;
    enum rr_dtype dtype;
    const char *why;
    bool no_positions;
    float scale;
};

static void make_embed(struct program *p, const void *param)
{
    const struct embed_case *c = param;
    uint32_t x;

    p->dtype = c->dtype;
    x = program_embed(p, WORDS, POSITIONS, c->types, c->width);
    p->ops[0].u.embed.scale = c->scale;
    if (c->no_positions) p->ops[0].u.embed.position = RR_NONE;
    program_probe(p, x);
}

static void test_embed(void **state)
{
    static const struct embed_case cases[] = {
        { 64, TYPES, RR_F32, "embed f32", false, 0 },
        { 64, 0, RR_F32, "embed without token types", false, 0 },
        { 64, TYPES, RR_F16, "embed f16", false, 0 },
        { 64, TYPES, RR_BF16, "embed bf16", false, 0 },
        { 7, TYPES, RR_F16, "embed f16, width with a tail", false, 0 },
        { 1, TYPES, RR_BF16, "embed bf16, one column", false, 0 },
        { 1024, TYPES, RR_F16, "embed f16, wide", false, 0 },
        { 64, 0, RR_F32, "embed words alone", true, 0 },
        { 33, TYPES, RR_F16, "embed scaled words", false, 2.5f },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) run_case(make_embed, &cases[i], cases[i].why);
}

static void make_first(struct program *p, const void *param)
{
    program_probe(p, program_first(p, program_embed(p, WORDS, POSITIONS, TYPES,
                                                    *(const uint32_t *)param)));
}

static void test_first(void **state)
{
    static const uint32_t widths[] = { 1, 19, 64 };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(widths); i++) run_case(make_first, &widths[i], "first");
}

static void make_pool(struct program *p, const void *param)
{
    const enum rr_op_kind *kind = param;

    program_probe(p, program_pool(p, *kind, program_embed(p, WORDS, POSITIONS, TYPES, 21)));
}

static void test_pool(void **state)
{
    static const enum rr_op_kind kinds[] = { RR_OP_LAST, RR_OP_MEAN };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(kinds); i++)
        run_case(make_pool, &kinds[i], kinds[i] == RR_OP_LAST ? "last" : "mean");
}

/* ---- GLU, ROTARY ----------------------------------------------------------------------------- */

struct glu_case {
    uint32_t width; /* of the result */
    enum rr_act act;
    bool act_second, sequences;
    const char *why;
};

static void make_glu(struct program *p, const void *param)
{
    const struct glu_case *c = param;
    uint32_t x = program_embed(p, WORDS, POSITIONS, TYPES, 2 * c->width);

    if (c->sequences) x = program_first(p, x);
    program_probe(p, program_glu(p, x, c->act, c->act_second));
}

static void test_glu(void **state)
{
    static const struct glu_case cases[] = {
        { 64, RR_ACT_GELU, false, false, "glu, gelu" },
        { 64, RR_ACT_SILU, false, false, "glu, silu" },
        { 64, RR_ACT_GELU_TANH, false, false, "glu, gelu by tanh" },
        { 48, RR_ACT_RELU, true, false, "glu, relu of the second half" },
        { 19, RR_ACT_SILU, true, true, "glu of sequence rows, width with a tail" },
        { 1, RR_ACT_GELU, false, false, "glu of one column" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) run_case(make_glu, &cases[i], cases[i].why);
}

struct rotary_case {
    uint32_t width, col, heads, head_dim, angles;
    bool gamma, sequences, last;
    const char *why;
};

static void make_rotary(struct program *p, const void *param)
{
    const struct rotary_case *c = param;
    uint32_t x = program_embed(p, WORDS, POSITIONS, TYPES, c->width);
    struct rr_op_rotary *r;

    if (c->sequences) x = program_pool(p, c->last ? RR_OP_LAST : RR_OP_FIRST, x);
    r = program_rotary(p, x, c->col, c->heads, c->head_dim, c->angles);
    r->last = c->last;
    if (c->gamma) r->gamma = program_tensor(p, "gamma", 0, c->head_dim, 0.3, 1);
    if (!c->sequences) /* once more with the same angles: the table is shared */
        program_rotary(p, x, 0, 1, c->head_dim, c->angles)->frequencies = r->frequencies;
    program_probe(p, x);
}

static void test_rotary(void **state)
{
    static const struct rotary_case cases[] = {
        { 128, 0, 2, 64, 32, false, false, false, "rotary" },
        { 100, 3, 3, 20, 10, false, false, false, "rotary, columns that are not aligned" },
        { 64, 0, 2, 32, 5, false, false, false, "rotary of some columns of each head" },
        { 96, 0, 3, 32, 16, true, false, false, "rotary after a norm of each head" },
        { 64, 0, 1, 64, 32, false, true, false, "rotary of first tokens" },
        { 64, 0, 1, 64, 32, true, true, true, "rotary of last tokens" },
        { 2, 0, 1, 2, 1, false, false, false, "one angle" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) run_case(make_rotary, &cases[i], cases[i].why);
}

/* ---- LINEAR -------------------------------------------------------------------------------------- */

enum residual { NO_RESIDUAL, OTHER_REGISTER, DESTINATION };

struct linear_case {
    uint32_t in, n_parts, out[3];
    enum rr_act act;
    enum residual residual;
    bool bias, sequences;
    enum rr_dtype dtype;
    const char *why;
};

static void make_linear(struct program *p, const void *param)
{
    const struct linear_case *c = param;
    uint32_t x, residual = RR_NONE, width = 0, y;

    p->dtype = c->dtype;
    for (uint32_t i = 0; i < c->n_parts; i++) width += c->out[i];
    x = program_embed(p, WORDS, POSITIONS, TYPES, c->in);
    if (c->residual != NO_RESIDUAL) residual = program_embed(p, WORDS, POSITIONS, TYPES, width);
    if (c->sequences) {
        x = program_first(p, x);
        if (residual != RR_NONE) residual = program_first(p, residual);
    }
    y = program_linear(p, x, c->n_parts, c->out, c->act, residual, c->bias);
    if (c->residual == DESTINATION) {
        p->ops[p->p.n_ops - 1].dst = residual;
        y = residual;
    }
    program_probe(p, y);
}

static void test_linear(void **state)
{
    static const struct linear_case cases[] = {
        { 64, 1, { 64 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_F32, "linear 64 to 64" },
        { 64, 1, { 64 }, RR_ACT_NONE, NO_RESIDUAL, false, false, RR_F32, "linear without bias" },
        { 64, 1, { 48 }, RR_ACT_GELU, NO_RESIDUAL, true, false, RR_F32, "linear, gelu" },
        { 64, 1, { 48 }, RR_ACT_RELU, NO_RESIDUAL, true, false, RR_F32, "linear, relu" },
        { 64, 1, { 48 }, RR_ACT_TANH, NO_RESIDUAL, true, false, RR_F32, "linear, tanh" },
        { 64, 1, { 96 }, RR_ACT_NONE, OTHER_REGISTER, true, false, RR_F32, "linear + residual" },
        { 64, 1, { 96 }, RR_ACT_GELU, DESTINATION, true, false, RR_F32, "linear onto residual" },
        { 64, 2, { 64, 64 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_F32, "two parts" },
        { 64, 3, { 64, 64, 64 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_F32, "three parts" },
        { 37, 3, { 20, 1, 45 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_F32,
          "parts that end inside a panel" },
        { 37, 3, { 20, 1, 45 }, RR_ACT_NONE, OTHER_REGISTER, false, true, RR_F16,
          "the same on sequence rows, f16, no bias" },
        { 1, 1, { 1 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_F32, "one weight" },
        { 1, 1, { 130 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_BF16, "one input" },
        { 513, 1, { 3 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_BF16, "few outputs, bf16" },
        { 256, 1, { 300 }, RR_ACT_GELU, DESTINATION, true, true, RR_F16, "sequence rows, f16" },
        { 1024, 1, { 33 }, RR_ACT_NONE, NO_RESIDUAL, true, false, RR_F16, "long sums, f16" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) run_case(make_linear, &cases[i], cases[i].why);
}

/* ---- NORM ---------------------------------------------------------------------------------------- */

struct norm_case {
    uint32_t width;
    float eps;
    bool in_place, sequences;
    enum rr_dtype dtype;
    const char *why;
    bool rms, no_beta;
};

static void make_norm(struct program *p, const void *param)
{
    const struct norm_case *c = param;
    uint32_t x;

    p->dtype = c->dtype;
    x = program_embed(p, WORDS, POSITIONS, TYPES, c->width);
    if (c->sequences) x = program_first(p, x);
    x = program_norm(p, x, c->eps, c->in_place);
    p->ops[p->p.n_ops - 1].u.norm.rms = c->rms;
    if (c->rms || c->no_beta) p->ops[p->p.n_ops - 1].u.norm.beta = RR_NONE;
    program_probe(p, x);
}

static void test_norm(void **state)
{
    static const struct norm_case cases[] = {
        { 64, 1e-5f, false, false, RR_F32, "norm", false, false },
        { 64, 1e-12f, true, false, RR_F32, "norm in place", false, false },
        { 64, 1e-5f, true, true, RR_F16, "norm of sequence rows, f16 vectors", false, false },
        { 1, 1e-5f, false, false, RR_F32, "norm of one column: its variance is 0", false, false },
        { 7, 1e-5f, true, false, RR_BF16, "norm, width with a tail", false, false },
        { 1024, 1e-5f, false, false, RR_F32, "norm, wide", false, false },
        { 1034, 1e-5f, false, false, RR_F32, "norm, wider than a warp of the GPU holds", false, false },
        { 333, 0.5f, false, false, RR_F32, "norm, eps that matters", false, false },
        { 96, 1e-5f, false, false, RR_F32, "norm without beta", false, true },
        { 96, 1e-6f, false, false, RR_F32, "rms norm", true, false },
        { 13, 1e-6f, true, true, RR_F16, "rms norm in place, width with a tail", true, false },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) run_case(make_norm, &cases[i], cases[i].why);
}

/* ---- ATTENTION ----------------------------------------------------------------------------------- */

struct attention_case {
    uint32_t heads, head_dim;
    uint32_t q_col, k_col, v_col; /* in one register of width */
    uint32_t width;
    bool sequences;
    const char *why;
};

static void make_attention(struct program *p, const void *param)
{
    const struct attention_case *c = param;
    uint32_t x = program_embed(p, WORDS, POSITIONS, TYPES, c->width);
    uint32_t q = c->sequences ? program_first(p, x) : x;

    program_probe(p, program_attention(p, q, x, c->q_col, c->k_col, c->v_col, c->heads,
                                       c->head_dim));
}

static void test_attention(void **state)
{
    static const struct attention_case cases[] = {
        { 2, 32, 0, 64, 128, 192, false, "attention" },
        { 2, 32, 0, 64, 128, 192, true, "attention of sequence rows" },
        { 1, 64, 128, 0, 64, 192, false, "columns in another order" },
        { 3, 8, 5, 29, 0, 64, false, "columns that are not aligned" },
        { 1, 1, 0, 1, 2, 3, false, "heads of one column" },
        { 5, 13, 0, 65, 130, 195, true, "odd head width" },
        { 2, 80, 0, 160, 320, 480, false, "wide heads" },
        { 4, 24, 0, 0, 0, 96, false, "queries, keys and values the same" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++)
        run_case(make_attention, &cases[i], cases[i].why);
}

static void make_view(struct program *p, const void *param)
{
    program_view(p, param, WORDS, POSITIONS, TYPES);
}

/* Which keys a query sees, and of which head. */
static void test_attention_view(void **state)
{
    static const struct attention_view cases[] = {
        { 2, 0, 32, 0, true, false, false, "causal" },
        { 2, 0, 32, 16, false, false, false, "window" },
        { 1, 0, 16, 1, false, false, false, "window of neighbours" },
        { 2, 0, 32, 70, false, false, false, "window wider than a cell of the grid" },
        { 2, 0, 32, 9, true, false, false, "causal window" },
        { 4, 2, 16, 0, false, false, false, "two heads share keys" },
        { 6, 1, 8, 0, true, false, false, "all heads share keys, causal" },
        { 2, 0, 32, 0, true, true, true, "causal, last token" },
        { 2, 0, 32, 0, true, true, false, "causal, first token: sees itself" },
        { 3, 0, 20, 12, false, true, false, "window, first token" },
        { 3, 0, 20, 12, false, true, true, "window, last token" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) run_case(make_view, &cases[i], cases[i].why);
}

struct relative_case {
    uint32_t heads, head_dim, span, buckets, max_distance;
    bool content_position, position_content, norm, bias, sequences;
    const char *why;
};

static void make_relative(struct program *p, const void *param)
{
    const struct relative_case *c = param;
    uint32_t h = c->heads * c->head_dim, in = 24;
    uint32_t x = program_embed(p, WORDS, POSITIONS, TYPES, 3 * h);
    uint32_t src = c->sequences ? program_first(p, x) : x;
    struct rr_relative *r;

    x = program_attention(p, src, x, 0, h, 2 * h, c->heads, c->head_dim);
    r = &p->ops[p->p.n_ops - 1].u.attention.relative;
    *r = (struct rr_relative){ .on = true, .content_position = c->content_position,
                               .position_content = c->position_content, .eps = 1e-7f,
                               .span = c->span, .buckets = c->buckets,
                               .max_distance = c->max_distance };
    r->table = program_tensor(p, "distances", 2 * c->span, in, 1, 0);
    r->gamma = c->norm ? program_tensor(p, "gamma", 0, in, 0.3, 1) : RR_NONE;
    r->beta = c->norm ? program_tensor(p, "beta", 0, in, 0.3, 0) : RR_NONE;
    r->key_weight = program_tensor(p, "key", h, in, 0.3, 0);
    r->query_weight = program_tensor(p, "query", h, in, 0.3, 0);
    r->key_bias = c->bias ? program_tensor(p, "key bias", 0, h, 0.3, 0) : RR_NONE;
    r->query_bias = c->bias ? program_tensor(p, "query bias", 0, h, 0.3, 0) : RR_NONE;
    program_probe(p, x);
}

static void test_attention_relative(void **state)
{
    static const struct relative_case cases[] = {
        { 2, 16, 16, 16, 300, true, true, true, true, false, "relative, in buckets" },
        { 2, 16, 16, 16, 300, true, true, true, true, true, "relative, first token" },
        { 1, 8, 40, 0, 40, true, true, true, true, false, "relative, without buckets" },
        { 3, 8, 8, 8, 100, true, false, false, false, false, "content to position alone" },
        { 3, 8, 8, 8, 100, false, true, false, true, false, "position to content alone" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++)
        run_case(make_relative, &cases[i], cases[i].why);
}

/* ---- a whole encoder ------------------------------------------------------------------------------- */

struct encoder_case {
    struct encoder_shape shape;
    enum rr_dtype dtype;
    const char *why;
};

static void make_encoder(struct program *p, const void *param)
{
    const struct encoder_case *c = param;

    p->dtype = c->dtype;
    program_encoder(p, &c->shape);
}

static void test_encoder(void **state)
{
    static const struct encoder_case cases[] = {
        { { 3, 64, 4, 256, WORDS, POSITIONS, TYPES }, RR_F32, "encoder, f32" },
        { { 2, 60, 5, 100, WORDS, POSITIONS, 0 }, RR_F16, "encoder, odd sizes, f16" },
        { { 1, 32, 2, 64, WORDS, POSITIONS, TYPES }, RR_BF16, "encoder of one layer, bf16" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) run_case(make_encoder, &cases[i], cases[i].why);
}

/* Deliberately wrong expectations must be noticed: a comparison that cannot fail proves nothing. */
static void test_evaluation_sees_differences(void **state)
{
    struct encoder_shape shape = { 2, 64, 4, 128, WORDS, POSITIONS, TYPES };
    double before[8], after[8];
    struct program p;
    struct batch b;
    uint64_t seed = 5;

    (void)state;
    program_init(&p, 4711, true);
    program_encoder(&p, &shape);
    batch_init(&b, 256, 8);
    add_lengths(&b, 2, &seed);
    program_evaluate(&p.p, &b.b, before);
    for (uint32_t i = 0; i < p.p.n_ops; i++) /* the scale of one attention, 1 % off */
        if (p.ops[i].kind == RR_OP_ATTENTION) p.ops[i].u.attention.scale *= 1.01f;
    program_evaluate(&p.p, &b.b, after);
    assert_true(fabs(before[4] - after[4]) > 2 * TOLERANCE * (1 + fabs(after[4])));
    batch_free(&b);
    program_free(&p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),           cmocka_unit_test(test_first),
        cmocka_unit_test(test_linear),          cmocka_unit_test(test_norm),
        cmocka_unit_test(test_attention),       cmocka_unit_test(test_encoder),
        cmocka_unit_test(test_pool),            cmocka_unit_test(test_glu),
        cmocka_unit_test(test_rotary),          cmocka_unit_test(test_attention_view),
        cmocka_unit_test(test_attention_relative),
        cmocka_unit_test(test_evaluation_sees_differences),
    };

    if (argc > 1) backend_name = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
