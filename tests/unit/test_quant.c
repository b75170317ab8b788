/* SPDX-License-Identifier: Apache-2.0 */
/* test_quant.c - src/quant alone, and rr_quantize from a folder to a folder. */
#include "checkpoint_fixture.h"

#include <math.h>

#include "base/attr.h"
#include "cpu/features.h"
#include "cpu/kern.h"
#include "cpu/pool.h"
#include "cpu/weights.h"
#include "quant/observe.h"
#include "quant/packed.h"
#include "quant/round.h"
#include "quant/smooth.h"
#include "rerank.h"

#define K 72
#define N 24
#define ROWS 400

/* A level whose int8 weights are limited, so that much is to be gained by calibration and by the
 * gate; with VNNI and AMX the small models are near f32 at once, and the rest is attention. */
static const char *isa(void)
{
    uint32_t n;
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    for (uint32_t i = 1; i < n; i++)
        if ((levels[i]->needs & rr_cpu_flags()) == levels[i]->needs &&
            levels[i]->i8_wtop < RR_I8_WFREE)
            return levels[i]->name;
    return NULL;
}

static uint64_t state_of_random = 5;

static float uniform(void) /* -1 to 1 */
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state_of_random >> 32) / 2147483648.0f;
}

/* Inputs with neighbours that move together and two channels far larger than the others. */
static void make_inputs(float *x)
{
    for (int i = 0; i < ROWS; i++) {
        float common = uniform();

        for (int j = 0; j < K; j++)
            x[i * K + j] = (common + 0.3f * uniform()) * (j == 7 || j == 40 ? 60.0f : 1.0f);
    }
}

static struct rr_observer *observe(const float *x, int backwards, int step)
{
    struct rr_observer *o;
    struct rr_error err;

    assert_int_equal(rr_observer_open(&o, 1, 100, &err), RR_OK);
    for (int i = 0; i < ROWS; i += step)
        rr_observer_add(o, 0, x + (size_t)(backwards ? ROWS - step - i : i) * K, K, (uint32_t)step,
                        K);
    assert_int_equal(rr_observer_finish(o, &err), RR_OK);
    return o;
}

static void test_observer_ignores_order(void **state)
{
    static float x[ROWS * K];
    struct rr_observer *a, *b;
    const struct rr_observed *la, *lb;

    (void)state;
    make_inputs(x);
    a = observe(x, 0, 1);
    b = observe(x, 1, 8);
    la = rr_observer_layer(a, 0);
    lb = rr_observer_layer(b, 0);
    assert_int_equal(la->n_rows, 100);
    assert_int_equal(lb->n_rows, 100);
    assert_memory_equal(la->absmax, lb->absmax, K * sizeof(float));
    assert_memory_equal(la->rows, lb->rows, 100 * K * sizeof(float));
    for (int j = 0; j < K; j++) {
        float most = 0;

        for (int i = 0; i < ROWS; i++) most = fmaxf(most, fabsf(x[i * K + j]));
        assert_true(la->absmax[j] == most);
    }
    rr_observer_close(a);
    rr_observer_close(b);
}

/* sum over the sample of (x . (w - scale q))^2. */
static double output_error(const struct rr_observed *in, const float *w, const int8_t *q,
                           const float *scale)
{
    double sum = 0;

    for (uint32_t i = 0; i < in->n_rows; i++)
        for (int o = 0; o < N; o++) {
            double y = 0;

            for (int j = 0; j < K; j++)
                y += (double)in->rows[i * K + j] *
                     ((double)w[o * K + j] - (double)scale[o] * q[o * K + j]);
            sum += y * y;
        }
    return sum;
}

static void test_rounding(void **state)
{
    static const uint32_t limits[] = { RR_I8_WFREE, 129 };
    static float x[ROWS * K], w[N * K], scale[2][N];
    static int8_t q[2][N * K];
    struct rr_observer *o;
    struct rr_pool *pool;
    struct rr_error err;

    (void)state;
    make_inputs(x);
    for (int i = 0; i < N * K; i++) w[i] = uniform();
    o = observe(x, 0, 1);
    assert_int_equal(rr_pool_open(&pool, 2, &err), RR_OK);
    for (size_t l = 0; l < RR_COUNT(limits); l++) {
        const struct rr_observed *in = rr_observer_layer(o, 0);
        double errors[2];

        for (int s = 0; s < 2; s++) { /* without inputs, with */
            assert_int_equal(rr_round_weights(q[s], scale[s], w, N, K, limits[l], s ? in : NULL,
                                              NULL, pool, &err),
                             RR_OK);
            errors[s] = output_error(in, w, q[s], scale[s]);
        }
        for (int r = 0; r < N; r++) {
            int8_t alone[K];

            assert_true(rr_weights_quantize_row(alone, w + r * K, K, limits[l]) == scale[0][r]);
            assert_memory_equal(alone, q[0] + r * K, K); /* as loading on the fly does */
            assert_true(rr_weights_within(q[1] + r * K, K, limits[l]));
        }
        if (!(errors[1] < 0.5 * errors[0]))
            fail_msg("limit %u: error %g with inputs, %g without", limits[l], errors[1], errors[0]);
    }
    rr_pool_close(pool);
    rr_observer_close(o);
}

/* Of w rounded row by row, divided by factors. */
static double form_error(const struct rr_observed *in, const float *w, const float *factors)
{
    static float divided[N * K], scale[N];
    static int8_t q[N * K];
    struct rr_rounded t = { q, scale, factors, N };
    struct rr_error err;
    double error;

    for (int i = 0; i < N * K; i++) divided[i] = w[i] / (factors ? factors[i % K] : 1);
    for (int o = 0; o < N; o++)
        scale[o] = rr_weights_quantize_row(q + o * K, divided + o * K, K, RR_I8_WFREE);
    assert_int_equal(rr_smooth_error(&error, in, divided, &t, 1, &err), RR_OK);
    return error;
}

static void test_smoothing(void **state)
{
    static float x[ROWS * K], w[N * K], factors[K];
    struct rr_observer *o;
    const struct rr_observed *in;
    struct rr_error err;
    double errors[2];
    float alpha, low = INFINITY, high = 0;

    (void)state;
    make_inputs(x);
    for (int i = 0; i < N * K; i++) w[i] = uniform();
    o = observe(x, 0, 1);
    in = rr_observer_layer(o, 0);
    assert_int_equal(rr_smooth_search(&alpha, in, w, N, RR_I8_WFREE, &err), RR_OK);
    rr_smooth_factors(factors, in, w, N, alpha);
    for (int j = 0; j < K; j++) {
        low = fminf(low, factors[j] * in->absmax[j]);
        high = fmaxf(high, factors[j] * in->absmax[j]);
    }
    assert_true(high < 16 * low); /* 60 times without */
    for (int with = 0; with < 2; with++) errors[with] = form_error(in, w, with ? factors : NULL);
    assert_true(errors[1] > 0 && errors[1] < 0.5 * errors[0]); /* two channels are 60 times others */
    rr_observer_close(o);
}

/* Every f16 value survives, and what lies between two goes to the nearer, ties to even. */
static void test_f16(void **state)
{
    const struct rr_kern *kern = rr_kern_pick(rr_cpu_flags(), "ref");

    (void)state;
    for (uint32_t h = 0; h < 0x7C00; h++) {
        uint16_t two[2] = { (uint16_t)h, (uint16_t)(h + 1) };
        float v[2], middle;

        kern->convert(v, two, RR_F16, 2);
        assert_int_equal(rr_weights_round_f16(v[0]), h);
        assert_int_equal(rr_weights_round_f16(-v[0]), h | 0x8000);
        if (h + 1 == 0x7C00) v[1] = 65536;
        middle = v[0] + (v[1] - v[0]) / 2;
        assert_int_equal(rr_weights_round_f16(middle), h + h % 2);
        assert_int_equal(rr_weights_round_f16(nextafterf(middle, 0)), h);
        assert_int_equal(rr_weights_round_f16(nextafterf(middle, 1e6f)), h + 1);
    }
    for (uint32_t n = 0; n < 20; n++) { /* in vectors and what is left over */
        float v[20];
        uint16_t found[21] = { 0 };

        for (uint32_t i = 0; i < n; i++) v[i] = uniform() * (i % 3 ? 1.0f : 1e-6f);
        assert_true(rr_weights_to_f16(found, v, n));
        for (uint32_t i = 0; i < n; i++) assert_int_equal(found[i], rr_weights_round_f16(v[i]));
        assert_int_equal(found[n], 0);
        for (uint32_t i = 0; i < n; i++) {
            float before = v[i];

            v[i] = i % 2 ? -65520.0f : 65520.0f;
            assert_false(rr_weights_to_f16(found, v, n));
            v[i] = nextafterf(v[i], 0);
            assert_true(rr_weights_to_f16(found, v, n));
            v[i] = before;
        }
    }
    assert_int_equal(rr_weights_round_f16(INFINITY), 0x7C00);
    assert_int_equal(rr_weights_round_f16(NAN) & 0x7FFF, 0x7E00);
}

/* ---- folders ------------------------------------------------------------------------------- */

static const struct rr_text docs[] = {
    { "the cat sat on the mat", 22 },
    { "le chat est sur le tapis", 24 },
    { "x", 1 },
    { "nothing of the kind, and rather longer than the others", 54 },
};
static const struct rr_list list = { { "where is the cat", 16 }, docs, RR_COUNT(docs) };

static void score(const char *folder, const char *dtype, float *logits, char made_for[16])
{
    struct rr_options opt;
    struct rr_request req = { .query = list.query, .documents = docs, .n_documents = 4 };
    struct rr_engine *e;
    struct rr_result *r;
    struct rr_error err;

    rr_options_init(&opt);
    opt.model = folder;
    opt.dtype = dtype;
    opt.threads = 2;
    opt.isa = isa();
    opt.device = "cpu";
    if (rr_open(&e, &opt, &err)) fail_msg("%s: %s", folder, err.msg);
    if (rr_score(e, &req, &r, &err)) fail_msg("%s: %s", folder, err.msg);
    for (size_t i = 0; i < RR_COUNT(docs); i++) logits[i] = r->scores[i].logit;
    snprintf(made_for, 16, "%s", rr_engine_info(e)->dtype);
    rr_result_free(r);
    rr_close(e);
}

static bool with_cache; /* of the next quantize */

static int quantize(const char *model, const char *out, const char *dtype, bool lists,
                    struct rr_quantize_report *report, struct rr_error *err)
{
    struct rr_options opt;
    struct rr_quantize q = { .engine = &opt, .out = out, .dtype = dtype, .cache = with_cache };

    rr_options_init(&opt);
    opt.model = model;
    opt.threads = 2;
    opt.isa = isa();
    q.calibration = q.check = &list;
    q.n_calibration = q.n_check = lists;
    return rr_quantize(&q, report, err);
}

/* What a folder in another precision computes by itself is what the original computes when it is
 * told so, to the bit; calibrated int8 has bits of its own, near those of f32. */
static void test_folders(void **state)
{
    static const struct {
        const char *dtype, *like;
        const char *why;
    } cases[] = {
        { "int8", "int8", "rounded weight by weight: as on the fly" },
        { "bf16", "bf16", "as on the fly" },
        { "f32", "f32", "widened: nothing changes" },
    };
    char source[256];
    struct rr_quantize_report report;
    struct rr_error err;

    (void)state;
    if (!fixture_model("tiny-xlmr", source, sizeof(source))) {
        print_message("SKIP: no tiny model\n");
        exit(77);
    }
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct fixture_folder parent = fixture_folder(), f;
        float found[4], expected[4];
        char made_for[16], *out = f.path;

        snprintf(f.path, sizeof(f.path), "%.200s/out", parent.path);
        if (quantize(source, out, cases[i].dtype, false, &report, &err))
            fail_msg("%s: %s", cases[i].why, err.msg);
        score(out, "auto", found, made_for);
        assert_string_equal(made_for, cases[i].dtype);
        score(source, cases[i].like, expected, made_for);
        for (int d = 0; d < 4; d++)
            if (memcmp(&found[d], &expected[d], 4) != 0)
                fail_msg("%s, document %d: %a, expected %a", cases[i].why, d, (double)found[d],
                         (double)expected[d]);
        assert_int_equal(report.n_int8, strcmp(cases[i].dtype, "int8") ? 0 : report.n_layers);
        fixture_remove(&f);
        assert_int_equal(rmdir(parent.path), 0); /* nothing was left beside it */
    }
}

static void test_calibrated(void **state)
{
    struct fixture_folder parent = fixture_folder(), f;
    struct rr_quantize_report report;
    float logits[3][4], fly = 0, calibrated = 0; /* f32, int8 on the fly, calibrated */
    char source[256], made_for[16];
    struct rr_error err;

    (void)state;
    if (!fixture_model("tiny-xlmr", source, sizeof(source))) exit(77);
    snprintf(f.path, sizeof(f.path), "%.200s/out", parent.path);
    if (quantize(source, f.path, "int8", true, &report, &err)) fail_msg("%s", err.msg);
    score(source, "f32", logits[0], made_for);
    score(source, "int8", logits[1], made_for);
    score(f.path, "auto", logits[2], made_for);
    for (int d = 0; d < 4; d++) {
        fly += fabsf(logits[1][d] - logits[0][d]);
        calibrated += fabsf(logits[2][d] - logits[0][d]);
    }
    if (!(calibrated < 0.5f * fly))
        fail_msg("%g from f32, on the fly %g", (double)calibrated, (double)fly);
    fixture_remove(&f);
    assert_int_equal(rmdir(parent.path), 0);
}

/* ---- the gate ------------------------------------------------------------------------------- */

struct judge {
    float part;  /* of the first candidate's largest difference is good enough */
    size_t most; /* layers in int8 that are */
    float first, last;
    size_t last_int8;
    int calls;
};

static int judge(void *user, const float *reference, const float *candidate, size_t n_int8,
                 bool *good, struct rr_error *err)
{
    struct judge *g = user;

    (void)err;
    g->last = 0;
    g->last_int8 = n_int8;
    for (size_t i = 0; i < RR_COUNT(docs); i++)
        g->last = fmaxf(g->last, fabsf(candidate[i] - reference[i]));
    if (g->calls++ == 0) g->first = g->last;
    *good = g->last <= g->part * g->first && n_int8 <= g->most;
    return RR_OK;
}

static void test_gate(void **state)
{
    static const struct {
        float part;
        size_t most;
        int rc;
        const char *why;
    } cases[] = {
        { 1.0f, 99, RR_OK, "content at once" },
        { 0.3f, 99, RR_OK, "some layers are widened" },
        { -1.0f, 99, RR_ENOTSUP, "not even content with f32" },
        { 99.0f, 8, RR_OK, "one step" },
        { 99.0f, 6, RR_OK, "one of four that are" },
        { 99.0f, 5, RR_OK, "found in different ways," },
        { 99.0f, 4, RR_OK, "with what passed tried" },
        { 99.0f, 3, RR_OK, "last or not" },
        { 99.0f, 1, RR_OK, "all steps but the last" },
        { 99.0f, 0, RR_ENOTSUP, "a folder without int8 is of no use" },
    };
    char source[256];

    (void)state;
    if (!fixture_model("tiny-xlmr", source, sizeof(source))) exit(77);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct fixture_folder parent = fixture_folder(), f;
        struct judge g = { .part = cases[i].part, .most = cases[i].most };
        struct rr_quantize_report report;
        struct rr_options opt;
        struct rr_quantize q = { .engine = &opt, .out = f.path, .dtype = "int8", .gate = true,
                                 .judge = judge, .user = &g, .check = &list, .n_check = 1 };
        float found[4], f32[4];
        struct rr_error err;
        char made_for[16];

        snprintf(f.path, sizeof(f.path), "%.200s/out", parent.path);
        rr_options_init(&opt);
        opt.model = source;
        opt.threads = 2;
        opt.isa = isa();
        assert_int_equal(rr_quantize(&q, &report, &err), cases[i].rc);
        if (cases[i].rc) {
            assert_int_equal(rmdir(parent.path), 0); /* nothing was written */
            continue;
        }
        assert_true(report.passed && report.n_int8 == g.last_int8 && g.calls <= 6);
        assert_true(i ? g.calls > 1 && report.n_int8 < report.n_layers
                      : g.calls == 1 && report.n_int8 == report.n_layers);
        if (cases[i].most < 99) assert_int_equal(report.n_int8, cases[i].most);
        assert_true(report.int8_share > 0 && report.time >= 1 && report.time < report.time_bf16);
        assert_true((report.int8_share == 1) == (i == 0) && (report.time == 1) == (i == 0));
        score(f.path, "auto", found, made_for); /* what was written is what was judged */
        score(source, "f32", f32, made_for);
        for (int d = 0; d < 4; d++) assert_true(fabsf(found[d] - f32[d]) <= g.last);
        fixture_remove(&f);
        assert_int_equal(rmdir(parent.path), 0);
    }
}

/* ---- failures -------------------------------------------------------------------------------- */

struct failing {
    const char *step; /* of the progress, that fails; NULL: judge does */
    uint64_t nth;     /* its allocation of this number */
};

static void fail_in(void *user, const char *step, size_t done, size_t total)
{
    const struct failing *f = user;

    (void)done, (void)total;
    if (f->step && strcmp(step, f->step) == 0) rr_mem_fault(f->nth, false);
}

static int judge_in_vain(void *user, const float *reference, const float *candidate, size_t n_int8,
                         bool *good, struct rr_error *err)
{
    const struct failing *f = user;

    (void)reference, (void)candidate, (void)n_int8;
    *good = true;
    if (f->step) return RR_OK;
    *err = (struct rr_error){ RR_ENOMEM, "out of memory to judge" };
    return RR_ENOMEM;
}

/* Whatever fails, out is there whole or not at all, and nothing lies beside it. */
static void test_failures(void **state)
{
    static const struct failing cases[] = {
        { NULL, 0 },      { "writing", 1 },  { "writing", 3 },
        { "packing", 1 }, { "packing", 30 }, { "packing", 9 },
    };
    struct fixture_folder parent = fixture_folder(), f;
    char source[256];

    (void)state;
    if (!fixture_model("tiny-xlmr", source, sizeof(source))) exit(77);
    snprintf(f.path, sizeof(f.path), "%.200s/out", parent.path);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct failing how = cases[i];
        struct rr_options opt;
        struct rr_quantize q = { .engine = &opt, .out = f.path, .dtype = "int8", .cache = true,
                                 .judge = judge_in_vain, .progress = fail_in, .user = &how,
                                 .check = &list, .n_check = 1 };
        struct rr_quantize_report report;
        struct rr_error err = { 0 };
        int rc;

        rr_options_init(&opt);
        opt.model = source;
        opt.threads = 2;
        rc = rr_quantize(&q, &report, &err);
        rr_mem_fault(0, false);
        if (rc != RR_ENOMEM || !strstr(err.msg, "out of memory"))
            fail_msg("case %zu: %d, \"%s\"", i, rc, err.msg);
        assert_false(rr_file_exists(f.path));
    }
    assert_int_equal(rmdir(parent.path), 0);
}

/* ---- packed weights -------------------------------------------------------------------------- */

static char *make_block(const struct rr_packed_key *key)
{
    char *block = calloc(1, RR_PACKED_HEADER + (size_t)key->bytes);

    assert_non_null(block);
    for (uint64_t i = 0; i < key->bytes; i++) block[RR_PACKED_HEADER + i] = (char)(i * 7);
    return block;
}

static void test_packed_file(void **state)
{
    static const struct {
        size_t cut;  /* bytes left of the file; 0: all */
        long damage; /* byte that is changed; -1: none */
        struct rr_packed_key key;
        const char *words; /* NULL: fits */
    } cases[] = {
        { 0, -1, { 1, 2, 5000 }, NULL },
        { 0, -1, { 9, 2, 5000 }, "other weights" },
        { 0, -1, { 1, 9, 5000 }, "another way" },
        { 0, -1, { 1, 2, 4999 }, "another way" },
        { 0, 0, { 1, 2, 5000 }, "not a file of packed" },
        { 0, 8, { 1, 2, 5000 }, "not a file of packed" },
        { 0, 17, { 1, 2, 5000 }, "damaged header" },
        { 0, 50, { 1, 2, 5000 }, "damaged header" },
        { 0, RR_PACKED_HEADER + 4999, { 1, 2, 5000 }, "damaged weights" },
        { RR_PACKED_HEADER + 4999, -1, { 1, 2, 5000 }, "9095 bytes, expected 9096" },
        { 100, -1, { 1, 2, 5000 }, "100 bytes" },
    };
    struct rr_packed_key key = { 1, 2, 5000 };
    struct fixture_folder f = fixture_folder();
    char path[300], *block = make_block(&key);
    struct fixture_bytes b;
    struct rr_error err = { 0 };

    (void)state;
    snprintf(path, sizeof(path), "%s/x.rrpk", f.path);
    assert_int_equal(rr_packed_save(path, block, &key, &err), RR_OK);
    b = fixture_read(f.path, "x.rrpk");
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        size_t len = cases[i].cut ? cases[i].cut : b.len;
        int rc;

        if (cases[i].damage >= 0) b.data[cases[i].damage] ^= 1;
        rc = rr_packed_check((struct rr_text){ b.data, len }, &cases[i].key, &err);
        if (cases[i].damage >= 0) b.data[cases[i].damage] ^= 1;
        assert_int_equal(rc, cases[i].words ? RR_EFORMAT : RR_OK);
        if (cases[i].words && !strstr(err.msg, cases[i].words))
            fail_msg("case %zu: found \"%s\"", i, err.msg);
    }
    free(b.data);
    free(block);
    fixture_remove(&f);
}

static int mapped, refused; /* log lines seen */

static void count_lines(void *user, enum rr_log_level level, const char *line)
{
    (void)user;
    (void)level;
    mapped += strstr(line, "packed weights are mapped") != NULL;
    refused += strstr(line, "damaged weights") != NULL;
}

/* A folder with packed weights scores the same mapped, and the same when they are damaged. */
/* The fuzzer's seeds are of this version, each refused where its name says: else mutations of them
 * end at the first check. */
static void test_packed_seeds(void **state)
{
    static const struct {
        const char *name, *why; /* NULL: sound */
    } rows[] = {
        { "header-only", "56 bytes, expected at least 4096" },
        { "magic", "not a file of packed weights" },
        { "page", "a damaged header" },
        { "huge", "4096 bytes, expected" },
        { "longer", "4113 bytes, expected 4112" },
        { "damaged", "damaged weights" },
        { "sound", NULL },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct rr_error err = { 0 };
        struct rr_packed_key key;
        char path[128], *seed;
        size_t len;
        int rc;

        snprintf(path, sizeof(path), "tests/fuzz/corpus/packed/%s", rows[i].name);
        assert_int_equal(rr_file_read(&seed, &len, path, 1 << 20, RR_MEM_MISC, &err), RR_OK);
        assert_true(len > sizeof(key));
        memcpy(&key, seed, sizeof(key));
        rc = rr_packed_check((struct rr_text){ seed + sizeof(key), len - sizeof(key) }, &key, &err);
        if (rows[i].why ? rc != RR_EFORMAT || !strstr(err.msg, rows[i].why) : rc != RR_OK)
            fail_msg("%s: %d, %s", rows[i].name, rc, err.msg);
        rr_free(seed);
    }
}

static void test_packed_folder(void **state)
{
    struct fixture_folder parent = fixture_folder(), f;
    struct rr_quantize_report report;
    char source[256], made_for[16], name[300] = "";
    float expected[4], found[4];
    struct rr_error err;
    struct fixture_bytes b;
    struct dirent *e;
    DIR *d;

    (void)state;
    if (!fixture_model("tiny-xlmr", source, sizeof(source))) exit(77);
    snprintf(f.path, sizeof(f.path), "%.200s/out", parent.path);
    score(source, "int8", expected, made_for);
    with_cache = true;
    if (quantize(source, f.path, "int8", false, &report, &err)) fail_msg("%s", err.msg);
    with_cache = false;
    d = opendir(f.path);
    while ((e = readdir(d)))
        if (strncmp(e->d_name, "packed-", 7) == 0) snprintf(name, sizeof(name), "%s", e->d_name);
    closedir(d);
    assert_string_not_equal(name, "");
    rr_set_log(count_lines, NULL, RR_LOG_INFO);
    score(f.path, "auto", found, made_for);
    assert_memory_equal(found, expected, sizeof(found));
    assert_int_equal(mapped, 1);
    b = fixture_read(f.path, name);
    b.data[b.len / 2] ^= 1;
    fixture_write(&f, name, b.data, b.len);
    free(b.data);
    score(f.path, "auto", found, made_for);
    assert_memory_equal(found, expected, sizeof(found));
    assert_int_equal(mapped, 1);
    assert_int_equal(refused, 1);
    rr_set_log(NULL, NULL, RR_LOG_WARN);
    fixture_remove(&f);
    assert_int_equal(rmdir(parent.path), 0);
}

static void test_refusals(void **state)
{
    char source[256], inside[300];
    struct rr_quantize_report report;
    struct fixture_folder f = fixture_folder();
    const struct {
        const char *out, *dtype;
        int code;
        const char *words;
    } cases[] = {
        { source, "int8", RR_EINVAL, "own folder" },
        { inside, "int8", RR_EINVAL, "own folder or lies in it" },
        { f.path, "int8", RR_EINVAL, "is there already" },
        { "/nowhere/at/all", "int8", RR_ENOENT, "/nowhere/at" },
        { "", "int8", RR_EINVAL, "0 bytes" },
        { "build/never", "int4", RR_EINVAL, "\"int4\", expected int8" },
    };

    (void)state;
    if (!fixture_model("tiny-xlmr", source, sizeof(source))) exit(77);
    snprintf(inside, sizeof(inside), "%s/out", source);
    fixture_write(&f, "something", "x", 1);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct rr_error err = { 0 };

        assert_int_equal(quantize(source, cases[i].out, cases[i].dtype, false, &report, &err),
                         cases[i].code);
        if (!strstr(err.msg, cases[i].words)) fail_msg("found \"%s\"", err.msg);
    }
    assert_false(rr_file_exists(inside));
    fixture_remove(&f);
}

static float judged[RR_COUNT(docs)];

static int remember(void *user, const float *reference, const float *candidate, size_t n_int8,
                    bool *good, struct rr_error *err)
{
    (void)user, (void)candidate, (void)n_int8, (void)err;
    memcpy(judged, reference, sizeof(judged));
    *good = true;
    return RR_OK;
}

/* What is calibrated and judged with is what requests compute, in f32 to the bit: pairs that are
 * too long lose the side that the tokenizer's files say, special tokens are what is asked for. */
static void test_texts_as_requests(void **state)
{
    static const char long_text[] = "the cat is here </s> the dog is not, and the bird is gone";
    static const struct {
        const char *config;
        bool literal;
    } cases[] = {
        { "{}", false },
        { "{\"truncation_side\": \"left\"}", false },
        { "{\"truncation_side\": \"left\"}", true },
    };
    struct fixture_folder source = fixture_folder();
    char from[256];

    (void)state;
    if (!fixture_model("tiny-xlmr", from, sizeof(from))) exit(77);
    fixture_copy(&source, from, "config.json");
    fixture_copy(&source, from, "tokenizer.json");
    fixture_copy(&source, from, "model.safetensors");
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct fixture_folder parent = fixture_folder(), out;
        struct rr_text texts[RR_COUNT(docs)];
        struct rr_list lists = { list.query, texts, RR_COUNT(docs) };
        struct rr_options opt;
        struct rr_request req = { .query = list.query, .documents = texts, .n_documents = 4 };
        struct rr_quantize q = { .engine = &opt, .out = out.path, .dtype = "int8",
                                 .judge = remember, .check = &lists, .n_check = 1 };
        struct rr_quantize_report report;
        struct rr_engine *e;
        struct rr_result *r;
        struct rr_error err;

        memcpy(texts, docs, sizeof(texts));
        texts[0] = (struct rr_text){ long_text, sizeof(long_text) - 1 };
        fixture_write(&source, "tokenizer_config.json", cases[i].config, strlen(cases[i].config));
        snprintf(out.path, sizeof(out.path), "%.200s/out", parent.path);
        rr_options_init(&opt);
        opt.model = source.path;
        opt.threads = 2;
        opt.max_length = 20;
        opt.literal_specials = cases[i].literal;
        if (rr_quantize(&q, &report, &err)) fail_msg("%s", err.msg);
        opt.device = "cpu";
        opt.dtype = "f32";
        if (rr_open(&e, &opt, &err)) fail_msg("%s", err.msg);
        if (rr_score(e, &req, &r, &err)) fail_msg("%s", err.msg);
        assert_true(r->scores[0].truncated);
        for (size_t d = 0; d < RR_COUNT(docs); d++)
            if (judged[d] != r->scores[d].logit)
                fail_msg("%s, document %zu: %g, expected %g", cases[i].config, d,
                         (double)judged[d], (double)r->scores[d].logit);
        rr_result_free(r);
        rr_close(e);
        fixture_remove(&out);
        fixture_remove(&parent);
    }
    fixture_remove(&source);
}

/* A weight that a precision has no number for is refused, not made infinite. */
static void test_too_large(void **state)
{
    static const char words[] = "bert.embeddings.word_embeddings.weight";
    static const char query[] = "bert.encoder.layer.0.attention.self.query.weight";
    static const struct {
        const char *tensor;
        float value;
        const char *dtype, *to; /* to: a name for rr_convert; NULL: rr_quantize */
        bool tables, refused;
        const char *why;
    } cases[] = {
        { words, 65519, "f16", NULL, false, false, "rounded down to the largest" },
        { words, 65520, "f16", NULL, false, true, "rounded up" },
        { words, -70000, "int8", NULL, true, true, "a table in f16" },
        { words, -70000, "int8", NULL, false, false, "a table as it was" },
        { query, 3.4e38f, "bf16", NULL, false, true, "rounded up" },
        { words, 65520, "f16", "folder", false, true, "converted" },
        { words, 65519, "f16", "m.gguf", false, false, "converted" },
        { words, 1e7f, "q8_0", "m.gguf", false, true, "a scale is in f16" },
    };
    struct fixture_folder source = fixture_folder();
    struct fixture_weights w;
    char from[256];

    (void)state;
    if (!fixture_model("tiny-bert", from, sizeof(from))) exit(77);
    fixture_copy(&source, from, "config.json");
    fixture_copy(&source, from, "tokenizer.json");
    w = fixture_weights(from);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct fixture_folder parent = fixture_folder(), made;
        float *at = &fixture_find(&w, cases[i].tensor)->values[5], was = *at;
        char *out = made.path;
        struct rr_options opt;
        struct rr_quantize q = {
            .engine = &opt, .out = out, .dtype = cases[i].dtype, .tables_f16 = cases[i].tables
        };
        struct rr_quantize_report report;
        struct rr_error err = { 0 };
        int rc;

        *at = cases[i].value;
        fixture_save(&source, "model.safetensors", &w, 0, w.n, 0);
        *at = was;
        snprintf(made.path, sizeof(made.path), "%.200s/%s", parent.path,
                 cases[i].to ? cases[i].to : "out");
        rr_options_init(&opt);
        opt.model = source.path;
        opt.threads = 2;
        rc = cases[i].to ? rr_convert(source.path, out, cases[i].dtype, 0, &err)
                         : rr_quantize(&q, &report, &err);
        if (rc != (cases[i].refused ? RR_ENOTSUP : RR_OK) || rr_file_exists(out) != !rc ||
            (rc && !strstr(err.msg, "has a value that is too large for")))
            fail_msg("%g in %s, %s: %d, %s", (double)cases[i].value, cases[i].dtype, cases[i].why,
                     rc, err.msg);
        if (!rc && !cases[i].to) fixture_remove(&made);
        fixture_remove(&parent); /* nothing else was left in it */
    }
    fixture_weights_free(&w);
    fixture_remove(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_observer_ignores_order),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_smoothing),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_calibrated),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_packed_file),
        cmocka_unit_test(test_packed_seeds),
        cmocka_unit_test(test_packed_folder),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_texts_as_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
