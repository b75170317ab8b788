/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_golden.c - ids of every stored case, as the reference library makes them. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/buf.h"
#include "tok_fixture.h"

struct golden {
    struct tok_fixture f;
    const char *name;
    unsigned singles, pairs;
};

static const char *case_name(const json_t *line)
{
    const char *id = json_string_value(json_object_get(line, "id"));

    return id ? id : "?";
}

/* What comes back with a limit is the first or the last part of what comes back without. */
static void check_limits(struct golden *g, const char *which, struct rr_text text)
{
    static const uint32_t limits[] = { 1, 2, 7, 30 };
    struct rr_error err = { 0 };
    struct rr_tok_ids all, part;
    size_t i;

    assert_int_equal(rr_tok_encode(g->f.tok, g->f.a, text, 0, 0, &all, &err), RR_OK);
    assert_false(all.cut);
    for (i = 0; i < RR_COUNT(limits); i++) {
        uint32_t want = all.n < limits[i] ? all.n : limits[i];

        assert_int_equal(rr_tok_encode(g->f.tok, g->f.b, text, limits[i], 0, &part, &err), RR_OK);
        if (part.n != want || memcmp(part.ids, all.ids, want * sizeof(*all.ids)) != 0)
            fail_msg("%s, %s: the first %u tokens differ", g->name, which, limits[i]);
        assert_int_equal(part.cut, all.n > limits[i]);
        assert_int_equal(
            rr_tok_encode(g->f.tok, g->f.b, text, limits[i], RR_TOK_KEEP_END, &part, &err), RR_OK);
        if (part.n != want ||
            memcmp(part.ids, all.ids + all.n - want, want * sizeof(*all.ids)) != 0)
            fail_msg("%s, %s: the last %u tokens differ", g->name, which, limits[i]);
    }
    /* Offsets change no id and stay inside. */
    assert_int_equal(rr_tok_encode(g->f.tok, g->f.b, text, 0, RR_TOK_OFFSETS, &part, &err), RR_OK);
    assert_int_equal(part.n, all.n);
    if (all.n) assert_memory_equal(part.ids, all.ids, all.n * sizeof(*all.ids));
    for (i = 0; i < part.n; i++)
        if (part.starts[i] > part.ends[i] || part.ends[i] > text.len)
            fail_msg("%s, %s: token %zu lies at %u..%u", g->name, which, i, part.starts[i],
                     part.ends[i]);
}

static void check_line(void *user, const json_t *line)
{
    struct golden *g = user;
    int32_t *ids, *types = NULL;
    uint32_t n, max;

    if (json_object_get(line, "text")) {
        ids = tok_single(&g->f, tok_text(line, "text"), &n);
        tok_compare(g->name, case_name(line), json_object_get(line, "ids"), ids, n);
        check_limits(g, case_name(line), tok_text(line, "text"));
        g->singles++;
    } else {
        max = (uint32_t)json_integer_value(json_object_get(line, "max_length"));
        ids = tok_pair(&g->f, tok_text(line, "a"), tok_text(line, "b"), max, 0, 0, &types, &n);
        tok_compare(g->name, case_name(line), json_object_get(line, "ids"), ids, n);
        if (json_object_get(line, "type_ids"))
            tok_compare(g->name, "types", json_object_get(line, "type_ids"), types, n);
        free(ids);
        ids = tok_pair(&g->f, tok_text(line, "a"), tok_text(line, "b"), max, 0, max, &types, &n);
        tok_compare(g->name, "document cut before", json_object_get(line, "ids"), ids, n);
        g->pairs++;
    }
    free(ids);
}

static void check_folder(const char *folder, const char *cases, unsigned singles, unsigned pairs)
{
    struct golden g = { .name = folder };

    tok_fixture_open(&g.f, folder);
    tok_each_line(cases, check_line, &g);
    assert_int_equal(g.singles, singles);
    assert_int_equal(g.pairs, pairs);
    tok_fixture_close(&g.f);
}

static void test_models(void **state)
{
    static const struct {
        const char *folder;
        unsigned singles, pairs;
        const char *kind;
    } models[] = {
        { "tests/golden/models/tiny-xlmr", 252, 40, "Unigram" },
        { "tests/golden/models/tiny-xlmr-odd", 252, 40, "Unigram" },
        { "tests/golden/models/tiny-bert", 252, 40, "WordPiece" },
        { "tests/golden/models/tiny-roberta", 252, 40, "BPE" },
        { "tests/golden/models/tiny-deberta", 252, 40, "Unigram" },
        { "tests/golden/models/tiny-modernbert-cls", 252, 40, "BPE" },
        { "tests/golden/models/tiny-qwen3", 252, 0, "BPE" },
    };
    char cases[256];
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(models); i++) {
        struct tok_fixture f;

        snprintf(cases, sizeof(cases), "%s/tokens.jsonl", models[i].folder);
        check_folder(models[i].folder, cases, models[i].singles, models[i].pairs);
        tok_fixture_open(&f, models[i].folder);
        assert_string_equal(rr_tok_kind(f.tok), models[i].kind);
        assert_true(rr_tok_max_length(f.tok) >= 512);
        tok_fixture_close(&f);
    }
}

static void test_full_xlmr(void **state)
{
    char folder[1024], cases[1024];

    (void)state;
    if (!tok_shared("data/xlmr", folder) || !tok_shared("data/xlmr/cases.jsonl", cases)) {
        print_message("SKIPPED: the full XLM-R tokenizer is not at %s\n", folder);
        skip();
    }
    check_folder(folder, cases, 2000, 500);
}

/* ---- variants.jsonl ---- */

struct variants {
    char *charsmap;
    unsigned cases, offsets;
};

static void replace_charsmap(json_t *v, const char *charsmap)
{
    const char *key;
    json_t *child;
    size_t i;

    if (json_is_array(v)) json_array_foreach(v, i, child) replace_charsmap(child, charsmap);
    if (!json_is_object(v)) return;
    json_object_foreach(v, key, child)
    {
        if (!strcmp(key, "precompiled_charsmap"))
            json_string_set(child, charsmap);
        else
            replace_charsmap(child, charsmap);
    }
}

static json_t *variant_json(const json_t *row, const struct variants *v)
{
    const char *base = json_string_value(json_object_get(row, "base"));
    json_t *spec = NULL, *set = json_deep_copy(json_object_get(row, "set"));
    json_error_t where;
    char path[256];

    if (!base) return json_deep_copy(json_object_get(row, "file"));
    snprintf(path, sizeof(path), "tests/golden/models/%s/tokenizer.json", base);
    spec = json_load_file(path, JSON_ALLOW_NUL, &where);
    if (!spec) fail_msg("no golden model %s", base);
    if (set) {
        replace_charsmap(set, v->charsmap);
        json_object_update(spec, set);
        json_decref(set);
    }
    if (json_object_get(row, "model"))
        json_object_update(json_object_get(spec, "model"), json_object_get(row, "model"));
    if (json_object_get(row, "added"))
        json_array_extend(json_object_get(spec, "added_tokens"), json_object_get(row, "added"));
    return spec;
}

static void check_variant_case(struct tok_fixture *f, const char *name, size_t at, const json_t *c,
                               struct variants *v)
{
    const json_t *offsets = json_object_get(c, "offsets");
    struct rr_text text = tok_text(c, "text"), decoded = tok_text(c, "decoded");
    struct rr_error err = { 0 };
    struct rr_tok_ids got;
    struct rr_buf out;
    char which[32];
    int32_t *ids;
    uint32_t n, i;

    snprintf(which, sizeof(which), "case %zu", at);
    ids = tok_single(f, text, &n);
    tok_compare(name, which, json_object_get(c, "ids"), ids, n);
    rr_buf_init(&out, RR_MEM_MISC, 1 << 20);
    if (rr_tok_decode(f->tok, ids, n, true, &out, &err)) fail_msg("%s: %s", name, err.msg);
    if (!rr_text_eq((struct rr_text){ out.data ? out.data : "", out.len }, decoded))
        fail_msg("%s, %s: decoded \"%s\", expected \"%s\"", name, which, out.data ? out.data : "",
                 decoded.data);
    rr_buf_free(&out);
    free(ids);
    v->cases++;
    if (!offsets) return;
    assert_int_equal(rr_tok_encode(f->tok, f->a, text, 0, RR_TOK_OFFSETS, &got, &err), RR_OK);
    assert_int_equal(json_array_size(offsets), 2 * got.n);
    for (i = 0; i < got.n; i++) {
        json_int_t from = json_integer_value(json_array_get(offsets, 2 * i));
        json_int_t to = json_integer_value(json_array_get(offsets, 2 * i + 1));

        if (got.starts[i] != from || got.ends[i] != to)
            fail_msg("%s, %s: token %u lies at %u..%u, expected %lld..%lld", name, which, i,
                     got.starts[i], got.ends[i], (long long)from, (long long)to);
    }
    v->offsets++;
}

static void check_variant(void *user, const json_t *row)
{
    struct variants *v = user;
    json_t *spec = variant_json(row, v);
    const char *name = json_string_value(json_object_get(row, "name"));
    const json_t *cases = json_object_get(row, "cases");
    char *text = json_dumps(spec, JSON_ENSURE_ASCII * (v->cases % 2));
    struct tok_fixture f;
    size_t i;

    assert_non_null(text);
    tok_fixture_parse(&f, rr_text(text), name);
    for (i = 0; i < json_array_size(cases); i++)
        check_variant_case(&f, name, i, json_array_get(cases, i), v);
    tok_fixture_close(&f);
    free(text);
    json_decref(spec);
}

static void test_variants(void **state)
{
    struct variants v = { 0 };
    json_t *xlmr =
        json_load_file("tests/golden/models/tiny-xlmr/tokenizer.json", JSON_ALLOW_NUL, NULL);

    (void)state;
    assert_non_null(xlmr);
    v.charsmap = strdup(json_string_value(
        json_object_get(json_object_get(xlmr, "normalizer"), "precompiled_charsmap")));
    json_decref(xlmr);
    assert_int_equal(tok_each_line("tests/golden/tok/variants.jsonl", check_variant, &v), 121);
    assert_int_equal(v.cases, 1564);
    assert_true(v.offsets > 1300);
    free(v.charsmap);
}

/* A cut of the document before the pair is made must not change the pair. */
static void test_left_truncation(void **state)
{
    struct tok_fixture f;
    struct rr_text a = rr_text("un deux trois quatre cinq six"),
                   b = rr_text("alpha beta gamma "
                               "delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron");
    int32_t *all, *cut, *types;
    uint32_t n, m, max;

    (void)state;
    tok_fixture_open(&f, "tests/golden/models/tiny-xlmr");
    for (max = rr_tok_pair_specials(f.tok); max < 60; max++) {
        all = tok_pair(&f, a, b, max, RR_TOK_KEEP_END, 0, &types, &n);
        cut = tok_pair(&f, a, b, max, RR_TOK_KEEP_END, max, &types, &m);
        assert_int_equal(n, m);
        assert_memory_equal(all, cut, n * sizeof(*all));
        assert_true(n <= max);
        free(all);
        free(cut);
    }
    tok_fixture_close(&f);
}

/* ---- threads: one tokenizer, a scratch each ---- */

struct worker {
    pthread_t thread;
    const struct rr_tok *tok;
    uint64_t sum; /* over all ids */
};

static void *encode_many(void *user)
{
    static const char *const texts[] = { "Le consommateur dispose d'un d\xc3\xa9lai", "a <mask> b",
                                         "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 e\xcc\x81",
                                         "x  y z" };
    struct worker *w = user;
    struct rr_error err = { 0 };
    struct rr_tok_scratch *s;
    struct rr_tok_ids ids;
    unsigned i;
    uint32_t k;

    if (rr_tok_scratch_open(&s, w->tok, &err)) return NULL;
    for (i = 0; i < 2000; i++) {
        if (rr_tok_encode(w->tok, s, rr_text(texts[i % RR_COUNT(texts)]), i % 7, i % 3, &ids, &err))
            break;
        for (k = 0; k < ids.n; k++) w->sum = w->sum * 31 + (uint64_t)ids.ids[k];
    }
    rr_tok_scratch_close(s);
    return NULL;
}

static void test_threads(void **state)
{
    static const char *const models[] = { "tests/golden/models/tiny-xlmr-odd",
                                          "tests/golden/models/tiny-roberta" };
    struct worker w[4];
    size_t m, i;

    (void)state;
    for (m = 0; m < RR_COUNT(models); m++) {
        struct tok_fixture f;

        tok_fixture_open(&f, models[m]);
        for (i = 0; i < RR_COUNT(w); i++) {
            w[i] = (struct worker){ .tok = f.tok };
            assert_int_equal(pthread_create(&w[i].thread, NULL, encode_many, &w[i]), 0);
        }
        for (i = 0; i < RR_COUNT(w); i++) pthread_join(w[i].thread, NULL);
        for (i = 0; i < RR_COUNT(w); i++) assert_true(w[i].sum && w[i].sum == w[0].sum);
        tok_fixture_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),          cmocka_unit_test(test_variants),
        cmocka_unit_test(test_left_truncation), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_full_xlmr),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
