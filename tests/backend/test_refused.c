/* SPDX-License-Identifier: Apache-2.0 */
/* test_refused.c - what plan, load and run of a backend refuse, with their messages, and that they
 * survive the lack of memory at every place.
 *
 * test_refused [BACKEND]: default cpu. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../support/program.h"
#include "backend/registry.h"
#include "base/attr.h"
#include "base/mem.h"

#define WORDS 50
#define POSITIONS 300
#define TYPES 2

static const char *backend_name = "cpu";

static const struct rr_backend *backend(void)
{
    const struct rr_backend *b;
    struct rr_error err = { 0 };

    if (rr_backend_find(&b, backend_name, &err)) fail_msg("%s: %s", backend_name, err.msg);
    return b;
}

static struct rr_device *open_device(uint32_t threads)
{
    struct rr_device_options opt = { .threads = threads, .dtype = "f32" };
    struct rr_error err = { 0 };
    struct rr_device *d;

    if (backend()->open(&d, &opt, &err)) fail_msg("open: %s", err.msg);
    return d;
}

/* ---- programs ---------------------------------------------------------------------------------- */

struct fixture { /* a small sound encoder; ops: 0 EMBED, 1 NORM, 2 LINEAR, 3 FIRST, ... */
    struct program p;
    struct rr_limits limits;
};

static struct rr_op *find(struct fixture *f, enum rr_op_kind kind)
{
    for (uint32_t i = 0; i < f->p.p.n_ops; i++)
        if (f->p.ops[i].kind == kind) return &f->p.ops[i];
    return NULL;
}
static struct rr_tensor *weight_of(struct fixture *f)
{
    return &f->p.tensors[find(f, RR_OP_LINEAR)->u.linear.weight[0]];
}

static void bad_dst(struct fixture *f) { find(f, RR_OP_NORM)->dst = 99; }
static void bad_src(struct fixture *f) { find(f, RR_OP_LINEAR)->src = 99; }
static void unwritten(struct fixture *f) { find(f, RR_OP_NORM)->src = f->p.p.output; }
static void bad_kind(struct fixture *f) { f->p.ops[1].kind = (enum rr_op_kind)77; }
static void embed_src(struct fixture *f) { f->p.ops[0].src = 0; }
static void embed_table(struct fixture *f) { f->p.ops[0].u.embed.word = 999; }
static void embed_width(struct fixture *f) { f->p.tensors[0].shape[1] = 31; }
static void embed_empty(struct fixture *f) { f->p.tensors[0].shape[0] = 0; }
static void embed_i8(struct fixture *f) { f->p.tensors[0].dtype = RR_I8; }
static void embed_unaligned(struct fixture *f)
{
    f->p.tensors[0].data = (const char *)f->p.tensors[0].data + 1;
}
static void weight_columns(struct fixture *f) { weight_of(f)->shape[1] = 33; }
static void weight_rows(struct fixture *f) { weight_of(f)->shape[0] = 5; }
static void weight_rank(struct fixture *f) { weight_of(f)->rank = 1; }
static void bias_shape(struct fixture *f)
{
    f->p.tensors[find(f, RR_OP_LINEAR)->u.linear.bias[1]].shape[0] = 31;
}
static void many_parts(struct fixture *f) { find(f, RR_OP_LINEAR)->u.linear.n_parts = 4; }
static void no_parts(struct fixture *f) { find(f, RR_OP_LINEAR)->u.linear.n_parts = 0; }
static void bad_act(struct fixture *f) { find(f, RR_OP_LINEAR)->u.linear.act = (enum rr_act)9; }
static void in_place(struct fixture *f)
{
    find(f, RR_OP_LINEAR)->dst = find(f, RR_OP_LINEAR)->src;
}
static void residual_width(struct fixture *f) { find(f, RR_OP_LINEAR)->u.linear.residual = 0; }
static void norm_gamma(struct fixture *f)
{
    f->p.tensors[find(f, RR_OP_NORM)->u.norm.gamma].shape[0] = 4;
}
static void norm_eps(struct fixture *f) { find(f, RR_OP_NORM)->u.norm.eps = NAN; }
static void attention_cols(struct fixture *f) { find(f, RR_OP_ATTENTION)->u.attention.v_col = 65; }
static void attention_huge(struct fixture *f)
{
    find(f, RR_OP_ATTENTION)->u.attention.heads = UINT32_MAX;
}
static void attention_none(struct fixture *f) { find(f, RR_OP_ATTENTION)->u.attention.heads = 0; }
static void attention_kv(struct fixture *f) { find(f, RR_OP_ATTENTION)->u.attention.kv = RR_NONE; }
static void attention_scale(struct fixture *f)
{
    find(f, RR_OP_ATTENTION)->u.attention.scale = INFINITY;
}
static void first_of_first(struct fixture *f)
{
    struct rr_op *op = find(f, RR_OP_FIRST);

    f->p.registers[op->src].rows = RR_ROWS_SEQUENCES;
}
static void output_none(struct fixture *f) { f->p.p.output = RR_NONE; }
static void output_wide(struct fixture *f) { f->p.p.output = find(f, RR_OP_FIRST)->dst; }
static void output_tokens(struct fixture *f) { f->p.p.output = 0; }
static void no_ops(struct fixture *f) { f->p.p.n_ops = 0; }
static void no_width(struct fixture *f) { f->p.registers[0].width = 0; }
static void huge_width(struct fixture *f) { f->p.registers[0].width = UINT32_MAX; }
static void bad_rows(struct fixture *f) { f->p.registers[0].rows = (enum rr_rows)5; }
static void no_tokens(struct fixture *f) { f->limits.max_tokens = 0; }
static void huge_tokens(struct fixture *f) { f->limits.max_tokens = UINT32_MAX; }

static const struct {
    void (*spoil)(struct fixture *f);
    int code;
    const char *words; /* in the message */
} refused[] = {
    { bad_dst, RR_EINVAL, "operation 1 (NORM): destination is register 99" },
    { bad_src, RR_EINVAL, "(LINEAR): source is register 99" },
    { unwritten, RR_EINVAL, "which nothing has written" },
    { bad_kind, RR_ENOTSUP, "operation 1 (?): kind 77" },
    { embed_src, RR_EINVAL, "operation 0 (EMBED): source is register 0, expected none" },
    { embed_table, RR_EINVAL, "word table is tensor 999" },
    { embed_width, RR_EFORMAT, "word table word has shape [50, 31], expected [any, 32]" },
    { embed_empty, RR_EFORMAT, "has shape [0, 32]" },
    { embed_i8, RR_ENOTSUP, "expected F32, F16 or BF16" },
    { embed_unaligned, RR_EFORMAT, "not aligned to 4 bytes" },
    { weight_columns, RR_EFORMAT, "weight weight has shape [32, 33], expected [any, 32]" },
    { weight_rows, RR_EFORMAT, "bias bias has shape [32], expected [5]" },
    { weight_rank, RR_EFORMAT, "has shape [32]" },
    { bias_shape, RR_EFORMAT, "bias bias has shape [31], expected [32]" },
    { many_parts, RR_EINVAL, "4 weight tensors, expected 1 to 3" },
    { no_parts, RR_EINVAL, "0 weight tensors" },
    { bad_act, RR_ENOTSUP, "activation 9" },
    { in_place, RR_EINVAL, "destination is the source" },
    { residual_width, RR_EINVAL, "residual, register 0, is 32 wide, expected 64" },
    { norm_gamma, RR_EFORMAT, "gamma gamma has shape [4], expected [32]" },
    { norm_eps, RR_EINVAL, "eps is" },
    { attention_cols, RR_EINVAL, "values are columns 65 to 97 of register" },
    { attention_huge, RR_EINVAL, "wide, expected" },
    { attention_none, RR_EINVAL, "0 heads" },
    { attention_kv, RR_EINVAL, "kv is register" },
    { attention_scale, RR_EINVAL, "scale is inf" },
    { first_of_first, RR_EINVAL, "expected" },
    { output_none, RR_EINVAL, "output is register" },
    { output_wide, RR_EINVAL, "has 32 columns" },
    { output_tokens, RR_EINVAL, "a row for each of the tokens" },
    { no_ops, RR_EINVAL, "program of 0 operations" },
    { no_width, RR_EINVAL, "register 0 is 0 wide" },
    { huge_width, RR_EINVAL, "register 0 is 4294967295 wide" },
    { bad_rows, RR_EINVAL, "rows of kind 5" },
    { no_tokens, RR_EINVAL, "limits of 0 tokens" },
    { huge_tokens, RR_EINVAL, "limits of 4294967295 tokens" },
};

static void test_refused_programs(void **state)
{
    struct encoder_shape shape = { 1, 32, 2, 64, WORDS, POSITIONS, TYPES };
    struct rr_device *d = open_device(1);

    (void)state;
    for (size_t i = 0; i < RR_COUNT(refused); i++) {
        struct fixture f = { .limits = { 100, 10, 50 } };
        struct rr_loaded *l = (struct rr_loaded *)&f;
        struct rr_error err = { 0 };
        struct rr_memory memory;
        const void *data;
        int rc;

        program_init(&f.p, i, true);
        program_encoder(&f.p, &shape);
        data = f.p.tensors[0].data;
        assert_int_equal(backend()->plan(d, &f.p.p, &f.limits, &memory, &err), RR_OK);
        refused[i].spoil(&f);
        rc = backend()->plan(d, &f.p.p, &f.limits, &memory, &err);
        if (rc != refused[i].code || !strstr(err.msg, refused[i].words))
            fail_msg("row %zu: %d, '%s'; expected %d, '%s'", i, rc, err.msg, refused[i].code,
                     refused[i].words);
        assert_int_equal(backend()->load(d, &f.p.p, &f.limits, &l, &err), refused[i].code);
        assert_null(l);
        f.p.tensors[0].data = data;
        program_free(&f.p);
    }
    backend()->close(d);
}

/* ---- batches ----------------------------------------------------------------------------------- */

static void test_refused_batches(void **state)
{
    static const struct {
        uint32_t n_tokens, n_sequences, cu[4];
        int32_t id, position, type;
        int code;
        const char *words;
    } cases[] = {
        { 6, 2, { 0, 3, 6 }, 1, 2, 1, RR_OK, "" },
        { 0, 0, { 0 }, 1, 2, 1, RR_OK, "" },
        { 11, 2, { 0, 3, 11 }, 1, 2, 1, RR_ETOOBIG, "batch of 11 tokens" },
        { 4, 4, { 0, 1, 2, 3 }, 1, 2, 1, RR_ETOOBIG, "4 sequences" },
        { 6, 2, { 0, 0, 6 }, 1, 2, 1, RR_EINVAL, "sequence 0 of the batch is empty" },
        { 6, 2, { 0, 7, 6 }, 1, 2, 1, RR_EINVAL, "sequence 0" },
        { 6, 2, { 1, 3, 6 }, 1, 2, 1, RR_EINVAL, "cu_seqlens begins with 1" },
        { 6, 2, { 0, 3, 5 }, 1, 2, 1, RR_EINVAL, "ends with 5" },
        { 8, 2, { 0, 1, 8 }, 1, 2, 1, RR_ETOOBIG, "sequence 1 has 7 tokens, loaded for 6" },
        { 6, 2, { 0, 3, 6 }, WORDS, 2, 1, RR_EINVAL, "word table of 50 rows" },
        { 6, 2, { 0, 3, 6 }, -1, 2, 1, RR_EINVAL, "word table" },
        { 6, 2, { 0, 3, 6 }, 1, POSITIONS, 1, RR_EINVAL, "position table" },
        { 6, 2, { 0, 3, 6 }, 1, 2, 2, RR_EINVAL, "type table" },
    };
    struct encoder_shape shape = { 1, 32, 2, 64, WORDS, POSITIONS, TYPES };
    struct rr_limits limits = { 10, 3, 6 };
    struct rr_device *d = open_device(2);
    struct rr_error err = { 0 };
    struct rr_loaded *l;
    struct program p;

    (void)state;
    program_init(&p, 1, true);
    program_encoder(&p, &shape);
    assert_int_equal(backend()->load(d, &p.p, &limits, &l, &err), RR_OK);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        int32_t ids[16], positions[16], types[16];
        struct rr_batch b = { cases[i].n_tokens, cases[i].n_sequences, ids, positions, types,
                              cases[i].cu };
        float logits[4] = { 0 };
        int rc;

        for (int t = 0; t < 16; t++) {
            ids[t] = t == 5 ? cases[i].id : 1;
            positions[t] = t == 5 ? cases[i].position : 1;
            types[t] = t == 5 ? cases[i].type : 1;
        }
        rc = backend()->run(l, &b, logits, &err);
        if (rc != cases[i].code || (rc && !strstr(err.msg, cases[i].words)))
            fail_msg("row %zu: %d, '%s'; expected %d, '%s'", i, rc, err.msg, cases[i].code,
                     cases[i].words);
    }
    backend()->unload(l);
    backend()->close(d);
    program_free(&p);
}

/* No memory is lost and nothing crashes wherever an allocation of open or load fails. */
static void test_out_of_memory(void **state)
{
    struct encoder_shape shape = { 1, 32, 2, 64, WORDS, POSITIONS, TYPES };
    struct rr_device_options opt = { .threads = 2 };
    struct rr_limits limits = { 100, 10, 50 };
    struct rr_error err = { 0 };
    struct rr_device *d;
    struct rr_loaded *l;
    struct program p;
    int rc = RR_ENOMEM;

    (void)state;
    program_init(&p, 1, true);
    program_encoder(&p, &shape);
    for (uint64_t n = 1; rc != RR_OK; n++) {
        assert_true(n < 1000);
        rr_mem_fault(n, false);
        rc = backend()->open(&d, &opt, &err);
        if (!rc) {
            rc = backend()->load(d, &p.p, &limits, &l, &err);
            rr_mem_fault(0, false);
            if (!rc) backend()->unload(l);
            backend()->close(d);
        }
        rr_mem_fault(0, false);
        assert_true(rc == RR_OK || rc == RR_ENOMEM);
    }
    program_free(&p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_programs),
        cmocka_unit_test(test_refused_batches),
        cmocka_unit_test(test_out_of_memory),
    };

    if (argc > 1) backend_name = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
